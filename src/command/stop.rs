//! `aif stop`: ends a service, a job or everything of this user, so that results are kept.
//!
//! A job that runs gets TERM at its batch script, which ends its roles in their order; one that waits is cancelled.
//! Without Slurm the process that wrote the record is told, after a look that it still is one of ours.

use std::collections::{BTreeMap, BTreeSet};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    command::Shell,
    exit::{Exit, Failure, OrExit as _},
    registry::{Kind, Record},
    slurm::{client, hostlist},
    terminal,
};

/// Arguments of `aif stop`.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct Args {
    /// The service whose instances are to end
    pub service: Option<String>,
    /// The job that is to end
    #[arg(long, value_name = "JOB")]
    pub job: Option<String>,
    /// Every job that has an instance in the registry
    #[arg(long)]
    pub all: bool,
}

/// Tells the jobs to end.
///
/// # Errors
/// Where nothing is to be ended, or Slurm refuses.
pub async fn run(args: Args, shell: &Shell) -> anyhow::Result<Exit> {
    let records = shell.store()?.records();
    let wanted = |record: &&Record| {
        // a process of another machine cannot be told from here, and its number may be a stranger's
        record.kind != Kind::Static
            && !record.is_out_of_reach()
            && match &args.service {
                Some(service) => record.service_name == *service,
                None => true,
            }
    };
    // what a record tells of its job's nodes; nothing is known of a job that was named by its id
    let jobs: BTreeMap<String, BTreeSet<String>> = match &args.job {
        Some(job) => BTreeMap::from([(job.clone(), BTreeSet::new())]),
        None => records
            .iter()
            .filter(wanted)
            .fold(BTreeMap::new(), |mut jobs, record| {
                let nodes: &mut BTreeSet<String> = jobs.entry(record.job_id.clone()).or_default();
                nodes.insert(record.node.clone());
                jobs
            }),
    };
    if jobs.is_empty() {
        let what = args.service.as_deref().unwrap_or("any service");
        let message =
            format!("no instance of {what} is registered; `aif status` shows jobs that still wait");
        return Err(Failure::new(Exit::Unavailable, message).into());
    }
    for (job, nodes) in &jobs {
        match job.strip_prefix("local-") {
            Some(pid) => stop_local(pid)?,
            None => stop_job(job, nodes).await?,
        }
    }
    Ok(Exit::Done)
}

/// Ends a job of this cluster. Clusters that share a home may both have a job of this number: where its nodes are none
/// of those that registered, it is another one.
async fn stop_job(job: &str, registered: &BTreeSet<String>) -> anyhow::Result<()> {
    let found = client::squeue(None, Some(job)).await?.into_iter().next();
    if let Some(found) = &found {
        let nodes = hostlist::expand(&found.nodes).unwrap_or_default();
        let known = !registered.is_empty() && !nodes.is_empty();
        if known && !nodes.iter().any(|node| registered.contains(node)) {
            terminal::note(format_args!(
                "job {job} of this cluster runs on {}, not where the service is registered: it is left alone",
                found.nodes
            ));
            return Ok(());
        }
    }
    match found.as_ref().map(|job| job.state.as_str()) {
        None => {
            let message = format!("Slurm knows no job {job}: it has ended, or never was");
            if registered.is_empty() {
                return Err(Failure::new(Exit::Unavailable, message).into());
            }
            terminal::line(message)?;
        }
        Some("PENDING") => {
            client::scancel(job, false).await?;
            terminal::line(format_args!("job {job} was waiting and is cancelled"))?;
        }
        Some(_) => {
            client::scancel(job, true).await?;
            terminal::line(format_args!(
                "job {job} is told to end; it keeps its results"
            ))?;
        }
    }
    Ok(())
}

fn stop_local(pid: &str) -> Result<(), Failure> {
    let pid: i32 = pid
        .parse()
        .or_exit(Exit::Bug, || format!("local-{pid} names no process"))?;
    // the number may belong to a stranger by now: it must be this program
    let own = std::fs::read_link("/proc/self/exe")
        .ok()
        .and_then(|path| Some(path.file_name()?.to_owned()));
    let other = std::fs::read_link(format!("/proc/{pid}/exe"))
        .ok()
        .and_then(|path| Some(path.file_name()?.to_owned()));
    if other.is_none() || other != own {
        terminal::note(format_args!("process {pid} has ended already"));
        return Ok(());
    }
    kill(Pid::from_raw(pid), Signal::SIGTERM).or_exit(Exit::NoPermission, || {
        format!("process {pid} cannot be told to end")
    })?;
    terminal::note(format_args!(
        "process {pid} is told to end; it keeps its results"
    ));
    Ok(())
}
