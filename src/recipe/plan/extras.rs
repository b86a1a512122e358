//! What a request carries beyond the keys that aif knows: further fields of its body, and headers.
//!
//! Fields that aif writes itself are refused: two of one name would leave it to the engine which of them counts. Values
//! of headers are shown nowhere; what is named like a secret must come from a variable, for a recipe is made to be given
//! away.

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value as Json};

use crate::recipe::{
    Api,
    client::Hidden,
    fault::Findings,
    load::{Node, Value},
};

/// Fields of a body that have keys of their own, and those keys.
const OWN_FIELDS: [(&str, &str); 11] = [
    ("model", "dataset.params.model_name"),
    ("prompt", "dataset"),
    ("messages", "dataset"),
    ("input", "dataset"),
    ("query", "dataset"),
    ("documents", "dataset.params.documents"),
    ("max_tokens", "dataset.params.max_tokens"),
    ("temperature", "dataset.params.temperature"),
    ("top_p", "dataset.params.top_p"),
    ("ignore_eos", "dataset.params.ignore_eos"),
    ("stream", "workload.stream"),
];
/// The field to which aif adds that token counts are wanted.
const STREAM_OPTIONS: &str = "stream_options";
const INCLUDE_USAGE: &str = "include_usage";

/// Headers that aif sets itself, besides those that recipes of older forms have.
const OWN_HEADERS: [&str; 6] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "expect",
    "upgrade",
];

/// Parts of names whose values nobody else may see.
const SECRETS: [&str; 7] = [
    "key", "token", "secret", "password", "auth", "cookie", "session",
];

/// `dataset.params.extra_body`. What it says of streams joins what aif asks of them.
pub(super) fn extra_body(
    root: &Node,
    api: Api,
    streams: bool,
    findings: &mut Findings,
) -> Map<String, Json> {
    let Some(node) = root.find("dataset.params.extra_body") else {
        return Map::new();
    };
    for (key, _) in node.entries() {
        if let Some((name, path)) = OWN_FIELDS.iter().find(|(name, _)| *name == key.name) {
            findings.fault(
                key.at,
                format!("aif writes {name:?} itself, by {path:?}: give it there"),
            );
        }
    }
    let Json::Object(mut fields) = json(node) else {
        return Map::new();
    };
    if let Some(options) = node.get(STREAM_OPTIONS) {
        let mut fault = |what: &str| findings.fault(options.at, what.to_owned());
        match fields.get_mut(STREAM_OPTIONS) {
            _ if !matches!(api, Api::Completions | Api::Chat) || !streams => {
                fault("\"stream_options\" is of streams of chats and completions: take it out");
            }
            Some(Json::Object(wanted)) => {
                let usage = wanted.insert(INCLUDE_USAGE.to_owned(), Json::Bool(true));
                if usage.is_some_and(|usage| usage != Json::Bool(true)) {
                    fault("aif wants the service's token counts: take \"include_usage\" out");
                }
            }
            _ => fault("\"stream_options\" wants fields, such as {continuous_usage_stats: true}"),
        }
    }
    fields
}

/// A value of YAML as JSON has it.
pub(super) fn json(node: &Node) -> Json {
    match &node.value {
        Value::List(items) => items.iter().map(json).collect(),
        Value::Map(entries) => entries
            .iter()
            .map(|(key, value)| (key.name.clone(), json(value)))
            .collect(),
        Value::Scalar { text, plain: false } => Json::String(text.clone()),
        Value::Scalar { text, .. } => match text.as_str() {
            _ if node.is_null() => Json::Null,
            "true" => Json::Bool(true),
            "false" => Json::Bool(false),
            _ => {
                let whole = text.parse::<i64>().ok().map(Number::from);
                let number = whole.or_else(|| Number::from_f64(node.as_f64()?));
                number.map_or_else(|| Json::String(text.clone()), Json::Number)
            }
        },
    }
}

/// Notes headers that are named like a secret and have their value in the recipe. Asked before variables are put in.
pub(super) fn written_secrets(root: &Node, findings: &mut Findings) {
    let Some(headers) = root.find("target.headers") else {
        return;
    };
    for (key, value) in headers.entries() {
        let name = key.name.to_ascii_lowercase();
        let is_secret = SECRETS.iter().any(|part| name.contains(part));
        if is_secret && value.as_text().is_some_and(|text| !text.contains("${")) {
            findings.fault(
                value.at,
                format!(
                    "the value of {:?} looks like a secret: export it as a variable, and write '${{VARIABLE}}'",
                    key.name
                ),
            );
        }
    }
}

/// `target.headers`.
pub(super) fn headers(root: &Node, findings: &mut Findings) -> BTreeMap<String, Hidden> {
    let mut headers = BTreeMap::new();
    let Some(node) = root.find("target.headers") else {
        return headers;
    };
    for (key, value) in node.entries() {
        let name = key.name.to_ascii_lowercase();
        let text = value.as_text().unwrap_or_default();
        if OWN_HEADERS.contains(&name.as_str()) {
            findings.fault(key.at, format!("aif sets the header {:?} itself", key.name));
        } else if name.is_empty() || !name.bytes().all(is_of_token) {
            findings.fault(key.at, format!("{:?} is no name of a header", key.name));
        } else if !text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            // the value itself is never shown
            findings.fault(
                value.at,
                format!("the value of {:?} wants plain text on one line", key.name),
            );
        } else {
            headers.insert(name, Hidden(text.trim().to_owned()));
        }
    }
    headers
}

fn is_of_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
