//! Limits on a difference that end a command with a code of its own: `time_to_first_token.p99 > +5%`.
//!
//! ```text
//! RULE   = METRIC [ "." NUMBER ] SIGN DIFFERENCE
//! METRIC = a metric that is compared, by its name or the short one of other tools (ttft, itl, tpot, ntpot, e2el)
//! NUMBER = mean (where none is given) | p50 | p90 | p95 | p99
//! SIGN   = > | >= | < | <=
//! DIFFERENCE = ( "+" | "-" ) value unit, of the other side less the first
//! unit   = % of the first side | ms | s | us (times) | requests/s | tokens/s (rates) | pp, percentage points (error_rate)
//! ```
//!
//! A rule is *broken* where the difference as measured goes beyond the limit, and there is a difference at all beyond
//! chance: its interval, which is corrected for all numbers that are compared, does not hold 0. Where the first holds and
//! the second does not, the rule is in *doubt*; whether that is a failure the caller says. What was not measured cannot
//! pass: the rule is broken, too. Pure; a rule that cannot be read is an error that shows the grammar.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};

use crate::{
    report::{table::metric_named, text},
    stats::compare::{
        Difference, ERROR_RATE, GOODPUT, LATENCIES, RATES, SLO_ATTAINMENT, Statistic, Verdict,
        is_share,
    },
};

/// A rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// As it was written.
    pub text: String,
    metric: String,
    statistic: Statistic,
    more: bool,
    or_equal: bool,
    limit: f64,
    in_percent: bool,
}

/// What came of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The difference keeps the limit.
    Kept,
    /// It goes beyond the limit.
    Broken,
    /// It goes beyond the limit, and chance may have made it.
    Doubt,
    /// It was not measured.
    NotMeasured,
}

/// A rule, held against a difference.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    /// The rule.
    pub rule: Rule,
    /// What came of it.
    pub state: State,
    /// For people.
    pub told: String,
}

/// Why a rule cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no rule: {why}; write METRIC[.mean|p50|p90|p95|p99] > +5% (or <, -5%, +20ms, +1pp), for instance 'time_to_first_token.p99 > +5%'"
)]
pub struct Fault {
    text: String,
    why: String,
}

impl FromStr for Rule {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        let fault = |why: String| Fault {
            text: text.to_owned(),
            why,
        };
        let at = text
            .find(['<', '>'])
            .ok_or_else(|| fault("there is no > or <".to_owned()))?;
        let (name, rest) = text.split_at(at);
        let more = rest.starts_with('>');
        let (or_equal, difference) = match rest[1..].strip_prefix('=') {
            Some(rest) => (true, rest.trim()),
            None => (false, rest[1..].trim()),
        };
        let (metric, statistic) = number_of(name.trim()).map_err(&fault)?;
        if !difference.starts_with(['+', '-']) {
            let why = format!("the difference {difference:?} needs its sign, as in +5% or -5%");
            return Err(fault(why));
        }
        let end = difference[1..]
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .map_or(difference.len(), |end| end + 1);
        let (value, unit) = difference.split_at(end);
        let value: f64 = value
            .parse()
            .map_err(|_| fault(format!("{value:?} is no number")))?;
        let (scale, in_percent) = scale_of(&metric, unit.trim()).map_err(&fault)?;
        Ok(Self {
            text: text.trim().to_owned(),
            metric,
            statistic,
            more,
            or_equal,
            limit: value * scale,
            in_percent,
        })
    }
}

/// The metric and its number.
fn number_of(name: &str) -> Result<(String, Statistic), String> {
    let (metric, statistic) = match name.rsplit_once('.') {
        Some((metric, "avg")) => (metric, Statistic::Mean),
        Some((metric, number)) => {
            let found = Statistic::ALL.into_iter().find(|one| one.name() == number);
            (
                metric,
                found.ok_or_else(|| format!("no number is called {number:?}"))?,
            )
        }
        None => (name, Statistic::Mean),
    };
    let metric = metric_named(metric);
    let rates = RATES.iter().map(|(rate, _)| *rate);
    let compared: Vec<&str> = LATENCIES
        .into_iter()
        .chain(rates)
        .chain([ERROR_RATE, GOODPUT, SLO_ATTAINMENT])
        .collect();
    if !compared.contains(&metric) {
        let all = compared.join(", ");
        return Err(format!(
            "no metric that is compared is called {metric:?} (there are {all})"
        ));
    }
    if statistic != Statistic::Mean && !LATENCIES.contains(&metric) {
        return Err(format!("{metric} has no percentiles"));
    }
    Ok((metric.to_owned(), statistic))
}

/// What a unit is in that of the metric, and whether it is percent.
fn scale_of(metric: &str, unit: &str) -> Result<(f64, bool), String> {
    let rate = RATES.iter().find(|(rate, _)| *rate == metric);
    let scale = match (unit, rate) {
        ("pp", _) if is_share(metric) => (1.0, false),
        (_, _) if is_share(metric) => {
            return Err(format!(
                "{metric} is compared in percentage points, as in +1pp"
            ));
        }
        ("%", _) => (1.0, true),
        ("requests/s", _) if metric == GOODPUT => (1.0, false),
        (_, _) if metric == GOODPUT => return Err(format!("{unit:?} is no unit of {metric}")),
        (unit, Some((_, own))) if unit == *own => (1.0, false),
        ("ms", None) => (1.0, false),
        ("s", None) => (1e3, false),
        ("us" | "µs", None) => (1e-3, false),
        _ => return Err(format!("{unit:?} is no unit of {metric}")),
    };
    Ok(scale)
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Rule {
    /// Holds it against the differences of a pair; `whose` names the pair.
    pub fn ask(&self, whose: &str, differences: &[Difference]) -> Answer {
        let is = |one: &&Difference| one.metric == self.metric && one.statistic == self.statistic;
        let found = differences.iter().find(is);
        let measured = found.and_then(|found| {
            let difference = if self.in_percent {
                found.percent
            } else {
                found.absolute
            };
            Some((found, difference?))
        });
        let Some((found, difference)) = measured else {
            return self.answer(
                State::NotMeasured,
                format!("{whose}: not measured on both sides"),
            );
        };
        let beyond = if self.more {
            difference > self.limit
        } else {
            difference < self.limit
        };
        let beyond = beyond || (self.or_equal && difference.total_cmp(&self.limit).is_eq());
        let unit = match (self.in_percent, self.metric.as_str()) {
            (true, _) => "%",
            (false, metric) if is_share(metric) => "percentage points",
            (false, _) => &found.unit,
        };
        let told = format!("{whose}: {} {unit}", text::signed(difference));
        match (beyond, found.verdict, &found.why) {
            (false, ..) => self.answer(State::Kept, told),
            // a gate that nothing could be asked of has not been passed
            (true, Verdict::CannotTell, Some(why)) => {
                self.answer(State::NotMeasured, format!("{told}, not tested: {why}"))
            }
            (true, Verdict::CannotTell, None) => self.answer(
                State::Doubt,
                format!("{told}, but chance may have made the difference"),
            ),
            (true, ..) => self.answer(State::Broken, told),
        }
    }

    fn answer(&self, state: State, told: String) -> Answer {
        Answer {
            rule: self.clone(),
            state,
            told,
        }
    }
}

impl State {
    /// In words.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Broken | Self::NotMeasured => "broken",
            Self::Doubt => "in doubt",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Rule, String> {
        text.parse().map_err(|fault: Fault| fault.why)
    }

    #[test]
    fn rules_are_read_in_every_form() {
        let rule = read("time_to_first_token.p99 > +5%").unwrap();
        assert_eq!(
            (rule.statistic, rule.more, rule.limit, rule.in_percent),
            (Statistic::P99, true, 5.0, true)
        );
        let rule = read("ttft.p95>=+0.2s").unwrap();
        assert_eq!(
            (rule.metric.as_str(), rule.limit, rule.or_equal),
            ("time_to_first_token", 200.0, true)
        );
        let rule = read("request_throughput < -2.5 requests/s").unwrap();
        assert_eq!(
            (rule.more, rule.limit, rule.in_percent),
            (false, -2.5, false)
        );
        assert!((read("itl > +50us").unwrap().limit - 0.05).abs() < 1e-12);
        assert!(read("error_rate > +1pp").is_ok());
    }

    #[test]
    fn what_is_no_rule_says_why() {
        for (text, why) in [
            ("", "there is no > or <"),
            ("ttft > 5%", "needs its sign"),
            ("ttft > +%", "no number"),
            ("ttft > +5", "no unit"),
            ("ttft > +5 tokens/s", "no unit"),
            ("ttft.p42 > +5%", "\"p42\""),
            ("tfft > +5%", "\"tfft\""),
            ("request_throughput.p99 > +5%", "no percentiles"),
            ("error_rate > +5%", "percentage points"),
            ("ttft > +5%%", "no unit"),
            ("ttft > +1.2.3ms", "no number"),
        ] {
            let told = read(text).expect_err(text);
            assert!(told.contains(why), "{text}: {told}");
        }
    }

    #[test]
    fn what_was_not_measured_does_not_pass() {
        let answer = read("ttft > +5%").unwrap().ask("B", &[]);
        assert_eq!(answer.state, State::NotMeasured);
        let values = [Some(100.0), Some(120.0)];
        let there = Difference::plain(
            "time_to_first_token",
            Statistic::Mean,
            "ms",
            values,
            "no samples",
        );
        let answer = read("ttft > +5%")
            .unwrap()
            .ask("B", std::slice::from_ref(&there));
        assert_eq!(
            (answer.state, answer.told.as_str()),
            (State::NotMeasured, "B: +20 %, not tested: no samples")
        );
        let answer = read("ttft > +25ms").unwrap().ask("B", &[there]);
        assert_eq!(answer.state, State::Kept);
    }
}
