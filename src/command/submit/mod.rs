//! `aif submit`: from a recipe, or a job script, to a job ([`submission`]).
//!
//! It prints the job's id and what to type next and returns at once; with `--wait` it follows the job to its end
//! ([`follow`]).

mod follow;

use crate::{
    command::Shell,
    exit::{Exit, OrExit as _},
    launch::submission::{self, Request},
    site::Site,
    slurm::client,
    terminal,
};

/// Jobs of one submission at the most: a slip of the finger is no array of thousands.
const MOST: i64 = 64;

/// Arguments of `aif submit`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Recipe (a path, or a name in recipes/), or a job script
    pub what: String,
    /// Print the command and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Follow the job to its end, print the summary, and exit with the job's code
    #[arg(long)]
    pub wait: bool,
    /// Overrides a value of the recipe
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// So many jobs of it: instances of one service, say
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=MOST))]
    pub count: u32,
    /// Run a benchmark so many times in its job, for an interval: `--set workload.repeats=N`
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: Option<u32>,
    /// Option for sbatch, for instance --sbatch=--time=01:00:00
    #[arg(long, value_name = "OPTION", allow_hyphen_values = true)]
    pub sbatch: Vec<String>,
    /// Arguments for the script
    #[arg(last = true)]
    pub arguments: Vec<String>,
}

/// Submits, and follows where that is asked.
///
/// # Errors
/// A recipe or a script that is not there, a site file that is wrong, a refusal by Slurm.
pub async fn run(args: Args, shell: &Shell) -> anyhow::Result<Exit> {
    let site = shell.site()?;
    let runs = args.runs.map(|runs| format!("workload.repeats={runs}"));
    let sets: Vec<String> = args.set.iter().cloned().chain(runs).collect();
    let request = Request {
        what: &args.what,
        sets: &sets,
        sbatch: &args.sbatch,
        arguments: &args.arguments,
    };
    let submission = submission::prepare(&request, &shell.env, &site, &shell.home)?;
    for warning in &submission.warnings {
        terminal::warning(warning);
    }
    if args.dry_run {
        for _ in 0..args.count {
            terminal::line(submission.command())?;
        }
        return Ok(Exit::Done);
    }
    let mut jobs = Vec::new();
    for _ in 0..args.count {
        // the job must not choose another site than the options of sbatch were made for
        let site_variable = shell.env.get("AIF_SITE").map(|name| ("AIF_SITE", name));
        let id = client::sbatch(&submission.words, &shell.home, site_variable.as_slice())
            .await
            .or_exit(Exit::Unavailable, || not_submitted(&args.what, &jobs))?;
        terminal::line(format_args!("job {id} submitted: {}", submission.name))?;
        jobs.push(id);
    }
    if args.wait {
        let followed = follow_all(&jobs, &submission.name, shell, &site);
        return tokio::select! {
            ended = followed => ended,
            _ = tokio::signal::ctrl_c() => {
                for id in &jobs {
                    terminal::note(format_args!("\njob {id} goes on unless it has ended; `aif status {id}` shows it, `aif stop --job {id}` ends it"));
                }
                Ok(Exit::Interrupted)
            }
        };
    }
    for id in &jobs {
        terminal::line(format_args!(
            "  state   aif status {id}\n  output  tail -f {}\n  end     aif stop --job {id}",
            shell
                .home
                .join(format!("{}-{id}.out", submission.name))
                .display()
        ))?;
    }
    if let Some(service) = &submission.service {
        terminal::line(format_args!("  ready   aif wait {service}"))?;
    }
    Ok(Exit::Done)
}

/// What a refusal leaves behind is not taken away: it may already run.
fn not_submitted(what: &str, before: &[String]) -> String {
    if before.is_empty() {
        format!("{what} was not submitted")
    } else {
        format!(
            "{what} was submitted {} times and no more: jobs {} stay",
            before.len(),
            before.join(", ")
        )
    }
}

/// Follows one after another, for they run at the same time; ends with the first code that is not 0.
async fn follow_all(
    jobs: &[String],
    name: &str,
    shell: &Shell,
    site: &Site,
) -> anyhow::Result<Exit> {
    let mut first = Ok(Exit::Done);
    for id in jobs {
        let ended = follow::to_the_end(id, name, shell, site).await;
        if matches!(first, Ok(Exit::Done)) {
            first = ended;
        } else if let Err(error) = ended {
            terminal::note(format_args!("aif: {error:#}"));
        }
    }
    first
}
