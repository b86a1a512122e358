//! All that a server makes before its engine starts: step file, key, agent, record; and how it tells what changes.

use std::{
    fs, io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::Context as _;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use crate::{
    api::client::Access,
    apptainer::image::Image,
    clock,
    engine::{self, Profile},
    exit::{Exit, Failure, OrExit as _},
    process::{
        address::{listening_address, numeric_address},
        port, tree,
    },
    recipe::{Plan, ServerPlan},
    registry::{Kind, Publication, Record, State},
    role::{Context, StepNote, image, local_name},
    run::RecipeEntry,
    shutdown::Cause,
    telemetry::{
        agent::{self, Agent, Serving},
        cgroup,
        host::{self, Samplers},
    },
};

use super::{
    Config,
    engine::Engine,
    launch::Blanks,
    metrics::{self, Shared},
};

/// Ended children that the engine lost are taken away this often.
const REAPING: std::time::Duration = std::time::Duration::from_secs(10);

/// The key of this instance.
pub(super) struct Key {
    pub(super) file: PathBuf,
    pub(super) secret: String,
}

/// A server without its engine.
pub(super) struct Parts<'a> {
    pub(super) plan: &'a ServerPlan,
    /// The image that the engine is started from, where one is known.
    pub(super) image: Option<Image>,
    entry: &'a RecipeEntry,
    pub(super) context: &'a Context,
    pub(super) profile: &'static Profile,
    pub(super) instance: String,
    /// Rank in an engine over several nodes; 0 in any other.
    pub(super) rank: u32,
    /// Address and port at which its ranks meet.
    meeting: (String, u16),
    pub(super) key: Option<Key>,
    /// Where the key of the instance is: rank 0's, which the others may want, too.
    pub(super) key_file: Option<PathBuf>,
    /// The engine's log.
    pub(super) log: PathBuf,
    /// Its caches on the node's own disk, which are there for as long as the instance is.
    pub(super) caches: PathBuf,
    pub(super) shared: Shared,
    samplers: Samplers,
    pub(super) publication: Publication,
    /// Kills for want of memory that were counted when the engine was started.
    pub(super) kills_before: AtomicU64,
    /// Size of its log then: an earlier start's complaint is no cause of a later one's end.
    pub(super) log_before: AtomicU64,
    step: StepNote,
    agent: Serving,
    over: CancellationToken,
}

/// Makes everything but the engine.
pub(super) async fn start<'a>(
    config: &'a Config,
    context: &'a Context,
    step: StepNote,
    leader: Option<&Record>,
) -> anyhow::Result<Parts<'a>> {
    let plan = &config.plan;
    let job = context.job.as_ref();
    let kind = leader.map_or(Kind::Server, |_| Kind::Rank);
    let mut record = context.record(kind, &plan.service_name, &plan.name);
    record.nodes = plan.resources.nodes();
    let meeting = if let Some(leader) = leader {
        let port = leader.meeting_port.unwrap_or_default();
        (leader.address.clone(), port)
    } else {
        let port = port::draw(context.site.ports(), &[])
            .or_exit(Exit::Unavailable, || "no port is left".to_owned())?;
        record.meeting_port = (record.nodes > 1).then_some(port);
        (record.address.clone(), port)
    };
    let rank = leader.map_or(0, |_| record.rank);
    let instance = record.instance_id.clone();
    let log = context.run.log(&format!("engine-{}", record.short_id()));
    let caches = context
        .site
        .local_folder(&context.env)
        .join(local_name(&instance, "cache"));
    record.engine = Some(plan.engine.name().to_owned());
    record.model.clone_from(&plan.model);

    // only rank 0 is asked
    let key = if plan.auth_key && leader.is_none() {
        let (file, secret) = context
            .store
            .create_key(&instance)
            .context("the key of the instance")?;
        record.auth.key_file = Some(file.display().to_string());
        Some(Key { file, secret })
    } else {
        None
    };

    let host = listening_address(&record.address, job.is_some());
    let listener = agent::listen(host, context.site.ports())
        .await
        .context("the agent cannot listen")?;
    let port = listener.local_addr().context("the agent's port")?.port();
    record.endpoints.agent = Some(format!("http://{}:{port}", record.address));

    let bearer = context
        .store
        .scrape_key()
        .context("the key of all agents")?;
    let publication = Publication::publish(&context.store, record, &context.shutdown)
        .context("the record cannot be published")?;
    let shared = Shared::default();
    shared.state(State::Starting);
    let mut metrics = Registry::default();
    metrics.register_collector(Box::new(shared.clone()));
    let samplers = host::register(&mut metrics, &context.env);
    let (told, relayed, sampled) = (publication.clone(), shared.clone(), samplers.clone());
    let agent = Arc::new(Agent {
        key: bearer,
        metrics,
        instance: Box::new(move || sampled.beside(told.record())),
        engine: Some(Box::new(move || relayed.upstream())),
        scrapes: Arc::default(),
    })
    .serve(listener, &context.shutdown);

    let whole = Plan::Server(plan.clone());
    let leaders = leader.and_then(|leader| leader.auth.key_file.as_ref());
    let parts = Parts {
        plan,
        key_file: (key.as_ref().map(|key| key.file.clone())).or_else(|| leaders.map(PathBuf::from)),
        image: Image::of(&whole, &context.env, &context.site, &context.home),
        entry: &config.entry,
        context,
        profile: engine::profile(plan.engine),
        instance,
        rank,
        meeting,
        key,
        shared,
        samplers,
        publication,
        kills_before: AtomicU64::default(),
        log_before: AtomicU64::default(),
        step,
        agent,
        over: CancellationToken::new(),
        log,
        caches,
    };
    parts.reap_adopted();
    let log = parts.log.strip_prefix(&parts.context.run.path);
    let log = log.unwrap_or(&parts.log).display().to_string();
    parts.step.facts([
        ("engine_log", log.into()),
        ("engine", parts.plan.engine.name().into()),
        ("instance_id", parts.instance.as_str().into()),
    ]);
    tracing::info!(
        instance = parts.instance,
        service = plan.service_name,
        "Registered the server"
    );
    Ok(parts)
}

impl Parts<'_> {
    /// Folder that the engine starts in.
    pub(super) fn folder(&self) -> PathBuf {
        let folder = self.context.home.join(&self.plan.working_dir);
        std::path::absolute(&folder).unwrap_or(folder)
    }

    /// The file of the recipe's command, on the node's own disk.
    pub(super) fn script(&self) -> PathBuf {
        let folder = self.context.site.local_folder(&self.context.env);
        folder.join(local_name(&self.instance, "script"))
    }

    /// What is filled into arguments for these ports.
    pub(super) fn blanks(&self, ports: &[u16]) -> Blanks {
        let record = self.publication.record();
        Blanks {
            host: listening_address(&record.address, self.context.job.is_some()).to_string(),
            ports: ports.to_vec(),
            address: numeric_address(&record.address),
            rank: self.rank,
            nodes: record.nodes,
            head: self.meeting.0.clone(),
            head_port: self.meeting.1,
            api_key_file: self.key_file.clone(),
        }
    }

    /// How the engine is started over several nodes, where it is.
    pub(super) fn ranks(&self) -> Option<&'static engine::Ranks> {
        (self.plan.resources.nodes() > 1)
            .then_some(self.profile.ranks.as_ref())
            .flatten()
    }

    /// How one gets into the engine.
    pub(super) fn access(&self) -> Access {
        self.key
            .as_ref()
            .map_or(Access::Open, |key| Access::Bearer(key.secret.clone()))
    }

    /// Makes sure that the image is there and whole.
    pub(super) async fn fetch_image(&self) -> Result<(), Failure> {
        if let Some(image) = &self.image {
            let facts = image::fetch(image, self.entry, self.context, &self.step).await?;
            image::sum(image, &facts, self.context, &self.step, &self.over);
        }
        Ok(())
    }

    /// A failure, unless the role was told to end meanwhile.
    pub(super) fn told_or(&self, failure: Failure) -> Result<Exit, Failure> {
        self.context
            .shutdown
            .cause()
            .map(Cause::exit)
            .ok_or(failure)
    }

    /// Changes the state, everywhere.
    pub(super) fn state(&self, state: State) {
        self.shared.state(state);
        self.update(|record| record.state = state);
    }

    /// This rank has failed: says so to the others.
    pub(super) fn failed(&self, what: &str) {
        self.shared.state(State::Draining);
        self.update(|record| {
            record.state = State::Draining;
            record.failed = Some(what.to_owned());
        });
    }

    /// Rank 0 of the engine is ready, and so is this part of it.
    pub(super) fn announce_rank(&self, engine: &Engine) {
        let seconds = engine.seconds_to_ready;
        self.shared.ready(seconds, None);
        self.shared.state(State::Ready);
        let now = clock::now();
        self.update(|record| {
            record.state = State::Ready;
            record.ready_at = Some(now);
        });
        let (samplers, machine) = (self.samplers.facts(), self.samplers.machine());
        self.step.add(|step| {
            step.ready_at.get_or_insert(now);
            step.facts.insert("samplers".to_owned(), samplers);
            step.facts.insert("machine".to_owned(), machine);
        });
        tracing::info!(
            rank = self.rank,
            seconds,
            "The engine is ready, and this rank of it"
        );
    }

    /// The engine was lost, and is started again.
    pub(super) fn lost(&self, restarts: u32) {
        self.shared.lost(restarts);
        self.step.facts([("restarts", restarts.into())]);
        self.shared.state(State::Starting);
        self.update(|record| {
            record.state = State::Starting;
            record.ready_at = None;
            record.endpoints.api = None;
            record.endpoints.metrics = None;
        });
    }

    fn update(&self, change: impl FnOnce(&mut Record)) {
        if let Err(error) = self.publication.update(change) {
            tracing::warn!(%error, "Cannot write the record");
        }
    }

    /// The engine is ready: says so to everybody.
    pub(super) async fn announce(&self, engine: &Engine) -> Result<(), Failure> {
        let told = engine.ask_about_itself(self).await;
        let base = engine.base_url();
        let metrics = metrics::upstream(engine, self);
        let has_metrics = metrics.is_some();
        let seconds = engine.seconds_to_ready;
        self.shared.ready(seconds, metrics);
        self.shared.state(State::Ready);
        let now = clock::now();
        let published = self.publication.update(|record| {
            record.state = State::Ready;
            record.ready_at = Some(now);
            record.address.clone_from(&engine.host);
            record.ports.clone_from(&engine.ports);
            record.proof = Some(engine.proof);
            record.endpoints.metrics = record
                .endpoints
                .agent
                .as_ref()
                .filter(|_| has_metrics)
                .map(|agent| format!("{agent}/engine/metrics"));
            // the name that its API takes counts more than the path that the recipe gave
            if let Some(model) = &told.model {
                record.model = Some(model.clone());
            }
            record.endpoints.api = Some(base);
        });
        published.or_exit(Exit::CannotCreate, || {
            "the record of the engine that is ready cannot be written".to_owned()
        })?;
        let machine = self.samplers.machine();
        self.step.add(|step| {
            step.ready_at.get_or_insert(now);
            let facts = &mut step.facts;
            facts.insert("seconds_to_ready".to_owned(), seconds.into());
            facts.insert("port".to_owned(), engine.ports.first().copied().into());
            facts.insert("samplers".to_owned(), self.samplers.facts());
            facts.insert("machine".to_owned(), machine);
            if let Some(version) = told.version {
                facts.insert("engine_version".to_owned(), version.into());
            }
            if let Some(model) = told.model {
                facts.insert("model".to_owned(), model.into());
            }
        });
        tracing::info!(seconds, url = engine.base_url(), proof = ?engine.proof, "The engine is ready");
        Engine::tell_open_paths(self);
        Ok(())
    }

    /// An engine is about to be started.
    pub(super) fn starting(&self) {
        let size = fs::metadata(&self.log).map_or(0, |meta| meta.len());
        self.log_before.store(size, Ordering::Relaxed);
        self.kills_before.store(self.kills(), Ordering::Relaxed);
    }

    /// An engine was started.
    pub(super) fn started(&self, child: u32) {
        self.shared.started(child);
    }

    pub(super) fn kills(&self) -> u64 {
        let job = self.context.job.as_ref();
        cgroup::oom_kills(job.map(|job| job.job_id.as_str())).unwrap_or_default()
    }

    /// Takes away what the engine's processes leave to us, as long as the role lives.
    fn reap_adopted(&self) {
        let over = self.over.clone();
        self.context.shutdown.tasks.spawn(async move {
            let mut ended = Vec::new();
            loop {
                tokio::select! {
                    () = over.cancelled() => return,
                    () = tokio::time::sleep(REAPING) => ended = tree::reap_adopted(&ended),
                }
            }
        });
    }

    /// The last word of a rank: of rank 0 whoever started it writes that.
    pub(super) fn last_word(&self, ended: &Result<Exit, Failure>) {
        let failed = self.publication.record().failed;
        self.step.add(|step| {
            step.ended_at = Some(clock::now());
            step.exit = Some(match ended {
                Ok(exit) => *exit,
                Err(failure) => failure.exit,
            });
            step.error = failed;
        });
    }

    /// Leaves: record and key are gone, the agent listens no more.
    pub(super) fn leave(&self) {
        self.step.facts([("samplers", self.samplers.facts())]);
        self.over.cancel();
        self.publication.withdraw();
        self.agent.stop();
        // most engines never make it
        if let Err(error) = fs::remove_dir_all(&self.caches)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, folder = %self.caches.display(), "Cannot remove the engine's caches");
        }
    }
}
