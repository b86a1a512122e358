//! What the terminal shows of a run: a few lines, understood without colour.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Serialize;

use super::{
    alerts::AlertRow,
    certified,
    cost::Cost,
    gather::Report,
    levels,
    phases::{self, Phase},
    text,
};
use crate::{
    stats::results::{Completeness, Metric, Results, Verdict},
    units,
};

/// The headline of a bench: what the page, the text and the terminal put first.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Headline {
    /// Run that it belongs to.
    pub run: String,
    /// The bench.
    pub bench: String,
    /// How far it can be trusted; `None` where there are no results.
    pub verdict: Option<Verdict>,
    /// Is it whole?
    pub completeness: Option<Completeness>,
    /// Is it looked at while it runs?
    #[serde(skip)]
    pub live: bool,
    /// Why it is not better.
    pub reasons: Vec<String>,
    /// Requests offered in the measured window.
    pub requests: u64,
    /// Those that ended badly.
    pub errors: u64,
    /// The measured window in seconds.
    pub duration_seconds: f64,
    /// What came of several loads, in a few words each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub answer: Vec<String>,
    /// These loads, as a table.
    #[serde(skip)]
    pub levels: Vec<String>,
    /// The one that the numbers are of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shown: Option<String>,
    /// The numbers that matter most.
    pub figures: Vec<Figure>,
    /// How the errors of its times were found, where they were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certified: Option<String>,
}

/// One of the numbers that matter most.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// What it is, for people.
    pub name: String,
    /// Its metric in `results.json`.
    pub metric: String,
    /// Its unit.
    pub unit: String,
    /// Mean; all there is of a rate.
    pub avg: Option<f64>,
    /// Median.
    pub p50: Option<f64>,
    /// 99th percentile, where the count bears it.
    pub p99: Option<f64>,
    /// Largest.
    pub max: Option<f64>,
    /// The 99th percentile of the error by which it is measured, its largest where the count does not bear that; `None`
    /// where it was not looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<f64>,
}

impl Figure {
    /// Is it a rate, which has a mean and no distribution?
    pub fn is_rate(&self) -> bool {
        self.p50.is_none()
    }

    /// The far end, and which it is: of few requests, the largest.
    pub fn tail(&self) -> (String, &'static str) {
        match self.p99 {
            Some(p99) => (text::number(p99), "p99"),
            None => (text::optional(self.max), "max"),
        }
    }
}

/// The numbers that matter most of a result. Of an open loop, latencies count from the intended time.
fn figures(results: &Results) -> Vec<Figure> {
    let open = results.load["pattern"] == "open-loop";
    let wanted = [
        ("time to first token", "time_to_first_token", true),
        ("time per output token", "time_per_output_token", false),
        ("request latency", "request_latency", true),
        ("throughput", "request_throughput", false),
        ("output tokens", "output_token_throughput", false),
        ("recall", "recall", false),
        ("inserts", "insert_throughput", false),
        ("goodput", "goodput", false),
    ];
    let mut figures = Vec::new();
    for (name, metric, has_scheduled) in wanted {
        let scheduled = format!("{metric}_scheduled");
        let from_intended = open && has_scheduled && results.metrics.contains_key(&scheduled);
        let key = if from_intended {
            scheduled.as_str()
        } else {
            metric
        };
        let Some(Metric {
            unit,
            avg,
            p50,
            p99,
            max,
            ..
        }) = results.metrics.get(key)
        else {
            continue;
        };
        let name = if from_intended {
            format!("{name} *")
        } else {
            name.to_owned()
        };
        figures.push(Figure {
            name,
            metric: key.to_owned(),
            unit: unit.clone(),
            avg: Some(*avg),
            p50: *p50,
            p99: *p99,
            max: *max,
            error: certified::error_of(results, key),
        });
    }
    figures
}

/// The note that explains the star of an open loop's figures.
pub const FROM_INTENDED: &str =
    "* from the time at which the schedule meant the request to be sent";

impl Headline {
    /// Headlines of every bench of a report.
    pub fn all(report: &Report) -> Vec<Self> {
        let headline = |(part, bench): (&super::Part, &super::Bench)| Self {
            live: part.live,
            ..Self::of(&part.id, &bench.name, bench.results.as_ref())
        };
        report.benches().map(headline).collect()
    }

    /// The headline of one result, or of none.
    pub fn of(run: &str, bench: &str, results: Option<&Results>) -> Self {
        let series = results.and_then(|results| results.series.as_ref());
        Self {
            answer: series.map(levels::answer).unwrap_or_default(),
            levels: series.map(levels::table).unwrap_or_default(),
            shown: series.and_then(|series| series.headline.clone()),
            run: run.to_owned(),
            bench: bench.to_owned(),
            live: false,
            verdict: results.map(|results| results.validity.verdict),
            completeness: results.map(|results| results.completeness),
            reasons: results
                .map(|results| results.validity.reasons.clone())
                .unwrap_or_default(),
            requests: results.map_or(0, |results| results.total_requests),
            errors: results.map_or(0, |results| results.errors),
            duration_seconds: results.map_or(0.0, |results| results.duration_seconds),
            figures: results.map(figures).unwrap_or_default(),
            certified: results
                .and_then(|results| results.certificate.as_ref().map(certified::note)),
        }
    }

    /// What came of it: of several loads their answer, of one how much was measured.
    pub fn gist(&self) -> String {
        if self.answer.is_empty() {
            self.extent()
        } else {
            self.answer.join("; ")
        }
    }

    /// The verdict in a few words, and whether the result is whole.
    pub fn judgement(&self) -> String {
        let Some(verdict) = self.verdict else {
            let yet = if self.live { " yet" } else { "" };
            return format!("no result{yet}");
        };
        let whole = match self.completeness {
            Some(Completeness::Running) if self.live => " so far",
            Some(Completeness::Interrupted) => ", interrupted",
            Some(Completeness::Running) => ", killed while it ran (or runs still)",
            _ => "",
        };
        format!("{}{whole}", text::verdict(verdict))
    }

    /// How much was measured: `310 requests in 30.0 s, 2 errors`.
    pub fn extent(&self) -> String {
        let window = Duration::try_from_secs_f64(self.duration_seconds)
            .map_or_else(|_| text::NONE.to_owned(), units::human_duration);
        let errors = match self.errors {
            0 => "no errors".to_owned(),
            1 => "1 error".to_owned(),
            errors => format!("{errors} errors"),
        };
        format!("{} requests in {window}, {errors}", self.requests)
    }
}

impl Headline {
    /// Writes what stands before its numbers: verdict, extent, reasons, and several loads as a table.
    pub(super) fn write_head(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = text::plain(&self.bench);
        write!(f, "  bench {name}: {}; ", self.judgement())?;
        match &self.answer[..] {
            [] => write!(f, "{}", self.extent())?,
            [what, answer @ ..] => {
                write!(f, "{what}")?;
                for said in answer {
                    write!(f, "\n    {said}")?;
                }
            }
        }
        for reason in &self.reasons {
            write!(f, "\n    reason: {}", text::plain(reason))?;
        }
        for row in &self.levels {
            write!(f, "\n    {}", text::plain(row))?;
        }
        if let Some(shown) = &self.shown {
            write!(f, "\n    of {}: {}", text::plain(shown), self.extent())?;
        }
        Ok(())
    }
}

impl fmt::Display for Headline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.verdict.is_none() {
            return write!(f, "  bench {}: no result", text::plain(&self.bench));
        }
        self.write_head(f)?;
        for figure in &self.figures {
            let Figure { name, unit, .. } = figure;
            if figure.is_rate() {
                let avg = text::optional(figure.avg);
                write!(f, "\n    {name:<24} {avg:>10} {unit}")?;
            } else {
                let (p50, (tail, which)) = (text::optional(figure.p50), figure.tail());
                write!(
                    f,
                    "\n    {name:<24} {p50:>10} {unit} (p50)  {tail:>10} {unit} ({which})"
                )?;
                if let Some(error) = figure.error {
                    write!(f, "  ±{} {unit}", text::number(error))?;
                }
            }
        }
        if self.figures.iter().any(|figure| figure.name.ends_with('*')) {
            write!(f, "\n    {FROM_INTENDED}")?;
        }
        if let Some(certified) = &self.certified {
            write!(f, "\n    {certified}")?;
        }
        Ok(())
    }
}

/// Alerts on the terminal at the most.
const SHOWN: usize = 8;

/// What the terminal shows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// The run; several ids where several were joined.
    pub run: String,
    /// How it went, in a word.
    pub outcome: &'static str,
    /// Each bench.
    pub benches: Vec<Headline>,
    /// What the monitor warned of.
    pub alerts: Vec<AlertRow>,
    /// What went wrong.
    pub problems: Vec<String>,
    /// What should be there and is not.
    pub missing: Vec<String>,
    /// From submission to the first token; empty where several runs were joined.
    pub phases: Vec<Phase>,
    /// What each run cost.
    pub cost: Vec<Cost>,
    /// Where the page is.
    pub report: PathBuf,
}

impl Summary {
    pub(super) fn of(report: &Report, page: &Path) -> Self {
        Self {
            run: report.title(),
            outcome: report.outcome().word(),
            benches: Headline::all(report),
            alerts: report.parts.iter().flat_map(AlertRow::all).collect(),
            problems: report
                .parts
                .iter()
                .flat_map(super::Part::problems)
                .collect(),
            missing: report
                .parts
                .iter()
                .flat_map(|part| part.missing.iter().cloned())
                .collect(),
            phases: match report.parts.as_slice() {
                [part] => phases::of_part(part),
                _ => Vec::new(),
            },
            cost: report.parts.iter().filter_map(Cost::of).collect(),
            report: page.to_owned(),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "run {}: {}",
            text::plain(&self.run),
            self.outcome.to_uppercase()
        )?;
        for problem in &self.problems {
            // the lines of a log that follow are in the report
            let first = problem.lines().next().unwrap_or_default();
            writeln!(f, "  problem: {}", text::plain(first))?;
        }
        for bench in &self.benches {
            writeln!(f, "{bench}")?;
        }
        for alert in self.alerts.iter().take(SHOWN) {
            writeln!(f, "  alert   {}", text::plain(&alert.to_string()))?;
        }
        if let Some(more) = self
            .alerts
            .len()
            .checked_sub(SHOWN)
            .filter(|more| *more > 0)
        {
            writeln!(f, "  {more} more alerts are in the report")?;
        }
        let phases = phases::Line(&self.phases).to_string();
        if !phases.is_empty() {
            writeln!(f, "  phases: {phases}")?;
        }
        for line in self.cost.iter().filter_map(Cost::line) {
            writeln!(f, "  cost: {}", text::plain(&line))?;
        }
        for missing in &self.missing {
            writeln!(f, "  missing {}", text::plain(missing))?;
        }
        write!(f, "report  {}", self.report.display())
    }
}
