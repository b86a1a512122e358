//! Who watches a load as it goes: exporters, progress, the writer of samples. Pure; nothing can fail.
//!
//! Requests are told when they begin and end. Of answers that take minutes that says little while they come, so their tokens
//! are counted as well ([`Live`]): each worker adds to a counter of its own, once a read, and waits for nobody.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use super::sample::Sample;
use crate::stats::summary::Window;

/// Tokens that one worker has got: a chunk is one until it is known better. In a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Live(AtomicU64);

impl Live {
    /// More came.
    pub fn add(&self, tokens: u64) {
        self.0.fetch_add(tokens, Relaxed);
    }

    /// All that came.
    pub fn tokens(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Told of each request as it goes, for exporters and progress. Must be quick: it runs in the load path.
pub trait Observer: Send + Sync + 'static {
    /// A request was handed to a connection.
    fn begun(&self) {}
    /// A request has ended.
    fn ended(&self, _sample: &Sample) {}
    /// Where another worker counts tokens as they come; of each that it told of them a sample says so when it ends.
    fn live(&self) -> Arc<Live> {
        Arc::default()
    }
    /// It is known now which requests are measured: before any of them ends.
    fn window_known(&self, _window: Window) {}
}

/// Both watch.
impl<A: Observer, B: Observer> Observer for (A, B) {
    fn begun(&self) {
        self.0.begun();
        self.1.begun();
    }

    fn ended(&self, sample: &Sample) {
        self.0.ended(sample);
        self.1.ended(sample);
    }

    /// The first counts.
    fn live(&self) -> Arc<Live> {
        self.0.live()
    }

    fn window_known(&self, window: Window) {
        self.0.window_known(window);
        self.1.window_known(window);
    }
}

/// Nobody watches.
#[derive(Debug, Clone, Copy)]
pub struct Nobody;

impl Observer for Nobody {}
