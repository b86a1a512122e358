//! What a load took of its CPUs while it was sending: neither its warm-up nor its drain makes a busy generator look idle.
//!
//! Each worker reads its own CPU time and that of the process when the window begins and when it has nothing more to
//! send: a few system calls a load. Nothing can fail; a worker that never came to the window is read from its beginning.

use std::{sync::OnceLock, time::Duration};

use crate::clock;

/// CPU time at one moment of the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reading {
    at: Duration,
    thread: Duration,
    process: Duration,
}

impl Reading {
    fn at(at: Duration) -> Self {
        Self {
            at,
            thread: clock::thread_cpu(),
            process: clock::process_cpu(),
        }
    }
}

/// One worker's readings. All are made on its own thread.
#[derive(Debug)]
pub(super) struct Meter {
    born: Reading,
    from: OnceLock<Reading>,
    to: OnceLock<Reading>,
}

impl Meter {
    /// Of a worker that begins now.
    pub(super) fn new(now: Duration) -> Self {
        Self {
            born: Reading::at(now),
            from: OnceLock::new(),
            to: OnceLock::new(),
        }
    }

    /// The window has begun.
    pub(super) fn begin(&self, now: Duration) {
        self.from.get_or_init(|| Reading::at(now));
    }

    /// There is nothing more to send.
    pub(super) fn end(&self, now: Duration) {
        self.to.get_or_init(|| Reading::at(now));
    }

    /// Between which moments, once it has sent all.
    #[cfg(test)]
    pub(super) fn span(&self) -> Option<(Duration, Duration)> {
        Some((self.from().at, self.to.get()?.at))
    }

    fn from(&self) -> Reading {
        *self.from.get().unwrap_or(&self.born)
    }

    /// CPU time of the worker as a share of a core, once it has sent all.
    pub(super) fn share(&self) -> Option<f64> {
        let (from, to) = (self.from(), self.to.get()?);
        share(to.thread.saturating_sub(from.thread), from.at, to.at)
    }
}

/// CPU time of the process as a share of what one core could have given it, from the first worker's beginning of the window
/// until the last has sent all, or until now.
pub(super) fn of_process<'m>(
    meters: impl Iterator<Item = &'m Meter>,
    now: Duration,
) -> Option<f64> {
    let (mut first, mut last): (Option<Reading>, Option<Reading>) = (None, None);
    for meter in meters {
        let from = meter.from();
        let to = meter.to.get().copied();
        let to = to.unwrap_or_else(|| Reading::at(now));
        first = Some(first.filter(|first| first.at <= from.at).unwrap_or(from));
        last = Some(last.filter(|last| last.at >= to.at).unwrap_or(to));
    }
    let (first, last) = (first?, last?);
    let took = last.process.saturating_sub(first.process);
    share(took, first.at, last.at)
}

fn share(took: Duration, from: Duration, to: Duration) -> Option<f64> {
    let over = to.saturating_sub(from).as_secs_f64();
    (over > 0.0).then(|| took.as_secs_f64() / over)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(at: u64, thread: u64, process: u64) -> Reading {
        let seconds = Duration::from_secs;
        Reading {
            at: seconds(at),
            thread: seconds(thread),
            process: seconds(process),
        }
    }

    fn meter(from: Reading, to: Option<Reading>) -> Meter {
        Meter {
            born: reading(0, 0, 0),
            from: OnceLock::from(from),
            to: to.map(OnceLock::from).unwrap_or_default(),
        }
    }

    #[test]
    fn a_worker_without_a_rest_is_one_however_long_its_answers_take() {
        // ten seconds of warm-up at ease, ten at full speed; the drain of a minute is not asked about
        let one = meter(reading(10, 1, 2), Some(reading(20, 11, 20)));
        let other = meter(reading(10, 1, 2), Some(reading(20, 8, 20)));
        assert_eq!(one.share(), Some(1.0));
        assert_eq!(other.share(), Some(0.7));
        let both = of_process([&one, &other].into_iter(), Duration::from_secs(80));
        assert_eq!(both, Some(1.8));
        assert_eq!(meter(reading(10, 1, 2), None).share(), None);
        assert_eq!(of_process(std::iter::empty(), Duration::ZERO), None);
    }
}
