//! Series as files: JSON for programs, CSV for spreadsheets and data frames, `OpenMetrics` for another Prometheus.
//!
//! `OpenMetrics` with a time at each value is what `promtool tsdb create-blocks-from openmetrics` reads. Series hold no
//! types, so every metric is of the type `unknown`; a series without a name, as most expressions give, is `value`.
//!
//! JSON keeps series together: labels once, points as `[seconds, value]`. CSV has one row per point with a column for
//! every label that occurs, so rows of different metrics fit into one table. A value that is no number is written as
//! Prometheus writes it (`NaN`, `+Inf`, `-Inf`): JSON knows no such number, and a null would hide which it was.

use std::{collections::BTreeSet, fmt::Write as _, path::Path};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{query::Series, renamed::NAME};

/// The form of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One object with all series.
    Json,
    /// One row per point.
    Csv,
    /// The text format of `OpenMetrics`, with times.
    #[value(name = "openmetrics")]
    OpenMetrics,
}

impl Format {
    /// The form that a file of this name has; `None` where its end says nothing.
    pub fn of_file(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "json" => Some(Self::Json),
            "csv" => Some(Self::Csv),
            "om" | "prom" | "openmetrics" => Some(Self::OpenMetrics),
            _ => None,
        }
    }
}

/// The name of a series that has none.
const NAMELESS: &str = "value";

/// Writes series in this form, with a final newline.
pub fn render(format: Format, query: &str, series: &[Series]) -> String {
    match format {
        Format::Json => to_json(query, series),
        Format::Csv => to_csv(series),
        Format::OpenMetrics => to_openmetrics(series),
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

fn to_openmetrics(series: &[Series]) -> String {
    let name = |series: &Series| {
        let name = series.labels.get(NAME);
        name.map_or(NAMELESS, String::as_str).to_owned()
    };
    let mut ordered: Vec<(String, &Series)> = series.iter().map(|s| (name(s), s)).collect();
    // all series of a metric stand together
    ordered.sort_by(|a, b| (&a.0, &a.1.labels).cmp(&(&b.0, &b.1.labels)));
    let mut text = String::new();
    let mut last = None;
    for (name, series) in &ordered {
        if last != Some(name) {
            let _ = writeln!(text, "# TYPE {name} unknown");
            last = Some(name);
        }
        let labels: Vec<String> = series
            .labels
            .iter()
            .filter(|(label, _)| *label != NAME)
            .map(|(label, value)| format!("{label}=\"{}\"", escaped(value)))
            .collect();
        let labels = if labels.is_empty() {
            String::new()
        } else {
            format!("{{{}}}", labels.join(","))
        };
        for point in &series.points {
            // a time is of milliseconds; more digits would be a float's noise
            let _ = writeln!(
                text,
                "{name}{labels} {} {:.3}",
                text_of(point.value),
                point.time
            );
        }
    }
    text.push_str("# EOF\n");
    text
}

/// A label's value as it stands between quotes.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

fn to_csv(series: &[Series]) -> String {
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
    fn openmetrics_keep_the_series_of_a_metric_together_with_their_times() {
        let mut all = series();
        all.push(Series {
            labels: [("job".to_owned(), "c\\d\n".to_owned())].into(),
            ..all[0].clone()
        });
        insta::assert_snapshot!(render(Format::OpenMetrics, "q", &all), @r#"
        # TYPE up unknown
        up{job="a,b"} 1 1.000
        up{job="a,b"} 0 2.500
        # TYPE value unknown
        value{job="c\\d\n"} 1 1.000
        value{job="c\\d\n"} 0 2.500
        # TYPE x unknown
        x{le="say \"5\""} +Inf 1.000
        x{le="say \"5\""} NaN 2.000
        # EOF
        "#);
        assert_eq!(render(Format::OpenMetrics, "q", &[]), "# EOF\n");
    }

    #[test]
    fn the_name_of_the_file_tells_the_form() {
        let form = |name: &str| Format::of_file(Path::new(name));
        assert_eq!(form("a/b.csv"), Some(Format::Csv));
        assert_eq!(form("b.om"), Some(Format::OpenMetrics));
        assert_eq!(form("b"), None);
    }

    #[test]
    fn no_series_is_a_header_only() {
        assert_eq!(render(Format::Csv, "q", &[]), "time,metric,value\n");
    }
}
