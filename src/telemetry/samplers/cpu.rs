//! CPU time of the node by mode, context switches and processes: `/proc/stat`.

use procfs::FromReadSI as _;
use prometheus_client::registry::Unit;

use super::{Reading, Root, failed};
use crate::telemetry::sample::Family;

pub(super) fn sample(root: &Root) -> Reading {
    let text = root.text("/proc/stat")?;
    let stat = procfs::KernelStats::from_read(text.as_bytes(), procfs::current_system_info())
        .map_err(failed)?;
    let ticks = procfs::ticks_per_second() as f64;
    let time = &stat.total;
    let modes = [
        ("user", Some(time.user)),
        ("nice", Some(time.nice)),
        ("system", Some(time.system)),
        ("idle", Some(time.idle)),
        ("iowait", time.iowait),
        ("irq", time.irq),
        ("softirq", time.softirq),
        ("steal", time.steal),
    ];
    let mut seconds = Family::counter(
        "aif_node_cpu",
        "CPU time of the node by mode, all CPUs together",
        Some(Unit::Seconds),
    );
    for (mode, value) in modes {
        if let Some(value) = value {
            seconds.push([("mode", mode)], value as f64 / ticks);
        }
    }
    let cpus = Family::gauge("aif_node_cpus", "CPUs of the node", None)
        .with([("state", "online")], stat.cpu_time.len() as f64);
    let switches = Family::counter(
        "aif_node_context_switches",
        "Changes of the process that a CPU of the node runs",
        None,
    )
    .alone(stat.ctxt as f64);
    let forks = Family::counter("aif_node_forks", "Processes started on the node", None)
        .alone(stat.processes as f64);
    let mut processes = Family::gauge(
        "aif_node_processes",
        "Processes of the node that run or could, and those that wait for a disk",
        None,
    );
    for (state, count) in [
        ("running", stat.procs_running),
        ("blocked", stat.procs_blocked),
    ] {
        if let Some(count) = count {
            processes.push([("state", state)], f64::from(count));
        }
    }
    Ok(vec![seconds, cpus, switches, forks, processes].into())
}
