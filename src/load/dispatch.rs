//! A load: what is sent, by whom or when, within which limits, and what came of it.
//!
//! A load may be shared by workers, one a core, each with an event loop, connections and a tally of its own
//! ([`worker`](super::worker)): the users and the arrivals are dealt out in turn, and only a few counters are common.
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

use super::{
    connection::Connect,
    exchange::{Call, Target},
    phase::Phases,
    sample::Sample,
    worker::{Share, Worker},
    workload::Content,
};
use crate::{
    clock,
    recipe::{ClientPlan, LoadModel},
    stats::{summary::Window, tally::Tally},
};

/// Told of each request as it goes, for exporters and progress. Must be quick: it runs in the load path.
pub trait Observer: Send + Sync + 'static {
    /// A request was handed to a connection.
    fn begun(&self) {}
    /// A request has ended.
    fn ended(&self, _sample: &Sample) {}
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
}

/// Nobody watches.
#[derive(Debug, Clone, Copy)]
pub struct Nobody;

impl Observer for Nobody {}

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

/// A load.
pub struct Load<C: Connect, O> {
    pub(super) targets: Vec<Target<C>>,
    pub(super) content: Content,
    pub(super) phases: Phases,
    pub(super) model: LoadModel,
    pub(super) total: Option<u64>,
    timeout: Duration,
    pub(super) control: Control,
    pub(super) observer: O,
    /// Nothing counted: what tallies begin with.
    blank: Tally,
    /// One a worker.
    tallies: Mutex<Vec<Arc<Mutex<Tally>>>>,
    /// CPU time of each worker that has ended.
    cpu: Mutex<Vec<Duration>>,
    pub(super) index: AtomicU64,
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
        let phases = Phases {
            warmup: plan.warmup,
            measure: plan.duration,
        };
        let window = Window {
            start: plan.warmup,
            end: phases.load_end().unwrap_or(Duration::MAX),
        };
        Self {
            targets,
            content,
            phases,
            model: plan.load.clone(),
            total: plan.total_requests,
            timeout: plan.timeout,
            control,
            observer,
            blank: Tally::new(window, &plan.slo),
            tallies: Mutex::new(Vec::new()),
            cpu: Mutex::new(Vec::new()),
            index: AtomicU64::new(0),
            measured: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
        }
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
        let mut whole = self.blank.clone();
        for tally in lock(&self.tallies).iter() {
            whole.merge(&lock(tally));
        }
        whole
    }

    /// CPU time of each worker that has ended: a thread, so a core at the most.
    pub fn worker_cpu(&self) -> Vec<Duration> {
        lock(&self.cpu).clone()
    }

    /// Workers that this load is worth, of as many cores: a user has one request at a time.
    pub fn workers(&self, cores: usize) -> usize {
        let most = match self.model {
            LoadModel::ClosedLoop {
                concurrent_users, ..
            } => concurrent_users as usize,
            LoadModel::OpenLoop { .. } => cores,
        };
        cores.min(most).max(1)
    }

    /// Runs the load to its end, on the event loop that runs here; all times of its samples count from `start`.
    ///
    /// # Errors
    /// No timer.
    pub async fn run(self: &Arc<Self>, start: Instant) -> io::Result<()> {
        self.work(Share { number: 0, of: 1 }, start).await
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
                let before = clock::thread_cpu();
                let ended = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?
                    .block_on(load.work(
                        Share {
                            number,
                            of: workers,
                        },
                        start,
                    ));
                lock(&load.cpu).push(clock::thread_cpu().saturating_sub(before));
                ended
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
        let tally = Arc::new(Mutex::new(self.blank.clone()));
        lock(&self.tallies).push(Arc::clone(&tally));
        let connector = self.targets[0].pool.connector();
        let (pace, probe) = (connector.pace()?, connector.pace()?);
        let worker = Arc::new(Worker::new(self, tally, start));
        tokio::select! {
            biased;
            () = worker.clone().send(share, pace) => {}
            () = worker.look(probe) => {}
        }
        Ok(())
    }

    pub(super) fn is_over(&self, at: Duration) -> bool {
        self.end().is_some_and(|end| at >= end)
    }

    /// When nothing is sent any more, if only time ends the load: by the plan, or because the service's job ends.
    pub(super) fn end(&self) -> Option<Duration> {
        let ends = self.phases.load_end().into_iter().chain(self.control.until);
        ends.min()
    }

    /// Takes one of the requests that the plan allows; those of the warm-up do not count.
    pub(super) fn claim(&self, intended: Duration) -> bool {
        intended < self.phases.warmup
            || self
                .total
                .is_none_or(|total| self.measured.fetch_add(1, Ordering::Relaxed) < total)
    }

    /// The arrivals that the plan allows, by their number. Those of the warm-up do not count.
    pub(super) fn arrivals(&self) -> impl Iterator<Item = (u64, Duration)> + Send {
        let mut left = self.total.unwrap_or(u64::MAX);
        let warmup = self.phases.warmup;
        (0..)
            .zip(self.content.times())
            .take_while(move |(_, intended)| {
                if *intended < warmup {
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
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
