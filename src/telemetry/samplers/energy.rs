//! Energy of the node: RAPL by `powercap`, and the counters of HPE Cray nodes, which Slurm's own accounting reads there.
//!
//! RAPL counts microjoules up to a limit of its own and starts again: the sampler keeps the last value of each zone and
//! adds up what came since, over the turn. Between two looks a counter may turn once only (some 20 minutes at full
//! power); agents are scraped every few seconds. So its figures start at 0 with the agent. Zones lie within each other
//! (`package-0/dram` is part of no other on a server, `package-0/core` of `package-0`): do not add them all up.
//!
//! Since Linux 5.10 most sites let root alone read RAPL. What Slurm's accounting says of the job's energy is in the
//! report in any case.

use std::collections::BTreeMap;

use prometheus_client::registry::Unit;

use super::{Reading, Root};
use crate::telemetry::sample::{Absent, Family, Sampled, Sampler, unit};

const POWERCAP: &str = "/sys/class/powercap";
const CRAY: &str = "/sys/cray/pm_counters";

/// The sampler, with what the counters of RAPL have told so far.
#[derive(Debug)]
pub(super) struct Energy {
    root: Root,
    zones: BTreeMap<String, Counter>,
}

/// A counter that turns.
#[derive(Debug, Clone, Copy)]
struct Counter {
    last: f64,
    /// Microjoules since the first look.
    sum: f64,
}

impl Energy {
    pub(super) fn new(root: &Root) -> Self {
        Self {
            root: root.clone(),
            zones: BTreeMap::new(),
        }
    }

    fn look(&mut self) -> Reading {
        let mut energy = Family::counter(
            "aif_node_energy",
            "Energy that a part of the node has used: by RAPL since the agent started, by Cray since the node did",
            Some(Unit::Joules),
        );
        let mut power = Family::gauge(
            "aif_node_power",
            "Power that a part of the node draws",
            Some(unit("watts")),
        );
        let rapl = self.rapl(&mut energy);
        let cray = self.cray(&mut energy, &mut power);
        let families = vec![energy, power];
        match (rapl, cray) {
            (Ok(None), _) | (Err(_), Ok(())) => Ok(families.into()),
            (Ok(Some(fault)), _) => Ok(Sampled::from(families).wanting(fault.to_string())),
            (Err(absent), Err(_)) => Err(absent),
        }
    }

    /// Gives a fault where only some zones could be read.
    fn rapl(&mut self, energy: &mut Family) -> Result<Option<Absent>, Absent> {
        let zones = self
            .root
            .names(POWERCAP)
            .map_err(|absent| absent.hint("this node has no energy counters of its CPUs"))?;
        let zones = zones.into_iter().filter(|zone| zone.contains("-rapl:"));
        let (mut fault, mut read) = (None, false);
        for zone in zones {
            match self.zone(&zone) {
                Ok((name, joules)) => {
                    // the same zone may be offered twice, by registers and by memory map
                    let driver = zone.split(':').next().unwrap_or_default();
                    energy.push([("source", driver), ("domain", &name)], joules);
                    read = true;
                }
                Err(absent) => fault = Some(absent),
            }
        }
        match (read, fault) {
            (true, fault) => Ok(fault),
            (false, Some(fault)) => Err(fault.hint(
                "since Linux 5.10 root alone may read it: a site can give users the right; Slurm's accounting may have the job's energy",
            )),
            (false, None) => Err(Absent::Unsupported(format!("{POWERCAP}: no zone of RAPL"))),
        }
    }

    /// The name of a zone, with that of the zone around it, and its joules since the first look.
    fn zone(&mut self, zone: &str) -> Result<(String, f64), Absent> {
        let file = |zone: &str, name: &str| format!("{POWERCAP}/{zone}/{name}");
        let mut name = self.root.text(file(zone, "name"))?;
        if let Some((outer, _)) = zone.rsplit_once(':')
            && outer.contains(':')
        {
            name = format!("{}/{name}", self.root.text(file(outer, "name"))?);
        }
        let now = self.root.number(file(zone, "energy_uj"))?;
        let limit = self.root.number(file(zone, "max_energy_range_uj"));
        let counter = self.zones.entry(zone.to_owned()).or_insert(Counter {
            last: now,
            sum: 0.0,
        });
        if now >= counter.last {
            counter.sum += now - counter.last;
        } else if let Ok(limit) = limit {
            counter.sum += limit - counter.last + now;
        }
        counter.last = now;
        Ok((name, counter.sum / 1e6))
    }

    /// `1234 J 1700000000000000 us`.
    fn cray(&self, energy: &mut Family, power: &mut Family) -> Result<(), Absent> {
        let mut found = false;
        for file in self.root.names(CRAY)? {
            let Ok(text) = self.root.text(format!("{CRAY}/{file}")) else {
                continue;
            };
            let mut words = text.split(' ');
            let Some(value) = words.next().and_then(|word| word.parse().ok()) else {
                continue;
            };
            let domain = |what: &str| {
                let part = file.strip_suffix(what)?.trim_end_matches('_');
                Some(if part.is_empty() { "node" } else { part }.to_owned())
            };
            match words.next() {
                Some("J") => {
                    if let Some(domain) = domain("energy") {
                        energy.push([("source", "cray"), ("domain", &domain)], value);
                        found = true;
                    }
                }
                Some("W") => {
                    if let Some(domain) = domain("power") {
                        power.push([("source", "cray"), ("domain", &domain)], value);
                    }
                }
                _ => {}
            }
        }
        if found {
            Ok(())
        } else {
            Err(Absent::Unsupported(format!("{CRAY}: no counter")))
        }
    }
}

impl Sampler for Energy {
    fn sample(&mut self) -> Vec<(&'static str, Reading)> {
        vec![("energy", self.look())]
    }
}
