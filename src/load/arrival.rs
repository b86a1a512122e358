//! When an open loop sends: absolute times, fixed before the load begins.
//!
//! Times are absolute, so that a late request does not push the ones after it (gaps measured from the last sending would
//! hide a slow server). Random gaps are never rescaled to hit the rate: the count of a short load then varies as it does
//! in the world, of a Poisson process by the square root of it. A seed makes the schedule repeatable.
//!
//! A process draws gaps of mean one; the course of the rate turns their sums into times. So a rate that changes keeps the
//! nature of its process: arrivals of a Poisson ramp are independent of each other at every rate. Pure; nothing can fail.

use std::{sync::Arc, time::Duration};

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha12Rng;
use rand_distr::{Exp1, Gamma};

use crate::recipe::{Arrival, ClientPlan, Gaps, LoadModel};

/// The schedule of an open loop.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    process: Process,
    course: Course,
    seed: u64,
}

/// How gaps vary about their mean.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Process {
    Constant,
    Poisson,
    Gamma(f64),
}

/// How the rate goes.
#[derive(Debug, Clone, PartialEq)]
enum Course {
    Steady(f64),
    Ramp(Ramp),
    /// Times that are given one by one.
    Given(Arc<[Duration]>),
}

/// Seconds and requests per second.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Ramp {
    warmup: f64,
    length: f64,
    from: f64,
    to: f64,
}

impl Schedule {
    /// Of a plan; `None` for a closed loop, which has none. `traced` are the times of the trace that a plan wants replayed.
    pub fn of(plan: &ClientPlan, traced: Arc<[Duration]>) -> Option<Self> {
        let LoadModel::OpenLoop {
            requests_per_second,
            arrival,
            ..
        } = &plan.load
        else {
            return None;
        };
        let steady = Course::Steady(requests_per_second.unwrap_or(1.0));
        let (process, course) = match arrival {
            Arrival::Constant => (Process::Constant, steady),
            Arrival::Poisson => (Process::Poisson, steady),
            Arrival::Gamma { burstiness } => (Process::Gamma(*burstiness), steady),
            Arrival::Ramp { from, to, gaps } => {
                let process = match gaps {
                    Gaps::Constant => Process::Constant,
                    Gaps::Poisson => Process::Poisson,
                };
                let ramp = Ramp {
                    warmup: plan.warmup.as_secs_f64(),
                    length: plan.duration.unwrap_or_default().as_secs_f64(),
                    from: *from,
                    to: *to,
                };
                (process, Course::Ramp(ramp))
            }
            Arrival::Trace { .. } => (Process::Constant, Course::Given(traced)),
        };
        Some(Self {
            process,
            course,
            seed: plan.workload.seed,
        })
    }

    /// Intended times since the start of the load, in order; they end where a trace does.
    pub fn times(&self) -> impl Iterator<Item = Duration> + Send + use<> {
        // sums of nanoseconds as whole numbers would lose up to half of one at each arrival; of seconds as f64, far less
        let mut random = ChaCha12Rng::seed_from_u64(self.seed);
        let (process, course) = (self.process, self.course.clone());
        let gamma = match process {
            Process::Gamma(shape) => Gamma::new(shape, 1.0 / shape).ok(),
            _ => None,
        };
        let mut sum = 0.0_f64;
        (0_usize..).map_while(move |index| {
            let place = if process == Process::Constant {
                // not summed up: a sum of gaps drifts
                index as f64
            } else {
                sum += match gamma {
                    Some(gamma) => random.sample::<f64, _>(gamma),
                    None => random.sample(Exp1),
                };
                sum
            };
            let seconds = match &course {
                Course::Steady(rate) => place / rate,
                Course::Ramp(ramp) => ramp.at(place),
                Course::Given(times) => return times.get(index).copied(),
            };
            Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
        })
    }
}

impl Ramp {
    /// When, in seconds, so many requests have come.
    fn at(self, place: f64) -> f64 {
        let before = self.from * self.warmup;
        if place < before {
            return place / self.from;
        }
        // solves slope / 2 * t^2 + from * t = left, in the form that loses nothing where the slope is small
        let left = place - before;
        if left == 0.0 {
            return self.warmup;
        }
        let slope = (self.to - self.from) / self.length;
        let root = self.from.mul_add(self.from, 2.0 * slope * left).sqrt();
        // a rate that falls to nothing never gets so far: then this is no number, which is beyond every window
        self.warmup + 2.0 * left / (self.from + root)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The times of an open loop.
    fn times(workload: &str) -> impl Iterator<Item = Duration> + use<> {
        let plan = ClientPlan::of(&format!("pattern: open-loop, {workload}"), "");
        Schedule::of(&plan, Arc::default())
            .expect("an open loop")
            .times()
    }

    fn steady(process: &str, rate: f64, seed: u64) -> impl Iterator<Item = Duration> + use<> {
        times(&format!(
            "requests_per_second: {rate}, arrival: {{process: {process}}}, duration_seconds: 1, seed: {seed}"
        ))
    }

    fn count(times: impl Iterator<Item = Duration>, from: f64, to: f64) -> usize {
        times
            .map(|at| at.as_secs_f64())
            .skip_while(|at| *at < from)
            .take_while(|at| *at < to)
            .count()
    }

    /// Mean and standard deviation of the gaps, and the share of those above a value.
    fn gaps(times: impl Iterator<Item = Duration>, limit: f64) -> (f64, f64, f64) {
        let times: Vec<_> = times.take(100_000).map(|at| at.as_secs_f64()).collect();
        let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let n = gaps.len() as f64;
        let mean = gaps.iter().sum::<f64>() / n;
        let deviation = (gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / n).sqrt();
        let above = gaps.iter().filter(|gap| **gap > limit).count() as f64 / n;
        (mean, deviation, above)
    }

    fn assert_near(what: &str, found: f64, wanted: f64, off: f64) {
        assert!((found - wanted).abs() < off, "{what}: {found}");
    }

    #[test]
    fn constant_arrivals_begin_at_once_and_keep_their_gap() {
        let first: Vec<_> = steady("constant", 4.0, 1).take(4).collect();
        assert_eq!(first, [0, 250, 500, 750].map(Duration::from_millis));
    }

    #[test]
    fn poisson_gaps_are_exponential() {
        // of an exponential, the standard deviation is the mean, and e^-1 of all are above it
        let (mean, deviation, above) = gaps(steady("poisson", 10.0, 7), 0.1);
        assert_near("mean", mean, 0.1, 0.002);
        assert_near("deviation", deviation, 0.1, 0.002);
        assert_near("above", above, (-1.0_f64).exp(), 0.01);
    }

    #[test]
    fn gamma_gaps_vary_by_their_burstiness() {
        // the standard deviation of a gamma distribution is its mean over the root of its shape
        for burstiness in [0.25_f64, 1.0, 16.0] {
            let process = format!("gamma, burstiness: {burstiness}");
            let (mean, deviation, _) = gaps(steady(&process, 10.0, 7), 0.1);
            let wanted = 0.1 / burstiness.sqrt();
            assert_near("mean", mean, 0.1, 0.003);
            assert_near("deviation", deviation, wanted, 0.02 * wanted);
        }
    }

    #[test]
    fn a_ramp_goes_in_a_line_after_its_warmup() {
        for gaps in ["constant", "poisson"] {
            // each second has its own rate in the middle of it
            for (from, to, warmup) in [
                (10.0, 110.0, 0),
                (110.0, 10.0, 3),
                (0.0, 100.0, 2),
                (100.0, 0.0, 0),
            ] {
                let ramp = || {
                    times(&format!(
                        "arrival: {{process: ramp, from: {from}, to: {to}, gaps: {gaps}}}, warmup_seconds: {warmup}, duration_seconds: 10"
                    ))
                };
                let start = f64::from(warmup);
                let before = count(ramp(), 0.0, start) as f64;
                assert_near(
                    "warm-up",
                    before,
                    from * start,
                    1.0 + 5.0 * (from * start).sqrt(),
                );
                for second in 0..10 {
                    let at = f64::from(second);
                    let wanted = from + (to - from) * (at + 0.5) / 10.0;
                    let off = if gaps == "constant" {
                        1.5
                    } else {
                        5.0 * wanted.sqrt()
                    };
                    let found = count(ramp(), start + at, start + at + 1.0) as f64;
                    assert_near(&format!("{gaps} {from} {to} {at}"), found, wanted, off);
                }
            }
        }
    }

    #[test]
    fn another_seed_gives_other_times() {
        let times = |seed| steady("poisson", 1.0, seed).take(3).collect::<Vec<_>>();
        assert_ne!(times(1), times(2));
    }

    proptest! {
        #[test]
        fn times_never_go_back_and_a_seed_repeats_them(
            process in prop::sample::select(vec!["constant", "poisson", "gamma, burstiness: 0.3"]),
            rate in 0.001..10_000.0,
            seed: u64,
        ) {
            let times: Vec<_> = steady(process, rate, seed).take(500).collect();
            prop_assert!(times.is_sorted());
            prop_assert_eq!(times, steady(process, rate, seed).take(500).collect::<Vec<_>>());
        }

        #[test]
        fn ramps_never_go_back(from in 0.0..1000.0, to in 0.1..1000.0, seed: u64) {
            let ramp = format!("arrival: {{process: ramp, from: {from}, to: {to}}}, duration_seconds: 1, warmup_seconds: 1, seed: {seed}");
            prop_assert!(times(&ramp).take(500).collect::<Vec<_>>().is_sorted());
        }

        #[test]
        fn constant_counts_are_exact(rate in 0.01..2000.0, seconds in 0.0..10.0) {
            let found = count(steady("constant", rate, 0), 0.0, seconds) as f64;
            prop_assert!((found - rate * seconds).abs() <= 1.0, "{found}");
        }

        #[test]
        fn poisson_counts_are_within_five_sigma(rate in 20.0..2000.0, seed: u64) {
            let wanted = rate * 10.0;
            let found = count(steady("poisson", rate, seed), 0.0, 10.0) as f64;
            prop_assert!((found - wanted).abs() <= 5.0 * wanted.sqrt(), "{found} of {wanted}");
        }
    }
}
