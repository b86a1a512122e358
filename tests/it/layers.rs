//! Holds the house in order: layers, sizes, first lines, and what lies at the top.
//!
//! Rust checks that a path exists, not that it points downwards: a leaf that uses a role compiles well, and after a
//! hundred of these nothing can be tested alone. So the sources are read as text. The reader knows `use` trees, paths
//! that start with `crate` or `super`, comments and strings; it leaves out `#[cfg(test)]` modules, which may use all.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// Layers from the ground up. A module may use its own layer and what stands below.
const LAYERS: [&str; 6] = [
    "leaves",
    "pure",
    "adapters",
    "services",
    "roles and commands",
    "edge",
];

/// Where each module stands: the longest path that fits wins.
const MAP: &[(&str, usize)] = &[
    ("exit", 0),
    ("env", 0),
    ("shutdown", 0),
    ("clock", 0),
    ("files", 0),
    ("disk", 0),
    ("units", 0),
    ("terminal", 0),
    ("recipe", 1),
    ("stats", 1),
    ("load", 1),
    ("api", 1),
    ("slurm", 1),
    ("api::client", 2),
    ("tls", 2),
    ("slurm::client", 2),
    ("process", 2),
    ("apptainer", 2),
    ("prometheus", 2),
    ("telemetry", 2),
    ("site", 2),
    ("library", 2),
    // files of a run, with the facts of its job
    ("run", 2),
    ("load::connection", 2),
    ("load::receive", 2),
    ("load::echo", 2),
    ("load::exchange", 2),
    ("registry", 3),
    ("engine", 3),
    ("load::dispatch", 3),
    ("load::worker", 3),
    ("load::talk", 3),
    ("load::engine_tests", 3),
    ("load::captures_tests", 3),
    ("load::reasoning_tests", 3),
    ("load::talk_tests", 3),
    ("samples", 3),
    ("launch", 3),
    ("report", 3),
    ("compare", 3),
    ("role", 4),
    // what all roles are given beside `role` itself; see SHARED
    ("role::note", 4),
    ("role::image", 4),
    ("command", 4),
    ("cli", 5),
    ("main", 5),
    ("lib", 5),
];

/// Modules below `role` and `command` that are no role and no command of their own: all may use them.
const SHARED: [&str; 2] = ["role::note", "role::image"];

/// What may lie in the project's folder, besides names that start with a dot and what `.gitignore` names.
const TOP: [&str; 9] = [
    "Cargo.toml",
    "Cargo.lock",
    "src",
    "jobs",
    "recipes",
    "sbatch",
    "tests",
    "README.md",
    "LICENSE",
];

/// Lines of a file at the most, tests included.
const LINES: usize = 800;

/// Lines of a file at the most before its tests.
const LINES_BEFORE_TESTS: usize = 450;

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn each_module_uses_only_what_stands_below_it() {
    let mut faults = Vec::new();
    for (module, text) in modules() {
        for used in paths_used(&module, &text) {
            faults.extend(fault(&module, &used));
        }
    }
    assert!(
        faults.is_empty(),
        "\n{}\n\nMove what is shared into a module below both, or hand it in as an argument. A new module gets its line \
         in MAP of tests/it/layers.rs, where the design says it stands.\n",
        faults.join("\n")
    );
}

#[test]
fn no_file_grows_too_long() {
    let mut faults = Vec::new();
    for path in sources() {
        let text = read(&path);
        let all = text.lines().count();
        let own = without_tests(&text).lines().count();
        let name = shown(&path);
        if all > LINES {
            faults.push(format!("{name}: {all} lines, {LINES} at the most"));
        }
        if !is_tests(&path) && own > LINES_BEFORE_TESTS {
            faults.push(format!(
                "{name}: {own} lines before its tests, {LINES_BEFORE_TESTS} at the most"
            ));
        }
    }
    assert!(
        faults.is_empty(),
        "\n{}\n\nSplit each by what it does: a folder with a mod.rs that says how the parts hang together.\n",
        faults.join("\n")
    );
}

#[test]
fn each_module_says_first_what_it_is() {
    let silent: Vec<String> = sources()
        .iter()
        .filter(|path| !read(path).starts_with("//! "))
        .map(|path| shown(path))
        .collect();
    assert!(
        silent.is_empty(),
        "\n{}\n\nStart each with `//!`: what it is, why it is so, what can fail.\n",
        silent.join("\n")
    );
}

#[test]
fn the_top_folder_holds_what_it_should_and_no_more() {
    let ignored = read(&project().join(".gitignore"));
    let is_ignored = |name: &str| {
        ignored.lines().any(
            |pattern| match pattern.trim_start_matches('/').split_once('*') {
                Some((start, end)) => name.starts_with(start) && name.ends_with(end),
                None => pattern.trim_matches('/') == name,
            },
        )
    };
    let strangers: Vec<String> = std::fs::read_dir(project())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with('.') && !TOP.contains(&name.as_str()) && !is_ignored(name))
        .collect();
    assert!(
        strangers.is_empty(),
        "\nat the top: {}\n\nPut each where it belongs ({}), or into .gitignore when it is not of the project.\n",
        strangers.join(", "),
        TOP.join(" ")
    );
}

/// Every file of `src` as the module it is (`load::dispatch`), with its text before the tests.
fn modules() -> Vec<(String, String)> {
    let root = project().join("src");
    let files = sources()
        .into_iter()
        .filter(|path| path.starts_with(&root) && !is_tests(path));
    files
        .map(|path| {
            let inner = path
                .strip_prefix(&root)
                .expect("a path below src")
                .with_extension("");
            let names: Vec<String> = inner
                .components()
                .map(|part| part.as_os_str().to_string_lossy().into_owned())
                .filter(|name| name != "mod")
                .collect();
            (names.join("::"), without_tests(&read(&path)).to_owned())
        })
        .collect()
}

fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![project().join("src"), project().join("tests")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn shown(path: &Path) -> String {
    path.strip_prefix(project())
        .expect("a path of the project")
        .display()
        .to_string()
}

/// Is it a module of tests that has a file of its own?
fn is_tests(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.starts_with(project().join("tests")) || name == "tests.rs" || name.ends_with("_tests.rs")
}

/// The text up to its module of tests, which stands last.
fn without_tests(text: &str) -> &str {
    let test = text.match_indices("#[cfg(test)]\n").find(|(at, mark)| {
        let after = text[at + mark.len()..].trim_start();
        (*at == 0 || text[..*at].ends_with('\n'))
            && after.starts_with("mod ")
            && !after[..after.find('\n').unwrap_or(0)].ends_with(';')
    });
    test.map_or(text, |(at, _)| &text[..at])
}

/// Why `module` may not use `used`; `None` where it may.
fn fault(module: &str, used: &str) -> Option<String> {
    let (here, there) = (place(module)?, place(used));
    let Some(there) = there else {
        return Some(format!("{module} uses {used}, which is not in the map"));
    };
    if here.1 < there.1 {
        return Some(format!(
            "{module} ({}) uses {used}, which stands above it ({})",
            LAYERS[here.1], LAYERS[there.1]
        ));
    }
    // one role is `role::server` with all below; `role` itself is what all roles are given
    let peer = |path: &str| {
        let mut names = path.split("::");
        let kind = names.next()?.to_owned();
        let name = names
            .next()
            .filter(|name| name.starts_with(|c: char| c.is_lowercase()))?;
        let is_module = ["rs", "d"].iter().any(|end| {
            let path = project().join("src").join(&kind).join(name);
            if *end == "d" {
                path.is_dir()
            } else {
                path.with_extension("rs").is_file()
            }
        });
        let peer = format!("{kind}::{name}");
        let is_peer = ["role", "command"].contains(&kind.as_str()) && is_module;
        (is_peer && !SHARED.contains(&peer.as_str())).then_some(peer)
    };
    let is_high =
        |path: &str| ["role", "command"].contains(&path.split("::").next().unwrap_or_default());
    if is_high(module) && is_high(used) {
        let (own, other) = (peer(module), peer(used));
        let crosses = module.split("::").next() != used.split("::").next();
        if crosses || (other.is_some() && own != other) {
            return Some(format!(
                "{module} uses {used}: roles and commands never use each other"
            ));
        }
    }
    None
}

/// The line of the map that fits a path best.
fn place(path: &str) -> Option<(&'static str, usize)> {
    let fits = |name: &str| path == name || path.starts_with(&format!("{name}::"));
    let lines = MAP.iter().filter(|(name, _)| fits(name));
    lines
        .max_by_key(|(name, _)| name.len())
        .map(|(name, layer)| (*name, *layer))
}

/// Every path of this crate that a text names, without `crate::`.
fn paths_used(module: &str, text: &str) -> BTreeSet<String> {
    let code = without_comments(text);
    let mut found = BTreeSet::new();
    for start in ["crate", "super"] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back();
            let is_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
            // `super::super`: the first one leads
            let is_tail = code[..at].ends_with("::");
            let after = &code[at + start.len()..];
            if is_word || is_tail || !after.starts_with("::") {
                continue;
            }
            let mut base: Vec<&str> = module.split("::").filter(|_| start == "super").collect();
            let mut rest = after;
            if start == "super" {
                base.pop();
                while let Some(further) = rest.strip_prefix("::super") {
                    base.pop();
                    rest = further;
                }
            }
            let Some(rest) = rest.strip_prefix("::") else {
                continue;
            };
            for tail in tree(rest).0 {
                let path: Vec<&str> = base
                    .iter()
                    .copied()
                    .chain(tail.iter().map(String::as_str))
                    .collect();
                found.insert(path.join("::"));
            }
        }
    }
    found.retain(|path| !path.is_empty());
    found
}

/// The paths of a `use` tree (or of a plain path), and how much of the text it took.
fn tree(text: &str) -> (Vec<Vec<String>>, usize) {
    let skip = text.len() - text.trim_start().len();
    if text[skip..].starts_with('{') {
        let mut at = skip + 1;
        let mut paths = Vec::new();
        loop {
            at += text[at..].len() - text[at..].trim_start_matches([',', ' ', '\n', '\t']).len();
            if at >= text.len() || text[at..].starts_with('}') {
                return (paths, at + 1);
            }
            let (inner, took) = tree(&text[at..]);
            paths.extend(inner);
            at += took.max(1);
        }
    }
    let name: String = text[skip..]
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_' || *c == '*')
        .collect();
    let mut at = skip + name.len();
    // `use crate::a::{self}` names a itself, and `*` names nothing more
    let own = if ["self", "*"].contains(&name.as_str()) {
        Vec::new()
    } else {
        vec![name]
    };
    if let Some(rest) = text[at..].strip_prefix("::") {
        let (inner, took) = tree(rest);
        at += 2 + took;
        let paths = inner
            .into_iter()
            .map(|tail| own.iter().cloned().chain(tail).collect());
        return (paths.collect(), at);
    }
    if let Some(rest) = text[at..].strip_prefix(" as ") {
        at += 4 + rest.len()
            - rest
                .trim_start_matches(|c: char| c.is_alphanumeric() || c == '_')
                .len();
    }
    (vec![own], at)
}

/// The code without comments and without what stands between quotation marks.
fn without_comments(text: &str) -> String {
    let mut code = String::new();
    for line in text.lines() {
        let mut in_text = false;
        let mut characters = line.chars().peekable();
        while let Some(character) = characters.next() {
            match character {
                '\\' if in_text => {
                    characters.next();
                }
                '\'' if !in_text && characters.peek() == Some(&'"') => {
                    characters.next();
                }
                '"' => in_text = !in_text,
                '/' if !in_text && characters.peek() == Some(&'/') => break,
                _ if !in_text => code.push(character),
                _ => {}
            }
        }
        code.push('\n');
    }
    code
}

#[test]
fn the_reader_finds_every_way_to_name_a_module() {
    let text = "use crate::{files, load::{arrival::Poisson, phase as p}, exit::{self, Exit}};\n\
                use super::{record::Record, store};\n// crate::comment::x\nlet a = \"crate::quoted\"; \
                let b = crate::units::parse(\"x\"); super::super::clock::now(); use crate::stats::*;\n";
    let used: Vec<String> = paths_used("registry::lookup", text).into_iter().collect();
    assert_eq!(
        used,
        [
            "clock::now",
            "exit",
            "exit::Exit",
            "files",
            "load::arrival::Poisson",
            "load::phase",
            "registry::record::Record",
            "registry::store",
            "stats",
            "units::parse",
        ]
    );
}

#[test]
fn the_rules_say_no_where_they_should() {
    let cases = [
        ("files", "role::server", true),
        ("stats::validity", "api::client::get", true),
        ("load::arrival", "load::dispatch::run", true),
        ("role::stack", "role::server::run", true),
        ("role::stack::account", "role::stack::Config", false),
        ("role::stack", "role::Context", false),
        ("role::server", "role::note::StepNote", false),
        ("role::note", "role::server::Config", true),
        ("load::workload", "load::exchange::run", true),
        ("recipe::plan", "run::RunDir", true),
        ("role::bench", "command::Shell", true),
        ("command::open", "role::Context", true),
        ("command::open", "command::export::run", true),
        ("command::open", "command::Shell", false),
        ("command::submit::follow", "command::submit", false),
        ("command::open", "registry::Store", false),
        ("cli::start", "role::server::run", false),
        ("report::html", "unknown_module::x", true),
    ];
    for (module, used, refused) in cases {
        assert_eq!(fault(module, used).is_some(), refused, "{module} → {used}");
    }
}
