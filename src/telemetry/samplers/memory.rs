//! Memory of the node: `/proc/meminfo`.

use procfs::FromRead as _;
use prometheus_client::registry::Unit;

use super::{Reading, Root, failed};
use crate::telemetry::sample::Family;

pub(super) fn sample(root: &Root) -> Reading {
    let text = root.text("/proc/meminfo")?;
    let memory = procfs::Meminfo::from_read(text.as_bytes()).map_err(failed)?;
    let bytes = |name: &'static str, help: &'static str, value: u64| {
        Family::gauge(name, help, Some(Unit::Bytes)).alone(value as f64)
    };
    let mut families = vec![bytes(
        "aif_node_memory_size",
        "Memory of the node",
        memory.mem_total,
    )];
    if let Some(available) = memory.mem_available {
        families.push(bytes(
            "aif_node_memory_available",
            "Memory of the node that processes can still have without swapping",
            available,
        ));
    }
    families.push(bytes(
        "aif_node_swap_used",
        "Swap space of the node that is in use",
        memory.swap_total.saturating_sub(memory.swap_free),
    ));
    Ok(families.into())
}
