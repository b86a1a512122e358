//! `aif submit`: from a recipe, or a job script, to a job ([`submission`]).
//!
//! It prints the job's id and what to type next and returns at once; with `--wait` it follows the job to its end
//! ([`follow`]).

mod follow;

use crate::{
    command::Shell,
    exit::{Exit, OrExit as _},
    launch::submission::{self, Request},
    slurm::client,
    terminal,
};

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
    let request = Request {
        what: &args.what,
        sets: &args.set,
        sbatch: &args.sbatch,
        arguments: &args.arguments,
    };
    let submission = submission::prepare(&request, &shell.env, &site, &shell.home)?;
    for warning in &submission.warnings {
        terminal::note(format_args!("aif: {warning}"));
    }
    if args.dry_run {
        terminal::line(submission.command())?;
        return Ok(Exit::Done);
    }
    // the job must not choose another site than the options of sbatch were made for
    let site_variable = shell.env.get("AIF_SITE").map(|name| ("AIF_SITE", name));
    let id = client::sbatch(&submission.words, &shell.home, site_variable.as_slice())
        .await
        .or_exit(Exit::Unavailable, || {
            format!("{} was not submitted", args.what)
        })?;
    terminal::line(format_args!("job {id} submitted: {}", submission.name))?;
    if args.wait {
        let followed = follow::to_the_end(&id, &submission.name, shell, &site);
        return tokio::select! {
            ended = followed => ended,
            _ = tokio::signal::ctrl_c() => {
                terminal::note(format_args!("\njob {id} goes on; `aif status {id}` shows it, `aif stop --job {id}` ends it"));
                Ok(Exit::Interrupted)
            }
        };
    }
    terminal::line(format_args!(
        "  state   aif status {id}\n  output  tail -f {}\n  end     aif stop --job {id}",
        shell
            .home
            .join(format!("{}-{id}.out", submission.name))
            .display()
    ))?;
    if let Some(service) = &submission.service {
        terminal::line(format_args!("  ready   aif wait {service}"))?;
    }
    Ok(Exit::Done)
}
