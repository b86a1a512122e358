//! The bench as a process of its own, against an engine whose times are known, and long beside what a busy machine adds.

use std::{net::TcpListener, path::Path, time::Duration};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::lab::{Engine, Lab, alone, assert_near, now, wait_until};

/// Runs a bench on an engine; its results lie in `out`.
pub(crate) fn bench(lab: &Lab, engine: &Engine, arguments: &[&str]) -> crate::lab::Ended {
    let url = engine.url();
    let mut all = vec!["bench", "--url", &url, "--out", "out"];
    all.extend(arguments);
    lab.run(&all)
}

fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn results(lab: &Lab) -> Value {
    serde_json::from_str(&read(lab.path().join("out/results.json"))).expect("JSON")
}

pub(crate) fn number(value: &Value, pointer: &str) -> f64 {
    let found = value.pointer(pointer).and_then(Value::as_f64);
    found.unwrap_or_else(|| panic!("no {pointer} in {value:#}"))
}

pub(crate) fn recipe(lab: &Lab, workload: &str, params: &str) -> String {
    let text = format!(
        "name: load\nservice_name: s\ntarget: {{timeout_seconds: 20}}\nworkload: {{{workload}}}\ndataset: {{type: synthetic, params: {{{params}}}}}\n"
    );
    lab.file("load.yaml", &text).display().to_string()
}

/// Requests of the calibration: the engine saw them too.
fn probes(results: &Value) -> f64 {
    let probes = results["workload"]["calibration"].as_array();
    probes.expect("a calibration").len() as f64
}

#[test]
fn twenty_users_are_twenty() {
    let _alone = alone();
    let lab = Lab::new();
    let engine = Engine::start(&["--latency-ms", "400", "--gap-ms", "0"]);
    let ended = bench(
        &lab,
        &engine,
        &[
            "--model",
            "m",
            "--max-concurrency",
            "20",
            "--duration",
            "20s",
            "--random-output-len",
            "4",
        ],
    );
    ended.assert_exit(0);
    let results = results(&lab);
    assert_eq!(engine.stats()["max_in_flight"], 20);
    assert_near(
        "throughput",
        number(&results, "/throughput_req_per_sec"),
        20.0 / 0.4,
        2.0,
    );
    assert_near(
        "latency",
        number(&results, "/metrics/request_latency/p50"),
        400.0,
        2.0,
    );
    assert_eq!(results["errors"], 0);
    assert_eq!(results["total_requests"], results["successes"]);
    for key in ["/avg_latency_ms", "/min_latency_ms"] {
        assert_near(key, number(&results, key), 410.0, 4.0);
    }
    // one hiccup of the machine is enough for a large one
    assert!(number(&results, "/max_latency_ms") > number(&results, "/avg_latency_ms"));
    assert_ne!(results["validity"]["verdict"], "invalid");
    assert_eq!(results["completeness"], "complete");

    let vllm: Value = serde_json::from_str(&read(lab.path().join("out/vllm.json"))).expect("JSON");
    assert_eq!(vllm["completed"], results["successes"]);
    let csv = read(lab.path().join("out/results.csv"));
    assert!(csv.lines().count() > 1, "{csv}");
    assert!(csv.contains("time_to_first_token"), "{csv}");
    assert!(
        ended.stdout.contains("requests"),
        "a summary: {}",
        ended.stdout
    );
    lab.assert_nothing_left();
}

#[test]
fn an_open_loop_holds_its_rate_and_counts_from_the_intended_time() {
    // before the engine starts: its stall counts from there
    let _alone = alone();
    let lab = Lab::new();
    // stands still for two seconds in the middle of the load
    let engine = Engine::start(&[
        "--latency-ms",
        "100",
        "--gap-ms",
        "0",
        "--stall-at-ms",
        "4000",
        "--stall-for-ms",
        "2000",
    ]);
    let recipe = recipe(
        &lab,
        "pattern: open-loop, requests_per_second: 50, arrival: {process: constant}, duration_seconds: 10",
        "model_name: m, prompt_length: 16, max_tokens: 2",
    );
    bench(&lab, &engine, &[&recipe]).assert_exit(0);
    let results = results(&lab);
    assert_near("sent", number(&results, "/total_requests"), 500.0, 1.0);
    assert_near(
        "rate",
        number(&results, "/generator/achieved_rate"),
        50.0,
        1.0,
    );
    let seen = number(&engine.stats(), "/requests") - probes(&results);
    assert_near("seen by the engine", seen, 500.0, 1.0);
    // a fifth of all requests waited up to two seconds: a tenth of all for more than one
    let scheduled = "/metrics/time_to_first_token_scheduled";
    assert_near(
        "p90",
        number(&results, &format!("{scheduled}/p90")),
        1100.0,
        10.0,
    );
    assert_near(
        "max",
        number(&results, &format!("{scheduled}/max")),
        2100.0,
        5.0,
    );
}

#[test]
fn each_arrival_process_is_sent_as_it_is_planned() {
    let _alone = alone();
    let lab = Lab::new();
    let engine = Engine::start(&["--latency-ms", "100", "--gap-ms", "0"]);
    let params = "model_name: m, prompt_length: 16, max_tokens: 2";
    let sent = |workload: &str| {
        let recipe = recipe(&lab, workload, params);
        bench(&lab, &engine, &[&recipe]).assert_exit(0);
        results(&lab)
    };
    // the rate goes from 20 to 60 requests a second: 160 in four seconds, 30 of them in the first and 55 in the last
    let ramp = sent(
        "arrival: {process: ramp, from: 20, to: 60, gaps: constant}, duration_seconds: 4, warmup_seconds: 1",
    );
    assert_near("ramp", number(&ramp, "/total_requests"), 160.0, 2.0);
    for (second, wanted) in [(0, 20.0), (1, 25.0), (2, 35.0), (3, 45.0), (4, 55.0)] {
        let sent = number(&ramp, &format!("/slices/{second}/sent"));
        assert_near(&format!("second {second}"), sent, wanted, 10.0);
    }
    assert_near(
        "asked",
        number(&ramp, "/generator/requested_rate"),
        40.0,
        2.0,
    );
    assert_ne!(ramp["validity"]["verdict"], "invalid");

    // gaps almost even give almost the count of even gaps; bursts give another
    let even =
        "requests_per_second: 50, arrival: {process: gamma, burstiness: 400}, duration_seconds: 4";
    let first = sent(even);
    assert_near("gamma", number(&first, "/total_requests"), 200.0, 2.0);
    assert_ne!(first["validity"]["verdict"], "invalid");
    assert_eq!(first["load"]["arrival"]["gamma"]["burstiness"], 400.0);
    let again = sent(even);
    let other = sent(&even.replace("400", "401"));
    assert_eq!(first["stimulus_sha256"], again["stimulus_sha256"]);
    assert_ne!(first["stimulus_sha256"], other["stimulus_sha256"]);
}

#[test]
fn each_limit_of_a_closed_loop_holds() {
    let lab = Lab::new();
    let engine = Engine::start(&["--latency-ms", "100", "--gap-ms", "0"]);
    let params = "model_name: m, prompt_length: 16, max_tokens: 2";
    let loops = "pattern: closed-loop, concurrent_users: 3";
    let per_user = recipe(&lab, &format!("{loops}, requests_per_user: 4"), params);
    bench(&lab, &engine, &[&per_user]).assert_exit(0);
    assert_eq!(results(&lab)["total_requests"], 12);

    let thinking = recipe(
        &lab,
        &format!("{loops}, think_time_ms: 400, duration_seconds: 5, warmup_seconds: 1"),
        params,
    );
    let start = now();
    bench(&lab, &engine, &[&thinking]).assert_exit(0);
    let took = start.elapsed();
    assert!(
        (Duration::from_secs(6)..Duration::from_secs(9)).contains(&took),
        "{took:?}"
    );
    // three users, each every half second
    assert_near(
        "requests",
        number(&results(&lab), "/total_requests"),
        30.0,
        10.0,
    );
}

#[test]
fn prompts_have_the_length_that_the_engine_counts() {
    for api in ["openai", "openai-chat"] {
        let lab = Lab::new();
        let engine = Engine::start(&["--ttft-ms", "100", "--gap-ms", "1"]);
        let arguments = [
            "--backend",
            api,
            "--model",
            "m",
            "--num-prompts",
            "10",
            "--random-input-len",
            "1024",
            "--random-output-len",
            "4",
        ];
        bench(&lab, &engine, &arguments).assert_exit(0);
        let results = results(&lab);
        for of in ["min", "avg", "max"] {
            let length = number(&results, &format!("/metrics/input_sequence_length/{of}"));
            assert_near(api, length, 1024.0, 5.0);
        }
        assert_eq!(results["metrics"]["output_sequence_length"]["avg"], 4.0);
        assert_eq!(results["tokens"]["counted_by"], "usage");
    }
}

#[test]
fn each_request_has_its_own_lengths() {
    for api in ["completions", "chat"] {
        let lab = Lab::new();
        let engine = Engine::start(&["--ttft-ms", "20", "--gap-ms", "1"]);
        let recipe = recipe(
            &lab,
            &format!("api: {api}, concurrent_users: 4, total_requests: 100, seed: 3"),
            "prompt_length: {uniform: [50, 450]}, max_tokens: {lognormal: {median: 6, sigma: 0.5, max: 30}}",
        );
        bench(&lab, &engine, &[&recipe, "--allow-invalid"]).assert_exit(0);
        let first = results(&lab);
        assert_eq!(first["successes"], 100);
        // asked and got, the template of the chat in it
        for (what, of) in [
            ("input", "min"),
            ("input", "avg"),
            ("input", "max"),
            ("output", "min"),
            ("output", "avg"),
            ("output", "max"),
        ] {
            let metric = |more: &str| {
                number(
                    &first,
                    &format!("/metrics/{what}_sequence_length{more}/{of}"),
                )
            };
            assert_near(
                &format!("{api} {what} {of}"),
                metric(""),
                metric("_asked"),
                2.0,
            );
        }
        assert_near(
            "mean",
            number(&first, "/metrics/input_sequence_length/avg"),
            250.0,
            15.0,
        );
        bench(&lab, &engine, &[&recipe, "--allow-invalid"]).assert_exit(0);
        let again = results(&lab);
        assert_eq!(first["stimulus_sha256"], again["stimulus_sha256"]);
        for of in ["min", "avg", "max", "p50"] {
            let of = format!("/metrics/input_sequence_length/{of}");
            assert_eq!(first.pointer(&of), again.pointer(&of), "{of}");
        }
    }
}

#[test]
fn a_trace_is_replayed_at_its_times_with_its_lengths() {
    let _alone = alone();
    let lab = Lab::new();
    let engine = Engine::start(&["--latency-ms", "100", "--gap-ms", "0"]);
    // ten a second for two seconds, a pause of one, forty a second for another
    let times = (0..20)
        .map(|n| n * 100)
        .chain((0..40).map(|n| 3000 + n * 25));
    let rows: Vec<String> = times
        .enumerate()
        .map(|(n, at)| {
            let (input, output) = (20 + n * 5, 1 + n % 7);
            format!(
                "{{\"timestamp\": {at}, \"input_length\": {input}, \"output_length\": {output}}}\n"
            )
        })
        .collect();
    let rows = rows.concat();
    lab.file("recipes-of-mine/day.jsonl", &rows);
    let text =
        "name: day\nservice_name: s\nworkload: {arrival: {process: trace, file: day.jsonl}}\n";
    lab.file("recipes-of-mine/day.yaml", text);
    let recipe = "recipes-of-mine/day.yaml";
    lab.run(&["recipes", "check", recipe]).assert_exit(0);
    bench(&lab, &engine, &[recipe]).assert_exit(0);
    let first = results(&lab);
    assert_eq!(first["total_requests"], 60);
    assert_eq!(first["workload"]["file"]["requests"], 60);
    for (second, wanted) in [(0, 10.0), (1, 10.0), (2, 0.0), (3, 40.0)] {
        let sent = number(&first, &format!("/slices/{second}/sent"));
        assert!((sent - wanted).abs() <= 1.0, "second {second}: {sent}");
    }
    let mean = |what: &str| number(&first, &format!("/metrics/{what}_sequence_length/avg"));
    assert_near("prompts", mean("input"), 20.0 + 29.5 * 5.0, 1.0);
    assert_near("answers", mean("output"), 3.9, 1.0);
    assert_ne!(first["validity"]["verdict"], "invalid");

    // the file counts, not its path
    bench(
        &lab,
        &engine,
        &[
            recipe,
            "--set",
            "workload.arrival.file=recipes-of-mine/day.jsonl",
        ],
    )
    .assert_exit(0);
    assert_eq!(first["stimulus_sha256"], results(&lab)["stimulus_sha256"]);

    lab.file("recipes-of-mine/day.jsonl", &format!("{rows}{{}}\n"));
    let ended = bench(&lab, &engine, &[recipe]);
    ended.assert_exit(65);
    let told = "recipes-of-mine/day.jsonl:61: missing field `timestamp`";
    assert!(ended.stderr.contains(told), "{}", ended.stderr);
    let checked = lab.run(&["recipes", "check", recipe]);
    checked.assert_exit(65);
    assert!(checked.stdout.contains(told), "{}", checked.stdout);
    let gone = bench(
        &lab,
        &engine,
        &[recipe, "--set", "workload.arrival.file=gone.jsonl"],
    );
    gone.assert_exit(66);
    assert!(gone.stderr.contains("gone.jsonl"), "{}", gone.stderr);
}

#[test]
fn prompts_of_a_group_begin_alike() {
    let lab = Lab::new();
    let engine = Engine::start(&["--ttft-ms", "20", "--gap-ms", "1"]);
    let recipe = recipe(
        &lab,
        "concurrent_users: 1, total_requests: 8",
        "model_name: m, prompt_length: 60, max_tokens: 2, shared_prefix: {groups: 2, length: 40}",
    );
    bench(&lab, &engine, &[&recipe]).assert_exit(0);
    let asked = engine.asked();
    assert_eq!(asked.len(), 8);
    let prompts: Vec<Vec<&str>> = asked
        .iter()
        .map(|asked| {
            asked["body"]["prompt"]
                .as_str()
                .expect("a prompt")
                .split(' ')
                .collect()
        })
        .collect();
    for (n, prompt) in prompts.iter().enumerate() {
        assert_eq!(prompt.len(), 60);
        assert_eq!(prompt[..40], prompts[n % 2][..40], "{n}");
    }
    assert_ne!(prompts[0][..4], prompts[1][..4]);
    assert_ne!(prompts[0][40..44], prompts[2][40..44]);
}

#[test]
fn prompts_come_from_files_of_each_form() {
    let lab = Lab::new();
    let engine = Engine::start(&["--ttft-ms", "20", "--gap-ms", "1"]);
    lab.file("r/p.txt", "one two three\nfour five\n");
    let messages = r#"{"messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "why"}], "max_tokens": 3}"#;
    lab.file(
        "r/p.jsonl",
        &format!("{messages}\n{{\"prompt\": \"how\"}}\n"),
    );
    let conversation = format!(
        r#"{{"conversations": [{{"from": "human", "value": "what is this thing"}}, {{"from": "gpt", "value": "{}"}}]}}"#,
        "x".repeat(28)
    );
    lab.file(
        "r/s.json",
        &format!("[{conversation}, {{\"conversations\": []}}]"),
    );
    let mut asked_before = 0;
    let mut sent = |api: &str, dataset: &str| {
        let text = format!(
            "name: file\nservice_name: s\nworkload: {{api: {api}, concurrent_users: 1, total_requests: 4}}\ndataset: {{{dataset}}}\n"
        );
        lab.file("r/file.yaml", &text);
        let ended = bench(&lab, &engine, &["r/file.yaml"]);
        ended.assert_exit(0);
        assert!(ended.stderr.contains("came again"), "{}", ended.stderr);
        let asked = engine.asked().split_off(asked_before);
        asked_before += asked.len();
        let mut bodies: Vec<Value> = asked
            .into_iter()
            .map(|asked| asked["body"].clone())
            .collect();
        bodies.sort_by_key(|body| std::cmp::Reverse(body["max_tokens"].as_u64()));
        (bodies, results(&lab))
    };
    let (bodies, found) = sent(
        "completions",
        "type: prompts, file: p.txt, params: {max_tokens: 5}",
    );
    let count = |prompt: &str| {
        bodies
            .iter()
            .filter(|body| body["prompt"] == prompt)
            .count()
    };
    assert_eq!((count("one two three"), count("four five")), (2, 2));
    assert_eq!(found["workload"]["file"]["requests"], 2);
    assert_eq!(found["workload"]["file"]["sent"], 4);

    let (bodies, _) = sent(
        "chat",
        "type: jsonl, file: p.jsonl, params: {max_tokens: 5}",
    );
    assert_eq!(bodies[0]["messages"][0]["content"], "how");
    assert_eq!(
        bodies[0]["max_tokens"], 5,
        "the recipe's, where the file has none"
    );
    assert_eq!(bodies[3]["messages"][0]["role"], "system");
    assert_eq!(bodies[3]["max_tokens"], 3, "the file's own");

    let (bodies, found) = sent("chat", "type: sharegpt, file: s.json");
    assert_eq!(bodies[0]["messages"][0]["content"], "what is this thing");
    assert_eq!(bodies[0]["max_tokens"], 7);
    assert_eq!(found["workload"]["file"]["passed_over"], 1);
    assert_eq!(found["metrics"]["output_sequence_length"]["avg"], 7.0);

    lab.file("r/p.jsonl", &format!("{messages}\n"));
    let refused = bench(
        &lab,
        &engine,
        &[
            "r/file.yaml",
            "--set",
            "dataset.type=jsonl",
            "--set",
            "dataset.file=r/p.jsonl",
            "--set",
            "workload.api=completions",
        ],
    );
    refused.assert_exit(65);
    let told = "r/p.jsonl:1: messages need `workload: {api: chat}`";
    assert!(refused.stderr.contains(told), "{}", refused.stderr);
}

#[test]
fn further_fields_and_headers_are_sent_and_kept_quiet() {
    let lab = Lab::new();
    let engine = Engine::start(&["--ttft-ms", "20", "--gap-ms", "1"]);
    let text = "\
name: more
service_name: s
target: {headers: {X-Tenant: blue-team, X-Session: '${MY_SESSION}'}}
workload: {concurrent_users: 1, total_requests: 2}
dataset: {params: {prompt_length: 16, max_tokens: 2, extra_body: {min_tokens: 2, bias: {'7': -1.5}}}}
";
    lab.file("more.yaml", text);
    let url = engine.url();
    let mut command = lab.aif(&["bench", "more.yaml", "--url", &url, "--out", "out"]);
    let ended = command
        .env("MY_SESSION", "sesame-7")
        .env("AIF_LOG", "debug")
        .output();
    let ended = ended.expect("aif starts");
    assert!(
        ended.status.success(),
        "{}",
        String::from_utf8_lossy(&ended.stderr)
    );
    let asked = engine.asked();
    assert_eq!(asked.len(), 2);
    for asked in asked {
        assert_eq!(asked["headers"]["x-tenant"], "blue-team");
        assert_eq!(asked["headers"]["x-session"], "sesame-7");
        assert_eq!(asked["body"]["min_tokens"], 2);
        assert_eq!(asked["body"]["bias"]["7"], -1.5);
    }
    let log = String::from_utf8_lossy(&ended.stderr).into_owned();
    let manifest = lab.json("manifest.json").to_string();
    for told in [&log, &manifest, &results(&lab).to_string()] {
        assert!(!told.contains("sesame-7"), "{told}");
    }
}

#[test]
fn an_invalid_result_is_a_failure_unless_it_is_allowed() {
    let lab = Lab::new();
    let engine = Engine::start(&["--latency-ms", "500", "--gap-ms", "0"]);
    let arguments = [
        "--model",
        "m",
        "--request-rate",
        "30",
        "--max-concurrency",
        "1",
        "--duration",
        "2s",
        "--random-output-len",
        "2",
    ];
    let ended = bench(&lab, &engine, &arguments);
    ended.assert_exit(80);
    let results = results(&lab);
    assert_eq!(results["validity"]["verdict"], "invalid");
    assert!(number(&results, "/generator/dropped") > 10.0, "{results:#}");
    assert_near(
        "requests, without those that were dropped",
        number(&engine.stats(), "/requests"),
        number(&results, "/successes") + probes(&results),
        0.0,
    );
    let mut allowed = arguments.to_vec();
    allowed.push("--allow-invalid");
    bench(&lab, &engine, &allowed).assert_exit(0);
}

#[test]
fn without_a_stream_there_is_one_chunk_at_the_end() {
    let lab = Lab::new();
    let engine = Engine::start(&["--latency-ms", "100"]);
    let recipe = recipe(
        &lab,
        "api: chat, stream: false, pattern: closed-loop, concurrent_users: 2, total_requests: 10",
        "prompt_length: 32, max_tokens: 5",
    );
    bench(&lab, &engine, &[&recipe]).assert_exit(0);
    let results = results(&lab);
    assert_eq!(results["successes"], 10);
    assert_eq!(
        results["target"]["model"], "scripted",
        "asked of the engine"
    );
    assert_eq!(results["metrics"]["output_sequence_length"]["avg"], 5.0);
    assert!(results["metrics"].get("inter_token_latency").is_none());
}

#[test]
fn errors_are_counted_by_what_they_are() {
    let lab = Lab::new();
    let engine = Engine::start(&[
        "--ttft-ms",
        "100",
        "--gap-ms",
        "1",
        "--fail-percent",
        "10",
        "--drop-after",
        "2",
        "--drop-every",
        "5",
    ]);
    let recipe = recipe(
        &lab,
        "pattern: closed-loop, concurrent_users: 5, total_requests: 100",
        "model_name: m, prompt_length: 16, max_tokens: 8",
    );
    bench(&lab, &engine, &[&recipe]).assert_exit(0);
    let results = results(&lab);
    let total = number(&results, "/successes") + number(&results, "/errors");
    assert_near("all", total, 100.0, 0.0);
    assert_near(
        "503",
        number(&results, "/errors_by_class/http_503"),
        10.0,
        10.0,
    );
    assert_near(
        "broken",
        number(&results, "/errors_by_class/broken_stream"),
        18.0,
        10.0,
    );
    let said = results["error_samples"].to_string();
    assert!(said.contains("told to fail"), "{said}");
}

#[test]
fn a_service_that_is_not_there_is_one_sentence() {
    let lab = Lab::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its number").port();
    drop(listener);
    let url = format!("http://127.0.0.1:{port}");
    for more in [&["--model", "m"][..], &[]] {
        let mut arguments = vec!["bench", "--url", &url, "--num-prompts", "3"];
        arguments.extend(more);
        let ended = lab.run(&arguments);
        ended.assert_exit(69);
        let told: Vec<_> = (ended.stderr.lines())
            .filter(|line| line.contains(&format!("127.0.0.1:{port}")))
            .collect();
        assert_eq!(told.len(), 1, "{}", ended.stderr);
        assert!(
            ended.stderr.to_lowercase().contains("connection refused"),
            "{}",
            ended.stderr
        );
    }
    lab.assert_nothing_left();
}

#[test]
fn flags_that_are_saved_as_a_recipe_ask_the_same() {
    let lab = Lab::new();
    let engine = Engine::start(&["--ttft-ms", "100", "--gap-ms", "1"]);
    let arguments = [
        "--model",
        "m",
        "--max-concurrency",
        "2",
        "--num-prompts",
        "6",
        "--random-input-len",
        "20",
        "--random-output-len",
        "3",
        "--goodput",
        "ttft:500",
        "--seed",
        "5",
        "--save-recipe",
        "saved.yaml",
    ];
    bench(&lab, &engine, &arguments).assert_exit(0);
    let first = results(&lab);
    lab.run(&["recipes", "check", "saved.yaml"]).assert_exit(0);
    bench(&lab, &engine, &["saved.yaml"]).assert_exit(0);
    let second = results(&lab);
    assert_eq!(second["total_requests"], 6);
    for key in ["stimulus_sha256", "load", "workload"] {
        assert_eq!(first[key], second[key], "{key}");
    }
    assert_eq!(second["metrics"]["slo_attainment"]["avg"], 1.0);
}

#[test]
fn told_to_end_it_keeps_what_it_has() {
    let lab = Lab::new();
    let engine = Engine::start(&["--latency-ms", "200", "--gap-ms", "0"]);
    let url = engine.url();
    let running = lab.start(&[
        "bench",
        "--url",
        &url,
        "--out",
        "out",
        "--model",
        "m",
        "--max-concurrency",
        "4",
        "--duration",
        "60s",
        "--random-output-len",
        "2",
    ]);
    wait_until(Duration::from_secs(20), "it loads", || {
        number(&engine.stats(), "/requests") > 20.0
    });
    let start = now();
    running.signal(Signal::SIGTERM);
    running.end().assert_exit(143);
    assert!(start.elapsed() < Duration::from_secs(5));
    let results = results(&lab);
    assert_eq!(results["completeness"], "interrupted");
    assert!(number(&results, "/successes") > 10.0, "{results:#}");
    assert_eq!(results["errors"], 0, "what was in flight came to its end");
    // the window is as long as the load came, so the rate stays true
    assert_near(
        "throughput",
        number(&results, "/throughput_req_per_sec"),
        20.0,
        15.0,
    );
    let reasons = results["validity"]["reasons"].to_string();
    assert!(reasons.contains("interrupted"), "{reasons}");
    assert_eq!(lab.json("manifest.json")["state"], "interrupted");
    lab.assert_nothing_left();
}

/// A bench on an engine, of a process that may have so many open files at the most.
fn with_files(files: u32, lab: &Lab, engine: &Engine, arguments: &[&str]) -> crate::lab::Ended {
    let url = engine.url();
    let inner = lab.aif(&[]);
    let mut shell = std::process::Command::new("sh");
    shell
        // each worker has files of its own, and there are as many as cores
        .args([
            "-c",
            &format!("ulimit -n {files}; exec taskset -c \"$(taskset -cp $$ | sed 's/.*: //; s/[,-].*//')\" \"$0\" \"$@\""),
        ])
        .arg(inner.get_program())
        .args(["bench", "--url", &url, "--out", "out", "--model", "m"])
        .args(arguments)
        .env_clear()
        .current_dir(lab.path())
        .stdin(std::process::Stdio::null());
    for (name, value) in inner.get_envs() {
        shell.env(name, value.expect("a value"));
    }
    crate::lab::Ended::of(&shell.output().expect("a shell"))
}

#[test]
fn a_machine_out_of_open_files_is_not_a_lost_service() {
    let lab = Lab::new();
    let engine = Engine::start(&["--latency-ms", "1000", "--gap-ms", "0"]);
    let ended = with_files(
        96,
        &lab,
        &engine,
        &[
            "--request-rate",
            "200",
            "--duration",
            "3s",
            "--random-output-len",
            "2",
        ],
    );
    ended.assert_exit(80);
    let results = results(&lab);
    assert_eq!(results["completeness"], "complete");
    assert!(number(&results, "/errors_by_class/local_limit") > 5.0);
    assert!(results["errors_by_class"]["refused"].is_null());
    assert!(number(&results, "/successes") > 5.0, "{results:#}");
    let reasons = results["validity"]["reasons"].to_string();
    assert!(reasons.contains("open files or local ports"), "{reasons}");

    let users = ["--max-concurrency", "500", "--num-prompts", "500"];
    let ended = with_files(96, &lab, &engine, &users);
    ended.assert_exit(65);
    assert!(ended.stderr.contains("500 users"), "{}", ended.stderr);
    lab.assert_nothing_left();
}
