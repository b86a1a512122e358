//! Sends many requests, by users or by time, and adds up what became of each.
//!
//! *Closed loop*: every user has one request at a time, all start at once; a user who is refused the connection waits
//! [`REFUSED`] before the next try, because a refusal costs no time and would become a storm. *Open loop*: an absolute
//! schedule; each arrival is a task of its own, whatever the answers do. After a stall of this program arrivals are
//! sent late, none is skipped, and their latency counts from the intended time.
//!
//! A load may be shared by workers, one a core, each with an event loop, connections and a tally of its own: the users
//! and the arrivals are dealt out in turn, and only a few counters are common. Each worker also sets itself a moment
//! every [`PROBE`]; by how much it is late for that is how much a stamp may be late.
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
    arrival,
    connection::Connect,
    exchange::{self, Call, Target},
    pace::Pace,
    phase::Phases,
    sample::{Outcome, Sample},
    trace::Trace,
};
use crate::{
    api::openai::{self, RequestSpec},
    load::workload::Prompts,
    recipe::{Api, Arrival, ClientPlan, LoadModel},
    stats::{summary::Window, tally::Tally},
};

/// How often a worker looks how late its event loop is.
pub const PROBE: Duration = Duration::from_millis(10);

/// Pause of a user who was refused the connection.
pub const REFUSED: Duration = Duration::from_millis(100);

/// Told of each request as it goes, for exporters and progress. Must be quick: it runs in the load path.
pub trait Observer: Send + Sync + 'static {
    /// A request was handed to a connection.
    fn begun(&self) {}
    /// A request has ended.
    fn ended(&self, _sample: &Sample) {}
}

/// Nobody watches.
#[derive(Debug, Clone, Copy)]
pub struct Nobody;

impl Observer for Nobody {}

/// What requests hold.
#[derive(Debug)]
pub struct Content {
    /// The API.
    pub api: Api,
    /// Model named in the request.
    pub model: String,
    /// The prompts.
    pub prompts: Prompts,
    /// Words of a prompt, calibrated.
    pub words: usize,
    /// The plan's workload.
    pub workload: crate::recipe::Workload,
}

impl Content {
    /// The body of a request with a prompt of so many words.
    pub fn body(&self, index: u64, words: usize, max_tokens: u32) -> Vec<u8> {
        let prompt = self.prompts.prompt(index, words);
        openai::body(&RequestSpec {
            api: self.api,
            model: &self.model,
            prompt: &prompt,
            max_tokens,
            temperature: self.workload.temperature,
            top_p: self.workload.top_p,
            ignore_eos: self.workload.ignore_eos,
            stream: self.workload.stream,
        })
    }
}

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
    targets: Vec<Target<C>>,
    content: Content,
    phases: Phases,
    model: LoadModel,
    total: Option<u64>,
    seed: u64,
    timeout: Duration,
    control: Control,
    observer: O,
    /// Nothing counted: what tallies begin with.
    blank: Tally,
    /// One a worker.
    tallies: Mutex<Vec<Arc<Mutex<Tally>>>>,
    index: AtomicU64,
    measured: AtomicU64,
    in_flight: AtomicU64,
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
            model: plan.load,
            total: plan.total_requests,
            seed: plan.workload.seed,
            timeout: plan.timeout,
            control,
            observer,
            blank: Tally::new(window, &plan.slo),
            tallies: Mutex::new(Vec::new()),
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
        let tally = Arc::new(Mutex::new(self.blank.clone()));
        lock(&self.tallies).push(Arc::clone(&tally));
        let connector = self.targets[0].pool.connector();
        let (pace, probe) = (connector.pace()?, connector.pace()?);
        let worker = Arc::new(Worker {
            load: Arc::clone(self),
            targets: self.targets.iter().map(Target::fork).collect(),
            tally,
            trace: Trace::default(),
            start,
        });
        tokio::select! {
            biased;
            () = worker.clone().send(share, pace) => {}
            () = worker.look(probe) => {}
        }
        worker.trace.flush();
        Ok(())
    }

    fn is_over(&self, at: Duration) -> bool {
        self.end().is_some_and(|end| at >= end)
    }

    /// When nothing is sent any more, if only time ends the load: by the plan, or because the service's job ends.
    fn end(&self) -> Option<Duration> {
        let ends = self.phases.load_end().into_iter().chain(self.control.until);
        ends.min()
    }

    /// Takes one of the requests that the plan allows; those of the warm-up do not count.
    fn claim(&self, intended: Duration) -> bool {
        intended < self.phases.warmup
            || self
                .total
                .is_none_or(|total| self.measured.fetch_add(1, Ordering::Relaxed) < total)
    }

    /// The arrivals that the plan allows, by their number. Those of the warm-up do not count.
    fn arrivals(
        &self,
        arrival: Arrival,
        rate: f64,
    ) -> impl Iterator<Item = (u64, Duration)> + Send {
        let mut left = self.total.unwrap_or(u64::MAX);
        let warmup = self.phases.warmup;
        let times = arrival::schedule(arrival, rate, self.seed);
        (0..).zip(times).take_while(move |(_, intended)| {
            if *intended < warmup {
                return true;
            }
            let allowed = left > 0;
            left = left.saturating_sub(1);
            allowed
        })
    }

    fn call(&self, index: u64, intended: Duration) -> Call {
        let workload = &self.content.workload;
        Call {
            index,
            intended,
            api: self.content.api,
            stream: workload.stream,
            chunks: workload.max_tokens as usize,
            body: self
                .content
                .body(index, self.content.words, workload.max_tokens),
            timeout: self.timeout,
        }
    }
}

/// Which of the users and arrivals are a worker's: every `of`-th, from `number` on.
#[derive(Debug, Clone, Copy)]
struct Share {
    number: usize,
    of: usize,
}

impl Share {
    fn holds(self, index: u64) -> bool {
        index % self.of as u64 == self.number as u64
    }
}

/// A part of a load, on one event loop.
struct Worker<C: Connect, O> {
    load: Arc<Load<C, O>>,
    /// With connections of its own.
    targets: Vec<Target<C>>,
    tally: Arc<Mutex<Tally>>,
    trace: Trace,
    /// Start of the load.
    start: Instant,
}

impl<C: Connect, O: Observer> Worker<C, O> {
    /// Sends its share, and waits for all answers.
    async fn send(self: Arc<Self>, share: Share, pace: C::Pace) {
        let tasks = TaskTracker::new();
        match self.load.model {
            LoadModel::ClosedLoop {
                concurrent_users,
                think_time,
                requests_per_user,
            } => {
                for _ in (0..u64::from(concurrent_users)).filter(|user| share.holds(*user)) {
                    let worker = Arc::clone(&self);
                    tasks.spawn(async move { worker.user(think_time, requests_per_user).await });
                }
            }
            LoadModel::OpenLoop {
                requests_per_second,
                arrival,
                max_in_flight,
            } => {
                let all = self.load.arrivals(arrival, requests_per_second);
                let own = all.filter(|(index, _)| share.holds(*index));
                self.follow(own, max_in_flight.map(u64::from), pace, &tasks)
                    .await;
            }
        }
        tasks.close();
        tasks.wait().await;
    }

    /// One user: a request, its answer, a pause, and again.
    async fn user(&self, think_time: Duration, limit: Option<u64>) {
        let load = &*self.load;
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
            let pause = if refused {
                think_time.max(REFUSED)
            } else {
                think_time
            };
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
    async fn look(&self, mut pace: C::Pace) {
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
