//! A load: what is sent, by whom or when, within which limits, and what came of it.
//!
//! A load may be shared by workers, one a core, each with an event loop, connections and a tally of its own
//! ([`worker`](super::worker)): the users and the arrivals are dealt out in turn, and only a few counters are common. It
//! may also be one task's part of a larger load ([`deal`](super::deal)).
//!
//! The end: at the end of the window nothing more is sent, and what is in flight is read to its end (a request has its
//! own limit). Told to drain, the same holds until `abort`; what is then in flight is `cancelled`, with what was seen
//! of it.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use super::observer::{Live, Nobody, Observer};
use super::{
    beginning::Beginning,
    connection::Connect,
    deal::{Dealing, Share},
    exchange::{Call, Target},
    pace::Pace as _,
    phase::Phases,
    spent::{self, Meter},
    worker::Worker,
    workload::Content,
};
use crate::{
    recipe::{ClientPlan, LoadModel},
    stats::{summary::Window, tally::Tally},
};

/// When the load ends before its plan does.
#[derive(Debug, Clone, Default)]
pub struct Control {
    /// Nothing more is sent.
    pub drain: CancellationToken,
    /// What is in flight is given up.
    pub abort: CancellationToken,
    /// Nothing is sent after this long, because the service's job ends.
    pub until: Option<Duration>,
}

/// The right to send a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claim {
    pub(super) intended: Duration,
    /// Does it belong to the window?
    pub(super) measured: bool,
}

/// A load.
pub struct Load<C: Connect, O> {
    pub(super) targets: Vec<Target<C>>,
    pub(super) content: Content,
    pub(super) beginning: Beginning,
    pub(super) model: LoadModel,
    /// Of all tasks.
    pub(super) total: Option<u64>,
    pub(super) dealing: Dealing,
    timeout: Duration,
    pub(super) control: Control,
    pub(super) observer: O,
    /// Nothing counted: what tallies begin with.
    blank: Tally,
    /// One a worker.
    tallies: Mutex<Vec<Arc<Mutex<Tally>>>>,
    /// What each worker takes of its core.
    meters: Mutex<Vec<Arc<Meter>>>,
    /// What was taken out of these, and of that what [`Self::news`] has yet to tell.
    taken: Mutex<(Tally, Tally)>,
    index: AtomicU64,
    /// By how much the latest worker began after the start, in ns.
    late_start: AtomicU64,
    measured: AtomicU64,
    pub(super) in_flight: AtomicU64,
}

impl<C: Connect, O: Observer> Load<C, O> {
    /// A load of these targets (at least one) by this plan.
    pub fn new(
        plan: &ClientPlan,
        targets: Vec<Target<C>>,
        content: Content,
        control: Control,
        observer: O,
    ) -> Self {
        assert!(!targets.is_empty(), "a load needs a target");
        let beginning = Beginning::of(plan, &content, control.until);
        let blank = Tally::new(beginning.window(), &plan.slo);
        if beginning.phases().is_some() {
            observer.window_known(beginning.window());
        }
        Self {
            targets,
            content,
            beginning,
            model: plan.load.clone(),
            total: plan.total_requests,
            dealing: Dealing {
                task: Share::WHOLE,
                users: users(&plan.load),
            },
            timeout: plan.timeout,
            control,
            observer,
            taken: Mutex::new((blank.clone(), blank.clone())),
            blank,
            tallies: Mutex::new(Vec::new()),
            meters: Mutex::new(Vec::new()),
            index: AtomicU64::new(0),
            late_start: AtomicU64::new(0),
            measured: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
        }
    }

    /// The part of it that one of several tasks sends.
    #[must_use]
    pub fn part(mut self, task: Share) -> Self {
        self.dealing.task = task;
        self
    }

    /// What this task has of the load.
    pub fn dealing(&self) -> Dealing {
        self.dealing
    }

    /// Who is told of each request.
    pub fn observer(&self) -> &O {
        &self.observer
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// What has ended so far.
    pub fn tally(&self) -> Tally {
        let mut whole = self.take().0.clone();
        whole.begin(self.beginning.window());
        whole
    }

    /// What has ended since this was last asked: what one task tells another, so that it need not tell all each time.
    pub fn news(&self) -> Tally {
        std::mem::replace(&mut self.take().1, self.blank())
    }

    /// Takes what the workers have: they wait for no more than an exchange, not until it is added up.
    fn take(&self) -> MutexGuard<'_, (Tally, Tally)> {
        let mut taken = lock(&self.taken);
        for tally in lock(&self.tallies).iter() {
            let blank = self.blank();
            let took = std::mem::replace(&mut *lock(tally), blank);
            taken.0.merge(&took);
            taken.1.merge(&took);
        }
        taken
    }

    /// By how much the latest worker began after the start.
    pub fn late_start(&self) -> Duration {
        Duration::from_nanos(self.late_start.load(Ordering::Relaxed))
    }

    /// CPU time of each worker as a share of a core, from the beginning of the window until it had sent all.
    pub fn worker_shares(&self) -> Vec<f64> {
        let meters = lock(&self.meters);
        meters.iter().filter_map(|meter| meter.share()).collect()
    }

    /// Between which moments each worker's CPU time was read.
    #[cfg(test)]
    pub(super) fn metered(&self) -> Vec<Option<(Duration, Duration)>> {
        let meters = lock(&self.meters);
        meters.iter().map(|meter| meter.span()).collect()
    }

    /// CPU time of this process as a share of what so many workers could have had, over the same time.
    pub fn cpu_share(&self, start: Instant, workers: usize) -> f64 {
        let meters = lock(&self.meters);
        let of_one = spent::of_process(meters.iter().map(|meter| &**meter), start.elapsed());
        of_one.unwrap_or(0.0) / workers.max(1) as f64
    }

    /// Workers that this load is worth, of as many cores: a user has one request at a time.
    pub fn workers(&self, cores: usize) -> usize {
        let most = match self.model {
            LoadModel::ClosedLoop { .. } => {
                usize::try_from(self.dealing.own_users()).unwrap_or(usize::MAX)
            }
            LoadModel::OpenLoop { .. } => cores,
        };
        cores.min(most).max(1)
    }

    /// Runs the load to its end, on the event loop that runs here; all times of its samples count from `start`, which may
    /// be to come.
    ///
    /// # Errors
    /// No timer.
    pub async fn run(self: &Arc<Self>, start: Instant) -> io::Result<()> {
        self.work(Share::WHOLE, start).await
    }

    /// The same by so many workers, each a thread of its own: whatever else this program does takes turns with them, and
    /// does not hold them up.
    ///
    /// # Errors
    /// No event loop, no timer, or a worker that came to an unplanned end.
    pub async fn run_on(self: &Arc<Self>, workers: usize, start: Instant) -> io::Result<()> {
        let threads = TaskTracker::new();
        let begin = |number| {
            let load = Arc::clone(self);
            threads.spawn_blocking(move || {
                tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?
                    .block_on(load.work(
                        Share {
                            number,
                            of: workers,
                        },
                        start,
                    ))
            })
        };
        let begun: Vec<_> = (0..workers).map(begin).collect();
        for worker in begun {
            worker.await.map_err(io::Error::other)??;
        }
        Ok(())
    }

    /// One worker's part.
    async fn work(self: &Arc<Self>, share: Share, start: Instant) -> io::Result<()> {
        let tally = {
            // whoever begins the window tells all that are in the list
            let mut tallies = lock(&self.tallies);
            let tally = Arc::new(Mutex::new(self.blank()));
            tallies.push(Arc::clone(&tally));
            tally
        };
        let connector = self.targets[0].pool.connector();
        let (mut pace, probe) = (connector.pace()?, connector.pace()?);
        if Instant::now() < start {
            pace.until(start).await;
        }
        let late = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.late_start.fetch_max(late, Ordering::Relaxed);
        let meter = Arc::new(Meter::new(start.elapsed()));
        lock(&self.meters).push(Arc::clone(&meter));
        let worker = Arc::new(Worker::new(self, tally, meter, start));
        let closing = async {
            self.control.drain.cancelled().await;
            self.close(start);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased;
            () = closing => {}
            () = worker.clone().send(share, pace) => {}
            () = worker.look(probe) => {}
        }
        if self.control.drain.is_cancelled() {
            self.close(start);
        }
        Ok(())
    }

    /// The load was told to send nothing more: what comes from now on is no longer in the window.
    fn close(&self, start: Instant) {
        let tallies = lock(&self.tallies);
        if self.beginning.is_closed() {
            return;
        }
        // while nobody counts: all that was counted came before this moment, so that samples tell the same again
        let mut held: Vec<_> = tallies.iter().map(|tally| lock(tally)).collect();
        let now = start.elapsed() + Duration::from_nanos(1);
        self.beginning.close(now);
        for tally in &mut held {
            tally.begin(self.beginning.window());
        }
    }

    /// Does this worker have the user, or arrival, of this number? By its number within the task, for tasks may have as
    /// many workers as their nodes have cores.
    pub(super) fn holds(&self, worker: Share, index: u64) -> bool {
        let task = self.dealing.task;
        task.holds(index) && worker.holds(index / task.of as u64)
    }

    /// The number of the next request of a closed loop.
    pub(super) fn next_index(&self) -> u64 {
        self.dealing.nth(self.index.fetch_add(1, Ordering::Relaxed))
    }

    /// Takes a place among the requests in flight, where fewer than `most` are: no two workers take the last one.
    pub(super) fn takes_place(&self, most: Option<u64>) -> bool {
        let Some(most) = most else {
            self.in_flight.fetch_add(1, Ordering::Relaxed);
            return true;
        };
        let more = |now| (now < most).then_some(now + 1);
        (self.in_flight)
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .is_ok()
    }

    pub(super) fn is_over(&self, at: Duration) -> bool {
        self.end().is_some_and(|end| at >= end)
    }

    /// When nothing is sent any more, if only time ends the load: by the plan, or because the service's job ends.
    pub(super) fn end(&self) -> Option<Duration> {
        let planned = self.beginning.phases().and_then(Phases::load_end);
        planned.into_iter().chain(self.control.until).min()
    }

    /// Nothing counted, with the window as far as it is known.
    fn blank(&self) -> Tally {
        let mut blank = self.blank.clone();
        blank.begin(self.beginning.window());
        blank
    }

    /// Takes the next of the requests that the plan allows a closed loop; those of the warm-up do not count. `None` at the
    /// end of the load. It is intended when its user was `ready`, however late the user is called: what lies between is the
    /// lateness of this program.
    pub(super) fn claim(&self, start: Instant, ready: Option<Duration>) -> Option<Claim> {
        // it is known first whether the window has begun: what is intended after that is not before it
        let turn = self.beginning.turn();
        let now = start.elapsed();
        if self.is_over(now) {
            return None;
        }
        let now = ready.map_or(now, |ready| ready.min(now));
        let intended = match turn {
            None => self.beginning.not_before(now),
            Some(mut turn) => match turn.claim(now) {
                Some(intended) => {
                    return Some(Claim {
                        intended,
                        measured: false,
                    });
                }
                None => self.begin_window(|| turn.after(start.elapsed() + Duration::from_nanos(1))),
            },
        };
        let measured = !self.beginning.is_warmup(intended);
        let allowed =
            |total| self.measured.fetch_add(1, Ordering::Relaxed) < self.dealing.count(total);
        (!measured || self.total.is_none_or(allowed)).then_some(Claim { intended, measured })
    }

    /// The window begins: every worker is told. The clock is read while no tally takes anything, so that what a tally took
    /// without a window ended before it, as whoever counts the samples again will find.
    fn begin_window(&self, clock: impl FnOnce() -> Duration) -> Duration {
        let tallies = lock(&self.tallies);
        let held: Vec<_> = tallies.iter().map(|tally| lock(tally)).collect();
        let at = clock();
        self.beginning.set(at);
        let window = self.beginning.window();
        for mut tally in held {
            tally.begin(window);
        }
        drop(tallies);
        self.observer.window_known(window);
        at
    }

    /// The arrivals that the plan allows, by their number. Those of the warm-up do not count.
    pub(super) fn arrivals(&self) -> impl Iterator<Item = (u64, Duration)> + Send {
        let mut left = self.total.unwrap_or(u64::MAX);
        (0..)
            .zip(self.content.times())
            .take_while(move |(_, intended)| {
                if self.beginning.is_warmup(*intended) {
                    return true;
                }
                let allowed = left > 0;
                left = left.saturating_sub(1);
                allowed
            })
    }

    pub(super) fn call(&self, index: u64, intended: Duration) -> Call {
        Call {
            chunks: self.content.asked(index).max_tokens as usize,
            body: self.content.body(index),
            way: self.content.way(index),
            ..self.empty_call(index, intended)
        }
    }

    /// A request without what it says.
    pub(super) fn empty_call(&self, index: u64, intended: Duration) -> Call {
        Call {
            index,
            turn: None,
            intended,
            api: self.content.api(),
            stream: self.content.streams(),
            chunks: 0,
            body: Vec::new(),
            timeout: self.timeout,
            way: None,
        }
    }
}

/// The window of a load, where its beginning is known before it; else there is nothing in it.
pub fn planned(plan: &ClientPlan, content: &Content) -> Window {
    Beginning::of(plan, content, None).window()
}

/// Users of a closed loop; `None` for an open one.
pub fn users(load: &LoadModel) -> Option<u64> {
    match load {
        LoadModel::ClosedLoop {
            concurrent_users, ..
        } => Some(u64::from(*concurrent_users)),
        LoadModel::OpenLoop { .. } => None,
    }
}

/// Locks what no panic can leave half-changed.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
