//! One request on a pipe, against answers of real engines and of broken ones, cut wherever bytes can be cut.

#[path = "captures_tests.rs"]
mod captures;
#[path = "reasoning_tests.rs"]
mod reasoning;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    time::sleep,
};
use tokio_util::task::TaskTracker;

use super::*;
use crate::load::pace::Ticks;

/// What a server does with a request on a connection of its own, or on the one before.
#[derive(Clone)]
enum Reply {
    /// These bytes, in these pieces, with time between them.
    Bytes(Vec<Vec<u8>>),
    /// The same, and the connection is closed.
    BytesAndClose(Vec<Vec<u8>>),
    /// An answer before the request has been read.
    Early(Vec<u8>),
    /// A head, then this piece every millisecond.
    Endless(Vec<u8>, Vec<u8>),
}

/// A server on pipes.
#[derive(Clone)]
struct Server {
    replies: Arc<Mutex<VecDeque<Reply>>>,
    /// What was asked, as it came.
    asked: Arc<Mutex<Vec<String>>>,
    connections: Arc<Mutex<usize>>,
    tasks: TaskTracker,
}

impl Connect for Server {
    type Stream = DuplexStream;
    type Pace = Ticks;

    fn pace(&self) -> io::Result<Ticks> {
        Ok(Ticks)
    }

    async fn connect(&self, _authority: &str) -> io::Result<DuplexStream> {
        let (near, far) = tokio::io::duplex(64 * 1024);
        *self.connections.lock().unwrap() += 1;
        let server = self.clone();
        self.tasks.spawn(async move { server.serve(far).await });
        Ok(near)
    }
}

impl Server {
    fn new(replies: impl IntoIterator<Item = Reply>) -> Self {
        Self {
            replies: Arc::new(Mutex::new(replies.into_iter().collect())),
            asked: Arc::default(),
            connections: Arc::default(),
            tasks: TaskTracker::new(),
        }
    }

    async fn serve(self, mut stream: DuplexStream) {
        loop {
            let reply = self.replies.lock().unwrap().pop_front();
            let Some(reply) = reply else { return };
            if !matches!(reply, Reply::Early(_)) && !self.hear(&mut stream).await {
                return self.replies.lock().unwrap().push_front(reply);
            }
            let (pieces, closes) = match reply {
                Reply::Bytes(pieces) => (pieces, false),
                Reply::BytesAndClose(pieces) => (pieces, true),
                Reply::Early(bytes) => (vec![bytes], false),
                Reply::Endless(head, piece) => {
                    let mut next = head;
                    while stream.write_all(&next).await.is_ok() {
                        sleep(Duration::from_millis(1)).await;
                        next.clone_from(&piece);
                    }
                    return;
                }
            };
            for piece in pieces {
                sleep(Duration::from_micros(1)).await;
                if stream.write_all(&piece).await.is_err() {
                    return;
                }
            }
            if closes {
                return;
            }
        }
    }

    /// Reads a request; `false` where none comes.
    async fn hear(&self, stream: &mut DuplexStream) -> bool {
        let mut request = Vec::new();
        loop {
            let mut buffer = [0; 4096];
            match stream.read(&mut buffer).await {
                Ok(count @ 1..) => request.extend_from_slice(&buffer[..count]),
                _ => return false,
            }
            if request.ends_with(BODY) {
                self.asked
                    .lock()
                    .unwrap()
                    .push(String::from_utf8(request).unwrap());
                return true;
            }
        }
    }

    fn target(&self, key: Option<&str>) -> Target<Self> {
        Target {
            pool: Pool::new(self.clone(), "engine:1"),
            path: "/v1/chat/completions".to_owned(),
            key: key.map(ToOwned::to_owned),
            headers: "\r\nx-tenant: a b".into(),
            live: Arc::default(),
        }
    }

    /// Asks once, on a new connection.
    async fn ask(self, api: Api) -> Sample {
        ask(&self.target(None), api).await
    }
}

const BODY: &[u8] = br#"{"stream":true}"#;

fn call(api: Api) -> Call {
    Call {
        index: 0,
        turn: None,
        intended: Duration::ZERO,
        api,
        stream: true,
        chunks: 8,
        body: BODY.to_vec(),
        timeout: Duration::from_mins(1),
        way: None,
    }
}

async fn ask(target: &Target<Server>, api: Api) -> Sample {
    exchange(
        target,
        &call(api),
        Instant::now(),
        &CancellationToken::new(),
    )
    .await
}

/// What an engine once sent: from the status line to the end of the body.
fn captured(name: &str) -> Vec<u8> {
    let file = format!("{}/tests/data/sse/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(file).expect("a captured answer");
    let find = |what: &[u8]| bytes.windows(what.len()).position(|part| part == what);
    let start = find(b"HTTP/1.1").expect("a status line");
    let end = find(b"\n# rc=").expect("a note of the end");
    bytes[start..end].to_vec()
}

fn stream(events: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n{events}").into_bytes()
}

fn whole(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
}

/// What does not depend on when bytes came.
fn told(sample: &Sample) -> (Outcome, usize, Option<u64>, Option<u64>) {
    (
        sample.outcome.clone(),
        sample.chunks.len(),
        sample.prompt_tokens,
        sample.output_tokens,
    )
}

fn error(class: &str, message: &str) -> Outcome {
    Outcome::Error(class.to_owned(), message.to_owned())
}

const CAPTURED: [(&str, Api, usize, u64, u64); 4] = [
    ("llama.chat_stream", Api::Chat, 8, 37, 8),
    ("llama.compl_stream", Api::Completions, 5, 4, 5),
    ("vllm.chat_stream", Api::Chat, 5, 26, 8),
    ("vllm.compl_stream", Api::Completions, 5, 6, 5),
];

#[tokio::test(start_paused = true)]
async fn answers_of_engines_are_the_same_wherever_they_are_cut() {
    for (name, api, chunks, prompt, output) in CAPTURED {
        let bytes = captured(name);
        let wanted = (Outcome::Success, chunks, Some(prompt), Some(output));
        let mut ways = vec![
            vec![bytes.clone()],
            bytes.chunks(1).map(<[u8]>::to_vec).collect(),
        ];
        let cuts = 1..bytes.len();
        ways.extend(cuts.map(|at| vec![bytes[..at].to_vec(), bytes[at..].to_vec()]));
        for pieces in ways {
            let cut = pieces.first().map_or(0, Vec::len);
            let sample = Server::new([Reply::Bytes(pieces)]).ask(api).await;
            assert_eq!(told(&sample), wanted, "{name} cut at {cut}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_comes_at_once_has_one_stamp_and_what_comes_apart_has_two() {
    let event = r#"data: {"choices":[{"text":"a"}]}"#.to_owned() + "\n\n";
    let rest = "data: {\"choices\":[{\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    let pieces = vec![
        stream(&event.repeat(3)),
        event.clone().into_bytes(),
        (event + rest).into_bytes(),
    ];
    let sample = Server::new([Reply::BytesAndClose(pieces)])
        .ask(Api::Completions)
        .await;
    let stamps: Vec<_> = sample.chunks.iter().map(|chunk| chunk.at).collect();
    assert_eq!(sample.outcome, Outcome::Success);
    assert_eq!(stamps[..2], stamps[1..3]);
    assert!(stamps[2] < stamps[3] && stamps[3] < stamps[4], "{stamps:?}");
    assert_eq!(sample.first_byte, Some(stamps[0]));
    assert_eq!(sample.status, Some(200));
    assert!(sample.sent <= sample.written && sample.written <= sample.first_byte);
}

#[tokio::test(start_paused = true)]
async fn each_way_to_fail_is_named() {
    let text = "data: {\"choices\":[{\"text\":\"a\"}]}\n\n";
    let end = "data: {\"choices\":[{\"text\":\"\",\"finish_reason\":\"stop\"}]}\n\n";
    let done = "data: [DONE]\n\n";
    let said = "data: {\"error\":{\"message\":\"out of memory\"}}\n\n";
    let torn = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 999\r\n\r\n";
    let json = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{";
    let cases = [
        (stream(&format!("{text}{end}{done}")), Outcome::Success),
        (
            stream(&format!(": ping\r\n\r\n{text}\r\n: x\n{end}{done}")),
            Outcome::Success,
        ),
        (
            stream(&format!("{text}{end}")),
            error("broken_stream", "the stream ended without [DONE]"),
        ),
        (
            stream(&format!("{text}{done}")),
            error("broken_stream", "the stream ended without a finish reason"),
        ),
        (
            stream(&format!("{text}{said}{done}")),
            error("stream_error", "out of memory"),
        ),
        // what it said before it broke is worth more than that it broke
        (
            [torn.as_bytes(), said.as_bytes()].concat(),
            error("stream_error", "out of memory"),
        ),
        (
            [torn.as_bytes(), text.as_bytes()].concat(),
            error(
                "broken_stream",
                "the connection was closed in the middle of the answer",
            ),
        ),
        (
            stream(&format!("data: {{\n\n{end}{done}")),
            error(
                "bad_event",
                "EOF while parsing an object at line 1 column 1",
            ),
        ),
        (
            json.into(),
            error(
                "broken_answer",
                "the connection was closed in the middle of the answer",
            ),
        ),
        (
            whole("200 OK", "no JSON"),
            error("bad_answer", "expected ident at line 1 column 2"),
        ),
        (
            whole("200 OK", r#"{"error":{"message":"no"}}"#),
            error("answer_error", "no"),
        ),
        (
            whole(
                "400 Bad Request",
                r#"{"object":"error","message":"too long"}"#,
            ),
            error("http_400", "too long"),
        ),
        (
            whole("429 Too Many Requests", r#"{"detail":"slow down"}"#),
            error("http_429", "slow down"),
        ),
        (
            b"HTTP/1.1 503 Busy\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbusy\r\n0\r\n\r\n"
                .to_vec(),
            error("http_503", "busy"),
        ),
        // closed in the middle: what came of the message is kept
        (
            b"HTTP/1.1 500 No\r\ncontent-length: 99\r\n\r\nout of".to_vec(),
            error("http_500", "out of"),
        ),
        (
            b"SSH-2.0-OpenSSH_9.6\r\n".to_vec(),
            error("connection", "the answer is no HTTP: invalid HTTP version"),
        ),
        (
            b"HTTP/1.1 20".to_vec(),
            error(
                "connection",
                "the connection was closed before an answer came",
            ),
        ),
    ];
    for (answer, outcome) in cases {
        let shown = String::from_utf8_lossy(&answer).into_owned();
        let pieces = vec![answer];
        let sample = Server::new([Reply::BytesAndClose(pieces)])
            .ask(Api::Completions)
            .await;
        assert_eq!(sample.outcome, outcome, "{shown}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_kept_where_the_server_keeps_it() {
    let ok = || whole("200 OK", r#"{"choices":[{"message":{"content":"a"}}]}"#);
    let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";
    let surplus = [ok(), b"HTTP/1.1 400 ".to_vec()].concat();
    let cases = [
        (vec![ok(), ok(), ok()], 1),
        (vec![whole("429 No", "busy"), whole("500 No", ""), ok()], 1),
        (vec![head.into(), ok(), ok()], 2),
        (vec![surplus, ok(), ok()], 2),
        (
            vec![captured("vllm.chat_stream"), captured("llama.chat_stream")],
            1,
        ),
    ];
    for (answers, connections) in cases {
        let count = answers.len();
        let replies = answers.into_iter().map(|answer| Reply::Bytes(vec![answer]));
        let server = Server::new(replies);
        let target = server.target(None);
        for _ in 0..count {
            let sample = ask(&target, Api::Chat).await;
            assert!(sample.first_byte.is_some(), "{:?}", sample.outcome);
            assert_eq!(sample.connect.is_some(), sample.sent == sample.connect);
        }
        assert_eq!(*server.connections.lock().unwrap(), connections);
        assert_eq!(server.asked.lock().unwrap().len(), count);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_is_written_as_it_should_be() {
    let server = Server::new([Reply::Bytes(vec![whole("200 OK", "{}")])]);
    ask(&server.target(Some("secret")), Api::Chat).await;
    let asked = server.asked.lock().unwrap().concat().replace('\r', "");
    insta::assert_snapshot!(asked, @r#"
    POST /v1/chat/completions HTTP/1.1
    host: engine:1
    content-type: application/json
    accept: text/event-stream
    authorization: Bearer secret
    x-tenant: a b
    content-length: 15

    {"stream":true}
    "#);
    let sample = ask(&server.target(Some("two\r\nlines")), Api::Chat).await;
    let message = "the key of the service holds characters that no request may";
    assert_eq!(sample.outcome, error("request", message));
    assert_eq!(sample.sent, None);
}

#[tokio::test(start_paused = true)]
async fn an_answer_may_come_before_the_request_is_read() {
    let server = Server::new([Reply::Early(whole("413 Too Large", "too large"))]);
    let mut large = call(Api::Chat);
    // more than the pipe holds: it is never written to its end
    large.body = vec![b' '; 1 << 20];
    let never = CancellationToken::new();
    let target = server.target(None);
    let sample = exchange(&target, &large, Instant::now(), &never).await;
    assert_eq!(sample.outcome, error("http_413", "too large"));
    assert!(target.pool.take().is_none(), "half of a request is in it");
}

#[tokio::test(start_paused = true)]
async fn limits_hold_while_a_stream_never_pauses() {
    let event = b"data: {\"choices\":[{\"text\":\"a\"}]}\n\n".to_vec();
    for aborted in [false, true] {
        let server = Server::new([Reply::Endless(stream(""), event.clone())]);
        let mut limited = call(Api::Completions);
        limited.timeout = Duration::from_millis(50);
        let abort = CancellationToken::new();
        let told = abort.clone();
        if aborted {
            server.tasks.spawn(async move {
                sleep(Duration::from_millis(30)).await;
                told.cancel();
            });
        }
        let target = server.target(None);
        let sample = exchange(&target, &limited, Instant::now(), &abort).await;
        let (outcome, at) = if aborted {
            (Outcome::Cancelled, 30)
        } else {
            (Outcome::Timeout, 50)
        };
        assert_eq!(sample.outcome, outcome);
        assert_eq!(sample.end.as_millis(), at);
        assert!(sample.chunks.len().abs_diff(usize::try_from(at).unwrap()) <= 2);
        assert!(
            target.pool.take().is_none(),
            "an answer is still on its way"
        );
    }
}
