//! Subcommands: one file each, with its arguments and its `run`.

pub mod compare;
pub mod completions;
pub mod doctor;
pub mod export;
pub mod images;
pub mod logs;
pub mod open;
pub mod recipes;
pub mod report;
pub mod services;
pub mod status;
pub mod stop;
pub mod submit;
pub mod wait;

use std::path::PathBuf;

use anyhow::Context as _;
use jiff::Timestamp;

use crate::{
    env::Env,
    exit::{Exit, Failure, OrExit as _},
    files,
    registry::{Kind, Liveness, State, Store, Watch},
    run::RunDir,
    site::Site,
    slurm::job_env::JobEnv,
};

/// What every command is given.
#[derive(Debug, Clone)]
pub struct Shell {
    /// The environment; a site named by `--site` stands in it as `AIF_SITE`, so that whatever is started has it, too.
    pub env: Env,
    /// Folder that holds jobs/, recipes/ and sbatch/.
    pub home: PathBuf,
}

/// The Prometheus of a run that goes on.
#[derive(Clone)]
pub struct LiveMonitor {
    /// Its URL.
    pub url: String,
    /// Its password.
    pub password: String,
    /// Since when it watches.
    pub since: Timestamp,
}

impl Shell {
    /// The job around this process.
    pub fn job(&self) -> Option<JobEnv> {
        JobEnv::from_env(&self.env)
    }

    /// The site.
    pub fn site(&self) -> Result<Site, Failure> {
        Site::load(&self.env, &self.home)
            .or_exit(Exit::Site, || "the site file is invalid".to_owned())
    }

    /// The folder of the registry.
    pub fn registry_folder(&self) -> PathBuf {
        self.env
            .path("AIF_REGISTRY")
            .unwrap_or_else(|| self.env.home().join(".ubenchai/discover"))
    }

    /// The registry.
    pub fn store(&self) -> Result<Store, Failure> {
        let folder = self.registry_folder();
        Store::open(&folder).or_exit(Exit::NoPermission, || {
            format!("cannot use the registry {}", folder.display())
        })
    }

    /// The Prometheus of this run, where its monitor is alive.
    ///
    /// # Errors
    /// The registry, or the password, cannot be read.
    pub async fn live_monitor(&self, run: &RunDir) -> anyhow::Result<Option<LiveMonitor>> {
        let Some(cluster) = run.cluster() else {
            return Ok(None);
        };
        let store = self.store()?;
        let seen = Watch::new(&store).refresh().await;
        let found = seen.into_iter().find(|seen| {
            seen.liveness == Liveness::Alive
                && seen.record.kind == Kind::Monitor
                && seen.record.state == State::Ready
                && seen.record.is_of(&run.id, &cluster)
                && !seen.record.is_out_of_reach()
        });
        let Some(record) = found.map(|seen| seen.record) else {
            return Ok(None);
        };
        let (Some(url), Some(file)) = (record.endpoints.api, &record.auth.key_file) else {
            return Ok(None);
        };
        let password =
            files::read_text(file.as_ref()).context("the password of the run's Prometheus")?;
        Ok(Some(LiveMonitor {
            url,
            password: password.trim().to_owned(),
            since: record.started_at,
        }))
    }

    /// Where runs are kept: `$SLURM_SUBMIT_DIR/results`, else `./results`.
    pub fn results_folder(&self) -> PathBuf {
        self.env
            .path("SLURM_SUBMIT_DIR")
            .unwrap_or_else(|| PathBuf::from("."))
            .join("results")
    }

    /// A run: its folder, its name in the results folder, or its job's id.
    pub fn find_run(&self, name: &str) -> Result<RunDir, Failure> {
        let root = self.results_folder();
        let mut candidates = vec![PathBuf::from(name), root.join(name)];
        let ids = std::fs::read_dir(&root)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path());
        let mut by_job: Vec<PathBuf> = ids
            .filter(|path| {
                let folder = path.file_name().unwrap_or_default().to_string_lossy();
                // `<service>-<job>`, `…-<job>-r<restart>`, and of a role alone `…-<job>.<step>`
                let mark = format!("-{name}");
                folder.ends_with(&mark)
                    || ["-r", "."]
                        .iter()
                        .any(|next| folder.contains(&format!("{mark}{next}")))
            })
            .collect();
        by_job.sort();
        candidates.extend(by_job.into_iter().rev());
        let is_run = |path: &PathBuf| {
            path.join("run.json").is_file() || path.join("manifest.json").is_file()
        };
        let found = candidates.iter().find(|path| is_run(path)).ok_or_else(|| {
            let message = format!(
                "no run {name}: neither a run folder nor in {}",
                root.display()
            );
            Failure::new(Exit::NoInput, message)
        })?;
        RunDir::open(found).or_exit(Exit::NoInput, || format!("run {name} cannot be opened"))
    }
}
