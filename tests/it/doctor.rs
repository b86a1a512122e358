//! `aif doctor`, seen from outside: what it tells, what it ends with, and that it leaves nothing.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

use crate::lab::{Ended, Lab};

/// A laboratory whose PATH holds these programs, each a script, and a shell's own tools.
struct Clinic {
    lab: Lab,
}

impl Clinic {
    fn with(programs: &[(&str, &str)]) -> Self {
        let lab = Lab::new();
        let tools = ["sh", "bash", "sed", "cat", "sleep"];
        lab.file("bin/.made", "");
        for tool in tools {
            let target = Path::new("/bin").join(tool);
            std::os::unix::fs::symlink(target, lab.path().join("bin").join(tool)).expect("a link");
        }
        for (name, script) in programs {
            program(&lab.file(&format!("bin/{name}"), &format!("#!/bin/sh\n{script}\n")));
        }
        Self { lab }
    }

    /// All that a stack needs on a machine without Slurm.
    fn healthy() -> Self {
        Self::with(&[
            ("apptainer", APPTAINER),
            ("squashfuse", "exit 0"),
            (
                "prometheus",
                "echo 'prometheus, version 2.53.3+ds1 (branch: x)'",
            ),
        ])
    }

    fn aif(&self, arguments: &[&str]) -> Command {
        let mut command = self.lab.aif(arguments);
        command.env("PATH", self.lab.path().join("bin"));
        command
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        Ended::of(&self.aif(arguments).output().expect("aif starts"))
    }

    /// Every file of the laboratory.
    fn files(&self) -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::new();
        let mut folders = vec![self.lab.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("a folder") {
                let entry = entry.expect("an entry");
                if entry.file_type().expect("its type").is_dir() {
                    folders.push(entry.path());
                }
                found.insert(entry.path());
            }
        }
        found
    }
}

const APPTAINER: &str = "case $1 in
  --version) echo 'apptainer version 1.4.5' ;;
  buildcfg) echo APPTAINER_SUID_INSTALL=0; echo LIBEXECDIR=/nowhere ;;
esac";

fn program(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("its mode");
}

fn json(ended: &Ended) -> serde_json::Value {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}:\n{}", ended.stdout))
}

/// The check of this name.
fn check(found: &serde_json::Value, name: &str) -> (String, String) {
    let checks = found["checks"].as_array().expect("checks");
    let one = checks.iter().find(|check| check["name"] == name);
    let one = one.unwrap_or_else(|| panic!("no check {name}: {found:#}"));
    let text = |key: &str| one[key].as_str().unwrap_or_default().to_owned();
    (
        text("state"),
        format!("{} -> {}", text("found"), text("mend")),
    )
}

#[test]
fn a_machine_without_slurm_is_well_and_stays_as_it_was() {
    let clinic = Clinic::healthy();
    let before = clinic.files();
    let ended = clinic.run(&["doctor"]);
    ended.assert_exit(0);
    assert!(
        ended.stdout.contains("aif stack --local"),
        "{}",
        ended.stdout
    );
    assert!(
        ended.stdout.contains("\na stack can run here"),
        "{}",
        ended.stdout
    );
    let widest = ended.stdout.lines().map(|line| line.chars().count()).max();
    assert!(widest <= Some(100), "{}", ended.stdout);
    assert_eq!(clinic.files(), before);
}

#[test]
fn what_is_missing_is_told_with_its_mend_and_hides_nothing() {
    let ended = Clinic::with(&[]).run(&["doctor", "--json"]);
    ended.assert_exit(69);
    let found = json(&ended);
    assert_eq!(found["verdict"], "cannot_run");
    let (state, text) = check(&found, "container runtime");
    assert_eq!(state, "failed");
    assert!(text.contains("modules: [Apptainer/"), "{text}");
    assert_eq!(check(&found, "Prometheus").0, "failed");
    assert_eq!(check(&found, "registry").0, "ok");
    let (state, text) = check(&found, "llamacpp.sif");
    assert_eq!(state, "warning");
    assert!(text.contains("sbatch/image-llamacpp.sh"), "{text}");
}

#[test]
fn a_faulty_site_file_is_one_line_of_the_list_and_78() {
    let clinic = Clinic::healthy();
    let site = clinic.lab.file("mine.yaml", "contaner_dir: /images\n");
    let ended = clinic.run(&["--site", site.to_str().unwrap(), "doctor", "--json"]);
    ended.assert_exit(78);
    let found = json(&ended);
    let (state, text) = check(&found, "site file");
    assert_eq!(state, "failed");
    assert!(text.contains("did you mean \"container_dir\"?"), "{text}");
    assert_eq!(check(&found, "Prometheus").0, "ok");
    let ended = clinic.run(&["--site", "nosuch", "doctor"]);
    ended.assert_exit(78);
    assert!(ended.stdout.contains("no site nosuch"), "{}", ended.stdout);
}

#[test]
fn a_site_whose_modules_bring_the_runtime_is_well() {
    let clinic = Clinic::with(&[("prometheus", "echo 'prometheus, version 3.5.0 (x)'")]);
    // what `module` does at a site: a function of the login shell, which puts folders on the PATH
    let folder = clinic.lab.path().join("module/bin");
    program(
        &clinic
            .lab
            .file("module/bin/apptainer", &format!("#!/bin/sh\n{APPTAINER}\n")),
    );
    clinic.lab.file(
        ".bash_profile",
        &format!(
            "echo Welcome; module() {{ [ \"$2\" = Apptainer ] && PATH={}:$PATH; }}\n",
            folder.display()
        ),
    );
    let judged = |module: &str| {
        let text = format!("extends: plain\nlogin_shell: true\nmodules: [{module}]\n");
        let site = clinic.lab.file("mine.yaml", &text);
        let ended = clinic.run(&["--site", site.to_str().unwrap(), "doctor", "--json"]);
        check(&json(&ended), "container runtime")
    };
    let (state, text) = judged("Apptainer");
    assert_eq!(state, "ok", "{text}");
    assert!(text.contains("by the site's modules"), "{text}");
    let (state, text) = judged("Singularity");
    assert_eq!(state, "failed", "{text}");
    assert!(text.contains("(Singularity) cannot be loaded"), "{text}");
}

#[test]
fn a_slurm_whose_controller_hangs_is_told_of_after_its_time() {
    let hangs = "exec sleep 1000";
    let clinic = Clinic::with(&[
        ("apptainer", APPTAINER),
        ("prometheus", "echo 'prometheus, version 3.5.0 (x)'"),
        ("sbatch", hangs),
        ("srun", hangs),
        ("squeue", hangs),
        ("scancel", hangs),
        ("sacct", hangs),
        ("sacctmgr", hangs),
        ("scontrol", hangs),
        (
            "sinfo",
            "case $1 in --version) echo slurm 23.11.4 ;; *) echo 'batch|up|n[1-4]' ;; esac",
        ),
    ]);
    // jobs need a binary in the project
    program(&clinic.lab.file("bin/aif", "#!/bin/sh\n"));
    let ended = clinic.run(&["doctor", "--json"]);
    ended.assert_exit(69);
    let found = json(&ended);
    assert_eq!(check(&found, "Slurm's version").0, "ok");
    let (state, text) = check(&found, "Slurm's controller");
    assert_eq!(state, "failed");
    assert!(text.starts_with("no answer within 5 s"), "{text}");
    let (state, text) = check(&found, "partitions");
    assert_eq!(state, "warning");
    assert!(text.contains("there are: batch"), "{text}");
    assert_eq!(check(&found, "account").0, "not_here");
    clinic.lab.assert_nothing_left();
}

#[test]
fn a_registry_that_is_a_strangers_or_open_is_told_of_and_left_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let clinic = Clinic::healthy();
    let registry = clinic.lab.file("reg/scrape.key", &"k".repeat(64));
    let registry = registry.parent().expect("a folder");
    std::fs::set_permissions(registry, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    let mut command = clinic.aif(&["doctor", "--json"]);
    let ended = Ended::of(&command.env("AIF_REGISTRY", registry).output().expect("aif"));
    ended.assert_exit(0);
    let found = json(&ended);
    assert_eq!(check(&found, "registry").0, "warning");
    assert_eq!(check(&found, "registry's key").0, "warning");
    let mode = std::fs::metadata(registry)
        .expect("it is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o755, "the doctor changes nothing");
    let mut command = clinic.aif(&["doctor", "--json"]);
    let ended = Ended::of(
        &command
            .env("AIF_REGISTRY", "/proc/1")
            .output()
            .expect("aif"),
    );
    ended.assert_exit(69);
    assert_eq!(check(&json(&ended), "registry").0, "failed");
}
