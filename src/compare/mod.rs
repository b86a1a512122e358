//! `aif compare`: what differs between runs, and what may be said of the difference.
//!
//! [`sides`] reads runs, [`facts`] says what they were, [`crate::stats::compare`] tests every number of each further side
//! against the first, [`fail_if`] holds limits against the differences, [`table`] and [`page`] show it all. What differs
//! in kind stands first: a difference between loads that are not the same says nothing of the service, and is told with a
//! warning.
//!
//! What can fail: reading a side, and sides that have no load in common.

pub mod facts;
pub mod fail_if;
pub mod page;
pub mod sides;
pub mod table;

use std::collections::BTreeSet;

use serde::Serialize;

use self::{
    facts::Fact,
    fail_if::{Answer, Rule, State},
    sides::{Key, Load, Side},
};
use crate::{
    report::text,
    stats::{
        compare::{
            Difference, Estimates, GOODPUT, LATENCIES, LEVEL, RATES, Run, SLO_ATTAINMENT,
            Statistic, differences, judge,
        },
        results::{Completeness, Verdict},
    },
};

/// Version of the JSON form.
const SCHEMA: u32 = 1;

/// A side, as it is told.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SideFacts {
    /// `A`, `B`, …
    pub letter: char,
    /// As it was given.
    pub name: String,
    /// Folders of its loads.
    pub folders: Vec<String>,
    /// Worst of their verdicts.
    pub verdict: Verdict,
}

/// How differences were judged.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Family {
    /// Probability that any number is told apart though nothing differs.
    pub level: f64,
    /// Numbers that were tested together.
    pub size: usize,
    /// How their intervals were corrected.
    pub correction: &'static str,
    /// Seed of the draws.
    pub seed: u64,
}

/// A load of the first side and of another.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pair {
    /// Letter of the other side.
    pub side: char,
    /// The bench.
    pub bench: String,
    /// Its level, of a sweep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// Runs of the first side and of the other.
    pub runs: [usize; 2],
    /// How the runs of each were cut into blocks.
    pub blocks: Vec<String>,
    /// Number by number.
    pub differences: Vec<Difference>,
}

/// The whole.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Version of this form.
    pub schema: u32,
    /// The sides; all are held against the first.
    pub sides: Vec<SideFacts>,
    /// What must be known before any number is read.
    pub warnings: Vec<String>,
    /// Facts in which the sides differ.
    pub differs: Vec<Fact>,
    /// Facts that all share.
    pub same: Vec<Fact>,
    /// Facts that should be known, and are not of any side.
    pub unknown: Vec<&'static str>,
    /// How it was judged.
    pub family: Family,
    /// Loads that belong together.
    pub pairs: Vec<Pair>,
    /// How sure it is, and why not surer.
    pub notes: Vec<String>,
    /// Rules, each held against each pair.
    pub rules: Vec<Answer>,
}

/// There is nothing to compare.
#[derive(Debug, thiserror::Error)]
#[error("{0} and {1} have no load in common: {2}")]
pub struct NothingInCommon(String, String, String);

impl Comparison {
    /// Holds all sides against the first.
    ///
    /// # Errors
    /// A side has no load in common with it.
    pub fn of(sides: &[Side], rules: &[Rule], seed: u64) -> Result<Self, NothingInCommon> {
        let mut warnings = Vec::new();
        let mut notes = BTreeSet::new();
        let mut pairs = Vec::new();
        let (first, others) = sides.split_first().expect("two sides at the least");
        for other in others {
            let matched = matched(first, other, &mut warnings)?;
            for (key, a, b) in matched {
                stimuli(first.letter, other.letter, &key, [a, b], &mut warnings);
                pairs.push(pair(
                    [first.letter, other.letter],
                    key,
                    [a, b],
                    seed,
                    &mut notes,
                ));
            }
        }
        for side in sides {
            warnings.extend(side.all().flat_map(|load| doubts(side.letter, load)));
        }
        let size = judge(pairs.iter_mut().flat_map(|pair| &mut pair.differences));
        let several = pairs.len() > 1;
        let rules = rules.iter().flat_map(|rule| {
            pairs.iter().map(move |pair| {
                let whose = if several {
                    pair.title()
                } else {
                    pair.side.to_string()
                };
                rule.ask(&whose, &pair.differences)
            })
        });
        let rules = rules.collect();
        let facts = facts::facts(sides);
        let unknown = facts::unknown(&facts);
        let (same, differs) = facts.into_iter().partition(Fact::is_same);
        Ok(Self {
            schema: SCHEMA,
            sides: sides.iter().map(SideFacts::of).collect(),
            warnings,
            differs,
            same,
            unknown,
            family: Family {
                level: LEVEL,
                size,
                correction: "Bonferroni",
                seed,
            },
            pairs,
            notes: notes.into_iter().collect(),
            rules,
        })
    }

    /// Rules in this state.
    pub fn rules_in(&self, states: &[State]) -> usize {
        self.rules
            .iter()
            .filter(|answer| states.contains(&answer.state))
            .count()
    }

    /// Is there a result that must not be used?
    pub fn is_invalid(&self) -> bool {
        self.sides
            .iter()
            .any(|side| side.verdict == Verdict::Invalid)
    }

    /// How the numbers were judged, in a sentence.
    pub fn method(&self) -> String {
        let Family { level, size, .. } = self.family;
        if size == 0 {
            return "Nothing was tested: without samples there is no telling what chance does."
                .to_owned();
        }
        format!(
            "{size} numbers were tested as one family at {:.0} %: with Bonferroni's correction each interval has {} % \
             confidence, and all hold together with {:.0} %.",
            level * 100.0,
            confidence(level / size as f64),
            (1.0 - level) * 100.0,
        )
    }
}

/// In percent, with as many figures as tell it from 100.
fn confidence(error: f64) -> String {
    let percent = 100.0 - error * 100.0;
    if error < 0.001 {
        format!("{percent:.3}")
    } else {
        format!("{percent:.2}")
    }
}

impl Pair {
    /// Its name among several.
    pub fn title(&self) -> String {
        let level = self
            .level
            .as_ref()
            .map_or_else(String::new, |level| format!(" at {level}"));
        format!("{} {}{level}", self.side, self.bench)
    }
}

impl SideFacts {
    fn of(side: &Side) -> Self {
        let verdicts = side.all().map(|load| load.results.validity.verdict);
        Self {
            letter: side.letter,
            name: side.name.clone(),
            folders: side
                .all()
                .map(|load| load.folder.display().to_string())
                .collect(),
            verdict: verdicts.max().unwrap_or(Verdict::Valid),
        }
    }
}

type Matched<'a> = (Key, &'a [Load], &'a [Load]);

/// The loads that two sides have in common: where each has one, these, whatever they are called.
fn matched<'a>(
    first: &'a Side,
    other: &'a Side,
    warnings: &mut Vec<String>,
) -> Result<Vec<Matched<'a>>, NothingInCommon> {
    if let (1, 1) = (first.loads.len(), other.loads.len())
        && let (Some((key, a)), Some(b)) =
            (first.loads.first_key_value(), other.loads.values().next())
    {
        return Ok(vec![(key.clone(), a, b)]);
    }
    let mut found: Vec<Matched<'a>> = Vec::new();
    let mut alone = Vec::new();
    for (key, a) in &first.loads {
        match other.loads.get(key) {
            Some(b) => found.push((key.clone(), a, b)),
            None => alone.push(format!("{} has no {}", other.letter, told(key))),
        }
    }
    let missing = other
        .loads
        .keys()
        .filter(|key| !first.loads.contains_key(*key));
    alone.extend(missing.map(|key| format!("{} has no {}", first.letter, told(key))));
    if found.is_empty() {
        return Err(NothingInCommon(
            first.name.clone(),
            other.name.clone(),
            alone.join(", "),
        ));
    }
    warnings.extend(
        alone
            .into_iter()
            .map(|alone| format!("{alone}: it is not compared")),
    );
    Ok(found)
}

fn told(key: &Key) -> String {
    let level = key
        .level
        .as_ref()
        .map_or_else(String::new, |level| format!(" at {level}"));
    format!("bench {}{level}", key.bench)
}

/// Were the same requests planned?
fn stimuli(a: char, b: char, key: &Key, loads: [&[Load]; 2], warnings: &mut Vec<String>) {
    let [one, other] = loads.map(|loads| -> BTreeSet<&str> {
        loads
            .iter()
            .map(|load| load.results.stimulus_sha256.as_str())
            .collect()
    });
    let level = key
        .level
        .as_ref()
        .map_or_else(String::new, |level| format!(" at {level}"));
    if one != other {
        warnings.push(format!(
            "{a} and {b} were sent different loads{level} (their stimulus differs): a difference may be one of the loads, not of the services"
        ));
    } else if one.len() > 1 {
        warnings.push(format!(
            "The runs of {a} were not all sent the same load{level}, and those of {b} neither"
        ));
    }
}

/// Why the numbers of a load should not be trusted.
fn doubts(letter: char, load: &Load) -> Vec<String> {
    let folder = load.folder.display();
    let validity = &load.results.validity;
    let mut found = Vec::new();
    if validity.verdict != Verdict::Valid {
        let word = text::verdict(validity.verdict);
        let reasons = validity
            .reasons
            .iter()
            .map(|reason| reason.trim_end_matches('.'));
        let reasons = reasons.collect::<Vec<_>>().join("; ");
        found.push(format!("{letter} is {word} ({folder}): {reasons}"));
    }
    if load.results.completeness != Completeness::Complete {
        found.push(format!("{letter} was not run to its end ({folder})"));
    }
    let missing = load
        .results
        .samples
        .as_ref()
        .map_or(0, |samples| samples.missing);
    if missing > 0 {
        found.push(format!(
            "{letter} has {missing} requests that are not in its samples ({folder})"
        ));
    }
    found
}

fn pair(
    letters: [char; 2],
    key: Key,
    loads: [&[Load]; 2],
    seed: u64,
    notes: &mut BTreeSet<String>,
) -> Pair {
    let runs = loads.map(|loads| -> Result<Vec<Run>, String> {
        loads.iter().map(|load| load.samples.clone()).collect()
    });
    let mut blocks = Vec::new();
    let differences = match runs {
        [Ok(a), Ok(b)] => {
            let sides = [(a, seed), (b, seed.wrapping_add(1))]
                .map(|(runs, seed)| Estimates::of(&runs, seed));
            for (letter, side) in letters.into_iter().zip(&sides) {
                blocks.extend(side.blocks.iter().map(|(count, seconds)| {
                    format!("{letter}: {count} blocks of {} s", text::number(*seconds))
                }));
                if side.too_short {
                    notes.insert(format!(
                        "The times of {letter} hang together for longer than an eighth of its window: its intervals may be too narrow. A longer run tells more."
                    ));
                }
            }
            if loads.iter().any(|loads| loads.len() == 2) {
                notes.insert(
                    "Two runs of a side say little of how much runs differ: where they do, intervals are wide. Three tell much more."
                        .to_owned(),
                );
            }
            if loads.iter().all(|loads| loads.len() == 1) {
                notes.insert(
                    "Of one run a side, the intervals hold for these two runs; how much runs differ from one time to the next takes several of each: A1,A2 B1,B2."
                        .to_owned(),
                );
            }
            differences(&sides[0], &sides[1])
        }
        [a, b] => {
            let why = letters.into_iter().zip([a.err(), b.err()]);
            let why = why.filter_map(|(letter, why)| Some(format!("{letter}: {}", why?)));
            let why = why.collect::<Vec<_>>().join("; ");
            notes.insert(format!("No number is tested: {why}."));
            without_samples(loads, "there are no samples")
        }
    };
    Pair {
        side: letters[1],
        bench: key.bench,
        level: key.level,
        runs: loads.map(<[Load]>::len),
        blocks,
        differences,
    }
}

/// What the results alone say: of several runs, the mean over them.
fn without_samples(loads: [&[Load]; 2], why: &str) -> Vec<Difference> {
    let value = |loads: &[Load], metric: &str, statistic: Statistic| {
        let values = loads
            .iter()
            .map(|load| statistic.of(load.results.metrics.get(metric)?));
        let values: Option<Vec<f64>> = values.collect();
        values.map(|values| values.iter().sum::<f64>() / values.len() as f64)
    };
    let times = LATENCIES
        .into_iter()
        .flat_map(|metric| Statistic::ALL.map(|one| (metric, one, "ms")));
    let of_limits = [(GOODPUT, "requests/s"), (SLO_ATTAINMENT, "%")];
    let rates = RATES
        .into_iter()
        .chain(of_limits)
        .map(|(metric, unit)| (metric, Statistic::Mean, unit));
    let told = times.chain(rates).filter_map(|(metric, statistic, unit)| {
        // a result tells the share itself
        let scale = if metric == SLO_ATTAINMENT { 100.0 } else { 1.0 };
        let values = loads.map(|loads| Some(value(loads, metric, statistic)? * scale));
        let any = values.iter().any(Option::is_some);
        any.then(|| Difference::plain(metric, statistic, unit, values, why))
    });
    told.collect()
}
