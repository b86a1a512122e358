//! Whole recipes, as users write them: what is planned, what is told, and in which words.

use std::{fs, path::Path};

use proptest::prelude::*;

use super::{
    expand::Variables,
    fault::Faults,
    plan::{Planned, Source, plan},
    *,
};

fn variables() -> Variables {
    let pair = |name: &str, folder: &str| (name.to_owned(), folder.to_owned());
    Variables::from([
        pair("CONTAINER_DIR", "/images"),
        pair("CACHE_DIR", "/cache"),
    ])
}

fn read_with(text: &str, overrides: &[&str]) -> Result<Planned, Faults> {
    let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
    let source = Source {
        text,
        path: "recipes/x.yaml",
        wanted: None,
        overrides: &overrides,
    };
    plan(&source, &variables())
}

fn read(text: &str) -> Result<Planned, Faults> {
    read_with(text, &[])
}

fn faults(text: &str) -> String {
    read(text).unwrap_err().to_string()
}

fn warnings(planned: &Planned) -> String {
    let lines: Vec<String> = planned.warnings.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

fn file(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn server(planned: Planned) -> ServerPlan {
    match planned.plan {
        Plan::Server(plan) => plan,
        other => panic!("a {} plan", other.kind().name()),
    }
}

fn client(planned: Planned) -> ClientPlan {
    match planned.plan {
        Plan::Client(plan) => plan,
        other => panic!("a {} plan", other.kind().name()),
    }
}

const CLIENT: &str = "name: c\nservice_name: s\nworkload: {duration_seconds: 10}\n";
const OPEN: &str = "recipes/x.yaml:6:3: it listens on all addresses of its node and wants no key: whoever reaches the node can use it; add `auth: key`";

#[test]
fn the_original_server_plans_unchanged() {
    let planned = read(&file("recipes/servers/vllm-server.yaml")).unwrap();
    let plan = server(planned);
    assert_eq!(plan.engine, EngineKind::Vllm);
    assert_eq!(plan.model.as_deref(), Some("facebook/opt-125m"));
    assert_eq!(plan.ports, [PortChoice::Fixed(8000)]);
    assert_eq!(plan.resources.time_limit, Some(Duration::from_hours(4)));
    assert_eq!(plan.resources.memory_gb, Some(64.0));
    let Launch::Command(script) = &plan.launch else {
        panic!("no command")
    };
    assert!(script.contains("IMAGE=$CONTAINER_DIR/vllm-openai_v0.5.4.sif\n"));
    assert!(script.ends_with("--port 8000\n"));
}

#[test]
fn a_slip_of_the_indentation_is_mended_and_told() {
    let want = server(read(&file("recipes/servers/vllm-server.yaml")).unwrap());
    for name in ["vllm-server-slip.yaml", "vllm-server-slip2.yaml"] {
        let planned = read(&file(&format!("tests/data/recipes/{name}"))).unwrap();
        insta::allow_duplicates! {
            insta::assert_snapshot!(warnings(&planned).replace(OPEN, "").trim(), @r##"recipes/x.yaml:15:5: `working_dir`, `ports` inside `command: |`, as if part of the script: taken for keys of `service`; indent them like `command`"##);
        }
        assert_eq!(server(planned), want);
    }
}

#[test]
fn the_original_client_and_monitor_plan_unchanged() {
    let planned = read(&file("recipes/clients/vllm-simple-test.yaml")).unwrap();
    assert_eq!(warnings(&planned), "");
    let plan = client(planned);
    assert_eq!(
        plan.load,
        LoadModel::ClosedLoop {
            concurrent_users: 3,
            think_time: ThinkTime::Fixed(Duration::from_millis(500)),
            requests_per_user: Some(100),
        }
    );
    assert_eq!((plan.api, plan.workload.stream), (Api::Completions, true));
    assert_eq!(plan.duration, Some(Duration::from_mins(2)));
    assert_eq!(plan.timeout, Duration::from_mins(1));
    assert_eq!(plan.destination, Some(PathBuf::from("./results")));
    let plan = client(read(&file("recipes/clients/vllm-open-loop.yaml")).unwrap());
    assert_eq!(
        plan.load,
        LoadModel::OpenLoop {
            requests_per_second: Some(50.0),
            arrival: Arrival::Poisson,
            max_in_flight: None,
        }
    );
    let planned = read(&file("recipes/monitors/vllm-monitor.yaml")).unwrap();
    let Plan::Monitor(plan) = planned.plan else {
        panic!("no monitor")
    };
    assert_eq!(plan.port, PortChoice::Fixed(9090));
    assert_eq!(plan.scrape_interval, Some(Duration::from_secs(15)));
    assert_eq!(plan.resources.partition.as_deref(), Some("cpu"));
    assert_eq!(plan.targets[0].metrics_path, "/metrics");
}

#[test]
fn users_think_by_a_distribution() {
    let think = |think: &str| {
        read(&format!(
            "name: c\nservice_name: s\nworkload: {{concurrent_users: 2, duration_seconds: 5, think_time_ms: {think}}}\n"
        ))
    };
    for (written, meant) in [
        ("0.5", ThinkTime::Fixed(Duration::from_micros(500))),
        (
            "{exponential: 300}",
            ThinkTime::Exponential(Duration::from_millis(300)),
        ),
        (
            "{uniform: [100, 900]}",
            ThinkTime::Drawn(Length::Uniform { min: 100, max: 900 }),
        ),
    ] {
        let LoadModel::ClosedLoop { think_time, .. } = client(think(written).unwrap()).load else {
            panic!("no closed loop")
        };
        assert_eq!(think_time, meant, "{written}");
    }
    let fault = |written: &str| think(written).unwrap_err().to_string();
    insta::assert_snapshot!(fault("{exponential: 300, uniform: [1, 2]}"), @r#"recipes/x.yaml:3:69: "think_time_ms" wants one distribution: exponential, uniform, normal or lognormal"#);
    insta::assert_snapshot!(fault("{exponential: 0}"), @r#"recipes/x.yaml:3:83: "workload.think_time_ms.exponential" wants a number above 0 to 1000000000, found the number 0"#);
    assert!(fault("{pareto: 3}").contains("unknown key \"pareto\""));
}

#[test]
fn every_shipped_recipe_checks_clean() {
    let mut count = 0;
    for kind in Kind::ALL {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("recipes")
            .join(kind.folder());
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            // files that recipes name lie beside them
            if path.extension().is_none_or(|suffix| suffix != "yaml") {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let planned =
                read(&text).unwrap_or_else(|faults| panic!("{}:\n{faults}", path.display()));
            let wanted = OPEN.repeat(usize::from(path.ends_with("vllm-server.yaml")));
            assert_eq!(warnings(&planned), wanted, "{}", path.display());
            assert_eq!(planned.plan.kind(), kind);
            assert_eq!(
                path.file_stem().unwrap().to_str(),
                Some(planned.plan.name())
            );
            count += 1;
        }
    }
    assert!(count >= 10);
}

#[test]
fn a_vllm_that_would_break_off_requests_is_told_how_not_to() {
    let recipe = |more: &str| {
        let args = format!("[vllm, serve, m, --port, \"{{port}}\"{more}]");
        format!(
            "name: v\nservice_name: v\nservice:\n  container: {{image: /i.sif, args: {args}}}\n"
        )
    };
    let planned = read(&recipe("")).unwrap();
    insta::assert_snapshot!(warnings(&planned), @"recipes/x.yaml:4:36: without --shutdown-timeout vLLM breaks off the requests under way when it is told to end; add `--shutdown-timeout 20` where this vLLM knows it");
    for form in [", --shutdown-timeout, \"20\"", ", --shutdown-timeout=20"] {
        assert_eq!(warnings(&read(&recipe(form)).unwrap()), "", "{form}");
    }
}

#[test]
fn every_fault_is_told_at_once() {
    let text = "\
name: c
service_name: s p
workload:
  concurent_users: 20
  duration_seconds: soon
  think_time_ms: -1
  seed: 1.5
  stream: perhaps
  pattern: closed
concurrent_users: 3
dataset: {params: [1]}
banana: 1
";
    insta::assert_snapshot!(faults(text), @r##"
recipes/x.yaml:2:15: "service_name" wants a name of letters, digits, `.`, `_` and `-`, at most 64 characters, found the text "s p"
recipes/x.yaml:4:3: unknown key "concurent_users"; did you mean "concurrent_users"?
recipes/x.yaml:5:21: "workload.duration_seconds" wants a duration above 0 such as 90, 500ms, 20m or 04:00:00, found the text "soon"
recipes/x.yaml:6:18: "workload.think_time_ms" wants a number from 0 to 1000000000, or a mapping of exponential, uniform, normal, lognormal, found the number -1
recipes/x.yaml:7:9: "workload.seed" wants a whole number of 0 or more, found the number 1.5
recipes/x.yaml:8:11: "workload.stream" wants true or false, found the text "perhaps"
recipes/x.yaml:9:12: "workload.pattern" wants one of closed-loop, open-loop, found the text "closed"; did you mean "closed-loop"?
recipes/x.yaml:10:1: unknown key "concurrent_users"; its place is "workload.concurrent_users"
recipes/x.yaml:11:19: "dataset.params" wants a mapping, found a list
recipes/x.yaml:12:1: unknown key "banana"; known here are name, service_name, description, target, workload, dataset, slo, output, orchestration
"##);
}

#[test]
fn a_server_needs_one_way_to_start() {
    let head = "name: s-server\nservice_name: s\n";
    insta::assert_snapshot!(faults(&format!("{head}service: {{ports: [auto]}}")), @r##"recipes/x.yaml:3:10: "service" needs one of command, container, program: how is the engine started?"##);
    insta::assert_snapshot!(faults(&format!(
        "{head}service:\n  command: x\n  container: {{image: a.sif, args: [b]}}\n"
    )), @r##"recipes/x.yaml:5:14: "service" has command and container; an engine is started in one way only, take the others out"##);
    insta::assert_snapshot!(faults(&format!(
        "{head}service:\n  container: {{args: [a, '{{porrt}}', 3, '{{\"json\": {{port}}}}', '{{banana}}']}}\n  ports: [0, 70000, auto]\n"
    )), @r##"
recipes/x.yaml:4:14: "service.container" lacks the key "image": path of the image file
recipes/x.yaml:4:25: "service.container.args[1]" has an unknown placeholder {porrt}; did you mean {port}?
recipes/x.yaml:4:59: "service.container.args[4]" has an unknown placeholder {banana}; known are {port} {port2} {port3} {port4} {host} {address} {head} {head_port} {rank} {nodes} {api_key_file}
recipes/x.yaml:5:11: "service.ports[0]" wants a port from 1 to 65535, or auto, found the number 0
recipes/x.yaml:5:14: "service.ports[1]" wants a port from 1 to 65535, or auto, found the number 70000
"##);
    insta::assert_snapshot!(faults(&format!(
        "{head}service: {{container: {{image: '${{NOWHERE}}/a.sif', args: []}}}}"
    )), @r##"
recipes/x.yaml:3:30: variable NOWHERE is not set; export it, or give a default: ${NOWHERE:-default}
recipes/x.yaml:3:56: "service.container.args" is empty: the first word is the program
"##);
}

#[test]
fn what_this_version_cannot_do_is_refused_by_name() {
    insta::assert_snapshot!(faults(
        "\
name: c
service_name: s
workload:
  api: responses
  duration_seconds: 10
  requests_per_second: 5
dataset: {type: huggingface}
"
    ), @r##"
recipes/x.yaml:4:8: this version cannot do "responses" for "workload.api"; it knows completions, chat, embeddings, rerank, http, chroma, qdrant, ollama-generate, ollama-chat
recipes/x.yaml:7:17: this version cannot do "huggingface" for "dataset.type"; it knows synthetic, corpus, prompts, jsonl, sharegpt, vectors
"##);
    insta::assert_snapshot!(faults(
        "name: s\nservice_name: s\nengine: chroma\nservice: {program: [a], nodes: 2, replicas: 4}\n"
    ), @r##"
recipes/x.yaml:4:32: aif does not know how chroma is started over several nodes: say so in the arguments, with {rank}, {nodes}, {head} and {head_port}
recipes/x.yaml:4:45: this version cannot do 4 for "service.replicas": leave it out, and start a task for each instance: `sbatch --nodes=4 --ntasks=4 jobs/server.sh RECIPE` (one on each of 4 nodes), or in a job that has room for all `srun --ntasks=4 bin/aif server RECIPE` with what each wants (--cpus-per-task, --gpus-per-task) and `ports: [auto]`; a bench shares its load among all of a job
"##);
    insta::assert_snapshot!(faults(
        "name: s\nservice: {command: vllm serve m, nodes: 2, restart: {max: 1}}\norchestration: {resources: {nodes: 3}}\n"
    ), @r##"
recipes/x.yaml:2:59: an engine over several nodes is not started again when a part of it died: take "restart" out
recipes/x.yaml:3:36: "service.nodes" and "orchestration.resources.nodes" are the same number: give one of them
recipes/x.yaml:3:36: a script is started as it is written, on one node: an engine over several wants "service.container" or "service.program"
"##);
    insta::assert_snapshot!(faults(
        "name: c\nservice_name: s\nworkload: {duration_seconds: 9}\norchestration: {resources: {nodes: 3}}\n"
    ), @r##"
recipes/x.yaml:4:36: only the engine of a server is one over several nodes: "orchestration.resources.nodes" must be 1 here
"##);
    insta::assert_snapshot!(faults(
        "name: m\nservice_name: s\nprometheus: {enabled: true}\ngrafana: {imago: x}\nalerts: []\n"
    ), @r##"
recipes/x.yaml:4:11: unknown key "imago"; did you mean "image"?
recipes/x.yaml:5:9: "alerts" wants a mapping, found a list
"##);
    let grafana = |text: &str| {
        let monitor = read(&format!("name: m\nservice_name: s\ntargets: []\n{text}\n"));
        let Plan::Monitor(plan) = monitor.unwrap().plan else {
            panic!("no monitor")
        };
        plan.grafana.map(|plan| (plan.image, plan.port))
    };
    for off in [
        "",
        "grafana: false",
        "grafana:",
        "grafana: {enabled: false, image: g.sif}",
    ] {
        assert_eq!(grafana(off), None, "{off}");
    }
    for on in ["grafana: true", "grafana: {}", "grafana: {enabled: true}"] {
        assert_eq!(grafana(on), Some((None, PortChoice::Auto)), "{on}");
    }
    assert_eq!(
        grafana("grafana: {image: g.sif, port: 3000}"),
        Some((Some("g.sif".to_owned()), PortChoice::Fixed(3000)))
    );
}

#[test]
fn a_load_has_one_model_and_an_end() {
    insta::assert_snapshot!(faults(
        "name: c\nservice_name: s\nworkload: {concurrent_users: 2}\n"
    ), @r##"recipes/x.yaml:3:11: "workload" never ends: give duration_seconds, total_requests or, in a closed loop, requests_per_user"##);
    insta::assert_snapshot!(faults(
        "name: c\nservice_name: s\nworkload: {pattern: closed-loop, requests_per_second: 2, duration_seconds: 1}\n"
    ), @r##"recipes/x.yaml:3:34: "requests_per_second" means nothing in a closed loop: take it out, or write `pattern: open-loop`"##);
    insta::assert_snapshot!(faults(
        "name: c\nservice_name: s\nworkload: {pattern: open-loop, requests_per_user: 2}\n"
    ), @r##"
recipes/x.yaml:3:11: an open loop needs "requests_per_second": its rate
recipes/x.yaml:3:11: "workload" never ends: give duration_seconds, total_requests or, in a closed loop, requests_per_user
"##);
    let planned =
        read("name: c\nservice_name: s\nworkload: {pattern: open-loop, requests_per_second: 2, concurrent_users: 9, duration_seconds: 1}\n")
            .unwrap();
    insta::assert_snapshot!(warnings(&planned), @r##"recipes/x.yaml:3:56: "concurrent_users" means nothing in an open loop: not used; `max_in_flight` is the cap of an open loop"##);
}

#[test]
fn kinds_are_told_apart() {
    insta::assert_snapshot!(faults("name: x\n"), @r##"recipes/x.yaml:1:1: is of no kind that aif knows: a server has `service`, a monitor `prometheus` or `targets`, a client `workload`"##);
    insta::assert_snapshot!(faults("- a\n"), @r##"recipes/x.yaml:1:1: wants a mapping of keys, found a list"##);
    let source = Source {
        text: CLIENT,
        path: "c.yaml",
        wanted: Some(Kind::Server),
        overrides: &[],
    };
    insta::assert_snapshot!(plan(&source, &variables()).unwrap_err(), @r##"c.yaml:1:1: is a client recipe; a server recipe is wanted here"##);
}

#[test]
fn overrides_are_held_to_the_same_table() {
    let planned = read_with(
        CLIENT,
        &[
            "workload.concurrent_users=20",
            "slo={ttft_ms: 200}",
            "workload.duration_seconds=",
            "workload.total_requests=7",
            "output.metrics=[p50, p99]",
        ],
    )
    .unwrap();
    let plan = client(planned);
    assert!(matches!(
        plan.load,
        LoadModel::ClosedLoop {
            concurrent_users: 20,
            ..
        }
    ));
    assert_eq!(plan.slo.ttft_ms, Some(200.0));
    assert_eq!((plan.duration, plan.total_requests), (None, Some(7)));
    assert_eq!(plan.metrics, ["p50", "p99"]);
    let error = read_with(
        CLIENT,
        &[
            "workload.concurent_users=20",
            "workload.duration_seconds=-1",
            "name.first=x",
            "nonsense",
            "slo=[1",
            ".=1",
        ],
    )
    .unwrap_err();
    insta::assert_snapshot!(error, @r##"
--set workload.concurent_users: unknown key "concurent_users"; did you mean "concurrent_users"?
--set workload.duration_seconds: "workload.duration_seconds" wants a duration above 0 such as 90, 500ms, 20m or 04:00:00, found the number -1
--set name.first: leads through a value that has no keys, or past the end of a list
--set nonsense: wants KEY=VALUE, such as workload.concurrent_users=20
--set slo: "[1" is no valid YAML: while parsing a flow sequence, expected ',' or ']'
--set .: wants a key such as workload.concurrent_users
"##);
    let turned = read_with(
        &file("recipes/clients/vllm-open-loop.yaml"),
        &["workload.pattern=closed-loop"],
    )
    .unwrap();
    insta::assert_snapshot!(warnings(&turned), @r##"recipes/x.yaml:4:55: "requests_per_second" means nothing in a closed loop: not used"##);
}

#[test]
fn an_older_client_is_understood_and_told_the_new_form() {
    let planned = read(
        "\
name: ollama-simple-test
target:
  service: ollama-llm
  endpoint: http://node1:8000/v1/chat/completions
  timeout_seconds: \"30\"
headers: {Content-Type: application/json}
payload:
  model: tiny
  max_tokens: 16
  messages: [{role: user, content: Tell me what a supercomputer is for.}]
workload: {pattern: closed-loop, duration_seconds: 60}
",
    )
    .unwrap();
    insta::assert_snapshot!(warnings(&planned), @r##"
recipes/x.yaml:3:3: `target.service` is an older form; write `service_name: ollama-llm`
recipes/x.yaml:4:3: `target.endpoint` is an older form; write `workload: {api: chat}`
recipes/x.yaml:4:3: the address in `target.endpoint` is not used: the service is found by its name; to go around that: aif bench RECIPE --url http://node1:8000/v1/chat/completions
recipes/x.yaml:6:11: aif sets the header "Content-Type" itself; take it out
recipes/x.yaml:7:1: `payload` is an older form; write `dataset: {type: synthetic, params: {model_name: tiny, max_tokens: 16, prompt_length: 9}}`
recipes/x.yaml:10:3: the text is not sent: prompts are synthetic, of about its length (9 tokens)
"##);
    let plan = client(planned);
    assert_eq!(plan.service_name, "ollama-llm");
    assert_eq!(
        (plan.api, plan.workload.prompt_length),
        (Api::Chat, Length::Fixed(9))
    );
    assert_eq!(plan.workload.model_name.as_deref(), Some("tiny"));
    insta::assert_snapshot!(faults(
        "name: x-client\ntarget: {endpoint: /api/generate}\nheaders: {X-Mine: 1}\npayload: {n: 2}\nworkload: {duration_seconds: 1}\n"
    ), @r##"recipes/x.yaml:2:20: this version cannot send to "/api/generate"; it knows `workload: {api: completions}`, `{api: chat}` and `{api: embeddings}`"##);
}

#[test]
fn an_older_server_is_understood_and_told_the_new_form() {
    let planned = read(
        "\
name: vllm-server
image: docker://vllm/vllm-openai:v0.5.4
command: [/bin/bash, -c, 'vllm serve a/b --port ${PORT:-8000} # {not a placeholder}']
environment: {HF_HOME: /root/.cache, EMPTY: }
volumes:
  - {host_path: /scratch/$USER/x, container_path: /root/.cache, readonly: true}
ports: [{container_port: 8000, host_port: 8001, protocol: tcp}]
healthcheck: {endpoint: /health, retries: 3}
resources: {cpu_cores: 8, memory_gb: 64GB, gpu_count: 1, disk_gb: 100, nodes: 1, ntasks: 1}
",
    );
    let mut with_user = variables();
    with_user.insert("USER".to_owned(), "alice".to_owned());
    insta::assert_snapshot!(planned.unwrap_err(), @r##"recipes/x.yaml:6:5: variable USER is not set; export it, or give a default: ${USER:-default}"##);
    let text = "\
name: vllm-server
image: docker://vllm/vllm-openai:v0.5.4
command: [/bin/bash, -c, 'vllm serve a/b --port ${PORT:-8000}']
environment: {HF_HOME: /root/.cache, EMPTY: }
volumes:
  - {host_path: /scratch/$USER/x, container_path: /root/.cache, readonly: true}
ports: [{container_port: 8000, host_port: 8001, protocol: tcp}]
healthcheck: {endpoint: /health, retries: 3}
resources: {cpu_cores: 8, memory_gb: 64GB, gpu_count: 1, disk_gb: 100, nodes: 1, ntasks: 1}
";
    let source = Source {
        text,
        path: "old.yaml",
        wanted: Some(Kind::Server),
        overrides: &[],
    };
    let planned = plan(&source, &with_user).unwrap();
    insta::assert_snapshot!(warnings(&planned), @r##"
old.yaml:1:7: no `service_name`: taken from the name; write `service_name: vllm`
old.yaml:2:1: `image` is an older form; write `service: {container: {image: ${CONTAINER_DIR}/vllm-openai_v0.5.4.sif, args: [PROGRAM, …]}}`
old.yaml:3:10: without --shutdown-timeout vLLM breaks off the requests under way when it is told to end; add `--shutdown-timeout 20` where this vLLM knows it
old.yaml:4:1: `environment` at the top is an older form; write it as `service.env`
old.yaml:5:1: `volumes` at the top is an older form; write it as `service.container.binds`
old.yaml:7:1: `ports` at the top is an older form; write it as `service.ports`
old.yaml:8:1: `healthcheck` at the top is an older form; write it as `service.readiness`
old.yaml:9:1: `resources` at the top is an older form; write it as `orchestration.resources`
"##);
    let plan = server(planned);
    assert_eq!(plan.service_name, "vllm");
    assert_eq!(plan.ports, [PortChoice::Fixed(8001)]);
    assert_eq!(plan.model.as_deref(), Some("a/b"));
    assert_eq!(plan.env.get("EMPTY").map(String::as_str), Some(""));
    let Launch::Container(container) = plan.launch else {
        panic!("no container")
    };
    assert_eq!(container.image, Path::new("/images/vllm-openai_v0.5.4.sif"));
    assert_eq!(container.gpu, Gpu::Nvidia);
    assert_eq!(container.binds, ["/scratch/alice/x:/root/.cache:ro"]);
    assert_eq!(container.args[2], "vllm serve a/b --port ${PORT:-8000}");
}

#[test]
fn scripts_and_their_variables_are_never_expanded() {
    let planned = read(
        "name: s-server\nservice_name: s\nservice:\n  command: echo ${NOWHERE} {port} ${PORT}\n  env: {A: '${NOWHERE}'}\n",
    )
    .unwrap();
    let plan = server(planned);
    assert_eq!(
        plan.launch,
        Launch::Command("echo ${NOWHERE} {port} ${PORT}".to_owned())
    );
    assert_eq!(plan.env["A"], "${NOWHERE}");
}

#[test]
fn the_reference_and_the_schema_know_every_key() {
    for kind in Kind::ALL {
        let reference = describe::reference(kind);
        let schema = describe::json_schema(kind).to_string();
        for (path, field) in schema::paths(tables::fields(kind)) {
            assert!(reference.contains(&path), "{path}");
            assert!(schema.contains(&format!("\"{}\":", field.name)), "{path}");
            assert!(!field.doc.is_empty());
        }
    }
    let reference = describe::reference(Kind::Monitor);
    let lines = reference
        .lines()
        .filter(|line| !line.starts_with("alerts."));
    insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"), @r##"
Keys of a monitor recipe

name                                name of the recipe (required)
service_name                        name that links server, monitor and client (default: the name without -server, -monitor, -client or -test)
description                         for people
targets                             targets besides those of the registry
targets[].name                      name of the target (required)
targets[].port                      port of the service that is meant (required; a whole number from 1 to 65535)
targets[].metrics_path              path of its metrics (default: /metrics)
prometheus                          Prometheus
prometheus.enabled                  start Prometheus? (true or false; default: true)
prometheus.image                    path of the image of Prometheus, or where it is pulled from (default: the prometheus on PATH; ${VARIABLES} are expanded)
prometheus.source                   where the image is pulled from when it is missing (${VARIABLES} are expanded)
prometheus.scrape_interval          interval of scrapes (a duration above 0 such as 90, 500ms, 20m or 04:00:00; default: 2s in a stack, else 15s)
prometheus.retention_time           how long samples are kept (a duration above 0 such as 90, 500ms, 20m or 04:00:00; default: 24h)
prometheus.port                     port of Prometheus (a port from 1 to 65535, or auto; default: auto)
prometheus.allow_shared_tsdb        keep its data on a network file system where there is nothing else? It may break (true or false; default: false)
prometheus.partition                partition of the job
prometheus.resources                size of the job, and of the step in a stack
prometheus.resources.partition      partition, by the site's or Slurm's name
prometheus.resources.cpu_cores      CPU cores (a whole number from 1 to 1000000000)
prometheus.resources.memory_gb      memory in GiB (memory in GiB such as 64, "64GB" or "512MB")
prometheus.resources.gpu_count      GPUs (a whole number from 0 to 1024; default: 0)
prometheus.resources.time_limit     time limit of the job (a duration above 0 such as 90, 500ms, 20m or 04:00:00)
prometheus.resources.nodes          nodes of one engine, each with the cores, memory and GPUs above (a whole number from 1 to 4096; default: 1)
grafana                             Grafana beside Prometheus, with dashboards of engine, bench and nodes (true or false, or a mapping of enabled, image, port; default: false)
grafana.enabled                     start Grafana? (true or false; default: true)
grafana.image                       path of an image of Grafana (default: the grafana on PATH; ${VARIABLES} are expanded)
grafana.port                        port of Grafana, on the node's loopback (a port from 1 to 65535, or auto; default: auto)
alerts                              what Prometheus watches for; each of ours takes false, or what is to be different
orchestration                       what is asked of Slurm
orchestration.mode                  kept for older recipes: what starts a recipe decides where it runs (one of slurm, local)
orchestration.resources             size of the job, and of the step in a stack
orchestration.resources.partition   partition, by the site's or Slurm's name
orchestration.resources.cpu_cores   CPU cores (a whole number from 1 to 1000000000)
orchestration.resources.memory_gb   memory in GiB (memory in GiB such as 64, "64GB" or "512MB")
orchestration.resources.gpu_count   GPUs (a whole number from 0 to 1024; default: 0)
orchestration.resources.time_limit  time limit of the job (a duration above 0 such as 90, 500ms, 20m or 04:00:00)
orchestration.resources.nodes       nodes of one engine, each with the cores, memory and GPUs above (a whole number from 1 to 4096; default: 1)
"##);
}

#[test]
fn arrivals_have_their_own_keys_and_no_others() {
    let load = |workload: &str| {
        client(
            read(&format!(
                "name: c\nservice_name: s\nworkload: {{duration_seconds: 1, {workload}}}\n"
            ))
            .unwrap(),
        )
        .load
    };
    let LoadModel::OpenLoop { arrival, .. } =
        load("requests_per_second: 2, arrival: {process: gamma, burstiness: 0.5}")
    else {
        panic!("no open loop")
    };
    assert_eq!(arrival, Arrival::Gamma { burstiness: 0.5 });
    assert_eq!(
        load("arrival: {process: ramp, from: 1, to: 4}"),
        LoadModel::OpenLoop {
            requests_per_second: None,
            arrival: Arrival::Ramp {
                from: 1.0,
                to: 4.0,
                gaps: Gaps::Poisson
            },
            max_in_flight: None,
        }
    );
    let wrong = |workload: &str| {
        faults(&format!(
            "name: c\nservice_name: s\nworkload: {{{workload}}}\n"
        ))
    };
    insta::assert_snapshot!(wrong("duration_seconds: 1, requests_per_second: 2, arrival: {burstiness: 2}"), @r##"recipes/x.yaml:3:67: "burstiness" means nothing for the process poisson: take it out, or write `process: gamma`"##);
    insta::assert_snapshot!(wrong("duration_seconds: 1, requests_per_second: 2, arrival: {process: gamma, gaps: constant}"), @r##"
recipes/x.yaml:3:66: the process gamma needs "burstiness": 1 is Poisson, less comes in bursts, more is more even
recipes/x.yaml:3:83: "gaps" means nothing for the process gamma: take it out, or write `process: ramp`
"##);
    insta::assert_snapshot!(wrong("total_requests: 1, requests_per_second: 2, arrival: {process: ramp, from: 0, to: 0}"), @r##"
recipes/x.yaml:3:52: "requests_per_second" means nothing with a ramp or a trace, which have rates of their own: take it out
recipes/x.yaml:3:64: a ramp from 0 to 0 sends nothing
recipes/x.yaml:3:64: a ramp needs "duration_seconds": the time that it takes from `from` to `to`
"##);
    insta::assert_snapshot!(wrong("requests_per_second: 2, arrival: {process: trace, file: x}"), @r##"recipes/x.yaml:3:33: "requests_per_second" means nothing with a ramp or a trace, which have rates of their own: take it out"##);
    insta::assert_snapshot!(wrong("arrival: {process: trace}"), @r##"recipes/x.yaml:3:21: the process trace needs "file": the trace to replay"##);
    insta::assert_snapshot!(wrong("duration_seconds: 1, requests_per_second: 2, arrival: {process: gamma, burstiness: 0}"), @r##"recipes/x.yaml:3:95: "workload.arrival.burstiness" wants a number above 0 to 1000000, found the number 0"##);
}

#[test]
fn a_file_lies_beside_its_recipe_or_where_variables_say() {
    let trace = |file: &str, sets: &[&str]| {
        let text = format!(
            "name: c\nservice_name: s\nworkload: {{arrival: {{process: trace, file: '{file}'}}}}\n"
        );
        match client(read_with(&text, sets).unwrap()).load {
            LoadModel::OpenLoop {
                arrival: Arrival::Trace { file },
                ..
            } => file.display().to_string(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(trace("t.jsonl", &[]), "recipes/t.jsonl");
    assert_eq!(trace("${CONTAINER_DIR}/t.jsonl", &[]), "/images/t.jsonl");
    assert_eq!(
        trace("t.jsonl", &["workload.arrival.file=here/u.jsonl"]),
        "here/u.jsonl"
    );
}

#[test]
fn lengths_are_numbers_or_distributions() {
    let text = |params: &str| {
        format!(
            "name: c\nservice_name: s\nworkload: {{total_requests: 1}}\ndataset: {{params: {{{params}}}}}\n"
        )
    };
    let plan = client(
        read(&text(
            "prompt_length: {lognormal: {mean: 100, sigma: 1, max: 400}}, max_tokens: {uniform: [4, 8]}",
        ))
        .unwrap(),
    );
    let Length::Lognormal { median, .. } = plan.workload.prompt_length else {
        panic!("{:?}", plan.workload.prompt_length)
    };
    assert!((median - 60.65).abs() < 0.01, "{median}");
    assert_eq!(plan.workload.max_tokens, Length::Uniform { min: 4, max: 8 });
    let shown = serde_json::to_value(&plan.workload).unwrap();
    assert_eq!(shown["max_tokens"]["uniform"]["max"], 8);
    let set = read_with(CLIENT, &["dataset.params.prompt_length={uniform: [1, 2]}"]).unwrap();
    assert_eq!(
        client(set).workload.prompt_length,
        Length::Uniform { min: 1, max: 2 }
    );
    let wrong = |params: &str| faults(&text(params));
    insta::assert_snapshot!(wrong("prompt_length: long, max_tokens: {unifrom: [1, 2]}"), @r##"
recipes/x.yaml:4:35: "dataset.params.prompt_length" wants a whole number from 1 to 10000000, or a mapping of uniform, normal, lognormal, found the text "long"
recipes/x.yaml:4:54: unknown key "unifrom"; did you mean "uniform"?
"##);
    insta::assert_snapshot!(wrong("prompt_length: {uniform: [9, 4]}, max_tokens: {normal: {mean: 5}}"), @r##"
recipes/x.yaml:4:45: "dataset.params.prompt_length" wants `uniform: [LEAST, MOST]`, two numbers of which the first is not above the second
recipes/x.yaml:4:75: "dataset.params.max_tokens.normal" lacks the key "std": standard deviation of the normal distribution
"##);
    insta::assert_snapshot!(wrong("prompt_length: {lognormal: {sigma: 1}}, max_tokens: {normal: {mean: 5, std: 1, min: 6}}"), @r##"
recipes/x.yaml:4:47: "dataset.params.prompt_length" wants the median or the mean of a lognormal distribution, one of the two
recipes/x.yaml:4:81: "dataset.params.max_tokens" has its mean (5) outside of 6 to 10000000, between which all lengths lie
"##);
    insta::assert_snapshot!(wrong("prompt_length: {uniform: [4, 9], normal: {mean: 5, std: 1}}"), @r##"recipes/x.yaml:4:35: "dataset.params.prompt_length" wants one distribution: uniform, normal or lognormal"##);
}

#[test]
fn what_is_shared_leaves_each_prompt_its_own() {
    let text = |params: &str| {
        format!(
            "name: c\nservice_name: s\nworkload: {{total_requests: 1}}\ndataset: {{params: {{{params}}}}}\n"
        )
    };
    let plan = client(read(&text("shared_prefix: {groups: 4, length: 64}")).unwrap());
    let shown = serde_json::to_value(plan.workload.shared_prefix).unwrap();
    assert_eq!(shown.to_string(), r#"{"groups":4,"length":64}"#);
    let wrong = |params: &str| faults(&text(params));
    insta::assert_snapshot!(wrong("prompt_length: {uniform: [70, 90]}, shared_prefix: {groups: 4, length: 64}"), @r##"recipes/x.yaml:4:71: 64 shared tokens leave nothing to a prompt of 70: "prompt_length" counts what is shared, and 8 are each prompt's own"##);
    insta::assert_snapshot!(wrong("shared_prefix: {groups: 4}"), @r##"recipes/x.yaml:4:35: "shared_prefix" wants the "length" or the "ratio" that is shared, one of the two"##);
    insta::assert_snapshot!(wrong("shared_prefix: {length: 5, ratio: 2}"), @r##"
recipes/x.yaml:4:35: "dataset.params.shared_prefix" lacks the key "groups": groups of requests, in turn; those of one group begin alike
recipes/x.yaml:4:35: "shared_prefix" wants the "length" or the "ratio" that is shared, one of the two
recipes/x.yaml:4:54: "dataset.params.shared_prefix.ratio" wants a number above 0 to 1, found the number 2
"##);
}

#[test]
fn prompts_of_a_file_are_sent_as_they_are() {
    let text = |dataset: &str| {
        format!(
            "name: c\nservice_name: s\nworkload: {{total_requests: 1}}\ndataset: {{{dataset}}}\n"
        )
    };
    let dataset = |dataset: &str| {
        client(read(&text(dataset)).unwrap())
            .workload
            .dataset
            .unwrap()
    };
    let found = dataset("type: sharegpt, file: '${CONTAINER_DIR}/s.json'");
    assert_eq!(found.kind, DatasetKind::ShareGpt);
    assert_eq!(found.file, Path::new("/images/s.json"));
    assert!(found.own_lengths);
    let given = dataset("type: sharegpt, file: s.json, params: {max_tokens: 5}");
    assert_eq!(given.file, Path::new("recipes/s.json"));
    assert!(!given.own_lengths);
    let made = |dataset: &str| client(read(&text(dataset)).unwrap()).workload.corpus;
    assert!(made("type: corpus, params: {prompt_length: 90}") && !made("type: synthetic"));
    let wrong = |dataset: &str| faults(&text(dataset));
    insta::assert_snapshot!(wrong("type: jsonl, params: {prompt_length: 5, shared_prefix: {groups: 1, ratio: 0.5}}"), @r##"
recipes/x.yaml:4:10: "dataset" lacks the key "file": where the prompts are
recipes/x.yaml:4:48: "prompt_length" means nothing for prompts of a file, which are sent as they are: take it out
recipes/x.yaml:4:66: "shared_prefix" means nothing for prompts of a file, which are sent as they are: take it out
"##);
    insta::assert_snapshot!(wrong("file: s.json"), @r##"recipes/x.yaml:4:17: "file" wants the type of the dataset: prompts, jsonl or sharegpt"##);
    insta::assert_snapshot!(faults("name: c\nservice_name: s\nworkload: {arrival: {process: trace, file: t}}\ndataset: {type: prompts, file: p}\n"), @r##"recipes/x.yaml:3:44: a trace tells lengths, a file of prompts has its own: use one of them"##);
}

#[test]
fn further_fields_and_headers_are_planned_and_values_of_headers_are_hidden() {
    let text = "\
name: c
service_name: s
target: {headers: {X-Tenant: blue, X-Api-Key: '${CONTAINER_DIR}'}}
workload: {total_requests: 1}
dataset: {params: {extra_body: {min_tokens: 5, bias: [1.5, '7', true, null], user: '${CONTAINER_DIR}'}}}
";
    let plan = client(read(text).unwrap());
    assert_eq!(plan.headers["x-api-key"].0, "/images");
    let shown = serde_json::to_string(&plan).unwrap();
    assert!(
        shown.contains(r#""headers":{"x-api-key":"***","x-tenant":"***"}"#),
        "{shown}"
    );
    assert!(!format!("{plan:?}").contains("blue"));
    assert_eq!(
        serde_json::to_string(&plan.workload.extra_body).unwrap(),
        r#"{"min_tokens":5,"bias":[1.5,"7",true,null],"user":"/images"}"#
    );
    let wrong = |text: &str| {
        faults(&format!(
            "name: c\nservice_name: s\nworkload: {{total_requests: 1}}\n{text}"
        ))
    };
    insta::assert_snapshot!(wrong("target: {headers: {X-Api-Key: abc, Host: a, Authorization: '${CONTAINER_DIR}', 'a b': c, X-A: \"a\\nb\"}}\n"), @r##"
recipes/x.yaml:4:31: the value of "X-Api-Key" looks like a secret: export it as a variable, and write '${VARIABLE}'
recipes/x.yaml:4:36: aif sets the header "Host" itself
recipes/x.yaml:4:80: "a b" is no name of a header
recipes/x.yaml:4:95: the value of "X-A" wants plain text on one line
"##);
    insta::assert_snapshot!(wrong("dataset: {params: {extra_body: {model: m, stream: false}}}\n"), @r##"
recipes/x.yaml:4:33: aif writes "model" itself, by "dataset.params.model_name": give it there
recipes/x.yaml:4:43: aif writes "stream" itself, by "workload.stream": give it there
"##);
    insta::assert_snapshot!(faults("name: c\nservice_name: s\nworkload: {total_requests: 1, api: embeddings, stream: true}\ndataset: {params: {max_tokens: 5}}\n"), @r##"
recipes/x.yaml:3:56: "workload.stream" means nothing for embeddings, which generates no text: take it out
recipes/x.yaml:4:32: "dataset.params.max_tokens" means nothing for embeddings, which generates no text: take it out
"##);
}

proptest! {
    /// Shipped recipes, torn at any place and with any character put in: faults, never a panic.
    #[test]
    fn no_recipe_panics(which in 0_usize..3, cut in 0_usize..900, insert in "\\PC{0,3}|[\\[\\]{}:\n &*-]{0,4}", drop in 0_usize..40) {
        let files = ["recipes/servers/llamacpp-server.yaml", "recipes/monitors/vllm-monitor.yaml", "tests/data/recipes/vllm-server-slip.yaml"];
        let text: Vec<char> = file(files[which]).chars().collect();
        let cut = cut.min(text.len());
        let rest = (cut + drop).min(text.len());
        let torn: String = text[..cut].iter().copied().chain(insert.chars()).chain(text[rest..].iter().copied()).collect();
        let _ = read(&torn);
    }

    #[test]
    fn no_override_panics(text in "(workload|slo|dataset|name|targets|\\.|=|0|\\[|\\{|a: b|,|\\]|\\}|'){0,12}") {
        let _ = read_with(CLIENT, &[&text]);
    }
}
