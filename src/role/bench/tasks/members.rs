//! What the leader knows of each member, and how it talks to it.
//!
//! A member is lost when its connection ends, or when it says nothing for [`link::SILENCE`]. A connection has a task that
//! reads and one that writes; all that was heard is kept here, and whoever waits for something is told of every change.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    leader::Wanted,
    link,
    message::{Assignment, News, Order, Readiness, Report, Welcome},
    milliseconds, now,
};
use crate::{
    clock,
    exit::{Exit, Failure},
    load::{deal::Share, dispatch::lock},
    shutdown::Shutdown,
    stats::{
        results::Samples,
        tally::Tally,
        tasks::{Loss, TaskAccount},
    },
};

/// From the word to begin to the beginning.
const LEAD: Duration = Duration::from_millis(300);

/// All members there are.
#[derive(Debug)]
pub(super) struct Members {
    /// With the leader.
    pub(super) tasks: u32,
    pub(super) all: Mutex<BTreeMap<u32, Member>>,
    /// Told of every change.
    changed: watch::Sender<()>,
    /// Of the load that runs, or is about to.
    pub(super) round: AtomicU64,
    /// Nobody is let in any more.
    closed: CancellationToken,
    pub(super) shutdown: Shutdown,
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) node: String,
    /// `None` once it is gone.
    orders: Option<mpsc::UnboundedSender<Order>>,
    pub(super) lost: Option<Loss>,
    // of the present round
    pub(super) share: Share,
    pub(super) start: Option<Instant>,
    pub(super) ready: Option<Readiness>,
    pub(super) failed: Option<(Exit, String)>,
    pub(super) tally: Option<Tally>,
    pub(super) account: TaskAccount,
    at_seconds: f64,
    pub(super) ended: bool,
    pub(super) samples: Option<Samples>,
}

impl Member {
    /// One that has no part in any load yet.
    fn new(node: String, orders: Option<mpsc::UnboundedSender<Order>>, lost: Option<Loss>) -> Self {
        Self {
            node,
            orders,
            lost,
            share: Share::WHOLE,
            start: None,
            ready: None,
            failed: None,
            tally: None,
            account: TaskAccount::default(),
            at_seconds: 0.0,
            ended: false,
            samples: None,
        }
    }

    /// Is its connection open?
    pub(super) fn is_there(&self) -> bool {
        self.orders.is_some()
    }

    fn order(&self, order: Order) {
        if let Some(orders) = &self.orders {
            // one that is gone is told so by its connection
            let _ = orders.send(order);
        }
    }

    fn lose(&mut self, why: String) {
        self.orders = None;
        let at_seconds = self
            .start
            .map_or(0.0, |start| start.elapsed().as_secs_f64());
        self.lost.get_or_insert(Loss {
            at_seconds,
            counted_to_seconds: self.at_seconds,
            why,
        });
    }
}

impl Members {
    /// Nobody is there yet.
    pub(super) fn new(tasks: u32, shutdown: Shutdown) -> Self {
        Self {
            tasks,
            all: Mutex::default(),
            changed: watch::Sender::new(()),
            round: AtomicU64::new(0),
            closed: CancellationToken::new(),
            shutdown,
        }
    }

    /// Lets nobody in any more, and is surprised by nobody who goes.
    pub(super) fn close(&self) {
        self.closed.cancel();
    }

    /// Lets members in.
    pub(super) async fn accept(
        self: Arc<Self>,
        listener: TcpListener,
        key: String,
        welcome: Welcome,
    ) {
        let (key, welcome) = (Arc::<str>::from(key), Arc::new(welcome));
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.closed.cancelled() => return,
            };
            let Ok((stream, from)) = accepted else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let (own, key, welcome) = (Arc::clone(&self), Arc::clone(&key), Arc::clone(&welcome));
            self.shutdown.tasks.spawn(async move {
                if let Err(error) = own.serve(stream, &key, &welcome).await {
                    tracing::warn!(%from, %error, "Sent somebody away who is no task of this bench");
                }
            });
        }
    }

    /// One connection, from its greeting to its end.
    async fn serve(&self, stream: TcpStream, key: &str, welcome: &Welcome) -> io::Result<()> {
        let (hello, mut reading, mut writing) =
            link::receive(stream, key, self.tasks, welcome).await?;
        let (orders, mut ordered) = mpsc::unbounded_channel::<Order>();
        let task = hello.task;
        {
            let mut members = lock(&self.all);
            if members.contains_key(&task) {
                return Err(io::Error::other(format!("task {task} is here already")));
            }
            members.insert(task, Member::new(hello.node, Some(orders), None));
        }
        self.changed.send_replace(());
        self.shutdown.tasks.spawn(async move {
            while let Some(mut order) = ordered.recv().await {
                if let Order::Time { answered, .. } = &mut order {
                    *answered = now();
                }
                // the reading side tells why
                if writing.send(&order).await.is_err() {
                    return;
                }
            }
        });
        let why = loop {
            match reading.next::<Report>().await {
                Ok(report) => self.hear(task, report),
                Err(error) => break error.to_string(),
            }
        };
        if let Some(member) = lock(&self.all).get_mut(&task) {
            if !self.closed.is_cancelled() {
                tracing::error!(task, node = member.node, why, "A task of the bench is lost");
            }
            member.lose(why);
        }
        self.changed.send_replace(());
        Ok(())
    }

    fn hear(&self, task: u32, report: Report) {
        let heard = now();
        let round = self.round.load(Ordering::Relaxed);
        let mut members = lock(&self.all);
        let Some(member) = members.get_mut(&task) else {
            return;
        };
        match report {
            Report::Ask { asked } => member.order(Order::Time {
                asked,
                heard,
                answered: heard,
                day: clock::unix_nanoseconds() - now(),
            }),
            Report::Alive => member.order(Order::Heard),
            Report::Told(cause) => {
                tracing::info!(task, ?cause, "A task of the bench was told to end");
                self.shutdown.tell(cause);
            }
            Report::Failed { exit, message } => {
                member.failed = Some((exit, message.clone()));
                member.lose(message);
            }
            Report::Ready(ready) => member.ready = Some(ready),
            Report::News(news) => {
                member.order(Order::Heard);
                if news.round == round {
                    member.take(*news);
                }
            }
        }
        drop(members);
        self.changed.send_replace(());
    }

    /// Waits until this holds of the members.
    pub(super) async fn until(&self, holds: impl Fn(&BTreeMap<u32, Member>) -> bool) {
        let mut changed = self.changed.subscribe();
        while !holds(&lock(&self.all)) {
            // its sender is ours
            let _ = changed.changed().await;
        }
    }

    pub(super) fn tell(&self, order: &Order) {
        for member in lock(&self.all).values() {
            member.order(order.clone());
        }
    }

    pub(super) fn present(&self) -> Vec<u32> {
        let members = lock(&self.all);
        let there = members.iter().filter(|(_, member)| member.is_there());
        there.map(|(task, _)| *task).collect()
    }

    pub(super) fn assign(&self, round: u64, tasks: &[u32], wanted: &Wanted<'_>) {
        let mut members = lock(&self.all);
        for member in members.values_mut() {
            // one that was lost before has no part in this load
            let lost = member.lost.take().map(|loss| Loss {
                why: loss.why,
                ..Loss::default()
            });
            let node = std::mem::take(&mut member.node);
            *member = Member::new(node, member.orders.take(), lost);
        }
        for (number, task) in tasks.iter().enumerate() {
            let Some(member) = members.get_mut(task) else {
                continue;
            };
            member.share = Share {
                number: number + 1,
                of: tasks.len() + 1,
            };
            member.order(Order::Prepare(Box::new(Assignment {
                round,
                plan: wanted.plan.clone(),
                records: wanted.service.records.clone(),
                model: wanted.service.model.clone(),
                scale: wanted.scale,
                share: member.share,
                until: wanted.until,
                folder: std::path::absolute(wanted.folder)
                    .unwrap_or_else(|_| wanted.folder.to_owned()),
                frame: wanted.frame.clone(),
            })));
        }
    }

    /// Can all do what they should, and will all send what the leader would?
    pub(super) fn check(&self, stimulus: &str) -> Result<(), Failure> {
        for (task, member) in &*lock(&self.all) {
            let name = format!("task {task} on {}", member.node);
            if let Some((exit, message)) = &member.failed {
                return Err(Failure::new(*exit, format!("{name}: {message}")));
            }
            let ready = member.ready.as_ref().filter(|_| member.is_there());
            if let Some(ready) = ready.filter(|ready| ready.stimulus != stimulus) {
                let message = format!(
                    "{name} would send another load than task 0 (stimulus {} instead of {stimulus}): do all tasks read the same recipe and the same files?",
                    ready.stimulus
                );
                return Err(Failure::new(Exit::Recipe, message));
            }
        }
        Ok(())
    }

    /// Says when it begins.
    pub(super) fn begin(&self, round: u64) -> (Share, Instant) {
        let start = Instant::now() + LEAD;
        let at = now() + i64::try_from(LEAD.as_nanos()).unwrap_or(0);
        let mut of = 1;
        for (task, member) in lock(&self.all).iter_mut() {
            // one that goes just now is lost on the way
            let Some(ready) = member.ready.take() else {
                continue;
            };
            of = member.share.of;
            member.start = Some(start);
            member.account = TaskAccount {
                task: *task,
                node: member.node.clone(),
                cpus: ready.cpus,
                workers: ready.workers,
                clock_offset_ms: milliseconds(ready.clock.day),
                clock_error_ms: milliseconds(ready.clock.error),
                ..TaskAccount::default()
            };
            member.order(Order::Start { round, at });
        }
        (Share { number: 0, of }, start)
    }

    /// Have all that have begun the present load come to its end?
    pub(super) fn all_ended(members: &BTreeMap<u32, Member>) -> bool {
        members
            .values()
            .all(|member| !member.is_there() || member.ended || member.start.is_none())
    }
}

impl Member {
    fn take(&mut self, news: News) {
        match &mut self.tally {
            Some(tally) => tally.merge(&news.tally),
            tally => *tally = Some(news.tally),
        }
        self.account = TaskAccount {
            cores_shared: self.account.cores_shared,
            // more may have ended there in the meantime
            requests: (self.tally.as_ref()).map_or(0, |tally| tally.whole().requests),
            ..news.account
        };
        self.at_seconds = news.at_seconds;
        self.ended = news.ended;
        self.samples = news.samples;
    }
}
