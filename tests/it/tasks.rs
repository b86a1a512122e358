//! One bench of several tasks: processes of this machine that are told to be tasks of one step.

use std::{path::Path, process::Stdio, time::Duration};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::lab::{Engine, Lab, Started, alone, assert_near, wait_until};

/// A task of a step of so many.
fn task(lab: &Lab, number: usize, of: usize, arguments: &[&str]) -> Started {
    let node = nix::unistd::gethostname().expect("a name");
    let mut command = lab.aif(arguments);
    command
        .env("SLURM_JOB_ID", "4242")
        .env("SLURM_CLUSTER_NAME", "test")
        .env("SLURMD_NODENAME", node)
        .env("SLURM_STEP_ID", "0")
        .env("SLURM_STEP_NUM_TASKS", of.to_string())
        .env("SLURM_PROCID", number.to_string())
        .env("SLURM_SUBMIT_DIR", lab.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Started::of(command)
}

/// All tasks of a bench, the leader first.
fn tasks(lab: &Lab, engine: &Engine, of: usize, arguments: &[&str]) -> Vec<Started> {
    let url = engine.url();
    let mut all = vec!["bench", "--url", &url];
    all.extend(arguments);
    (0..of).map(|number| task(lab, number, of, &all)).collect()
}

fn recipe(lab: &Lab, workload: &str, dataset: &str) -> String {
    let text = format!(
        "name: load\nservice_name: s\ntarget: {{timeout_seconds: 20}}\nworkload: {{{workload}}}\ndataset: {{{dataset}}}\n"
    );
    lab.file("load.yaml", &text).display().to_string()
}

const SHORT: &str = "type: synthetic, params: {model_name: m, prompt_length: 16, max_tokens: 4}";

fn results(lab: &Lab) -> Value {
    lab.json("bench/load/results.json")
}

fn number(value: &Value, pointer: &str) -> f64 {
    let found = value.pointer(pointer).and_then(Value::as_f64);
    found.unwrap_or_else(|| panic!("no {pointer} in {value:#}"))
}

fn accounts(results: &Value) -> &Vec<Value> {
    results["generator"]["tasks"].as_array().expect("tasks")
}

/// What the engine saw of the load, without the requests of the calibration.
fn seen(engine: &Engine, results: &Value) -> f64 {
    let probes = results["workload"]["calibration"].as_array();
    number(&engine.stats(), "/requests") - probes.expect("a calibration").len() as f64
}

fn reasons(results: &Value) -> String {
    results["validity"]["reasons"].to_string()
}

/// Waits until the leader has written what came of the first seconds.
fn wait_for_load(engine: &Engine) {
    wait_until(Duration::from_secs(20), "the load has begun", || {
        number(&engine.stats(), "/requests") > 30.0
    });
}

#[test]
fn users_and_requests_are_dealt_out_and_come_together_as_one_result() {
    let lab = Lab::new();
    let engine = Engine::start(&["--latency-ms", "30", "--gap-ms", "0"]);
    let recipe = recipe(
        &lab,
        "concurrent_users: 7, total_requests: 203",
        "type: synthetic, params: {model_name: m, prompt_length: {uniform: [20, 90]}, max_tokens: 4}",
    );
    for started in tasks(&lab, &engine, 3, &[&recipe]) {
        started.end().assert_exit(0);
    }
    let results = results(&lab);
    assert_eq!(results["total_requests"], 203);
    assert_eq!(results["successes"], 203);
    assert_near("seen", seen(&engine, &results), 203.0, 0.0);
    assert_eq!(results["completeness"], "complete");
    // three users, two, and two: as many parts of the requests
    let requests: Vec<_> = accounts(&results)
        .iter()
        .map(|task| task["requests"].as_u64().expect("a number"))
        .collect();
    assert_eq!(requests, [87, 58, 58]);
    for (number, task) in accounts(&results).iter().enumerate() {
        assert_eq!(task["task"], number);
        assert!(task["cpu_seconds"].as_f64().expect("a number") > 0.0);
        assert!(task.get("lost").is_none(), "{task}");
    }
    // every worker of every task is told, in its task and in the whole
    let shares = |of: &Value| of["worker_cpu_shares"].as_array().cloned();
    let all: Vec<Value> = (accounts(&results).iter())
        .flat_map(|task| {
            let own = shares(task).expect("shares");
            assert_eq!(Some(own.len() as u64), task["workers"].as_u64(), "{task}");
            assert!(own.iter().all(|share| share.as_f64() > Some(0.0)), "{task}");
            own
        })
        .collect();
    assert_eq!(shares(&results["generator"]), Some(all));
    // no prompt was sent twice, and their lengths are those of the numbers 0 to 202
    let mut prompts: Vec<String> = (engine.asked().iter())
        .map(|asked| asked["body"]["prompt"].to_string())
        .collect();
    assert_eq!(prompts.len(), 203);
    prompts.sort();
    prompts.dedup();
    assert_eq!(prompts.len(), 203);
    for of in ["min", "avg", "max", "p50"] {
        let metric = |more: &str| {
            number(
                &results,
                &format!("/metrics/input_sequence_length{more}/{of}"),
            )
        };
        assert_near(of, metric(""), metric("_asked"), 0.0);
    }
    // each task has its samples, and all together give the result again
    let samples = &results["samples"];
    let files: Vec<_> = (0..3)
        .map(|task| format!("samples-{task}.parquet"))
        .collect();
    assert_eq!(samples["files"], serde_json::json!(files));
    assert_eq!(
        (&samples["rows"], &samples["missing"]),
        (&203.into(), &0.into())
    );
    let folder = lab.run_folder().join("bench/load").display().to_string();
    lab.run(&["report", &folder, "--recompute"]).assert_exit(0);
    // one run, one bench in it, and one report
    let steps = std::fs::read_dir(lab.run_folder().join("steps")).expect("steps");
    assert_eq!(steps.count(), 1);
    assert!(lab.run_folder().join("report.html").is_file());
    lab.assert_nothing_left();
}

#[test]
fn a_rate_is_held_by_all_tasks_together() {
    let _alone = alone();
    let lab = Lab::new();
    let engine = Engine::start(&["--latency-ms", "100", "--gap-ms", "0"]);
    let loads = [
        "pattern: open-loop, requests_per_second: 120, arrival: {process: constant}, duration_seconds: 4, warmup_seconds: 1",
        "pattern: open-loop, requests_per_second: 120, arrival: {process: constant}, duration_seconds: 4, warmup_seconds: 1, max_in_flight: 2",
    ];
    let recipe_of = |load| recipe(&lab, load, SHORT);
    // a busy machine may make it late; what is asked here is what was sent
    let load = recipe_of(loads[0]);
    for started in tasks(&lab, &engine, 3, &[&load, "--allow-invalid"]) {
        started.end().assert_exit(0);
    }
    let first = results(&lab);
    assert_eq!(first["total_requests"], 480);
    assert_near("seen", seen(&engine, &first), 600.0, 0.0);
    assert_near(
        "rate",
        number(&first, "/generator/achieved_rate"),
        120.0,
        0.5,
    );
    let sent: f64 = (1..5)
        .map(|second| number(&first, &format!("/slices/{second}/sent")))
        .sum();
    assert_near("of four seconds", sent, 480.0, 3.0);
    for second in 1..5 {
        let sent = number(&first, &format!("/slices/{second}/sent"));
        assert_near(&format!("second {second}"), sent, 120.0, 10.0);
    }
    for task in &accounts(&first)[1..] {
        // one machine has one clock
        let (offset, error) = (
            number(task, "/clock_offset_ms"),
            number(task, "/clock_error_ms"),
        );
        assert!(offset.abs() <= error + 0.1, "{offset} ± {error}");
        assert!((0.000_001..5.0).contains(&error), "{error}");
    }
    assert!(number(&first, "/generator/start_spread_ms") < 1000.0);

    // a cap that cannot be shared is no cap of three tasks
    let cap = recipe_of(loads[1]);
    let ended: Vec<_> = tasks(&lab, &engine, 3, &[&cap, "--out", "elsewhere"])
        .into_iter()
        .map(Started::end)
        .collect();
    for ended in &ended {
        ended.assert_exit(64);
    }
    let told = "max_in_flight of 2 cannot be shared by 3 tasks";
    assert!(ended[0].stderr.contains(told), "{}", ended[0].stderr);
    lab.assert_nothing_left();
}

#[test]
fn a_task_that_is_killed_is_named_and_what_it_told_counts() {
    let _alone = alone();
    let lab = Lab::new();
    let engine = Engine::start(&["--latency-ms", "400", "--gap-ms", "0"]);
    let recipe = recipe(
        &lab,
        "pattern: open-loop, requests_per_second: 60, arrival: {process: constant}, duration_seconds: 9",
        SHORT,
    );
    let mut all = tasks(&lab, &engine, 3, &[&recipe, "--allow-invalid"]);
    wait_until(Duration::from_secs(30), "half of the load", || {
        number(&engine.stats(), "/requests") > 270.0
    });
    all[2].signal(Signal::SIGKILL);
    all.remove(2).end().assert_exit(137);
    for started in all {
        started.end().assert_exit(0);
    }
    let results = results(&lab);
    assert_eq!(results["completeness"], "complete");
    let reasons = reasons(&results);
    assert_ne!(results["validity"]["verdict"], "valid", "{reasons}");
    assert!(reasons.contains("lost task 2 on "), "{reasons}");
    // the others held their rate, however late a busy machine was
    assert!(!reasons.contains("were asked for"), "{reasons}");
    let requests: Vec<f64> = accounts(&results)
        .iter()
        .map(|task| number(task, "/requests"))
        .collect();
    // those that are left sent all of their parts, and the lost one told of its own every two seconds
    assert_eq!(requests[..2], [180.0, 180.0]);
    assert!((20.0..140.0).contains(&requests[2]), "{requests:?}");
    assert_near(
        "total",
        number(&results, "/total_requests"),
        requests.iter().sum(),
        0.0,
    );
    let lost = &accounts(&results)[2]["lost"];
    assert!(number(lost, "/at_seconds") >= number(lost, "/counted_to_seconds"));
    // nor is there a record of it any more
    lab.assert_nothing_left();
}

#[test]
fn without_their_leader_tasks_end_and_keep_what_they_have() {
    let lab = Lab::new();
    let engine = Engine::start(&["--latency-ms", "50", "--gap-ms", "0"]);
    let recipe = recipe(&lab, "concurrent_users: 4, duration_seconds: 60", SHORT);
    let mut all = tasks(&lab, &engine, 3, &[&recipe]);
    wait_for_load(&engine);
    all[0].signal(Signal::SIGKILL);
    all.remove(2).end().assert_exit(75);
    let member = all.remove(1).end();
    member.assert_exit(75);
    assert!(
        member.stderr.contains("aif: task 1 lost the leader of the load (task 0): its connection was closed; what this task measured is kept in "),
        "{}",
        member.stderr
    );
    let kept = lab.json("bench/load/tasks/01.json");
    assert!(number(&kept, "/successes") > 5.0, "{kept:#}");
    assert_near(
        "latency",
        number(&kept, "/metrics/request_latency/p50"),
        50.0,
        30.0,
    );
    assert_eq!(kept["account"]["task"], 1);
    assert_eq!(kept["stimulus_sha256"].as_str().map(str::len), Some(64));

    // and what all have kept is one result
    let folder = lab.run_folder().join("bench/load").display().to_string();
    let told = format!("`aif report {folder} --recompute` makes a result of what all");
    assert!(member.stderr.contains(&told), "{}", member.stderr);
    lab.run(&["report", &folder, "--recompute"]).assert_exit(0);
    let results = results(&lab);
    let of = |task: u32| {
        let kept = lab.json(&format!("bench/load/tasks/0{task}.json"));
        number(&kept, "/account/requests")
    };
    assert_eq!(
        results["samples"]["files"],
        serde_json::json!(["samples-1.parquet", "samples-2.parquet"])
    );
    assert_near(
        "rows",
        number(&results, "/samples/rows"),
        of(1) + of(2),
        0.0,
    );
    // what was sent in the moment between the two ends is in no window
    assert_near(
        "total",
        number(&results, "/total_requests"),
        of(1) + of(2),
        10.0,
    );
    assert_near(
        "latency",
        number(&results, "/metrics/request_latency/p50"),
        50.0,
        30.0,
    );
    assert_eq!(results["completeness"], "interrupted");
    assert_eq!(results["stimulus_sha256"], kept["stimulus_sha256"]);
    let reasons = reasons(&results);
    assert!(reasons.contains("lost task 0 on "), "{reasons}");
    let numbers: Vec<_> = accounts(&results)
        .iter()
        .map(|task| &task["task"])
        .collect();
    assert_eq!(numbers, [0, 1, 2]);
    // computed once more it is the same
    lab.run(&["report", &folder, "--recompute"]).assert_exit(0);
}

#[test]
fn whoever_is_told_to_end_tells_all() {
    for told in [0, 2] {
        let lab = Lab::new();
        let engine = Engine::start(&["--latency-ms", "50", "--gap-ms", "0"]);
        let recipe = recipe(&lab, "concurrent_users: 6, duration_seconds: 120", SHORT);
        let all = tasks(&lab, &engine, 3, &[&recipe]);
        wait_for_load(&engine);
        all[told].signal(Signal::SIGTERM);
        for started in all {
            started.end().assert_exit(143);
        }
        let results = results(&lab);
        assert_eq!(results["completeness"], "interrupted");
        assert_eq!(results["errors"], 0);
        let seen = seen(&engine, &results);
        assert_near("total", number(&results, "/total_requests"), seen, 0.0);
        // each has learned of the end at its own moment
        let folder = lab.run_folder().display().to_string();
        lab.run(&["report", &folder, "--recompute"]).assert_exit(0);
        lab.assert_nothing_left();
    }
}

#[test]
fn a_task_that_would_send_something_else_is_named() {
    let lab = Lab::new();
    let engine = Engine::start(&["--latency-ms", "50", "--gap-ms", "0"]);
    let of_file = |name: &str, text: &str| {
        lab.file(&format!("{name}/p.txt"), text);
        let recipe = "name: load\nservice_name: s\nworkload: {concurrent_users: 2, total_requests: 4}\ndataset: {type: prompts, file: p.txt}\n";
        lab.file(&format!("{name}/load.yaml"), recipe);
        Path::new(name).join("load.yaml").display().to_string()
    };
    let (own, other) = (of_file("one", "a\nb\n"), of_file("two", "a\nc\n"));
    let url = engine.url();
    let leader = task(&lab, 0, 2, &["bench", &own, "--url", &url]);
    let member = task(&lab, 1, 2, &["bench", &other, "--url", &url]);
    let ended = leader.end();
    ended.assert_exit(65);
    assert!(
        ended.stderr.contains("aif: task 1 on ")
            && ended.stderr.contains("would send another load than task 0"),
        "{}",
        ended.stderr
    );
    member.end().assert_exit(65);
    lab.assert_nothing_left();
}

#[test]
fn each_load_of_a_sweep_is_one_of_all_tasks() {
    let lab = Lab::new();
    let engine = Engine::start(&["--latency-ms", "30", "--gap-ms", "0"]);
    // a user of a level of one is task 0's, and task 1 has nothing to do
    let text = format!(
        "name: load\nservice_name: s\nworkload: {{sweep: {{concurrent_users: [1, 4]}}, total_requests: 41, pause_seconds: 0}}\ndataset: {{{SHORT}}}\nslo: {{ttft_ms: 1000}}\n"
    );
    let recipe = lab.file("load.yaml", &text).display().to_string();
    for started in tasks(&lab, &engine, 2, &[&recipe]) {
        started.end().assert_exit(0);
    }
    for (level, requests) in [("01-1users", [41, 0]), ("02-4users", [21, 20])] {
        let results = lab.json(&format!("bench/load/levels/{level}/results.json"));
        assert_eq!(results["total_requests"], 41, "{level}");
        let sent: Vec<_> = accounts(&results)
            .iter()
            .map(|task| task["requests"].as_u64().expect("a number"))
            .collect();
        assert_eq!(sent, requests, "{level}");
    }
    assert_near("seen", number(&engine.stats(), "/requests"), 83.0, 0.0);
    lab.assert_nothing_left();
}
