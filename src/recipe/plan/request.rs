//! The request of `api: http`: what is written out, and what means nothing beside it.

use regex::Regex;

use super::{extras::json, text};
use crate::recipe::{
    Api,
    fault::Findings,
    load::{Node, Value},
    request::{Check, Expected, HttpRequest, Method, Wanted, is_pointer, parts, texts},
};

/// Keys that a request which is written out has in its body.
const IN_THE_BODY: [&str; 5] = [
    "dataset.params.temperature",
    "dataset.params.top_p",
    "dataset.params.ignore_eos",
    "dataset.params.extra_body",
    "workload.stream",
];

pub(super) fn request(root: &Node, api: Api, findings: &mut Findings) -> Option<HttpRequest> {
    let Some(node) = root.find("workload.request") else {
        if api == Api::Http {
            let at = root.find("workload.api").map_or(root.at, |node| node.at);
            findings.fault(
                at,
                "\"api: http\" needs \"workload.request\": what is sent, such as {path: /predict, body: {text: \"{prompt}\"}}",
            );
        }
        return None;
    };
    if api != Api::Http {
        findings.fault(
            node.at,
            "\"workload.request\" wants \"api: http\": other APIs have requests of their own",
        );
        return None;
    }
    for path in IN_THE_BODY {
        if let Some(given) = root.find(path).filter(|node| node.as_bool() != Some(false)) {
            findings.fault(
                given.at,
                format!(
                    "{path:?} means nothing for a request that is written out: put it into its body"
                ),
            );
        }
    }
    let body = node.get("body");
    let method = match text(node, "method").as_deref() {
        Some("GET") => Method::Get,
        Some("PUT") => Method::Put,
        Some("PATCH") => Method::Patch,
        Some("DELETE") => Method::Delete,
        None if body.is_none() => Method::Get,
        _ => Method::Post,
    };
    if let Some(body) = body.filter(|_| method == Method::Get) {
        findings.fault(
            body.at,
            "a GET has no body: take it out, or write method: POST",
        );
    }
    let request = HttpRequest {
        method,
        path: text(node, "path")?,
        body: body.map(json),
        expect: expected(node, findings),
    };
    let path = node.get("path").map_or(node.at, |path| path.at);
    if !request.path.starts_with('/') || !request.path.bytes().all(|b| b.is_ascii_graphic()) {
        findings.fault(
            path,
            format!(
                "\"path\" wants a path that begins with / and has no spaces, found {:?}",
                request.path
            ),
        );
    }
    if let Err(message) = parts(&request.path) {
        findings.fault(path, message);
    }
    let faults = request.body.iter().flat_map(texts).map(parts);
    for message in faults.filter_map(Result::err) {
        findings.fault(body.map_or(node.at, |body| body.at), message);
    }
    Some(request)
}

fn expected(node: &Node, findings: &mut Findings) -> Expected {
    let status = match node.find("expect.status") {
        Some(one) if !matches!(one.value, Value::List(_)) => one.as_u64().into_iter().collect(),
        Some(list) => list.items().iter().filter_map(Node::as_u64).collect(),
        None => vec![200],
    };
    let checks = node
        .find("expect.checks")
        .map(Node::items)
        .unwrap_or_default();
    Expected {
        status: status
            .into_iter()
            .filter_map(|status| u16::try_from(status).ok())
            .collect(),
        checks: checks
            .iter()
            .filter_map(|node| check(node, findings))
            .collect(),
        prompt_tokens: pointer(node, "expect.prompt_tokens", findings),
        output_tokens: pointer(node, "expect.output_tokens", findings),
    }
}

fn pointer(node: &Node, path: &str, findings: &mut Findings) -> Option<String> {
    let found = node.find(path)?;
    let text = found.as_text()?;
    if !is_pointer(text) {
        findings.fault(
            found.at,
            format!(
                "{text:?} is no JSON pointer: it begins with /, as /{}",
                text.replace('.', "/")
            ),
        );
    }
    Some(text.to_owned())
}

fn check(node: &Node, findings: &mut Findings) -> Option<Check> {
    let pointer = pointer(node, "pointer", findings)?;
    let wanted = [
        node.get("exists")
            .and_then(Node::as_bool)
            .map(Wanted::Exists),
        node.get("equals").map(|value| Wanted::Equals(json(value))),
        text(node, "matches").map(Wanted::Matches),
    ];
    let mut wanted = wanted.into_iter().flatten();
    let (Some(one), None) = (wanted.next(), wanted.next()) else {
        findings.fault(
            node.at,
            "a check wants one of \"exists\", \"equals\" and \"matches\"",
        );
        return None;
    };
    if let Wanted::Matches(expression) = &one
        && let Err(error) = Regex::new(expression)
    {
        let at = node.get("matches").map_or(node.at, |node| node.at);
        let message = error.to_string();
        let why = message
            .lines()
            .last()
            .unwrap_or_default()
            .trim_start_matches("error: ");
        findings.fault(
            at,
            format!("{expression:?} is no regular expression: {why}"),
        );
    }
    Some(Check {
        name: text(node, "name"),
        pointer,
        wanted: one,
    })
}

#[cfg(test)]
mod tests {
    use crate::recipe::{
        Kind,
        expand::Variables,
        plan::{Source, plan},
    };

    fn faults(workload: &str) -> String {
        let text = format!(
            "name: a\nservice_name: s\nworkload:\n  total_requests: 1\n{workload}dataset: {{params: {{prompt_length: 5}}}}\n"
        );
        let source = Source {
            text: &text,
            path: "a.yaml",
            wanted: Some(Kind::Client),
            overrides: &[],
        };
        match plan(&source, &Variables::new()) {
            Ok(planned) => panic!("a plan: {:?}", planned.plan),
            Err(faults) => faults.to_string(),
        }
    }

    #[test]
    fn what_is_wrong_with_a_request_is_told_at_its_place() {
        insta::assert_snapshot!(faults("  api: http\n"), @r##"
a.yaml:5:8: "api: http" needs "workload.request": what is sent, such as {path: /predict, body: {text: "{prompt}"}}
"##);
        insta::assert_snapshot!(faults("  api: chat\n  request: {path: /x}\n"), @r##"
a.yaml:6:12: "workload.request" wants "api: http": other APIs have requests of their own
"##);
        insta::assert_snapshot!(faults("  api: http\n  calibrate: true\n  request:\n    method: GET\n    path: x y\n    body: {a: '{promt}'}\n    expect:\n      status: [200, 999]\n      prompt_tokens: usage.total\n      checks:\n        - {pointer: a}\n        - {pointer: /a, matches: '['}\n        - {pointer: /a, exists: true, equals: 3}\n"), @r##"
a.yaml:6:14: "workload.calibrate" means nothing for http, which generates no text: take it out
a.yaml:9:11: "path" wants a path that begins with / and has no spaces, found "x y"
a.yaml:10:11: a GET has no body: take it out, or write method: POST
a.yaml:10:11: {promt} is no place of a template; there are {prompt} {prompt_length} {max_tokens} {index} {seed} {model} {random} {random:LEAST:MOST} {floats:COUNT}
a.yaml:12:21: "workload.request.expect.status[1]" wants a whole number from 100 to 599, found the number 999
a.yaml:13:22: "usage.total" is no JSON pointer: it begins with /, as /usage/total
a.yaml:15:11: a check wants one of "exists", "equals" and "matches"
a.yaml:15:21: "a" is no JSON pointer: it begins with /, as /a
a.yaml:16:34: "[" is no regular expression: unclosed character class
a.yaml:17:11: a check wants one of "exists", "equals" and "matches"
"##);
        insta::assert_snapshot!(faults("  api: http\n  request: {method: HEAD, pth: /x}\n"), @r##"
a.yaml:6:12: "workload.request" lacks the key "path": path and query; may hold {index} and its like, as the body
a.yaml:6:21: this version cannot do "HEAD" for "workload.request.method"; it knows GET, POST, PUT, PATCH, DELETE
a.yaml:6:27: unknown key "pth"; did you mean "path"?
"##);
    }
}
