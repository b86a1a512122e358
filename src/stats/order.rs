//! How sure a percentile is, by order statistics.
//!
//! Of `n` observations in order, the number that lie at or below the true quantile of what they were drawn from is
//! binomial, whatever the distribution. So the two ranks between which it lies with 95 % follow from `n` alone, and
//! where the upper one would lie beyond the largest observation, or the lower one before the smallest, the sample says
//! nothing about that side: the 99th percentile wants 368 observations, the 99.9th 3,688, the 99.99th 36,887.
//!
//! Observations are taken for independent. Those of one request are not (gaps between its tokens), and those of a queue
//! are so only in part: there an interval is the least that is to be doubted. Pure; nothing can fail.

/// What lies outside the interval, at each end.
const TAIL: f64 = 0.025;
/// The same in deviations of the normal distribution.
const DEVIATIONS: f64 = 1.959_963_984_540_054;
/// Variance from which the normal distribution stands for the binomial one: ranks are then off by less than one in a
/// thousand of the interval.
const LARGE: f64 = 1e6;
/// Parts of the largest probability that are too small to count.
const NOTHING: f64 = 1e-18;

/// The ranks, from 1, between which a quantile lies with 95 %; `None` where so many observations do not reach.
pub fn interval(count: u64, quantile: f64) -> Option<(u64, u64)> {
    if count == 0 || quantile <= 0.0 || quantile >= 1.0 {
        return None;
    }
    let variance = count as f64 * quantile * (1.0 - quantile);
    let (low, high) = if variance > LARGE {
        by_normal(count as f64 * quantile, variance.sqrt())
    } else {
        by_binomial(count, quantile)?
    };
    (low >= 1 && high <= count).then_some((low, high))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "ranks, far from both ends of a u64"
)]
fn by_normal(mean: f64, deviation: f64) -> (u64, u64) {
    let away = DEVIATIONS * deviation;
    ((mean - away) as u64, (mean + away).ceil() as u64 + 1)
}

/// By summing the probabilities from the likeliest number outwards, so that none is too small to be held.
fn by_binomial(count: u64, quantile: f64) -> Option<(u64, u64)> {
    let odds = quantile / (1.0 - quantile);
    let mode = likeliest(count, quantile);
    let mut below = Vec::new();
    let (mut weight, mut at) = (1.0, mode);
    while at > 0 {
        weight *= at as f64 / ((count - at + 1) as f64 * odds);
        if weight < NOTHING {
            break;
        }
        at -= 1;
        below.push(weight);
    }
    let first = at;
    let mut weights: Vec<f64> = below.into_iter().rev().collect();
    (weight, at) = (1.0, mode);
    while weight >= NOTHING {
        weights.push(weight);
        if at == count {
            break;
        }
        weight *= (count - at) as f64 * odds / (at + 1) as f64;
        at += 1;
    }
    let total: f64 = weights.iter().sum();
    let (mut sum, mut low, mut high) = (0.0, first, None);
    for (number, weight) in (first..).zip(&weights) {
        sum += weight / total;
        if sum <= TAIL {
            low = number + 1;
        }
        if sum >= 1.0 - TAIL {
            high = Some(number + 1);
            break;
        }
    }
    Some((low, high?))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between none and all"
)]
fn likeliest(count: u64, quantile: f64) -> u64 {
    (((count + 1) as f64 * quantile) as u64).min(count)
}

#[cfg(test)]
mod tests {
    use rand::{Rng as _, SeedableRng as _};
    use rand_chacha::ChaCha12Rng;

    use super::*;

    #[test]
    fn ranks_of_tables() {
        // as printed in tables of distribution-free intervals for the median
        let medians = [
            (6, Some((1, 6))),
            (10, Some((2, 9))),
            (20, Some((6, 15))),
            (30, Some((10, 21))),
            (100, Some((40, 61))),
        ];
        for (count, ranks) in medians {
            assert_eq!(interval(count, 0.5), ranks, "{count}");
        }
        assert_eq!(interval(5, 0.5), None);
        assert_eq!(interval(0, 0.5), None);
    }

    #[test]
    fn a_percentile_wants_so_many_observations() {
        let least = [
            (0.5, 6),
            (0.9, 36),
            (0.95, 72),
            (0.99, 368),
            (0.999, 3688),
            (0.9999, 36_887),
        ];
        for (quantile, count) in least {
            assert_eq!(interval(count - 1, quantile), None, "{quantile}");
            let (low, high) = interval(count, quantile).expect("an interval");
            assert!(low >= 1 && high == count, "{quantile}: {low} to {high}");
        }
    }

    #[test]
    fn both_ways_of_reckoning_meet() {
        for quantile in [0.5, 0.9, 0.99] {
            let count = 20_000_u64;
            let variance = count as f64 * quantile * (1.0 - quantile);
            let exact = by_binomial(count, quantile).expect("an interval");
            let normal = by_normal(count as f64 * quantile, variance.sqrt());
            assert!(
                exact.0.abs_diff(normal.0) <= 2 && exact.1.abs_diff(normal.1) <= 2,
                "{quantile}: {exact:?} and {normal:?}"
            );
        }
        let (low, high) = interval(1_000_000_000, 0.5).expect("an interval");
        assert!(low < 500_000_000 && high > 500_000_000 && high - low < 64_000);
    }

    #[test]
    fn nineteen_of_twenty_samples_hold_the_true_quantile() {
        let mut random = ChaCha12Rng::seed_from_u64(7);
        for (count, quantile) in [(50, 0.5), (200, 0.9), (1000, 0.99)] {
            let (low, high) = interval(count, quantile).expect("an interval");
            let rounds = 2000;
            let mut held = 0;
            for _ in 0..rounds {
                // of even numbers below 1, the quantile is the quantile
                let below = (0..count)
                    .filter(|_| random.random::<f64>() <= quantile)
                    .count() as u64;
                held += u32::from(below >= low && below < high);
            }
            let share = f64::from(held) / f64::from(rounds);
            assert!((0.94..=0.985).contains(&share), "{quantile}: {share}");
        }
    }
}
