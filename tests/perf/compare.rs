//! What the client saw against what the engine did: errors of each request and each gap.
//!
//! Both sides stamp by the clock of the machine. The client traces the stamps of each request (`AIF_LOG=aif::load=trace`),
//! the engine logs its own; the prompt's first words tell which belong together.

use std::path::Path;

use aif::{
    load::workload::Prompts,
    stats::certificate::{Errors, Stamps},
};

use crate::key;

/// Matches the trace of a client with the log of an engine.
pub(crate) fn errors(trace: &Path, log: &Path, seed: u64) -> anyhow::Result<Errors> {
    let done: Vec<Stamps> = std::fs::read_to_string(log)?
        .lines()
        .map(numbers)
        .map(|line| Stamps {
            tag: line[0],
            at: line[1..].to_vec(),
        })
        .collect();
    let prompts = Prompts::new(seed, None);
    let mut seen = Vec::new();
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
            let [index, at @ ..] = &numbers(request)[..] else {
                continue;
            };
            // of the warm-up nothing is told in a result either
            if at.first().is_none_or(|sent| *sent < 1_000_000_000) {
                continue;
            }
            seen.push(Stamps {
                tag: key(prompts.prompt(*index, 4).as_bytes()),
                at: at.iter().map(|at| start + at).collect(),
            });
        }
    }
    Ok(Errors::of(&seen, &done))
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
