//! What the network devices of the node carry: `/proc/net/dev`.
//!
//! Linux counts no traffic by cgroup. On a node that is shared this holds what others send, too; the sampler says so.

use procfs::FromRead as _;
use prometheus_client::registry::Unit;

use super::{Reading, Root, failed};
use crate::telemetry::sample::{Family, Sampled};

pub(super) fn sample(root: &Root) -> Reading {
    let text = root.text("/proc/net/dev")?;
    let devices = procfs::net::InterfaceDeviceStatus::from_read(text.as_bytes()).map_err(failed)?;
    let family = |name: &'static str, help: &'static str, unit| Family::counter(name, help, unit);
    let bytes = Some(Unit::Bytes);
    let mut received = family(
        "aif_node_network_receive",
        "Bytes received by a network device",
        bytes.clone(),
    );
    let mut sent = family(
        "aif_node_network_transmit",
        "Bytes sent by a network device",
        bytes,
    );
    let mut lost = family(
        "aif_node_network_drops",
        "Packets that a network device did not take or send",
        None,
    );
    let mut faults = family(
        "aif_node_network_errors",
        "Packets that a network device received or sent with an error",
        None,
    );
    let mut devices: Vec<_> = devices.0.into_iter().collect();
    devices.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, device) in devices {
        let name = name.as_str();
        received.push([("device", name)], device.recv_bytes as f64);
        sent.push([("device", name)], device.sent_bytes as f64);
        for (direction, drops, errors) in [
            ("receive", device.recv_drop, device.recv_errs),
            ("transmit", device.sent_drop, device.sent_errs),
        ] {
            let labels = [("device", name), ("direction", direction)];
            lost.push(labels, drops as f64);
            faults.push(labels, errors as f64);
        }
    }
    let families = vec![received, sent, lost, faults];
    Ok(Sampled::from(families).note("of the whole node: Linux counts no network traffic by job"))
}
