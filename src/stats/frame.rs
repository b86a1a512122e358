//! A result without what its samples tell, and how they fill it: the bench does it once, `aif report` again.
//!
//! Kept in `samples.parquet`, so that whoever has the samples has the result. All that a tally knows is filled in by
//! [`Frame::fill`] and nowhere else: what is computed in two places is not the same for long. Pure; nothing can fail.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    histogram::Distribution,
    results::{Metric, Results},
    summary::Window,
    tally::Tally,
    tasks, validity,
};
use crate::{load::sample::Outcome, recipe::Slo};

/// A result without its samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    /// The result; what samples tell is empty.
    pub results: Results,
    /// What the verdict is made of, likewise.
    pub facts: validity::Facts,
    /// The measured window as it came.
    pub window: Window,
    /// Over which the rate of an open loop is taken: what a schedule has in it is a whole number of gaps. The same as
    /// `window` where it is not told.
    #[serde(default)]
    pub sending: Option<Window>,
    /// As it was planned, or cut short; that is what a tally begins with.
    pub planned: Window,
    /// Limits of a good request.
    pub slo: Slo,
    /// How long the load took, its drain included.
    pub elapsed: Duration,
    /// Does each request ask for lengths of its own?
    pub lengths_vary: bool,
    /// Does a schedule say when requests are sent?
    pub is_open: bool,
}

impl Frame {
    /// A tally that nothing was counted in yet.
    pub fn tally(&self) -> Tally {
        Tally::new(self.planned, &self.slo)
    }

    /// The result of these samples.
    pub fn fill(&self, tally: &Tally, asked: &Asked) -> Results {
        let mut results = self.results.clone();
        let counts = tally.counts();
        let whole = tally.whole();
        let lateness = tally.lateness();
        results.metrics = tally.metrics(self.window);
        if self.lengths_vary {
            results.metrics.extend(asked.metrics());
        }
        if let Some(collection) = &results.collection {
            results.metrics.extend(collection.metrics.clone());
        }
        let tokenless = self.facts.whole_answers;
        (results.metrics).retain(|name, metric| is_told(name, metric, tokenless));
        let metrics = &results.metrics;
        let of = |name: &str| metrics.get(name);
        let median = |name: &str| of(name).and_then(|metric| metric.p50);

        let mut facts = self.facts.clone();
        facts.successes = counts.successes;
        facts.total = counts.total;
        facts.arrived = counts.arrived;
        facts.achieved_rate = if self.is_open {
            tally.arrival_rate(self.sending.unwrap_or(self.window))
        } else {
            tally.sent_rate(self.window)
        };
        facts.dropped = counts.dropped;
        facts.local_limit = (counts.by_class.get(Outcome::LOCAL_LIMIT))
            .copied()
            .unwrap_or(0);
        facts.lateness_p99_ms = lateness.p99_ms;
        facts.lateness_max_ms = lateness.max_ms;
        facts.ttft_p50_ms = median(if tokenless {
            "request_latency"
        } else {
            "time_to_first_token"
        });
        facts.itl_p50_ms = median("inter_token_latency");
        facts.counted_by_chunks = whole.uncounted > 0 && !tokenless;
        facts.stalled = tally.later_than(facts.stall_limit_ms());
        results.validity = validity::judge(&facts);
        tasks::judge(
            &results.generator.tasks,
            facts.ttft_p50_ms,
            self.window.seconds(),
            &mut results.validity,
        );

        results.throughput_req_per_sec = of("request_throughput").map_or(0.0, |metric| metric.avg);
        results.total_requests = counts.total;
        results.successes = counts.successes;
        results.errors = counts.errors;
        results.avg_latency_ms = counts.avg_latency_ms;
        results.min_latency_ms = counts.min_latency_ms;
        results.max_latency_ms = counts.max_latency_ms;
        results.errors_by_class = counts.by_class;
        results.responses_by_status = counts.by_status;
        results.tokens.prompt.client = whole.prompt_tokens;
        results.tokens.output.client = whole.output_tokens;
        results.engine_times = (results.engine_times).and_then(|told| told.with(&whole));
        let generator = &mut results.generator;
        generator.achieved_rate = facts.achieved_rate;
        generator.dropped = whole.dropped;
        generator.lateness_p50_ms = lateness.p50_ms;
        generator.lateness_p99_ms = lateness.p99_ms;
        generator.lateness_max_ms = lateness.max_ms;
        generator.bundled_share =
            (whole.chunks > 0).then(|| whole.bundled as f64 / whole.chunks as f64);
        results.conversations = tally.turns().conversations();
        results.turns = tally.turns().results();
        results.slices = tally.slices(self.elapsed);
        results
    }
}

/// Metrics of tokens, which mean something for whole answers only where the service counts some.
const OF_TOKENS: [&str; 5] = [
    "output_token_throughput",
    "total_token_throughput",
    "output_sequence_length",
    "output_sequence_length_asked",
    "normalized_time_per_output_token",
];

/// Is a metric told? That of the first byte is for whole answers alone, which have no first token.
fn is_told(name: &str, metric: &Metric, tokenless: bool) -> bool {
    if tokenless {
        metric.avg > 0.0 || !OF_TOKENS.contains(&name)
    } else {
        name != "time_to_first_byte"
    }
}

#[cfg(test)]
impl Frame {
    /// One of a load of two seconds, after one of warm-up.
    pub(crate) fn example() -> Self {
        let window = Window {
            start: Duration::from_secs(1),
            end: Duration::from_secs(3),
        };
        let results = serde_json::json!({
            "total_requests": 0, "successes": 0, "errors": 0, "avg_latency_ms": 0.0, "min_latency_ms": 0.0,
            "max_latency_ms": 0.0, "throughput_req_per_sec": 0.0, "schema": 1, "name": "n", "service_name": "s",
            "completeness": "complete", "started_at": "2026-01-02T03:04:05Z", "ended_at": "2026-01-02T03:05:06Z",
            "duration_seconds": 2.0, "warmup_seconds": 1.0, "target": {"model": "m"}, "load": {}, "workload": {},
            "errors_by_class": {}, "metrics": {}, "validity": {"verdict": "valid", "reasons": []},
            "stimulus_sha256": ""
        });
        let frame = serde_json::json!({
            "results": results, "facts": {}, "window": window, "planned": window, "slo": {"ttft_ms": 4.5},
            "elapsed": Duration::from_secs(3), "lengths_vary": true, "is_open": true,
        });
        serde_json::from_value(frame).expect("a frame")
    }
}

/// Lengths that were asked of the requests of the window.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Asked {
    input: Distribution,
    output: Distribution,
}

impl Asked {
    /// Adds a request.
    pub fn take(&mut self, input: Option<u64>, output: Option<u64>) {
        for (all, tokens) in [(&mut self.input, input), (&mut self.output, output)] {
            if let Some(tokens) = tokens {
                all.record_count(tokens);
            }
        }
    }

    fn metrics(&self) -> impl Iterator<Item = (String, Metric)> {
        [("input", &self.input), ("output", &self.output)]
            .into_iter()
            .filter_map(|(what, all)| {
                let name = format!("{what}_sequence_length_asked");
                Some((name, all.to_metric("tokens")?))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::sample::{Outcome, Sample};

    #[test]
    fn what_was_dropped_in_the_warm_up_is_no_fault_of_the_window() {
        let frame = Frame::example();
        let filled = |dropped_at: u64| {
            let mut tally = frame.tally();
            for n in 0..5 {
                let at = Duration::from_millis(1100 + n);
                tally.take(&Sample {
                    sent: Some(at),
                    outcome: Outcome::Success,
                    ..Sample::planned(n, at)
                });
            }
            for n in 0..7 {
                tally.take(&Sample {
                    outcome: Outcome::NeverSent,
                    dropped: true,
                    ..Sample::planned(n, Duration::from_millis(dropped_at))
                });
            }
            let results = frame.fill(&tally, &Asked::default());
            let told = results.validity.reasons.join(" ");
            (results.generator.dropped, told)
        };
        let (dropped, told) = filled(500);
        assert_eq!(dropped, 7, "the whole load's stand in the result");
        assert!(!told.contains("dropped"), "{told}");
        let (_, told) = filled(1500);
        assert!(told.contains("7 of 12 requests were dropped"), "{told}");
    }
}
