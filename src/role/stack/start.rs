//! Starting a role as a step: its arguments, its variables, its node and its share of the CPUs and GPUs.

use super::Stack;
use crate::{
    exit::{Exit, Failure},
    launch::{self, Placement, Running, Step, cpus::Shares},
    library::Resolved,
    recipe::Plan,
    role::Context,
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
            ("AIF_CPUS".to_owned(), self.shares().to_value()),
        ];
        if let Some(site) = context.env.get("AIF_SITE") {
            variables.push(("AIF_SITE".to_owned(), site.to_owned()));
        }
        let node = context
            .job
            .as_ref()
            .map(|job| job.node.clone())
            .unwrap_or_default();
        let step = Step {
            name: name.to_owned(),
            arguments,
            variables,
            placement: Placement {
                node,
                het_group: None,
                gpus,
            },
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

    fn shares(&self) -> Shares {
        let cores = |bench: &Resolved| match &bench.plan {
            Plan::Client(plan) => plan.resources.cpu_cores.unwrap_or(1),
            Plan::Server(_) | Plan::Monitor(_) => 0,
        };
        Shares {
            server: self.config.server.is_some(),
            monitor: self.config.monitor.is_some(),
            bench: self.config.benches.iter().map(cores).max().unwrap_or(0),
        }
    }
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
