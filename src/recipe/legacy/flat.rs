//! The flat form of servers: image, command and volumes at the top, as container tools write them.

use super::{put_new, take_inner};
use crate::recipe::{
    fault::Findings,
    load::{Node, Value},
};

/// The flat form of before: `image`, `command`, `environment`, `volumes`, `ports`, `resources` at the top.
pub(super) fn server(root: &mut Node, findings: &mut Findings) {
    let image = root
        .take("image")
        .or_else(|| take_inner(root, "service", "image"));
    let Some((key, image)) = image.filter(|(_, node)| !node.is_null()) else {
        return;
    };
    let Some(text) = image.as_text().map(str::to_owned) else {
        findings.fault(
            image.at,
            format!("\"image\" wants text, found {}", image.found()),
        );
        return;
    };
    let file = if text.contains("://") {
        let name = text
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .replace(':', "_");
        put_new(
            root,
            "service.container.source",
            Node::text_at(image.at, text),
        );
        format!("${{CONTAINER_DIR}}/{name}.sif")
    } else {
        text
    };
    findings.warn(
        key.at,
        format!("`image` is an older form; write `service: {{container: {{image: {file}, args: [PROGRAM, …]}}}}`"),
    );
    put_new(
        root,
        "service.container.image",
        Node::text_at(image.at, file),
    );
    let command = root
        .take("command")
        .or_else(|| take_inner(root, "service", "command"));
    match command {
        Some((_, node)) => put_new(root, "service.container.args", arguments(node)),
        None => findings.fault(
            key.at,
            "this version cannot run an image's own start script: give `service.container.args`",
        ),
    }
    let moves = [
        ("environment", "service.env"),
        ("env", "service.env"),
        ("working_dir", "service.working_dir"),
        ("ports", "service.ports"),
        ("volumes", "service.container.binds"),
        ("healthcheck", "service.readiness"),
        ("resources", "orchestration.resources"),
    ];
    for (old, new) in moves {
        if let Some((key, node)) = root.take(old) {
            let node = match old {
                "ports" => ports(node),
                "volumes" => binds(node),
                "healthcheck" => readiness(&node),
                "resources" => resources(node),
                _ => node,
            };
            findings.warn(
                key.at,
                format!("`{old}` at the top is an older form; write it as `{new}`"),
            );
            put_new(root, new, node);
        }
    }
}

/// A command of the flat form ran inside the container as it stood: nothing in it is ours to expand.
fn arguments(mut node: Node) -> Node {
    let literal = |text: &str| text.replace("${", "$${");
    match &mut node.value {
        Value::Scalar { text, .. } => {
            let words = ["/bin/sh".to_owned(), "-c".to_owned(), literal(text)];
            Node {
                at: node.at,
                value: Value::List(words.map(|word| Node::text_at(node.at, word)).into()),
            }
        }
        Value::List(items) => {
            for item in items.iter_mut() {
                if let Value::Scalar { text, .. } = &mut item.value {
                    *text = literal(text);
                }
            }
            node
        }
        Value::Map(_) => node,
    }
}

fn ports(mut node: Node) -> Node {
    if let Value::List(items) = &mut node.value {
        for item in items {
            let port = item
                .get("host_port")
                .or_else(|| item.get("container_port"))
                .cloned();
            if let Some(port) = port {
                *item = port;
            }
        }
    }
    node
}

fn binds(mut node: Node) -> Node {
    if let Value::List(items) = &mut node.value {
        for item in items {
            let part = |name| item.get(name).and_then(Node::as_text).map(str::to_owned);
            if let (Some(host), Some(container)) = (part("host_path"), part("container_path")) {
                let read_only = item.get("readonly").and_then(Node::as_bool) == Some(true);
                let mode = if read_only { ":ro" } else { "" };
                *item = Node::text_at(item.at, format!("{}:{container}{mode}", braced(&host)));
            }
        }
    }
    node
}

/// `$NAME` → `${NAME}`: in paths of the flat form the shell filled variables in.
fn braced(text: &str) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some(start) = rest.find('$') {
        result.push_str(&rest[..start]);
        let after = &rest[start + 1..];
        let end = after
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(after.len());
        if end == 0 {
            result.push('$');
        } else {
            result.extend(["${", &after[..end], "}"]);
        }
        rest = &after[end..];
    }
    result.push_str(rest);
    result
}

fn readiness(node: &Node) -> Node {
    let mut result = Node::map_at(node.at);
    if let Some(path) = node.get("endpoint").or_else(|| node.get("path")) {
        result.put("path", path.at, path.clone());
    }
    result
}

fn resources(mut node: Node) -> Node {
    for name in ["disk_gb", "ntasks"] {
        node.take(name);
    }
    node
}
