//! Pressure stall information: time in which tasks waited for CPU, memory or IO.
//!
//! *Waiting* is what the kernel calls `some`: at least one task waited. *Stalled* is `full`: all that were not idle
//! waited, so nothing got done. A neighbour that takes CPU, memory or disk shows here before it shows in any average.
//! Of a whole node, nothing can be all stalled for want of a CPU: there that line says nothing, and is left out.

use prometheus_client::registry::Unit;

use super::{Reading, Root};
use crate::telemetry::sample::{Absent, Family};

const RESOURCES: [&str; 3] = ["cpu", "memory", "io"];

pub(super) fn sample(root: &Root) -> Reading {
    if !root.has("/proc/pressure") {
        return Err(Absent::Unsupported(
            "/proc/pressure: not there: the kernel has no pressure stall information (since 4.20; where it was built \
             with it switched off, psi=1 on its command line turns it on)"
                .to_owned(),
        ));
    }
    let read = |resource: &str| root.text(format!("/proc/pressure/{resource}"));
    families("node", "the node", read)
}

/// The families of one scope. One resource that cannot be read makes it less, not nothing.
pub(super) fn families(
    scope: &str,
    whose: &str,
    read: impl Fn(&str) -> Result<String, Absent>,
) -> Reading {
    let mut waiting = Family::counter(
        format!("aif_{scope}_pressure_waiting"),
        format!("Time in which at least one task of {whose} waited for the resource"),
        Some(Unit::Seconds),
    );
    let mut stalled = Family::counter(
        format!("aif_{scope}_pressure_stalled"),
        format!("Time in which all tasks of {whose} that were not idle waited for the resource"),
        Some(Unit::Seconds),
    );
    let mut faults = Vec::new();
    for resource in RESOURCES {
        let text = match read(resource) {
            Ok(text) => text,
            Err(absent) => {
                faults.push(absent);
                continue;
            }
        };
        let Some(seconds) = total(&text, "some") else {
            faults.push(Absent::Failed(format!(
                "the pressure of {resource} has no total: {text:?}"
            )));
            continue;
        };
        waiting.push([("resource", resource)], seconds);
        if (scope, resource) != ("node", "cpu")
            && let Some(seconds) = total(&text, "full")
        {
            stalled.push([("resource", resource)], seconds);
        }
    }
    if waiting.series.is_empty()
        && let Some(fault) = faults.pop()
    {
        return Err(fault);
    }
    let sampled = super::super::sample::Sampled::from(vec![waiting, stalled]);
    Ok(match faults.first() {
        Some(fault) => sampled.wanting(fault.to_string()),
        None => sampled,
    })
}

/// The total of a line of a pressure file, in seconds.
fn total(text: &str, which: &str) -> Option<f64> {
    let line = text.lines().find(|line| {
        line.strip_prefix(which)
            .is_some_and(|rest| rest.starts_with(' '))
    })?;
    let microseconds: f64 = line
        .split(' ')
        .find_map(|word| word.strip_prefix("total="))?
        .parse()
        .ok()?;
    Some(microseconds / 1e6)
}
