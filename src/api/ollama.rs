//! Ollama's own API: requests and answers of `/api/generate` and `/api/chat`.
//!
//! By its documentation (`docs/api.md` of its repository; docs.ollama.com/api/streaming and /errors, which speak of 0.40)
//! and by `server/routes.go` of the same. It was not run on the real one.
//!
//! A streamed answer is `application/x-ndjson`: a JSON object a line, each with a piece of text (`response`, or
//! `message.content`; reasoning is `thinking` beside it), and a last one with `done: true`, why it ended, token counts and
//! durations in nanoseconds. What goes wrong within a stream is a line `{"error": …}`, whatever the status said before.
//! `prompt_eval_count` is left out by releases that found the prompt in their cache; then no count is told at all,
//! rather than one that is too small. Pure: bytes in, bytes out.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    openai::{Event, Filled, Input, RequestSpec, Usage},
    times::Times,
};
use crate::recipe::Api;

/// The body of a request. Further fields of a recipe are its own; its `options` join ours.
pub(super) fn body(spec: &RequestSpec<'_>) -> Vec<u8> {
    let mut options = Map::new();
    options.insert("num_predict".to_owned(), json!(spec.max_tokens));
    for (key, value) in [("temperature", spec.temperature), ("top_p", spec.top_p)] {
        if let Some(value) = value {
            options.insert(key.to_owned(), json!(value));
        }
    }
    let mut extra = spec.extra.clone();
    if let Some(Value::Object(further)) = extra.remove("options") {
        options.extend(further);
    }
    let (prompt, messages) = match (spec.api, spec.input) {
        (_, Input::Messages(messages)) => (None, Some(messages.to_vec())),
        (Api::OllamaChat, Input::Prompt(content)) => (
            None,
            Some(vec![json!({"role": "user", "content": content})]),
        ),
        (_, Input::Prompt(prompt) | Input::Query(prompt, _)) => (Some(prompt), None),
    };
    serde_json::to_vec(&Body {
        model: spec.model,
        prompt,
        messages,
        stream: spec.stream,
        options,
        extra,
    })
    .expect("text and numbers always serialize")
}

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<Vec<Value>>,
    stream: bool,
    options: Map<String, Value>,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

#[derive(Deserialize)]
struct Wire {
    #[serde(default)]
    response: Filled,
    #[serde(default)]
    thinking: Filled,
    message: Option<Message>,
    #[serde(default)]
    done: bool,
    done_reason: Option<String>,
    total_duration: Option<u64>,
    load_duration: Option<u64>,
    prompt_eval_count: Option<u64>,
    prompt_eval_duration: Option<u64>,
    eval_count: Option<u64>,
    eval_duration: Option<u64>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    content: Filled,
    #[serde(default)]
    thinking: Filled,
}

/// Reads a line of a stream, or a whole answer, which has the same keys.
pub(super) fn event(json: &[u8]) -> Result<Event, serde_json::Error> {
    let wire: Wire = serde_json::from_slice(json)?;
    let said = wire.message.as_ref();
    let usage = wire.prompt_eval_count.zip(wire.eval_count);
    let time = |nanoseconds: Option<u64>| nanoseconds.map(Duration::from_nanos);
    Ok(Event {
        content: wire.response.0 || said.is_some_and(|said| said.content.0),
        reasoning: wire.thinking.0 || said.is_some_and(|said| said.thinking.0),
        part: wire.error.is_none() && !wire.done,
        // older releases end without saying why
        finish: (wire.done).then(|| wire.done_reason.unwrap_or_else(|| "stop".to_owned())),
        usage: usage.map(|(prompt_tokens, completion_tokens)| Usage {
            prompt_tokens,
            completion_tokens,
            cached_tokens: None,
            reasoning_tokens: None,
        }),
        error: wire.error.as_ref().map(super::openai::message_of),
        done: wire.done,
        times: Times {
            load: time(wire.load_duration),
            prompt: time(wire.prompt_eval_duration),
            decode: time(wire.eval_duration),
            total: time(wire.total_duration),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec<'a>(api: Api, input: Input<'a>, extra: &'a Map<String, Value>) -> RequestSpec<'a> {
        RequestSpec {
            api,
            model: "m:1b",
            input,
            max_tokens: 7,
            temperature: Some(0.0),
            top_p: None,
            ignore_eos: false,
            stream: true,
            extra,
        }
    }

    #[test]
    fn requests_say_what_the_documentation_wants() {
        let extra = json!({"keep_alive": -1, "options": {"num_ctx": 4096}});
        let Value::Object(extra) = extra else {
            panic!("an object")
        };
        let said = |api, input| -> Value {
            serde_json::from_slice(&body(&spec(api, input, &extra))).expect("JSON")
        };
        let options = json!({"num_predict": 7, "temperature": 0.0, "num_ctx": 4096});
        assert_eq!(
            said(Api::OllamaGenerate, Input::Prompt("why")),
            json!({"model": "m:1b", "prompt": "why", "stream": true, "options": options, "keep_alive": -1})
        );
        let messages = json!([{"role": "user", "content": "why"}]);
        let wanted = json!({"model": "m:1b", "messages": messages, "stream": true, "options": options, "keep_alive": -1});
        assert_eq!(said(Api::OllamaChat, Input::Prompt("why")), wanted);
        let given = messages.as_array().expect("a list");
        assert_eq!(said(Api::OllamaChat, Input::Messages(given)), wanted);
    }

    #[test]
    fn each_kind_of_line_is_read() {
        let part = event(br#"{"model":"m","created_at":"t","response":" Yes","done":false}"#);
        let part = part.expect("a line");
        assert!(part.content && part.part && !part.done && part.finish.is_none());
        let part =
            event(br#"{"message":{"role":"assistant","content":"","thinking":"hm"},"done":false}"#);
        let part = part.expect("a line");
        assert!(!part.content && part.reasoning);

        // the numbers of the documentation
        let last = event(br#"{"model":"llama3.2","created_at":"2023-08-04T19:22:45.499127Z","response":"","done":true,"context":[1,2,3],"total_duration":10706818083,"load_duration":6338219291,"prompt_eval_count":26,"prompt_eval_duration":130079000,"eval_count":259,"eval_duration":4232710000}"#).expect("a line");
        let ns = |nanoseconds| Some(Duration::from_nanos(nanoseconds));
        assert_eq!(
            last.times,
            Times {
                load: ns(6_338_219_291),
                prompt: ns(130_079_000),
                decode: ns(4_232_710_000),
                total: ns(10_706_818_083),
            }
        );
        let usage = last.usage.expect("counts");
        assert_eq!((usage.prompt_tokens, usage.completion_tokens), (26, 259));
        assert!(last.done && !last.has_text());
        assert_eq!(last.finish.as_deref(), Some("stop"));

        let error = event(br#"{"error":"an error was encountered while running the model"}"#);
        let error = error.expect("a line");
        assert_eq!(
            error.error.as_deref(),
            Some("an error was encountered while running the model")
        );
        assert!(!error.done && !error.part);
        let cached = event(br#"{"done":true,"done_reason":"length","eval_count":3}"#);
        let cached = cached.expect("a line");
        assert_eq!(
            (cached.usage, cached.finish.as_deref()),
            (None, Some("length"))
        );
        event(b"{\"done\":").expect_err("half a line");
    }
}
