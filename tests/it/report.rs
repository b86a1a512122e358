//! Reports of run folders written by hand: what a reader of page, text and terminal would notice.

use std::path::{Path, PathBuf};

use aif::{
    command::{self, Shell},
    env::Env,
    exit::Exit,
    report,
    run::RunDir,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A results folder with runs in it.
struct Runs {
    folder: TempDir,
}

impl Runs {
    fn new() -> Self {
        Self {
            folder: TempDir::with_prefix("aif-report-").expect("a temporary folder"),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("results").join(name)
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        #[expect(clippy::disallowed_methods, reason = "a test's own file")]
        std::fs::write(path, content).expect("a file");
    }

    fn json(&self, name: &str, value: &Value) {
        self.file(name, value.to_string());
    }

    /// A whole run of a stack under Slurm.
    fn stack(&self, id: &str) -> RunDir {
        self.json(&format!("{id}/manifest.json"), &manifest(id));
        self.json(&format!("{id}/bench/smoke/results.json"), &results());
        for file in ["vllm.json", "results.csv"] {
            self.file(&format!("{id}/bench/smoke/{file}"), "x");
        }
        self.file(&format!("{id}/metrics/snapshot.tar.zst"), "x");
        self.file(&format!("{id}/logs/server.log"), "ready\n");
        RunDir::open(&self.path(id)).expect("a run")
    }

    fn write(&self, run: &RunDir) -> (String, String, String) {
        let summary = report::write(run).expect("a report").to_string();
        let here = self.folder.path().canonicalize().expect("a folder");
        let summary = summary.replace(here.to_str().expect("a readable path"), "");
        (
            read(&run.path.join("report.html")),
            read(&run.path.join("report.md")),
            summary,
        )
    }

    async fn command(&self, runs: &[&str], out: Option<&str>) -> anyhow::Result<Exit> {
        let env: Env = [(
            "SLURM_SUBMIT_DIR",
            self.folder.path().to_str().expect("a readable path"),
        )]
        .into_iter()
        .collect();
        let shell = Shell {
            env,
            home: self.folder.path().to_owned(),
        };
        let args = command::report::Args {
            runs: runs.iter().map(|run| (*run).to_owned()).collect(),
            out: out.map(|out| self.folder.path().join(out)),
            json: false,
            ..command::report::Args::default()
        };
        command::report::run(args, &shell).await
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn step(role: &str, step: &str, times: [&str; 3]) -> Value {
    json!({"schema": 1, "role": role, "recipe": format!("llamacpp-{role}"), "job": "41", "step": step, "pid": 77,
        "node": "n1", "cpus": [0, 1], "started_at": times[0], "ready_at": times[1], "ended_at": times[2], "exit": "done",
        "facts": {"instance_id": format!("llamacpp-{role}-41.{step}"), "image_digest": "sha256:0011"}})
}

fn recipe(kind: &str, plan: &Value) -> Value {
    json!({"kind": kind, "path": format!("recipes/{kind}s/x.yaml"), "text": format!("name: llamacpp-{kind}\n"), "plan": plan})
}

fn manifest(id: &str) -> Value {
    json!({
        "schema": 1, "run": id, "aif_version": "0.1.0", "role": "stack", "state": "complete", "site": "local",
        "cluster": "aif", "launcher": "srun", "started_at": "2026-03-01T12:00:00Z",
        "ended_at": "2026-03-01T12:01:05Z", "exit": "done", "problems": [],
        "job": {"job_id": "41", "cluster": "aif", "nodes": "n[1-2]", "partition": "cpu", "account": "users"},
        "recipes": [
            recipe("server", &json!({"name": "llamacpp-server", "service_name": "llamacpp", "engine": "llamacpp",
                "model": "smollm2", "launch": {"container": {"image": "/images/llama.sif"}}})),
            recipe("monitor", &json!({"name": "llamacpp-monitor"})),
            recipe("client", &json!({"name": "smoke"})),
        ],
        "steps": {
            "server": step("server", "0", ["2026-03-01T12:00:01Z", "2026-03-01T12:00:04.500Z", "2026-03-01T12:01:04Z"]),
            "bench-smoke": step("bench-smoke", "2", ["2026-03-01T12:00:05Z", "2026-03-01T12:00:06Z", "2026-03-01T12:01:00Z"]),
        },
        "accounting": {"Elapsed": "00:01:05", "AllocTRES": "billing=4,cpu=4,mem=8G,node=1", "Submit": "2026-03-01T11:59:58"},
    })
}

fn metric(unit: &str, p50: f64) -> Value {
    json!({"unit": unit, "avg": p50 * 1.1, "min": p50 / 2.0, "max": p50 * 4.0, "std": p50 / 5.0, "p50": p50,
        "p90": p50 * 1.5, "p95": p50 * 2.0, "p99": p50 * 3.0, "p99.9": p50 * 3.5, "count": 310})
}

fn results() -> Value {
    let slices: Vec<Value> = (0..40_u32)
        .map(|t| {
            let ttft = (!(20..23).contains(&t)).then(|| 30.0 + f64::from(t % 7));
            json!({"t": t, "sent": 8, "completed": if ttft.is_some() { 8 } else { 0 }, "errors": u32::from(t == 21),
                "output_tokens": if ttft.is_some() { 160 } else { 0 }, "in_flight": 3 + t % 3, "ttft_p50_ms": ttft,
                "ttft_max_ms": ttft.map(|ms| ms * 2.5), "itl_ms": ttft.map(|ms| ms / 10.0)})
        })
        .collect();
    json!({
        "total_requests": 311, "successes": 310, "errors": 1, "avg_latency_ms": 250.5, "min_latency_ms": 100.0,
        "max_latency_ms": 900.0, "throughput_req_per_sec": 10.33, "schema": 1, "name": "smoke",
        "service_name": "llamacpp", "run": "llamacpp-41", "completeness": "complete",
        "started_at": "2026-03-01T12:00:06Z", "ended_at": "2026-03-01T12:00:46Z", "duration_seconds": 30.0,
        "warmup_seconds": 5.0,
        "target": {"urls": ["http://n1:20001"], "model": "smollm2", "engine": "llamacpp",
            "instances": ["llamacpp-server-41.0"], "nodes": ["n1"]},
        "load": {"pattern": "closed-loop", "concurrent_users": 3, "think_time": {"secs": 0, "nanos": 0}, "requests_per_user": null},
        "workload": {"prompt_length": 50, "max_tokens": 20, "seed": 0},
        "errors_by_class": {"timeout": 1}, "error_samples": ["no answer within 60 s"],
        "metrics": {
            "time_to_first_token": metric("ms", 31.24), "time_per_output_token": metric("ms", 4.5),
            "request_latency": metric("ms", 250.0), "request_throughput": {"unit": "requests/s", "avg": 10.333},
            "output_token_throughput": {"unit": "tokens/s", "avg": 206.7},
        },
        "validity": {"verdict": "valid", "reasons": []}, "stimulus_sha256": "abc123",
        "tokens": {"counted_by": "usage", "prompt": {"client": 15550, "engine": 15550}, "output": {"client": 6200, "engine": 6200}},
        "generator": {"achieved_rate": 10.4, "lateness_p50_ms": 0.05, "lateness_p99_ms": 0.4, "lateness_max_ms": 1.5,
            "cpu_seconds": 1.2, "cpus": [2], "cores_shared": false},
        "slices": slices,
    })
}

/// Nothing that a browser would fetch by itself, and no link that leaves the folder of results.
fn assert_self_contained(page: &str) {
    for outside in [
        "src=",
        "http-equiv",
        "<link",
        "<script",
        "@import",
        "url(",
        "href=\"http",
        "href=\"/",
        "javascript:",
    ] {
        assert!(!page.contains(outside), "the page holds {outside}");
    }
}

#[test]
fn the_page_says_the_verdict_first_and_holds_every_number() {
    let runs = Runs::new();
    let (page, _, _) = runs.write(&runs.stack("llamacpp-41"));
    assert_self_contained(&page);
    let place = |text: &str| {
        page.find(text)
            .unwrap_or_else(|| panic!("the page lacks {text:?}"))
    };
    assert!(place("<strong>valid</strong>") < place("31.24") && place("31.24") < place("What ran"));
    let facts = [
        "311 requests in 30.0 s, 1 error",
        "93.72",
        "time per output token",
        "10.33",
        "206.7", // headline
        "p99.9",
        "109.3", // all numbers
        "equal",
        "6200",
        "counted by usage", // tokens
        "p99 0.4 ms",
        "CPUs shared with the engine", // generator
        "closed loop, 3 users",
        "abc123",
        "smollm2",
        "/images/llama.sif",
        "sha256:0011", // what ran
        "41.0",
        "12:00:04.5",
        "3.5 s",
        "n[1-2]",
        "cpu=4,mem=8G", // steps, job, cost
        "name: llamacpp-client",
        "aif open llamacpp-41",
        "href=\"bench/smoke/results.json\"",
        "href=\"metrics/snapshot.tar.zst\"",
        "href=\"logs/server.log\"",
    ];
    for fact in facts {
        assert!(page.contains(fact), "the page lacks {fact:?}");
    }
    assert_eq!(page.matches("<svg").count(), 4);
    assert_eq!(
        page.matches("as a table</summary>").count(),
        4,
        "each chart has its table"
    );
    assert!(
        page.contains("21 s\nmedian: –"),
        "a second without a first token is a gap"
    );
}

/// What a monitor keeps of a run that began two seconds before it.
fn series() -> Value {
    let line = |name: &str, value: f64| {
        let values: Vec<Option<f64>> = (0..31).map(|at| (at != 10).then_some(value)).collect();
        json!({"name": name, "query": "up", "values": values})
    };
    let chart = |group: &str, title: &str, unit: &str, lines: &[Value]| json!({"group": group, "title": title, "panels": [{"unit": unit, "lines": lines}]});
    json!({"schema": 1, "start": "2026-03-01T12:00:02Z", "step_seconds": 2.0, "absent": ["GPU"], "charts": [
        chart("load", "Requests of the load", "requests/s", &[line("ended well", 7.0)]),
        chart("engine", "KV cache of the engine", "%", &[line("in use", 61.5)]),
        chart("node", "Memory", "GiB", &[line("of the job", 3.25), line("limit of the job", 8.0)]),
    ]})
}

/// What stands between two headings.
fn between<'a>(page: &'a str, from: &str, to: &str) -> &'a str {
    let rest = page.split_once(from).unwrap_or_else(|| panic!("no {from}"));
    rest.1.split_once(to).unwrap_or_else(|| panic!("no {to}")).0
}

#[test]
fn engine_and_node_stand_on_the_time_of_the_bench_and_of_the_run() {
    let runs = Runs::new();
    let run = runs.stack("llamacpp-41");
    runs.json("llamacpp-41/metrics/series.json", &series());
    let (page, text, _) = runs.write(&run);
    assert_self_contained(&page);
    insta::assert_snapshot!(between(&text, "## Engine and node", "## What ran"), @r"
    | what | line | mean | largest | unit |
    |---|---|---|---|---|
    | KV cache of the engine | in use | 61.5 | 61.5 | % |
    | Memory | of the job | 3.25 | 3.25 | GiB |
    | Memory | limit of the job | 8 | 8 | GiB |

    Not measured here: GPU.
    ");
    let beside = between(&page, "Engine and node at the same time", "<h3>All numbers");
    assert_eq!(
        beside.matches("<svg").count(),
        2,
        "what the bench tells itself is not told twice"
    );
    // the load began four seconds after the first value; it ended before the last
    let row = |seconds: &str, of: &str| format!("<th scope=\"row\">{seconds}</th><td>{of}</td>");
    assert!(beside.contains(&row("0", "61.5")) && beside.contains(&row("40", "61.5")));
    assert!(!beside.contains(&row("42", "61.5")));
    assert!(beside.contains(&row("16", "–")), "a gap is one");
    let whole = between(&page, "Over the whole run", "<h2>What ran");
    assert_eq!(whole.matches("<svg").count(), 3);
    assert!(whole.contains("Not measured here: GPU."));
    assert!(whole.contains("<title>load of bench smoke</title>"));
    assert!(whole.contains(&row("2", "61.5")) && whole.contains(&row("62", "61.5")));

    // a bench that ran alone is seen by the monitor that ran beside it
    let mut alone = manifest("llamacpp-bench-42");
    alone["recipes"] = json!([recipe("client", &json!({"name": "smoke"}))]);
    runs.json("llamacpp-bench-42/manifest.json", &alone);
    runs.json("llamacpp-bench-42/bench/smoke/results.json", &results());
    let other = RunDir::open(&runs.path("llamacpp-bench-42")).expect("a run");
    report::write_joined(&[other, run.clone()], &runs.path("joined")).expect("a report");
    let joined = read(&runs.path("joined/report.html"));
    assert_eq!(
        joined.matches("Engine and node at the same time").count(),
        2
    );

    runs.file("llamacpp-41/metrics/series.json", "{");
    let (page, _, _) = runs.write(&run);
    assert!(page.contains("metrics/series.json: cannot be read"));
    assert!(!page.contains("Over the whole run"));
}

#[test]
fn the_turns_of_conversations_are_a_table() {
    let runs = Runs::new();
    let run = runs.stack("llamacpp-41");
    let mut told = results();
    let turn = |turn: u32, ms: f64| {
        json!({"turn": turn, "requests": 50, "errors": turn - 1, "metrics": {"time_to_first_token": metric("ms", ms),
            "input_sequence_length": {"unit": "tokens", "avg": 64.0 * f64::from(turn)}}})
    };
    told["turns"] = json!([turn(1, 20.0), turn(2, 44.5)]);
    told["conversations"] = json!({"begun": 50, "completed": 48, "failed": 1, "cut_short": 1});
    runs.json("llamacpp-41/bench/smoke/results.json", &told);
    let (page, text, _) = runs.write(&run);
    let row = "<th scope=\"row\">2</th><td>50</td><td>1</td><td>44.5</td><td>133.5</td><td>–</td><td>–</td><td>128</td>";
    assert!(between(&page, "<h3>Turns", "<h3>").contains(row));
    assert!(page.contains("50 conversations began: 48 came to their last turn"));
    assert!(
        text.contains("| 2 | 50 | 1 | 44.5 | 133.5 | – | – | 128 | – | – |"),
        "{text}"
    );
}

#[test]
fn the_text_holds_the_same_in_short() {
    let runs = Runs::new();
    let (_, text, _) = runs.write(&runs.stack("llamacpp-41"));
    insta::assert_snapshot!(text, @r#"
    # llamacpp-41

    **Valid.** The load was what it was asked to be: the numbers can be used.

    ## Bench smoke

    Valid: 311 requests in 30.0 s, 1 error.

    closed loop, 3 users

    | | mean | p50 | p99 | max | unit |
    |---|--:|--:|--:|--:|---|
    | time to first token | 34.36 | 31.24 | 93.72 | 125 | ms |
    | time per output token | 4.95 | 4.5 | 13.5 | 18 | ms |
    | request latency | 275 | 250 | 750 | 1000 | ms |
    | throughput | 10.33 | – | – | – | requests/s |
    | output tokens | 206.7 | – | – | – | tokens/s |

    - prompt tokens: client 15550, engine 15550: equal
    - output tokens: client 6200, engine 6200: equal
    - errors `timeout`: 1

    ## What ran

    stack on site local, cluster aif, started by srun, aif 0.1.0; 2026-03-01 12:00:00 UTC, 1 min 05 s

    Job 41 on n[1-2]

    | role | recipe | step | node | start | ready | end | exit |
    |---|---|---|---|---|---|---|---|
    | server | llamacpp-server | 41.0 | n1 | 12:00:01.0 | 12:00:04.5 | 12:01:04.0 | 0 |
    | bench-smoke | llamacpp-bench-smoke | 41.2 | n1 | 12:00:05.0 | 12:00:06.0 | 12:01:00.0 | 0 |

    | phase | took |
    |---|---|
    | submitted to started | not known: accounting does not tell when the job was submitted |
    | started to first step | not known: this version of Slurm does not tell when the job started |
    | first step to engine ready | 3.5 s |
    | engine ready to first token of the load | not known: no token came |
    | submitted to first token of the load | not known: accounting does not tell when the job was submitted |

    ### Cost

    Of the whole job, from its start until the report, which is made before it ends (`aif report` asks again when it is over), the start of the engine included.

    | | |
    |---|---|
    | node-hours | 0.0181 node-hours |
    | CPU-hours | 0.0722 CPU-hours |
    | GPU-hours | not known: no GPU was allocated |
    | billing units × hours | 0.0722 unit-hours |
    | energy of its nodes | not known: Slurm adds it up when the job ends |
    | output tokens | 6200 tokens |
    | output tokens of a GPU-hour | not known: no GPU was allocated |
    | output tokens of a node-hour | 343385 tokens/node-hour |
    | energy of an output token | not known: Slurm adds it up when the job ends |
    | price | not known: the site file has no `price` |
    | price of a million output tokens | not known: the site file has no `price` |

    Metrics again: `aif open llamacpp-41`
    "#);
}

#[test]
fn the_terminal_shows_verdict_numbers_and_where_the_report_is() {
    let runs = Runs::new();
    let (_, _, summary) = runs.write(&runs.stack("llamacpp-41"));
    insta::assert_snapshot!(summary, @r#"
    run llamacpp-41: VALID
      bench smoke: valid; 311 requests in 30.0 s, 1 error
        time to first token           31.24 ms (p50)       93.72 ms (p99)
        time per output token           4.5 ms (p50)        13.5 ms (p99)
        request latency                 250 ms (p50)         750 ms (p99)
        throughput                    10.33 requests/s
        output tokens                 206.7 tokens/s
      phases: first step to engine ready 3.5 s
      cost: 0.0181 node-hours, 0.0722 CPU-hours, 343385 tokens/node-hour until the report
    report  /results/llamacpp-41/report.html
    "#);
}

#[test]
fn alerts_stand_in_page_text_and_terminal() {
    let runs = Runs::new();
    let run = runs.stack("llamacpp-41");
    let evil = "<b>\u{1b}[31m|x";
    let episode = |alert: &str, fired: Option<&str>, ended: Option<&str>| {
        json!({"alert": alert, "severity": "critical", "summary": "it hangs", "labels": {"job": "engine", "node": "n1", "x": evil,
            "instance": "n1:2"}, "since": "2026-03-01T12:00:10Z", "fired_at": fired, "ended_at": ended})
    };
    let fired = Some("2026-03-01T12:00:30Z");
    runs.json(
        "llamacpp-41/metrics/alerts.json",
        &json!({"schema": 1, "until": "2026-03-01T12:01:00Z", "rules": [{"alert": "Down", "expr": "up == 0"}], "episodes": [
            episode("Down", fired, Some("2026-03-01T12:00:50Z")), episode("Lost", fired, None), episode("Slow", None, None)]}),
    );
    let (page, text, summary) = runs.write(&run);
    let lines: Vec<&str> = summary
        .lines()
        .filter(|line| line.contains("alert "))
        .collect();
    insta::assert_snapshot!(lines.join("\n"), @"
      alert   Down (critical), fired, was over, at 12:00:30.0 for 20.0 s: job engine, node n1, x <b>|x; it hangs
      alert   Lost (critical), fired until the end, at 12:00:30.0 for 30.0 s: job engine, node n1, x <b>|x; it hangs
      alert   Slow (critical), the run ended before it fired, at 12:00:10.0 for 50.0 s: job engine, node n1, x <b>|x; it hangs
    ");
    let alerts = text.split("## Alerts").nth(1).unwrap();
    insta::assert_snapshot!(alerts.split("## What ran").next().unwrap(), @r"
    Alerts fired 2 times; watched until 12:01:00.0.

    | alert | severity | at | for | state | of | meaning |
    |---|---|---|---|---|---|---|
    | Down | critical | 12:00:30.0 | 20.0 s | fired, was over | job engine, node n1, x &lt;b>\|x | it hangs |
    | Lost | critical | 12:00:30.0 | 30.0 s | fired until the end | job engine, node n1, x &lt;b>\|x | it hangs |
    | Slow | critical | 12:00:10.0 | 50.0 s | the run ended before it fired | job engine, node n1, x &lt;b>\|x | it hangs |
    ");
    for words in [
        "<h2>Alerts</h2>",
        "Alerts fired 2 times; watched until 12:01:00.0.",
        ">Down</span>",
        "<td>fired until the end</td>",
        "x &lt;b&gt;|x",
        "<th scope=\"row\">Down</th><td>up == 0</td>",
    ] {
        assert!(page.contains(words), "{words} is not in the page");
    }
    // a quiet run says so, a file that is none is missing, and without a file nothing is claimed
    runs.json(
        "llamacpp-41/metrics/alerts.json",
        &json!({"schema": 1, "rules": [{"alert": "Down", "expr": "up == 0"}], "problem": "Prometheus was lost"}),
    );
    let (_, text, _) = runs.write(&run);
    let quiet =
        "No alert fired, of 1 that were watched for. Not all is known: Prometheus was lost.";
    assert!(text.contains(quiet), "{text}");
    // one that could not have fired is no good news
    let rule = |alert: &str, had: Value| json!({"alert": alert, "expr": "x > 1", "had_data": had});
    let rules = [
        rule("Down", json!(true)),
        rule("GpuHot", json!(false)),
        rule("Odd", json!(null)),
    ];
    runs.json(
        "llamacpp-41/metrics/alerts.json",
        &json!({"schema": 1, "rules": rules}),
    );
    let (page, text, _) = runs.write(&run);
    let quiet = "No alert fired, of 2 of 3 that had anything to judge; without any data in this run: GpuHot.";
    assert!(text.contains(quiet) && page.contains(quiet), "{text}");
    assert!(
        page.contains("<th scope=\"row\">GpuHot (had no data in this run)</th><td>x &gt; 1</td>")
    );
    runs.file("llamacpp-41/metrics/alerts.json", "{");
    let (_, text, _) = runs.write(&run);
    assert!(text.contains("- missing: metrics/alerts.json: cannot be read"));
    assert!(!text.contains("## Alerts"));
}

#[test]
fn hostile_names_stay_text() {
    let runs = Runs::new();
    let run = runs.stack("llamacpp-41");
    let evil = "<script>alert(1)</script>|`x`\u{1b}[31m\n\"'><img src=x onerror=y>";
    let mut result = results();
    for key in ["name", "service_name", "stimulus_sha256"] {
        result[key] = json!(evil);
    }
    result["validity"] = json!({"verdict": "invalid", "reasons": [evil]});
    result["error_samples"] = json!([evil]);
    result["errors_by_class"] = json!({evil: 3});
    result["target"]["model"] = json!(evil);
    result["metrics"][evil] = json!({"unit": evil, "avg": 1.0});
    runs.json("llamacpp-41/bench/a <b>\"#/results.json", &result);
    runs.file("llamacpp-41/logs/server.log", evil);
    let mut story = manifest("llamacpp-41");
    story["recipes"][0]["text"] = json!(evil);
    story["problems"] = json!([evil]);
    story["steps"]["server"]["exit"] = json!("unavailable");
    runs.json("llamacpp-41/manifest.json", &story);
    let (page, text, summary) = runs.write(&run);
    for bad in ["<script>", "<img", "\u{1b}"] {
        assert!(!page.contains(bad), "the page holds {bad:?}");
        assert!(
            !text.contains(bad) || text.lines().any(|line| line.starts_with("    ")),
            "the text holds {bad:?}"
        );
    }
    assert!(!summary.contains('\u{1b}'));
    assert!(page.contains("&lt;script&gt;"));
    assert!(page.contains("href=\"bench/a%20%3Cb%3E%22%23/results.json\""));
    assert!(page.contains("<strong>invalid</strong>"));
}

#[test]
fn every_half_of_a_run_gives_a_report() {
    type Damage = fn(&Runs);
    let cases: [(&str, Damage, &[&str]); 8] = [
        (
            "no manifest",
            |runs| std::fs::remove_file(runs.path("r/manifest.json")).unwrap(),
            &["manifest.json: not there"],
        ),
        (
            "half a manifest",
            |runs| {
                let mut story = manifest("r");
                story["launcher"] = json!(7);
                story["cluster"] = Value::Null;
                runs.json("r/manifest.json", &story);
            },
            &["manifest.json: without", "launcher", "cluster", "n[1-2]"],
        ),
        (
            "a torn manifest",
            |runs| runs.file("r/manifest.json", "{\"schema\": 1,"),
            &["manifest.json: cannot be read"],
        ),
        (
            "killed",
            |runs| {
                let mut story = manifest("r");
                story["state"] = json!("running");
                story["ended_at"] = Value::Null;
                story["exit"] = Value::Null;
                runs.json("r/manifest.json", &story);
                let mut result = results();
                result["completeness"] = json!("running");
                runs.json("r/bench/smoke/results.json", &result);
            },
            &[
                "<strong>not finished</strong>",
                "killed while it ran",
                "31.24",
            ],
        ),
        (
            "invalid",
            |runs| {
                let mut result = results();
                result["validity"] = json!({"verdict": "invalid", "reasons": ["the rate sent is 7 % off the rate asked for"]});
                runs.json("r/bench/smoke/results.json", &result);
            },
            &[
                "<strong>invalid</strong>",
                "Do not use these numbers",
                "7 % off",
            ],
        ),
        (
            "no success",
            |runs| {
                let mut result = results();
                for key in ["avg_latency_ms", "min_latency_ms", "max_latency_ms"] {
                    result[key] = Value::Null;
                }
                result["successes"] = json!(0);
                result["metrics"] = json!({"request_latency": {"unit": "ms", "avg": null}});
                result["slices"] = json!([]);
                result["generator"]["lateness_p99_ms"] = Value::Null;
                runs.json("r/bench/smoke/results.json", &result);
            },
            &["311 requests in 30.0 s"],
        ),
        (
            "no results",
            |runs| std::fs::remove_dir_all(runs.path("r/bench")).unwrap(),
            &[
                "<strong>no result</strong>",
                "bench/smoke/: planned, and left nothing",
            ],
        ),
        (
            "failed",
            |runs| {
                let mut story = manifest("r");
                story["state"] = json!("failed");
                story["exit"] = json!("unavailable");
                story["steps"]["server"]["exit"] = json!("unavailable");
                story["steps"]["server"]["error"] =
                    json!("the engine ended with 1 before it was ready");
                runs.json("r/manifest.json", &story);
                runs.file("r/logs/engine-0.log", "loading\nCUDA out of memory\n");
                std::fs::remove_dir_all(runs.path("r/metrics")).unwrap();
            },
            &[
                "<strong>failed</strong>",
                "server: the engine ended with 1 before it was ready",
                "CUDA out of memory",
                "metrics/: no snapshot",
                "69 (service, engine",
            ],
        ),
    ];
    for (name, damage, told) in cases {
        let runs = Runs::new();
        let run = runs.stack("r");
        damage(&runs);
        let (page, _, _) = runs.write(&run);
        assert_self_contained(&page);
        for text in told {
            assert!(page.contains(text), "{name}: the page lacks {text:?}");
        }
    }
}

#[test]
fn an_open_loop_puts_latency_from_the_intended_time_first() {
    let runs = Runs::new();
    let run = runs.stack("llamacpp-41");
    let mut result = results();
    result["load"] =
        json!({"pattern": "open-loop", "requests_per_second": 10.0, "arrival": "poisson"});
    result["metrics"]["time_to_first_token_scheduled"] = metric("ms", 77.0);
    result["generator"]["requested_rate"] = json!(10.0);
    runs.json("llamacpp-41/bench/smoke/results.json", &result);
    let (page, _, summary) = runs.write(&run);
    assert!(
        page.contains("open loop, 10 requests/s, poisson arrivals")
            && page.contains("rate asked for")
    );
    let line = summary
        .lines()
        .find(|line| line.contains("time to first token"))
        .unwrap();
    assert!(line.contains('*') && line.contains("77"), "{line}");
}

#[tokio::test]
async fn roles_that_ran_alone_are_joined_into_one_report() {
    let runs = Runs::new();
    runs.stack("llamacpp-server-41.0");
    runs.stack("llamacpp-bench-42.0");
    for (id, role) in [
        ("llamacpp-server-41.0", "server"),
        ("llamacpp-bench-42.0", "bench"),
    ] {
        let mut story = manifest(id);
        story["role"] = json!(role);
        runs.json(&format!("{id}/manifest.json"), &story);
    }
    std::fs::remove_dir_all(runs.path("llamacpp-server-41.0/bench")).unwrap();
    let mut result = results();
    result["target"]["instances"] = json!(["llamacpp-server-41.0", "llamacpp-server-9.0"]);
    runs.json("llamacpp-bench-42.0/bench/smoke/results.json", &result);

    let exit = runs
        .command(&["llamacpp-server-41.0", "llamacpp-bench-42.0"], None)
        .await
        .unwrap();
    assert_eq!(exit, Exit::Done);
    let page = read(&runs.path("llamacpp-server-41.0/report.html"));
    assert!(page.contains("llamacpp-server-41.0 + llamacpp-bench-42.0"));
    assert!(page.contains("href=\"../llamacpp-bench-42.0/bench/smoke/results.json\""));
    assert!(page.contains("instance llamacpp-server-9.0, which it met, is of none of these runs"));
    assert!(!runs.path("llamacpp-bench-42.0/report.html").exists());

    runs.command(
        &["llamacpp-server-41.0", "llamacpp-bench-42.0"],
        Some("joined/deep"),
    )
    .await
    .unwrap();
    let page = read(&runs.folder.path().join("joined/deep/report.html"));
    assert!(page.contains("href=\"../../results/llamacpp-bench-42.0/bench/smoke/results.json\""));
}

#[tokio::test]
async fn each_stack_keeps_its_own_report() {
    let runs = Runs::new();
    runs.stack("a-1");
    runs.stack("a-2");
    assert_eq!(
        runs.command(&["a-1", "a-2", "a-1"], None).await.unwrap(),
        Exit::Done
    );
    assert!(runs.path("a-1/report.html").is_file() && runs.path("a-2/report.md").is_file());
    let error = runs.command(&["a-1", "a-2"], Some("x")).await.unwrap_err();
    assert_eq!(Exit::of(&error), Exit::Usage);
}

#[tokio::test]
async fn what_is_no_run_ends_in_66_and_says_what_was_expected() {
    let runs = Runs::new();
    runs.file("other/notes.txt", "x");
    let error = runs.command(&["nothing-1"], None).await.unwrap_err();
    assert_eq!(Exit::of(&error), Exit::NoInput);
    assert!(error.to_string().starts_with("no run nothing-1"), "{error}");
    let other = runs.path("other");
    let error = runs
        .command(&[other.to_str().unwrap()], None)
        .await
        .unwrap_err();
    assert_eq!(Exit::of(&error), Exit::NoInput);
    assert!(
        error.to_string().contains("it should hold manifest.json"),
        "{error}"
    );
}
