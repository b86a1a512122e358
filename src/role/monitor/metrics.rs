//! What a monitor says of itself (`aif_monitor_*`), and which of its targets are up.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::AtomicU64},
};

use jiff::Timestamp;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::prometheus::{query::TargetState, targets::Targets};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Health {
    health: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ending {
    ending_job: String,
}

/// Own metrics; cloning shares them.
#[derive(Debug, Clone, Default)]
pub(super) struct Metrics {
    targets: Family<Health, Gauge<i64>>,
    restarts: Counter<u64, AtomicU64>,
    ends: Family<Ending, Gauge<f64, AtomicU64>>,
    /// How often the agent was scraped.
    pub(super) scrapes: Arc<AtomicU64>,
}

impl Metrics {
    /// Registers them.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "aif_monitor_targets",
            "Targets of this monitor by their health",
            self.targets.clone(),
        );
        registry.register(
            "aif_monitor_prometheus_restarts",
            "Restarts of Prometheus by this monitor",
            self.restarts.clone(),
        );
        registry.register(
            "aif_monitor_job_end_timestamp_seconds",
            "When a job ends of which this monitor watches a role, in seconds since 1970",
            self.ends.clone(),
        );
    }

    /// Counts a restart.
    pub(super) fn restarted(&self) {
        self.restarts.inc();
    }

    /// Which jobs end when; of others there is no series any more.
    pub(super) fn ends<'a>(&self, jobs: impl Iterator<Item = (&'a str, Timestamp)>) {
        self.ends.clear();
        for (job, end) in jobs {
            let ending_job = job.to_owned();
            self.ends
                .get_or_create(&Ending { ending_job })
                .set(end.as_millisecond() as f64 / 1000.0);
        }
    }

    fn set(&self, states: &[TargetState]) {
        for health in ["up", "down", "unknown"] {
            let count = states.iter().filter(|s| s.health == health).count();
            self.targets
                .get_or_create(&Health { health })
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}

/// Follows the health of targets and tells of each change once.
#[derive(Debug, Default)]
pub(super) struct Healths {
    last: BTreeMap<String, String>,
    complete: bool,
}

impl Healths {
    /// Takes note of what Prometheus sees, and tells what changed.
    pub(super) fn observe(&mut self, wanted: &Targets, states: &[TargetState], metrics: &Metrics) {
        metrics.set(states);
        let now: BTreeMap<String, String> = states
            .iter()
            .map(|state| (state.scrape_url.clone(), state.health.clone()))
            .collect();
        for state in states {
            let before = self.last.get(&state.scrape_url).map(String::as_str);
            if state.health == "down" && before == Some("up") {
                tracing::warn!(
                    url = state.scrape_url,
                    error = state.last_error,
                    "A target went down"
                );
            }
        }
        let complete = all_up(wanted, &now);
        if complete && !self.complete {
            tracing::info!(targets = now.len(), "All targets are up");
        }
        self.complete = complete;
        self.last = now;
    }
}

/// Are the engines and agents up? Benches come and go, and are not waited for.
fn all_up(wanted: &Targets, healths: &BTreeMap<String, String>) -> bool {
    let needed: BTreeSet<String> = wanted
        .own
        .iter()
        .filter(|group| group.labels.get("role").is_some_and(|role| role != "bench"))
        .map(crate::prometheus::targets::Group::url)
        .collect();
    let engine = |url: &String| url.ends_with("/engine/metrics");
    needed.iter().any(engine)
        && needed
            .iter()
            .all(|url| healths.get(url).is_some_and(|health| health == "up"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prometheus::targets::Source;

    fn state(url: &str, health: &str) -> TargetState {
        TargetState {
            labels: BTreeMap::new(),
            scrape_url: url.to_owned(),
            health: health.to_owned(),
            last_error: String::new(),
        }
    }

    #[test]
    fn engine_and_agents_are_waited_for_and_benches_are_not() {
        let source = |role: &str, port: u16, metrics: Option<&str>| Source {
            role: role.to_owned(),
            agent: Some(format!("http://n:{port}")),
            metrics: metrics.map(str::to_owned),
            ..Source::default()
        };
        let wanted = Targets::of(
            &[
                source("server", 1, Some("http://n:1/engine/metrics")),
                source("bench", 2, None),
            ],
            &[],
        );
        let metrics = Metrics::default();
        let mut healths = Healths::default();
        let cases = [
            ("down", "up", false),
            ("up", "unknown", false),
            ("up", "up", true),
            ("down", "up", false),
        ];
        for (engine, agent, complete) in cases {
            let states = [
                state("http://n:1/engine/metrics", engine),
                state("http://n:1/metrics", agent),
                state("http://n:2/metrics", "down"),
            ];
            healths.observe(&wanted, &states, &metrics);
            assert_eq!(healths.complete, complete, "{engine} {agent}");
        }
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(
            text.contains("aif_monitor_targets{health=\"down\"} 2\n"),
            "{text}"
        );
    }
}
