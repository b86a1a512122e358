//! Is the service still there? What a bench sees of it in the registry, and when it looks.
//!
//! A process that ends leaves a machine that refuses connections, which is seen within seconds. A node that is lost
//! refuses nothing: requests wait for their time-out, and the load would go on against nobody. So the leases are watched,
//! too, and the code says that the same job may do better on another node (75).

use std::sync::atomic::Ordering;

use super::{exporter::Exporter, service::Service, watch::Ending};
use crate::{
    exit::Exit,
    registry::{Kind, Liveness, Seen, State, Store, Watch},
};

/// So many connections in a row that nobody took are worth a look into the registry.
const UNCONNECTED: u64 = 5;
/// Leases are looked at every so many ticks.
const LOOK: u32 = 10;

/// What the bench sees of its service in the registry, with a history.
pub(super) struct Sight<'a> {
    service: &'a Service,
    exporter: &'a Exporter,
    store: &'a Store,
    watch: Watch,
    /// Requests that had ended well at the last look.
    answered: u64,
}

impl<'a> Sight<'a> {
    pub(super) fn new(service: &'a Service, exporter: &'a Exporter, store: &'a Store) -> Self {
        Self {
            service,
            exporter,
            store,
            watch: Watch::new(store),
            answered: 0,
        }
    }

    /// Is the service gone? Asked at every tick; `count` is its number.
    pub(super) async fn lost(&mut self, count: u32) -> Option<Ending> {
        let unconnected = self.exporter.unconnected_in_a_row.load(Ordering::Relaxed);
        if unconnected >= UNCONNECTED && self.is_gone().await {
            return Some(Ending::Lost {
                what: if self.service.records.is_empty() {
                    "nobody takes its connections"
                } else {
                    "nobody takes its connections and its record is gone"
                }
                .to_owned(),
                exit: Exit::Unavailable,
            });
        }
        if count.is_multiple_of(LOOK) && !self.service.records.is_empty() {
            return self.silent().await;
        }
        None
    }

    /// Is nobody there any more? Asked only when nobody takes connections: one that failed is an error of a request.
    async fn is_gone(&self) -> bool {
        if self.service.records.is_empty() {
            return true;
        }
        // a reader without a history asks the agents at once
        let seen = Watch::new(self.store).refresh().await;
        !self
            .own(&seen)
            .iter()
            .any(|seen| serves(seen) || is_restarting(seen))
    }

    /// Have the leases run out, and does nobody answer?
    async fn silent(&mut self) -> Option<Ending> {
        let seen = self.watch.refresh().await;
        let own = self.own(&seen);
        let answered = self.exporter.answered();
        // whoever still answers requests lives, whatever is known of its record
        let answers = answered != std::mem::replace(&mut self.answered, answered);
        let dead = own.iter().all(|seen| seen.liveness == Liveness::Dead);
        let first = own.first().filter(|_| dead && !answers)?;
        Some(Ending::Lost {
            what: format!(
                "{} has neither renewed its record for {:.0} s nor answered: the node may be lost",
                first.record.node, first.record.lease_seconds
            ),
            exit: Exit::TryAgain,
        })
    }

    fn own<'s>(&self, seen: &'s [Seen]) -> Vec<&'s Seen> {
        let instances = &self.service.facts.instances;
        seen.iter()
            .filter(|seen| instances.contains(&seen.record.instance_id))
            .collect()
    }
}

fn serves(seen: &Seen) -> bool {
    let record = &seen.record;
    record.kind == Kind::Server && record.state == State::Ready && seen.liveness != Liveness::Dead
}

/// An engine that is being started again is not lost.
fn is_restarting(seen: &Seen) -> bool {
    seen.liveness == Liveness::Alive && seen.record.state == State::Starting
}
