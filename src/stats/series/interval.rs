//! How much repeats differ: the mean over them and its interval by Student's t.
//!
//! Repeats are few, so the normal distribution would promise too much: of three, the interval is 4.3 standard errors to
//! each side and not two. It holds where what is measured varies about its mean in no strange way; a repeat that was
//! disturbed shows as a wide interval. Pure; nothing can fail.

use serde::{Deserialize, Serialize};

/// Confidence of the intervals.
pub const CONFIDENCE: f64 = 0.95;

/// A mean and where the true one lies.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Interval {
    /// Mean over the repeats.
    pub mean: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Standard deviation of the repeats, as a sample.
    pub std: f64,
    /// Repeats.
    pub count: u32,
}

impl Interval {
    /// Over these values; `None` for fewer than two, which have no interval.
    pub fn over(values: &[f64]) -> Option<Self> {
        let count = u32::try_from(values.len()).ok()?;
        if count < 2 {
            return None;
        }
        let n = f64::from(count);
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let std = (squares / (n - 1.0)).sqrt();
        let half = student(count - 1) * std / n.sqrt();
        Some(Self {
            mean,
            low: mean - half,
            high: mean + half,
            std,
            count,
        })
    }

    /// Half its width.
    pub fn half(&self) -> f64 {
        (self.high - self.low) / 2.0
    }
}

/// 97.5th percentiles of Student's t for 1 to 30 degrees of freedom.
const STUDENT: [f64; 30] = [
    12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281, 2.2010,
    2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860, 2.0796, 2.0739, 2.0687,
    2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423,
];

/// The same of the normal distribution.
const NORMAL: f64 = 1.959_964;

/// How many standard errors the interval reaches to each side.
fn student(freedom: u32) -> f64 {
    let index = usize::try_from(freedom).unwrap_or(usize::MAX);
    if let Some(t) = index.checked_sub(1).and_then(|index| STUDENT.get(index)) {
        return *t;
    }
    // the expansion about the normal distribution, good to four figures from here on
    let (z, n) = (NORMAL, f64::from(freedom));
    z + (z.powi(3) + z) / (4.0 * n)
        + (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / (96.0 * n * n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_that_of_the_text_books() {
        // five values: mean 10, sample deviation sqrt(2.5), 2.7764 standard errors
        let interval = Interval::over(&[8.0, 9.0, 10.0, 11.0, 12.0]).expect("five values");
        assert_eq!((interval.mean, interval.count), (10.0, 5));
        assert!((interval.std - 2.5_f64.sqrt()).abs() < 1e-12);
        assert!((interval.half() - 2.7764 * 0.5_f64.sqrt()).abs() < 1e-9);
        assert!((interval.low + interval.high - 20.0).abs() < 1e-9);
    }

    #[test]
    fn tables_and_expansion_agree() {
        for (freedom, wanted) in [
            (1, 12.7062),
            (30, 2.0423),
            (40, 2.0211),
            (60, 2.0003),
            (120, 1.9799),
        ] {
            let found = student(freedom);
            assert!((found - wanted).abs() < 1e-4, "{freedom}: {found}");
        }
        assert!(student(31) < student(30) && student(100_000) > NORMAL);
    }

    #[test]
    fn one_value_has_no_interval_and_equal_ones_none_to_see() {
        assert_eq!(Interval::over(&[1.0]), None);
        let same = Interval::over(&[3.0, 3.0]).expect("two values");
        assert_eq!((same.low, same.high), (3.0, 3.0));
    }
}
