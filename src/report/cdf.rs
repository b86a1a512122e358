//! The distribution of latencies as a curve: which share of requests had to wait how long at the most.
//!
//! Percentiles tell a few points of it; the curve shows whether there are two kinds of requests, and where the tail
//! begins. It is read from `histograms.hlog` beside the result, so it is as exact as that. The axis of time is logarithmic:
//! a gap between tokens and a whole request are a thousand times apart. A file that is missing or cannot be read gives no
//! chart; nothing else can fail.

use std::{collections::BTreeMap, path::Path};

use base64::Engine as _;
use hdrhistogram::{
    Histogram,
    serialization::{
        Deserializer,
        interval_log::{IntervalLogIterator, LogEntry},
    },
};

use super::{
    chart::Figure,
    svg::{self, Chart, Line, Panel},
    text,
};
use crate::stats::order;

/// Points of the curve.
const POINTS: u32 = 120;
/// Microseconds of a millisecond.
const PER_MS: f64 = 1000.0;
/// What is drawn: of two names the first that there is, for an open loop counts from the intended time.
const DRAWN: [(&str, &[&str]); 3] = [
    (
        "time to first token",
        &["time_to_first_token_scheduled", "time_to_first_token"],
    ),
    ("time between tokens", &["inter_token_latency"]),
    (
        "request latency",
        &["request_latency_scheduled", "request_latency"],
    ),
];
/// Rows of the table, in percent.
const ROWS: [f64; 11] = [
    1.0, 5.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 100.0,
];

/// Histograms by the names of their metrics.
pub type Distributions = BTreeMap<String, Histogram<u64>>;

/// Those of a log; lines that cannot be read are left out.
pub fn read(path: &Path) -> Distributions {
    let Ok(log) = std::fs::read(path) else {
        return Distributions::new();
    };
    let entries = IntervalLogIterator::new(&log).map_while(Result::ok);
    entries
        .filter_map(|entry| {
            let LogEntry::Interval(interval) = entry else {
                return None;
            };
            let name = interval.tag()?.as_str().to_owned();
            let coded = base64::engine::general_purpose::STANDARD;
            let bytes = coded.decode(interval.encoded_histogram()).ok()?;
            Some((name, Deserializer::new().deserialize(&mut &*bytes).ok()?))
        })
        .collect()
}

/// The curves; none where nothing was observed. `open` where a request counts from the time that the schedule meant.
pub fn figure(all: &Distributions, open: bool) -> Option<Figure> {
    let named = DRAWN.iter().filter_map(|(name, keys)| {
        let keys = keys
            .iter()
            .filter(|key| open || !key.ends_with("_scheduled"));
        let found = keys.filter_map(|key| all.get(*key));
        let histogram = found.into_iter().find(|all| !all.is_empty())?;
        Some((*name, histogram))
    });
    let named: Vec<(&str, &Histogram<u64>)> = named.collect();
    // one in a hundred may lie before the picture: tokens that came together are no time apart
    let starts = named.iter().map(|(_, all)| all.value_at_quantile(0.01));
    let least = starts.min()?.max(1) as f64;
    let most = named.iter().map(|(_, all)| all.max()).max()? as f64;
    let most = most.max(least * 1.1);
    let xs: Vec<f64> = (0..=POINTS)
        .map(|at| least * (most / least).powf(f64::from(at) / f64::from(POINTS)))
        .collect();
    let line = |(name, all): &(&str, &Histogram<u64>)| Line {
        name: (*name).to_owned(),
        values: xs.iter().map(|x| Some(share_below(all, *x))).collect(),
    };
    let chart = Chart {
        title: "Share of all that was at most so long; percentiles stand in the table below"
            .to_owned(),
        x_title: "milliseconds, logarithmic".to_owned(),
        x_unit: "ms".to_owned(),
        xs: xs.iter().map(|x| x / PER_MS).collect(),
        panels: vec![Panel {
            unit: "%".to_owned(),
            lines: named.iter().map(line).collect(),
            limit: None,
        }],
        shades: Vec::new(),
        end: None,
        log: true,
        dots: false,
        mark: None,
    };
    let head = std::iter::once("percent".to_owned())
        .chain(named.iter().map(|(name, _)| format!("{name} (ms)")));
    let row = |percent: &f64| {
        let value = |(_, all): &(&str, &Histogram<u64>)| text::optional(value_at(all, *percent));
        std::iter::once(text::number(*percent))
            .chain(named.iter().map(value))
            .collect()
    };
    Some(Figure {
        title: "Distribution of latencies".to_owned(),
        svg: svg::draw(&chart),
        head: head.collect(),
        rows: ROWS.iter().map(row).collect(),
        note: None,
    })
}

/// Share in percent of what is not above this value in microseconds.
fn share_below(all: &Histogram<u64>, value: f64) -> f64 {
    if value < all.min() as f64 {
        return 0.0;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the cast saturates, and values are above 0"
    )]
    let value = value.round() as u64;
    all.percentile_below(value)
}

/// A percentile in ms; `None` where the count does not bear it. The last is the largest.
fn value_at(all: &Histogram<u64>, percent: f64) -> Option<f64> {
    let value = if percent >= 100.0 {
        all.max()
    } else {
        order::interval(all.len(), percent / 100.0)?;
        all.value_at_quantile(percent / 100.0)
    };
    Some(value as f64 / PER_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(values: impl Iterator<Item = u64>) -> Histogram<u64> {
        let mut all = Histogram::new(3).unwrap();
        values.for_each(|value| all.record(value).unwrap());
        all
    }

    #[test]
    fn shares_and_percentiles_are_those_of_the_observations() {
        let all = histogram((1..=1000).map(|ms| ms * 1000));
        assert!(share_below(&all, 500.0) < 1e-9);
        for (ms, share) in [(100.0, 10.0), (500.0, 50.0), (990.0, 99.0), (2000.0, 100.0)] {
            let found = share_below(&all, ms * 1000.0);
            assert!((found - share).abs() < 0.2, "{ms} ms: {found} %");
        }
        assert!((value_at(&all, 50.0).unwrap() - 500.0).abs() < 1.0);
        assert_eq!(value_at(&all, 99.99), None, "a thousand do not bear it");
        assert!((value_at(&all, 100.0).unwrap() - 1000.0).abs() < 1.0);
    }

    #[test]
    fn an_open_loop_is_drawn_from_the_intended_time() {
        let all = Distributions::from([
            (
                "time_to_first_token".to_owned(),
                histogram((1..=200).map(|ms| ms * 1000)),
            ),
            (
                "time_to_first_token_scheduled".to_owned(),
                histogram((1..=200).map(|ms| ms * 9000)),
            ),
        ]);
        let median = |open| {
            let figure = figure(&all, open).unwrap();
            assert!(figure.svg.contains("role=\"img\""));
            assert_eq!(figure.head, ["percent", "time to first token (ms)"]);
            let row = figure.rows.into_iter().find(|row| row[0] == "50");
            row.unwrap()[1].parse::<f64>().unwrap()
        };
        assert!((median(false) - 100.0).abs() < 1.0);
        assert!((median(true) - 900.0).abs() < 9.0);
        assert_eq!(figure(&Distributions::new(), true), None);
    }
}
