//! Who is alive: a record whose sequence rises within its lease, on the reader's own clock.

use super::{record::Record, store::Store};

/// What a reader knows of an instance's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    /// It renewed its record within the lease, or its agent answers.
    Alive,
    /// Its lease ran out, or its agent is gone.
    Dead,
    /// Not known yet: neither seen to renew nor answered.
    Unknown,
}

/// A record and what is known of its life.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The record.
    pub record: Record,
    /// Is it alive?
    pub liveness: Liveness,
}

/// A reader with a history.
#[derive(Debug)]
pub struct Watch {
    _store: Store,
}

impl Watch {
    /// A reader that has seen nothing yet.
    pub fn new(store: &Store) -> Self {
        Self {
            _store: store.clone(),
        }
    }

    /// Reads the registry again. Records without history are asked at their agent (1 s, all at once).
    pub async fn refresh(&mut self) -> Vec<Seen> {
        todo!()
    }
}
