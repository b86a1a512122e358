//! One request on the wire: sent, stamped, read to its end, judged.
//!
//! What was seen of a request is kept whatever happens to it: a time-out, a broken stream or the end of the load leave
//! the chunks that came. A stream counts as answered only with a finish reason *and* its `[DONE]`: engines that are
//! killed close streams in both incomplete ways. A kept-alive connection that turns out to be closed before any byte
//! of the answer is replaced once; that is the server's right, not an error of the request.
//!
//! [`answer`](super::answer) reads what comes. Here it is driven: whatever is there is read into a place
//! that all connections of the event loop share ([`receive`]), stamped once, and scanned where it lies, so a token costs one
//! read and no memory. A limit and an abort are not asked
//! again at every read: their wakers are set, and that it is time is seen by value.

use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    answer::Answer,
    connection::{Connect, Connection, Pool},
    observer::Live,
    receive::{self, Receive},
    room,
    sample::{Outcome, Sample, Turn},
    way::Way,
};
use crate::recipe::Api;

/// Chunks for which there is room at once.
const ROOM: usize = 1024;

/// What is the same in all requests to one target.
pub struct Target<C: Connect> {
    /// Connections to it.
    pub pool: Pool<C>,
    /// Path of the API, with what the base URL puts before it.
    pub path: String,
    /// The bearer.
    pub key: Option<String>,
    /// Further headers, each after the end of a line.
    pub headers: Arc<str>,
    /// Where tokens are counted as they come.
    pub live: Arc<Live>,
}

impl<C: Connect> Target<C> {
    /// The same target, with connections of its own.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self {
            pool: self.pool.fork(),
            path: self.path.clone(),
            key: self.key.clone(),
            headers: Arc::clone(&self.headers),
            live: Arc::clone(&self.live),
        }
    }

    /// The bytes of a request.
    fn request(&self, call: &Call) -> Result<Vec<u8>, Outcome> {
        let authority = self.pool.authority();
        let key = self.key.as_deref().unwrap_or_default();
        // what is no plain text would end its line, and begin another
        let own = call.way.as_ref().map_or("", |way| &*way.path);
        let all = [
            ("path", &*self.path),
            ("path", own),
            ("address", authority),
            ("key", key),
        ];
        for (what, text) in all {
            if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
                let message =
                    format!("the {what} of the service holds characters that no request may");
                return Err(Outcome::Error("request".to_owned(), message));
            }
        }
        let mut bytes = Vec::with_capacity(call.body.len() + self.path.len() + key.len() + 256);
        let mut add = |text: &str| bytes.extend_from_slice(text.as_bytes());
        add(call.way.as_ref().map_or("POST", |way| way.method));
        add(" ");
        add(&self.path);
        add(own);
        add(" HTTP/1.1\r\nhost: ");
        add(authority);
        // of two headers of one name it would be left to the service which one counts
        let is_ours = |name: &str| call.way.is_none() || !self.headers.contains(name);
        if is_ours("\r\ncontent-type:") {
            add("\r\ncontent-type: application/json");
        }
        if is_ours("\r\naccept:") {
            add("\r\naccept: ");
            add(if call.stream {
                "text/event-stream"
            } else {
                "application/json"
            });
        }
        if self.key.is_some() {
            add("\r\nauthorization: Bearer ");
            add(key);
        }
        if !self.pool.is_kept_alive() {
            add("\r\nconnection: close");
        }
        add(&self.headers);
        add("\r\ncontent-length: ");
        add(&call.body.len().to_string());
        add("\r\n\r\n");
        bytes.extend_from_slice(&call.body);
        Ok(bytes)
    }
}

/// One request, ready to be sent.
#[derive(Debug, Clone)]
pub struct Call {
    /// Number of the request, or of its conversation.
    pub index: u64,
    /// Which of its conversation it is.
    pub turn: Option<Turn>,
    /// When it is meant to be sent.
    pub intended: Duration,
    /// Which API.
    pub api: Api,
    /// Is a stream expected?
    pub stream: bool,
    /// Chunks that the answer will have at the most, as far as that is known.
    pub chunks: usize,
    /// The body.
    pub body: Vec<u8>,
    /// Limit of the whole request.
    pub timeout: Duration,
    /// Its line and the judge of its answer, where its API has no such of its own.
    pub way: Option<Way>,
}

/// Sends a request and reads its answer, unless it is aborted before; gives what was measured. A connection whose
/// exchange did not come to its end is closed, by which the engine learns that nobody listens any more.
pub async fn exchange<C: Connect>(
    target: &Target<C>,
    call: &Call,
    start: Instant,
    abort: &CancellationToken,
) -> Sample {
    let mut sample = planned(call);
    sample.chunks.reserve(call.chunks.min(ROOM));
    sample.lay.reserve(call.chunks.min(ROOM));
    let limits = Limits {
        deadline: Instant::now() + call.timeout,
        start,
        abort,
    };
    sample.outcome = match target.request(call) {
        Ok(request) => carry(target, call, &request, limits, &mut sample).await,
        Err(outcome) => outcome,
    };
    sample.end = start.elapsed();
    sample
}

/// The sample of a request of which nothing is known yet.
pub fn planned(call: &Call) -> Sample {
    Sample {
        turn: call.turn,
        ..Sample::planned(call.index, call.intended)
    }
}

/// When an exchange is over, come what may.
#[derive(Clone, Copy)]
struct Limits<'a> {
    deadline: Instant,
    start: Instant,
    abort: &'a CancellationToken,
}

async fn carry<C: Connect>(
    target: &Target<C>,
    call: &Call,
    request: &[u8],
    limits: Limits<'_>,
    sample: &mut Sample,
) -> Outcome {
    let mut idle = target.pool.take();
    loop {
        let mut connection = match idle.take() {
            Some(connection) => connection,
            None => match open(&target.pool, limits, sample).await {
                Ok(connection) => connection,
                Err(outcome) => return outcome,
            },
        };
        (sample.sent, sample.written) = (Some(limits.start.elapsed()), None);
        let mut talk = Talk::new(&mut connection, request, call, limits.start, sample)
            .counted_by(&target.live);
        let outcome = talk.run(limits).await;
        let (unheard, reusable) = (talk.is_unheard(), talk.is_reusable());
        if reusable {
            target.pool.give(connection);
        } else if unheard && connection.used && matches!(outcome, Outcome::Error(..)) {
            // the server had closed it while it was idle: nothing of this request was heard. The second try goes by a
            // new connection: whatever closed this one may have closed all of them
            continue;
        }
        return outcome;
    }
}

/// Opens a connection within the limits.
async fn open<C: Connect>(
    pool: &Pool<C>,
    limits: Limits<'_>,
    sample: &mut Sample,
) -> Result<Connection<C::Stream>, Outcome> {
    let opened = tokio::select! {
        biased;
        opened = tokio::time::timeout_at(limits.deadline, pool.open()) => opened,
        () = limits.abort.cancelled() => return Err(Outcome::Cancelled),
    };
    match opened {
        Ok(Ok((connection, took))) => {
            sample.connect = Some(took.whole);
            (sample.looked_up, sample.secured) = (took.looking_up, took.securing);
            Ok(connection)
        }
        Ok(Err(error)) => {
            let class = if room::is_local(&error) {
                Outcome::LOCAL_LIMIT
            } else if error.kind() == io::ErrorKind::ConnectionRefused {
                Outcome::REFUSED
            } else {
                "connect"
            };
            Err(Outcome::Error(class.to_owned(), error.to_string()))
        }
        Err(_) => Err(Outcome::Timeout),
    }
}

/// A request and its answer on one connection.
struct Talk<'a, S> {
    connection: &'a mut Connection<S>,
    /// What is still to be written.
    unsent: &'a [u8],
    answer: Answer<'a>,
    start: Instant,
    /// When it was last read; `None` before the first bytes.
    read_at: Option<Duration>,
    unwritten: Option<io::Error>,
}

impl<'a, S: Receive> Talk<'a, S> {
    fn new(
        connection: &'a mut Connection<S>,
        request: &'a [u8],
        call: &'a Call,
        start: Instant,
        sample: &'a mut Sample,
    ) -> Self {
        connection.memory.reset();
        let judge = call.way.as_ref().map(|way| &*way.judge);
        Self {
            connection,
            unsent: request,
            answer: Answer::new(call.api, sample).judged_by(judge),
            start,
            read_at: None,
            unwritten: None,
        }
    }

    /// The same, with its tokens counted as they come.
    fn counted_by(mut self, live: &'a Live) -> Self {
        self.answer = self.answer.counted_by(live);
        self
    }

    /// Did the connection end without a byte of an answer?
    fn is_unheard(&self) -> bool {
        self.read_at.is_none()
    }

    /// May the connection carry another request?
    fn is_reusable(&self) -> bool {
        self.unsent.is_empty() && self.connection.memory.is_reusable()
    }

    /// Writes and reads to the end, or to a limit.
    async fn run(&mut self, limits: Limits<'_>) -> Outcome {
        let deadline = limits.deadline.saturating_duration_since(limits.start);
        self.connection.limit.as_mut().reset(limits.deadline);
        let mut cancelled = pin!(limits.abort.cancelled());
        let mut watched = false;
        poll_fn(|context| {
            let before = self.read_at;
            if let Poll::Ready(outcome) = self.poll(context) {
                return Poll::Ready(outcome);
            }
            let at = self.read_at;
            let in_time = at > before && at < Some(deadline);
            if watched && in_time && !limits.abort.is_cancelled() {
                return Poll::Pending;
            }
            watched = true;
            if self.connection.limit.as_mut().poll(context).is_ready() {
                return Poll::Ready(Outcome::Timeout);
            }
            cancelled
                .as_mut()
                .poll(context)
                .map(|()| Outcome::Cancelled)
        })
        .await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Outcome> {
        self.write(context);
        loop {
            let read = self.read(context);
            if read.is_pending() && self.unwritten.is_some() {
                return Poll::Ready(failed("connection", self.unwritten.take()));
            }
            match ready!(read) {
                Ok(0) => {
                    let error = self.unwritten.take();
                    return Poll::Ready(self.answer.closed(&mut self.connection.memory, error));
                }
                Ok(_) => {}
                Err(error) => {
                    return Poll::Ready(
                        self.answer.closed(&mut self.connection.memory, Some(error)),
                    );
                }
            }
            if let Some(outcome) = self.answer.outcome(&self.connection.memory) {
                return Poll::Ready(outcome);
            }
        }
    }

    /// Writes what the connection takes. That it takes nothing more is no end: the answer may have come before.
    fn write(&mut self, context: &mut Context<'_>) {
        while !self.unsent.is_empty() && self.unwritten.is_none() {
            match Pin::new(&mut self.connection.stream).poll_write(context, self.unsent) {
                Poll::Ready(Ok(0)) => self.unwritten = Some(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(count)) => {
                    self.unsent = &self.unsent[count..];
                    if self.unsent.is_empty() {
                        self.answer.written(self.start.elapsed());
                    }
                }
                Poll::Ready(Err(error)) => self.unwritten = Some(error),
                Poll::Pending => return,
            }
        }
    }

    /// Reads what is there, and stamps it with when it came.
    fn read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let (start, read_at) = (self.start, &mut self.read_at);
        let (answer, Connection { stream, memory, .. }) = (&mut self.answer, &mut *self.connection);
        receive::poll(stream, context, |bytes, lay| {
            if !bytes.is_empty() {
                let now = start.elapsed();
                *read_at = Some(now);
                answer.take(memory, bytes, now, lay);
            }
            bytes.len()
        })
    }
}

/// An outcome by its class, with the words of an error.
fn failed(class: &str, error: Option<io::Error>) -> Outcome {
    let message = error.map_or_else(String::new, |error| error.to_string());
    Outcome::Error(class.to_owned(), message)
}

#[cfg(test)]
#[path = "exchange_tests.rs"]
mod tests;
