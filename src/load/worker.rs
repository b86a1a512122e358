//! One worker of a load: sends its share of the requests on its own event loop, by users or by time.
//!
//! *Closed loop*: every user has one request at a time, all start at once; a user who is refused the connection waits
//! [`REFUSED`] before the next try, because a refusal costs no time and would become a storm. *Open loop*: an absolute
//! schedule; each arrival is a task of its own, whatever the answers do. After a stall of this program arrivals are
//! sent late, none is skipped, and their latency counts from the intended time. Where arrivals begin conversations, later
//! turns follow their answers after a pause, like those of a user, and are meant to be sent when they are ready to be.
//!
//! A worker also sets itself a moment every [`PROBE`]: by how much it is late for that is by how much a stamp may be that is
//! not the kernel's.

use std::{
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::{
    connection::Connect,
    deal::Share,
    dispatch::{Load, Observer, lock},
    exchange::{self, Call, Target},
    pace::Pace,
    sample::{Outcome, Sample},
    spent::Meter,
    talk::Talk,
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

/// A user who has paused is called back by tokio's timer, which counts in milliseconds, as does the kernel's wait behind
/// it: so much later is no fault of this program, and counts as pause.
const TICK: Duration = Duration::from_millis(2);

/// A part of a load, on one event loop.
pub(super) struct Worker<C: Connect, O> {
    load: Arc<Load<C, O>>,
    /// With connections of its own.
    targets: Vec<Target<C>>,
    tally: Arc<Mutex<Tally>>,
    trace: Trace,
    meter: Arc<Meter>,
    /// Start of the load.
    start: Instant,
}

impl<C: Connect, O: Observer> Worker<C, O> {
    /// One with connections of its own.
    pub(super) fn new(
        load: &Arc<Load<C, O>>,
        tally: Arc<Mutex<Tally>>,
        meter: Arc<Meter>,
        start: Instant,
    ) -> Self {
        let live = load.observer.live();
        let own = |target: &Target<C>| Target {
            live: Arc::clone(&live),
            ..target.fork()
        };
        Self {
            load: Arc::clone(load),
            targets: load.targets.iter().map(own).collect(),
            tally,
            trace: Trace::default(),
            meter,
            start,
        }
    }

    /// Sends its share, and waits for all answers.
    pub(super) async fn send(self: Arc<Self>, share: Share, pace: C::Pace) {
        let tasks = TaskTracker::new();
        let load = &*self.load;
        match load.model {
            LoadModel::ClosedLoop {
                concurrent_users,
                think_time,
                requests_per_user,
            } => {
                let own = (0..u64::from(concurrent_users)).filter(|user| load.holds(share, *user));
                for user in own {
                    let worker = Arc::clone(&self);
                    tasks.spawn(
                        async move { worker.user(user, think_time, requests_per_user).await },
                    );
                }
            }
            LoadModel::OpenLoop { max_in_flight, .. } => {
                let own = load
                    .arrivals()
                    .filter(|(index, _)| load.holds(share, *index));
                let most = max_in_flight.map(|most| load.dealing.task.count(most.into()));
                self.follow(own, most, pace, &tasks).await;
                self.meter.end(self.start.elapsed());
            }
        }
        tasks.close();
        tasks.wait().await;
        self.meter.end(self.start.elapsed());
        self.trace.flush();
    }

    /// One user: a request, its answer, a pause, and again; of a conversation, turn by turn.
    async fn user(&self, user: u64, think_time: ThinkTime, limit: Option<u64>) {
        let load = &*self.load;
        let mut random = load.content.pauses(user);
        let mut own = 0;
        let mut next: Option<(Call, Option<Talk>)> = None;
        let mut ready = None;
        while !load.control.drain.is_cancelled() && limit.is_none_or(|limit| own < limit) {
            let Some(claim) = load.claim(self.start, ready) else {
                self.meter.end(self.start.elapsed());
                return;
            };
            let (mut call, talk) =
                (next.take()).unwrap_or_else(|| load.begin(load.next_index(), claim.intended));
            call.intended = claim.intended;
            load.in_flight.fetch_add(1, Ordering::Relaxed);
            let mut sample = self.carry(call).await;
            own += u64::from(claim.measured);
            let mut pause = match load.go_on(talk, &mut sample) {
                Some(talk) => {
                    let pause = load.pause_before(&talk);
                    // made before its time, so that it is not late by what that takes
                    next = Some((load.turn(&talk, claim.intended), Some(talk)));
                    pause
                }
                None => length::pause(&think_time, &mut random),
            };
            if sample.outcome.is_unconnected() {
                pause = pause.max(REFUSED);
            }
            ready = Some(ready_after(&sample, pause));
            if !self.think(pause).await {
                return;
            }
        }
    }

    /// Goes on with what an arrival began, as its turns come due, until the load is over.
    async fn follow_up(&self, mut talk: Option<Talk>, mut sample: Sample, most: Option<u64>) {
        let load = &*self.load;
        loop {
            talk = load.go_on(talk, &mut sample);
            let Some(next) = &talk else { return };
            // made before its time, so that it is not late by what that takes
            let mut call = load.turn(next, Duration::ZERO);
            let pause = load.pause_before(next);
            let ready = ready_after(&sample, pause);
            if !self.think(pause).await {
                return;
            }
            let now = self.start.elapsed();
            if load.is_over(now) {
                return;
            }
            call.intended = ready.min(now);
            if self.drops(&call, most) {
                return;
            }
            sample = self.carry(call).await;
        }
    }

    /// Waits for as long as a user thinks, or until the end of the load: whoever thinks longer than it lasts does not hold
    /// it up. `false` when the load was told to drain.
    async fn think(&self, pause: Duration) -> bool {
        let load = &*self.load;
        if pause.is_zero() {
            return !load.control.drain.is_cancelled();
        }
        let next = self.start.elapsed().saturating_add(pause);
        loop {
            // the end is known when the window begins
            let is_known = load.beginning.phases().is_some();
            let until = load.end().map_or(next, |end| next.min(end));
            let wait = tokio::time::sleep_until(self.start + until);
            tokio::select! {
                biased;
                goes_on = self.sleep(wait) => return goes_on,
                () = load.beginning.wait(), if !is_known => {}
            }
        }
    }

    /// Is a request one too many? It is then told as dropped; else it is in flight from here on, for the next arrival must
    /// see it, whenever its task first runs.
    fn drops(&self, call: &Call, most: Option<u64>) -> bool {
        if self.load.takes_place(most) {
            return false;
        }
        let mut dropped = exchange::planned(call);
        dropped.outcome = Outcome::NeverSent;
        dropped.dropped = true;
        self.keep(&dropped);
        true
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
            let (call, talk) = load.begin(index, intended);
            if !self.sleep(reach(&mut pace, self.start + intended)).await {
                return;
            }
            if self.drops(&call, max_in_flight) {
                continue;
            }
            let worker = Arc::clone(self);
            tasks.spawn(async move {
                let sample = worker.carry(call).await;
                if talk.is_some() {
                    worker.follow_up(talk, sample, max_in_flight).await;
                }
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

    /// Sends one request that is counted as in flight, and tells of it.
    async fn carry(&self, call: Call) -> Sample {
        let load = &*self.load;
        load.observer.begun();
        // in turn; a conversation stays where it began
        let instance = usize::try_from(call.index).unwrap_or(0) % self.targets.len();
        let target = &self.targets[instance];
        let sample = exchange::exchange(target, &call, self.start, &load.control.abort).await;
        load.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.keep(&sample);
        lock(&self.tally).take_instance(instance, &sample);
        sample
    }

    fn keep(&self, sample: &Sample) {
        self.trace.take(sample);
        self.load.observer.ended(sample);
        lock(&self.tally).take(sample);
    }

    /// Reads the CPU time where the window begins, or ends.
    fn read_meter(&self) {
        let (load, now) = (&*self.load, self.start.elapsed());
        if now >= load.beginning.window().start {
            self.meter.begin(now);
        }
        if load.control.drain.is_cancelled() || load.is_over(now) {
            self.meter.end(now);
        }
    }

    /// Looks how late the event loop is, for ever. Of a stall that spans several moments each is late.
    pub(super) async fn look(&self, mut pace: C::Pace) {
        let mut at = Instant::now();
        self.read_meter();
        loop {
            at += PROBE;
            pace.until(at).await;
            self.read_meter();
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

/// When a user has thought so long after an answer.
fn ready_after(answer: &Sample, pause: Duration) -> Duration {
    let tick = if pause.is_zero() { pause } else { TICK };
    answer.end.saturating_add(pause).saturating_add(tick)
}

/// Waits until then; where it is past, lets others go first all the same: whoever is behind must not only make tasks.
async fn reach(pace: &mut impl Pace, at: Instant) {
    if Instant::now() < at {
        pace.until(at).await;
    } else {
        tokio::task::yield_now().await;
    }
}
