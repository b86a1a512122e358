//! Who watches a load as it goes: exporters, progress, the writer of samples. Pure; nothing can fail.

use super::sample::Sample;
use crate::stats::summary::Window;

/// Told of each request as it goes, for exporters and progress. Must be quick: it runs in the load path.
pub trait Observer: Send + Sync + 'static {
    /// A request was handed to a connection.
    fn begun(&self) {}
    /// A request has ended.
    fn ended(&self, _sample: &Sample) {}
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

    fn window_known(&self, window: Window) {
        self.0.window_known(window);
        self.1.window_known(window);
    }
}

/// Nobody watches.
#[derive(Debug, Clone, Copy)]
pub struct Nobody;

impl Observer for Nobody {}
