//! Server recipes.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use super::{port, resources, text, texts, whole};
use crate::recipe::{
    Container, EngineKind, Gpu, KEY_VARIABLE, Launch, MetricsPlace, PortChoice, PortPlace,
    Readiness, Restart, ServerPlan, check,
    fault::Findings,
    infer,
    load::{Node, Value},
};

/// Silence of an engine that counts as the end of it: longer than a long prompt keeps a small one busy.
const HUNG_AFTER: Duration = Duration::from_mins(5);

/// What is filled in as the file of the key.
const KEY_BLANK: &str = "{api_key_file}";

/// Seconds that a role has to end where nobody says otherwise.
const GRACE_SECONDS: u64 = 25;

pub(super) fn plan(root: &Node, findings: &mut Findings) -> Option<ServerPlan> {
    let mut resources = resources(root, "orchestration.resources");
    let service = root.get("service")?;
    let launch = launch(service, resources.gpu_count, findings);
    let ports: Vec<PortChoice> = service
        .get("ports")
        .map(Node::items)
        .unwrap_or_default()
        .iter()
        .filter_map(port)
        .collect();
    let launch = launch?;
    listed(service, &launch, ports.len().max(1), findings);
    let engine = text(root, "engine").map_or_else(
        || infer::engine(&launch),
        |name| EngineKind::by_name(&name).unwrap_or(EngineKind::Http),
    );
    key(service, &launch, engine, findings);
    if text(service, "auth").as_deref() != Some("key")
        && engine.keyless().is_none()
        && infer::mentions(&launch, "0.0.0.0")
    {
        findings.warn(
            service.at,
            "it listens on all addresses of its node and wants no key: whoever reaches the node can use it; \
             add `auth: key`",
        );
    }
    ending(service, &launch, engine, findings);
    resources.nodes = nodes(root, service, &launch, engine, findings);
    Some(ServerPlan {
        name: text(root, "name")?,
        service_name: text(root, "service_name")?,
        description: text(root, "description"),
        engine,
        model: infer::model(&launch, engine),
        launch,
        working_dir: text(service, "working_dir").map_or_else(|| PathBuf::from("."), PathBuf::from),
        env: variables(service),
        ports: if ports.is_empty() {
            vec![PortChoice::Auto]
        } else {
            ports
        },
        readiness: Readiness {
            path: text(service, "readiness.path"),
            timeout: service
                .find("readiness.timeout")
                .and_then(Node::as_duration),
        },
        metrics: metrics(service, findings),
        offline: service.get("offline").and_then(Node::as_bool) == Some(true),
        liveness: service
            .find("liveness.timeout")
            .map_or(Some(HUNG_AFTER), Node::as_duration)
            .filter(|limit| !limit.is_zero()),
        auth_key: text(service, "auth").as_deref() == Some("key"),
        restart: Restart {
            max: whole(service, "restart.max").unwrap_or(0),
            backoff: service
                .find("restart.backoff")
                .and_then(Node::as_duration)
                .unwrap_or(Duration::from_secs(5)),
        },
        resources,
    })
}

/// Whether the engine takes the key that the recipe wants: a service that stays open without a word is worse than none.
fn key(service: &Node, launch: &Launch, engine: EngineKind, findings: &mut Findings) {
    let wanted = text(service, "auth").as_deref() == Some("key");
    let blank = |text: &str| text.contains(KEY_BLANK);
    let is_script = matches!(launch, Launch::Command(_));
    let environment = variables(service);
    let filled = (!is_script && infer::fills_in(launch, KEY_BLANK))
        || environment.values().any(|value| blank(value));
    if !wanted {
        if filled {
            findings.fault(
                service.at,
                format!("{KEY_BLANK} is the file of the key that `auth: key` makes: add `auth: key`, or take it out"),
            );
        }
        return;
    }
    let at = service.get("auth").map_or(service.at, |auth| auth.at);
    if let Some(why) = engine.keyless() {
        findings.fault(
            at,
            format!("{why}: leave `auth: key` out, and whoever reaches the node can use it"),
        );
        return;
    }
    let used = filled || infer::fills_in(launch, KEY_VARIABLE);
    if engine == EngineKind::Http && !used {
        let by = if is_script {
            format!("give it the file named by ${KEY_VARIABLE} in the command")
        } else {
            format!("give it the file by {KEY_BLANK} in the arguments or in service.env")
        };
        findings.fault(
            at,
            format!(
                "how this program takes a key is not known, and without it it would be open to all who reach the node: {by}, or leave `auth: key` out"
            ),
        );
    }
}

/// Whether a placeholder stands for a port that the recipe does not list.
fn listed(service: &Node, launch: &Launch, ports: usize, findings: &mut Findings) {
    let metrics = service.find("metrics.port");
    let words = service.find("container.args").or(service.get("program"));
    for index in ports..check::PORTS {
        let blank = format!("{{{}}}", check::port_name(index));
        let is_filled = words.filter(|_| infer::fills_in(launch, &blank));
        let is_place = metrics.filter(|node| node.as_text() == Some(blank.as_str()));
        if let Some(node) = is_filled.or(is_place) {
            let wanted = vec!["auto"; index + 1].join(", ");
            findings.fault(
                node.at,
                format!("{blank} is number {} of service.ports, which has {ports}: write `ports: [{wanted}]`", index + 1),
            );
        }
    }
}

/// What an engine needs to be told to end in order. A script stays as its author wrote it, and may be for an engine that
/// does not know the option.
fn ending(service: &Node, launch: &Launch, engine: EngineKind, findings: &mut Findings) {
    let words = service.find("container.args").or(service.get("program"));
    let Some(at) = words.map(|words| words.at) else {
        return;
    };
    match engine {
        EngineKind::Vllm => match infer::value(launch, "--shutdown-timeout") {
            None => findings.warn(
                at,
                "without --shutdown-timeout vLLM breaks off the requests under way when it is told to end; \
                 add `--shutdown-timeout 20` where this vLLM knows it",
            ),
            Some(value) if value.parse::<u64>().is_ok_and(|value| value > GRACE_SECONDS) => findings.warn(
                at,
                format!(
                    "--shutdown-timeout {value} is longer than the {GRACE_SECONDS} seconds that a role has to end: what is under way then is \
                     killed; give it 20, or more time by AIF_GRACE_SECONDS"
                ),
            ),
            Some(_) => {}
        },
        EngineKind::LlamaCpp if streams(launch) && !infer::mentions(launch, "--sse-ping-interval") => findings.warn(
            at,
            "without --sse-ping-interval llama-server may take 30 seconds to end where streams are under way, and is killed before; \
             add `--sse-ping-interval 2`",
        ),
        _ => {}
    }
}

/// Is it a `llama-server` that generates text?
fn streams(launch: &Launch) -> bool {
    let others = ["--embedding", "--embeddings", "--rerank", "--reranking"];
    infer::fills_in(launch, "llama-server")
        && !others.iter().any(|option| infer::mentions(launch, option))
}

/// Where the recipe says that the engine's metrics are.
fn metrics(service: &Node, findings: &mut Findings) -> MetricsPlace {
    let path = service.find("metrics.path");
    if let Some(node) = path
        && !node.as_text().is_some_and(|path| path.starts_with('/'))
    {
        findings.fault(node.at, "a path of metrics starts with `/`, as in /metrics");
    }
    MetricsPlace {
        port: service
            .find("metrics.port")
            .and_then(Node::as_text)
            .and_then(PortPlace::of),
        path: path.and_then(Node::as_text).map(str::to_owned),
    }
}

/// Nodes of the engine, where the recipe tells; what cannot be done with several is told.
fn nodes(
    root: &Node,
    service: &Node,
    launch: &Launch,
    engine: EngineKind,
    findings: &mut Findings,
) -> Option<u32> {
    let given = [
        service.get("nodes"),
        root.find("orchestration.resources.nodes"),
    ];
    let nodes = given.into_iter().flatten().find_map(Node::as_u64)?;
    let at = given.into_iter().flatten().last()?.at;
    if given
        .into_iter()
        .flatten()
        .any(|node| node.as_u64() != Some(nodes))
    {
        findings.fault(
            at,
            "\"service.nodes\" and \"orchestration.resources.nodes\" are the same number: give one of them",
        );
    }
    if nodes > 1 {
        if matches!(launch, Launch::Command(_)) {
            findings.fault(
                at,
                "a script is started as it is written, on one node: an engine over several wants \"service.container\" or \"service.program\"",
            );
        } else if infer::fills_in(launch, "{rank}") || engine.spans_nodes() {
            // the recipe says how, or the profile does
        } else if let Some(otherwise) = engine.nodes_otherwise() {
            findings.fault(at, otherwise);
        } else {
            findings.fault(
                at,
                format!(
                    "aif does not know how {} is started over several nodes: say so in the arguments, with {{rank}}, {{nodes}}, {{head}} and {{head_port}}",
                    engine.name()
                ),
            );
        }
        if let Some(restart) = service
            .find("restart.max")
            .filter(|max| max.as_u64() > Some(0))
        {
            findings.fault(
                restart.at,
                "an engine over several nodes is not started again when a part of it died: take \"restart\" out",
            );
        }
    }
    u32::try_from(nodes).ok()
}

fn launch(service: &Node, gpus: u32, findings: &mut Findings) -> Option<Launch> {
    let given: Vec<(&str, &Node)> = ["command", "container", "program"]
        .into_iter()
        .filter_map(|name| Some((name, service.get(name)?)))
        .collect();
    match given[..] {
        [] => {
            findings.fault(
                service.at,
                "\"service\" needs one of command, container, program: how is the engine started?",
            );
            None
        }
        [("command", node)] => node.as_text().map(|text| Launch::Command(text.to_owned())),
        [("program", _)] => {
            let words = texts(service, "program");
            (!words.is_empty()).then_some(Launch::Program(words))
        }
        [(_, node)] => Some(Launch::Container(Container {
            image: PathBuf::from(text(node, "image")?),
            source: text(node, "source"),
            gpu: match text(node, "gpu").as_deref() {
                Some("amd") => Gpu::Amd,
                Some("none") => Gpu::None,
                None if gpus == 0 => Gpu::None,
                _ => Gpu::Nvidia,
            },
            binds: texts(node, "binds"),
            args: texts(node, "args"),
        })),
        [.., (_, last)] => {
            let names: Vec<&str> = given.iter().map(|(name, _)| *name).collect();
            findings.fault(
                last.at,
                format!(
                    "\"service\" has {}; an engine is started in one way only, take the others out",
                    names.join(" and ")
                ),
            );
            None
        }
    }
}

fn variables(service: &Node) -> BTreeMap<String, String> {
    service
        .get("env")
        .map(Node::entries)
        .unwrap_or_default()
        .iter()
        .filter_map(|(key, node)| match &node.value {
            Value::Scalar { .. } => Some((
                key.name.clone(),
                node.as_text().unwrap_or_default().to_owned(),
            )),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::recipe::{
        expand::Variables,
        plan::{Planned, Source, plan},
    };

    /// What is told of a recipe with these lines below `service:`.
    fn told(engine: &str, service: &str) -> String {
        let text = format!("name: s\nservice_name: s\nengine: {engine}\nservice:\n{service}");
        let source = Source {
            text: &text,
            path: "x.yaml",
            wanted: None,
            overrides: &[],
        };
        match plan(&source, &Variables::default()) {
            Ok(Planned { warnings, .. }) => {
                let lines: Vec<String> = warnings.iter().map(ToString::to_string).collect();
                lines.join("\n")
            }
            Err(faults) => faults.to_string(),
        }
    }

    #[test]
    fn a_key_that_nothing_takes_is_a_fault() {
        let open = "how this program takes a key is not known";
        for service in [
            "  container: {image: /a.sif, args: [serve]}\n  auth: key\n",
            "  program: [serve]\n  auth: key\n",
            "  command: serve\n  auth: key\n",
            // in a script it is not filled in
            "  command: 'serve --key {api_key_file}'\n  auth: key\n",
        ] {
            assert!(told("http", service).contains(open), "{service}");
        }
        for service in [
            "  program: [serve, --key-file, '{api_key_file}']\n  auth: key\n",
            "  program: [serve]\n  env: {KEY_FILE: '{api_key_file}'}\n  auth: key\n",
            "  container: {image: /a.sif, args: [sh, -c, 'KEY=$(cat $AIF_API_KEY_FILE) serve']}\n  auth: key\n",
            "  command: 'serve --key-file \"$AIF_API_KEY_FILE\"'\n  auth: key\n",
            "  program: [serve]\n",
        ] {
            assert_eq!(told("http", service), "", "{service}");
        }
        // their profiles know how
        assert_eq!(told("qdrant", "  program: [qdrant]\n  auth: key\n"), "");
    }

    #[test]
    fn an_engine_of_mpi_over_several_nodes_is_told_how_to_have_it() {
        let several = told("trtllm", "  program: [trtllm-serve, m]\n  nodes: 2\n");
        for words in [
            "srun --mpi=pmix … trtllm-llmapi-launch trtllm-serve",
            "aif services add NAME --url http://NODE:PORT --engine trtllm",
            "by --tp_size",
        ] {
            assert!(several.contains(words), "no {words}: {several}");
        }
        for service in [
            "  program: [trtllm-serve, m]\n",
            // whoever says how is believed
            "  program: [own-launcher, '{rank}']\n  nodes: 2\n",
        ] {
            assert_eq!(told("trtllm", service), "", "{service}");
        }
    }

    #[test]
    fn a_port_that_is_not_listed_is_a_fault_that_says_how_to_list_it() {
        for (service, fault) in [
            (
                "  program: [serve, '{port}', '{port2}']\n",
                "x.yaml:5:12: {port2} is number 2 of service.ports, which has 1: write `ports: [auto, auto]`",
            ),
            (
                "  container: {image: /a.sif, args: [sh, -c, 'serve --grpc={port3}']}\n  ports: [auto, 7000]\n",
                "{port3} is number 3 of service.ports, which has 2: write `ports: [auto, auto, auto]`",
            ),
            (
                "  program: [serve]\n  metrics: {port: '{port2}'}\n",
                "x.yaml:6:19: {port2} is number 2 of service.ports",
            ),
            (
                "  program: [serve]\n  metrics: {port: '{port9}'}\n",
                "wants a port from 1 to 65535, or \"{port2}\" for the second of service.ports",
            ),
        ] {
            let told = told("http", service);
            assert!(told.contains(fault), "{service}: {told}");
        }
        for service in [
            "  program: [serve, '{port2}']\n  ports: [auto, 7000]\n  metrics: {port: '{port2}'}\n",
            "  program: [serve]\n  metrics: {port: 8002}\n",
        ] {
            assert_eq!(told("http", service), "", "{service}");
        }
    }

    #[test]
    fn the_file_of_a_key_that_nobody_makes_is_a_fault() {
        for service in [
            "  program: [serve, --key-file, '{api_key_file}']\n",
            "  program: [serve]\n  env: {KEY_FILE: '{api_key_file}'}\n  auth: none\n",
        ] {
            let told = told("llamacpp", service);
            assert!(told.contains("add `auth: key`"), "{service}: {told}");
        }
    }

    #[test]
    fn an_engine_that_would_be_killed_at_its_end_is_warned_of() {
        for (engine, args, warning) in [
            (
                "vllm",
                "vllm, serve, m, --shutdown-timeout, '60'",
                "longer than the 25 seconds",
            ),
            (
                "vllm",
                "vllm, serve, m, --shutdown-timeout=60",
                "longer than the 25 seconds",
            ),
            ("vllm", "vllm, serve, m", "without --shutdown-timeout"),
            (
                "llamacpp",
                "llama-server, -m, m",
                "add `--sse-ping-interval 2`",
            ),
        ] {
            let told = told(engine, &format!("  program: [{args}]\n"));
            assert!(told.contains(warning), "{args}: {told}");
        }
        for (engine, args) in [
            ("vllm", "vllm, serve, m, --shutdown-timeout, '20'"),
            ("llamacpp", "llama-server, -m, m, --sse-ping-interval, '2'"),
            ("llamacpp", "llama-server, -m, m, --embeddings"),
        ] {
            assert_eq!(
                told(engine, &format!("  program: [{args}]\n")),
                "",
                "{args}"
            );
        }
        // as its author wrote it
        assert_eq!(told("llamacpp", "  command: llama-server -m m\n"), "");
    }
}
