//! How a stack starts its roles: as job steps by `srun`, or as plain local processes. One trait, two implementations.
//!
//! Either way a role is one child process of the stack: its exit is an event, and `SIGUSR1` to it means "you are done".
//! `srun` forwards that to its task in milliseconds without the controller. (TERM to `srun` would kill the task at once.)
//!
//! [`submission`] stands before all that: how the job itself is handed to `sbatch`.

pub mod cpus;
pub mod local;
pub mod srun;
pub mod submission;

use std::{fs::File, os::unix::process::ExitStatusExt as _, path::PathBuf, process::Stdio};

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};
use tokio::process::{Child, Command};

use crate::{exit::Exit, files};

/// Why a role could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its log cannot be written.
    #[error(transparent)]
    Log(#[from] files::Error),
    /// The program cannot be started.
    #[error("cannot start {program}")]
    Start {
        /// `srun`, or aif itself.
        program: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// Where a step runs and what it holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placement {
    /// The node; the launcher's own where empty. Several, separated by commas: a task on each.
    pub node: String,
    /// The component of a heterogeneous job.
    pub het_group: Option<u32>,
    /// GPUs.
    pub gpus: u32,
}

/// A role to be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// `server`, `monitor`, `bench-<name>`: names the log and the step file.
    pub name: String,
    /// Arguments of aif. No secret: anybody may read them, in `ps` and in Slurm's accounting.
    pub arguments: Vec<String>,
    /// Variables set for it.
    pub variables: Vec<(String, String)>,
    /// Where it runs.
    pub placement: Placement,
    /// Where its output goes.
    pub log: PathBuf,
}

/// A way to start roles.
pub trait Launch: Send + Sync {
    /// `srun` or `local`.
    fn name(&self) -> &'static str;

    /// The program, its arguments and its environment.
    fn command(&self, step: &Step) -> Command;
}

/// A role that was started.
#[derive(Debug)]
pub struct Running {
    /// The step's name.
    pub name: String,
    child: Child,
    pid: Pid,
    ended: Option<i32>,
}

/// Starts a role.
pub fn start(launcher: &dyn Launch, step: &Step) -> Result<Running, Error> {
    let log: File = files::open_log(&step.log)?;
    let errors = log
        .try_clone()
        .map_err(|source| files::Error::new("open", &step.log, source))?;
    let mut command = launcher.command(step);
    let program = command
        .as_std()
        .get_program()
        .to_string_lossy()
        .into_owned();
    // a group of its own: Ctrl-C at a terminal reaches the stack alone, which tells the roles in their order
    command
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .process_group(0);
    let child = command
        .spawn()
        .map_err(|source| Error::Start { program, source })?;
    let pid = child
        .id()
        .and_then(|pid| i32::try_from(pid).ok())
        .map_or(Pid::from_raw(0), Pid::from_raw);
    Ok(Running {
        name: step.name.clone(),
        child,
        pid,
        ended: None,
    })
}

impl Running {
    /// Waits for its end; gives its code, with signal n as 128 + n. May be called again.
    pub async fn wait(&mut self) -> i32 {
        if let Some(code) = self.ended {
            return code;
        }
        let code = match self.child.wait().await {
            Ok(status) => status
                .code()
                .unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
            Err(_) => i32::from(Exit::Bug.code()),
        };
        self.ended = Some(code);
        code
    }

    /// Tells it that it is done.
    pub fn release(&self) {
        self.signal(Signal::SIGUSR1);
    }

    /// Ends it now: TERM, by which `srun` kills its task at once, then KILL to the group.
    pub async fn kill(&mut self) {
        self.signal(Signal::SIGTERM);
        if tokio::time::timeout(std::time::Duration::from_secs(3), self.wait())
            .await
            .is_err()
        {
            if self.pid.as_raw() > 0 {
                let _ = killpg(self.pid, Signal::SIGKILL);
            }
            self.wait().await;
        }
    }

    fn signal(&self, signal: Signal) {
        // a pid that was waited for may belong to somebody else by now
        if self.ended.is_none() && self.pid.as_raw() > 0 {
            let _ = kill(self.pid, signal);
        }
    }
}
