//! The time of a run as numbers: what Prometheus answers to the questions of [`super::charts`], kept as `series.json`.
//!
//! Prometheus ends with its job, and a report must be made without it: so the monitor asks it before the end, and keeps
//! a few hundred points of each line. They are for charts; whoever wants every sample has the archive. Values stand on one
//! grid of times, where a gap is null, to six digits. What can fail: a Prometheus that does not answer one question or
//! any; what it did answer is kept, and what it did not is told in the file.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{
    charts::{Ask, EngineSeries, Group, charts},
    query::{Client, Range, Series},
};
use crate::files;

/// Name of the file in a run's `metrics` folder.
pub const FILE: &str = "series.json";
/// Points of a line at the most.
const POINTS: u32 = 240;
/// Lines of a panel at the most, which is the GPUs of two large nodes: more cannot be told apart.
const LINES: usize = 16;
/// One question has this share of the time for all: one that is hard must not cost the others.
const SHARE: u32 = 4;

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
    /// What is not known of these, and why.
    #[serde(default)]
    pub problem: Option<String>,
}

/// Questions without an answer, by why.
type Unanswered = BTreeMap<String, Vec<String>>;

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
    /// Asks for all that there is from `start` to `end`; `interval` is that of scrapes. It takes `limit` at the most: what
    /// Prometheus said until then is kept, and what it did not say is named.
    pub async fn ask(
        client: &Client,
        engines: &[EngineSeries],
        (start, end): (Timestamp, Timestamp),
        interval: Duration,
        limit: Duration,
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
        let mut asking = Asking {
            client,
            range,
            limit,
            deadline: Instant::now() + limit,
            unanswered: BTreeMap::new(),
        };
        for ask in charts(engines, window) {
            let before = asking.failures();
            let shown = asking.shown(ask).await;
            if !shown.panels.is_empty() {
                timeline.charts.push(shown);
            } else if asking.failures() == before {
                timeline.absent.push(shown.title);
            }
        }
        timeline.problem = told(&asking.unanswered);
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

/// Questions to a Prometheus, within a time.
struct Asking<'a> {
    client: &'a Client,
    range: Range,
    limit: Duration,
    deadline: Instant,
    unanswered: Unanswered,
}

impl Asking<'_> {
    fn failures(&self) -> usize {
        self.unanswered.values().map(Vec::len).sum()
    }

    /// The answer to a question, or why there is none.
    async fn answer(&self, query: &str) -> Result<Vec<Series>, String> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let limit = left.min(self.limit / SHARE);
        if limit.is_zero() {
            return Err("there was no time left to ask".to_owned());
        }
        match tokio::time::timeout(limit, self.client.range(query, self.range)).await {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => Err("no answer in time".to_owned()),
        }
    }

    /// A chart, of what was answered.
    async fn shown(&mut self, ask: Ask) -> Shown {
        let mut panels = Vec::new();
        for (unit, questions) in ask.panels {
            let mut lines = Vec::new();
            for question in questions {
                let series = match self.answer(&question.query).await {
                    Ok(series) => series,
                    Err(why) => {
                        let what = format!("{} ({}, {unit})", ask.title, question.name);
                        self.unanswered.entry(why).or_default().push(what);
                        continue;
                    }
                };
                let varying = varying(&series);
                lines.extend(series.iter().map(|series| ShownLine {
                    name: named(&question.name, series, &varying),
                    query: question.query.clone(),
                    values: on_grid(series, self.range),
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
        Shown {
            group: ask.group,
            title: ask.title.to_owned(),
            panels,
        }
    }
}

/// What was not answered, in a sentence for each reason.
fn told(unanswered: &Unanswered) -> Option<String> {
    if unanswered.is_empty() {
        return None;
    }
    let reasons = unanswered
        .iter()
        .map(|(why, what)| format!("{why}: {}", what.join(", ")));
    let reasons: Vec<String> = reasons.collect();
    Some(format!(
        "Prometheus did not tell all. {}",
        reasons.join(". ")
    ))
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

    /// A Prometheus that answers every question alike, but for those that hold a word: the first it refuses, the second
    /// it leaves without an answer. Of `many`, it tells of twenty GPUs.
    async fn prometheus(refused: &'static str, left: &'static str, many: &'static str) -> Client {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let serve = move |mut stream: tokio::net::TcpStream| async move {
            let mut asked = String::new();
            let mut buffer = [0; 4096];
            // the form comes with the head, or right after it
            while !asked.contains("step=") {
                let length = stream.read(&mut buffer).await.unwrap_or(0);
                if length == 0 {
                    return;
                }
                asked.push_str(&String::from_utf8_lossy(&buffer[..length]));
            }
            if asked.contains(left) {
                std::future::pending::<()>().await;
            }
            let series = |gpu: usize| {
                format!(r#"{{"metric":{{"gpu":"{gpu}"}},"values":[[2,"1"],[4,"2"]]}}"#)
            };
            let count = if asked.contains(many) { 20 } else { 1 };
            let all: Vec<String> = (0..count).map(series).collect();
            let body = if asked.contains(refused) {
                r#"{"status":"error","errorType":"execution","error":"too much"}"#.to_owned()
            } else {
                let all = all.join(",");
                format!(
                    r#"{{"status":"success","data":{{"resultType":"matrix","result":[{all}]}}}}"#
                )
            };
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            let _ = stream.write_all(answer.as_bytes()).await;
        };
        tokio::runtime::Handle::current().spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::runtime::Handle::current().spawn(serve(stream));
            }
        });
        Client::new(&base, crate::api::client::Access::Open)
    }

    #[tokio::test]
    async fn what_was_answered_is_kept_and_what_was_not_is_told() {
        let client = prometheus("aif_job_cpu", "aif_gpu_power", "aif_gpu_utilization").await;
        let span = (at(0), at(4000));
        let (interval, limit) = (Duration::from_secs(2), Duration::from_secs(4));
        let timeline = Timeline::ask(&client, &[], span, interval, limit).await;
        let problem = timeline.problem.unwrap();
        assert!(
            problem.contains("no answer in time: GPU (GPU, W)")
                && problem.contains("too much: CPU (of the job, cores)"),
            "{problem}"
        );
        let chart = |title: &str| {
            let mut charts = timeline.charts.iter();
            charts.find(|chart| chart.title == title).unwrap()
        };
        let cpu = &chart("CPU").panels[0].lines;
        assert_eq!(cpu.len(), 1, "{cpu:?}");
        assert_eq!(cpu[0].name, "of the node");
        assert_eq!(cpu[0].values, [None, Some(1.0), Some(2.0)]);
        let gpu = &chart("GPU").panels;
        let units: Vec<&str> = gpu.iter().map(|panel| panel.unit.as_str()).collect();
        assert_eq!(units, ["% busy", "GiB", "°C"]);
        assert_eq!((gpu[0].lines.len(), gpu[0].more), (16, 4));
        assert!(timeline.absent.iter().all(|title| title != "CPU"));
    }

    #[tokio::test]
    async fn where_nobody_answers_nothing_is_taken_for_absent() {
        // every question holds it
        let client = prometheus("-", "query=", "-").await;
        let (interval, limit) = (Duration::from_secs(2), Duration::from_millis(100));
        let start = Instant::now();
        let timeline = Timeline::ask(&client, &[], (at(0), at(4000)), interval, limit).await;
        assert!(start.elapsed() < limit * 10, "{:?}", start.elapsed());
        assert!(timeline.charts.is_empty());
        let problem = timeline.problem.unwrap();
        assert!(
            problem.contains("no answer in time: Requests of the load")
                && problem.contains("there was no time left to ask: "),
            "{problem}"
        );
        // an engine without names is asked nothing
        let engine = timeline.absent.iter().all(|title| title.contains("engine"));
        assert!(engine, "{:?}", timeline.absent);
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
