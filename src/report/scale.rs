//! Axes of a chart: where a value stands in the picture, and which values are marked.
//!
//! Marks are round: 1, 2 or 5 times a power of ten apart, or, on a logarithmic axis, at such values. Pure; cannot fail.

use super::text;

/// From values that start at 0, or, of a logarithmic axis, at `min`, to places in the picture.
#[derive(Debug)]
pub(super) struct Scale {
    /// Where it begins in the picture.
    pub from: f64,
    /// Where it ends there.
    pub to: f64,
    /// The lowest value of a logarithmic one.
    pub min: Option<f64>,
    /// The highest value.
    pub max: f64,
}

impl Scale {
    /// Where a value stands; one that is beyond an end stands there.
    pub(super) fn at(&self, value: f64) -> f64 {
        let share = match self.min {
            None => value / self.max,
            Some(min) => (value / min).ln() / (self.max / min).ln(),
        };
        // what is no number stands at the start
        let share = if share.is_finite() { share } else { 0.0 };
        self.from + (self.to - self.from) * share.clamp(0.0, 1.0)
    }
}

/// A mark of an axis.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tick {
    /// Where it stands.
    pub value: f64,
    /// What stands there.
    pub label: String,
}

/// Marks from 0 to `max` or just above it, 1, 2 or 5 times a power of ten apart, about `count` of them.
pub(super) fn ticks(max: f64, count: u32) -> Vec<Tick> {
    // what is no number is in no range
    if !(1e-300..=1e300).contains(&max) {
        return vec![
            Tick {
                value: 0.0,
                label: "0".to_owned(),
            },
            Tick {
                value: 1.0,
                label: "1".to_owned(),
            },
        ];
    }
    let rough = max / f64::from(count.max(1));
    let power = 10_f64.powf(rough.log10().floor());
    let step = power
        * match rough / power {
            r if r <= 1.0 => 1.0,
            r if r <= 2.0 => 2.0,
            r if r <= 5.0 => 5.0,
            _ => 10.0,
        };
    let mut marks = Vec::new();
    let mut index = 0_u32;
    loop {
        let value = f64::from(index) * step;
        marks.push(Tick {
            value,
            label: label(value, step),
        });
        // half a millionth of a step: what rounding may have taken
        if value >= max - step * 5e-7 {
            return marks;
        }
        index += 1;
    }
}

/// Marks of a logarithmic axis within its ends: powers of ten, with 2 and 5 times these where they are few.
pub(super) fn decades(min: f64, max: f64) -> Vec<Tick> {
    let first = min.log10().floor();
    let count = (max.log10().ceil() - first).clamp(0.0, 40.0);
    let times: &[f64] = if count > 4.0 {
        &[1.0]
    } else {
        &[1.0, 2.0, 5.0]
    };
    let powers = std::iter::successors(Some(0.0), |at: &f64| Some(at + 1.0));
    let powers = powers.take_while(|at| *at <= count);
    powers
        .flat_map(|at| {
            times
                .iter()
                .map(move |times| times * 10_f64.powf(first + at))
        })
        .filter(|value| (min..=max).contains(value))
        .map(|value| Tick {
            value,
            label: text::number(value),
        })
        .collect()
}

fn label(value: f64, step: f64) -> String {
    let (value, step, suffix) = if value >= 1e6 {
        (value / 1e6, step / 1e6, "M")
    } else if value >= 1e4 {
        (value / 1e3, step / 1e3, "k")
    } else {
        (value, step, "")
    };
    let digits = (0..6).find(|digits| {
        let scaled = step * 10_f64.powi(*digits);
        (scaled - scaled.round()).abs() < 1e-6 * scaled.max(1e-3)
    });
    let digits = usize::try_from(digits.unwrap_or(6)).unwrap_or(0);
    format!("{value:.digits$}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_cover_the_values() {
        let labels = |max, count| {
            ticks(max, count)
                .into_iter()
                .map(|tick| tick.label)
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(labels(37.0, 4), "0 10 20 30 40");
        assert_eq!(labels(1.0, 4), "0.0 0.5 1.0");
        assert_eq!(labels(0.013, 4), "0.000 0.005 0.010 0.015");
        assert_eq!(labels(120.0, 8), "0 20 40 60 80 100 120");
        assert_eq!(labels(45_000.0, 4), "0 20k 40k 60k");
    }

    #[test]
    fn a_logarithmic_axis_is_marked_by_decades() {
        let labels = |min, max| {
            let marks = decades(min, max).into_iter();
            marks.map(|tick| tick.label).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(labels(1.5, 60.0), "2 5 10 20 50");
        assert_eq!(labels(0.02, 30_000.0), "0.1 1 10 100 1000 10000");
    }

    proptest::proptest! {
        #[test]
        fn ticks_are_few_and_reach_the_maximum(max in 1e-9_f64..1e12, count in 1_u32..12) {
            let ticks = ticks(max, count);
            proptest::prop_assert!(ticks.len() <= count as usize + 2);
            proptest::prop_assert!(ticks.last().unwrap().value >= max * (1.0 - 1e-6));
        }
    }
}
