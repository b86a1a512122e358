//! From a recipe's resources and a site to the options of sbatch: pure.
//!
//! Options given to sbatch win over the `#SBATCH` lines of a script, so a job script needs no template: it holds what is
//! the same everywhere, and what differs is said here.

use crate::{recipe::Resources, units};

/// What a site says about submitting, resolved for one job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Defaults {
    /// Account.
    pub account: Option<String>,
    /// Quality of service.
    pub qos: Option<String>,
    /// How GPUs are asked for: `gres`, `gpus` or `gpus-per-node`.
    pub gpu_request: Option<String>,
    /// Partition, already translated.
    pub partition: Option<String>,
    /// Further options, as they are.
    pub further: Vec<String>,
}

/// Options of sbatch for a job that runs one recipe alone.
pub fn for_recipe(resources: &Resources, defaults: &Defaults) -> Vec<String> {
    let mut options = for_component(defaults);
    let nodes = resources.nodes();
    options.push(format!("--nodes={nodes}"));
    if nodes > 1 || resources.cpu_cores.is_some() {
        options.push(format!("--ntasks={nodes}"));
    }
    if nodes > 1 {
        options.push("--ntasks-per-node=1".to_owned());
    }
    if let Some(cores) = resources.cpu_cores {
        options.push(format!("--cpus-per-task={cores}"));
    }
    if let Some(memory) = resources.memory_gb {
        options.push(format!("--mem={}M", (memory * 1024.0).ceil()));
    }
    if resources.gpu_count > 0 {
        options.push(gpus(resources.gpu_count, defaults.gpu_request.as_deref()));
    }
    if let Some(limit) = resources.time_limit {
        options.push(format!("--time={}", units::slurm_time(limit)));
    }
    options
}

/// Options of sbatch for a job script, or a component of one, that says its own size.
pub fn for_component(defaults: &Defaults) -> Vec<String> {
    let mut options = common(defaults);
    if let Some(partition) = &defaults.partition {
        options.push(format!("--partition={partition}"));
    }
    options
}

/// What a site wants of every job.
fn common(defaults: &Defaults) -> Vec<String> {
    let mut options = Vec::new();
    if let Some(account) = &defaults.account {
        options.push(format!("--account={account}"));
    }
    if let Some(qos) = &defaults.qos {
        options.push(format!("--qos={qos}"));
    }
    options.extend(defaults.further.iter().cloned());
    options
}

fn gpus(count: u32, request: Option<&str>) -> String {
    match request {
        Some("gpus") => format!("--gpus={count}"),
        Some("gpus-per-node") => format!("--gpus-per-node={count}"),
        _ => format!("--gres=gpu:{count}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_original_server_recipe_becomes_one_gpu_job() {
        let resources = Resources {
            partition: Some("gpu".to_owned()),
            cpu_cores: Some(8),
            memory_gb: Some(64.0),
            gpu_count: 1,
            time_limit: Some(Duration::from_hours(4)),
            nodes: None,
        };
        let defaults = Defaults {
            account: Some("p200981".to_owned()),
            partition: Some("gpu".to_owned()),
            ..Defaults::default()
        };
        assert_eq!(
            for_recipe(&resources, &defaults).join(" "),
            "--account=p200981 --partition=gpu --nodes=1 --ntasks=1 --cpus-per-task=8 --mem=65536M --gres=gpu:1 --time=04:00:00"
        );
        let over_two = Resources {
            nodes: Some(2),
            ..resources
        };
        assert_eq!(
            for_recipe(&over_two, &Defaults::default()).join(" "),
            "--nodes=2 --ntasks=2 --ntasks-per-node=1 --cpus-per-task=8 --mem=65536M --gres=gpu:1 --time=04:00:00"
        );
    }
}
