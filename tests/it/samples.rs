//! What a bench leaves besides its result, as a user has it: the real binary, an engine whose answers are known.

use std::{collections::BTreeMap, path::Path, time::Duration};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::lab::{Engine, Lab, assert_near, wait_until};

fn json(path: &Path) -> Value {
    let text = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn results(lab: &Lab) -> Value {
    json(&lab.path().join("out/results.json"))
}

fn recipe(lab: &Lab, workload: &str, more: &str) -> String {
    let params = "model_name: m, prompt_length: {uniform: [12, 20]}, max_tokens: {uniform: [2, 9]}";
    let text = format!(
        "name: load\nservice_name: s\ntarget: {{timeout_seconds: 2}}\nworkload: {{{workload}}}\ndataset: {{type: synthetic, params: {{{params}}}}}\n{more}\n"
    );
    lab.file("load.yaml", &text).display().to_string()
}

/// Runs a bench whose result may be invalid: machines that test are busy.
fn bench(lab: &Lab, engine: &Engine, recipe: &str) {
    let url = engine.url();
    let arguments = [
        "bench",
        recipe,
        "--url",
        &url,
        "--out",
        "out",
        "--allow-invalid",
    ];
    lab.run(&arguments).assert_exit(0);
}

/// What is in the folder of the results.
fn left(lab: &Lab) -> Vec<String> {
    let entries = std::fs::read_dir(lab.path().join("out")).expect("a folder");
    let mut names: Vec<String> = entries
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("text")
        })
        .collect();
    names.sort();
    names
}

const ALL: [&str; 5] = [
    "histograms.hlog",
    "results.csv",
    "results.json",
    "samples.parquet",
    "vllm.json",
];

#[test]
fn samples_give_the_same_result_again() {
    let lab = Lab::new();
    // of 300 requests some fail, of each kind
    let engine = Engine::start(&[
        "--latency-ms",
        "5",
        "--gap-ms",
        "1",
        "--drop-after",
        "1",
        "--drop-every",
        "7",
    ]);
    for (workload, slo) in [
        (
            "pattern: open-loop, requests_per_second: 150, duration_seconds: 2, warmup_seconds: 0.5, max_in_flight: 3",
            "slo: {ttft_ms: 30, tpot_ms: 20}",
        ),
        (
            "pattern: closed-loop, concurrent_users: 4, total_requests: 60, warmup_seconds: 0.3",
            "",
        ),
        (
            "pattern: closed-loop, concurrent_users: 4, requests_per_user: 10, stream: false",
            "",
        ),
    ] {
        bench(&lab, &engine, &recipe(&lab, workload, slo));
        assert_eq!(left(&lab), ALL, "{workload}");
        let there = results(&lab);
        assert_eq!(there["samples"]["missing"], 0);
        assert!(there["samples"]["rows"].as_u64() >= there["total_requests"].as_u64());
        let fails = !workload.contains("stream: false");
        assert_eq!(there["errors"].as_u64() > Some(0), fails, "{workload}");
        assert!(there["metrics"]["input_sequence_length_asked"].is_object());

        let same = lab.run(&["report", "out", "--recompute"]);
        same.assert_exit(0);
        assert!(same.stdout.contains("is what its"), "{}", same.stdout);

        // of another result every number is made again, to the last digit and the last key
        let path = lab.path().join("out/results.json");
        let text = std::fs::read_to_string(&path).expect("a result");
        std::fs::remove_file(&path).expect("removed");
        let made = lab.run(&["report", "out", "--recompute"]);
        made.assert_exit(0);
        assert!(made.stdout.contains("was made from"), "{}", made.stdout);
        let again = std::fs::read_to_string(&path).expect("a result");
        assert_eq!(again, text, "{workload}");
    }
}

#[test]
fn tokens_told_with_each_chunk_weigh_its_gap_and_are_kept() {
    let lab = Lab::new();
    // chunks of three tokens and of one in turn, 40 ms apart
    let engine = Engine::start(&["--gap-ms", "40", "--tokens-per-chunk", "3", "--uneven"]);
    let recipe = |extra: &str| {
        let text = format!(
            "name: load\nservice_name: s\nworkload: {{api: chat, concurrent_users: 2, total_requests: 12}}\ndataset: {{params: {{max_tokens: 8{extra}}}}}\n"
        );
        lab.file("load.yaml", &text).display().to_string()
    };
    let itl = || results(&lab)["metrics"]["inter_token_latency"].clone();
    bench(&lab, &engine, &recipe(""));
    let near = |name: &str, wanted: f64| {
        let found = itl()[name].as_f64().expect("a number");
        assert_near(name, found, wanted, 15.0);
    };
    near("p50", 20.0);

    let options = ", extra_body: {stream_options: {continuous_usage_stats: true}}";
    bench(&lab, &engine, &recipe(options));
    let asked = engine.asked().pop().expect("a request");
    let wanted = serde_json::json!({"continuous_usage_stats": true, "include_usage": true});
    assert_eq!(asked["body"]["stream_options"], wanted);
    // of five gaps three are of a third
    near("p50", 40.0 / 3.0);
    near("avg", 120.0 / 5.0);

    let path = lab.path().join("out/results.json");
    let text = std::fs::read_to_string(&path).expect("a result");
    std::fs::remove_file(&path).expect("removed");
    lab.run(&["report", "out", "--recompute"]).assert_exit(0);
    assert_eq!(std::fs::read_to_string(&path).expect("a result"), text);
}

#[test]
fn what_would_take_token_counts_away_is_refused() {
    let lab = Lab::new();
    for (workload, options, said) in [
        (
            "stream: false, total_requests: 1",
            "{continuous_usage_stats: true}",
            "\"stream_options\" is of streams of chats and completions: take it out",
        ),
        (
            "total_requests: 1",
            "{include_usage: false}",
            "aif wants the service's token counts: take \"include_usage\" out",
        ),
        (
            "total_requests: 1",
            "yes",
            "\"stream_options\" wants fields, such as {continuous_usage_stats: true}",
        ),
    ] {
        let text = format!(
            "name: load\nservice_name: s\nworkload: {{{workload}}}\ndataset: {{params: {{extra_body: {{stream_options: {options}}}}}}}\n"
        );
        lab.file("load.yaml", &text);
        let refused = lab.run(&["bench", "load.yaml", "--url", "http://127.0.0.1:1"]);
        refused.assert_exit(65);
        assert!(refused.stderr.contains(said), "{}", refused.stderr);
    }
}

#[test]
fn conversations_and_every_load_of_a_series_are_counted_again() {
    let lab = Lab::new();
    let engine = Engine::start(&["--latency-ms", "5", "--gap-ms", "1"]);
    let turns = "api: chat, concurrent_users: 3, total_requests: 20, conversation: {turns: 3}";
    bench(&lab, &engine, &recipe(&lab, turns, ""));
    let there = results(&lab);
    assert_eq!(there["turns"].as_array().map(Vec::len), Some(3));
    assert!(there["conversations"]["completed"].as_u64() > Some(0));
    lab.run(&["report", "out", "--recompute"]).assert_exit(0);

    let sweep = "sweep: {concurrent_users: [1, 2]}, total_requests: 10, pause_seconds: 0";
    bench(&lab, &engine, &recipe(&lab, sweep, "slo: {ttft_ms: 1000}"));
    assert_eq!(results(&lab).get("samples"), None);
    let told = lab.run(&["report", "out", "--recompute", "--json"]);
    told.assert_exit(0);
    let told: Value = serde_json::from_str(&told.stdout).expect("JSON");
    let folders: Vec<&str> = told
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|load| load["folder"].as_str())
        .collect();
    let wanted = ["out/levels/01-1users", "out/levels/02-2users"];
    assert_eq!(folders, wanted);
    for load in wanted {
        let load = json(&lab.path().join(load).join("results.json"));
        assert_eq!(load["samples"]["rows"], 10);
    }
    // two results, and one place for a file
    let ended = lab.run(&["report", "out", "--format", "csv", "--out", "there"]);
    ended.assert_exit(64);
}

#[test]
fn a_result_that_its_samples_do_not_bear_is_told() {
    let lab = Lab::new();
    let engine = Engine::start(&["--latency-ms", "5", "--gap-ms", "1"]);
    let load = recipe(&lab, "concurrent_users: 2, total_requests: 20", "");
    bench(&lab, &engine, &load);
    let mut changed = results(&lab);
    changed["metrics"]["request_latency"]["avg"] = 1.5.into();
    changed["successes"] = 21.into();
    lab.file("out/results.json", &changed.to_string());
    let told = lab.run(&["report", "out", "--recompute"]);
    told.assert_exit(80);
    for words in [
        "in 2 places",
        "/successes: 21 there, 20 here",
        "/metrics/request_latency/avg: 1.5 there",
    ] {
        assert!(told.stdout.contains(words), "{}", told.stdout);
    }
    let told = lab.run(&["report", "out", "--recompute", "--json"]);
    told.assert_exit(80);
    let told: Value = serde_json::from_str(&told.stdout).expect("JSON");
    assert_eq!(told[0]["samples"], 20);
    assert_eq!(told[0]["differences"].as_array().map(Vec::len), Some(2));

    // half a file is none
    let path = lab.path().join("out/samples.parquet");
    let bytes = std::fs::read(&path).expect("samples");
    std::fs::File::create(&path)
        .and_then(|mut file| std::io::Write::write_all(&mut file, &bytes[..bytes.len() / 2]))
        .expect("cut");
    let told = lab.run(&["report", "out", "--recompute"]);
    told.assert_exit(66);
    assert!(told.stderr.contains("samples.parquet"), "{}", told.stderr);
    std::fs::remove_file(&path).expect("removed");
    let told = lab.run(&["report", "out", "--recompute"]);
    told.assert_exit(66);
    assert!(told.stderr.contains("has no samples"), "{}", told.stderr);
}

#[test]
fn a_bench_that_is_told_to_end_closes_its_samples_and_one_that_is_killed_leaves_none() {
    let lab = Lab::new();
    let engine = Engine::start(&["--latency-ms", "20", "--gap-ms", "1"]);
    let load = recipe(&lab, "concurrent_users: 2, duration_seconds: 60", "");
    let url = engine.url();
    let arguments = [
        "bench",
        &load,
        "--url",
        &url,
        "--out",
        "out",
        "--allow-invalid",
    ];
    let answered = || engine.stats()["requests"].as_u64() > Some(20);

    let started = lab.start(&arguments);
    wait_until(Duration::from_secs(30), "the load runs", answered);
    started.signal(Signal::SIGTERM);
    started.end().assert_exit(143);
    let there = results(&lab);
    assert_eq!(there["completeness"], "interrupted");
    assert!(there["samples"]["rows"].as_u64() > Some(0));
    lab.run(&["report", "out", "--recompute"]).assert_exit(0);

    let engine = Engine::start(&["--latency-ms", "20", "--gap-ms", "1"]);
    let url = engine.url();
    let arguments = [
        "bench",
        &load,
        "--url",
        &url,
        "--out",
        "out",
        "--allow-invalid",
    ];
    let started = lab.start(&arguments);
    wait_until(Duration::from_secs(30), "the load runs", || {
        engine.stats()["requests"].as_u64() > Some(20)
    });
    started.signal(Signal::SIGKILL);
    started.end();
    assert!(!left(&lab).contains(&"samples.parquet".to_owned()));
    // what it began with goes with the next one
    let load = recipe(&lab, "concurrent_users: 2, total_requests: 10", "");
    bench(&lab, &engine, &load);
    assert_eq!(left(&lab), ALL);
}

#[test]
fn a_recipe_may_want_no_samples_and_a_disk_may_have_no_room_for_them() {
    let lab = Lab::new();
    let engine = Engine::start(&["--latency-ms", "5", "--gap-ms", "1"]);
    let load = "concurrent_users: 2, total_requests: 10";
    bench(
        &lab,
        &engine,
        &recipe(&lab, load, "output: {samples: false}"),
    );
    assert!(!left(&lab).contains(&"samples.parquet".to_owned()));
    assert_eq!(results(&lab).get("samples"), None);

    // a file of its name that cannot be removed
    lab.file("out/samples.parquet/in_the_way", "");
    let load = recipe(&lab, load, "");
    let url = engine.url();
    let ended = lab.run(&[
        "bench",
        &load,
        "--url",
        &url,
        "--out",
        "out",
        "--allow-invalid",
    ]);
    ended.assert_exit(0);
    let there = results(&lab);
    assert_eq!(there["total_requests"], 10);
    assert_eq!(there["samples"]["rows"], 0);
    let error = there["samples"]["error"].as_str().expect("an error");
    assert!(error.contains("samples.parquet"), "{error}");
    assert!(ended.stderr.contains("no samples"), "{}", ended.stderr);
}

#[test]
fn a_result_has_the_form_of_its_schema() {
    let lab = Lab::new();
    let engine = Engine::start(&[
        "--latency-ms",
        "5",
        "--gap-ms",
        "1",
        "--drop-after",
        "1",
        "--drop-every",
        "7",
    ]);
    let load = recipe(
        &lab,
        "requests_per_second: 100, duration_seconds: 1",
        "slo: {ttft_ms: 30}",
    );
    bench(&lab, &engine, &load);
    let printed = lab.run(&["report", "--schema"]);
    printed.assert_exit(0);
    let schema: Value = serde_json::from_str(&printed.stdout).expect("JSON");
    let form = jsonschema::validator_for(&schema).expect("a schema");
    let mut there = results(&lab);
    let faults: Vec<String> = form
        .iter_errors(&there)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(faults.is_empty(), "{faults:#?}");
    there["successes"] = "many".into();
    assert!(!form.is_valid(&there));
}

#[test]
fn other_tools_formats_are_made_of_samples() {
    let lab = Lab::new();
    let engine = Engine::start(&[
        "--latency-ms",
        "20",
        "--gap-ms",
        "2",
        "--drop-after",
        "1",
        "--drop-every",
        "7",
    ]);
    let load = recipe(
        &lab,
        "concurrent_users: 2, total_requests: 70",
        "slo: {ttft_ms: 1000}",
    );
    bench(&lab, &engine, &load);
    let there = results(&lab);
    let written = |format: &str, name: &str, more: &[&str]| {
        let mut arguments = vec!["report", "out", "--format", format];
        arguments.extend(more);
        let ended = lab.run(&arguments);
        ended.assert_exit(0);
        assert!(ended.stdout.trim_end().ends_with(name), "{}", ended.stdout);
        std::fs::read_to_string(ended.stdout.trim_end()).unwrap_or_else(|_| {
            let path = lab.path().join(ended.stdout.trim_end());
            std::fs::read_to_string(&path).expect("a file")
        })
    };

    let aiperf = written("aiperf", "profile_export_aiperf.json", &[]);
    let aiperf: Value = serde_json::from_str(&aiperf).expect("JSON");
    assert_eq!(aiperf["schema_version"], "1.4");
    assert_eq!(
        aiperf["request_count"]["avg"].as_f64(),
        there["successes"].as_f64()
    );
    assert_eq!(
        aiperf["error_request_count"]["avg"].as_f64(),
        there["errors"].as_f64()
    );
    assert_eq!(
        aiperf["good_request_count"]["avg"].as_f64(),
        there["successes"].as_f64()
    );
    // there, connecting is part of a request
    let connecting = &there["metrics"]["http_req_connecting"];
    let connecting = ["avg", "count"]
        .map(|of| connecting[of].as_f64().unwrap_or(0.0))
        .iter()
        .product::<f64>();
    for (name, connecting) in [
        ("time_to_first_token", connecting),
        ("request_latency", connecting),
        ("inter_chunk_latency", 0.0),
    ] {
        let (found, wanted) = (&aiperf[name], &there["metrics"][name]);
        assert_eq!(found["unit"], "ms");
        assert_eq!(found["count"], wanted["count"], "{name}");
        let of = |value: &Value| value["avg"].as_f64().expect("a number");
        let count = wanted["count"].as_f64().expect("a number");
        assert_near(name, of(found), of(wanted) + connecting / count, 0.001);
    }

    // the bench wrote the same, but for the arrays
    let before = json(&lab.path().join("out/vllm.json"));
    let vllm = written("vllm", "vllm.json", &["--detailed"]);
    let vllm: BTreeMap<String, Value> = serde_json::from_str(&vllm).expect("JSON");
    for (key, value) in before.as_object().expect("an object") {
        assert_eq!(&vllm[key], value, "{key}");
    }
    let all = there["total_requests"].as_u64();
    let arrays = [
        "input_lens",
        "output_lens",
        "ttfts",
        "itls",
        "start_times",
        "errors",
    ];
    for key in arrays {
        let length = vllm[key].as_array().map(|array| array.len() as u64);
        assert_eq!(length, all, "{key}");
    }
    let sum = |key: &str| -> u64 {
        let all = vllm[key].as_array().expect("an array").iter();
        all.filter_map(Value::as_u64).sum()
    };
    assert_eq!(
        Some(sum("output_lens")),
        vllm["total_output_tokens"].as_u64()
    );
    let failed = vllm["errors"].as_array().expect("an array").iter();
    let failed = failed.filter(|error| error.as_str() != Some("")).count();
    assert_eq!(Some(failed as u64), there["errors"].as_u64());
    let gaps = vllm["itls"].as_array().expect("an array").iter();
    let gaps: usize = gaps.map(|gaps| gaps.as_array().map_or(0, Vec::len)).sum();
    // the event that names the role is a chunk there
    let chunks = there["metrics"]["inter_chunk_latency"]["count"].as_u64();
    let answers = there["successes"].as_u64();
    assert_eq!(
        chunks.zip(answers).map(|(one, other)| one + other),
        Some(gaps as u64)
    );

    let csv = std::fs::read_to_string(lab.path().join("out/results.csv")).expect("a file");
    assert_eq!(written("csv", "results.csv", &[]), csv);
    lab.run(&["report", "nowhere", "--format", "csv"])
        .assert_exit(66);
    lab.run(&["report", "out", "--format", "xml"])
        .assert_exit(64);
}

#[test]
fn events_without_text_are_counted_again_as_the_bench_counted_them() {
    let lab = Lab::new();
    let engine = Engine::start(&["--latency-ms", "5", "--gap-ms", "6", "--silent", "2"]);
    let load = recipe(
        &lab,
        "concurrent_users: 2, total_requests: 12",
        "slo: {ttft_ms: 1000, tpot_ms: 1000}",
    );
    bench(&lab, &engine, &load);
    let path = lab.path().join("out/vllm.json");
    let there = json(&path);
    // role, chunks, the reason of the end, and two in each gap: far more than the gaps of chunks
    let chunks = results(&lab)["metrics"]["inter_chunk_latency"]["count"].clone();
    let chunks = chunks.as_f64().expect("a number");
    let peak = there["max_output_tokens_per_s"].as_f64();
    assert!(peak > Some(chunks), "{peak:?} of {chunks}");
    lab.run(&["report", "out", "--format", "vllm"])
        .assert_exit(0);
    assert_eq!(json(&path), there);
}

#[test]
fn histograms_are_read_by_others_and_have_the_percentiles_of_the_result() {
    use base64::Engine as _;
    use hdrhistogram::{
        Histogram,
        serialization::{
            Deserializer,
            interval_log::{IntervalLogIterator, LogEntry},
        },
    };

    let lab = Lab::new();
    let engine = Engine::start(&["--latency-ms", "5", "--gap-ms", "1"]);
    let load = recipe(&lab, "concurrent_users: 4, total_requests: 100", "");
    bench(&lab, &engine, &load);
    let there = results(&lab);
    let log = std::fs::read(lab.path().join("out/histograms.hlog")).expect("a log");
    let mut read: BTreeMap<String, Histogram<u64>> = BTreeMap::new();
    for entry in IntervalLogIterator::new(&log) {
        if let LogEntry::Interval(interval) = entry.expect("an entry") {
            let code = base64::engine::general_purpose::STANDARD;
            let bytes = code.decode(interval.encoded_histogram()).expect("base64");
            let histogram = Deserializer::new().deserialize(&mut &*bytes);
            let tag = interval.tag().expect("a tag").as_str().to_owned();
            read.insert(tag, histogram.expect("a histogram"));
        }
    }
    for name in [
        "time_to_first_token",
        "time_to_first_token_scheduled",
        "inter_token_latency",
        "inter_chunk_latency",
        "time_per_output_token",
        "request_latency",
        "request_latency_scheduled",
        "dispatch_delay",
    ] {
        let (told, histogram) = (&there["metrics"][name], &read[name]);
        assert_eq!(told["count"].as_u64(), Some(histogram.len()), "{name}");
        let micros = histogram.value_at_quantile(0.5) as f64;
        let wanted = told["p50"].as_f64().expect("a median") * 1000.0;
        assert!(
            (micros - wanted).abs() <= (wanted * 1e-3).max(1.0),
            "{name}: {micros}, not {wanted}"
        );
    }
    assert_eq!(read["lateness"].len(), 100);
    assert!(!read["loop_delay"].is_empty());
}
