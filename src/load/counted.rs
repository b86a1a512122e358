//! How many tokens each chunk of a stream brings, where the server tells its count with every event.
//!
//! vLLM does so when asked for it (`stream_options.continuous_usage_stats`). The difference between two chunks is then known
//! and need not be taken for even. An event without text that the server counts (half a character; vLLM's first) leaves
//! its tokens to the next chunk, in which their text comes; those behind the last chunk are left to whoever adds up.
//!
//! A count that falls, or that is another behind the answer than at its last event, is that of one answer of several in
//! one stream, and says nothing about gaps: then, and where only some events have a count, none is kept. A
//! server that tells it at the end alone costs a look at each event, and no memory. Pure; nothing can fail.

use super::sample::Sample;
use crate::api::openai::Event;

/// The counts of an answer that is being read.
#[derive(Debug, Default)]
pub(super) struct Counted {
    /// Up to the last chunk.
    at_chunk: u64,
    /// Up to the last event of the answer that told it.
    at_event: Option<u64>,
}

impl Counted {
    /// Takes an event whose chunk, if it is one, the sample has; gives how many tokens came, as far as is known by now.
    pub(super) fn take(&mut self, event: &Event, sample: &mut Sample) -> u64 {
        let is_chunk = event.has_text();
        let Some(usage) = event.usage else {
            return is_chunk.into();
        };
        let now = usage.completion_tokens;
        if !is_chunk && !event.part {
            if self.at_event.is_some_and(|before| before != now) {
                sample.counts.clear();
            }
            return 0;
        }
        let falls = self.at_event.is_some_and(|before| now < before);
        self.at_event = Some(now);
        if falls {
            sample.counts.clear();
        } else if is_chunk && sample.counts.len() + 1 == sample.chunks.len() {
            let tokens = now - self.at_chunk;
            self.at_chunk = now;
            (sample.counts).push(u32::try_from(tokens).unwrap_or(u32::MAX));
            return tokens;
        }
        is_chunk.into()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        api::openai::Usage,
        load::sample::{Chunk, Outcome},
    };

    /// What is kept of events, each `(has text, is part, count)`, and what was told as it came.
    fn told(events: &[(bool, bool, Option<u64>)]) -> (Vec<u32>, u64) {
        let mut sample = Sample {
            outcome: Outcome::Success,
            ..Sample::planned(0, Duration::ZERO)
        };
        let (mut counted, mut live) = (Counted::default(), 0);
        for (content, part, count) in events {
            let usage = count.map(|completion_tokens| Usage {
                completion_tokens,
                ..Usage::default()
            });
            let event = Event {
                content: *content,
                part: *part,
                usage,
                ..Event::default()
            };
            if *content {
                sample.chunks.push(Chunk { at: Duration::ZERO });
            }
            live += counted.take(&event, &mut sample);
        }
        (sample.counts().to_vec(), live)
    }

    #[test]
    fn differences_are_those_between_chunks() {
        let text = |count| (true, true, Some(count));
        let silent = |count| (false, true, Some(count));
        let end = |count| (false, false, Some(count));
        // a role, half a character, and an end without text
        let (counts, live) = told(&[
            silent(0),
            silent(1),
            text(2),
            text(5),
            silent(6),
            text(6),
            silent(7),
            end(7),
        ]);
        assert_eq!((counts, live), (vec![2, 3, 1], 6));
        // torn before its end
        assert_eq!(told(&[text(1), text(4)]), (vec![1, 3], 4));
        // two answers in turn: the sum behind them is another
        let (counts, _) = told(&[text(1), text(1), text(2), text(2), end(4)]);
        assert!(counts.is_empty(), "{counts:?}");
        let (counts, live) = told(&[text(1), text(2), text(1), text(3), end(4)]);
        assert_eq!((counts, live), (vec![], 4));
        // at the end alone, within the answer or behind it
        let plain = (true, true, None);
        assert_eq!(told(&[plain, plain, silent(9)]), (vec![], 2));
        assert_eq!(told(&[plain, plain, end(9)]), (vec![], 2));
        assert_eq!(told(&[plain, text(9)]), (vec![], 2));
        // and not with all
        assert!(told(&[text(1), plain, text(3)]).0.is_empty());
        // an engine whose every event says 0
        assert!(told(&[text(0), text(0), end(9)]).0.is_empty());
    }
}
