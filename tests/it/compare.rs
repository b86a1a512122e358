//! Comparisons as a user makes them: the real binary, engines of which one is known to be slower.

use serde_json::Value;

use crate::{
    browser::Browser,
    lab::{Ended, Engine, Lab},
    page,
};

/// Measures an engine whose answers take so long, and leaves the result in this folder.
fn measure(lab: &Lab, folder: &str, latency_ms: &str, seed: &str, [users, seconds]: [u32; 2]) {
    let engine = Engine::start(&["--latency-ms", latency_ms, "--gap-ms", "2"]);
    let params = "model_name: m, prompt_length: {uniform: [12, 20]}, max_tokens: {uniform: [2, 9]}";
    let recipe = format!(
        "name: load\nservice_name: s\ntarget: {{timeout_seconds: 2}}\nworkload: {{pattern: closed-loop, concurrent_users: {users}, \
         duration_seconds: {seconds}, seed: {seed}}}\nslo: {{ttft_ms: 52}}\ndataset: {{type: synthetic, params: {{{params}}}}}\n"
    );
    let recipe = lab.file("load.yaml", &recipe).display().to_string();
    let url = engine.url();
    let arguments = [
        "bench",
        &recipe,
        "--url",
        &url,
        "--out",
        folder,
        "--allow-invalid",
    ];
    lab.run(&arguments).assert_exit(0);
}

fn json(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {}", ended.stdout))
}

/// The number of a metric in the first pair.
fn number(told: &Value, metric: &str, statistic: &str) -> Value {
    let all = told["pairs"][0]["differences"].as_array().expect("a list");
    let found = all
        .iter()
        .find(|one| one["metric"] == metric && one["statistic"] == statistic);
    found
        .unwrap_or_else(|| panic!("no {metric} {statistic}: {told}"))
        .clone()
}

#[test]
fn a_slower_engine_is_told_with_its_interval_and_breaks_a_rule() {
    let lab = Lab::new();
    for (folder, latency) in [("a", "50"), ("b", "55")] {
        measure(&lab, folder, latency, "7", [8, 20]);
    }
    let told = lab.run(&["compare", "a", "b", "--json"]);
    told.assert_exit(0);
    let told = json(&told);
    for (metric, statistic) in [
        ("time_to_first_token", "mean"),
        ("time_to_first_token", "p50"),
        ("request_latency", "mean"),
        ("request_throughput", "mean"),
    ] {
        let one = number(&told, metric, statistic);
        assert_eq!(one["verdict"], "worse", "{one}");
    }
    let first = number(&told, "time_to_first_token", "mean");
    let [low, high] = [0, 1].map(|end| {
        first["interval"]["percent"][end]
            .as_f64()
            .expect("a number")
    });
    let percent = first["percent"].as_f64().expect("a number");
    assert!(low <= percent && percent <= high && low > 0.0, "{first}");
    assert!((5.0..15.0).contains(&percent), "{first}");
    // what stands in the results stands here, too
    let results = std::fs::read(lab.path().join("b/results.json")).expect("results");
    let results: Value = serde_json::from_slice(&results).expect("JSON");
    for statistic in ["p50", "p90", "p95"] {
        let there = &results["metrics"]["inter_token_latency"][statistic];
        assert_eq!(
            &number(&told, "inter_token_latency", statistic)["b"],
            there,
            "{statistic}"
        );
    }
    for metric in [
        "request_throughput",
        "output_token_throughput",
        "total_token_throughput",
    ] {
        let there = results["metrics"][metric]["avg"].as_f64().expect("a rate");
        let here = number(&told, metric, "mean")["b"].as_f64().expect("a rate");
        assert!(
            (there - here).abs() < 1e-9 * there,
            "{metric}: {there}, {here}"
        );
    }
    // 52 ms are kept by the one, and not by the other
    let attained = number(&told, "slo_attainment", "mean");
    assert_eq!(attained["verdict"], "worse", "{attained}");
    assert_eq!(attained["unit"], "%");
    let there = results["metrics"]["slo_attainment"]["avg"].as_f64();
    let here = attained["b"].as_f64().expect("a share");
    assert!(
        (here - 100.0 * there.expect("a share")).abs() < 1e-9,
        "{attained}"
    );
    let [low, high] = [0, 1].map(|end| attained["interval"]["absolute"][end].as_f64());
    assert!(low < high && high < Some(0.0), "{attained}");
    assert_eq!(told["family"]["correction"], "Bonferroni");
    assert!(told["family"]["size"].as_u64() > Some(20));
    assert!(
        !told["warnings"].to_string().contains("different loads"),
        "{told}"
    );

    let gate = |rule: &str| lab.run(&["compare", "a", "b", "--allow-invalid", "--fail-if", rule]);
    let ended = gate("time_to_first_token.p50 > +5%");
    ended.assert_exit(81);
    assert!(
        ended
            .stdout
            .contains("time_to_first_token.p50 > +5%: broken"),
        "{}",
        ended.stdout
    );
    gate("time_to_first_token.p50 > +20ms").assert_exit(0);
    gate("request_throughput < -50%").assert_exit(0);
    gate("ttft > 5%").assert_exit(64);
    gate("slo_attainment < -10pp").assert_exit(81);
    gate("slo_attainment < -10%").assert_exit(64);
}

#[test]
fn every_form_is_short_enough_and_the_page_stands_alone() {
    let lab = Lab::new();
    for (folder, seed) in [("a1", "1"), ("a2", "1"), ("b", "2")] {
        measure(&lab, folder, "20", seed, [4, 4]);
    }
    let table = lab.run(&["compare", "a1,a2", "b/results.json"]);
    table.assert_exit(0);
    for line in table.stdout.lines() {
        assert!(line.chars().count() <= 100, "{line}");
    }
    for words in [
        "were sent different loads",
        "What differs",
        "stimulus",
        "Not known: engine version, image digest",
        "cannot tell",
    ] {
        assert!(table.stdout.contains(words), "no {words}: {}", table.stdout);
    }
    let markdown = lab.run(&["compare", "a1,a2", "b", "--format", "markdown"]);
    assert!(
        markdown.stdout.contains("| request latency (ms) mean |"),
        "{}",
        markdown.stdout
    );
    let page = lab.run(&[
        "compare",
        "a1",
        "a2",
        "--format",
        "html",
        "--out",
        "page.html",
    ]);
    page.assert_exit(0);
    let text = std::fs::read_to_string(lab.path().join("page.html")).expect("a page");
    for words in ["</html>", "--good:", "request latency (ms)", "cannot tell"] {
        assert!(text.contains(words), "no {words}");
    }
    assert!(
        !text.contains("http://") && !text.contains("<script"),
        "it needs no network and no script"
    );
    let mut browser = Browser::start();
    let file = lab.path().join("page.html");
    browser.open(&format!("file://{}", file.display()));
    page::check(&mut browser, "compare");
    page::check_keyboard(&mut browser);
    assert_eq!(browser.asked.len(), 1, "{:?}", browser.asked);
    // the same twice
    let again = || lab.run(&["compare", "a1", "a2", "--json"]).stdout;
    assert_eq!(again(), again());

    // without samples nothing is tested, and no rule passes that would need it
    std::fs::remove_file(lab.path().join("b/samples.parquet")).expect("removed");
    let told = lab.run(&["compare", "a1", "b"]);
    told.assert_exit(0);
    assert!(
        told.stdout.contains("it has no samples.parquet"),
        "{}",
        told.stdout
    );
    assert!(
        !told.stdout.contains("worse") && !told.stdout.contains("better"),
        "{}",
        told.stdout
    );
    let gate = [
        "compare",
        "a1",
        "b",
        "--allow-invalid",
        "--fail-if",
        "error_rate > +1pp",
    ];
    lab.run(&gate).assert_exit(81);
}

#[test]
fn loads_of_a_sweep_are_compared_level_by_level_and_repeats_are_runs_of_one_side() {
    let lab = Lab::new();
    let engine = Engine::start(&["--latency-ms", "5", "--gap-ms", "1"]);
    for (folder, load) in [
        ("sweep", "sweep: {concurrent_users: [1, 2]}"),
        ("longer", "sweep: {concurrent_users: [2, 3]}"),
        ("again", "concurrent_users: 2, repeats: 2"),
    ] {
        let params = "model_name: m, prompt_length: 12, max_tokens: 4";
        let recipe = format!(
            "name: load\nservice_name: s\ntarget: {{timeout_seconds: 2}}\nworkload: {{{load}, total_requests: 40, \
             pause_seconds: 0}}\ndataset: {{type: synthetic, params: {{{params}}}}}\n"
        );
        let recipe = lab.file("load.yaml", &recipe).display().to_string();
        let url = engine.url();
        let arguments = [
            "bench",
            &recipe,
            "--url",
            &url,
            "--out",
            folder,
            "--allow-invalid",
        ];
        lab.run(&arguments).assert_exit(0);
    }
    let told = json(&lab.run(&["compare", "sweep", "longer", "--json"]));
    let pairs = told["pairs"].as_array().expect("a list");
    assert_eq!(pairs.len(), 1, "{told}");
    assert_eq!(pairs[0]["level"], "2 users");
    let warnings = told["warnings"].to_string();
    assert!(
        warnings.contains("B has no bench load at 1 user"),
        "{warnings}"
    );
    let told = json(&lab.run(&["compare", "again", "again", "--json"]));
    assert_eq!(told["pairs"][0]["runs"], serde_json::json!([2, 2]));
    // nothing in common
    let ended = lab.run(&["compare", "sweep", "again"]);
    ended.assert_exit(66);
    assert!(
        ended.stderr.contains("no load in common"),
        "{}",
        ended.stderr
    );
}

#[test]
fn sides_that_are_not_there_end_with_what_to_do() {
    let lab = Lab::new();
    let ended = lab.run(&["compare", "nowhere", "elsewhere"]);
    ended.assert_exit(66);
    assert!(ended.stderr.contains("nowhere"), "{}", ended.stderr);
    lab.run(&["compare", "one"]).assert_exit(64);
    lab.file("empty/bench/x/note", "");
    let ended = lab.run(&["compare", "empty", "empty"]);
    ended.assert_exit(66);
    assert!(
        ended.stderr.contains("holds no results"),
        "{}",
        ended.stderr
    );
}
