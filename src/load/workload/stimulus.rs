//! The certificate of what a load asks: equal where two loads asked the same, of whatever service.
//!
//! It holds what is planned. Of a conversation that is what its user says in each turn, and how long they think; the
//! answers, which later turns carry with them, are the engine's and are not in it.

use sha2::{Digest as _, Sha256};

use super::{Content, material::hex};
use crate::recipe::ClientPlan;

/// Prompts and arrivals that go into the hash, and further turns of conversations.
const HASHED: usize = 1000;

/// Where a plan has paths of files.
const PATHS: [&str; 2] = ["/load/arrival/trace/file", "/workload/dataset/file"];

/// SHA-256, in hex, over all that a load asks of an engine: plan, the first requests and arrivals.
pub fn stimulus(plan: &ClientPlan, content: &Content) -> String {
    let mut hash = Sha256::new();
    let mut fields = serde_json::json!({
        "api": plan.api,
        "timeout": plan.timeout,
        "headers": plan.headers.keys().collect::<Vec<_>>(),
        "load": plan.load,
        "duration": plan.duration,
        "warmup": plan.warmup,
        "total_requests": plan.total_requests,
        "workload": plan.workload,
        "file": content.material().facts().map(|facts| &facts.sha256),
    });
    if let Some(requests) = plan.warmup_requests {
        fields["warmup_requests"] = requests.into();
    }
    // what a file holds counts, not where it lies
    for path in PATHS {
        if let Some(path) = fields.pointer_mut(path) {
            path.take();
        }
    }
    hash.update(fields.to_string());
    // whatever its name is there
    let anyone = content.clone().for_model("");
    let mut left = HASHED;
    for index in 0..HASHED as u64 {
        hash.update(anyone.body(index));
        for turn in 1..anyone.turns(index) {
            if left == 0 {
                break;
            }
            left -= 1;
            let (messages, tokens) = (
                anyone.messages(index, turn),
                anyone.answer_length(index, turn),
            );
            hash.update(anyone.body_of(&messages, tokens));
            let pause = anyone.pause_before(index, turn);
            hash.update(pause.as_nanos().to_be_bytes());
        }
    }
    if let Some(schedule) = content.schedule() {
        for at in schedule.times().take(HASHED) {
            hash.update(at.as_nanos().to_be_bytes());
        }
    }
    hex(&hash.finalize())
}

/// The same over several loads, of theirs, in their order.
pub fn stimulus_of_all<'a>(loads: impl Iterator<Item = &'a str>) -> String {
    let mut hash = Sha256::new();
    for load in loads {
        hash.update(load);
        hash.update("\n");
    }
    hex(&hash.finalize())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::load::workload::{Material, Scale};

    const LOAD: &str = "api: chat, requests_per_second: 10, duration_seconds: 10, seed: 1";
    const PARAMS: &str = "prompt_length: 64, max_tokens: 8";

    fn hash(plan: &ClientPlan) -> String {
        stimulus(plan, &Content::new(plan, Material::None, "m"))
    }

    #[test]
    fn text_of_the_corpus_is_another_stimulus() {
        let plain = ClientPlan::of(LOAD, PARAMS);
        let mut corpus = plain.clone();
        corpus.workload.corpus = true;
        assert_ne!(hash(&plain), hash(&corpus));
        assert_eq!(hash(&corpus), hash(&corpus));
        assert!(
            !serde_json::to_string(&plain)
                .expect("JSON")
                .contains("corpus")
        );
    }

    #[test]
    fn it_tells_what_is_asked_and_not_of_whom_or_where_results_go() {
        let plan = ClientPlan::of(LOAD, PARAMS);
        let first = hash(&plan);
        assert_eq!(first.len(), 64);
        let mut elsewhere = plan.clone();
        elsewhere.name = "b".to_owned();
        elsewhere.destination = Some(PathBuf::from("/elsewhere"));
        assert_eq!(hash(&elsewhere), first);
        assert_eq!(
            stimulus(&plan, &Content::new(&plan, Material::None, "another")),
            first
        );
        let scale = Scale::of(&[64], &[(60, 64)]);
        let rescaled = Content::new(&plan, Material::None, "m").with_scale(scale);
        assert_ne!(stimulus(&plan, &rescaled), first);
    }

    #[test]
    fn every_change_of_what_is_asked_changes_it() {
        let loads = [
            "seed: 1".to_owned(),
            "seed: 2".to_owned(),
            "seed: 1, arrival: {process: constant}".to_owned(),
            "seed: 1, arrival: {process: gamma, burstiness: 2}".to_owned(),
            "seed: 1, arrival: {process: gamma, burstiness: 3}".to_owned(),
            "seed: 1, stream: false".to_owned(),
            "seed: 1, api: chat, conversation: {turns: 2}".to_owned(),
            "seed: 1, api: chat, conversation: {turns: 3}".to_owned(),
            "seed: 1, api: chat, conversation: {turns: 3, think_time_ms: 5}".to_owned(),
            "seed: 1, api: chat, conversation: {turns: 3, message_length: 9}".to_owned(),
        ]
        .map(|more| {
            (
                format!("requests_per_second: 10, duration_seconds: 10, {more}"),
                PARAMS.to_owned(),
            )
        });
        let params = [
            "prompt_length: 65, max_tokens: 8",
            "prompt_length: 64, max_tokens: 9",
            "prompt_length: 64, max_tokens: {uniform: [8, 9]}",
            "prompt_length: {normal: {mean: 64, std: 1}}, max_tokens: 8",
            "prompt_length: {normal: {mean: 64, std: 2}}, max_tokens: 8",
            "prompt_length: 64, max_tokens: 8, num_prompts: 5",
            "prompt_length: 64, max_tokens: 8, temperature: 0",
            "prompt_length: 64, max_tokens: 8, shared_prefix: {groups: 2, length: 20}",
            "prompt_length: 64, max_tokens: 8, shared_prefix: {groups: 2, length: 21}",
            "prompt_length: 64, max_tokens: 8, shared_prefix: {groups: 3, length: 20}",
        ]
        .map(|params| (LOAD.to_owned(), params.to_owned()));
        let mut seen: Vec<String> = loads
            .iter()
            .chain(&params)
            .map(|(load, params)| hash(&ClientPlan::of(load, params)))
            .collect();
        let all = seen.len();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), all);
    }

    #[test]
    fn of_a_file_its_content_counts_and_not_its_path() {
        let hash = |path: &str, text: &str| {
            let plan = ClientPlan::of(&format!("arrival: {{process: trace, file: {path}}}"), "");
            let material = Material::of(&plan, text).expect("a trace");
            stimulus(&plan, &Content::new(&plan, material, "m"))
        };
        let row = |at: u32| {
            format!("{{\"timestamp\": {at}, \"input_length\": 9, \"output_length\": 2}}\n")
        };
        assert_eq!(hash("a", &row(1)), hash("b/c", &row(1)));
        assert_ne!(hash("a", &row(1)), hash("a", &row(2)));
        // told by the checksum alone
        assert_ne!(hash("a", &row(1)), hash("a", &format!("\n{}", row(1))));
    }
}
