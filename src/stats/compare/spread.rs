//! How much a number varies, and the least that it is known to vary. Pure; nothing can fail.

use super::{
    bootstrap::{Estimate, Statistic},
    run::is_share,
};

/// What a histogram of three figures does not tell apart, as a share.
const RESOLUTION: f64 = 1.0 / 2048.0;

/// How much a number varies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Spread {
    /// Variance of its logarithm; `None` where a draw was not above 0.
    pub(super) of_log: Option<Variance>,
    /// Variance of itself.
    pub(super) of_value: Variance,
}

/// A variance, and from how much it is known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Variance {
    pub(super) size: f64,
    pub(super) freedom: f64,
}

/// Variances below which no draw can be believed, of the logarithm and of the value: a percentile is known to the figures
/// of its histogram, and a share of none is not known to be none.
pub(super) fn floors(estimate: &Estimate, count: u64) -> (f64, f64) {
    if is_share(estimate.metric) {
        let n = count as f64;
        let share = (estimate.value / 100.0 * n + 1.0) / (n + 2.0);
        return (0.0, share * (1.0 - share) / n * 1e4);
    }
    let figures = match estimate.statistic {
        Statistic::Mean => 0.0,
        _ => RESOLUTION,
    };
    (figures.powi(2), (figures * estimate.value).powi(2))
}

impl Variance {
    /// Of a sum; degrees of freedom by Satterthwaite.
    pub(super) fn and(self, other: Self) -> Self {
        let size = self.size + other.size;
        let part = |one: Self| one.size * one.size / one.freedom;
        let parts = part(self) + part(other);
        let freedom = if parts > 0.0 {
            size * size / parts
        } else {
            self.freedom
        };
        Self { size, freedom }
    }
}

/// Of a sample; `None` where one is no number.
pub(super) fn variance(values: &[f64]) -> Option<f64> {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let variance = squares / (n - 1.0);
    variance.is_finite().then_some(variance)
}
