//! Roles: what a process of ours can be. Each has `Config` and `run(config, context)`.
//!
//! Roles never share memory and never call each other: they meet in the registry and over HTTP.

pub mod bench;
pub mod monitor;
pub mod server;
pub mod stack;

mod image;
mod note;

pub use note::StepNote;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use jiff::Timestamp;

use crate::{
    clock,
    env::Env,
    files,
    launch::cpus,
    registry::{Kind, Record, Store, record::LOCAL},
    run::{self, Manifest, RunDir},
    shutdown::Shutdown,
    site::Site,
    slurm::job_env::JobEnv,
};

/// More than this is not waited for, however long the job could go on: somebody wants it to end.
const LED: Duration = Duration::from_secs(100);
/// Left for the report and for Slurm's own clock, which may be early.
const LAST_MOMENTS: Duration = Duration::from_secs(15);

/// The name of something that an instance keeps on the node's own disk: by it, what is left can be told from what lives.
pub fn local_name(instance_id: &str, what: &str) -> String {
    format!("aif-{instance_id}-{what}")
}

fn led(bare: Duration, ends_at: Option<Timestamp>, now: Timestamp) -> Duration {
    let left = ends_at.and_then(|end| Duration::try_from(end.duration_since(now)).ok());
    left.map_or(bare, |left| {
        left.saturating_sub(LAST_MOMENTS).clamp(bare, LED.max(bare))
    })
}

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

    /// The cluster's name; without Slurm a name of its own.
    pub fn cluster(&self) -> &str {
        self.job.as_ref().map_or(LOCAL, |job| &job.cluster)
    }

    /// Does this record belong to our run?
    pub fn owns(&self, record: &Record) -> bool {
        record.is_of(&self.run.id, self.cluster())
    }

    /// Takes away what roles left that were killed: their records and keys, and on this node what bears their names on
    /// its own disk. The caller knows that they are dead.
    pub fn sweep(&self, dead: impl Fn(&Record) -> bool) {
        for record in self.store.records().iter().filter(|record| dead(record)) {
            tracing::info!(
                instance = record.instance_id,
                "Taking away what a killed role left"
            );
            self.store.remove(record);
            if record.node == self.node() {
                files::remove_named(
                    &self.site.local_folder(&self.env),
                    &local_name(&record.instance_id, ""),
                );
            }
        }
    }

    /// A record of this role, which starts now.
    pub fn record(&self, kind: Kind, service: &str, recipe: &str) -> Record {
        let mut record = Record::new(kind, service, recipe, self.job.as_ref(), Some(&self.run.id));
        record.job_id = self.job_id();
        record.cpus = cpus::allowed();
        record
    }

    /// Time from TERM to the end that a role may take.
    pub fn grace(&self) -> Duration {
        Duration::from_secs(self.env.number("AIF_GRACE_SECONDS").unwrap_or(25))
    }

    /// The same where the stack leads the end: then nobody else has told the roles, and no `KillWait` runs. What the
    /// job has left is theirs, up to [`LED`].
    pub fn led_grace(&self) -> Duration {
        let ends_at = self.job.as_ref().and_then(|job| job.ends_at);
        led(self.grace(), ends_at, clock::now())
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
            cluster: self.cluster().to_owned(),
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
            price: self.site.price.clone(),
            phases: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn a_stack_that_leads_has_what_the_signal_left_and_never_less_than_on_a_bare_term() {
        let bare = Duration::from_secs(25);
        let now = clock::now();
        let cases = [
            (None, 25),
            (Some(10), 25),
            (Some(-5), 25),
            (Some(90), 75),
            (Some(36_000), 100),
        ];
        for (left, seconds) in cases {
            let ends_at = left.map(|left| now + SignedDuration::from_secs(left));
            assert_eq!(led(bare, ends_at, now).as_secs(), seconds, "{left:?}");
        }
    }
}
