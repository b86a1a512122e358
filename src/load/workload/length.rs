//! Each request's own length, by its number and a seed; and each pause of a user.
//!
//! A draw outside of the bounds is made again: moved to the bound, many would have that one length. Pure.

use std::time::Duration;

use rand::Rng;
use rand_distr::{Distribution as _, Exp1, LogNormal, Normal};

use crate::recipe::{Length, ThinkTime};

/// Draws before the nearest bound is taken.
const DRAWS: usize = 100;

/// One length.
pub fn draw(length: &Length, random: &mut impl Rng) -> u32 {
    match *length {
        Length::Fixed(tokens) => tokens,
        Length::Uniform { min, max } => random.random_range(min..=max),
        Length::Normal {
            mean,
            std,
            min,
            max,
        } => match Normal::new(mean, std) {
            Ok(normal) => within(min, max, mean, || normal.sample(random)),
            Err(_) => nearest(mean, min, max),
        },
        Length::Lognormal {
            median,
            sigma,
            min,
            max,
        } => match LogNormal::new(median.ln(), sigma) {
            Ok(lognormal) => within(min, max, median, || lognormal.sample(random)),
            Err(_) => nearest(median, min, max),
        },
    }
}

/// One pause.
pub fn pause(think_time: &ThinkTime, random: &mut impl Rng) -> Duration {
    match think_time {
        ThinkTime::Fixed(pause) => *pause,
        ThinkTime::Exponential(mean) => {
            let drawn: f64 = random.sample(Exp1);
            mean.mul_f64(drawn)
        }
        ThinkTime::Drawn(length) => Duration::from_millis(draw(length, random).into()),
    }
}

fn within(min: u32, max: u32, centre: f64, mut draw: impl FnMut() -> f64) -> u32 {
    let inside = |drawn: &f64| (f64::from(min)..=f64::from(max)).contains(&drawn.round());
    let drawn = (0..DRAWS).map(|_| draw()).find(inside);
    nearest(drawn.unwrap_or(centre), min, max)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to a range of u32"
)]
fn nearest(drawn: f64, min: u32, max: u32) -> u32 {
    drawn.round().clamp(f64::from(min), f64::from(max)) as u32
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha12Rng;

    use super::*;

    fn many(length: Length) -> Vec<f64> {
        let mut random = ChaCha12Rng::seed_from_u64(7);
        let mut drawn: Vec<f64> = (0..20_000)
            .map(|_| f64::from(draw(&length, &mut random)))
            .collect();
        drawn.sort_by(f64::total_cmp);
        drawn
    }

    fn mean(values: &[f64]) -> f64 {
        values.iter().sum::<f64>() / values.len() as f64
    }

    #[test]
    fn lengths_are_spread_as_asked_and_keep_their_bounds() {
        let uniform = many(Length::Uniform { min: 10, max: 20 });
        assert_eq!((uniform[0], uniform[19_999]), (10.0, 20.0));
        for length in 10..=20 {
            let share = uniform
                .iter()
                .filter(|found| (**found - f64::from(length)).abs() < 0.5)
                .count();
            assert!((1600..2100).contains(&share), "{length}: {share}");
        }

        let (min, max) = (50, 900);
        let normal = many(Length::Normal {
            mean: 500.0,
            std: 100.0,
            min,
            max,
        });
        assert!((mean(&normal) - 500.0).abs() < 3.0, "{}", mean(&normal));
        // one standard deviation below the mean lie 15.87 %
        assert!((normal[3173] - 400.0).abs() < 5.0, "{}", normal[3173]);

        let lognormal = many(Length::Lognormal {
            median: 100.0,
            sigma: 1.0,
            min: 1,
            max: 100_000,
        });
        assert!(
            (lognormal[10_000] - 100.0).abs() < 3.0,
            "{}",
            lognormal[10_000]
        );
        // exp(1) times the median at one standard deviation, exp(1/2) times the median is the mean
        assert!(
            (lognormal[16_827] - 271.8).abs() < 10.0,
            "{}",
            lognormal[16_827]
        );
        assert!(
            (mean(&lognormal) - 164.9).abs() < 6.0,
            "{}",
            mean(&lognormal)
        );
    }

    #[test]
    fn what_is_cut_off_does_not_pile_up_at_the_bound() {
        let cut = many(Length::Normal {
            mean: 100.0,
            std: 50.0,
            min: 90,
            max: 110,
        });
        assert_eq!((cut[0], cut[19_999]), (90.0, 110.0));
        let at_bound = cut.iter().filter(|found| **found > 109.5).count();
        assert!(
            (700..1200).contains(&at_bound),
            "{at_bound} of 20000 over 21 lengths"
        );
    }
}
