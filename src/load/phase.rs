//! Phases of a load: warm-up, the measured window, drain.
//!
//! A request belongs to the window by its *intended* time, not by when it was sent or ended: else a slow server would
//! move its own slow requests out of the window. The window is closed at its start and open at its end.

use std::time::Duration;

/// What is going on at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Load that is not measured.
    Warmup,
    /// Load that is measured.
    Measure,
    /// No new requests; those in flight come to their end.
    Drain,
}

/// The phases' lengths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Phases {
    /// Load before the window.
    pub warmup: Duration,
    /// The window; until all requests are sent where `None`.
    pub measure: Option<Duration>,
}

impl Phases {
    /// When the last request may be intended, since the start; `None` where only the number of requests ends the load.
    pub fn load_end(&self) -> Option<Duration> {
        self.measure
            .map(|measure| self.warmup.saturating_add(measure))
    }

    /// Is a request that was intended then measured?
    pub fn in_window(&self, intended: Duration) -> bool {
        self.phase(intended) == Phase::Measure
    }

    /// The phase at a time since the start.
    pub fn phase(&self, at: Duration) -> Phase {
        if at < self.warmup {
            Phase::Warmup
        } else if self.load_end().is_none_or(|end| at < end) {
            Phase::Measure
        } else {
            Phase::Drain
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_by_time() {
        let s = Duration::from_secs;
        let (bounded, endless) = (Some(s(10)), None);
        let table = [
            (5, bounded, 0, Phase::Warmup),
            (5, bounded, 4, Phase::Warmup),
            (5, bounded, 5, Phase::Measure),
            (5, bounded, 14, Phase::Measure),
            (5, bounded, 15, Phase::Drain),
            (0, bounded, 0, Phase::Measure),
            (0, bounded, 10, Phase::Drain),
            (5, endless, 4, Phase::Warmup),
            (5, endless, 1_000_000, Phase::Measure),
        ];
        for (warmup, measure, at, wanted) in table {
            let phases = Phases {
                warmup: s(warmup),
                measure,
            };
            assert_eq!(phases.phase(s(at)), wanted, "{phases:?} at {at}");
            assert_eq!(phases.in_window(s(at)), wanted == Phase::Measure);
            assert_eq!(phases.load_end(), measure.map(|m| m + s(warmup)));
        }
    }
}
