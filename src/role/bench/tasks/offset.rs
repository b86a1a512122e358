//! How far the clock of a task is from the leader's: by round trips, of which the shortest counts.
//!
//! The leader's stamps lie between the two of a round trip. How the way there and the way back share the rest nobody can
//! tell, so half of it is the error. Queues only make a round trip longer: the shortest has seen the fewest, and its
//! error is the smallest. By the monotonic clocks, which nobody sets; the time of day is compared for people. Pure;
//! nothing can fail.

use serde::{Deserialize, Serialize};

/// Round trips of one measurement.
pub(super) const TRIPS: u32 = 24;

/// One round trip, in ns by monotonic clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Trip {
    /// When the question left, by the task's clock.
    pub(super) asked: i64,
    /// When it came, by the leader's.
    pub(super) heard: i64,
    /// When the answer left, by the leader's.
    pub(super) answered: i64,
    /// When it came, by the task's.
    pub(super) back: i64,
    /// Time of day of the task less that of the leader, each less its own monotonic clock.
    pub(super) day: i64,
}

/// What is known of a task's clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Offset {
    /// The task's monotonic clock less the leader's, in ns.
    pub(super) monotonic: i64,
    /// The task's time of day less the leader's, in ns.
    pub(super) day: i64,
    /// By how much both may be wrong, either way.
    pub(super) error: i64,
}

impl Trip {
    fn length(self) -> i64 {
        (self.back - self.asked) - (self.answered - self.heard)
    }
}

impl Offset {
    /// By the shortest of these; `None` without any.
    pub(super) fn of(trips: &[Trip]) -> Option<Self> {
        let best = trips.iter().min_by_key(|trip| trip.length())?;
        let ahead = (best.asked - best.heard) + (best.back - best.answered);
        let monotonic = ahead.div_euclid(2);
        Some(Self {
            monotonic,
            day: monotonic + best.day,
            // the halves of odd sums
            error: best.length().max(0) / 2 + 1,
        })
    }

    /// The error over a load, at whose end the offset was another: what drifted counts too.
    pub(super) fn error_until(self, end: Self) -> i64 {
        let drift = (end.monotonic - self.monotonic).abs();
        self.error.max(drift + end.error)
    }

    /// A moment of the leader's clock by the task's.
    pub(super) fn own(self, leaders: i64) -> i64 {
        leaders + self.monotonic
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A trip between clocks that are so far apart, with these times on the way and at the leader.
    fn trip(asked: i64, offset: i64, there: i64, stay: i64, back: i64) -> Trip {
        let heard = asked - offset + there;
        Trip {
            asked,
            heard,
            answered: heard + stay,
            back: asked + there + stay + back,
            day: 0,
        }
    }

    #[test]
    fn equal_ways_give_the_exact_offset_whatever_the_leader_takes() {
        let offset = Offset::of(&[trip(1_000_000, -7_000, 40, 5_000, 40)]).expect("a trip");
        assert_eq!((offset.monotonic, offset.error), (-7_000, 41));
        assert_eq!(offset.own(100_000), 93_000);
        assert_eq!(Offset::of(&[]), None);
    }

    #[test]
    fn one_trip_without_a_queue_is_enough() {
        let mut trips: Vec<Trip> = (0..20)
            .map(|n| trip(n * 1_000_000, 123_456, 50 + n * 90_000, 10, 900_000))
            .collect();
        trips.push(trip(50_000_000, 123_456, 60, 10, 50));
        let offset = Offset::of(&trips).expect("trips");
        assert!((offset.monotonic - 123_456).abs() <= 5, "{offset:?}");
        assert_eq!(offset.error, 56);
    }

    #[test]
    fn the_time_of_day_is_told_beside_it() {
        let both = Trip {
            day: 2_000,
            ..trip(0, 500, 10, 1, 10)
        };
        let offset = Offset::of(&[both]).expect("a trip");
        assert_eq!((offset.monotonic, offset.day), (500, 2_500));
    }

    #[test]
    fn what_drifted_over_a_load_is_an_error_of_it() {
        let at = |monotonic, error| Offset {
            monotonic,
            day: 0,
            error,
        };
        assert_eq!(at(100, 30).error_until(at(110, 5)), 30);
        assert_eq!(at(100, 30).error_until(at(-900, 5)), 1005);
    }

    proptest! {
        #[test]
        fn the_true_offset_lies_within_the_error(
            offset in -1_000_000_000_000_i64..1_000_000_000_000,
            trips in prop::collection::vec((0_i64..10_000_000, 0_i64..5_000_000, 0_i64..1_000_000, 0_i64..5_000_000), 1..30),
        ) {
            let trips: Vec<Trip> = trips
                .into_iter()
                .map(|(asked, there, stay, back)| trip(asked, offset, there, stay, back))
                .collect();
            let found = Offset::of(&trips).expect("trips");
            prop_assert!((found.monotonic - offset).abs() <= found.error, "{found:?}");
        }
    }
}
