//! Student's t for any confidence: how many standard errors an interval reaches, and how likely a difference is by chance.
//!
//! A family of tests wants confidences that no table has. The probability beyond `t` is an incomplete beta function, by
//! its continued fraction; the inverse is found by halving. Pure; nothing can fail.

use std::f64::consts::PI;

/// Terms of the fraction, and halvings, at the most.
const STEPS: u32 = 300;
/// Differences that no longer count.
const SMALL: f64 = 1e-14;

/// The probability that |T| is larger than `t`, with this many degrees of freedom.
pub(super) fn beyond(t: f64, freedom: f64) -> f64 {
    if !t.is_finite() {
        return 0.0;
    }
    incomplete_beta(freedom / (freedom + t * t), freedom / 2.0, 0.5)
}

/// The `t` that |T| exceeds with this probability.
pub(super) fn reach(probability: f64, freedom: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    while beyond(high, freedom) > probability && high < 1e12 {
        (low, high) = (high, high * 2.0);
    }
    for _ in 0..STEPS {
        let middle = f64::midpoint(low, high);
        if high - low < SMALL * high {
            break;
        }
        if beyond(middle, freedom) > probability {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

/// The regularised one: the probability of a beta variable to lie below `x`.
fn incomplete_beta(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    // the fraction converges fast on one side of the mean alone
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(1.0 - x, b, a);
    }
    let front =
        ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (-x).ln_1p() - a.ln();
    front.exp() * fraction(x, a, b)
}

/// Its continued fraction, by Lentz's method.
fn fraction(x: f64, a: f64, b: f64) -> f64 {
    let safe = |value: f64| if value.abs() < 1e-300 { 1e-300 } else { value };
    let (mut value, mut upper, mut lower) = (1.0, 1.0, 0.0);
    for step in 1..STEPS {
        let m = f64::from(step / 2);
        let term = if step % 2 == 1 {
            -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0))
        } else {
            m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m))
        };
        lower = safe(1.0 + term * lower).recip();
        upper = safe(1.0 + term / upper);
        let change = upper * lower;
        value *= change;
        if (change - 1.0).abs() < SMALL {
            break;
        }
    }
    value.recip()
}

/// By Stirling's series, far enough out.
fn ln_gamma(x: f64) -> f64 {
    let (mut x, mut before) = (x, 0.0);
    while x < 12.0 {
        before += x.ln();
        x += 1.0;
    }
    let series = (12.0 * x).recip() - (360.0 * x.powi(3)).recip() + (1260.0 * x.powi(5)).recip();
    (x - 0.5) * x.ln() - x + (2.0 * PI).ln() / 2.0 + series - before
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reaches_as_far_as_the_tables_say() {
        let cases = [
            (0.05, 1.0, 12.7062),
            (0.05, 10.0, 2.2281),
            (0.001, 5.0, 6.8688),
            (0.001, 30.0, 3.6460),
            (0.05, 1e6, 1.959_966),
            (0.01, 120.0, 2.6174),
        ];
        for (probability, freedom, wanted) in cases {
            let found = reach(probability, freedom);
            assert!((found - wanted).abs() < 2e-4, "{freedom}: {found}");
            assert!((beyond(found, freedom) - probability).abs() < 1e-9);
        }
    }

    #[test]
    fn nothing_lies_beyond_infinity_and_all_beyond_none() {
        assert!((beyond(0.0, 7.0) - 1.0).abs() < 1e-12);
        assert!(beyond(f64::INFINITY, 7.0).abs() < 1e-12);
    }
}
