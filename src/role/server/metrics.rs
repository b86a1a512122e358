//! What a server says of itself: `aif_server_*`, read at each scrape.
//!
//! A value that is not known yet (seconds to ready, the use of an engine that does not run) has no series.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::MetricType,
    registry::Unit,
};
use tokio::time::Instant;

use crate::{
    api::client::Access,
    process::{
        proof::{self, Ours, Verdict},
        tree,
    },
    registry::{State, record::state_name},
    telemetry::agent::Upstream,
};

use super::{engine::Engine, setup::Parts};

/// Engines seldom start processes later: who belongs to it is looked up this often.
const FAMILY_HOLDS: Duration = Duration::from_secs(10);

/// What the agent shows of the engine; the role writes it, scrapes read it.
#[derive(Debug, Clone, Default)]
pub(super) struct Shared(Arc<Mutex<Facts>>);

#[derive(Debug, Default)]
struct Facts {
    state: Option<State>,
    seconds_to_ready: Option<f64>,
    restarts: u32,
    child: Option<u32>,
    upstream: Option<Upstream>,
    silence: Option<Duration>,
    family: Vec<u32>,
    family_of: Option<Instant>,
    /// CPU time of engines that ended, and the highest seen of the one that runs: a counter must not fall when a
    /// process of many ends.
    cpu_before: f64,
    cpu_now: f64,
}

impl Shared {
    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn state(&self, state: State) {
        self.facts().state = Some(state);
    }

    /// An engine was started.
    pub(super) fn started(&self, child: u32) {
        let mut facts = self.facts();
        facts.cpu_before += std::mem::take(&mut facts.cpu_now);
        facts.child = Some(child);
        facts.family_of = None;
        facts.upstream = None;
        facts.silence = None;
    }

    /// It is ready.
    pub(super) fn ready(&self, seconds: f64, upstream: Option<Upstream>) {
        let mut facts = self.facts();
        facts.seconds_to_ready = Some(seconds);
        facts.upstream = upstream;
    }

    /// It ended, and is started again.
    pub(super) fn lost(&self, restarts: u32) {
        let mut facts = self.facts();
        facts.restarts = restarts;
        facts.child = None;
        facts.upstream = None;
    }

    /// It has answered nothing for so long.
    pub(super) fn silence(&self, silence: Duration) {
        self.facts().silence = Some(silence);
    }

    /// Where its metrics are.
    pub(super) fn upstream(&self) -> Option<Upstream> {
        self.facts().upstream.clone()
    }
}

impl Collector for Shared {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut facts = self.facts();
        let mut states = encoder.encode_descriptor(
            "aif_server_state",
            "State of the server: 1 for the one that it is in.",
            None,
            MetricType::Gauge,
        )?;
        for state in [State::Starting, State::Ready, State::Draining] {
            states
                .encode_family(&[("state", state_name(state))])?
                .encode_gauge(&i64::from(facts.state == Some(state)))?;
        }
        encoder
            .encode_descriptor(
                "aif_server_restarts",
                "Restarts of the engine.",
                None,
                MetricType::Counter,
            )?
            .encode_counter::<NoLabelSet, _, u64>(&u64::from(facts.restarts), None)?;
        if let Some(seconds) = facts.seconds_to_ready {
            encoder
                .encode_descriptor(
                    "aif_server_to_ready",
                    "Time from the start of the engine until it was ready.",
                    Some(&Unit::Seconds),
                    MetricType::Gauge,
                )?
                .encode_gauge(&seconds)?;
        }
        if let Some(silence) = facts.silence {
            encoder
                .encode_descriptor(
                    "aif_server_silence",
                    "Time since the engine, which lives, has answered anything: 0 while it does.",
                    Some(&Unit::Seconds),
                    MetricType::Gauge,
                )?
                .encode_gauge(&silence.as_secs_f64())?;
        }
        let Some(child) = facts.child else {
            return Ok(());
        };
        let fresh = facts
            .family_of
            .is_some_and(|looked| looked.elapsed() < FAMILY_HOLDS);
        if !fresh {
            facts.family = tree::family(child).iter().map(|p| p.pid).collect();
            facts.family_of = Some(Instant::now());
        }
        let usage = tree::usage(&facts.family);
        facts.cpu_now = facts.cpu_now.max(usage.cpu_seconds);
        encoder
            .encode_descriptor(
                "aif_server_child_cpu",
                "CPU time of the engine's processes, of earlier starts too.",
                Some(&Unit::Seconds),
                MetricType::Counter,
            )?
            .encode_counter::<NoLabelSet, _, f64>(&(facts.cpu_before + facts.cpu_now), None)?;
        encoder
            .encode_descriptor(
                "aif_server_child_memory",
                "Resident memory of the engine's processes.",
                Some(&Unit::Bytes),
                MetricType::Gauge,
            )?
            .encode_gauge(&(usage.memory_bytes as f64))
    }
}

/// Where the engine's metrics are read, where it has any. On a port of their own nobody has proven whose they are: a stranger's
/// are not handed on as the engine's.
pub(super) fn upstream(engine: &Engine, parts: &Parts<'_>) -> Option<Upstream> {
    let place = &parts.plan.metrics;
    let path = place.path.as_deref().or(parts.profile.metrics_path);
    let aliases = parts.profile.aliases;
    let port = place.port.and_then(|port| port.of_engine(&engine.ports));
    let Some(port) = port.filter(|port| *port != engine.ports[0]) else {
        return Some(Upstream {
            url: format!("{}{}", engine.base_url(), path?),
            access: parts.access(),
            aliases,
        });
    };
    let ours = Ours {
        child: engine.child.pid(),
        mark: &parts.instance,
    };
    if let Verdict::Stranger(holder) | Verdict::Shared(holder) = proof::prove(port, &ours) {
        tracing::warn!(
            port,
            "The port of service.metrics is held by {holder}: these are not the engine's metrics, and are left out"
        );
        return None;
    }
    Some(Upstream {
        url: format!(
            "http://{}:{port}{}",
            engine.host,
            path.unwrap_or("/metrics")
        ),
        access: Access::Open,
        aliases,
    })
}

#[cfg(test)]
mod tests {
    use prometheus_client::{encoding::text::encode, registry::Registry};

    use super::*;

    fn text(shared: &Shared) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(shared.clone()));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn what_is_not_known_has_no_series() {
        let shared = Shared::default();
        shared.state(State::Starting);
        insta::assert_snapshot!(text(&shared), @r#"
        # HELP aif_server_state State of the server: 1 for the one that it is in.
        # TYPE aif_server_state gauge
        aif_server_state{state="starting"} 1
        aif_server_state{state="ready"} 0
        aif_server_state{state="draining"} 0
        # HELP aif_server_restarts Restarts of the engine.
        # TYPE aif_server_restarts counter
        aif_server_restarts_total 0
        # EOF
        "#);
    }

    #[test]
    fn an_engine_that_runs_uses_memory() {
        let shared = Shared::default();
        shared.started(std::process::id());
        shared.ready(1.5, None);
        shared.silence(Duration::from_secs(7));
        let text = text(&shared);
        assert!(text.contains("aif_server_to_ready_seconds 1.5\n"), "{text}");
        assert!(text.contains("aif_server_silence_seconds 7.0\n"), "{text}");
        assert!(
            text.contains("aif_server_child_cpu_seconds_total "),
            "{text}"
        );
        assert!(text.contains("aif_server_child_memory_bytes "), "{text}");
    }
}
