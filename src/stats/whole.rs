//! What is told of a whole load, whatever its window: sums that grow as requests end. Pure; nothing can fail.

use std::time::Duration;

use serde::{Deserialize, Serialize};

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
    }
}
