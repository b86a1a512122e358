//! Grafana beside a monitor: a service of its own in the registry, which begins when Prometheus is ready and ends before it does.
//!
//! It is a help and no part of the measurement: where it is missing, does not become ready or dies, the monitor goes on, says
//! so in its log, and the report names it among the problems. Its folder lies in that of Prometheus's data and dies with it. The
//! key that the registry keeps for it is the password of its user `aif`; `aif status` prints how a browser gets there.

use std::time::Duration;

use anyhow::Context as _;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::supervise::Parts;
use crate::{
    clock, engine,
    exit::{Exit, OrExit as _},
    files,
    process::{
        child::{Child, Spec},
        guard,
    },
    prometheus::{
        dashboards::Shown,
        grafana::{self, Settings},
        process::choose_port,
        provisioning::{self, Source},
    },
    recipe::GrafanaPlan,
    registry::{Kind, Publication, State},
    role::{Context, StepNote},
};

/// The first start makes a database.
const READY_LIMIT: Duration = Duration::from_mins(2);
/// Between two questions whether it is ready.
const PAUSE: Duration = Duration::from_millis(250);
/// It has this long to end; nothing of it is kept.
const GRACE: Duration = Duration::from_secs(3);

/// A Grafana that runs, or tries to.
#[derive(Debug)]
pub(super) struct Grafana {
    task: JoinHandle<()>,
    // told when this is dropped
    end: DropGuard,
}

/// What it takes.
struct Start {
    plan: GrafanaPlan,
    context: Context,
    step: StepNote,
    service: String,
    recipe: String,
    source: Source,
    folder: std::path::PathBuf,
}

impl Grafana {
    /// Starts it, where the recipe wants it; nobody waits for it.
    pub(super) fn start(parts: &Parts) -> Option<Self> {
        let plan = parts.grafana.clone()?;
        let record = parts.publication.record();
        let password = record.auth.key_file.as_deref().map(std::path::Path::new);
        let password = password.and_then(|file| files::read_text(file).ok());
        let url = record.endpoints.api.unwrap_or_default();
        let interval = Some(parts.scraping.interval);
        let start = Start {
            plan,
            context: parts.context.clone(),
            step: parts.step.clone(),
            service: record.service_name,
            recipe: record.recipe_name,
            source: Source::own(url, password.unwrap_or_default(), interval),
            folder: parts.folder.path().join("grafana"),
        };
        let end = CancellationToken::new();
        let told = end.clone();
        let task = parts.context.shutdown.tasks.spawn(async move {
            if let Err(error) = start.live(&told).await {
                let said = format!("degraded: there is no Grafana: {error:#}");
                tracing::warn!("{said}");
                start.step.facts([("degraded", said.into())]);
            }
        });
        Some(Self {
            task,
            end: end.drop_guard(),
        })
    }

    /// Ends it.
    pub(super) async fn stop(self) {
        drop(self.end);
        if let Err(error) = self.task.await {
            tracing::warn!(%error, "Grafana was not ended in order");
        }
    }
}

impl Start {
    /// From its start to its end; an end that nobody asked for is an error.
    async fn live(&self, told: &CancellationToken) -> anyhow::Result<()> {
        let context = &self.context;
        let image = self
            .plan
            .image
            .as_ref()
            .map(|image| context.home.join(image));
        let argv = grafana::argv(&context.env, &context.site, image.as_deref(), &self.folder)?;
        let port = choose_port([127, 0, 0, 1].into(), self.plan.port, context.site.ports())?;
        let url = format!("http://127.0.0.1:{}", port.number);
        let provisioning = provisioning::write(
            &self.folder,
            &self.source,
            &engine::dashboards(),
            Shown::Live,
        )?;

        let mut record = context.record(Kind::Grafana, &self.service, &self.recipe);
        let (key_file, password) = context.store.create_key(&record.instance_id)?;
        record.ports = vec![port.number];
        record.endpoints.api = Some(url.clone());
        record.auth.key_file = Some(key_file.display().to_string());
        let publication = Publication::publish(&context.store, record, &context.shutdown)?;
        let settings = Settings {
            folder: &self.folder,
            provisioning: &provisioning,
            port: port.number,
            password: &password,
            secret: &uuid::Uuid::new_v4().simple().to_string(),
        };
        let spec = Spec {
            argv: if context.job.is_none() {
                guard::guarded(argv)
            } else {
                argv
            },
            env: settings.environment(),
            folder: self.folder.clone(),
            log: context.run.log("grafana"),
        };
        let child = Child::start(&spec, &context.shutdown)?;
        let lived = self.attend(&child, &url, &publication, told).await;
        let hurry = context.shutdown.stop.clone();
        child
            .stop(GRACE, async move { hurry.cancelled().await })
            .await;
        publication.withdraw();
        lived
    }

    /// Waits until it is ready, says so, and waits until it is to end.
    async fn attend(
        &self,
        child: &Child,
        url: &str,
        publication: &Publication,
        told: &CancellationToken,
    ) -> anyhow::Result<()> {
        let ready = async {
            loop {
                if let Some(version) = grafana::ready(url).await {
                    return version;
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        let version = tokio::select! {
            version = tokio::time::timeout(READY_LIMIT, ready) => {
                version.with_context(|| format!("it is not ready after {READY_LIMIT:?}; its log is {}", child.log().display()))?
            }
            how = child.ended() => return Err(ended(how, child)),
            () = told.cancelled() => return Ok(()),
        };
        publication
            .update(|record| {
                record.state = State::Ready;
                record.ready_at = Some(clock::now());
            })
            .or_exit(Exit::CannotCreate, || {
                "its record cannot be written".to_owned()
            })?;
        tracing::info!(url, version, "Grafana is ready");
        self.step.facts([
            ("grafana_version", version.into()),
            ("grafana_url", url.into()),
        ]);
        tokio::select! {
            how = child.ended() => Err(ended(how, child)),
            () = told.cancelled() => Ok(()),
        }
    }
}

fn ended(how: crate::process::child::Ended, child: &Child) -> anyhow::Error {
    let tail = files::tail(child.log(), 3).join("\n  ");
    anyhow::anyhow!("it ended by itself ({how})\n  {tail}")
}
