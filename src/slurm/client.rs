//! The few calls that are made to Slurm's commands: each with a deadline, each answer parsed by its own delimiter.
//!
//! Used before a run (`sbatch`; what there is: `sinfo`, `scontrol ping`, `sacctmgr`), while a job waits (`squeue`), to end
//! one (`scancel`), and once after a run (`sacct`); never while a run is under way. A state that this program has never heard of is passed on as it is: Slurm invents
//! new ones. What can fail: no Slurm on the PATH, a controller that does not answer, a refusal, each told apart.

use std::{path::Path, process::Stdio, time::Duration};

use tokio::process::Command;

use super::accounting::Line;

/// Calls give up after this long.
const DEADLINE: Duration = Duration::from_secs(30);
/// The question for what a run did cost, which is asked at its end: nodes are held for so long.
const LAST_QUESTION: Duration = Duration::from_secs(10);

/// How [`sacct`] tells times, as `strftime` and `strptime` have it.
pub const TIME_FORMAT: &str = "%Y-%m-%dT%H:%M:%S%z";

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command is not there.
    #[error("{program} is not on the PATH: is this a login node of a Slurm cluster?")]
    Missing {
        /// The command.
        program: &'static str,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// No answer in time.
    #[error("{program} did not answer within {} s: the controller may be busy, try again", limit.as_secs())]
    Deadline {
        /// The command.
        program: &'static str,
        /// Time that it had.
        limit: Duration,
    },
    /// It said no.
    #[error("{program} refused: {message}")]
    Refused {
        /// The command.
        program: &'static str,
        /// Its words.
        message: String,
    },
}

/// A job as `squeue` shows it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Job {
    /// Its id (`12_3` in an array, `12+1` in a heterogeneous job).
    pub id: String,
    /// Its name.
    pub name: String,
    /// Slurm's state.
    pub state: String,
    /// Why it waits.
    pub reason: String,
    /// Time used.
    pub elapsed: String,
    /// Time limit.
    pub limit: String,
    /// Nodes, as a host list.
    pub nodes: String,
}

/// A partition as `sinfo` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Its name.
    pub name: String,
    /// Does it start jobs?
    pub up: bool,
    /// Its nodes, as a host list.
    pub nodes: String,
}

async fn call(program: &'static str, arguments: &[String]) -> Result<String, Error> {
    call_in(program, arguments, None, &[], DEADLINE).await
}

async fn call_in(
    program: &'static str,
    arguments: &[String],
    folder: Option<&Path>,
    variables: &[(&str, &str)],
    limit: Duration,
) -> Result<String, Error> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    if let Some(folder) = folder {
        command.current_dir(folder);
    }
    let output = tokio::time::timeout(limit, command.output())
        .await
        .map_err(|_| Error::Deadline { program, limit })?
        .map_err(|source| Error::Missing { program, source })?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        let message = String::from_utf8_lossy(&output.stderr)
            .trim()
            .replace('\n', "; ");
        Err(Error::Refused { program, message })
    }
}

/// Submits a job from this folder; gives its id. The job gets our environment, and in it these variables.
pub async fn sbatch(
    arguments: &[String],
    folder: &Path,
    variables: &[(&str, &str)],
) -> Result<String, Error> {
    let mut all = vec!["--parsable".to_owned()];
    all.extend_from_slice(arguments);
    let answer = call_in("sbatch", &all, Some(folder), variables, DEADLINE).await?;
    // `123` or, in a federation, `123;cluster`
    Ok(answer
        .trim()
        .split(';')
        .next()
        .unwrap_or_default()
        .to_owned())
}

/// Jobs of this user, or this one job. A job that Slurm has forgotten gives an empty list.
pub async fn squeue(user: Option<u32>, job: Option<&str>) -> Result<Vec<Job>, Error> {
    let mut arguments: Vec<String> = ["--noheader", "--all", "--format=%i|%j|%T|%r|%M|%l|%N"]
        .map(str::to_owned)
        .to_vec();
    if let Some(user) = user {
        arguments.push(format!("--user={user}"));
    }
    if let Some(job) = job {
        arguments.push(format!("--jobs={job}"));
    }
    match call("squeue", &arguments).await {
        Ok(answer) => Ok(answer.lines().filter_map(parse_squeue).collect()),
        Err(Error::Refused { message, .. }) if message.contains("Invalid job id") => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// A line of `squeue`. A job's name may hold the delimiter: the other fields are taken from both ends.
fn parse_squeue(line: &str) -> Option<Job> {
    let (id, rest) = line.split_once('|')?;
    let mut from_end = rest.rsplitn(6, '|');
    let nodes = from_end.next()?;
    let limit = from_end.next()?;
    let elapsed = from_end.next()?;
    let reason = from_end.next()?;
    let state = from_end.next()?;
    let name = from_end.next()?;
    let own = str::to_owned;
    Some(Job {
        id: own(id),
        name: own(name),
        state: own(state),
        reason: own(reason),
        elapsed: own(elapsed),
        limit: own(limit),
        nodes: own(nodes),
    })
}

/// What accounting says of a job, field by field; a heterogeneous job has a line for each component. No line where it
/// does not know the job. Of a named cluster it looks at no other's jobs of this number.
pub async fn sacct(job: &str, fields: &[&str], cluster: Option<&str>) -> Result<Vec<Line>, Error> {
    let mut arguments = vec![
        "--noheader".to_owned(),
        "--allocations".to_owned(),
        "--parsable2".to_owned(),
        format!("--jobs={job}"),
        format!("--format={}", fields.join(",")),
    ];
    arguments.extend(cluster.map(|name| format!("--clusters={name}")));
    // the times of the default form are the machine's own and say nothing of their zone
    let zone = [("SLURM_TIME_FORMAT", TIME_FORMAT)];
    let answer = call_in("sacct", &arguments, None, &zone, LAST_QUESTION).await?;
    Ok(parse_sacct(&answer, fields))
}

/// The lines of `sacct --parsable2`, by these fields.
pub(super) fn parse_sacct(answer: &str, fields: &[&str]) -> Vec<Line> {
    let lines = answer.lines().filter(|line| !line.trim().is_empty());
    let fields_of = |line: &str| {
        let names = fields.iter().map(|field| (*field).to_owned());
        names.zip(line.split('|').map(str::to_owned)).collect()
    };
    lines.map(fields_of).collect()
}

/// Ends a job that waits, or tells the batch script of one that runs to end.
pub async fn scancel(job: &str, running: bool) -> Result<(), Error> {
    let mut arguments = Vec::new();
    if running {
        arguments.extend(["--batch".to_owned(), "--signal=TERM".to_owned()]);
    }
    arguments.push(job.to_owned());
    call("scancel", &arguments).await.map(drop)
}

/// The version of Slurm's commands, as they say it (`24.11.5`). Asks nobody.
pub async fn version() -> Result<String, Error> {
    let answer = call("sinfo", &["--version".to_owned()]).await?;
    // `slurm 24.11.5`, and Debian's `slurm-wlm 22.05.8`
    let words = answer.split_whitespace();
    Ok(words.last().unwrap_or_default().to_owned())
}

/// Which controllers answer, in Slurm's own words, one a line.
pub async fn ping() -> Result<Vec<String>, Error> {
    let answer = match call("scontrol", &["ping".to_owned()]).await {
        // where none answers it says so on its standard output, and fails
        Err(Error::Refused { message, .. }) if message.is_empty() => return Ok(Vec::new()),
        answer => answer?,
    };
    Ok(answer.lines().map(|line| line.trim().to_owned()).collect())
}

/// The name of the cluster, which jobs find in `SLURM_CLUSTER_NAME`; `None` where the controller does not tell.
pub async fn cluster() -> Result<Option<String>, Error> {
    let answer = call("scontrol", &["show".to_owned(), "config".to_owned()]).await?;
    Ok(parse_cluster(&answer))
}

fn parse_cluster(answer: &str) -> Option<String> {
    let mut pairs = answer.lines().filter_map(|line| line.split_once('='));
    let (_, name) = pairs.find(|(key, _)| key.trim() == "ClusterName")?;
    Some(name.trim().to_owned())
}

/// The partitions, hidden ones included.
pub async fn partitions() -> Result<Vec<Partition>, Error> {
    let arguments = ["--noheader", "--all", "--format=%R|%a|%N"].map(str::to_owned);
    let answer = call("sinfo", &arguments).await?;
    Ok(answer.lines().filter_map(parse_sinfo).collect())
}

fn parse_sinfo(line: &str) -> Option<Partition> {
    let mut fields = line.split('|');
    Some(Partition {
        name: fields.next()?.to_owned(),
        up: fields.next()? == "up",
        nodes: fields.next()?.to_owned(),
    })
}

/// The accounts of a user.
pub async fn accounts(user: &str) -> Result<Vec<String>, Error> {
    let arguments = [
        "--noheader".to_owned(),
        "--parsable2".to_owned(),
        "show".to_owned(),
        "associations".to_owned(),
        format!("user={user}"),
        "format=account".to_owned(),
    ];
    let answer = call("sacctmgr", &arguments).await?;
    let mut names: Vec<String> = answer.lines().map(str::to_owned).collect();
    names.sort();
    names.dedup();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_read_as_sinfo_prints_them() {
        let partition = parse_sinfo("gpu|up|node[1-3]").unwrap();
        assert_eq!((partition.name.as_str(), partition.up), ("gpu", true));
        assert_eq!(partition.nodes, "node[1-3]");
        assert!(!parse_sinfo("old|inact|n1").unwrap().up);
        assert_eq!(parse_sinfo("garbage"), None);
    }

    #[test]
    fn the_cluster_is_named_in_its_configuration() {
        let answer = "Configuration data as of 2026-11-24T16:00:00\nAuthType                = auth/munge\n\
                      ClusterName             = meluxina\nCommunicationParameters = (null)\n";
        assert_eq!(parse_cluster(answer).as_deref(), Some("meluxina"));
        assert_eq!(parse_cluster(""), None);
    }

    #[test]
    fn a_name_with_the_delimiter_is_read() {
        let job = parse_squeue("12+0|a|b c|PENDING|Resources|0:00|15:00|").unwrap();
        assert_eq!(
            (job.id.as_str(), job.name.as_str(), job.state.as_str()),
            ("12+0", "a|b c", "PENDING")
        );
        assert_eq!(
            (job.reason.as_str(), job.limit.as_str(), job.nodes.as_str()),
            ("Resources", "15:00", "")
        );
        assert_eq!(parse_squeue("garbage"), None);
    }
}
