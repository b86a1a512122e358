//! A request to a service that aif does not know: its line, its body as a template, and what a good answer is.
//!
//! Places of a template are names in braces: `{prompt}`, `{index}`, `{random:1:6}`. What is no such name stays as it is, for
//! JSON has braces of its own. Pure.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// A method of HTTP. `HEAD` is none of them: its answer tells a length that does not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// `GET`.
    Get,
    /// `POST`.
    Post,
    /// `PUT`.
    Put,
    /// `PATCH`.
    Patch,
    /// `DELETE`.
    Delete,
}

impl Method {
    /// As a request line has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

/// What is sent, and what has to come back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HttpRequest {
    /// The method.
    pub method: Method,
    /// The path, with its query, as a template.
    pub path: String,
    /// The body: JSON whose texts are templates, or one text; `None` where there is none.
    pub body: Option<Json>,
    /// What a good answer is.
    pub expect: Expected,
}

/// What a good answer is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expected {
    /// Its status is one of these.
    pub status: Vec<u16>,
    /// What its JSON holds.
    pub checks: Vec<Check>,
    /// JSON pointer to the number of prompt tokens.
    pub prompt_tokens: Option<String>,
    /// JSON pointer to the number of output tokens.
    pub output_tokens: Option<String>,
}

/// One thing that the JSON of an answer has to hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// How errors call it; by its pointer where `None`.
    pub name: Option<String>,
    /// Where (RFC 6901).
    pub pointer: String,
    /// What.
    pub wanted: Wanted,
}

/// What a check wants at its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wanted {
    /// Anything, or nothing.
    Exists(bool),
    /// This value.
    Equals(Json),
    /// A text, or a number, in which this regular expression finds something.
    Matches(String),
}

/// A part of a template.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// As it is.
    Text(String),
    /// Put in for each request.
    Place(Place),
}

/// What is put in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Place {
    /// The prompt of the dataset.
    Prompt,
    /// The tokens that the prompt was asked to have.
    PromptLength,
    /// The tokens that the answer may have.
    MaxTokens,
    /// The number of the request, from 0.
    Index,
    /// The seed of the workload.
    Seed,
    /// The name of the model.
    Model,
    /// A number from 0 to 1, drawn for each request.
    Random,
    /// A whole number between two, both included.
    Whole(i64, i64),
    /// A list of so many numbers from 0 to 1.
    Floats(usize),
}

/// The forms of places, as messages list them.
pub const PLACES: &str = "{prompt} {prompt_length} {max_tokens} {index} {seed} {model} {random} {random:LEAST:MOST} {floats:COUNT}";

/// Numbers of a list at the most.
const MOST_FLOATS: usize = 1_000_000;

/// The parts of a template; an error says what is wrong with it.
pub fn parts(text: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let (mut plain, mut rest) = (String::new(), text);
    while let Some(start) = rest.find('{') {
        let (before, after) = rest.split_at(start);
        plain.push_str(before);
        let inner = after[1..].split('}').next().unwrap_or_default();
        let name = inner.split(':').next().unwrap_or_default();
        let is_closed = after[1..].len() > inner.len();
        let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        let is_place = is_closed && is_name && !inner.contains(['"', ' ', '{']);
        if !is_place {
            plain.push('{');
            rest = &after[1..];
            continue;
        }
        if !plain.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut plain)));
        }
        parts.push(Part::Place(place(inner)?));
        rest = &after[inner.len() + 2..];
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        parts.push(Part::Text(plain));
    }
    Ok(parts)
}

fn place(inner: &str) -> Result<Place, String> {
    let mut words = inner.split(':');
    let name = words.next().unwrap_or_default();
    let arguments: Vec<&str> = words.collect();
    let unknown = || format!("{{{inner}}} is no place of a template; there are {PLACES}");
    Ok(match (name, arguments.as_slice()) {
        ("prompt", []) => Place::Prompt,
        ("prompt_length", []) => Place::PromptLength,
        ("max_tokens", []) => Place::MaxTokens,
        ("index", []) => Place::Index,
        ("seed", []) => Place::Seed,
        ("model", []) => Place::Model,
        ("random", []) => Place::Random,
        ("random", [least, most]) => match (least.parse(), most.parse()) {
            (Ok(least), Ok(most)) if least <= most => Place::Whole(least, most),
            _ => {
                return Err(format!(
                    "{{{inner}}} wants two whole numbers, the smaller one first"
                ));
            }
        },
        ("floats", [count]) => match count.parse() {
            Ok(count @ 1..=MOST_FLOATS) => Place::Floats(count),
            _ => {
                return Err(format!(
                    "{{{inner}}} wants a count of 1 to {MOST_FLOATS} numbers"
                ));
            }
        },
        _ => return Err(unknown()),
    })
}

/// Every text of a body.
pub fn texts(body: &Json) -> Vec<&str> {
    match body {
        Json::String(text) => vec![text],
        Json::Array(items) => items.iter().flat_map(texts).collect(),
        Json::Object(fields) => fields.values().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

impl HttpRequest {
    /// Does it hold this place?
    pub fn holds(&self, wanted: Place) -> bool {
        let body = self.body.iter().flat_map(texts);
        body.chain(std::iter::once(&*self.path)).any(|text| {
            let parts = parts(text).unwrap_or_default();
            parts.contains(&Part::Place(wanted))
        })
    }
}

/// Is it a JSON pointer (RFC 6901)?
pub fn is_pointer(text: &str) -> bool {
    text.is_empty() || text.starts_with('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_place_stays() {
        let text = |text: &str| Part::Text(text.to_owned());
        let table = [
            (
                r#"{"a": {"b": "{prompt}!"}}"#,
                vec![
                    text(r#"{"a": {"b": ""#),
                    Part::Place(Place::Prompt),
                    text(r#"!"}}"#),
                ],
            ),
            ("{", vec![text("{")]),
            ("{}", vec![text("{}")]),
            ("{prompt", vec![text("{prompt")]),
            ("{random:-1:6}", vec![Part::Place(Place::Whole(-1, 6))]),
            ("", vec![]),
        ];
        for (template, wanted) in table {
            assert_eq!(parts(template), Ok(wanted), "{template}");
        }
        for (template, wanted) in [
            ("{promt}", "is no place"),
            ("{random:6:1}", "the smaller one first"),
            ("{floats:0}", "a count"),
            ("{index:3}", "is no place"),
        ] {
            let error = parts(template).expect_err(template);
            assert!(error.contains(wanted), "{error}");
        }
    }
}
