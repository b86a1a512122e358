//! Several loads of one bench, as a process of its own, against an engine whose times are known.

use std::{path::Path, time::Duration};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::lab::{Engine, Lab, alone, assert_near, wait_until};

fn json(lab: &Lab, name: &str) -> Value {
    let path = lab.path().join(name);
    let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).expect("JSON")
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn number(value: &Value, pointer: &str) -> f64 {
    let found = value.pointer(pointer).and_then(Value::as_f64);
    found.unwrap_or_else(|| panic!("no {pointer} in {value:#}"))
}

fn strings(list: &Value, key: &str) -> Vec<String> {
    let items = list.as_array().expect("a list").iter();
    items
        .map(|item| item[key].as_str().expect("a text").to_owned())
        .collect()
}

fn recipe(lab: &Lab, workload: &str, more: &str) -> String {
    let text = format!(
        "name: load\nservice_name: s\ntarget: {{timeout_seconds: 20}}\nworkload: {{{workload}}}\ndataset: {{params: {{model_name: m, prompt_length: 16, max_tokens: 2}}}}\n{more}\n"
    );
    lab.file("load.yaml", &text).display().to_string()
}

/// Runs a bench in a run of its own, whose folder is `results/<run>`.
fn bench(lab: &Lab, engine: &Engine, recipe: &str) -> crate::lab::Ended {
    lab.run(&["bench", "--url", &engine.url(), recipe])
}

#[test]
fn a_sweep_leaves_a_result_for_each_level_and_one_of_all() {
    let _alone = alone();
    let lab = Lab::new();
    let engine = Engine::start(&["--latency-ms", "100", "--gap-ms", "0"]);
    let recipe = recipe(
        &lab,
        "sweep: {concurrent_users: [1, 2, 4]}, duration_seconds: 3, pause_seconds: 0, seed: 5",
        "slo: {ttft_ms: 1000}",
    );
    let ended = bench(&lab, &engine, &recipe);
    ended.assert_exit(0);
    let folder = lab.run_folder().join("bench/load");
    let whole = lab.json("bench/load/results.json");
    let levels = &whole["series"]["levels"];
    let folders = ["levels/01-1users", "levels/02-2users", "levels/03-4users"];
    assert_eq!(strings(levels, "folder"), folders);
    let mut before = 0.0;
    for (index, name) in folders.iter().enumerate() {
        let level = json(
            &lab,
            folder.join(name).join("results.json").to_str().unwrap(),
        );
        // twice the users, twice the requests; less on a busy machine
        let reached = number(&level, "/throughput_req_per_sec");
        assert!(reached > 1.3 * before, "{reached} after {before}");
        before = reached;
        assert_eq!(level["load"]["concurrent_users"], 1 << index);
        // what the table says is what the load's own result says
        for key in ["metrics", "stimulus_sha256", "total_requests", "validity"] {
            assert_eq!(levels[index][key], level[key], "{name} {key}");
        }
        assert_eq!(levels[index]["seed"], level["workload"]["seed"]);
        assert_eq!(levels[index]["met"], true);
        for file in ["vllm.json", "results.csv"] {
            assert!(folder.join(name).join(file).exists(), "{name}/{file}");
        }
    }
    // the best level is shown whole, in each form
    let best = json(
        &lab,
        folder
            .join(folders[2])
            .join("results.json")
            .to_str()
            .unwrap(),
    );
    assert_eq!(whole["series"]["headline"], folders[2]);
    for key in [
        "total_requests",
        "metrics",
        "load",
        "tokens",
        "slices",
        "throughput_req_per_sec",
    ] {
        assert_eq!(whole[key], best[key], "{key}");
    }
    let vllm = json(&lab, folder.join("vllm.json").to_str().unwrap());
    assert_eq!(vllm["completed"], best["successes"]);
    assert_eq!(whole["completeness"], "complete");
    assert_eq!(whole["series"]["ended"], "complete");
    // no two loads ask the same, or a cache would know the second
    let mut stimuli = strings(levels, "stimulus_sha256");
    stimuli.push(
        whole["stimulus_sha256"]
            .as_str()
            .expect("a text")
            .to_owned(),
    );
    stimuli.sort();
    stimuli.dedup();
    assert_eq!(stimuli.len(), 4);
    let mut asked: Vec<String> = engine
        .asked()
        .iter()
        .map(|asked| asked["body"].to_string())
        .collect();
    let all = asked.len();
    asked.sort();
    asked.dedup();
    assert_eq!(asked.len(), all, "each prompt once");

    let csv = text(&folder.join("levels.csv"));
    assert!(csv.contains("concurrent_users,4,"), "{csv}");
    assert!(
        ended
            .stdout
            .contains("limits kept for 99 % of requests at every level, up to 4 users"),
        "{}",
        ended.stdout
    );
    assert!(ended.stdout.contains("03: 4 users"), "{}", ended.stdout);
    assert!(
        ended
            .stdout
            .lines()
            .all(|line| line.chars().count() <= 100 || line.contains("reason:")),
        "{}",
        ended.stdout
    );

    let run = lab.run_folder();
    lab.run(&["report", run.to_str().unwrap()]).assert_exit(0);
    let page = text(&run.join("report.html"));
    for said in [
        "Latency over throughput",
        "limit 1000 ms",
        "href=\"bench/load/levels/02-2users\"",
        "knee",
    ] {
        assert!(page.contains(said), "the page lacks {said}");
    }
    assert!(text(&run.join("report.md")).contains("| 02: 2 users |"));
    lab.assert_nothing_left();
}

#[test]
fn the_same_seed_asks_the_same_at_every_level() {
    let _alone = alone();
    let lab = Lab::new();
    let engine = Engine::start(&["--latency-ms", "10", "--gap-ms", "0"]);
    let stimuli = |seed: u32| {
        let recipe = recipe(
            &lab,
            &format!(
                "sweep: {{requests_per_second: [5, 10]}}, total_requests: 3, pause_seconds: 0, repeats: 2, seed: {seed}"
            ),
            "",
        );
        let arguments = [
            "bench",
            "--url",
            &engine.url(),
            "--out",
            "out",
            "--allow-invalid",
            &recipe,
        ];
        lab.run(&arguments).assert_exit(0);
        let whole = json(&lab, "out/results.json");
        let mut all = strings(&whole["series"]["levels"], "stimulus_sha256");
        all.push(whole["stimulus_sha256"].to_string());
        (all, whole["series"]["repeats"].clone())
    };
    let (first, repeats) = stimuli(1);
    assert_eq!(first.len(), 5);
    let levels: Vec<f64> = (0..2)
        .map(|at| number(&repeats[at], "/requested"))
        .collect();
    assert_eq!(levels, [5.0, 10.0]);
    assert_eq!(stimuli(1).0, first);
    assert_ne!(stimuli(2).0, first);
}

#[test]
fn repeats_have_an_interval() {
    let _alone = alone();
    let lab = Lab::new();
    let engine = Engine::start(&["--latency-ms", "100", "--gap-ms", "0"]);
    let recipe = recipe(
        &lab,
        "concurrent_users: 2, duration_seconds: 2, repeats: 3, pause_seconds: 0",
        "",
    );
    let ended = bench(&lab, &engine, &recipe);
    ended.assert_exit(0);
    let whole = lab.json("bench/load/results.json");
    let folders = strings(&whole["series"]["levels"], "folder");
    assert_eq!(
        folders,
        [
            "levels/01-repeat1",
            "levels/02-repeat2",
            "levels/03-repeat3"
        ]
    );
    let all = &whole["series"]["repeats"][0];
    assert_eq!(
        (&all["count"], &all["confidence"]),
        (&3.into(), &0.95.into())
    );
    let latency = &all["metrics"]["request_latency"];
    assert!(latency["p99"].is_null(), "so few requests bear none");
    for of in ["avg", "p50"] {
        let (low, mean, high) = (
            number(&latency[of], "/low"),
            number(&latency[of], "/mean"),
            number(&latency[of], "/high"),
        );
        assert!(low <= mean && mean <= high, "{latency:#}");
    }
    assert_near(
        "mean of the medians",
        number(latency, "/p50/mean"),
        100.0,
        10.0,
    );
    let mut seeds: Vec<u64> = (0..3)
        .map(|at| {
            whole["series"]["levels"][at]["seed"]
                .as_u64()
                .expect("a seed")
        })
        .collect();
    assert_eq!(seeds[0], 0, "the recipe's own");
    seeds.dedup();
    assert_eq!(seeds.len(), 3);
    assert!(ended.stdout.contains("3 repeats"), "{}", ended.stdout);
    assert!(
        ended.stdout.contains("with 95 % intervals"),
        "{}",
        ended.stdout
    );
}

#[test]
fn told_to_end_a_sweep_keeps_its_finished_levels_and_names_the_rest() {
    let _alone = alone();
    let lab = Lab::new();
    let engine = Engine::start(&["--latency-ms", "50", "--gap-ms", "0"]);
    let recipe = recipe(
        &lab,
        "sweep: {concurrent_users: [1, 2, 3, 4]}, duration_seconds: 4, pause_seconds: 0",
        "",
    );
    let running = lab.start(&["bench", "--url", &engine.url(), "--out", "out", &recipe]);
    let second = lab.path().join("out/levels/02-2users");
    wait_until(
        Duration::from_secs(30),
        "the second level has begun",
        || second.exists(),
    );
    // what is finished is told before the next is
    let so_far = json(&lab, "out/results.json");
    assert_eq!(so_far["completeness"], "running");
    assert_eq!(so_far["series"]["levels"].as_array().map(Vec::len), Some(1));
    running.signal(Signal::SIGTERM);
    running.end().assert_exit(143);
    let whole = json(&lab, "out/results.json");
    assert_eq!(whole["completeness"], "interrupted");
    let levels = &whole["series"]["levels"];
    assert_eq!(levels[0]["completeness"], "complete");
    assert_eq!(whole["series"]["headline"], "levels/01-1users");
    let not_run: Vec<f64> = whole["series"]["not_run"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| number(one, "/requested"))
        .collect();
    assert!(not_run == [3.0, 4.0], "{not_run:?}");
    let reasons = whole["validity"]["reasons"].to_string();
    assert!(
        reasons.contains("not run were 3 users; 4 users"),
        "{reasons}"
    );
    lab.assert_nothing_left();
}

#[test]
fn a_search_finds_the_most_users_that_keep_the_limits() {
    let _alone = alone();
    let lab = Lab::new();
    // two at a time: with a third user, every second answer waits for a slot for as long as an answer takes
    let engine = Engine::start(&["--latency-ms", "300", "--gap-ms", "0", "--slots", "2"]);
    let recipe = recipe(
        &lab,
        "search: {concurrent_users: {min: 1, max: 16}, slo_attainment: 0.8}, duration_seconds: 3, warmup_requests: 2, pause_seconds: 0",
        "slo: {ttft_ms: 550}",
    );
    let ended = bench(&lab, &engine, &recipe);
    ended.assert_exit(0);
    let whole = lab.json("bench/load/results.json");
    let found = &whole["series"]["search"];
    assert_eq!(found["answer"], 2.0, "{found:#}");
    assert_eq!(found["lowest_missed"], 3.0);
    assert_eq!(found["confirmed"], true);
    assert_eq!(whole["series"]["ended"], "found");
    let folders = strings(&whole["series"]["levels"], "folder");
    assert_eq!(
        folders,
        [
            "levels/01-1users",
            "levels/02-2users",
            "levels/03-4users",
            "levels/04-3users",
            "levels/05-2users-confirm"
        ]
    );
    assert_eq!(whole["series"]["headline"], folders[4]);
    assert_eq!(whole["load"]["concurrent_users"], 2);
    // the first two of each level are not measured
    let level = &whole["series"]["levels"][0];
    assert!(number(&whole, "/warmup_seconds") > 0.0);
    assert!(number(level, "/total_requests") <= 10.0, "{level:#}");
    let said = "highest load that keeps the limits for 80 % of requests: 2 users, missed at 3";
    assert!(ended.stdout.contains(said), "{}", ended.stdout);
    assert!(ended.stdout.contains("confirmed by a second load"));
    // whoever has the samples of a level has its result
    let run = lab.run_folder().display().to_string();
    let counted = lab.run(&["report", &run, "--recompute"]);
    counted.assert_exit(0);
    assert_eq!(
        counted.stdout.matches("results.json is what its").count(),
        5,
        "{}",
        counted.stdout
    );
}

#[test]
fn an_overloaded_level_is_named_and_does_not_spoil_the_sweep() {
    let _alone = alone();
    let lab = Lab::new();
    let engine = Engine::start(&["--latency-ms", "200", "--gap-ms", "0"]);
    let recipe = recipe(
        &lab,
        "sweep: {requests_per_second: [5, 50, 60]}, arrival: {process: constant}, max_in_flight: 4, duration_seconds: 3, pause_seconds: 0",
        "",
    );
    let ended = bench(&lab, &engine, &recipe);
    ended.assert_exit(0);
    let whole = lab.json("bench/load/results.json");
    let verdicts: Vec<&Value> = (0..3)
        .map(|at| &whole["series"]["levels"][at]["validity"]["verdict"])
        .collect();
    assert_eq!(verdicts[1..], ["invalid", "invalid"]);
    assert_eq!(whole["validity"]["verdict"], "degraded");
    assert_eq!(whole["series"]["headline"], "levels/01-5rps");
    let reasons = whole["validity"]["reasons"].to_string();
    assert!(
        reasons.contains("Loads 02 (50 requests/s), 03 (60 requests/s): "),
        "{reasons}"
    );
    // of such levels alone there is nothing to use
    let over = lab.file(
        "over.yaml",
        &std::fs::read_to_string(&recipe)
            .expect("a recipe")
            .replace("[5, 50, 60]", "[50, 60], stop_when_slo_missed: true")
            .replace("max_in_flight: 4", "max_in_flight: 1"),
    );
    let text = format!(
        "{}slo: {{ttft_ms: 5}}\n",
        std::fs::read_to_string(&over).expect("a recipe")
    );
    lab.file("over.yaml", &text);
    let over = over.display().to_string();
    lab.run(&["bench", "--url", &engine.url(), "--out", "over", &over])
        .assert_exit(80);
    let whole = json(&lab, "over/results.json");
    assert_eq!(
        whole["series"]["ended"], "slo_missed",
        "the first missed level is the last"
    );
    assert_eq!(whole["series"]["levels"].as_array().map(Vec::len), Some(1));
    assert_eq!(
        number(&whole, "/series/not_run/0/requested").to_bits(),
        60_f64.to_bits()
    );
}
