//! The guard: a process between a role and its engine, which ends the engine when the role is killed.
//!
//! Under Slurm the end of the step takes everything along. Without Slurm nothing does: an engine whose role died by
//! `kill -9` would serve for ever, and asking the kernel to signal apptainer itself does not reach the engine. So the
//! local launcher runs `aif guard -- PROGRAM …`: it asks the kernel for TERM at its parent's death, runs the program in
//! a group of its own, passes TERM on once, and kills what is left when the time is up and nobody else is there to.

use std::{path::PathBuf, time::Duration};

use nix::{
    sys::{prctl, signal::Signal},
    unistd::getppid,
};
use tokio::signal::unix::{SignalKind, signal};

use super::{child::Ended, tree};
use crate::exit::Exit;

/// What the program has to end in when its role is gone.
const GRACE: Duration = Duration::from_secs(10);

/// Our own binary, where this process runs it: a test or another program that uses the library has no subcommand `guard`.
pub fn program() -> Option<PathBuf> {
    let path = std::env::current_exe().ok()?;
    (path.file_name()? == "aif").then_some(path)
}

/// A command line with the guard before it, where there is one. It is named as the kernel knows it: a binary that was
/// replaced meanwhile is still there.
pub fn guarded(argv: Vec<String>) -> Vec<String> {
    let path = std::env::current_exe().unwrap_or_default();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if name.trim_end_matches(" (deleted)") != "aif" {
        return argv;
    }
    let mut all: Vec<String> = ["/proc/self/exe", "guard", "--"]
        .map(str::to_owned)
        .to_vec();
    all.extend(argv);
    all
}

/// The hidden subcommand `guard`: runs this program and ends as it ends (`128 + n` for signal `n`); returns only where
/// it cannot be started.
///
/// Makes a runtime of its own, so call it before there is one.
pub fn run(argv: Vec<String>) -> Exit {
    let program = argv.first().cloned().unwrap_or_default();
    let code = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .and_then(|runtime| runtime.block_on(guard(argv)));
    match code {
        #[expect(
            clippy::exit,
            clippy::disallowed_methods,
            reason = "its code is the program's, which is none of ours"
        )]
        Ok(code) => std::process::exit(code),
        Err(error) => {
            crate::terminal::note(format_args!("aif: cannot start {program}: {error}"));
            Exit::of_io(&error)
        }
    }
}

async fn guard(argv: Vec<String>) -> std::io::Result<i32> {
    let parent = getppid();
    prctl::set_pdeathsig(Signal::SIGTERM)?;
    prctl::set_child_subreaper(true)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let Some((program, arguments)) = argv.split_first() else {
        return Err(std::io::Error::other("no program was given"));
    };
    let mut child = tokio::process::Command::new(program)
        .args(arguments)
        .process_group(0)
        .spawn()?;
    let pid = child.id().unwrap_or(0);

    tokio::select! {
        status = child.wait() => {
            clean_up();
            return status.map(|status| code(Ended::from(status)));
        }
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    for meant in tree::meant(pid) {
        tree::send(meant, Signal::SIGTERM);
    }
    // a living parent decides itself how long it waits, and kills us and the program
    let orphaned = async {
        while getppid() == parent {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        tokio::time::sleep(GRACE).await;
    };
    let status = tokio::select! {
        status = child.wait() => Some(status?),
        () = orphaned => None,
    };
    clean_up();
    let status = match status {
        Some(status) => status,
        None => child.wait().await?,
    };
    Ok(code(Ended::from(status)))
}

/// Kills all that the program left, and the program: as their subreaper, all of it is below us.
fn clean_up() {
    tree::kill_all(&tree::descendants(std::process::id()));
}

fn code(ended: Ended) -> i32 {
    match ended {
        Ended::Code(code) => code,
        Ended::Signal(signal) => 128 + signal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_become_codes_as_a_shell_tells_them() {
        assert_eq!(code(Ended::Code(3)), 3);
        assert_eq!(code(Ended::Signal(15)), 143);
    }
}
