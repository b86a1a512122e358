//! Finds how many words make a prompt of the wanted length in tokens, as the engine counts them.
//!
//! `prompt_length` means `usage.prompt_tokens`, chat template included, and only the engine knows its tokenizer. So a
//! few requests for one token are sent before the window, and the number of words follows what they report. An engine
//! that reports no usage is left with a word a token, and the result says what was really counted.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    exit::{Exit, Failure},
    load::{
        connection::Tcp,
        dispatch::Content,
        exchange::{Call, Target, exchange},
        sample::Outcome,
        workload::next_guess,
    },
    recipe::ClientPlan,
    shutdown::Shutdown,
};

/// Numbers of the probes: far from those of the load, so that no prompt of it is in a cache.
const FIRST_INDEX: u64 = u64::MAX / 2;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Calibration {
    /// Words of a prompt.
    pub(super) words: usize,
    /// Words and tokens of each probe.
    pub(super) probes: Vec<(usize, u64)>,
}

/// Calibrates on one target.
pub(super) async fn run(
    target: &Target<Tcp>,
    content: &Content,
    plan: &ClientPlan,
    shutdown: &Shutdown,
) -> Result<Calibration, Failure> {
    let wanted = plan.workload.prompt_length;
    let start = Instant::now();
    let mut probes: Vec<(usize, u64)> = Vec::new();
    while let Some(words) = next_guess(wanted, &probes) {
        let call = Call {
            index: FIRST_INDEX + probes.len() as u64,
            intended: start.elapsed(),
            api: plan.api,
            stream: plan.workload.stream,
            chunks: 1,
            body: content.body(FIRST_INDEX + probes.len() as u64, words, 1),
            timeout: plan.timeout.max(Duration::from_mins(1)),
        };
        let tokens = probe(target, &call, start, &shutdown.drain).await?;
        let Some(tokens) = tokens else {
            tracing::warn!(
                "The engine reports no usage: a word is taken for a token of the prompt"
            );
            return Ok(Calibration {
                words: wanted as usize,
                probes,
            });
        };
        probes.push((words, tokens));
    }
    let off = |tokens: u64| tokens.abs_diff(u64::from(wanted));
    let words = probes
        .iter()
        .min_by_key(|(_, tokens)| off(*tokens))
        .map_or(wanted as usize, |(words, _)| *words);
    tracing::info!(words, tokens = wanted, probes = ?probes, "Calibrated the prompts");
    Ok(Calibration { words, probes })
}

/// One probe; tells the prompt's tokens where the engine does.
async fn probe(
    target: &Target<Tcp>,
    call: &Call,
    start: Instant,
    drain: &CancellationToken,
) -> Result<Option<u64>, Failure> {
    let sample = exchange(target, call, start, drain).await;
    match sample.outcome {
        Outcome::Success => Ok(sample.prompt_tokens),
        Outcome::Cancelled => Err(Failure::new(
            Exit::Terminated,
            "told to end before the load began",
        )),
        outcome => {
            let class = outcome.class().unwrap_or_default().to_owned();
            let said = match outcome {
                Outcome::Error(_, message) => message,
                _ => String::new(),
            };
            let message = format!(
                "the first request to http://{}{} failed ({class}): {said}",
                target.pool.authority(),
                target.path
            );
            Err(Failure::new(Exit::Unavailable, message))
        }
    }
}
