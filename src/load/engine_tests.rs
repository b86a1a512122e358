//! An engine on pipes, which does with a request whatever a test says.
//!
//! It is written by hand, so that it can also do what no HTTP library does.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream},
    time::{Instant, sleep, sleep_until},
};
use tokio_util::task::TaskTracker;

use super::{
    super::{connection::Connect, pace::Ticks},
    milliseconds,
};

/// What the engine does with a request.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reply {
    /// A stream of so many chunks: the first after the latency, each further one after the gap.
    Stream(u32),
    /// The same without an end.
    Unfinished(u32),
    /// One that closes the connection in the middle of a chunk.
    Broken(u32),
    /// A status with a message.
    Status(u16),
    /// Nothing, ever.
    Silence,
    /// The connection is closed without a byte.
    Close,
}

/// An engine on pipes.
pub(super) struct Engine {
    /// Time to the first chunk.
    pub(super) latency: Duration,
    pub(super) gap: Duration,
    /// Nothing is answered between these times.
    pub(super) stall: Option<(Duration, Duration)>,
    /// By the number of the request, and its number on its connection.
    pub(super) script: fn(u64, u64) -> Reply,
    pub(super) started: Instant,
    pub(super) tasks: TaskTracker,
    /// Connections after these many are refused.
    pub(super) accepts: u64,
    pub(super) connections: AtomicU64,
    pub(super) requests: AtomicU64,
    pub(super) in_flight: AtomicU64,
    pub(super) max_in_flight: AtomicU64,
    /// When requests came.
    pub(super) arrivals: Mutex<Vec<Duration>>,
    /// What they said, where it is JSON.
    pub(super) asked: Mutex<Vec<Value>>,
}

impl Engine {
    pub(super) fn new(latency: u64) -> Self {
        Self {
            latency: milliseconds(latency),
            gap: Duration::ZERO,
            stall: None,
            script: |_, _| Reply::Stream(1),
            started: Instant::now(),
            tasks: TaskTracker::new(),
            accepts: u64::MAX,
            connections: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            max_in_flight: AtomicU64::new(0),
            arrivals: Mutex::new(Vec::new()),
            asked: Mutex::new(Vec::new()),
        }
    }

    pub(super) fn doing(latency: u64, script: fn(u64, u64) -> Reply) -> Self {
        Self {
            script,
            ..Self::new(latency)
        }
    }

    pub(super) fn seen(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }

    async fn serve(self: Arc<Self>, stream: DuplexStream) {
        let mut stream = BufReader::new(stream);
        let mut on_connection = 0;
        while let Some(body) = read_request(&mut stream).await {
            if let Ok(body) = serde_json::from_slice(&body) {
                self.asked.lock().expect("no test panics here").push(body);
            }
            let number = self.requests.fetch_add(1, Ordering::SeqCst);
            self.arrivals
                .lock()
                .expect("no test panics here")
                .push(self.started.elapsed());
            let now = self.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
            self.max_in_flight.fetch_max(now, Ordering::SeqCst);
            let reply = (self.script)(number, on_connection);
            on_connection += 1;
            let kept = self.answer(number, reply, &mut stream).await;
            self.in_flight.fetch_sub(1, Ordering::SeqCst);
            if kept.is_err() {
                return;
            }
        }
    }

    /// Answers; an error ends the connection.
    async fn answer(
        &self,
        number: u64,
        reply: Reply,
        stream: &mut BufReader<DuplexStream>,
    ) -> io::Result<()> {
        let closed = || Err(io::Error::other("told to close"));
        let (chunks, whole) = match reply {
            Reply::Stream(chunks) => (chunks, true),
            Reply::Unfinished(chunks) | Reply::Broken(chunks) => (chunks, false),
            Reply::Status(status) => {
                self.wait(self.latency).await;
                let body = r#"{"error": {"message": "told to fail"}}"#;
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 {status} No\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
                );
                return stream.write_all(answer.as_bytes()).await;
            }
            Reply::Silence => std::future::pending().await,
            Reply::Close => return closed(),
        };
        self.wait(self.latency).await;
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).await?;
        for chunk in 0..chunks {
            if chunk > 0 {
                self.wait(self.gap).await;
            }
            // as completions and as chats have it; a quote is what a parser must read
            let text = format!(" {number}\\\"{chunk}");
            let event = format!(
                r#"{{"choices": [{{"text": "{text}", "delta": {{"content": "{text}"}}}}]}}"#
            );
            send(stream, &event).await?;
        }
        if matches!(reply, Reply::Broken(_)) {
            stream.write_all(b"40\r\ndata: {").await?;
            return closed();
        }
        if whole {
            let usage = format!(r#"{{"prompt_tokens": 8, "completion_tokens": {chunks}}}"#);
            let last = format!(
                r#"{{"choices": [{{"text": "", "finish_reason": "length"}}], "usage": {usage}}}"#
            );
            send(stream, &last).await?;
            send(stream, "[DONE]").await?;
        }
        stream.write_all(b"0\r\n\r\n").await
    }

    async fn wait(&self, time: Duration) {
        sleep(time).await;
        let now = self.started.elapsed();
        if let Some((_, to)) = self.stall.filter(|(from, to)| (*from..*to).contains(&now)) {
            sleep_until(self.started + to).await;
        }
    }
}

async fn send(stream: &mut BufReader<DuplexStream>, data: &str) -> io::Result<()> {
    let event = format!("data: {data}\n\n");
    let chunk = format!("{:x}\r\n{event}\r\n", event.len());
    stream.write_all(chunk.as_bytes()).await
}

/// Reads the body of one request; `None` where the client has gone.
async fn read_request(stream: &mut BufReader<DuplexStream>) -> Option<Vec<u8>> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
            return None;
        }
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(body)
}

/// Opens pipes to the engine.
#[derive(Clone)]
pub(super) struct Pipes(pub(super) Arc<Engine>);

impl Connect for Pipes {
    type Stream = DuplexStream;
    type Pace = Ticks;

    fn pace(&self) -> io::Result<Ticks> {
        Ok(Ticks)
    }

    async fn connect(&self, _authority: &str) -> io::Result<DuplexStream> {
        if self.0.connections.fetch_add(1, Ordering::SeqCst) >= self.0.accepts {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (near, far) = tokio::io::duplex(64 * 1024);
        self.0.tasks.spawn(Arc::clone(&self.0).serve(far));
        Ok(near)
    }
}
