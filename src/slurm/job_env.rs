//! The facts about the job that this process runs in, read from the environment.
//!
//! `SLURM_STEP_ID` tells a step from a batch script (`SLURM_PROCID` is set in both). `SLURM_JOB_ID` is the leader's in
//! every component of a heterogeneous job; the component's own id is `SLURM_JOB_ID_HET_GROUP_n`. `SLURMD_NODENAME` is
//! the node; `HOSTNAME` keeps the batch node's value inside steps. `SLURM_JOB_END_TIME` is missing before 23.02 or so,
//! and does not follow `scontrol update TimeLimit`: `ends_at` is a hint.

use jiff::Timestamp;
use serde::Serialize;

use crate::env::Env;

/// A job, seen from inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JobEnv {
    /// The job's id; the leader's in a heterogeneous job.
    pub job_id: String,
    /// The step's id; `None` in the batch script.
    pub step_id: Option<String>,
    /// The node, as Slurm names it.
    pub node: String,
    /// Name of the cluster.
    pub cluster: String,
    /// How often the job was requeued and started again.
    pub restart_count: u32,
    /// Component of a heterogeneous job that this step runs in.
    pub het_group: Option<u32>,
    /// Components of the heterogeneous job.
    pub het_size: Option<u32>,
    /// Rank of this task in its step.
    pub rank: u32,
    /// Tasks of this step.
    pub tasks: u32,
    /// Nodes of the job (or component), as a host list.
    pub nodes: String,
    /// GPUs on this node.
    pub gpus_on_node: u32,
    /// Folder the job was submitted from.
    pub submit_dir: Option<String>,
    /// Account.
    pub account: Option<String>,
    /// Partition.
    pub partition: Option<String>,
    /// Projected end.
    pub ends_at: Option<Timestamp>,
}

impl JobEnv {
    /// The job around this process; `None` outside of one.
    ///
    /// A login shell inside `salloc` has `SLURM_JOB_ID` but no `SLURMD_NODENAME`: it is in no step, and not on a node
    /// of the job, so it does not count as inside.
    pub fn from_env(env: &Env) -> Option<Self> {
        let job_id = env.get("SLURM_JOB_ID")?.to_owned();
        let node = env.get("SLURMD_NODENAME")?.to_owned();
        let step_id = env.get("SLURM_STEP_ID").map(str::to_owned);
        let gpus = env.get("SLURM_STEP_GPUS").map_or_else(
            || {
                if step_id.is_none() {
                    env.number("SLURM_GPUS_ON_NODE").unwrap_or(0)
                } else {
                    0
                }
            },
            |list| u32::try_from(list.split(',').filter(|id| !id.is_empty()).count()).unwrap_or(0),
        );
        Some(Self {
            node,
            cluster: env
                .get("SLURM_CLUSTER_NAME")
                .unwrap_or("unknown")
                .to_owned(),
            restart_count: env.number("SLURM_RESTART_COUNT").unwrap_or(0),
            het_group: env
                .number("SLURM_HET_GROUP_ID")
                .or_else(|| own_group(env, step_id.is_some())),
            het_size: env.number("SLURM_HET_SIZE"),
            rank: env.number("SLURM_PROCID").unwrap_or(0),
            tasks: if step_id.is_some() {
                env.number("SLURM_STEP_NUM_TASKS").unwrap_or(1)
            } else {
                1
            },
            nodes: env.get("SLURM_JOB_NODELIST").unwrap_or_default().to_owned(),
            gpus_on_node: gpus,
            submit_dir: env.get("SLURM_SUBMIT_DIR").map(str::to_owned),
            account: env.get("SLURM_JOB_ACCOUNT").map(str::to_owned),
            partition: env.get("SLURM_JOB_PARTITION").map(str::to_owned),
            ends_at: env
                .number("SLURM_JOB_END_TIME")
                .and_then(|seconds| Timestamp::from_second(seconds).ok()),
            step_id,
            job_id,
        })
    }
}

/// The component whose node list holds the step's.
fn own_group(env: &Env, in_step: bool) -> Option<u32> {
    let size: u32 = env.number("SLURM_HET_SIZE")?;
    if !in_step {
        return Some(0);
    }
    let own = env.get("SLURM_JOB_NODELIST")?;
    (0..size).find(|group| env.get(&format!("SLURM_JOB_NODELIST_HET_GROUP_{group}")) == Some(own))
}
