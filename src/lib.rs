//! AI-Factories: `aif`.

pub mod api;
pub mod apptainer;
pub mod cli;
pub mod clock;
pub mod command;
pub mod engine;
pub mod env;
pub mod exit;
pub mod files;
pub mod launch;
pub mod library;
pub mod load;
pub mod process;
pub mod prometheus;
pub mod recipe;
pub mod registry;
pub mod report;
pub mod role;
pub mod run;
pub mod shutdown;
pub mod site;
pub mod slurm;
pub mod stats;
pub mod telemetry;
pub mod terminal;
pub mod units;

use std::{ffi::OsString, io, process::ExitCode};

use clap::Parser as _;

use crate::{cli::Cli, env::Env, exit::Exit};

/// Runs a command line in this environment; what `main` does, callable by tests.
pub fn run(arguments: impl IntoIterator<Item = OsString>, env: Env) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // help and version go to standard output and are no failure
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Done };
            let _ = error.print();
            return exit.into();
        }
    };
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| cli::start::run(cli, env)));
    match ended {
        Ok(Ok(exit)) => exit.into(),
        Ok(Err(error)) if is_broken_pipe(&error) => Exit::Done.into(),
        Ok(Err(error)) => {
            terminal::note(format_args!("aif: {error:#}"));
            Exit::of(&error).into()
        }
        // the panic hook has told what and where
        Err(_) => Exit::Bug.into(),
    }
}

/// Did the reader of our output go away?
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}
