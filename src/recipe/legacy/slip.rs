//! A slip of the indentation that older server recipes have: keys of `service` inside the command above them.

use super::put_new;
use crate::recipe::{
    fault::{Findings, Position},
    load::{self, Key, Node, Value},
};

/// Keys of `service` that a slip of the indentation can push into the command above them.
const SLIPPED: [&str; 3] = ["working_dir", "env", "ports"];

/// Lines that were meant as keys beside `command: |` but stand one step too deep, so that YAML reads them as its last
/// lines. A shell would fail on them; taken out, the recipe says what its author meant.
pub(super) fn lift(root: &mut Node, findings: &mut Findings) {
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
