//! The node and the job as a role sees them, sampled at each scrape.
//!
//! A collector reads a handful of files of `/proc` and of the job's cgroup when it is asked: no task, no interval, no
//! value that is older than the scrape. The load of a node explains a slow answer; without it a benchmark guesses.
//!
//! Every sampler reports `aif_sampler_state{sampler,state}` 1, where the state is `healthy`, `unsupported` or `failed`.
//! One that cannot run gives no series, never zeros, and its reason is logged once per change of state. GPUs are
//! `unsupported` in this version.

use std::{
    path::{Path, PathBuf},
    sync::Mutex,
};

use procfs::{FromRead as _, FromReadSI as _};
use prometheus_client::{
    collector::Collector,
    encoding::DescriptorEncoder,
    registry::{Registry, Unit},
};

use super::{
    cgroup::JobCgroup,
    sample::{Absent, Family, Reading, Shape},
};
use crate::env::Env;

type Sampler = (&'static str, fn(&Host) -> Reading);

const SAMPLERS: [Sampler; 7] = [
    ("cpu", Host::cpu),
    ("load", Host::load),
    ("memory", Host::memory),
    ("pressure", Host::pressure),
    ("network", Host::network),
    ("job", Host::job),
    ("gpu", Host::gpu),
];

/// Registers the samplers of node and job.
pub fn register(registry: &mut Registry, env: &Env) {
    let job = env.get("SLURM_JOB_ID").map(str::to_owned);
    registry.register_collector(Box::new(Host::at(
        Path::new("/proc"),
        JobCgroup::of_process(Path::new("/proc/self"), job.as_deref()),
    )));
}

/// What is sampled, and what was said of each sampler last.
#[derive(Debug)]
struct Host {
    proc: PathBuf,
    job: Result<JobCgroup, Absent>,
    told: Mutex<[Option<&'static str>; SAMPLERS.len()]>,
}

impl Collector for Host {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let mut states = Family::new(
            "aif_sampler_state",
            "State of a sampler: 1 for the one that it is in",
            None,
            Shape::Gauge,
        );
        for (index, (sampler, sample)) in SAMPLERS.into_iter().enumerate() {
            let reading = sample(self);
            let (state, reason) = match &reading {
                Ok(_) => ("healthy", None),
                Err(absent @ Absent::Unsupported(_)) => ("unsupported", Some(absent)),
                Err(absent @ Absent::Failed(_)) => ("failed", Some(absent)),
            };
            self.tell(index, state, reason);
            states = states.with_two([("sampler", sampler), ("state", state)], 1.0);
            for family in reading.unwrap_or_default() {
                family.encode(&mut encoder)?;
            }
        }
        states.encode(&mut encoder)
    }
}

impl Host {
    fn at(proc: &Path, job: Result<JobCgroup, Absent>) -> Self {
        Self {
            proc: proc.to_owned(),
            job,
            told: Mutex::default(),
        }
    }

    fn tell(&self, index: usize, state: &'static str, reason: Option<&Absent>) {
        let mut told = self
            .told
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if told[index].replace(state) == Some(state) {
            return;
        }
        let sampler = SAMPLERS[index].0;
        match reason {
            Some(reason @ Absent::Failed(_)) => {
                tracing::warn!(sampler, %reason, "A sampler failed");
            }
            Some(reason) => {
                tracing::info!(sampler, %reason, "A sampler is not supported here");
            }
            None => tracing::debug!(sampler, "A sampler is healthy"),
        }
    }

    fn text(&self, name: &str) -> Result<String, Absent> {
        let path = self.proc.join(name);
        std::fs::read_to_string(&path)
            .map_err(|error| Absent::from_io(&path.display().to_string(), &error))
    }

    fn cpu(&self) -> Reading {
        let text = self.text("stat")?;
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
        let mut seconds = Family::new(
            "aif_node_cpu",
            "CPU time of the node by mode, all CPUs together",
            Some(Unit::Seconds),
            Shape::Counter,
        );
        for (mode, value) in modes {
            if let Some(value) = value {
                seconds = seconds.with("mode", mode, value as f64 / ticks);
            }
        }
        let count = Family::new("aif_node_cpus", "CPUs of the node", None, Shape::Gauge).with(
            "state",
            "online",
            stat.cpu_time.len() as f64,
        );
        Ok(vec![seconds, count])
    }

    fn load(&self) -> Reading {
        let text = self.text("loadavg")?;
        let load = procfs::LoadAverage::from_read(text.as_bytes()).map_err(failed)?;
        let family = Family::new(
            "aif_node_load",
            "Processes that run or wait for a CPU or a disk, averaged over so many minutes",
            None,
            Shape::Gauge,
        )
        .with("minutes", "1", f64::from(load.one))
        .with("minutes", "5", f64::from(load.five))
        .with("minutes", "15", f64::from(load.fifteen));
        Ok(vec![family])
    }

    fn memory(&self) -> Reading {
        let text = self.text("meminfo")?;
        let memory = procfs::Meminfo::from_read(text.as_bytes()).map_err(failed)?;
        let mut families = vec![Family::gauge(
            "aif_node_memory_size",
            "Memory of the node",
            Unit::Bytes,
            memory.mem_total as f64,
        )];
        if let Some(available) = memory.mem_available {
            families.push(Family::gauge(
                "aif_node_memory_available",
                "Memory of the node that processes can still have without swapping",
                Unit::Bytes,
                available as f64,
            ));
        }
        Ok(families)
    }

    fn pressure(&self) -> Reading {
        let mut family = Family::new(
            "aif_node_pressure_stalled",
            "Time in which at least one task of the node waited for the resource",
            Some(Unit::Seconds),
            Shape::Counter,
        );
        for resource in ["cpu", "memory", "io"] {
            let text = self.text(&format!("pressure/{resource}"))?;
            let microseconds = some_total(&text)
                .ok_or_else(|| Absent::Failed(format!("pressure/{resource} has no total")))?;
            family = family.with("resource", resource, microseconds / 1e6);
        }
        Ok(vec![family])
    }

    fn network(&self) -> Reading {
        let text = self.text("net/dev")?;
        let devices =
            procfs::net::InterfaceDeviceStatus::from_read(text.as_bytes()).map_err(failed)?;
        let mut received = Family::new(
            "aif_node_network_receive",
            "Bytes received by a network device",
            Some(Unit::Bytes),
            Shape::Counter,
        );
        let mut sent = Family::new(
            "aif_node_network_transmit",
            "Bytes sent by a network device",
            Some(Unit::Bytes),
            Shape::Counter,
        );
        let mut devices: Vec<_> = devices.0.into_iter().collect();
        devices.sort_by(|a, b| a.0.cmp(&b.0));
        for (name, device) in devices {
            received = received.with("device", &name, device.recv_bytes as f64);
            sent = sent.with("device", &name, device.sent_bytes as f64);
        }
        Ok(vec![received, sent])
    }

    fn job(&self) -> Reading {
        self.job.as_ref().map_err(Clone::clone)?.sample()
    }

    #[expect(
        clippy::unused_self,
        reason = "a sampler like the others: its place is kept, and its absence is told"
    )]
    fn gpu(&self) -> Reading {
        Err(Absent::Unsupported(
            "this version does not read GPUs".to_owned(),
        ))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "what map_err hands over")]
fn failed(error: procfs::ProcError) -> Absent {
    Absent::Failed(error.to_string())
}

/// The total of the `some` line of a pressure file, in microseconds.
fn some_total(text: &str) -> Option<f64> {
    text.lines()
        .find(|line| line.starts_with("some "))?
        .split(' ')
        .find_map(|word| word.strip_prefix("total="))?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(host: Host) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(host));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn this_node_is_measured() {
        let mut registry = Registry::default();
        register(&mut registry, &Env::default());
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for series in [
            "aif_node_cpu_seconds_total{mode=\"idle\"}",
            "aif_node_load{minutes=\"1\"}",
            "aif_node_memory_size_bytes ",
            "aif_sampler_state{sampler=\"memory\",state=\"healthy\"} 1.0",
            "aif_sampler_state{sampler=\"job\",state=\"unsupported\"} 1.0",
            "aif_sampler_state{sampler=\"gpu\",state=\"unsupported\"} 1.0",
        ] {
            assert!(text.contains(series), "{series} is not in\n{text}");
        }
        assert!(!text.contains("aif_job_"), "no job, no series of it");
    }

    #[test]
    fn what_cannot_be_read_is_absent_and_not_zero() {
        let proc = tempfile::tempdir().unwrap();
        let file = proc.path().join("loadavg");
        crate::files::write_atomic(&file, b"rubbish", 0o644, crate::files::Durability::Fast)
            .unwrap();
        let text = encode(Host::at(
            proc.path(),
            Err(Absent::Unsupported("no job".to_owned())),
        ));
        assert!(!text.contains("aif_node_"), "{text}");
        assert!(text.contains("{sampler=\"load\",state=\"failed\"} 1.0"));
        assert!(text.contains("{sampler=\"cpu\",state=\"unsupported\"} 1.0"));
    }

    #[test]
    fn the_stall_of_some_tasks_is_taken() {
        let text =
            "some avg10=0.00 avg60=0.10 avg300=0.00 total=1500000\nfull avg10=0.00 total=7\n";
        assert_eq!(some_total(text), Some(1_500_000.0));
        assert_eq!(some_total("full total=7\n"), None);
    }

    #[test]
    fn a_scrape_is_cheap() {
        let host = Host::at(
            Path::new("/proc"),
            Err(Absent::Unsupported("no job".to_owned())),
        );
        let mut registry = Registry::default();
        registry.register_collector(Box::new(host));
        let mut best = std::time::Duration::MAX;
        for _ in 0..20 {
            let start = tokio::time::Instant::now();
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
            best = best.min(start.elapsed());
        }
        // without optimisation, on a machine that does other things too
        assert!(best.as_millis() < 20, "{best:?}");
    }
}
