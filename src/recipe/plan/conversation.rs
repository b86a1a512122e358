//! Conversations: how many turns they have, how long their users think, and what they say.
//!
//! A message after the first is as long as the first where nothing else is said, and its user thinks as long as between
//! two conversations. What a conversation cannot be made of is told: an API without messages, a trace, single prompts.

use super::{length::length, load_model::think_time, text};
use crate::recipe::{
    Conversation, ThinkTime,
    fault::Findings,
    load::{Node, Value},
};

pub(super) fn conversation(root: &Node, findings: &mut Findings) -> Option<Conversation> {
    let node = root.find("workload.conversation")?;
    if !matches!(node.value, Value::Map(_)) {
        return None;
    }
    if text(root, "workload.api").as_deref() != Some("chat") {
        findings.fault(
            node.at,
            "a conversation is one of messages: it needs `api: chat`",
        );
    }
    if let Some(trace) = root.find("workload.arrival.file") {
        findings.fault(
            trace.at,
            "a trace tells each request on its own: it has no conversations",
        );
    }
    let kind = text(root, "dataset.type");
    let from_file = matches!(kind.as_deref(), Some("jsonl" | "sharegpt"));
    if kind.as_deref() == Some("prompts") {
        findings.fault(
            node.at,
            "single prompts have no further turns: a conversation is synthetic, or comes from a file of type jsonl or sharegpt",
        );
    }
    let has = |key: &str| node.get(key).is_some();
    if let Some(given) = node.get("message_length").filter(|_| from_file) {
        findings.fault(
            given.at,
            "\"message_length\" means nothing for messages of a file, which are sent as they are: take it out",
        );
    }
    if !has("turns") && !from_file {
        findings.fault(
            node.at,
            "\"conversation\" lacks the key \"turns\": how many requests it has",
        );
    }
    Some(Conversation {
        turns: has("turns").then(|| length(node, "turns", findings)),
        think_time: if has("think_time_ms") {
            think_time(node, findings)
        } else {
            // faults of it are told where users are planned
            (root.get("workload")).map_or(ThinkTime::Fixed(std::time::Duration::ZERO), |workload| {
                think_time(workload, &mut Findings::default())
            })
        },
        message_length: if has("message_length") {
            length(node, "message_length", findings)
        } else {
            length(
                root,
                "dataset.params.prompt_length",
                &mut Findings::default(),
            )
        },
    })
}
