//! Server recipes.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use super::{port, resources, text, texts, whole};
use crate::recipe::{
    Container, EngineKind, Gpu, Launch, MetricsPlace, PortChoice, Readiness, Restart, ServerPlan,
    fault::Findings,
    infer,
    load::{Node, Value},
};

/// Silence of an engine that counts as the end of it: longer than a long prompt keeps a small one busy.
const HUNG_AFTER: Duration = Duration::from_mins(5);

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
    let engine = text(root, "engine").map_or_else(
        || infer::engine(&launch),
        |name| EngineKind::by_name(&name).unwrap_or(EngineKind::Http),
    );
    if let Some(auth) = service.get("auth")
        && text(service, "auth").as_deref() == Some("key")
        && let Some(why) = engine.keyless()
    {
        findings.fault(
            auth.at,
            format!("{why}: leave `auth: key` out, and whoever reaches the node can use it"),
        );
    }
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
    // a script stays as its author wrote it, and may be for a vLLM that does not know the option
    let words = service.find("container.args").or(service.get("program"));
    if let Some(words) = words
        && engine == EngineKind::Vllm
        && !infer::mentions(&launch, "--shutdown-timeout")
    {
        findings.warn(
            words.at,
            "without --shutdown-timeout vLLM breaks off the requests under way when it is told to end; \
             add `--shutdown-timeout 20` where this vLLM knows it",
        );
    }
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
            .and_then(Node::as_u64)
            .and_then(|port| u16::try_from(port).ok()),
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
        } else if !engine.spans_nodes() && !infer::fills_in(launch, "{rank}") {
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
