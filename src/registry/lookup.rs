//! Who is meant: same run, else same job, else same cluster; never another cluster.

use std::time::Duration;

use super::{record::Record, store::Store};
use crate::{shutdown::Shutdown, slurm::job_env::JobEnv};

/// Where a look-up stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// The run that it belongs to.
    pub run: Option<String>,
    /// The job that it runs in.
    pub job_id: Option<String>,
    /// The cluster; `local` without Slurm.
    pub cluster: String,
}

impl Scope {
    /// The scope of a process in this job (or none) and run (or none).
    pub fn new(job: Option<&JobEnv>, run: Option<&str>) -> Self {
        Self {
            run: run.map(str::to_owned),
            job_id: job.map(|job| job.job_id.clone()),
            cluster: job.map_or_else(|| "local".to_owned(), |job| job.cluster.clone()),
        }
    }
}

/// What is looked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The service.
    pub service: String,
    /// Only of this job.
    pub job: Option<String>,
    /// Only this instance.
    pub instance: Option<String>,
}

/// Why nothing was found.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing is there.
    #[error("no ready instance of service {service}")]
    NotFound {
        /// The service.
        service: String,
    },
}

/// Waits until the wanted service has a ready server that is alive, in scope, and whose job lasts; gives all instances
/// of the chosen job. Fails when several jobs are left, when time is up, or when `shutdown` drains.
pub async fn wait_ready(
    _store: &Store,
    _scope: &Scope,
    _wanted: &Wanted,
    _timeout: Duration,
    _shutdown: &Shutdown,
) -> Result<Vec<Record>, Error> {
    todo!()
}
