//! The turns of conversations as rows: the context grows from one to the next, and so does what each takes.
//!
//! Pure; a number that is missing is a dash.

use super::text;
use crate::stats::results::{Conversations, Metric, Results};

/// Heads of the table.
pub const HEAD: [&str; 10] = [
    "turn",
    "requests",
    "errors",
    "TTFT p50 (ms)",
    "TTFT p99 (ms)",
    "latency p50 (ms)",
    "latency p99 (ms)",
    "prompt tokens",
    "of them cached",
    "output tokens",
];

/// A row for each turn; none where requests do not follow from each other.
pub fn rows(results: &Results) -> Vec<Vec<String>> {
    let turns = results.turns.iter();
    turns
        .map(|turn| {
            let of = |name: &str, value: fn(&Metric) -> Option<f64>| {
                text::optional(turn.metrics.get(name).and_then(value))
            };
            let mean = |metric: &Metric| Some(metric.avg);
            let p50 = |metric: &Metric| metric.p50;
            let p99 = |metric: &Metric| metric.p99;
            vec![
                turn.turn.to_string(),
                turn.requests.to_string(),
                turn.errors.to_string(),
                of("time_to_first_token", p50),
                of("time_to_first_token", p99),
                of("request_latency", p50),
                of("request_latency", p99),
                of("input_sequence_length", mean),
                of("cached_prompt_tokens", mean),
                of("output_sequence_length", mean),
            ]
        })
        .collect()
}

/// How they ended, in a sentence.
pub fn told(conversations: &Conversations) -> String {
    let Conversations {
        begun,
        completed,
        failed,
        cut_short,
    } = conversations;
    format!(
        "{begun} conversations began: {completed} came to their last turn, {failed} ended with a turn that failed, {cut_short} were cut short by the end of the load."
    )
}
