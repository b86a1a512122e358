//! `--calibrate`: the generator against an engine of known times, after the load and beside its numbers.

use serde_json::Value;

use crate::lab::{Engine, Lab, alone, assert_near};

fn read(lab: &Lab, name: &str) -> String {
    let path = lab.path().join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn results(lab: &Lab, folder: &str) -> Value {
    serde_json::from_str(&read(lab, &format!("{folder}/results.json"))).expect("JSON")
}

fn number(value: &Value, pointer: &str) -> f64 {
    let found = value.pointer(pointer).and_then(Value::as_f64);
    found.unwrap_or_else(|| panic!("no {pointer} in {value:#}"))
}

fn reasons(results: &Value) -> String {
    results["validity"]["reasons"].to_string()
}

const OF_A_STREAM: [&str; 5] = [
    "inter_token_latency",
    "request_latency",
    "stamp_delay",
    "time_per_output_token",
    "time_to_first_token",
];

#[test]
fn errors_stand_beside_the_numbers_that_they_are_of() {
    let _alone = alone();
    let lab = Lab::new();
    let engine = Engine::start(&["--latency-ms", "40", "--gap-ms", "5"]);
    let url = engine.url();
    let mut command = vec!["bench", "--url", &url, "--out", "out", "--model", "m"];
    command.extend(["--max-concurrency", "4", "--num-prompts", "120"]);
    command.extend(["--random-output-len", "8", "--backend", "openai-chat"]);
    // whatever a busy machine makes of the times
    command.push("--allow-invalid");
    let plain = lab.run(&command);
    plain.assert_exit(0);
    assert_eq!(results(&lab, "out").get("certificate"), None);
    assert!(!plain.stdout.contains('±'), "{}", plain.stdout);
    let asked = number(&engine.stats(), "/requests");

    command.push("--calibrate");
    let certified = lab.run(&command);
    certified.assert_exit(0);
    let results = results(&lab, "out");
    // the kernel begins to stamp a moment after it was asked
    assert!(number(&results, "/generator/kernel_stamped_share") > 0.5);
    assert!(number(&results, "/generator/read_delay_p50_ms") >= 0.0);
    let certificate = &results["certificate"];
    // not to the service: that is asked as often as without
    assert_near(
        "asked",
        number(&engine.stats(), "/requests"),
        2.0 * asked,
        0.0,
    );
    assert_eq!(certificate["requests"], 120);
    assert!(number(certificate, "/seconds") < 12.0);
    // as fast as the service
    for (engine, of) in [
        ("engine_first_ms", "time_to_first_token"),
        ("engine_gap_ms", "time_per_output_token"),
    ] {
        let median = number(&results, &format!("/metrics/{of}/p50"));
        let told = number(certificate, &format!("/{engine}"));
        assert!((told - median).abs() < 0.01, "{engine}: {told}, {median}");
    }
    let errors = certificate["errors"].as_object().expect("errors");
    assert_eq!(errors.keys().collect::<Vec<_>>(), OF_A_STREAM);
    for (name, error) in errors {
        assert_eq!(error["unit"], "ms");
        let (p50, max) = (number(error, "/p50"), number(error, "/max"));
        // how large they are is the machine's to say
        assert!(p50 > 0.0 && p50 <= max, "{name}: {error}");
    }
    assert_eq!(errors["time_to_first_token"]["count"], 120);
    assert_eq!(errors["inter_token_latency"]["count"], 120 * 7);
    for text in [&certified.stdout, &read(&lab, "out/results.json")] {
        assert!(!text.contains("aif_request"), "{text}");
    }
    let shown = &certified.stdout;
    let mut lines = shown.lines();
    let first = lines.find(|line| line.trim().starts_with("time to first token (ms)"));
    assert!(first.is_some_and(|line| line.contains('±')), "{shown}");
    assert!(shown.contains("to an engine of known times"), "{shown}");
    let mut table = shown.lines().filter(|line| line.contains('±'));
    assert!(table.all(|line| line.chars().count() <= 100), "{shown}");
    lab.assert_nothing_left();
}

#[test]
fn it_is_a_key_of_a_recipe_and_stands_in_the_report() {
    let _alone = alone();
    let lab = Lab::new();
    let engine = Engine::start(&["--latency-ms", "30", "--gap-ms", "4"]);
    lab.file(
        "load.yaml",
        "name: load\nservice_name: s\nworkload: {requests_per_second: 40, duration_seconds: 3, warmup_seconds: 1, calibrate: true}\ndataset: {params: {model_name: m, prompt_length: 16, max_tokens: {uniform: [2, 9]}}}\n",
    );
    let url = engine.url();
    lab.run(&["bench", "load.yaml", "--url", &url, "--allow-invalid"])
        .assert_exit(0);
    let results = lab.json("bench/load/results.json");
    let certificate = &results["certificate"];
    // the same rate over the same window
    let (rate, asked) = (number(certificate, "/achieved_rate"), 40.0);
    assert!((rate - asked).abs() < 8.0, "{rate}");
    let (first, offered) = (number(certificate, "/requests"), 120.0);
    assert!((first - offered).abs() < 40.0, "{first}");
    let folder = lab.run_folder();
    for (name, words) in [
        ("report.md", ["| error |", "±"]),
        ("report.html", ["against an engine of known times", "±"]),
    ] {
        let text = read(&lab, &folder.join(name).display().to_string());
        for words in words {
            assert!(text.contains(words), "{words:?} in {name}");
        }
    }
    lab.assert_nothing_left();
}

#[test]
fn a_load_that_streams_nothing_has_the_errors_that_it_can_have() {
    let _alone = alone();
    let lab = Lab::new();
    let engine = Engine::start(&["--latency-ms", "10", "--gap-ms", "1"]);
    lab.file(
        "load.yaml",
        "name: load\nservice_name: s\nworkload: {concurrent_users: 2, total_requests: 20, stream: false, calibrate: true}\ndataset: {params: {model_name: m, max_tokens: 4}}\n",
    );
    let url = engine.url();
    let mut command = vec!["bench", "load.yaml", "--url", &url, "--out", "out"];
    command.push("--allow-invalid");
    lab.run(&command).assert_exit(0);
    let results = results(&lab, "out");
    let errors = results["certificate"]["errors"].as_object();
    let names: Vec<_> = errors.expect("errors").keys().collect();
    assert_eq!(
        names,
        ["request_latency", "stamp_delay", "time_to_first_token"]
    );
}

#[test]
fn a_service_that_never_answered_leaves_nothing_to_certify() {
    let _alone = alone();
    let lab = Lab::new();
    let engine = Engine::start(&["--latency-ms", "1", "--gap-ms", "1", "--drop-after", "3"]);
    let url = engine.url();
    let mut command = vec!["bench", "--url", &url, "--out", "out", "--model", "m"];
    command.extend(["--num-prompts", "3", "--calibrate"]);
    lab.run(&command).assert_exit(80);
    let results = results(&lab, "out");
    assert_eq!(results.get("certificate"), None);
    assert!(
        reasons(&results).contains("no request succeeded"),
        "{results:#}"
    );
}

#[test]
fn turns_of_a_conversation_are_told_apart() {
    let _alone = alone();
    let lab = Lab::new();
    let engine = Engine::start(&["--latency-ms", "10", "--gap-ms", "1"]);
    lab.file(
        "load.yaml",
        "name: load\nservice_name: s\nworkload: {api: chat, concurrent_users: 2, total_requests: 24, conversation: {turns: 4}, calibrate: true}\ndataset: {params: {model_name: m, max_tokens: 4}}\n",
    );
    let url = engine.url();
    let mut command = vec!["bench", "load.yaml", "--url", &url, "--out", "out"];
    command.push("--allow-invalid");
    lab.run(&command).assert_exit(0);
    let results = results(&lab, "out");
    let sent = results["total_requests"].as_u64();
    assert!(sent.is_some_and(|sent| sent >= 24), "{results:#}");
    assert_eq!(results["certificate"]["requests"].as_u64(), sent);
}
