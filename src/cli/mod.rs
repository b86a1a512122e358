//! The command line: what can be typed, and nothing else. [`start`] turns it into a running role, [`alone`] is the run of
//! one that is in no stack, [`quick`] turns the flags of a bench without a recipe into one.

mod alone;
pub mod quick;
pub mod start;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::{command, exit::Exit};

/// Deploys, discovers, monitors and benchmarks AI inference services from inside Slurm jobs.
#[derive(Debug, Parser)]
#[command(name = "aif", version, after_help = exit_codes(), max_term_width = 100, propagate_version = false)]
pub struct Cli {
    /// The site.
    #[arg(
        long,
        global = true,
        value_name = "SITE",
        help = "Site: a name in sbatch/sites/, or the path of a site file [env: AIF_SITE]"
    )]
    pub site: Option<String>,

    /// What is to be done.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run server, monitor and benches together and leave one run folder with a report
    Stack(StackArgs),
    /// Run an engine, wait until it is ready, register it
    Server(RoleArgs),
    /// Run Prometheus on the registered services
    Monitor(MonitorArgs),
    /// Load a service and measure it
    Bench(Box<BenchArgs>),
    /// Submit a recipe or a job script to Slurm
    Submit(command::submit::Args),
    /// Wait until a service is registered and ready
    Wait(command::wait::Args),
    /// List the registered services; add static ones, clear dead ones
    Services(command::services::Args),
    /// Show jobs, instances and where to look
    Status(command::status::Args),
    /// End a service, a job, or all of them, keeping results
    Stop(command::stop::Args),
    /// Show the logs of a run
    Logs(command::logs::Args),
    /// Export metrics of a run or of a Prometheus
    Export(command::export::Args),
    /// Make the report of a run again, or one of several runs
    Report(command::report::Args),
    /// Tell what differs between runs, and whether it is more than chance
    Compare(command::compare::Args),
    /// Serve the archived metrics of a run on this machine
    Open(command::open::Args),
    /// List, show, check and make recipes
    Recipes(command::recipes::Args),
    /// Pull and list the images that recipes name
    Images(command::images::Args),
    /// Tell what is missing on this site for a stack to run, and what to do about it
    Doctor(command::doctor::Args),
    /// Print completions for a shell
    Completions(command::completions::Args),
    /// Run a program and end it when the caller dies
    #[command(hide = true)]
    Guard {
        /// The program and its arguments.
        #[arg(trailing_var_arg = true, required = true, allow_hyphen_values = true)]
        argv: Vec<String>,
    },
}

/// Arguments of a role that runs one recipe.
#[derive(Debug, Args)]
pub struct RoleArgs {
    /// Recipe: a path, or a name in recipes/
    pub recipe: String,
    /// Overrides a value of the recipe, for instance `service.readiness.timeout=5m`
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Folder that the run folder is made in [default: results in the folder of submission]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// Arguments of a monitor.
#[derive(Debug, Args)]
pub struct MonitorArgs {
    /// Those of every role.
    #[command(flatten)]
    pub role: RoleArgs,
    /// Keep Prometheus's data on a network file system where the node has nothing else; it may break
    #[arg(long)]
    pub allow_shared_tsdb: bool,
    /// Run Grafana beside it, from this image
    #[arg(long, value_name = "IMAGE")]
    pub grafana: Option<String>,
}

/// Arguments of a stack.
#[derive(Debug, Args)]
pub struct StackArgs {
    /// Server recipe
    #[arg(long, value_name = "RECIPE")]
    pub server: Option<String>,
    /// Monitor recipe
    #[arg(long, value_name = "RECIPE")]
    pub monitor: Option<String>,
    /// Client recipe; several run one after another
    #[arg(long, value_name = "RECIPE")]
    pub bench: Vec<String>,
    /// Overrides a value: `workload.concurrent_users=20`, `server:orchestration.resources.gpu_count=0`
    #[arg(long, value_name = "[ROLE:]KEY=VALUE")]
    pub set: Vec<String>,
    /// Folder that the run folder is made in [default: results in the folder of submission]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Keep Prometheus's data on a network file system where the node has nothing else; it may break
    #[arg(long)]
    pub allow_shared_tsdb: bool,
    /// Run Grafana beside the monitor, from this image
    #[arg(long, value_name = "IMAGE", requires = "monitor")]
    pub grafana: Option<String>,
    /// Start the roles as processes of this machine, even inside a job
    #[arg(long)]
    pub local: bool,
    /// Exit 0 also when a result is invalid
    #[arg(long)]
    pub allow_invalid: bool,
}

/// Arguments of a bench.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Recipe: a path, or a name in recipes/clients/
    pub recipe: Option<String>,
    /// Overrides a value of the recipe, for instance `workload.concurrent_users=20`
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Folder of the results [default: the run folder]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Go around the registry and load this base URL
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// File that holds the key of the service at --url
    #[arg(long, value_name = "FILE", requires = "url")]
    pub api_key_file: Option<PathBuf>,
    /// Certificates (PEM) that a --url of https:// is trusted by, instead of the system's; needs a build with TLS
    #[arg(long, value_name = "FILE", requires = "url")]
    pub ca_file: Option<PathBuf>,
    /// Load the instances of this job
    #[arg(long, value_name = "JOB", conflicts_with = "url")]
    pub job: Option<String>,
    /// Load this instance
    #[arg(long, value_name = "INSTANCE", conflicts_with = "url")]
    pub instance: Option<String>,
    /// How long to wait for the service
    #[arg(long, value_name = "TIME", default_value = "30m")]
    pub wait: String,
    /// Exit 0 also when the result is invalid
    #[arg(long)]
    pub allow_invalid: bool,
    /// Then send the same load for 10 seconds to a built-in engine of known times: by how much the measured times are wrong
    #[arg(long)]
    pub calibrate: bool,
    /// Print the results as JSON
    #[arg(long)]
    pub json: bool,
    /// A bench without a recipe.
    #[command(flatten)]
    pub quick: quick::Flags,
}

/// The table of exit codes, for `--help`.
fn exit_codes() -> String {
    let lines = Exit::ALL
        .iter()
        .map(|exit| format!("  {:>3}  {}", exit.code(), exit.meaning()));
    format!("Exit codes:\n{}", lines.collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn help_lists_every_exit_code() {
        let help = exit_codes();
        for exit in Exit::ALL {
            assert!(help.contains(&format!("{:>3}  {}", exit.code(), exit.meaning())));
        }
    }
}
