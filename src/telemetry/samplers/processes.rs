//! The processes of a cgroup: what no cgroup counts (context switches), and what stands in where Slurm made none.
//!
//! Who belongs to it is looked up every 10 s, and so are threads, of which an engine may have hundreds: looking at them
//! is what would cost. CPU time and IO of each process are read at every look. A process that has ended keeps what it
//! had when it was last seen, so the sums never fall; of CPU time, a parent that lives tells what its ended children
//! had, also of those that nobody has seen (a compiler that is started a hundred times), and the larger sum counts. The kernel shows IO and thread counts of our own processes only,
//! and not of those that changed their user on the way (a setuid Apptainer): they are counted as *closed*.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use procfs::FromRead as _;
use tokio::time::Instant;

use super::Root;
use crate::telemetry::{
    cgroup::{Place, folders},
    sample::Absent,
};

/// Who belongs to it, and what its threads did, holds this long.
const HOLDS: Duration = Duration::from_secs(10);

/// What the processes have used, those that ended too.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Usage {
    pub(super) processes: u64,
    pub(super) threads: f64,
    /// Processes whose IO is closed to us.
    pub(super) closed: u64,
    pub(super) cpu_seconds: f64,
    pub(super) read_bytes: f64,
    pub(super) written_bytes: f64,
    pub(super) voluntary: f64,
    pub(super) involuntary: f64,
}

/// What one look at a process tells.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    /// Time of its start.
    start: u64,
    threads: f64,
    cpu_seconds: f64,
    /// CPU time of its children that have ended.
    of_children: f64,
    /// Bytes read and written; `None` where that is closed to us.
    io: Option<(f64, f64)>,
    /// Context switches of its threads, voluntary ones and others; `None` where they were not looked at.
    pub(super) switches: Option<(f64, f64)>,
}

/// Looks at processes at one moment. Each is looked at once, however many want to know of it.
#[derive(Debug)]
pub(super) struct Looks {
    root: Root,
    /// By pid; `None` where it has ended.
    of: BTreeMap<u32, Option<Look>>,
}

impl Looks {
    pub(super) fn new(root: &Root) -> Self {
        Self {
            root: root.clone(),
            of: BTreeMap::new(),
        }
    }

    /// What a process does; with the threads of it where they are walked.
    pub(super) fn at(&mut self, pid: u32, walk: bool) -> Option<Look> {
        let known = self.of.get(&pid);
        if let Some(known) = known
            && known.is_none_or(|look| look.switches.is_some() || !walk)
        {
            return *known;
        }
        let look = self.look(pid, walk);
        self.of.insert(pid, look);
        look
    }

    fn look(&self, pid: u32, walk: bool) -> Option<Look> {
        let folder = format!("/proc/{pid}");
        let text = self.root.text(format!("{folder}/stat")).ok()?;
        let stat = procfs::process::Stat::from_read(text.as_bytes()).ok()?;
        let ticks = procfs::ticks_per_second() as f64;
        let io = self.root.text(format!("{folder}/io")).ok();
        let io = io.and_then(|text| procfs::process::Io::from_read(text.as_bytes()).ok());
        Some(Look {
            start: stat.starttime,
            threads: stat.num_threads as f64,
            cpu_seconds: (stat.utime + stat.stime) as f64 / ticks,
            of_children: (stat.cutime + stat.cstime) as f64 / ticks,
            io: io.map(|io| (io.read_bytes as f64, io.write_bytes as f64)),
            switches: walk.then(|| self.switches(&folder)),
        })
    }

    fn switches(&self, folder: &str) -> (f64, f64) {
        let (mut voluntary, mut involuntary) = (0.0, 0.0);
        let threads = self.root.names(format!("{folder}/task"));
        for thread in threads.unwrap_or_default() {
            let Ok(text) = self.root.text(format!("{folder}/task/{thread}/status")) else {
                continue;
            };
            voluntary += value(&text, "voluntary_ctxt_switches:");
            involuntary += value(&text, "nonvoluntary_ctxt_switches:");
        }
        (voluntary, involuntary)
    }
}

/// The processes of a cgroup.
#[derive(Debug)]
pub(super) struct Processes {
    root: Root,
    folder: Option<PathBuf>,
    walked: Option<Instant>,
    /// By pid and time of start: a pid may be given out again.
    seen: BTreeMap<(u32, u64), One>,
    pids: Vec<u32>,
    /// Most CPU time that the processes which lived had, with their ended children.
    of_living: f64,
    now: Result<Usage, Absent>,
}

/// What one process has used.
#[derive(Debug, Clone, Copy, Default)]
struct One {
    cpu_seconds: f64,
    read_bytes: f64,
    written_bytes: f64,
    voluntary: f64,
    involuntary: f64,
}

impl Processes {
    pub(super) fn new(root: &Root, place: Option<&Place>) -> Self {
        Self {
            root: root.clone(),
            folder: place.map(|place| place.folder.clone()),
            walked: None,
            seen: BTreeMap::new(),
            pids: Vec::new(),
            of_living: 0.0,
            now: Err(Absent::Failed("nobody has looked yet".to_owned())),
        }
    }

    /// What was seen at the last look.
    pub(super) fn usage(&self) -> Result<Usage, Absent> {
        self.now.clone()
    }

    /// Looks.
    pub(super) fn look(&mut self, looks: &mut Looks) {
        let walk = self.walked.is_none_or(|walked| walked.elapsed() >= HOLDS);
        if walk {
            if let Err(absent) = self.find() {
                self.now = Err(absent);
                return;
            }
            self.walked = Some(Instant::now());
        }
        let mut usage = Usage::default();
        for pid in self.pids.clone() {
            if let Some(look) = looks.at(pid, walk) {
                self.one(pid, look, &mut usage);
            }
        }
        if usage.processes == 0 {
            // this process is one of them
            self.now = Err(Absent::Unsupported(
                "none of its processes can be seen from here".to_owned(),
            ));
            return;
        }
        self.of_living = self.of_living.max(std::mem::take(&mut usage.cpu_seconds));
        for one in self.seen.values() {
            usage.cpu_seconds += one.cpu_seconds;
            usage.read_bytes += one.read_bytes;
            usage.written_bytes += one.written_bytes;
            usage.voluntary += one.voluntary;
            usage.involuntary += one.involuntary;
        }
        usage.cpu_seconds = usage.cpu_seconds.max(self.of_living);
        self.now = Ok(usage);
    }

    fn find(&mut self) -> Result<(), Absent> {
        let Some(folder) = &self.folder else {
            return Err(Absent::Unsupported(
                "no cgroup holds its processes".to_owned(),
            ));
        };
        // the folder itself must be there: it ends with the job
        self.root.names(folder)?;
        let mut pids: Vec<u32> = folders(&self.root, folder)
            .iter()
            .filter_map(|folder| self.root.text(folder.join("cgroup.procs")).ok())
            .flat_map(|text| {
                let pids = text.lines().filter_map(|line| line.parse().ok());
                pids.collect::<Vec<u32>>()
            })
            .filter(|pid| *pid != 0)
            .collect();
        pids.sort_unstable();
        pids.dedup();
        self.pids = pids;
        Ok(())
    }

    /// Adds a process that lives.
    fn one(&mut self, pid: u32, look: Look, usage: &mut Usage) {
        usage.processes += 1;
        usage.threads += look.threads;
        usage.cpu_seconds += look.cpu_seconds + look.of_children;
        let one = self.seen.entry((pid, look.start)).or_default();
        one.cpu_seconds = look.cpu_seconds;
        match look.io {
            Some((read, written)) => (one.read_bytes, one.written_bytes) = (read, written),
            None => usage.closed += 1,
        }
        if let Some((voluntary, involuntary)) = look.switches {
            // a thread that ended takes its count along: a counter must not fall for that
            one.voluntary = one.voluntary.max(voluntary);
            one.involuntary = one.involuntary.max(involuntary);
        }
    }
}

/// The number behind a name at the start of a line; they stand at the end of a long text.
fn value(text: &str, name: &str) -> f64 {
    text.lines()
        .rev()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|value| value.trim().parse().ok())
        .unwrap_or_default()
}
