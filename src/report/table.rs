//! The table of a bench at its end, for a terminal: rows of metrics, no colour, 100 columns at the most.
//!
//! A recipe's `output.metrics` chooses what is shown: metrics by their names or the short ones of other tools (`ttft`,
//! `e2el`), `latency` and `throughput` for all of a kind, and percentiles as columns. What was not measured has no row,
//! and what the count does not bear is a dash; all is in the files, whatever is shown. Pure; nothing can fail.

use std::fmt;

use super::{
    certified,
    summary::{FROM_INTENDED, Headline},
    text,
};
use crate::stats::{
    beside::Beside,
    results::{Metric, Results},
};

/// Width of a row's name: that of the longest.
const NAME: usize = 43;
/// Width of a number.
const NUMBER: usize = 9;
/// Width of a measuring error, where there is one.
const ERROR: usize = 8;
/// Columns of numbers that fit.
const COLUMNS: usize = 5;

/// What is shown where nothing is chosen, in this order.
const USUAL: [&str; 13] = [
    "time_to_first_token_scheduled",
    "time_to_first_token",
    "time_to_first_output_token",
    "time_to_first_byte",
    "inter_token_latency",
    "time_per_output_token",
    "request_latency_scheduled",
    "request_latency",
    "recall",
    "insert_latency",
    "input_sequence_length",
    "cached_prompt_tokens",
    "output_sequence_length",
];

/// Rates and shares, which have one number.
const RATES: [&str; 8] = [
    "request_throughput",
    "insert_throughput",
    "output_token_throughput",
    "total_token_throughput",
    "output_token_throughput_per_user",
    "goodput",
    "slo_attainment",
    "prompt_cache_hit_ratio",
];

/// Names of other tools.
const ALIASES: [(&str, &str); 23] = [
    ("ttft", "time_to_first_token"),
    ("ttft_ms", "time_to_first_token"),
    ("ttft_sched", "time_to_first_token_scheduled"),
    ("ttfo", "time_to_first_output_token"),
    ("ttfb", "time_to_first_byte"),
    ("ttst", "time_to_second_token"),
    ("tpot", "time_per_output_token"),
    ("tpot_ms", "time_per_output_token"),
    ("itl", "inter_token_latency"),
    ("icl", "inter_chunk_latency"),
    ("ntpot", "normalized_time_per_output_token"),
    ("e2e", "request_latency"),
    ("e2el", "request_latency"),
    ("e2e_ms", "request_latency"),
    ("e2el_sched", "request_latency_scheduled"),
    ("effective_latency", "request_latency_scheduled"),
    ("schedule_delay", "dispatch_delay"),
    ("client_queue_time", "dispatch_delay"),
    ("connect_time", "http_req_connecting"),
    ("isl", "input_sequence_length"),
    ("prompt_tokens", "input_sequence_length"),
    ("osl", "output_sequence_length"),
    ("output_throughput", "output_token_throughput"),
];

/// The metric that a word means: its name, or another tool's.
pub fn metric_named(word: &str) -> &str {
    let alias = ALIASES.iter().find(|(alias, _)| *alias == word);
    alias.map_or(word, |(_, key)| key)
}

/// A column: its name, and how it is read.
type Column = (&'static str, fn(&Metric) -> Option<f64>);

const EVERY_COLUMN: [Column; 11] = [
    ("mean", |metric| Some(metric.avg)),
    ("std", |metric| metric.std),
    ("min", |metric| metric.min),
    ("p5", |metric| metric.p5),
    ("p50", |metric| metric.p50),
    ("p90", |metric| metric.p90),
    ("p95", |metric| metric.p95),
    ("p99", |metric| metric.p99),
    ("p99.9", |metric| metric.p999),
    ("p99.99", |metric| metric.p9999),
    ("max", |metric| metric.max),
];

/// Columns where none is chosen.
const USUAL_COLUMNS: [&str; 5] = ["mean", "p50", "p90", "p99", "max"];

/// The end of a bench.
#[derive(Debug)]
pub struct Table<'a> {
    headline: Headline,
    results: &'a Results,
    rows: Vec<&'a str>,
    columns: Vec<Column>,
}

impl<'a> Table<'a> {
    /// Of a result, with what the recipe wants to see.
    pub fn of(run: &str, bench: &str, results: &'a Results, wanted: &'a [String]) -> Self {
        Self {
            headline: Headline::of(run, bench, Some(results)),
            results,
            rows: rows(results, wanted),
            columns: columns(wanted),
        }
    }

    fn row(&self, f: &mut fmt::Formatter<'_>, key: &str, metric: &Metric) -> fmt::Result {
        let plain = key.strip_suffix("_scheduled");
        let star = if plain.is_some() { " *" } else { "" };
        let name = text::plain(&plain.unwrap_or(key).replace('_', " "));
        let unit = text::plain(&metric.unit);
        write!(f, "\n    {:<NAME$}", format!("{name} ({unit}){star}"))?;
        if metric.count.is_none() {
            return write!(f, "{:>NUMBER$}", text::number(metric.avg));
        }
        for (_, read) in &self.columns {
            write!(f, "{:>NUMBER$}", text::optional(read(metric)))?;
        }
        match certified::error_of(self.results, key) {
            Some(error) => write!(f, "{:>ERROR$}", format!("±{}", text::number(error))),
            None => Ok(()),
        }
    }

    fn turns(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(ends) = &self.results.conversations else {
            return Ok(());
        };
        write!(
            f,
            "\n    {} conversations: {} came to their end, {} failed, {} cut short by the end of the load",
            ends.begun, ends.completed, ends.failed, ends.cut_short
        )?;
        let heads = [
            "turn", "requests", "errors", "TTFT p50", "p99", "E2EL p50", "input", "cached",
            "output",
        ];
        write!(f, "\n    ")?;
        for head in heads {
            write!(f, "{head:>10}")?;
        }
        for turn in &self.results.turns {
            let metric = |name: &str| turn.metrics.get(name);
            let mean = |name: &str| metric(name).map(|metric| metric.avg);
            let first = metric("time_to_first_token");
            let numbers = [
                first.and_then(|metric| metric.p50),
                first.and_then(|metric| metric.p99),
                metric("request_latency").and_then(|metric| metric.p50),
                mean("input_sequence_length"),
                mean("cached_prompt_tokens"),
                mean("output_sequence_length"),
            ];
            write!(
                f,
                "\n    {:>10}{:>10}{:>10}",
                turn.turn, turn.requests, turn.errors
            )?;
            for number in numbers {
                write!(f, "{:>10}", text::optional(number))?;
            }
        }
        Ok(())
    }
}

/// The metrics that are shown.
fn rows<'a>(results: &'a Results, wanted: &'a [String]) -> Vec<&'a str> {
    let open = results.load["pattern"] == "open-loop";
    let usual = || {
        USUAL
            .into_iter()
            .filter(move |key| open || !key.ends_with("_scheduled"))
    };
    let latencies = || usual().filter(|key| key.contains("time") || key.contains("latency"));
    let mut rows: Vec<&str> = Vec::new();
    for word in wanted {
        match word.as_str() {
            "latency" => rows.extend(latencies()),
            "throughput" => rows.extend(RATES),
            word => {
                rows.push(metric_named(word));
            }
        }
    }
    let measured = |key: &&str| results.metrics.contains_key(*key);
    rows.retain(measured);
    if rows.is_empty() {
        rows = usual().chain(RATES).filter(measured).collect();
    }
    let mut seen = std::collections::HashSet::new();
    rows.retain(|key| seen.insert(*key));
    rows
}

/// The columns that are shown: the mean, and what is chosen.
fn columns(wanted: &[String]) -> Vec<Column> {
    let column = |name: &str| EVERY_COLUMN.into_iter().find(|(known, _)| *known == name);
    let mut chosen: Vec<Column> = wanted.iter().filter_map(|name| column(name)).collect();
    if chosen.is_empty() {
        chosen = USUAL_COLUMNS.into_iter().filter_map(column).collect();
    } else if !chosen.iter().any(|(name, _)| *name == "mean") {
        chosen.insert(0, EVERY_COLUMN[0]);
    }
    chosen.truncate(COLUMNS);
    chosen
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.headline.write_head(f)?;
        for (class, count) in &self.results.errors_by_class {
            write!(f, "\n    errors {}: {count}", text::plain(class))?;
        }
        write!(f, "\n    {:<NAME$}", "")?;
        for (name, _) in &self.columns {
            write!(f, "{name:>NUMBER$}")?;
        }
        if self.headline.certified.is_some() {
            write!(f, "{:>ERROR$}", "error")?;
        }
        for key in &self.rows {
            if let Some(metric) = self.results.metrics.get(*key) {
                self.row(f, key, metric)?;
            }
        }
        if self.rows.iter().any(|key| key.ends_with("_scheduled")) {
            write!(f, "\n    {FROM_INTENDED}")?;
        }
        if let Some(certified) = &self.headline.certified {
            write!(f, "\n    {certified}")?;
        }
        for (name, pair) in self.results.engine_times.iter().flat_map(Beside::named) {
            write!(
                f,
                "\n    {name} of the whole load, mean: {} ms, by the engine's own clock {} ms ({}{} ms)",
                text::number(pair.client_ms),
                text::number(pair.engine_ms),
                if pair.difference_ms < 0.0 { "-" } else { "+" },
                text::number(pair.difference_ms.abs())
            )?;
        }
        self.turns(f)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn results(pattern: &str) -> Results {
        let metric = |p50: f64, p99: Option<f64>| {
            json!({"unit": "ms", "avg": p50 * 1.1, "min": p50 / 2.0, "max": p50 * 4.0, "std": 1.0, "p50": p50,
                "p90": p50 * 1.5, "p95": p50 * 2.0, "p99": p99, "count": 310})
        };
        let turn = |turn: u32| {
            json!({"turn": turn, "requests": 155, "errors": 0, "metrics": {
                "time_to_first_token": metric(31.24, None), "request_latency": metric(250.0, None),
                "input_sequence_length": {"unit": "tokens", "avg": 64.0 * f64::from(turn), "count": 155},
                "cached_prompt_tokens": {"unit": "tokens", "avg": 63.0 * f64::from(turn - 1), "count": 155}}})
        };
        serde_json::from_value(json!({
            "total_requests": 311, "successes": 310, "errors": 1, "avg_latency_ms": 0.0, "min_latency_ms": 0.0,
            "max_latency_ms": 0.0, "throughput_req_per_sec": 10.3, "schema": 1, "name": "smoke", "service_name": "s",
            "completeness": "complete", "started_at": "2026-01-02T03:04:05Z", "ended_at": "2026-01-02T03:05:06Z",
            "duration_seconds": 30.0, "warmup_seconds": 0.0, "target": {}, "load": {"pattern": pattern}, "workload": {},
            "errors_by_class": {"timeout": 1}, "validity": {"verdict": "valid", "reasons": []}, "stimulus_sha256": "",
            "metrics": {
                "time_to_first_token": metric(31.24, None), "time_to_first_token_scheduled": metric(32.5, None),
                "request_latency": metric(250.0, Some(1_234_567.0)), "time_per_output_token": metric(4.5, None),
                "output_token_throughput_per_user": {"unit": "tokens/s", "avg": 222.2, "p50": 221.0, "max": 300.1, "count": 310},
                "request_throughput": {"unit": "requests/s", "avg": 10.333},
                "output_token_throughput": {"unit": "tokens/s", "avg": 206.7},
            },
            "conversations": {"begun": 155, "completed": 154, "failed": 1, "cut_short": 0},
            "turns": [turn(1), turn(2)],
        }))
        .expect("results")
    }

    fn shown(pattern: &str, wanted: &[&str]) -> String {
        let wanted: Vec<String> = wanted.iter().map(|word| (*word).to_owned()).collect();
        let text = Table::of("r", "smoke", &results(pattern), &wanted).to_string();
        for line in text.lines() {
            assert!(line.chars().count() <= 100, "{line}");
        }
        text
    }

    #[test]
    fn an_open_loop_with_its_turns() {
        insta::assert_snapshot!(shown("open-loop", &[]), @r#"
          bench smoke: valid; 311 requests in 30.0 s, 1 error
            errors timeout: 1
                                                            mean      p50      p90      p99      max
            time to first token (ms) *                     35.75     32.5    48.75        –      130
            time to first token (ms)                       34.36    31.24    46.86        –      125
            time per output token (ms)                      4.95      4.5     6.75        –       18
            request latency (ms)                             275      250      375  1234567     1000
            request throughput (requests/s)                10.33
            output token throughput (tokens/s)             206.7
            output token throughput per user (tokens/s)    222.2      221        –        –    300.1
            * from the time at which the schedule meant the request to be sent
            155 conversations: 154 came to their end, 1 failed, 0 cut short by the end of the load
                  turn  requests    errors  TTFT p50       p99  E2EL p50     input    cached    output
                     1       155         0     31.24         –       250        64         0         –
                     2       155         0     31.24         –       250       128        63         –
        "#);
    }

    #[test]
    fn errors_stand_beside_what_they_are_of_within_100_columns() {
        let mut results = results("open-loop");
        results.certificate = serde_json::from_value(json!({
            "requests": 1200, "cores_shared": true, "errors": {
                "time_to_first_token": {"unit": "ms", "avg": 0.1, "p50": 0.1, "p99": 1234.5, "count": 1200},
                "time_per_output_token": {"unit": "ms", "avg": 0.01, "max": 0.021, "count": 300}}
        }))
        .expect("a certificate");
        let text = Table::of("r", "smoke", &results, &[]).to_string();
        assert!(
            text.lines().all(|line| line.chars().count() <= 100),
            "{text}"
        );
        let text: Vec<&str> = text
            .lines()
            .skip(2)
            .take(5)
            .chain(text.lines().filter(|line| line.contains("by 1200")))
            .collect();
        insta::assert_snapshot!(text.join("\n"), @r#"
                                                            mean      p50      p90      p99      max   error
            time to first token (ms) *                     35.75     32.5    48.75        –      130   ±1234
            time to first token (ms)                       34.36    31.24    46.86        –      125   ±1234
            time per output token (ms)                      4.95      4.5     6.75        –       18  ±0.021
            request latency (ms)                             275      250      375  1234567     1000
            ± p99 (or largest) error, by 1200 requests to an engine of known times on the generator's CPUs
        "#);
    }

    #[test]
    fn what_the_engine_measured_stands_below() {
        let mut results = results("closed-loop");
        results.engine_times = serde_json::from_value(json!({
            "time_to_first_token": {"client_ms": 31.24, "engine_ms": 30.11, "difference_ms": 1.13},
            "inter_token_latency": {"client_ms": 1_234_567.0, "engine_ms": 2_345_678.0, "difference_ms": -1_111_111.0}}))
        .expect("times");
        let text = Table::of("r", "smoke", &results, &[]).to_string();
        let lines: Vec<&str> = text
            .lines()
            .filter(|line| line.contains("engine's"))
            .collect();
        assert!(lines.iter().all(|line| line.chars().count() <= 100));
        insta::assert_snapshot!(lines.join("\n"), @"
            TTFT of the whole load, mean: 31.24 ms, by the engine's own clock 30.11 ms (+1.13 ms)
            ITL of the whole load, mean: 1234567 ms, by the engine's own clock 2345678 ms (-1111111 ms)
        ");
    }

    #[test]
    fn a_recipe_chooses_rows_and_columns() {
        let text = shown(
            "closed-loop",
            &["ttft", "throughput", "errors", "p95", "p99", "x"],
        );
        insta::assert_snapshot!(text, @r#"
          bench smoke: valid; 311 requests in 30.0 s, 1 error
            errors timeout: 1
                                                            mean      p95      p99
            time to first token (ms)                       34.36    62.48        –
            request throughput (requests/s)                10.33
            output token throughput (tokens/s)             206.7
            output token throughput per user (tokens/s)    222.2        –        –
            155 conversations: 154 came to their end, 1 failed, 0 cut short by the end of the load
                  turn  requests    errors  TTFT p50       p99  E2EL p50     input    cached    output
                     1       155         0     31.24         –       250        64         0         –
                     2       155         0     31.24         –       250       128        63         –
        "#);
        assert_eq!(
            shown("closed-loop", &["success_rate"]),
            shown("closed-loop", &[]),
            "what is no row leaves the usual ones"
        );
    }
}
