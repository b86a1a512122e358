//! The sources of what is measured on a node, one file each.
//!
//! | sampler | reads | gives |
//! |---|---|---|
//! | `cpu`, `load`, `memory` | `/proc/{stat,loadavg,meminfo}` | `aif_node_cpu_*`, `…_context_switches_*`, `…_load`, `…_memory_*` |
//! | `pressure` | `/proc/pressure` | `aif_node_pressure_*`: how a noisy neighbour shows |
//! | `network`, `disk` | `/proc/net/dev`, `/proc/diskstats` | `aif_node_network_*`, `aif_node_disk_*` |
//! | `infiniband` | `/sys/class/infiniband` | `aif_node_infiniband_*` |
//! | `memory_traffic` | `/sys/fs/resctrl` | `aif_node_memory_traffic_*` |
//! | `energy` | `/sys/class/powercap`, `/sys/cray/pm_counters` | `aif_node_energy_*`, `aif_node_power_*` |
//! | `job_…`, `step_…` | the cgroups of job and step, their processes | `aif_job_*`, `aif_step_*` |
//! | `gpu_nvidia`, `gpu_amd` | NVML, `/sys/class/drm` | `aif_gpu_*`, of the GPUs of this step only |
//!
//! Linux counts no network traffic by cgroup: what a job sends and receives is the node's, less what others do there.

mod amd;
mod cpu;
mod devices;
mod disk;
mod energy;
mod gpu;
mod group;
mod infiniband;
mod load;
mod memory;
mod network;
mod nvidia;
mod pressure;
pub(super) mod processes;
mod resctrl;

use super::{
    root::Root,
    sample::{Reading, Sampler},
};
use crate::env::Env;

/// One look at the node.
type Look = fn(&Root) -> Reading;

/// A sampler that keeps nothing from one look to the next.
struct Plain {
    name: &'static str,
    root: Root,
    look: Look,
}

impl std::fmt::Debug for Plain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Sampler for Plain {
    fn sample(&mut self) -> Vec<(&'static str, Reading)> {
        vec![(self.name, (self.look)(&self.root))]
    }
}

/// All samplers, for the process that this environment belongs to.
pub(super) fn all(root: &Root, env: &Env) -> Vec<Box<dyn Sampler>> {
    let plain: [(&'static str, Look); 8] = [
        ("cpu", cpu::sample),
        ("load", load::sample),
        ("memory", memory::sample),
        ("pressure", pressure::sample),
        ("network", network::sample),
        ("disk", disk::sample),
        ("infiniband", infiniband::sample),
        ("memory_traffic", resctrl::sample),
    ];
    let mut all: Vec<Box<dyn Sampler>> = plain
        .into_iter()
        .map(|(name, look)| {
            let root = root.clone();
            Box::new(Plain { name, root, look }) as Box<dyn Sampler>
        })
        .collect();
    all.push(Box::new(energy::Energy::new(root)));
    all.push(Box::new(group::Groups::new(root, env)));
    let wanted = devices::Wanted::of(env);
    all.push(Box::new(amd::Amd::new(root, &wanted)));
    all.push(Box::new(nvidia::Nvidia::new(wanted)));
    all
}

#[expect(clippy::needless_pass_by_value, reason = "what map_err hands over")]
fn failed(error: procfs::ProcError) -> super::sample::Absent {
    super::sample::Absent::Failed(error.to_string())
}

#[cfg(test)]
mod tests;
