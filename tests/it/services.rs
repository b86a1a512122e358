//! Loads of services that generate no text: embeddings, reranking, and requests that a recipe writes out.

use serde_json::Value;

use crate::{
    bench::{bench, number, recipe, results},
    lab::{Engine, Lab, assert_near},
};

#[test]
fn embeddings_have_one_latency_and_no_answer_of_tokens() {
    let lab = Lab::new();
    let engine = Engine::start(&["--ttft-ms", "100"]);
    let recipe = recipe(
        &lab,
        "api: embeddings, concurrent_users: 2, total_requests: 10",
        "model_name: m, prompt_length: 32",
    );
    let ended = bench(&lab, &engine, &[&recipe]);
    ended.assert_exit(0);
    let results = results(&lab);
    assert_eq!(results["successes"], 10);
    assert_near(
        "latency",
        number(&results, "/metrics/request_latency/p50"),
        100.0,
        10.0,
    );
    assert_eq!(results["metrics"]["input_sequence_length"]["avg"], 32.0);
    assert!(number(&results, "/metrics/time_to_first_byte/p50") > 99.0);
    assert_no_tokens(&lab, &results, &ended.stdout);
    assert_eq!(results["tokens"]["prompt"]["client"], 32 * 10);
    assert!(number(&results, "/metrics/total_token_throughput/avg") > 0.0);
}

/// Answers are whole: nothing tells of a first token, or of tokens that were generated.
fn assert_no_tokens(lab: &Lab, results: &Value, shown: &str) {
    let files = ["results.csv", "report.html", "report.md"].map(|name| {
        let path = lab.path().join("out").join(name);
        std::fs::read_to_string(path).unwrap_or_default()
    });
    let metrics = results["metrics"].to_string();
    for text in files.iter().map(String::as_str).chain([shown, &metrics]) {
        for word in [
            "time_to_first_token",
            "time to first token",
            "TTFT",
            "inter_token",
            "output_token",
            "output_sequence",
        ] {
            assert!(!text.contains(word), "{word}: {text}");
        }
    }
    let reasons = results["validity"]["reasons"].to_string();
    assert!(!reasons.contains("tokens"), "{reasons}");
}

#[test]
fn a_query_is_held_against_its_documents() {
    let lab = Lab::new();
    let engine = Engine::start(&["--ttft-ms", "50"]);
    let recipe = recipe(
        &lab,
        "api: rerank, concurrent_users: 2, total_requests: 10",
        "model_name: m, prompt_length: 4, documents: 3, document_length: 10",
    );
    let ended = bench(&lab, &engine, &[&recipe]);
    ended.assert_exit(0);
    let results = results(&lab);
    assert_eq!(results["successes"], 10, "{results:#}");
    assert_eq!(
        results["metrics"]["input_sequence_length"]["avg"],
        f64::from(3 * (4 + 10))
    );
    assert_no_tokens(&lab, &results, &ended.stdout);
    for asked in engine.asked() {
        assert_eq!(asked["path"], "/v1/rerank");
        assert_eq!(asked["body"]["documents"].as_array().unwrap().len(), 3);
    }
}

#[test]
fn a_request_that_is_written_out_goes_to_any_service() {
    let lab = Lab::new();
    let engine = Engine::start(&["--ttft-ms", "50"]);
    let request = "{path: '/v1/rerank?n={index}', body: {query: '{prompt}', documents: ['{random:1:6} x', b], seed: '{seed}'}, \
         expect: {checks: [{name: all, pointer: /results/1, exists: true}, {pointer: /results/0/index, equals: 0}], prompt_tokens: /usage/total_tokens}}";
    let workload = format!(
        "api: http, requests_per_second: 40, total_requests: 120, seed: 7, request: {request}"
    );
    let whole = recipe(&lab, &workload, "prompt_length: 20");
    let ended = bench(&lab, &engine, &[&whole, "--allow-invalid"]);
    ended.assert_exit(0);
    let results = results(&lab);
    assert_eq!(results["successes"], 120, "{results:#}");
    assert_near(
        "latency",
        number(&results, "/metrics/request_latency/p50"),
        50.0,
        10.0,
    );
    assert_no_tokens(&lab, &results, &ended.stdout);
    assert!(!lab.path().join("out/vllm.json").exists());
    // two documents of one or two words, each with the query
    let tokens = number(&results, "/metrics/input_sequence_length/avg");
    assert_near("calibrated to what the service counts", tokens, 20.0, 6.0);
    let asked = engine.asked();
    let one = asked.last().expect("a request");
    assert!(one["path"].as_str().unwrap().starts_with("/v1/rerank"));
    assert_eq!(one["body"]["seed"], 7);
    assert_eq!(one["body"]["documents"].as_array().unwrap().len(), 2);
}

#[test]
fn a_check_that_fails_is_an_error_with_its_name() {
    let lab = Lab::new();
    let engine = Engine::start(&["--ttft-ms", "1"]);
    let request = "{path: /v1/rerank, body: {query: q, documents: [a]}, expect: {checks: [{name: all of them, pointer: /results/1, exists: true}]}}";
    let workload = format!("api: http, total_requests: 5, request: {request}");
    let failing = recipe(&lab, &workload, "");
    bench(&lab, &engine, &[&failing]).assert_exit(80);
    let found = results(&lab);
    assert_eq!(found["errors_by_class"]["check"], 5);
    assert_eq!(
        found["error_samples"][0],
        "check: all of them: \"/results/1\" wants something, found nothing"
    );
    let request = "{path: /nowhere, expect: {status: [200, 404]}}";
    let workload = format!("api: http, total_requests: 5, request: {request}");
    let expected = recipe(&lab, &workload, "");
    bench(&lab, &engine, &[&expected, "--allow-invalid"]).assert_exit(0);
    let found = results(&lab);
    assert_eq!(found["responses_by_status"]["404"], 5);
    assert_eq!(found["successes"], 5);
    let unexpected = recipe(&lab, &workload.replace("[200, 404]", "204"), "");
    bench(&lab, &engine, &[&unexpected]).assert_exit(80);
    assert_eq!(results(&lab)["errors_by_class"]["http_404"], 5);
}
