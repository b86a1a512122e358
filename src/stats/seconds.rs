//! A load second by second, as it goes: what charts and peaks are made of.
//!
//! A second keeps counts and its times to first token, these to three significant figures in a sorted map: a second of
//! thousands of requests then costs hundreds of entries, and its median is off by half a percent at the most.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    events,
    results::Slice,
    summary::{is_single_second, milliseconds, runs_of_tokens, with_tokens},
};
use crate::load::sample::Sample;

/// The longest load that is told by the second: eleven days. What comes later is told in the last.
const LONGEST: u64 = 1_000_000;

/// Seconds since the start of the load.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Sparse", into = "Sparse")]
pub struct Seconds(Vec<Second>);

/// The seconds in which something happened: of a long load, a task tells another only the last few.
#[derive(Serialize, Deserialize)]
struct Sparse(BTreeMap<usize, Second>);

impl From<Seconds> for Sparse {
    fn from(seconds: Seconds) -> Self {
        let blank = Second::default();
        let told = seconds.0.into_iter().enumerate();
        Self(told.filter(|(_, second)| *second != blank).collect())
    }
}

impl From<Sparse> for Seconds {
    fn from(sparse: Sparse) -> Self {
        let mut seconds = Self::default();
        for (at, second) in sparse.0 {
            *seconds.at(Duration::from_secs(at as u64)) = second;
        }
        seconds
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Second {
    sent: u64,
    /// Of what was sent, what ended in it.
    left: u64,
    completed: u64,
    errors: u64,
    output_tokens: u64,
    /// Time between tokens that came in it and those before them, and the number of these gaps.
    #[serde(default)]
    gaps: (Duration, u64),
    /// Microseconds to the first token, of those whose first token came in it, and how often.
    ttft: BTreeMap<u32, u32>,
    ttft_max: Option<Duration>,
    /// Of answered requests of the window alone.
    peak: Peak,
}

/// What the fullest second is found by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Peak {
    chunks: u64,
    came: u64,
    left: u64,
}

impl Seconds {
    /// Adds a request.
    pub fn take(&mut self, sample: &Sample) {
        if let Some(sent) = sample.sent {
            self.at(sent).sent += 1;
            self.at(sample.end).left += 1;
            if let Some(first) = sample.first_token() {
                let ttft = first.saturating_sub(sent);
                let second = self.at(first);
                *second.ttft.entry(figures(ttft)).or_default() += 1;
                second.ttft_max = second.ttft_max.max(Some(ttft));
            }
        }
        let second = self.at(sample.end);
        if sample.is_success() {
            second.completed += 1;
        } else {
            second.errors += 1;
        }
        self.take_tokens(sample);
    }

    /// Tokens by the second in which they came, and the gaps before them: a chunk of several tokens is as many gaps.
    fn take_tokens(&mut self, sample: &Sample) {
        let mut chunks = with_tokens(sample).peekable();
        let mut before: Option<Duration> = None;
        while let Some((first, mut tokens)) = chunks.next() {
            let mut last = first.at;
            let mut gaps = before.map_or(0, |_| tokens);
            while let Some((chunk, more)) =
                chunks.next_if(|(chunk, _)| is_single_second(first.at, chunk.at))
            {
                tokens += more;
                gaps += more;
                last = chunk.at;
            }
            let second = self.at(first.at);
            second.output_tokens += tokens;
            second.gaps.0 += last.saturating_sub(before.unwrap_or(first.at));
            second.gaps.1 += gaps;
            before = Some(last);
        }
    }

    /// Adds an answered request of the window to what peaks are made of.
    pub fn take_answered(&mut self, sample: &Sample, sent: Duration) {
        for (at, _, chunks) in runs_of_tokens(sample, is_single_second) {
            self.at(at).peak.chunks += chunks;
        }
        for at in &sample.silent {
            self.at(*at).peak.chunks += 1;
        }
        if !sample.chunks.is_empty() || !sample.silent.is_empty() {
            self.at(sent).peak.came += 1;
            self.at(events::ends(sample).1).peak.left += 1;
        }
    }

    /// Adds those of another load that started at the same time.
    pub fn merge(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize_with(other.0.len(), Second::default);
        }
        for (own, other) in self.0.iter_mut().zip(&other.0) {
            own.merge(other);
        }
    }

    /// The seconds up to the end of the load; what came later is told in the last.
    pub fn slices(&self, end: Duration) -> Vec<Slice> {
        let whole = end.as_secs() + u64::from(end.subsec_nanos() > 0);
        let length = usize::try_from(whole.min(LONGEST)).unwrap_or(0);
        let mut seconds = self.0.clone();
        if length > 0 && seconds.len() > length {
            let late = seconds.split_off(length);
            for late in &late {
                seconds[length - 1].merge(late);
            }
        }
        seconds.resize_with(length, Second::default);
        let mut in_flight = 0_u64;
        let slices = seconds.iter().enumerate().map(|(at, second)| {
            in_flight = (in_flight + second.sent).saturating_sub(second.left);
            Slice {
                t: at as f64,
                sent: second.sent,
                completed: second.completed,
                errors: second.errors,
                output_tokens: second.output_tokens,
                in_flight,
                ttft_p50_ms: second.median(),
                ttft_max_ms: second.ttft_max.map(milliseconds),
                itl_ms: (second.gaps.1 > 0)
                    .then(|| milliseconds(second.gaps.0) / second.gaps.1 as f64),
            }
        });
        slices.collect()
    }

    /// Of answered requests of the window: most chunks in a second, and most requests. A request counts in every second
    /// that it touches.
    pub fn peaks(&self) -> (u64, u64) {
        let (mut now, mut left, mut requests) = (0_u64, 0, 0);
        for second in &self.0 {
            now = (now + second.peak.came).saturating_sub(left);
            left = second.peak.left;
            requests = requests.max(now);
        }
        let chunks = self.0.iter().map(|second| second.peak.chunks).max();
        (chunks.unwrap_or(0), requests)
    }

    fn at(&mut self, time: Duration) -> &mut Second {
        let place = usize::try_from(time.as_secs().min(LONGEST)).unwrap_or(0);
        if place >= self.0.len() {
            self.0.resize_with(place + 1, Second::default);
        }
        &mut self.0[place]
    }
}

impl Second {
    fn merge(&mut self, other: &Self) {
        self.sent += other.sent;
        self.left += other.left;
        self.completed += other.completed;
        self.errors += other.errors;
        self.output_tokens += other.output_tokens;
        self.gaps.0 += other.gaps.0;
        self.gaps.1 += other.gaps.1;
        for (ttft, count) in &other.ttft {
            *self.ttft.entry(*ttft).or_default() += count;
        }
        self.ttft_max = self.ttft_max.max(other.ttft_max);
        self.peak.chunks += other.peak.chunks;
        self.peak.came += other.peak.came;
        self.peak.left += other.peak.left;
    }

    /// Median time to first token, in ms; of an even number, the mean of both in the middle.
    fn median(&self) -> Option<f64> {
        let count: u64 = self.ttft.values().map(|count| u64::from(*count)).sum();
        let ranked = |rank: u64| {
            let mut seen = 0;
            let found = self.ttft.iter().find(|(_, count)| {
                seen += u64::from(**count);
                seen > rank
            });
            found.map(|(micros, _)| f64::from(*micros) / 1e3)
        };
        let lower = ranked(count.checked_sub(1)? / 2)?;
        Some(f64::midpoint(lower, ranked(count / 2)?))
    }
}

/// Microseconds, rounded to three significant figures.
fn figures(time: Duration) -> u32 {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let mut unit = 1;
    while micros / unit >= 1000 {
        unit *= 10;
    }
    let rounded = (micros / unit + u64::from(micros % unit * 2 >= unit && unit > 1)) * unit;
    u32::try_from(rounded).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::sample::{Chunk, Outcome};

    #[test]
    fn gaps_between_tokens_belong_to_the_second_in_which_they_end() {
        let at = |ms: u64| Chunk {
            at: Duration::from_millis(ms),
        };
        let mut seconds = Seconds::default();
        seconds.take(&Sample {
            sent: Some(Duration::ZERO),
            chunks: [at(900), at(950), at(1050), at(1150)].into(),
            end: Duration::from_millis(1150),
            outcome: Outcome::Success,
            output_tokens: Some(8),
            ..Sample::planned(0, Duration::ZERO)
        });
        let slices = seconds.slices(Duration::from_secs(3));
        let told: Vec<_> = slices.iter().map(|s| (s.output_tokens, s.itl_ms)).collect();
        // two tokens a chunk: each is half of the gap before it
        assert_eq!(told, [(4, Some(25.0)), (4, Some(50.0)), (0, None)]);
    }

    #[test]
    fn three_figures() {
        let table = [
            (0, 0),
            (999, 999),
            (1234, 1230),
            (1235, 1240),
            (99_951, 100_000),
            (150_000, 150_000),
            (u64::from(u32::MAX) * 2, u32::MAX),
        ];
        for (micros, wanted) in table {
            assert_eq!(figures(Duration::from_micros(micros)), wanted, "{micros}");
        }
    }
}
