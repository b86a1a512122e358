//! `aif status`: jobs that wait with Slurm's reason, jobs that run, instances, and where to look.

use serde_json::json;

use crate::{
    command::Shell,
    exit::Exit,
    registry::{
        Liveness, Seen, Watch,
        record::{kind_name, state_name},
    },
    slurm::client::{self, Job},
    terminal,
};

/// Arguments of `aif status`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this job
    pub job: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Shows what there is.
///
/// # Errors
/// Where the registry cannot be read, or Slurm is there and does not answer.
pub async fn run(args: Args, shell: &Shell) -> anyhow::Result<Exit> {
    let jobs = if shell.env.find_program("squeue").is_some() {
        client::squeue(shell.env.get("USER"), args.job.as_deref()).await?
    } else {
        Vec::new()
    };
    let mut seen = Watch::new(&shell.store()?).refresh().await;
    if let Some(job) = &args.job {
        seen.retain(|seen| seen.record.job_id == *job);
    }
    if args.json {
        let instances: Vec<_> = seen
            .iter()
            .map(|seen| json!({"record": seen.record, "alive": seen.liveness == Liveness::Alive}))
            .collect();
        terminal::json(&json!({"jobs": jobs, "instances": instances}))?;
        return Ok(Exit::Done);
    }
    print_jobs(&jobs)?;
    print_instances(&seen)?;
    if jobs.is_empty() && seen.is_empty() {
        terminal::line("nothing is running; `aif submit jobs/…` starts something")?;
    }
    Ok(Exit::Done)
}

fn print_jobs(jobs: &[Job]) -> std::io::Result<()> {
    for job in jobs {
        let place = match (job.state.as_str(), job.nodes.as_str()) {
            ("PENDING", _) => format!("waits: {}", job.reason),
            (_, "") => String::new(),
            (_, nodes) => format!("on {nodes}"),
        };
        terminal::line(format_args!(
            "job {:<10} {:<24} {:<10} {} of {}  {place}",
            job.id, job.name, job.state, job.elapsed, job.limit
        ))?;
    }
    Ok(())
}

fn print_instances(seen: &[Seen]) -> std::io::Result<()> {
    for seen in seen {
        let record = &seen.record;
        let endpoint = record.endpoints.api.as_deref().unwrap_or("-");
        terminal::line(format_args!(
            "  {:<8} {:<20} {:<9} {:<7} on {:<10} {endpoint}",
            kind_name(record.kind),
            record.service_name,
            state_name(record.state),
            seen.liveness.name(),
            record.node
        ))?;
    }
    Ok(())
}
