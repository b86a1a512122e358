//! The run of a role that is in no stack: its manifest, its last word, its report.

use crate::{
    clock,
    exit::{Exit, OrExit as _},
    files,
    library::Resolved,
    report,
    role::Context,
    run::{self, StepFile},
    terminal,
};

/// A role that may run alone: then it keeps the manifest and makes the report itself.
pub(super) struct Alone {
    step: String,
    manifest: Option<run::Manifest>,
}

impl Alone {
    pub(super) fn begin(
        role: &str,
        step: &str,
        recipes: &[&Resolved],
        context: &Context,
    ) -> anyhow::Result<Self> {
        let mut manifest = None;
        if !context.in_stack {
            let launcher = if context.job.is_some() {
                "srun"
            } else {
                "local"
            };
            let mut own = context.manifest(role, launcher);
            own.recipes = recipes.iter().map(|recipe| recipe.entry.clone()).collect();
            files::write_json(&context.run.manifest(), &own).or_exit(Exit::CannotCreate, || {
                "the run folder cannot be written".to_owned()
            })?;
            manifest = Some(own);
        }
        Ok(Self {
            step: step.to_owned(),
            manifest,
        })
    }

    /// Writes the role's last word, and closes the run where it is its own.
    pub(super) fn end(
        self,
        ended: anyhow::Result<Exit>,
        context: &Context,
    ) -> anyhow::Result<Exit> {
        let exit = ended.as_ref().map_or_else(Exit::of, |exit| *exit);
        let path = context.run.step(&self.step);
        if let Ok(mut step) = files::read_json::<StepFile>(&path) {
            step.ended_at = Some(clock::now());
            step.exit = Some(exit);
            step.error = ended.as_ref().err().map(|error| format!("{error:#}"));
            if let Err(error) = files::write_json(&path, &step) {
                tracing::warn!(%error, "Cannot write the step file");
            }
        }
        if let Some(mut manifest) = self.manifest {
            manifest.ended_at = Some(clock::now());
            manifest.exit = Some(exit);
            let state = match (exit, context.shutdown.cause()) {
                (Exit::Done | Exit::Invalid, _) => "complete",
                (_, Some(_)) => "interrupted",
                _ => "failed",
            };
            state.clone_into(&mut manifest.state);
            manifest
                .problems
                .extend(ended.as_ref().err().map(|error| format!("{error:#}")));
            manifest.steps = context.run.steps();
            manifest.stimulus_sha256 = run::stimuli(&context.run);
            files::write_json(&context.run.manifest(), &manifest)
                .or_exit(Exit::CannotCreate, || {
                    "the manifest cannot be written".to_owned()
                })?;
            report::write(&context.run).or_exit(Exit::CannotCreate, || {
                "the report cannot be written".to_owned()
            })?;
            terminal::note(format_args!(
                "aif: run folder {}",
                context.run.path.display()
            ));
        }
        ended
    }
}
