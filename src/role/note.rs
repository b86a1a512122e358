//! A role's step file, kept while it runs: its first act, and what it says of itself on the way.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use super::Context;
use crate::{
    clock,
    exit::{Exit, Failure, OrExit as _},
    files,
    launch::cpus,
    run::{SCHEMA, StepFile},
};

/// The step file of a role. Cloning shares it.
#[derive(Debug, Clone)]
pub struct StepNote {
    path: PathBuf,
    step: Arc<Mutex<StepFile>>,
}

impl StepNote {
    /// Writes the file: the first act of a role, by which the stack knows that the step has started.
    pub fn begin(role: &str, recipe: &str, context: &Context) -> Result<Self, Failure> {
        let job = context.job.as_ref();
        let step = StepFile {
            schema: SCHEMA,
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
        };
        let note = Self {
            path: context.run.step(role),
            step: Arc::new(Mutex::new(step)),
        };
        files::create_folder(note.path.parent().unwrap_or(&context.run.path), 0o755)
            .and_then(|()| note.write(|_| ()))
            .or_exit(Exit::CannotCreate, || {
                "the run folder cannot be written".to_owned()
            })?;
        Ok(note)
    }

    /// Says that the role is ready.
    pub fn ready(&self) {
        self.add(|step| {
            step.ready_at.get_or_insert_with(clock::now);
        });
    }

    /// Adds facts for the manifest.
    pub fn facts<const N: usize>(&self, facts: [(&str, serde_json::Value); N]) {
        self.add(|step| {
            step.facts
                .extend(facts.map(|(name, value)| (name.to_owned(), value)));
        });
    }

    /// Changes it. The file matters less than the run: what cannot be written is told, and nothing ends by it.
    pub fn add(&self, change: impl FnOnce(&mut StepFile)) {
        if let Err(error) = self.write(change) {
            tracing::warn!(%error, "Cannot write the step file");
        }
    }

    fn write(&self, change: impl FnOnce(&mut StepFile)) -> Result<(), files::Error> {
        let mut step = self.step.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut step);
        files::write_json(&self.path, &*step)
    }
}
