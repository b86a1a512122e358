//! Roles: what a process of ours can be. Each has `Config` and `run(config, context)`.
//!
//! Roles never share memory and never call each other: they meet in the registry and over HTTP.

pub mod bench;
pub mod monitor;
pub mod server;
pub mod stack;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use crate::{
    clock,
    env::Env,
    exit::{Exit, Failure, OrExit as _},
    files,
    launch::cpus,
    registry::Store,
    run::{self, Manifest, RunDir, StepFile},
    shutdown::Shutdown,
    site::Site,
    slurm::job_env::JobEnv,
};

/// What every role is given: facts, not behaviour.
#[derive(Debug, Clone)]
pub struct Context {
    /// The environment.
    pub env: Env,
    /// The site.
    pub site: Site,
    /// The job around it.
    pub job: Option<JobEnv>,
    /// Folder that holds jobs/, recipes/ and sbatch/.
    pub home: PathBuf,
    /// The registry.
    pub store: Store,
    /// The run it belongs to.
    pub run: RunDir,
    /// Does the run belong to a stack (which writes the manifest), or to this role alone?
    pub in_stack: bool,
    /// How it is told to end.
    pub shutdown: Shutdown,
}

impl Context {
    /// The node's name: as Slurm says, else the host's.
    pub fn node(&self) -> String {
        match &self.job {
            Some(job) => job.node.clone(),
            None => nix::unistd::gethostname().map_or_else(
                |_| "localhost".to_owned(),
                |name| name.to_string_lossy().into_owned(),
            ),
        }
    }

    /// The job's id; without Slurm `local-<pid>` of the process that leads, which is the stack in a stack.
    pub fn job_id(&self) -> String {
        match (&self.job, self.env.get("AIF_LOCAL_JOB")) {
            (Some(job), _) => job.job_id.clone(),
            (None, Some(leader)) => leader.to_owned(),
            (None, None) => format!("local-{}", std::process::id()),
        }
    }

    /// Time from TERM to the end that a role may take.
    pub fn grace(&self) -> Duration {
        Duration::from_secs(self.env.number("AIF_GRACE_SECONDS").unwrap_or(25))
    }

    /// A manifest of this run that has just started.
    pub fn manifest(&self, role: &str, launcher: &str) -> Manifest {
        Manifest {
            schema: run::SCHEMA,
            run: self.run.id.clone(),
            aif_version: env!("CARGO_PKG_VERSION").to_owned(),
            role: role.to_owned(),
            state: "running".to_owned(),
            site: self.site.name.clone(),
            cluster: self
                .job
                .as_ref()
                .map_or_else(|| "local".to_owned(), |job| job.cluster.clone()),
            launcher: launcher.to_owned(),
            started_at: clock::now(),
            ended_at: None,
            exit: None,
            problems: Vec::new(),
            job: self.job.as_ref().map(Into::into),
            recipes: Vec::new(),
            steps: BTreeMap::new(),
            instances: Vec::new(),
            stimulus_sha256: BTreeMap::new(),
            accounting: None,
        }
    }
}

/// A role's step file, kept while it runs: its first act, and what it says of itself on the way.
#[derive(Debug)]
pub struct StepNote {
    path: PathBuf,
    step: StepFile,
}

impl StepNote {
    /// Writes the file: the first act of a role, by which the stack knows that the step has started.
    pub fn begin(role: &str, recipe: &str, context: &Context) -> Result<Self, Failure> {
        let job = context.job.as_ref();
        let note = Self {
            path: context.run.step(role),
            step: StepFile {
                schema: run::SCHEMA,
                role: role.to_owned(),
                recipe: recipe.to_owned(),
                job: job.map(|job| job.job_id.clone()),
                step: job.and_then(|job| job.step_id.clone()),
                pid: std::process::id(),
                restart: job.map_or(0, |job| job.restart_count),
                node: context.node(),
                cpus: cpus::allowed(),
                started_at: clock::now(),
                ready_at: None,
                ended_at: None,
                exit: None,
                error: None,
                facts: BTreeMap::new(),
            },
        };
        files::create_folder(note.path.parent().unwrap_or(&context.run.path), 0o755)
            .and_then(|()| files::write_json(&note.path, &note.step))
            .or_exit(Exit::CannotCreate, || {
                "the run folder cannot be written".to_owned()
            })?;
        Ok(note)
    }

    /// Says that the role is ready.
    pub fn ready(&mut self) {
        self.step.ready_at.get_or_insert_with(clock::now);
        self.write();
    }

    /// Adds facts for the manifest.
    pub fn facts<const N: usize>(&mut self, facts: [(&str, serde_json::Value); N]) {
        self.step
            .facts
            .extend(facts.map(|(name, value)| (name.to_owned(), value)));
        self.write();
    }

    /// The file matters less than the run: what cannot be written now is told and forgotten.
    fn write(&self) {
        if let Err(error) = files::write_json(&self.path, &self.step) {
            tracing::warn!(%error, "Cannot write the step file");
        }
    }
}
