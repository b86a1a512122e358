//! Conversations: how many came to their end, and what each of their turns was like.
//!
//! The context grows from turn to turn, so numbers over all turns are a mixture that tells little of any one. Turns
//! beyond the [`MOST`]-th are told with that. Pure; nothing can fail.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    histogram::Distribution,
    results::{Conversations, Metric, TurnResult},
};
use crate::load::sample::Sample;

/// Turns that are told apart.
pub const MOST: usize = 32;

/// The turns of the conversations of a load.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Turns {
    /// Over the whole load.
    ends: Ends,
    /// Of the window.
    turns: Vec<Turn>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Ends {
    begun: u64,
    completed: u64,
    failed: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Turn {
    requests: u64,
    errors: u64,
    ttft: Distribution,
    latency: Distribution,
    input: Distribution,
    cached: Distribution,
    cached_of: u64,
    output: Distribution,
}

impl Turns {
    /// Adds a request; is it one of the window?
    pub(super) fn take(&mut self, sample: &Sample, owned: bool) {
        let Some(turn) = sample.turn else { return };
        self.ends.begun += u64::from(turn.number == 0);
        self.ends.completed += u64::from(turn.last && sample.is_success());
        self.ends.failed += u64::from(!sample.is_success());
        if !owned {
            return;
        }
        let place = usize::try_from(turn.number).unwrap_or(MOST).min(MOST - 1);
        if place >= self.turns.len() {
            self.turns.resize_with(place + 1, Turn::default);
        }
        self.turns[place].take(sample);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.ends.begun += other.ends.begun;
        self.ends.completed += other.ends.completed;
        self.ends.failed += other.ends.failed;
        if self.turns.len() < other.turns.len() {
            self.turns.resize_with(other.turns.len(), Turn::default);
        }
        for (own, other) in self.turns.iter_mut().zip(&other.turns) {
            own.merge(other);
        }
    }

    /// How conversations ended, over the whole load; `None` where there were none.
    pub fn conversations(&self) -> Option<Conversations> {
        let Ends {
            begun,
            completed,
            failed,
        } = self.ends;
        (begun > 0).then(|| Conversations {
            begun,
            completed,
            failed,
            cut_short: begun.saturating_sub(completed + failed),
        })
    }

    /// The turns of the window.
    pub fn results(&self) -> Vec<TurnResult> {
        (1..)
            .zip(&self.turns)
            .map(|(turn, seen)| TurnResult {
                turn,
                requests: seen.requests,
                errors: seen.errors,
                metrics: seen.metrics(),
            })
            .collect()
    }
}

impl Turn {
    fn take(&mut self, sample: &Sample) {
        self.requests += 1;
        let sent = match sample.sent {
            Some(sent) if sample.is_success() => sent,
            _ => {
                self.errors += u64::from(!sample.is_success());
                return;
            }
        };
        if let (Some(first), Some(last)) = (sample.first_token(), sample.last_token()) {
            self.ttft.record(first.saturating_sub(sent));
            self.latency.record(last.saturating_sub(sent));
        }
        if let Some(tokens) = sample.prompt_tokens {
            self.input.record_count(tokens);
            if let Some(cached) = sample.cached_tokens {
                self.cached.record_count(cached);
                self.cached_of += tokens;
            }
        }
        self.output.record_count(sample.tokens());
    }

    fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.ttft.merge(&other.ttft);
        self.latency.merge(&other.latency);
        self.input.merge(&other.input);
        self.cached.merge(&other.cached);
        self.cached_of += other.cached_of;
        self.output.merge(&other.output);
    }

    fn metrics(&self) -> BTreeMap<String, Metric> {
        let mut metrics: BTreeMap<String, Metric> = [
            ("time_to_first_token", &self.ttft, "ms"),
            ("request_latency", &self.latency, "ms"),
            ("input_sequence_length", &self.input, "tokens"),
            ("cached_prompt_tokens", &self.cached, "tokens"),
            ("output_sequence_length", &self.output, "tokens"),
        ]
        .into_iter()
        .filter_map(|(name, all, unit)| Some((name.to_owned(), all.to_metric(unit)?)))
        .collect();
        if self.cached_of > 0 {
            let share = self.cached.sum_of_counts() as f64 / self.cached_of as f64;
            let ratio = Metric {
                unit: "ratio".to_owned(),
                avg: share,
                ..Metric::default()
            };
            metrics.insert("prompt_cache_hit_ratio".to_owned(), ratio);
        }
        metrics
    }
}
