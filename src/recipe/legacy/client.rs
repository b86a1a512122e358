//! The older form of clients: an address, headers and a payload, as a request by hand has them.

use super::{put_new, take_inner};
use crate::recipe::{
    fault::Findings,
    load::{Key, Node, Value},
};

/// `target.service`, `target.endpoint`, headers and a payload: what a client said before it had a workload and a dataset.
pub(super) fn client(root: &mut Node, findings: &mut Findings) {
    if let Some((key, node)) = take_inner(root, "target", "service") {
        let service = node.as_text().unwrap_or("NAME").to_owned();
        let note = if root.get("service_name").is_some() {
            "`target.service` is an older form; `service_name` counts, take it out".to_owned()
        } else {
            format!("`target.service` is an older form; write `service_name: {service}`")
        };
        findings.warn(key.at, note);
        put_new(root, "service_name", node);
    }
    if let Some((key, node)) = take_inner(root, "target", "endpoint") {
        endpoint(root, &key, &node, findings);
    }
    if let Some((key, node)) = root.take("headers") {
        headers(root, &key, node, findings);
    } else if let Some((key, node)) = take_inner(root, "target", "headers") {
        headers(root, &key, node, findings);
    }
    if let Some((key, node)) = root.take("payload") {
        payload(root, &key, &node, findings);
    }
}

fn endpoint(root: &mut Node, key: &Key, node: &Node, findings: &mut Findings) {
    let text = node.as_text().unwrap_or_default();
    let (address, path) = match text.split_once("://") {
        Some((_, rest)) => {
            let slash = rest.find('/').unwrap_or(rest.len());
            (Some(text), &rest[slash..])
        }
        None => (None, text),
    };
    let api = match path.trim_end_matches('/') {
        "" | "/v1" => None,
        "/v1/completions" => Some("completions"),
        "/v1/chat/completions" => Some("chat"),
        "/v1/embeddings" => Some("embeddings"),
        other => {
            findings.fault(
                node.at,
                format!("this version cannot send to {other:?}; it knows `workload: {{api: completions}}`, `{{api: chat}}` and `{{api: embeddings}}`"),
            );
            return;
        }
    };
    if let Some(api) = api {
        findings.warn(
            key.at,
            format!("`target.endpoint` is an older form; write `workload: {{api: {api}}}`"),
        );
        put_new(root, "workload.api", Node::text_at(node.at, api));
    }
    if let Some(address) = address {
        findings.warn(
            key.at,
            format!("the address in `target.endpoint` is not used: the service is found by its name; to go around that: aif bench RECIPE --url {address}"),
        );
    }
}

/// Headers of a request by hand: those that aif sets itself are left out, others are sent.
fn headers(root: &mut Node, key: &Key, node: Node, findings: &mut Findings) {
    let Value::Map(entries) = node.value else {
        root.put("target.headers", key.at, node);
        return;
    };
    let mut others = Vec::new();
    for (name, value) in entries {
        match name.name.to_ascii_lowercase().as_str() {
            "content-type" | "accept" => {
                findings.warn(
                    name.at,
                    format!("aif sets the header {:?} itself; take it out", name.name),
                );
            }
            "authorization" => findings.warn(
                name.at,
                "the header is not used: an instance's key is found with its record",
            ),
            _ => others.push((name, value)),
        }
    }
    if !others.is_empty() {
        let node = Node {
            at: node.at,
            value: Value::Map(others),
        };
        root.put("target.headers", key.at, node);
    }
}

fn payload(root: &mut Node, key: &Key, node: &Node, findings: &mut Findings) {
    let mut shown = Vec::new();
    for (name, value) in node.entries() {
        let path = match name.name.as_str() {
            "model" => "dataset.params.model_name",
            "max_tokens" => "dataset.params.max_tokens",
            "temperature" => "dataset.params.temperature",
            "top_p" => "dataset.params.top_p",
            "ignore_eos" => "dataset.params.ignore_eos",
            "stream" => "workload.stream",
            "prompt" | "messages" => {
                if name.name == "messages" {
                    put_new(root, "workload.api", Node::text_at(value.at, "chat"));
                }
                // Four characters a token is what English comes to; the bench calibrates the length anyway.
                let tokens = characters(value).div_ceil(4).max(1).to_string();
                findings.warn(
                    name.at,
                    format!("the text is not sent: prompts are synthetic, of about its length ({tokens} tokens)"),
                );
                put_new(
                    root,
                    "dataset.params.prompt_length",
                    Node::text_at(value.at, tokens.clone()),
                );
                shown.push(format!("prompt_length: {tokens}"));
                continue;
            }
            other => {
                shown.push(format!("extra_body: {{{other}: …}}"));
                put_new(
                    root,
                    &format!("dataset.params.extra_body.{other}"),
                    value.clone(),
                );
                continue;
            }
        };
        if let (Some(text), Some(leaf)) = (value.as_text(), path.strip_prefix("dataset.params.")) {
            shown.push(format!("{leaf}: {text}"));
        }
        put_new(root, path, value.clone());
    }
    findings.warn(
        key.at,
        format!(
            "`payload` is an older form; write `dataset: {{type: synthetic, params: {{{}}}}}`",
            shown.join(", ")
        ),
    );
}

fn characters(node: &Node) -> usize {
    match &node.value {
        Value::Scalar { text, .. } => text.chars().count(),
        Value::List(items) => items.iter().map(characters).sum(),
        // A message is its content; its role is no text.
        Value::Map(_) => node.get("content").map_or(0, characters),
    }
}
