//! An engine that speaks as `DOUBLE` says: paths, key rules, metrics and streams of one that cannot be run here.
//!
//! Under the name of an engine's program (`ollama`, `trtllm-serve` …) it takes the command line that this program documents
//! instead, and no other (`engine_double/command_line.rs`).
//!
//! What it does is what the profile of that engine says, with the source there (`src/engine/*.rs`; `src/api/ollama.rs` for
//! Ollama's own API). It counts words for tokens, or `PER_WORD` times as many in prompts, and answers a token each 5 ms.
//! `BREAKS=1` ends every third stream with an error, in the form of its API; with `NO_USAGE=1` answers tell no counts.
#![expect(clippy::print_stdout, reason = "an engine talks to its log")]

#[path = "engine_double/command_line.rs"]
mod command_line;
#[path = "engine_double/vectors.rs"]
mod vectors;

use std::{
    io::{BufRead as _, BufReader, Read as _, Write},
    net::{TcpListener, TcpStream},
    sync::Mutex,
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    thread::sleep,
    time::Duration,
};

use aif::{clock, env::Env};
use serde_json::{Value, json};

/// Tokens that chats have beside their text.
const TEMPLATE: usize = 5;
const TOKEN: Duration = Duration::from_millis(5);
/// Until it is loaded.
const LOADS: Duration = Duration::from_millis(300);

static LOADED: AtomicU64 = AtomicU64::new(0);
static REQUESTS: AtomicU64 = AtomicU64::new(0);
static RUNNING: AtomicU64 = AtomicU64::new(0);
static PROMPT: AtomicU64 = AtomicU64::new(0);
static OUTPUT: AtomicU64 = AtomicU64::new(0);
/// Times to first tokens, and between tokens: µs and how many.
static FIRST: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
static FURTHER: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

use command_line::Told;
use vectors::Vectors;

struct Double {
    told: Told,
    key: Option<String>,
    breaks: bool,
    /// Do its answers tell their tokens?
    tells_usage: bool,
    /// Tokens of a word of a prompt.
    per_word: u64,
    /// Models that are in memory.
    loaded: Mutex<Vec<String>>,
    vectors: Vectors,
}

fn main() {
    let env = Env::of_process();
    let told = Told::of_process(&env);
    let key = match told.kind.as_str() {
        "vllm" => env.get("VLLM_API_KEY").map(str::to_owned),
        "tgi" => env.get("API_KEY").map(str::to_owned),
        "qdrant" => env.get("QDRANT__SERVICE__API_KEY").map(str::to_owned),
        "llamacpp" => env
            .path("LLAMA_ARG_API_KEY_FILE")
            .map(|file| std::fs::read_to_string(file).expect("the key file")),
        _ => None,
    };
    let double = Double {
        key: key.map(|key| key.trim().to_owned()),
        breaks: env.get("BREAKS").is_some(),
        tells_usage: env.get("NO_USAGE").is_none(),
        per_word: env.number("PER_WORD").unwrap_or(1),
        told,
        loaded: Mutex::default(),
        vectors: Vectors::default(),
    };
    let address = (double.told.host.as_str(), double.told.port);
    // who cannot have all its ports ends
    let beside = double.told.second.map(|port| {
        TcpListener::bind((double.told.host.as_str(), port)).expect("address already in use")
    });
    // these two listen while they load; the others do not
    if !["llamacpp", "tgi"].contains(&&*double.told.kind) {
        sleep(LOADS);
        LOADED.store(1, SeqCst);
    }
    let listener = TcpListener::bind(address).expect("a port");
    println!("listening");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            sleep(LOADS);
            LOADED.store(1, SeqCst);
        });
        if let Some(beside) = &beside {
            let double = &double;
            scope.spawn(move || {
                for stream in beside.incoming().map_while(Result::ok) {
                    double.serve(&stream);
                }
            });
        }
        for stream in listener.incoming() {
            let double = &double;
            scope.spawn(move || double.serve(&stream.expect("a client")));
        }
    });
}

fn words(value: &Value) -> u64 {
    match value {
        Value::String(text) => text.split_whitespace().count() as u64,
        Value::Array(parts) => parts.iter().map(words).sum(),
        Value::Object(part) => words(&part["content"]),
        _ => 0,
    }
}

impl Double {
    fn serve(&self, stream: &TcpStream) {
        let _ = stream.set_nodelay(true);
        let mut reader = BufReader::new(stream);
        loop {
            let mut head = Vec::new();
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) == 0 {
                    return;
                }
                if line.trim().is_empty() {
                    break;
                }
                head.push(line.trim().to_owned());
            }
            let value = |name: &str| {
                let found = head.iter().find_map(|line| {
                    line.split_once(": ")
                        .filter(|(n, _)| n.eq_ignore_ascii_case(name))
                });
                found.map(|(_, value)| value.to_owned())
            };
            let length = value("content-length").and_then(|text| text.parse().ok());
            let mut body = vec![0; length.unwrap_or(0)];
            if reader.read_exact(&mut body).is_err() {
                return;
            }
            let mut first = head[0].split(' ');
            let (method, path) = (
                first.next().unwrap_or_default(),
                first.next().unwrap_or_default(),
            );
            // Qdrant takes its key by a header of its own, too
            let own = value("api-key").filter(|_| self.told.kind == "qdrant");
            let bearer = value("authorization").or(own.map(|key| format!("Bearer {key}")));
            let body = serde_json::from_slice(&body).unwrap_or_default();
            let mut out = stream;
            if self
                .answer(&mut out, (method, path), bearer.as_deref(), &body)
                .is_err()
            {
                return;
            }
            let _ = out.flush();
            if value("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
                return;
            }
        }
    }

    /// Does this path want the key?
    fn guards(&self, path: &str) -> bool {
        match self.told.kind.as_str() {
            "vllm" => path.starts_with("/v1/"),
            // the routes that generate; what tells of the server is open, the list of models too
            "tgi" => ["/generate", "/v1/chat/completions", "/v1/completions"].contains(&path),
            "llamacpp" => path != "/health",
            "qdrant" => !["/", "/readyz", "/livez", "/healthz"].contains(&path),
            _ => false,
        }
    }

    fn answer(
        &self,
        out: &mut impl Write,
        (method, path): (&str, &str),
        bearer: Option<&str>,
        body: &Value,
    ) -> std::io::Result<()> {
        let admitted =
            (self.key.as_ref()).is_none_or(|key| bearer == Some(&format!("Bearer {key}")));
        if self.guards(path) && !admitted {
            return whole(
                out,
                "401 Unauthorized",
                &json!({"error": "Unauthorized"}).to_string(),
            );
        }
        if LOADED.load(SeqCst) == 0 {
            return whole(out, "503 Service Unavailable", r#"{"error":"loading"}"#);
        }
        if let Some(answer) = self.vectors.answer(&self.told.kind, method, path, body) {
            REQUESTS.fetch_add(1, SeqCst);
            return whole(out, answer.0, &answer.1.to_string());
        }
        let names = self.told.models();
        let listed: Vec<Value> = names
            .iter()
            .map(|name| json!({"id": name, "object": "model"}))
            .collect();
        let models = json!({"object": "list", "data": listed}).to_string();
        let loaded = || self.loaded.lock().expect("no thread panics").clone();
        match (self.told.kind.as_str(), method, path) {
            ("vllm" | "llamacpp" | "tgi" | "sglang" | "trtllm", "GET", "/health") => {
                whole(out, "200 OK", "")
            }
            ("vllm" | "trtllm", "GET", "/version") => {
                whole(out, "200 OK", r#"{"version":"1.2.3"}"#)
            }
            ("tgi", "GET", "/info") => whole(
                out,
                "200 OK",
                r#"{"model_id":"double:1b","version":"1.2.3"}"#,
            ),
            ("llamacpp", "GET", "/props") => whole(out, "200 OK", r#"{"build_info":"1.2.3"}"#),
            ("ollama", "GET", "/api/version") => whole(out, "200 OK", r#"{"version":"1.2.3"}"#),
            // what a test asks: how it was started, what it has loaded and generated
            (_, "GET", "/double") => whole(
                out,
                "200 OK",
                &json!({"argv": self.told.argv, "port": self.told.port, "second": self.told.second, "requests": REQUESTS.load(SeqCst), "loaded": loaded()}).to_string(),
            ),
            ("ollama", "POST", "/api/generate" | "/api/embed") if body["prompt"].is_null() => {
                let (status, answer) = self.load(path, body);
                whole(out, status, &answer.to_string())
            }
            ("ollama", "GET", path) if path.starts_with("/v1/models/") => {
                let is_there = names.iter().any(|name| path.ends_with(&format!("/{name}")));
                let status = if is_there { "200 OK" } else { "404 Not Found" };
                whole(out, status, "{}")
            }
            ("ollama", "GET", "/") => whole(out, "200 OK", "Ollama is running"),
            ("chroma", "GET", "/api/v2/heartbeat") => whole(
                out,
                "200 OK",
                r#"{"nanosecond heartbeat":1761500000000000000}"#,
            ),
            ("qdrant", "GET", "/") => whole(
                out,
                "200 OK",
                r#"{"title":"qdrant - vector search engine","version":"1.2.3"}"#,
            ),
            ("qdrant", "GET", "/readyz" | "/livez" | "/healthz") => {
                whole(out, "200 OK", "all shards are ready")
            }
            ("qdrant", "GET", "/collections") => whole(
                out,
                "200 OK",
                r#"{"result":{"collections":[]},"status":"ok","time":0.001}"#,
            ),
            ("qdrant", "GET", "/metrics") => whole(
                out,
                "200 OK",
                "collections_total 0\nrest_responses_total{method=\"GET\",endpoint=\"/collections\",status=\"200\"} 1\n",
            ),
            // Triton's readiness has no body
            ("triton", "GET", "/v2/health/ready") => whole(out, "200 OK", ""),
            ("worker", "GET", "/health") => whole(out, "200 OK", r#"{"status":"ready"}"#),
            ("triton", "GET", "/metrics") if self.told.second.is_some() => {
                whole(out, "200 OK", "nv_inference_count 0\n")
            }
            ("trtllm", "GET", "/prometheus/metrics") if self.told.metrics => whole(out, "200 OK", &self.metrics()),
            ("vllm" | "llamacpp" | "tgi" | "sglang", "GET", "/metrics") if self.told.metrics => {
                whole(out, "200 OK", &self.metrics())
            }
            (kind, "GET", "/v1/models") if !["triton", "worker", "chroma", "qdrant"].contains(&kind) => {
                whole(out, "200 OK", &models)
            }
            ("ollama", "POST", "/api/generate" | "/api/chat") => self.generate(out, path, body),
            ("triton", "POST", path) if path.ends_with("/infer") => {
                sleep(TOKEN);
                REQUESTS.fetch_add(1, SeqCst);
                whole(
                    out,
                    "200 OK",
                    r#"{"model_name":"double","outputs":[{"name":"OUT","shape":[1],"datatype":"FP32","data":[0.5]}]}"#,
                )
            }
            (kind, "POST", "/v1/completions" | "/v1/chat/completions") if kind != "triton" => {
                self.generate(out, path, body)
            }
            ("vllm", "POST", "/tokenize") => {
                let count = self.tokens(body);
                let told = json!({"count": count, "max_model_len": 2048, "tokens": vec![7; usize::try_from(count).unwrap_or(0)]});
                whole(out, "200 OK", &told.to_string())
            }
            ("llamacpp", "POST", "/apply-template") => {
                // words of a template make as many tokens as its words
                let text = body["messages"][0]["content"].as_str().unwrap_or_default();
                whole(
                    out,
                    "200 OK",
                    &json!({"prompt": format!("{text}{}", " <t>".repeat(TEMPLATE))}).to_string(),
                )
            }
            ("llamacpp", "POST", "/tokenize") => {
                let content = body["content"].as_str().unwrap_or_default();
                let template = content.matches("<t>").count() as u64;
                let count = (words(&body["content"]) - template) * self.per_word + template;
                let tokens = vec![7; usize::try_from(count).unwrap_or(0)];
                whole(out, "200 OK", &json!({"tokens": tokens}).to_string())
            }
            // a route that is there and takes another method
            ("tgi", _, "/generate") => whole(out, "405 Method Not Allowed", ""),
            _ => whole(out, "404 Not Found", r#"{"error":"not found"}"#),
        }
    }

    /// Tokens of a prompt, or of messages with their template.
    fn tokens(&self, body: &Value) -> u64 {
        if body["messages"].is_null() {
            words(&body["prompt"]) * self.per_word
        } else {
            words(&body["messages"]) * self.per_word + TEMPLATE as u64
        }
    }

    /// Loads a model, as Ollama does where it is named without a prompt.
    fn load(&self, path: &str, body: &Value) -> (&'static str, Value) {
        let model = body["model"].as_str().unwrap_or_default();
        if !self.told.models().iter().any(|name| name == model) {
            let error = format!("model '{model}' not found");
            return ("404 Not Found", json!({"error": error}));
        }
        if path == "/api/generate" && model.contains("embed") {
            let error = format!("{model:?} does not support generate");
            return ("400 Bad Request", json!({"error": error}));
        }
        sleep(LOADS);
        let mut loaded = self.loaded.lock().expect("no thread panics");
        loaded.push(format!("{model} for {}", body["keep_alive"]));
        let answer = json!({"model": model, "created_at": "2025-10-26T17:15:24.097767Z", "response": "", "done": true, "done_reason": "load"});
        ("200 OK", answer)
    }

    /// Its counters, by the names that its documentation gives them.
    fn metrics(&self) -> String {
        let told = |number: &AtomicU64| number.load(SeqCst);
        let (prompt, output, running) = (told(&PROMPT), told(&OUTPUT), told(&RUNNING));
        let names: [&str; 4] = match self.told.kind.as_str() {
            "vllm" => [
                "vllm:num_requests_running",
                "vllm:num_requests_waiting",
                "vllm:prompt_tokens_total",
                "vllm:generation_tokens_total",
            ],
            "llamacpp" => [
                "llamacpp:requests_processing",
                "llamacpp:requests_deferred",
                "llamacpp:prompt_tokens_total",
                "llamacpp:tokens_predicted_total",
            ],
            "tgi" => [
                "tgi_batch_current_size",
                "tgi_queue_size",
                "tgi_request_input_length_sum",
                "tgi_request_generated_tokens_sum",
            ],
            "sglang" => [
                "sglang:num_running_reqs",
                "sglang:num_queue_reqs",
                "sglang:prompt_tokens_total",
                "sglang:generation_tokens_total",
            ],
            _ => [
                "trtllm_num_requests_running",
                "trtllm_num_requests_waiting",
                "trtllm_prompt_tokens_total",
                "trtllm_generation_tokens_total",
            ],
        };
        // neither has labels
        let labels = if ["llamacpp", "tgi"].contains(&&*self.told.kind) {
            ""
        } else {
            r#"{model_name="double:1b"}"#
        };
        let mut lines = names
            .iter()
            .zip([running, 0, prompt, output])
            .map(|(name, value)| format!("{name}{labels} {value}\n"))
            .collect::<Vec<_>>();
        if self.told.kind == "vllm" {
            // the newer name: the older is ours to add
            for (name, [time, count]) in [
                ("time_to_first_token", &FIRST),
                ("inter_token_latency", &FURTHER),
            ] {
                let seconds = told(time) as f64 / 1e6;
                lines.push(format!("vllm:{name}_seconds_sum{labels} {seconds}\n"));
                lines.push(format!(
                    "vllm:{name}_seconds_count{labels} {}\n",
                    told(count)
                ));
            }
            lines.push("vllm:kv_cache_usage_perc{model_name=\"double:1b\"} 0.25\n".to_owned());
        }
        lines.concat()
    }

    fn generate(&self, out: &mut impl Write, path: &str, body: &Value) -> std::io::Result<()> {
        let native = path.starts_with("/api/");
        let chat = path.ends_with("/chat") || path.ends_with("/chat/completions");
        let number = REQUESTS.fetch_add(1, SeqCst) + 1;
        let prompt = self.tokens(body);
        let wanted = if native {
            &body["options"]["num_predict"]
        } else {
            &body["max_tokens"]
        };
        let wanted = wanted.as_u64().unwrap_or(16);
        RUNNING.fetch_add(1, SeqCst);
        if body["stream"] == false && chat && !native {
            sleep(TOKEN * u32::try_from(wanted).unwrap_or(u32::MAX));
            RUNNING.fetch_sub(1, SeqCst);
            let message = json!({"role": "assistant", "content": " word".repeat(usize::try_from(wanted).unwrap_or(0))});
            let answer = json!({
                "choices": [{"index": 0, "message": message, "finish_reason": "length"}],
                "usage": {"prompt_tokens": prompt, "completion_tokens": wanted, "total_tokens": prompt + wanted},
            });
            return whole(out, "200 OK", &answer.to_string());
        }
        let kind = if native {
            "application/x-ndjson"
        } else {
            "text/event-stream"
        };
        write!(
            out,
            "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n"
        )?;
        let breaks = self.breaks && number.is_multiple_of(3);
        for at in 0..wanted {
            let began = clock::monotonic_nanoseconds();
            sleep(TOKEN);
            let [time, count] = if at == 0 { &FIRST } else { &FURTHER };
            time.fetch_add((clock::monotonic_nanoseconds() - began) / 1000, SeqCst);
            count.fetch_add(1, SeqCst);
            if breaks && at == 2 {
                RUNNING.fetch_sub(1, SeqCst);
                let error = json!({"error": "an error was encountered while running the model"});
                send(out, native, &error.to_string())?;
                return out.write_all(b"0\r\n\r\n");
            }
            send(out, native, &part(native, chat, &body["model"]).to_string())?;
        }
        PROMPT.fetch_add(prompt, SeqCst);
        OUTPUT.fetch_add(wanted, SeqCst);
        if native {
            let last = json!({
                "model": body["model"], "created_at": "2025-10-26T17:15:24.166576Z", "done": true, "done_reason": "length",
                "total_duration": 5_000_000 * (wanted + 1), "load_duration": 1_000_000, "prompt_eval_count": prompt,
                "prompt_eval_duration": 4_000_000, "eval_count": wanted, "eval_duration": 5_000_000 * wanted,
            });
            send(out, native, &last.to_string())?;
        } else {
            let key = if chat { "delta" } else { "text" };
            let silent = if chat { json!({}) } else { json!("") };
            send(
                out,
                native,
                &json!({"choices": [{"index": 0, key: silent, "finish_reason": "length"}]})
                    .to_string(),
            )?;
            if !self.tells_usage {
                send(out, native, "[DONE]")?;
                return out.write_all(b"0\r\n\r\n");
            }
            let usage = json!({"prompt_tokens": prompt, "completion_tokens": wanted, "total_tokens": prompt + wanted});
            send(
                out,
                native,
                &json!({"choices": [], "usage": usage}).to_string(),
            )?;
            send(out, native, "[DONE]")?;
        }
        let ended = out.write_all(b"0\r\n\r\n");
        // not before its last byte: who is told to end then must not break it off
        RUNNING.fetch_sub(1, SeqCst);
        ended
    }
}

/// A token.
fn part(native: bool, chat: bool, model: &Value) -> Value {
    let message = json!({"role": "assistant", "content": " word"});
    match (native, chat) {
        (true, true) => {
            json!({"model": model, "created_at": "2025-10-26T17:15:24.097767Z", "message": message, "done": false})
        }
        (true, false) => {
            json!({"model": model, "created_at": "2025-10-26T17:15:24.097767Z", "response": " word", "done": false})
        }
        (false, true) => {
            json!({"choices": [{"index": 0, "delta": {"content": " word"}, "finish_reason": null}]})
        }
        (false, false) => {
            json!({"choices": [{"index": 0, "text": " word", "finish_reason": null}]})
        }
    }
}

/// A line or an event, cut in two, as networks do.
fn send(out: &mut impl Write, native: bool, data: &str) -> std::io::Result<()> {
    let text = if native {
        format!("{data}\n")
    } else {
        format!("data: {data}\n\n")
    };
    for piece in text.as_bytes().chunks(text.len() / 2 + 1) {
        write!(out, "{:x}\r\n", piece.len())?;
        out.write_all(piece)?;
        out.write_all(b"\r\n")?;
    }
    Ok(())
}

fn whole(out: &mut impl Write, status: &str, body: &str) -> std::io::Result<()> {
    write!(
        out,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}
