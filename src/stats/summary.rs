//! From samples to numbers: metrics, counts, seconds, lateness.
//!
//! A sample belongs to the measured window by its intended time, also when it ends in the drain: else slow answers would
//! fall out of the result because they are slow. Rates count what happened within the window, whoever it belongs to: what
//! spills over at one end is made up for at the other. Latencies are those of successes alone. Pure; nothing can fail, and
//! what was not observed is left out.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    histogram::Distribution,
    results::{Metric, Slice},
};
use crate::{
    load::sample::{Chunk, Outcome, Sample},
    recipe::Slo,
};

/// Error messages that a result shows.
const ERROR_SAMPLES: usize = 5;

/// The measured window, since the start of the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    fn saw(self, at: Duration) -> bool {
        at > self.start && at <= self.end
    }
}

/// How the requests of a window ended.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Counts {
    /// Offered.
    pub total: u64,
    /// Ended well.
    pub successes: u64,
    /// Did not.
    pub errors: u64,
    /// The latter by class.
    pub by_class: BTreeMap<String, u64>,
    /// The first few messages, `class: message`, each once.
    pub error_samples: Vec<String>,
    /// Mean latency of successes, in ms; 0 without any.
    pub avg_latency_ms: f64,
    /// Smallest.
    pub min_latency_ms: f64,
    /// Largest.
    pub max_latency_ms: f64,
}

/// Sent − intended.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Lateness {
    /// Median.
    pub p50_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// Largest.
    pub max_ms: f64,
}

/// Metrics of a window by name.
pub fn metrics(samples: &[Sample], window: Window, slo: &Slo) -> BTreeMap<String, Metric> {
    let mut observed = Observed::default();
    let (mut offered, mut good) = (0_u64, 0_u64);
    for sample in owned(samples, window) {
        offered += 1;
        if sample.is_success() {
            observed.take(sample);
            good += u64::from(meets(sample, slo));
        }
    }
    let mut metrics = observed.into_metrics();
    let seconds = window.seconds();
    if seconds <= 0.0 {
        return metrics;
    }
    let (mut ended, mut output, mut prompt) = (0_u64, 0_u64, 0_u64);
    for sample in samples {
        ended += u64::from(sample.is_success() && window.saw(sample.end));
        for (chunk, tokens) in with_tokens(sample) {
            output += if window.saw(chunk.at) { tokens } else { 0 };
        }
        // with the first token, the prompt is known to have been read
        if sample.first_token().is_some_and(|at| window.saw(at)) {
            prompt += sample.prompt_tokens.unwrap_or(0);
        }
    }
    let mut scalar = |name: &str, unit: &str, avg: f64| {
        metrics.insert(
            name.to_owned(),
            Metric {
                unit: unit.to_owned(),
                avg,
                ..Metric::default()
            },
        );
    };
    scalar("request_throughput", "requests/s", ended as f64 / seconds);
    scalar(
        "output_token_throughput",
        "tokens/s",
        output as f64 / seconds,
    );
    let all = (output + prompt) as f64;
    scalar("total_token_throughput", "tokens/s", all / seconds);
    if slo.ttft_ms.is_some() || slo.tpot_ms.is_some() || slo.e2e_ms.is_some() {
        scalar("goodput", "requests/s", good as f64 / seconds);
        if offered > 0 {
            scalar("slo_attainment", "ratio", good as f64 / offered as f64);
        }
    }
    metrics
}

/// How the requests of a window ended.
pub fn counts(samples: &[Sample], window: Window) -> Counts {
    let mut counts = Counts::default();
    let mut latency = Distribution::new();
    let mut seen = BTreeSet::new();
    for sample in owned(samples, window) {
        counts.total += 1;
        let Some(class) = sample.outcome.class() else {
            counts.successes += 1;
            if let Some(sent) = sample.sent {
                latency.record(last(sample).saturating_sub(sent));
            }
            continue;
        };
        counts.errors += 1;
        *counts.by_class.entry(class.to_owned()).or_default() += 1;
        if let Outcome::Error(class, message) = &sample.outcome
            && counts.error_samples.len() < ERROR_SAMPLES
        {
            let text = format!("{class}: {message}");
            if seen.insert(text.clone()) {
                counts.error_samples.push(text);
            }
        }
    }
    counts.avg_latency_ms = latency.mean_ms();
    counts.min_latency_ms = latency.min_ms();
    counts.max_latency_ms = latency.max_ms();
    counts
}

/// The whole load in seconds, up to its end. What came later is told in the last.
pub fn slices(samples: &[Sample], end: Duration) -> Vec<Slice> {
    let whole = end.as_secs() + u64::from(end.subsec_nanos() > 0);
    let length = usize::try_from(whole).unwrap_or(usize::MAX);
    if length == 0 {
        return Vec::new();
    }
    let place =
        |at: Duration| usize::try_from(at.as_secs()).map_or(length - 1, |s| s.min(length - 1));
    let mut slices = vec![Slice::default(); length];
    let mut ttft: Vec<Vec<Duration>> = vec![Vec::new(); length];
    let mut left = vec![0_u64; length];
    for sample in samples {
        let ended = place(sample.end);
        if let Some(sent) = sample.sent {
            slices[place(sent)].sent += 1;
            left[ended] += 1;
            if let Some(first) = sample.first_token() {
                ttft[place(first)].push(first.saturating_sub(sent));
            }
        }
        if sample.is_success() {
            slices[ended].completed += 1;
        } else {
            slices[ended].errors += 1;
        }
        for (chunk, tokens) in with_tokens(sample) {
            slices[place(chunk.at)].output_tokens += tokens;
        }
    }
    let mut in_flight = 0_u64;
    for (at, ((slice, left), ttft)) in slices.iter_mut().zip(left).zip(&mut ttft).enumerate() {
        slice.t = at as f64;
        in_flight = (in_flight + slice.sent).saturating_sub(left);
        slice.in_flight = in_flight;
        ttft.sort_unstable();
        slice.ttft_max_ms = ttft.last().copied().map(milliseconds);
        // of an even number, the mean of both in the middle
        slice.ttft_p50_ms = (!ttft.is_empty()).then(|| {
            let pair = ttft[(ttft.len() - 1) / 2] + ttft[ttft.len() / 2];
            milliseconds(pair) / 2.0
        });
    }
    slices
}

/// How late the requests of a window left.
pub fn lateness(samples: &[Sample], window: Window) -> Lateness {
    let mut late = Distribution::new();
    for sample in owned(samples, window) {
        if let Some(sent) = sample.sent {
            late.record(sent.saturating_sub(sample.intended));
        }
    }
    Lateness {
        p50_ms: late.quantile_ms(0.5),
        p99_ms: late.quantile_ms(0.99),
        max_ms: late.max_ms(),
    }
}

/// Requests sent within the window, per second of it; 0 for an empty window.
///
/// By the time of sending: a generator that falls behind does not reach its rate, however much it catches up later.
pub fn sent_rate(samples: &[Sample], window: Window) -> f64 {
    let seconds = window.seconds();
    if seconds <= 0.0 {
        return 0.0;
    }
    let sent = samples
        .iter()
        .filter(|sample| sample.sent.is_some_and(|at| window.owns(at)))
        .count();
    sent as f64 / seconds
}

/// Distributions over the successes of a window.
#[derive(Default)]
struct Observed {
    ttft: Distribution,
    ttft_scheduled: Distribution,
    token_gaps: Distribution,
    chunk_gaps: Distribution,
    tpot: Distribution,
    latency: Distribution,
    latency_scheduled: Distribution,
    delay: Distribution,
    connect: Distribution,
    input: Distribution,
    output: Distribution,
}

impl Observed {
    fn take(&mut self, sample: &Sample) {
        let Some(sent) = sample.sent else { return };
        if let Some(first) = sample.first_token() {
            self.ttft.record(first.saturating_sub(sent));
            self.ttft_scheduled
                .record(first.saturating_sub(sample.intended));
        }
        self.latency.record(last(sample).saturating_sub(sent));
        self.latency_scheduled
            .record(last(sample).saturating_sub(sample.intended));
        self.delay.record(sent.saturating_sub(sample.intended));
        if let Some(connect) = sample.connect {
            self.connect.record(connect);
        }
        for pair in sample.chunks.windows(2) {
            self.chunk_gaps
                .record(pair[1].at.saturating_sub(pair[0].at));
        }
        self.take_token_gaps(sample);
        if let Some(tpot) = tpot(sample) {
            self.tpot.record(tpot);
        }
        if let Some(tokens) = sample.prompt_tokens {
            self.input.record_count(tokens);
        }
        self.output.record_count(sample.tokens());
    }

    /// A chunk of k tokens ends k gaps. One without a token (fewer tokens than chunks) ends none: its time goes to the
    /// next token.
    fn take_token_gaps(&mut self, sample: &Sample) {
        let Some(mut before) = sample.first_token() else {
            return;
        };
        for (chunk, tokens) in with_tokens(sample).skip(1) {
            if let Ok(parts @ 1..) = u32::try_from(tokens) {
                let gap = chunk.at.saturating_sub(before) / parts;
                self.token_gaps.record_n(gap, tokens);
                before = chunk.at;
            }
        }
    }

    fn into_metrics(self) -> BTreeMap<String, Metric> {
        [
            ("time_to_first_token", self.ttft, "ms"),
            ("time_to_first_token_scheduled", self.ttft_scheduled, "ms"),
            ("inter_token_latency", self.token_gaps, "ms"),
            ("inter_chunk_latency", self.chunk_gaps, "ms"),
            ("time_per_output_token", self.tpot, "ms"),
            ("request_latency", self.latency, "ms"),
            ("request_latency_scheduled", self.latency_scheduled, "ms"),
            ("dispatch_delay", self.delay, "ms"),
            ("connect_time", self.connect, "ms"),
            ("input_sequence_length", self.input, "tokens"),
            ("output_sequence_length", self.output, "tokens"),
        ]
        .into_iter()
        .filter_map(|(name, all, unit)| Some((name.to_owned(), all.to_metric(unit)?)))
        .collect()
    }
}

fn owned(samples: &[Sample], window: Window) -> impl Iterator<Item = &Sample> {
    samples
        .iter()
        .filter(move |sample| window.owns(sample.intended))
}

/// The last content; the end of an answer that had none.
fn last(sample: &Sample) -> Duration {
    sample.last_token().unwrap_or(sample.end)
}

/// Time per output token after the first; undefined for one token, and for one chunk, which has no time between.
fn tpot(sample: &Sample) -> Option<Duration> {
    if sample.chunks.len() < 2 {
        return None;
    }
    let gaps = u32::try_from(sample.tokens().checked_sub(1)?).ok()?;
    let time = sample.last_token()?.saturating_sub(sample.first_token()?);
    time.checked_div(gaps)
}

/// Chunks with their tokens. The server tells the sum alone: it is spread evenly, what does not divide goes to the last,
/// for an engine's first chunk is the one that is known to be short.
fn with_tokens(sample: &Sample) -> impl Iterator<Item = (Chunk, u64)> {
    let chunks = sample.chunks.len() as u64;
    let each = sample.tokens().checked_div(chunks).unwrap_or(0);
    let more = sample.tokens() - each * chunks;
    (sample.chunks.iter().zip(0_u64..))
        .map(move |(chunk, at)| (*chunk, each + u64::from(at + more >= chunks)))
}

/// Does a success keep every limit? One token has no time per token to exceed; an answer without any has missed its first.
fn meets(sample: &Sample, slo: &Slo) -> bool {
    let Some(sent) = sample.sent else {
        return false;
    };
    let keeps = |limit: Option<f64>, time: Option<Duration>, missing: bool| {
        limit.is_none_or(|limit| time.map_or(missing, |time| milliseconds(time) <= limit))
    };
    let first = sample.first_token().map(|at| at.saturating_sub(sent));
    keeps(slo.ttft_ms, first, false)
        && keeps(slo.tpot_ms, tpot(sample), true)
        && keeps(slo.e2e_ms, Some(last(sample).saturating_sub(sent)), false)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1e6
}

#[cfg(test)]
#[path = "summary_tests.rs"]
mod tests;
