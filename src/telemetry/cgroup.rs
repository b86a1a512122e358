//! The cgroups of a job and of its steps: where Slurm's limits lie, and what is counted against them.
//!
//! They are found from `/proc/self/cgroup` by their names, `job_<id>` and `step_<id>`: the layout above them differs by
//! version, by site and by how many `slurmd` a node runs. Version 1 has a hierarchy for each controller, of which Slurm
//! uses some; version 2 has one; a *hybrid* node mounts both, and the controllers are in the first. So each resource is
//! looked for by itself. Slurm without its cgroup plugins, and processes outside a job, have none: the samplers say so.

use std::path::{Path, PathBuf};

use super::{
    root::{Root, key},
    sample::Absent,
};

/// Whose cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    /// The job on this node, all its steps together. Its limit is what the kernel's killer looks at first.
    Job,
    /// The step that this process belongs to.
    Step,
}

/// Which files there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    One,
    Two,
}

/// Where something is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) version: Version,
    pub(super) folder: PathBuf,
}

impl Place {
    /// A file of it, by its name in each version.
    pub(super) fn file(&self, one: &str, two: &str) -> PathBuf {
        self.folder.join(match self.version {
            Version::One => one,
            Version::Two => two,
        })
    }
}

/// The cgroups of one level.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Cgroup {
    pub(super) memory: Option<Place>,
    /// CPU time.
    pub(super) cpu: Option<Place>,
    /// CPU time that a quota took away, and which CPUs there are.
    pub(super) quota: Option<Place>,
    pub(super) cpuset: Option<Place>,
    pub(super) io: Option<Place>,
    /// The one hierarchy of version 2, which alone knows pressure.
    pub(super) unified: Option<Place>,
    /// Any of them: all hold the same processes.
    pub(super) any: Option<Place>,
}

impl Cgroup {
    /// Those of this process.
    pub(super) fn of_self(root: &Root, level: Level) -> Result<Self, Absent> {
        let own = root.text("/proc/self/cgroup")?;
        let mounts = root.text("/proc/self/mountinfo")?;
        let place = |controller: &str| {
            let version = if controller.is_empty() {
                Version::Two
            } else {
                Version::One
            };
            let folder = folder(root, &own, &mounts, controller, level)?;
            Some(Place { version, folder })
        };
        let unified = place("");
        // a controller that is in the unified hierarchy is in no other
        let either = |controller: &str| place(controller).or_else(|| unified.clone());
        let memory = either("memory").filter(|place| {
            place.version == Version::One || root.has(place.folder.join("memory.current"))
        });
        let any = ["memory", "freezer", "cpuset", "cpuacct", "devices", "pids"]
            .iter()
            .find_map(|controller| place(controller))
            .or_else(|| unified.clone());
        if any.is_none() {
            return Err(Absent::Unsupported(
                "Slurm gave this job no cgroup that can be seen here (ProctrackType and TaskPlugin without cgroup)"
                    .to_owned(),
            ));
        }
        Ok(Self {
            memory,
            cpu: either("cpuacct"),
            quota: either("cpu"),
            cpuset: either("cpuset"),
            io: either("blkio"),
            unified,
            any,
        })
    }
}

/// How many processes of the job around this one the kernel has killed on this node for want of memory; `None` where
/// that is not told. It counts before it kills: who sees the end of such a process finds it counted.
pub fn oom_kills(job: Option<&str>) -> Option<u64> {
    job?;
    let root = Root::of_node();
    let memory = Cgroup::of_self(&root, Level::Job).ok()?.memory?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count of processes"
    )]
    kills(&root, &memory).map(|kills| kills as u64)
}

/// Version 1 counts a kill where the process was, version 2 in all groups above it, too.
pub(super) fn kills(root: &Root, place: &Place) -> Option<f64> {
    let count = |file: PathBuf| key(&root.text(file).ok()?, "oom_kill");
    if place.version == Version::Two {
        return count(place.folder.join("memory.events"));
    }
    let own = count(place.folder.join("memory.oom_control"))?;
    let below = folders(root, &place.folder).into_iter().skip(1);
    Some(
        own + below
            .filter_map(|folder| count(folder.join("memory.oom_control")))
            .sum::<f64>(),
    )
}

/// A folder and all below it.
pub(super) fn folders(root: &Root, folder: &Path) -> Vec<PathBuf> {
    let mut all = vec![folder.to_owned()];
    let mut at = 0;
    while at < all.len() {
        let here = all[at].clone();
        let names = root.folders(&here).unwrap_or_default();
        all.extend(names.iter().map(|name| here.join(name)));
        at += 1;
    }
    all
}

/// The folder of a level in the hierarchy of a controller; the empty name is that of version 2.
fn folder(root: &Root, own: &str, mounts: &str, controller: &str, level: Level) -> Option<PathBuf> {
    let path = own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (hierarchy, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let fits = if controller.is_empty() {
            hierarchy == "0" && controllers.is_empty()
        } else {
            controllers.split(',').any(|one| one == controller)
        };
        fits.then_some(Path::new(path))
    })?;
    mounts_of(mounts, controller).find_map(|(mount_root, point)| {
        let inside = path.strip_prefix(mount_root).ok()?;
        let folder = at_level(&point.join(inside), level)?;
        // the same hierarchy may be mounted for others, too
        root.is_folder(&folder).then_some(folder)
    })
}

/// Root and point of the mounts of a controller (version 1) or of the one hierarchy (version 2).
fn mounts_of<'a>(mounts: &'a str, controller: &str) -> impl Iterator<Item = (&'a Path, &'a Path)> {
    mounts.lines().filter_map(move |line| {
        let (head, tail) = line.split_once(" - ")?;
        let mut tail = tail.split(' ');
        let (kind, _, options) = (tail.next()?, tail.next()?, tail.next()?);
        let fits = if controller.is_empty() {
            kind == "cgroup2"
        } else {
            kind == "cgroup" && options.split(',').any(|option| option == controller)
        };
        let mut head = head.split(' ').skip(3);
        let (root, point) = (head.next()?, head.next()?);
        fits.then_some((Path::new(root), Path::new(point)))
    })
}

/// The folder of the job, or of the step, at or above this one.
///
/// The job's id is not compared: in a heterogeneous job the variable names the leader, the cgroup the component.
fn at_level(folder: &Path, level: Level) -> Option<PathBuf> {
    let is = |folder: &Path, start: &str| {
        folder
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.strip_prefix(start))
            .is_some_and(|id| !id.is_empty())
    };
    let is_job = |folder: &Path| {
        is(folder, "job_")
            && folder
                .to_string_lossy()
                .rsplit('_')
                .next()
                .is_some_and(|id| id.bytes().all(|byte| byte.is_ascii_digit()))
    };
    folder
        .ancestors()
        .find(|folder| match level {
            Level::Job => is_job(folder),
            Level::Step => is(folder, "step_") && folder.parent().is_some_and(is_job),
        })
        .map(Path::to_owned)
}
