//! The bench: looks a service up, loads it by its recipe, and says what came of it and how far that can be trusted.
//!
//! Life: step file → record `starting` → look-up (which waits) → calibration → `ready` → load → results → `done` →
//! one last scrape of its exporter → record withdrawn. Told to end, it sends nothing more, waits a little for what is
//! in flight, and writes what it has, marked `interrupted`.
//!
//! Several tasks of one step are one bench ([`tasks`]): task 0 is the bench of the run, the others send for it.
//!
//! [`service`] is what is loaded, [`counters`] is what it counts itself, [`calibrate`] finds the prompt length, where need be by [`tokenize`], [`measure`] is one load, [`series`] several,
//! [`exporter`] is what Prometheus sees, [`watch`] is what goes on beside the load, [`progress`] what is shown of it,
//! [`vectors`] makes the collection that queries go to, [`sight`] whether the service is still there, [`keep`] writes the samples, [`certify`] tells how far the measured times
//! are from true ones, [`outcome`] turns samples into results, [`place`] is where these are written.
//!
//! What can fail: no service in time (69), a service lost on the way (69, or 75 where its whole node is silent; results
//! kept), results that cannot be written (73), a result that is invalid (80).

mod asked;
mod calibrate;
mod certify;
mod counters;
mod effort;
mod exporter;
mod keep;
mod measure;
mod outcome;
mod place;
mod progress;
mod series;
mod service;
mod sight;
mod tasks;
mod tokenize;
mod tokens;
mod vectors;
mod watch;

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::{net::TcpListener, time::Instant};

use self::{
    exporter::Exporter,
    place::Place,
    service::Service,
    tasks::{Seat, Team},
    watch::Ending,
};
use crate::{
    api::vectors::dialect,
    clock,
    env::Env,
    exit::{Exit, Failure, OrExit as _},
    launch::cpus,
    load::{
        connection::Tcp,
        dispatch::Load,
        room,
        workload::{Content, Material},
    },
    process::address::listening_address,
    recipe::{ClientPlan, LoadModel, Series},
    registry::{Endpoints, Kind, Publication, Record, State, Wanted},
    report::table::Table,
    role::{Context, StepNote},
    run::RecipeEntry,
    samples::Recorder,
    shutdown::Cause,
    slurm::job_env::JobEnv,
    stats::results::Verdict,
    telemetry::{
        agent::{self, Agent, Serving},
        host::Samplers,
        paced,
    },
    terminal,
};

/// Event loops that send and read, at the most.
const WORKERS: usize = 16;
/// A job that ends must leave requests this long to be answered.
const END_SLACK: Duration = Duration::from_secs(30);
/// A monitor may take this long for its last scrape of us.
const LAST_SCRAPE: Duration = Duration::from_secs(5);

/// What a bench is started with.
#[derive(Debug, Clone)]
pub struct Config {
    /// The plan.
    pub plan: ClientPlan,
    /// What the file that the plan names gives.
    pub material: Material,
    /// The recipe, as the manifest keeps it.
    pub entry: RecipeEntry,
    /// Goes around the registry.
    pub url: Option<String>,
    /// The key of the service at `url`.
    pub api_key_file: Option<PathBuf>,
    /// Whom to trust at `url`, where that is not the system's to say.
    pub ca_file: Option<PathBuf>,
    /// What is looked up.
    pub wanted: Wanted,
    /// Where the results go; `bench/<name>` of the run where it is not given.
    pub out: Option<PathBuf>,
    /// An invalid result is no failure.
    pub allow_invalid: bool,
    /// How long to wait for the service.
    pub wait: Duration,
    /// Print the results as JSON.
    pub json: bool,
}

/// The load with real connections, a live exporter, and a file of samples where there is one.
type RealLoad = Load<Tcp, (Arc<Exporter>, Option<Arc<Recorder>>)>;

/// Is this process one of several tasks of a bench, and not the one that leads? Then the run is another's.
pub fn is_member(job: Option<&JobEnv>, env: &Env) -> bool {
    Seat::of(job, env).is_some_and(|seat| seat.task > 0)
}

/// Loads the service and writes what came of it.
///
/// # Errors
/// No service, or results that cannot be written.
pub async fn run(config: Config, context: &Context) -> anyhow::Result<Exit> {
    let seat = Seat::of(context.job.as_ref(), &context.env);
    enough_files(&config.plan, seat.map_or(1, |seat| seat.tasks))?;
    if seat.is_some() {
        one_window(&config.plan)?;
    }
    if let Some(seat) = seat.filter(|seat| seat.task > 0) {
        return Box::pin(tasks::assist(&config, context, seat)).await;
    }
    let note = StepNote::begin(
        &format!("bench-{}", config.plan.name),
        &config.plan.name,
        context,
    )?;
    let folder = config
        .out
        .clone()
        .unwrap_or_else(|| context.run.bench(&config.plan.name));
    let place = Place::take(&folder)?;
    let exporter = Arc::new(Exporter::new(config.plan.api));
    let own = context.record(Kind::Bench, &config.plan.service_name, &config.plan.name);
    let listener = match seat {
        Some(_) => Some(tasks::listen(context, &own.address).await?),
        None => None,
    };
    let (publication, agent, serving, samplers) =
        register(&config, context, &exporter, listener.as_ref()).await?;
    let team = Team::open(seat.zip(listener), context, &folder)?;
    let bench = Bench {
        config: &config,
        context,
        folder,
        exporter,
        publication: &publication,
        note,
        samplers,
        team,
    };
    let ended = Box::pin(bench.run(place)).await;
    let exit = ended.as_ref().map_or_else(Exit::of, |exit| *exit);
    bench.team.dismiss(exit, context).await;
    if ended.is_ok() {
        linger(context, &publication, &agent).await;
    }
    bench.tell_samplers();
    publication.withdraw();
    serving.stop();
    ended
}

/// Takes all open files that there are, and refuses more users than these can connect.
fn enough_files(plan: &ClientPlan, tasks: u32) -> Result<(), Failure> {
    let files = room::raise().or_exit(Exit::NoPermission, || {
        "the limit of open files cannot be raised".to_owned()
    })?;
    let largest = plan.series.as_ref().and_then(Series::largest);
    let load = match largest {
        Some((of, value)) => plan.load.clone().at(of, value),
        None => plan.load.clone(),
    };
    let LoadModel::ClosedLoop {
        concurrent_users, ..
    } = load
    else {
        return Ok(());
    };
    let own = u64::from(concurrent_users.div_ceil(tasks.max(1)));
    let workers = cpus::allowed().len().min(WORKERS);
    let held = room::connections(files, workers);
    if own <= held {
        return Ok(());
    }
    let message = format!(
        "{own} users at once want as many connections, and this machine gives a process {files} open files, which are {held} connections: ask for fewer users, raise the hard limit (ulimit -Hn), or use more tasks"
    );
    Err(Failure::new(Exit::Recipe, message))
}

/// Refuses what several tasks cannot do: users who warm up by requests begin the window when they come to it, and tasks do
/// not ask each other while the load runs.
fn one_window(plan: &ClientPlan) -> Result<(), Failure> {
    let by_users = matches!(plan.load, LoadModel::ClosedLoop { .. });
    if by_users && plan.warmup_requests.is_some() {
        let message = "several tasks cannot warm up by requests in a closed loop, for their window begins at one moment: write \"warmup_seconds\" in place of \"warmup_requests\"";
        return Err(Failure::new(Exit::Recipe, message));
    }
    if plan.api.is_of_vectors() {
        let message =
            "several tasks cannot ask one collection of vectors: run the bench as one task";
        return Err(Failure::new(Exit::Recipe, message));
    }
    Ok(())
}

/// Registers the bench with its exporter, which tells of the node too, and with the port where its tasks meet.
async fn register(
    config: &Config,
    context: &Context,
    exporter: &Arc<Exporter>,
    meeting: Option<&TcpListener>,
) -> anyhow::Result<(Publication, Arc<Agent>, Serving, Option<Samplers>)> {
    let job = context.job.as_ref();
    let plan = &config.plan;
    let mut record = context.record(Kind::Bench, &plan.service_name, &plan.name);
    let host = listening_address(&record.address, job.is_some());
    let listener = agent::listen(host, context.site.ports())
        .await
        .or_exit(Exit::Unavailable, || {
            "the bench's exporter has no port".to_owned()
        })?;
    let port = listener
        .local_addr()
        .or_exit(Exit::Bug, || "no address".to_owned())?
        .port();
    let base = format!("http://{}:{port}", record.address);
    let meeting = meeting.and_then(|listener| listener.local_addr().ok());
    record.ports = std::iter::once(port)
        .chain(meeting.map(|address| address.port()))
        .collect();
    record.endpoints = Endpoints {
        api: None,
        metrics: Some(format!("{base}/metrics")),
        agent: Some(base),
    };
    let publication = Publication::publish(&context.store, record, &context.shutdown)
        .or_exit(Exit::CannotCreate, || {
            "the bench cannot be registered".to_owned()
        })?;
    let mut metrics = exporter.registry();
    // one task of the step on this node is enough: they would tell the same of node and step
    let first = context.env.get("SLURM_LOCALID").unwrap_or("0") == "0";
    let samplers = first.then(|| paced::register(&mut metrics, &context.env));
    let (shown, beside) = (publication.clone(), samplers.clone());
    let agent = Arc::new(Agent {
        key: context
            .store
            .scrape_key()
            .or_exit(Exit::NoPermission, || "no key for the exporter".to_owned())?,
        metrics,
        instance: Box::new(move || match &beside {
            Some(samplers) => samplers.beside(shown.record()),
            None => serde_json::to_value(shown.record()).unwrap_or_default(),
        }),
        engine: None,
        scrapes: Arc::default(),
    });
    let serving = Arc::clone(&agent).serve(listener, &context.shutdown);
    Ok((publication, agent, serving, samplers))
}

/// A bench that is registered.
struct Bench<'a> {
    config: &'a Config,
    context: &'a Context,
    /// Where its results go.
    folder: PathBuf,
    exporter: Arc<Exporter>,
    publication: &'a Publication,
    note: StepNote,
    /// Of the node.
    samplers: Option<Samplers>,
    /// Other tasks that send for it.
    team: Team,
}

impl Bench<'_> {
    /// Finds the service, loads it, writes the results.
    async fn run(&self, place: Place) -> anyhow::Result<Exit> {
        let (config, context) = (self.config, self.context);
        let plan = &config.plan;
        self.team.gather(context).await?;
        let mut service = Service::find(config, context).await?;
        let Material::Vectors(set) = &config.material else {
            return Box::pin(self.load(place, &service)).await;
        };
        let dialect = dialect(plan.api)
            .ok_or_else(|| Failure::new(Exit::Bug, "an API of vectors has a dialect"))?;
        let drawn = Arc::clone(set);
        let drawing = context
            .shutdown
            .tasks
            .spawn_blocking(move || drawn.prepare());
        drawing
            .await
            .or_exit(Exit::Bug, || "the vectors cannot be drawn".to_owned())?;
        let stock = (dialect, Arc::clone(set));
        let store = vectors::Store::fill(&mut service, plan, stock, context, &self.exporter);
        let store = store.await?;
        let ended = Box::pin(self.load(place, &service)).await;
        // whatever came of it
        store.remove().await;
        ended
    }

    /// Loads what was found, writes the results.
    async fn load(&self, place: Place, service: &Service) -> anyhow::Result<Exit> {
        let (config, context) = (self.config, self.context);
        let folder = self.folder.as_path();
        let plan = &config.plan;
        tracing::info!(service = plan.service_name, instances = ?service.facts.instances, model = service.model, "Found the service");
        let content = Content::new(plan, config.material.clone(), &service.model);
        let calibration = calibrate::run(service, &content, plan, &context.shutdown).await?;
        self.announce()?;
        let (results, ending, written) = match &plan.series {
            None => {
                let load = self.measure(service, &calibration, plan, folder);
                let measured = Box::pin(load).await?;
                let written = place.write(plan, &measured);
                (measured.results, measured.ending, written)
            }
            Some(series) => {
                let done = Box::pin(self.series(series, place, service, &calibration)).await?;
                (done.results, done.ending, done.written)
            }
        };
        let results = &results;
        if let Some(first) = self.exporter.first_token_at() {
            let first = first.to_string().into();
            self.note.facts([("first_token_at", first)]);
        }
        self.state(|record| record.state = State::Done)?;
        // told in any case: what cannot be written into files is still to be read in the log
        let told = if config.json {
            terminal::json(results)
        } else {
            terminal::line(Table::of(
                &context.run.id,
                &plan.name,
                results,
                &plan.metrics,
            ))
        };
        written?;
        told?;
        self.note.facts([(
            "results",
            folder.join("results.json").display().to_string().into(),
        )]);
        self.exit(ending, results.validity.verdict)
    }

    /// Says in registry and step file that the load begins.
    fn announce(&self) -> Result<(), Failure> {
        self.note.ready();
        self.tell_samplers();
        self.state(|record| {
            record.state = State::Ready;
            record.ready_at = Some(clock::now());
        })
    }

    /// What could be measured of the node so far, for the report.
    fn tell_samplers(&self) {
        if let Some(samplers) = &self.samplers {
            self.note.facts([("samplers", samplers.facts())]);
        }
    }

    fn state(&self, change: impl FnOnce(&mut Record)) -> Result<(), Failure> {
        self.publication
            .update(change)
            .or_exit(Exit::CannotCreate, || {
                "the registry cannot be written".to_owned()
            })
    }

    /// How the bench ends: by how the load did, else by what its result is worth.
    fn exit(&self, ending: Ending, verdict: Verdict) -> anyhow::Result<Exit> {
        let folder = self.folder.display();
        match ending {
            Ending::Lost { what, exit } => {
                let message = format!(
                    "the service was lost while it was loaded ({what}); what was measured before is kept in {folder}"
                );
                Err(Failure::new(exit, message).into())
            }
            Ending::OutOfTime => {
                let message = format!(
                    "the job of the service is about to end: the load was stopped {} s before that, and what was measured is kept in {folder}",
                    END_SLACK.as_secs()
                );
                Err(Failure::new(Exit::TimeLimit, message).into())
            }
            Ending::Told => Ok(self
                .context
                .shutdown
                .cause()
                .map_or(Exit::Terminated, Cause::exit)),
            Ending::Planned if verdict == Verdict::Invalid && !self.config.allow_invalid => {
                Ok(Exit::Invalid)
            }
            Ending::Planned => Ok(Exit::Done),
        }
    }
}

/// Stays for one more scrape, where a monitor of this run is there to make it.
async fn linger(context: &Context, publication: &Publication, agent: &Agent) {
    let own = publication.record();
    let watched = || {
        context.store.records().iter().any(|record| {
            let same = context.owns(record)
                || record.service_name == own.service_name && record.cluster == own.cluster;
            record.kind == Kind::Monitor && record.state == State::Ready && same
        })
    };
    if !watched() || context.shutdown.stop.is_cancelled() {
        return;
    }
    // a scrape that is under way may have read before the last change: two more are sure to have seen it
    let before = agent.scrapes();
    let deadline = Instant::now() + LAST_SCRAPE;
    while agent.scrapes() < before + 2 && Instant::now() < deadline && watched() {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(100)) => {}
            () = context.shutdown.stop.cancelled() => return,
        }
    }
}
