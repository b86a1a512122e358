//! Adds samples up as they end, so that none is kept: a load of ten million requests takes the memory of one of ten.
//!
//! The window is given before the first sample: as planned, or open where only a number of requests ends the load.
//! What the result says is the same as if all samples had been kept, for nothing is intended, and nothing ends, after
//! the end of a load that came to it early. Times are exact in sums and extremes, and to three significant figures in
//! percentiles. Tallies of several workers, or tasks, are merged: these send theirs as JSON. Pure; nothing can fail.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    events,
    histogram::Distribution,
    observed::Observed,
    results::{Metric, Slice},
    seconds::Seconds,
    summary::{Counts, Lateness, Window, meets, runs_of_tokens},
    turns::Turns,
    whole::Whole,
};
use crate::{
    load::sample::{Outcome, Sample},
    recipe::Slo,
};

/// The share of answers with stamps of the kernel from which on all are taken to have them: it begins to stamp a moment
/// after it was asked.
const KERNEL_STAMPED: f64 = 0.99;
/// Error messages that a result shows.
const ERROR_SAMPLES: usize = 5;

/// All that is known of a load, without its samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    window: Window,
    slo: Slo,
    observed: Observed,
    /// How requests of the window ended; latencies stand in `observed`.
    counts: Counts,
    good: u64,
    /// Those that keep the limits as a tool sees it that takes every event for a chunk.
    #[serde(default)]
    good_by_event: u64,
    /// Requests of the window by the number of the instance that they went to, and those of them that failed.
    #[serde(default)]
    by_instance: BTreeMap<usize, (u64, u64)>,
    /// Sent − intended, without the time that a new connection took, of what was sent of the window, however it ended.
    lateness: Distribution,
    /// Within the window, whoever they belong to.
    within: Within,
    /// Latest end of a request of the window.
    owned_end: Option<Duration>,
    seconds: Seconds,
    turns: Turns,
    /// Over the whole load.
    whole: Whole,
    loop_delay: Distribution,
    /// How long bytes of the window lay there before they were read, where the system tells.
    read_delay: Distribution,
}

/// What happened within the window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Within {
    sent: u64,
    /// Those with nothing before them in a conversation that were sent, or met a service that let nobody in.
    begun: u64,
    /// When the last two of the latter were sent, the last first.
    #[serde(default)]
    last_begun: [Option<Duration>; 2],
    answered: u64,
    output_tokens: u64,
    prompt_tokens: u64,
}

impl Tally {
    /// Nothing ended yet. Of a load whose end is not planned, the window's end is [`Duration::MAX`].
    pub fn new(window: Window, slo: &Slo) -> Self {
        Self {
            window,
            slo: *slo,
            observed: Observed::default(),
            counts: Counts::default(),
            good: 0,
            good_by_event: 0,
            by_instance: BTreeMap::new(),
            lateness: Distribution::new(),
            within: Within::default(),
            owned_end: None,
            seconds: Seconds::default(),
            turns: Turns::default(),
            whole: Whole::default(),
            loop_delay: Distribution::new(),
            read_delay: Distribution::new(),
        }
    }

    /// Sets the window, where its start was not known at first: before anything can have happened in it.
    pub fn begin(&mut self, window: Window) {
        self.window = window;
    }

    /// The window that samples are held against.
    pub fn window(&self) -> Window {
        self.window
    }

    /// Adds a request that has ended.
    pub fn take(&mut self, sample: &Sample) {
        self.whole.take(sample);
        self.within.take(sample, self.window);
        self.seconds.take(sample);
        let owned = self.window.owns(sample.intended);
        self.turns.take(sample, owned);
        if !owned {
            return;
        }
        self.counts.total += 1;
        self.counts.arrived += u64::from(sample.is_first() && !sample.dropped);
        self.counts.dropped += u64::from(sample.dropped);
        self.owned_end = self.owned_end.max(Some(sample.end));
        for lay in &sample.lay {
            self.read_delay.record(Duration::from_nanos((*lay).into()));
        }
        if let Some(status) = sample.status {
            *self.counts.by_status.entry(status).or_default() += 1;
        }
        if let Some(sent) = sample.sent {
            let connect = sample.connect.unwrap_or_default();
            let late = sent.saturating_sub(sample.intended);
            self.lateness.record(late.saturating_sub(connect));
        }
        let Some(class) = sample.outcome.class() else {
            self.counts.successes += 1;
            self.observed.take(sample);
            self.good += u64::from(meets(sample, &self.slo));
            self.good_by_event += u64::from(events::meets(sample, &self.slo));
            if let Some(sent) = sample.sent {
                self.seconds.take_answered(sample, sent);
            }
            return;
        };
        self.counts.errors += 1;
        match self.counts.by_class.get_mut(class) {
            Some(count) => *count += 1,
            None => drop(self.counts.by_class.insert(class.to_owned(), 1)),
        }
        if let Outcome::Error(class, message) = &sample.outcome {
            self.keep_message(format!("{class}: {message}"));
        }
    }

    /// Adds, beside [`Self::take`], which instance it went to.
    pub fn take_instance(&mut self, instance: usize, sample: &Sample) {
        if self.window.owns(sample.intended) {
            let (requests, failed) = self.by_instance.entry(instance).or_default();
            *requests += 1;
            *failed += u64::from(!sample.is_success());
        }
    }

    /// Requests of the window that each of so many instances got, and those of them that failed.
    pub fn by_instance(&self, instances: usize) -> (Vec<u64>, Vec<u64>) {
        let of = |instance| self.by_instance.get(&instance).copied().unwrap_or_default();
        (0..instances).map(of).unzip()
    }

    /// Adds a time by which the event loop of a worker was late for a moment that it had set itself.
    pub fn take_loop_delay(&mut self, at: Duration, delay: Duration) {
        if self.window.owns(at) {
            self.loop_delay.record(delay);
        }
    }

    /// Adds what another worker of the same load has seen.
    pub fn merge(&mut self, other: &Self) {
        self.observed.merge(&other.observed);
        self.counts.total += other.counts.total;
        self.counts.arrived += other.counts.arrived;
        self.counts.dropped += other.counts.dropped;
        self.counts.successes += other.counts.successes;
        self.counts.errors += other.counts.errors;
        for (class, count) in &other.counts.by_class {
            *self.counts.by_class.entry(class.clone()).or_default() += count;
        }
        for (status, count) in &other.counts.by_status {
            *self.counts.by_status.entry(*status).or_default() += count;
        }
        for message in &other.counts.error_samples {
            self.keep_message(message.clone());
        }
        self.good += other.good;
        self.good_by_event += other.good_by_event;
        for (instance, (requests, failed)) in &other.by_instance {
            let all = self.by_instance.entry(*instance).or_default();
            *all = (all.0 + requests, all.1 + failed);
        }
        self.lateness.merge(&other.lateness);
        self.within.sent += other.within.sent;
        self.within.begun += other.within.begun;
        for at in other.within.last_begun {
            self.within.begun_at(at);
        }
        self.within.answered += other.within.answered;
        self.within.output_tokens += other.within.output_tokens;
        self.within.prompt_tokens += other.within.prompt_tokens;
        self.owned_end = self.owned_end.max(other.owned_end);
        self.seconds.merge(&other.seconds);
        self.turns.merge(&other.turns);
        self.whole.merge(&other.whole);
        self.loop_delay.merge(&other.loop_delay);
        self.read_delay.merge(&other.read_delay);
    }

    /// Metrics of the window by name. It is the one given at first, with the end that the load came to.
    pub fn metrics(&self, window: Window) -> BTreeMap<String, Metric> {
        let mut metrics = self.observed.metrics();
        let seconds = window.seconds();
        if seconds <= 0.0 {
            return metrics;
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
        let Within {
            answered,
            output_tokens: output,
            prompt_tokens: prompt,
            ..
        } = self.within;
        scalar(
            "request_throughput",
            "requests/s",
            answered as f64 / seconds,
        );
        scalar(
            "output_token_throughput",
            "tokens/s",
            output as f64 / seconds,
        );
        let all = (output + prompt) as f64;
        scalar("total_token_throughput", "tokens/s", all / seconds);
        if let Some(share) = self.observed.cached_share() {
            scalar("prompt_cache_hit_ratio", "ratio", share);
        }
        let slo = &self.slo;
        if slo.ttft_ms.is_some() || slo.tpot_ms.is_some() || slo.e2e_ms.is_some() {
            let good = self.good as f64;
            scalar("goodput", "requests/s", good / seconds);
            if self.counts.total > 0 {
                scalar("slo_attainment", "ratio", good / self.counts.total as f64);
            }
        }
        metrics
    }

    /// How the requests of the window ended.
    pub fn counts(&self) -> Counts {
        let latency = &self.observed.latency;
        Counts {
            avg_latency_ms: latency.mean_ms(),
            min_latency_ms: latency.min_ms(),
            max_latency_ms: latency.max_ms(),
            ..self.counts.clone()
        }
    }

    /// How late the requests of the window left.
    pub fn lateness(&self) -> Lateness {
        Lateness::of(&self.lateness)
    }

    /// How many of them were later than that.
    pub fn later_than(&self, milliseconds: f64) -> u64 {
        self.lateness.count_over_ms(milliseconds)
    }

    /// The same, one observation a request.
    pub fn all_lateness(&self) -> &Distribution {
        &self.lateness
    }

    /// How late the event loops of the workers were, where they looked.
    pub fn loop_delay(&self) -> Option<Lateness> {
        (self.loop_delay.count() > 0).then(|| Lateness::of(&self.loop_delay))
    }

    /// How long bytes lay on this machine before they were read, where the system tells.
    pub fn read_delay(&self) -> Option<Lateness> {
        (self.read_delay.count() > 0).then(|| Lateness::of(&self.read_delay))
    }

    /// How late stamps may be: the kernel's are not, whatever the event loops did.
    pub fn stamp_delay(&self) -> Option<Lateness> {
        let are_all = self
            .stamped_share()
            .is_some_and(|share| share > KERNEL_STAMPED);
        self.loop_delay().filter(|_| !are_all)
    }

    /// Requests sent within the window, per second of it; 0 for an empty window.
    ///
    /// By the time of sending: a generator that falls behind does not reach its rate, however much it catches up later.
    pub fn sent_rate(&self, window: Window) -> f64 {
        per_second(self.within.sent, window)
    }

    /// When the last but one request of a schedule was sent within the window: of the very last alone nothing follows, as
    /// of any other that was late by itself.
    pub fn last_arrival_but_one(&self) -> Option<Duration> {
        self.within.last_begun[1]
    }

    /// The same of those that a schedule made: all but the later turns of conversations.
    pub fn arrival_rate(&self, window: Window) -> f64 {
        per_second(self.within.begun, window)
    }

    /// Conversations and their turns.
    pub fn turns(&self) -> &Turns {
        &self.turns
    }

    /// The whole load in seconds, up to its end. What came later is told in the last.
    pub fn slices(&self, end: Duration) -> Vec<Slice> {
        self.seconds.slices(end)
    }

    /// Of the answers, the share whose stamps are the kernel's; `None` where nothing came.
    pub fn stamped_share(&self) -> Option<f64> {
        let Whole { heard, stamped, .. } = self.whole;
        (heard > 0).then(|| stamped as f64 / heard as f64)
    }

    /// The whole load, warm-up and drain included.
    pub fn whole(&self) -> Whole {
        self.whole
    }

    /// Distributions over the successes of the window.
    pub fn observed(&self) -> &Observed {
        &self.observed
    }

    /// All distributions of times, by the names of their metrics; how late the generator was comes last.
    pub fn distributions(&self) -> Vec<(&'static str, &Distribution)> {
        let named = self.observed.named().into_iter();
        let times = named.filter(|(.., unit)| *unit == "ms");
        let mut all: Vec<_> = times.map(|(name, all, _)| (name, all)).collect();
        all.extend([
            ("lateness", &self.lateness),
            ("loop_delay", &self.loop_delay),
            ("read_delay", &self.read_delay),
        ]);
        all
    }

    /// Requests that keep the limits as a tool sees it that takes every event for a chunk.
    pub fn good_by_event(&self) -> u64 {
        self.good_by_event
    }

    /// The latest end of a request of the window.
    pub fn owned_end(&self) -> Option<Duration> {
        self.owned_end
    }

    /// Of the answered requests of the window: most chunks in a second of the load, and most requests.
    pub fn peaks(&self) -> (u64, u64) {
        self.seconds.peaks()
    }

    fn keep_message(&mut self, text: String) {
        let kept = &mut self.counts.error_samples;
        if kept.len() < ERROR_SAMPLES && !kept.contains(&text) {
            kept.push(text);
        }
    }
}

fn per_second(count: u64, window: Window) -> f64 {
    let seconds = window.seconds();
    if seconds <= 0.0 {
        return 0.0;
    }
    count as f64 / seconds
}

impl Within {
    fn begun_at(&mut self, at: Option<Duration>) {
        let [last, before] = &mut self.last_begun;
        if at > *last {
            (*last, *before) = (at, *last);
        } else {
            *before = at.max(*before);
        }
    }

    fn take(&mut self, sample: &Sample, window: Window) {
        self.sent += u64::from(sample.sent.is_some_and(|at| window.owns(at)));
        // whom the service does not let in has come all the same
        let refused = || (sample.is_first() && sample.was_refused()).then_some(sample.intended);
        if let Some(at) = sample.sent.or_else(refused)
            && sample.is_first()
            && window.owns(at)
        {
            self.begun += 1;
            self.begun_at(Some(at));
        }
        self.answered += u64::from(sample.is_success() && window.saw(sample.end));
        let alike = |one, other| window.saw(one) == window.saw(other);
        for (at, tokens, _) in runs_of_tokens(sample, alike) {
            self.output_tokens += if window.saw(at) { tokens } else { 0 };
        }
        if sample.chunks.is_empty() && sample.is_success() && window.saw(sample.end) {
            self.output_tokens += sample.tokens();
        }
        // with the first token, or the whole answer, the prompt is known to have been read
        let known = sample.first_token();
        let whole = || sample.is_success().then_some(sample.end);
        if known.or_else(whole).is_some_and(|at| window.saw(at)) {
            self.prompt_tokens += sample.prompt_tokens.unwrap_or(0);
        }
    }
}

#[cfg(test)]
#[path = "tally_tests.rs"]
mod tests;
