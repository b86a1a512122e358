//! How a run went, in one word: what stands on top of every report.
//!
//! One word for a whole run must be the worst that can be said of it: a valid result of a run that failed is read with
//! care, and an invalid one is not to be used however well the run ended. Pure.

use super::gather::{Part, Report, has_recipe};
use crate::stats::results::{Completeness, Verdict};

/// How a run went, in one word: what stands on top of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Every result can be used.
    Valid,
    /// The run ended well and held no bench.
    Complete,
    /// The results can be used knowing the reasons.
    Degraded,
    /// A bench was planned, and left nothing.
    NoResult,
    /// It is looked at while it runs.
    Running,
    /// It runs still, or it was killed before it could close its account.
    Unfinished,
    /// It was told to end before its time.
    Interrupted,
    /// It failed.
    Failed,
    /// A result must not be used.
    Invalid,
}

impl Outcome {
    /// The word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Complete => "complete",
            Self::Degraded => "degraded",
            Self::NoResult => "no result",
            Self::Running => "running",
            Self::Unfinished => "not finished",
            Self::Interrupted => "interrupted",
            Self::Failed => "failed",
            Self::Invalid => "invalid",
        }
    }

    /// What the word means for the reader.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Valid => "The load was what it was asked to be: the numbers can be used.",
            Self::Complete => "The run ended well; it held no bench of its own.",
            Self::Degraded => "The numbers can be used, knowing the reasons below.",
            Self::NoResult => "The run left no result that can be read.",
            Self::Running => "The run goes on: numbers are those until now.",
            Self::Unfinished => {
                "The manifest says that the run goes on: it does, or it was killed before it could close its account."
            }
            Self::Interrupted => {
                "The run was told to end before its time: numbers are those measured until then."
            }
            Self::Failed => "The run failed: see the problems below before using any number.",
            Self::Invalid => "Do not use these numbers: the reasons below say why.",
        }
    }
}

impl Report {
    /// How it went: the worst that can be said of any of its runs and benches.
    pub fn outcome(&self) -> Outcome {
        if self.live.is_some() {
            return Outcome::Running;
        }
        let runs = self.parts.iter().map(Part::outcome);
        let worst = runs.max().unwrap_or(Outcome::NoResult);
        let measured = self.benches().any(|(_, bench)| bench.results.is_some());
        // "complete" says that there was no bench: not of a report where a joined run held one
        if worst == Outcome::Complete && measured {
            Outcome::Valid
        } else {
            worst
        }
    }
}

impl Part {
    /// How it went.
    fn outcome(&self) -> Outcome {
        let state = match self
            .manifest
            .as_ref()
            .map(|manifest| manifest.state.as_str())
        {
            Some("complete") | None => Outcome::Valid,
            Some("running") => Outcome::Unfinished,
            Some("interrupted") => Outcome::Interrupted,
            Some(_) => Outcome::Failed,
        };
        let benches = self.benches.iter().map(|bench| match &bench.results {
            None => Outcome::NoResult,
            Some(results) => {
                let whole = match results.completeness {
                    Completeness::Complete => Outcome::Valid,
                    Completeness::Interrupted => Outcome::Interrupted,
                    Completeness::Running => Outcome::Unfinished,
                };
                whole.max(match results.validity.verdict {
                    Verdict::Valid => Outcome::Valid,
                    Verdict::Degraded => Outcome::Degraded,
                    Verdict::Invalid => Outcome::Invalid,
                })
            }
        });
        let planned = self
            .manifest
            .as_ref()
            .is_none_or(|manifest| has_recipe(manifest, "client"));
        let none = if planned {
            Outcome::NoResult
        } else {
            Outcome::Complete
        };
        benches.max().unwrap_or(none).max(state)
    }
}
