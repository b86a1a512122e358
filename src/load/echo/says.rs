//! What the echo engine hears and says: a request's head and body, the bytes of an answer. Pure.

use serde::Deserialize;

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asked {
    /// Bytes of head and body.
    pub(super) length: usize,
    /// Where the body begins.
    pub(super) body: usize,
    pub(super) api: Api,
    pub(super) stream: bool,
    pub(super) tokens: u64,
    /// Does it carry the key?
    pub(super) may: bool,
}

/// Which API, as far as answers differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Api {
    Completions,
    Chat,
    Embeddings,
}

/// Why the bytes are no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unheard {
    /// More must come.
    Part,
    /// They are none.
    Bad,
}

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    max_tokens: Option<u64>,
    #[serde(default)]
    stream: bool,
}

/// Reads a request.
pub(super) fn hear(bytes: &[u8], key: Option<&str>) -> Result<Asked, Unheard> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    let body = match request.parse(bytes) {
        Ok(httparse::Status::Complete(body)) => body,
        Ok(httparse::Status::Partial) => return Err(Unheard::Part),
        Err(_) => return Err(Unheard::Bad),
    };
    let header = |name: &str| {
        let found = request.headers.iter();
        let mut found = found.filter(|header| header.name.eq_ignore_ascii_case(name));
        found.next().map(|header| header.value)
    };
    let length = header("content-length")
        .and_then(|value| std::str::from_utf8(value).ok()?.parse::<usize>().ok())
        .ok_or(Unheard::Bad)?;
    let length = body.checked_add(length).ok_or(Unheard::Bad)?;
    let whole = bytes.get(body..length).ok_or(Unheard::Part)?;
    let path = request.path.unwrap_or_default();
    let said: Body = serde_json::from_slice(whole).map_err(|_| Unheard::Bad)?;
    let bearer = header("authorization").and_then(|value| value.strip_prefix(b"Bearer "));
    Ok(Asked {
        length,
        body,
        api: match path {
            "/v1/chat/completions" => Api::Chat,
            "/v1/embeddings" => Api::Embeddings,
            _ => Api::Completions,
        },
        stream: said.stream,
        tokens: said.max_tokens.unwrap_or(1).max(1),
        may: key.is_none_or(|key| bearer == Some(key.as_bytes())),
    })
}

const HEAD: &str = "HTTP/1.1 200 OK\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\nserver: uvicorn\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n";

/// The parts of a streamed answer, as chunks of HTTP and of the length that vLLM's have.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) head: Vec<u8>,
    pub(super) token: Vec<u8>,
    pub(super) last: Vec<u8>,
}

impl Parts {
    /// Those of completions.
    pub(super) fn completions() -> Self {
        let token = |finish: &str| {
            chunk(&format!(
                r#"{{"id":"cmpl-9bd6ea9cc39aaf71","object":"text_completion","created":1795490188,"model":"m","choices":[{{"index":0,"text":" word","logprobs":null,"finish_reason":{finish},"stop_reason":null,"prompt_token_ids":null,"token_ids":null}}]}}"#
            ))
        };
        Self {
            head: HEAD.into(),
            token: token("null"),
            last: token("\"length\""),
        }
    }

    /// Those of a chat, which names its role before it says anything.
    pub(super) fn chat() -> Self {
        let event = |delta: &str, finish: &str| {
            chunk(&format!(
                r#"{{"id":"chatcmpl-9bd6ea9cc39aaf71","object":"chat.completion.chunk","created":1795490188,"model":"m","choices":[{{"index":0,"delta":{{{delta}}},"logprobs":null,"finish_reason":{finish},"token_ids":null}}]}}"#
            ))
        };
        let mut head = HEAD.as_bytes().to_vec();
        head.extend(event(r#""role":"assistant","content":"""#, "null"));
        Self {
            head,
            token: event(r#""content":" word""#, "null"),
            last: event(r#""content":" word""#, "\"length\""),
        }
    }
}

fn chunk(data: &str) -> Vec<u8> {
    let event = format!("data: {data}\n\n");
    format!("{:x}\r\n{event}\r\n", event.len()).into_bytes()
}

fn usage(prompt: u64, output: u64) -> String {
    let all = prompt + output;
    format!(
        r#""usage":{{"prompt_tokens":{prompt},"total_tokens":{all},"completion_tokens":{output}}}"#
    )
}

/// What ends a streamed answer.
pub(super) fn end(prompt: u64, output: u64) -> Vec<u8> {
    let mut bytes = chunk(&format!(
        r#"{{"id":"cmpl-9bd6ea9cc39aaf71","object":"text_completion","created":1795490188,"model":"m","choices":[],{}}}"#,
        usage(prompt, output)
    ));
    bytes.extend(chunk("[DONE]"));
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

/// An answer that is no stream.
pub(super) fn whole(api: Api, prompt: u64, output: u64) -> Vec<u8> {
    let said = " word".repeat(usize::try_from(output).unwrap_or(1).min(1 << 20));
    let body = match api {
        Api::Completions => format!(
            r#"{{"object":"text_completion","model":"m","choices":[{{"index":0,"text":"{said}","finish_reason":"length"}}],{}}}"#,
            usage(prompt, output)
        ),
        Api::Chat => format!(
            r#"{{"object":"chat.completion","model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"{said}"}},"finish_reason":"length"}}],{}}}"#,
            usage(prompt, output)
        ),
        Api::Embeddings => {
            let numbers = vec!["0.0123456"; 384].join(",");
            format!(
                r#"{{"object":"list","model":"m","data":[{{"object":"embedding","index":0,"embedding":[{numbers}]}}],{}}}"#,
                usage(prompt, 0)
            )
        }
    };
    answer("200 OK", &body)
}

/// What a request without the key gets, and what is no request.
pub(super) fn refusal(status: &str) -> Vec<u8> {
    answer(status, r#"{"error":{"message":"not for you"}}"#)
}

fn answer(status: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
