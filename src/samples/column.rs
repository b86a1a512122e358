//! What a row of `samples.parquet` holds, read off a sample and put back into one.
//!
//! A new field of [`Sample`] is one line of [`COLUMNS`]. All of them are whole numbers until they are written, so a row
//! in the load path is a handful of moves. Pure; nothing can fail.

use std::time::Duration;

use crate::load::sample::{Chunk, Sample, Turn};

/// In place of what is not known.
pub(super) const NONE: i64 = i64::MIN;

/// A column of whole numbers.
pub(super) struct Column(pub(super) &'static str, pub(super) Field);

/// How a column is read and put back. Times are in nanoseconds.
pub(super) enum Field {
    Time(fn(&Sample) -> Duration, fn(&mut Sample, Duration)),
    MaybeTime(
        fn(&Sample) -> Option<Duration>,
        fn(&mut Sample, Option<Duration>),
    ),
    Count(fn(&Sample) -> u64, fn(&mut Sample, u64)),
    MaybeCount(fn(&Sample) -> Option<u64>, fn(&mut Sample, Option<u64>)),
    Flag(fn(&Sample) -> bool, fn(&mut Sample, bool)),
}

use Field::{Count, Flag, MaybeCount, MaybeTime, Time};

/// Where [`COLUMNS`] has the number of a request.
pub(super) const INDEX: usize = 0;
/// Where it has the time that was intended.
pub(super) const INTENDED: usize = 3;

/// The columns, in the order of the file. What is only derived, for those who read the file, is not put back.
pub(super) const COLUMNS: &[Column] = &[
    Column("index", Count(|s| s.index, |s, index| s.index = index)),
    Column(
        "turn",
        MaybeCount(
            |s| s.turn.map(|turn| turn.number.into()),
            |s, number| {
                let number = number.and_then(|number| number.try_into().ok());
                s.turn = number.map(|number| Turn {
                    number,
                    last: false,
                });
            },
        ),
    ),
    Column(
        "last_turn",
        Flag(
            |s| s.turn.is_some_and(|turn| turn.last),
            |s, it| {
                if let Some(turn) = &mut s.turn {
                    turn.last = it;
                }
            },
        ),
    ),
    Column("intended_ns", Time(|s| s.intended, |s, at| s.intended = at)),
    Column("sent_ns", MaybeTime(|s| s.sent, |s, at| s.sent = at)),
    Column(
        "written_ns",
        MaybeTime(|s| s.written, |s, at| s.written = at),
    ),
    Column(
        "connect_ns",
        MaybeTime(|s| s.connect, |s, took| s.connect = took),
    ),
    Column(
        "looking_up_ns",
        MaybeTime(|s| s.looked_up, |s, took| s.looked_up = took),
    ),
    Column(
        "tls_handshaking_ns",
        MaybeTime(|s| s.secured, |s, took| s.secured = took),
    ),
    Column(
        "first_byte_ns",
        MaybeTime(|s| s.first_byte, |s, at| s.first_byte = at),
    ),
    Column(
        "first_token_ns",
        MaybeTime(Sample::first_token, |s, at| {
            s.chunks.extend(at.map(|at| Chunk { at }));
        }),
    ),
    Column(
        "first_output_ns",
        MaybeTime(|s| s.first_output, |s, at| s.first_output = at),
    ),
    Column(
        "first_silent_ns",
        MaybeTime(|s| s.silent.first().copied(), |s, at| s.silent.extend(at)),
    ),
    // those in between have a column of their own, which earlier files lack
    Column(
        "last_silent_ns",
        MaybeTime(
            |s| s.silent.get(1..)?.last().copied(),
            |s, at| s.silent.extend(at),
        ),
    ),
    Column("last_token_ns", MaybeTime(Sample::last_token, |_, _| ())),
    Column("end_ns", Time(|s| s.end, |s, at| s.end = at)),
    Column("chunks", Count(|s| s.chunks.len() as u64, |_, _| ())),
    Column(
        "prompt_tokens",
        MaybeCount(|s| s.prompt_tokens, |s, count| s.prompt_tokens = count),
    ),
    Column(
        "output_tokens",
        MaybeCount(|s| s.output_tokens, |s, count| s.output_tokens = count),
    ),
    Column(
        "cached_tokens",
        MaybeCount(|s| s.cached_tokens, |s, count| s.cached_tokens = count),
    ),
    Column(
        "reasoning_tokens",
        MaybeCount(
            |s| s.reasoning_tokens,
            |s, count| s.reasoning_tokens = count,
        ),
    ),
    Column(
        "engine_load_ns",
        MaybeTime(|s| s.engine.load, |s, took| s.engine.load = took),
    ),
    Column(
        "engine_prompt_ns",
        MaybeTime(|s| s.engine.prompt, |s, took| s.engine.prompt = took),
    ),
    Column(
        "engine_decode_ns",
        MaybeTime(|s| s.engine.decode, |s, took| s.engine.decode = took),
    ),
    Column(
        "engine_total_ns",
        MaybeTime(|s| s.engine.total, |s, took| s.engine.total = took),
    ),
    Column(
        "status",
        MaybeCount(
            |s| s.status.map(u64::from),
            |s, status| s.status = status.and_then(|status| status.try_into().ok()),
        ),
    ),
    Column(
        "recall_ppm",
        MaybeCount(
            |s| s.recall.map(u64::from),
            |s, share| s.recall = share.and_then(|share| share.try_into().ok()),
        ),
    ),
    Column("reasons", Flag(|s| s.reasons, |s, it| s.reasons = it)),
    Column("dropped", Flag(|s| s.dropped, |s, it| s.dropped = it)),
];

/// How many there are.
pub(super) const WIDTH: usize = COLUMNS.len();

impl Column {
    /// May it be unknown?
    pub(super) const fn is_optional(&self) -> bool {
        matches!(self.1, MaybeTime(..) | MaybeCount(..))
    }

    /// Is it yes or no?
    pub(super) const fn is_flag(&self) -> bool {
        matches!(self.1, Flag(..))
    }

    /// Reads it off a sample.
    pub(super) fn get(&self, sample: &Sample) -> i64 {
        match self.1 {
            Time(get, _) => nanoseconds(get(sample)),
            MaybeTime(get, _) => get(sample).map_or(NONE, nanoseconds),
            Count(get, _) => whole(get(sample)),
            MaybeCount(get, _) => get(sample).map_or(NONE, whole),
            Flag(get, _) => get(sample).into(),
        }
    }

    /// Puts it back.
    pub(super) fn set(&self, sample: &mut Sample, value: i64) {
        let known = u64::try_from(value).ok();
        let time = known.map(Duration::from_nanos);
        match self.1 {
            Time(_, set) => set(sample, time.unwrap_or_default()),
            MaybeTime(_, set) => set(sample, time),
            Count(_, set) => set(sample, known.unwrap_or_default()),
            MaybeCount(_, set) => set(sample, known),
            Flag(_, set) => set(sample, value == 1),
        }
    }
}

/// Nanoseconds; loads of 292 years and more have no end.
pub(super) fn nanoseconds(time: Duration) -> i64 {
    // not `as_nanos`, whose 128 bits cost more than all the rest
    let seconds = whole(time.as_secs()).saturating_mul(1_000_000_000);
    seconds.saturating_add(i64::from(time.subsec_nanos()))
}

fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::sample::{Outcome, Times};

    #[test]
    fn every_column_comes_back() {
        let ns = Duration::from_nanos;
        let nothing = Sample {
            outcome: Outcome::Success,
            ..Sample::planned(0, Duration::ZERO)
        };
        let sample = Sample {
            index: 7,
            turn: Some(Turn {
                number: 1,
                last: true,
            }),
            intended: ns(1),
            sent: Some(ns(2)),
            written: Some(ns(3)),
            connect: Some(ns(4)),
            looked_up: Some(ns(1)),
            secured: Some(ns(2)),
            first_byte: Some(ns(5)),
            status: Some(503),
            chunks: vec![Chunk {
                at: Duration::new(5, 6),
            }],
            counts: Vec::new(),
            live: 0,
            silent: vec![ns(13), ns(14)],
            lay: Vec::new(),
            first_output: Some(ns(7)),
            reasons: true,
            end: ns(8),
            prompt_tokens: Some(9),
            output_tokens: Some(10),
            cached_tokens: Some(11),
            reasoning_tokens: Some(12),
            recall: Some(15),
            engine: Times {
                load: Some(ns(15)),
                prompt: Some(ns(16)),
                decode: Some(ns(17)),
                total: Some(ns(18)),
            },
            dropped: true,
            outcome: Outcome::Success,
            said: String::new(),
        };
        for sample in [sample, nothing.clone()] {
            let mut back = nothing.clone();
            for column in COLUMNS {
                column.set(&mut back, column.get(&sample));
            }
            assert_eq!(back, sample);
        }
    }

    #[test]
    fn a_time_without_end_is_the_largest() {
        assert_eq!(nanoseconds(Duration::MAX), i64::MAX);
        assert_eq!(nanoseconds(Duration::new(2, 3)), 2_000_000_003);
    }
}
