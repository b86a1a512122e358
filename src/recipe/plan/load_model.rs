//! When a client sends: by users or by time, and by which arrivals.
//!
//! An open loop without an arrival process is a Poisson one: users who do not know of each other arrive so, and equal
//! gaps flatter a server that batches. `arrival: {process: constant}` gives the equal gaps. Every key that a load model
//! or an arrival process has no use for is told: whoever writes it means something else than would run.

use std::{path::Path, time::Duration};

use super::{file, length::length, series::quantity, text, whole};
use crate::recipe::{
    Arrival, Gaps, LoadModel, Quantity, ThinkTime,
    fault::{Findings, Position},
    load::{Node, Value},
};

/// Is it an open loop? By its pattern, else by what only an open loop has.
pub(super) fn is_open(workload: &Node) -> bool {
    if let Some(pattern) = workload.get("pattern").and_then(Node::as_text) {
        return pattern == "open-loop";
    }
    let own = ["requests_per_second", "arrival"];
    own.iter().any(|key| workload.get(key).is_some())
        || quantity(workload) == Some(Quantity::RequestsPerSecond)
}

/// Keys that mean something in one load model only.
const CLOSED_ONLY: [&str; 3] = ["concurrent_users", "think_time_ms", "requests_per_user"];
const OPEN_ONLY: [&str; 3] = ["requests_per_second", "arrival", "max_in_flight"];

/// Keys of the other load model. Older recipes have `concurrent_users` in an open loop, and an override may turn one
/// loop into the other: both are told, and the rest of the recipe holds. A closed loop with a rate is a contradiction.
fn foreign_keys(workload: &Node, open: bool, findings: &mut Findings) {
    let turned = workload
        .get("pattern")
        .is_some_and(|pattern| matches!(pattern.at, Position::Override(_)));
    let (here, other, foreign) = if open {
        ("an open loop", "closed-loop", CLOSED_ONLY)
    } else {
        ("a closed loop", "open-loop", OPEN_ONLY)
    };
    for (key, node) in workload.entries() {
        if !foreign.contains(&key.name.as_str()) || node.is_null() {
            continue;
        }
        if open || turned {
            let cap = if key.name == "concurrent_users" {
                "; `max_in_flight` is the cap of an open loop"
            } else {
                ""
            };
            findings.warn(
                key.at,
                format!("{:?} means nothing in {here}: not used{cap}", key.name),
            );
        } else {
            findings.fault(
                key.at,
                format!(
                    "{:?} means nothing in {here}: take it out, or write `pattern: {other}`",
                    key.name
                ),
            );
        }
    }
}

/// The load model of a `workload`.
pub(super) fn load_model(
    workload: &Node,
    folder: &Path,
    findings: &mut Findings,
) -> Option<LoadModel> {
    let open = is_open(workload);
    foreign_keys(workload, open, findings);
    if !open {
        return Some(LoadModel::ClosedLoop {
            concurrent_users: whole(workload, "concurrent_users").unwrap_or(1),
            think_time: think_time(workload, findings),
            requests_per_user: whole(workload, "requests_per_user"),
        });
    }
    let arrival = arrival(workload, folder, findings)?;
    let rate = workload.get("requests_per_second");
    match &arrival {
        Arrival::Ramp { .. } | Arrival::Trace { .. } => {
            if let Some(rate) = rate {
                findings.fault(
                    rate.at,
                    "\"requests_per_second\" means nothing with a ramp or a trace, which have rates of their own: take it out",
                );
            }
        }
        Arrival::Constant | Arrival::Poisson | Arrival::Gamma { .. }
            if rate.is_none() && quantity(workload).is_none() =>
        {
            findings.fault(
                workload.at,
                "an open loop needs \"requests_per_second\": its rate",
            );
            return None;
        }
        Arrival::Constant | Arrival::Poisson | Arrival::Gamma { .. } => {}
    }
    Some(LoadModel::OpenLoop {
        requests_per_second: rate.and_then(Node::as_f64),
        arrival,
        max_in_flight: whole(workload, "max_in_flight"),
    })
}

/// The pause of users, of a `workload` or a `conversation`.
pub(super) fn think_time(workload: &Node, findings: &mut Findings) -> ThinkTime {
    let path = "think_time_ms";
    let milliseconds = |node: &Node| {
        let pause = node.as_f64().unwrap_or(0.0) / 1000.0;
        Duration::try_from_secs_f64(pause).unwrap_or_default()
    };
    let Some(node) = workload.get(path) else {
        return ThinkTime::Fixed(Duration::ZERO);
    };
    let Value::Map(_) = node.value else {
        return ThinkTime::Fixed(milliseconds(node));
    };
    match (node.get("exponential"), node.entries().len()) {
        (Some(mean), 1) => ThinkTime::Exponential(milliseconds(mean)),
        (None, 1) => ThinkTime::Drawn(length(workload, path, findings)),
        _ => {
            findings.fault(
                node.at,
                format!(
                    "{path:?} wants one distribution: exponential, uniform, normal or lognormal"
                ),
            );
            ThinkTime::Fixed(Duration::ZERO)
        }
    }
}

/// Keys of `arrival` by the process that has a use for them.
const OWN_KEYS: [(&str, &[&str]); 3] = [
    ("trace", &["file"]),
    ("gamma", &["burstiness"]),
    ("ramp", &["from", "to", "gaps"]),
];

fn arrival(workload: &Node, folder: &Path, findings: &mut Findings) -> Option<Arrival> {
    let Some(node) = workload.get("arrival") else {
        return Some(Arrival::Poisson);
    };
    let process = text(node, "process").unwrap_or_else(|| "poisson".to_owned());
    for (key, _) in node.entries() {
        let owner = OWN_KEYS
            .iter()
            .find(|(_, keys)| keys.contains(&key.name.as_str()));
        if let Some((owner, _)) = owner.filter(|(owner, _)| *owner != process) {
            findings.fault(
                key.at,
                format!(
                    "{:?} means nothing for the process {process}: take it out, or write `process: {owner}`",
                    key.name
                ),
            );
        }
    }
    let mut number = |key: &str, what: &str| {
        let found = node.get(key).and_then(Node::as_f64);
        if node.get(key).is_none() {
            findings.fault(
                node.at,
                format!("the process {process} needs {key:?}: {what}"),
            );
        }
        found
    };
    match process.as_str() {
        "constant" => Some(Arrival::Constant),
        "gamma" => Some(Arrival::Gamma {
            burstiness: number(
                "burstiness",
                "1 is Poisson, less comes in bursts, more is more even",
            )?,
        }),
        "ramp" => {
            let from = number("from", "requests per second at the start of the window");
            let to = number("to", "requests per second at its end");
            let (from, to) = (from?, to?);
            if from + to <= 0.0 {
                findings.fault(node.at, "a ramp from 0 to 0 sends nothing");
            }
            if workload.get("duration_seconds").is_none() {
                findings.fault(
                    node.at,
                    "a ramp needs \"duration_seconds\": the time that it takes from `from` to `to`",
                );
            }
            let gaps = match text(node, "gaps").as_deref() {
                Some("constant") => Gaps::Constant,
                _ => Gaps::Poisson,
            };
            Some(Arrival::Ramp { from, to, gaps })
        }
        "trace" => {
            let Some(file) = file(node, "file", folder) else {
                findings.fault(
                    node.at,
                    "the process trace needs \"file\": the trace to replay",
                );
                return None;
            };
            Some(Arrival::Trace { file })
        }
        _ => Some(Arrival::Poisson),
    }
}

/// Does the load end with its arrivals?
pub(super) fn ends_itself(workload: &Node) -> bool {
    text(workload, "arrival.process").as_deref() == Some("trace")
}
