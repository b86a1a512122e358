//! The loads of a series: as a table, and as `levels.csv`; [`answer`] says what came of them, [`curve`] draws them.
//!
//! Pure; a number that is missing is a dash.

mod answer;
mod curve;

use std::fmt::Write as _;

use serde::Serialize;

pub use self::{answer::answer, curve::curve};
use super::{csv::field, text};
use crate::{
    recipe::Quantity,
    stats::{
        results::Completeness,
        series::{Level, Purpose, Repeats, Series},
    },
};

/// A load as a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Its folder, from that of the bench.
    pub folder: String,
    /// A cell for each of [`head`].
    pub cells: Vec<String>,
    /// Is it the one whose numbers are shown?
    pub shown: bool,
}

/// Heads of the table.
const HEAD: [&str; 10] = [
    "load", "verdict", "limits", "total", "errors", "req/s", "TTFT p50", "p99 ms", "tokens/s", "",
];

/// Where [`HEAD`] has the time that is told.
const TIME: usize = 6;

/// The time that is told of each load, and how it is called: of answers without tokens the whole latency.
fn told(series: &Series) -> (&'static str, &'static str) {
    let has = |name: &str| {
        let mut levels = series.levels.iter();
        levels.any(|level| level.latency(name).is_some())
    };
    if has("request_latency") && !has("time_to_first_token") {
        ("request_latency", "E2EL p50")
    } else {
        ("time_to_first_token", HEAD[TIME])
    }
}

/// Heads of the table of these loads.
pub fn head(series: &Series) -> [&'static str; HEAD.len()] {
    let mut head = HEAD;
    head[TIME] = told(series).1;
    head
}

/// A terminal has no room for this column.
const NOT_ON_A_TERMINAL: usize = 8;

/// The loads as rows.
pub fn rows(series: &Series) -> Vec<Row> {
    let (time, _) = told(series);
    let row = |level: &Level| {
        let ttft = level.latency(time);
        let is = |folder: &Option<String>| folder.as_ref() == Some(&level.folder);
        let shown = is(&series.headline);
        let marks = [(shown, "shown"), (is(&series.knee), "knee")];
        let marks: Vec<&str> = marks
            .iter()
            .filter(|mark| mark.0)
            .map(|mark| mark.1)
            .collect();
        Row {
            folder: level.folder.clone(),
            cells: vec![
                name(level, series.of),
                verdict(level),
                limits(level),
                level.total_requests.to_string(),
                level.errors.to_string(),
                text::optional(level.avg("request_throughput")),
                text::optional(ttft.and_then(|ttft| ttft.p50)),
                text::optional(ttft.and_then(|ttft| ttft.p99)),
                text::optional(level.avg("output_token_throughput")),
                marks.join(", "),
            ],
            shown,
        }
    };
    series.levels.iter().map(row).collect()
}

/// `02: 8 requests/s, repeat 1`, `09: 5.657 requests/s, confirmed`.
fn name(level: &Level, of: Option<Quantity>) -> String {
    let mut parts = Vec::new();
    if let (Some(value), Some(of)) = (level.requested, of) {
        parts.push(of.amount(value));
    }
    parts.extend(level.repeat.map(|repeat| format!("repeat {repeat}")));
    if level.purpose == Some(Purpose::Confirm) {
        parts.push("again".to_owned());
    }
    format!("{:02}: {}", level.number, parts.join(", "))
}

fn verdict(level: &Level) -> String {
    match level.completeness {
        Completeness::Complete => text::verdict(level.validity.verdict).to_owned(),
        Completeness::Interrupted | Completeness::Running => "interrupted".to_owned(),
    }
}

/// Of a load that was not served as fast as it was sent.
const SATURATED: &str = "saturated";

/// Did it keep the limits, and of how many requests?
fn limits(level: &Level) -> String {
    let Some(met) = level.met else {
        return if level.saturated {
            SATURATED.to_owned()
        } else {
            text::NONE.to_owned()
        };
    };
    if level.saturated {
        return format!("missed, {SATURATED}");
    }
    let word = if met { "kept" } else { "missed" };
    match level.avg("slo_attainment") {
        // rounded down: 99.96 % is not all
        Some(share) => format!("{word} {} %", text::number((share * 1000.0).floor() / 10.0)),
        None => word.to_owned(),
    }
}

/// Heads of the table of intervals.
pub const INTERVAL_HEAD: [&str; 7] = ["load", "metric", "of", "mean", "from", "to", "unit"];

/// Metrics whose intervals are shown; all are in `results.json`.
const SHOWN: [&str; 6] = [
    "time_to_first_token",
    "time_per_output_token",
    "request_latency",
    "request_throughput",
    "output_token_throughput",
    "goodput",
];

/// The intervals over repeats as rows.
pub fn interval_rows(series: &Series) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for all in &series.repeats {
        let load = match (all.requested, series.of) {
            (Some(value), Some(of)) => of.amount(value),
            _ => format!("{} of {} repeats", all.count, all.run),
        };
        for metric in SHOWN {
            let intervals = all.metrics.get(metric).into_iter().flatten();
            for (of, interval) in intervals.filter(|(of, _)| *of != "avg" || is_rate(all, metric)) {
                rows.push(vec![
                    load.clone(),
                    text::metric_name(metric),
                    of.clone(),
                    text::number(interval.mean),
                    text::number(interval.low),
                    text::number(interval.high),
                    unit(series, metric),
                ]);
            }
        }
    }
    rows
}

fn is_rate(all: &Repeats, metric: &str) -> bool {
    all.metrics
        .get(metric)
        .is_some_and(|intervals| !intervals.contains_key("p50"))
}

fn unit(series: &Series, metric: &str) -> String {
    let levels = series.levels.iter();
    levels
        .filter_map(|level| level.metrics.get(metric))
        .map(|metric| metric.unit.clone())
        .next()
        .unwrap_or_default()
}

/// The first line of `levels.csv`.
const CSV_HEAD: &str = "number,folder,of,requested,repeat,purpose,seed,verdict,completeness,met,total_requests,successes,errors,duration_seconds,metric,unit,avg,p50,p90,p95,p99,count";

/// `levels.csv`: a line for each metric of each load.
pub fn csv(series: &Series) -> String {
    let mut out = format!("{CSV_HEAD}\r\n");
    let number = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
    for level in &series.levels {
        let purpose = level
            .purpose
            .and_then(|purpose| Some(serde_json::to_value(purpose).ok()?.as_str()?.to_owned()));
        let whole = match level.completeness {
            Completeness::Complete => "complete",
            Completeness::Interrupted => "interrupted",
            Completeness::Running => "running",
        };
        let start = [
            level.number.to_string(),
            field(&level.folder),
            series.of.map(|of| of.key().to_owned()).unwrap_or_default(),
            number(level.requested),
            level
                .repeat
                .map(|repeat| repeat.to_string())
                .unwrap_or_default(),
            purpose.unwrap_or_default(),
            level.seed.to_string(),
            text::verdict(level.validity.verdict).to_owned(),
            whole.to_owned(),
            level.met.map(|met| met.to_string()).unwrap_or_default(),
            level.total_requests.to_string(),
            level.successes.to_string(),
            level.errors.to_string(),
            level.duration_seconds.to_string(),
        ]
        .join(",");
        for (name, metric) in &level.metrics {
            let cells = [metric.p50, metric.p90, metric.p95, metric.p99].map(number);
            let count = metric
                .count
                .map(|count| count.to_string())
                .unwrap_or_default();
            let _ = write!(
                out,
                "{start},{},{},{},{},{count}\r\n",
                field(name),
                field(&metric.unit),
                metric.avg,
                cells.join(",")
            );
        }
    }
    out
}

/// The table for a terminal of a hundred columns.
pub fn table(series: &Series) -> Vec<String> {
    let rows: Vec<Vec<String>> = std::iter::once(head(series).map(str::to_owned).to_vec())
        .chain(rows(series).into_iter().map(|row| row.cells))
        .map(|mut cells| {
            cells.remove(NOT_ON_A_TERMINAL);
            cells
        })
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..HEAD.len() - 1)
        .map(|column| width(column).unwrap_or(0))
        .collect();
    let line = |row: &Vec<String>| {
        let cells = row
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, width))| {
                // words to the left, numbers to the right
                if (3..HEAD.len() - 2).contains(&column) {
                    format!("{cell:>width$}")
                } else {
                    format!("{cell:<width$}")
                }
            });
        let cells: Vec<String> = cells.collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}
