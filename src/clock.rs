//! Time: stamps for people, instants for durations.
//!
//! Durations and deadlines use `tokio::time::Instant`, which tests can pause. Stamps (`jiff::Timestamp`) are for files
//! and people; they are never subtracted across nodes. [`Stopwatch`] is the pair, taken together.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

/// The wall clock.
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// Milliseconds since the epoch, by the wall clock.
pub fn unix_milliseconds() -> i64 {
    Timestamp::now().as_millisecond()
}

/// A start, by both clocks: the stamp to print, the instant to measure from.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch {
    /// When it was started, for people.
    pub started_at: Timestamp,
    started: Instant,
}

impl Stopwatch {
    /// Starts now.
    pub fn start() -> Self {
        Self {
            started_at: now(),
            started: Instant::now(),
        }
    }

    /// Time since the start, by the monotonic clock.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// The instant of the start.
    pub fn instant(&self) -> Instant {
        self.started
    }
}
