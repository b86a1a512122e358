//! The certificate of a load generator: by how much its measurements miss the truth, found on an engine of known times.
//!
//! Both sides stamp by the clock of one machine, and requests carry a number, so each measured time has its true one
//! beside it. An error is their difference without a sign. The truth of a first token counts from the request's coming to
//! the machine, as the kernel stamps it, to the engine's writing: the way through both sockets, the event loop and the
//! stamp is all the generator's. What contention with the real engine adds on shared cores is not in it: that engine is
//! idle meanwhile. Pure; nothing can fail.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::{histogram::Distribution, results::Metric};

/// When a request left or came, and then when each of its tokens did; nanoseconds of the monotonic clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamps {
    /// What the request is called on both sides.
    pub tag: u64,
    /// The times.
    pub at: Vec<u64>,
}

/// What the generator measured, and by how much that was wrong.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Certificate {
    /// How long it was loaded, in seconds.
    pub seconds: f64,
    /// From a request to its first token, as the engine was told, in ms.
    pub engine_first_ms: f64,
    /// From a token to the next.
    pub engine_gap_ms: f64,
    /// By how much the engine itself was late at the most; errors count from what it did, not from what it was told.
    pub engine_late_ms: f64,
    /// Did it run on CPUs of the generator?
    pub cores_shared: bool,
    /// Requests whose times were compared.
    pub requests: u64,
    /// Rate that was sent.
    pub achieved_rate: f64,
    /// Lateness (sent − intended), 99th percentile, in ms.
    pub lateness_p99_ms: f64,
    /// Largest of the same.
    pub lateness_max_ms: f64,
    /// Delay of the event loops, 99th percentile, in ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loop_delay_p99_ms: Option<f64>,
    /// Errors without a sign, by the metric that they are of; `stamp_delay` is from the engine's writing of a token to the
    /// stamp that it got.
    pub errors: BTreeMap<String, Metric>,
}

impl Certificate {
    /// The error of a metric; what counts from the intended time has the error of what counts from the sending.
    pub fn error(&self, metric: &str) -> Option<&Metric> {
        self.errors
            .get(metric.strip_suffix("_scheduled").unwrap_or(metric))
    }
}

/// Errors of all requests.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Errors {
    /// Requests that were found on both sides.
    pub matched: u64,
    /// Of the time to the first token.
    pub first: Distribution,
    /// Of each gap between two tokens.
    pub gap: Distribution,
    /// Of the mean gap of each request.
    pub per_token: Distribution,
    /// Of the time to the last token.
    pub last: Distribution,
    /// From the engine's writing of a token to its stamp.
    pub delay: Distribution,
}

impl Errors {
    /// Compares what was seen with what was done. A request that one side does not have, or has twice because it was
    /// sent again, is left out; of one that was given up, what came is compared.
    pub fn of(seen: &[Stamps], done: &[Stamps]) -> Self {
        let mut truth: HashMap<u64, Option<&Stamps>> = HashMap::with_capacity(done.len());
        for one in done {
            truth
                .entry(one.tag)
                .and_modify(|twice| *twice = None)
                .or_insert(Some(one));
        }
        let mut errors = Self::default();
        for one in seen {
            if let Some(Some(done)) = truth.get(&one.tag)
                && done.at.len() >= one.at.len()
            {
                errors.take(&one.at, &done.at);
            }
        }
        errors
    }

    fn take(&mut self, seen: &[u64], done: &[u64]) {
        let ([sent, first, .., last] | [sent, first @ last]) = seen else {
            return;
        };
        let off = |seen: u64, done: u64| nanoseconds(seen.abs_diff(done));
        let span = |at: &[u64], from: usize, to: usize| at[to].saturating_sub(at[from]);
        let end = seen.len() - 1;
        self.matched += 1;
        self.first
            .record(off(first.saturating_sub(*sent), span(done, 0, 1)));
        self.last
            .record(off(last.saturating_sub(*sent), span(done, 0, end)));
        for token in 1..=end {
            let delay = seen[token].saturating_sub(done[token]);
            self.delay.record(nanoseconds(delay));
        }
        for token in 2..=end {
            let (seen, done) = (span(seen, token - 1, token), span(done, token - 1, token));
            self.gap.record(off(seen, done));
        }
        if let Some(gaps) = (end as u64).checked_sub(1).filter(|gaps| *gaps > 0) {
            let (seen, done) = (span(seen, 1, end), span(done, 1, end));
            self.per_token.record(off(seen / gaps, done / gaps));
        }
    }

    /// By the metrics that they are of.
    pub fn metrics(&self) -> BTreeMap<String, Metric> {
        let all = [
            ("time_to_first_token", &self.first),
            ("inter_token_latency", &self.gap),
            ("time_per_output_token", &self.per_token),
            ("request_latency", &self.last),
            ("stamp_delay", &self.delay),
        ];
        all.into_iter()
            .filter_map(|(name, all)| Some((name.to_owned(), all.to_metric("ms")?)))
            .collect()
    }
}

fn nanoseconds(ns: u64) -> std::time::Duration {
    std::time::Duration::from_nanos(ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamps(tag: u64, at: &[u64]) -> Stamps {
        let at = at.iter().map(|us| us * 1000).collect();
        Stamps { tag, at }
    }

    #[test]
    fn each_error_is_its_difference() {
        // sent 10 µs before it came, tokens seen 5, 9 and 4 µs after they were written
        let seen = [stamps(7, &[90, 605, 1109, 1604])];
        let done = [stamps(7, &[100, 600, 1100, 1600])];
        let errors = Errors::of(&seen, &done);
        assert_eq!(errors.matched, 1);
        let of = |all: &Distribution| (all.min_ms() * 1e3, all.max_ms() * 1e3, all.count());
        assert_eq!(of(&errors.first), (15.0, 15.0, 1));
        assert_eq!(of(&errors.gap), (4.0, 5.0, 2));
        assert_eq!(of(&errors.per_token), (0.5, 0.5, 1));
        assert_eq!(of(&errors.last), (14.0, 14.0, 1));
        assert_eq!(of(&errors.delay), (4.0, 9.0, 3));
        let metrics = errors.metrics();
        assert_eq!(metrics["time_to_first_token"].max, Some(0.015));
        assert_eq!(metrics["inter_token_latency"].unit, "ms");
    }

    #[test]
    fn what_came_of_a_request_that_was_given_up_is_compared() {
        let done = [stamps(1, &[0, 10, 20, 30]), stamps(2, &[0, 10])];
        let cut = Errors::of(&[stamps(1, &[0, 11, 22])], &done);
        assert_eq!((cut.matched, cut.gap.count(), cut.delay.count()), (1, 1, 2));
        let one = Errors::of(&[stamps(2, &[0, 12])], &done);
        assert_eq!(
            (one.matched, one.gap.count(), one.per_token.count()),
            (1, 0, 0)
        );
        assert_eq!(one.metrics().keys().count(), 3);
    }

    #[test]
    fn what_has_no_truth_is_left_out() {
        let done = [
            stamps(1, &[0, 10]),
            stamps(2, &[0, 10]),
            stamps(2, &[5, 15]),
        ];
        let seen = [
            stamps(1, &[0]),         // no token
            stamps(1, &[0, 10, 20]), // a token more than was sent
            stamps(2, &[0, 10]),     // sent twice
            stamps(3, &[0, 10]),     // never came
        ];
        assert_eq!(Errors::of(&seen, &done), Errors::default());
        assert!(Errors::default().metrics().is_empty());
    }

    #[test]
    fn a_scheduled_metric_has_the_error_of_the_sent_one() {
        let mut certificate = Certificate::default();
        let error = Errors::of(&[stamps(1, &[0, 12])], &[stamps(1, &[0, 10])]);
        certificate.errors = error.metrics();
        let both = ["time_to_first_token", "time_to_first_token_scheduled"];
        assert!(both.iter().all(|name| certificate.error(name).is_some()));
        assert_eq!(certificate.error("request_throughput"), None);
    }
}
