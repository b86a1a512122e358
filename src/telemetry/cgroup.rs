//! The job's cgroup: what Slurm lets the job have, and what it uses of it.
//!
//! The cgroup of the whole job is sampled, not that of the step: the limit is the job's, and the kernel's killer comes
//! when all steps together reach it. It is found from `/proc/self/cgroup` by its name, `job_<id>`. Slurm without the
//! cgroup plugin, and processes outside a job, have none: the sampler says so.
//!
//! Usage counts page cache, which the kernel gives back when memory is short; the *working set*, usage less inactive
//! file pages, is what the job needs. A model that is mapped from a file looks like a leak without that difference.

use std::{
    fs,
    path::{Path, PathBuf},
};

use prometheus_client::registry::Unit;

use super::sample::{Absent, Family, Reading};

/// A limit of version 1 at or above this is none (the kernel writes the largest number of pages).
const NO_LIMIT: f64 = 4.0e18;

/// Which files there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// The cgroup of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct JobCgroup {
    version: Version,
    /// Folder with the memory files.
    memory: PathBuf,
    /// Folder with the CPU files.
    cpu: Option<PathBuf>,
}

impl JobCgroup {
    /// Finds the cgroup of this job around a process, given the process's folder in `/proc`.
    pub(super) fn of_process(process: &Path, job: Option<&str>) -> Result<Self, Absent> {
        let read = |name: &str| {
            let path = process.join(name);
            fs::read_to_string(&path)
                .map_err(|error| Absent::from_io(&path.display().to_string(), &error))
        };
        if job.is_none() {
            return Err(Absent::Unsupported("this process is in no job".to_owned()));
        }
        Self::find(&read("cgroup")?, &read("mountinfo")?).ok_or_else(|| {
            Absent::Unsupported("this job has no cgroup of its own that limits memory".to_owned())
        })
    }

    fn find(own: &str, mounts: &str) -> Option<Self> {
        let folder = |controller: Option<&str>| {
            let path = own.lines().find_map(|line| {
                let mut parts = line.splitn(3, ':');
                let (hierarchy, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
                match controller {
                    None => (hierarchy == "0" && controllers.is_empty()).then_some(path),
                    Some(wanted) => controllers.split(',').any(|c| c == wanted).then_some(path),
                }
            })?;
            let mount = mount_of(mounts, controller)?;
            let inside = Path::new(path).strip_prefix(&mount.root).ok()?;
            job_level(&mount.point.join(inside))
        };
        if let Some(memory) = folder(Some("memory")) {
            return Some(Self {
                version: Version::One,
                memory,
                cpu: folder(Some("cpuacct")),
            });
        }
        let both = folder(None)?;
        Some(Self {
            version: Version::Two,
            memory: both.clone(),
            cpu: Some(both),
        })
    }

    /// Reads what there is. Memory is what the sampler is for; the rest is left out where it is missing.
    pub(super) fn sample(&self) -> Reading {
        let usage_file = match self.version {
            Version::One => "memory.usage_in_bytes",
            Version::Two => "memory.current",
        };
        let usage = read_number(&self.memory.join(usage_file))?;
        let stat_path = self.memory.join("memory.stat");
        let stat = fs::read_to_string(&stat_path)
            .map_err(|error| Absent::from_io(&stat_path.display().to_string(), &error))?;
        let inactive = match self.version {
            Version::One => key(&stat, "total_inactive_file"),
            Version::Two => key(&stat, "inactive_file"),
        };
        let mut families = vec![Family::gauge(
            "aif_job_memory_usage",
            "Memory charged to the job on this node, page cache included",
            Unit::Bytes,
            usage,
        )];
        if let Some(inactive) = inactive {
            families.push(Family::gauge(
                "aif_job_memory_working_set",
                "Memory of the job on this node without inactive file pages",
                Unit::Bytes,
                (usage - inactive).max(0.0),
            ));
        }
        if let Some(limit) = self.limit() {
            families.push(Family::gauge(
                "aif_job_memory_limit",
                "Memory that the job may use on this node",
                Unit::Bytes,
                limit,
            ));
        }
        if let Some(kills) = self.kills() {
            families.push(Family::counter(
                "aif_job_oom_kills",
                "Processes of the job on this node that the kernel killed for want of memory",
                None,
                kills,
            ));
        }
        if let Some(seconds) = self.cpu_seconds() {
            families.push(Family::counter(
                "aif_job_cpu",
                "CPU time of the job on this node",
                Some(Unit::Seconds),
                seconds,
            ));
        }
        Ok(families)
    }

    fn limit(&self) -> Option<f64> {
        let file = match self.version {
            Version::One => "memory.limit_in_bytes",
            Version::Two => "memory.max",
        };
        // version 2 says "max" where there is no limit
        let limit = read_number(&self.memory.join(file)).ok()?;
        (limit < NO_LIMIT).then_some(limit)
    }

    /// Version 1 counts a kill where the process was, version 2 in all groups above it, too.
    fn kills(&self) -> Option<f64> {
        match self.version {
            Version::One => kills_below(&self.memory),
            Version::Two => kills_in(&self.memory.join("memory.events")),
        }
    }

    fn cpu_seconds(&self) -> Option<f64> {
        let folder = self.cpu.as_ref()?;
        match self.version {
            Version::One => Some(read_number(&folder.join("cpuacct.usage")).ok()? / 1e9),
            Version::Two => {
                let stat = fs::read_to_string(folder.join("cpu.stat")).ok()?;
                Some(key(&stat, "usage_usec")? / 1e6)
            }
        }
    }
}

/// How many processes of the job around this one the kernel has killed on this node for want of memory; `None` where
/// that is not told. It counts before it kills: who sees the end of such a process finds it counted.
pub fn oom_kills(job: Option<&str>) -> Option<u64> {
    let cgroup = JobCgroup::of_process(Path::new("/proc/self"), job).ok()?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count of processes"
    )]
    cgroup.kills().map(|kills| kills as u64)
}

fn kills_in(file: &Path) -> Option<f64> {
    key(&fs::read_to_string(file).ok()?, "oom_kill")
}

fn kills_below(folder: &Path) -> Option<f64> {
    let own = kills_in(&folder.join("memory.oom_control"))?;
    let below = fs::read_dir(folder).into_iter().flatten().flatten();
    let groups = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    Some(
        own + groups
            .filter_map(|group| kills_below(&group.path()))
            .sum::<f64>(),
    )
}

struct Mount {
    root: PathBuf,
    point: PathBuf,
}

/// The mount of a controller (version 1), or of the one hierarchy (version 2), out of `/proc/self/mountinfo`.
fn mount_of(mounts: &str, controller: Option<&str>) -> Option<Mount> {
    mounts.lines().find_map(|line| {
        let (head, tail) = line.split_once(" - ")?;
        let mut tail = tail.split(' ');
        let (kind, _, options) = (tail.next()?, tail.next()?, tail.next()?);
        let fits = match controller {
            None => kind == "cgroup2",
            Some(wanted) => kind == "cgroup" && options.split(',').any(|o| o == wanted),
        };
        let mut head = head.split(' ').skip(3);
        fits.then_some(Mount {
            root: head.next()?.into(),
            point: head.next()?.into(),
        })
    })
}

/// The folder of the job at or above this one: Slurm names it `job_<id>`.
///
/// The id is not compared: in a heterogeneous job the variable names the leader, the cgroup the component.
fn job_level(folder: &Path) -> Option<PathBuf> {
    folder
        .ancestors()
        .find(|folder| {
            folder
                .file_name()
                .and_then(|name| name.to_str())
                .and_then(|name| name.strip_prefix("job_"))
                .is_some_and(|id| id.parse::<u64>().is_ok())
        })
        .map(Path::to_owned)
}

fn read_number(path: &Path) -> Result<f64, Absent> {
    let name = path.display().to_string();
    let text = fs::read_to_string(path).map_err(|error| Absent::from_io(&name, &error))?;
    text.trim()
        .parse()
        .map_err(|_| Absent::Failed(format!("{name} is no number: {:?}", text.trim())))
}

/// The value of a key in a file of `key value` lines.
fn key(text: &str, wanted: &str) -> Option<f64> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        (name == wanted).then(|| value.trim().parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use prometheus_client::{
        collector::Collector, encoding::DescriptorEncoder, registry::Registry,
    };

    use super::*;

    #[derive(Debug)]
    struct Only(JobCgroup);

    impl Collector for Only {
        fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
            for family in self.0.sample().unwrap() {
                family.encode(&mut encoder)?;
            }
            Ok(())
        }
    }

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            crate::files::write_atomic(
                &path,
                content.as_bytes(),
                0o644,
                crate::files::Durability::Fast,
            )
            .unwrap();
        }
        root
    }

    fn series(cgroup: JobCgroup) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Only(cgroup)));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .collect::<Vec<_>>()
            .join("\n")
    }

    #[test]
    fn version_two() {
        let job = "system.slice/slurmstepd.scope/job_42";
        let root = tree(&[
            (&format!("{job}/memory.current"), "1000\n"),
            (&format!("{job}/memory.max"), "max\n"),
            (&format!("{job}/memory.stat"), "anon 5\ninactive_file 300\n"),
            (&format!("{job}/memory.events"), "oom 1\noom_kill 2\n"),
            (&format!("{job}/cpu.stat"), "usage_usec 2500000\n"),
        ]);
        let mounts = format!(
            "30 23 0:26 / {} rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
            root.path().display()
        );
        let own = format!("0::/{job}/step_0/user/task_0\n");
        let cgroup = JobCgroup::find(&own, &mounts).unwrap();
        insta::assert_snapshot!(series(cgroup), @r"
        aif_job_memory_usage_bytes 1000.0
        aif_job_memory_working_set_bytes 700.0
        aif_job_oom_kills_total 2.0
        aif_job_cpu_seconds_total 2.5
        ");
    }

    #[test]
    fn version_one() {
        let job = "slurm/uid_1000/job_42";
        let root = tree(&[
            (&format!("memory/{job}/memory.usage_in_bytes"), "1000\n"),
            (&format!("memory/{job}/memory.limit_in_bytes"), "4096\n"),
            (
                &format!("memory/{job}/memory.stat"),
                "inactive_file 1\ntotal_inactive_file 400\n",
            ),
            (
                &format!("memory/{job}/memory.oom_control"),
                "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n",
            ),
            (
                &format!("memory/{job}/step_0/task_0/memory.oom_control"),
                "oom_kill 2\n",
            ),
            (
                &format!("memory/{job}/step_0/memory.oom_control"),
                "oom_kill 0\n",
            ),
            (
                &format!("memory/{job}/step_1/memory.oom_control"),
                "oom_kill 1\n",
            ),
            (&format!("cpu/{job}/cpuacct.usage"), "1500000000\n"),
        ]);
        let at = root.path().display();
        let mounts = format!(
            "31 23 0:27 / {at}/memory rw - cgroup cgroup rw,memory\n\
             32 23 0:28 / {at}/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
             33 23 0:29 / {at}/unified rw - cgroup2 cgroup2 rw\n"
        );
        let own = format!(
            "4:memory:/{job}/step_0/task_0\n3:cpu,cpuacct:/{job}/step_0/task_0\n0::/system.slice\n"
        );
        let cgroup = JobCgroup::find(&own, &mounts).unwrap();
        insta::assert_snapshot!(series(cgroup), @r"
        aif_job_memory_usage_bytes 1000.0
        aif_job_memory_working_set_bytes 600.0
        aif_job_memory_limit_bytes 4096.0
        aif_job_oom_kills_total 3.0
        aif_job_cpu_seconds_total 1.5
        ");
    }

    #[test]
    fn a_process_outside_of_a_job_has_none() {
        let mounts = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(
            JobCgroup::find("0::/user.slice/session-1.scope\n", mounts),
            None
        );
        assert_eq!(JobCgroup::find("0::/job_x\n", mounts), None);
        assert_eq!(JobCgroup::find("", ""), None);
        let absent = JobCgroup::of_process(Path::new("/proc/self"), None).unwrap_err();
        assert_eq!(absent.to_string(), "this process is in no job");
    }
}
