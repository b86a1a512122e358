//! Finds how many words make a prompt of a wanted length in tokens, as the engine counts them.
//!
//! `prompt_length` means `usage.prompt_tokens`, chat template included, and only the engine knows its tokenizer. So a
//! few requests for one token are sent before the window, of a short and a long prompt where lengths differ, and the
//! number of words follows what they report. An engine that reports no usage is asked by its `/tokenize`, where its profile
//! knows one. Else a word is taken for a token: nobody knows then how long prompts are, and the result says so.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{service::Service, tokenize::Tokenizer};
use crate::{
    exit::{Exit, Failure},
    load::{
        connection::Tcp,
        exchange::{Call, Target, exchange},
        sample::Outcome,
        workload::{
            Content, Scale,
            scale::{Observation, next_guess},
        },
    },
    recipe::ClientPlan,
    shutdown::Shutdown,
};

/// Numbers of the probes: far from those of the load, so that no prompt of it is in a cache.
const FIRST_INDEX: u64 = u64::MAX / 2;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Calibration {
    /// How words and tokens go together.
    pub(super) scale: Scale,
    /// Words and tokens of each probe.
    pub(super) probes: Vec<Observation>,
    /// Who counted the tokens; `None` where nothing was tried.
    pub(super) counted_by: Option<CountedBy>,
}

/// Who counted the tokens of prompts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum CountedBy {
    /// The engine, with its answers.
    Usage,
    /// The engine, asked for it.
    Tokenize,
    /// Nobody: they are words.
    Words,
}

/// Calibrates on one instance.
pub(super) async fn run(
    service: &Service,
    content: &Content,
    plan: &ClientPlan,
    shutdown: &Shutdown,
) -> Result<Calibration, Failure> {
    if !content.can_be_tried() {
        return Ok(Calibration::default());
    }
    let target = &service.targets(plan)[0];
    let start = Instant::now();
    let mut tokenizer = None;
    let wanted = content.typical_lengths();
    let mut probes: Vec<Observation> = Vec::new();
    for length in &wanted {
        let mut seen = Vec::new();
        while let Some(words) = next_guess(*length, &probes, &seen) {
            let index = FIRST_INDEX + (probes.len() + seen.len()) as u64;
            let call = Call {
                index,
                turn: None,
                intended: start.elapsed(),
                api: plan.api,
                stream: plan.workload.stream,
                chunks: 1,
                body: content.probe(index, words),
                timeout: plan.timeout.max(Duration::from_mins(1)),
                way: content.way_of_probe(index, words),
            };
            let tokens = match (&tokenizer, content.tried(index, words)) {
                (None, _) => probe(target, &call, start, &shutdown.drain).await?,
                (Some(tokenizer), Some(prompt)) => Tokenizer::count(tokenizer, &prompt).await,
                (Some(_), None) => None,
            };
            if let Some(tokens) = tokens {
                seen.push((words, tokens));
                continue;
            }
            if tokenizer.is_none() {
                tokenizer = Tokenizer::of(service, plan.api);
                if tokenizer.is_some() {
                    tracing::info!("The engine reports no usage: its tokenizer is asked");
                    continue;
                }
            }
            tracing::warn!(
                "The engine reports no usage: a word is taken for a token of the prompt"
            );
            return Ok(Calibration {
                counted_by: Some(CountedBy::Words),
                ..Calibration::default()
            });
        }
        probes.extend(seen);
    }
    let scale = Scale::of(&wanted, &probes);
    tracing::info!(tokens = ?wanted, probes = ?probes, "Calibrated the prompts");
    let counted_by = match tokenizer {
        None => CountedBy::Usage,
        Some(_) => CountedBy::Tokenize,
    };
    Ok(Calibration {
        scale,
        probes,
        counted_by: Some(counted_by),
    })
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
                "the first request to {}{} failed ({class}): {said}",
                target.pool.authority(),
                target.path
            );
            Err(Failure::new(Exit::Unavailable, message))
        }
    }
}
