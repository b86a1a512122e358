//! `results.csv`: the metrics as a table for spreadsheets and data frames.
//!
//! RFC 4180: fields with a comma, quote or line break are quoted, lines end in CR LF. Numbers are written whole, in the
//! shortest form that reads back as the same; what a metric does not have is an empty field. Behind the count stand the
//! ends between which each percentile lies with 95 %.

use crate::stats::results::{Metric, Results};

/// The first line.
const HEAD: &str = "metric,unit,avg,min,max,std,p50,p90,p95,p99,p99.9,p99.99,count,\
    p50_low,p50_high,p90_low,p90_high,p95_low,p95_high,p99_low,p99_high,p99.9_low,p99.9_high,p99.99_low,p99.99_high";

/// Percentiles with an interval.
const PERCENTILES: [&str; 6] = ["p50", "p90", "p95", "p99", "p99.9", "p99.99"];

/// The table, one line for each metric.
pub fn render(results: &Results) -> String {
    let mut text = format!("{HEAD}\r\n");
    for (name, metric) in &results.metrics {
        text.push_str(&line(name, metric));
        text.push_str("\r\n");
    }
    text
}

fn line(name: &str, metric: &Metric) -> String {
    let number = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
    let mut fields = vec![
        field(name),
        field(&metric.unit),
        metric.avg.to_string(),
        number(metric.min),
        number(metric.max),
        number(metric.std),
        number(metric.p50),
        number(metric.p90),
        number(metric.p95),
        number(metric.p99),
        number(metric.p999),
        number(metric.p9999),
        metric
            .count
            .map(|count| count.to_string())
            .unwrap_or_default(),
    ];
    for name in PERCENTILES {
        let ends = metric.intervals.get(name);
        fields.extend([0, 1].map(|end| number(ends.map(|ends| ends[end]))));
    }
    fields.join(",")
}

/// A field, quoted where it must be.
pub(super) fn field(text: &str) -> String {
    if text.contains([',', '"', '\r', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_a_line() {
        let metric = Metric {
            p5: None,
            unit: "ms".into(),
            avg: 1.5,
            min: Some(1.0),
            max: Some(2.0),
            std: Some(0.5),
            p50: Some(1.0),
            p90: Some(2.0),
            p95: Some(2.0),
            p99: Some(2.0),
            p999: None,
            p9999: None,
            count: Some(2),
            intervals: [
                ("p50".to_owned(), [1.0, 1.5]),
                ("p99".to_owned(), [2.0, 2.0]),
            ]
            .into(),
        };
        assert_eq!(
            line("time_to_first_token", &metric),
            "time_to_first_token,ms,1.5,1,2,0.5,1,2,2,2,,,2,1,1.5,,,,,2,2,,,,"
        );
        assert_eq!(
            HEAD.split(',').count(),
            line("x", &metric).split(',').count()
        );
    }

    #[test]
    fn a_rate_leaves_the_rest_empty_and_odd_names_are_quoted() {
        let rate = Metric {
            unit: "requests/s".into(),
            avg: 0.1,
            ..Metric::default()
        };
        assert_eq!(
            line("a,\"b\"", &rate),
            "\"a,\"\"b\"\"\",requests/s,0.1,,,,,,,,,,,,,,,,,,,,,,"
        );
    }
}
