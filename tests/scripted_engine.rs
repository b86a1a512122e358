//! An engine that does what its flags say: answers in the form of `OpenAI` at times that are known, and fails when told to.
//!
//! It stands where llama-server stands in tests of the load generator and of the roles: its figures are known before the
//! measurement, so a measurement can be wrong. It takes llama-server's flags and ignores those that it does not know.

use std::{
    collections::HashSet,
    convert::Infallible,
    ffi::OsString,
    io::Write as _,
    path::PathBuf,
    pin::Pin,
    process::ExitCode,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use clap::{CommandFactory as _, Parser};
use http_body_util::BodyExt as _;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body, Frame, Incoming},
    header,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Instant, sleep, sleep_until},
};
use tokio_util::task::TaskTracker;

/// Requests that are kept to be looked at.
const KEPT: usize = 2000;

/// What the engine shall do.
#[derive(Debug, Parser)]
struct Flags {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// Port to listen on; 0: any.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Time to the first token of a stream.
    #[arg(long, default_value_t = 20.0)]
    ttft_ms: f64,
    /// Time between two chunks.
    #[arg(long, default_value_t = 5.0)]
    gap_ms: f64,
    /// Time that each prompt token takes that is not in the cache, before the first token.
    #[arg(long, default_value_t = 0.0)]
    prefill_ms: f64,
    /// Keep what chats said, and find it again where one begins with it.
    #[arg(long)]
    prefix_cache: bool,
    /// Tokens of an answer to a chat that are reasoning.
    #[arg(long, default_value_t = 0)]
    reasoning: u64,
    /// Tokens in a chunk.
    #[arg(long, default_value_t = 1)]
    tokens_per_chunk: u64,
    /// Every second chunk has one token.
    #[arg(long)]
    uneven: bool,
    /// Between two chunks of a stream, so many events without text.
    #[arg(long, default_value_t = 0)]
    silent: u32,
    /// Time of a whole answer; of a stream, to its first token.
    #[arg(long)]
    latency_ms: Option<f64>,
    /// Requests worked on at once; others wait.
    #[arg(long)]
    slots: Option<usize>,
    /// Time until /health says ok.
    #[arg(long, default_value_t = 0)]
    ready_delay_ms: u64,
    /// /health never says ok.
    #[arg(long)]
    never_ready: bool,
    /// End by itself after this time.
    #[arg(long)]
    exit_after_ms: Option<u64>,
    /// With this code.
    #[arg(long, default_value_t = 1)]
    exit_code: u8,
    /// Part of the requests that are answered 503.
    #[arg(long, default_value_t = 0)]
    fail_percent: u64,
    /// Break streams after this many chunks.
    #[arg(long)]
    drop_after: Option<u64>,
    /// Break only every so many-th stream.
    #[arg(long, default_value_t = 1)]
    drop_every: u64,
    /// Answer nothing from this time since the start on …
    #[arg(long)]
    stall_at_ms: Option<u64>,
    /// … for this long.
    #[arg(long, default_value_t = 0)]
    stall_for_ms: u64,
    /// File with the keys, one a line; else `LLAMA_ARG_API_KEY_FILE` tells it.
    #[arg(long)]
    api_key_file: Option<PathBuf>,
    /// Name of the model.
    #[arg(long, visible_alias = "alias", default_value = "scripted")]
    model: String,
}

/// The known flags out of a command line; those of llama-server that are not known fall away with their values.
fn known_only(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let command = Flags::command();
    let mut arguments = arguments.into_iter();
    let mut kept: Vec<OsString> = arguments.next().into_iter().collect();
    while let Some(argument) = arguments.next() {
        let text = argument.to_string_lossy().into_owned();
        let Some(flag) = text.strip_prefix("--") else {
            continue;
        };
        let name = flag.split('=').next().unwrap_or(flag);
        let known = command.get_arguments().find(|known| {
            known.get_long() == Some(name)
                || known
                    .get_visible_aliases()
                    .is_some_and(|aliases| aliases.contains(&name))
        });
        if let Some(known) = known {
            kept.push(argument);
            if known.get_action().takes_values() && !flag.contains('=') {
                kept.extend(arguments.next());
            }
        } else if name == "help" {
            kept.push(argument);
        }
    }
    kept
}

struct Engine {
    flags: Flags,
    keys: Vec<String>,
    started: Instant,
    slots: Option<Arc<Semaphore>>,
    tasks: TaskTracker,
    requests: AtomicU64,
    /// Headers and bodies, as they came.
    asked: Mutex<Vec<Value>>,
    /// Messages of chats, each with all before it.
    said: Mutex<HashSet<String>>,
    streams: AtomicU64,
    connections: AtomicU64,
    in_flight: AtomicU64,
    max_in_flight: AtomicU64,
    processing: AtomicU64,
    prompt_tokens: AtomicU64,
    cached_tokens: AtomicU64,
    output_tokens: AtomicU64,
}

type Answer = Response<Channel>;

/// A body that comes through a channel.
struct Channel(mpsc::Receiver<Result<Frame<Bytes>, std::io::Error>>);

type Sender = mpsc::Sender<Result<Frame<Bytes>, std::io::Error>>;

impl Body for Channel {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        self.0.poll_recv(context)
    }
}

fn whole(status: StatusCode, kind: &str, body: impl Into<Bytes>) -> Answer {
    let body: Bytes = body.into();
    let (sender, receiver) = mpsc::channel(1);
    let length = body.len();
    sender
        .try_send(Ok(Frame::data(body)))
        .expect("the channel has room for one");
    Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, kind)
        .header(header::CONTENT_LENGTH, length)
        .body(Channel(receiver))
        .expect("a valid answer")
}

fn as_json(status: StatusCode, value: &Value) -> Answer {
    whole(status, "application/json; charset=utf-8", value.to_string())
}

fn failure(status: StatusCode, message: &str, kind: &str) -> Answer {
    let error = json!({"error": {"code": status.as_u16(), "message": message, "type": kind}});
    as_json(status, &error)
}

/// A request being worked on: counted while it lives.
struct InFlight(Arc<Engine>);

impl InFlight {
    fn new(engine: &Arc<Engine>) -> Self {
        let now = engine.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        engine.max_in_flight.fetch_max(now, Ordering::SeqCst);
        Self(Arc::clone(engine))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A slot being held.
struct Slot(
    Arc<Engine>,
    #[expect(dead_code, reason = "held")] Option<OwnedSemaphorePermit>,
);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.processing.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What is asked.
#[derive(Debug, Clone, Copy)]
struct Asked {
    chat: bool,
    usage: bool,
    /// With each event.
    usage_of_each: bool,
    prompt: u64,
    /// Of these, in the cache.
    cached: u64,
    output: u64,
    /// Of these, reasoning.
    reasoning: u64,
}

impl Asked {
    fn usage(self) -> Value {
        self.usage_after(self.output)
    }

    /// With an event, where that was asked for.
    fn usage_of_event(self, output: u64) -> Option<Value> {
        self.usage_of_each.then(|| self.usage_after(output))
    }

    fn usage_after(self, output: u64) -> Value {
        json!({
            "completion_tokens": output, "prompt_tokens": self.prompt,
            "total_tokens": self.prompt + output, "prompt_tokens_details": {"cached_tokens": self.cached},
            "completion_tokens_details": {"reasoning_tokens": self.reasoning},
        })
    }
}

fn milliseconds(number: f64) -> Duration {
    Duration::try_from_secs_f64(number / 1000.0).unwrap_or_default()
}

/// An answer of reranking: the documents in their order, and the tokens of all pairs.
fn reranked(body: &Value) -> Value {
    let none = Vec::new();
    let documents = body["documents"].as_array().unwrap_or(&none);
    let results: Vec<Value> = (0..documents.len())
        .map(|index| json!({"index": index, "relevance_score": 0.5}))
        .collect();
    let query = words(body.get("query"));
    let pairs = documents.iter().map(|text| query + words(Some(text)));
    let tokens: u64 = pairs.sum();
    json!({"results": results, "usage": {"total_tokens": tokens}})
}

fn words(value: Option<&Value>) -> u64 {
    match value {
        Some(Value::String(text)) => text.split_whitespace().count() as u64,
        Some(Value::Array(parts)) => parts.iter().map(|part| words(Some(part))).sum(),
        Some(Value::Object(part)) => words(part.get("content").or(part.get("text"))),
        _ => 0,
    }
}

impl Engine {
    fn is_ready(&self) -> bool {
        !self.flags.never_ready
            && self.started.elapsed() >= Duration::from_millis(self.flags.ready_delay_ms)
    }

    /// Waits until a time, longer where the engine stands still then; returns by how much.
    async fn wait_until(&self, at: Instant) -> Duration {
        sleep_until(at).await;
        let Some(from) = self.flags.stall_at_ms else {
            return Duration::ZERO;
        };
        let from = self.started + Duration::from_millis(from);
        let to = from + Duration::from_millis(self.flags.stall_for_ms);
        let now = Instant::now();
        if now < from || now >= to {
            return Duration::ZERO;
        }
        sleep_until(to).await;
        to - now
    }

    async fn slot(self: &Arc<Self>) -> Slot {
        let permit = match &self.slots {
            Some(slots) => Some(
                Arc::clone(slots)
                    .acquire_owned()
                    .await
                    .expect("never closed"),
            ),
            None => None,
        };
        self.processing.fetch_add(1, Ordering::SeqCst);
        Slot(Arc::clone(self), permit)
    }

    /// Tokens of the longest beginning of a chat that was there before.
    fn cached(&self, messages: &[Value]) -> u64 {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let known = (1..=messages.len())
            .rev()
            .find(|count| said.contains(&json!(messages[..*count]).to_string()));
        known.map_or(0, |count| {
            messages[..count].iter().map(|part| words(Some(part))).sum()
        })
    }

    /// Keeps a chat with its answer.
    fn keep(&self, mut messages: Vec<Value>, answer: &str) {
        messages.push(json!({"role": "assistant", "content": answer}));
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.insert(json!(messages).to_string());
    }

    fn count(&self, asked: Asked) {
        let read = asked.prompt - asked.cached;
        self.prompt_tokens.fetch_add(read, Ordering::SeqCst);
        self.cached_tokens.fetch_add(asked.cached, Ordering::SeqCst);
        self.output_tokens.fetch_add(asked.output, Ordering::SeqCst);
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Answer {
        let path = request.uri().path().to_owned();
        let is_open = ["/health", "/stats", "/asked"].contains(&path.as_str());
        if !is_open && !self.keys.is_empty() && !self.lets_in(&request) {
            return failure(
                StatusCode::UNAUTHORIZED,
                "Invalid API Key",
                "authentication_error",
            );
        }
        if !["/stats", "/asked"].contains(&path.as_str()) && !self.is_ready() {
            return failure(
                StatusCode::SERVICE_UNAVAILABLE,
                "Loading model",
                "unavailable_error",
            );
        }
        match (request.method().clone(), path.as_str()) {
            (Method::GET, "/health") => as_json(StatusCode::OK, &json!({"status": "ok"})),
            (Method::GET, "/stats") => as_json(StatusCode::OK, &self.stats()),
            (Method::GET, "/asked") => {
                let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
                as_json(StatusCode::OK, &json!(*asked))
            }
            (Method::GET, "/metrics") => {
                whole(StatusCode::OK, "text/plain; version=0.0.4", self.metrics())
            }
            (Method::GET, "/v1/models") => {
                let model =
                    json!({"id": self.flags.model, "object": "model", "owned_by": "scripted"});
                as_json(StatusCode::OK, &json!({"object": "list", "data": [model]}))
            }
            (
                Method::POST,
                "/tokenize"
                | "/v1/completions"
                | "/v1/chat/completions"
                | "/v1/embeddings"
                | "/v1/rerank",
            ) => {
                let headers: serde_json::Map<String, Value> = request
                    .headers()
                    .iter()
                    .map(|(name, value)| {
                        let value = String::from_utf8_lossy(value.as_bytes());
                        (name.to_string(), json!(value))
                    })
                    .collect();
                let body = match request.into_body().collect().await {
                    Ok(body) => body.to_bytes(),
                    Err(error) => {
                        return failure(
                            StatusCode::BAD_REQUEST,
                            &error.to_string(),
                            "invalid_request_error",
                        );
                    }
                };
                let Ok(body) = serde_json::from_slice::<Value>(&body) else {
                    return failure(StatusCode::BAD_REQUEST, "no JSON", "invalid_request_error");
                };
                {
                    let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
                    if asked.len() < KEPT {
                        asked.push(json!({"path": path, "headers": headers, "body": body}));
                    }
                }
                if path == "/tokenize" {
                    let tokens: Vec<u64> = (0..words(body.get("content"))).collect();
                    return as_json(StatusCode::OK, &json!({"tokens": tokens}));
                }
                if path == "/v1/embeddings" {
                    self.requests.fetch_add(1, Ordering::SeqCst);
                    self.wait_until(Instant::now() + milliseconds(self.flags.ttft_ms))
                        .await;
                    let tokens = words(body.get("input"));
                    return as_json(
                        StatusCode::OK,
                        &json!({
                            "object": "list", "data": [{"index": 0, "embedding": [0.5, -0.5]}],
                            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
                        }),
                    );
                }
                if path == "/v1/rerank" {
                    self.requests.fetch_add(1, Ordering::SeqCst);
                    self.wait_until(Instant::now() + milliseconds(self.flags.ttft_ms))
                        .await;
                    return as_json(StatusCode::OK, &reranked(&body));
                }
                self.generate(path == "/v1/chat/completions", &body).await
            }
            _ => failure(StatusCode::NOT_FOUND, "File Not Found", "not_found_error"),
        }
    }

    fn lets_in(&self, request: &Request<Incoming>) -> bool {
        request
            .headers()
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "))
            .is_some_and(|key| self.keys.iter().any(|known| known == key))
    }

    async fn generate(self: Arc<Self>, chat: bool, body: &Value) -> Answer {
        let number = self.requests.fetch_add(1, Ordering::SeqCst);
        let percent = self.flags.fail_percent;
        // spread evenly: the part is exact over any hundred
        if (number + 1) * percent / 100 > number * percent / 100 {
            return failure(
                StatusCode::SERVICE_UNAVAILABLE,
                "told to fail",
                "unavailable_error",
            );
        }
        let messages = body.get("messages").and_then(Value::as_array);
        let messages = messages.filter(|_| self.flags.prefix_cache);
        let output = body.get("max_tokens").and_then(Value::as_u64).unwrap_or(16);
        let asked = Asked {
            chat,
            usage: body.pointer("/stream_options/include_usage") == Some(&Value::Bool(true)),
            usage_of_each: body.pointer("/stream_options/continuous_usage_stats")
                == Some(&Value::Bool(true)),
            prompt: words(body.get(if chat { "messages" } else { "prompt" }))
                + if chat { 8 } else { 0 },
            cached: messages.map_or(0, |messages| self.cached(messages)),
            output,
            reasoning: if chat {
                self.flags.reasoning.min(output)
            } else {
                0
            },
        };
        if let Some(messages) = messages {
            let said = " word".repeat(usize::try_from(output - asked.reasoning).unwrap_or(0));
            self.keep(messages.clone(), &said);
        }
        let in_flight = InFlight::new(&self);
        if body.get("stream") != Some(&Value::Bool(true)) {
            let _slot = self.slot().await;
            let steps = asked
                .output
                .div_ceil(self.flags.tokens_per_chunk.max(1))
                .saturating_sub(1);
            let latency = self
                .flags
                .latency_ms
                .unwrap_or(self.flags.ttft_ms + self.flags.gap_ms * steps as f64);
            self.wait_until(Instant::now() + milliseconds(latency))
                .await;
            self.count(asked);
            let text = vec!["word"; usize::try_from(asked.output).unwrap_or(0)].join(" ");
            let mut choice = json!({"index": 0, "finish_reason": "length"});
            if chat {
                choice["message"] = json!({"role": "assistant", "content": text});
            } else {
                choice["text"] = json!(text);
            }
            let answer =
                json!({"choices": [choice], "model": self.flags.model, "usage": asked.usage()});
            return as_json(StatusCode::OK, &answer);
        }
        let (sender, receiver) = mpsc::channel(64);
        let tasks = self.tasks.clone();
        tasks.spawn(async move {
            let _in_flight = in_flight;
            tokio::select! {
                () = sender.closed() => {}
                () = self.stream(asked, &sender) => {}
            }
        });
        Response::builder()
            .header(header::CONTENT_TYPE, "text/event-stream")
            .body(Channel(receiver))
            .expect("a valid answer")
    }

    async fn stream(self: &Arc<Self>, asked: Asked, sender: &Sender) {
        let number = self.streams.fetch_add(1, Ordering::SeqCst) + 1;
        let send = async |text: String| {
            let _ = sender.send(Ok(Frame::data(Bytes::from(text)))).await;
        };
        // comments keep the connection alive while nothing else comes
        let patiently = async |work: Pin<Box<dyn Future<Output = Duration> + Send + '_>>| {
            let mut work = work;
            loop {
                tokio::select! {
                    late = &mut work => return late,
                    () = sleep(Duration::from_secs(1)) => send(": \n\n".to_owned()).await,
                }
            }
        };
        let mut slot = None;
        patiently(Box::pin(async {
            slot = Some(self.slot().await);
            Duration::ZERO
        }))
        .await;
        let first = milliseconds(self.flags.latency_ms.unwrap_or(self.flags.ttft_ms));
        let read = self.flags.prefill_ms * (asked.prompt - asked.cached) as f64;
        let mut at = Instant::now() + first + milliseconds(read);
        let per_chunk = self.flags.tokens_per_chunk.max(1);
        let dropped = self
            .flags
            .drop_after
            .filter(|_| number.is_multiple_of(self.flags.drop_every.max(1)));
        let mut said = 0;
        for chunk in 0.. {
            if said == asked.output {
                break;
            }
            at += patiently(Box::pin(self.wait_until(at))).await;
            if dropped == Some(chunk) {
                let _ = sender
                    .send(Err(std::io::Error::other("told to break")))
                    .await;
                return;
            }
            let tokens = if self.flags.uneven && chunk % 2 == 1 {
                1
            } else {
                per_chunk.min(asked.output - said)
            };
            let is_reasoning = said < asked.reasoning;
            said += tokens;
            let text = " word".repeat(usize::try_from(tokens).unwrap_or(0));
            let mut events = String::new();
            if chunk == 0 && asked.chat {
                events = self.event(
                    asked,
                    &json!({"role": "assistant", "content": null}),
                    None,
                    asked.usage_of_event(0),
                );
            }
            let content = if is_reasoning {
                json!({"reasoning_content": text})
            } else if asked.chat {
                json!({"content": text})
            } else {
                json!(text)
            };
            events.push_str(&self.event(asked, &content, None, asked.usage_of_event(said)));
            send(events).await;
            let gap = milliseconds(self.flags.gap_ms) / (self.flags.silent + 1);
            for _ in 0..self.flags.silent {
                at += gap;
                at += self.wait_until(at).await;
                let nothing = if asked.chat {
                    json!({"content": ""})
                } else {
                    json!("")
                };
                send(self.event(asked, &nothing, None, asked.usage_of_event(said))).await;
            }
            at += gap;
        }
        // counted at the end of a request, as llama-server does
        self.count(asked);
        drop(slot);
        let finish = Some("length");
        if asked.chat {
            let mut events = self.event(asked, &json!({}), finish, asked.usage_of_event(said));
            if asked.usage {
                let usage =
                    json!({"choices": [], "model": self.flags.model, "usage": asked.usage()});
                events = format!("{events}data: {usage}\n\n");
            }
            send(events).await;
        } else {
            send(self.event(asked, &json!(""), finish, Some(asked.usage()))).await;
        }
        send("data: [DONE]\n\n".to_owned()).await;
    }

    fn event(
        &self,
        asked: Asked,
        content: &Value,
        finish: Option<&str>,
        usage: Option<Value>,
    ) -> String {
        let key = if asked.chat { "delta" } else { "text" };
        let mut event = json!({
            "choices": [{"finish_reason": finish, "index": 0, key: content}],
            "model": self.flags.model,
        });
        if let Some(usage) = usage {
            event["usage"] = usage;
        }
        format!("data: {event}\n\n")
    }

    fn stats(&self) -> Value {
        let told = |number: &AtomicU64| number.load(Ordering::SeqCst);
        json!({
            "in_flight": told(&self.in_flight), "max_in_flight": told(&self.max_in_flight),
            "requests": told(&self.requests), "connections": told(&self.connections),
            "cached_tokens": told(&self.cached_tokens),
        })
    }

    fn metrics(&self) -> String {
        let told = |number: &AtomicU64| number.load(Ordering::SeqCst);
        let processing = told(&self.processing);
        let deferred = told(&self.in_flight).saturating_sub(processing);
        [
            ("prompt_tokens_total", "counter", "Number of prompt tokens processed.", told(&self.prompt_tokens)),
            ("prompt_tokens_cached_total", "counter", "Number of prompt tokens from the cache.", told(&self.cached_tokens)),
            ("tokens_predicted_total", "counter", "Number of generation tokens processed.", told(&self.output_tokens)),
            ("requests_processing", "gauge", "Number of requests processing.", processing),
            ("requests_deferred", "gauge", "Number of requests deferred.", deferred),
        ]
        .map(|(name, kind, help, value)| {
            format!("# HELP llamacpp:{name} {help}\n# TYPE llamacpp:{name} {kind}\nllamacpp:{name} {value}\n")
        })
        .concat()
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let mut flags = Flags::parse_from(known_only(std::env::args_os()));
    #[expect(
        clippy::disallowed_methods,
        reason = "llama-server takes it so, and no part of aif runs here"
    )]
    let file = std::env::var_os("LLAMA_ARG_API_KEY_FILE").map(PathBuf::from);
    flags.api_key_file = flags.api_key_file.or(file);
    let keys = match &flags.api_key_file {
        Some(file) => std::fs::read_to_string(file)?
            .split_whitespace()
            .map(str::to_owned)
            .collect(),
        None => Vec::new(),
    };
    let mut terminate = signal(SignalKind::terminate())?;
    let listener = TcpListener::bind((flags.host.as_str(), flags.port)).await?;
    writeln!(
        std::io::stdout(),
        "listening on {}",
        listener.local_addr()?.port()
    )?;
    std::io::stdout().flush()?;

    let exit = flags.exit_after_ms.map(Duration::from_millis);
    let exit_code = flags.exit_code;
    let tasks = TaskTracker::new();
    let ending = tokio_util::sync::CancellationToken::new();
    let engine = Arc::new(Engine {
        slots: flags.slots.map(|slots| Arc::new(Semaphore::new(slots))),
        flags,
        keys,
        started: Instant::now(),
        tasks: tasks.clone(),
        requests: AtomicU64::new(0),
        asked: Mutex::new(Vec::new()),
        said: Mutex::new(HashSet::new()),
        streams: AtomicU64::new(0),
        connections: AtomicU64::new(0),
        in_flight: AtomicU64::new(0),
        max_in_flight: AtomicU64::new(0),
        processing: AtomicU64::new(0),
        prompt_tokens: AtomicU64::new(0),
        cached_tokens: AtomicU64::new(0),
        output_tokens: AtomicU64::new(0),
    });
    let exits = async {
        match exit {
            Some(after) => sleep(after).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(exits);
    loop {
        let stream = tokio::select! {
            _ = terminate.recv() => break,
            () = &mut exits => {
                let mut stderr = std::io::stderr();
                writeln!(stderr, "error: bad magic in the model file")?;
                writeln!(stderr, "fatal: the model cannot be loaded")?;
                return Ok(ExitCode::from(exit_code));
            }
            accepted = listener.accept() => accepted?.0,
        };
        let _ = stream.set_nodelay(true);
        engine.connections.fetch_add(1, Ordering::SeqCst);
        let engine = Arc::clone(&engine);
        let ending = ending.clone();
        tasks.spawn(async move {
            let service = service_fn(|request| {
                let engine = Arc::clone(&engine);
                async move { Ok::<_, Infallible>(engine.answer(request).await) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service);
            tokio::pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = ending.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            // a peer that goes away, or a stream that is told to break
            drop(ended);
        });
    }
    drop(listener);
    ending.cancel();
    tasks.close();
    tasks.wait().await;
    Ok(ExitCode::SUCCESS)
}
