//! When an open loop sends: absolute times, fixed before the load begins.
//!
//! Times are absolute, so that a late request does not push the ones after it (gaps measured from the last sending would
//! hide a slow server). Poisson gaps are true exponentials and are never rescaled to hit the rate: the count of a short
//! load then varies as it does in the world, by the square root of it. A seed makes the schedule repeatable.

use std::time::Duration;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha12Rng;
use rand_distr::Exp1;

use crate::recipe::Arrival;

/// Intended times since the start of the load, without end. `rate` is in requests per second and above zero.
pub fn schedule(
    arrival: Arrival,
    rate: f64,
    seed: u64,
) -> impl Iterator<Item = Duration> + Send + use<> {
    // sums of nanoseconds as whole numbers would lose up to half of one at each arrival; of seconds as f64, far less
    let mut random = ChaCha12Rng::seed_from_u64(seed);
    let mut sum = 0.0_f64;
    (0_u64..).map(move |index| {
        let seconds = match arrival {
            // by multiplication: a sum of gaps drifts
            Arrival::Constant => index as f64 / rate,
            Arrival::Poisson => {
                let gap: f64 = random.sample(Exp1);
                sum += gap / rate;
                sum
            }
        };
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn either() -> impl Strategy<Value = Arrival> {
        prop::sample::select(vec![Arrival::Constant, Arrival::Poisson])
    }

    fn count(arrival: Arrival, rate: f64, seconds: f64, seed: u64) -> usize {
        schedule(arrival, rate, seed)
            .take_while(|at| at.as_secs_f64() < seconds)
            .count()
    }

    #[test]
    fn constant_arrivals_begin_at_once_and_keep_their_gap() {
        let first: Vec<_> = schedule(Arrival::Constant, 4.0, 1).take(4).collect();
        assert_eq!(first, [0, 250, 500, 750].map(Duration::from_millis));
    }

    #[test]
    fn poisson_gaps_are_exponential() {
        // of an exponential, the standard deviation is the mean, and e^-1 of all are above it
        let times: Vec<_> = schedule(Arrival::Poisson, 10.0, 7).take(100_000).collect();
        let gaps: Vec<f64> = times
            .windows(2)
            .map(|pair| pair[1].as_secs_f64() - pair[0].as_secs_f64())
            .collect();
        let n = gaps.len() as f64;
        let mean = gaps.iter().sum::<f64>() / n;
        let deviation = (gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / n).sqrt();
        let above = gaps.iter().filter(|gap| **gap > 0.1).count() as f64 / n;
        assert!((mean - 0.1).abs() < 0.002, "{mean}");
        assert!((deviation - 0.1).abs() < 0.002, "{deviation}");
        assert!((above - (-1.0_f64).exp()).abs() < 0.01, "{above}");
    }

    #[test]
    fn another_seed_gives_other_times() {
        let times = |seed| {
            schedule(Arrival::Poisson, 1.0, seed)
                .take(3)
                .collect::<Vec<_>>()
        };
        assert_ne!(times(1), times(2));
    }

    proptest! {
        #[test]
        fn times_never_go_back_and_a_seed_repeats_them(arrival in either(), rate in 0.001..10_000.0, seed: u64) {
            let times: Vec<_> = schedule(arrival, rate, seed).take(500).collect();
            prop_assert!(times.is_sorted());
            prop_assert_eq!(times, schedule(arrival, rate, seed).take(500).collect::<Vec<_>>());
        }

        #[test]
        fn constant_counts_are_exact(rate in 0.01..2000.0, seconds in 0.0..10.0) {
            let found = count(Arrival::Constant, rate, seconds, 0) as f64;
            prop_assert!((found - rate * seconds).abs() <= 1.0, "{found}");
        }

        #[test]
        fn poisson_counts_are_within_five_sigma(rate in 20.0..2000.0, seed: u64) {
            let wanted = rate * 10.0;
            let found = count(Arrival::Poisson, rate, 10.0, seed) as f64;
            prop_assert!((found - wanted).abs() <= 5.0 * wanted.sqrt(), "{found} of {wanted}");
        }
    }
}
