//! `aif stop`: ends a service, a job or everything of this user, so that results are kept.
//!
//! A job that runs gets TERM at its batch script, which ends its roles in their order; one that waits is cancelled.
//! Without Slurm the process that wrote the record is told, after a look that it still is one of ours. What cannot be ended
//! keeps nothing else from it; the code is then that of the first such failure.
//!
//! `--all` ends what is registered. A job that still waits has registered nothing, and by Slurm alone nobody knows what a
//! user's job is for: those are named, with the command that ends them, and left alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::Path,
};

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
    /// Every job that has an instance in the registry; jobs that still wait are named, and left alone
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
    let waiting = if args.all {
        waiting(shell, &jobs).await
    } else {
        0
    };
    if jobs.is_empty() {
        if waiting > 0 {
            let message = "no service is registered; the jobs that wait are left alone";
            return Err(Failure::new(Exit::Unavailable, message).into());
        }
        let what = args.service.as_deref().unwrap_or("any service");
        let message =
            format!("no instance of {what} is registered; `aif status` shows jobs that still wait");
        return Err(Failure::new(Exit::Unavailable, message).into());
    }
    let mut first = None;
    for (job, nodes) in &jobs {
        let ended = match job.strip_prefix("local-") {
            Some(pid) => stop_local(pid).map_err(anyhow::Error::from),
            None => stop_job(job, nodes).await,
        };
        match (ended, &first) {
            (Ok(()), _) => {}
            (Err(error), None) => first = Some(error),
            (Err(error), Some(_)) => terminal::note(format_args!("{job} too: {error:#}")),
        }
    }
    first.map_or(Ok(Exit::Done), Err)
}

/// Names this user's jobs that wait and are not among those that are ended; tells how many they are.
async fn waiting(shell: &Shell, ended: &BTreeMap<String, BTreeSet<String>>) -> usize {
    if shell.env.find_program("squeue").is_none() {
        return 0;
    }
    let jobs = client::squeue(Some(nix::unistd::getuid().as_raw()), None).await;
    let jobs = jobs.unwrap_or_else(|error| {
        terminal::note(format_args!("which jobs still wait is not known: {error}"));
        Vec::new()
    });
    // a heterogeneous job waits once for each of its components
    let id = |id: &str| id.split('+').next().unwrap_or_default().to_owned();
    let waiting: BTreeMap<String, &str> = jobs
        .iter()
        .filter(|job| job.state == "PENDING")
        .map(|job| (id(&job.id), job.name.as_str()))
        .filter(|(id, _)| !ended.contains_key(id))
        .collect();
    for (id, name) in &waiting {
        terminal::note(format_args!(
            "job {id} ({name}) still waits and is left alone: aif stop --job {id}"
        ));
    }
    waiting.len()
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
    let own = program("self");
    let other = program(&pid.to_string());
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

/// The name of the program that a process runs, also where its file was removed or made anew meanwhile.
fn program(process: &str) -> Option<OsString> {
    let link = std::fs::read_link(format!("/proc/{process}/exe")).ok()?;
    let name = Path::new(&link).file_name()?.as_bytes();
    let name = name.strip_suffix(b" (deleted)").unwrap_or(name);
    Some(OsString::from_vec(name.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_was_made_anew_is_known_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("aif");
        std::fs::copy("/bin/sleep", &file).unwrap();
        let mut child = std::process::Command::new(&file).arg("60").spawn().unwrap();
        let pid = child.id().to_string();
        assert_eq!(program(&pid), Some("aif".into()));
        std::fs::remove_file(&file).unwrap();
        assert_eq!(program(&pid), Some("aif".into()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(program("0"), None);
    }
}
