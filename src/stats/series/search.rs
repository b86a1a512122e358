//! Which level a search tries next: doubled from the lowest until one misses, halved between, then the answer once more.
//!
//! A service is taken to do no better under more load: what lies above a level that missed counts no more, even if it
//! kept the limits. So a noisy service gives a lower answer and not a lucky one. An answer has kept the limits twice;
//! where it misses them the second time, it counts as missed, and the search goes on below. The middle is the geometric
//! one, because the tolerance is a share. The number of levels is bounded by what the bounds and the tolerance need.
//! Pure; nothing can fail.

use serde::{Deserialize, Serialize};

use super::{Ended, Found};
use crate::recipe::Search as Planned;

/// What a level is tried for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// To find one that misses the limits.
    Bracket,
    /// To come nearer.
    Bisect,
    /// To see whether the answer holds.
    Confirm,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Next {
    /// This level.
    Try(f64, Purpose),
    /// Nothing.
    End(Ended),
}

/// A search under way.
#[derive(Debug, Clone, PartialEq)]
pub struct Search {
    plan: Planned,
    /// Levels, and whether they kept the limits.
    tried: Vec<(f64, bool)>,
}

impl Search {
    /// Nothing tried yet.
    pub const fn new(plan: Planned) -> Self {
        Self {
            plan,
            tried: Vec::new(),
        }
    }

    /// Adds what came of a level.
    pub fn tell(&mut self, level: f64, met: bool) {
        self.tried.push((level, met));
    }

    /// Levels at the most: doublings, and twice the halvings of one doubling, for answers that do not hold.
    pub fn most(&self) -> usize {
        let doublings = (self.plan.max / self.plan.min).log2().ceil();
        let halvings = (2.0_f64.ln() / self.plan.tolerance.ln_1p())
            .log2()
            .ceil()
            .max(1.0);
        let levels = (doublings + 2.0).min(64.0) + 2.0 * halvings + 4.0;
        // counted down from a hundred, because numbers become counts by no exact way
        (0..=100)
            .rev()
            .find(|n| f64::from(*n) <= levels)
            .unwrap_or(0_u8)
            .into()
    }

    /// What comes next.
    pub fn next(&self) -> Next {
        let Planned { min, max, .. } = self.plan;
        let (met, missed) = (self.highest_met(), self.lowest_missed());
        let (level, purpose) = match (met, missed) {
            (None, None) => (min, Purpose::Bracket),
            (None, Some(_)) => return Next::End(Ended::MissedAtMin),
            (Some(met), None) if met < max => {
                (self.plan.of.round(met * 2.0).min(max), Purpose::Bracket)
            }
            (Some(met), None) if self.is_confirmed(met) => return Next::End(Ended::MetAtMax),
            (Some(met), None) => (met, Purpose::Confirm),
            (Some(met), Some(missed)) => match self.between(met, missed) {
                Some(level) => (level, Purpose::Bisect),
                None if self.is_confirmed(met) => return Next::End(Ended::Found),
                None => (met, Purpose::Confirm),
            },
        };
        if self.tried.len() >= self.most() {
            return Next::End(Ended::Unsettled);
        }
        Next::Try(level, purpose)
    }

    /// What is known so far.
    pub fn found(&self) -> Found {
        let answer = self.highest_met();
        let mut unconfirmed: Vec<f64> = Vec::new();
        for (level, met) in &self.tried {
            let once = self.tried.contains(&(*level, true));
            if !met && once && !unconfirmed.contains(level) {
                unconfirmed.push(*level);
            }
        }
        Found {
            min: self.plan.min,
            max: self.plan.max,
            tolerance: self.plan.tolerance,
            answer,
            confirmed: answer.is_some_and(|level| self.is_confirmed(level)),
            lowest_missed: self.lowest_missed(),
            unconfirmed,
        }
    }

    fn lowest_missed(&self) -> Option<f64> {
        let missed = self.tried.iter().filter(|(_, met)| !met);
        missed.map(|(level, _)| *level).min_by(f64::total_cmp)
    }

    /// Of those below every level that missed.
    fn highest_met(&self) -> Option<f64> {
        let limit = self.lowest_missed().unwrap_or(f64::INFINITY);
        let met = self
            .tried
            .iter()
            .filter(|(level, met)| *met && *level < limit);
        met.map(|(level, _)| *level).max_by(f64::total_cmp)
    }

    fn is_confirmed(&self, level: f64) -> bool {
        let same = |tried: &&(f64, bool)| tried.0.total_cmp(&level).is_eq();
        self.tried.iter().filter(same).count() > 1
    }

    /// A level between these two; `None` where they are near enough, or nothing lies between.
    fn between(&self, met: f64, missed: f64) -> Option<f64> {
        if missed - met <= self.plan.tolerance * met {
            return None;
        }
        let middle = self.plan.of.round((met * missed).sqrt());
        (middle > met && middle < missed).then_some(middle)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::recipe::Quantity;

    fn plan(of: Quantity, min: f64, max: f64, tolerance: f64) -> Planned {
        Planned {
            of,
            min,
            max,
            slo_attainment: 0.99,
            tolerance,
        }
    }

    fn rates(min: f64, max: f64, tolerance: f64) -> Planned {
        plan(Quantity::RequestsPerSecond, min, max, tolerance)
    }

    /// Searches a service; gives what was found, why it ended, and the levels with their purposes.
    fn search(
        plan: Planned,
        mut meets: impl FnMut(f64) -> bool,
    ) -> (Found, Ended, Vec<(f64, Purpose)>) {
        let mut search = Search::new(plan);
        let mut tried = Vec::new();
        loop {
            match search.next() {
                Next::End(ended) => return (search.found(), ended, tried),
                Next::Try(level, purpose) => {
                    assert!(tried.len() < search.most(), "bounded: {tried:?}");
                    assert!((plan.min..=plan.max).contains(&level), "{level}");
                    search.tell(level, meets(level));
                    tried.push((level, purpose));
                }
            }
        }
    }

    #[test]
    fn it_doubles_then_halves_then_confirms() {
        let (found, ended, tried) = search(rates(1.0, 64.0, 0.1), |rate| rate <= 5.0);
        let levels: Vec<f64> = tried.iter().map(|(level, _)| *level).collect();
        assert_eq!(levels, [1.0, 2.0, 4.0, 8.0, 5.657, 4.757, 5.188, 4.757]);
        let purposes: Vec<Purpose> = tried.iter().map(|(_, purpose)| *purpose).collect();
        assert_eq!(purposes[..4], [Purpose::Bracket; 4]);
        assert_eq!(purposes[4..7], [Purpose::Bisect; 3]);
        assert_eq!(purposes[7..], [Purpose::Confirm]);
        assert_eq!(ended, Ended::Found);
        assert_eq!(
            (found.answer, found.lowest_missed),
            (Some(4.757), Some(5.188))
        );
        assert!(found.confirmed && found.unconfirmed.is_empty());
    }

    #[test]
    fn users_are_whole_to_the_last() {
        let users = plan(Quantity::ConcurrentUsers, 1.0, 100.0, 0.001);
        let (found, ended, tried) = search(users, |count| count <= 37.0);
        assert_eq!(ended, Ended::Found);
        assert_eq!(
            (found.answer, found.lowest_missed),
            (Some(37.0), Some(38.0))
        );
        assert!(tried.iter().all(|(level, _)| level.fract() == 0.0));
    }

    #[test]
    fn the_ends_of_the_range_are_answers_too() {
        let (found, ended, tried) = search(rates(3.0, 20.0, 0.05), |_| true);
        assert_eq!((ended, found.answer), (Ended::MetAtMax, Some(20.0)));
        assert!(found.confirmed);
        let levels: Vec<f64> = tried.iter().map(|(level, _)| *level).collect();
        assert_eq!(levels, [3.0, 6.0, 12.0, 20.0, 20.0]);

        let (found, ended, tried) = search(rates(3.0, 20.0, 0.05), |_| false);
        assert_eq!((ended, found.answer), (Ended::MissedAtMin, None));
        assert_eq!((found.lowest_missed, tried.len()), (Some(3.0), 1));
    }

    #[test]
    fn an_answer_that_does_not_hold_is_left_below() {
        let mut seen = 0;
        // keeps up to 5.5, but the answer fails when it is tried again
        let (found, ended, tried) = search(rates(1.0, 64.0, 0.1), |rate| {
            seen += u32::from((rate - 5.188).abs() < 1e-9);
            rate <= 5.5 && (seen < 2 || rate < 5.0)
        });
        assert_eq!(ended, Ended::Found);
        assert_eq!(found.unconfirmed, [5.188]);
        assert_eq!(
            (found.answer, found.lowest_missed),
            (Some(4.757), Some(5.188))
        );
        assert!(found.confirmed);
        assert_eq!(tried.last(), Some(&(4.757, Purpose::Confirm)));
    }

    #[test]
    fn a_service_that_never_holds_ends_the_search() {
        // keeps the limits the first time, and never again
        let mut seen = Vec::new();
        let (found, ended, _) = search(rates(1.0, 1e6, 0.001), |rate| {
            let first = !seen.contains(&rate.to_bits());
            seen.push(rate.to_bits());
            first && rate < 1000.0
        });
        assert!(
            matches!(ended, Ended::Unsettled | Ended::MissedAtMin),
            "{ended:?}"
        );
        assert!(!found.confirmed && !found.unconfirmed.is_empty());
    }

    proptest! {
        #[test]
        fn of_a_monotone_service_it_finds_the_threshold(
            min in 0.01_f64..10.0,
            factor in 1.5_f64..1000.0,
            place in 0.0_f64..1.0,
            tolerance in 0.01_f64..0.5,
        ) {
            let plan = rates(min, min * factor, tolerance);
            let threshold = min * factor.powf(place);
            let (found, ended, _) = search(plan, |rate| rate <= threshold);
            let answer = found.answer.expect("the lowest is met");
            prop_assert!(answer <= threshold && found.confirmed);
            if ended == Ended::Found {
                let missed = found.lowest_missed.expect("a level missed");
                prop_assert!(missed > threshold);
                // a rate of four figures
                prop_assert!(missed - answer <= tolerance * answer * 1.001 + 1e-3 * answer);
            } else {
                prop_assert_eq!((ended, answer), (Ended::MetAtMax, plan.max));
            }
        }

        #[test]
        fn of_a_noisy_service_it_ends_near_it_and_never_above_what_missed(
            seed: u64,
            threshold in 5.0_f64..100.0,
            noise in 0.0_f64..0.2,
        ) {
            use rand::{Rng as _, SeedableRng as _};
            let mut random = rand_chacha::ChaCha12Rng::seed_from_u64(seed);
            let mut missed_at = f64::INFINITY;
            let (found, ended, tried) = search(rates(1.0, 200.0, 0.05), |rate| {
                let met = rate <= threshold * random.random_range(1.0 - noise..=1.0 + noise);
                if !met {
                    missed_at = missed_at.min(rate);
                }
                met
            });
            prop_assert!(tried.len() <= 8 + 2 * 4 + 6 + 4, "{}", tried.len());
            let answer = found.answer.expect("the lowest is met");
            prop_assert!(answer < missed_at);
            prop_assert!(answer <= threshold * (1.0 + noise));
            if ended == Ended::Found {
                prop_assert!(answer >= threshold * (1.0 - noise) / 1.051, "{} of {}", answer, threshold);
            }
        }
    }
}
