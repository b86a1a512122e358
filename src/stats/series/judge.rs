//! Which load of a series is shown, and how far the whole can be trusted.
//!
//! *Shown* is one load as it was measured. Of a search it is the answer, as it was confirmed; of a sweep the highest level
//! that kept the limits with every lower one, or, without limits, the one with the most throughput; of repeats the one in
//! the middle by mean latency.
//!
//! *Trusted* is the whole as far as the loads that its answer depends on: of a search the answer and the level that bounds
//! it, else all. A level far over what the service can do may well be invalid (its requests were dropped, or none was
//! answered): that tells where the service ends, and says nothing against the levels below. So such a level is left out
//! and named, which makes the whole degraded and not invalid; invalid is a series of which nothing can be used.
//!
//! The *knee* is the level with the most throughput for its latency (their quotient, Kleinrock's power): below it, more
//! load costs little latency, above it little is gained. Pure; nothing can fail.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Ended, Kind, Level, Repeats, Series,
    interval::{CONFIDENCE, Interval},
};
use crate::stats::results::{Completeness, Results, Validity, Verdict};

impl Series {
    /// Adds all that follows from its loads.
    pub fn conclude(&mut self) {
        self.headline = self
            .shown()
            .and_then(|at| Some(self.levels.get(at)?.folder.clone()));
        self.knee = self.find_knee();
        self.repeats = self.intervals();
    }

    /// The result of the whole: that of the shown load, over the time of all, with the verdict on all and this series.
    /// `stimulus` is the checksum of theirs.
    pub fn summarize(self, shown: Results, stimulus: String) -> Results {
        let began = self.levels.iter().map(|level| level.started_at).min();
        Results {
            completeness: match self.ended {
                None => Completeness::Running,
                Some(Ended::Interrupted) => Completeness::Interrupted,
                Some(_) => Completeness::Complete,
            },
            started_at: began.unwrap_or(shown.started_at),
            validity: self.validity(),
            stimulus_sha256: stimulus,
            series: Some(self),
            ..shown
        }
    }

    /// Which of the levels is shown; none where there are none.
    pub fn shown(&self) -> Option<usize> {
        let first = (!self.levels.is_empty()).then_some(0);
        match self.kind {
            Kind::Search => {
                let answer = self.search.as_ref().and_then(|found| found.answer);
                let last = self
                    .levels
                    .iter()
                    .rposition(|level| level.requested == answer && level.is_usable());
                answer.and(last).or(first)
            }
            Kind::Sweep => self.best().or(first),
            Kind::Repeats => self.middle().or(first),
        }
    }

    fn usable(&self) -> impl Iterator<Item = (usize, &Level)> {
        let all = self.levels.iter().enumerate();
        all.filter(|(_, level)| level.is_usable())
    }

    /// The highest level of a sweep that kept the limits, with every lower one, however often each was run.
    pub fn highest_met(&self) -> Option<f64> {
        let missed = self.lowest_missed().unwrap_or(f64::INFINITY);
        let met = self.levels.iter().filter(|level| level.met == Some(true));
        met.filter_map(|level| level.requested)
            .filter(|value| *value < missed)
            .max_by(f64::total_cmp)
    }

    /// The lowest level that missed the limits.
    pub fn lowest_missed(&self) -> Option<f64> {
        let missed = self.levels.iter().filter(|level| {
            level.met == Some(false) && level.completeness == Completeness::Complete
        });
        missed
            .filter_map(|level| level.requested)
            .min_by(f64::total_cmp)
    }

    fn best(&self) -> Option<usize> {
        if let Some(value) = self.highest_met() {
            let same = |level: &Level| level.requested == Some(value);
            return Some(self.usable().find(|(_, level)| same(level))?.0);
        }
        let metric = if self.slo.is_empty() {
            "request_throughput"
        } else {
            "goodput"
        };
        let rate = |level: &Level| level.avg(metric).unwrap_or(0.0);
        // the first of several alike
        let best = self.usable().reduce(|best, next| {
            if rate(next.1) > rate(best.1) {
                next
            } else {
                best
            }
        });
        Some(best?.0)
    }

    fn middle(&self) -> Option<usize> {
        let latency = |level: &Level| level.latency("request_latency").map_or(0.0, |all| all.avg);
        let mut all: Vec<_> = self
            .usable()
            .map(|(at, level)| (at, latency(level)))
            .collect();
        all.sort_by(|one, other| one.1.total_cmp(&other.1));
        Some(all.get(all.len().checked_sub(1)? / 2)?.0)
    }

    fn find_knee(&self) -> Option<String> {
        if self.kind != Kind::Sweep {
            return None;
        }
        let power = |level: &Level| {
            let latency = level.latency("request_latency")?.p50?;
            let power = level.avg("request_throughput")? / latency;
            power.is_finite().then_some(power)
        };
        let all: Vec<(&Level, f64)> = self
            .usable()
            .filter_map(|(_, level)| Some((level, power(level)?)))
            .collect();
        let levels: BTreeSet<u64> = all
            .iter()
            .filter_map(|(level, _)| Some(level.requested?.to_bits()))
            .collect();
        if levels.len() < 3 {
            return None;
        }
        let knee = all
            .into_iter()
            .max_by(|one, other| one.1.total_cmp(&other.1));
        Some(knee?.0.folder.clone())
    }

    /// Intervals over the repeats of each level.
    fn intervals(&self) -> Vec<Repeats> {
        let mut groups: Vec<(Option<f64>, Vec<&Level>)> = Vec::new();
        for level in self.levels.iter().filter(|level| level.repeat.is_some()) {
            match groups
                .iter_mut()
                .find(|(value, _)| *value == level.requested)
            {
                Some((_, group)) => group.push(level),
                None => groups.push((level.requested, vec![level])),
            }
        }
        let one = |(requested, group): (Option<f64>, Vec<&Level>)| {
            let usable: Vec<&Level> = group
                .iter()
                .copied()
                .filter(|level| level.is_usable())
                .collect();
            Repeats {
                requested,
                count: count(usable.len()),
                run: count(group.len()),
                confidence: CONFIDENCE,
                metrics: over(&usable),
            }
        };
        groups.into_iter().map(one).collect()
    }

    /// The verdict on the whole.
    pub fn validity(&self) -> Validity {
        let depends = self.depends();
        let usable = depends
            .iter()
            .filter(|level| level.validity.verdict != Verdict::Invalid);
        let mut verdict = usable
            .clone()
            .map(|level| level.validity.verdict)
            .max()
            .unwrap_or(Verdict::Invalid);
        let mut reasons = Vec::new();
        if verdict != Verdict::Invalid && usable.count() < depends.len() {
            verdict = Verdict::Degraded;
            reasons.push(match self.kind {
                Kind::Search => "The search ends where the load could not be made, which need not be where the service ends: an invalid level counts as one that missed.".to_owned(),
                Kind::Sweep | Kind::Repeats => "Invalid loads are left out of the answer.".to_owned(),
            });
        }
        if self.ended == Some(Ended::Interrupted) {
            verdict = verdict.max(Verdict::Degraded);
            reasons.push(self.interruption());
        }
        if self.ended == Some(Ended::Unsettled) {
            verdict = verdict.max(Verdict::Degraded);
            reasons.push(
                "The service did not keep the limits twice at the same level: the search gave up."
                    .to_owned(),
            );
        }
        reasons.extend(self.grouped(&depends));
        Validity { verdict, reasons }
    }

    fn interruption(&self) -> String {
        let names: Vec<String> = self
            .not_run
            .iter()
            .map(|load| {
                let level = load.requested.zip(self.of);
                let level = level.map(|(value, of)| of.amount(value));
                let repeat = load.repeat.map(|number| format!("repeat {number}"));
                let parts: Vec<String> = level.into_iter().chain(repeat).collect();
                parts.join(", ")
            })
            .collect();
        let rest = if names.is_empty() {
            String::new()
        } else {
            format!(": not run were {}", names.join("; "))
        };
        format!(
            "The series was interrupted after {} loads{rest}.",
            self.levels.len()
        )
    }

    /// The loads that the answer depends on.
    fn depends(&self) -> Vec<&Level> {
        let all = self.levels.iter();
        let Some(found) = self.search.as_ref().filter(|_| self.kind == Kind::Search) else {
            return all.collect();
        };
        let bounds = [found.answer, found.lowest_missed];
        all.filter(|level| level.requested.is_some() && bounds.contains(&level.requested))
            .collect()
    }

    /// Their reasons, each with the loads that it holds for. What differs in its numbers alone is told once, with those
    /// of the first.
    fn grouped(&self, levels: &[&Level]) -> Vec<String> {
        let mut groups: Vec<(&str, Vec<&Level>)> = Vec::new();
        for level in levels {
            for reason in &level.validity.reasons {
                let same = |(text, _): &&mut (&str, _)| wording(text) == wording(reason);
                match groups.iter_mut().find(same) {
                    Some((_, group)) => group.push(level),
                    None => groups.push((reason, vec![level])),
                }
            }
        }
        let one = |(reason, group): (&str, Vec<&Level>)| {
            if group.len() == self.levels.len() && group.len() > 1 {
                return format!("All {} loads: {reason}", group.len());
            }
            let names: Vec<String> = group.iter().map(|level| level.name(self.of)).collect();
            let word = if names.len() == 1 { "Load" } else { "Loads" };
            format!("{word} {}: {reason}", names.join(", "))
        };
        groups.into_iter().map(one).collect()
    }
}

/// A sentence without its numbers.
fn wording(text: &str) -> String {
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    text.split(is_number).collect()
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Intervals of every metric that all repeats have.
fn over(levels: &[&Level]) -> BTreeMap<String, BTreeMap<String, Interval>> {
    let Some(first) = levels.first() else {
        return BTreeMap::new();
    };
    let one = |name: &String| {
        let metrics: Option<Vec<_>> = levels.iter().map(|level| level.metrics.get(name)).collect();
        let metrics = metrics?;
        let values = [
            (
                "avg",
                metrics.iter().map(|metric| Some(metric.avg)).collect(),
            ),
            ("p50", metrics.iter().map(|metric| metric.p50).collect()),
            ("p99", metrics.iter().map(|metric| metric.p99).collect()),
        ];
        let intervals: BTreeMap<String, Interval> = values
            .into_iter()
            .filter_map(|(of, values): (&str, Option<Vec<f64>>)| {
                Some((of.to_owned(), Interval::over(&values?)?))
            })
            .collect();
        (!intervals.is_empty()).then(|| (name.clone(), intervals))
    };
    first.metrics.keys().filter_map(one).collect()
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
