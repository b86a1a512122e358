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
            |job| placement(&recipe.plan, job),
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

/// Where a role runs: in a heterogeneous job the server on the first nodes of the first component, the others on the
/// first node of the second; in any other job all on the node of the batch script, which is the first, and an engine over
/// several nodes on those after it, too.
fn placement(plan: &Plan, job: &JobEnv) -> Result<Placement, Failure> {
    let is_server = matches!(plan, Plan::Server(_));
    let wanted = plan.resources().nodes() as usize;
    let is_het = job.components.len() > 1;
    if !is_het && wanted == 1 {
        return Ok(Placement {
            node: job.node.clone(),
            ..Placement::default()
        });
    }
    let group = usize::from(!is_server);
    let list = if is_het {
        &job.components[group]
    } else {
        &job.nodes
    };
    let mut nodes = hostlist::expand(list).or_exit(Exit::Bug, || {
        "Slurm's list of nodes cannot be read".to_owned()
    })?;
    if nodes.len() < wanted {
        let message = format!(
            "recipe {} is an engine over {wanted} nodes, the job has {} for it ({list}): submit with `sbatch --nodes={wanted}`",
            plan.name(),
            nodes.len()
        );
        return Err(Failure::new(Exit::Usage, message));
    }
    nodes.truncate(wanted);
    Ok(Placement {
        node: nodes.join(","),
        het_group: is_het.then_some(u32::try_from(group).unwrap_or(0)),
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
    use crate::{
        env::Env,
        recipe::{
            expand::Variables,
            plan::{self, Source},
        },
    };

    #[test]
    fn in_a_heterogeneous_job_the_engine_has_the_first_component_for_itself() {
        let dump = include_str!("../../../tests/data/slurm/het-batch-24.11.env");
        let env: Env = dump
            .lines()
            .filter_map(|line| line.split_once('='))
            .collect();
        let job = JobEnv::from_env(&env).unwrap();
        let planned = |text: &str| {
            let source = Source {
                text,
                path: "x.yaml",
                wanted: None,
                overrides: &[],
            };
            plan::plan(&source, &Variables::default()).unwrap().plan
        };
        let place = |text: &str| {
            placement(&planned(text), &job)
                .map(|placement| (placement.node, placement.het_group))
                .map_err(|failure| failure.to_string())
        };
        let server = "name: s\nservice: {program: [vllm, serve, m]}\n";
        let of = |nodes| format!("{server}orchestration: {{resources: {{nodes: {nodes}}}}}\n");
        assert_eq!(place(server), Ok(("node1".to_owned(), Some(0))));
        assert_eq!(place(&of(2)), Ok(("node1,node2".to_owned(), Some(0))));
        insta::assert_snapshot!(place(&of(3)).unwrap_err(), @"recipe s is an engine over 3 nodes, the job has 2 for it (node[1-2]): submit with `sbatch --nodes=3`");
        assert_eq!(
            place("name: m\nprometheus: {}\n"),
            Ok(("node4".to_owned(), Some(1)))
        );
    }
}
