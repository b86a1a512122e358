//! The server role with real child processes: readiness proven, endings clean, errors that say what happened.
//!
//! The engine is `tests/toy_engine.rs`: a small HTTP server that behaves as the recipe's environment tells it.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::Stdio,
    time::Duration,
};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::lab::{Lab, Started, example, now, wait_until};

fn engine_program() -> String {
    example("toy-engine").display().to_string()
}

/// A recipe whose program is the engine, in this mode; `more` are further lines of `service`.
fn recipe(lab: &Lab, engine: &str, mode: &str, more: &str) -> String {
    recipe_in(lab, "toy.yaml", engine, mode, more)
}

fn recipe_in(lab: &Lab, file: &str, engine: &str, mode: &str, more: &str) -> String {
    let words: Vec<String> = engine_program()
        .split(' ')
        .map(|w| format!("{w:?}"))
        .collect();
    let text = format!(
        "name: toy-server\nservice_name: toy\nengine: {engine}\nservice:\n  program: [{}]\n  env: {{TOY: {mode}}}\n{more}",
        words.join(", ")
    );
    lab.file(file, &text).display().to_string()
}

fn wait_ready(lab: &Lab) -> Value {
    let ended = lab.run(&["wait", "toy", "--timeout", "20s", "--json"]);
    ended.assert_exit(0);
    let records: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    records[0].clone()
}

fn get(url: &str, key: Option<&str>) -> String {
    let rest = url.strip_prefix("http://").expect("a URL");
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut stream = TcpStream::connect(authority).expect("it listens");
    let bearer = key.map_or_else(String::new, |key| {
        format!("Authorization: Bearer {key}\r\n")
    });
    write!(
        stream,
        "GET /{path} HTTP/1.1\r\nHost: {authority}\r\n{bearer}Connection: close\r\n\r\n"
    )
    .expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

fn read(path: impl AsRef<std::path::Path>) -> String {
    let path = path.as_ref();
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn wait_for_log(lab: &Lab, words: &str) {
    wait_until(Duration::from_secs(10), words, || {
        let logs = lab.path().join("results");
        walk(&logs)
            .iter()
            .any(|file| std::fs::read_to_string(file).is_ok_and(|t| t.contains(words)))
    });
}

fn walk(folder: &std::path::Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .flat_map(|entry| {
            let path = entry.path();
            if path.is_dir() {
                walk(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

/// Engines that cannot be had here, by doubles that answer as their documentation says.
#[test]
fn engines_known_by_their_documentation_are_found_ready_and_asked_as_it_says() {
    let table = [
        ("ollama", "", Some("0.12.3"), None),
        ("tgi", "  auth: key\n", Some("3.3.5"), Some("requests_")),
        ("sglang", "", None, Some("requests_")),
        (
            "trtllm",
            "",
            Some("1.0.0"),
            Some("trtllm_num_requests_running 3"),
        ),
    ];
    for (engine, more, version, metric) in table {
        let lab = Lab::new();
        let path = recipe(&lab, engine, "ok", &format!("  ports: [auto]\n{more}"));
        let server = lab.start(&["server", &path]);
        let record = wait_ready(&lab);
        assert_eq!(record["engine"], engine);
        assert_eq!(record["model"], "toy-model", "{engine}");
        assert_eq!(record["proof"], "strong", "{engine}");
        assert_eq!(
            record["endpoints"]["metrics"].is_null(),
            metric.is_none(),
            "{engine}: {record}"
        );
        if let Some(metric) = metric {
            let scrape_key = read(lab.path().join(".ubenchai/discover/scrape.key"));
            let url = text(&record["endpoints"]["metrics"]);
            let told = get(url, Some(scrape_key.trim()));
            assert!(told.contains(metric), "{engine}: {told}");
        }
        server.signal(Signal::SIGTERM);
        server.end().assert_exit(0);
        lab.assert_nothing_left();
        let told = &lab.json("steps/server.json")["facts"]["engine_version"];
        assert_eq!(told.as_str(), version, "{engine}");
    }
}

/// A recipe that asks for what cannot be is refused, and not served open.
#[test]
fn a_key_for_an_engine_that_takes_none_is_refused() {
    for engine in ["ollama", "sglang", "trtllm"] {
        let lab = Lab::new();
        let path = recipe(&lab, engine, "ok", "  ports: [auto]\n  auth: key\n");
        let checked = lab.run(&["recipes", "check", &path]);
        checked.assert_exit(65);
        assert!(
            checked.stdout.contains("leave `auth: key` out"),
            "{}",
            checked.stdout
        );
    }
}

#[test]
fn it_serves_until_it_is_told_to_end_and_leaves_nothing() {
    let lab = Lab::new();
    let path = recipe(&lab, "llamacpp", "ok", "  ports: [auto]\n  auth: key\n");
    let server = lab.start(&["server", &path]);
    let record = wait_ready(&lab);
    assert_eq!(record["kind"], "server");
    assert_eq!(record["proof"], "strong");
    assert_eq!(record["model"], "toy-model");
    let api = text(&record["endpoints"]["api"]).to_owned();
    assert!(get(&format!("{api}/health"), None).contains("200 OK"));

    // the engine's key is in a file of its owner, and nowhere else
    let key = read(text(&record["auth"]["key_file"]));
    assert!(get(&format!("{api}/v1/models"), None).contains("401"));
    assert!(get(&format!("{api}/v1/models"), Some(&key)).contains("200 OK"));
    for file in walk(&lab.path().join("results")) {
        assert!(
            !read(&file).contains(&key),
            "{} holds the key",
            file.display()
        );
    }

    // Prometheus needs the one key of all agents, not the engine's
    let registry = lab.path().join(".ubenchai/discover");
    let bearer = read(registry.join("scrape.key"));
    let metrics = text(&record["endpoints"]["metrics"]);
    assert!(get(metrics, Some(&bearer)).contains("llamacpp:requests_processing 0"));
    assert!(get(metrics, None).contains("401"));
    let agent = text(&record["endpoints"]["agent"]);
    let own = get(&format!("{agent}/metrics"), Some(&bearer));
    assert!(own.contains("aif_server_state{state=\"ready\"} 1"), "{own}");
    assert!(own.contains("aif_server_child_memory_bytes"), "{own}");
    let newest: Value = serde_json::from_str(&read(registry.join("toy.json"))).expect("JSON");
    assert_eq!(newest["instance_id"], record["instance_id"]);

    server.signal(Signal::SIGTERM);
    server.end().assert_exit(0);
    lab.assert_nothing_left();
    assert!(
        !registry
            .join(".keys")
            .join(text(&record["instance_id"]))
            .exists()
    );
    let step = lab.json("steps/server.json");
    assert_eq!(step["exit"], "done");
    assert_eq!(step["facts"]["engine_version"], "b42");
    assert!(step["ready_at"].is_string());
}

#[test]
fn an_engine_that_dies_before_it_is_ready_is_told_at_once() {
    let lab = Lab::new();
    let path = recipe(&lab, "http", "die", "  ports: [auto]\n");
    let start = now();
    let ended = lab.run(&["server", &path]);
    ended.assert_exit(69);
    assert!(
        start.elapsed() < Duration::from_secs(15),
        "{:?}",
        start.elapsed()
    );
    for words in ["exit code 3", "Errno 98", "use `ports: [auto]`"] {
        assert!(
            ended.stderr.contains(words),
            "{words} is not in:\n{}",
            ended.stderr
        );
    }
    lab.assert_nothing_left();
}

#[test]
fn an_engine_that_is_never_ready_is_given_up() {
    let lab = Lab::new();
    let path = recipe(
        &lab,
        "llamacpp",
        "never",
        "  ports: [auto]\n  readiness: {timeout: 1s}\n",
    );
    let ended = lab.run(&["server", &path]);
    ended.assert_exit(69);
    assert!(
        ended.stderr.contains("not ready within 1.0 s"),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains("503"), "{}", ended.stderr);
    lab.assert_nothing_left();
}

#[test]
fn a_fixed_port_that_is_taken_is_reported_with_its_holder() {
    let lab = Lab::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its number").port();
    let path = recipe(&lab, "http", "ok", &format!("  ports: [{port}]\n"));
    let ended = lab.run(&["server", &path]);
    ended.assert_exit(69);
    let holder = format!(
        "port {port} of the recipe is taken: it is held by process {}",
        std::process::id()
    );
    assert!(ended.stderr.contains(&holder), "{}", ended.stderr);
    lab.assert_nothing_left();
}

#[test]
fn told_to_end_before_it_is_ready_is_no_success() {
    let lab = Lab::new();
    let path = recipe(&lab, "llamacpp", "never", "  ports: [auto]\n");
    let server = lab.start(&["server", &path]);
    wait_for_log(&lab, "listening");
    server.signal(Signal::SIGTERM);
    server.end().assert_exit(143);
    lab.assert_nothing_left();
}

#[test]
fn a_killed_role_takes_its_engine_along() {
    let lab = Lab::new();
    let path = recipe(&lab, "http", "ok", "  ports: [auto]\n");
    let server = lab.start(&["server", &path]);
    wait_ready(&lab);
    server.signal(Signal::SIGKILL);
    server.end().assert_exit(137);
    wait_until(Duration::from_secs(3), "the guard ended the engine", || {
        lab.leftovers().is_empty()
    });
    // what it could not remove is seen to be dead, and cleared
    let listed = lab.run(&["services"]);
    assert!(listed.stdout.contains("dead"), "{}", listed.stdout);
    lab.run(&["services", "clear"]).assert_exit(0);
    assert!(lab.records().is_empty(), "{:?}", lab.records());
}

#[test]
fn the_port_that_a_command_really_listens_on_is_taken() {
    let lab = Lab::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let free = taken.local_addr().expect("its number").port();
    drop(taken);
    let text = format!(
        "name: toy-server\nservice_name: toy\nengine: http\nservice:\n  command: |\n    #!/bin/bash\n    echo \"ports $PORT $ACTUAL_PORT\"\n    export TOY=elsewhere\n    {}\n  ports: [{free}]\n",
        engine_program()
    );
    let path = lab.file("toy.yaml", &text).display().to_string();
    let server = lab.start(&["server", &path]);
    let record = wait_ready(&lab);
    let port = record["ports"][0].as_u64().expect("a port");
    assert_ne!(port, u64::from(free));
    assert!(get(text_of_api(&record), None).contains("200 OK"));
    wait_for_log(&lab, &format!("ports {free} {free}"));
    let left = |lab: &Lab| {
        walk(lab.path()).iter().any(|file| {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("aif-server-") && name.ends_with("-script")
        })
    };
    assert!(
        left(&lab),
        "the script lies on the node's disk while it runs"
    );
    server.signal(Signal::SIGTERM);
    server.end().assert_exit(0);
    assert!(!left(&lab), "the script is removed");
    lab.assert_nothing_left();
}

#[test]
fn a_script_knows_the_folders_of_the_site_and_what_its_engine_leaves_goes_with_it() {
    let lab = Lab::new();
    let text = format!(
        "name: toy-server\nservice_name: toy\nengine: vllm\nservice:\n  env: {{TRITON_CACHE_DIR: /mine}}\n  command: |\n    module load Apptainer/1.3\n    touch $TMPDIR/left-over\n    echo \"images $CONTAINER_DIR, caches $VLLM_CACHE_ROOT $TRITON_CACHE_DIR\"\n    TOY=serves {}\n  readiness: {{path: /health}}\n",
        engine_program()
    );
    let path = lab.file("toy.yaml", &text).display().to_string();
    let server = lab.start(&["server", &path]);
    wait_ready(&lab);
    wait_for_log(&lab, "-cache/vllm /mine");
    wait_for_log(&lab, "'module load Apptainer/1.3' does nothing");
    wait_for_log(&lab, "images /");
    let left = |lab: &Lab| {
        walk(lab.path())
            .iter()
            .any(|file| file.ends_with("left-over"))
    };
    assert!(left(&lab));
    server.signal(Signal::SIGTERM);
    server.end().assert_exit(0);
    assert!(!left(&lab), "its folder on the node's disk is removed");
    lab.assert_nothing_left();
}

/// What the server's agent hands on of the engine's metrics; `None` where the record names no place of them.
fn handed_on(lab: &Lab, record: &Value) -> Option<String> {
    let key = read(lab.path().join(".ubenchai/discover/scrape.key"));
    let url = record["endpoints"]["metrics"].as_str()?;
    Some(get(url, Some(key.trim())))
}

#[test]
fn a_recipe_says_where_an_engine_that_is_not_known_has_its_metrics() {
    let lab = Lab::new();
    let path = recipe(
        &lab,
        "http",
        "ready",
        "  ports: [auto]\n  metrics: {path: /prometheus/metrics}\n",
    );
    let server = lab.start(&["server", &path]);
    let told = handed_on(&lab, &wait_ready(&lab)).expect("a place of its metrics");
    assert!(told.contains("trtllm_num_requests_running 3.0"), "{told}");
    server.signal(Signal::SIGTERM);
    server.end().assert_exit(0);
}

#[test]
fn metrics_on_a_port_of_their_own_are_handed_on_and_a_strangers_are_not() {
    // it is ready, and so is what has its metrics, like Triton's
    let lab = Lab::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("its port").port();
    drop(taken);
    let text = |engine: &str| {
        format!(
            "name: toy-server\nservice_name: toy\nengine: http\nservice:\n  program: [bash, -c, {engine:?}]\n  env: {{TOY: ready}}\n  readiness: {{path: /health}}\n  metrics: {{port: {port}}}\n"
        )
    };
    let toy = engine_program();
    let both = format!(
        "PORT={port} {toy} & until (: >/dev/tcp/127.0.0.1/{port}) 2>/dev/null; do sleep 0.05; done; {toy}"
    );
    let path = lab.file("toy.yaml", &text(&both)).display().to_string();
    let server = lab.start(&["server", &path]);
    let told = handed_on(&lab, &wait_ready(&lab)).expect("a place of its metrics");
    assert!(told.contains("llamacpp:requests_processing 0"), "{told}");
    server.signal(Signal::SIGTERM);
    server.end().assert_exit(0);

    let lab = Lab::new();
    let _stranger = TcpListener::bind(("127.0.0.1", port)).expect("the port is free again");
    let path = lab.file("toy.yaml", &text(&toy)).display().to_string();
    let server = lab.start(&["server", &path]);
    assert_eq!(handed_on(&lab, &wait_ready(&lab)), None);
    server.signal(Signal::SIGTERM);
    let ended = server.end();
    ended.assert_exit(0);
    assert!(
        ended.stderr.contains("these are not the engine's metrics"),
        "{}",
        ended.stderr
    );
}

#[test]
fn an_engine_that_is_offline_asks_no_hub_unless_its_recipe_says_otherwise() {
    for (offline, wanted) in [("true", "hub 1 0 1 1 0."), ("false", "hub  0   0.")] {
        let lab = Lab::new();
        let text = format!(
            "name: toy-server\nservice_name: toy\nengine: vllm\nservice:\n  offline: {offline}\n  env: {{TRANSFORMERS_OFFLINE: '0'}}\n  command: |\n    echo \"hub $HF_HUB_OFFLINE $TRANSFORMERS_OFFLINE $HF_DATASETS_OFFLINE $APPTAINERENV_HF_HUB_OFFLINE $APPTAINERENV_TRANSFORMERS_OFFLINE.\"\n    TOY=serves {}\n  readiness: {{path: /health}}\n",
            engine_program()
        );
        let path = lab.file("toy.yaml", &text).display().to_string();
        let server = lab.start(&["server", &path]);
        wait_ready(&lab);
        wait_for_log(&lab, wanted);
        server.signal(Signal::SIGTERM);
        server.end().assert_exit(0);
    }
}

#[test]
fn a_recipe_is_shown_with_what_is_known_of_its_engine() {
    let lab = Lab::new();
    let path = recipe(&lab, "vllm", "ready", "  metrics: {path: metrics}\n");
    let told = lab.run(&["recipes", "show", &path]);
    told.assert_exit(65);
    assert!(
        told.stderr.contains("a path of metrics starts with `/`"),
        "{}",
        told.stderr
    );

    let path = recipe(&lab, "vllm", "ready", "");
    let shown = lab.run(&["recipes", "show", &path]);
    let shown: Value = serde_yaml::from_str(&shown.assert_exit(0).stdout).expect("YAML");
    assert_eq!(shown["readiness"]["timeout"], Value::Null);
    let profile = &shown["profile"];
    assert_eq!(profile["load_timeout"], "20 min 00 s");
    assert_eq!(profile["drain_option"], "--shutdown-timeout");
    for (list, entry) in [("open_paths", "/invocations"), ("apis", "chat")] {
        let list = profile[list].as_array().expect("a list");
        assert!(list.contains(&entry.into()), "{profile:#}");
    }
}

fn text_of_api(record: &Value) -> &str {
    text(&record["endpoints"]["api"])
}

#[test]
fn an_engine_that_crashes_is_started_again_as_often_as_allowed() {
    let lab = Lab::new();
    let path = recipe(
        &lab,
        "http",
        "crash",
        "  ports: [auto]\n  restart: {max: 1, backoff: 100ms}\n",
    );
    let ended = lab.run(&["server", &path]);
    ended.assert_exit(69);
    for words in [
        "ended after it was ready: exit code 139 (SIGSEGV)",
        "does not fit on the GPU",
    ] {
        assert!(
            ended.stderr.contains(words),
            "{words} is not in:\n{}",
            ended.stderr
        );
    }
    let log = walk(&lab.path().join("results"));
    let engine = log
        .iter()
        .find(|file| file.to_string_lossy().contains("engine-"))
        .expect("its log");
    assert_eq!(
        read(engine).matches("listening").count(),
        2,
        "started twice"
    );
    lab.assert_nothing_left();
}

#[test]
fn a_missing_image_ends_before_anything_starts() {
    let lab = Lab::new();
    let text = "name: toy-server\nservice_name: toy\nengine: http\nservice:\n  container: {image: /nowhere/llamacpp.sif, args: [x]}\n  ports: [auto]\n";
    let path = lab.file("toy.yaml", text).display().to_string();
    let ended = lab.run(&["server", &path]);
    ended.assert_exit(66);
    assert!(
        ended.stderr.contains("sbatch/image-llamacpp.sh"),
        "{}",
        ended.stderr
    );
    lab.assert_nothing_left();
}

#[test]
fn two_servers_of_one_service_are_a_question_to_the_user() {
    let lab = Lab::new();
    let path = recipe(&lab, "http", "ok", "  ports: [auto]\n");
    let servers: Vec<Started> = (0..2).map(|_| lab.start(&["server", &path])).collect();
    wait_until(Duration::from_secs(15), "both are ready", || {
        let listed = lab.run(&["services", "--json"]).stdout;
        listed.matches("\"state\": \"ready\"").count() == 2
    });
    let ended = lab.run(&["wait", "toy", "--timeout", "5s"]);
    ended.assert_exit(69);
    assert!(ended.stderr.contains("--job ID"), "{}", ended.stderr);
    for server in &servers {
        server.signal(Signal::SIGTERM);
    }
    for server in servers {
        server.end().assert_exit(0);
    }
    lab.assert_nothing_left();
}

#[test]
fn an_engine_that_lives_and_answers_no_more_is_lost() {
    let lab = Lab::new();
    let more = "  ports: [auto]\n  liveness: {timeout: 2s}\n";
    let path = recipe(&lab, "http", "hang", more);
    let server = lab.start(&["server", &path]);
    wait_ready(&lab);
    let ended = server.end();
    ended.assert_exit(69);
    assert!(
        ended
            .stderr
            .contains("aif: the engine hangs: it lives, but http://127.0.0.1:")
            && ended
                .stderr
                .contains(" was not answered for 2.0 s (service.liveness.timeout)"),
        "{}",
        ended.stderr
    );
    lab.assert_nothing_left();
}

/// A task of a step of two, as Slurm tells it.
fn task(lab: &Lab, path: &str, rank: u32) -> Started {
    let mut command = lab.aif(&["server", path]);
    command.envs([
        ("SLURM_JOB_ID", "77"),
        ("SLURM_STEP_ID", "0"),
        ("SLURMD_NODENAME", "localhost"),
        ("SLURM_CLUSTER_NAME", "test"),
        ("SLURM_STEP_NUM_TASKS", "2"),
        ("SLURM_JOB_NODELIST", "localhost"),
    ]);
    command
        .env("SLURM_PROCID", rank.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Started::of(command)
}

/// By a double: there is no `SGLang` here. vLLM is run for real on a Slurm cluster.
#[test]
fn the_ranks_of_an_engine_meet_and_end_together() {
    let lab = Lab::new();
    let path = recipe(&lab, "sglang", "ok", "  ports: [auto]\n  nodes: 2\n");
    let ranks = [0, 1].map(|rank| task(&lab, &path, rank));
    wait_until(Duration::from_secs(20), "both ranks are ready", || {
        let listed = lab.run(&["services"]).stdout;
        let ready = |title: &str| {
            listed
                .lines()
                .any(|line| line.contains(title) && line.contains(" ready "))
        };
        ready(" server 0/2 ") && ready(" rank 1/2 ")
    });
    let logs: Vec<String> = walk(&lab.run_folder())
        .iter()
        .filter(|file| file.to_string_lossy().contains("/logs/engine-"))
        .map(read)
        .collect();
    let place = |rank: u32| {
        let words = format!("arguments: --nnodes 2 --node-rank {rank} --dist-init-addr ");
        let found = logs.iter().find_map(|log| log.split(&words).nth(1));
        found.map(|rest| rest.lines().next().unwrap_or_default().to_owned())
    };
    assert!(
        place(0).is_some_and(|place| place.contains(':')),
        "{logs:?}"
    );
    assert_eq!(place(0), place(1), "where they meet");

    // one is told to end, and so all end
    let [leader, other] = ranks;
    other.signal(Signal::SIGTERM);
    leader.end().assert_exit(0);
    other.end().assert_exit(0);
    lab.assert_nothing_left();
}

#[test]
fn a_rank_that_dies_ends_its_engine_and_is_named_once() {
    let lab = Lab::new();
    let more = "  ports: [auto]\n  nodes: 2\n";
    let leader = task(&lab, &recipe(&lab, "sglang", "ok", more), 0);
    let other = task(
        &lab,
        &recipe_in(&lab, "dies.yaml", "sglang", "crash", more),
        1,
    );
    let ended = leader.end();
    ended.assert_exit(69);
    assert!(
        ended
            .stderr
            .contains("aif: rank 1 on localhost: the engine ended "),
        "{}",
        ended.stderr
    );
    let ended = other.end();
    ended.assert_exit(69);
    assert!(!ended.stderr.contains("\naif: "), "{}", ended.stderr);
    lab.assert_nothing_left();
}

#[test]
fn an_engine_over_two_nodes_wants_two_tasks() {
    let lab = Lab::new();
    let path = recipe(&lab, "sglang", "ok", "  nodes: 2\n");
    let ended = lab.run(&["server", &path]);
    ended.assert_exit(64);
    assert!(
        ended.stderr.contains("is an engine over 2 nodes, of which each wants a task of one step, and this is one of 1: `srun --nodes=2 --ntasks=2 aif server toy-server`"),
        "{}",
        ended.stderr
    );
    lab.assert_nothing_left();
}
