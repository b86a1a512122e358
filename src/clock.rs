//! Time: stamps for people, instants for durations.
//!
//! Durations and deadlines use `tokio::time::Instant`, which tests can pause. Stamps (`jiff::Timestamp`) are for files
//! and people; they are never subtracted across nodes.

use std::time::Duration;

use jiff::Timestamp;
use nix::{
    sys::time::{TimeSpec, TimeValLike as _},
    time::{ClockId, clock_gettime},
};

/// The wall clock.
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// Nanoseconds since the epoch, by the wall clock.
pub fn unix_nanoseconds() -> i64 {
    i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

/// Milliseconds since the epoch, by the wall clock.
pub fn unix_milliseconds() -> i64 {
    Timestamp::now().as_millisecond()
}

/// Nanoseconds of the monotonic clock, which all processes of a node share: for traces that are put beside each other.
pub fn monotonic_nanoseconds() -> u64 {
    nanoseconds(ClockId::CLOCK_MONOTONIC)
}

/// How long ago the wall clock showed this; nothing where it has been set back since.
pub fn since_wall(stamp: TimeSpec) -> Duration {
    let ago =
        clock_gettime(ClockId::CLOCK_REALTIME).map_or(0, |wall| (wall - stamp).num_nanoseconds());
    Duration::from_nanos(u64::try_from(ago).unwrap_or(0))
}

/// CPU time of the thread that runs here so far.
pub fn thread_cpu() -> Duration {
    Duration::from_nanos(nanoseconds(ClockId::CLOCK_THREAD_CPUTIME_ID))
}

/// CPU time of all threads of this process so far.
pub fn process_cpu() -> Duration {
    Duration::from_nanos(nanoseconds(ClockId::CLOCK_PROCESS_CPUTIME_ID))
}

fn nanoseconds(clock: ClockId) -> u64 {
    clock_gettime(clock).map_or(0, |time| {
        let (seconds, rest) = (time.tv_sec(), time.tv_nsec());
        u64::try_from(seconds).unwrap_or(0) * 1_000_000_000 + u64::try_from(rest).unwrap_or(0)
    })
}
