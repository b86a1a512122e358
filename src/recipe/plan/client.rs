//! Client recipes. When requests are sent is in [`super::load_model`].

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    conversation::conversation,
    extras, file,
    length::length,
    load_model::{ends_itself, is_open, load_model},
    request::request,
    resources, series, text, texts,
    vectors::vectors,
    whole,
};
use crate::recipe::{
    Api, ClientPlan, Dataset, DatasetKind, Documents, Series, SharedPart, SharedPrefix, Slo,
    Workload, fault::Findings, load::Node,
};

const LIMIT_OF_A_REQUEST: Duration = Duration::from_mins(2);

pub(super) fn plan(root: &Node, folder: &Path, findings: &mut Findings) -> Option<ClientPlan> {
    let workload = root.get("workload")?;
    let duration = |path: &str| root.find(path).and_then(Node::as_duration);
    let number = |path: &str| root.find(path).and_then(Node::as_f64);
    let flag = |path: &str| root.find(path).and_then(Node::as_bool);
    let api = api(root);
    if !api.generates() {
        without_tokens(root, api, findings);
    }
    if api.generates() && flag("workload.stream") == Some(false) {
        without_stream(root, findings);
    }
    if api.is_ollama() {
        not_ollamas(root, api, findings);
    }
    let load = load_model(workload, folder, findings);
    let series = series::series(root, is_open(workload), findings);
    let measured = duration("workload.duration_seconds");
    let total_requests = whole(root, "workload.total_requests");
    let per_user = workload.get("requests_per_user").is_some();
    let ends = workload.get("duration_seconds").is_some()
        || workload.get("total_requests").is_some()
        || (per_user && !is_open(workload))
        || ends_itself(workload);
    let streams = flag("workload.stream").unwrap_or(api.generates());
    if !ends {
        findings.fault(
            workload.at,
            "\"workload\" never ends: give duration_seconds, total_requests or, in a closed loop, requests_per_user",
        );
    }
    Some(ClientPlan {
        name: text(root, "name")?,
        service_name: text(root, "service_name")?,
        api,
        headers: extras::headers(root, findings),
        keep_alive: flag("target.keep_alive").unwrap_or(true),
        timeout: duration("target.timeout_seconds").unwrap_or(LIMIT_OF_A_REQUEST),
        load: match series.as_ref().and_then(Series::first) {
            Some((of, value)) => load?.at(of, value),
            None => load?,
        },
        duration: measured,
        warmup: duration("workload.warmup_seconds").unwrap_or_default(),
        warmup_requests: series::warmup_requests(workload, findings),
        total_requests,
        series,
        workload: Workload {
            model_name: text(root, "dataset.params.model_name"),
            dataset: dataset(root, folder, findings),
            corpus: text(root, "dataset.type").as_deref() == Some("corpus"),
            prompt_length: length(root, "dataset.params.prompt_length", findings),
            max_tokens: length(root, "dataset.params.max_tokens", findings),
            shared_prefix: shared_prefix(root, findings),
            conversation: conversation(root, findings),
            num_prompts: whole(root, "dataset.params.num_prompts"),
            documents: documents(root, api, findings),
            request: request(root, api, findings),
            vectors: vectors(root, api, findings),
            temperature: number("dataset.params.temperature"),
            top_p: number("dataset.params.top_p"),
            ignore_eos: flag("dataset.params.ignore_eos").unwrap_or(false),
            stream: streams,
            extra_body: extras::extra_body(root, api, streams, findings),
            seed: whole(root, "workload.seed").unwrap_or(0),
        },
        slo: Slo {
            ttft_ms: number("slo.ttft_ms"),
            tpot_ms: number("slo.tpot_ms"),
            e2e_ms: number("slo.e2e_ms"),
        },
        destination: text(root, "output.destination").map(PathBuf::from),
        samples: flag("output.samples").unwrap_or(true),
        calibrate: flag("workload.calibrate").unwrap_or(false),
        metrics: texts(root, "output.metrics"),
        resources: resources(root, "orchestration.resources"),
    })
}

fn api(root: &Node) -> Api {
    match text(root, "workload.api").as_deref() {
        Some("chat") => Api::Chat,
        Some("embeddings") => Api::Embeddings,
        Some("rerank") => Api::Rerank,
        Some("http") => Api::Http,
        Some("chroma") => Api::Chroma,
        Some("qdrant") => Api::Qdrant,
        Some("ollama-generate") => Api::OllamaGenerate,
        Some("ollama-chat") => Api::OllamaChat,
        _ => Api::Completions,
    }
}

/// Tokens that a prompt keeps for itself, by which it differs from all others.
const OWN_TOKENS: u32 = 8;

fn shared_prefix(root: &Node, findings: &mut Findings) -> Option<SharedPrefix> {
    let node = root.find("dataset.params.shared_prefix")?;
    if let Some(trace) = root.find("workload.arrival.file") {
        findings.fault(
            trace.at,
            "a trace tells by its hash_ids what prompts share: take \"shared_prefix\" out",
        );
    }
    let ratio = node.get("ratio").and_then(Node::as_f64);
    let part = match (whole(node, "length"), ratio) {
        (Some(length), None) => SharedPart::Length(length),
        (None, Some(ratio)) => SharedPart::Ratio(ratio),
        _ => {
            findings.fault(
                node.at,
                "\"shared_prefix\" wants the \"length\" or the \"ratio\" that is shared, one of the two",
            );
            return None;
        }
    };
    // faults of the length itself are told where it is planned
    let least = length(
        root,
        "dataset.params.prompt_length",
        &mut Findings::default(),
    )
    .least();
    if let SharedPart::Length(shared) = part
        && shared.saturating_add(OWN_TOKENS) > least
    {
        findings.fault(
            node.at,
            format!("{shared} shared tokens leave nothing to a prompt of {least}: \"prompt_length\" counts what is shared, and {OWN_TOKENS} are each prompt's own"),
        );
    }
    Some(SharedPrefix {
        groups: whole(node, "groups")?,
        part,
    })
}

/// Keys that mean nothing where prompts come from a file.
const MADE_UP: [&str; 2] = ["prompt_length", "shared_prefix"];

fn dataset(root: &Node, folder: &Path, findings: &mut Findings) -> Option<Dataset> {
    let kind = match text(root, "dataset.type").as_deref() {
        Some("prompts") => DatasetKind::Prompts,
        Some("jsonl") => DatasetKind::Jsonl,
        Some("sharegpt") => DatasetKind::ShareGpt,
        _ => {
            if let Some(file) = root.find("dataset.file") {
                findings.fault(
                    file.at,
                    "\"file\" wants the type of the dataset: prompts, jsonl or sharegpt",
                );
            }
            return None;
        }
    };
    let node = root.find("dataset")?;
    for key in MADE_UP {
        if let Some(given) = node.find(&format!("params.{key}")) {
            findings.fault(
                given.at,
                format!("{key:?} means nothing for prompts of a file, which are sent as they are: take it out"),
            );
        }
    }
    if let Some(trace) = root.find("workload.arrival.file") {
        findings.fault(
            trace.at,
            "a trace tells lengths, a file of prompts has its own: use one of them",
        );
    }
    let Some(file) = file(node, "file", folder) else {
        findings.fault(
            node.at,
            "\"dataset\" lacks the key \"file\": where the prompts are",
        );
        return None;
    };
    Some(Dataset {
        kind,
        file,
        own_lengths: kind == DatasetKind::Jsonl || node.find("params.max_tokens").is_none(),
    })
}

/// Documents of a query where nothing else is said.
const DOCUMENTS: u32 = 8;

fn documents(root: &Node, api: Api, findings: &mut Findings) -> Option<Documents> {
    if api == Api::Rerank {
        return Some(Documents {
            count: whole(root, "dataset.params.documents").unwrap_or(DOCUMENTS),
            length: length(root, "dataset.params.document_length", findings),
        });
    }
    for key in ["documents", "document_length"] {
        if let Some(node) = root.find(&format!("dataset.params.{key}")) {
            findings.fault(
                node.at,
                format!(
                    "{key:?} means nothing for \"api: {}\": take it out, or write api: rerank",
                    api.name()
                ),
            );
        }
    }
    None
}

/// Keys that mean nothing where no text is generated. A request that is written out says it in its own words.
const OF_ANSWERS: [&str; 5] = [
    "dataset.params.max_tokens",
    "dataset.params.temperature",
    "dataset.params.top_p",
    "dataset.params.ignore_eos",
    "workload.stream",
];

/// Keys that mean nothing where answers are no tokens that come one after another.
const OF_TOKENS: [&str; 3] = ["slo.ttft_ms", "slo.tpot_ms", "workload.calibrate"];

fn without_tokens(root: &Node, api: Api, findings: &mut Findings) {
    let of_answers = OF_ANSWERS.iter().filter(|_| api != Api::Http);
    for path in of_answers.chain(&OF_TOKENS) {
        let found = root.find(path);
        if let Some(node) = found.filter(|node| node.as_bool() != Some(false)) {
            findings.fault(
                node.at,
                format!(
                    "{path:?} means nothing for {}, which generates no text: take it out",
                    api.name()
                ),
            );
        }
    }
}

/// Limits that no answer can miss which comes as a whole.
fn without_stream(root: &Node, findings: &mut Findings) {
    for path in ["slo.ttft_ms", "slo.tpot_ms"] {
        if let Some(node) = root.find(path) {
            findings.fault(
                node.at,
                format!(
                    "{path:?} cannot be held with stream: false, where an answer comes as a whole: limit e2e_ms"
                ),
            );
        }
    }
}

/// What Ollama's own API has no word for, and an echo engine does not speak.
fn not_ollamas(root: &Node, api: Api, findings: &mut Findings) {
    let instead = [
        (
            "dataset.params.ignore_eos",
            "an answer ends where the model ends it",
        ),
        (
            "workload.calibrate",
            "the generator is measured by api: chat",
        ),
    ];
    for (path, why) in instead {
        let found = root.find(path);
        if let Some(node) = found.filter(|node| node.as_bool() != Some(false)) {
            findings.fault(
                node.at,
                format!(
                    "{path:?} cannot be had of api: {}: {why}; take it out",
                    api.name()
                ),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::recipe::{
        expand::Variables,
        plan::{Source, plan},
    };

    #[test]
    fn limits_of_tokens_want_a_stream() {
        let planned = |stream: &str| {
            let text = format!(
                "name: c\nservice_name: s\nworkload: {{total_requests: 1{stream}}}\nslo: {{ttft_ms: 5, tpot_ms: 1, e2e_ms: 9}}\n"
            );
            let source = Source {
                text: &text,
                path: "recipes/x.yaml",
                wanted: None,
                overrides: &[],
            };
            plan(&source, &Variables::default()).map(drop)
        };
        assert!(planned("").is_ok() && planned(", stream: true").is_ok());
        let fault = planned(", stream: false").unwrap_err();
        insta::assert_snapshot!(fault, @r##"
recipes/x.yaml:4:16: "slo.ttft_ms" cannot be held with stream: false, where an answer comes as a whole: limit e2e_ms
recipes/x.yaml:4:28: "slo.tpot_ms" cannot be held with stream: false, where an answer comes as a whole: limit e2e_ms
"##);
    }
}
