//! Series as files: JSON for programs, CSV for spreadsheets and data frames.
//!
//! JSON keeps series together: labels once, points as `[seconds, value]`. CSV has one row per point with a column for
//! every label that occurs, so rows of different metrics fit into one table. A value that is no number is written as
//! Prometheus writes it (`NaN`, `+Inf`, `-Inf`): JSON knows no such number, and a null would hide which it was.

use std::{collections::BTreeSet, fmt::Write as _};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::query::Series;

/// The form of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One object with all series.
    Json,
    /// One row per point.
    Csv,
}

/// Writes series in this form, with a final newline.
pub fn render(format: Format, query: &str, series: &[Series]) -> String {
    match format {
        Format::Json => to_json(query, series),
        Format::Csv => to_csv(series),
    }
}

fn to_json(query: &str, series: &[Series]) -> String {
    let series: Vec<Value> = series
        .iter()
        .map(|series| {
            let points: Vec<Value> = series
                .points
                .iter()
                .map(|point| json!([point.time, number(point.value)]))
                .collect();
            json!({"labels": series.labels, "points": points})
        })
        .collect();
    let mut text = json!({"schema": 1, "query": query, "series": series}).to_string();
    text.push('\n');
    text
}

fn number(value: f64) -> Value {
    if value.is_finite() {
        json!(value)
    } else {
        json!(text_of(value))
    }
}

fn text_of(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        value.to_string()
    }
}

fn to_csv(series: &[Series]) -> String {
    const NAME: &str = "__name__";
    let labels: BTreeSet<&str> = series
        .iter()
        .flat_map(|series| series.labels.keys())
        .map(String::as_str)
        .filter(|name| *name != NAME)
        .collect();
    let mut text = String::from("time,metric,value");
    for label in &labels {
        let _ = write!(text, ",{}", field(label));
    }
    text.push('\n');
    for series in series {
        let label = |name: &str| series.labels.get(name).map_or("", String::as_str);
        for point in &series.points {
            let _ = write!(
                text,
                "{},{},{}",
                time(point.time),
                field(label(NAME)),
                text_of(point.value)
            );
            for name in &labels {
                let _ = write!(text, ",{}", field(label(name)));
            }
            text.push('\n');
        }
    }
    text
}

/// A time in RFC 3339 with milliseconds, which is what Prometheus keeps.
fn time(seconds: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "milliseconds of any date fit, and the cast saturates"
    )]
    let milliseconds = (seconds * 1000.0).round() as i64;
    Timestamp::from_millisecond(milliseconds).map_or_else(
        |_| seconds.to_string(),
        |stamp| stamp.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string(),
    )
}

/// A field of CSV, quoted where it must be.
fn field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prometheus::query::Point;

    fn series() -> Vec<Series> {
        let of = |pairs: &[(&str, &str)], points: &[(f64, f64)]| Series {
            labels: pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            points: points
                .iter()
                .map(|(time, value)| Point {
                    time: *time,
                    value: *value,
                })
                .collect(),
        };
        vec![
            of(
                &[("__name__", "up"), ("job", "a,b")],
                &[(1.0, 1.0), (2.5, 0.0)],
            ),
            of(
                &[("__name__", "x"), ("le", "say \"5\"")],
                &[(1.0, f64::INFINITY), (2.0, f64::NAN)],
            ),
        ]
    }

    #[test]
    fn rows_of_different_metrics_share_a_table() {
        insta::assert_snapshot!(render(Format::Csv, "q", &series()), @r#"
        time,metric,value,job,le
        1970-01-01T00:00:01.000Z,up,1,"a,b",
        1970-01-01T00:00:02.500Z,up,0,"a,b",
        1970-01-01T00:00:01.000Z,x,+Inf,,"say ""5"""
        1970-01-01T00:00:02.000Z,x,NaN,,"say ""5"""
        "#);
    }

    #[test]
    fn json_keeps_series_together() {
        insta::assert_snapshot!(render(Format::Json, "q", &series()), @r#"{"schema":1,"query":"q","series":[{"labels":{"__name__":"up","job":"a,b"},"points":[[1.0,1.0],[2.5,0.0]]},{"labels":{"__name__":"x","le":"say \"5\""},"points":[[1.0,"+Inf"],[2.0,"NaN"]]}]}"#);
    }

    #[test]
    fn no_series_is_a_header_only() {
        assert_eq!(render(Format::Csv, "q", &[]), "time,metric,value\n");
    }
}
