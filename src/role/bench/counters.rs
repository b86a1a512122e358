//! What the engines of a service counted and measured themselves while they were loaded.
//!
//! Their metrics are read before the load and behind it, by the names of their profiles; the difference is theirs of the whole
//! load. An engine that does not answer, or has no such metrics, tells nothing: nothing can fail.

use std::time::Duration;

use super::service::{ASK, Instance, Service};
use crate::{
    api::client::{self, Access},
    engine,
    registry::Store,
    role::Context,
    stats::{
        beside::{Beside, Pair},
        engine_counters::{self, Times},
        results::{Counted, Tokens},
        whole::Whole,
    },
};

/// An engine may count a request this long after its end.
const SETTLE: Duration = Duration::from_secs(2);

/// The engine's counters: prompt and output tokens, and times where it has such histograms.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Counters {
    prompt: f64,
    output: f64,
    first_token: Option<Times>,
    between_tokens: Option<Times>,
}

impl Service {
    /// The engine's counters now, summed over instances; `None` where one does not tell.
    pub(super) async fn counters(&self, context: &Context) -> Option<Counters> {
        let mut sum: Option<Counters> = None;
        for instance in &self.instances {
            let one = read_counters(instance, &context.store).await?;
            sum = Some(sum.map_or(one, |sum| Counters {
                prompt: sum.prompt + one.prompt,
                output: sum.output + one.output,
                first_token: both(sum.first_token, one.first_token, Times::and),
                between_tokens: both(sum.between_tokens, one.between_tokens, Times::and),
            }));
        }
        sum
    }

    /// The tokens of the whole load, by us and by the engine, and the engine's times of it. Engines count a request at its
    /// end or a moment later, so counters that do not agree yet are read again.
    pub(super) async fn counted(
        &self,
        context: &Context,
        before: Option<Counters>,
        load: Whole,
    ) -> (Tokens, Option<Beside>) {
        let (prompt, output) = (load.prompt_tokens, load.output_tokens);
        let mut tokens = Tokens {
            counted_by: if load.uncounted == 0 {
                "usage"
            } else {
                "chunks"
            }
            .to_owned(),
            prompt: Counted {
                client: prompt,
                engine: None,
            },
            output: Counted {
                client: output,
                engine: None,
            },
        };
        let mut times = None;
        let Some(before) = before else {
            return (tokens, times);
        };
        let deadline = tokio::time::Instant::now() + SETTLE;
        loop {
            let Some(after) = self.counters(context).await else {
                return (tokens, times);
            };
            times = Some(Beside {
                time_to_first_token: both(after.first_token, before.first_token, Times::since)
                    .and_then(Pair::of),
                inter_token_latency: both(
                    after.between_tokens,
                    before.between_tokens,
                    Times::since,
                )
                .and_then(Pair::of),
            });
            tokens.prompt.engine = Some(whole(after.prompt - before.prompt));
            tokens.output.engine = Some(whole(after.output - before.output));
            let agree =
                tokens.output.engine >= Some(output) && tokens.prompt.engine >= Some(prompt);
            if agree || tokio::time::Instant::now() >= deadline {
                return (tokens, times);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Of two that are there.
fn both(
    one: Option<Times>,
    other: Option<Times>,
    of: impl Fn(Times, Times) -> Times,
) -> Option<Times> {
    Some(of(one?, other?))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a counter's difference, far below 2^53"
)]
fn whole(difference: f64) -> u64 {
    difference.max(0.0).round() as u64
}

async fn read_counters(instance: &Instance, store: &Store) -> Option<Counters> {
    let (url, kind) = instance.metrics.as_ref()?;
    let profile = engine::profile(*kind);
    let key = store.scrape_key().ok()?;
    let answer = client::get(url, &Access::Bearer(key), ASK).await.ok()?;
    let text = answer.text();
    Some(Counters {
        prompt: engine_counters::sum(&text, profile.prompt_tokens)?,
        output: engine_counters::sum(&text, profile.output_tokens)?,
        first_token: engine_counters::histogram(&text, profile.time_to_first_token.as_slice()),
        between_tokens: engine_counters::histogram(&text, profile.inter_token_latency),
    })
}
