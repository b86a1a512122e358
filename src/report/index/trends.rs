//! How the same measurement went over time: a chart for each recipe, load, engine and model.
//!
//! Only what was measured alike is joined by a line; an invalid result is none, and has no point. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{
    super::{
        chart::Figure,
        svg::{self, Chart, Line, Panel},
        text,
    },
    Entry,
};

/// Units of the horizontal axis: name, seconds, and how long a time must be to be told in it.
const UNITS: [(&str, f64, f64); 3] = [
    ("days", 86_400.0, 172_800.0),
    ("hours", 3600.0, 7200.0),
    ("minutes", 60.0, 0.0),
];

/// What makes measurements alike.
type Alike<'a> = (&'a str, Option<&'a str>, Option<&'a str>, Option<&'a str>);

/// The charts of what was measured twice or more.
pub(super) fn trends(entries: &[Entry]) -> Vec<Figure> {
    let mut groups: BTreeMap<Alike<'_>, Vec<(&Entry, Timestamp)>> = BTreeMap::new();
    for entry in entries {
        let Some(at) = entry
            .started_at
            .filter(|_| entry.bench.is_some() && entry.verdict != "invalid")
        else {
            continue;
        };
        let alike = (
            entry.recipe.as_str(),
            entry.load.as_deref(),
            entry.engine.as_deref(),
            entry.model.as_deref(),
        );
        groups.entry(alike).or_default().push((entry, at));
    }
    groups.retain(|_, group| group.len() > 1);
    groups
        .into_iter()
        .map(|(alike, group)| trend(alike, group))
        .collect()
}

fn trend((recipe, load, engine, model): Alike<'_>, mut group: Vec<(&Entry, Timestamp)>) -> Figure {
    group.sort_by_key(|(_, at)| *at);
    let first = group.first().map_or(Timestamp::UNIX_EPOCH, |(_, at)| *at);
    let since = |at: &Timestamp| at.duration_since(first).as_secs_f64();
    let long = group.last().map_or(0.0, |(_, at)| since(at));
    let (unit, seconds, _) = UNITS
        .into_iter()
        .find(|(_, _, least)| long >= *least)
        .unwrap_or(UNITS[2]);
    let line = |name: &str, value: fn(&Entry) -> Option<f64>| Line {
        name: name.to_owned(),
        values: group.iter().map(|(entry, _)| value(entry)).collect(),
    };
    let panel = |unit: &str, lines: Vec<Line>| Panel {
        unit: unit.to_owned(),
        lines,
        limit: None,
    };
    let about: Vec<&str> = [load, engine, model].into_iter().flatten().collect();
    let title = format!("{recipe} over time");
    let chart = Chart {
        title: title.clone(),
        x_title: format!("{unit} since {}", text::stamp(first)),
        x_unit: unit.to_owned(),
        xs: group.iter().map(|(_, at)| since(at) / seconds).collect(),
        panels: vec![
            panel(
                "ms to the first token",
                vec![
                    line("p50", |one| one.ttft_p50_ms),
                    line("p99", |one| one.ttft_p99_ms),
                ],
            ),
            panel("ms between tokens", vec![line("p50", |one| one.itl_p50_ms)]),
            panel(
                "requests/s",
                vec![line("throughput", |one| one.request_throughput)],
            ),
        ],
        shades: Vec::new(),
        end: None,
        log: false,
        dots: true,
        mark: None,
    };
    let head = [
        "started",
        "run",
        "TTFT p50",
        "TTFT p99",
        "ITL p50",
        "requests/s",
    ];
    let row = |(entry, at): &(&Entry, Timestamp)| {
        let numbers = [
            entry.ttft_p50_ms,
            entry.ttft_p99_ms,
            entry.itl_p50_ms,
            entry.request_throughput,
        ];
        let words = [text::stamp(*at), entry.run.clone()];
        words
            .into_iter()
            .chain(numbers.map(text::optional))
            .collect()
    };
    Figure {
        svg: svg::draw(&chart),
        title,
        head: head.map(str::to_owned).into(),
        rows: group.iter().map(row).collect(),
        note: Some(about.join(", ")),
    }
}
