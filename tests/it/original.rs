//! What was broken in the original tool, each fault by its name, on the real binary.
//!
//! The longer tests of the same things stand where they belong: users, rates and lengths in `bench`, the registry in
//! `registry`, endings in `server` and `stack`, images in `images`. On the real Slurm: `case_workloads` (users, rate and
//! lengths by the engine's own metrics), `case_stack` (no `squeue` and no other question to the controller while a run goes
//! on; no key in an argument), `case_instances` and `case_apart` (stop from another job), `case_time_limit`.

use std::{
    collections::BTreeSet, fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration,
};

use serde_json::Value;

use crate::{
    images::Place,
    lab::{Ended, Engine, Lab, Started, alone, assert_near, example, scripted_engine, wait_until},
    stack::{QUICK, WHOLE, recipes},
};

/// A load of the engine, and its result.
fn bench(lab: &Lab, engine: &Engine, arguments: &[&str]) -> Value {
    let out = lab.path().join("out").display().to_string();
    let url = engine.url();
    let mut all = vec![
        "bench",
        "--url",
        &url,
        "--model",
        "m",
        "--out",
        &out,
        "--allow-invalid",
    ];
    all.extend(arguments);
    lab.run(&all).assert_exit(0);
    let text = fs::read(lab.path().join("out/results.json")).expect("a result");
    serde_json::from_slice(&text).expect("JSON")
}

fn number(value: &Value, pointer: &str) -> f64 {
    let found = value.pointer(pointer).and_then(Value::as_f64);
    found.unwrap_or_else(|| panic!("no {pointer} in {value:#}"))
}

/// Fifty users were one.
#[test]
fn serial_load() {
    let _alone = alone();
    let lab = Lab::new();
    let engine = Engine::start(&["--latency-ms", "300", "--gap-ms", "0"]);
    let words = [
        "--max-concurrency",
        "50",
        "--num-prompts",
        "150",
        "--random-output-len",
        "2",
    ];
    bench(&lab, &engine, &words);
    assert_eq!(engine.stats()["max_in_flight"], 50);
}

/// The next request of an open loop waited for the last answer.
#[test]
fn closed_open_loop() {
    let _alone = alone();
    let lab = Lab::new();
    let engine = Engine::start(&["--latency-ms", "1500", "--gap-ms", "0"]);
    let words = [
        "--request-rate",
        "20",
        "--duration",
        "3s",
        "--random-output-len",
        "2",
        "--burstiness",
        "1",
    ];
    let results = bench(&lab, &engine, &words);
    // 1.5 s of arrivals are under way at any moment, and none was kept back
    let most = engine.stats()["max_in_flight"].as_u64().expect("a number");
    assert!(most >= 20, "{most} at once");
    assert!(number(&results, "/generator/lateness_p99_ms") < 200.0);
}

#[test]
fn ignored_prompt_length() {
    let lab = Lab::new();
    let engine = Engine::start(&QUICK);
    for length in [64, 700] {
        let words = [
            "--num-prompts",
            "5",
            "--random-output-len",
            "2",
            "--random-input-len",
            &length.to_string(),
        ];
        let results = bench(&lab, &engine, &words);
        // by the engine's count
        assert_near(
            "prompt",
            number(&results, "/metrics/input_sequence_length/avg"),
            f64::from(length),
            5.0,
        );
    }
}

#[test]
fn missing_percentiles() {
    let lab = Lab::new();
    let engine = Engine::start(&QUICK);
    let words = [
        "--num-prompts",
        "1200",
        "--max-concurrency",
        "60",
        "--random-output-len",
        "4",
    ];
    let results = bench(&lab, &engine, &words);
    for metric in [
        "request_latency",
        "time_to_first_token",
        "inter_token_latency",
    ] {
        let all = ["min", "p50", "p90", "p95", "p99", "max"]
            .map(|key| number(&results, &format!("/metrics/{metric}/{key}")));
        assert!(all.is_sorted() && all[1] > 0.0, "{metric}: {all:?}");
    }
}

/// A server that is ready.
fn serve(lab: &Lab, name: &str) -> Started {
    let program = scripted_engine().display().to_string();
    let text = format!(
        "name: {name}-server\nservice_name: {name}\nengine: llamacpp\nservice:\n  program: [{program:?}, --host, '{{host}}', --port, '{{port}}']\n  ports: [auto]\n  auth: key\n"
    );
    let path = lab
        .file(&format!("{name}.yaml"), &text)
        .display()
        .to_string();
    let server = lab.start(&["server", &path]);
    lab.run(&["wait", name, "--timeout", "30s"]).assert_exit(0);
    server
}

/// What one process had started no other knew of.
#[test]
fn stop_and_status_blind_in_a_new_process() {
    let lab = Lab::new();
    let server = serve(&lab, "toy");
    let status = lab.run(&["status", "--json"]);
    let status: Value = serde_json::from_str(&status.assert_exit(0).stdout).expect("JSON");
    assert!(
        status.to_string().contains("\"service_name\":\"toy\""),
        "{status:#}"
    );
    lab.run(&["stop", "toy"]).assert_exit(0);
    server.end().assert_exit(0);
    lab.assert_nothing_left();
}

#[test]
fn registry_torn_by_two_writers() {
    let lab = Lab::new();
    let servers: Vec<_> = (0..2).map(|_| {
        let program = scripted_engine().display().to_string();
        let text = format!("name: toy-server\nservice_name: toy\nengine: llamacpp\nservice:\n  program: [{program:?}, --host, '{{host}}', --port, '{{port}}']\n  ports: [auto]\n");
        let path = lab.file("toy.yaml", &text).display().to_string();
        lab.start(&["server", &path])
    }).collect();
    let mut instances = BTreeSet::new();
    // whenever it is read, while both write, it is whole
    wait_until(Duration::from_secs(30), "both are ready", || {
        for path in lab.records() {
            let Ok(text) = fs::read_to_string(&path) else {
                continue;
            };
            let record: Value = serde_json::from_str(&text)
                .unwrap_or_else(|error| panic!("{}: {error}: {text}", path.display()));
            if record["state"] == "ready" {
                instances.insert(record["instance_id"].to_string());
            }
        }
        instances.len() == 2
    });
    // neither took the other's place
    let listed = lab.run(&["services", "--json"]);
    let listed = listed.assert_exit(0).stdout.clone();
    for instance in &instances {
        assert!(
            listed.contains(instance.trim_matches('"')),
            "{instance}: {listed}"
        );
    }
    lab.run(&["stop", "toy"]).assert_exit(0);
    for server in servers {
        server.end().assert_exit(0);
    }
    lab.assert_nothing_left();
}

/// It ended whatever had the name of its engine.
#[test]
fn strangers_processes_killed() {
    let lab = Lab::new();
    let stranger = Engine::start(&[]);
    let server = serve(&lab, "toy");
    lab.run(&["stop", "--all"]).assert_exit(0);
    server.end().assert_exit(0);
    lab.assert_nothing_left();
    // it answers
    assert_eq!(stranger.stats()["requests"], 0);
}

#[test]
fn world_readable_data() {
    let lab = Lab::new();
    let server = serve(&lab, "toy");
    let registry = lab.path().join(".ubenchai/discover");
    let mut seen = 0;
    let mut folders = vec![registry];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder").flatten() {
            // a record may be replaced meanwhile
            let Ok(about) = entry.metadata() else {
                continue;
            };
            let mode = about.permissions().mode();
            assert_eq!(mode & 0o077, 0, "{}: {mode:o}", entry.path().display());
            seen += 1;
            if about.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    assert!(seen >= 4, "records and keys: {seen}");
    lab.run(&["stop", "toy"]).assert_exit(0);
    server.end().assert_exit(0);
}

/// What `latest` was on a day nobody could tell: it is told, with the digest that it is today.
#[test]
fn latest_image_unpinned() {
    let place = Place::new("[ \"$2\" = pull ] && cp $P/whole.sqsh $4");
    let recipe = place.recipe("moving", "source: \"docker://vllm/vllm-openai:latest\",");
    let pulled = place.run(&["images", "pull", &recipe]);
    let told = &pulled.assert_exit(0).stderr;
    let words = "docker://vllm/vllm-openai:latest is unpinned; resolved to sha256:";
    assert!(told.contains(words), "{told}");
    // and the file says it later, too
    let digest = fs::read_to_string(place.image().with_extension("sif.sha256")).expect("a digest");
    let digest = digest.lines().find(|line| !line.starts_with('#'));
    let digest = digest.and_then(|line| line.split(' ').next());
    let digest = digest.expect("a line of sha256sum");
    assert!(
        told.contains(&format!("{words}{digest}")),
        "{digest}: {told}"
    );
}

#[test]
fn time_limit_ignored() {
    let lab = Lab::new();
    for (recipe, limit) in [
        ("vllm-server", "--time=04:00:00"),
        ("vllm-simple-test", "--time=00:30:00"),
    ] {
        let shown = lab.run(&["submit", "--dry-run", recipe]);
        assert!(
            shown.assert_exit(0).stdout.contains(limit),
            "{}",
            shown.stdout
        );
    }
    let shorter = [
        "submit",
        "--dry-run",
        "vllm-server",
        "--set",
        "orchestration.resources.time_limit=00:07:00",
    ];
    let shown = lab.run(&shorter);
    assert!(
        shown.assert_exit(0).stdout.contains("--time=00:07:00"),
        "{}",
        shown.stdout
    );
}

#[test]
fn metrics_gone_with_the_job() {
    let lab = Lab::new();
    recipes(
        &lab,
        &QUICK,
        "pattern: closed-loop, concurrent_users: 1, duration_seconds: 6",
    );
    lab.run(&WHOLE).assert_exit(0);
    lab.assert_nothing_left();
    let run = lab.run_folder().display().to_string();
    let exported = lab.run(&[
        "export",
        &run,
        "--query",
        "llamacpp:tokens_predicted_total",
        "--step",
        "1s",
        "--json",
    ]);
    let exported: Value = serde_json::from_str(&exported.assert_exit(0).stdout).expect("JSON");
    let points = exported["series"][0]["points"].as_array().expect("points");
    assert!(points.len() >= 3, "{exported:#}");
}

/// On this site, with the folders that recipes ask for.
fn with_folders(lab: &Lab, site: &str, arguments: &[&str]) -> Ended {
    let mut command = lab.aif(arguments);
    command
        .env("AIF_SITE", site)
        .env("CONTAINER_DIR", "/c")
        .env("CACHE_DIR", "/k");
    Ended::of(&command.output().expect("aif starts"))
}

fn yaml_below(folder: &str) -> Vec<std::path::PathBuf> {
    let kinds = ["servers", "monitors", "clients"].map(|kind| {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join(folder)
            .join(kind)
    });
    let files = kinds
        .iter()
        .flat_map(|kind| fs::read_dir(kind).expect("recipes").flatten());
    let all = files.map(|entry| entry.path());
    all.filter(|path| path.extension().is_some_and(|end| end == "yaml"))
        .collect()
}

/// An account, a partition of one site and folders of one project stood in the recipes.
#[test]
fn site_names_hard_coded() {
    let lab = Lab::new();
    let site = "name: other\npartitions: {gpu: accelerated, cpu: fat}\naccount: proj-1\n";
    let site = lab.file("other.yaml", site).display().to_string();
    for path in yaml_below("recipes") {
        let recipe = path.display().to_string();
        let here = with_folders(&lab, "plain", &["submit", "--dry-run", &recipe]);
        let there = with_folders(&lab, &site, &["submit", "--dry-run", &recipe]);
        let there = &there.assert_exit(0).stdout;
        assert!(there.contains("--account=proj-1"), "{there}");
        assert!(
            there.contains("--partition=accelerated") || there.contains("--partition=fat"),
            "{there}"
        );
        assert!(
            !here.assert_exit(0).stdout.contains("--account"),
            "{}",
            here.stdout
        );
        let text = fs::read_to_string(&path).expect("a recipe");
        for word in ["/project/", "p200", "--account", "qos"] {
            assert!(!text.contains(word), "{recipe} says {word}");
        }
    }
}

/// Each recipe says what is to be submitted, with the job script that takes it.
#[test]
fn every_recipe_has_its_job_script() {
    let lab = Lab::new();
    for path in yaml_below("recipes") {
        let recipe = path.display().to_string();
        // the account says where that site has its folders
        let mut command = lab.aif(&["recipes", "show", &recipe, "--site", "meluxina", "--script"]);
        command
            .env_remove("AIF_SITE")
            .env("SLURM_ACCOUNT", "p200000")
            .env("USER", "somebody");
        let shown = Ended::of(&command.output().expect("aif starts"));
        let shown = &shown.assert_exit(0).stdout;
        let kind = path
            .parent()
            .and_then(Path::file_name)
            .and_then(|name| name.to_str());
        let script = match kind {
            Some("servers") => "jobs/server.sh",
            Some("monitors") => "jobs/monitor.sh",
            _ => "jobs/bench.sh",
        };
        assert!(
            shown.starts_with("sbatch ") && shown.contains(script),
            "{recipe}: {shown}"
        );
        assert!(shown.trim_end().ends_with(&recipe), "{recipe}: {shown}");
        assert!(
            shown.contains("--partition=") && shown.contains("--mem="),
            "{recipe}: {shown}"
        );
    }
}

#[test]
fn served_on_0000_without_a_key() {
    // ours does neither
    for path in yaml_below("recipes") {
        let text = fs::read_to_string(&path).expect("a recipe");
        let original = path.ends_with("vllm-server.yaml");
        assert_eq!(text.contains("0.0.0.0"), original, "{}", path.display());
    }
    // the original's own is warned of, and one word mends it
    let lab = Lab::new();
    let told = lab.run(&["recipes", "check", "vllm-server"]);
    let told = format!("{}{}", told.stdout, told.stderr);
    assert!(
        told.contains("wants no key") && told.contains("auth: key"),
        "{told}"
    );
    let program = example("engine-double").display().to_string();
    let text = format!(
        "name: open-server\nservice_name: open\nengine: vllm\nservice:\n  command: |\n    exec {program} --host 0.0.0.0\n  env: {{DOUBLE: vllm}}\n  ports: [auto]\n  auth: key\n"
    );
    let path = lab.file("open.yaml", &text).display().to_string();
    let checked = lab.run(&["recipes", "check", &path]);
    assert!(
        !checked.assert_exit(0).stdout.contains("wants no key"),
        "{}",
        checked.stdout
    );
    let server = lab.start(&["server", &path]);
    let ready = lab.run(&["wait", "open", "--timeout", "30s", "--json"]);
    let records: Value = serde_json::from_str(&ready.assert_exit(0).stdout).expect("JSON");
    let url = format!(
        "{}/v1/models",
        records[0]["endpoints"]["api"].as_str().expect("an address")
    );
    assert_eq!(crate::doubles::get(&url, None).0, 401);
    lab.run(&["stop", "open"]).assert_exit(0);
    server.end().assert_exit(0);
    lab.assert_nothing_left();
}

/// The commands of the original, by its `src/ubenchai/cli.py` and the name that its users knew the first by.
const ITS_COMMANDS: [&str; 17] = [
    "server run",
    "server start",
    "server stop",
    "server list",
    "server status",
    "client run",
    "client stop",
    "client list",
    "client status",
    "monitor start",
    "monitor stop",
    "monitor list",
    "monitor metrics",
    "monitor report",
    "report list",
    "report start",
    "report status",
];

/// Rows of the README's table: what the original did, and what does it here.
fn rows() -> Vec<(String, String)> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(readme).expect("the README");
    let (_, table) = readme
        .split_once("### Coming from the original tool")
        .expect("its section");
    let (table, _) = table.split_once("### Images").expect("the next section");
    let cells = |line: &str| {
        let line = line.strip_prefix("| ")?.strip_suffix(" |")?;
        let (its, ours) = line.split_once(" | ")?;
        Some((its.to_owned(), ours.to_owned()))
    };
    table.lines().filter_map(cells).collect()
}

/// What stands between backticks.
fn code(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// Whether this can be typed, the command and all its options.
fn is_command(lab: &Lab, command: &str) -> bool {
    let (own, _) = command.split_once(" -- ").unwrap_or((command, ""));
    let mut words: Vec<_> = own.split(' ').skip(1).collect();
    // whatever it does not know it refuses before it comes to this
    words.push("--help");
    lab.run(&words).code == 0
}

/// What the README says to do in its place can be typed.
#[test]
fn what_does_it_here_is_there() {
    let lab = Lab::new();
    for wrong in ["aif submitt NAME", "aif submit NAME --cuont 3"] {
        assert!(!is_command(&lab, wrong), "{wrong}");
    }
    let rows = rows();
    let ours = |cell: &str| {
        let commands = code(cell).filter(|words| words.starts_with("aif "));
        commands.map(str::to_owned).collect::<Vec<_>>()
    };
    let all: Vec<_> = rows.iter().flat_map(|(_, here)| ours(here)).collect();
    assert!(all.len() > 20, "{all:?}");
    for command in all {
        assert!(is_command(&lab, &command), "{command}");
    }
    for its in ITS_COMMANDS {
        let found = rows.iter().find(|(there, _)| {
            let mut words = code(there);
            words.any(|words| words == its || words.starts_with(&format!("{its} ")))
        });
        let (_, here) = found.unwrap_or_else(|| panic!("no row of the table names `{its}`"));
        assert!(!ours(here).is_empty(), "{its} has no command here: {here}");
    }
    // and none is named there that this list does not know
    for words in rows.iter().flat_map(|(there, _)| code(there)) {
        let is_one = ["server ", "client ", "monitor ", "report "]
            .iter()
            .any(|group| words.starts_with(group));
        let known = ITS_COMMANDS.iter().any(|its| words.starts_with(its));
        assert!(!is_one || known, "{words}");
    }
}
