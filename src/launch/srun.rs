//! Roles as steps of the job around us.
//!
//! `srun` inherits its wishes from the batch script's environment, and what it inherits breaks steps in a dozen ways
//! (memory per CPU against `--mem`, GPUs of the whole job for the monitor, tasks of the whole job). So a step says all it
//! wants, and what it would inherit is taken out ([`inherited`]). No `-c`: overlapping steps that ask for CPUs share the
//! same first ones (see [`super::cpus`]).

use std::path::PathBuf;

use tokio::process::Command;

use super::{Launch, Placement, Step};
use crate::env::Env;

/// The launcher by srun.
#[derive(Debug, Clone)]
pub struct Srun {
    /// This program, by a path that every node of the job has.
    pub program: PathBuf,
    /// The batch script's environment.
    pub env: Env,
}

impl Launch for Srun {
    fn name(&self) -> &'static str {
        "srun"
    }

    fn command(&self, step: &Step) -> Command {
        let mut command = Command::new("srun");
        command
            .args(options(&step.placement))
            .arg(&self.program)
            .args(&step.arguments);
        for (name, _) in self.env.iter().filter(|(name, _)| inherited(name)) {
            command.env_remove(name);
        }
        command.envs(step.variables.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// Is this a variable by which srun would inherit wishes of the batch script?
pub fn inherited(name: &str) -> bool {
    const PREFIXES: [&str; 7] = [
        "SLURM_MEM_PER",
        "SLURM_CPUS_PER",
        "SLURM_NTASKS",
        "SLURM_GPUS",
        "SLURM_TRES",
        "SLURM_MEM_BIND",
        "SLURM_CPU_BIND",
    ];
    const NAMES: [&str; 10] = [
        "SLURM_NPROCS",
        "SLURM_HINT",
        "SLURM_DISTRIBUTION",
        "SLURM_THREADS_PER_CORE",
        "SLURM_EXPORT_ENV",
        "CUDA_VISIBLE_DEVICES",
        "ROCR_VISIBLE_DEVICES",
        "ZE_AFFINITY_MASK",
        "GPU_DEVICE_ORDINAL",
        "HIP_VISIBLE_DEVICES",
    ];
    PREFIXES.iter().any(|prefix| name.starts_with(prefix)) || NAMES.contains(&name)
}

/// The options of srun for a step.
pub fn options(placement: &Placement) -> Vec<String> {
    let nodes = placement.node.split(',').count();
    let mut options: Vec<String> = [
        "--overlap",
        &format!("--nodes={nodes}"),
        &format!("--ntasks={nodes}"),
        "--mem=0",
        "--export=ALL",
        "--input=none",
    ]
    .map(str::to_owned)
    .to_vec();
    options.push(match placement.gpus {
        0 => "--gres=none".to_owned(),
        count => format!("--gres=gpu:{count}"),
    });
    if nodes > 1 {
        // tasks of one step end each other in order, also when one is killed
        options.extend(["--ntasks-per-node=1", "--kill-on-bad-exit=0"].map(str::to_owned));
    }
    if !placement.node.is_empty() {
        options.push(format!("--nodelist={}", placement.node));
    }
    if let Some(group) = placement.het_group {
        options.push(format!("--het-group={group}"));
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_says_all_that_it_wants_and_inherits_nothing() {
        let env: Env = [
            ("SLURM_MEM_PER_CPU", "500"),
            ("SLURM_JOB_ID", "4"),
            ("CUDA_VISIBLE_DEVICES", "0,1"),
        ]
        .into_iter()
        .collect();
        let launcher = Srun {
            program: "/home/me/aif".into(),
            env,
        };
        let step = Step {
            name: "server".to_owned(),
            arguments: vec!["server".to_owned(), "vllm-server".to_owned()],
            variables: vec![("AIF_RUN_DIR".to_owned(), "/r".to_owned())],
            placement: Placement {
                node: "node1".to_owned(),
                het_group: Some(0),
                gpus: 2,
            },
            log: "/r/logs/server.log".into(),
        };
        let command = launcher.command(&step);
        let words: Vec<_> = command
            .as_std()
            .get_args()
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        assert_eq!(
            words.join(" "),
            "--overlap --nodes=1 --ntasks=1 --mem=0 --export=ALL --input=none --gres=gpu:2 --nodelist=node1 --het-group=0 /home/me/aif server vllm-server"
        );
        let changed: Vec<_> = command
            .as_std()
            .get_envs()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.is_some()))
            .collect();
        assert!(changed.contains(&("SLURM_MEM_PER_CPU".to_owned(), false)));
        assert!(changed.contains(&("CUDA_VISIBLE_DEVICES".to_owned(), false)));
        assert!(!changed.iter().any(|(name, _)| name == "SLURM_JOB_ID"));
    }

    #[test]
    fn a_step_of_several_nodes_has_a_task_on_each() {
        let placement = Placement {
            node: "node1,node2".to_owned(),
            ..Placement::default()
        };
        assert_eq!(
            options(&placement).join(" "),
            "--overlap --nodes=2 --ntasks=2 --mem=0 --export=ALL --input=none --gres=none --ntasks-per-node=1 --kill-on-bad-exit=0 --nodelist=node1,node2"
        );
    }

    #[test]
    fn facts_of_the_job_are_left_in_place() {
        for name in [
            "SLURM_JOB_ID",
            "SLURM_JOB_NODELIST",
            "SLURM_SUBMIT_DIR",
            "SLURM_CLUSTER_NAME",
            "SLURM_RESTART_COUNT",
            "SLURM_HET_SIZE",
            "SLURM_JOB_END_TIME",
        ] {
            assert!(!inherited(name), "{name}");
        }
    }
}
