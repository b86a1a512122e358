//! Requests that a recipe writes out, and what their answers are held against.
//!
//! Pure. A body that was written as JSON stays JSON whatever is put in: texts are values, and a text that is one place of
//! a number becomes that number. In a body that was written as text, texts are escaped as they are within JSON's quotes.

use std::fmt::Write as _;

use rand::Rng as _;
use rand_chacha::ChaCha12Rng;
use regex::Regex;
use serde_json::{Map, Value as Json};

use super::{
    judge::{Judge, Judged},
    openai::{error_message, one_line},
};
use crate::recipe::request::{Check, Expected, HttpRequest, Part, Place, Wanted, parts};

/// What is put into a request.
#[derive(Debug)]
pub struct Values<'a> {
    /// The prompt.
    pub prompt: &'a str,
    /// Tokens that it was asked to have.
    pub prompt_length: u32,
    /// Tokens of the answer at the most.
    pub max_tokens: u32,
    /// Number of the request.
    pub index: u64,
    /// Seed of the workload.
    pub seed: u64,
    /// Name of the model.
    pub model: &'a str,
    /// What drawn values come from.
    pub random: ChaCha12Rng,
}

impl Values<'_> {
    fn of(&mut self, place: Place) -> Json {
        match place {
            Place::Prompt => self.prompt.into(),
            Place::PromptLength => self.prompt_length.into(),
            Place::MaxTokens => self.max_tokens.into(),
            Place::Index => self.index.into(),
            Place::Seed => self.seed.into(),
            Place::Model => self.model.into(),
            Place::Random => self.random.random::<f64>().into(),
            Place::Whole(least, most) => self.random.random_range(least..=most).into(),
            Place::Floats(count) => (0..count).map(|_| self.random.random::<f32>()).collect(),
        }
    }
}

/// The path of a request.
pub fn path(request: &HttpRequest, values: &mut Values<'_>) -> String {
    let mut path = String::new();
    for part in parts(&request.path).unwrap_or_default() {
        match part {
            Part::Text(text) => path.push_str(&text),
            Part::Place(place) => match values.of(place) {
                Json::String(text) => encode(&text, &mut path),
                other => encode(&other.to_string(), &mut path),
            },
        }
    }
    path
}

/// Percent-encodes what is not unreserved (RFC 3986, 2.3).
fn encode(text: &str, path: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            path.push(char::from(byte));
        } else {
            let _ = write!(path, "%{byte:02X}");
        }
    }
}

/// The body of a request; empty where it has none.
pub fn body(request: &HttpRequest, values: &mut Values<'_>) -> Vec<u8> {
    match &request.body {
        None => Vec::new(),
        Some(Json::String(text)) => raw(text, values).into_bytes(),
        Some(json) => filled(json, values).to_string().into_bytes(),
    }
}

fn raw(text: &str, values: &mut Values<'_>) -> String {
    let mut body = String::with_capacity(text.len() + values.prompt.len());
    for part in parts(text).unwrap_or_default() {
        match part {
            Part::Text(text) => body.push_str(&text),
            Part::Place(place) => {
                let value = values.of(place);
                let written = value.to_string();
                // within quotes that the recipe has
                body.push_str(if value.is_string() {
                    &written[1..written.len() - 1]
                } else {
                    &written
                });
            }
        }
    }
    body
}

fn filled(json: &Json, values: &mut Values<'_>) -> Json {
    match json {
        Json::String(text) => match &parts(text).unwrap_or_default()[..] {
            [Part::Place(place)] => values.of(*place),
            parts => {
                let mut filled = String::with_capacity(text.len());
                for part in parts {
                    match part {
                        Part::Text(text) => filled.push_str(text),
                        Part::Place(place) => match values.of(*place) {
                            Json::String(text) => filled.push_str(&text),
                            other => filled.push_str(&other.to_string()),
                        },
                    }
                }
                Json::String(filled)
            }
        },
        Json::Array(items) => items.iter().map(|item| filled(item, values)).collect(),
        Json::Object(fields) => {
            let fields = fields.iter();
            Json::Object(
                fields
                    .map(|(key, value)| (key.clone(), filled(value, values)))
                    .collect::<Map<_, _>>(),
            )
        }
        other => other.clone(),
    }
}

/// Holds answers against what a recipe expects.
#[derive(Debug)]
pub struct Held {
    expected: Expected,
    /// Of each check that wants a text to match.
    expressions: Vec<Option<Regex>>,
}

impl Held {
    /// Against this.
    pub fn against(expected: &Expected) -> Self {
        let expression = |check: &Check| match &check.wanted {
            // what is none was refused with the recipe
            Wanted::Matches(expression) => Regex::new(expression).ok(),
            _ => None,
        };
        Self {
            expressions: expected.checks.iter().map(expression).collect(),
            expected: expected.clone(),
        }
    }

    fn fails(check: &Check, expression: Option<&Regex>, answer: &Json) -> Option<String> {
        let found = answer.pointer(&check.pointer);
        let wanted = match (&check.wanted, found) {
            (Wanted::Exists(wanted), found) if *wanted == found.is_some() => return None,
            (Wanted::Exists(true), _) => "something".to_owned(),
            (Wanted::Exists(false), _) => "nothing".to_owned(),
            (Wanted::Equals(wanted), Some(found)) if same(wanted, found) => return None,
            (Wanted::Equals(wanted), _) => wanted.to_string(),
            (Wanted::Matches(text), found) => {
                let plain = match found {
                    Some(Json::String(text)) => Some(text.clone()),
                    Some(Json::Number(number)) => Some(number.to_string()),
                    _ => None,
                };
                let matches = plain.zip(expression).is_some_and(|(t, e)| e.is_match(&t));
                if matches {
                    return None;
                }
                format!("a text that matches {text:?}")
            }
        };
        let found = found.map_or_else(
            || "nothing".to_owned(),
            |found| one_line(&found.to_string()),
        );
        let name = check.name.as_ref();
        let name = name.map_or_else(String::new, |name| format!("{name}: "));
        let pointer = &check.pointer;
        Some(format!("{name}{pointer:?} wants {wanted}, found {found}"))
    }
}

/// Are they the same, numbers by their value?
fn same(one: &Json, other: &Json) -> bool {
    match (one.as_f64(), other.as_f64()) {
        (Some(one), Some(other)) => (one - other).abs() <= 0.0,
        _ => one == other,
    }
}

impl Judge for Held {
    fn judge(&self, _index: u64, status: u16, body: &[u8]) -> Judged {
        let expected = &self.expected;
        if !expected.status.contains(&status) {
            return Judged::error(format!("http_{status}"), error_message(body));
        }
        let counts = [&expected.prompt_tokens, &expected.output_tokens];
        if expected.checks.is_empty() && counts.iter().all(|pointer| pointer.is_none()) {
            return Judged::default();
        }
        let Ok(answer) = serde_json::from_slice::<Json>(body) else {
            let said = one_line(&String::from_utf8_lossy(body));
            return Judged::error("check", format!("the answer is no JSON: {said}"));
        };
        let checks = expected.checks.iter().zip(&self.expressions);
        for (check, expression) in checks {
            if let Some(message) = Self::fails(check, expression.as_ref(), &answer) {
                return Judged::error("check", message);
            }
        }
        let [prompt_tokens, output_tokens] = counts.map(|pointer| {
            let found = answer.pointer(pointer.as_deref()?)?;
            found.as_u64()
        });
        Judged {
            error: None,
            prompt_tokens,
            output_tokens,
            recall: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use serde_json::json;

    use super::*;
    use crate::recipe::request::Method;

    fn request(path: &str, body: Option<Json>) -> HttpRequest {
        HttpRequest {
            method: Method::Post,
            path: path.to_owned(),
            body,
            expect: expected(vec![]),
        }
    }

    fn expected(checks: Vec<Check>) -> Expected {
        Expected {
            status: vec![200, 202],
            checks,
            prompt_tokens: Some("/usage/in".to_owned()),
            output_tokens: None,
        }
    }

    fn values(prompt: &str) -> Values<'_> {
        Values {
            prompt,
            prompt_length: 7,
            max_tokens: 9,
            index: 3,
            seed: 5,
            model: "a/b",
            random: ChaCha12Rng::seed_from_u64(1),
        }
    }

    #[test]
    fn a_body_stays_json_whatever_is_put_in() {
        let prompt = "say \"a\\b\"\n\u{1}é";
        let body_of = |body: Json| {
            let bytes = body_of_bytes(&body, prompt);
            serde_json::from_slice::<Json>(&bytes).expect("JSON")
        };
        let written = json!({"text": "{prompt}", "n": "{max_tokens}", "of": "{index} of {prompt_length}", "list": ["{seed}", true, {"model": "{model}"}]});
        assert_eq!(
            body_of(written),
            json!({"text": prompt, "n": 9, "of": "3 of 7", "list": [5, true, {"model": "a/b"}]})
        );
        let text = r#"{"text": "so: {prompt}", "n": {max_tokens}, "m": {"k": 1}}"#;
        assert_eq!(
            body_of(json!(text)),
            json!({"text": format!("so: {prompt}"), "n": 9, "m": {"k": 1}})
        );
        assert_eq!(
            path(&request("/v2/{model}/x?i={index}", None), &mut values("")),
            "/v2/a%2Fb/x?i=3"
        );
    }

    fn body_of_bytes(written: &Json, prompt: &str) -> Vec<u8> {
        body(&request("/", Some(written.clone())), &mut values(prompt))
    }

    #[test]
    fn drawn_values_keep_their_bounds_and_come_again() {
        let draw = json!({"die": "{random:1:6}", "x": "{random}", "all": "{floats:100}"});
        let bytes = body_of_bytes(&draw, "");
        assert_eq!(bytes, body_of_bytes(&draw, ""), "by the seed");
        let drawn: Json = serde_json::from_slice(&bytes).expect("JSON");
        assert!((1..=6).contains(&drawn["die"].as_i64().expect("a whole number")));
        let all = drawn["all"].as_array().expect("a list");
        assert_eq!(all.len(), 100);
        let inside = |value: &Json| value.as_f64().is_some_and(|x| (0.0..1.0).contains(&x));
        assert!(all.iter().chain([&drawn["x"]]).all(inside), "{drawn}");
    }

    #[test]
    fn an_answer_is_held_against_each_check() {
        let check = |pointer: &str, wanted: Wanted| Check {
            name: None,
            pointer: pointer.to_owned(),
            wanted,
        };
        let answer = br#"{"model": "smol", "n": 2, "list": [{"id": "a-17"}], "usage": {"in": 41}}"#;
        let table = [
            (check("/list/0", Wanted::Exists(true)), None),
            (check("/list/1", Wanted::Exists(false)), None),
            (check("/n", Wanted::Equals(json!(2.0))), None),
            (
                check("/list/0/id", Wanted::Matches("^a-[0-9]+$".to_owned())),
                None,
            ),
            (
                check("/list/1", Wanted::Exists(true)),
                Some(r#""/list/1" wants something, found nothing"#),
            ),
            (
                check("/n", Wanted::Exists(false)),
                Some(r#""/n" wants nothing, found 2"#),
            ),
            (
                check("/model", Wanted::Equals(json!("big"))),
                Some(r#""/model" wants "big", found "smol""#),
            ),
            (
                check("/list", Wanted::Matches("a".to_owned())),
                Some(r#""/list" wants a text that matches "a", found [{"id":"a-17"}]"#),
            ),
        ];
        for (check, wanted) in table {
            let judged = Held::against(&expected(vec![check.clone()])).judge(0, 202, answer);
            let error = wanted.map(|wanted| ("check".to_owned(), wanted.to_owned()));
            assert_eq!(judged.error, error, "{check:?}");
            let counted = wanted.is_none().then_some(41);
            assert_eq!(judged.prompt_tokens, counted);
        }
        let held = Held::against(&expected(vec![]));
        let (class, _) = held.judge(0, 500, b"{}").error.expect("an error");
        assert_eq!(class, "http_500");
        let (class, _) = held.judge(0, 200, b"<html>").error.expect("an error");
        assert_eq!(class, "check");
    }
}
