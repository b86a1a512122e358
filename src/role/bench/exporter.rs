//! What Prometheus sees of a bench while it runs: `aif_bench_*`.
//!
//! Told of every request in the load path, so it only counts and observes; whatever is derived is derived elsewhere. What
//! the node does meanwhile is looked at beside it, by [`crate::telemetry::paced`].

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use jiff::Timestamp;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use super::tokens::Tokens;
use crate::{
    clock,
    load::{
        dispatch::{Live, Observer},
        sample::{Outcome, Sample},
    },
    recipe::Api,
};

/// Buckets for waiting on a model: from a cached token to a queue of minutes.
const SECONDS: [f64; 19] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    30.0, 60.0, 120.0,
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

/// Of a family whose only series is there or not.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NoLabels {}

/// How requests end; the first is well.
const OUTCOMES: [&str; 5] = ["success", "error", "timeout", "cancelled", "never_sent"];

/// Counts since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Requests that ended well.
    pub(super) answered: u64,
    /// Those that did not.
    pub(super) failed: u64,
    /// Output tokens, counted as they come.
    pub(super) tokens: u64,
    /// Those that had a first token, or an answer without any.
    pub(super) first_tokens: u64,
    /// Time to it, summed, in µs.
    pub(super) waited_us: u64,
    /// In flight now.
    pub(super) in_flight: i64,
}

/// The metrics of a bench.
#[derive(Debug)]
pub(super) struct Exporter {
    generates: bool,
    requests: Family<OutcomeLabel, Counter>,
    in_flight: Gauge,
    prompt_tokens: Counter,
    output_tokens: Tokens,
    time_to_first_token: Histogram,
    request_latency: Histogram,
    inter_token_latency: Histogram,
    lateness: Histogram,
    /// Shares of the true neighbours that queries of vectors found.
    recall: Histogram,
    inserted: Counter,
    is_of_vectors: bool,
    /// Loads that have begun.
    loads: Counter,
    /// How far the one is that is under way: there is no such series before the first, and no share of one whose end is
    /// not planned.
    load_seconds: Family<NoLabels, Gauge<f64, AtomicU64>>,
    load_ratio: Family<NoLabels, Gauge<f64, AtomicU64>>,
    /// First tokens, and how long they were waited for in all, in µs.
    first_tokens: AtomicU64,
    waited_us: AtomicU64,
    /// When the first token came that any request got, by the monotonic clock in nanoseconds.
    first_token: AtomicU64,
    /// Requests refused the connection since the last that was not: how [`super::sight`] sees a lost service.
    pub(super) unconnected_in_a_row: AtomicU64,
}

impl Exporter {
    /// Nothing counted yet, of requests to this API.
    pub(super) fn new(api: Api) -> Self {
        let histogram = || Histogram::new(SECONDS);
        let requests = Family::<OutcomeLabel, Counter>::default();
        // present from the first scrape on, so that a rate has a start
        for outcome in OUTCOMES {
            drop(requests.get_or_create(&OutcomeLabel { outcome }));
        }
        Self {
            generates: api.generates(),
            requests,
            in_flight: Gauge::default(),
            prompt_tokens: Counter::default(),
            output_tokens: Tokens::default(),
            time_to_first_token: histogram(),
            request_latency: histogram(),
            inter_token_latency: histogram(),
            lateness: histogram(),
            recall: Histogram::new((1..=20).map(|part| f64::from(part) / 20.0)),
            inserted: Counter::default(),
            is_of_vectors: api.is_of_vectors(),
            loads: Counter::default(),
            load_seconds: Family::default(),
            load_ratio: Family::default(),
            first_tokens: AtomicU64::new(0),
            waited_us: AtomicU64::new(0),
            first_token: AtomicU64::new(u64::MAX),
            unconnected_in_a_row: AtomicU64::new(0),
        }
    }

    /// A load begins.
    pub(super) fn load_begins(&self) {
        self.loads.inc();
        self.load_ratio.clear();
    }

    /// How far it is.
    pub(super) fn load_goes(&self, elapsed: Duration, share: Option<f64>) {
        self.load_seconds
            .get_or_create(&NoLabels {})
            .set(elapsed.as_secs_f64());
        if let Some(share) = share {
            self.load_ratio
                .get_or_create(&NoLabels {})
                .set(share.min(1.0));
        }
    }

    /// Requests that have ended well so far.
    pub(super) fn answered(&self) -> u64 {
        let outcome = "success";
        self.requests.get_or_create(&OutcomeLabel { outcome }).get()
    }

    /// What the counters say now.
    pub(super) fn seen(&self) -> Seen {
        let count = |outcome| self.requests.get_or_create(&OutcomeLabel { outcome }).get();
        Seen {
            answered: self.answered(),
            failed: OUTCOMES[1..].iter().map(|outcome| count(outcome)).sum(),
            tokens: self.output_tokens.count(),
            first_tokens: self.first_tokens.load(Relaxed),
            waited_us: self.waited_us.load(Relaxed),
            in_flight: self.in_flight.get(),
        }
    }

    /// So many vectors were inserted.
    pub(super) fn inserted(&self, count: u64) {
        self.inserted.inc_by(count);
    }

    fn waited(&self, time: Duration) {
        self.first_tokens.fetch_add(1, Relaxed);
        let time = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.waited_us.fetch_add(time, Relaxed);
    }

    /// When the first token of all came; `None` where none came.
    pub(super) fn first_token_at(&self) -> Option<Timestamp> {
        let first = self.first_token.load(Relaxed);
        if first == u64::MAX {
            return None;
        }
        let ago = Duration::from_nanos(clock::monotonic_nanoseconds().saturating_sub(first));
        clock::now().checked_sub(ago).ok()
    }

    /// The registry that the agent serves; without the times of tokens where answers are none.
    pub(super) fn registry(&self) -> Registry {
        // what others register beside it has names of its own
        let mut whole = Registry::default();
        let registry = whole.sub_registry_with_prefix("aif_bench");
        registry.register(
            "requests",
            "Requests that have ended, by outcome",
            self.requests.clone(),
        );
        registry.register(
            "requests_in_flight",
            "Requests in flight",
            self.in_flight.clone(),
        );
        registry.register(
            "prompt_tokens",
            "Prompt tokens, as the engine reports them",
            self.prompt_tokens.clone(),
        );
        registry.register_collector(Box::new(self.output_tokens.clone()));
        registry.register("loads", "Loads that have begun", self.loads.clone());
        registry.register_with_unit(
            "load",
            "Time since the load under way began",
            Unit::Seconds,
            self.load_seconds.clone(),
        );
        registry.register_with_unit(
            "load",
            "Share of the load under way that is done",
            Unit::Other("ratio".to_owned()),
            self.load_ratio.clone(),
        );
        if self.is_of_vectors {
            registry.register(
                "recall",
                "Share of the true neighbours that a query found",
                self.recall.clone(),
            );
            registry.register(
                "inserted_vectors",
                "Vectors inserted before the load",
                self.inserted.clone(),
            );
        }
        let mut seconds = |name: &str, help: &str, metric: &Histogram| {
            registry.register_with_unit(name, help, Unit::Seconds, metric.clone());
        };
        if self.generates {
            seconds(
                "time_to_first_token",
                "Time from sending to the first chunk with content",
                &self.time_to_first_token,
            );
            seconds(
                "inter_token_latency",
                "Mean gap between the tokens of a request",
                &self.inter_token_latency,
            );
        }
        seconds(
            "request_latency",
            "Time from sending to the last content",
            &self.request_latency,
        );
        seconds(
            "lateness",
            "Time by which requests were sent later than intended, without connecting",
            &self.lateness,
        );
        whole
    }
}

impl Observer for Arc<Exporter> {
    fn begun(&self) {
        self.in_flight.inc();
    }

    fn live(&self) -> Arc<Live> {
        self.output_tokens.live()
    }

    fn ended(&self, sample: &Sample) {
        if !sample.dropped {
            self.in_flight.dec();
        }
        let outcome = match sample.outcome.class() {
            None => "success",
            Some("timeout") => "timeout",
            Some("cancelled") => "cancelled",
            Some("never_sent") => "never_sent",
            Some(_) => "error",
        };
        self.requests.get_or_create(&OutcomeLabel { outcome }).inc();
        // what this machine refuses itself says nothing of the service
        if sample.outcome.class() != Some(Outcome::LOCAL_LIMIT) {
            if sample.outcome.is_unconnected() {
                self.unconnected_in_a_row.fetch_add(1, Relaxed);
            } else {
                self.unconnected_in_a_row.store(0, Relaxed);
            }
        }
        self.prompt_tokens.inc_by(sample.prompt_tokens.unwrap_or(0));
        self.output_tokens.ended(sample);
        let Some(sent) = sample.sent else { return };
        let late = sent.saturating_sub(sample.intended);
        let late = late.saturating_sub(sample.connect.unwrap_or_default());
        self.lateness.observe(late.as_secs_f64());
        if let Some(share) = sample.recall {
            self.recall.observe(f64::from(share) / 1e6);
        }
        let (Some(first), Some(last)) = (sample.first_token(), sample.last_token()) else {
            if sample.is_success() && !self.generates {
                let took = sample.end.saturating_sub(sent);
                self.request_latency.observe(took.as_secs_f64());
                self.waited(took);
            }
            return;
        };
        let waited = first.saturating_sub(sent);
        self.time_to_first_token.observe(waited.as_secs_f64());
        self.waited(waited);
        let since = sample.end.saturating_sub(first).as_nanos();
        let since = u64::try_from(since).unwrap_or(u64::MAX);
        let at = clock::monotonic_nanoseconds().saturating_sub(since);
        self.first_token.fetch_min(at, Relaxed);
        if sample.is_success() {
            self.request_latency
                .observe(last.saturating_sub(sent).as_secs_f64());
            if sample.tokens() > 1 && sample.chunks.len() > 1 {
                let gaps = (sample.tokens() - 1) as f64;
                self.inter_token_latency
                    .observe(last.saturating_sub(first).as_secs_f64() / gaps);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn tokens_are_told_under_their_old_name() {
        let exporter = Exporter::new(Api::Chat);
        let mut text = String::new();
        encode(&mut text, &exporter.registry()).unwrap();
        let wanted = "# HELP aif_bench_output_tokens Output tokens, counted as they come.\n# TYPE aif_bench_output_tokens counter\naif_bench_output_tokens_total 0\n";
        assert!(text.contains(wanted), "{text}");
    }
}
