//! A load that all tasks have begun together: what has come of it, in all of them and in each.

use std::sync::{Arc, Mutex, OnceLock};

use tokio::time::Instant;

use super::{
    super::{RealLoad, effort},
    members::Members,
    message::Order,
};
use crate::{
    load::{
        deal::{Dealing, Share},
        dispatch::{Control, lock, users},
    },
    recipe::ClientPlan,
    role::Context,
    stats::{results::Samples, tally::Tally, tasks::TaskAccount},
};

/// A load that all tasks have begun, or the one there is.
#[derive(Debug)]
pub(in super::super) struct Joint {
    members: Option<Arc<Members>>,
    share: Share,
    start: OnceLock<Instant>,
    users: Option<u64>,
    node: String,
    /// CPU time of this process before it.
    cpu_seconds: f64,
    parts: Mutex<Vec<Part>>,
}

/// What a task has done of a load.
#[derive(Debug, Clone)]
pub(in super::super) struct Part {
    pub(in super::super) account: TaskAccount,
    pub(in super::super) dealing: Dealing,
    /// Its requests that have ended, and those of the window.
    pub(in super::super) offered: u64,
    pub(in super::super) in_window: u64,
    /// Of the latter, those that the schedule has.
    pub(in super::super) arrived: u64,
}

impl Part {
    /// Of the only task there is.
    pub(in super::super) fn only(tally: &Tally) -> Self {
        Self {
            account: TaskAccount::default(),
            dealing: Dealing {
                task: Share::WHOLE,
                users: None,
            },
            offered: tally.whole().requests,
            in_window: tally.counts().total,
            arrived: tally.counts().arrived,
        }
    }

    /// Was it there at the beginning, and not at the end?
    pub(in super::super) fn is_lost_on_the_way(&self) -> bool {
        self.account.lost.is_some() && self.account.workers > 0
    }
}

impl Joint {
    /// Of one task.
    pub(super) fn alone(plan: &ClientPlan, context: &Context) -> Self {
        Self {
            members: None,
            share: Share::WHOLE,
            start: OnceLock::new(),
            users: users(&plan.load),
            node: context.node(),
            cpu_seconds: effort::cpu_seconds(),
            parts: Mutex::default(),
        }
    }

    /// The same with members.
    pub(super) fn with(self, members: &Arc<Members>, share: Share, start: Instant) -> Self {
        Self {
            members: Some(Arc::clone(members)),
            share,
            start: OnceLock::from(start),
            ..self
        }
    }

    /// What this task sends of it.
    pub(in super::super) const fn share(&self) -> Share {
        self.share
    }

    /// The number of this task among several; `None` where there is one.
    pub(in super::super) fn task(&self) -> Option<u32> {
        self.members.as_ref().map(|_| 0)
    }

    /// The samples of all tasks, given our own. What a lost one has sent is in none of them.
    pub(in super::super) fn samples(&self, mut own: Samples) -> Samples {
        let Some(members) = &self.members else {
            return own;
        };
        for member in lock(&members.all).values() {
            let Some(told) = &member.samples else {
                let sent = member.tally.as_ref();
                own.missing += sent.map_or(0, |tally| tally.whole().requests);
                continue;
            };
            own.files.extend(told.files.iter().cloned());
            own.rows += told.rows;
            own.missing += told.missing;
            own.error = own.error.or_else(|| told.error.clone());
        }
        own
    }

    /// When it begins: as agreed with the members; alone, when this is asked first.
    pub(in super::super) fn start(&self) -> Instant {
        *self.start.get_or_init(Instant::now)
    }

    /// Hands on to all members that the load ends early.
    pub(in super::super) fn hand_on(&self, control: &Control) {
        let Some(members) = self.members.clone() else {
            return;
        };
        let (drain, abort) = (control.drain.clone(), control.abort.clone());
        let tasks = members.shutdown.tasks.clone();
        tasks.spawn(async move {
            let ended = members.until(Members::all_ended);
            let tell = async {
                drain.cancelled().await;
                members.tell(&Order::Drain);
                abort.cancelled().await;
                members.tell(&Order::Abort);
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = ended => {}
                () = tell => {}
            }
        });
    }

    /// Waits until all members have come to the end of it, or are lost.
    pub(in super::super) async fn ended(&self) {
        if let Some(members) = &self.members {
            members.until(Members::all_ended).await;
        }
    }

    /// What has come of the load so far, in all tasks. What each has done of it, [`Self::parts`] tells until the next time.
    pub(in super::super) fn whole(&self, load: &RealLoad, workers: usize, cpus: &[usize]) -> Tally {
        let mut whole = load.tally();
        let Some(members) = &self.members else {
            return whole;
        };
        let mut own = account(load, &whole, (workers, self.start()), self.cpu_seconds);
        own.node.clone_from(&self.node);
        own.cpus = cpus.to_vec();
        own.start_skew_ms = load.late_start().as_secs_f64() * 1e3;
        let mut parts = vec![self.part(own, self.share, Some(&whole))];
        for (task, member) in &*lock(&members.all) {
            let mut account = member.account.clone();
            account.task = *task;
            account.node.clone_from(&member.node);
            account.lost = member.lost.clone().filter(|_| !member.ended);
            parts.push(self.part(account, member.share, member.tally.as_ref()));
            if let Some(tally) = &member.tally {
                whole.merge(tally);
            }
        }
        *lock(&self.parts) = parts;
        whole
    }

    fn part(&self, account: TaskAccount, task: Share, tally: Option<&Tally>) -> Part {
        Part {
            account,
            dealing: Dealing {
                task,
                users: self.users,
            },
            offered: tally.map_or(0, |tally| tally.whole().requests),
            in_window: tally.map_or(0, |tally| tally.counts().total),
            arrived: tally.map_or(0, |tally| tally.counts().arrived),
        }
    }

    /// What each task has done of it; none where there is one task.
    pub(in super::super) fn parts(&self) -> Vec<Part> {
        lock(&self.parts).clone()
    }

    /// Says of each task whether its CPUs are an engine's, too.
    pub(in super::super) fn judge_cores(&self, mut shares: impl FnMut(&str, &[usize]) -> bool) {
        let Some(members) = &self.members else { return };
        for member in lock(&members.all).values_mut() {
            member.account.cores_shared = shares(&member.node, &member.account.cpus);
        }
    }
}

/// The account of a task by its own tally.
pub(super) fn account(
    load: &RealLoad,
    tally: &Tally,
    (workers, start): (usize, Instant),
    cpu_before: f64,
) -> TaskAccount {
    let cpu_seconds = effort::cpu_seconds() - cpu_before;
    let delay = tally.loop_delay();
    TaskAccount {
        workers,
        requests: tally.whole().requests,
        cpu_seconds,
        cpu_share: load.cpu_share(start, workers),
        worker_cpu_shares: load.worker_shares(),
        lateness_p99_ms: tally.lateness().p99_ms,
        loop_delay_p50_ms: delay.map(|delay| delay.p50_ms),
        loop_delay_p99_ms: delay.map(|delay| delay.p99_ms),
        ..TaskAccount::default()
    }
}
