//! What goes between memory and the CPUs' last caches: `resctrl`, where it is mounted.
//!
//! The kernel counts by group, and the root group holds only what is in no other: the groups are added up, so that a
//! domain (a last-level cache, most often a socket) has the traffic of the node. Reading needs no right, mounting does.

use prometheus_client::registry::Unit;

use super::{Reading, Root};
use crate::telemetry::sample::{Absent, Family, Sampled};

const FOLDER: &str = "/sys/fs/resctrl";
/// Folders of the root group that are no groups.
const NO_GROUPS: [&str; 3] = ["info", "mon_data", "mon_groups"];

pub(super) fn sample(root: &Root) -> Reading {
    let domains: Vec<String> = root
        .names(format!("{FOLDER}/mon_data"))
        .map_err(|absent| {
            absent.hint(
                "resctrl is not mounted, or the CPUs do not count their memory traffic: the site can mount it",
            )
        })?
        .into_iter()
        .filter(|name| name.starts_with("mon_L3_"))
        .collect();
    let mut groups = vec![FOLDER.to_owned()];
    for name in root.names(FOLDER)? {
        let group = format!("{FOLDER}/{name}");
        if !NO_GROUPS.contains(&name.as_str()) && root.is_folder(format!("{group}/mon_data")) {
            groups.push(group);
        }
    }
    let mut traffic = Family::counter(
        "aif_node_memory_traffic",
        "Bytes between a last-level cache and memory: all of it, and what went to its own socket's memory",
        Some(Unit::Bytes),
    );
    let mut cached = Family::gauge(
        "aif_node_cache_occupancy",
        "Bytes of a last-level cache that are in use",
        Some(Unit::Bytes),
    );
    let mut faults = Vec::new();
    for domain in &domains {
        let label = domain.trim_start_matches("mon_L3_");
        let mut sum = |file: &str| -> Option<f64> {
            let mut sum = 0.0;
            for group in &groups {
                match root.number(format!("{group}/mon_data/{domain}/{file}")) {
                    Ok(value) => sum += value,
                    Err(fault) => {
                        faults.push(fault);
                        return None;
                    }
                }
            }
            Some(sum)
        };
        for (scope, file) in [("all", "mbm_total_bytes"), ("local", "mbm_local_bytes")] {
            if let Some(bytes) = sum(file) {
                traffic.push([("domain", label), ("scope", scope)], bytes);
            }
        }
        if let Some(bytes) = sum("llc_occupancy") {
            cached.push([("domain", label)], bytes);
        }
    }
    if traffic.series.is_empty() {
        return Err(faults
            .pop()
            .unwrap_or_else(|| Absent::Unsupported(format!("{FOLDER}: no domain"))));
    }
    let sampled = Sampled::from(vec![traffic, cached]);
    Ok(match faults.first() {
        Some(fault) => sampled.wanting(fault.to_string()),
        None => sampled,
    })
}
