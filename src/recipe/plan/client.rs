//! Client recipes.
//!
//! An open loop without an arrival process is a Poisson one: users who do not know of each other arrive so, and equal
//! gaps flatter a server that batches. `arrival: {process: constant}` gives the equal gaps.

use std::{path::PathBuf, time::Duration};

use super::{resources, text, texts, whole};
use crate::recipe::{
    Api, Arrival, ClientPlan, LoadModel, Slo, Workload,
    fault::{Findings, Position},
    load::Node,
};

const LIMIT_OF_A_REQUEST: Duration = Duration::from_mins(2);

pub(super) fn plan(root: &Node, findings: &mut Findings) -> Option<ClientPlan> {
    let workload = root.get("workload")?;
    let duration = |path: &str| root.find(path).and_then(Node::as_duration);
    let number = |path: &str| root.find(path).and_then(Node::as_f64);
    let flag = |path: &str| root.find(path).and_then(Node::as_bool);
    let load = load_model(workload, findings);
    let measured = duration("workload.duration_seconds");
    let total_requests = whole(root, "workload.total_requests");
    let per_user = workload.get("requests_per_user").is_some();
    let ends = workload.get("duration_seconds").is_some()
        || workload.get("total_requests").is_some()
        || (per_user && !is_open(workload));
    if !ends {
        findings.fault(
            workload.at,
            "\"workload\" never ends: give duration_seconds, total_requests or, in a closed loop, requests_per_user",
        );
    }
    Some(ClientPlan {
        name: text(root, "name")?,
        service_name: text(root, "service_name")?,
        api: match text(root, "workload.api").as_deref() {
            Some("chat") => Api::Chat,
            _ => Api::Completions,
        },
        timeout: duration("target.timeout_seconds").unwrap_or(LIMIT_OF_A_REQUEST),
        load: load?,
        duration: measured,
        warmup: duration("workload.warmup_seconds").unwrap_or_default(),
        total_requests,
        workload: Workload {
            model_name: text(root, "dataset.params.model_name"),
            prompt_length: whole(root, "dataset.params.prompt_length").unwrap_or(128),
            max_tokens: whole(root, "dataset.params.max_tokens").unwrap_or(128),
            num_prompts: whole(root, "dataset.params.num_prompts"),
            temperature: number("dataset.params.temperature"),
            top_p: number("dataset.params.top_p"),
            ignore_eos: flag("dataset.params.ignore_eos").unwrap_or(false),
            stream: flag("workload.stream").unwrap_or(true),
            seed: whole(root, "workload.seed").unwrap_or(0),
        },
        slo: Slo {
            ttft_ms: number("slo.ttft_ms"),
            tpot_ms: number("slo.tpot_ms"),
            e2e_ms: number("slo.e2e_ms"),
        },
        destination: text(root, "output.destination").map(PathBuf::from),
        metrics: texts(root, "output.metrics"),
        resources: resources(root, "orchestration.resources"),
    })
}

fn is_open(workload: &Node) -> bool {
    match workload.get("pattern").and_then(Node::as_text) {
        Some(pattern) => pattern == "open-loop",
        None => workload.get("requests_per_second").is_some(),
    }
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

fn load_model(workload: &Node, findings: &mut Findings) -> Option<LoadModel> {
    let open = is_open(workload);
    foreign_keys(workload, open, findings);
    if !open {
        let pause = workload.get("think_time_ms").and_then(Node::as_f64);
        return Some(LoadModel::ClosedLoop {
            concurrent_users: whole(workload, "concurrent_users").unwrap_or(1),
            think_time: Duration::try_from_secs_f64(pause.unwrap_or(0.0) / 1000.0)
                .unwrap_or_default(),
            requests_per_user: whole(workload, "requests_per_user"),
        });
    }
    let Some(rate) = workload.get("requests_per_second") else {
        findings.fault(
            workload.at,
            "an open loop needs \"requests_per_second\": its rate",
        );
        return None;
    };
    Some(LoadModel::OpenLoop {
        requests_per_second: rate.as_f64()?,
        arrival: match text(workload, "arrival.process").as_deref() {
            Some("constant") => Arrival::Constant,
            _ => Arrival::Poisson,
        },
        max_in_flight: whole(workload, "max_in_flight"),
    })
}
