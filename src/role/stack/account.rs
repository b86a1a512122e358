//! The stack's own account: the manifest, what Slurm's accounting says, and the report at the end.
//!
//! Nothing here may change how a run ends, except that a report which cannot be written is a failure to write (73).

use crate::{
    clock,
    exit::{Exit, Failure, OrExit as _},
    files, report,
    role::{Context, stack::Config},
    run::{self, Manifest},
    shutdown::Cause,
    slurm::{self, accounting},
    terminal,
};

/// The manifest of a stack that starts.
pub(super) fn begin(config: &Config, context: &Context) -> Result<Manifest, Failure> {
    let recipes = config
        .server
        .iter()
        .chain(&config.monitor)
        .chain(&config.benches)
        .map(|recipe| recipe.entry.clone());
    let mut manifest = context.manifest("stack", config.launcher.name());
    manifest.recipes = recipes.collect();
    files::write_json(&context.run.manifest(), &manifest).or_exit(Exit::CannotCreate, || {
        "the run folder cannot be written".to_owned()
    })?;
    Ok(manifest)
}

/// Writes the manifest as it stands. A shared file system that fails now may be back at the end.
pub(super) fn keep(manifest: &mut Manifest, context: &Context) {
    manifest.steps = context.run.steps();
    if let Err(error) = files::write_json(&context.run.manifest(), manifest) {
        tracing::warn!(%error, "Cannot write the manifest");
    }
}

/// Closes the account: cost, manifest, report, summary. Gives the code that the stack ends with.
pub(super) async fn finish(manifest: &mut Manifest, context: &Context, exit: Exit) -> Exit {
    manifest.ended_at = Some(clock::now());
    manifest.exit = Some(exit);
    state(exit, context.shutdown.cause()).clone_into(&mut manifest.state);
    if let Some(job) = &context.job
        && !context.shutdown.drain.is_cancelled()
    {
        match slurm::client::sacct(&job.job_id, &accounting::FIELDS, None).await {
            Ok(lines) => {
                manifest.accounting = accounting::kept(&lines).or_else(|| {
                    let error = format!("sacct knows no job {}: accounting is off", job.job_id);
                    Some(serde_json::json!({"error": error}))
                });
            }
            Err(error) => {
                tracing::warn!(%error, "Accounting tells nothing of the cost");
                manifest.accounting = Some(serde_json::json!({"error": error.to_string()}));
            }
        }
    }
    manifest.stimulus_sha256 = run::stimuli(&context.run);
    manifest.steps = context.run.steps();
    manifest.phases = serde_json::to_value(report::phases::of(manifest, &manifest.steps)).ok();
    keep(manifest, context);
    match report::write(&context.run) {
        Ok(summary) => {
            let _ = terminal::line(summary);
            exit
        }
        Err(error) => {
            let error = anyhow::Error::new(error);
            terminal::note(format_args!(
                "aif: the report could not be written: {error:#}; `aif report {}` makes it later",
                context.run.path.display()
            ));
            if exit == Exit::Done {
                Exit::CannotCreate
            } else {
                exit
            }
        }
    }
}

fn state(exit: Exit, cause: Option<Cause>) -> &'static str {
    match (exit, cause) {
        // the bench stops by itself when the job is about to end, without being told
        (_, Some(_)) | (Exit::TimeLimit, None) => "interrupted",
        (Exit::Done | Exit::Invalid, None) => "complete",
        _ => "failed",
    }
}
