//! AI-Factories: `aif` deploys, discovers, monitors and benchmarks AI inference services from inside Slurm jobs.
//!
//! This page is the design book: how the code is laid out, which part may use which, and what happens in a run. What a
//! user needs stands in the README.
//!
//! # What it is
//!
//! One binary that runs in several roles as steps of one Slurm job. No daemon, no polling of the controller, no manual
//! endpoint: roles find each other by files in a shared folder (the *registry*) and talk over HTTP. Each role also runs
//! alone, as a job of its own, and where there is no Slurm as a plain process.
//!
//! # Layout
//!
//! | module | what it is |
//! |---|---|
//! | [`cli`] | what can be typed, and the edge where a role is put together |
//! | [`command`] | subcommands, one file each |
//! | [`role`] | stack, server, monitor, bench: what a process of ours can be |
//! | [`report`] | pages, tables and files of a run |
//! | [`compare`] | what differs between runs, and limits on it |
//! | [`launch`] | how a job is handed to sbatch; how a stack starts roles: by srun, or as local processes; who gets which CPUs |
//! | [`load`] | the load generator: arrivals, phases, prompts (pure), connections, and the workers that send |
//! | [`samples`] | every request of a load in a file, and back |
//! | [`engine`] | what must be known of each engine |
//! | [`registry`] | records, leases, look-ups, keys |
//! | [`telemetry`] | logs, the agent's listener, samplers of node and job |
//! | [`prometheus`] | its configuration, targets, process, queries, snapshot |
//! | [`apptainer`] | command lines and images |
//! | [`process`] | children: started, proven ready, ended |
//! | [`library`] | recipes on disk |
//! | [`site`] | what differs from one cluster to the next |
//! | [`slurm`] | facts of the job, host lists, options, the few calls to Slurm's commands |
//! | [`api`] | requests and answers of engines, SSE, a small HTTP client |
//! | [`stats`] | samples to metrics, metrics to a verdict |
//! | [`recipe`] | schema, faults, plan |
//! | [`run`](mod@run) | one execution: its folder, manifest and step files |
//! | [`exit`] [`env`](mod@env) [`files`] [`disk`] [`clock`] [`shutdown`] [`units`] [`terminal`] | leaves |
//!
//! # Layers
//!
//! A module uses only what stands below it; a test (`tests/it/layers.rs`) holds this:
//!
//! ```text
//! edge      main, lib, cli
//! roles     role::*, command::*            never each other; role::note is what roles share
//! services  registry, engine, load::{dispatch, worker}, samples, launch, report, compare
//! adapters  process, apptainer, api::client, slurm::client, load::{connection, exchange}, prometheus, telemetry,
//!           site, library, run
//! pure      recipe, stats, load::{arrival, phase, workload, sample, wire}, api::{openai, sse, repeat},
//!           slurm::{hostlist, job_env, options}
//! leaves    exit, env, shutdown, clock, files, disk, units, terminal
//! ```
//!
//! # Life of a run
//!
//! 1. The job script ends in `exec aif stack …`: aif is the batch step. It reads its environment once ([`env::Env`],
//!    [`slurm::job_env::JobEnv`]), resolves the recipes into plans ([`library`], [`recipe`]), makes the run folder
//!    ([`run::RunDir`]) and writes the manifest.
//! 2. It starts server and monitor as steps ([`launch`]). A role's first act is its step file; then it takes its CPUs,
//!    publishes its record ([`registry::Publication`]) and renews it every few seconds.
//! 3. The server starts its engine ([`process`], [`apptainer`]), asks the readiness path and proves that the listening
//!    socket is its engine's; then its record says `ready`. The monitor turns live records into Prometheus's targets.
//! 4. Benches run one after another: each looks the service up, calibrates its prompts, loads it on an absolute
//!    schedule ([`load`]), and writes its results ([`stats`]).
//! 5. The end is always in the same order: bench, monitor (which takes a snapshot), server, report. The stack tells each
//!    role by `SIGUSR1`; when everybody is told at once, roles watch each other's records to keep the order
//!    ([`shutdown`]).
//! 6. The exit code says how it went ([`exit::Exit`]); a result that must not be used is a failure, too.
//!
//! # Rules that hold everywhere
//!
//! - Durations by `tokio::time::Instant`, stamps by `jiff`; clocks of two nodes are never compared.
//! - Files are replaced by rename; results are written after each phase.
//! - No secret in an argument, a log, a manifest or a record.
//! - Only processes that we started are ended, and the engine gets TERM once.

pub mod api;
pub mod apptainer;
pub mod cli;
pub mod clock;
pub mod command;
pub mod compare;
pub mod disk;
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
pub mod samples;
pub mod shutdown;
pub mod site;
pub mod slurm;
pub mod stats;
pub mod telemetry;
pub mod terminal;
pub mod tls;
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
            let exit = if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Done
            };
            let _ = error.print();
            return exit.into();
        }
    };
    let ended =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| cli::start::run(cli, env)));
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
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}
