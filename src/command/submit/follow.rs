//! Follows a job from the terminal: Slurm is asked while the job waits, files are read once it runs.
//!
//! A run says everything that is to be known of it in the registry and in its manifest, so the controller is left in
//! peace: it is asked again only when the files have been silent for [`SILENCE`].

use std::{path::PathBuf, time::Duration};

use tokio::time::Instant;

use crate::{
    command::Shell,
    exit::{Exit, Failure},
    files,
    registry::{Kind, Record, State, Store},
    report,
    run::{Manifest, RunDir},
    site::Site,
    slurm::client::{self, Job},
    terminal, units,
};

/// Interval between two looks at files.
const LOOK: Duration = Duration::from_millis(500);
/// Interval between two questions to the controller while a job waits: short first, then patient.
const ASK: [u64; 4] = [1, 2, 5, 10];
/// Interval between two questions about a job whose run was interrupted.
const AGAIN: Duration = Duration::from_secs(2);
/// Files that tell nothing for so long mean that the job may be gone.
const SILENCE: Duration = Duration::from_mins(1);
/// The same for a job that has told nothing yet: most often it refused its recipe, and was over before anybody looked.
const FIRST_NEWS: Duration = Duration::from_secs(5);

/// Follows the job; ends with its code.
pub(super) async fn to_the_end(
    id: &str,
    name: &str,
    shell: &Shell,
    site: &Site,
) -> anyhow::Result<Exit> {
    let store = shell.store()?;
    let started = Instant::now();
    wait_for_start(id, &store).await?;
    let mut told = Told::default();
    let mut news = Instant::now();
    loop {
        if let Some((run, manifest)) = find_run(id, shell) {
            if told.once(format!("run {}", run.path.display())) {
                news = Instant::now();
            }
            if manifest.state == "interrupted" && goes_on(id, &mut told).await {
                news = Instant::now();
                tokio::time::sleep(AGAIN).await;
                continue;
            }
            if manifest.state != "running" {
                // the report is written after the manifest
                tokio::time::sleep(LOOK).await;
                terminal::line(report::write(&run)?)?;
                let took = units::human_duration(started.elapsed());
                terminal::line(format_args!("job {id} {} after {took}", manifest.state))?;
                return Ok(manifest.exit.unwrap_or(Exit::Unavailable));
            }
        }
        let mut records = store.records();
        records.retain(|record| record.job_id == id);
        // the server first, as it went
        records.sort_by_key(|record| (record.kind != Kind::Server, record.started_at));
        for record in &records {
            for line in lines_of(record, site, shell) {
                if told.once(line) {
                    news = Instant::now();
                }
            }
            if record
                .heartbeat_at
                .is_some_and(|at| told.beat(&record.instance_id, at.as_second()))
            {
                news = Instant::now();
            }
        }
        let patience = if told.lines.is_empty() {
            FIRST_NEWS
        } else {
            SILENCE
        };
        if news.elapsed() > patience {
            news = Instant::now();
            if client::squeue(None, Some(id))
                .await
                .is_ok_and(|jobs| jobs.is_empty() || jobs.iter().all(has_ended))
            {
                return Err(gone(id, name, shell).await.into());
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn wait_for_start(id: &str, store: &Store) -> anyhow::Result<()> {
    let mut told = Told::default();
    for pause in ASK.into_iter().chain(std::iter::repeat(ASK[ASK.len() - 1])) {
        if store.records().iter().any(|record| record.job_id == id) {
            return Ok(());
        }
        let jobs = client::squeue(None, Some(id)).await?;
        let Some(job) = jobs.first() else {
            return Ok(());
        };
        match job.state.as_str() {
            "PENDING" if job.reason == "None" => told.once("waits for the scheduler".to_owned()),
            "PENDING" => told.once(format!("waits: {}", job.reason)),
            state => {
                told.once(format!("{} on {}", state.to_lowercase(), job.nodes));
                return Ok(());
            }
        };
        tokio::time::sleep(Duration::from_secs(pause)).await;
    }
    Ok(())
}

fn has_ended(job: &Job) -> bool {
    !matches!(
        job.state.as_str(),
        "PENDING" | "RUNNING" | "COMPLETING" | "CONFIGURING" | "SUSPENDED" | "REQUEUED"
    )
}

/// Is a job whose run was interrupted not over? Slurm may have put it into the queue again, and it has another run then.
async fn goes_on(id: &str, told: &mut Told) -> bool {
    let jobs = client::squeue(None, Some(id)).await.unwrap_or_default();
    for job in jobs.iter().filter(|job| job.state == "PENDING") {
        told.once(format!("is queued again: {}", job.reason));
    }
    jobs.iter().any(|job| !has_ended(job))
}

/// The newest run folder of a job, and what it says of itself.
fn find_run(id: &str, shell: &Shell) -> Option<(RunDir, Manifest)> {
    let folders = [shell.home.join("results"), shell.results_folder()];
    let entries = folders
        .iter()
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .flatten()
        .flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| named_after(path, id))
        .filter_map(|path| {
            let run = RunDir::open(&path).ok()?;
            let manifest: Manifest = files::read_json(&run.manifest()).ok()?;
            let job = manifest.job.as_ref().filter(|job| job.job_id == id)?;
            Some((job.restart_count, run, manifest))
        })
        // a job that was queued again has a run for each time
        .max_by_key(|(restart, ..)| *restart)
        .map(|(_, run, manifest)| (run, manifest))
}

fn named_after(path: &std::path::Path, id: &str) -> bool {
    path.file_name()
        .is_some_and(|name| name.to_string_lossy().contains(&format!("-{id}")))
}

/// What is to be told of a record.
fn lines_of(record: &Record, site: &Site, shell: &Shell) -> Vec<String> {
    let port = |url: &Option<String>| {
        url.as_deref()
            .and_then(|url| url.rsplit(':').next())
            .unwrap_or("?")
            .to_owned()
    };
    match (record.kind, record.state) {
        (Kind::Server, State::Starting) => vec![format!("server  starting on {}", record.node)],
        (Kind::Server, State::Ready) => {
            vec![format!(
                "server  ready on {}, port {}",
                record.node,
                port(&record.endpoints.api)
            )]
        }
        (Kind::Monitor, State::Ready) => {
            let port = port(&record.endpoints.api);
            let user = shell.env.get("USER").unwrap_or("$USER");
            // without a name from the site, this machine: the job was submitted from it
            let here = nix::unistd::gethostname()
                .ok()
                .and_then(|name| name.into_string().ok());
            let login = site
                .login_host
                .clone()
                .or(here)
                .unwrap_or_else(|| "LOGIN_NODE".to_owned());
            let node = &record.node;
            let mut lines = vec![format!(
                "monitor ready on {node}: http://{}:{port}",
                record.address
            )];
            if let Some(file) = &record.auth.key_file {
                lines.push(format!("        user aif, password in {file}"));
            }
            lines.push(format!(
                "        ssh -L {port}:{node}:{port} {user}@{login}"
            ));
            lines.push(format!(
                "        ssh -J {user}@{login} -L {port}:localhost:{port} {user}@{node}"
            ));
            lines
        }
        (Kind::Bench, State::Ready) => vec![format!(
            "bench   {} running on {}",
            record.recipe_name, record.node
        )],
        (Kind::Bench, State::Done) => vec![format!("bench   {} done", record.recipe_name)],
        _ => Vec::new(),
    }
}

/// The failure of a job that ended without a word, with what Slurm kept of it.
async fn gone(id: &str, name: &str, shell: &Shell) -> Failure {
    let lines = client::sacct(id, &["State", "ExitCode", "NodeList"], None)
        .await
        .unwrap_or_default();
    let fields = lines.last();
    let field = |name: &str| {
        fields
            .and_then(|line| line.get(name))
            .map_or("", String::as_str)
    };
    let (exit, what) = end_of(field("State"), field("ExitCode"), field("NodeList"));
    let output: PathBuf = shell.home.join(format!("{name}-{id}.out"));
    let last = files::tail(&output, 20).join("\n");
    let message = match what {
        Some(what) => format!("job {id} {what}"),
        None => format!(
            "job {id} has ended without closing its run; its output {} ends with:\n{last}",
            output.display()
        ),
    };
    Failure::new(exit, message)
}

/// The code for how Slurm says that a job ended, and the reason where Slurm knows one.
fn end_of(state: &str, code: &str, nodes: &str) -> (Exit, Option<String>) {
    // `CANCELLED by 1000`
    let word = state.split(' ').next().unwrap_or_default();
    match word {
        "CANCELLED" if nodes.is_empty() || nodes == "None assigned" => {
            let what = "was cancelled while it waited: nothing was started";
            (Exit::Terminated, Some(what.to_owned()))
        }
        "CANCELLED" => (Exit::Terminated, Some("was cancelled".to_owned())),
        "TIMEOUT" | "DEADLINE" => (Exit::TimeLimit, Some("met its time limit".to_owned())),
        "NODE_FAIL" | "BOOT_FAIL" | "PREEMPTED" => {
            let what = if word == "PREEMPTED" {
                "was preempted".to_owned()
            } else {
                format!("lost a node ({nodes})")
            };
            let advice = "submit it again; `aif report` makes a report of what is left of its run";
            (Exit::TryAgain, Some(format!("{what}: {advice}")))
        }
        _ => {
            let code = code.split(':').next().and_then(|code| code.parse().ok());
            let exit = code
                .and_then(Exit::from_code)
                .filter(|exit| *exit != Exit::Done);
            (exit.unwrap_or(Exit::Unavailable), None)
        }
    }
}

/// What was told already.
#[derive(Debug, Default)]
struct Told {
    lines: std::collections::BTreeSet<String>,
    beats: std::collections::BTreeMap<String, i64>,
}

impl Told {
    /// Tells a line once; says whether it was new.
    fn once(&mut self, line: String) -> bool {
        let new = !self.lines.contains(&line);
        if new {
            let _ = terminal::line(&line);
            self.lines.insert(line);
        }
        new
    }

    /// Is this heartbeat a new one?
    fn beat(&mut self, instance: &str, at: i64) -> bool {
        self.beats.insert(instance.to_owned(), at) != Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_slurm_says_of_an_end_has_its_code() {
        let cases = [
            (
                "CANCELLED by 1000",
                "0:0",
                "None assigned",
                Exit::Terminated,
            ),
            ("CANCELLED by 1000", "0:0", "node1", Exit::Terminated),
            ("NODE_FAIL", "0:0", "node1", Exit::TryAgain),
            ("PREEMPTED", "0:0", "node1", Exit::TryAgain),
            ("TIMEOUT", "0:0", "node1", Exit::TimeLimit),
            ("FAILED", "65:0", "node1", Exit::Recipe),
            ("FAILED", "1:0", "node1", Exit::Unavailable),
            ("COMPLETED", "0:0", "node1", Exit::Unavailable),
            ("", "", "", Exit::Unavailable),
        ];
        for (state, code, nodes, exit) in cases {
            assert_eq!(end_of(state, code, nodes).0, exit, "{state} {code}");
        }
        let (_, what) = end_of("NODE_FAIL", "0:0", "node[1-2]");
        let what = what.unwrap();
        assert!(
            what.starts_with("lost a node (node[1-2]): submit it again"),
            "{what}"
        );
    }
}
