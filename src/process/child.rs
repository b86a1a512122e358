//! A process of ours, with all that it starts: its start, its end as an event, and how it is ended.
//!
//! It gets a process group of its own, so that a signal to ours (a terminal's Ctrl-C) does not reach it twice, and its
//! output goes to a file. TERM goes to its pid, once: apptainer passes it on, and an engine that gets it again (a signal
//! to the group does that) aborts what it was finishing. Of a script, its commands get it ([`tree::meant`]). KILL goes first to the container's `appinit`, which takes the
//! whole pid namespace along and lets apptainer unmount; only what is left then is killed one by one.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fmt, io,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nix::sys::signal::Signal;
use tokio::sync::watch;

use super::{shared_memory, tree};
use crate::{files, shutdown::Shutdown};

/// Between two looks at who is to be told to end.
const TELLING: Duration = Duration::from_millis(500);
/// After the KILL of `appinit`, apptainer has this long to clean up behind itself.
const CLEAN_UP: Duration = Duration::from_secs(1);

/// Why a process cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its log cannot be opened.
    #[error(transparent)]
    Log(#[from] files::Error),
    /// The system does not start it.
    #[error("cannot start {program} in {}", folder.display())]
    Start {
        /// The program.
        program: String,
        /// The folder it should start in.
        folder: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// What is to be started.
#[derive(Debug, Clone, Default)]
pub struct Spec {
    /// Program and arguments; never holds a secret, for everybody can read it.
    pub argv: Vec<String>,
    /// Variables set on top of our own environment.
    pub env: BTreeMap<String, String>,
    /// Folder it starts in.
    pub folder: PathBuf,
    /// File that its output is appended to.
    pub log: PathBuf,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// With this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl Ended {
    /// The signal that ended it: a container reports the signal `n` of its program as exit code `128 + n`.
    pub fn signal(self) -> Option<Signal> {
        let number = match self {
            Self::Signal(number) => number,
            Self::Code(code) => code - 128,
        };
        Signal::try_from(number).ok()
    }
}

impl From<ExitStatus> for Ended {
    fn from(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Code(code),
            (None, signal) => Self::Signal(signal.unwrap_or(0)),
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.signal(), self) {
            (Some(signal), Self::Code(code)) => write!(f, "exit code {code} ({signal})"),
            (Some(signal), Self::Signal(_)) => write!(f, "signal {signal}"),
            (None, Self::Code(code)) => write!(f, "exit code {code}"),
            (None, Self::Signal(number)) => write!(f, "signal {number}"),
        }
    }
}

/// A process that was started. Dropping it kills what is left of it.
#[derive(Debug)]
pub struct Child {
    pid: u32,
    log: PathBuf,
    ended: watch::Receiver<Option<Ended>>,
    /// Inodes of the files in shared memory that it and what it started had mapped when they were looked at.
    shared_memory: Mutex<BTreeSet<u64>>,
}

impl Child {
    /// Starts it; its end is awaited on the tracker of `shutdown`.
    pub fn start(spec: &Spec, shutdown: &Shutdown) -> Result<Self, Error> {
        let log = files::open_log(&spec.log)?;
        let program = spec.argv.first().cloned().unwrap_or_default();
        let failed = |source| Error::Start {
            program: program.clone(),
            folder: spec.folder.clone(),
            source,
        };
        let errors = log.try_clone().map_err(failed)?;
        let mut child = tokio::process::Command::new(&program)
            .args(spec.argv.iter().skip(1))
            .envs(&spec.env)
            .current_dir(&spec.folder)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let pid = child.id().unwrap_or(0);
        let (tell, ended) = watch::channel(None);
        shutdown.tasks.spawn(async move {
            let how = child.wait().await.map_or(Ended::Signal(0), Ended::from);
            tell.send_replace(Some(how));
        });
        Ok(Self {
            pid,
            log: spec.log.clone(),
            ended,
            shared_memory: Mutex::default(),
        })
    }

    /// Its id, also when it has ended.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its log.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// How it ended; `None` while it lives.
    pub fn has_ended(&self) -> Option<Ended> {
        *self.ended.borrow()
    }

    /// Comes when it ends.
    pub async fn ended(&self) -> Ended {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(how) => how.unwrap_or(Ended::Signal(0)),
            Err(_) => Ended::Signal(0),
        }
    }

    /// Takes note of what it has in shared memory, which is cleared away should it be killed.
    pub fn note_shared_memory(&self) {
        self.note(&tree::family(self.pid));
    }

    fn note(&self, family: &[tree::Process]) {
        let found = shared_memory::of(family);
        self.shared_memory().extend(found);
    }

    fn shared_memory(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.shared_memory
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes what is left there. A process that was killed just now may not be gone yet.
    async fn clear_shared_memory(&self) {
        let mut files = std::mem::take(&mut *self.shared_memory());
        for _ in 0..10 {
            files = shared_memory::remove(&files);
            if files.is_empty() {
                return;
            }
            tokio::time::sleep(CLEAN_UP / 10).await;
        }
    }

    /// Ends it: TERM, and after `grace`, or when `hurry` comes, KILL. Nothing that it started is left afterwards.
    pub async fn stop(&self, grace: Duration, hurry: impl Future<Output = ()>) -> Ended {
        // taken before the end: who loses its parents belongs to nobody that could be asked
        let family = tree::family(self.pid);
        self.note(&family);
        let in_time = tokio::select! {
            biased;
            _ = self.ended() => true,
            () = self.tell() => false,
            () = tokio::time::sleep(grace) => false,
            () = hurry => false,
        };
        if !in_time {
            tracing::warn!(
                pid = self.pid,
                "The process did not end within its grace; killing it"
            );
            for process in tree::descendants(self.pid) {
                if process.name == "appinit" {
                    tree::send(process.pid, Signal::SIGKILL);
                }
            }
            let _ = tokio::time::timeout(CLEAN_UP, self.ended()).await;
        }
        let how = self.has_ended();
        self.kill_rest(&family);
        let how = match how {
            Some(how) => how,
            None => self.ended().await,
        };
        self.clear_shared_memory().await;
        how
    }

    /// TERM to whom it is for, each once; again and again, for a script may start another command when one has ended.
    /// Never comes.
    async fn tell(&self) {
        let mut told = HashSet::new();
        loop {
            for pid in tree::meant(self.pid) {
                if told.insert(pid) {
                    tree::send(pid, Signal::SIGTERM);
                }
            }
            tokio::time::sleep(TELLING).await;
        }
    }

    /// Kills what is left: of the tree as it is, and of the tree as it was.
    fn kill_rest(&self, family: &[tree::Process]) {
        if self.has_ended().is_none() {
            tree::kill_all(&tree::family(self.pid));
        }
        // who lost its parent is ours, as its subreaper, or init's; a stranger with a number used again is neither
        let own = std::process::id();
        let orphans: Vec<tree::Process> = tree::scan()
            .into_iter()
            .filter(|process| process.pid != self.pid && [own, 1].contains(&process.parent))
            .filter(|process| {
                process.group == self.pid || family.iter().any(|old| old.is_same(process))
            })
            .collect();
        for orphan in &orphans {
            tree::kill_all(&tree::family(orphan.pid));
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.has_ended().is_none() {
            self.kill_rest(&tree::family(self.pid));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::Instant;

    use super::*;

    fn shell(script: &str) -> (tempfile::TempDir, Child) {
        let folder = tempfile::tempdir().unwrap();
        let spec = Spec {
            argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
            folder: folder.path().to_owned(),
            log: folder.path().join("log"),
            ..Spec::default()
        };
        let child = Child::start(&spec, &Shutdown::new()).unwrap();
        (folder, child)
    }

    async fn wait_for_line(child: &Child, line: &str) {
        while !files::tail(child.log(), 10).iter().any(|l| l == line) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn its_end_is_told_by_code_or_signal() {
        for (script, code, text) in [
            ("exit 3", Ended::Code(3), "exit code 3"),
            ("exit 137", Ended::Code(137), "exit code 137 (SIGKILL)"),
            ("kill -SEGV $$", Ended::Signal(11), "signal SIGSEGV"),
        ] {
            let (_folder, child) = shell(script);
            let how = child.ended().await;
            assert_eq!(how, code, "{script}");
            assert_eq!(how.to_string(), text);
        }
        assert_eq!(Ended::Code(137).signal(), Ended::Signal(9).signal());
    }

    #[tokio::test]
    async fn its_output_is_kept() {
        let (_folder, child) = shell("echo one; echo two >&2");
        child.ended().await;
        assert_eq!(files::tail(child.log(), 5), ["one", "two"]);
    }

    #[tokio::test]
    async fn term_comes_once_and_its_own_end_is_its_end() {
        let (_folder, child) =
            shell("trap 'echo term' TERM; echo up; sleep 0.3 & wait; sleep 0.2; exit 7");
        wait_for_line(&child, "up").await;
        let how = child.stop(Duration::from_secs(5), pending()).await;
        assert_eq!(how, Ended::Code(7));
        let terms = files::tail(child.log(), 9)
            .iter()
            .filter(|l| *l == "term")
            .count();
        assert_eq!(terms, 1);
    }

    #[tokio::test]
    async fn the_command_of_a_script_ends_in_order() {
        let engine =
            "sh -c \"trap 'sleep 0.2; echo drained; exit 4' TERM; echo up; sleep 60 & wait\"";
        for script in [
            format!("echo starting\n{engine}"),
            format!("{engine} &\nwait"),
            format!("sh -c '{}; true'", engine.replace('\'', "'\\''")),
        ] {
            let (_folder, child) = shell(&script);
            wait_for_line(&child, "up").await;
            child.stop(Duration::from_secs(5), pending()).await;
            let log = files::tail(child.log(), 9);
            assert!(
                log.iter().any(|line| line == "drained"),
                "{script}: {log:?}"
            );
        }
    }

    #[tokio::test]
    async fn who_ignores_term_is_killed_with_its_children() {
        let (_folder, child) =
            shell("trap '' TERM; (trap '' TERM; setsid sleep 600) & echo up; sleep 600");
        wait_for_line(&child, "up").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let family = tree::family(child.pid());
        assert!(family.len() >= 3, "{family:?}");
        let start = Instant::now();
        let how = child.stop(Duration::from_millis(200), pending()).await;
        assert_eq!(how.signal(), Some(Signal::SIGKILL));
        assert!(start.elapsed() < Duration::from_secs(4));
        tokio::time::sleep(Duration::from_millis(100)).await;
        let left: Vec<tree::Process> = tree::scan()
            .into_iter()
            .filter(|p| family.iter().any(|f| f.pid == p.pid && f.name == p.name) && !p.zombie)
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }

    #[tokio::test]
    async fn what_a_killed_process_had_in_shared_memory_is_cleared() {
        let name = format!("aif-test-{}", std::process::id());
        let (file, other) = (
            PathBuf::from(format!("/dev/shm/{name}")),
            PathBuf::from(format!("/dev/shm/{name}-other")),
        );
        let script = format!(
            "exec python3 -c 'import mmap, time\nf = open(\"{}\", \"w+b\"); f.truncate(4096)\nopen(\"{}\", \"w\")\nm = mmap.mmap(f.fileno(), 4096); print(\"up\", flush=True); time.sleep(600)'",
            file.display(),
            other.display()
        );
        let (_folder, child) = shell(&script);
        wait_for_line(&child, "up").await;
        child.note_shared_memory();
        tree::send(child.pid(), Signal::SIGKILL);
        child.ended().await;
        assert!(file.exists());
        child.stop(Duration::ZERO, std::future::ready(())).await;
        assert!(!file.exists());
        assert!(other.exists(), "it was not mapped, so it may be anybody's");
        std::fs::remove_file(other).unwrap();
    }

    #[tokio::test]
    async fn a_missing_program_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let spec = Spec {
            argv: vec!["no-such-program".to_owned()],
            folder: "/".into(),
            log: folder.path().join("log"),
            ..Spec::default()
        };
        let error = Child::start(&spec, &Shutdown::new()).unwrap_err();
        assert_eq!(error.to_string(), "cannot start no-such-program in /");
    }
}
