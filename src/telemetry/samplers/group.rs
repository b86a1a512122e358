//! A job, or a step, on this node: memory against its limit, CPU, disks and pressure by its cgroups; the rest by its
//! processes.
//!
//! Usage counts page cache, which the kernel gives back when memory is short; the *working set*, usage less inactive
//! file pages, is what the job needs. A model that is mapped from a file looks like a leak without that difference.
//!
//! Where Slurm made no cgroup for CPU time or disks (version 1 makes only those that it confines, version 2 has no `io`
//! controller by default), the processes are added up instead, and the sampler is *degraded*: a process that came and
//! went between two looks is missing.

use prometheus_client::registry::Unit;

use super::{
    Reading, Root, Sampler, pressure,
    processes::{Looks, Processes},
};
use crate::{
    env::Env,
    telemetry::{
        cgroup::{self, Cgroup, Level, Place, Version},
        root::key,
        sample::{Absent, Family, Sampled},
    },
};

/// A limit of version 1 at or above this is none (the kernel writes the largest number of pages).
const NO_LIMIT: f64 = 4.0e18;
/// What is said where processes stand in for a cgroup.
const ADDED_UP: &str =
    "added up over its processes, so what came and went between two looks is missing";

/// Whose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    Job,
    Step,
}

impl Scope {
    fn name(self) -> &'static str {
        match self {
            Self::Job => "job",
            Self::Step => "step",
        }
    }

    /// Whose, in a help text.
    fn whose(self) -> &'static str {
        match self {
            Self::Job => "the job on this node",
            Self::Step => "the step on this node",
        }
    }

    /// Names of the readings: memory, CPU, disk, pressure, processes.
    fn samplers(self) -> [&'static str; 5] {
        match self {
            Self::Job => [
                "job_memory",
                "job_cpu",
                "job_disk",
                "job_pressure",
                "job_processes",
            ],
            Self::Step => [
                "step_memory",
                "step_cpu",
                "step_disk",
                "step_pressure",
                "step_processes",
            ],
        }
    }
}

/// The sampler of a job or step.
#[derive(Debug)]
struct Group {
    root: Root,
    scope: Scope,
    found: Result<(Cgroup, Processes), Absent>,
}

impl Group {
    fn new(root: &Root, scope: Scope, env: &Env) -> Self {
        let level = match scope {
            Scope::Job => Level::Job,
            Scope::Step => Level::Step,
        };
        let found = if env.get("SLURM_JOB_ID").is_none() {
            Err(Absent::Unsupported("this process is in no job".to_owned()))
        } else {
            Cgroup::of_self(root, level).map(|cgroup| {
                let processes = Processes::new(root, cgroup.any.as_ref());
                (cgroup, processes)
            })
        };
        Self {
            root: root.clone(),
            scope,
            found,
        }
    }
}

/// The samplers of job and step. A step's processes are the job's, too, and are read once.
#[derive(Debug)]
pub(super) struct Groups {
    root: Root,
    groups: [Group; 2],
}

impl Groups {
    pub(super) fn new(root: &Root, env: &Env) -> Self {
        Self {
            root: root.clone(),
            groups: [Scope::Job, Scope::Step].map(|scope| Group::new(root, scope, env)),
        }
    }
}

impl Sampler for Groups {
    fn sample(&mut self) -> Vec<(&'static str, Reading)> {
        let mut looks = Looks::new(&self.root);
        let groups = self.groups.iter_mut();
        groups.flat_map(|group| group.sample(&mut looks)).collect()
    }
}

impl Group {
    fn sample(&mut self, looks: &mut Looks) -> Vec<(&'static str, Reading)> {
        let names = self.scope.samplers();
        let (cgroup, processes) = match &mut self.found {
            Ok((cgroup, processes)) => (cgroup, processes),
            Err(absent) => return names.map(|name| (name, Err(absent.clone()))).into(),
        };
        processes.look(looks);
        let view = View {
            root: &self.root,
            scope: self.scope,
            cgroup,
            processes,
        };
        let readings = [
            view.memory(),
            view.cpu(),
            view.disk(),
            view.pressure(),
            view.processes(),
        ];
        names.into_iter().zip(readings).collect()
    }
}

/// One look.
struct View<'a> {
    root: &'a Root,
    scope: Scope,
    cgroup: &'a Cgroup,
    processes: &'a Processes,
}

impl View<'_> {
    fn name(&self, rest: &str) -> String {
        format!("aif_{}_{rest}", self.scope.name())
    }

    fn gauge(&self, rest: &str, help: &str, unit: Option<Unit>) -> Family {
        let help = help.replace("{}", self.scope.whose());
        Family::gauge(self.name(rest), help, unit)
    }

    fn counter(&self, rest: &str, help: &str, unit: Option<Unit>) -> Family {
        let help = help.replace("{}", self.scope.whose());
        Family::counter(self.name(rest), help, unit)
    }

    fn memory(&self) -> Reading {
        let Some(place) = &self.cgroup.memory else {
            return Err(Absent::Unsupported(
                "Slurm keeps no account of memory by cgroup here (ConstrainRAMSpace is off)"
                    .to_owned(),
            ));
        };
        let number = |one: &str, two: &str| self.root.number(place.file(one, two));
        let usage = number("memory.usage_in_bytes", "memory.current")?;
        let stat = self.root.text(place.folder.join("memory.stat"))?;
        let counted = |one: &str, two: &str| match place.version {
            Version::One => key(&stat, one),
            Version::Two => key(&stat, two),
        };
        let bytes = Some(Unit::Bytes);
        let mut families = vec![
            self.gauge(
                "memory_usage",
                "Memory charged to {}, page cache included",
                bytes.clone(),
            )
            .alone(usage),
        ];
        let mut add = |family: Family, value: Option<f64>| {
            families.extend(value.map(|value| family.alone(value)));
        };
        let inactive = counted("total_inactive_file", "inactive_file");
        add(
            self.gauge(
                "memory_working_set",
                "Memory of {} without inactive file pages",
                bytes.clone(),
            ),
            inactive.map(|inactive| (usage - inactive).max(0.0)),
        );
        // version 2 says "max" where there is no limit, version 1 writes a number that no node has
        let limit = number("memory.limit_in_bytes", "memory.max");
        add(
            self.gauge("memory_limit", "Memory that {} may use", bytes.clone()),
            limit.ok().filter(|limit| *limit < NO_LIMIT),
        );
        add(
            self.gauge(
                "memory_peak",
                "Most memory that was ever charged to {}",
                bytes,
            ),
            number("memory.max_usage_in_bytes", "memory.peak").ok(),
        );
        add(
            self.counter(
                "memory_limit_hits",
                "How often {} came to its limit and memory was taken back",
                None,
            ),
            match place.version {
                Version::One => number("memory.failcnt", "").ok(),
                Version::Two => self
                    .root
                    .text(place.folder.join("memory.events"))
                    .ok()
                    .and_then(|text| key(&text, "max")),
            },
        );
        add(
            self.counter(
                "memory_major_faults",
                "Pages of {} that had to be read from a disk when they were wanted",
                None,
            ),
            counted("total_pgmajfault", "pgmajfault"),
        );
        let kills = cgroup::kills(self.root, place);
        add(
            self.counter(
                "oom_kills",
                "Processes of {} that the kernel killed for want of memory",
                None,
            ),
            kills,
        );
        let sampled = Sampled::from(families);
        Ok(if kills.is_none() {
            sampled.wanting("the kernel does not count here what it kills for want of memory")
        } else {
            sampled
        })
    }

    fn cpu(&self) -> Reading {
        let seconds = self.counter("cpu", "CPU time of {}", Some(Unit::Seconds));
        let mut families: Vec<Family> = self.throttled().into_iter().collect();
        families.extend(self.cpus());
        let by_cgroup = self
            .cgroup
            .cpu
            .as_ref()
            .and_then(|place| match place.version {
                Version::One => Some(
                    self.root
                        .number(place.folder.join("cpuacct.usage"))
                        .map(|nanoseconds| nanoseconds / 1e9),
                ),
                Version::Two => Some(
                    self.stat(place, "cpu.stat", "usage_usec")?
                        .map(|us| us / 1e6),
                ),
            });
        match by_cgroup {
            Some(Ok(value)) => {
                families.push(seconds.alone(value));
                Ok(families.into())
            }
            Some(Err(absent @ Absent::Failed(_))) => Err(absent),
            Some(Err(Absent::Unsupported(_))) | None => {
                let usage = self.processes.usage()?;
                families.push(seconds.alone(usage.cpu_seconds));
                Ok(Sampled::from(families)
                    .wanting(format!("no cgroup counts its CPU time: {ADDED_UP}")))
            }
        }
    }

    fn stat(&self, place: &Place, file: &str, name: &str) -> Option<Result<f64, Absent>> {
        match self.root.text(place.folder.join(file)) {
            Ok(text) => key(&text, name).map(Ok),
            Err(absent) => Some(Err(absent)),
        }
    }

    fn throttled(&self) -> Option<Family> {
        let place = self.cgroup.quota.as_ref()?;
        let seconds = match place.version {
            Version::One => self.stat(place, "cpu.stat", "throttled_time")?.ok()? / 1e9,
            Version::Two => self.stat(place, "cpu.stat", "throttled_usec")?.ok()? / 1e6,
        };
        let family = self.counter(
            "cpu_throttled",
            "Time in which {} wanted a CPU and had used up its quota",
            Some(Unit::Seconds),
        );
        Some(family.alone(seconds))
    }

    fn cpus(&self) -> Option<Family> {
        let place = self.cgroup.cpuset.as_ref()?;
        let file = place.file("cpuset.effective_cpus", "cpuset.cpus.effective");
        let count = count_of(&self.root.text(file).ok()?)?;
        let family = self.gauge("cpus", "CPUs that {} may run on", None);
        Some(family.alone(count as f64))
    }

    fn disk(&self) -> Reading {
        let bytes = Some(Unit::Bytes);
        let mut read = self.counter("disk_read", "Bytes that {} read from disks", bytes.clone());
        let mut written = self.counter("disk_write", "Bytes that {} wrote to disks", bytes);
        let text = self.cgroup.io.as_ref().and_then(|place| {
            let file = place.file("blkio.throttle.io_service_bytes_recursive", "io.stat");
            Some((place.version, self.root.text(file).ok()?))
        });
        if let Some((version, text)) = text {
            for (device, direction, value) in disk_lines(version, &text) {
                let family = match direction {
                    Direction::Read => &mut read,
                    Direction::Write => &mut written,
                };
                family.push([("device", device)], value);
            }
            return Ok(vec![read, written].into());
        }
        let usage = self.processes.usage()?;
        let mut why = format!("no cgroup counts its disks: {ADDED_UP}");
        if usage.closed > 0 {
            why = format!(
                "{why}; {} of {} processes are closed to us",
                usage.closed, usage.processes
            );
        }
        if usage.closed == usage.processes {
            return Err(Absent::Unsupported(why));
        }
        let families = vec![
            read.alone(usage.read_bytes),
            written.alone(usage.written_bytes),
        ];
        Ok(Sampled::from(families).wanting(why))
    }

    fn pressure(&self) -> Reading {
        let Some(place) = &self.cgroup.unified else {
            return Err(Absent::Unsupported(
                "cgroups of version 1 know no pressure: that of the node is in aif_node_pressure_*"
                    .to_owned(),
            ));
        };
        pressure::families(self.scope.name(), self.scope.whose(), |resource| {
            self.root
                .text(place.folder.join(format!("{resource}.pressure")))
        })
    }

    fn processes(&self) -> Reading {
        let usage = self.processes.usage()?;
        let switches = self.counter(
            "context_switches",
            "How often threads of {} gave up a CPU by themselves, and how often it was taken from them",
            None,
        );
        let families = vec![
            self.gauge("processes", "Processes of {}", None)
                .alone(usage.processes as f64),
            self.gauge("threads", "Threads of {}", None)
                .alone(usage.threads),
            switches
                .with([("kind", "voluntary")], usage.voluntary)
                .with([("kind", "involuntary")], usage.involuntary),
        ];
        Ok(Sampled::from(families).note("threads are looked at every 10 s"))
    }
}

enum Direction {
    Read,
    Write,
}

/// `8:0 rbytes=1 wbytes=2 rios=3 …` of version 2, `8:0 Read 1` of version 1.
fn disk_lines(version: Version, text: &str) -> Vec<(&str, Direction, f64)> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        let Some(device) = words.next() else { continue };
        if version == Version::One {
            let direction = match words.next() {
                Some("Read") => Direction::Read,
                Some("Write") => Direction::Write,
                _ => continue,
            };
            let value = words.next().and_then(|word| word.parse().ok());
            found.extend(value.map(|value| (device, direction, value)));
            continue;
        }
        for word in words {
            let (direction, value) = match word.split_once('=') {
                Some(("rbytes", value)) => (Direction::Read, value),
                Some(("wbytes", value)) => (Direction::Write, value),
                _ => continue,
            };
            found.extend(value.parse().ok().map(|value| (device, direction, value)));
        }
    }
    found
}

/// How many a list such as `0-3,8` names.
fn count_of(list: &str) -> Option<u64> {
    list.split(',')
        .map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
            (last + 1).checked_sub(first)
        })
        .sum()
}
