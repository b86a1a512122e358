//! Requests and answers of the two text APIs of `OpenAI`, and of embeddings and reranking, as llama.cpp and vLLM speak them.
//!
//! Reranking is as llama-server b11669 answers (seen) and vLLM documents it: `{query, documents}`, `results` with
//! `relevance_score`, and `usage` over all pairs. Others tell `total_tokens` alone.
//!
//! Pure: bytes in, bytes out. Answers are read on the load path, once for each token, so only what is measured is
//! looked at and no text is kept: that there is content is a measurement, what it says is not. Unknown keys are ignored,
//! because every engine adds its own.

use std::{borrow::Cow, fmt, time::Duration};

use serde::{
    Deserialize, Serialize,
    de::{self, Deserializer, IgnoredAny},
};
use serde_json::{Map, Value};

use super::{ollama, times::Times};
use crate::recipe::Api;

/// Longest message kept of an error.
const MESSAGE_LIMIT: usize = 300;

/// What one request asks for.
#[derive(Debug, Clone, Copy)]
pub struct RequestSpec<'a> {
    /// The API.
    pub api: Api,
    /// The model's name.
    pub model: &'a str,
    /// What it says.
    pub input: Input<'a>,
    /// Most tokens of the answer.
    pub max_tokens: u32,
    /// Sampling temperature; the engine's default where `None`.
    pub temperature: Option<f64>,
    /// Nucleus sampling; the engine's default where `None`.
    pub top_p: Option<f64>,
    /// Go on to `max_tokens` whatever the model says. An extension that both engines know.
    pub ignore_eos: bool,
    /// Answer token by token.
    pub stream: bool,
    /// Further fields.
    pub extra: &'a Map<String, Value>,
}

/// What a request says.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// A prompt; the only message of a chat.
    Prompt(&'a str),
    /// The messages of a chat, as they are; other APIs have none.
    Messages(&'a [Value]),
    /// A query, and the documents that it is held against.
    Query(&'a str, &'a [String]),
}

/// Path of an API; nothing where each request has a path of its own.
pub fn path(api: Api) -> &'static str {
    match api {
        Api::Completions => "/v1/completions",
        Api::Chat => "/v1/chat/completions",
        Api::Embeddings => "/v1/embeddings",
        Api::Rerank => "/v1/rerank",
        Api::OllamaGenerate => "/api/generate",
        Api::OllamaChat => "/api/chat",
        // each request has its own
        Api::Http | Api::Chroma | Api::Qdrant => "",
    }
}

/// The body of a request.
pub fn body(spec: &RequestSpec<'_>) -> Vec<u8> {
    if spec.api.is_ollama() {
        return ollama::body(spec);
    }
    if let (Api::Embeddings, Input::Prompt(input)) = (spec.api, spec.input) {
        return serde_json::to_vec(&EmbeddingsBody {
            model: spec.model,
            input,
            extra: spec.extra,
        })
        .expect("text and numbers always serialize");
    }
    let (prompt, messages) = match (spec.api, spec.input) {
        (_, Input::Query(query, documents)) => {
            return serde_json::to_vec(&RerankBody {
                model: spec.model,
                query,
                documents,
                extra: spec.extra,
            })
            .expect("text and numbers always serialize");
        }
        (_, Input::Prompt(prompt)) if spec.api != Api::Chat => (Some(prompt), None),
        (_, Input::Prompt(content)) => {
            let role = "user";
            (None, Some(Messages::One([Message { role, content }])))
        }
        (_, Input::Messages(messages)) => (None, Some(Messages::Given(messages))),
    };
    serde_json::to_vec(&Body {
        model: spec.model,
        prompt,
        messages,
        max_tokens: spec.max_tokens,
        temperature: spec.temperature,
        top_p: spec.top_p,
        ignore_eos: spec.ignore_eos,
        stream: spec.stream,
        // what a recipe says of streams asks for the counts, too
        stream_options: (spec.stream && !spec.extra.contains_key("stream_options")).then_some(
            StreamOptions {
                include_usage: true,
            },
        ),
        extra: spec.extra,
    })
    .expect("text and numbers always serialize")
}

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<Messages<'a>>,
    max_tokens: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    ignore_eos: bool,
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<StreamOptions>,
    #[serde(flatten)]
    extra: &'a Map<String, Value>,
}

#[derive(Serialize)]
struct EmbeddingsBody<'a> {
    model: &'a str,
    input: &'a str,
    #[serde(flatten)]
    extra: &'a Map<String, Value>,
}

#[derive(Serialize)]
struct RerankBody<'a> {
    model: &'a str,
    query: &'a str,
    documents: &'a [String],
    #[serde(flatten)]
    extra: &'a Map<String, Value>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Messages<'a> {
    One([Message<'a>; 1]),
    Given(&'a [Value]),
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

/// What one event of a stream, or a whole answer, tells.
#[derive(Debug, Clone, Default, PartialEq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, not states"
)]
pub struct Event {
    /// It carries content that is not empty and no reasoning, or a part of a call of a tool.
    pub content: bool,
    /// It carries reasoning that is not empty.
    pub reasoning: bool,
    /// It is a part of an answer, with text or without.
    pub part: bool,
    /// Why the answer ended, where it did.
    pub finish: Option<String>,
    /// Token counts, where told.
    pub usage: Option<Usage>,
    /// The error's message, where it is one.
    pub error: Option<String>,
    /// It is the stream's last: `[DONE]`.
    pub done: bool,
    /// Times that the engine took itself, where it tells.
    pub times: Times,
}

impl Event {
    /// Does it carry text of either kind?
    pub const fn has_text(&self) -> bool {
        self.content || self.reasoning
    }
}

/// Token counts, as the engine counts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Of the prompt, with the chat template's.
    pub prompt_tokens: u64,
    /// Of the answer.
    pub completion_tokens: u64,
    /// Of the prompt, those found in the cache; `None` where the engine does not tell.
    pub cached_tokens: Option<u64>,
    /// Of the answer, those of reasoning; `None` where the engine does not tell.
    pub reasoning_tokens: Option<u64>,
}

/// Reads the data of one server-sent event. Bytes that are no UTF-8 are replaced, never refused.
pub fn event(api: Api, data: &[u8]) -> Result<Event, serde_json::Error> {
    let data = data.trim_ascii();
    if data == b"[DONE]" {
        return Ok(Event {
            done: true,
            ..Event::default()
        });
    }
    read(api, data).or_else(|error| match String::from_utf8_lossy(data) {
        Cow::Owned(mended) => read(api, mended.as_bytes()),
        Cow::Borrowed(_) => Err(error),
    })
}

/// Reads the body of an answer that is not a stream.
pub fn answer(api: Api, body: &[u8]) -> Result<Event, serde_json::Error> {
    read(api, body)
}

fn read(api: Api, json: &[u8]) -> Result<Event, serde_json::Error> {
    if api.is_ollama() {
        return ollama::event(json);
    }
    let wire: Wire = serde_json::from_slice(json)?;
    let timed = wire.timings.as_ref().and_then(|timings| timings.cache_n);
    let took = |milliseconds: Option<f64>| Duration::try_from_secs_f64(milliseconds? / 1000.0).ok();
    let mut event = Event {
        error: wire.error.as_ref().map(message_of),
        usage: wire.usage.map(|usage| Usage {
            prompt_tokens: usage.prompt_tokens.or(usage.total_tokens).unwrap_or(0),
            completion_tokens: usage.completion_tokens.unwrap_or(0),
            cached_tokens: (usage.prompt_tokens_details)
                .and_then(|details| details.cached_tokens)
                .or(timed),
            reasoning_tokens: (usage.completion_tokens_details)
                .and_then(|details| details.reasoning_tokens),
        }),
        times: wire.timings.map_or_else(Times::default, |timings| Times {
            prompt: took(timings.prompt_ms),
            decode: took(timings.predicted_ms),
            ..Times::default()
        }),
        ..Event::default()
    };
    let filled = |items: Option<Vec<IgnoredAny>>| items.is_some_and(|items| !items.is_empty());
    event.content = filled(wire.data) || filled(wire.results);
    for choice in wire.choices.unwrap_or_default() {
        event.part = true;
        match api {
            Api::Chat => {
                for part in [choice.delta, choice.message].into_iter().flatten() {
                    event.content |= part.content.0 || part.tool_calls.0;
                    event.reasoning |= part.reasoning.0 || part.reasoning_content.0;
                }
            }
            _ => event.content |= choice.text.0,
        }
        event.finish = event.finish.or(choice.finish_reason);
    }
    Ok(event)
}

/// Adds what an event or a whole answer of a chat says, without reasoning; nothing where it is none.
pub fn said(json: &[u8], said: &mut String) {
    let json = String::from_utf8_lossy(json);
    let Ok(value) = serde_json::from_str::<Value>(&json) else {
        return;
    };
    let choice = &value["choices"][0];
    // Ollama's has no choices
    for part in [&choice["delta"], &choice["message"], &value["message"]] {
        match &part["content"] {
            Value::String(text) => said.push_str(text),
            Value::Array(parts) => {
                let texts = parts.iter().filter_map(|part| part["text"].as_str());
                said.extend(texts);
            }
            _ => {}
        }
    }
}

#[derive(Deserialize)]
struct Wire {
    choices: Option<Vec<Choice>>,
    /// Embeddings.
    data: Option<Vec<IgnoredAny>>,
    /// Documents by their relevance.
    results: Option<Vec<IgnoredAny>>,
    usage: Option<WireUsage>,
    /// llama.cpp's own account.
    timings: Option<Timings>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Timings {
    cache_n: Option<u64>,
    prompt_ms: Option<f64>,
    predicted_ms: Option<f64>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    text: Filled,
    delta: Option<Part>,
    message: Option<Part>,
    finish_reason: Option<String>,
}

/// `delta` of a stream, `message` of a whole answer.
#[derive(Deserialize)]
struct Part {
    #[serde(default)]
    content: Filled,
    /// vLLM's name for it.
    #[serde(default)]
    reasoning: Filled,
    /// llama.cpp's name for it, and vLLM's former one.
    #[serde(default)]
    reasoning_content: Filled,
    /// What a tool is called with is generated as text is: each piece is a token or more.
    #[serde(default)]
    tool_calls: Filled,
}

#[derive(Deserialize)]
struct WireUsage {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    /// Where no other is told.
    total_tokens: Option<u64>,
    prompt_tokens_details: Option<PromptDetails>,
    completion_tokens_details: Option<CompletionDetails>,
}

#[derive(Deserialize)]
struct PromptDetails {
    cached_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct CompletionDetails {
    reasoning_tokens: Option<u64>,
}

/// Is there a text that is not empty? Reads a text without keeping it.
#[derive(Default)]
pub(super) struct Filled(pub(super) bool);

impl<'de> Deserialize<'de> for Filled {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Filled;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a list of parts, or null")
            }

            fn visit_str<E>(self, text: &str) -> Result<Filled, E> {
                Ok(Filled(!text.is_empty()))
            }

            fn visit_unit<E>(self) -> Result<Filled, E> {
                Ok(Filled(false))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut parts: A) -> Result<Filled, A::Error> {
                let mut any = false;
                while parts.next_element::<IgnoredAny>()?.is_some() {
                    any = true;
                }
                Ok(Filled(any))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// What an error answer says: in the form of `OpenAI`, in vLLM's, or as plain text; one line, 300 characters at the most.
pub fn error_message(body: &[u8]) -> String {
    match serde_json::from_slice::<Value>(body) {
        Ok(value) => message_of(&value),
        Err(_) => one_line(&String::from_utf8_lossy(body)),
    }
}

/// The message inside a JSON error, however deep the engine wraps it.
pub(super) fn message_of(value: &Value) -> String {
    let mut inner = value;
    loop {
        let deeper = match inner {
            Value::Object(map) => ["error", "message", "detail", "msg"]
                .iter()
                .find_map(|key| map.get(*key).filter(|value| !value.is_null())),
            Value::Array(items) => items.first(),
            _ => None,
        };
        match deeper {
            Some(value) => inner = value,
            None => break,
        }
    }
    match inner {
        Value::String(text) => one_line(text),
        // nothing known in it: then all of it
        Value::Object(_) | Value::Array(_) => one_line(&value.to_string()),
        other => one_line(&other.to_string()),
    }
}

/// A text on one line of 300 characters at the most.
pub fn one_line(text: &str) -> String {
    let printable = text.replace(char::is_control, " ");
    let line = printable.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= MESSAGE_LIMIT {
        return line;
    }
    let mut short: String = line.chars().take(MESSAGE_LIMIT - 1).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::sse::Scanner;

    /// The body of a captured answer: what stands between the empty line after the headers and the note of the end,
    /// without the chunks' frames.
    fn captured(name: &str) -> Vec<u8> {
        let file = format!("{}/tests/data/sse/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        let bytes = std::fs::read(file).expect("a captured answer");
        let find = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).position(|w| w == what);
        let start = find(&bytes, b"\r\n\r\n").expect("headers") + 4;
        let head = String::from_utf8_lossy(&bytes[..start]).to_lowercase();
        let mut rest = &bytes[start..];
        if !head.contains("transfer-encoding: chunked") {
            let end = find(rest, b"\n# rc=").unwrap_or(rest.len());
            return rest[..end].to_vec();
        }
        let mut body = Vec::new();
        loop {
            let line = find(rest, b"\r\n").expect("a chunk's size");
            let size = std::str::from_utf8(&rest[..line]).expect("a chunk's size");
            let size = usize::from_str_radix(size, 16).expect("a chunk's size");
            if size == 0 {
                return body;
            }
            body.extend_from_slice(&rest[line + 2..line + 2 + size]);
            rest = &rest[line + 2 + size + 2..];
        }
    }

    fn streamed(api: Api, name: &str) -> Vec<Event> {
        let mut events = Vec::new();
        Scanner::new().push(&captured(name), |data| {
            events.push(event(api, data).expect("an event"));
        });
        events
    }

    #[test]
    fn streams_of_both_engines() {
        let table = [
            // (chunks with content, prompt, output, cached)
            ("llama.chat_stream", Api::Chat, 8, 37, 8, Some(0)),
            ("llama.compl_stream", Api::Completions, 5, 4, 5, Some(0)),
            // a token that is part of a character waits for the others: 8 tokens, 5 chunks
            ("vllm.chat_stream", Api::Chat, 5, 26, 8, None),
            ("vllm.compl_stream", Api::Completions, 5, 6, 5, None),
        ];
        for (name, api, chunks, prompt_tokens, completion_tokens, cached_tokens) in table {
            let events = streamed(api, name);
            let told: Vec<_> = events.iter().filter_map(|event| event.usage).collect();
            let usage = Usage {
                prompt_tokens,
                completion_tokens,
                cached_tokens,
                reasoning_tokens: None,
            };
            assert_eq!(told, [usage], "{name}");
            let count = events.iter().filter(|event| event.content).count();
            assert_eq!(count, chunks, "{name}");
            let finish: Vec<_> = events.iter().filter_map(|e| e.finish.as_deref()).collect();
            assert_eq!(finish, ["length"], "{name}");
            assert!(events.iter().all(|event| event.error.is_none()), "{name}");
            assert!(events.last().is_some_and(|event| event.done), "{name}");
        }
    }

    #[test]
    fn whole_answers_of_both_engines() {
        let table = [
            ("llama.chat_nostream", Api::Chat, 37, 16, Some(36)),
            ("llama.compl_nostream", Api::Completions, 4, 5, Some(3)),
            ("vllm.chat_nostream", Api::Chat, 26, 16, None),
            ("vllm.compl_nostream", Api::Completions, 6, 5, None),
        ];
        for (name, api, prompt_tokens, completion_tokens, cached_tokens) in table {
            let wanted = Event {
                content: true,
                part: true,
                finish: Some("length".to_owned()),
                usage: Some(Usage {
                    prompt_tokens,
                    completion_tokens,
                    cached_tokens,
                    reasoning_tokens: None,
                }),
                ..Event::default()
            };
            let mut found = answer(api, &captured(name)).expect("an answer");
            let times = std::mem::take(&mut found.times);
            let tells = name.starts_with("llama");
            let told = (times.prompt.is_some(), times.decode.is_some());
            assert_eq!(told, (tells, tells), "{name}");
            assert_eq!(found, wanted, "{name}");
        }
    }

    #[test]
    fn a_bad_model_is_an_error_of_vllm_and_an_answer_of_llama() {
        insta::assert_snapshot!(
            error_message(&captured("vllm.err_badmodel_stream")),
            @"The model `nope` does not exist. Valid aliases: tiny-llama."
        );
        let events = streamed(Api::Chat, "llama.err_badmodel_stream");
        assert!(events.iter().any(|event| event.content));
    }

    #[test]
    fn reasoning_is_told_apart_and_errors_come_in_streams_too() {
        let table = [
            // (event, content, reasoning)
            (
                r#"{"choices":[{"delta":{"reasoning_content":"so"}}]}"#,
                false,
                true,
            ),
            (
                r#"{"choices":[{"delta":{"reasoning":"so","content":null}}]}"#,
                false,
                true,
            ),
            (
                r#"{"choices":[{"delta":{"reasoning":"","content":"so"}}]}"#,
                true,
                false,
            ),
            (
                r#"{"choices":[{"message":{"reasoning":"a","content":"b"}}]}"#,
                true,
                true,
            ),
            (
                r#"{"choices":[{"delta":{"role":"assistant","content":""}}]}"#,
                false,
                false,
            ),
            (r#"{"choices":[],"usage":null}"#, false, false),
            // a call of a tool: its beginning, a piece of its arguments, the whole, and none
            (
                r#"{"choices":[{"delta":{"role":"assistant","content":null,"tool_calls":[{"id":"chatcmpl-tool-1","type":"function","index":0,"function":{"name":"weather","arguments":""}}]}}]}"#,
                true,
                false,
            ),
            (
                r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"city\": \""}}]},"finish_reason":null}]}"#,
                true,
                false,
            ),
            (
                r#"{"choices":[{"message":{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}]},"finish_reason":"tool_calls"}]}"#,
                true,
                false,
            ),
            (
                r#"{"choices":[{"delta":{"content":"","tool_calls":[]}}]}"#,
                false,
                false,
            ),
        ];
        for (data, content, reasoning) in table {
            let found = event(Api::Chat, data.as_bytes()).expect("an event");
            assert_eq!(
                (found.content, found.reasoning),
                (content, reasoning),
                "{data}"
            );
            assert_eq!(found.has_text(), content || reasoning);
        }
        let found = event(
            Api::Chat,
            br#"{"error":{"code":500,"message":"out of memory"}}"#,
        );
        let error = found.expect("an event").error;
        assert_eq!(error.as_deref(), Some("out of memory"));
        event(Api::Chat, b"no JSON").expect_err("no JSON");
        let torn = event(
            Api::Chat,
            b"{\"choices\":[{\"delta\":{\"content\":\"\xc3\"}}]}",
        );
        assert!(torn.expect("an event").content, "half a character");
    }

    #[test]
    fn tokens_of_caches_and_of_reasoning_where_they_are_told() {
        let table = [
            (r#"{"usage":{"prompt_tokens":9}}"#, None, None),
            (
                r#"{"usage":{"prompt_tokens_details":{"cached_tokens":7},"completion_tokens_details":{"reasoning_tokens":3}}}"#,
                Some(7),
                Some(3),
            ),
            (
                r#"{"usage":{"prompt_tokens_details":null},"timings":{"cache_n":5,"prompt_n":1}}"#,
                Some(5),
                None,
            ),
            (
                r#"{"usage":{"prompt_tokens_details":{"cached_tokens":7}},"timings":{"cache_n":5}}"#,
                Some(7),
                None,
            ),
        ];
        for (data, cached, reasoning) in table {
            let usage = event(Api::Chat, data.as_bytes())
                .expect("an event")
                .usage
                .expect("usage");
            assert_eq!(
                (usage.cached_tokens, usage.reasoning_tokens),
                (cached, reasoning),
                "{data}"
            );
        }
    }

    #[test]
    fn what_was_said_is_without_reasoning() {
        let events = [
            r#"{"choices":[{"delta":{"role":"assistant","content":""}}]}"#,
            r#"{"choices":[{"delta":{"reasoning_content":"hm"}}]}"#,
            r#"{"choices":[{"delta":{"content":"It \"is\""}}]}"#,
            r#"{"choices":[{"message":{"content":[{"type":"text","text":" é"}]}}]}"#,
            r#"{"choices":[],"usage":{}}"#,
            "[DONE]",
        ];
        let mut text = String::new();
        for event in events {
            said(event.as_bytes(), &mut text);
        }
        assert_eq!(text, "It \"is\" é");
    }

    #[test]
    fn messages_of_errors() {
        let table = [
            (
                r#"{"error":{"message":"Loading model","code":503}}"#,
                "Loading model",
            ),
            (r#"{"error":"Unauthorized"}"#, "Unauthorized"),
            (r#"{"detail":"Not Found"}"#, "Not Found"),
            (
                r#"{"detail":[{"loc":["body"],"msg":"Field required"}]}"#,
                "Field required",
            ),
            (r#"{"object":"error","message":"too long"}"#, "too long"),
            (r#"{"code":7}"#, r#"{"code":7}"#),
            ("Bad\r\n  Gateway\u{1b}", "Bad Gateway"),
            ("", ""),
        ];
        for (body, wanted) in table {
            assert_eq!(error_message(body.as_bytes()), wanted, "{body}");
        }
        assert_eq!(error_message(&[b'x'; 5000]).chars().count(), 300);
    }

    #[test]
    fn bodies() {
        let mut spec = RequestSpec {
            api: Api::Chat,
            model: "m",
            input: Input::Prompt("say \"a\""),
            max_tokens: 8,
            temperature: Some(0.0),
            top_p: None,
            ignore_eos: true,
            stream: true,
            extra: &Map::new(),
        };
        let text = |spec: &RequestSpec<'_>| String::from_utf8(body(spec)).expect("UTF-8");
        insta::assert_snapshot!(text(&spec), @r#"{"model":"m","messages":[{"role":"user","content":"say \"a\""}],"max_tokens":8,"temperature":0.0,"ignore_eos":true,"stream":true,"stream_options":{"include_usage":true}}"#);
        spec.api = Api::Completions;
        spec.stream = false;
        spec.ignore_eos = false;
        spec.temperature = None;
        spec.top_p = Some(0.5);
        insta::assert_snapshot!(text(&spec), @r#"{"model":"m","prompt":"say \"a\"","max_tokens":8,"top_p":0.5,"stream":false}"#);
        let extra = serde_json::from_str(r#"{"min_tokens": 5, "logit_bias": {"7": -1.5}}"#);
        let extra = extra.expect("fields");
        spec.extra = &extra;
        insta::assert_snapshot!(text(&spec), @r#"{"model":"m","prompt":"say \"a\"","max_tokens":8,"top_p":0.5,"stream":false,"min_tokens":5,"logit_bias":{"7":-1.5}}"#);
        spec.api = Api::Embeddings;
        insta::assert_snapshot!(text(&spec), @r#"{"model":"m","input":"say \"a\"","min_tokens":5,"logit_bias":{"7":-1.5}}"#);
    }
}
