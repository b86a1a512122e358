//! The client's mean times beside the engine's own, over the same requests: the whole load, warm-up and drain included.
//!
//! Engines tell a sum and a count of times that they observed; means are all that can be held against each other without
//! a guess at what lies within a bucket. What the client has more is the way: network, HTTP, and what the engine does with
//! a token after it has noted its time. Where the engine's first token makes no text, the client's comes with the next;
//! and an engine that notes one gap for several tokens of one step has longer ones than there are between tokens. Pure;
//! nothing can fail, and what the engine does not tell is left out.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{engine_counters::Times, whole::Whole};

/// Times that the engine measured, too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Beside {
    /// From sending (here) or coming (there) to the first token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_to_first_token: Option<Pair>,
    /// Between tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inter_token_latency: Option<Pair>,
}

/// A mean by both.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Pair {
    /// The client's mean, in ms.
    pub client_ms: f64,
    /// How many times it is of.
    pub client_count: u64,
    /// The engine's mean, in ms.
    pub engine_ms: f64,
    /// How many times it is of.
    pub engine_count: u64,
    /// The client's less the engine's, in ms.
    pub difference_ms: f64,
}

impl Pair {
    /// What an engine observed; `None` where that is nothing.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a counter's difference, far below 2^53"
    )]
    pub fn of(engine: Times) -> Option<Self> {
        (engine.count >= 0.5 && engine.seconds >= 0.0).then(|| Self {
            engine_ms: engine.seconds * 1000.0 / engine.count,
            engine_count: engine.count.round() as u64,
            ..Self::default()
        })
    }

    /// With what the client observed; `None` where that is nothing.
    fn with(self, time: Duration, count: u64) -> Option<Self> {
        let client_ms = time.as_secs_f64() * 1000.0 / count as f64;
        (count > 0).then_some(Self {
            client_ms,
            client_count: count,
            difference_ms: client_ms - self.engine_ms,
            ..self
        })
    }
}

impl Beside {
    /// With what the client observed of the whole load; `None` where there is nothing of either.
    pub(super) fn with(self, load: &Whole) -> Option<Self> {
        let first = self.time_to_first_token;
        let further = self.inter_token_latency;
        let both = Self {
            time_to_first_token: first.and_then(|it| it.with(load.waited, load.first_tokens)),
            inter_token_latency: further.and_then(|it| it.with(load.between, load.further_tokens)),
        };
        (both != Self::default()).then_some(both)
    }

    /// Both with their names and short names.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, Pair)> {
        [
            ("TTFT", self.time_to_first_token),
            ("ITL", self.inter_token_latency),
        ]
        .into_iter()
        .filter_map(|(name, pair)| Some((name, pair?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::sample::{Chunk, Sample};

    #[test]
    fn means_of_the_same_load() {
        let ms = Duration::from_millis;
        let mut load = Whole::default();
        // 9 tokens: 3 chunks of 3, whose first ends no gap; and one that was given up
        for (chunks, tokens) in [
            (vec![30, 60, 90], Some(9)),
            (vec![50], None),
            (vec![], None),
        ] {
            load.take(&Sample {
                sent: Some(ms(10)),
                chunks: chunks.into_iter().map(|at| Chunk { at: ms(at) }).collect(),
                output_tokens: tokens,
                ..Sample::planned(0, ms(10))
            });
        }
        let engine = |seconds: f64, count: f64| Pair::of(Times { seconds, count });
        let told = Beside {
            time_to_first_token: engine(0.05, 2.0),
            inter_token_latency: engine(0.054, 6.0),
        };
        let both = told.with(&load).expect("both");
        let first = both.time_to_first_token.expect("of first tokens");
        let wanted = Pair {
            client_ms: 30.0,
            client_count: 2,
            engine_ms: 25.0,
            engine_count: 2,
            difference_ms: 5.0,
        };
        assert_eq!(first, wanted);
        let further = both.inter_token_latency.expect("of gaps");
        assert_eq!((further.client_ms, further.client_count), (10.0, 6));
        assert!((further.difference_ms - 1.0).abs() < 1e-9, "{further:?}");
        assert_eq!(engine(0.0, 0.0), None, "nothing came");
        assert_eq!(Beside::default().with(&load), None);
        assert_eq!(told.with(&Whole::default()), None);
    }
}
