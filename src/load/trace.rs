//! Every stamp of every request, for those who want to check the generator: at `AIF_LOG=aif::load=trace`.
//!
//! `number,sent,chunk,chunk…` in ns since the start of the load, with `;` between requests, many in one event of the log:
//! an event a request would be what makes the stamps late. The same time of the monotonic clock is told at the start.

use std::{
    fmt::Write as _,
    sync::{Mutex, PoisonError},
};

use super::sample::Sample;

/// Bytes of an event.
const SIZE: usize = 64 << 10;

/// Stamps that were not told yet.
#[derive(Debug, Default)]
pub(super) struct Trace(Mutex<String>);

impl Trace {
    /// Takes the stamps of a request, if anybody listens.
    pub(super) fn take(&self, sample: &Sample) {
        if !tracing::enabled!(target: "aif::load", tracing::Level::TRACE) {
            return;
        }
        let mut text = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = write!(text, "{}", sample.index);
        let chunks = sample.chunks.iter().map(|chunk| chunk.at);
        for at in sample.sent.into_iter().chain(chunks) {
            let _ = write!(text, ",{}", at.as_nanos());
        }
        text.push(';');
        if text.len() >= SIZE {
            tell(&text);
            text.clear();
        }
    }

    /// Tells what is left.
    pub(super) fn flush(&self) {
        let text = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        if !text.is_empty() {
            tell(&text);
        }
    }
}

fn tell(stamps: &str) {
    tracing::trace!(target: "aif::load", %stamps, "Requests have ended");
}
