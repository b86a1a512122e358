//! What Prometheus saw over time, kept in the run before it ends: `metrics/series.json`.
//!
//! It is asked after the archive is safe, because charts are worth less than the samples that they are made of; and in a
//! short time, where the job is about to be killed. What can fail is told in the file, and in the log.

use std::time::Duration;

use jiff::Timestamp;

use super::supervise::Monitor;
use crate::{
    clock,
    engine::{self, Profile},
    prometheus::{
        query::Client,
        timeline::{FILE, Timeline},
    },
    shutdown::Cause,
};

/// Prometheus has this long to tell …
const LIMIT: Duration = Duration::from_secs(10);
/// … and this share of the grace, in percent, where the job ends.
const SHARE: u32 = 10;

/// Everything from this time until now, as far as it is told within the limit.
pub(super) async fn ask(
    client: &Client,
    since: Timestamp,
    interval: Duration,
    limit: Duration,
) -> Timeline {
    let engines: Vec<_> = engine::profiles().map(Profile::series).collect();
    Timeline::ask(client, &engines, (since, clock::now()), interval, limit).await
}

/// Asks, and keeps what is told in the run.
pub(super) async fn keep(monitor: &Monitor) {
    let Some(prometheus) = &monitor.prometheus else {
        tracing::warn!("There are no charts of engine and node: Prometheus is gone");
        return;
    };
    let parts = &monitor.parts;
    let shutdown = &parts.context.shutdown;
    let limit = match shutdown.cause() {
        None | Some(Cause::Released) => LIMIT,
        Some(Cause::Terminated | Cause::Interrupted) => parts.context.grace() * SHARE / 100,
    };
    let asked = ask(
        &prometheus.client,
        parts.alarms.since(),
        parts.scraping.interval,
        limit,
    );
    let timeline = tokio::select! {
        asked = asked => asked,
        () = shutdown.stop.cancelled() => return,
    };
    if let Some(problem) = &timeline.problem {
        tracing::warn!(problem, "The charts of engine and node are not whole");
    }
    if let Err(error) = timeline.write(&parts.context.run.metrics().join(FILE)) {
        tracing::warn!(%error, "The charts of engine and node could not be kept");
    }
}
