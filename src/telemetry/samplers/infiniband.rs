//! What the ports of `InfiniBand` (and of `RoCE`) carry: `/sys/class/infiniband/*/ports/*/counters`.
//!
//! Traffic that goes around the kernel (RDMA: model weights from a parallel file system, tensors between nodes) is in no
//! other counter of the node. Data is counted in words of four bytes; what a port does not count has no series.

use prometheus_client::registry::Unit;

use super::{Reading, Root};
use crate::telemetry::sample::{Absent, Family, Sampled, unit};

const FOLDER: &str = "/sys/class/infiniband";
/// Bytes of a word, in which data is counted.
const WORD: f64 = 4.0;
/// Counters of what went wrong, and how they are called here.
const ERRORS: [(&str, &str); 7] = [
    ("symbol_error", "symbol"),
    ("link_error_recovery", "link_recovery"),
    ("link_downed", "link_downed"),
    ("port_rcv_errors", "receive"),
    ("port_rcv_remote_physical_errors", "remote_physical"),
    ("port_xmit_discards", "transmit_discard"),
    ("local_link_integrity_errors", "link_integrity"),
];

pub(super) fn sample(root: &Root) -> Reading {
    let devices = root
        .names(FOLDER)
        .map_err(|absent| absent.hint("no InfiniBand"))?;
    let counter = |name: &'static str, help: &'static str, unit| Family::counter(name, help, unit);
    let bytes = Some(Unit::Bytes);
    let mut received = counter(
        "aif_node_infiniband_receive",
        "Bytes received by a port",
        bytes.clone(),
    );
    let mut sent = counter(
        "aif_node_infiniband_transmit",
        "Bytes sent by a port",
        bytes,
    );
    let mut packets = counter(
        "aif_node_infiniband_packets",
        "Packets received and sent by a port",
        None,
    );
    let mut waits = counter(
        "aif_node_infiniband_transmit_waits",
        "Ticks of a port's clock in which it had data and could not send",
        None,
    );
    let mut errors = counter(
        "aif_node_infiniband_errors",
        "Errors of a port, by kind",
        None,
    );
    let mut up = Family::gauge(
        "aif_node_infiniband_active",
        "1 for a port whose link is active, else 0",
        None,
    );
    let mut rate = Family::gauge(
        "aif_node_infiniband_rate",
        "What a port can carry in one direction",
        Some(unit("bytes_per_second")),
    );
    let mut faults = Vec::new();
    for device in &devices {
        let ports = format!("{FOLDER}/{device}/ports");
        for port in root.names(&ports).unwrap_or_default() {
            let labels = [("device", device.as_str()), ("port", port.as_str())];
            let folder = format!("{ports}/{port}");
            let count = |name: &str| root.number(format!("{folder}/counters/{name}"));
            match (count("port_rcv_data"), count("port_xmit_data")) {
                (Ok(in_words), Ok(out_words)) => {
                    received.push(labels, in_words * WORD);
                    sent.push(labels, out_words * WORD);
                }
                (Err(fault), _) | (_, Err(fault)) => faults.push(fault),
            }
            for (direction, name) in [
                ("receive", "port_rcv_packets"),
                ("transmit", "port_xmit_packets"),
            ] {
                if let Ok(value) = count(name) {
                    packets.push([labels[0], labels[1], ("direction", direction)], value);
                }
            }
            if let Ok(value) = count("port_xmit_wait") {
                waits.push(labels, value);
            }
            for (name, kind) in ERRORS {
                if let Ok(value) = count(name) {
                    errors.push([labels[0], labels[1], ("kind", kind)], value);
                }
            }
            if let Ok(state) = root.text(format!("{folder}/state")) {
                up.push(labels, f64::from(u8::from(state.starts_with("4:"))));
            }
            if let Some(value) = root
                .text(format!("{folder}/rate"))
                .ok()
                .and_then(|text| bytes_per_second(&text))
            {
                rate.push(labels, value);
            }
        }
    }
    if received.series.is_empty() {
        return Err(faults
            .pop()
            .unwrap_or_else(|| Absent::Unsupported(format!("{FOLDER}: no port"))));
    }
    let families = vec![received, sent, packets, waits, errors, up, rate];
    let sampled = Sampled::from(families);
    Ok(match faults.first() {
        Some(fault) => sampled.wanting(fault.to_string()),
        None => sampled,
    })
}

/// `200 Gb/sec (4X HDR)`.
fn bytes_per_second(text: &str) -> Option<f64> {
    let (number, rest) = text.split_once(' ')?;
    let gigabits: f64 = number.parse().ok()?;
    rest.starts_with("Gb/sec").then_some(gigabits * 1e9 / 8.0)
}
