//! What the disks of the node read and write: `/proc/diskstats`.
//!
//! Disks only: their partitions, and what lies on other devices (loops, device mappers), would count the same bytes
//! twice. `/sys/class/block` tells which are which. A parallel file system is no disk of the node.

use procfs::FromRead as _;
use prometheus_client::registry::Unit;

use super::{Reading, Root, failed};
use crate::telemetry::sample::{Absent, Family};

/// Bytes of a sector in `/proc/diskstats`, whatever the disk's own sectors are.
const SECTOR: f64 = 512.0;

/// Devices that only stand for others, or for memory.
const STAND_INS: [&str; 6] = ["loop", "ram", "zram", "dm-", "md", "sr"];

pub(super) fn sample(root: &Root) -> Reading {
    let text = root.text("/proc/diskstats")?;
    let disks = procfs::DiskStats::from_read(text.as_bytes()).map_err(failed)?;
    let mut read = Family::counter(
        "aif_node_disk_read",
        "Bytes read from a disk of the node",
        Some(Unit::Bytes),
    );
    let mut written = Family::counter(
        "aif_node_disk_write",
        "Bytes written to a disk of the node",
        Some(Unit::Bytes),
    );
    let mut busy = Family::counter(
        "aif_node_disk_busy",
        "Time in which a disk of the node had something to do",
        Some(Unit::Seconds),
    );
    for disk in disks.0 {
        let name = disk.name.as_str();
        let stands_in = STAND_INS.iter().any(|start| name.starts_with(start));
        if stands_in || root.has(format!("/sys/class/block/{name}/partition")) {
            continue;
        }
        let labels = [("device", name)];
        read.push(labels, disk.sectors_read as f64 * SECTOR);
        written.push(labels, disk.sectors_written as f64 * SECTOR);
        busy.push(labels, disk.time_in_progress as f64 / 1e3);
    }
    if read.series.is_empty() {
        return Err(Absent::Unsupported(
            "/proc/diskstats: this node has no disk of its own".to_owned(),
        ));
    }
    Ok(vec![read, written, busy].into())
}
