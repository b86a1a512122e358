//! One load of several tasks: `srun -n 8 aif bench RECIPE` is one schedule of eight generators, and one result.
//!
//! Task 0 leads ([`leader`], [`members`], [`joint`]): it is the bench of the run, looks the service up, calibrates, fixes each load, and writes
//! what came of it. The others are members ([`member`], [`part`]): they find the leader in the registry, and talk to it over a
//! connection of their own ([`link`], [`message`]) from then on. For each load the leader hands out its plan with what
//! it has found out; each task says what it would send (the SHA-256 of the stimulus, which must be the leader's) and how
//! far its clock is from the leader's ([`offset`]); then all begin at one moment. Users and arrivals are dealt out by
//! number ([`crate::load::deal`]), so nobody needs to ask anybody while the load runs. Members tell every few seconds
//! what has come of theirs, and tallies add up to what one generator would have seen ([`crate::stats::tally`]).
//!
//! A member that is lost leaves what it has told, and its place in the account ([`crate::stats::tasks`]). Where the
//! leader is lost, members end and keep what they have in files of their own, of which `aif report … --recompute` makes a
//! result ([`orphan`]). Whoever is told to end tells the leader,
//! and the leader all.
//!
//! Each task serves and registers the metrics of its own requests, as an instance of the bench: a sum over instances is
//! right at every moment, also when a task is lost, and each generator can be seen by itself.
//!
//! Tasks of a step are told by `SLURM_STEP_NUM_TASKS` and not by `SLURM_NTASKS`, which an interactive step keeps from the
//! job around it.

mod joint;
mod leader;
mod link;
mod member;
mod members;
mod message;
mod offset;
mod orphan;
mod part;

pub(super) use self::{
    joint::{Joint, Part},
    leader::{Team, Wanted, listen},
    member::run as assist,
};

use crate::{clock, env::Env, slurm::job_env::JobEnv};

/// A task among those of its step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seat {
    pub(super) task: u32,
    pub(super) tasks: u32,
}

impl Seat {
    /// Of this process; `None` where it is alone.
    pub(super) fn of(job: Option<&JobEnv>, env: &Env) -> Option<Self> {
        let job = job?;
        // a stack that starts its roles as plain processes gives them the variables of its own step
        let is_step = job.tasks > 1 && env.get("AIF_LAUNCHER") != Some("local");
        is_step.then_some(Self {
            task: job.rank,
            tasks: job.tasks,
        })
    }
}

/// The monotonic clock, in ns.
fn now() -> i64 {
    i64::try_from(clock::monotonic_nanoseconds()).unwrap_or(i64::MAX)
}

fn milliseconds(nanoseconds: i64) -> f64 {
    nanoseconds as f64 / 1e6
}
