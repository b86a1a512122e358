//! When which alert fired: read from Prometheus's own series `ALERTS`, and kept in the run as `alerts.json`.
//!
//! Prometheus writes a sample of `ALERTS` at each evaluation while an alert is pending or fires, and marks the series as
//! ended when it is over. So an episode is a run of points without a gap, and its times are as exact as the interval of
//! evaluations. An alert that was pending and never fired is kept only where the run ended before its time was up:
//! then nobody can say that it was nothing.

use std::{collections::BTreeMap, path::Path, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    judged,
    query::{Client, Error, Range, Series},
    rules::Alert,
};
use crate::files;

/// Name of the file in a run's `metrics` folder.
pub const FILE: &str = "alerts.json";
/// Labels of `ALERTS` that are not the alert's own.
const NOT_ITS_OWN: [&str; 4] = ["__name__", "alertname", "alertstate", "severity"];

/// What became of the alerts of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Alerts {
    /// Version of this format.
    pub schema: u32,
    /// What was watched for.
    #[serde(default)]
    pub rules: Vec<Rule>,
    /// What was seen, in the order of time.
    #[serde(default)]
    pub episodes: Vec<Episode>,
    /// Until when; `None` where Prometheus was never asked.
    #[serde(default)]
    pub until: Option<Timestamp>,
    /// Why nothing more is known.
    #[serde(default)]
    pub problem: Option<String>,
    /// What an earlier monitor of this run saw, whose Prometheus died with it.
    #[serde(skip)]
    earlier: Vec<Episode>,
}

/// An alert that was watched for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Its name.
    pub alert: String,
    /// What it asks.
    pub expr: String,
    /// How long it must hold.
    #[serde(default)]
    pub for_seconds: f64,
    /// How bad it is.
    #[serde(default)]
    pub severity: String,
    /// What it means.
    #[serde(default)]
    pub summary: String,
    /// Was there anything to judge? Unknown where nobody could tell.
    #[serde(default)]
    pub had_data: Option<bool>,
}

/// One time at which one alert was on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Episode {
    /// The alert.
    pub alert: String,
    /// How bad it is.
    #[serde(default)]
    pub severity: String,
    /// What it means.
    #[serde(default)]
    pub summary: String,
    /// What it is about.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Since when what is wrong was seen.
    pub since: Timestamp,
    /// Since when it fires; `None` where the run ended before.
    #[serde(default)]
    pub fired_at: Option<Timestamp>,
    /// When it was over; `None` where it was not.
    #[serde(default)]
    pub ended_at: Option<Timestamp>,
}

impl Alerts {
    /// Nothing seen yet of these.
    pub fn new(rules: &[Alert]) -> Self {
        let rule = |alert: &Alert| Rule {
            alert: alert.name.clone(),
            expr: alert.expr.clone(),
            for_seconds: alert.hold.as_secs_f64(),
            severity: alert.severity.clone(),
            summary: alert.summary.clone(),
            had_data: None,
        };
        Self {
            schema: 1,
            rules: rules.iter().map(rule).collect(),
            ..Self::default()
        }
    }

    /// Goes on from the file of an earlier monitor of this run, where there is one.
    pub fn resume(&mut self, path: &Path) {
        let Ok(before) = files::read_json::<Self>(path) else {
            return;
        };
        for rule in &mut self.rules {
            let same = before.rules.iter().find(|other| other.expr == rule.expr);
            // what an earlier one did not see, this one may
            rule.had_data = same.and_then(|same| same.had_data).filter(|had| *had);
        }
        self.earlier = before.episodes;
        for episode in &mut self.earlier {
            episode.ended_at = episode.ended_at.or(before.until);
        }
        self.episodes.clone_from(&self.earlier);
    }

    /// Asks what was seen over this range, whose step is the interval of evaluations.
    pub async fn ask(&mut self, client: &Client, range: Range) -> Result<(), Error> {
        let series = client.range("ALERTS", range).await?;
        self.episodes.clone_from(&self.earlier);
        self.episodes.extend(episodes(&series, range, &self.rules));
        self.until = Some(range.end);
        Ok(())
    }

    /// Asks of which there was anything to judge over this range. One that had is not asked again.
    pub async fn ask_data(&mut self, client: &Client, range: Range) -> Result<(), Error> {
        for rule in &mut self.rules {
            if rule.had_data == Some(true) {
                continue;
            }
            rule.had_data = match judged::data_of(&rule.expr) {
                None => Some(true),
                Some(asked) => {
                    let found = client.range(&asked, range).await?;
                    Some(found.iter().any(|series| !series.points.is_empty()))
                }
            };
        }
        Ok(())
    }

    /// Writes the file.
    pub fn write(&self, path: &Path) -> Result<(), files::Error> {
        if let Some(parent) = path.parent() {
            files::create_folder(parent, 0o755)?;
        }
        files::write_json(path, self)
    }
}

/// Spans without a gap, in seconds.
fn spans(series: &Series, step: Duration) -> Vec<(f64, f64)> {
    let gap = step.as_secs_f64() * 1.5;
    let mut spans: Vec<(f64, f64)> = Vec::new();
    for point in &series.points {
        match spans.last_mut() {
            Some((_, last)) if point.time - *last <= gap => *last = point.time,
            _ => spans.push((point.time, point.time)),
        }
    }
    spans
}

/// Episodes of the series `ALERTS` over a range.
fn episodes(series: &[Series], range: Range, rules: &[Rule]) -> Vec<Episode> {
    let step = range.step.as_secs_f64();
    // the last point is at most a step before the end
    let open = |last: f64| last + step > seconds(range.end) - step * 0.5;
    let state = |series: &&Series, wanted: &str| {
        series.labels.get("alertstate").map(String::as_str) == Some(wanted)
    };
    let key = |series: &Series| -> BTreeMap<String, String> {
        let mut labels = series.labels.clone();
        labels.remove("alertstate");
        labels
    };
    let mut found: Vec<Episode> = Vec::new();
    for firing in series.iter().filter(|series| state(series, "firing")) {
        let pending = series
            .iter()
            .filter(|other| state(other, "pending"))
            .find(|other| key(other) == key(firing));
        let before = pending.map_or_else(Vec::new, |series| spans(series, range.step));
        for (first, last) in spans(firing, range.step) {
            let since = before
                .iter()
                .find(|(_, end)| (0.0..=step * 1.5).contains(&(first - end)))
                .map_or(first, |(start, _)| *start);
            let ended = (!open(last)).then_some(last);
            found.extend(episode(firing, rules, since, Some(first), ended));
        }
    }
    for pending in series.iter().filter(|series| state(series, "pending")) {
        let last = spans(pending, range.step).pop();
        if let Some((first, last)) = last.filter(|(_, last)| open(*last)) {
            let fires = series
                .iter()
                .filter(|other| state(other, "firing") && key(other) == key(pending))
                .any(|other| other.points.last().is_some_and(|point| point.time > last));
            if !fires {
                found.extend(episode(pending, rules, first, None, None));
            }
        }
    }
    found.sort_by(|a, b| (a.since, &a.alert, &a.labels).cmp(&(b.since, &b.alert, &b.labels)));
    found
}

fn episode(
    series: &Series,
    rules: &[Rule],
    since: f64,
    fired: Option<f64>,
    ended: Option<f64>,
) -> Option<Episode> {
    let label = |name: &str| series.labels.get(name).cloned().unwrap_or_default();
    let alert = label("alertname");
    let rule = rules.iter().find(|rule| rule.alert == alert);
    Some(Episode {
        severity: label("severity"),
        summary: rule.map(|rule| rule.summary.clone()).unwrap_or_default(),
        alert,
        labels: series
            .labels
            .iter()
            .filter(|(name, _)| !NOT_ITS_OWN.contains(&name.as_str()))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
        since: stamp(since)?,
        fired_at: fired.and_then(stamp),
        ended_at: ended.and_then(stamp),
    })
}

fn seconds(time: Timestamp) -> f64 {
    time.as_millisecond() as f64 / 1000.0
}

fn stamp(seconds: f64) -> Option<Timestamp> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the cast saturates, and what is out of range is no time"
    )]
    let milliseconds = (seconds * 1000.0).round() as i64;
    Timestamp::from_millisecond(milliseconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prometheus::query::Point;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn series(alert: &str, state: &str, times: impl IntoIterator<Item = u32>) -> Series {
        let labels = [
            ("__name__", "ALERTS"),
            ("alertname", alert),
            ("alertstate", state),
            ("severity", "critical"),
            ("node", "n1"),
        ];
        let point = |time| Point {
            time: f64::from(time),
            value: 1.0,
        };
        Series {
            labels: labels
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            points: times.into_iter().map(point).collect(),
        }
    }

    type Seen = (String, Timestamp, Option<Timestamp>, Option<Timestamp>);

    fn seen(series: &[Series]) -> Vec<Seen> {
        let range = Range {
            start: at(0),
            end: at(100),
            step: Duration::from_secs(2),
        };
        let rules = [Rule {
            alert: "Down".to_owned(),
            expr: "up == 0".to_owned(),
            for_seconds: 4.0,
            severity: "critical".to_owned(),
            summary: "it is down".to_owned(),
            had_data: None,
        }];
        episodes(series, range, &rules)
            .into_iter()
            .map(|episode| {
                assert_eq!(episode.labels.len(), 1, "{episode:?}");
                (
                    format!("{}: {}", episode.alert, episode.summary),
                    episode.since,
                    episode.fired_at,
                    episode.ended_at,
                )
            })
            .collect()
    }

    fn seen_episodes() -> Vec<Episode> {
        let range = Range {
            start: at(0),
            end: at(50),
            step: Duration::from_secs(2),
        };
        episodes(&[series("Down", "firing", [48, 50])], range, &[])
    }

    #[test]
    fn an_episode_is_a_run_of_points() {
        let name = || "Down: it is down".to_owned();
        // twice: once over, once until the end; once it was nothing
        let pending = series("Down", "pending", [10, 12, 30, 90, 92]);
        let firing = series("Down", "firing", [14, 16, 18, 94, 96, 98, 100]);
        assert_eq!(
            seen(&[firing, pending]),
            [
                (name(), at(10), Some(at(14)), Some(at(18))),
                (name(), at(90), Some(at(94)), None),
            ]
        );
    }

    #[test]
    fn what_was_pending_counts_only_where_the_run_ended_before_its_time() {
        assert_eq!(seen(&[series("Down", "pending", [10, 12, 14])]), []);
        assert_eq!(
            seen(&[series("Down", "pending", [96, 98, 100])]),
            [("Down: it is down".to_owned(), at(96), None, None)]
        );
    }

    #[test]
    fn the_file_is_read_again_and_a_poorer_one_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics").join(FILE);
        let alerts = Alerts::new(&[Alert {
            name: "Down".to_owned(),
            expr: "up == 0".to_owned(),
            hold: Duration::from_secs(20),
            severity: "critical".to_owned(),
            summary: "it is down".to_owned(),
        }]);
        alerts.write(&path).unwrap();
        assert_eq!(files::read_json::<Alerts>(&path).unwrap(), alerts);
        let mut first = alerts.clone();
        first.until = Some(at(50));
        first.episodes = seen_episodes();
        first.write(&path).unwrap();
        let mut second = alerts;
        second.resume(&path);
        assert_eq!(second.episodes[0].ended_at, Some(at(50)), "until it died");

        let poor = r#"{"schema": 1, "episodes": [{"alert": "x", "since": "2026-01-01T00:00:00Z"}], "new": 1}"#;
        let read: Alerts = serde_json::from_str(poor).unwrap();
        assert_eq!(read.episodes[0].fired_at, None);
    }
}
