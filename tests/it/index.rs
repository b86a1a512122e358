//! The index of a results folder, as a user makes it and as a browser shows it.

use serde_json::{Value, json};

use crate::{browser::Browser, lab::Lab, page::check};

/// A result of a run at an hour of a day.
fn results(name: &str, hour: u32, ttft: f64, verdict: &str) -> Value {
    json!({
        "total_requests": 400, "successes": 400, "errors": 0, "avg_latency_ms": 0.0, "min_latency_ms": 0.0,
        "max_latency_ms": 0.0, "throughput_req_per_sec": 10.0, "schema": 1, "name": name, "service_name": "s",
        "completeness": "complete", "started_at": format!("2026-01-02T{hour:02}:04:05Z"),
        "ended_at": format!("2026-01-02T{hour:02}:05:06Z"), "duration_seconds": 40.0, "warmup_seconds": 0.0,
        "target": {"engine": "vllm", "model": "<m>"}, "load": {"pattern": "closed-loop", "concurrent_users": 3},
        "workload": {}, "errors_by_class": {}, "validity": {"verdict": verdict, "reasons": []}, "stimulus_sha256": "",
        "metrics": {
            "time_to_first_token": {"unit": "ms", "avg": ttft, "p50": ttft, "p99": ttft * 2.0, "count": 400},
            "request_throughput": {"unit": "requests/s", "avg": 10.0},
        },
    })
}

fn lab() -> Lab {
    let lab = Lab::new();
    let runs = [
        ("s-1", "smoke", 1, 30.0, "valid"),
        ("s-2", "smoke", 5, 9.5, "valid"),
        ("s-3", "smoke", 7, 400.0, "invalid"),
        ("deep/er/out", "other", 9, 100.0, "degraded"),
    ];
    for (run, name, hour, ttft, verdict) in runs {
        let folder = if run.starts_with("s-") {
            lab.file(&format!("results/{run}/run.json"), "{}");
            lab.file(&format!("results/{run}/report.html"), "");
            format!("{run}/bench/{name}")
        } else {
            run.to_owned()
        };
        let results = results(name, hour, ttft, verdict).to_string();
        lab.file(&format!("results/{folder}/results.json"), &results);
    }
    lab.file("results/s-4/manifest.json", "{ not JSON");
    lab.file("results/s-5/bench/smoke/results.json", "{\"half\":");
    lab.file("results/s-5/run.json", "{}");
    lab.file("results/notes/readme.txt", "no run");
    lab
}

#[test]
fn every_run_below_a_folder_is_listed_and_what_is_broken_says_why() {
    let lab = lab();
    let ended = lab.run(&["report", "results", "--index"]);
    ended.assert_exit(0);
    for line in ended
        .stdout
        .lines()
        .filter(|line| !line.starts_with("broken") && !line.starts_with('/'))
    {
        assert!(line.chars().count() <= 100, "{line}");
    }
    for words in [
        "s-1",
        "s-2",
        "deep/er/out",
        "broken: s-4: manifest.json: cannot be read",
        "broken: s-5:",
        "index.html",
    ] {
        assert!(ended.stdout.contains(words), "no {words}: {}", ended.stdout);
    }
    assert!(!ended.stdout.contains("notes"), "{}", ended.stdout);
    let told: Value = serde_json::from_str(
        &std::fs::read_to_string(lab.path().join("results/index.json")).expect("a file"),
    )
    .expect("JSON");
    let runs: Vec<&str> = told["entries"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|entry| entry["run"].as_str())
        .collect();
    assert_eq!(
        runs[..4],
        ["deep/er/out", "s-3", "s-2", "s-1"],
        "the newest first"
    );
    assert_eq!(told["entries"][3]["ttft_p50_ms"], 30.0);
    assert_eq!(told["entries"][3]["report"], "s-1/report.html");

    // without a folder: that of results; the same again, and elsewhere, with links that lead back
    lab.run(&["report", "--index"]).assert_exit(0);
    lab.run(&["report", "results", "--index", "--out", "there"])
        .assert_exit(0);
    let page = std::fs::read_to_string(lab.path().join("there/index.html")).expect("a page");
    assert!(page.contains("../results/s-1/report.html"), "{page}");
    let ended = lab.run(&["report", "nowhere", "--index"]);
    ended.assert_exit(66);
    assert!(ended.stderr.contains("is no folder"), "{}", ended.stderr);
}

#[test]
fn the_page_sorts_filters_and_draws_without_a_network() {
    let lab = lab();
    lab.run(&["report", "results", "--index"]).assert_exit(0);
    let page = lab.path().join("results/index.html");
    let mut browser = Browser::start();
    browser.open(&format!("file://{}", page.display()));
    check(&mut browser, "index");
    browser.size(1280, 900);
    let spoken = |browser: &mut Browser| {
        let heads = "[...document.querySelectorAll('#runs th[aria-sort]')]";
        let sorted = browser.look(&format!(
            "{heads}.map(head => head.textContent + ': ' + head.getAttribute('aria-sort'))"
        ));
        (
            sorted,
            browser.look("document.querySelector('#order').textContent"),
        )
    };
    assert_eq!(
        spoken(&mut browser),
        (json!(["started: descending"]), json!(""))
    );
    // each column is sorted by the keyboard, too
    assert_eq!(
        browser.look("[...document.querySelectorAll('#runs thead th')].every(head => head.querySelector('button[type=button]').tabIndex === 0)"),
        true
    );
    let runs = |browser: &mut Browser| {
        let rows = "[...document.querySelectorAll('#runs tbody tr')].filter(row => !row.hidden)";
        browser.look(&format!(
            "{rows}.map(row => row.cells[1].textContent).join(' ')"
        ))
    };
    let sort = |browser: &mut Browser, head: &str| {
        let heads = "[...document.querySelectorAll('#runs thead button')]";
        browser.look(&format!(
            "{heads}.find(one => one.textContent === '{head}').click()"
        ));
    };
    sort(&mut browser, "TTFT p50, ms");
    assert_eq!(
        runs(&mut browser),
        "s-2 s-1 deep/er/out s-3 s-4 s-5",
        "by number, and what is missing last"
    );
    assert_eq!(
        spoken(&mut browser),
        (
            json!(["TTFT p50, ms: ascending"]),
            json!("sorted by TTFT p50, ms, ascending")
        )
    );
    sort(&mut browser, "TTFT p50, ms");
    assert_eq!(runs(&mut browser), "s-3 deep/er/out s-1 s-2 s-4 s-5");
    let filter = |browser: &mut Browser, words: &str| {
        let set = format!("filter.value = '{words}'; filter.dispatchEvent(new Event('input'))");
        browser.look(&format!(
            "{{ const filter = document.getElementById('filter'); {set} }}"
        ));
    };
    filter(&mut browser, "SMOKE valid vllm");
    assert_eq!(runs(&mut browser), "s-3 s-1 s-2", "invalid holds the word");
    filter(&mut browser, "");
    assert_eq!(runs(&mut browser), "s-3 deep/er/out s-1 s-2 s-4 s-5");
    // one trend: of the two valid runs of the same
    assert_eq!(
        browser.look("document.querySelectorAll('figure svg').length"),
        1
    );
    let dots = browser.look("document.querySelectorAll('figure svg circle').length");
    assert_eq!(dots, 6, "two of p50, of p99 and of throughput");
    assert!(
        browser.asked.iter().all(|url| url.starts_with("file:")),
        "{:?}",
        browser.asked
    );
    assert_eq!(
        browser.look("document.body.innerHTML.includes('<m>')"),
        false,
        "a stranger's name is text"
    );
}
