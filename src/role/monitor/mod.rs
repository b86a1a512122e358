//! The monitor: Prometheus beside a service, and what it measured when both are gone.
//!
//! Targets come from the registry: the monitor writes them to a file that Prometheus reads again. Its data is on the
//! node's own disk and dies with the job, so the last act is a snapshot, packed into the run.
//!
//! While it runs it serves the report of the run as far as there is one ([`page`]), with the password of Prometheus.
//!
//! Where the recipe wants it, a Grafana runs beside it ([`grafana`]), which is a help and no part of the measurement: what
//! befalls it ends nothing.
//!
//! Life: step file → record `starting` → Prometheus → `ready` → targets, until told to end → `draining` → the last
//! scrape → snapshot → `archived` → Prometheus ends → data removed → record withdrawn. In a stack the end comes from
//! the stack (USR1) or from Slurm (TERM; then a bench that still measures is waited for, within the grace). Alone it
//! also ends five minutes after its last live instance.
//!
//! What can fail: its image is broken or cannot be pulled (66); Prometheus is not there, or died twice (69, with whatever
//! could be archived); alone, no server of its service was ever there (69, so that nobody takes an empty archive for a
//! quiet service); the node has only
//! network file systems (73); the archive cannot be written (73).

mod alarms;
mod end;
mod grafana;
mod metrics;
mod page;
mod scope;
mod setup;
mod supervise;
mod timeline;

use crate::{
    exit::{Exit, OrExit as _},
    recipe::MonitorPlan,
    role::{Context, StepNote},
    run::RecipeEntry,
};

/// What a monitor is started with.
#[derive(Debug, Clone)]
pub struct Config {
    /// The plan.
    pub plan: MonitorPlan,
    /// The recipe, as the manifest keeps it.
    pub entry: RecipeEntry,
}

/// Runs Prometheus until it is told to end, and archives what it measured.
pub async fn run(config: Config, context: &Context) -> anyhow::Result<Exit> {
    let step = StepNote::begin("monitor", &config.plan.name, context)?;
    if !config.plan.enabled {
        tracing::info!("The recipe says prometheus.enabled: false; there is nothing to monitor");
        return Ok(Exit::Done);
    }
    let mut monitor = setup::start(&config, context, step).await?;
    let end = match monitor.start_prometheus().await {
        Ok(()) => monitor.watch().await.unwrap_or_else(supervise::End::Failed),
        Err(error) => supervise::End::Lost(error),
    };
    monitor.finish(end).await
}

/// An I/O error of the run folder or the registry, as a failure with its code.
fn written<T, E: Into<Box<dyn std::error::Error + Send + Sync>>>(
    result: Result<T, E>,
    what: &'static str,
) -> anyhow::Result<T> {
    Ok(result.or_exit(Exit::CannotCreate, || format!("{what} cannot be written"))?)
}
