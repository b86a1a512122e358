//! Measures the load generator: what a request and a token cost it, how far its stamps are from the truth, how late it is.
//!
//! `perf run` starts an engine of known times on one core ([`engine`]) and the real `aif bench` on another, and prints a
//! table; [`floor`] is a bare loop that does the same without measuring anything: what the kernel alone costs on this
//! machine, at this hour. Two figures of one run can be compared, those of two machines cannot. Nothing here asserts a
//! speed: a busy machine would make a liar of the test.

mod compare;
mod engine;
mod floor;
mod scenarios;

use std::{io, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    time::{ClockId, clock_gettime},
    unistd::Pid,
};

#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run scenarios and print the table.
    Run {
        /// The release build of `aif`.
        #[arg(long)]
        aif: PathBuf,
        /// Only scenarios whose name begins so.
        only: Vec<String>,
        /// Seconds of load of each scenario.
        #[arg(long, default_value_t = 5)]
        seconds: u64,
        /// Ten million requests, too: takes minutes.
        #[arg(long)]
        long: bool,
        /// Without samples.parquet: what it costs is the difference.
        #[arg(long)]
        no_samples: bool,
        /// Keep what was written.
        #[arg(long)]
        keep: Option<PathBuf>,
    },
    /// Be the engine.
    Engine(engine::Flags),
    /// Be the bare loop.
    Floor(floor::Flags),
    /// Run a command on a CPU; tell what it cost.
    Cost(scenarios::Cost),
}

fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Command::Run {
            aif,
            only,
            seconds,
            long,
            no_samples,
            keep,
        } => scenarios::run(&scenarios::Wanted {
            aif,
            only,
            seconds,
            long,
            samples: !no_samples,
            keep,
        }),
        Command::Engine(flags) => engine::run(&flags),
        Command::Floor(flags) => floor::run(&flags),
        Command::Cost(cost) => scenarios::cost(&cost),
    }
}

/// Nanoseconds of the monotonic clock, which all processes of a machine share.
fn now() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("the clock is there");
    u64::try_from(time.tv_sec()).unwrap_or(0) * 1_000_000_000
        + u64::try_from(time.tv_nsec()).unwrap_or(0)
}

/// Stays on one CPU from now on.
fn pin(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &set)?;
    Ok(())
}

/// A number for the first four words of a prompt, which no other prompt of a load begins with.
fn key(prompt: &[u8]) -> u64 {
    let mut spaces = 0;
    let words = prompt.iter().take_while(|byte| {
        spaces += u32::from(**byte == b' ');
        spaces < 4 && **byte != b'"'
    });
    words.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
