//! The metrics of GPUs, whoever made them: one name for each, so that a query holds for all.
//!
//! What a card does not tell has no series.

use std::collections::BTreeMap;

use prometheus_client::registry::Unit;

use crate::telemetry::sample::{Family, Shape, unit};

/// All of them, in the order in which they are written: name, unit, shape, help.
const ALL: [(&str, &str, Shape, &str); 21] = [
    (
        "info",
        "",
        Shape::Gauge,
        "A GPU of this step: its number on the node, its UUID, model and driver",
    ),
    (
        "utilization",
        "ratio",
        Shape::Gauge,
        "Share of the last sample time in which the GPU did something",
    ),
    (
        "memory_utilization",
        "ratio",
        Shape::Gauge,
        "Share of the last sample time in which the GPU read or wrote its memory",
    ),
    ("memory_size", "bytes", Shape::Gauge, "Memory of the GPU"),
    (
        "memory_used",
        "bytes",
        Shape::Gauge,
        "Memory of the GPU that is in use",
    ),
    ("power", "watts", Shape::Gauge, "Power that the GPU draws"),
    (
        "power_limit",
        "watts",
        Shape::Gauge,
        "Power that the GPU may draw",
    ),
    (
        "energy",
        "joules",
        Shape::Counter,
        "Energy that the GPU has used since its driver was loaded",
    ),
    ("clock", "hertz", Shape::Gauge, "Clock of a part of the GPU"),
    (
        "throttled",
        "",
        Shape::Gauge,
        "1 for a reason for which the clocks are lower than they could be, else 0",
    ),
    (
        "throttled",
        "seconds",
        Shape::Counter,
        "Time in which the clocks were held down for the reason",
    ),
    (
        "temperature",
        "celsius",
        Shape::Gauge,
        "Temperature of a part of the GPU",
    ),
    (
        "temperature_limit",
        "celsius",
        Shape::Gauge,
        "Temperature at which the GPU slows down",
    ),
    (
        "ecc_errors",
        "",
        Shape::Counter,
        "Errors in the GPU's memory since its driver was loaded",
    ),
    (
        "pcie_receive",
        "bytes",
        Shape::Counter,
        "Bytes that came to the GPU by PCIe",
    ),
    (
        "pcie_transmit",
        "bytes",
        Shape::Counter,
        "Bytes that the GPU sent by PCIe",
    ),
    (
        "pcie_generation",
        "",
        Shape::Gauge,
        "Generation of PCIe that is spoken now",
    ),
    (
        "pcie_lanes",
        "",
        Shape::Gauge,
        "Lanes of PCIe that are in use now",
    ),
    (
        "pcie_replays",
        "",
        Shape::Counter,
        "Packets that had to be sent again by PCIe",
    ),
    (
        "nvlink_receive",
        "bytes",
        Shape::Counter,
        "Bytes that came to the GPU by NVLink, by its link",
    ),
    (
        "nvlink_transmit",
        "bytes",
        Shape::Counter,
        "Bytes that the GPU sent by NVLink, by its link",
    ),
];

/// Figures of GPUs, as they are gathered.
#[derive(Debug, Default)]
pub(super) struct Figures {
    families: BTreeMap<usize, Family>,
}

impl Figures {
    /// A figure of a GPU; the name is with its unit, as in the table.
    pub(super) fn add<const N: usize>(
        &mut self,
        (name, of): (&str, &str),
        labels: [(&'static str, &str); N],
        value: f64,
    ) {
        let at = ALL.iter().position(|one| (one.0, one.1) == (name, of));
        let at = at.expect("a metric of the table");
        let family = self.families.entry(at).or_insert_with(|| {
            let (name, of, shape, help) = ALL[at];
            let of = match of {
                "" => None,
                "bytes" => Some(Unit::Bytes),
                "seconds" => Some(Unit::Seconds),
                "joules" => Some(Unit::Joules),
                "celsius" => Some(Unit::Celsius),
                other => Some(unit(other)),
            };
            Family::new(format!("aif_gpu_{name}"), help, of, shape)
        });
        family.push(labels, value);
    }

    /// The families.
    pub(super) fn families(self) -> Vec<Family> {
        self.families.into_values().collect()
    }
}
