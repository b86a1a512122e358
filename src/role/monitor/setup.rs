//! All that a monitor makes before Prometheus starts: step file, data folder, keys, configuration, agent, record.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

use super::{
    Config,
    alarms::{self, Alarms},
    metrics::Metrics,
    page::{self, Board},
    scope::Scope,
    supervise::Monitor,
    written,
};
use crate::{
    api::client::Access,
    apptainer::{
        command,
        image::{Image, State},
    },
    disk::Medium,
    exit::{Exit, Failure, OrExit as _},
    files::{self, Durability},
    process::{address::listening_address, guard},
    prometheus::{
        config::{self, Scraping},
        folder::{LocalFolder, MEMORY_CAP, Sharing},
        process::{self, Binary, Options, choose_port},
    },
    recipe::Plan,
    registry::{Kind, Publication, Record},
    role::{Context, StepNote, image, local_name},
    telemetry::{
        agent::{self, Agent, Serving},
        host::{self, Samplers},
        page::Page,
    },
    units::prometheus_duration,
};

/// Interval in a stack where the recipe leaves it open: a run of two minutes wants more than eight points.
const INTERVAL_IN_STACK: Duration = Duration::from_secs(2);
/// Interval alone where the recipe leaves it open.
const INTERVAL_ALONE: Duration = Duration::from_secs(15);

/// Makes everything but Prometheus itself.
pub(super) async fn start(
    config: &Config,
    context: &Context,
    step: StepNote,
) -> anyhow::Result<Monitor> {
    let plan = &config.plan;
    let job = context.job.as_ref();
    let binary = find(config, context, &step).await?;
    tracing::info!(%binary, image = plan.image, "Found Prometheus");

    let mut record = context.record(Kind::Monitor, &plan.service_name, &plan.name);
    let folder = data_folder(context, &record, Sharing::of(plan.allow_shared_tsdb))?;
    let interval = plan.scrape_interval.unwrap_or(if context.in_stack {
        INTERVAL_IN_STACK
    } else {
        INTERVAL_ALONE
    });
    // before there is a key or a record that would have to be taken away
    let (alarms, rules) = Alarms::new(&plan.alerts, context, interval)?;
    let rules = put(&folder, "rules.yml", &rules)?;
    alarms::check(&binary, context, &rules).await?;
    let listen = listening_address(&record.address, job.is_some());
    let port = choose_port(listen, plan.port, context.site.ports())
        .or_exit(Exit::Unavailable, || "Prometheus has no port".to_owned())?;
    if port.fallback {
        tracing::warn!(wanted = ?plan.port, port = port.number, "The port of Prometheus is taken; taking another");
    }

    let bearer = context
        .store
        .scrape_key()
        .context("the key of all agents")?;
    let (password_file, password) = context
        .store
        .create_key(&record.instance_id)
        .context("the password of Prometheus")?;
    let scraping = Scraping {
        interval,
        own_targets: folder.path().join("targets.json"),
        open_targets: folder.path().join("open.json"),
        key_file: context.store.scrape_key_file(),
        rules: folder.path().join("rules.yml"),
        alertmanager: plan.alerts.alertmanager.clone(),
    };
    let options = Options {
        config: put(
            &folder,
            "prometheus.yml",
            &config::prometheus_yml(&scraping)?,
        )?,
        web: Some(put(&folder, "web.yml", &config::web_yml(&password)?)?),
        data: folder.path().join("data"),
        host: listen,
        port: port.number,
        retention: prometheus_duration(plan.retention),
        size: (folder.medium == Medium::Memory).then_some(MEMORY_CAP),
        log: context.run.log("prometheus"),
        visible: vec![scraping.key_file.clone()],
        guard: job.is_none().then(guard::program).flatten(),
        access: Access::Basic(config::USER.to_owned(), password.clone()),
    };

    let agent = agent::listen(listen, context.site.ports())
        .await
        .context("the agent has no port")?;
    let agent_port = agent.local_addr().context("the agent's address")?.port();
    record.ports = vec![port.number];
    record.endpoints.agent = Some(format!("http://{}:{agent_port}", record.address));
    record.endpoints.api = Some(format!("http://{}:{}", record.address, port.number));
    record.auth.key_file = Some(password_file.display().to_string());
    step.facts([
        ("prometheus", binary.to_string().into()),
        ("address", record.address.clone().into()),
        ("port", port.number.into()),
        ("url", record.endpoints.api.clone().into()),
        ("page", record.endpoints.agent.clone().into()),
        ("tsdb_folder", options.data.display().to_string().into()),
        ("scrape_interval_seconds", interval.as_secs_f64().into()),
    ]);

    let scope = if context.in_stack {
        Scope::Run {
            id: context.run.id.clone(),
            cluster: context.cluster().to_owned(),
        }
    } else {
        Scope::Service {
            name: plan.service_name.clone(),
            cluster: context.cluster().to_owned(),
        }
    };
    let publication = Publication::publish(&context.store, record, &context.shutdown)
        .or_exit(Exit::CannotCreate, || {
            "the monitor cannot register".to_owned()
        })?;
    let metrics = Metrics::default();
    let board = Board::default();
    let source = page::Source {
        board: board.clone(),
        run: context.run.clone(),
        scope: scope.clone(),
        since: alarms.since(),
        interval,
    };
    let page = page::page(source, password);
    let (serving, samplers) = serve((agent, bearer), page, &publication, &metrics, context);
    step.facts([("samplers", samplers.facts())]);
    let monitor = Monitor::new(super::supervise::Parts {
        context: context.clone(),
        named: plan.targets.clone(),
        scope,
        scraping,
        binary,
        options,
        folder,
        publication,
        metrics,
        agent: serving,
        samplers,
        alarms,
        board,
        grafana: plan.grafana.clone(),
        step,
    });
    // before Prometheus starts, so that it never misses a file
    monitor.write_targets()?;
    check_configuration(context, &monitor.parts.options.config).await;
    Ok(monitor)
}

/// Prometheus: the image that the recipe names where it is there, else the program on the `PATH`, else the image, from
/// where the recipe says that it can be had.
async fn find(config: &Config, context: &Context, step: &StepNote) -> Result<Binary, Failure> {
    let env = &context.env;
    let plan = Plan::Monitor(config.plan.clone());
    let named = Image::of(&plan, env, &context.site, &context.home);
    // what is missing says so itself
    let missing = |error: process::Error| Failure::new(Exit::Unavailable, error.to_string());
    let Some(named) = named else {
        return Binary::find(env, &context.site, None).map_err(missing);
    };
    if named.state()? == State::Missing {
        match Binary::find(env, &context.site, None) {
            Ok(program) => {
                tracing::info!(image = %named.path.display(), "The image of Prometheus is not there; taking the program on the PATH");
                return Ok(program);
            }
            Err(error) if command::program(env, &context.site).is_none() => {
                return Err(missing(error));
            }
            Err(_) => {}
        }
    }
    let facts = image::fetch(&named, &config.entry, context, step).await?;
    image::sum(&named, &facts, context, step, &context.shutdown.drain);
    Binary::find(env, &context.site, Some(&named.path)).map_err(missing)
}

fn put(folder: &LocalFolder, name: &str, text: &str) -> anyhow::Result<std::path::PathBuf> {
    let path = folder.path().join(name);
    let result = files::write_atomic(&path, text.as_bytes(), 0o600, Durability::Fast);
    written(result, "Prometheus's configuration")?;
    Ok(path)
}

/// The node-local folder of Prometheus's data. What a killed monitor of this stack left is removed: where the node's disk
/// is memory, it is the job's. (Without Slurm its Prometheus may not have ended yet; the stack takes it away later.)
fn data_folder(
    context: &Context,
    record: &Record,
    sharing: Sharing,
) -> anyhow::Result<LocalFolder> {
    if context.in_stack && context.job.is_some() {
        let ours = [Kind::Monitor, Kind::Grafana];
        context.sweep(|other| ours.contains(&other.kind) && context.owns(other));
    }
    let parent = context.site.local_folder(&context.env);
    let folder = LocalFolder::create(
        &parent,
        &local_name(&record.instance_id, "prometheus"),
        sharing,
    )
    .or_exit(Exit::CannotCreate, || {
        "there is no place for Prometheus's data".to_owned()
    })?;
    if folder.medium == Medium::Memory {
        tracing::warn!(
            folder = %folder.path().display(),
            cap = MEMORY_CAP,
            "Prometheus's data lies in memory and counts against the job; its size is capped"
        );
    }
    Ok(folder)
}

fn serve(
    (listener, key): (TcpListener, String),
    page: Page,
    publication: &Publication,
    metrics: &Metrics,
    context: &Context,
) -> (Serving, Samplers) {
    let mut registry = Registry::default();
    metrics.register(&mut registry);
    let samplers = host::register(&mut registry, &context.env);
    let (record, told) = (publication.clone(), samplers.clone());
    let own = Agent {
        key,
        metrics: registry,
        instance: Box::new(move || told.beside(record.record())),
        engine: None,
        scrapes: Arc::clone(&metrics.scrapes),
    };
    let serving = Arc::new(own).serve_with(Some(page), listener, &context.shutdown);
    (serving, samplers)
}

/// Has `promtool`, where there is one, look at the configuration. Prometheus itself refuses a bad one: this only warns.
async fn check_configuration(context: &Context, file: &Path) {
    let Some(promtool) = context.env.find_program("promtool") else {
        return;
    };
    let checked = tokio::process::Command::new(promtool)
        .args(["check", "config"])
        .arg(file)
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output();
    match tokio::time::timeout(Duration::from_secs(10), checked).await {
        Ok(Ok(output)) if output.status.success() => {}
        Ok(Ok(output)) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            tracing::warn!(said, "promtool finds fault with the configuration");
        }
        Ok(Err(error)) => tracing::debug!(%error, "promtool could not be run"),
        Err(_) => tracing::debug!("promtool did not answer"),
    }
}
