//! Every engine profile, by a double that speaks as its documentation says (`tests/engine_double.rs`): ready when it is,
//! its key wanted where it says so and nowhere else, loaded by a bench, and its metrics found by the profile's names.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::lab::{Ended, Lab, Started, assert_near, example};

/// One engine.
struct Double {
    /// What it speaks as.
    kind: &'static str,
    /// Its profile.
    engine: &'static str,
    /// Further lines of `service`.
    service: &'static str,
    /// `workload` of the bench, without its limits.
    workload: &'static str,
    /// Paths that are open, whether there is a key or not.
    open: &'static [&'static str],
    /// Paths that want the key.
    guarded: &'static [&'static str],
    /// What its metrics have to hold: names of the profile, and of a release before or after.
    metrics: &'static [&'static str],
}

const KEY: &str = "  auth: key\n";

const DOUBLES: [Double; 10] = [
    Double {
        kind: "vllm",
        engine: "vllm",
        service: KEY,
        workload: "api: completions",
        open: &["/health", "/version", "/metrics"],
        guarded: &["/v1/models", "/v1/completions"],
        metrics: &[
            "vllm:num_requests_running",
            "vllm:prompt_tokens_total",
            "vllm:kv_cache_usage_perc",
            "vllm:gpu_cache_usage_perc",
        ],
    },
    Double {
        kind: "llamacpp",
        engine: "llamacpp",
        service: KEY,
        workload: "api: chat",
        open: &["/health"],
        guarded: &["/v1/models", "/metrics", "/props"],
        metrics: &[
            "llamacpp:requests_processing",
            "llamacpp:requests_deferred",
            "llamacpp:tokens_predicted_total",
        ],
    },
    Double {
        kind: "tgi",
        engine: "tgi",
        service: KEY,
        workload: "api: chat",
        open: &["/health", "/info", "/metrics", "/v1/models"],
        guarded: &["/generate", "/v1/chat/completions"],
        metrics: &[
            "tgi_batch_current_size",
            "tgi_queue_size",
            "tgi_request_generated_tokens_sum",
        ],
    },
    Double {
        kind: "sglang",
        engine: "sglang",
        service: "",
        workload: "api: chat",
        open: &["/health", "/metrics", "/v1/models"],
        guarded: &[],
        metrics: &["sglang:num_running_reqs", "sglang:generation_tokens_total"],
    },
    Double {
        kind: "trtllm",
        engine: "trtllm",
        service: "",
        workload: "api: completions",
        open: &["/health", "/version", "/prometheus/metrics"],
        guarded: &[],
        metrics: &[
            "trtllm_num_requests_waiting",
            "trtllm_generation_tokens_total",
        ],
    },
    Double {
        kind: "ollama",
        engine: "ollama",
        service: "",
        workload: "api: ollama-chat",
        open: &["/", "/api/version", "/v1/models"],
        guarded: &[],
        metrics: &[],
    },
    Double {
        // Dynamo's frontend and others that speak OpenAI's API
        kind: "openai",
        engine: "http",
        service: "  readiness: {path: /v1/models}\n",
        workload: "api: chat",
        open: &["/v1/models"],
        guarded: &[],
        metrics: &[],
    },
    Double {
        // its queries have a double of their own, in `vectors.rs`
        kind: "chroma",
        engine: "chroma",
        service: "",
        workload: "api: http, request: {method: GET, path: /api/v2/heartbeat, expect: {checks: [{pointer: /nanosecond heartbeat, exists: true}]}}",
        open: &["/api/v2/heartbeat"],
        guarded: &[],
        metrics: &[],
    },
    Double {
        kind: "qdrant",
        engine: "qdrant",
        service: KEY,
        workload: "api: http, request: {method: GET, path: /collections, expect: {checks: [{pointer: /result/collections, exists: true}]}}",
        open: &["/", "/readyz", "/livez"],
        guarded: &["/collections", "/metrics"],
        metrics: &["collections_total", "rest_responses_total"],
    },
    Double {
        kind: "triton",
        engine: "http",
        service: "  readiness: {path: /v2/health/ready}\n",
        workload: "api: http, request: {path: /v2/models/double/infer, body: {inputs: []}, expect: {checks: [{pointer: /outputs/0/data, exists: true}]}}",
        open: &["/v2/health/ready"],
        guarded: &[],
        metrics: &[],
    },
];

/// A server of it that is ready, and its record.
fn served(lab: &Lab, double: &Double, env: &str) -> (Started, Value) {
    let program = example("engine-double").display().to_string();
    let text = format!(
        "name: double-server\nservice_name: double\nengine: {}\nservice:\n  program: [{program:?}]\n  env: {{DOUBLE: {}{env}}}\n  ports: [auto]\n{}",
        double.engine, double.kind, double.service
    );
    lab.file("server.yaml", &text);
    let server = lab.start(&["server", "server.yaml"]);
    let ready = lab.run(&["wait", "double", "--timeout", "30s", "--json"]);
    let records: Value = serde_json::from_str(&ready.assert_exit(0).stdout).expect("JSON");
    (server, records[0].clone())
}

fn load(lab: &Lab, workload: &str) -> (Ended, Value) {
    let tokens = if workload.contains("http") {
        ""
    } else {
        ", max_tokens: 8"
    };
    let text = format!(
        "name: double-test\nservice_name: double\nworkload: {{{workload}, concurrent_users: 2, total_requests: 30}}\ndataset: {{params: {{model_name: 'double:1b', prompt_length: 12{tokens}}}}}\n"
    );
    lab.file("client.yaml", &text);
    let out = lab.path().join("out");
    let ended = lab.run(&[
        "bench",
        "client.yaml",
        "--allow-invalid",
        "--out",
        &out.display().to_string(),
    ]);
    let results = std::fs::read(out.join("results.json")).unwrap_or_default();
    (ended, serde_json::from_slice(&results).unwrap_or_default())
}

/// Status and body of a GET.
pub(crate) fn get(url: &str, key: Option<&str>) -> (u16, String) {
    let rest = url.strip_prefix("http://").expect("a URL");
    let (authority, path) = rest.split_once('/').expect("a path");
    let mut stream = TcpStream::connect(authority).expect("it listens");
    let bearer = key.map_or_else(String::new, |key| {
        format!("Authorization: Bearer {key}\r\n")
    });
    write!(
        stream,
        "GET /{path} HTTP/1.1\r\nHost: x\r\n{bearer}Connection: close\r\nContent-Length: 0\r\n\r\n"
    )
    .expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let status = answer.split(' ').nth(1).and_then(|text| text.parse().ok());
    (status.unwrap_or_else(|| panic!("{answer}")), answer)
}

fn number(value: &Value, pointer: &str) -> f64 {
    let found = value.pointer(pointer).and_then(Value::as_f64);
    found.unwrap_or_else(|| panic!("no {pointer} in {value:#}"))
}

#[test]
fn every_profile_is_right_of_a_double_of_its_engine() {
    for double in &DOUBLES {
        let kind = double.kind;
        let lab = Lab::new();
        let (server, record) = served(&lab, double, "");
        assert_eq!(record["state"], "ready", "{kind}");
        assert_eq!(record["engine"], double.engine, "{kind}");

        let api = record["endpoints"]["api"].as_str().expect("an address");
        let key_file = record["auth"]["key_file"].as_str();
        assert_eq!(key_file.is_some(), !double.guarded.is_empty(), "{kind}");
        let key = key_file.map(|file| std::fs::read_to_string(file).expect("the key"));
        let key = key.as_deref().map(str::trim);
        for path in double.open {
            assert_eq!(get(&format!("{api}{path}"), None).0, 200, "{kind} {path}");
        }
        for path in double.guarded {
            let url = format!("{api}{path}");
            for wrong in [None, Some("guessed")] {
                assert_eq!(get(&url, wrong).0, 401, "{kind} {path} {wrong:?}");
            }
            assert_ne!(get(&url, key).0, 401, "{kind} {path}");
        }

        let (ended, results) = load(&lab, double.workload);
        ended.assert_exit(0);
        assert_eq!(results["total_requests"], 30, "{kind}");
        assert_eq!(
            results["errors"], 0,
            "{kind}: {}",
            results["errors_by_class"]
        );
        let is_told_in_tokens = !["triton", "chroma", "qdrant"].contains(&kind);
        if is_told_in_tokens {
            assert_eq!(results["tokens"]["counted_by"], "usage", "{kind}");
            assert_near(kind, number(&results, "/tokens/output/client"), 240.0, 0.0);
            assert!(
                number(&results, "/metrics/time_to_first_token/p50") >= 5.0,
                "{kind}"
            );
        }
        let metrics = record["endpoints"]["metrics"].as_str();
        assert_eq!(metrics.is_some(), !double.metrics.is_empty(), "{kind}");
        if let Some(url) = metrics {
            // what the engine counted, by the names of its profile, is what the bench did
            for what in ["prompt", "output"]
                .into_iter()
                .filter(|_| is_told_in_tokens)
            {
                let client = number(&results, &format!("/tokens/{what}/client"));
                let engine = number(&results, &format!("/tokens/{what}/engine"));
                assert_near(&format!("{kind}: {what}"), engine, client, 0.0);
            }
            // vLLM's histograms stand beside the bench's means, under whichever name, and once
            let times = &results["engine_times"];
            assert_eq!(times.is_object(), kind == "vllm", "{kind}: {times}");
            for (what, count) in [
                ("time_to_first_token", 30.0),
                ("inter_token_latency", 210.0),
            ]
            .into_iter()
            .filter(|_| kind == "vllm")
            {
                let of = |which: &str| number(times, &format!("/{what}/{which}"));
                assert_near(what, of("engine_count"), count, 0.0);
                assert_near(what, of("client_count"), count, 0.0);
                assert!(of("engine_ms") >= 5.0, "{times}");
                assert_near(
                    what,
                    of("engine_ms") + of("difference_ms"),
                    of("client_ms"),
                    0.1,
                );
                assert!(of("difference_ms").abs() < of("engine_ms"), "{times}");
            }
            let shown = ended.stdout.matches("by the engine's own clock").count();
            assert_eq!(
                shown,
                if kind == "vllm" { 2 } else { 0 },
                "{}",
                ended.stdout
            );
            let scrape_key = lab.path().join(".ubenchai/discover/scrape.key");
            let scrape_key = std::fs::read_to_string(scrape_key).expect("a key");
            let (status, told) = get(url, Some(scrape_key.trim()));
            assert_eq!(status, 200, "{kind}");
            for name in double.metrics {
                let is_there = |line: &str| {
                    (line.strip_prefix(name)).is_some_and(|rest| rest.starts_with(['{', ' ']))
                };
                assert!(told.lines().any(is_there), "{kind} has no {name}: {told}");
            }
        }
        server.signal(Signal::SIGTERM);
        let ended = server.end();
        ended.assert_exit(0);
        // what stays open is told where there is a key, and nowhere else
        let told = ended
            .stderr
            .split("answers these without its key: ")
            .nth(1)
            .map(|rest| rest.lines().next().unwrap_or_default());
        assert_eq!(told.is_some(), key.is_some(), "{kind}: {}", ended.stderr);
        if let Some(told) = told {
            let told: Vec<&str> = told.split([' ', '"']).collect();
            for path in double.open {
                assert!(told.contains(path), "{kind}: {path} is not in {told:?}");
            }
        }
        // the challenge found that it wants its key
        assert!(
            !ended.stderr.contains("answers without its key"),
            "{kind}: {}",
            ended.stderr
        );
        lab.assert_nothing_left();
    }
}

#[test]
fn prompts_have_their_length_where_answers_tell_none() {
    for (kind, api, is_known) in [
        ("vllm", "completions", true),
        ("vllm", "chat", true),
        ("llamacpp", "completions", true),
        ("llamacpp", "chat", true),
        ("tgi", "chat", false),
    ] {
        let double = DOUBLES.iter().find(|double| double.kind == kind);
        let lab = Lab::new();
        let env = ", NO_USAGE: '1', PER_WORD: '3'";
        let (server, _) = served(&lab, double.expect("it is there"), env);
        let (ended, results) = load(&lab, &format!("api: {api}"));
        ended.assert_exit(0);
        assert_eq!(results["errors"], 0, "{kind} {api}");
        let by = if is_known { "tokenize" } else { "words" };
        assert_eq!(results["workload"]["calibrated_by"], by, "{kind} {api}");
        let reasons = results["validity"]["reasons"].to_string();
        assert_eq!(
            reasons.contains("their lengths are words"),
            !is_known,
            "{kind} {api}: {reasons}"
        );
        // 12 were asked, or what comes nearest: 4 words, or 2 and a template
        let wanted = match (is_known, api) {
            (false, _) => 12.0 * 3.0 + 5.0,
            (true, "chat") => 11.0,
            (true, _) => 12.0,
        };
        let counted = number(&results, "/tokens/prompt/engine") / 30.0;
        assert_near(&format!("{kind} {api}"), counted, wanted, 0.0);
        server.signal(Signal::SIGTERM);
        server.end().assert_exit(0);
    }
}

#[test]
fn ollamas_own_times_stand_beside_ours() {
    let ollama = DOUBLES.iter().find(|double| double.kind == "ollama");
    let ollama = ollama.expect("it is there");
    let lab = Lab::new();
    let (server, _) = served(&lab, ollama, "");
    for api in ["ollama-generate", "ollama-chat"] {
        let (ended, results) = load(&lab, &format!("api: {api}"));
        ended.assert_exit(0);
        // as the double tells them, for eight tokens
        for (name, wanted) in [
            ("load", 1.0),
            ("prompt", 4.0),
            ("decode", 40.0),
            ("total", 45.0),
        ] {
            let found = number(&results, &format!("/metrics/engine_{name}_time/p50"));
            assert_near(name, found, wanted, 1.0);
            assert_eq!(
                results["metrics"][format!("engine_{name}_time")]["count"],
                30
            );
        }
        assert!(number(&results, "/metrics/request_latency/p50") >= 40.0);
        assert_near(
            api,
            number(&results, "/metrics/output_sequence_length/avg"),
            8.0,
            0.0,
        );
    }
    // computed again from the samples, it is the same
    let samples = lab.path().join("out/samples.parquet");
    assert!(samples.exists());
    server.signal(Signal::SIGTERM);
    server.end().assert_exit(0);
    lab.assert_nothing_left();
}

#[test]
fn an_error_in_the_middle_of_ollamas_stream_is_one_of_the_request() {
    let ollama = DOUBLES.iter().find(|double| double.kind == "ollama");
    let ollama = ollama.expect("it is there");
    let lab = Lab::new();
    let (server, _) = served(&lab, ollama, ", BREAKS: '1'");
    let (_, results) = load(&lab, "api: ollama-generate");
    let failed = number(&results, "/errors");
    assert!((9.0..=11.0).contains(&failed), "every third: {failed}");
    assert_near(
        "all of one class",
        number(&results, "/errors_by_class/stream_error"),
        failed,
        0.0,
    );
    let said = results["error_samples"].to_string();
    assert!(
        said.contains("an error was encountered while running the model"),
        "{said}"
    );
    server.signal(Signal::SIGTERM);
    server.end().assert_exit(0);
}
