//! From a plan to a command line: what only the node knows is filled in.
//!
//! No secret is in an argument. A script is handed as written, by a file that only its owner reads, to a login shell,
//! which is where sites define `module`; without Slurm a guard stands between, which ends the engine when we are killed.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use crate::{
    apptainer::{command, image},
    engine::KeyBy,
    exit::{Exit, Failure, OrExit as _},
    files::{self, Durability},
    process::{child::Spec, guard, proof},
    recipe::{KEY_VARIABLE, Launch, check, infer},
};

use super::setup::Parts;

/// Sockets are among an engine's temporary files. Their paths have 107 bytes at the most, and a UUID is the name.
const LONGEST_TMPDIR: usize = 64;

/// What keeps libraries of Hugging Face from asking its hub.
const OFFLINE: [&str; 3] = [
    "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    "HF_DATASETS_OFFLINE",
];

/// A script on the node's own disk, removed when the engine has ended.
#[derive(Debug)]
pub(super) struct Script(PathBuf);

impl Drop for Script {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// What is filled into arguments.
#[derive(Debug)]
pub(super) struct Blanks {
    pub(super) host: String,
    /// The API's first; never empty.
    pub(super) ports: Vec<u16>,
    /// This node's own, as a number.
    pub(super) address: String,
    pub(super) rank: u32,
    pub(super) nodes: u32,
    /// Where the ranks of an engine meet.
    pub(super) head: String,
    pub(super) head_port: u16,
    pub(super) api_key_file: Option<PathBuf>,
}

impl Blanks {
    /// The argument, filled in. Braces that mean something else (arguments may hold JSON) stay as they are.
    fn fill(&self, argument: &str) -> String {
        let mut filled = argument
            .replace("{host}", &self.host)
            .replace("{address}", &self.address)
            .replace("{rank}", &self.rank.to_string())
            .replace("{nodes}", &self.nodes.to_string())
            .replace("{head}", &self.head)
            .replace("{head_port}", &self.head_port.to_string());
        for (index, port) in self.ports.iter().enumerate() {
            let blank = format!("{{{}}}", check::port_name(index));
            filled = filled.replace(&blank, &port.to_string());
        }
        if let Some(file) = &self.api_key_file {
            filled = filled.replace("{api_key_file}", &file.display().to_string());
        }
        filled
    }
}

/// What to start for these ports, and the script that it needs while it runs.
pub(super) fn spec(parts: &Parts<'_>, ports: &[u16]) -> Result<(Spec, Option<Script>), Failure> {
    let plan = parts.plan;
    let folder = parts.folder();
    if !folder.is_dir() {
        let message = format!("no folder {}: check service.working_dir", folder.display());
        return Err(Failure::new(Exit::NoInput, message));
    }
    let blanks = parts.blanks(ports);
    let modules = &parts.context.site.modules;
    let mut script = None;
    let argv = match &plan.launch {
        Launch::Command(text) => {
            let (kept, argv) = shell(parts, text, modules)?;
            script = Some(kept);
            argv
        }
        Launch::Program(words) => {
            let ranks = rank_arguments(parts);
            let words = words.iter().map(String::as_str).chain(ranks);
            let argv: Vec<String> = words.map(|word| blanks.fill(word)).collect();
            command::with_modules(argv, &parts.context.site)
        }
        Launch::Container(container) => {
            let context = parts.context;
            let program = command::program(&context.env, &context.site)
                .ok_or_else(|| image::no_program(&context.site))?;
            let mut container = container.clone();
            if let Some(image) = &parts.image {
                container.image.clone_from(&image.path);
            }
            let words = container.args.iter().map(String::as_str);
            let arguments: Vec<String> = words
                .chain(rank_arguments(parts))
                .map(|word| blanks.fill(word))
                .collect();
            let files: Vec<PathBuf> = blanks.api_key_file.iter().cloned().collect();
            let argv = command::exec(&program, &container, &folder, &files, &arguments);
            command::with_modules(argv, &parts.context.site)
        }
    };
    let spec = Spec {
        argv: if parts.context.job.is_none() {
            guard::guarded(argv)
        } else {
            argv
        },
        env: environment(parts, ports)?,
        folder,
        log: parts.log.clone(),
    };
    Ok((spec, script))
}

/// What this rank of an engine over several nodes is started with beside the recipe's arguments.
fn rank_arguments(parts: &Parts<'_>) -> Vec<&'static str> {
    let Some(ranks) = parts.ranks() else {
        return Vec::new();
    };
    let mut words = Vec::new();
    if !ranks
        .all
        .first()
        .is_some_and(|first| infer::mentions(&parts.plan.launch, first))
    {
        words.extend(ranks.all);
    }
    if parts.rank > 0 {
        words.extend(ranks.others);
    }
    words
}

/// The engine's environment: its variables, in the forms that reach into a container, and its caches' folder, made and
/// shown to the container.
fn environment(parts: &Parts<'_>, ports: &[u16]) -> Result<BTreeMap<String, String>, Failure> {
    let variables = variables(parts, ports);
    let mut all = command::environment(&variables);
    let used = |value: &String| Path::new(value).starts_with(&parts.caches);
    if variables.values().any(used) {
        files::create_folder(&parts.caches, 0o700).or_exit(Exit::CannotCreate, || {
            "the engine's caches cannot be put on the node's disk".to_owned()
        })?;
        let env = &parts.context.env;
        // these three are shown without asking
        let shown = [PathBuf::from("/tmp"), PathBuf::from("/var/tmp"), env.home()];
        if !shown.iter().any(|shown| parts.caches.starts_with(shown)) {
            for name in ["APPTAINER_BIND", "SINGULARITY_BIND"] {
                let before = variables.get(name).map(String::as_str).or(env.get(name));
                let binds: Vec<String> = before
                    .map(str::to_owned)
                    .into_iter()
                    .chain([parts.caches.display().to_string()])
                    .collect();
                all.insert(name.to_owned(), binds.join(","));
            }
        }
    }
    Ok(all)
}

/// Variables of the engine: a script's folders of the site and the caches, which give way to what the user exports; above them the
/// recipe's, ours, and the key in the way that it takes it.
fn variables(parts: &Parts<'_>, ports: &[u16]) -> BTreeMap<String, String> {
    let context = parts.context;
    let mut variables = match parts.plan.launch {
        Launch::Command(_) => context.site.variables(&context.env),
        // theirs are filled in already
        Launch::Container(_) | Launch::Program(_) => BTreeMap::new(),
    };
    for (name, folder) in parts.profile.caches {
        let folder = parts.caches.join(folder).display().to_string();
        variables.insert((*name).to_owned(), folder);
    }
    variables.retain(|name, _| context.env.get(name).is_none());
    // Slurm sets it for every step, and ours is a folder in there: an engine that is killed leaves its sockets behind
    if !parts.profile.caches.is_empty() && parts.caches.as_os_str().len() <= LONGEST_TMPDIR {
        let folder = parts.caches.display().to_string();
        variables.insert("TMPDIR".to_owned(), folder);
    }
    if let Some(ranks) = parts.ranks() {
        let blanks = parts.blanks(ports);
        let ranks = ranks.variables.iter();
        variables.extend(ranks.map(|(name, value)| ((*name).to_owned(), blanks.fill(value))));
    }
    if parts.plan.offline {
        let switches = OFFLINE.map(|name| (name.to_owned(), "1".to_owned()));
        variables.extend(switches);
    }
    let file = parts
        .key_file
        .as_ref()
        .map(|file| file.display().to_string());
    variables.extend(parts.plan.env.iter().map(|(name, value)| {
        let value = match &file {
            Some(file) => value.replace("{api_key_file}", file),
            None => value.clone(),
        };
        (name.clone(), value)
    }));
    let mut set = |name: &str, value: String| variables.insert(name.to_owned(), value);
    set(proof::MARK, parts.instance.clone());
    for (index, port) in ports.iter().enumerate() {
        set(&check::port_name(index).to_uppercase(), port.to_string());
    }
    set("ACTUAL_PORT", ports[0].to_string());
    if let Some(file) = file {
        // for a script, and for a program that nothing is known of
        set(KEY_VARIABLE, file);
    }
    if let Some(key) = &parts.key {
        match parts.profile.key {
            KeyBy::Variable(name) => {
                set(name, key.secret.clone());
            }
            KeyBy::FileVariable(name) => {
                set(name, key.file.display().to_string());
            }
            KeyBy::None => {}
        }
    }
    variables
}

fn shell(
    parts: &Parts<'_>,
    text: &str,
    modules: &[String],
) -> Result<(Script, Vec<String>), Failure> {
    let path = parts.script();
    files::create_folder(path.parent().unwrap_or(&path), 0o700)
        .and_then(|()| files::write_atomic(&path, text.as_bytes(), 0o600, Durability::Fast))
        .or_exit(Exit::CannotCreate, || {
            "the command of the recipe cannot be put on the node's disk".to_owned()
        })?;
    let file = path.display().to_string();
    Ok((Script(path), login_shell(&file, text, modules)))
}

/// A login shell that runs the script, after it has loaded the site's modules. A script made for a site with modules
/// runs on one without them: what it loads is then passed over, and said so.
fn login_shell(file: &str, text: &str, modules: &[String]) -> Vec<String> {
    const STUB: &str = r#"type -t module >/dev/null || module() { echo "aif: there is no module command here: 'module $*' does nothing" >&2; }; "#;
    let mut argv: Vec<String> = ["bash", "-l"].map(str::to_owned).to_vec();
    let wants_modules = text
        .split(|c: char| c.is_whitespace() || ";&|".contains(c))
        .any(|word| word == "module");
    // in the same shell: what modules define is not always passed on
    if !modules.is_empty() {
        argv.extend(["-c", r#"module load "${@:2}" || exit; . "$1""#, "aif"].map(str::to_owned));
    } else if wants_modules {
        argv.extend([
            "-c".to_owned(),
            format!(r#"{STUB}. "$1""#),
            "aif".to_owned(),
        ]);
    }
    argv.push(file.to_owned());
    argv.extend_from_slice(modules);
    argv
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_are_filled_and_other_braces_stay() {
        let blanks = Blanks {
            host: "0.0.0.0".to_owned(),
            ports: vec![8000, 8001],
            address: "10.0.0.1".to_owned(),
            rank: 0,
            nodes: 1,
            head: "node1".to_owned(),
            head_port: 29501,
            api_key_file: Some("/k".into()),
        };
        for (argument, filled) in [
            ("{port}", "8000"),
            ("{port2} {port3}", "8001 {port3}"),
            ("http://{host}:{port}", "http://0.0.0.0:8000"),
            ("{rank}/{nodes}@{head}", "0/1@node1"),
            (
                "{head}:{head_port} from {address}",
                "node1:29501 from 10.0.0.1",
            ),
            ("{api_key_file}", "/k"),
            (r#"{"a": {"b": 1}}"#, r#"{"a": {"b": 1}}"#),
        ] {
            assert_eq!(blanks.fill(argument), filled);
        }
    }

    #[test]
    fn a_script_that_loads_modules_runs_where_there_are_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("script");
        let run = |text: &str| {
            files::write_atomic(&file, text.as_bytes(), 0o600, Durability::Fast).unwrap();
            let argv = login_shell(&file.display().to_string(), text, &[]);
            let output = std::process::Command::new(&argv[0])
                .args(&argv[1..])
                .env("HOME", folder.path())
                .output()
                .unwrap();
            let told = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
            (told(&output.stdout), told(&output.stderr))
        };
        assert_eq!(run("echo plain"), ("plain".to_owned(), String::new()));
        let (out, err) = run("set -e\nmodule load Apptainer/1.3\necho served");
        assert_eq!(out, "served");
        assert!(
            err.ends_with("'module load Apptainer/1.3' does nothing"),
            "{err}"
        );
    }
}
