//! The end of a monitor: the last scrape, the archive, and no trace.
//!
//! The order is that of a stack's end: bench, monitor, server. When all are told at once (`scancel`, the time limit),
//! the monitor waits for a bench that still measures, but not beyond 40 % of the grace, because the snapshot takes time
//! too and the server waits for it.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::{
    supervise::{End, Monitor, Parts},
    timeline,
};
use crate::{
    clock,
    exit::{Exit, Failure, OrExit as _},
    prometheus::{
        alerts,
        snapshot::{self, Packed},
    },
    registry::State,
    shutdown::Cause,
};

/// Share of the grace, in percent, in which a bench is waited for.
const BENCH_SHARE: u32 = 40;
/// Share of the grace, in percent, for one more scrape.
const SCRAPE_SHARE: u32 = 10;
/// A snapshot has this long, where nobody is in a hurry.
const SNAPSHOT_LIMIT: Duration = Duration::from_mins(1);
/// So many times it is looked whether an alert says why a target is down …
const LOOKS: u32 = 3;
/// … with a pause of this at the most.
const LOOK_PAUSE: Duration = Duration::from_secs(2);
/// All should be scraped and recorded within two intervals, and must be within this.
const SETTLING_LIMIT: Duration = Duration::from_secs(30);
/// Between two questions whether all was scraped.
const SETTLING_PAUSE: Duration = Duration::from_millis(200);
/// Prometheus has this long to end; its data is archived by then.
const STOP_GRACE: Duration = Duration::from_secs(5);

impl Monitor {
    /// Archives what was measured, ends Prometheus, and leaves nothing behind.
    pub(super) async fn finish(mut self, end: End) -> anyhow::Result<Exit> {
        let updated = self
            .parts
            .publication
            .update(|record| record.state = State::Draining);
        if let Err(error) = updated {
            tracing::warn!(%error, "The monitor's record could not be renewed");
        }
        if let End::Told(cause) = &end {
            self.last_scrape(*cause).await;
        }
        match &self.prometheus {
            Some(prometheus) => self.parts.alarms.keep(&prometheus.client).await,
            None => self.parts.alarms.lost(),
        }
        let in_vain = self.in_vain().await;
        let stop = self.parts.context.shutdown.stop.clone();
        let archived = tokio::select! {
            archived = archive(&mut self) => archived,
            () = stop.cancelled() => {
                let message = "the metrics were not archived: a second signal said to end now";
                Err(Failure::new(Exit::Terminated, message).into())
            }
        };
        match &archived {
            Ok(packed) => {
                let path = packed.path.display().to_string();
                tracing::info!(path, bytes = packed.bytes, "Archived the metrics");
                self.parts.step.facts([
                    ("archive_sha256", packed.sha256.clone().into()),
                    ("archive_bytes", packed.bytes.into()),
                ]);
                let _ = self
                    .parts
                    .publication
                    .update(|record| record.state = State::Archived);
            }
            Err(error) => tracing::error!("{error:#}"),
        }
        timeline::keep(&self).await;
        if let Some(grafana) = self.grafana.take() {
            grafana.stop().await;
        }
        if let Some(prometheus) = self.prometheus.take() {
            prometheus.stop(STOP_GRACE).await;
        }
        let Parts {
            folder,
            publication,
            agent,
            samplers,
            step,
            ..
        } = self.parts;
        step.facts([("samplers", samplers.facts())]);
        drop(folder);
        publication.withdraw();
        agent.stop();
        match end {
            End::Lost(error) => {
                let message = "Prometheus was lost".to_owned();
                Err(Failure::caused(Exit::Unavailable, message, error).into())
            }
            End::Failed(error) => Err(error),
            End::Told(_) | End::Idle => match in_vain {
                Some(failure) => Err(failure.into()),
                None => archived.map(|_| Exit::Done),
            },
        }
    }

    /// Gives Prometheus the time to see the last of what was measured.
    async fn last_scrape(&mut self, cause: Cause) {
        let shutdown = self.parts.context.shutdown.clone();
        let grace = self.parts.context.grace();
        let interval = self.parts.scraping.interval;
        let mut limit = SETTLING_LIMIT.min(interval * 2 + SETTLING_PAUSE * 5);
        if cause != Cause::Released {
            let spent = shutdown.told_ago().unwrap_or_default();
            let left = (grace * BENCH_SHARE / 100).saturating_sub(spent);
            if let Err(error) = self.wait_for_benches(Instant::now() + left).await {
                tracing::warn!("{error:#}");
            }
            limit = limit.min(grace * SCRAPE_SHARE / 100);
        }
        tokio::select! {
            () = shutdown.stop.cancelled() => return,
            _ = tokio::time::timeout(limit, self.settle(clock::now())) => {}
        }
        if cause != Cause::Released {
            return;
        }
        for _ in 0..LOOKS {
            if !self.is_in_doubt().await {
                return;
            }
            tokio::select! {
                () = shutdown.stop.cancelled() => return,
                () = tokio::time::sleep(interval.min(LOOK_PAUSE)) => {}
            }
        }
    }

    /// Waits until Prometheus has seen what there was at this moment.
    async fn settle(&self, moment: Timestamp) {
        let Some(prometheus) = &self.prometheus else {
            return;
        };
        while !prometheus.client.has_seen(moment).await.unwrap_or(false) {
            tokio::time::sleep(SETTLING_PAUSE).await;
        }
    }

    /// Is a target down or gone, and does no alert say yet why? One that was up a moment ago takes some evaluations of
    /// the rules to be told.
    async fn is_in_doubt(&mut self) -> bool {
        let Some(prometheus) = &self.prometheus else {
            return false;
        };
        let alarms = &mut self.parts.alarms;
        alarms.look(&prometheus.client).await;
        let doubt = prometheus.client.instant(&alerts::in_doubt(), None).await;
        alarms.watches() && !alarms.fires() && doubt.is_ok_and(|series| !series.is_empty())
    }
}

/// Packs a snapshot into the run; where Prometheus gives none, its data folder, once it has ended.
async fn archive(monitor: &mut Monitor) -> anyhow::Result<Packed> {
    let data = monitor.parts.options.data.clone();
    let limit = match monitor.parts.context.shutdown.cause() {
        None | Some(Cause::Released) => SNAPSHOT_LIMIT,
        Some(Cause::Terminated | Cause::Interrupted) => monitor.parts.context.grace() / 4,
    };
    let taken = match &monitor.prometheus {
        Some(prometheus) => prometheus.client.snapshot(limit).await.ok(),
        None => None,
    };
    let snapshot = taken
        .map(|name| data.join("snapshots").join(name))
        .filter(|folder| folder.is_dir());
    let folder = if let Some(folder) = snapshot {
        folder
    } else {
        tracing::warn!("Prometheus gave no snapshot; archiving its data folder");
        if let Some(prometheus) = monitor.prometheus.take() {
            prometheus.stop(STOP_GRACE).await;
        }
        data
    };
    let archive = monitor.parts.context.run.metrics().join(snapshot::ARCHIVE);
    let packed = tokio::task::spawn_blocking(move || snapshot::pack(&folder, &archive)).await?;
    Ok(packed.or_exit(Exit::CannotCreate, || {
        "the metrics could not be archived".to_owned()
    })?)
}
