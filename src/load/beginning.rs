//! When the measured window begins: at a time, or with the request that follows a number of others.
//!
//! Of an open loop the schedule tells that before the load begins. Of a closed loop it is known when it happens: the
//! first request after the warm-up is claimed under a lock, so that no request of the warm-up is intended after it, and
//! none of the window before it: of one moment, the window's come a nanosecond later. From then on a claim takes no lock.
//! Arrivals of one moment, as a trace may have, are not parted: what comes with the last of the warm-up belongs to it, too.
//! Nothing can fail; a load that ends in its warm-up has no window.

use std::{
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::{phase::Phases, workload::Content};
use crate::{
    recipe::{ClientPlan, LoadModel},
    stats::summary::Window,
};

/// The requests of a warm-up that were claimed.
#[derive(Debug)]
pub(super) struct Turn {
    left: u64,
    /// When the last of them was intended.
    last: Duration,
}

impl Turn {
    /// Claims one of them; `None` where there is none left.
    pub(super) fn claim(&mut self, now: Duration) -> Option<Duration> {
        self.left = self.left.checked_sub(1)?;
        self.last = self.last.max(now);
        Some(now)
    }

    /// A time after all of them.
    pub(super) fn after(&self, now: Duration) -> Duration {
        now.max(self.last + Duration::from_nanos(1))
    }
}

/// The beginning of the window.
#[derive(Debug)]
pub(super) struct Beginning {
    /// Does a closed loop warm up by requests?
    by_claims: bool,
    measure: Option<Duration>,
    phases: OnceLock<Phases>,
    /// Held by whoever claims a request before the window has begun.
    turn: Mutex<Turn>,
    /// Cancelled when it has begun.
    begun: CancellationToken,
    /// Nothing is sent from then on, because the service's job ends.
    until: Option<Duration>,
    /// When the load was told to send nothing more.
    closed: OnceLock<Duration>,
}

impl Beginning {
    /// Of a plan, and the schedule of its content.
    pub(super) fn of(plan: &ClientPlan, content: &Content, until: Option<Duration>) -> Self {
        let is_open = matches!(plan.load, LoadModel::OpenLoop { .. });
        let beginning = Self {
            by_claims: plan.warmup_requests.is_some() && !is_open,
            measure: plan.duration,
            phases: OnceLock::new(),
            turn: Mutex::new(Turn {
                left: plan.warmup_requests.unwrap_or(0),
                last: Duration::ZERO,
            }),
            begun: CancellationToken::new(),
            until,
            closed: OnceLock::new(),
        };
        match plan.warmup_requests {
            None => beginning.set(plan.warmup),
            Some(requests) if is_open => {
                let last = usize::try_from(requests)
                    .unwrap_or(usize::MAX)
                    .saturating_sub(1);
                let mut times = content.times();
                let after = times.nth(last).and_then(|last| times.find(|at| *at > last));
                // a schedule that ends before has no window
                beginning.set(after.unwrap_or(Duration::MAX));
            }
            Some(_) => {}
        }
        beginning
    }

    /// The phases; `None` while the window has not begun and nobody knows when it will.
    pub(super) fn phases(&self) -> Option<&Phases> {
        self.phases.get()
    }

    /// The window, of which there is nothing before it is known when it begins. It ends when nothing is sent any more: by the
    /// plan, or before.
    pub(super) fn window(&self) -> Window {
        self.phases().map_or(
            Window {
                start: Duration::MAX,
                end: Duration::MAX,
            },
            |phases| {
                let early = self.until.into_iter().chain(self.closed.get().copied());
                let end = early.chain(phases.load_end()).min();
                Window {
                    start: phases.warmup,
                    end: end.unwrap_or(Duration::MAX),
                }
            },
        )
    }

    /// A time that is not before the window, which has begun; where a warm-up ends by time, as it is.
    pub(super) fn not_before(&self, now: Duration) -> Duration {
        match self.phases() {
            Some(phases) if self.by_claims => now.max(phases.warmup),
            _ => now,
        }
    }

    /// Does a request belong to the warm-up?
    pub(super) fn is_warmup(&self, intended: Duration) -> bool {
        self.phases().is_none_or(|phases| intended < phases.warmup)
    }

    /// The window begins then.
    pub(super) fn set(&self, at: Duration) {
        let phases = Phases {
            warmup: at,
            measure: self.measure,
        };
        // the first to say so is right
        let _ = self.phases.set(phases);
        self.begun.cancel();
    }

    /// Nothing is sent from then on.
    pub(super) fn close(&self, at: Duration) {
        // the first to say so is right
        let _ = self.closed.set(at);
    }

    /// Was the load told to send nothing more?
    pub(super) fn is_closed(&self) -> bool {
        self.closed.get().is_some()
    }

    /// The right to claim the next request, while the window has not begun.
    pub(super) fn turn(&self) -> Option<MutexGuard<'_, Turn>> {
        if self.phases().is_some() {
            return None;
        }
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        // it may have begun while others were waited for
        self.phases().is_none().then_some(turn)
    }

    /// Waits until the window begins; at once where it has.
    pub(super) async fn wait(&self) {
        self.begun.cancelled().await;
    }
}
