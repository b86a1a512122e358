//! Sends many requests, by users or by time, and collects what became of each.
//!
//! *Closed loop*: every user has one request at a time, all start at once; a user who is refused the connection waits
//! [`REFUSED`] before the next try, because a refusal costs no time and would become a storm. *Open loop*: an absolute
//! schedule; each arrival is a task of its own, whatever the answers do. After a stall of this program arrivals are
//! sent late, none is skipped, and their latency counts from the intended time.
//!
//! The end: at the end of the window nothing more is sent, and what is in flight is read to its end (a request has its
//! own limit). Told to drain, the same holds until `abort`; what is then in flight is `cancelled`, with what was seen
//! of it.

use std::{
    fmt::Write as _,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    arrival,
    connection::Connect,
    exchange::{self, Call, Target},
    phase::Phases,
    sample::{Outcome, Sample},
};
use crate::{
    api::openai::{self, RequestSpec},
    load::workload::Prompts,
    recipe::{Api, ClientPlan, LoadModel},
    stats::{summary::Window, tally::Tally},
};

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
    pub fn body(&self, index: u64, words: usize, max_tokens: u32) -> Bytes {
        let prompt = self.prompts.prompt(index, words);
        Bytes::from(openai::body(&RequestSpec {
            api: self.api,
            model: &self.model,
            prompt: &prompt,
            max_tokens,
            temperature: self.workload.temperature,
            top_p: self.workload.top_p,
            ignore_eos: self.workload.ignore_eos,
            stream: self.workload.stream,
        }))
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
pub struct Load<C, O> {
    targets: Vec<Target<C>>,
    content: Content,
    phases: Phases,
    model: LoadModel,
    total: Option<u64>,
    seed: u64,
    timeout: Duration,
    control: Control,
    observer: O,
    tally: Mutex<Tally>,
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
            tally: Mutex::new(Tally::new(window, &plan.slo)),
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
        self.tally
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Runs the load to its end; all times of its samples count from `start`.
    pub async fn run(self: &Arc<Self>, start: Instant) {
        let tasks = TaskTracker::new();
        match self.model {
            LoadModel::ClosedLoop {
                concurrent_users,
                think_time,
                requests_per_user,
            } => {
                for _ in 0..concurrent_users {
                    let load = Arc::clone(self);
                    tasks.spawn(
                        async move { load.user(start, think_time, requests_per_user).await },
                    );
                }
            }
            LoadModel::OpenLoop {
                requests_per_second,
                arrival,
                max_in_flight,
            } => {
                let times = arrival::schedule(arrival, requests_per_second, self.seed);
                self.pace(start, times, max_in_flight.map(u64::from), &tasks)
                    .await;
            }
        }
        tasks.close();
        tasks.wait().await;
    }

    /// One user: a request, its answer, a pause, and again.
    async fn user(&self, start: Instant, think_time: Duration, limit: Option<u64>) {
        let mut own = 0;
        while !self.control.drain.is_cancelled() && limit.is_none_or(|limit| own < limit) {
            let intended = start.elapsed();
            if self.is_over(intended) || !self.claim(intended) {
                return;
            }
            let refused = self.one(start, intended).await;
            own += u64::from(intended >= self.phases.warmup);
            let pause = if refused {
                think_time.max(REFUSED)
            } else {
                think_time
            };
            if !pause.is_zero() {
                let next = start.elapsed().saturating_add(pause);
                // whoever thinks longer than the load lasts does not hold it up
                let next = self.end().map_or(next, |end| next.min(end));
                if !self.sleep_until(start + next).await {
                    return;
                }
            }
        }
    }

    /// Follows a schedule.
    async fn pace(
        self: &Arc<Self>,
        start: Instant,
        times: impl Iterator<Item = Duration>,
        max_in_flight: Option<u64>,
        tasks: &TaskTracker,
    ) {
        for intended in times {
            if self.is_over(intended) || !self.claim(intended) {
                // the window is open to its end, also behind the last arrival
                if let Some(end) = self.end().filter(|_| self.total.is_none()) {
                    self.sleep_until(start + end).await;
                }
                return;
            }
            if !self.sleep_until(start + intended).await {
                return;
            }
            if max_in_flight.is_some_and(|most| self.in_flight() >= most) {
                let mut dropped = exchange::planned(&self.call(intended));
                dropped.outcome = Outcome::NeverSent;
                dropped.dropped = true;
                self.keep(dropped);
                continue;
            }
            let load = Arc::clone(self);
            // counted here: the next arrival must see it, whenever the task first runs
            self.in_flight.fetch_add(1, Ordering::Relaxed);
            tasks.spawn(async move {
                load.carry(start, intended).await;
            });
        }
    }

    /// Waits; `false` when the load was told to drain.
    async fn sleep_until(&self, at: Instant) -> bool {
        tokio::select! {
            biased;
            () = self.control.drain.cancelled() => false,
            () = tokio::time::sleep_until(at) => true,
        }
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

    fn call(&self, intended: Duration) -> Call {
        let index = self.index.fetch_add(1, Ordering::Relaxed);
        Call {
            index,
            intended,
            api: self.content.api,
            stream: self.content.workload.stream,
            body: self
                .content
                .body(index, self.content.words, self.content.workload.max_tokens),
            timeout: self.timeout,
        }
    }

    /// Sends one request and keeps its sample; tells whether the connection was refused.
    async fn one(&self, start: Instant, intended: Duration) -> bool {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.carry(start, intended).await
    }

    async fn carry(&self, start: Instant, intended: Duration) -> bool {
        let call = self.call(intended);
        self.observer.begun();
        let target = &self.targets[usize::try_from(call.index).unwrap_or(0) % self.targets.len()];
        let sample = exchange::exchange(target, &call, start, &self.control.abort).await;
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        let refused = matches!(&sample.outcome, Outcome::Error(class, _) if class == "connect");
        self.keep(sample);
        refused
    }

    fn keep(&self, sample: Sample) {
        tracing::trace!(
            index = sample.index,
            stamps = stamps(&sample),
            "A request has ended"
        );
        self.observer.ended(&sample);
        self.tally
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take(&sample);
    }
}

/// Sent, then each chunk, in ns since the start of the load: for the trace.
fn stamps(sample: &Sample) -> String {
    let mut text = String::new();
    let chunks = sample.chunks.iter().map(|chunk| chunk.at);
    for at in sample.sent.into_iter().chain(chunks) {
        let _ = write!(text, "{},", at.as_nanos());
    }
    text
}
