//! `aif completions SHELL`: a script for the shell's completion.

use clap_complete::Shell as Dialect;

use crate::{exit::Exit, terminal};

/// Arguments of `aif completions`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    pub shell: Dialect,
}

/// Prints the script for the given command line.
///
/// # Errors
/// Where standard output cannot be written.
pub fn run(args: &Args, mut command: clap::Command) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "aif", &mut script);
    terminal::line(String::from_utf8_lossy(&script).trim_end())?;
    Ok(Exit::Done)
}
