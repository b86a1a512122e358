//! A member: finds the leader, sends its part of each load, tells what has come of it, and ends when the leader says so.
//!
//! It has an exporter and a record of its own, and writes no results. Told to end, it tells the leader, and comes to its
//! end as the leader does.
//!
//! What can fail: no leader in time (69), a service that cannot be used from here (its own code, and the leader ends with
//! it), a leader that is lost (75: what was measured is kept in a file of this task).

use std::{collections::VecDeque, path::PathBuf, sync::Arc, time::Duration};

use tokio::{net::TcpStream, sync::mpsc, time::Instant};

use super::{
    Seat,
    link::{self, BEAT, Reading, Writing},
    message::{Assignment, Order, Readiness, Report, Welcome},
    now,
    offset::{Offset, TRIPS, Trip},
    part::Ended,
};
use crate::{
    clock,
    exit::{Exit, Failure, OrExit as _},
    launch::cpus,
    load::{
        dispatch::{Control, Load},
        workload::{self, Content},
    },
    recipe::ClientPlan,
    registry::{Kind, Publication, Record, State},
    role::{
        Context,
        bench::{
            Config, RealLoad, WORKERS, exporter::Exporter, keep::Keep, linger, register,
            service::Service,
        },
    },
    run::RunDir,
    shutdown::Cause,
    stats::frame::Frame,
};

/// The leader is looked for this long: a shared file system may show its record a minute late.
const SEARCH: Duration = Duration::from_mins(2);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);
/// Between two round trips of a measurement of the clocks.
const PAUSE: Duration = Duration::from_millis(2);

/// Runs a member to its end.
pub(in super::super) async fn run(
    config: &Config,
    context: &Context,
    seat: Seat,
) -> anyhow::Result<Exit> {
    let (welcome, leader, link) = search(config, context, seat).await?;
    // the leader has made the run
    let run = RunDir {
        id: welcome.run.clone(),
        path: welcome.run_path.clone(),
    };
    let context = &Context {
        run,
        ..context.clone()
    };
    let exporter = Arc::new(Exporter::new(config.plan.api));
    let (publication, agent, serving, _) = register(config, context, &exporter, None).await?;
    let mut member = Member {
        config,
        context,
        seat,
        leader,
        welcome,
        exporter,
        publication: &publication,
        link,
        pending: VecDeque::new(),
    };
    let ended = Box::pin(member.serve()).await;
    member.state(State::Done);
    // the leader waits for that
    drop(member);
    if ended.is_ok() {
        linger(context, &publication, &agent).await;
    }
    publication.withdraw();
    serving.stop();
    ended
}

/// What comes from the leader, with the moment that it came, or why nothing does any more.
pub(super) type Received = Result<(i64, Order), String>;

/// The connection, with a task for each direction: neither waits for what this one does.
pub(super) struct Link {
    orders: mpsc::UnboundedReceiver<Received>,
    reports: mpsc::UnboundedSender<Report>,
}

impl Link {
    fn start(mut reading: Reading, mut writing: Writing, context: &Context) -> Self {
        let (told, orders) = mpsc::unbounded_channel();
        let (reports, mut to_tell) = mpsc::unbounded_channel::<Report>();
        context.shutdown.tasks.spawn(async move {
            loop {
                let order = reading.next::<Order>().await;
                let received = order
                    .map(|order| (now(), order))
                    .map_err(|error| error.to_string());
                let is_end = received.is_err();
                if told.send(received).is_err() || is_end {
                    return;
                }
            }
        });
        context.shutdown.tasks.spawn(async move {
            loop {
                let report = tokio::time::timeout(BEAT, to_tell.recv()).await;
                let Some(mut report) = report.unwrap_or(Some(Report::Alive)) else {
                    return;
                };
                if let Report::Ask { asked } = &mut report {
                    *asked = now();
                }
                // the reading side tells why
                if writing.send(&report).await.is_err() {
                    return;
                }
            }
        });
        Self { orders, reports }
    }

    pub(super) fn tell(&self, report: Report) {
        let _ = self.reports.send(report);
    }
}

/// Finds the leader in the registry and joins it; tells its node, too.
async fn search(
    config: &Config,
    context: &Context,
    seat: Seat,
) -> anyhow::Result<(Welcome, String, Link)> {
    let own = context.record(Kind::Bench, &config.plan.service_name, &config.plan.name);
    let leads = |record: &Record| {
        let same = (&record.cluster, &record.job_id, &record.step_id)
            == (&own.cluster, &own.job_id, &own.step_id);
        record.kind == Kind::Bench
            && same
            && record.restart_count == own.restart_count
            && record.rank == 0
            && record.ports.len() > 1
    };
    let deadline = Instant::now() + SEARCH;
    let mut seen = format!(
        "it is not in the registry at {}",
        context.store.root().display()
    );
    while Instant::now() < deadline {
        let records = context.store.records_of(&config.plan.service_name);
        if let Some(leader) = records.into_iter().find(leads) {
            let key = context.store.scrape_key();
            let key = key.or_exit(Exit::NoPermission, || "no key for the tasks".to_owned())?;
            let address = format!("{}:{}", leader.address, leader.ports[1]);
            let joined = match TcpStream::connect(&address).await {
                Ok(stream) => link::join(stream, &key, seat.task, &context.node()).await,
                Err(error) => Err(error),
            };
            match joined {
                Ok((welcome, reading, writing)) => {
                    tracing::info!(leader = leader.node, task = seat.task, "Joined the bench");
                    let link = Link::start(reading, writing, context);
                    return Ok((welcome, leader.node, link));
                }
                Err(error) => seen = format!("{address}: {error}"),
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = context.shutdown.drain.cancelled() => {
                return Err(Failure::new(Exit::Terminated, "told to end before the load began").into());
            }
        }
    }
    let message = format!(
        "task {} of {} found no leader (task 0 of this step) within {} s: {seen}; see what task 0 says",
        seat.task,
        seat.tasks,
        SEARCH.as_secs()
    );
    Err(Failure::new(Exit::Unavailable, message).into())
}

pub(super) struct Member<'a> {
    pub(super) config: &'a Config,
    pub(super) context: &'a Context,
    pub(super) seat: Seat,
    /// The leader's node.
    pub(super) leader: String,
    pub(super) welcome: Welcome,
    pub(super) exporter: Arc<Exporter>,
    pub(super) publication: &'a Publication,
    pub(super) link: Link,
    /// Orders that came while something else was waited for.
    pub(super) pending: VecDeque<Received>,
}

/// A load that can begin.
pub(super) struct Prepared {
    pub(super) round: u64,
    pub(super) plan: ClientPlan,
    pub(super) load: Arc<RealLoad>,
    pub(super) control: Control,
    pub(super) workers: usize,
    pub(super) stimulus: String,
    pub(super) offset: Offset,
    pub(super) keep: Keep,
    pub(super) frame: Frame,
    pub(super) content: Content,
    /// Where the samples go.
    pub(super) folder: PathBuf,
}

impl Member<'_> {
    async fn serve(&mut self) -> anyhow::Result<Exit> {
        let mut prepared = None;
        let mut told = false;
        loop {
            let shutdown = &self.context.shutdown;
            let order = tokio::select! {
                biased;
                received = next(&mut self.pending, &mut self.link) => received.map_err(|why| self.lost(&why, None))?.1,
                () = shutdown.drain.cancelled(), if !told => {
                    told = true;
                    self.link.tell(Report::Told(shutdown.cause().unwrap_or(Cause::Terminated)));
                    continue;
                }
                () = shutdown.stop.cancelled() => {
                    return Ok(shutdown.cause().map_or(Exit::Terminated, Cause::exit));
                }
            };
            match order {
                Order::Prepare(assignment) => match self.make_ready(*assignment).await {
                    Ok(ready) => prepared = Some(ready),
                    Err(error) => {
                        self.link.tell(Report::Failed {
                            exit: Exit::of(&error),
                            message: format!("{error:#}"),
                        });
                        // the leader says it for all
                        return self.bye().await;
                    }
                },
                Order::Start { round, at } => {
                    let ready = prepared
                        .take()
                        .filter(|ready: &Prepared| ready.round == round);
                    if let Some(ready) = ready
                        && let Ended::Bye(exit) = Box::pin(self.load(ready, at)).await?
                    {
                        return Ok(exit);
                    }
                }
                Order::Bye(exit) => return Ok(exit),
                Order::Time { .. } | Order::Heard | Order::Drain | Order::Abort => {}
            }
        }
    }

    /// Waits for the leader's last word.
    async fn bye(&mut self) -> anyhow::Result<Exit> {
        loop {
            match next(&mut self.pending, &mut self.link).await {
                Ok((_, Order::Bye(exit))) => return Ok(exit),
                Ok(_) => {}
                Err(why) => return Err(self.lost(&why, None).into()),
            }
        }
    }

    async fn make_ready(&mut self, assignment: Assignment) -> anyhow::Result<Prepared> {
        let Assignment {
            round,
            mut plan,
            records,
            model,
            scale,
            share,
            until,
            folder,
            frame,
        } = assignment;
        // what is hidden was not sent
        plan.headers.clone_from(&self.config.plan.headers);
        let service = Service::given(self.config, records, model)?;
        let content =
            Content::new(&plan, self.config.material.clone(), &service.model).with_scale(scale);
        let own = cpus::allowed();
        let cores = own.len().min(WORKERS);
        let who = (cores, Some(self.seat.task), share.of);
        let keep = Keep::begin(&folder, &plan, content.clone(), &service, who);
        let stimulus = workload::stimulus(&plan, &content);
        let control = Control {
            until,
            ..Control::default()
        };
        let load: Arc<RealLoad> = Arc::new(
            Load::new(
                &plan,
                service.targets(&plan),
                content.clone(),
                control.clone(),
                (Arc::clone(&self.exporter), keep.recorder()),
            )
            .part(share),
        );
        let workers = load.workers(cores);
        let offset = self.compare_clocks().await?;
        self.link.tell(Report::Ready(Readiness {
            round,
            stimulus: stimulus.clone(),
            clock: offset,
            cpus: own,
            workers,
        }));
        Ok(Prepared {
            round,
            plan,
            load,
            control,
            workers,
            stimulus,
            offset,
            keep,
            frame,
            content,
            folder,
        })
    }

    /// Measures how far the clock of this task is from the leader's.
    pub(super) async fn compare_clocks(&mut self) -> anyhow::Result<Offset> {
        let mut trips = Vec::new();
        let mut others = VecDeque::new();
        for _ in 0..TRIPS {
            self.link.tell(Report::Ask { asked: 0 });
            loop {
                match next(&mut self.pending, &mut self.link).await {
                    Ok((
                        back,
                        Order::Time {
                            asked,
                            heard,
                            answered,
                            day,
                        },
                    )) => {
                        trips.push(Trip {
                            asked,
                            heard,
                            answered,
                            back,
                            day: clock::unix_nanoseconds() - now() - day,
                        });
                        break;
                    }
                    Ok(other) => others.push_back(Ok(other)),
                    Err(why) => return Err(self.lost(&why, None).into()),
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
        self.pending = others;
        Offset::of(&trips)
            .ok_or_else(|| Failure::new(Exit::Bug, "the clocks were not compared").into())
    }

    pub(super) fn lost(&self, why: &str, kept: Option<String>) -> Failure {
        let mut message = format!(
            "task {} lost the leader of the load (task 0): {why}",
            self.seat.task
        );
        if let Some(kept) = kept {
            message = format!("{message}; {kept}");
        }
        Failure::new(Exit::TryAgain, message)
    }

    pub(super) fn state(&self, state: State) {
        let changed = self.publication.update(|record| {
            record.state = state;
            if state == State::Ready {
                record.ready_at.get_or_insert_with(clock::now);
            }
        });
        if let Err(error) = changed {
            tracing::warn!(%error, "Cannot tell the state of this task");
        }
    }
}

/// The next order.
pub(super) async fn next(pending: &mut VecDeque<Received>, link: &mut Link) -> Received {
    if let Some(first) = pending.pop_front() {
        return first;
    }
    let received = link.orders.recv().await;
    received.unwrap_or_else(|| Err("its connection has ended".to_owned()))
}
