//! Conversations through the real binary: what an engine is asked turn by turn, and what is told of it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::lab::{Engine, Lab, alone, assert_near};

fn results(lab: &Lab) -> Value {
    let path = lab.path().join("out/results.json");
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).expect("JSON")
}

fn number(value: &Value, pointer: &str) -> f64 {
    let found = value.pointer(pointer).and_then(Value::as_f64);
    found.unwrap_or_else(|| panic!("no {pointer} in {value:#}"))
}

/// Runs a load on an engine, which stays to be asked what it saw.
fn load(engine: &Engine, lab: &Lab, workload: &str, params: &str) -> Value {
    let text = format!(
        "name: talk\nservice_name: s\nworkload: {{api: chat, {workload}}}\ndataset: {{type: synthetic, params: {{model_name: m, {params}}}}}\n"
    );
    let recipe = lab.file("talk.yaml", &text).display().to_string();
    lab.run(&["bench", &recipe, "--url", &engine.url(), "--out", "out"])
        .assert_exit(0);
    results(lab)
}

/// The messages of each conversation that the engine saw, by what its user said first.
fn seen(engine: &Engine) -> BTreeMap<String, Vec<Vec<Value>>> {
    let mut all: BTreeMap<String, Vec<Vec<Value>>> = BTreeMap::new();
    for asked in engine.asked() {
        // a request for one token finds the length of prompts
        if asked["path"] != "/v1/chat/completions" || asked["body"]["max_tokens"] == 1 {
            continue;
        }
        let messages = asked["body"]["messages"].as_array().expect("messages");
        let first = messages[0]["content"].as_str().expect("a text");
        all.entry(first.to_owned())
            .or_default()
            .push(messages.clone());
    }
    all
}

#[test]
fn the_context_grows_and_a_prefix_cache_shows_in_each_turn() {
    let _alone = alone();
    let lab = Lab::new();
    // 20 ms and 2 for each token that is not in the cache
    let engine = Engine::start(&[
        "--ttft-ms",
        "20",
        "--gap-ms",
        "1",
        "--prefill-ms",
        "2",
        "--prefix-cache",
    ]);
    let results = load(
        &engine,
        &lab,
        "concurrent_users: 3, total_requests: 60, conversation: {turns: 4, think_time_ms: 20, message_length: 30}",
        "prompt_length: 108, max_tokens: 10",
    );
    assert_eq!(results["errors"], 0);
    let conversations = seen(&engine);
    assert_eq!(conversations.values().map(Vec::len).sum::<usize>(), 60);
    for turns in conversations.values() {
        for (turn, messages) in turns.iter().enumerate() {
            assert_eq!(messages.len(), 2 * turn + 1);
            if let Some(before) = turn.checked_sub(1) {
                let before = &turns[before];
                assert_eq!(messages[..before.len()], before[..]);
                assert_eq!(messages[before.len()]["content"], " word".repeat(10));
            }
        }
    }
    assert_eq!(
        results["conversations"]["begun"],
        conversations.len(),
        "{}",
        results["conversations"]
    );
    let turns = results["turns"].as_array().expect("turns");
    assert_eq!(turns.len(), 4);
    let mut requests = 0.0;
    for (turn, told) in (0_u32..).zip(turns) {
        let turn = f64::from(turn);
        requests += number(told, "/requests");
        // 8 of the template and 100 words; then 10 of an answer and 30 more each time
        assert_near(
            "input",
            number(told, "/metrics/input_sequence_length/avg"),
            108.0 + 40.0 * turn,
            0.0,
        );
        let cached = if turn > 0.0 { 70.0 + 40.0 * turn } else { 0.0 };
        assert_near(
            "cached",
            number(told, "/metrics/cached_prompt_tokens/avg"),
            cached,
            0.0,
        );
        let read = 108.0 + 40.0 * turn - cached;
        assert_near(
            "first token",
            number(told, "/metrics/time_to_first_token/p50"),
            20.0 + read * 2.0,
            15.0,
        );
    }
    assert_near("requests", requests, 60.0, 0.0);
    let sum = |name: &str| {
        let metric = &results["metrics"][name];
        number(metric, "/avg") * number(metric, "/count")
    };
    let found = number(&engine.stats(), "/cached_tokens");
    assert_near(
        "found in the cache",
        sum("cached_prompt_tokens"),
        found,
        0.0,
    );
    assert!(number(&results, "/metrics/prompt_cache_hit_ratio/avg") > 0.4);
    lab.assert_nothing_left();
}

#[test]
fn of_an_open_loop_the_rate_is_that_of_conversations() {
    let _alone = alone();
    let lab = Lab::new();
    let engine = Engine::start(&["--ttft-ms", "300", "--gap-ms", "1"]);
    let results = load(
        &engine,
        &lab,
        "requests_per_second: 20, arrival: {process: constant}, duration_seconds: 5, conversation: {turns: {uniform: [1, 3]}, think_time_ms: 50}",
        "prompt_length: 20, max_tokens: 4",
    );
    assert_near(
        "rate",
        number(&results, "/generator/achieved_rate"),
        20.0,
        1.0,
    );
    let told = |key: &str| number(&results["conversations"], &format!("/{key}"));
    assert_near("begun", told("begun"), 100.0, 0.0);
    assert_near("ended", told("completed") + told("cut_short"), 100.0, 0.0);
    let requests = number(&results, "/total_requests");
    assert!((170.0..230.0).contains(&requests), "{requests}");
    let reasons = results["validity"]["reasons"].to_string();
    assert!(!reasons.contains("off by more"), "{reasons}");
}

#[test]
fn reasoning_and_phases_are_told_apart() {
    let _alone = alone();
    let lab = Lab::new();
    let engine = Engine::start(&["--ttft-ms", "100", "--gap-ms", "20", "--reasoning", "5"]);
    let results = load(
        &engine,
        &lab,
        "concurrent_users: 4, total_requests: 40",
        "prompt_length: 20, max_tokens: 11",
    );
    let metric =
        |name: &str, statistic: &str| number(&results, &format!("/metrics/{name}/{statistic}"));
    assert_near("first", metric("time_to_first_token", "p50"), 100.0, 5.0);
    assert_near(
        "output",
        metric("time_to_first_output_token", "p50"),
        200.0,
        5.0,
    );
    assert_near("second", metric("time_to_second_token", "p50"), 20.0, 10.0);
    assert_near(
        "a user's",
        metric("output_token_throughput_per_user", "p50"),
        50.0,
        5.0,
    );
    assert_near(
        "reasoning",
        metric("reasoning_token_count", "avg"),
        5.0,
        0.0,
    );
    // the head of a stream comes at once, its tokens behind it
    assert!(metric("http_req_waiting", "p50") < 20.0);
    assert_near("receiving", metric("http_req_receiving", "p50"), 300.0, 5.0);
    assert_near(
        "connections",
        metric("http_req_connecting", "count"),
        4.0,
        0.0,
    );
    assert_eq!(results["responses_by_status"]["200"], 40);
    // 40 requests bear a p90, no p99; and each percentile has its interval
    let first = &results["metrics"]["time_to_first_token"];
    assert!(
        first["p90"].is_number() && first["p99"].is_null(),
        "{first}"
    );
    let ends = &first["intervals"]["p50"];
    assert!(ends[0].as_f64() <= first["p50"].as_f64(), "{first}");
    assert!(ends[1].as_f64() >= first["p50"].as_f64(), "{first}");
}
