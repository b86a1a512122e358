//! `--set key.path=value`: values of the command line put into the tree before it is checked, so that they are held to
//! the same table as the file.

use super::{
    fault::{Findings, Position},
    load::{self, Node, Value},
};

/// Puts every override into the tree, in their order.
pub fn apply(root: &mut Node, overrides: &[String], findings: &mut Findings) {
    for (index, text) in overrides.iter().enumerate() {
        let at = Position::Override(index);
        let Some((path, value)) = text.split_once('=') else {
            findings.fault(at, "wants KEY=VALUE, such as workload.concurrent_users=20");
            continue;
        };
        if path.is_empty() || path.split('.').any(str::is_empty) || path.split('.').count() > 16 {
            findings.fault(at, "wants a key such as workload.concurrent_users");
            continue;
        }
        let Some(node) = parse(value, at, findings) else {
            continue;
        };
        if !root.put(path, at, node) {
            findings.fault(
                at,
                "leads through a value that has no keys, or past the end of a list",
            );
        }
    }
}

/// A value as YAML reads it; text that is no YAML is itself, unless it starts like a list or a mapping.
fn parse(value: &str, at: Position, findings: &mut Findings) -> Option<Node> {
    let value = value.trim();
    let plain = Node {
        at,
        value: Value::Scalar {
            text: value.to_owned(),
            plain: true,
        },
    };
    if !value.starts_with(['[', '{', '"', '\'']) {
        return Some(plain);
    }
    let mut inner = Findings::default();
    let parsed = load::load(value, &mut inner);
    let origin = super::fault::Origin {
        path: "",
        overrides: &[],
    };
    match inner.finish(parsed, &origin) {
        Ok((mut node, _)) => {
            node.move_to(at);
            Some(node)
        }
        Err(faults) => {
            let message = faults.problems.into_iter().map(|problem| problem.message);
            findings.fault(
                at,
                format!("{value:?} {}", message.collect::<Vec<_>>().join("; ")),
            );
            None
        }
    }
}
