//! Several loads in place of one: a sweep over levels, a search for the highest that keeps the limits, or repeats.
//!
//! Each load is a plan of its own ([`ClientPlan::turn`]): the recipe's, at a level, with a seed that follows from the
//! recipe's and the load's number. A seed of its own, because the same prompts a second time are answered from a cache.
//! Pure; nothing can fail.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ClientPlan, LoadModel};

/// What a level changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    /// The rate of an open loop.
    RequestsPerSecond,
    /// The users of a closed loop.
    ConcurrentUsers,
}

impl Quantity {
    /// Its key in a recipe.
    pub const fn key(self) -> &'static str {
        match self {
            Self::RequestsPerSecond => "requests_per_second",
            Self::ConcurrentUsers => "concurrent_users",
        }
    }

    /// A level of it, for people: `8 requests/s`, `1 user`.
    pub fn amount(self, value: f64) -> String {
        let unit = match self {
            Self::RequestsPerSecond => "requests/s",
            Self::ConcurrentUsers if (0.5..1.5).contains(&value) => "user",
            Self::ConcurrentUsers => "users",
        };
        format!("{value} {unit}")
    }

    /// A level of it that can be asked for: users are whole, and a rate of four figures is exact enough.
    pub fn round(self, value: f64) -> f64 {
        match self {
            Self::ConcurrentUsers => value.round().max(1.0),
            Self::RequestsPerSecond => four_figures(value),
        }
    }
}

fn four_figures(value: f64) -> f64 {
    // by way of text: what is written down is what is asked for
    format!("{value:.3e}").parse().unwrap_or(value)
}

/// Several loads, one after another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// Which.
    pub course: Course,
    /// How often each is run.
    pub repeats: u32,
    /// Pause between two.
    pub pause: Duration,
}

/// Which loads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Course {
    /// The recipe's own.
    Repeats,
    /// These levels, in this order.
    Sweep(Sweep),
    /// Levels that are found on the way.
    Search(Search),
}

/// Levels that are given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sweep {
    /// What they are levels of.
    pub of: Quantity,
    /// The levels.
    pub levels: Vec<f64>,
    /// Share of the offered requests that must keep all limits; `None` where there are no limits.
    pub slo_attainment: Option<f64>,
    /// Is the first level that does not keep them the last?
    pub stop_when_slo_missed: bool,
}

/// Between which levels, and how exactly, the highest is sought that keeps the limits.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Search {
    /// What they are levels of.
    pub of: Quantity,
    /// The lowest that is tried.
    pub min: f64,
    /// The highest.
    pub max: f64,
    /// Share of the offered requests that must keep all limits.
    pub slo_attainment: f64,
    /// How far the lowest that missed may lie above the highest that kept the limits, as a share of the latter.
    pub tolerance: f64,
}

impl Series {
    /// What its levels are levels of; `None` for repeats of one load.
    pub const fn of(&self) -> Option<Quantity> {
        match &self.course {
            Course::Repeats => None,
            Course::Sweep(sweep) => Some(sweep.of),
            Course::Search(search) => Some(search.of),
        }
    }

    /// Its first level.
    pub fn first(&self) -> Option<(Quantity, f64)> {
        match &self.course {
            Course::Repeats => None,
            Course::Sweep(sweep) => Some((sweep.of, *sweep.levels.first()?)),
            Course::Search(search) => Some((search.of, search.min)),
        }
    }

    /// Its largest level.
    pub fn largest(&self) -> Option<(Quantity, f64)> {
        match &self.course {
            Course::Repeats => None,
            Course::Sweep(sweep) => {
                Some((sweep.of, sweep.levels.iter().copied().reduce(f64::max)?))
            }
            Course::Search(search) => Some((search.of, search.max)),
        }
    }

    /// Share of the offered requests that must keep all limits, where levels are judged by it.
    pub const fn slo_attainment(&self) -> Option<f64> {
        match &self.course {
            Course::Repeats => None,
            Course::Sweep(sweep) => sweep.slo_attainment,
            Course::Search(search) => Some(search.slo_attainment),
        }
    }
}

impl LoadModel {
    /// The same at another level.
    #[must_use]
    pub fn at(self, of: Quantity, value: f64) -> Self {
        match (self, of) {
            (
                Self::OpenLoop {
                    arrival,
                    max_in_flight,
                    ..
                },
                Quantity::RequestsPerSecond,
            ) => Self::OpenLoop {
                requests_per_second: Some(value),
                arrival,
                max_in_flight,
            },
            (
                Self::ClosedLoop {
                    think_time,
                    requests_per_user,
                    ..
                },
                Quantity::ConcurrentUsers,
            ) => Self::ClosedLoop {
                concurrent_users: whole(value),
                think_time,
                requests_per_user,
            },
            (other, _) => other,
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a number of users, which a recipe bounds"
)]
fn whole(value: f64) -> u32 {
    value.round() as u32
}

impl ClientPlan {
    /// The plan of one load of its series: at this level, if any, and with the seed of this number, which counts from 0.
    #[must_use]
    pub fn turn(&self, level: Option<(Quantity, f64)>, number: u32) -> Self {
        let mut plan = self.clone();
        plan.series = None;
        if let Some((of, value)) = level {
            plan.load = plan.load.at(of, value);
        }
        plan.workload.seed = seed(plan.workload.seed, number);
        plan
    }
}

/// Seeds end here, so that every reader of JSON reads them exactly.
const SEEDS: u64 = (1 << 53) - 1;

/// The seed of a load: the recipe's own for the first, one far from it for each that follows (splitmix64).
pub fn seed(first: u64, number: u32) -> u64 {
    if number == 0 {
        return first;
    }
    let mut mixed = first.wrapping_add(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(number.into()));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)) & SEEDS
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::recipe::ThinkTime;

    #[test]
    fn each_load_has_its_own_seed_and_always_the_same() {
        let of = |first| (0..1000).map(|n| seed(first, n)).collect::<Vec<_>>();
        let all: BTreeSet<u64> = [of(0), of(1), of(7)].concat().into_iter().collect();
        assert_eq!(all.len(), 3000);
        assert_eq!(of(7), of(7));
        assert_eq!((seed(7, 0), seed(7, 1)), (7, 3_344_595_609_062_871));
        assert!(seed(u64::MAX, 5) <= SEEDS);
    }

    #[test]
    fn levels_are_what_can_be_asked_for() {
        let rate = Quantity::RequestsPerSecond;
        let rates = [0.001_234_56, 1.0, 5.656_854_2, 123_456.0].map(|value| rate.round(value));
        assert_eq!(format!("{rates:?}"), "[0.001235, 1.0, 5.657, 123500.0]");
        let users = [0.2, 5.5, 6.4].map(|value| Quantity::ConcurrentUsers.round(value));
        assert_eq!(format!("{users:?}"), "[1.0, 6.0, 6.0]");
    }

    #[test]
    fn a_turn_is_the_recipe_at_a_level() {
        let plan = ClientPlan::of(
            "sweep: {concurrent_users: [2, 4]}, think_time_ms: 5, duration_seconds: 1, seed: 3",
            "",
        );
        let turn = plan.turn(Some((Quantity::ConcurrentUsers, 4.0)), 1);
        assert_eq!(turn.series, None);
        assert_eq!(turn.workload.seed, seed(3, 1));
        let wanted = LoadModel::ClosedLoop {
            concurrent_users: 4,
            think_time: ThinkTime::Fixed(Duration::from_millis(5)),
            requests_per_user: None,
        };
        assert_eq!(turn.load, wanted);
    }
}
