//! From the numbers of two sides to their differences, and to what may be said of each.
//!
//! The more numbers are compared, the likelier one differs by chance. All that one command tests, of all pairs and loads,
//! is one *family*: with Bonferroni's correction each of its `m` intervals has the confidence 1 − 5 %/m, and all of them
//! hold together with at least 95 %. A number is better or worse where its interval does not hold 0, so that at most one
//! comparison of twenty in which nothing differs says so of any number.
//!
//! Times and rates are compared by their ratio: the interval is one of the difference of logarithms, by Student's t with
//! the degrees of freedom of both sides' blocks (Welch). In units, it is that share of what the first side has. Shares (of
//! errors, and of requests that kept their limits), and what may be 0, are compared by their difference. Pure; nothing can fail.

use serde::Serialize;

use super::{
    bootstrap::{ENOUGH, Estimate, Estimates, Statistic},
    run::{GOODPUT, RATES, SLO_ATTAINMENT},
    spread::Variance,
    student,
};

/// Probability that any number of the family is told apart though nothing differs.
pub const LEVEL: f64 = 0.05;

/// What may be said of a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The second side is better.
    Better,
    /// It is worse.
    Worse,
    /// Chance may have made the difference.
    CannotTell,
}

impl Verdict {
    /// In words.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::CannotTell => "cannot tell",
        }
    }
}

/// Where a difference lies, with the confidence of the family.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// In percent of the first side; `None` for what is compared by its difference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<[f64; 2]>,
    /// In its unit.
    pub absolute: [f64; 2],
    /// Probability of such a difference where there is none, not corrected.
    pub p_value: f64,
}

/// A number of two sides.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// The metric.
    pub metric: String,
    /// Which of its numbers.
    pub statistic: Statistic,
    /// Its unit.
    pub unit: String,
    /// Of the first side.
    pub a: Option<f64>,
    /// Of the other.
    pub b: Option<f64>,
    /// The other less the first.
    pub absolute: Option<f64>,
    /// The same in percent of the first.
    pub percent: Option<f64>,
    /// Where it lies.
    pub interval: Option<Interval>,
    /// What may be said.
    pub verdict: Verdict,
    /// Why there is no interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// How it is tested, until the size of the family is known.
    #[serde(skip)]
    test: Option<Test>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Test {
    is_ratio: bool,
    difference: f64,
    variance: Variance,
}

impl Difference {
    /// One without an interval, and why.
    pub fn plain(
        metric: &str,
        statistic: Statistic,
        unit: &str,
        [a, b]: [Option<f64>; 2],
        why: &str,
    ) -> Self {
        let [a, b] = [a, b].map(|value| value.filter(|value| value.is_finite()));
        let absolute = a.zip(b).map(|(a, b)| b - a);
        let first = a.filter(|a| *a != 0.0);
        let is_share = unit == "%";
        Self {
            metric: metric.to_owned(),
            statistic,
            unit: unit.to_owned(),
            a,
            b,
            absolute,
            percent: absolute
                .zip(first)
                .filter(|_| !is_share)
                .map(|(more, a)| more / a * 100.0),
            interval: None,
            verdict: Verdict::CannotTell,
            why: Some(why.to_owned()),
            test: None,
        }
    }

    /// Of two estimates of the same number.
    fn of(a: &Estimate, b: &Estimate) -> Self {
        let values = [a, b].map(|side| Some(side.value));
        let plain = |why| Self::plain(a.metric, a.statistic, a.unit, values, why);
        if !(a.value.is_finite() && b.value.is_finite()) {
            return plain("the number of requests of one side does not bear it");
        }
        let (Some(one), Some(other)) = (a.spread, b.spread) else {
            return plain("fewer than 30 observations");
        };
        let test = match (one.of_log, other.of_log) {
            (Some(one), Some(other)) => Test {
                is_ratio: true,
                difference: (b.value / a.value).ln(),
                variance: one.and(other),
            },
            _ => Test {
                is_ratio: false,
                difference: b.value - a.value,
                variance: one.of_value.and(other.of_value),
            },
        };
        let nothing_seen = a.value == 0.0 && b.value == 0.0;
        Self {
            why: nothing_seen.then(|| "none on either side".to_owned()),
            test: (!nothing_seen).then_some(test),
            ..plain("")
        }
    }

    /// Is more of it better?
    pub fn more_is_better(&self) -> bool {
        let rates = RATES.iter().map(|(rate, _)| *rate);
        rates
            .chain([GOODPUT, SLO_ATTAINMENT])
            .any(|rate| rate == self.metric)
    }

    fn judge(&mut self, family: usize) {
        let Some(Test {
            is_ratio,
            difference,
            variance,
        }) = self.test
        else {
            return;
        };
        let error = variance.size.sqrt();
        let reach = error * student::reach(LEVEL / family.max(1) as f64, variance.freedom);
        let ends = [difference - reach, difference + reach];
        let p_value = student::beyond((difference / error).abs(), variance.freedom);
        let a = self.a.unwrap_or(0.0);
        let shares = is_ratio.then(|| ends.map(f64::exp_m1));
        self.interval = Some(Interval {
            percent: shares.map(|shares| shares.map(|share| share * 100.0)),
            absolute: shares.map_or(ends, |shares| shares.map(|share| share * a)),
            p_value: if p_value.is_finite() { p_value } else { 1.0 },
        });
        let more = ends[0] > 0.0;
        self.verdict = if more || ends[1] < 0.0 {
            if more == self.more_is_better() {
                Verdict::Better
            } else {
                Verdict::Worse
            }
        } else {
            Verdict::CannotTell
        };
    }
}

/// The differences of all numbers that both sides have, before they are judged.
pub fn differences(a: &Estimates, b: &Estimates) -> Vec<Difference> {
    let pairs = a.all.iter().filter_map(|one| {
        let same =
            |other: &&Estimate| (other.metric, other.statistic) == (one.metric, one.statistic);
        Some((one, b.all.iter().find(same)?))
    });
    let told = pairs.filter(|(one, other)| one.value.is_finite() || other.value.is_finite());
    let mut all: Vec<Difference> = told
        .map(|(one, other)| Difference::of(one, other))
        .collect();
    if a.slo != b.slo {
        let of_limits =
            |one: &&mut Difference| [GOODPUT, SLO_ATTAINMENT].contains(&one.metric.as_str());
        for one in all.iter_mut().filter(of_limits) {
            let why = "the limits (slo) of the sides are not the same";
            *one = Difference::plain(&one.metric, one.statistic, &one.unit, [one.a, one.b], why);
        }
    }
    all
}

/// Judges a family; gives its size.
pub fn judge<'a>(family: impl Iterator<Item = &'a mut Difference>) -> usize {
    let all: Vec<&mut Difference> = family.collect();
    let size = all.iter().filter(|one| one.test.is_some()).count();
    for one in all {
        one.judge(size);
    }
    size
}

const _: () = assert!(ENOUGH == 30, "as the reason above says");
