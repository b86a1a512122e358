//! Latency over throughput, a point for each load.
//!
//! It is drawn over the throughput that was reached and not over the load that was asked for: where a service is full, its
//! points stand above each other, and that is what the picture is for. Invalid and interrupted loads are in the table and
//! not on the curve. Pure.

use super::{
    super::{
        chart::Figure,
        svg::{self, Chart, Limit, Line, Panel},
        text,
    },
    name,
};
use crate::stats::{
    results::Metric,
    series::{Level, Series},
};

/// What is drawn over the throughput: a metric, the limit on it, and its name.
const CURVES: [(&str, &str, &str); 3] = [
    ("ttft_ms", "time_to_first_token", "ms to the first token"),
    ("tpot_ms", "time_per_output_token", "ms per output token"),
    ("e2e_ms", "request_latency", "ms of the whole request"),
];

/// The curve of a sweep or a search; none where there are not two points.
pub fn curve(series: &Series) -> Option<Figure> {
    let of = series.of?;
    let mut points: Vec<&Level> = series
        .levels
        .iter()
        .filter(|level| level.is_usable() && level.avg("request_throughput").is_some())
        .collect();
    points.sort_by(|one, other| {
        let by_level = one.requested.partial_cmp(&other.requested);
        by_level.unwrap_or(std::cmp::Ordering::Equal)
    });
    if points.len() < 2 {
        return None;
    }
    let throughput = |level: &Level| level.avg("request_throughput").unwrap_or(0.0);
    let xs: Vec<f64> = points.iter().map(|level| throughput(level)).collect();
    let has_tokens = points
        .iter()
        .any(|level| level.latency("time_to_first_token").is_some());
    let usual = if has_tokens { "ttft_ms" } else { "e2e_ms" };
    let is_drawn = |(key, metric, _): &&(&str, &str, &str)| {
        let has = points.iter().any(|level| level.latency(metric).is_some());
        // without limits: the first token, or the whole answer where it has none
        has && (series.slo.contains_key(*key) || (series.slo.is_empty() && *key == usual))
    };
    let panel = |(key, metric, unit): &(&str, &str, &str)| {
        let line = |name: &str, of: fn(&Metric) -> Option<f64>| Line {
            name: name.to_owned(),
            values: points
                .iter()
                .map(|level| level.latency(metric).and_then(of))
                .collect(),
        };
        Panel {
            unit: (*unit).to_owned(),
            lines: vec![line("p50", |all| all.p50), line("p99", |all| all.p99)],
            limit: series.slo.get(*key).map(|value| Limit {
                at: *value,
                name: format!("limit {} ms", text::number(*value)),
            }),
        }
    };
    let panels: Vec<Panel> = CURVES.iter().filter(is_drawn).map(panel).collect();
    if panels.is_empty() {
        return None;
    }
    let knee = points
        .iter()
        .find(|level| Some(&level.folder) == series.knee.as_ref());
    let mark = knee.map(|level| Limit {
        at: throughput(level),
        name: format!("knee: {}", of.amount(level.requested.unwrap_or_default())),
    });
    let head = std::iter::once("load".to_owned())
        .chain(["requests/s".to_owned()])
        .chain(panels.iter().flat_map(|panel| {
            let unit = &panel.unit;
            panel
                .lines
                .iter()
                .map(move |line| format!("{} ({unit})", line.name))
        }))
        .collect();
    let rows = points.iter().enumerate().map(|(index, level)| {
        let lines = panels.iter().flat_map(|panel| &panel.lines);
        let values = lines.map(|line| text::optional(line.values.get(index).copied().flatten()));
        [name(level, Some(of)), text::number(throughput(level))]
            .into_iter()
            .chain(values)
            .collect()
    });
    let rows = rows.collect();
    let left_out = series.levels.len() - points.len();
    let chart = Chart {
        title: "Latency over throughput, a point for each load; the same values stand in the table below".to_owned(),
        x_title: "requests per second that were answered".to_owned(),
        x_unit: "requests/s".to_owned(),
        xs,
        panels,
        shades: Vec::new(),
        end: None,
        log: false,
        dots: true,
        mark,
    };
    Some(Figure {
        title: "Latency over throughput".to_owned(),
        svg: svg::draw(&chart),
        head,
        rows,
        note: (left_out > 0)
            .then(|| format!("Invalid and interrupted loads ({left_out}) are left out.")),
    })
}
