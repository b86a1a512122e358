//! The leader's side: gathers the members, and begins a load with all of them. What is known of each stands in
//! [`members`](super::members), what came of a load in [`joint`](super::joint).
//!
//! Before a load begins, what was dealt to a member that is lost is dealt out again among those that are left; once it
//! runs, its part is missing.
//!
//! What can fail: members that do not come (69), that cannot do what they should, or that would send something else (65).

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::net::TcpListener;

use super::{
    super::service::Service,
    Seat,
    joint::Joint,
    members::{Member, Members},
    message::{Order, Readiness, Welcome},
};
use crate::{
    exit::{Exit, Failure, OrExit as _},
    load::{dispatch::lock, workload::Scale},
    process::address::listening_address,
    recipe::{ClientPlan, LoadModel},
    registry::Kind,
    role::Context,
    stats::frame::Frame,
    telemetry::agent,
};

/// Members come within this: a shared file system may show the leader's record a minute late.
const GATHERING: Duration = Duration::from_mins(2);
/// Members have this long to take note of the end.
const FAREWELL: Duration = Duration::from_secs(2);

/// Where members find the leader.
pub(in super::super) async fn listen(
    context: &Context,
    address: &str,
) -> Result<TcpListener, Failure> {
    let host = listening_address(address, context.job.is_some());
    let listener = agent::listen(host, context.site.ports()).await;
    listener.or_exit(Exit::Unavailable, || {
        "the tasks of the bench have no port to meet at".to_owned()
    })
}

/// A bench's tasks, as their leader knows them.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Team(Option<Arc<Members>>);

impl Team {
    /// Lets members in from now on; `None` for a bench of one task.
    pub(in super::super) fn open(
        meeting: Option<(Seat, TcpListener)>,
        context: &Context,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let Some((Seat { tasks, .. }, listener)) = meeting else {
            return Ok(Self::default());
        };
        let key = context.store.scrape_key();
        let key = key.or_exit(Exit::NoPermission, || "no key for the tasks".to_owned())?;
        let welcome = Welcome {
            proof: String::new(),
            run: context.run.id.clone(),
            run_path: context.run.path.clone(),
            folder: std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned()),
        };
        let members = Arc::new(Members::new(tasks, context.shutdown.clone()));
        let accepting = Arc::clone(&members);
        context
            .shutdown
            .tasks
            .spawn(accepting.accept(listener, key, welcome));
        Ok(Self(Some(members)))
    }

    /// Waits until all members are there.
    pub(in super::super) async fn gather(&self, context: &Context) -> Result<(), Failure> {
        let Some(members) = &self.0 else {
            return Ok(());
        };
        let tasks = members.tasks;
        tokio::select! {
            () = members.until(|members| members.len() == tasks as usize - 1) => {
                tracing::info!(tasks, "All tasks of the bench are there");
                Ok(())
            }
            () = context.shutdown.drain.cancelled() => Err(told()),
            () = tokio::time::sleep(GATHERING) => {
                let there = lock(&members.all);
                let missing: Vec<String> = (1..tasks)
                    .filter(|task| !there.contains_key(task))
                    .map(|task| task.to_string())
                    .collect();
                let message = format!(
                    "of {tasks} tasks of this step, {} did not come within {} s: see what they say, and that all have the registry at {} (a bench of one task is a step of its own: srun --overlap -n 1 aif bench …)",
                    missing.join(", "),
                    GATHERING.as_secs(),
                    context.store.root().display()
                );
                Err(Failure::new(Exit::Unavailable, message))
            }
        }
    }

    /// Tells all members how it ended, and waits a moment until they have taken note. Takes away what lost ones left.
    pub(in super::super) async fn dismiss(&self, exit: Exit, context: &Context) {
        let Some(members) = &self.0 else { return };
        members.close();
        let lost: Vec<u32> = (lock(&members.all).iter())
            .filter(|(_, member)| !member.is_there())
            .map(|(task, _)| *task)
            .collect();
        if let Some(job) = context.job.as_ref().filter(|_| !lost.is_empty()) {
            context.sweep(|record| {
                record.kind == Kind::Bench
                    && record.cluster == job.cluster
                    && record.job_id == job.job_id
                    && record.step_id == job.step_id
                    && lost.contains(&record.rank)
            });
        }
        members.tell(&Order::Bye(exit));
        let all_gone = members.until(|members| !members.values().any(Member::is_there));
        let _ = tokio::time::timeout(FAREWELL, all_gone).await;
    }

    /// Makes all members ready for a load, and agrees with them when it begins.
    pub(in super::super) async fn prepare(
        &self,
        context: &Context,
        wanted: &Wanted<'_>,
    ) -> anyhow::Result<Joint> {
        let Some(members) = &self.0 else {
            return Ok(Joint::alone(wanted.plan, context));
        };
        loop {
            let there = members.present();
            wanted.check(there.len() + 1)?;
            let round = members.round.fetch_add(1, Ordering::Relaxed) + 1;
            members.assign(round, &there, wanted);
            let answered = members.until(|members| {
                let of_round = |ready: &Readiness| ready.round == round;
                members.values().all(|member| {
                    !member.is_there()
                        || member.failed.is_some()
                        || member.ready.as_ref().is_some_and(of_round)
                })
            });
            tokio::select! {
                () = answered => {}
                () = context.shutdown.drain.cancelled() => return Err(told().into()),
            }
            members.check(wanted.stimulus)?;
            // what was dealt to one that went is dealt again
            if members.present() == there {
                let (share, start) = members.begin(round);
                let alone = Joint::alone(wanted.plan, context);
                return Ok(alone.with(members, share, start));
            }
        }
    }
}

fn told() -> Failure {
    Failure::new(Exit::Terminated, "told to end before the load began")
}

/// What a load is, as far as its leader knows.
pub(in super::super) struct Wanted<'a> {
    pub(in super::super) plan: &'a ClientPlan,
    pub(in super::super) service: &'a Service,
    pub(in super::super) scale: Scale,
    pub(in super::super) until: Option<Duration>,
    pub(in super::super) stimulus: &'a str,
    /// Where its result goes.
    pub(in super::super) folder: &'a Path,
    /// Its result before anything was sent: what a file of samples begins with.
    pub(in super::super) frame: &'a Frame,
}

impl Wanted<'_> {
    /// Can it be dealt to so many?
    fn check(&self, tasks: usize) -> Result<(), Failure> {
        let LoadModel::OpenLoop {
            max_in_flight: Some(most),
            ..
        } = self.plan.load
        else {
            return Ok(());
        };
        if tasks <= most as usize {
            return Ok(());
        }
        Err(Failure::new(
            Exit::Usage,
            format!(
                "max_in_flight of {most} cannot be shared by {tasks} tasks: each needs one at least; start fewer (srun -n {most}), or allow more"
            ),
        ))
    }
}
