//! Alerts of a run as rows: what fired, when and of what, and what was watched for in vain.
//!
//! They come from `metrics/alerts.json`, which the monitor keeps. A run without that file (no monitor, an older one) has
//! nothing to say of alerts, which is not the same as that none fired.

use std::fmt::{self, Write as _};

use serde::Serialize;

use super::{gather::Part, text};
use crate::{
    files,
    prometheus::episodes::{Alerts, Episode, FILE},
    run::RunDir,
};

/// Labels that tell what an alert is about, in the order in which they are read; others follow by name.
const FIRST: [&str; 6] = ["role", "job", "instance_id", "service", "node", "job_id"];

/// State of an alert of a run that goes on.
pub(super) const FIRES: &str = "fires now";

/// What the monitor kept; `None` where there is no file. One that cannot be read is missing.
pub(super) fn read(run: &RunDir, missing: &mut Vec<String>) -> Option<Alerts> {
    let path = run.metrics().join(FILE);
    if !path.exists() {
        return None;
    }
    match files::read_json(&path) {
        Ok(alerts) => Some(alerts),
        Err(error) => {
            missing.push(format!("metrics/{FILE}: cannot be read: {}", error.source));
            None
        }
    }
}

/// An alert that was on for a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AlertRow {
    /// Its name.
    pub alert: String,
    /// How bad it is.
    pub severity: String,
    /// Did it fire, and is it over?
    pub state: &'static str,
    /// When it fired; when it was first seen, where it never did.
    pub at: String,
    /// For how long, as far as the run tells.
    pub lasted: String,
    /// What it is about.
    pub about: String,
    /// What it means.
    pub summary: String,
}

impl AlertRow {
    fn of(episode: &Episode, alerts: &Alerts, live: bool) -> Self {
        let state = match (episode.fired_at, episode.ended_at) {
            (Some(_), Some(_)) => "fired, was over",
            (Some(_), None) if live => FIRES,
            (Some(_), None) => "fired until the end",
            (None, _) if live => "is near",
            (None, _) => "the run ended before it fired",
        };
        let at = episode.fired_at.unwrap_or(episode.since);
        Self {
            alert: episode.alert.clone(),
            severity: episode.severity.clone(),
            state,
            at: text::clock(Some(at)),
            lasted: text::between(Some(at), episode.ended_at.or(alerts.until)),
            about: about(episode),
            summary: episode.summary.clone(),
        }
    }

    /// The rows of a run, in the order of time.
    pub(super) fn all(part: &Part) -> Vec<Self> {
        let alerts = part.alerts.iter();
        let rows = alerts.flat_map(|alerts| {
            let episodes = alerts.episodes.iter();
            episodes.map(move |episode| Self::of(episode, alerts, part.live))
        });
        rows.collect()
    }
}

impl fmt::Display for AlertRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ({}), {}, at {} for {}: {}; {}",
            self.alert, self.severity, self.state, self.at, self.lasted, self.about, self.summary
        )
    }
}

fn about(episode: &Episode) -> String {
    let first = FIRST.iter().filter_map(|name| {
        let value = episode.labels.get(*name)?;
        Some(format!("{name} {value}"))
    });
    let rest = episode
        .labels
        .iter()
        .filter(|(name, _)| *name != "instance" && !FIRST.contains(&name.as_str()))
        .map(|(name, value)| format!("{name} {value}"));
    let told: Vec<String> = first.chain(rest).collect();
    if told.is_empty() {
        text::NONE.to_owned()
    } else {
        told.join(", ")
    }
}

/// In a sentence, how it went with the alerts of a run.
pub(super) fn verdict(alerts: &Alerts) -> String {
    let fired = alerts.episodes.iter().filter(|e| e.fired_at.is_some());
    let rules = alerts.rules.len();
    let without = alerts.rules.iter().filter(|r| r.had_data == Some(false));
    let without: Vec<&str> = without.map(|rule| rule.alert.as_str()).collect();
    let judged = rules - without.len();
    let mut text = match (fired.count(), without.len()) {
        (0, 0) => format!("No alert fired, of {rules} that were watched for"),
        (0, _) => format!("No alert fired, of {judged} of {rules} that had anything to judge"),
        (1, _) => "One alert fired".to_owned(),
        (times, _) => format!("Alerts fired {times} times"),
    };
    if !without.is_empty() {
        let names = without.join(", ");
        let _ = write!(text, "; without any data in this run: {names}");
    }
    if let Some(until) = alerts.until {
        let _ = write!(text, "; watched until {}", text::clock(Some(until)));
    }
    match &alerts.problem {
        Some(problem) => format!("{text}. Not all is known: {problem}."),
        None => format!("{text}."),
    }
}
