//! What is told of a whole load, whatever its window: sums that grow as requests end. Pure; nothing can fail.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::summary::with_tokens;
use crate::load::sample::Sample;

/// The whole load, warm-up and drain included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whole {
    /// Requests that have ended.
    pub requests: u64,
    /// Of these, those with nothing before them in a conversation.
    pub begun: u64,
    /// Dropped at `max_in_flight`.
    pub dropped: u64,
    /// Latest end.
    pub end: Option<Duration>,
    /// Prompt tokens of what was sent, as the server counts.
    pub prompt_tokens: u64,
    /// Output tokens of what was sent; chunks where the server does not count.
    pub output_tokens: u64,
    /// Answers without a token count of the server.
    pub uncounted: u64,
    /// Answers of which something came.
    pub heard: u64,
    /// Of these, those whose bytes were stamped by the kernel.
    pub stamped: u64,
    /// Chunks with content.
    pub chunks: u64,
    /// Of these, those that were read together with the one before and share its stamp.
    pub bundled: u64,
    /// First tokens.
    #[serde(default)]
    pub first_tokens: u64,
    /// Time from sending to them, together.
    #[serde(default)]
    pub waited: Duration,
    /// Tokens behind the first chunk of their answers.
    #[serde(default)]
    pub further_tokens: u64,
    /// Time from the first chunk to the last, together.
    #[serde(default)]
    pub between: Duration,
}

impl Whole {
    /// Adds a request that has ended.
    pub(super) fn take(&mut self, sample: &Sample) {
        self.requests += 1;
        self.begun += u64::from(sample.is_first());
        self.dropped += u64::from(sample.dropped);
        self.end = self.end.max(Some(sample.end));
        if sample.sent.is_some() {
            self.prompt_tokens += sample.prompt_tokens.unwrap_or(0);
            self.output_tokens += sample.tokens();
        }
        self.uncounted += u64::from(sample.is_success() && sample.output_tokens.is_none());
        self.heard += u64::from(sample.first_byte.is_some());
        self.stamped += u64::from(!sample.lay.is_empty());
        self.chunks += sample.chunks.len() as u64;
        let pairs = sample.chunks.windows(2);
        self.bundled += pairs.filter(|pair| pair[0].at == pair[1].at).count() as u64;
        if let (Some(sent), Some((first, tokens))) = (sample.sent, with_tokens(sample).next()) {
            self.first_tokens += 1;
            self.waited += first.at.saturating_sub(sent);
            self.further_tokens += sample.tokens().saturating_sub(tokens);
            let last = sample.last_token().unwrap_or(first.at);
            self.between += last.saturating_sub(first.at);
        }
    }

    /// Adds what another worker saw.
    pub(super) fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        self.begun += other.begun;
        self.dropped += other.dropped;
        self.end = self.end.max(other.end);
        self.prompt_tokens += other.prompt_tokens;
        self.output_tokens += other.output_tokens;
        self.uncounted += other.uncounted;
        self.heard += other.heard;
        self.stamped += other.stamped;
        self.chunks += other.chunks;
        self.bundled += other.bundled;
        self.first_tokens += other.first_tokens;
        self.waited += other.waited;
        self.further_tokens += other.further_tokens;
        self.between += other.between;
    }
}
