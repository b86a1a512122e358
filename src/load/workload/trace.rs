//! A trace to replay: one request a line, in the form that Mooncake published.
//!
//! `timestamp` counts in milliseconds from the start of the load, `input_length` and `output_length` in tokens. Nothing
//! is rescaled: a trace that is too fast for a service is what its users did. `hash_ids` name the blocks of 512 tokens
//! that a prompt is made of: requests that name the same blocks share them word for word, as they shared them in the
//! world, so a prefix cache finds what it would have found. Other keys are ignored, every trace adds its own.
//!
//! Pure. What can fail is told by the line: no JSON, a key that is missing or no number, times that go back.

use std::time::Duration;

use serde::Deserialize;

use super::material::{LineFault, lines_of};
use crate::recipe::client::MOST_TOKENS;

/// Tokens that a hash of a block stands for.
pub const BLOCK: u32 = 512;

/// Ten days: times beyond are dates, not times since a start.
const LATEST_MS: f64 = 864_000_000.0;

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// When, since the start of the load.
    pub at: Duration,
    /// Tokens of its prompt.
    pub input: u32,
    /// Tokens of its answer.
    pub output: u32,
    /// The blocks of its prompt; none where the trace does not tell.
    pub blocks: Vec<u64>,
}

#[derive(Deserialize)]
struct Line {
    timestamp: f64,
    input_length: u64,
    output_length: u64,
    #[serde(default)]
    hash_ids: Vec<u64>,
}

/// Reads a trace, or tells every fault of it.
pub fn parse(text: &str) -> Result<Vec<Row>, Vec<LineFault>> {
    let mut last = 0.0;
    lines_of(text, |line: Line| {
        let row = row(&line, last)?;
        last = line.timestamp;
        Ok(row)
    })
}

fn row(line: &Line, last: f64) -> Result<Row, String> {
    let at = line.timestamp;
    if !(0.0..LATEST_MS).contains(&at) {
        return Err(format!(
            "timestamp {at} is no time since the start of the trace, in ms"
        ));
    }
    if at < last {
        return Err(format!(
            "timestamp {at} lies before that of the request above it ({last})"
        ));
    }
    let tokens = |name: &str, number: u64| {
        u32::try_from(number)
            .ok()
            .filter(|_| (1..=MOST_TOKENS).contains(&number))
            .ok_or_else(|| format!("{name} wants 1 to {MOST_TOKENS} tokens, found {number}"))
    };
    let input = tokens("input_length", line.input_length)?;
    let blocks = input.div_ceil(BLOCK) as usize;
    if !line.hash_ids.is_empty() && line.hash_ids.len() != blocks {
        return Err(format!(
            "{} hash_ids for {input} tokens: a hash stands for {BLOCK} tokens, which makes {blocks}",
            line.hash_ids.len()
        ));
    }
    Ok(Row {
        at: Duration::try_from_secs_f64(at / 1000.0).unwrap_or_default(),
        input,
        output: tokens("output_length", line.output_length)?,
        blocks: line.hash_ids.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> String {
        let faults = parse(text).expect_err("faults");
        let lines = faults
            .iter()
            .map(|fault| format!("{}: {}", fault.line, fault.message));
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn rows_are_read_with_what_they_hold() {
        let text = "{\"timestamp\": 0, \"input_length\": 600, \"output_length\": 5, \"hash_ids\": [0, 7], \"more\": {}}\n\n{\"timestamp\": 1500.5, \"input_length\": 9, \"output_length\": 1}\n";
        let rows = parse(text).expect("a trace");
        assert_eq!(
            rows,
            [
                Row {
                    at: Duration::ZERO,
                    input: 600,
                    output: 5,
                    blocks: vec![0, 7]
                },
                Row {
                    at: Duration::from_micros(1_500_500),
                    input: 9,
                    output: 1,
                    blocks: vec![]
                },
            ]
        );
    }

    #[test]
    fn each_fault_is_told_with_its_line() {
        insta::assert_snapshot!(told("
{\"timestamp\": 5, \"input_length\": 1, \"output_length\": 1}
{\"timestamp\": 4, \"input_length\": 1, \"output_length\": 1}
nonsense
{\"timestamp\": 6, \"input_length\": 1}
{\"timestamp\": 6, \"input_length\": 0, \"output_length\": 1}
{\"timestamp\": 1700000000000, \"input_length\": 1, \"output_length\": 1}
{\"timestamp\": 7, \"input_length\": 1025, \"output_length\": 1, \"hash_ids\": [1, 2]}
{\"timestamp\": 7, \"input_length\": -1, \"output_length\": 1}
"), @r##"
3: timestamp 4 lies before that of the request above it (5)
4: is no JSON: expected ident at column 2
5: missing field `output_length`
6: input_length wants 1 to 10000000 tokens, found 0
7: timestamp 1700000000000 is no time since the start of the trace, in ms
8: 2 hash_ids for 1025 tokens: a hash stands for 512 tokens, which makes 3
9: invalid value: integer `-1`, expected u64
"##);
        insta::assert_snapshot!(told("\n \n"), @r##"1: holds no request"##);
    }
}
