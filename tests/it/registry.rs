//! The registry by its commands: static services, scope, permissions.

use std::{fs::Permissions, os::unix::fs::PermissionsExt as _};

use crate::lab::Lab;

#[test]
fn a_service_that_is_not_ours_is_added_found_and_removed() {
    let lab = Lab::new();
    let key = lab.file("key", "secret").display().to_string();
    // port 1: nobody listens there
    let added = lab.run(&[
        "services",
        "add",
        "far",
        "--url",
        "http://127.0.0.1:1/v1",
        "--key-file",
        &key,
    ]);
    added.assert_exit(0);
    let found = lab.run(&["wait", "far", "--timeout", "1s"]);
    found.assert_exit(0);
    assert!(
        found.stdout.contains("far is ready at http://127.0.0.1:1"),
        "{}",
        found.stdout
    );
    let listed = lab.run(&["services", "--json"]);
    assert!(
        listed.stdout.contains(&key) && !listed.stdout.contains("secret"),
        "{}",
        listed.stdout
    );
    // nobody is there, which is not kept back
    assert!(
        added.stderr.contains("it does not answer"),
        "{}",
        added.stderr
    );
    assert!(
        listed.stdout.contains(r#""liveness": "unknown""#),
        "{}",
        listed.stdout
    );
    lab.run(&["services", "clear"]).assert_exit(0);
    assert_eq!(lab.records().len(), 1, "it is not dead");
    lab.run(&["services", "remove", "far"]).assert_exit(0);
    assert!(lab.records().is_empty());
}

#[test]
fn what_is_not_there_is_told_with_its_code() {
    let lab = Lab::new();
    let ended = lab.run(&["wait", "nothing", "--timeout", "200ms"]);
    ended.assert_exit(69);
    assert!(
        ended.stderr.contains("no service is registered"),
        "{}",
        ended.stderr
    );
    lab.run(&["wait", "nothing", "--timeout", "soon"])
        .assert_exit(64);
    lab.run(&["services", "add", "../x", "--url", "http://node7"])
        .assert_exit(64);
    lab.run(&["services", "add", "x", "--url", "node7"])
        .assert_exit(64);
    lab.run(&["services", "remove", "x"]).assert_exit(66);
}

#[test]
fn a_registry_that_is_open_to_others_is_closed_with_a_notice() {
    let lab = Lab::new();
    let registry = lab.path().join("open");
    std::fs::create_dir(&registry).expect("a folder");
    std::fs::set_permissions(&registry, Permissions::from_mode(0o755)).expect("a mode");
    let output = lab
        .aif(&["services"])
        .env("AIF_REGISTRY", &registry)
        .output()
        .expect("aif starts");
    assert!(output.status.success());
    let mode = std::fs::metadata(&registry)
        .expect("the folder")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn a_registry_of_somebody_else_is_refused() {
    if !nix::unistd::geteuid().is_root() {
        return; // only root can give a folder away
    }
    let lab = Lab::new();
    let registry = lab.path().join("theirs");
    std::fs::create_dir(&registry).expect("a folder");
    std::os::unix::fs::chown(&registry, Some(1234), None).expect("a new owner");
    let output = lab
        .aif(&["services"])
        .env("AIF_REGISTRY", &registry)
        .output()
        .expect("aif starts");
    assert_eq!(output.status.code(), Some(77));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("belongs to user 1234"), "{said}");
}
