//! What the client saw against what the engine did: errors of each request and each gap.
//!
//! Both sides stamp by the clock of the machine. The client traces the stamps of each request (`AIF_LOG=aif::load=trace`),
//! the engine logs its own; the prompt's first words tell which belong together.

use std::{collections::HashMap, path::Path};

use aif::load::workload::Prompts;

use crate::key;

/// Errors in nanoseconds, sorted.
#[derive(Debug, Default)]
pub(crate) struct Errors {
    /// Time to the first token, as measured, less that from the arrival of the request to the engine's writing.
    pub(crate) ttft: Vec<u64>,
    /// Gap between two tokens, as measured, less the true one; without a sign.
    pub(crate) itl: Vec<u64>,
    /// From the engine's writing of a token to its stamp.
    pub(crate) token: Vec<u64>,
    /// Requests found on both sides.
    pub(crate) matched: usize,
}

impl Errors {
    /// What was seen of a request, since `start`, and what was done.
    fn take(&mut self, start: u64, seen: &[u64], done: &[u64]) {
        self.matched += 1;
        self.ttft
            .push((seen[1] - seen[0]).abs_diff(done[1] - done[0]));
        for (seen, done) in seen.windows(2).zip(done.windows(2)).skip(1) {
            self.itl
                .push((seen[1] - seen[0]).abs_diff(done[1] - done[0]));
        }
        for (seen, done) in seen.iter().zip(done).skip(1) {
            self.token.push((start + seen).saturating_sub(*done));
        }
    }
}

/// A quantile of sorted values, in ms.
pub(crate) fn quantile(sorted: &[u64], part: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "within the slice"
    )]
    let at = (last as f64 * part).ceil() as usize;
    sorted.get(at).map_or(f64::NAN, |ns| *ns as f64 / 1e6)
}

/// Matches the trace of a client with the log of an engine.
pub(crate) fn errors(trace: &Path, log: &Path, seed: u64) -> anyhow::Result<Errors> {
    let truth: HashMap<u64, Vec<u64>> = std::fs::read_to_string(log)?
        .lines()
        .map(numbers)
        .map(|line| (line[0], line[1..].to_vec()))
        .collect();
    let prompts = Prompts::new(seed, None);
    let mut errors = Errors::default();
    let mut start = 0;
    for line in std::fs::read_to_string(trace)?.lines() {
        if let Some(at) = field(line, "monotonic_ns=") {
            start = at.parse()?;
        }
        let Some(requests) = field(line, "stamps=") else {
            continue;
        };
        for request in requests.split(';') {
            // number, time of sending, then each chunk with content; since the start of the load
            let [index, seen @ ..] = &numbers(request)[..] else {
                continue;
            };
            // of the warm-up nothing is told in a result either
            if seen.first().is_none_or(|sent| *sent < 1_000_000_000) {
                continue;
            }
            let key = key(prompts.prompt(*index, 4).as_bytes());
            let Some(done) = truth.get(&key).filter(|done| done.len() == seen.len()) else {
                continue;
            };
            errors.take(start, seen, done);
        }
    }
    errors.ttft.sort_unstable();
    errors.itl.sort_unstable();
    errors.token.sort_unstable();
    Ok(errors)
}

fn numbers(line: &str) -> Vec<u64> {
    line.split([' ', ','])
        .filter_map(|word| word.parse().ok())
        .collect()
}

fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let rest = &line[line.find(name)? + name.len()..];
    let rest = rest.trim_start_matches('"');
    Some(&rest[..rest.find([' ', '"']).unwrap_or(rest.len())])
}
