//! What `vllm bench serve --save-detailed` adds to its file: arrays of all requests, in seconds.
//!
//! In the order of the requests' numbers; those of the warm-up are not in it. A request that failed has no tokens and a
//! time of 0, and its error as a text; the texts that were generated are not kept, and not told. `itls` are gaps between
//! chunks, as there. What can fail: samples that cannot be read.

use std::time::Duration;

use serde_json::{Value, json};

use super::recount::Recount;
use crate::{load::sample::Outcome, samples::Error};

struct Line {
    index: u64,
    input: u64,
    output: u64,
    ttft: f64,
    itl: Vec<f64>,
    start: f64,
    error: String,
}

/// Adds the arrays.
///
/// # Errors
/// The samples cannot be read.
pub fn add(object: &mut Value, recount: &Recount) -> Result<(), Error> {
    let mut lines = Vec::new();
    recount.each(|request| {
        let sample = &request.sample;
        let sent = sample.began().unwrap_or(sample.intended);
        let succeeded = sample.is_success();
        // an event without text is a chunk there
        let mut events: Vec<Duration> = sample.chunks.iter().map(|chunk| chunk.at).collect();
        events.extend(&sample.silent);
        events.sort_unstable();
        events.truncate(if succeeded { events.len() } else { 0 });
        lines.push(Line {
            index: sample.index,
            input: sample.prompt_tokens.unwrap_or(0),
            output: if succeeded { sample.tokens() } else { 0 },
            ttft: events.first().map_or(0.0, |at| seconds(*at, sent)),
            itl: (events.windows(2))
                .map(|pair| seconds(pair[1], pair[0]))
                .collect(),
            start: sent.as_secs_f64(),
            error: match &sample.outcome {
                Outcome::Error(class, message) => format!("{class}: {message}"),
                other => other.class().unwrap_or_default().to_owned(),
            },
        });
    })?;
    lines.sort_by_key(|line| line.index);
    let all = |of: fn(&Line) -> Value| lines.iter().map(of).collect::<Value>();
    object["input_lens"] = all(|line| json!(line.input));
    object["output_lens"] = all(|line| json!(line.output));
    object["ttfts"] = all(|line| json!(line.ttft));
    object["itls"] = all(|line| json!(line.itl));
    object["start_times"] = all(|line| json!(line.start));
    object["errors"] = all(|line| json!(line.error));
    Ok(())
}

fn seconds(end: Duration, start: Duration) -> f64 {
    end.saturating_sub(start).as_secs_f64()
}
