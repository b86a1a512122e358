//! A tree against its table: every fault at once, each with its place.
//!
//! Knows nothing of what keys mean together; that is `plan`'s. So a file with an unknown key, a wrong type and two ways
//! to start an engine is told all three.

use super::{
    PortPlace,
    fault::{Findings, Position},
    load::{Node, Value},
    schema::{Field, Type, nearest, paths},
};

/// Placeholders that are filled in when an engine is started.
pub const PLACEHOLDERS: [&str; 11] = [
    "port",
    "port2",
    "port3",
    "port4",
    "host",
    "address",
    "head",
    "head_port",
    "rank",
    "nodes",
    "api_key_file",
];

/// Ports of an engine that have a placeholder.
pub const PORTS: usize = 4;

/// Name of the placeholder of the port at this index: `port`, `port2` …
pub fn port_name(index: usize) -> String {
    match index {
        0 => "port".to_owned(),
        index => format!("port{}", index + 1),
    }
}

/// Checks a whole file.
pub fn check(root: &Node, table: &'static [Field], findings: &mut Findings) {
    let mut checker = Checker { table, findings };
    if matches!(root.value, Value::Map(_)) {
        checker.map(root, table, "");
    } else {
        checker.findings.fault(
            root.at,
            format!("wants a mapping of keys, found {}", root.found()),
        );
    }
}

struct Checker<'a> {
    table: &'static [Field],
    findings: &'a mut Findings,
}

impl Checker<'_> {
    fn map(&mut self, node: &Node, fields: &'static [Field], path: &str) {
        for (key, value) in node.entries() {
            match fields.iter().find(|field| field.name == key.name) {
                None => self.unknown(&key.name, key.at, fields),
                Some(_) if value.is_null() => {}
                Some(field) => self.value(value, &field.kind, &join(path, field.name)),
            }
        }
        for field in fields.iter().filter(|field| field.required) {
            if node.get(field.name).is_none() {
                let place = if path.is_empty() {
                    String::new()
                } else {
                    format!("{path:?} ")
                };
                self.findings.fault(
                    node.at,
                    format!("{place}lacks the key {:?}: {}", field.name, field.doc),
                );
            }
        }
    }

    fn unknown(&mut self, name: &str, at: Position, fields: &'static [Field]) {
        let known = || fields.iter().map(|field| field.name);
        let advice = if let Some(near) = nearest(name, known()) {
            format!("did you mean {near:?}?")
        } else if let Some((path, _)) = paths(self.table)
            .iter()
            .find(|(path, field)| field.name == name && !path.contains("[]"))
        {
            format!("its place is {path:?}")
        } else {
            format!("known here are {}", known().collect::<Vec<_>>().join(", "))
        };
        self.findings
            .fault(at, format!("unknown key {name:?}; {advice}"));
    }

    fn value(&mut self, node: &Node, kind: &'static Type, path: &str) {
        let fits = match *kind {
            Type::Map(fields) | Type::Or(_, fields) if matches!(node.value, Value::Map(_)) => {
                self.map(node, fields, path);
                return;
            }
            Type::Or(plain @ Type::List(_), _) if matches!(node.value, Value::List(_)) => {
                self.value(node, plain, path);
                return;
            }
            Type::List(item) => {
                if let Value::List(items) = &node.value {
                    for (index, value) in items.iter().enumerate() {
                        self.value(value, item, &format!("{path}[{index}]"));
                    }
                    return;
                }
                false
            }
            Type::Arguments => {
                if let Value::List(items) = &node.value {
                    self.arguments(node, items, path);
                    return;
                }
                false
            }
            Type::TextMap | Type::DurationMap => {
                if let Value::Map(entries) = &node.value {
                    let inner = if matches!(kind, Type::TextMap) {
                        &Type::Text
                    } else {
                        &Type::Duration { zero: false }
                    };
                    for (key, value) in entries {
                        // `NAME:` sets an empty variable.
                        if !(value.is_null() && matches!(inner, Type::Text)) {
                            self.value(value, inner, &join(path, &key.name));
                        }
                    }
                    return;
                }
                false
            }
            Type::Any => true,
            Type::OneOrMore(item) if matches!(node.value, Value::List(_)) => {
                for (index, value) in node.items().iter().enumerate() {
                    self.value(value, item, &format!("{path}[{index}]"));
                }
                return;
            }
            Type::OneOrMore(item) => scalar_fits(node, item),
            Type::AnyMap => matches!(node.value, Value::Map(_)),
            Type::One(how) => match node.as_u64() {
                Some(1) => true,
                Some(wanted @ 2..) => {
                    let how = how.replace("{N}", &wanted.to_string());
                    let message = format!("this version cannot do {wanted} for {path:?}: {how}");
                    self.findings.fault(node.at, message);
                    return;
                }
                _ => false,
            },
            Type::Choice { now, later } => {
                let word = node.as_text().unwrap_or_default();
                if later.contains(&word) {
                    let message = format!(
                        "this version cannot do {word:?} for {path:?}; it knows {}",
                        now.join(", ")
                    );
                    self.findings.fault(node.at, message);
                    return;
                }
                if !now.contains(&word)
                    && let Some(near) = nearest(word, now.iter().copied())
                {
                    let message = format!(
                        "{path:?} wants {}, found {}; did you mean {near:?}?",
                        kind.wanted(),
                        node.found()
                    );
                    self.findings.fault(node.at, message);
                    return;
                }
                now.contains(&word)
            }
            _ => scalar_fits(node, kind),
        };
        if !fits {
            self.findings.fault(
                node.at,
                format!("{path:?} wants {}, found {}", kind.wanted(), node.found()),
            );
        }
    }

    fn arguments(&mut self, node: &Node, items: &[Node], path: &str) {
        if items.is_empty() {
            self.findings.fault(
                node.at,
                format!("{path:?} is empty: the first word is the program"),
            );
        }
        for (index, item) in items.iter().enumerate() {
            let path = format!("{path}[{index}]");
            let Some(text) = item.as_text() else {
                self.findings.fault(
                    item.at,
                    format!("{path:?} wants a word, found {}", item.found()),
                );
                continue;
            };
            for name in placeholders(text) {
                if !PLACEHOLDERS.contains(&name) {
                    let advice = match nearest(name, PLACEHOLDERS) {
                        Some(near) => format!("did you mean {{{near}}}?"),
                        None => format!(
                            "known are {}",
                            PLACEHOLDERS.map(|name| format!("{{{name}}}")).join(" ")
                        ),
                    };
                    self.findings.fault(
                        item.at,
                        format!("{path:?} has an unknown placeholder {{{name}}}; {advice}"),
                    );
                }
            }
        }
    }
}

fn scalar_fits(node: &Node, kind: &Type) -> bool {
    match *kind {
        Type::Text => node.as_text().is_some(),
        Type::Name => node.as_text().is_some_and(is_name),
        Type::Bool => node.as_bool().is_some(),
        Type::Whole { min, max } => node.as_u64().is_some_and(|n| (min..=max).contains(&n)),
        Type::Number { min, above, max } => node
            .as_f64()
            .is_some_and(|n| n <= max && (n > min || (!above && n >= min))),
        Type::Duration { zero } => node
            .as_duration()
            .is_some_and(|duration| zero || !duration.is_zero()),
        Type::Memory => node.as_gigabytes().is_some_and(|n| n > 0.0 && n < 1e6),
        Type::Port => {
            node.as_text() == Some("auto")
                || node.as_u64().is_some_and(|n| (1..=65535).contains(&n))
        }
        Type::PortPlace => node
            .as_text()
            .is_some_and(|text| PortPlace::of(text).is_some()),
        Type::Or(plain, _) => scalar_fits(node, plain),
        _ => false,
    }
}

/// Is it a word that is safe as the name of a file?
pub fn is_name(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

/// The names in braces: `{port}`, but neither `${VARIABLE}` nor JSON.
pub fn placeholders(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices('{').filter_map(|(start, _)| {
        if text[..start].ends_with('$') {
            return None;
        }
        let rest = &text[start + 1..];
        let name = &rest[..rest.find('}')?];
        let is_word = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
        let is_of_name = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        (is_word && name.bytes().all(is_of_name)).then_some(name)
    })
}
