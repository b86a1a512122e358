//! Whom a monitor watches, whom it waits for, and how long it stays.
//!
//! Pure decisions over what the registry shows. In a stack a monitor takes its own run and nothing else: the neighbour's
//! engine in our charts would be a lie. Alone it takes its service on its cluster, whichever jobs that runs in.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::{
    prometheus::targets::Source,
    registry::{Kind, Liveness, Record, Seen, State, record::kind_name},
};

/// Alone, a monitor stays this long after its last live instance.
const IDLE: Duration = Duration::from_mins(5);

/// What a monitor watches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Scope {
    /// The run of its stack.
    Run {
        /// Its id.
        id: String,
        /// The cluster.
        cluster: String,
    },
    /// A service on a cluster.
    Service {
        /// The service.
        name: String,
        /// The cluster.
        cluster: String,
    },
}

impl Scope {
    /// Is this record within?
    pub(super) fn holds(&self, record: &Record) -> bool {
        match self {
            Self::Run { id, cluster } => record.is_of(id, cluster),
            Self::Service { name, cluster } => {
                record.service_name == *name
                    && (record.cluster == *cluster || record.kind == Kind::Static)
            }
        }
    }
}

/// The live instances within a scope, as sources of targets.
pub(super) fn sources(scope: &Scope, seen: &[Seen]) -> Vec<Source> {
    seen.iter()
        .filter(|seen| seen.liveness == Liveness::Alive && scope.holds(&seen.record))
        .filter(|seen| !seen.record.is_out_of_reach() && seen.record.kind != Kind::Grafana)
        .map(|seen| source(&seen.record))
        .collect()
}

fn source(record: &Record) -> Source {
    Source {
        role: kind_name(record.kind).to_owned(),
        service: record.service_name.clone(),
        instance_id: record.instance_id.clone(),
        node: record.node.clone(),
        job_id: record.job_id.clone(),
        address: record.address.clone(),
        ports: record.ports.clone(),
        metrics: record.endpoints.metrics.clone(),
        agent: record.endpoints.agent.clone(),
    }
}

/// The jobs within a scope of which it is known when they end.
pub(super) fn ends<'a>(
    scope: &'a Scope,
    seen: &'a [Seen],
) -> impl Iterator<Item = (&'a str, Timestamp)> {
    seen.iter()
        .filter(|seen| seen.liveness == Liveness::Alive && scope.holds(&seen.record))
        .filter_map(|seen| Some((seen.record.job_id.as_str(), seen.record.ends_at?)))
}

/// Is a server within the scope alive?
pub(super) fn serves(scope: &Scope, seen: &[Seen]) -> bool {
    seen.iter().any(|seen| {
        seen.record.kind == Kind::Server
            && seen.liveness == Liveness::Alive
            && scope.holds(&seen.record)
    })
}

/// Is the service there at all, also one that is not ours?
pub(super) fn has_service(scope: &Scope, seen: &[Seen]) -> bool {
    let foreign = |seen: &Seen| seen.record.kind == Kind::Static && scope.holds(&seen.record);
    serves(scope, seen) || seen.iter().any(foreign)
}

/// Does a bench of this run or this job still measure? Its last samples are worth waiting for.
pub(super) fn measures(own: &Record, seen: &[Seen]) -> bool {
    seen.iter().any(|seen| {
        let record = &seen.record;
        let together =
            record.cluster == own.cluster && (record.run == own.run || record.job_id == own.job_id);
        record.kind == Kind::Bench
            && together
            && record.state != State::Done
            && seen.liveness != Liveness::Dead
    })
}

/// Counts the time without a live instance. It begins with the first one that was seen: a monitor may be started
/// long before its server.
#[derive(Debug, Default)]
pub(super) struct Idle {
    last_live: Option<Instant>,
}

impl Idle {
    /// Takes note; true where the last live instance was gone for long enough.
    pub(super) fn observe(&mut self, live: bool) -> bool {
        if live {
            self.last_live = Some(Instant::now());
        }
        self.last_live.is_some_and(|last| last.elapsed() >= IDLE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(kind: Kind, run: &str, change: impl FnOnce(&mut Record)) -> Seen {
        let mut record = Record::new(kind, "vllm", "r", None, Some(run));
        record.endpoints.agent = Some("http://127.0.0.1:1".to_owned());
        change(&mut record);
        Seen {
            record,
            liveness: Liveness::Alive,
        }
    }

    fn names(scope: &Scope, all: &[Seen]) -> Vec<String> {
        sources(scope, all)
            .into_iter()
            .map(|source| source.instance_id)
            .collect()
    }

    #[test]
    fn a_stack_takes_its_run_and_a_service_its_cluster() {
        let all = [
            seen(Kind::Server, "mine", |r| r.instance_id = "a".to_owned()),
            seen(Kind::Bench, "mine", |r| r.instance_id = "b".to_owned()),
            seen(Kind::Server, "theirs", |r| r.instance_id = "c".to_owned()),
            seen(Kind::Server, "theirs", |r| {
                r.instance_id = "d".to_owned();
                r.cluster = "elsewhere".to_owned();
            }),
            seen(Kind::Server, "mine", |r| {
                r.instance_id = "e".to_owned();
                r.service_name = "other".to_owned();
            }),
            Seen {
                liveness: Liveness::Dead,
                ..seen(Kind::Server, "mine", |r| r.instance_id = "f".to_owned())
            },
            // a cluster that shares the home may give out the same job ids
            seen(Kind::Server, "mine", |r| {
                r.instance_id = "g".to_owned();
                r.cluster = "elsewhere".to_owned();
            }),
        ];
        let run = Scope::Run {
            id: "mine".to_owned(),
            cluster: "local".to_owned(),
        };
        assert_eq!(names(&run, &all), ["a", "b", "e"]);
        let service = Scope::Service {
            name: "vllm".to_owned(),
            cluster: "local".to_owned(),
        };
        assert_eq!(names(&service, &all), ["a", "b", "c"]);
        assert!(serves(&run, &all));
        assert!(!serves(&run, &all[1..2]));
        assert!(!has_service(&service, &all[1..2]));
        let added = seen(Kind::Static, "", |r| "cloud".clone_into(&mut r.cluster));
        assert!(has_service(&service, &[added]));
    }

    #[test]
    fn a_bench_is_waited_for_until_it_is_done_or_gone() {
        let own = seen(Kind::Monitor, "mine", |_| ()).record;
        let foreign = |r: &mut Record| r.job_id = "9".to_owned();
        assert!(measures(&own, &[seen(Kind::Bench, "mine", |_| ())]));
        assert!(!measures(
            &own,
            &[seen(Kind::Bench, "mine", |r| r.state = State::Done)]
        ));
        assert!(!measures(&own, &[seen(Kind::Bench, "theirs", foreign)]));
        assert!(!measures(
            &own,
            &[seen(Kind::Bench, "mine", |r| r.cluster = "elsewhere".to_owned())]
        ));
        assert!(!measures(&own, &[seen(Kind::Server, "mine", |_| ())]));
        let dead = Seen {
            liveness: Liveness::Dead,
            ..seen(Kind::Bench, "mine", |_| ())
        };
        assert!(!measures(&own, &[dead]));
    }

    #[tokio::test(start_paused = true)]
    async fn alone_it_ends_five_minutes_after_its_last_instance() {
        let mut idle = Idle::default();
        tokio::time::advance(Duration::from_hours(1)).await;
        assert!(!idle.observe(false), "nothing was there yet");
        assert!(!idle.observe(true));
        tokio::time::advance(Duration::from_secs(299)).await;
        assert!(!idle.observe(false));
        assert!(!idle.observe(true), "it came back");
        tokio::time::advance(Duration::from_secs(299)).await;
        assert!(!idle.observe(false));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(idle.observe(false));
    }
}
