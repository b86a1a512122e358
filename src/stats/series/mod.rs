//! Several loads told as one result: a sweep over levels, a search for the highest that keeps the limits, or repeats.
//!
//! Each load has a result of its own in its folder. The result of the whole has the same format: its numbers are those
//! of *one* of the loads, whole as it was measured, and `series` names it ([`Series::headline`]) and holds them all. Means
//! over loads would be numbers that no load has had; over repeats, they stand beside, with their intervals.
//!
//! [`search`] decides which level is tried next, [`judge`] which load is shown and how far the whole can be trusted,
//! [`interval`] how much repeats differ. Pure; nothing can fail.

pub mod interval;
pub mod judge;
pub mod saturation;
pub mod search;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::{interval::Interval, search::Purpose};
use super::results::{Completeness, Metric, Results, Validity, Verdict};
use crate::recipe::{Course, Quantity, series::Series as Planned};

/// What kind of series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The same load several times.
    Repeats,
    /// Levels that were given.
    Sweep,
    /// Levels that were found on the way.
    Search,
}

/// Why a series ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// All its loads were run.
    Complete,
    /// A level missed the limits, and the recipe wanted no more then.
    SloMissed,
    /// The search found its answer, and confirmed it.
    Found,
    /// The highest level that might be tried keeps the limits.
    MetAtMax,
    /// The lowest level that might be tried misses them.
    MissedAtMin,
    /// The service did not answer alike twice, and the search gave up.
    Unsettled,
    /// It was told to end, its time was over, or the service was lost.
    Interrupted,
}

/// One load of the series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Level {
    /// Its number, from 1.
    pub number: u32,
    /// The level that was asked for, in [`Series::of`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested: Option<f64>,
    /// Which repeat of it, from 1, where loads are repeated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeat: Option<u32>,
    /// What a search tried it for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<Purpose>,
    /// Seed of its prompts and arrivals.
    pub seed: u64,
    /// Its folder, from that of the whole.
    pub folder: String,
    /// Did so many of the offered requests keep the limits as must? `None` where none must.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub met: Option<bool>,
    /// Was less than nine tenths served of what was sent in the second half of its window, and the rest left waiting?
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub saturated: bool,
    /// Is it whole?
    pub completeness: Completeness,
    /// How far it can be trusted.
    pub validity: Validity,
    /// Requests offered in its window.
    pub total_requests: u64,
    /// Those that ended well.
    pub successes: u64,
    /// Those that did not.
    pub errors: u64,
    /// Start of its load.
    pub started_at: Timestamp,
    /// Its window, in seconds.
    pub duration_seconds: f64,
    /// SHA-256 of what was planned to be sent.
    pub stimulus_sha256: String,
    /// Its metrics.
    pub metrics: BTreeMap<String, Metric>,
}

/// A load that was planned and not run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NotRun {
    /// The level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested: Option<f64>,
    /// Which repeat of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeat: Option<u32>,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Found {
    /// The lowest level that might be tried.
    pub min: f64,
    /// The highest.
    pub max: f64,
    /// How far the lowest that missed may lie above the answer, as a share of it.
    pub tolerance: f64,
    /// The highest level that kept the limits, with every lower one that was tried; `None` where none did.
    pub answer: Option<f64>,
    /// Did it keep them when it was tried again?
    pub confirmed: bool,
    /// The lowest level that missed the limits; `None` where none did.
    pub lowest_missed: Option<f64>,
    /// Levels that kept the limits once and missed them when they were tried again.
    pub unconfirmed: Vec<f64>,
}

/// Repeats of one load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Repeats {
    /// The level, where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested: Option<f64>,
    /// Repeats that the intervals are made of: whole ones that are not invalid.
    pub count: u32,
    /// Repeats that were run.
    pub run: u32,
    /// Confidence of the intervals.
    pub confidence: f64,
    /// Of each metric, of `avg`, `p50` and `p99`: mean over the repeats and its interval.
    pub metrics: BTreeMap<String, BTreeMap<String, Interval>>,
}

/// Several loads, one after another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Series {
    /// What kind.
    pub kind: Kind,
    /// What levels are levels of; `None` for repeats of one load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<Quantity>,
    /// Share of the offered requests that must keep all limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slo_attainment: Option<f64>,
    /// The limits, in ms, by their keys in a recipe.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub slo: BTreeMap<String, f64>,
    /// Why it ended; `None` while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
    /// Folder of the load whose numbers stand at the top of this result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headline: Option<String>,
    /// Folder of the level with the most throughput for its latency, of a sweep of three levels or more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub knee: Option<String>,
    /// The loads, in their order.
    pub levels: Vec<Level>,
    /// What was planned besides and not run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_run: Vec<NotRun>,
    /// What a search found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<Found>,
    /// Intervals over repeats, one entry a level.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repeats: Vec<Repeats>,
}

impl Series {
    /// Of a plan, before its first load.
    pub fn new(planned: &Planned, slo: BTreeMap<String, f64>) -> Self {
        Self {
            kind: match &planned.course {
                Course::Repeats => Kind::Repeats,
                Course::Sweep(_) => Kind::Sweep,
                Course::Search(_) => Kind::Search,
            },
            of: planned.of(),
            slo_attainment: planned.slo_attainment(),
            slo,
            ended: None,
            headline: None,
            knee: None,
            levels: Vec::new(),
            not_run: Vec::new(),
            search: None,
            repeats: Vec::new(),
        }
    }
}

impl Level {
    /// Can it be used? An interrupted load had another window than its peers.
    pub fn is_usable(&self) -> bool {
        self.validity.verdict != Verdict::Invalid && self.completeness == Completeness::Complete
    }

    /// The mean of a metric.
    pub fn avg(&self, metric: &str) -> Option<f64> {
        Some(self.metrics.get(metric)?.avg)
    }

    /// The latency from the intended time where it was measured, as in an open loop, else from the sending.
    pub fn latency(&self, metric: &str) -> Option<&Metric> {
        self.metrics
            .get(&format!("{metric}_scheduled"))
            .or_else(|| self.metrics.get(metric))
    }

    /// Its name for people: `02 (8 requests/s)`.
    pub fn name(&self, of: Option<Quantity>) -> String {
        let level = match (self.requested, of) {
            (Some(value), Some(of)) => format!(" ({})", of.amount(value)),
            _ => String::new(),
        };
        format!("{:02}{level}", self.number)
    }
}

/// Did so many of the offered requests keep the limits? A load that measured itself, or was cut off, never did, nor one
/// that was not served.
pub fn met(results: &Results, attainment: f64) -> bool {
    let kept = results
        .metrics
        .get("slo_attainment")
        .is_some_and(|metric| metric.avg >= attainment);
    kept && saturation::shortfall(results).is_none()
        && results.validity.verdict != Verdict::Invalid
        && results.completeness == Completeness::Complete
}
