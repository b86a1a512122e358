//! One request's measurements. All times are durations since the start of the load, by one monotonic clock.

use std::time::Duration;

pub use crate::api::times::Times;

/// A chunk of the answer that carried content or reasoning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// When it came to this machine, as far as the system tells; else when it was read.
    pub at: Duration,
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Answered to its end.
    Success,
    /// Answered with an error, or not to its end: class (`http_503`, `refused`, `broken_stream` …) and message.
    Error(String, String),
    /// Not answered in time.
    Timeout,
    /// Given up because the load was told to end.
    Cancelled,
    /// Planned and never sent: the load was told to end before its turn, or it was dropped at `max_in_flight`.
    NeverSent,
}

impl Outcome {
    /// Class of a connection that the service's machine refused.
    pub const REFUSED: &'static str = "refused";
    /// Class of a connection for which this machine had no open file or no port left.
    pub const LOCAL_LIMIT: &'static str = "local_limit";

    /// Was there no connection, for whatever reason?
    pub fn is_unconnected(&self) -> bool {
        matches!(self, Self::Error(class, _) if [Self::REFUSED, Self::LOCAL_LIMIT, "connect"].contains(&&**class))
    }

    /// The class of an error; `None` for a success.
    pub fn class(&self) -> Option<&str> {
        match self {
            Self::Success => None,
            Self::Error(class, _) => Some(class),
            Self::Timeout => Some("timeout"),
            Self::Cancelled => Some("cancelled"),
            Self::NeverSent => Some("never_sent"),
        }
    }
}

/// Which request of a conversation one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// From 0.
    pub number: u32,
    /// Is it the last that is planned?
    pub last: bool,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Number of the request in its load; of a conversation, that of the conversation.
    pub index: u64,
    /// Which of its conversation it is; `None` where each request is alone.
    pub turn: Option<Turn>,
    /// When the schedule wanted it sent; in a closed loop, when its user was ready to send.
    pub intended: Duration,
    /// When its first byte left.
    pub sent: Option<Duration>,
    /// When its last byte left.
    pub written: Option<Duration>,
    /// Time that a new connection took; `None` where one was reused.
    pub connect: Option<Duration>,
    /// Of that time, what the look-up of the name took; `None` where none was looked up.
    pub looked_up: Option<Duration>,
    /// Of that time, what it took to agree on encryption; `None` where nothing is encrypted.
    pub secured: Option<Duration>,
    /// When the first byte of the answer came.
    pub first_byte: Option<Duration>,
    /// The status of the answer.
    pub status: Option<u16>,
    /// Chunks that carried content or reasoning, in order. Without streaming: one, at the end.
    pub chunks: Vec<Chunk>,
    /// Tokens that each chunk brings, where the server told its count with each; see [`Self::counts`].
    pub counts: Vec<u32>,
    /// How many tokens were counted as they came ([`Live`](super::dispatch::Live)), for whoever counts them better now.
    pub live: u64,
    /// When events of a stream came that are part of the answer and carry no text: the role of a chat, a token that makes
    /// no character yet.
    pub silent: Vec<Duration>,
    /// How long the bytes of each read had been on this machine, in nanoseconds; empty where the system does not tell.
    pub lay: Vec<u32>,
    /// When the first content came that is no reasoning.
    pub first_output: Option<Duration>,
    /// Did reasoning come, by a name of its own?
    pub reasons: bool,
    /// When it ended, whatever way.
    pub end: Duration,
    /// How it ended.
    pub outcome: Outcome,
    /// Prompt tokens, as the server's `usage` says.
    pub prompt_tokens: Option<u64>,
    /// Output tokens, as the server's `usage` says.
    pub output_tokens: Option<u64>,
    /// Of the prompt tokens, those that the server found in its cache; `None` where it does not tell.
    pub cached_tokens: Option<u64>,
    /// Of the output tokens, those of reasoning; `None` where the server does not tell.
    pub reasoning_tokens: Option<u64>,
    /// Share of the true neighbours that were found, in millionths; of queries of vectors alone.
    pub recall: Option<u32>,
    /// Times by the engine's own clock, where it tells.
    pub engine: Times,
    /// Was it dropped at `max_in_flight`?
    pub dropped: bool,
    /// What was answered, without reasoning; kept only where a further turn carries it.
    pub said: String,
}

impl Sample {
    /// One of a request of which nothing is known yet.
    pub fn planned(index: u64, intended: Duration) -> Self {
        Self {
            index,
            turn: None,
            intended,
            sent: None,
            written: None,
            connect: None,
            looked_up: None,
            secured: None,
            first_byte: None,
            status: None,
            chunks: Vec::new(),
            counts: Vec::new(),
            live: 0,
            silent: Vec::new(),
            lay: Vec::new(),
            first_output: None,
            reasons: false,
            end: intended,
            outcome: Outcome::Cancelled,
            prompt_tokens: None,
            output_tokens: None,
            cached_tokens: None,
            reasoning_tokens: None,
            recall: None,
            engine: Times::default(),
            dropped: false,
            said: String::new(),
        }
    }

    /// Did it end well?
    pub fn is_success(&self) -> bool {
        self.outcome == Outcome::Success
    }

    /// Does nothing stand before it in its conversation?
    pub fn is_first(&self) -> bool {
        self.turn.is_none_or(|turn| turn.number == 0)
    }

    /// Output tokens: by `usage`, else one for each chunk.
    pub fn tokens(&self) -> u64 {
        self.output_tokens.unwrap_or(self.chunks.len() as u64)
    }

    /// Tokens that each chunk brings; nothing where that is not known of all.
    pub fn counts(&self) -> &[u32] {
        if self.counts.len() == self.chunks.len() {
            &self.counts
        } else {
            &[]
        }
    }

    /// When work on it began, connecting included: from there other tools count, and whoever waits for an answer.
    pub fn began(&self) -> Option<Duration> {
        let sent = self.sent?;
        Some(sent.saturating_sub(self.connect.unwrap_or_default()))
    }

    /// Was there nobody who took its connection, though this machine had one to give?
    pub fn was_refused(&self) -> bool {
        self.sent.is_none()
            && self.outcome.is_unconnected()
            && self.outcome.class() != Some(Outcome::LOCAL_LIMIT)
    }

    /// When the first token came.
    pub fn first_token(&self) -> Option<Duration> {
        self.chunks.first().map(|chunk| chunk.at)
    }

    /// When the last token came.
    pub fn last_token(&self) -> Option<Duration> {
        self.chunks.last().map(|chunk| chunk.at)
    }
}
