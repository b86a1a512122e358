//! Output tokens of all answers, as they come: what the exporter and the progress line tell of long streams.
//!
//! The workers count what came by chunks; an answer that has ended tells its tokens, which then stand in place of that count.
//! So the sum is right of all that ended and near of what is in flight, and where one chunk holds several tokens the rest is
//! added at the end of an answer. It never falls, as counters must not. Nothing can fail.

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{
            AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::counter::ConstCounter,
};

use crate::load::{
    dispatch::{Live, lock},
    sample::Sample,
};

/// The counter.
#[derive(Debug, Clone, Default)]
pub(super) struct Tokens(Arc<Parts>);

#[derive(Debug, Default)]
struct Parts {
    /// One a worker of each load.
    live: Mutex<Vec<Arc<Live>>>,
    /// Of answers that ended: what was counted as it came, and what they hold.
    came: AtomicU64,
    held: AtomicU64,
    /// The most that was told.
    told: AtomicU64,
}

impl Tokens {
    /// Where another worker counts.
    pub(super) fn live(&self) -> Arc<Live> {
        let live = Arc::default();
        lock(&self.0.live).push(Arc::clone(&live));
        live
    }

    /// An answer has ended.
    pub(super) fn ended(&self, sample: &Sample) {
        self.0.came.fetch_add(sample.live, Relaxed);
        self.0.held.fetch_add(sample.tokens(), Release);
    }

    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        let Parts {
            live, came, held, ..
        } = &*self.0;
        // in this order an answer that ends meanwhile is told later, never twice
        let held = held.load(Acquire);
        let live: u64 = lock(live).iter().map(|live| live.tokens()).sum();
        let now = (held + live).saturating_sub(came.load(Relaxed));
        self.0.told.fetch_max(now, Relaxed).max(now)
    }
}

impl Collector for Tokens {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let counter = ConstCounter::new(self.count());
        let encoder = encoder.encode_descriptor(
            "output_tokens",
            "Output tokens, counted as they come.",
            None,
            counter.metric_type(),
        )?;
        counter.encode(encoder)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn ended(live: u64, tokens: u64) -> Sample {
        Sample {
            live,
            output_tokens: Some(tokens),
            ..Sample::planned(0, Duration::ZERO)
        }
    }

    #[test]
    fn what_came_and_what_ended_is_counted_once() {
        let tokens = Tokens::default();
        let (one, other) = (tokens.live(), tokens.live());
        one.add(5);
        other.add(3);
        assert_eq!(tokens.count(), 8, "while they come");
        tokens.ended(&ended(5, 10));
        assert_eq!(tokens.count(), 13, "two tokens a chunk");
        tokens.ended(&ended(3, 3));
        assert_eq!(tokens.count(), 13);
        // read at its end, without a stream
        tokens.ended(&ended(0, 7));
        assert_eq!(tokens.count(), 20);
    }

    #[test]
    fn it_never_falls() {
        let tokens = Tokens::default();
        let live = tokens.live();
        live.add(5);
        assert_eq!(tokens.count(), 5);
        // chunks that were no tokens
        tokens.ended(&ended(5, 2));
        assert_eq!(tokens.count(), 5);
        live.add(4);
        assert_eq!(tokens.count(), 6);
    }
}
