//! The charts of a bench over time: from the seconds of `results.json` to pictures and to the tables beside them.
//!
//! A load of an hour has 3600 seconds, more than a picture has columns: neighbours are drawn together then. Counts become
//! rates, the largest stays the largest, and a median of medians is called what it is in the caption. Pure.

use super::{
    svg::{self, Chart, Line, Panel, Span},
    text,
};
use crate::stats::results::{Results, Slice};

/// Columns at the most.
const COLUMNS: usize = 240;

/// A chart of the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figure {
    /// What it shows.
    pub title: String,
    /// The picture.
    pub svg: String,
    /// Heads of the table.
    pub head: Vec<String>,
    /// Its rows.
    pub rows: Vec<Vec<String>>,
    /// How the values came about, where that needs saying.
    pub note: Option<String>,
}

/// The charts of a result; none where nothing was recorded over time.
pub fn figures(results: &Results) -> Vec<Figure> {
    if results.slices.is_empty() {
        return Vec::new();
    }
    let (columns, seconds) = thin(&results.slices);
    let xs: Vec<f64> = columns.iter().map(|column| column.t).collect();
    let note = (seconds > 1.5).then(|| {
        format!(
            "Each point stands for {} s; medians are medians of the medians of each second.",
            text::number(seconds)
        )
    });
    let series = |name: &str, value: fn(&Column) -> Option<f64>| Line {
        name: name.to_owned(),
        values: columns.iter().map(value).collect(),
    };
    let panel = |unit: &str, lines: Vec<Line>| Panel {
        unit: unit.to_owned(),
        lines,
        limit: None,
    };
    let drawn = [
        (
            "Time to first token",
            vec![panel(
                "ms",
                vec![
                    series("median", |c| c.ttft_p50),
                    series("largest", |c| c.ttft_max),
                ],
            )],
        ),
        (
            "Time between tokens",
            vec![panel("ms", vec![series("mean", |c| c.itl)])],
        ),
        (
            "Throughput",
            vec![
                panel(
                    "requests/s",
                    vec![series("requests ended well", |c| Some(c.completed))],
                ),
                panel(
                    "tokens/s",
                    vec![series("output tokens", |c| Some(c.tokens))],
                ),
            ],
        ),
        (
            "In flight and errors",
            vec![
                panel("requests", vec![series("in flight", |c| Some(c.in_flight))]),
                panel("errors/s", vec![series("errors", |c| Some(c.errors))]),
            ],
        ),
    ];
    drawn
        .into_iter()
        .map(|(title, mut panels)| {
            panels.retain(|panel| results.generates() || panel.unit != "tokens/s");
            (title, panels)
        })
        .filter(|(_, panels)| has_values(panels))
        .map(|(title, panels)| {
            let head = table_head(&panels);
            let rows = table_rows(&xs, &panels);
            let chart = Chart {
                title: format!("{title} over the load, second by second; the same values stand in the table below"),
                x_title: "seconds since the start of the load".to_owned(),
                x_unit: "s".to_owned(),
                xs: xs.clone(),
                panels,
                shades: warm_up(results),
                end: Some(length(results)),
                log: false,
                dots: false,
                mark: None,
            };
            Figure { title: title.to_owned(), svg: svg::draw(&chart), head, rows, note: note.clone() }
        })
        .collect()
}

/// The warm-up, shaded.
pub(super) fn warm_up(results: &Results) -> Vec<Span> {
    vec![Span {
        from: 0.0,
        to: results.warmup_seconds,
        name: "warm-up: not measured".to_owned(),
    }]
}

/// Length of the load in seconds: where the axis of all its charts ends.
pub(super) fn length(results: &Results) -> f64 {
    let whole = results.ended_at.duration_since(results.started_at);
    let last = results.slices.last().map_or(0.0, |slice| slice.t);
    match results.series {
        // the time is of all loads, the seconds are of one
        Some(_) => last,
        None => whole.as_secs_f64().max(last),
    }
}

/// Is there anything to be seen? Charts without any would only say that this load has no such thing.
pub(super) fn has_values(panels: &[Panel]) -> bool {
    let mut lines = panels.iter().flat_map(|panel| &panel.lines);
    lines.any(|line| line.values.iter().any(Option::is_some))
}

/// Heads of the table of a chart over time.
pub(super) fn table_head(panels: &[Panel]) -> Vec<String> {
    let lines = panels.iter().flat_map(|panel| {
        panel
            .lines
            .iter()
            .map(|line| format!("{} ({})", line.name, panel.unit))
    });
    std::iter::once("seconds".to_owned()).chain(lines).collect()
}

/// Its rows.
pub(super) fn table_rows(xs: &[f64], panels: &[Panel]) -> Vec<Vec<String>> {
    let row = |(index, x): (usize, &f64)| {
        let lines = panels.iter().flat_map(|panel| &panel.lines);
        let values = lines.map(|line| text::optional(line.values.get(index).copied().flatten()));
        std::iter::once(text::number(*x)).chain(values).collect()
    };
    xs.iter().enumerate().map(row).collect()
}

/// What stands at one place of the horizontal axis.
#[derive(Debug, Clone, PartialEq)]
struct Column {
    t: f64,
    completed: f64,
    errors: f64,
    tokens: f64,
    in_flight: f64,
    ttft_p50: Option<f64>,
    ttft_max: Option<f64>,
    itl: Option<f64>,
}

/// Draws neighbours together until the columns suffice; gives the seconds of each column, too.
fn thin(slices: &[Slice]) -> (Vec<Column>, f64) {
    let together = slices.len().div_ceil(COLUMNS);
    let span = match slices {
        [first, .., last] => (last.t - first.t) / (slices.len() - 1) as f64,
        _ => 1.0,
    };
    let width = if span.is_finite() && span > 0.0 {
        span
    } else {
        1.0
    };
    let columns = slices.chunks(together).map(|chunk| {
        let seconds = width * chunk.len() as f64;
        let rate = |count: fn(&Slice) -> u64| chunk.iter().map(count).sum::<u64>() as f64 / seconds;
        let mut medians: Vec<f64> = chunk.iter().filter_map(|slice| slice.ttft_p50_ms).collect();
        medians.sort_by(f64::total_cmp);
        // weighed by the tokens of each second, as the mean of all their gaps
        let gaps = chunk
            .iter()
            .filter_map(|slice| Some((slice.itl_ms?, slice.output_tokens as f64)));
        let (sum, weight) = gaps.fold((0.0, 0.0), |(sum, weight), (ms, tokens)| {
            (sum + ms * tokens, weight + tokens)
        });
        Column {
            t: chunk[0].t,
            completed: rate(|slice| slice.completed),
            errors: rate(|slice| slice.errors),
            tokens: rate(|slice| slice.output_tokens),
            in_flight: chunk.iter().map(|slice| slice.in_flight).max().unwrap_or(0) as f64,
            ttft_p50: medians.get(medians.len() / 2).copied(),
            ttft_max: chunk
                .iter()
                .filter_map(|slice| slice.ttft_max_ms)
                .max_by(f64::total_cmp),
            itl: (weight > 0.0).then(|| sum / weight),
        }
    });
    (columns.collect(), width * together as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(t: u32) -> Slice {
        Slice {
            t: f64::from(t),
            completed: 4,
            output_tokens: 80,
            in_flight: u64::from(t % 7),
            ttft_p50_ms: (!t.is_multiple_of(5)).then_some(20.0),
            ttft_max_ms: (!t.is_multiple_of(5)).then_some(f64::from(t)),
            itl_ms: (t > 0).then_some(4.0),
            ..Slice::default()
        }
    }

    #[test]
    fn a_long_load_keeps_its_rates_and_its_largest() {
        let slices: Vec<Slice> = (0..1000).map(slice).collect();
        let (columns, seconds) = thin(&slices);
        assert_eq!((columns.len(), seconds), (200, 5.0));
        assert!(
            columns
                .iter()
                .all(|column| (column.completed - 4.0).abs() < 1e-9)
        );
        assert_eq!(columns.last().unwrap().ttft_max, Some(999.0));
        assert!(columns.iter().all(|column| column.itl == Some(4.0)));
        assert_eq!(
            text::number(columns[2].in_flight),
            "6",
            "the most of 3 4 5 6 0"
        );
    }

    #[test]
    fn a_short_load_is_shown_second_by_second() {
        let slices: Vec<Slice> = (0..20).map(slice).collect();
        let (columns, _) = thin(&slices);
        assert_eq!(columns.len(), 20);
        assert_eq!(
            columns[5].ttft_p50, None,
            "a second without a first token has none"
        );
    }
}
