//! Rows on their way from the load to the file, as many as fit into a piece of memory of bounded size.
//!
//! Made in the load path: a row is a copy of whole numbers, and a batch is used again and again, so that nothing is
//! allocated once its size is found, except for errors. Nothing can fail.

use super::column::{COLUMNS, NONE, WIDTH, nanoseconds};
use crate::load::sample::{Outcome, Sample};

/// Bytes of an error's message that are kept.
const MESSAGE: usize = 256;

/// A request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    /// By column.
    pub(super) values: [i64; WIDTH],
    /// How it ended; one of [`OUTCOMES`].
    pub(super) outcome: &'static str,
    /// Gaps between its chunks, in [`Batch::gaps`].
    pub(super) gaps: u32,
    /// Gaps between its events without text, in [`Batch::silent`].
    pub(super) silent: u32,
    /// Chunks whose tokens are known, in [`Batch::counts`].
    pub(super) counts: u32,
    /// Its place in [`Batch::errors`], and one more; 0 without an error.
    pub(super) error: u32,
    /// Tokens asked of its prompt; told by the writer.
    pub(super) asked_prompt: i64,
    /// Tokens asked of its answer at the most; told by the writer.
    pub(super) asked_output: i64,
}

/// How requests end.
pub(super) const OUTCOMES: [&str; 5] = ["success", "error", "timeout", "cancelled", "never_sent"];

/// Rows.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) rows: Vec<Row>,
    /// Nanoseconds between chunks, row after row.
    pub(super) gaps: Vec<i64>,
    /// Nanoseconds between events without text, row after row.
    pub(super) silent: Vec<i64>,
    /// Tokens of each chunk, row after row.
    pub(super) counts: Vec<i64>,
    /// Class and message of errors.
    pub(super) errors: Vec<(String, String)>,
}

impl Batch {
    /// Adds a request.
    pub(super) fn take(&mut self, sample: &Sample) {
        let pairs = sample.chunks.windows(2);
        let gaps = pairs.map(|pair| nanoseconds(pair[1].at) - nanoseconds(pair[0].at));
        let gaps = added(&mut self.gaps, gaps);
        let pairs = sample.silent.windows(2);
        let silent = pairs.map(|pair| nanoseconds(pair[1]) - nanoseconds(pair[0]));
        let silent = added(&mut self.silent, silent);
        let counts = sample.counts().iter().copied().map(i64::from);
        let counts = added(&mut self.counts, counts);
        let mut values = [NONE; WIDTH];
        for (value, column) in values.iter_mut().zip(COLUMNS) {
            *value = column.get(sample);
        }
        let [success, error, timeout, cancelled, never_sent] = OUTCOMES;
        let row = Row {
            values,
            outcome: match &sample.outcome {
                Outcome::Success => success,
                Outcome::Error(..) => error,
                Outcome::Timeout => timeout,
                Outcome::Cancelled => cancelled,
                Outcome::NeverSent => never_sent,
            },
            gaps,
            silent,
            counts,
            error: self.error(&sample.outcome),
            asked_prompt: NONE,
            asked_output: NONE,
        };
        self.rows.push(row);
    }

    /// Keeps an error, once where it comes again and again.
    fn error(&mut self, outcome: &Outcome) -> u32 {
        let Outcome::Error(class, message) = outcome else {
            return 0;
        };
        let message = &message[..message.floor_char_boundary(MESSAGE)];
        let is_last = |(last, said): &(String, String)| last == class && said == message;
        if !self.errors.last().is_some_and(is_last) {
            self.errors.push((class.clone(), message.to_owned()));
        }
        u32::try_from(self.errors.len()).unwrap_or(0)
    }

    /// Memory that it takes, about.
    pub(super) fn bytes(&self) -> usize {
        self.rows.len() * size_of::<Row>()
            + (self.gaps.len() + self.silent.len() + self.counts.len()) * size_of::<i64>()
            + self.errors.len() * (MESSAGE + 2 * size_of::<String>())
    }

    /// Forgets what it holds.
    pub(super) fn clear(&mut self) {
        self.rows.clear();
        self.gaps.clear();
        self.silent.clear();
        self.counts.clear();
        self.errors.clear();
    }
}

/// Adds to a list, and tells how many.
fn added(all: &mut Vec<i64>, more: impl Iterator<Item = i64>) -> u32 {
    let before = all.len();
    all.extend(more);
    u32::try_from(all.len() - before).unwrap_or(u32::MAX)
}
