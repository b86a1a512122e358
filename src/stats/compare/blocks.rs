//! How long the blocks of a run must be, so that what is drawn hangs together as what was measured does.
//!
//! By the rule of Politis and White (2004, corrected 2009) for the circular block bootstrap: autocovariances up to the lag
//! where they drown in chance say how much the variance of a mean is off with blocks of one length, and how much it
//! varies; the length that balances both is taken. Pure; nothing can fail.

/// Blocks that a run has at the least.
pub(super) const FEWEST: usize = 8;

/// The length for all of these series, in cells, and whether they ask for longer ones than the run can bear.
pub(super) fn length(series: &[Vec<f64>]) -> (usize, bool) {
    let cells = series.iter().map(Vec::len).max().unwrap_or(0).max(1);
    let wanted = series.iter().map(|one| optimal(one)).fold(1.0, f64::max);
    let least = (cells as f64).cbrt();
    let most = (cells / FEWEST).max(1);
    let wanted = whole(wanted.max(least));
    (wanted.clamp(1, most), wanted > most)
}

/// The length for one series.
fn optimal(series: &[f64]) -> f64 {
    let n = series.len();
    let mean = series.iter().sum::<f64>() / n.max(1) as f64;
    let covariance = |lag: usize| {
        let pairs = series.iter().zip(series.iter().skip(lag));
        pairs
            .map(|(one, other)| (one - mean) * (other - mean))
            .sum::<f64>()
            / n as f64
    };
    let variance = if n > 1 { covariance(0) } else { 0.0 };
    if variance <= f64::EPSILON * mean * mean {
        return 1.0;
    }
    let size = n as f64;
    let insignificant = 2.0 * (size.log10() / size).sqrt();
    let together = whole(size.log10().sqrt()).max(5);
    let far = (whole(size.sqrt()) + together).min(n - 1);
    let correlated: Vec<bool> = (1..=far)
        .map(|lag| (covariance(lag) / variance).abs() >= insignificant)
        .collect();
    let is_quiet = |lag: &usize| {
        let next = correlated.iter().skip(*lag).take(together);
        !next.clone().any(|correlated| *correlated) && next.count() > 0
    };
    let last = (0..far).find(is_quiet).unwrap_or(far);
    let bandwidth = (2 * last).min(far);
    if bandwidth == 0 {
        return 1.0;
    }
    let (mut bias, mut spectrum) = (0.0, variance);
    for lag in 1..=bandwidth {
        let share = lag as f64 / bandwidth as f64;
        let weight = if share <= 0.5 {
            1.0
        } else {
            2.0 * (1.0 - share)
        };
        let both = 2.0 * weight * covariance(lag);
        bias += both * lag as f64;
        spectrum += both;
    }
    // a spectrum of none at zero: what goes up comes down at once, and any blocks do
    if spectrum <= 0.0 {
        return 1.0;
    }
    (1.5 * (bias / spectrum).powi(2) * size).cbrt()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a small positive number, or the largest"
)]
fn whole(value: f64) -> usize {
    value.ceil() as usize
}

#[cfg(test)]
mod tests {
    use rand::{Rng as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn series(memory: f64) -> Vec<f64> {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let mut at = 0.0;
        let mut next = || {
            at = memory * at + random.random::<f64>() - 0.5;
            at
        };
        (0..400).map(|_| next()).collect()
    }

    #[test]
    fn what_hangs_together_longer_gets_longer_blocks() {
        let lengths = [0.0, 0.6, 0.9].map(|memory| length(&[series(memory)]).0);
        assert_eq!(lengths[0], 8, "the cube root of 400");
        assert!(
            lengths[1] >= lengths[0] && lengths[2] > lengths[1] + 4,
            "{lengths:?}"
        );
        assert!(lengths[2] <= 50);
    }

    #[test]
    fn a_drift_asks_for_more_than_the_run_can_bear() {
        let drift = (0..100).map(f64::from).collect();
        assert_eq!(length(&[drift]), (12, true));
        assert_eq!(length(&[vec![5.0; 100]]), (5, false));
    }
}
