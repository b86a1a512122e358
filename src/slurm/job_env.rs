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
    /// Nodes of each component of a heterogeneous job, as host lists; empty in any other job.
    pub components: Vec<String>,
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
    /// When it started, to the second.
    pub started_at: Option<Timestamp>,
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
            components: components(env),
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
            started_at: stamp(env, "SLURM_JOB_START_TIME"),
            ends_at: stamp(env, "SLURM_JOB_END_TIME"),
            step_id,
            job_id,
        })
    }
}

fn stamp(env: &Env, name: &str) -> Option<Timestamp> {
    Timestamp::from_second(env.number(name)?).ok()
}

/// The node lists of a heterogeneous job's components.
fn components(env: &Env) -> Vec<String> {
    let size: usize = env.number("SLURM_HET_SIZE").unwrap_or(0);
    let list = |group| env.get(&format!("SLURM_JOB_NODELIST_HET_GROUP_{group}"));
    (0..size).map_while(list).map(str::to_owned).collect()
}

/// The component whose node list is the step's.
fn own_group(env: &Env, in_step: bool) -> Option<u32> {
    let components = components(env);
    if components.is_empty() {
        return None;
    }
    if !in_step {
        return Some(0);
    }
    let own = env.get("SLURM_JOB_NODELIST")?;
    let group = components.iter().position(|nodes| nodes == own)?;
    u32::try_from(group).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Env;

    /// A dump of a real environment, as `env` prints it.
    fn captured(text: &str) -> JobEnv {
        let env: Env = text
            .lines()
            .filter_map(|line| line.split_once('='))
            .collect();
        JobEnv::from_env(&env).unwrap()
    }

    #[test]
    fn a_batch_script_and_a_step_are_told_apart() {
        let batch = captured(include_str!("../../tests/data/slurm/batch-24.11.env"));
        assert_eq!((batch.step_id, batch.gpus_on_node), (None, 4));
        assert_eq!(batch.components, Vec::<String>::new());
        let step = captured(include_str!("../../tests/data/slurm/step-24.11.env"));
        assert_eq!((step.step_id.as_deref(), step.gpus_on_node), (Some("0"), 2));
        assert!(step.ends_at.is_some());
        let old = captured(include_str!("../../tests/data/slurm/step-22.05.env"));
        assert!(old.step_id.is_some() && old.ends_at.is_none());
    }

    #[test]
    fn a_step_of_a_cpu_component_has_no_gpus_whatever_leaks_into_it() {
        let batch = captured(include_str!("../../tests/data/slurm/het-batch-24.11.env"));
        assert_eq!(batch.het_group, Some(0));
        assert_eq!(batch.components, ["node[1-2]", "node4"]);
        let step = captured(include_str!(
            "../../tests/data/slurm/het-step-group1-24.11.env"
        ));
        assert_eq!((step.het_group, step.gpus_on_node), (Some(1), 0));
        assert_eq!(
            step.job_id, batch.job_id,
            "the leader's id in every component"
        );
    }

    #[test]
    fn a_shell_of_salloc_on_a_login_node_is_not_inside_the_job() {
        let env: Env = [("SLURM_JOB_ID", "7")].into_iter().collect();
        assert_eq!(JobEnv::from_env(&env), None);
    }
}
