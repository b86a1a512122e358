//! The monitor at work: targets follow the registry, Prometheus is kept alive, and the reason to end is found.
//!
//! The exit of Prometheus is an event. It is started again once, on the same data; a second exit is the end.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

use super::{
    alarms::Alarms,
    grafana::Grafana,
    metrics::{Healths, Metrics},
    page::Board,
    scope::{self, Idle, Scope},
    written,
};
use crate::{
    exit::{Exit, Failure, OrExit as _},
    prometheus::{
        config::Scraping,
        folder::LocalFolder,
        process::{self, Binary, Options, Prometheus, choose_port},
        targets::Targets,
    },
    recipe::{GrafanaPlan, PortChoice, Target},
    registry::{Publication, Seen, State, Watch, lookup},
    role::{Context, StepNote},
    shutdown::Cause,
    telemetry::{agent::Serving, host::Samplers},
};

/// Between two looks at the registry: news of a shared folder is seldom younger.
const LOOK: Duration = Duration::from_secs(2);
/// Replaying a log after a restart takes longer than a start.
const READY_LIMIT: Duration = Duration::from_mins(1);
/// Restarts of Prometheus at the most.
const RESTARTS: u32 = 1;

/// Why the monitor ends.
#[derive(Debug)]
pub(super) enum End {
    /// It was told to.
    Told(Cause),
    /// Its last instance has been gone for long enough.
    Idle,
    /// Prometheus died for good.
    Lost(process::Error),
    /// A file of ours could not be written.
    Failed(anyhow::Error),
}

/// What a monitor is made of.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) context: Context,
    pub(super) named: Vec<Target>,
    pub(super) scope: Scope,
    pub(super) scraping: Scraping,
    pub(super) binary: Binary,
    pub(super) options: Options,
    pub(super) folder: LocalFolder,
    pub(super) publication: Publication,
    pub(super) metrics: Metrics,
    pub(super) agent: Serving,
    /// What they were at the end is for the report.
    pub(super) samplers: Samplers,
    pub(super) alarms: Alarms,
    pub(super) board: Board,
    pub(super) grafana: Option<GrafanaPlan>,
    pub(super) step: StepNote,
}

/// A monitor.
#[derive(Debug)]
pub(super) struct Monitor {
    // dropped first: its data must not be removed under it
    pub(super) prometheus: Option<Prometheus>,
    pub(super) grafana: Option<Grafana>,
    pub(super) parts: Parts,
    watch: Watch,
    targets: Targets,
    healths: Healths,
    restarts: u32,
    /// Was the service ever there?
    served: bool,
}

impl Monitor {
    pub(super) fn new(parts: Parts) -> Self {
        Self {
            prometheus: None,
            grafana: None,
            watch: Watch::new(&parts.context.store),
            parts,
            targets: Targets::default(),
            healths: Healths::default(),
            restarts: 0,
            served: false,
        }
    }

    /// Starts Prometheus, or starts it again, until it is ready.
    pub(super) async fn start_prometheus(&mut self) -> Result<(), process::Error> {
        loop {
            let started = self.try_start().await;
            match started {
                Ok(()) => return Ok(()),
                Err(error) if self.may_restart() => {
                    tracing::warn!(%error, "Prometheus did not start; trying once more");
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn may_restart(&mut self) -> bool {
        let may = self.restarts < RESTARTS;
        if may {
            self.restarts += 1;
            self.parts.metrics.restarted();
        }
        may
    }

    async fn try_start(&mut self) -> Result<(), process::Error> {
        let parts = &mut self.parts;
        let wanted = PortChoice::Fixed(parts.options.port);
        let port = choose_port(parts.options.host, wanted, parts.context.site.ports())?;
        parts.options.port = port.number;
        let mut prometheus = Prometheus::start(&parts.binary, &parts.options)?;
        // told to end while it starts: the caller sees that itself
        let told = parts.context.shutdown.drain.cancelled();
        tokio::select! {
            ready = prometheus.ready(READY_LIMIT) => ready?,
            () = told => {}
        }
        self.prometheus = Some(prometheus);
        Ok(())
    }

    /// Says that Prometheus is ready, and where.
    async fn announce(&mut self) -> anyhow::Result<()> {
        let Some(prometheus) = &self.prometheus else {
            return Ok(());
        };
        let version = prometheus.client.version().await.ok();
        let port = self.parts.options.port;
        let updated = self.parts.publication.update(|record| {
            record.state = State::Ready;
            record.ready_at.get_or_insert_with(crate::clock::now);
            record.ports = vec![port];
            record.endpoints.api = Some(format!("http://{}:{port}", record.address));
        });
        written(updated, "the monitor's record")?;
        let url = self.parts.publication.record().endpoints.api;
        tracing::info!(url, version, "Prometheus is ready");
        self.parts.step.facts([
            ("prometheus_version", version.into()),
            ("port", port.into()),
            ("url", url.into()),
        ]);
        self.parts.step.ready();
        Ok(())
    }

    /// Follows the registry until there is a reason to end.
    pub(super) async fn watch(&mut self) -> anyhow::Result<End> {
        let drain = self.parts.context.shutdown.drain.clone();
        if !drain.is_cancelled() {
            self.announce().await?;
            self.grafana = Grafana::start(&self.parts);
        }
        let mut idle = Idle::default();
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = drain.cancelled() => {
                    let cause = self.parts.context.shutdown.cause();
                    return Ok(End::Told(cause.unwrap_or(Cause::Released)));
                }
                error = exit_of(&mut self.prometheus) => {
                    self.prometheus = None;
                    self.check_room()?;
                    if !self.may_restart() {
                        return Ok(End::Lost(error));
                    }
                    tracing::warn!(%error, "Prometheus ended; starting it again");
                    match self.start_prometheus().await {
                        Ok(()) => self.announce().await?,
                        Err(error) => return Ok(End::Lost(error)),
                    }
                }
                _ = looks.tick() => {
                    let seen = self.look().await?;
                    let serves = scope::serves(&self.parts.scope, &seen);
                    self.served |= scope::has_service(&self.parts.scope, &seen);
                    if !self.parts.context.in_stack && idle.observe(serves) {
                        return Ok(End::Idle);
                    }
                }
            }
        }
    }

    /// A Prometheus that can store nothing is as good as lost, though it runs on.
    fn check_room(&self) -> anyhow::Result<()> {
        let room = self.parts.folder.check_room();
        Ok(room.or_exit(Exit::CannotCreate, || {
            "Prometheus can store nothing more, what it had is archived".to_owned()
        })?)
    }

    /// Reads the registry, renews the targets, and takes note of their health.
    async fn look(&mut self) -> anyhow::Result<Vec<Seen>> {
        self.check_room()?;
        let seen = self.watch.refresh().await;
        let sources = scope::sources(&self.parts.scope, &seen);
        let targets = Targets::of(&sources, &self.parts.named);
        if targets != self.targets {
            tracing::info!(
                instances = sources.len(),
                targets = targets.own.len() + targets.open.len(),
                "Targets changed"
            );
            self.targets = targets;
            self.write_targets()?;
        }
        self.parts
            .metrics
            .ends(scope::ends(&self.parts.scope, &seen));
        let client = self
            .prometheus
            .as_ref()
            .map(|prometheus| &prometheus.client);
        self.parts.board.note(&seen, client);
        if let Some(prometheus) = &self.prometheus {
            self.parts.alarms.look(&prometheus.client).await;
            match prometheus.client.targets().await {
                Ok(states) => self
                    .healths
                    .observe(&self.targets, &states, &self.parts.metrics),
                Err(error) => tracing::debug!(%error, "Prometheus did not tell its targets"),
            }
        }
        Ok(seen)
    }

    /// Writes the targets where Prometheus reads them.
    pub(super) fn write_targets(&self) -> anyhow::Result<()> {
        let scraping = &self.parts.scraping;
        let result = self
            .targets
            .write(&scraping.own_targets, &scraping.open_targets);
        written(result, "the file of targets")
    }

    /// Alone, a monitor that waited for its service in vain has nothing to show: what was there instead?
    pub(super) async fn in_vain(&mut self) -> Option<Failure> {
        let parts = &self.parts;
        let Scope::Service { name, .. } = &parts.scope else {
            return None;
        };
        if self.served || !parts.named.is_empty() {
            return None;
        }
        let seen = self.watch.refresh().await;
        let message = format!(
            "no server of service {name} was there to be monitored: {}",
            lookup::others(&seen, name)
        );
        Some(Failure::new(Exit::Unavailable, message))
    }

    /// Waits while a bench of this run or job still measures, until this instant at the latest.
    pub(super) async fn wait_for_benches(&mut self, until: Instant) -> anyhow::Result<()> {
        let stop = self.parts.context.shutdown.stop.clone();
        let own = self.parts.publication.record();
        while Instant::now() < until && !stop.is_cancelled() {
            let seen = self.look().await?;
            if !scope::measures(&own, &seen) {
                break;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(Duration::from_millis(500)) => {}
            }
        }
        Ok(())
    }
}

/// Waits until Prometheus ends; for ever where there is none.
async fn exit_of(prometheus: &mut Option<Prometheus>) -> process::Error {
    match prometheus {
        Some(prometheus) => prometheus.exited().await,
        None => std::future::pending().await,
    }
}
