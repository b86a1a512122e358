//! Time: stamps for people, instants for durations.
//!
//! Durations and deadlines use `tokio::time::Instant`, which tests can pause. Stamps (`jiff::Timestamp`) are for files
//! and people; they are never subtracted across nodes.

use jiff::Timestamp;

/// The wall clock.
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// Milliseconds since the epoch, by the wall clock.
pub fn unix_milliseconds() -> i64 {
    Timestamp::now().as_millisecond()
}
