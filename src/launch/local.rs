//! Roles as plain processes of this machine: where there is no Slurm, and for tests.
//!
//! A role notices by `AIF_LAUNCHER=local` that nobody would clean up behind it, and asks the kernel to be told when the
//! stack dies.

use std::path::PathBuf;

use tokio::process::Command;

use super::{Launch, Step};

/// The local launcher.
#[derive(Debug, Clone)]
pub struct Local {
    /// This program.
    pub program: PathBuf,
}

impl Launch for Local {
    fn name(&self) -> &'static str {
        "local"
    }

    fn command(&self, step: &Step) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(&step.arguments)
            .envs(step.variables.iter().map(|(name, value)| (name, value)))
            .env("AIF_LAUNCHER", "local")
            .env("AIF_LOCAL_JOB", format!("local-{}", std::process::id()));
        command
    }
}
