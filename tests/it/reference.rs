//! The references that people read are made from the code, or held to it: what changes here changes what users type.

use std::path::Path;

use aif::{env::OURS, exit::Exit};

use crate::lab::Lab;

fn readme() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md"))
        .expect("a README")
}

fn said(arguments: &[&str]) -> String {
    let ended = Lab::new().run(arguments);
    ended.assert_exit(0);
    ended.stdout
}

#[test]
fn the_help_of_aif() {
    insta::assert_snapshot!(said(&["--help"]));
}

#[test]
fn the_help_of_a_bench() {
    insta::assert_snapshot!(said(&["bench", "--help"]));
}

#[test]
fn the_reference_of_recipes() {
    insta::assert_snapshot!(said(&["recipes", "schema", "--reference"]));
}

#[test]
fn the_readme_has_every_exit_code() {
    has_rows(
        "| code | when |",
        Exit::ALL
            .iter()
            .map(|exit| format!("| {} | {} |", exit.code(), exit.meaning())),
    );
}

#[test]
fn the_readme_has_every_variable() {
    has_rows(
        "| variable | what it is for |",
        OURS.iter()
            .map(|(name, meaning)| format!("| `{name}` | {meaning} |")),
    );
}

#[test]
fn every_shipped_recipe_checks_with_the_files_that_it_names() {
    let lab = Lab::new();
    let mut command = lab.aif(&["recipes", "check"]);
    let home = env!("CARGO_MANIFEST_DIR");
    let checked = command
        .env("AIF_HOME", home)
        .env("CONTAINER_DIR", "/images")
        .output();
    let checked = checked.expect("aif starts");
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.status.success(), "{said}");
    assert!(said.contains("llamacpp-trace.yaml: ok"), "{said}");
}

/// The README has a table of just these rows.
fn has_rows(head: &str, rows: impl Iterator<Item = String>) {
    let table: Vec<String> = [head.to_owned(), "|---|---|".to_owned()]
        .into_iter()
        .chain(rows)
        .collect();
    let table = format!("{}\n\n", table.join("\n"));
    assert!(
        readme().contains(&table),
        "README.md needs this table:\n\n{table}"
    );
}

#[test]
fn a_recipe_shows_the_command_that_submits_it() {
    let lab = Lab::new();
    let recipe = lab.file(
        "mine-server.yaml",
        "name: mine-server\nservice_name: mine\nservice: {program: [serve]}\n",
    );
    let recipe = recipe.to_str().unwrap();
    let shown = lab.run(&["recipes", "show", recipe, "--script"]);
    let submitted = lab.run(&["submit", recipe, "--dry-run"]);
    shown.assert_exit(0);
    assert!(shown.stdout.starts_with("sbatch "), "{}", shown.stdout);
    assert_eq!(shown.stdout, submitted.stdout);
}

#[test]
fn a_stack_takes_no_secret_by_set() {
    let lab = Lab::new();
    let recipe = lab.file(
        "mine-server.yaml",
        "name: mine-server\nservice_name: mine\nservice: {program: [serve]}\n",
    );
    let ended = lab.run(&[
        "stack",
        "--server",
        recipe.to_str().unwrap(),
        "--set",
        "service.env.API_KEY=sesame-7",
    ]);
    ended.assert_exit(64);
    assert!(!lab.path().join("results").exists(), "nothing was made");
    insta::assert_snapshot!(ended.stderr, @"aif: --set service.env.API_KEY holds a secret, which others could read in the arguments of a step or job: export it as a variable, and write the value as '${VARIABLE}'");
}
