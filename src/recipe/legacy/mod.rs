//! Older forms of recipes, rewritten into the form of today, each with a warning that shows the new one.
//!
//! Works on the tree before it is checked, so that the tables know one form only and every value, however it was
//! written, is held to the same types. What an older form says and this version cannot do is a fault, as anywhere.

mod client;
mod flat;
mod slip;

use super::{
    Kind,
    fault::Findings,
    load::{Key, Node, Value},
};

/// Rewrites what is written in an older form.
pub fn modernize(root: &mut Node, kind: Kind, findings: &mut Findings) {
    match kind {
        Kind::Server => {
            slip::lift(root, findings);
            flat::server(root, findings);
        }
        Kind::Monitor => {}
        Kind::Client => client::client(root, findings),
    }
    name_service(root, findings);
}

/// `service_name` where it is missing: the name without what tells the kind.
fn name_service(root: &mut Node, findings: &mut Findings) {
    if root.get("service_name").is_some() {
        return;
    }
    let Some(name) = root
        .get("name")
        .and_then(|node| Some((node.at, node.as_text()?.to_owned())))
    else {
        return;
    };
    let (at, name) = name;
    let service = service_of(&name).to_owned();
    findings.warn(
        at,
        format!("no `service_name`: taken from the name; write `service_name: {service}`"),
    );
    root.put("service_name", at, Node::text_at(at, service));
}

/// The service that a recipe's name tells: the name without what tells its kind.
pub fn service_of(name: &str) -> &str {
    ["-server", "-monitor", "-client", "-test"]
        .iter()
        .find_map(|suffix| name.strip_suffix(suffix))
        .filter(|rest| !rest.is_empty())
        .unwrap_or(name)
}

/// Puts a value where none is yet.
fn put_new(root: &mut Node, path: &str, node: Node) {
    if root.find(path).is_none() {
        let at = node.at;
        root.put(path, at, node);
    }
}

fn take_inner(root: &mut Node, outer: &str, key: &str) -> Option<(Key, Node)> {
    match &mut root.value {
        Value::Map(entries) => entries
            .iter_mut()
            .find(|(name, _)| name.name == outer)
            .and_then(|(_, node)| node.take(key))
            .filter(|(_, node)| !node.is_null()),
        _ => None,
    }
}
