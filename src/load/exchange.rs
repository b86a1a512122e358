//! One request on the wire: sent, stamped, read to its end, judged.
//!
//! What was seen of a request is kept whatever happens to it: a time-out, a broken stream or the end of the load leave
//! the chunks that came. A stream counts as answered only with a finish reason *and* its `[DONE]`: engines that are
//! killed close streams in both incomplete ways. A kept-alive connection that turns out to be closed before any byte
//! of the answer is replaced once; that is the server's right, not an error of the request.

use std::{error::Error as _, io, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, StatusCode, body::Incoming, header};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    connection::{Connect, Connection, Pool},
    sample::{Chunk, Outcome, Sample},
};
use crate::{
    api::{openai, sse},
    recipe::Api,
};

/// What is the same in all requests to one target.
#[derive(Debug)]
pub struct Target<C> {
    /// Connections to it.
    pub pool: Pool<C>,
    /// Path of the API, with what the base URL puts before it.
    pub path: String,
    /// The bearer.
    pub key: Option<String>,
}

/// One request, ready to be sent.
#[derive(Debug, Clone)]
pub struct Call {
    /// Number of the request.
    pub index: u64,
    /// When it is meant to be sent.
    pub intended: Duration,
    /// Which API.
    pub api: Api,
    /// Is a stream expected?
    pub stream: bool,
    /// The body.
    pub body: Bytes,
    /// Limit of the whole request.
    pub timeout: Duration,
}

/// Why an exchange failed: the class and the words of the sample's outcome.
struct Failed(&'static str, String);

/// Sends a request and reads its answer, unless it is aborted before; gives what was measured. A connection whose
/// exchange did not come to its end is closed, by which the engine learns that nobody listens any more.
pub async fn exchange<C: Connect>(
    target: &Target<C>,
    call: &Call,
    start: Instant,
    abort: &CancellationToken,
) -> Sample {
    let mut sample = planned(call);
    let carried = tokio::time::timeout(call.timeout, carry(target, call, start, &mut sample));
    let ended = tokio::select! {
        biased;
        ended = carried => Some(ended),
        () = abort.cancelled() => None,
    };
    sample.end = start.elapsed();
    sample.outcome = match ended {
        Some(Ok(Ok(()))) => Outcome::Success,
        Some(Ok(Err(Rejected::Status(status, message)))) => {
            Outcome::Error(format!("http_{}", status.as_u16()), message)
        }
        Some(Ok(Err(Rejected::Failed(Failed(class, message))))) => {
            Outcome::Error(class.to_owned(), message)
        }
        Some(Err(_)) => Outcome::Timeout,
        None => Outcome::Cancelled,
    };
    sample
}

/// The sample of a request of which nothing is known yet.
pub fn planned(call: &Call) -> Sample {
    Sample {
        index: call.index,
        intended: call.intended,
        sent: None,
        connect: None,
        first_byte: None,
        chunks: Vec::new(),
        end: call.intended,
        outcome: Outcome::Cancelled,
        prompt_tokens: None,
        output_tokens: None,
        dropped: false,
    }
}

enum Rejected {
    Status(StatusCode, String),
    Failed(Failed),
}

impl From<Failed> for Rejected {
    fn from(failed: Failed) -> Self {
        Self::Failed(failed)
    }
}

async fn carry<C: Connect>(
    target: &Target<C>,
    call: &Call,
    start: Instant,
    sample: &mut Sample,
) -> Result<(), Rejected> {
    let (mut connection, response) = send(target, call, start, sample).await?;
    sample.first_byte = Some(start.elapsed());
    let status = response.status();
    let is_stream = response
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.starts_with("text/event-stream"));
    if status != StatusCode::OK {
        let body = response
            .into_body()
            .collect()
            .await
            .map(http_body_util::Collected::to_bytes)
            .unwrap_or_default();
        give_back(&mut connection, target).await;
        return Err(Rejected::Status(status, openai::error_message(&body)));
    }
    if is_stream {
        read_stream(response.into_body(), call.api, start, sample).await?;
    } else {
        read_answer(response.into_body(), call.api, start, sample).await?;
    }
    give_back(&mut connection, target).await;
    Ok(())
}

/// Returns a connection to its pool once its exchange is over.
async fn give_back<C: Connect>(connection: &mut Option<Connection>, target: &Target<C>) {
    if let Some(mut connection) = connection.take()
        && connection.sender.ready().await.is_ok()
    {
        target.pool.give(connection);
    }
}

async fn send<C: Connect>(
    target: &Target<C>,
    call: &Call,
    start: Instant,
    sample: &mut Sample,
) -> Result<(Option<Connection>, Response<Incoming>), Failed> {
    let mut again = false;
    loop {
        // a second try goes by a new connection: whatever closed the idle one may have closed all of them
        let idle = if again { None } else { target.pool.take() };
        let mut connection = if let Some(connection) = idle {
            connection
        } else {
            let opened = target.pool.open().await;
            let (connection, took) = opened.map_err(|error| Failed("connect", said(&error)))?;
            sample.connect = Some(took);
            connection
        };
        let used = connection.used;
        sample.sent = Some(start.elapsed());
        match connection.sender.send_request(request(target, call)?).await {
            Ok(response) => return Ok((Some(connection), response)),
            // the server had closed it while it was idle: nothing of this request was heard
            Err(error) if used && is_stale(&error) => again = true,
            Err(error) => return Err(Failed("connection", said(&error))),
        }
    }
}

fn is_stale(error: &hyper::Error) -> bool {
    error.is_canceled() || error.is_closed() || error.is_incomplete_message() || {
        let io = error
            .source()
            .and_then(|source| source.downcast_ref::<io::Error>());
        io.is_some_and(|io| {
            matches!(
                io.kind(),
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
            )
        })
    }
}

fn request<C: Connect>(target: &Target<C>, call: &Call) -> Result<Request<Full<Bytes>>, Failed> {
    let mut request = Request::post(&target.path)
        .header(header::HOST, target.pool.authority())
        .header(header::CONTENT_TYPE, "application/json")
        .header(
            header::ACCEPT,
            if call.stream {
                "text/event-stream"
            } else {
                "application/json"
            },
        );
    if let Some(key) = &target.key {
        request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
    }
    request
        .body(Full::new(call.body.clone()))
        .map_err(|error| Failed("request", error.to_string()))
}

async fn read_stream(
    mut body: Incoming,
    api: Api,
    start: Instant,
    sample: &mut Sample,
) -> Result<(), Failed> {
    let mut scanner = sse::Scanner::new();
    let (mut finished, mut done) = (false, false);
    let mut failed = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failed("broken_stream", said(&error)))?;
        let Some(data) = frame.data_ref() else {
            continue;
        };
        // one stamp for all that came at once: that is when it could be used
        let at = start.elapsed();
        scanner.push(data, &mut |text| match openai::event(api, text) {
            Ok(event) => {
                if event.content {
                    sample.chunks.push(Chunk { at });
                }
                if let Some(usage) = &event.usage {
                    sample.prompt_tokens = Some(usage.prompt_tokens);
                    sample.output_tokens = Some(usage.completion_tokens);
                }
                finished |= event.finish.is_some();
                done |= event.done;
                failed = failed
                    .take()
                    .or_else(|| event.error.map(|message| Failed("stream_error", message)));
            }
            Err(error) => {
                failed = failed
                    .take()
                    .or(Some(Failed("bad_event", error.to_string())));
            }
        });
    }
    match failed {
        Some(failed) => Err(failed),
        None if !done => Err(Failed(
            "broken_stream",
            "the stream ended without [DONE]".to_owned(),
        )),
        None if !finished => Err(Failed(
            "broken_stream",
            "the stream ended without a finish reason".to_owned(),
        )),
        None => Ok(()),
    }
}

async fn read_answer(
    body: Incoming,
    api: Api,
    start: Instant,
    sample: &mut Sample,
) -> Result<(), Failed> {
    let body = body
        .collect()
        .await
        .map_err(|error| Failed("broken_answer", said(&error)))?
        .to_bytes();
    let answer =
        openai::answer(api, &body).map_err(|error| Failed("bad_answer", error.to_string()))?;
    if let Some(message) = answer.error {
        return Err(Failed("answer_error", message));
    }
    if answer.content {
        sample.chunks.push(Chunk {
            at: start.elapsed(),
        });
    }
    if let Some(usage) = answer.usage {
        sample.prompt_tokens = Some(usage.prompt_tokens);
        sample.output_tokens = Some(usage.completion_tokens);
    }
    Ok(())
}

/// An error with its cause: hyper says "error sending request" and hides the rest.
fn said(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
