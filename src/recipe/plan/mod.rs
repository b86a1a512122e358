//! A recipe resolved: text, overrides and variables → a [`Plan`] with nothing left open but what only the node knows.
//!
//! Pure, and in one direction: load → overrides put in → older forms rewritten → checked against the table → variables
//! expanded → plan. Each step notes its faults and the next goes on with what there is, so that one reading tells all.

mod alerts;
mod client;
mod conversation;
mod extras;
mod length;
mod load_model;
mod monitor;
mod request;
mod series;
mod server;
mod vectors;

use std::path::{Path, PathBuf};

use super::{
    Kind, Plan, PortChoice, Resources,
    check::check,
    expand::{Variables, expand},
    fault::{Faults, Findings, Origin, Position, Problem},
    legacy,
    load::{self, Node, Value},
    overrides, tables,
};

/// A plan, and what should be said about its recipe.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// The plan.
    pub plan: Plan,
    /// Warnings: older forms, keys without effect.
    pub warnings: Vec<Problem>,
}

/// What a recipe is read with.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// The text.
    pub text: &'a str,
    /// Its path, for messages.
    pub path: &'a str,
    /// The kind that is wanted, where one is.
    pub wanted: Option<Kind>,
    /// Overrides: `key.path=value`.
    pub overrides: &'a [String],
}

/// Plans a recipe.
pub fn plan(source: &Source<'_>, variables: &Variables) -> Result<Planned, Faults> {
    let mut findings = Findings::default();
    let origin = Origin {
        path: source.path,
        overrides: source.overrides,
    };
    let plan = build(source, variables, &mut findings);
    findings
        .finish(plan, &origin)
        .map(|(plan, warnings)| Planned { plan, warnings })
}

fn build(source: &Source<'_>, variables: &Variables, findings: &mut Findings) -> Option<Plan> {
    let mut root = load::load(source.text, findings)?;
    if !matches!(root.value, Value::Map(_)) {
        findings.fault(
            root.at,
            format!("wants a mapping of keys, found {}", root.found()),
        );
        return None;
    }
    let kind = kind_of(&root, source.wanted, findings)?;
    overrides::apply(&mut root, source.overrides, findings);
    legacy::modernize(&mut root, kind, findings);
    let table = tables::fields(kind);
    check(&root, table, findings);
    extras::written_secrets(&root, findings);
    // A script is its author's: what looks like a variable in it, or in the variables given to it, is the shell's.
    let skip: &[&str] = if root.find("service.command").is_some() {
        &["service.env"]
    } else {
        &[]
    };
    expand(&mut root, table, skip, variables, findings);
    if kind != Kind::Server {
        on_one_node(&root, findings);
    }
    match kind {
        Kind::Server => server::plan(&root, findings).map(Plan::Server),
        Kind::Monitor => monitor::plan(&root, findings).map(Plan::Monitor),
        Kind::Client => {
            let folder = Path::new(source.path).parent().unwrap_or(Path::new(""));
            client::plan(&root, folder, findings).map(Plan::Client)
        }
    }
}

/// Keys that only one kind of recipe has, older ones included.
const SIGNS: [(Kind, &[&str]); 3] = [
    (Kind::Server, &["service", "engine", "image", "command"]),
    (Kind::Monitor, &["targets", "prometheus", "grafana"]),
    (Kind::Client, &["workload", "dataset", "target", "payload"]),
];

/// The kind of a recipe, by the keys that only it has; else the kind that is wanted.
fn kind_of(root: &Node, wanted: Option<Kind>, findings: &mut Findings) -> Option<Kind> {
    let kinds: Vec<Kind> = SIGNS
        .iter()
        .filter(|(_, keys)| {
            let has = |key: &&str| root.entries().iter().any(|(name, _)| name.name == **key);
            keys.iter().any(has)
        })
        .map(|(kind, _)| *kind)
        .collect();
    match (kinds.as_slice(), wanted) {
        (kinds, Some(wanted)) if kinds.is_empty() || kinds.contains(&wanted) => Some(wanted),
        ([kind], None) => Some(*kind),
        ([kind], Some(wanted)) => {
            findings.fault(
                root.at,
                format!(
                    "is a {} recipe; a {} recipe is wanted here",
                    kind.name(),
                    wanted.name()
                ),
            );
            None
        }
        _ => {
            findings.fault(
                root.at,
                "is of no kind that aif knows: a server has `service`, a monitor `prometheus` or `targets`, a client `workload`",
            );
            None
        }
    }
}

/// The kind of a recipe by its text alone; `None` where it tells none.
pub fn kind(text: &str) -> Option<Kind> {
    let mut findings = Findings::default();
    let root = load::load(text, &mut findings)?;
    kind_of(&root, None, &mut findings)
}

// Readers that all three kinds share.

fn text(root: &Node, path: &str) -> Option<String> {
    root.find(path)?.as_text().map(str::to_owned)
}

fn texts(root: &Node, path: &str) -> Vec<String> {
    root.find(path)
        .map(Node::items)
        .unwrap_or_default()
        .iter()
        .filter_map(|item| item.as_text().map(str::to_owned))
        .collect()
}

fn whole<T: TryFrom<u64>>(root: &Node, path: &str) -> Option<T> {
    T::try_from(root.find(path)?.as_u64()?).ok()
}

/// The path of a file: from the folder of the recipe, or, by an override, from where one stands.
fn file(root: &Node, path: &str, folder: &Path) -> Option<PathBuf> {
    let node = root.find(path)?;
    let text = node.as_text()?;
    Some(match node.at {
        Position::File { .. } => folder.join(text),
        Position::Override(_) => PathBuf::from(text),
    })
}

fn port(node: &Node) -> Option<PortChoice> {
    match node.as_text()? {
        "auto" => Some(PortChoice::Auto),
        _ => u16::try_from(node.as_u64()?).ok().map(PortChoice::Fixed),
    }
}

/// What runs on one node only must not ask for more.
fn on_one_node(root: &Node, findings: &mut Findings) {
    for path in [
        "orchestration.resources.nodes",
        "prometheus.resources.nodes",
    ] {
        if let Some(nodes) = root.find(path).filter(|nodes| nodes.as_u64() > Some(1)) {
            findings.fault(
                nodes.at,
                format!(
                    "only the engine of a server is one over several nodes: {path:?} must be 1 here"
                ),
            );
        }
    }
}

fn resources(root: &Node, path: &str) -> Resources {
    let Some(node) = root.find(path) else {
        return Resources::default();
    };
    Resources {
        partition: text(node, "partition"),
        cpu_cores: whole(node, "cpu_cores"),
        memory_gb: node.get("memory_gb").and_then(Node::as_gigabytes),
        gpu_count: whole(node, "gpu_count").unwrap_or(0),
        time_limit: node.get("time_limit").and_then(Node::as_duration),
        nodes: whole(node, "nodes"),
    }
}
