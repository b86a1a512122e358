//! The charts of a bench over time: from the seconds of `results.json` to pictures and to the tables beside them.
//!
//! A load of an hour has 3600 seconds, more than a picture has columns: neighbours are drawn together then. Counts become
//! rates, the largest stays the largest, and a median of medians is called what it is in the caption. Pure.

use super::{
    svg::{self, Chart, Line, Panel},
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

/// The three charts of a result; none where nothing was recorded over time.
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
        .map(|(title, panels)| {
            let head = table_head(&panels);
            let rows = table_rows(&xs, &panels);
            let chart = Chart {
                title: format!("{title} over the load, second by second; the same values stand in the table below"),
                x_title: "seconds since the start of the load".to_owned(),
                x_unit: "s".to_owned(),
                xs: xs.clone(),
                panels,
                shade: Some((results.warmup_seconds, "warm-up: not measured".to_owned())),
                dots: false,
                mark: None,
            };
            Figure { title: title.to_owned(), svg: svg::draw(&chart), head, rows, note: note.clone() }
        })
        .collect()
}

fn table_head(panels: &[Panel]) -> Vec<String> {
    let lines = panels.iter().flat_map(|panel| {
        panel
            .lines
            .iter()
            .map(|line| format!("{} ({})", line.name, panel.unit))
    });
    std::iter::once("seconds".to_owned()).chain(lines).collect()
}

fn table_rows(xs: &[f64], panels: &[Panel]) -> Vec<Vec<String>> {
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
