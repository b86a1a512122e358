//! A run: one directory that holds everything of one execution, and the manifest that says what it was.
//!
//! A stack makes the directory and gives it to its steps by `AIF_RUN_DIR`; a role that runs alone makes its own. It is
//! made by `mkdir`, so two jobs cannot share one by accident: where it exists and carries the same id it is joined, else
//! the next free name `-2`, `-3` … is taken.
//!
//! `steps/<role>.json` is each role's own first act and last word ([`StepFile`]): Slurm's step ids come in no order, so
//! only the task itself can say which step it is.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    exit::Exit,
    files::{self, Error},
    site::Price,
    slurm::job_env::JobEnv,
};

/// The version of manifest and step file.
pub const SCHEMA: u32 = 1;

/// The id of a run, by DESIGN: `<service>-<job>[-r<restart>]` for a stack.
pub fn stack_id(service: &str, job: Option<&JobEnv>) -> String {
    match job {
        Some(job) => format!("{service}-{}{}", job.job_id, restart(job)),
        None => format!("{service}-{}", local()),
    }
}

/// The id of a run of one role alone: `<service>-<role>-<job>.<step>[-r<restart>]`.
pub fn role_id(service: &str, role: &str, job: Option<&JobEnv>) -> String {
    match job {
        Some(job) => {
            let step = job.step_id.as_deref().unwrap_or("batch");
            format!("{service}-{role}-{}.{step}{}", job.job_id, restart(job))
        }
        None => format!("{service}-{role}-{}", local()),
    }
}

fn restart(job: &JobEnv) -> String {
    if job.restart_count > 0 {
        format!("-r{}", job.restart_count)
    } else {
        String::new()
    }
}

fn local() -> String {
    format!(
        "local-{}-{}",
        std::process::id(),
        crate::clock::unix_milliseconds()
    )
}

/// A run's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunDir {
    /// The run's id.
    pub id: String,
    /// The directory.
    pub path: PathBuf,
}

impl RunDir {
    /// Makes the directory below `root`, or joins it where it is of the same run: the same id on the same cluster.
    pub fn create(root: &Path, id: &str, cluster: &str) -> Result<Self, Error> {
        files::create_folder(root, 0o755)?;
        for attempt in 1..100 {
            let name = if attempt == 1 {
                id.to_owned()
            } else {
                format!("{id}-{attempt}")
            };
            let path = root.join(&name);
            match fs::create_dir(&path) {
                Ok(()) => {
                    files::write_json(
                        &path.join("run.json"),
                        &serde_json::json!({"schema": SCHEMA, "run": id, "cluster": cluster}),
                    )?;
                    return Ok(Self { id: name, path });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    let own = files::read_json::<serde_json::Value>(&path.join("run.json"));
                    if own.is_ok_and(|own| own["run"] == id && own["cluster"] == cluster) {
                        return Ok(Self { id: name, path });
                    }
                }
                Err(source) => return Err(Error::new("create folder", &path, source)),
            }
        }
        Err(Error::new(
            "create folder",
            &root.join(id),
            io::ErrorKind::AlreadyExists.into(),
        ))
    }

    /// The directory of an existing run: given by a stack, or named by a user.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let path = fs::canonicalize(path).map_err(|source| Error::new("open run", path, source))?;
        let id = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        Ok(Self { id, path })
    }

    /// The cluster that it runs, or ran, on.
    pub fn cluster(&self) -> Option<String> {
        let own: serde_json::Value = files::read_json(&self.path.join("run.json")).ok()?;
        Some(own["cluster"].as_str()?.to_owned())
    }

    /// The manifest.
    pub fn manifest(&self) -> PathBuf {
        self.path.join("manifest.json")
    }

    /// The folder of a bench's results.
    pub fn bench(&self, name: &str) -> PathBuf {
        self.path.join("bench").join(name)
    }

    /// The folder of the metrics archive.
    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics")
    }

    /// The log of a role (or of an engine: `engine-<instance>`).
    pub fn log(&self, name: &str) -> PathBuf {
        self.path.join("logs").join(format!("{name}.log"))
    }

    /// The names of the logs that there are, sorted.
    pub fn logs(&self) -> Vec<String> {
        names_in(&self.path.join("logs"), ".log")
    }

    /// The step file of a role.
    pub fn step(&self, role: &str) -> PathBuf {
        self.path.join("steps").join(format!("{role}.json"))
    }

    /// The names of the benches that left a folder, sorted.
    pub fn benches(&self) -> Vec<String> {
        names_in(&self.path.join("bench"), "")
    }

    /// The step files that can be read, by role.
    pub fn steps(&self) -> BTreeMap<String, StepFile> {
        names_in(&self.path.join("steps"), ".json")
            .into_iter()
            .filter_map(|role| Some((role.clone(), files::read_json(&self.step(&role)).ok()?)))
            .collect()
    }
}

fn names_in(folder: &Path, suffix: &str) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.'))
        .filter_map(|name| name.strip_suffix(suffix).map(str::to_owned))
        .collect();
    names.sort();
    names
}

/// What a role says of itself: written first when it starts, again when it is ready, last when it ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepFile {
    /// Version of this format.
    pub schema: u32,
    /// `server`, `monitor`, `bench-<name>`.
    pub role: String,
    /// The recipe.
    pub recipe: String,
    /// The job.
    #[serde(default)]
    pub job: Option<String>,
    /// The step.
    #[serde(default)]
    pub step: Option<String>,
    /// The process.
    pub pid: u32,
    /// The job's incarnation.
    #[serde(default)]
    pub restart: u32,
    /// The node.
    pub node: String,
    /// CPUs that it took.
    #[serde(default)]
    pub cpus: Vec<usize>,
    /// When it started.
    pub started_at: Timestamp,
    /// When it was ready (server: engine ready; bench: first request; monitor: Prometheus ready).
    #[serde(default)]
    pub ready_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default)]
    pub ended_at: Option<Timestamp>,
    /// How it ended.
    #[serde(default)]
    pub exit: Option<Exit>,
    /// The error it ended with.
    #[serde(default)]
    pub error: Option<String>,
    /// Facts that belong into the manifest: image and its digest, engine's version, Prometheus's address …
    #[serde(default)]
    pub facts: BTreeMap<String, serde_json::Value>,
}

/// A recipe in the manifest: as written, and as planned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecipeEntry {
    /// `server`, `monitor` or `client`.
    pub kind: String,
    /// The file it came from.
    pub path: String,
    /// The text as written.
    pub text: String,
    /// Overrides from the command line.
    #[serde(default)]
    pub overrides: Vec<String>,
    /// The plan.
    pub plan: serde_json::Value,
}

/// What a run was: `manifest.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this format.
    pub schema: u32,
    /// The run's id.
    pub run: String,
    /// Version of aif.
    pub aif_version: String,
    /// `stack`, or the role that ran alone.
    pub role: String,
    /// `running`, then `complete`, `interrupted` or `failed`.
    pub state: String,
    /// The site.
    pub site: String,
    /// The cluster; `local` without Slurm.
    pub cluster: String,
    /// How roles were started: `srun` or `local`.
    pub launcher: String,
    /// When it started.
    pub started_at: Timestamp,
    /// When it ended.
    #[serde(default)]
    pub ended_at: Option<Timestamp>,
    /// How it ended.
    #[serde(default)]
    pub exit: Option<Exit>,
    /// Why it did not end well; sentences.
    #[serde(default)]
    pub problems: Vec<String>,
    /// The job, as its environment told.
    #[serde(default)]
    pub job: Option<JobFacts>,
    /// Recipes.
    #[serde(default)]
    pub recipes: Vec<RecipeEntry>,
    /// Steps, by role.
    #[serde(default)]
    pub steps: BTreeMap<String, StepFile>,
    /// Instances of other runs that this run met.
    #[serde(default)]
    pub instances: Vec<String>,
    /// SHA-256 of the stimulus of each bench.
    #[serde(default)]
    pub stimulus_sha256: BTreeMap<String, String>,
    /// What accounting says of the job; `None` where it was not asked or did not answer.
    #[serde(default)]
    pub accounting: Option<serde_json::Value>,
    /// What resources of the site cost, by its file; `None` where it does not say.
    #[serde(default)]
    pub price: Option<Price>,
    /// How long the way from submission to the first token took, phase by phase; written at the end.
    #[serde(default)]
    pub phases: Option<serde_json::Value>,
}

/// The job's facts as the manifest keeps them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobFacts {
    /// The job's id.
    pub job_id: String,
    /// The cluster.
    pub cluster: String,
    /// Nodes, as a host list.
    pub nodes: String,
    /// Partition.
    #[serde(default)]
    pub partition: Option<String>,
    /// Account.
    #[serde(default)]
    pub account: Option<String>,
    /// Incarnation.
    #[serde(default)]
    pub restart_count: u32,
    /// CPUs of the node, whether the job has them or not.
    #[serde(default)]
    pub node_cpus: Option<u32>,
    /// When it started.
    #[serde(default)]
    pub started_at: Option<Timestamp>,
    /// Projected end.
    #[serde(default)]
    pub ends_at: Option<Timestamp>,
}

impl From<&JobEnv> for JobFacts {
    fn from(job: &JobEnv) -> Self {
        Self {
            job_id: job.job_id.clone(),
            cluster: job.cluster.clone(),
            nodes: if job.components.is_empty() {
                job.nodes.clone()
            } else {
                job.components.join(",")
            },
            partition: job.partition.clone(),
            account: job.account.clone(),
            restart_count: job.restart_count,
            node_cpus: node_cpus(),
            started_at: job.started_at,
            ends_at: job.ends_at,
        }
    }
}

/// CPUs of this node that are on: what a job has that has it all. Neither affinity nor a cgroup changes it.
fn node_cpus() -> Option<u32> {
    let ranges = fs::read_to_string("/sys/devices/system/cpu/online").ok()?;
    count_cpus(ranges.trim())
}

/// How many are in `0-3,8`.
fn count_cpus(ranges: &str) -> Option<u32> {
    let count = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        Some(last.checked_sub(first)? + 1)
    };
    ranges.split(',').map(count).sum()
}

/// The SHA-256 of the stimulus of each bench that left results.
pub fn stimuli(run: &RunDir) -> BTreeMap<String, String> {
    let hash = |name: &str| {
        let results: serde_json::Value =
            files::read_json(&run.bench(name).join("results.json")).ok()?;
        Some(results["stimulus_sha256"].as_str()?.to_owned())
    };
    run.benches()
        .into_iter()
        .filter_map(|name| Some((name.clone(), hash(&name)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_of_a_node_are_counted() {
        assert_eq!(count_cpus("0-3,8"), Some(5));
        assert_eq!(count_cpus("0"), Some(1));
        assert_eq!(count_cpus("3-0"), None);
        assert_eq!(count_cpus(""), None);
    }

    #[test]
    fn a_run_is_joined_by_its_id_and_never_shared_by_accident() {
        let root = tempfile::tempdir().unwrap();
        let create = |id, cluster| RunDir::create(root.path(), id, cluster).unwrap();
        let first = create("vllm-7", "one");
        assert_eq!(create("vllm-7", "one"), first);
        // two clusters that share a home give out the same job ids
        assert_eq!(create("vllm-7", "two").id, "vllm-7-2");
        assert_eq!(create("vllm-7", "two").id, "vllm-7-2");
        fs::create_dir(root.path().join("vllm-8")).unwrap();
        assert_eq!(create("vllm-8", "one").id, "vllm-8-2");
    }
}
