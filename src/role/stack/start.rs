//! Starting a role as a step: its arguments, its variables, its node and its share of the CPUs and GPUs.

use super::Stack;
use crate::{
    exit::{Exit, Failure, OrExit as _},
    launch::{self, Placement, Running, Step, cpus::Shares},
    library::Resolved,
    recipe::Plan,
    role::Context,
    slurm::{hostlist, job_env::JobEnv},
};

impl Stack<'_> {
    /// Starts a role as a step. Its arguments are those of `aif`, without any secret.
    pub(super) fn start(
        &self,
        name: &str,
        recipe: &Resolved,
        words: &[&str],
        gpus: u32,
    ) -> Result<Running, Failure> {
        let context = self.context;
        let mut arguments: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        arguments.push(recipe.entry.path.clone());
        arguments.extend(recipe.set_arguments()?);
        let mut variables = vec![
            (
                "AIF_RUN_DIR".to_owned(),
                context.run.path.display().to_string(),
            ),
            (
                "AIF_REGISTRY".to_owned(),
                self.config.registry.display().to_string(),
            ),
            ("AIF_HOME".to_owned(), context.home.display().to_string()),
            ("AIF_CPUS".to_owned(), self.shares(name).to_value()),
        ];
        if let Some(site) = context.env.get("AIF_SITE") {
            variables.push(("AIF_SITE".to_owned(), site.to_owned()));
        }
        let mut placement = context.job.as_ref().map_or_else(
            || Ok(Placement::default()),
            |job| placement(name == "server", job),
        )?;
        placement.gpus = gpus;
        let step = Step {
            name: name.to_owned(),
            arguments,
            variables,
            placement,
            log: context.run.log(name),
        };
        tracing::info!(
            step = name,
            launcher = self.config.launcher.name(),
            "Starting a role"
        );
        launch::start(self.config.launcher.as_ref(), &step).map_err(|error| {
            Failure::caused(
                Exit::Unavailable,
                format!("the {name} could not be started"),
                error,
            )
        })
    }

    pub(super) fn start_monitor(&self) -> Result<Option<Running>, Failure> {
        self.config
            .monitor
            .as_ref()
            .map(|monitor| self.start("monitor", monitor, &["monitor"], 0))
            .transpose()
    }

    /// Who is on the node of this role.
    fn shares(&self, name: &str) -> Shares {
        let cores = |bench: &Resolved| match &bench.plan {
            Plan::Client(plan) => plan.resources.cpu_cores.unwrap_or(1),
            Plan::Server(_) | Plan::Monitor(_) => 0,
        };
        let all = Shares {
            server: self.config.server.is_some(),
            monitor: self.config.monitor.is_some(),
            bench: self.config.benches.iter().map(cores).max().unwrap_or(0),
        };
        let apart = self
            .context
            .job
            .as_ref()
            .is_some_and(|job| job.components.len() > 1);
        match (apart, name) {
            (false, _) => all,
            (true, "server") => Shares {
                server: all.server,
                ..Shares::default()
            },
            (true, _) => Shares {
                server: false,
                ..all
            },
        }
    }
}

/// Where a role runs: in a heterogeneous job the server on the first node of the first component, the others on the
/// first node of the second; in any other job all on the node of the batch script.
fn placement(is_server: bool, job: &JobEnv) -> Result<Placement, Failure> {
    if job.components.len() < 2 {
        return Ok(Placement {
            node: job.node.clone(),
            ..Placement::default()
        });
    }
    let group = usize::from(!is_server);
    let nodes = hostlist::expand(&job.components[group]).or_exit(Exit::Bug, || {
        "Slurm's list of nodes cannot be read".to_owned()
    })?;
    Ok(Placement {
        node: nodes.into_iter().next().unwrap_or_default(),
        het_group: u32::try_from(group).ok(),
        gpus: 0,
    })
}

/// GPUs of the server's step: what its recipe asks, which the job must have.
pub(super) fn gpus_for(server: &Resolved, context: &Context) -> Result<u32, Failure> {
    let (Plan::Server(plan), Some(job)) = (&server.plan, &context.job) else {
        return Ok(0);
    };
    let (asked, there) = (plan.resources.gpu_count, job.gpus_on_node);
    if asked > there {
        return Err(Failure::new(
            Exit::Usage,
            format!(
                "recipe {} asks for {asked} GPU(s), the job has {there} on {}: submit with `sbatch --gres=gpu:{asked}`, or add `--set server:orchestration.resources.gpu_count={there}`",
                plan.name, job.node
            ),
        ));
    }
    Ok(asked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Env;

    #[test]
    fn in_a_heterogeneous_job_the_engine_has_the_first_component_for_itself() {
        let dump = include_str!("../../../tests/data/slurm/het-batch-24.11.env");
        let env: Env = dump
            .lines()
            .filter_map(|line| line.split_once('='))
            .collect();
        let job = JobEnv::from_env(&env).unwrap();
        let place = |is_server| {
            let placement = placement(is_server, &job).unwrap();
            (placement.node, placement.het_group)
        };
        assert_eq!(place(true), ("node1".to_owned(), Some(0)));
        assert_eq!(place(false), ("node4".to_owned(), Some(1)));
    }
}
