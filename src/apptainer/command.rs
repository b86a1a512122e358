//! The command line of a container.
//!
//! `exec` rather than `run` or `instance`: the recipe names the program, and it stays our child. `--pid` always: when the
//! main process ends, all of its children do, which without a pid namespace they outlive. Never `--compat`: its
//! `--no-init` makes the engine pid 1, which ignores TERM until it has installed a handler.
//!
//! Variables go by the environment, twice: plainly (the host's environment is passed in, unless the image sets the same
//! variable) and as `APPTAINERENV_X` (which wins over the image and survives `--cleanenv`). Never by `--env`: arguments
//! are for everybody to read.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::{
    env::Env,
    recipe::{Container, Gpu},
    site::Site,
};

/// The programs that run containers, by preference.
const PROGRAMS: [&str; 2] = ["apptainer", "singularity"];

/// The program that runs containers; `None` where there is none on `PATH`.
pub fn find_program(env: &Env) -> Option<PathBuf> {
    PROGRAMS.iter().find_map(|name| env.find_program(name))
}

/// The word that starts it: its path, or its bare name where the site's modules bring it; `None` where nothing does.
pub fn program(env: &Env, site: &Site) -> Option<String> {
    match find_program(env) {
        Some(program) => Some(program.display().to_string()),
        // a module brings one of them: which, the shell says that has loaded it (`with_modules`)
        None if !site.modules.is_empty() => Some(PROGRAMS[0].to_owned()),
        None => None,
    }
}

/// A command line of it, with the site's modules; `None` where there is none.
pub fn argv(env: &Env, site: &Site, arguments: &[String]) -> Option<Vec<String>> {
    let mut argv = vec![program(env, site)?];
    argv.extend_from_slice(arguments);
    Some(with_modules(argv, site))
}

/// What the shell does that loads modules: the first word becomes `singularity` where that is all that they bring.
const LOADING: &str = r#"module load $1 || exit; modules=$1; shift
if [ "$1" = apptainer ] && ! command -v apptainer >/dev/null; then
  command -v singularity >/dev/null || { echo "aif: neither apptainer nor singularity is there after: module load $modules" >&2; exit 127; }
  shift; set -- singularity "$@"
fi
exec "$@""#;

/// A program that needs the site's modules is started by a login shell, which then becomes it.
pub fn with_modules(argv: Vec<String>, site: &Site) -> Vec<String> {
    let modules = &site.modules;
    if modules.is_empty() {
        return argv;
    }
    let login: &[&str] = if site.login_shell { &["-l"] } else { &[] };
    let words = [&["bash"], login, &["-c", LOADING, "aif"]].concat();
    let mut all: Vec<String> = words.into_iter().map(str::to_owned).collect();
    all.push(modules.join(" "));
    all.extend(argv);
    all
}

/// The command line. `files` are bound at their own paths, read-only; `arguments` are those of the container, filled in.
pub fn exec(
    program: &str,
    container: &Container,
    folder: &Path,
    files: &[PathBuf],
    arguments: &[String],
) -> Vec<String> {
    let mut argv: Vec<String> = vec![program.to_owned(), "exec".to_owned(), "--pid".to_owned()];
    match container.gpu {
        Gpu::Nvidia => argv.push("--nv".to_owned()),
        Gpu::Amd => argv.push("--rocm".to_owned()),
        Gpu::None => {}
    }
    let own = files
        .iter()
        .map(|file| format!("{0}:{0}:ro", file.display()));
    for bind in container.binds.iter().cloned().chain(own) {
        argv.push("--bind".to_owned());
        argv.push(bind);
    }
    argv.push("--pwd".to_owned());
    argv.push(folder.display().to_string());
    argv.push(container.image.display().to_string());
    argv.extend_from_slice(arguments);
    argv
}

/// These variables, and again in the form that reaches into the container whatever the image sets.
pub fn environment(variables: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut all = variables.clone();
    for prefix in ["APPTAINERENV_", "SINGULARITYENV_"] {
        for (name, value) in variables {
            all.insert(format!("{prefix}{name}"), value.clone());
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(gpu: Gpu) -> Container {
        Container {
            image: "/images/vllm.sif".into(),
            source: None,
            gpu,
            binds: vec!["/cache:/root/.cache/huggingface".to_owned()],
            args: Vec::new(),
        }
    }

    #[test]
    fn the_command_line_holds_what_the_recipe_says_and_no_variable() {
        let argv = exec(
            "/usr/bin/apptainer",
            &container(Gpu::Nvidia),
            Path::new("/home/alice"),
            &["/home/alice/.keys/i".into()],
            &["vllm", "serve", "a model"].map(str::to_owned),
        );
        insta::assert_debug_snapshot!(argv, @r#"
        [
            "/usr/bin/apptainer",
            "exec",
            "--pid",
            "--nv",
            "--bind",
            "/cache:/root/.cache/huggingface",
            "--bind",
            "/home/alice/.keys/i:/home/alice/.keys/i:ro",
            "--pwd",
            "/home/alice",
            "/images/vllm.sif",
            "vllm",
            "serve",
            "a model",
        ]
        "#);
    }

    #[test]
    fn gpus_are_asked_for_by_maker() {
        for (gpu, flag) in [(Gpu::Amd, Some("--rocm")), (Gpu::None, None)] {
            let argv = exec("apptainer", &container(gpu), Path::new("/"), &[], &[]);
            let flags: Vec<&String> = argv
                .iter()
                .filter(|a| *a == "--rocm" || *a == "--nv")
                .collect();
            assert_eq!(flags.first().map(|f| f.as_str()), flag);
        }
    }

    #[test]
    fn variables_reach_into_the_container() {
        let one = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        let all = environment(&one);
        let names: Vec<&str> = all.keys().map(String::as_str).collect();
        assert_eq!(names, ["A", "APPTAINERENV_A", "SINGULARITYENV_A"]);
    }

    #[test]
    fn modules_are_loaded_by_a_shell_which_is_a_login_shell_where_the_site_says_so() {
        let argv = vec!["apptainer".to_owned(), "exec".to_owned()];
        assert_eq!(with_modules(argv.clone(), &Site::default()), argv);
        let mut site = Site {
            modules: vec!["env/release".to_owned(), "Apptainer/1.3".to_owned()],
            ..Site::default()
        };
        assert_eq!(with_modules(argv.clone(), &site)[1], "-c");
        site.login_shell = true;
        let mut words = with_modules(argv, &site);
        assert_eq!(words[3], LOADING);
        "SCRIPT".clone_into(&mut words[3]);
        insta::assert_debug_snapshot!(words, @r#"
        [
            "bash",
            "-l",
            "-c",
            "SCRIPT",
            "aif",
            "env/release Apptainer/1.3",
            "apptainer",
            "exec",
        ]
        "#);
    }

    #[test]
    fn a_module_may_bring_apptainer_or_singularity_alone() {
        let site = Site {
            modules: vec!["Containers".to_owned()],
            ..Site::default()
        };
        let run = |brings: &[&str], program: &str| {
            let folder = tempfile::tempdir().unwrap();
            for name in brings {
                let text = "#!/bin/sh\necho ${0##*/} \"$@\"\n";
                let file = folder.path().join(name);
                let mode = 0o755;
                crate::files::write_atomic(
                    &file,
                    text.as_bytes(),
                    mode,
                    crate::files::Durability::Fast,
                )
                .unwrap();
            }
            let mut argv = with_modules(
                vec![program.to_owned(), "exec".to_owned(), "a b".to_owned()],
                &site,
            );
            argv[2] = format!(
                "module() {{ PATH={}; }}; {}",
                folder.path().display(),
                argv[2]
            );
            let output = std::process::Command::new("/bin/bash")
                .args(&argv[1..])
                .output()
                .unwrap();
            let told = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
            (
                output.status.code(),
                told(&output.stdout),
                told(&output.stderr),
            )
        };
        let said = |word: &str| (Some(0), word.to_owned(), String::new());
        assert_eq!(
            run(&["singularity", "apptainer"], "apptainer"),
            said("apptainer exec a b")
        );
        assert_eq!(
            run(&["singularity"], "apptainer"),
            said("singularity exec a b")
        );
        let (code, _, why) = run(&[], "apptainer");
        assert_eq!(code, Some(127));
        assert_eq!(
            why,
            "aif: neither apptainer nor singularity is there after: module load Containers"
        );
    }
}
