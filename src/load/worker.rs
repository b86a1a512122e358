//! One worker of a load: sends its share of the requests on its own event loop, by users or by time.
//!
//! *Closed loop*: every user has one request at a time, all start at once; a user who is refused the connection waits
//! [`REFUSED`] before the next try, because a refusal costs no time and would become a storm. *Open loop*: an absolute
//! schedule; each arrival is a task of its own, whatever the answers do. After a stall of this program arrivals are
//! sent late, none is skipped, and their latency counts from the intended time.
//!
//! A worker also sets itself a moment every [`PROBE`]: by how much it is late for that is by how much a stamp may be.

use std::{
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::{
    connection::Connect,
    dispatch::{Load, Observer, lock},
    exchange::{self, Call, Target},
    pace::Pace,
    sample::{Outcome, Sample},
    trace::Trace,
    workload::length,
};
use crate::{
    recipe::{LoadModel, ThinkTime},
    stats::tally::Tally,
};

/// Pause of a user who was refused the connection.
pub const REFUSED: Duration = Duration::from_millis(100);

/// How often a worker looks how late its event loop is.
pub const PROBE: Duration = Duration::from_millis(10);

/// Which of the users and arrivals are a worker's: every `of`-th, from `number` on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    pub(super) number: usize,
    pub(super) of: usize,
}

impl Share {
    fn holds(self, index: u64) -> bool {
        index % self.of as u64 == self.number as u64
    }
}

/// A part of a load, on one event loop.
pub(super) struct Worker<C: Connect, O> {
    load: Arc<Load<C, O>>,
    /// With connections of its own.
    targets: Vec<Target<C>>,
    tally: Arc<Mutex<Tally>>,
    trace: Trace,
    /// Start of the load.
    start: Instant,
}

impl<C: Connect, O: Observer> Worker<C, O> {
    /// One with connections of its own.
    pub(super) fn new(load: &Arc<Load<C, O>>, tally: Arc<Mutex<Tally>>, start: Instant) -> Self {
        Self {
            load: Arc::clone(load),
            targets: load.targets.iter().map(Target::fork).collect(),
            tally,
            trace: Trace::default(),
            start,
        }
    }

    /// Sends its share, and waits for all answers.
    pub(super) async fn send(self: Arc<Self>, share: Share, pace: C::Pace) {
        let tasks = TaskTracker::new();
        match self.load.model {
            LoadModel::ClosedLoop {
                concurrent_users,
                think_time,
                requests_per_user,
            } => {
                for user in (0..u64::from(concurrent_users)).filter(|user| share.holds(*user)) {
                    let worker = Arc::clone(&self);
                    tasks.spawn(
                        async move { worker.user(user, think_time, requests_per_user).await },
                    );
                }
            }
            LoadModel::OpenLoop { max_in_flight, .. } => {
                let all = self.load.arrivals();
                let own = all.filter(|(index, _)| share.holds(*index));
                self.follow(own, max_in_flight.map(u64::from), pace, &tasks)
                    .await;
            }
        }
        tasks.close();
        tasks.wait().await;
        self.trace.flush();
    }

    /// One user: a request, its answer, a pause, and again.
    async fn user(&self, user: u64, think_time: ThinkTime, limit: Option<u64>) {
        let load = &*self.load;
        let mut random = load.content.pauses(user);
        let mut own = 0;
        while !load.control.drain.is_cancelled() && limit.is_none_or(|limit| own < limit) {
            let intended = self.start.elapsed();
            if load.is_over(intended) || !load.claim(intended) {
                return;
            }
            let index = load.index.fetch_add(1, Ordering::Relaxed);
            load.in_flight.fetch_add(1, Ordering::Relaxed);
            let refused = self.carry(load.call(index, intended)).await;
            own += u64::from(intended >= load.phases.warmup);
            let mut pause = length::pause(&think_time, &mut random);
            if refused {
                pause = pause.max(REFUSED);
            }
            if !pause.is_zero() {
                let next = self.start.elapsed().saturating_add(pause);
                // whoever thinks longer than the load lasts does not hold it up
                let next = load.end().map_or(next, |end| next.min(end));
                if !self
                    .sleep(tokio::time::sleep_until(self.start + next))
                    .await
                {
                    return;
                }
            }
        }
    }

    /// Follows a schedule.
    async fn follow(
        self: &Arc<Self>,
        arrivals: impl Iterator<Item = (u64, Duration)>,
        max_in_flight: Option<u64>,
        mut pace: C::Pace,
        tasks: &TaskTracker,
    ) {
        let load = &*self.load;
        for (index, intended) in arrivals {
            if load.is_over(intended) {
                break;
            }
            // made before its time, so that it is not late by what that takes
            let call = load.call(index, intended);
            if !self.sleep(reach(&mut pace, self.start + intended)).await {
                return;
            }
            if max_in_flight.is_some_and(|most| load.in_flight() >= most) {
                let mut dropped = exchange::planned(&call);
                dropped.outcome = Outcome::NeverSent;
                dropped.dropped = true;
                self.keep(&dropped);
                continue;
            }
            let worker = Arc::clone(self);
            // counted here: the next arrival must see it, whenever the task first runs
            load.in_flight.fetch_add(1, Ordering::Relaxed);
            tasks.spawn(async move {
                worker.carry(call).await;
            });
        }
        // the window is open to its end, also behind the last arrival
        if let Some(end) = load.end().filter(|_| load.total.is_none()) {
            self.sleep(reach(&mut pace, self.start + end)).await;
        }
    }

    /// Waits; `false` when the load was told to drain.
    async fn sleep(&self, wait: impl Future<Output = ()>) -> bool {
        tokio::select! {
            biased;
            () = self.load.control.drain.cancelled() => false,
            () = wait => true,
        }
    }

    /// Sends one request that is counted as in flight, and tells of it; was the connection refused?
    async fn carry(&self, call: Call) -> bool {
        let load = &*self.load;
        load.observer.begun();
        let target = &self.targets[usize::try_from(call.index).unwrap_or(0) % self.targets.len()];
        let sample = exchange::exchange(target, &call, self.start, &load.control.abort).await;
        load.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.keep(&sample);
        matches!(&sample.outcome, Outcome::Error(class, _) if class == "connect")
    }

    fn keep(&self, sample: &Sample) {
        self.trace.take(sample);
        self.load.observer.ended(sample);
        lock(&self.tally).take(sample);
    }

    /// Looks how late the event loop is, for ever. Of a stall that spans several moments each is late.
    pub(super) async fn look(&self, mut pace: C::Pace) {
        let mut at = Instant::now();
        loop {
            at += PROBE;
            pace.until(at).await;
            let now = Instant::now();
            let mut tally = lock(&self.tally);
            tally.take_loop_delay(now - self.start, now - at);
            while at + PROBE <= now {
                at += PROBE;
                tally.take_loop_delay(now - self.start, now - at);
            }
        }
    }
}

/// Waits until then; where it is past, lets others go first all the same: whoever is behind must not only make tasks.
async fn reach(pace: &mut impl Pace, at: Instant) {
    if Instant::now() < at {
        pace.until(at).await;
    } else {
        tokio::task::yield_now().await;
    }
}
