//! The time of a run as numbers: what Prometheus answers to the questions of [`super::charts`], kept as `series.json`.
//!
//! Prometheus ends with its job, and a report must be made without it: so the monitor asks it before the end, and keeps
//! a few hundred points of each line. They are for charts; whoever wants every sample has the archive. Values stand on one
//! grid of times, where a gap is null, to six digits. What can fail: a Prometheus that does not answer, which is told in
//! the file.

use std::{collections::BTreeSet, path::Path, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    charts::{Ask, EngineSeries, Group, charts},
    query::{Client, Error, Range, Series},
};
use crate::files;

/// Name of the file in a run's `metrics` folder.
pub const FILE: &str = "series.json";
/// Points of a line at the most.
const POINTS: u32 = 240;
/// Lines of a panel at the most: more cannot be told apart.
const LINES: usize = 4;

/// Charts over the time of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Timeline {
    /// Version of this format.
    pub schema: u32,
    /// Time of the first value of each line.
    pub start: Timestamp,
    /// Seconds between two values.
    pub step_seconds: f64,
    /// The charts that have something to show.
    #[serde(default)]
    pub charts: Vec<Shown>,
    /// Titles of those that have not.
    #[serde(default)]
    pub absent: Vec<String>,
    /// Why nothing more is known.
    #[serde(default)]
    pub problem: Option<String>,
}

/// A chart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shown {
    /// What it is about.
    pub group: Group,
    /// Its title.
    pub title: String,
    /// Its panels.
    pub panels: Vec<ShownPanel>,
}

/// Lines of one unit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShownPanel {
    /// The unit.
    pub unit: String,
    /// The lines.
    pub lines: Vec<ShownLine>,
    /// How many more there were, for which there was no room.
    #[serde(default)]
    pub more: usize,
}

/// A line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShownLine {
    /// Its name.
    pub name: String,
    /// What Prometheus was asked.
    pub query: String,
    /// Its values.
    pub values: Vec<Option<f64>>,
}

impl Timeline {
    /// Asks for all that there is from `start` to `end`; `interval` is that of scrapes. Where Prometheus stops to answer,
    /// what it said until then is kept.
    pub async fn ask(
        client: &Client,
        engines: &[EngineSeries],
        (start, end): (Timestamp, Timestamp),
        interval: Duration,
    ) -> Self {
        let range = grid(start, end, interval);
        let mut timeline = Self {
            schema: 1,
            start,
            step_seconds: range.step.as_secs_f64(),
            charts: Vec::new(),
            absent: Vec::new(),
            problem: None,
        };
        // a scrape that is late must not make a gap, and a step must not be looked over
        let window = (interval * 4).max(range.step);
        for ask in charts(engines, window) {
            match shown(client, ask, range).await {
                Ok(shown) if shown.panels.is_empty() => timeline.absent.push(shown.title),
                Ok(shown) => timeline.charts.push(shown),
                Err(error) => {
                    timeline.problem = Some(format!("Prometheus did not tell all: {error}"));
                    break;
                }
            }
        }
        timeline
    }

    /// Writes the file.
    pub fn write(&self, path: &Path) -> Result<(), files::Error> {
        if let Some(parent) = path.parent() {
            files::create_folder(parent, 0o755)?;
        }
        files::write_json(path, self)
    }

    /// Seconds since `origin` of the value at this place.
    pub fn at(&self, place: usize, origin: Timestamp) -> f64 {
        self.start.duration_since(origin).as_secs_f64() + self.step_seconds * place as f64
    }

    /// Values of each line.
    pub fn len(&self) -> usize {
        let lines = self.charts.iter().flat_map(|chart| &chart.panels);
        let lines = lines.flat_map(|panel| &panel.lines);
        lines.map(|line| line.values.len()).max().unwrap_or(0)
    }

    /// Is there nothing to be seen?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Steps of whole intervals, of which the range has not too many.
fn grid(start: Timestamp, end: Timestamp, interval: Duration) -> Range {
    let interval = interval.max(Duration::from_millis(100));
    let length: Duration = end.duration_since(start).try_into().unwrap_or_default();
    let steps = (length.as_secs_f64() / (interval.as_secs_f64() * f64::from(POINTS - 1))).ceil();
    Range {
        start,
        end: end.max(start),
        step: interval.mul_f64(steps.max(1.0)),
    }
}

async fn shown(client: &Client, ask: Ask, range: Range) -> Result<Shown, Error> {
    let mut panels = Vec::new();
    for (unit, questions) in ask.panels {
        let mut lines = Vec::new();
        for question in questions {
            let series = client.range(&question.query, range).await?;
            let varying = varying(&series);
            lines.extend(series.iter().map(|series| ShownLine {
                name: named(&question.name, series, &varying),
                query: question.query.clone(),
                values: on_grid(series, range),
            }));
        }
        lines.retain(|line| line.values.iter().any(Option::is_some));
        let more = lines.len().saturating_sub(LINES);
        lines.truncate(LINES);
        if !lines.is_empty() {
            panels.push(ShownPanel {
                unit: unit.to_owned(),
                lines,
                more,
            });
        }
    }
    Ok(Shown {
        group: ask.group,
        title: ask.title.to_owned(),
        panels,
    })
}

/// Labels by which the answers to one question differ.
fn varying(series: &[Series]) -> Vec<String> {
    let names: BTreeSet<&String> = series.iter().flat_map(|one| one.labels.keys()).collect();
    let differs = |name: &&&String| {
        let values: BTreeSet<_> = series.iter().map(|one| one.labels.get(**name)).collect();
        values.len() > 1
    };
    names
        .iter()
        .filter(differs)
        .map(|name| (*name).clone())
        .collect()
}

fn named(name: &str, series: &Series, varying: &[String]) -> String {
    let labels = varying.iter().filter_map(|label| series.labels.get(label));
    std::iter::once(name)
        .chain(labels.map(String::as_str))
        .collect::<Vec<_>>()
        .join(" ")
}

/// Values where the grid has its times; what is no number is a gap.
fn on_grid(series: &Series, range: Range) -> Vec<Option<f64>> {
    let start = range.start.as_millisecond() as f64 / 1000.0;
    let step = range.step.as_secs_f64();
    let length = range.end.duration_since(range.start).as_secs_f64();
    let place = |seconds: f64| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the cast saturates, and a place beyond the end is looked for in vain"
        )]
        let place = (seconds / step).round().max(0.0) as usize;
        place
    };
    let mut values = vec![None; place((length / step).floor() * step) + 1];
    for point in &series.points {
        if let Some(value) = values.get_mut(place(point.time - start)) {
            *value = Some(point.value)
                .filter(|value| value.is_finite())
                .map(short);
        }
    }
    values
}

/// To six digits: no chart shows more, and the file is a third of it.
fn short(value: f64) -> f64 {
    format!("{value:.5e}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prometheus::query::Point;

    fn at(millisecond: i64) -> Timestamp {
        Timestamp::from_millisecond(millisecond).unwrap()
    }

    fn series(labels: &[(&str, &str)], points: &[(f64, f64)]) -> Series {
        let label = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Series {
            labels: labels.iter().map(label).collect(),
            points: points
                .iter()
                .map(|(time, value)| Point {
                    time: *time,
                    value: *value,
                })
                .collect(),
        }
    }

    #[test]
    fn a_grid_has_whole_intervals_and_not_too_many() {
        let two = Duration::from_secs(2);
        for (seconds, step) in [(0, 2), (60, 2), (478, 2), (479, 4), (36_000, 152)] {
            let range = grid(at(0), at(seconds * 1000), two);
            assert_eq!(range.step.as_secs(), step, "{seconds} s");
            let values = on_grid(&series(&[], &[]), range).len();
            assert!(values <= 240, "{seconds} s: {values}");
        }
    }

    #[test]
    fn what_is_missing_or_no_number_is_a_gap() {
        let range = grid(at(500), at(10_500), Duration::from_secs(2));
        let points = [
            (0.5, 1.0),
            (4.5, f64::NAN),
            (6.5, 1.234_567_89),
            (90.0, 7.0),
        ];
        assert_eq!(
            on_grid(&series(&[], &points), range),
            [Some(1.0), None, None, Some(1.234_57), None, None]
        );
    }

    #[test]
    fn lines_are_named_by_what_they_differ_in() {
        let all = [
            series(&[("node", "n1"), ("resource", "cpu")], &[]),
            series(&[("node", "n1"), ("resource", "io")], &[]),
        ];
        let varying = varying(&all);
        assert_eq!(named("for", &all[1], &varying), "for io");
        assert_eq!(named("running", &all[0], &[]), "running");
    }

    #[test]
    fn every_question_has_a_unit_and_a_window() {
        let engine = EngineSeries {
            running: &["a", "b"],
            prompt_tokens: &["c_total"],
            batch: &[("tokens", "rate(x_sum[WINDOW])")],
            ..EngineSeries::default()
        };
        let all = charts(&[engine, EngineSeries::default()], Duration::from_secs(8));
        let panels = all.iter().flat_map(|ask| &ask.panels);
        let queries: Vec<_> = panels.flat_map(|(_, lines)| lines).collect();
        let query = |name: &str| &queries.iter().find(|line| line.name == name).unwrap().query;
        assert_eq!(query("running"), "sum(a or b)");
        assert_eq!(query("tokens"), "rate(x_sum[8s])");
        assert!(
            query("read").contains("rate(c_total[8s])"),
            "{}",
            query("read")
        );
        assert!(queries.iter().all(|line| !line.query.contains("WINDOW")));
    }
}
