//! Whole runs as local processes: the scripted engine, the real Prometheus, and all that may happen to them.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::lab::{Ended, Lab, Started, now, scripted_engine, wait_until};

/// Writes the three recipes; the engine gets these flags, the client this workload.
pub(crate) fn recipes(lab: &Lab, flags: &[&str], workload: &str) {
    let program = scripted_engine().display().to_string();
    let mut words = vec![&*program, "--host", "{host}", "--port", "{port}"];
    words.extend(flags);
    let server = format!(
        "name: toy-server\nservice_name: toy\nengine: llamacpp\nservice:\n  program: {words:?}\n  ports: [auto]\n  auth: key\n"
    );
    lab.file("server.yaml", &server);
    lab.file(
        "monitor.yaml",
        "name: toy-monitor\nservice_name: toy\nprometheus: {scrape_interval: 1s}\n",
    );
    let client = format!(
        "name: toy-test\nservice_name: toy\nworkload: {{{workload}}}\ndataset: {{type: synthetic, params: {{prompt_length: 32, max_tokens: 8}}}}\n"
    );
    lab.file("client.yaml", &client);
}

pub(crate) const QUICK: [&str; 4] = ["--ttft-ms", "60", "--gap-ms", "2"];
const LONG: &str = "pattern: closed-loop, concurrent_users: 2, duration_seconds: 120";
pub(crate) const WHOLE: [&str; 7] = [
    "stack",
    "--server",
    "server.yaml",
    "--monitor",
    "monitor.yaml",
    "--bench",
    "client.yaml",
];
const UNWATCHED: [&str; 5] = ["stack", "--server", "server.yaml", "--bench", "client.yaml"];

fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn results(lab: &Lab) -> Value {
    lab.json("bench/toy-test/results.json")
}

fn number(value: &Value, pointer: &str) -> f64 {
    let found = value.pointer(pointer).and_then(Value::as_f64);
    found.unwrap_or_else(|| panic!("no {pointer} in {value:#}"))
}

fn state(record: &Path) -> Option<(String, String)> {
    let text = std::fs::read_to_string(record).ok()?;
    let record: Value = serde_json::from_str(&text).ok()?;
    let field = |name: &str| Some(record[name].as_str()?.to_owned());
    Some((field("kind")?, field("state")?))
}

/// Waits until a role of this kind is ready.
fn wait_ready(lab: &Lab, kind: &str) {
    wait_until(Duration::from_secs(20), &format!("{kind} is ready"), || {
        let records = lab.records();
        records
            .iter()
            .filter_map(|record| state(record))
            .any(|(found, state)| found == kind && state == "ready")
    });
}

/// Starts the stack and waits until its bench has loaded the engine for a while.
fn loaded(lab: &Lab, arguments: &[&str]) -> Started {
    let stack = lab.start(arguments);
    wait_ready(lab, "bench");
    std::thread::sleep(Duration::from_secs(2));
    stack
}

fn end(pid: Option<i32>) {
    let pid = pid.expect("it runs");
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("it is ours");
}

/// The points that a run's archive has of a query, over the whole run.
fn points(lab: &Lab, run: &Path, query: &str) -> usize {
    let run = run.display().to_string();
    let ended = lab.run(&["export", &run, "--query", query, "--step", "1s", "--json"]);
    ended.assert_exit(0);
    let answer: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    let series = answer["series"].as_array().expect("series");
    let points = series.iter().map(|one| one["points"].as_array());
    points.map(|points| points.map_or(0, Vec::len)).sum()
}

/// What is said of a command that ends with 66.
fn missing(lab: &Lab, words: &[&str]) -> String {
    let ended = lab.run(words);
    ended.assert_exit(66);
    ended.stderr
}

/// Is there a sample in the log of a Prometheus of this laboratory?
fn has_samples(folder: &Path) -> bool {
    let entries = std::fs::read_dir(folder).expect("the folder").flatten();
    entries.map(|entry| entry.path()).any(|path| {
        let log = path.join("data/wal/00000000");
        std::fs::metadata(log).is_ok_and(|log| log.len() > 0)
    })
}

fn assert_said(ended: &Ended, words: &str) {
    assert!(
        ended.stderr.contains(words),
        "{words} is not in:\n{}",
        ended.stderr
    );
}

fn problems(lab: &Lab) -> String {
    lab.json("manifest.json")["problems"].to_string()
}

#[test]
fn a_whole_run_ends_well_and_is_complete() {
    let lab = Lab::new();
    recipes(
        &lab,
        &QUICK,
        "pattern: closed-loop, concurrent_users: 1, duration_seconds: 5, warmup_seconds: 1",
    );
    let mut arguments = WHOLE.to_vec();
    arguments.extend(["--set", "workload.concurrent_users=3"]);
    let ended = lab.run(&arguments);
    ended.assert_exit(0);
    assert!(ended.stdout.contains("report.html"), "{}", ended.stdout);
    lab.assert_nothing_left();

    let run = lab.run_folder();
    for file in [
        "report.html",
        "report.md",
        "bench/toy-test/results.json",
        "bench/toy-test/results.csv",
        "bench/toy-test/vllm.json",
        "metrics/snapshot.tar.zst",
        "logs/server.log",
        "logs/monitor.log",
        "logs/bench-toy-test.log",
        "steps/server.json",
    ] {
        let length = std::fs::metadata(run.join(file)).map_or(0, |file| file.len());
        assert!(length > 0, "{file} of {}", run.display());
    }
    let manifest = lab.json("manifest.json");
    assert_eq!(manifest["state"], "complete");
    assert_eq!(manifest["exit"], "done");
    assert_eq!(manifest["launcher"], "local");
    assert_eq!(manifest["problems"], Value::Array(vec![]));

    let results = results(&lab);
    assert_eq!(results["load"]["concurrent_users"], 3, "{results:#}");
    assert_eq!(results["errors"], 0);
    assert_ne!(results["validity"]["verdict"], "invalid");
    for what in ["prompt", "output"] {
        let client = number(&results, &format!("/tokens/{what}/client"));
        let engine = number(&results, &format!("/tokens/{what}/engine"));
        assert!(client > 100.0, "{results:#}");
        assert!((client - engine).abs() < 0.5, "{what}: {client} {engine}");
    }
    assert!(read(run.join("report.md")).contains("toy-test"));

    for query in [
        "llamacpp:tokens_predicted_total",
        "aif_bench_requests_total{outcome=\"success\"}",
        "aif_node_cpu_seconds_total",
        "aif_server_state",
    ] {
        let found = points(&lab, &run, query);
        assert!(found >= 3, "{found} points of {query}");
    }
    // the last scrape saw all of the load
    let counted = lab.run(&[
        "export",
        &run.display().to_string(),
        "--query",
        "max_over_time(aif_bench_requests_total{outcome=\"success\"}[1m])",
        "--json",
    ]);
    let answer: Value = serde_json::from_str(&counted.assert_exit(0).stdout).expect("JSON");
    let points = answer["series"][0]["points"].as_array().expect("points");
    let last = points.last().and_then(|point| point[1].as_f64());
    let slices = results["slices"].as_array().expect("slices");
    let completed: f64 = slices.iter().map(|slice| number(slice, "/completed")).sum();
    assert!(
        last.is_some_and(|last| (last - completed).abs() < 0.5),
        "{last:?} in Prometheus, {completed} in the results"
    );
    lab.assert_nothing_left();
}

#[test]
fn an_engine_that_ends_before_it_is_ready_ends_the_run() {
    let lab = Lab::new();
    let flags = [
        "--never-ready",
        "--exit-after-ms",
        "1500",
        "--exit-code",
        "7",
    ];
    recipes(&lab, &flags, LONG);
    let start = now();
    let ended = lab.run(&WHOLE);
    ended.assert_exit(69);
    let took = start.elapsed();
    assert!(took < Duration::from_millis(6500), "{took:?}");
    for words in ["fatal: the model cannot be loaded", "exit code 7"] {
        assert_said(&ended, words);
    }
    assert!(problems(&lab).contains("fatal: the model cannot be loaded"));
    assert_eq!(lab.json("manifest.json")["state"], "failed");
    lab.assert_nothing_left();
}

/// What an agent answers to who reads the older text format only.
fn ask(agent: &str, path: &str, key: &str) -> String {
    let host = agent.trim_start_matches("http://");
    let mut stream = TcpStream::connect(host).expect("it listens");
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\nAccept: text/plain\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a body");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    body.to_owned()
}

/// What Prometheus' own linter has against these metrics.
fn lint(metrics: &str) -> String {
    let mut linter = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is on the PATH: these tests want the real one");
    let mut input = linter.stdin.take().expect("a pipe");
    input.write_all(metrics.as_bytes()).expect("read");
    drop(input);
    let said = linter.wait_with_output().expect("it ends");
    let mut text = String::from_utf8_lossy(&said.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&said.stderr));
    if !said.status.success() {
        text.push_str(&said.status.to_string());
    }
    text
}

#[test]
fn no_exporter_breaks_a_convention_and_what_is_not_measured_is_told() {
    let lab = Lab::new();
    recipes(&lab, &QUICK, LONG);
    let stack = loaded(&lab, &WHOLE);
    let key = read(lab.path().join(".ubenchai/discover/scrape.key"));
    let mut kinds = Vec::new();
    for record in lab.records() {
        let record: Value = serde_json::from_str(&read(&record)).expect("JSON");
        let (Some(kind), Some(agent)) = (
            record["kind"].as_str(),
            record["endpoints"]["agent"].as_str(),
        ) else {
            continue;
        };
        let metrics = ask(agent, "/metrics", key.trim());
        assert!(metrics.contains(&format!("aif_{kind}_")), "{metrics}");
        assert_eq!(lint(&metrics), "", "{kind}:\n{metrics}");
        let load = "\naif_node_load{minutes=\"1\"} ";
        assert!(metrics.contains(load), "{kind}:\n{metrics}");
        let told: Value = serde_json::from_str(&ask(agent, "/instance", key.trim())).expect("JSON");
        assert_eq!(
            told["samplers"]["cpu"]["state"], "healthy",
            "{kind}: {told:#}"
        );
        let job = &told["samplers"]["job_memory"];
        assert_eq!(job["state"], "unsupported", "{kind}: {told:#}");
        assert_eq!(job["reason"], "this process is in no job", "{told:#}");
        kinds.push(kind.to_owned());
    }
    kinds.sort();
    kinds.dedup();
    assert_eq!(kinds, ["bench", "monitor", "server"]);
    // there is no archive yet, and another way
    let name = lab.run_folder().display().to_string();
    let said = missing(&lab, &["open", &name]);
    assert!(
        said.contains("goes on: look at its live page") && said.contains("`aif status`"),
        "{said}"
    );
    stack.signal(Signal::SIGTERM);
    stack.end().assert_exit(143);

    let run = lab.run_folder();
    let states = "aif_sampler_state{sampler=\"job_memory\",state=\"unsupported\"}";
    assert!(points(&lab, &run, states) > 0, "archived");
    assert_eq!(points(&lab, &run, "aif_job_memory_usage_bytes"), 0);
    let said = missing(
        &lab,
        &[
            "export",
            &name,
            "--query",
            "up",
            "--at",
            "2001-02-03T04:05:06Z",
        ],
    );
    assert!(
        said.contains("the archive holds 2") && said.contains("2001-02-03T04:05:06Z was asked for"),
        "{said}"
    );
    let ended = lab.run(&["export", &name, "--query", "aif_no_such_metric", "--json"]);
    ended.assert_exit(0);
    assert_said(
        &ended,
        "no series answer the expression at that time; the archive holds 2",
    );
    let alerts = lab.json("metrics/alerts.json");
    for (alert, had) in [
        ("EngineNotReady", true),
        ("HighErrorRate", true),
        ("OutOfMemory", false),
    ] {
        let rules = alerts["rules"].as_array().expect("rules");
        let rule = rules.iter().find(|rule| rule["alert"] == alert);
        assert_eq!(rule.expect(alert)["had_data"], had, "{alerts:#}");
    }
    // three agents tell of this node, and it is drawn once
    let agents = "count(count by (role) (aif_node_cpu_seconds_total)) == 3";
    assert!(points(&lab, &run, agents) > 0, "server, monitor, bench");
    let series = lab.json("metrics/series.json");
    let charts = series["charts"].as_array().expect("charts");
    let cpu = charts.iter().find(|chart| chart["title"] == "CPU");
    let lines = cpu.expect("CPU")["panels"][0]["lines"].as_array();
    let names: Vec<&Value> = lines.expect("lines").iter().map(|l| &l["name"]).collect();
    assert_eq!(names, ["of the node"], "{series:#}");
    for role in ["server", "monitor", "bench-toy-test"] {
        let step = lab.json(&format!("steps/{role}.json"));
        let facts = &step["facts"]["samplers"];
        let expected = "unsupported: this process is in no job";
        assert_eq!(facts["job_memory"], expected, "{role}: {step:#}");
    }
    let page = read(run.join("report.html"));
    let all = ["bench-toy-test", "monitor", "server"].map(|role| format!("{role} on "));
    let told = page
        .split("<tr>")
        .find(|row| row.contains("this process is in no job"));
    let told = told.expect("a row of the samplers that find no job");
    for words in ["unsupported", "job_memory"]
        .into_iter()
        .chain(all.iter().map(String::as_str))
    {
        assert!(told.contains(words), "{words} is not in {told}");
    }
    let text = read(run.join("report.md"));
    assert!(text.contains("### What could be measured on the nodes"));
    assert!(text.contains("| unsupported | "), "{text}");

    let phases = &lab.json("manifest.json")["phases"];
    assert_eq!(phases[0]["reason"], "not a job of Slurm", "{phases:#}");
    for (at, phase) in [(1, "launch"), (2, "ready"), (3, "first_token")] {
        assert_eq!(phases[at]["phase"], phase);
        let seconds = number(&phases[at], "/seconds");
        assert!((0.0..30.0).contains(&seconds), "{phases:#}");
    }
    assert!(read(run.join("report.md")).contains("| first step to engine ready | "));
    lab.assert_nothing_left();
}

#[test]
fn told_to_end_in_the_middle_it_keeps_all() {
    let lab = Lab::new();
    recipes(&lab, &QUICK, LONG);
    let stack = loaded(&lab, &WHOLE);
    let start = now();
    stack.signal(Signal::SIGTERM);
    stack.end().assert_exit(143);
    let took = start.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
    lab.assert_nothing_left();
    let results = results(&lab);
    assert_eq!(results["completeness"], "interrupted");
    assert!(number(&results, "/successes") > 20.0, "{results:#}");
    assert_eq!(lab.json("manifest.json")["state"], "interrupted");
    let run = lab.run_folder();
    assert!(run.join("report.html").exists());
    let success = "aif_bench_requests_total{outcome=\"success\"} > 20";
    assert!(points(&lab, &run, success) > 0, "archived");
}

#[test]
fn of_a_stack_that_is_killed_nothing_is_left() {
    let lab = Lab::new();
    recipes(&lab, &QUICK, LONG);
    let stack = loaded(&lab, &WHOLE);
    stack.signal(Signal::SIGKILL);
    stack.end().assert_exit(137);
    wait_until(Duration::from_secs(20), "all roles have ended", || {
        lab.leftovers().is_empty()
    });
    lab.assert_nothing_left();
    assert_eq!(results(&lab)["completeness"], "interrupted");
    assert!(lab.run_folder().join("metrics/snapshot.tar.zst").exists());
}

#[test]
fn an_engine_that_is_killed_ends_the_run_and_results_are_kept() {
    let lab = Lab::new();
    recipes(&lab, &QUICK, LONG);
    let stack = loaded(&lab, &UNWATCHED);
    let start = now();
    end(lab.pid_of("scripted-engine"));
    let ended = stack.end();
    ended.assert_exit(69);
    let took = start.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_said(&ended, "the server ended while a bench was running");
    assert_said(&ended, "SIGKILL");
    lab.assert_nothing_left();
    let results = results(&lab);
    assert_eq!(results["completeness"], "interrupted");
    assert!(number(&results, "/successes") > 20.0, "{results:#}");
    assert_eq!(lab.json("manifest.json")["state"], "failed");
    assert!(lab.run_folder().join("report.html").exists());
}

#[test]
fn without_its_monitor_a_run_goes_on_degraded() {
    let lab = Lab::new();
    recipes(
        &lab,
        &QUICK,
        "pattern: closed-loop, concurrent_users: 2, duration_seconds: 12",
    );
    let stack = loaded(&lab, &WHOLE);
    let first = lab.pid_of("prometheus");
    // it takes up its first targets after some seconds
    wait_until(Duration::from_secs(10), "Prometheus has samples", || {
        has_samples(lab.path())
    });
    // every target once
    std::thread::sleep(Duration::from_millis(1500));
    end(first);
    let mut second = None;
    wait_until(
        Duration::from_secs(5),
        "Prometheus is started again",
        || {
            second = lab.pid_of("prometheus").filter(|pid| Some(*pid) != first);
            second.is_some()
        },
    );
    end(second);
    let ended = stack.end();
    ended.assert_exit(69);
    assert_said(&ended, "the monitor ended by itself");
    lab.assert_nothing_left();
    let results = results(&lab);
    assert_eq!(results["completeness"], "complete");
    assert_eq!(results["errors"], 0);
    assert_eq!(results["validity"]["verdict"], "degraded");
    let reasons = results["validity"]["reasons"].to_string();
    assert!(reasons.contains("monitor was lost"), "{reasons}");
    assert!(problems(&lab).contains("Prometheus was lost"));
    let run = lab.run_folder();
    let found = points(&lab, &run, "llamacpp:tokens_predicted_total > 0");
    assert!(found > 0, "what was measured before is kept");
}

#[test]
fn a_monitor_that_is_killed_is_started_again_once() {
    let lab = Lab::new();
    recipes(
        &lab,
        &QUICK,
        "pattern: closed-loop, concurrent_users: 2, duration_seconds: 10",
    );
    let stack = loaded(&lab, &WHOLE);
    let first = lab.pid_of("aif monitor");
    end(first);
    wait_until(Duration::from_secs(5), "it is started again", || {
        lab.pid_of("aif monitor")
            .is_some_and(|pid| Some(pid) != first)
    });
    let ended = stack.end();
    ended.assert_exit(0);
    assert_said(&ended, "the monitor ended by itself (exit 137)");
    let results = results(&lab);
    assert_eq!(results["validity"]["verdict"], "degraded");
    let reasons = results["validity"]["reasons"].to_string();
    assert!(reasons.contains("monitor was lost"), "{reasons}");
    let run = lab.run_folder();
    let found = points(&lab, &run, "llamacpp:tokens_predicted_total > 0");
    assert!(found > 0, "the second one measured");
    // the stack takes away what the killed one left: record, key, data
    lab.assert_nothing_left();
}

#[test]
fn three_roles_find_each_other_by_the_name_of_the_service() {
    let lab = Lab::new();
    recipes(
        &lab,
        &["--ready-delay-ms", "1000"],
        "pattern: closed-loop, concurrent_users: 2, duration_seconds: 4",
    );
    let bench = lab.start(&["bench", "client.yaml", "--wait", "60s"]);
    let monitor = lab.start(&["monitor", "monitor.yaml"]);
    wait_ready(&lab, "monitor");
    let server = lab.start(&["server", "server.yaml"]);
    bench.end().assert_exit(0);
    monitor.signal(Signal::SIGTERM);
    monitor.end().assert_exit(0);
    server.signal(Signal::SIGTERM);
    server.end().assert_exit(0);
    lab.assert_nothing_left();

    let run = |role: &str| {
        let runs = std::fs::read_dir(lab.path().join("results")).expect("runs");
        let mark = format!("toy-{role}-");
        let mut runs = runs.flatten().map(|entry| entry.path());
        runs.find(|path| path.to_string_lossy().contains(&mark))
            .unwrap_or_else(|| panic!("no run of the {role}"))
    };
    let results = read(run("bench").join("bench/toy-test/results.json"));
    let results: Value = serde_json::from_str(&results).expect("JSON");
    assert!(number(&results, "/successes") > 20.0, "{results:#}");
    assert_eq!(
        results["tokens"]["output"]["client"],
        results["tokens"]["output"]["engine"]
    );
    for query in [
        "llamacpp:tokens_predicted_total",
        "aif_bench_requests_total",
        "aif_node_load",
    ] {
        assert!(points(&lab, &run("monitor"), query) > 0, "{query}");
    }
}

#[test]
fn every_fault_of_a_recipe_is_told_before_anything_starts() {
    let lab = Lab::new();
    recipes(&lab, &QUICK, LONG);
    lab.file(
        "client.yaml",
        "name: toy-test\nservice_name: toy\nworkload:\n  pattern: closed-loop\n  concurent_users: 2\n  duration_seconds: soon\ndataset: {type: synthetic, params: {prompt_length: 32, max_tokens: 8}}\n",
    );
    let ended = lab.run(&UNWATCHED);
    ended.assert_exit(65);
    for words in [
        "client.yaml:5:3: unknown key \"concurent_users\"",
        "did you mean \"concurrent_users\"?",
        "client.yaml:6:21: \"workload.duration_seconds\" wants a duration",
        "\"soon\"",
    ] {
        assert_said(&ended, words);
    }
    assert!(!lab.path().join("results").exists(), "no run was made");
    lab.assert_nothing_left();
}

#[test]
fn recipes_of_two_services_are_no_stack() {
    let lab = Lab::new();
    recipes(&lab, &QUICK, LONG);
    let client = read(lab.path().join("client.yaml"));
    lab.file(
        "client.yaml",
        &client.replace("service_name: toy", "service_name: other"),
    );
    let ended = lab.run(&UNWATCHED);
    ended.assert_exit(65);
    assert_said(&ended, "service other");
    assert_said(&ended, "about toy");
    assert!(!lab.path().join("results").exists(), "no run was made");
}
