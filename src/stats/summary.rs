//! The words of a result: window, counts, lateness, and what one request tells.
//!
//! A sample belongs to the measured window by its intended time, also when it ends in the drain: else slow answers would
//! fall out of the result because they are slow. Rates count what happened within the window, whoever it belongs to: what
//! spills over at one end is made up for at the other. Latencies are those of successes alone. [`super::tally`] adds it
//! up. Pure; nothing can fail, and what was not observed is left out.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::histogram::Distribution;
use crate::{
    load::sample::{Chunk, Sample},
    recipe::Slo,
};

/// The measured window, since the start of the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Its start, where the warm-up ends.
    pub start: Duration,
    /// Its end, where the drain starts.
    pub end: Duration,
}

impl Window {
    /// Its length, in seconds.
    pub fn seconds(self) -> f64 {
        self.end.saturating_sub(self.start).as_secs_f64()
    }

    /// Does a request of this intended time belong to it?
    pub fn owns(self, intended: Duration) -> bool {
        intended >= self.start && intended < self.end
    }

    /// Did this happen in it? Its very end counts: a window of a number of requests ends with the last answer.
    pub(super) fn saw(self, at: Duration) -> bool {
        at > self.start && at <= self.end
    }
}

/// How the requests of a window ended.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// Offered.
    pub total: u64,
    /// Of these, what a schedule made and was not dropped: all but the later turns of conversations.
    pub arrived: u64,
    /// Dropped at `max_in_flight`.
    #[serde(default)]
    pub dropped: u64,
    /// Ended well.
    pub successes: u64,
    /// Did not.
    pub errors: u64,
    /// The latter by class.
    pub by_class: BTreeMap<String, u64>,
    /// Answers by their status.
    pub by_status: BTreeMap<u16, u64>,
    /// The first few messages, `class: message`, each once.
    pub error_samples: Vec<String>,
    /// Mean latency of successes, in ms; 0 without any.
    pub avg_latency_ms: f64,
    /// Smallest.
    pub min_latency_ms: f64,
    /// Largest.
    pub max_latency_ms: f64,
}

/// By how much things happened later than they were meant to.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Lateness {
    /// Median.
    pub p50_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// Largest.
    pub max_ms: f64,
}

impl Lateness {
    pub(super) fn of(all: &Distribution) -> Self {
        Self {
            p50_ms: all.quantile_ms(0.5),
            p99_ms: all.quantile_ms(0.99),
            max_ms: all.max_ms(),
        }
    }
}

/// The last content; the end of an answer that had none.
pub fn last(sample: &Sample) -> Duration {
    sample.last_token().unwrap_or(sample.end)
}

/// Time per output token after the first; undefined for one token, and for one chunk, which has no time between.
pub(super) fn tpot(sample: &Sample) -> Option<Duration> {
    if sample.chunks.len() < 2 {
        return None;
    }
    let gaps = u32::try_from(sample.tokens().checked_sub(1)?).ok()?;
    let time = sample.last_token()?.saturating_sub(sample.first_token()?);
    time.checked_div(gaps)
}

/// Chunks with their tokens. Where the server tells the sum alone it is spread evenly, and what does not divide goes to the
/// last, for an engine's first chunk is the one that is known to be short. Where it told its count with each chunk, that is
/// taken, and what it counted behind the last one goes to that.
pub(super) fn with_tokens(sample: &Sample) -> impl Iterator<Item = (Chunk, u64)> {
    let chunks = sample.chunks.len() as u64;
    let each = sample.tokens().checked_div(chunks).unwrap_or(0);
    let more = sample.tokens() - each * chunks;
    let counts = sample.counts();
    let behind = || {
        let told: u64 = counts.iter().copied().map(u64::from).sum();
        sample.tokens().saturating_sub(told)
    };
    let behind = if counts.is_empty() { 0 } else { behind() };
    let tokens = move |at: u64| match counts.get(usize::try_from(at).unwrap_or(usize::MAX)) {
        Some(told) => u64::from(*told) + if at + 1 == chunks { behind } else { 0 },
        None => each + u64::from(at + more >= chunks),
    };
    (sample.chunks.iter().zip(0_u64..)).map(move |(chunk, at)| (*chunk, tokens(at)))
}

/// Tokens and chunks of a sample, summed over neighbours that are `alike`; with the time of the first of these. Most
/// chunks of an answer fall into one second, and into one window.
pub(super) fn runs_of_tokens(
    sample: &Sample,
    alike: impl Fn(Duration, Duration) -> bool,
) -> impl Iterator<Item = (Duration, u64, u64)> {
    let mut chunks = with_tokens(sample).peekable();
    std::iter::from_fn(move || {
        let (first, mut tokens) = chunks.next()?;
        let mut count = 1;
        while let Some((_, more)) = chunks.next_if(|(chunk, _)| alike(first.at, chunk.at)) {
            tokens += more;
            count += 1;
        }
        Some((first.at, tokens, count))
    })
}

/// Do both times lie in the same second of the load?
pub(super) fn is_single_second(one: Duration, other: Duration) -> bool {
    one.as_secs() == other.as_secs()
}

/// Does a success keep every limit? One token has no time per token to exceed; of several that came in one chunk it is
/// known only where each may have had an event of its own, as that of the end ([`span`]), so others have not kept it; an
/// answer without any has missed its first. Times count from when connecting began: a service that lets clients wait at its
/// door keeps no limit by it.
pub fn meets(sample: &Sample, slo: &Slo) -> bool {
    let Some(sent) = sample.began() else {
        return false;
    };
    let keeps = |limit: Option<f64>, time: Option<Duration>, missing: bool| {
        limit.is_none_or(|limit| time.map_or(missing, |time| milliseconds(time) <= limit))
    };
    let first = sample.first_token().map(|at| at.saturating_sub(sent));
    keeps(slo.ttft_ms, first, false)
        && keeps(
            slo.tpot_ms,
            tpot(sample).or_else(|| span(sample)),
            sample.tokens() <= 1,
        )
        && keeps(slo.e2e_ms, Some(last(sample).saturating_sub(sent)), false)
}

/// Time per token after the first of an answer with a single chunk of text, where there are events enough for its tokens:
/// an engine sends one for a token that is no text, as the one that ends the answer.
fn span(sample: &Sample) -> Option<Duration> {
    let [chunk] = sample.chunks[..] else {
        return None;
    };
    let tokens = sample.tokens();
    let last = sample.silent.last().copied().unwrap_or_default();
    match u32::try_from(tokens.saturating_sub(1)) {
        Ok(gaps @ 1..) if tokens <= 1 + sample.silent.len() as u64 => {
            Some(last.saturating_sub(chunk.at) / gaps)
        }
        _ => None,
    }
}

pub(super) fn milliseconds(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1e6
}
