//! What a tool sees that takes every event of a stream for a chunk: that is how `vllm bench serve` counts.
//!
//! Engines also send events without text: the role at the start of a chat, a token whose bytes make no character yet, the
//! reason of the end. To us these are no content. To that tool the first of them is the first token, the time between any
//! two is an inter-token latency, and the last is the end. It also counts a new connection as part of its request. So that its numbers can be given as it would, they are kept
//! here beside ours. Pure; nothing can fail.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{histogram::Distribution, summary::milliseconds};
use crate::{load::sample::Sample, recipe::Slo};

/// Distributions over the successes of a window.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ByEvent {
    /// Before connecting → first event; the end of an answer that had none.
    pub ttft: Distribution,
    /// From there to the last event, per token after the first, of answers of several tokens.
    pub tpot: Distribution,
    /// Before connecting → last event.
    pub latency: Distribution,
    /// Gaps that there are more.
    more: Distribution,
    /// Gaps between chunks with text that are none there, for an event came in between.
    fewer: Distribution,
}

/// First and last event of a stream; the end of what was none.
pub(super) fn ends(sample: &Sample) -> (Duration, Duration) {
    let all = || sample.chunks.iter().map(|chunk| chunk.at);
    let silent = || sample.silent.iter().copied();
    let first = all().next().into_iter().chain(silent().next()).min();
    let last = all()
        .next_back()
        .into_iter()
        .chain(silent().next_back())
        .max();
    (
        first.unwrap_or(sample.end),
        last.or(first).unwrap_or(sample.end),
    )
}

/// Does a success keep every limit there? An answer of one token has no time per token, which counts as 0.
pub(super) fn meets(sample: &Sample, slo: &Slo) -> bool {
    let Some(sent) = sample.began() else {
        return false;
    };
    let (first, last) = ends(sample);
    let keeps =
        |limit: Option<f64>, time: Duration| limit.is_none_or(|limit| milliseconds(time) <= limit);
    keeps(slo.ttft_ms, first.saturating_sub(sent))
        && keeps(slo.tpot_ms, tpot(sample).unwrap_or_default())
        && keeps(slo.e2e_ms, last.saturating_sub(sent))
}

/// From the first event to the last, per token after the first; `None` of a single token.
fn tpot(sample: &Sample) -> Option<Duration> {
    let (first, last) = ends(sample);
    match u32::try_from(sample.tokens().saturating_sub(1)) {
        Ok(gaps @ 1..) => Some(last.saturating_sub(first) / gaps),
        _ => None,
    }
}

impl ByEvent {
    /// Adds an answer.
    pub(super) fn take(&mut self, sample: &Sample, sent: Duration) {
        let (first, last) = ends(sample);
        let sent = sample.began().unwrap_or(sent);
        self.ttft.record(first.saturating_sub(sent));
        self.latency.record(last.saturating_sub(sent));
        if let Some(tpot) = tpot(sample) {
            self.tpot.record(tpot);
        }
        if !sample.silent.is_empty() {
            self.take_silent(sample);
        }
    }

    /// What events without text change. They and the chunks are in order.
    fn take_silent(&mut self, sample: &Sample) {
        let mut silent = sample.silent.iter().copied().peekable();
        // the last event, and the last with text
        let (mut before, mut said): (Option<Duration>, Option<Duration>) = (None, None);
        for chunk in &sample.chunks {
            let mut split = false;
            while let Some(at) = silent.next_if(|at| *at < chunk.at) {
                self.between(before, at);
                (before, split) = (Some(at), true);
            }
            if split {
                self.between(before, chunk.at);
                if let Some(said) = said {
                    self.fewer.record(chunk.at.saturating_sub(said));
                }
            }
            (before, said) = (Some(chunk.at), Some(chunk.at));
        }
        for at in silent {
            self.between(before, at);
            before = Some(at);
        }
    }

    fn between(&mut self, before: Option<Duration>, at: Duration) {
        if let Some(before) = before {
            self.more.record(at.saturating_sub(before));
        }
    }

    /// Between events, from what is between chunks with text.
    pub fn gaps(&self, between_chunks: &Distribution) -> Distribution {
        let mut all = between_chunks.clone();
        all.merge(&self.more);
        all.remove(&self.fewer);
        all
    }

    /// Adds those of another worker.
    pub(super) fn merge(&mut self, other: &Self) {
        self.ttft.merge(&other.ttft);
        self.tpot.merge(&other.tpot);
        self.latency.merge(&other.latency);
        self.more.merge(&other.more);
        self.fewer.merge(&other.fewer);
    }
}
