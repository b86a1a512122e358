//! Secrets taken out of what is written down.
//!
//! By name, for that is all there is to go by: values of variables, keys and options whose name ends in a part like
//! `KEY`, `TOKEN`, `SECRET` or `PASSWORD`, and every further place where such a value stands. A reference (`${TOKEN}`,
//! `{api_key_file}`) is no secret and stays readable.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::recipe::expand::Variables;

/// What stands in the place of a secret.
const MASK: &str = "***";
/// Shorter values (`1`, `key`, `none`) stand in too many places that are no secret.
const SHORTEST: usize = 6;

/// Does a name look like that of a secret?
pub fn is_secret(name: &str) -> bool {
    let name = name.trim_start_matches('-').to_ascii_uppercase();
    let last = name.rsplit(['_', '-', '.']).next().unwrap_or_default();
    let tells = ["KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASSPHRASE"];
    tells.iter().any(|word| last.ends_with(word))
        || name.split(['_', '-']).any(|part| {
            matches!(part, "SECRET" | "PASSWORD" | "PASSWD")
                && !matches!(last, "FILE" | "PATH" | "DIR")
        })
}

/// The secret values of a plan and of the variables it was made with.
pub(super) fn secrets(plan: &Value, variables: &Variables) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    collect(plan, &mut found);
    let named = variables.iter().filter(|(name, _)| is_secret(name));
    found.extend(named.map(|(_, value)| value.clone()));
    found.retain(|value| value.len() >= SHORTEST);
    found
}

fn collect(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(entries) => {
            for (key, value) in entries {
                match value {
                    Value::String(text) if is_secret(key) => {
                        found.insert(text.clone());
                    }
                    _ => collect(value, found),
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                if let Some(text) = after_secret_option(items, index) {
                    found.insert(text.to_owned());
                }
                collect(item, found);
            }
        }
        Value::String(text) => {
            for (start, end) in assignments(text) {
                found.insert(text[start..end].to_owned());
            }
        }
        _ => {}
    }
}

/// The value of `--api-key VALUE` in a list of arguments.
fn after_secret_option(items: &[Value], index: usize) -> Option<&str> {
    let option = items.get(index.checked_sub(1)?)?.as_str()?;
    let text = items[index].as_str()?;
    (option.starts_with('-') && is_secret(option) && !is_reference(text)).then_some(text)
}

/// Masks every secret in a plan.
pub(super) fn mask_value(value: &mut Value, secrets: &BTreeSet<String>) {
    match value {
        Value::Object(entries) => {
            for (key, value) in entries.iter_mut() {
                match value {
                    Value::String(text) if is_secret(key) => MASK.clone_into(text),
                    _ => mask_value(value, secrets),
                }
            }
        }
        Value::Array(items) => {
            for index in 0..items.len() {
                if after_secret_option(items, index).is_some() {
                    items[index] = Value::String(MASK.to_owned());
                } else {
                    mask_value(&mut items[index], secrets);
                }
            }
        }
        Value::String(text) => *text = masked(text, secrets),
        _ => {}
    }
}

/// A text without these secrets, and without what is assigned to a name that looks like one.
pub fn masked(text: &str, secrets: &BTreeSet<String>) -> String {
    let mut result = String::with_capacity(text.len());
    let mut done = 0;
    for (start, end) in assignments(text) {
        result.push_str(&text[done..start]);
        result.push_str(MASK);
        done = end;
    }
    result.push_str(&text[done..]);
    // Longer ones first: a secret may be the beginning of another.
    let mut ordered: Vec<&String> = secrets.iter().collect();
    ordered.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    for secret in ordered {
        result = result.replace(secret.as_str(), MASK);
    }
    result
}

/// Where values stand that are given to a secret name: `TOKEN=x`, `TOKEN: x`, `--api-key x`, `[--api-key, x]`.
fn assignments(text: &str) -> Vec<(usize, usize)> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let mut list = Vec::new();
    let mut at = 0;
    while let Some(offset) = text[at..].find(is_word) {
        let start = at + offset;
        let end = text[start..]
            .find(|c| !is_word(c))
            .map_or(text.len(), |length| start + length);
        at = end;
        let bearer = text[start..end].eq_ignore_ascii_case("bearer");
        if !(bearer || is_secret(&text[start..end])) || text[..start].ends_with(['$', '{']) {
            continue;
        }
        let option = bearer || text[start..end].starts_with('-');
        let rest = &text[end..];
        let between = rest
            .find(|c: char| !matches!(c, '"' | '\'' | ' ' | '=' | ':' | ','))
            .unwrap_or(rest.len());
        let separator = &rest[..between];
        let assigns = separator.contains('=')
            || separator.contains(": ")
            || separator.contains(":\"")
            || (option && separator.contains([' ', ',']));
        if !assigns {
            continue;
        }
        let value = end + between;
        let quote = separator.chars().last().filter(|c| matches!(c, '"' | '\''));
        let stop = |c: char| match quote {
            Some(quote) => c == quote || c == '\n',
            None => c.is_whitespace() || matches!(c, '"' | '\'' | ',' | ']' | '}' | ';'),
        };
        let shown = &text[value..];
        let length = shown.find(stop).unwrap_or(shown.len());
        let short = if bearer { SHORTEST } else { 1 };
        if length >= short && !is_reference(shown) {
            list.push((value, value + length));
            at = value + length;
        }
    }
    list
}

/// Does it name where the secret is, or is it an option of its own?
fn is_reference(text: &str) -> bool {
    text.starts_with(['$', '{', '-', '|', '>', '#'])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_of_secrets() {
        for name in [
            "HF_TOKEN",
            "--api-key",
            "OPENAI_APIKEY",
            "my_password",
            "SECRET_X",
            "key",
        ] {
            assert!(is_secret(name), "{name}");
        }
        for name in [
            "max_tokens",
            "TOKENIZERS_PARALLELISM",
            "api_key_file",
            "--max-num-batched-tokens",
            "name",
        ] {
            assert!(!is_secret(name), "{name}");
        }
    }

    #[test]
    fn values_are_masked_and_references_stay() {
        let cases = [
            ("export HF_TOKEN=abc; run", "export HF_TOKEN=***; run"),
            ("  TOKEN: 'a b'  # x", "  TOKEN: '***'  # x"),
            ("run --api-key abc --port 1", "run --api-key *** --port 1"),
            ("[--api-key, \"abc\", -x]", "[--api-key, \"***\", -x]"),
            (
                "TOKEN=$OTHER --key={api_key_file}",
                "TOKEN=$OTHER --key={api_key_file}",
            ),
            ("auth: key\nports: [auto]", "auth: key\nports: [auto]"),
            ("# the key of this", "# the key of this"),
            ("max_tokens: 20", "max_tokens: 20"),
            (
                "{Authorization: Bearer sk-12345}",
                "{Authorization: Bearer ***}",
            ),
            ("# the bearer of it", "# the bearer of it"),
        ];
        for (text, want) in cases {
            assert_eq!(masked(text, &BTreeSet::new()), want);
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(KEY|=|: |é|--key|'|\"| |,|\n|[a-z]){0,20}") {
            let _ = masked(&text, &BTreeSet::new());
        }
    }
}
