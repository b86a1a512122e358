//! `${VARIABLE}`: from site, job and environment, in the fields whose table entry says so.
//!
//! The forms of the shell that a recipe or a site needs and no others: `${NAME}` (unset is a fault with its line),
//! `${NAME:-other}` and `${NAME:+other}`, nested where wanted; `$${` is a literal `${`. A bare `$NAME` stays as it is:
//! it belongs to the shell or program that gets the text.

use std::collections::BTreeMap;

use super::{
    fault::Findings,
    load::{Node, Value},
    schema::{Field, Type},
};

/// Variables by name.
pub type Variables = BTreeMap<String, String>;

/// Expands every field of a table that wants it; `skip` names paths that stay as written.
pub fn expand(
    root: &mut Node,
    table: &'static [Field],
    skip: &[&str],
    variables: &Variables,
    findings: &mut Findings,
) {
    let mut expander = Expander {
        skip,
        variables,
        findings,
    };
    expander.map(root, table, "");
}

struct Expander<'a> {
    skip: &'a [&'a str],
    variables: &'a Variables,
    findings: &'a mut Findings,
}

impl Expander<'_> {
    fn map(&mut self, node: &mut Node, fields: &'static [Field], prefix: &str) {
        let Value::Map(entries) = &mut node.value else {
            return;
        };
        for (key, value) in entries {
            let Some(field) = fields.iter().find(|field| field.name == key.name) else {
                continue;
            };
            let path = format!("{prefix}{}", field.name);
            if self.skip.contains(&path.as_str()) {
                continue;
            }
            if field.expanded {
                self.all(value);
            } else if let Type::Map(inner) | Type::Or(_, inner) = field.kind {
                self.map(value, inner, &format!("{path}."));
            }
        }
    }

    fn all(&mut self, node: &mut Node) {
        match &mut node.value {
            Value::Scalar { text, .. } => match expand_text(text, self.variables) {
                Ok(expanded) => *text = expanded,
                Err(message) => self.findings.fault(node.at, message),
            },
            Value::List(items) => items.iter_mut().for_each(|item| self.all(item)),
            Value::Map(entries) => entries.iter_mut().for_each(|(_, value)| self.all(value)),
        }
    }
}

/// Expands one text.
pub fn expand_text(text: &str, variables: &Variables) -> Result<String, String> {
    expand_nested(text, variables, 0)
}

fn expand_nested(text: &str, variables: &Variables, depth: usize) -> Result<String, String> {
    if depth > 8 {
        return Err(format!("{text:?} nests variables too deeply"));
    }
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let (before, after) = (&rest[..start], &rest[start + 2..]);
        if let Some(literal) = before.strip_suffix('$') {
            result.push_str(literal);
            result.push_str("${");
            rest = after;
            continue;
        }
        result.push_str(before);
        let end = closing(after).ok_or_else(|| format!("{text:?} has a `${{` without its `}}`"))?;
        let body = &after[..end];
        let name_end = body
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(body.len());
        let (name, form) = body.split_at(name_end);
        if name.is_empty() {
            return Err(format!("`${{{body}}}` names no variable"));
        }
        let value = variables.get(name).filter(|value| !value.is_empty());
        if let Some(other) = form.strip_prefix(":-") {
            match value {
                Some(value) => result.push_str(value),
                None => result.push_str(&expand_nested(other, variables, depth + 1)?),
            }
        } else if let Some(other) = form.strip_prefix(":+") {
            if value.is_some() {
                result.push_str(&expand_nested(other, variables, depth + 1)?);
            }
        } else if form.is_empty() {
            result.push_str(value.ok_or_else(|| unset(name))?);
        } else {
            return Err(format!(
                "`${{{body}}}` is no form that aif knows: ${{NAME}}, ${{NAME:-other}}, ${{NAME:+other}}"
            ));
        }
        rest = &after[end + 1..];
    }
    result.push_str(rest);
    Ok(result)
}

/// The brace that closes what was opened before this text.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (index, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => return Some(index),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

fn unset(name: &str) -> String {
    let advice = match name {
        "CONTAINER_DIR" => "set `container_dir` in the site file, or export it",
        "CACHE_DIR" => "set `cache_dir` in the site file, or export it",
        "SCRATCH_DIR" => "set `scratch_dir` in the site file, or export it",
        _ => "export it, or give a default: ${NAME:-default}",
    };
    format!(
        "variable {name} is not set; {}",
        advice.replace("NAME", name)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_the_shell() {
        let variables = Variables::from([
            ("A".to_owned(), "a".to_owned()),
            ("E".to_owned(), String::new()),
        ]);
        let cases = [
            ("x/${A}/y", "x/a/y"),
            ("$A stays", "$A stays"),
            ("$${A}", "${A}"),
            ("${E:-d}", "d"),
            ("${B:-${A}}", "a"),
            ("${B:+/p/${B}}", ""),
            ("${A:+/p/${A}/${B:-b}}", "/p/a/b"),
            ("{port}", "{port}"),
        ];
        for (text, want) in cases {
            assert_eq!(expand_text(text, &variables).as_deref(), Ok(want), "{text}");
        }
        insta::assert_snapshot!(expand_text("${B}", &variables).unwrap_err(), @r##"variable B is not set; export it, or give a default: ${B:-default}"##);
        insta::assert_snapshot!(expand_text("${CONTAINER_DIR}/x", &variables).unwrap_err(), @r##"variable CONTAINER_DIR is not set; set `container_dir` in the site file, or export it"##);
        insta::assert_snapshot!(expand_text("${A", &variables).unwrap_err(), @r##""${A" has a `${` without its `}`"##);
        insta::assert_snapshot!(expand_text("${A%x}", &variables).unwrap_err(), @r##"`${A%x}` is no form that aif knows: ${NAME}, ${NAME:-other}, ${NAME:+other}"##);
    }
}
