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
    let api = text(root, "workload.api");
    if !matches!(api.as_deref(), Some("chat" | "ollama-chat")) {
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::recipe::{
        ClientPlan, Length, Plan,
        expand::Variables,
        plan::{Source, plan},
    };

    fn read(text: &str) -> Result<ClientPlan, String> {
        let source = Source {
            text,
            path: "recipes/x.yaml",
            wanted: None,
            overrides: &[],
        };
        match plan(&source, &Variables::new()).map(|planned| planned.plan) {
            Ok(Plan::Client(plan)) => Ok(plan),
            Ok(other) => panic!("a {} plan", other.kind().name()),
            Err(faults) => Err(faults.to_string()),
        }
    }

    #[test]
    fn a_conversation_wants_messages_and_turns() {
        let with = |workload: &str, dataset: &str| {
            read(&format!(
                "name: c\nservice_name: s\nworkload: {{duration_seconds: 5, {workload}}}\ndataset: {{{dataset}}}\n"
            ))
        };
        let chat = "api: chat, conversation: {turns: {uniform: [2, 8]}, think_time_ms: {exponential: 900}, message_length: 30}";
        let planned = with(chat, "").unwrap().workload.conversation;
        assert_eq!(
            planned,
            Some(Conversation {
                turns: Some(Length::Uniform { min: 2, max: 8 }),
                think_time: ThinkTime::Exponential(Duration::from_millis(900)),
                message_length: Length::Fixed(30),
            })
        );
        let of_file = with(
            "api: chat, conversation: {}",
            "type: sharegpt, file: f.json",
        )
        .unwrap();
        assert_eq!(
            of_file.workload.conversation.map(|talk| talk.turns),
            Some(None)
        );
        let fault = |workload: &str, dataset: &str| with(workload, dataset).unwrap_err();
        insta::assert_snapshot!(fault("conversation: {turns: 2}", ""), @r##"recipes/x.yaml:3:47: a conversation is one of messages: it needs `api: chat`"##);
        insta::assert_snapshot!(fault("api: chat, conversation: {}", ""), @r##"recipes/x.yaml:3:58: "conversation" lacks the key "turns": how many requests it has"##);
        insta::assert_snapshot!(fault("api: chat, conversation: {turns: 0, turn: 3}", ""), @r##"
recipes/x.yaml:3:66: "workload.conversation.turns" wants a whole number from 1 to 10000, or a mapping of uniform, normal, lognormal, found the number 0
recipes/x.yaml:3:69: unknown key "turn"; did you mean "turns"?
"##);
        insta::assert_snapshot!(fault("api: chat, conversation: {turns: 2}", "type: prompts, file: f.txt"), @r##"recipes/x.yaml:3:58: single prompts have no further turns: a conversation is synthetic, or comes from a file of type jsonl or sharegpt"##);
        insta::assert_snapshot!(fault("api: chat, conversation: {message_length: 5}", "type: jsonl, file: f.jsonl"), @r##"recipes/x.yaml:3:75: "message_length" means nothing for messages of a file, which are sent as they are: take it out"##);
        insta::assert_snapshot!(fault("api: chat, arrival: {process: trace, file: t}, conversation: {turns: 2}", ""), @"recipes/x.yaml:3:76: a trace tells each request on its own: it has no conversations");
    }
}
