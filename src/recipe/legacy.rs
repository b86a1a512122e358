//! Older forms of recipes, rewritten into the form of today, each with a warning that shows the new one.
//!
//! Works on the tree before it is checked, so that the tables know one form only and every value, however it was
//! written, is held to the same types. What an older form says and this version cannot do is a fault, as anywhere.

use super::{
    Kind,
    fault::{Findings, Position},
    load::{self, Key, Node, Value},
};

/// Rewrites what is written in an older form.
pub fn modernize(root: &mut Node, kind: Kind, findings: &mut Findings) {
    match kind {
        Kind::Server => {
            lift_slip(root, findings);
            server(root, findings);
        }
        Kind::Monitor => {}
        Kind::Client => client(root, findings),
    }
    name_service(root, findings);
}

/// `service_name` where it is missing: the name without what tells the kind.
fn name_service(root: &mut Node, findings: &mut Findings) {
    if root.get("service_name").is_some() {
        return;
    }
    let Some(name) = root
        .get("name")
        .and_then(|node| Some((node.at, node.as_text()?.to_owned())))
    else {
        return;
    };
    let (at, name) = name;
    let service = service_of(&name).to_owned();
    findings.warn(
        at,
        format!("no `service_name`: taken from the name; write `service_name: {service}`"),
    );
    root.put("service_name", at, Node::text_at(at, service));
}

/// The service that a recipe's name tells: the name without what tells its kind.
pub fn service_of(name: &str) -> &str {
    ["-server", "-monitor", "-client", "-test"]
        .iter()
        .find_map(|suffix| name.strip_suffix(suffix))
        .filter(|rest| !rest.is_empty())
        .unwrap_or(name)
}

/// Puts a value where none is yet.
fn put_new(root: &mut Node, path: &str, node: Node) {
    if root.find(path).is_none() {
        let at = node.at;
        root.put(path, at, node);
    }
}

fn take_inner(root: &mut Node, outer: &str, key: &str) -> Option<(Key, Node)> {
    match &mut root.value {
        Value::Map(entries) => entries
            .iter_mut()
            .find(|(name, _)| name.name == outer)
            .and_then(|(_, node)| node.take(key))
            .filter(|(_, node)| !node.is_null()),
        _ => None,
    }
}

// Clients

fn client(root: &mut Node, findings: &mut Findings) {
    if let Some((key, node)) = take_inner(root, "target", "service") {
        let service = node.as_text().unwrap_or("NAME").to_owned();
        let note = if root.get("service_name").is_some() {
            "`target.service` is an older form; `service_name` counts, take it out".to_owned()
        } else {
            format!("`target.service` is an older form; write `service_name: {service}`")
        };
        findings.warn(key.at, note);
        put_new(root, "service_name", node);
    }
    if let Some((key, node)) = take_inner(root, "target", "endpoint") {
        endpoint(root, &key, &node, findings);
    }
    for (outer, name) in [("", "headers"), ("target", "headers")] {
        let taken = if outer.is_empty() {
            root.take(name)
        } else {
            take_inner(root, outer, name)
        };
        if let Some((key, node)) = taken {
            headers(&key, &node, findings);
        }
    }
    if let Some((key, node)) = root.take("payload") {
        payload(root, &key, &node, findings);
    }
}

fn endpoint(root: &mut Node, key: &Key, node: &Node, findings: &mut Findings) {
    let text = node.as_text().unwrap_or_default();
    let (address, path) = match text.split_once("://") {
        Some((_, rest)) => {
            let slash = rest.find('/').unwrap_or(rest.len());
            (Some(text), &rest[slash..])
        }
        None => (None, text),
    };
    let api = match path.trim_end_matches('/') {
        "" | "/v1" => None,
        "/v1/completions" => Some("completions"),
        "/v1/chat/completions" => Some("chat"),
        other => {
            findings.fault(
                node.at,
                format!("this version cannot send to {other:?}; it knows `workload: {{api: completions}}` and `{{api: chat}}`"),
            );
            return;
        }
    };
    if let Some(api) = api {
        findings.warn(
            key.at,
            format!("`target.endpoint` is an older form; write `workload: {{api: {api}}}`"),
        );
        put_new(root, "workload.api", Node::text_at(node.at, api));
    }
    if let Some(address) = address {
        findings.warn(
            key.at,
            format!("the address in `target.endpoint` is not used: the service is found by its name; to go around that: aif bench RECIPE --url {address}"),
        );
    }
}

fn headers(key: &Key, node: &Node, findings: &mut Findings) {
    for (name, _) in node.entries() {
        match name.name.to_ascii_lowercase().as_str() {
            "content-type" | "accept" => {}
            "authorization" => findings.warn(
                name.at,
                "the header is not used: an instance's key is found with its record",
            ),
            _ => findings.fault(
                name.at,
                format!("this version cannot send the header {:?}", name.name),
            ),
        }
    }
    findings.warn(
        key.at,
        "`headers` is an older form; take it out, aif sets what the API wants",
    );
}

fn payload(root: &mut Node, key: &Key, node: &Node, findings: &mut Findings) {
    let mut shown = Vec::new();
    for (name, value) in node.entries() {
        let path = match name.name.as_str() {
            "model" => "dataset.params.model_name",
            "max_tokens" => "dataset.params.max_tokens",
            "temperature" => "dataset.params.temperature",
            "top_p" => "dataset.params.top_p",
            "ignore_eos" => "dataset.params.ignore_eos",
            "stream" => "workload.stream",
            "prompt" | "messages" => {
                if name.name == "messages" {
                    put_new(root, "workload.api", Node::text_at(value.at, "chat"));
                }
                // Four characters a token is what English comes to; the bench calibrates the length anyway.
                let tokens = characters(value).div_ceil(4).max(1).to_string();
                findings.warn(
                    name.at,
                    format!("the text is not sent: prompts are synthetic, of about its length ({tokens} tokens)"),
                );
                put_new(
                    root,
                    "dataset.params.prompt_length",
                    Node::text_at(value.at, tokens.clone()),
                );
                shown.push(format!("prompt_length: {tokens}"));
                continue;
            }
            other => {
                findings.fault(
                    name.at,
                    format!("this version cannot send {other:?} in a request"),
                );
                continue;
            }
        };
        if let (Some(text), Some(leaf)) = (value.as_text(), path.strip_prefix("dataset.params.")) {
            shown.push(format!("{leaf}: {text}"));
        }
        put_new(root, path, value.clone());
    }
    findings.warn(
        key.at,
        format!(
            "`payload` is an older form; write `dataset: {{type: synthetic, params: {{{}}}}}`",
            shown.join(", ")
        ),
    );
}

fn characters(node: &Node) -> usize {
    match &node.value {
        Value::Scalar { text, .. } => text.chars().count(),
        Value::List(items) => items.iter().map(characters).sum(),
        // A message is its content; its role is no text.
        Value::Map(_) => node.get("content").map_or(0, characters),
    }
}

// Servers

/// Keys of `service` that a slip of the indentation can push into the command above them.
const SLIPPED: [&str; 3] = ["working_dir", "env", "ports"];

/// Lines that were meant as keys beside `command: |` but stand one step too deep, so that YAML reads them as its last
/// lines. A shell would fail on them; taken out, the recipe says what its author meant.
fn lift_slip(root: &mut Node, findings: &mut Findings) {
    let Some(command) = root.find("service.command") else {
        return;
    };
    // The text of a block starts on the line below `|`, where the parser says that the value is.
    let (Some(text), Position::File { line, column }) = (command.as_text(), command.at) else {
        return;
    };
    let lines: Vec<&str> = text.lines().collect();
    let starts = (1..lines.len()).filter(|index| {
        lines[*index]
            .trim_start()
            .split_once(':')
            .is_some_and(|(key, _)| SLIPPED.contains(&key))
    });
    for start in starts {
        let Some(entries) = slipped_keys(&lines[start..], (line + start, column)) else {
            continue;
        };
        let script: String = lines[..start]
            .iter()
            .flat_map(|line| [*line, "\n"])
            .collect();
        let mended: Vec<&str> = entries.iter().map(|(key, _)| key.name.as_str()).collect();
        if let Some((key, _)) = entries.first() {
            findings.warn(
                key.at,
                format!(
                    "`{}` inside `command: |`, as if part of the script: taken for keys of `service`; indent them like `command`",
                    mended.join("`, `")
                ),
            );
        }
        let at = command.at;
        root.put("service.command", at, Node::text_at(at, script));
        for (key, node) in entries {
            put_new(root, &format!("service.{}", key.name), node);
        }
        return;
    }
}

fn slipped_keys(lines: &[&str], first: (usize, usize)) -> Option<Vec<(Key, Node)>> {
    let indent = lines[0].len() - lines[0].trim_start().len();
    let text: String = lines
        .iter()
        .flat_map(|line| [line.get(indent..).unwrap_or_default(), "\n"])
        .collect();
    let mut inner = Findings::default();
    let mut node = load::load(&text, &mut inner)?;
    let Value::Map(entries) = &mut node.value else {
        return None;
    };
    let known = entries
        .iter()
        .all(|(key, _)| SLIPPED.contains(&key.name.as_str()));
    if !known {
        return None;
    }
    for (key, node) in entries.iter_mut() {
        shift(&mut key.at, first);
        shift_all(node, first);
    }
    Some(std::mem::take(entries))
}

fn shift(at: &mut Position, first: (usize, usize)) {
    if let Position::File { line, column } = at {
        *line += first.0 - 1;
        *column += first.1 - 1;
    }
}

fn shift_all(node: &mut Node, first: (usize, usize)) {
    shift(&mut node.at, first);
    match &mut node.value {
        Value::Scalar { .. } => {}
        Value::List(items) => items.iter_mut().for_each(|item| shift_all(item, first)),
        Value::Map(entries) => {
            for (key, node) in entries {
                shift(&mut key.at, first);
                shift_all(node, first);
            }
        }
    }
}

/// The flat form of before: `image`, `command`, `environment`, `volumes`, `ports`, `resources` at the top.
fn server(root: &mut Node, findings: &mut Findings) {
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
