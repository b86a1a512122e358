//! What Prometheus saw of a run, drawn over time: load, engine and node.
//!
//! They come from `metrics/series.json`, which the monitor keeps, or from a Prometheus that still runs. Twice they are of
//! use: beside the charts of a bench, on its axis and cut to its time, where one sees what the engine did to make a latency
//! what it was; and over the whole run, where start, pauses and the loads of a series show. Clocks of the monitor's node and
//! of the bench's node are taken to be the same. A run without the file has no such charts, which is said. Pure but for
//! reading the file.

use jiff::Timestamp;

use super::{
    chart::{self, Figure},
    gather::{Bench, Part},
    svg::{self, Chart, Line, Panel, Span},
    text,
};
use crate::{
    files,
    prometheus::{
        charts::Group,
        timeline::{FILE, Shown, Timeline},
    },
    run::RunDir,
    stats::results::Results,
};

/// What the monitor kept; `None` where there is no file. One that cannot be read is missing.
pub(super) fn read(run: &RunDir, missing: &mut Vec<String>) -> Option<Timeline> {
    let path = run.metrics().join(FILE);
    if !path.exists() {
        return None;
    }
    match files::read_json(&path) {
        Ok(timeline) => Some(timeline),
        Err(error) => {
            missing.push(format!("metrics/{FILE}: cannot be read: {}", error.source));
            None
        }
    }
}

/// An axis of time.
struct Axis {
    origin: Timestamp,
    end: f64,
    title: &'static str,
    shades: Vec<Span>,
}

/// Engine and node on the axis of a bench's charts; none of a series, whose charts are of one load of many.
pub(super) fn of_bench(timeline: &Timeline, results: &Results) -> Vec<Figure> {
    if results.series.is_some() {
        return Vec::new();
    }
    let axis = Axis {
        origin: results.started_at,
        end: chart::length(results),
        title: "seconds since the start of the load",
        shades: chart::warm_up(results),
    };
    let charts = timeline.charts.iter();
    charts
        .filter(|shown| shown.group != Group::Load)
        .filter_map(|shown| figure(timeline, shown, &axis))
        .collect()
}

/// All of it, with the times of the loads.
pub(super) fn of_run(timeline: &Timeline, part: &Part) -> Vec<Figure> {
    let began = part.manifest.as_ref().map(|manifest| manifest.started_at);
    let origin = began.map_or(timeline.start, |began| began.min(timeline.start));
    let last = timeline.len().saturating_sub(1);
    let since = |at: Timestamp| at.duration_since(origin).as_secs_f64();
    let load = |bench: &Bench| {
        let results = bench.results.as_ref()?;
        Some(Span {
            from: since(results.started_at),
            to: since(results.ended_at),
            name: format!("load of bench {}", bench.name),
        })
    };
    let axis = Axis {
        origin,
        end: timeline.at(last, origin),
        title: "seconds since the start of the run; grey: the loads of benches",
        shades: part.benches.iter().filter_map(load).collect(),
    };
    let charts = timeline.charts.iter();
    charts
        .filter_map(|shown| figure(timeline, shown, &axis))
        .collect()
}

/// Heads of the table of a run in short.
pub const HEAD: [&str; 5] = ["what", "line", "mean", "largest", "unit"];

/// Each line of engine and node in short: over the whole run, pauses and all.
pub fn rows(timeline: &Timeline) -> Vec<Vec<String>> {
    let charts = timeline.charts.iter();
    let charts = charts.filter(|shown| shown.group != Group::Load);
    let lines = charts.flat_map(|shown| {
        let panels = shown.panels.iter();
        panels.flat_map(move |panel| panel.lines.iter().map(move |line| (shown, panel, line)))
    });
    lines
        .filter_map(|(shown, panel, line)| {
            let values: Vec<f64> = line.values.iter().copied().flatten().collect();
            let largest = values.iter().copied().reduce(f64::max)?;
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let [mean, largest] = [mean, largest].map(text::number);
            Some(vec![
                shown.title.clone(),
                line.name.clone(),
                mean,
                largest,
                panel.unit.clone(),
            ])
        })
        .collect()
}

/// A chart on an axis; `None` where it has no value there.
fn figure(timeline: &Timeline, shown: &Shown, axis: &Axis) -> Option<Figure> {
    let places: Vec<usize> = (0..timeline.len())
        .filter(|place| (0.0..=axis.end).contains(&timeline.at(*place, axis.origin)))
        .collect();
    let xs: Vec<f64> = places
        .iter()
        .map(|place| timeline.at(*place, axis.origin))
        .collect();
    let panels: Vec<Panel> = shown
        .panels
        .iter()
        .map(|panel| Panel {
            unit: panel.unit.clone(),
            lines: panel
                .lines
                .iter()
                .map(|line| Line {
                    name: line.name.clone(),
                    values: places
                        .iter()
                        .map(|place| line.values.get(*place).copied().flatten())
                        .collect(),
                })
                .collect(),
            limit: None,
        })
        .collect();
    if !chart::has_values(&panels) {
        return None;
    }
    let more = shown.panels.iter().filter(|panel| panel.more > 0);
    let more: Vec<String> = more
        .map(|panel| format!("{} of {}", panel.more, panel.unit))
        .collect();
    let head = chart::table_head(&panels);
    let rows = chart::table_rows(&xs, &panels);
    let drawn = Chart {
        title: format!(
            "{} over time, by Prometheus; the same values stand in the table below",
            shown.title
        ),
        x_title: axis.title.to_owned(),
        x_unit: "s".to_owned(),
        xs,
        panels,
        shades: axis.shades.clone(),
        end: Some(axis.end),
        log: false,
        dots: false,
        mark: None,
    };
    Some(Figure {
        title: shown.title.clone(),
        svg: svg::draw(&drawn),
        head,
        rows,
        note: (!more.is_empty()).then(|| {
            let more = more.join(", ");
            format!("Lines left out, for there is no room for all: {more}. The archive has them.")
        }),
    })
}
