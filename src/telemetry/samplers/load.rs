//! The load average of the node: `/proc/loadavg`.

use procfs::FromRead as _;

use super::{Reading, Root, failed};
use crate::telemetry::sample::Family;

pub(super) fn sample(root: &Root) -> Reading {
    let text = root.text("/proc/loadavg")?;
    let load = procfs::LoadAverage::from_read(text.as_bytes()).map_err(failed)?;
    let family = Family::gauge(
        "aif_node_load",
        "Processes that run or wait for a CPU or a disk, averaged over so many minutes",
        None,
    )
    .with([("minutes", "1")], f64::from(load.one))
    .with([("minutes", "5")], f64::from(load.five))
    .with([("minutes", "15")], f64::from(load.fifteen));
    Ok(vec![family].into())
}
