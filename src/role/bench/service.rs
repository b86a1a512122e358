//! What is loaded: instances from the registry, or one address; their model, keys and counters.

use std::{net::ToSocketAddrs as _, sync::Arc, time::Duration};

use super::{Config, effort};
use crate::{
    api::{
        client::{self, Access},
        openai,
    },
    clock, engine,
    exit::{Exit, Failure, OrExit as _},
    files,
    load::{
        connection::{Pool, Tcp},
        exchange::Target,
    },
    recipe::{Api, ClientPlan, EngineKind, client::Hidden, request::Place},
    registry::{Record, Scope, Store, lookup},
    role::Context,
    stats::{
        engine_counters,
        results::{Collection, Counted, TargetFacts, Tokens},
        whole::Whole,
    },
    tls::{self, Tls},
};

/// Small questions are answered within this.
const ASK: Duration = Duration::from_secs(10);
/// An engine may count a request this long after its end.
const SETTLE: Duration = Duration::from_secs(2);

/// One instance.
#[derive(Debug, Clone)]
struct Instance {
    url: String,
    key: Option<String>,
    /// What its connections are encrypted with.
    tls: Option<Tls>,
    /// Where its collection of vectors is, after the URL.
    place: String,
    /// Its metrics, and the engine whose names they have.
    metrics: Option<(String, EngineKind)>,
}

/// The service.
#[derive(Debug, Clone)]
pub(super) struct Service {
    instances: Vec<Instance>,
    /// Model named in the requests.
    pub(super) model: String,
    /// The collection of vectors that it holds.
    pub(super) collection: Option<Collection>,
    /// For the results.
    pub(super) facts: TargetFacts,
    /// The records, where it came from the registry.
    pub(super) records: Vec<Record>,
}

/// The engine's counters: prompt and output tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Counters {
    prompt: f64,
    output: f64,
}

impl Service {
    /// Finds it: at the URL, else by its name, waiting until it is ready.
    pub(super) async fn find(config: &Config, context: &Context) -> anyhow::Result<Self> {
        let mut service = match &config.url {
            Some(url) => Self::at(url, config)?,
            None => Self::by_name(config, context).await?,
        };
        service.resolve()?;
        service.model = match config
            .plan
            .workload
            .model_name
            .clone()
            .or_else(|| service.facts.model.clone())
        {
            Some(model) => model,
            None if !needs_model(&config.plan) => return Ok(service),
            None => service.ask_model().await?,
        };
        service.facts.model = Some(service.model.clone());
        Ok(service)
    }

    /// Can its names be resolved here?
    fn resolve(&self) -> anyhow::Result<()> {
        for instance in &self.instances {
            let (authority, _) = place(instance)?;
            let (_, authority) = tls::split(authority, default_port(instance));
            let addresses = authority.to_socket_addrs();
            addresses.or_exit(Exit::Unavailable, || {
                format!("{authority} cannot be resolved on this node")
            })?;
        }
        Ok(())
    }

    fn at(url: &str, config: &Config) -> anyhow::Result<Self> {
        let url = url.trim_end_matches('/').to_owned();
        let key = config
            .api_key_file
            .as_deref()
            .map(files::read_text)
            .transpose();
        let key = key.or_exit(Exit::NoInput, || {
            "the key of the service cannot be read".to_owned()
        })?;
        let tls = tls::is_wanted(&url).then(|| Tls::new(config.ca_file.as_deref()));
        let tls = tls
            .transpose()
            .or_exit(Exit::Usage, || format!("{url} cannot be reached by TLS"))?;
        Ok(Self {
            facts: TargetFacts {
                urls: vec![url.clone()],
                ..TargetFacts::default()
            },
            instances: vec![Instance {
                url,
                key: key.map(|key| key.trim().to_owned()),
                tls,
                place: String::new(),
                metrics: None,
            }],
            collection: None,
            model: String::new(),
            records: Vec::new(),
        })
    }

    async fn by_name(config: &Config, context: &Context) -> anyhow::Result<Self> {
        let run = context.in_stack.then_some(context.run.id.as_str());
        let scope = Scope::new(context.job.as_ref(), run, &context.site.clusters);
        let records = lookup::wait_ready(
            &context.store,
            &scope,
            &config.wanted,
            config.wait,
            &context.shutdown,
        )
        .await;
        let records = records.map_err(|error| Failure::new(error.exit(), error.to_string()))?;
        Self::of_records(records)
    }

    /// The service as another task has found it: these records, or the URL where there are none.
    pub(super) fn given(
        config: &Config,
        records: Vec<Record>,
        model: String,
    ) -> anyhow::Result<Self> {
        let mut service = match &config.url {
            Some(url) => Self::at(url, config)?,
            None => Self::of_records(records)?,
        };
        service.resolve()?;
        service.facts.model = Some(model.clone());
        service.model = model;
        Ok(service)
    }

    fn of_records(records: Vec<Record>) -> anyhow::Result<Self> {
        let instances = records
            .iter()
            .map(instance)
            .collect::<anyhow::Result<Vec<_>>>()?;
        let first = records.first();
        Ok(Self {
            facts: TargetFacts {
                urls: instances
                    .iter()
                    .map(|instance| instance.url.clone())
                    .collect(),
                model: first.and_then(|record| record.model.clone()),
                engine: first.and_then(|record| record.engine.clone()),
                instances: records
                    .iter()
                    .map(|record| record.instance_id.clone())
                    .collect(),
                nodes: records.iter().map(|record| record.node.clone()).collect(),
                ..TargetFacts::default()
            },
            instances,
            collection: None,
            model: String::new(),
            records,
        })
    }

    /// The model that the service names first.
    async fn ask_model(&self) -> anyhow::Result<String> {
        let instance = &self.instances[0];
        let answer = client::get_by(
            &format!("{}/v1/models", instance.url),
            &access(instance),
            ASK,
            instance.tls.as_ref(),
        )
        .await
        .or_exit(Exit::Unavailable, || {
            format!("{} does not answer", instance.url)
        })?;
        let models: serde_json::Value = answer.json().unwrap_or_default();
        models["data"][0]["id"].as_str().map(str::to_owned).ok_or_else(|| {
            let message = format!(
                "{} names no model at /v1/models (status {}); give one by --model or dataset.params.model_name",
                instance.url, answer.status
            );
            Failure::new(Exit::Unavailable, message).into()
        })
    }

    /// Takes note of the collections that were made, one on each instance.
    pub(super) fn store_at(&mut self, places: Vec<String>, collection: Collection) {
        for (instance, place) in self.instances.iter_mut().zip(places) {
            instance.place = place;
        }
        self.collection = Some(collection);
    }

    /// Targets of the load.
    pub(super) fn targets(&self, plan: &ClientPlan) -> Vec<Target<Tcp>> {
        let headers = plan.headers.iter();
        let headers: Vec<String> = headers
            .map(|(name, Hidden(value))| format!("\r\n{name}: {value}"))
            .collect();
        let headers: Arc<str> = headers.concat().into();
        // its own name for the header of a key
        let by_header = plan.api == Api::Qdrant;
        let target = |instance: &Instance| {
            // looked at when it was found
            let (authority, prefix) = place(instance).unwrap_or_default();
            Target {
                pool: Pool::new(Tcp::new(instance.tls.clone()), authority)
                    .keep_alive(plan.keep_alive),
                path: format!("{prefix}{}{}", openai::path(plan.api), instance.place),
                key: instance.key.clone().filter(|_| !by_header),
                headers: match instance.key.as_ref().filter(|_| by_header) {
                    Some(key) => format!("{headers}\r\napi-key: {key}").into(),
                    None => Arc::clone(&headers),
                },
                live: Arc::default(),
            }
        };
        self.instances.iter().map(target).collect()
    }

    /// Is one of its addresses this machine's own: the loopback's, or that of another interface?
    pub(super) fn is_here(&self) -> bool {
        self.instances.iter().any(|instance| {
            let Ok((authority, _)) = place(instance) else {
                return false;
            };
            let (_, authority) = tls::split(authority, default_port(instance));
            let addresses = authority.to_socket_addrs().into_iter().flatten();
            effort::is_own(addresses.map(|address| address.ip()))
        })
    }

    /// Time until the first job of the service ends, less a slack; `None` where no end is known.
    pub(super) fn ends_in(&self, slack: Duration) -> Option<Duration> {
        let ends = self
            .records
            .iter()
            .filter_map(|record| record.ends_at)
            .min()?;
        let left = ends.duration_since(clock::now());
        Some(
            Duration::try_from(left)
                .unwrap_or_default()
                .saturating_sub(slack),
        )
    }

    /// The engine's counters now, summed over instances; `None` where one does not tell.
    pub(super) async fn counters(&self, context: &Context) -> Option<Counters> {
        let mut sum = Counters::default();
        for instance in &self.instances {
            let one = read_counters(instance, &context.store).await?;
            sum = Counters {
                prompt: sum.prompt + one.prompt,
                output: sum.output + one.output,
            };
        }
        (!self.instances.is_empty()).then_some(sum)
    }

    /// The tokens of the whole load, by us and by the engine. Engines count a request at its end or a moment later, so
    /// counters that do not agree yet are read again.
    pub(super) async fn counted(
        &self,
        context: &Context,
        before: Option<Counters>,
        load: Whole,
    ) -> Tokens {
        let (prompt, output) = (load.prompt_tokens, load.output_tokens);
        let mut tokens = Tokens {
            counted_by: if load.uncounted == 0 {
                "usage"
            } else {
                "chunks"
            }
            .to_owned(),
            prompt: Counted {
                client: prompt,
                engine: None,
            },
            output: Counted {
                client: output,
                engine: None,
            },
        };
        let Some(before) = before else { return tokens };
        let deadline = tokio::time::Instant::now() + SETTLE;
        loop {
            let Some(after) = self.counters(context).await else {
                return tokens;
            };
            tokens.prompt.engine = Some(whole(after.prompt - before.prompt));
            tokens.output.engine = Some(whole(after.output - before.output));
            let agree =
                tokens.output.engine >= Some(output) && tokens.prompt.engine >= Some(prompt);
            if agree || tokio::time::Instant::now() >= deadline {
                return tokens;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Is a model named in its requests? In one that is written out, where its template says so.
fn needs_model(plan: &ClientPlan) -> bool {
    let request = plan.workload.request.as_ref();
    !plan.api.is_of_vectors() && request.is_none_or(|request| request.holds(Place::Model))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a counter's difference, far below 2^53"
)]
fn whole(difference: f64) -> u64 {
    difference.max(0.0).round() as u64
}

fn instance(record: &Record) -> anyhow::Result<Instance> {
    let url = record.endpoints.api.clone().ok_or_else(|| {
        Failure::new(
            Exit::Unavailable,
            format!(
                "instance {} names no address of its API",
                record.instance_id
            ),
        )
    })?;
    let key = record
        .auth
        .key_file
        .as_deref()
        .map(|file| files::read_text(file.as_ref()))
        .transpose();
    let key = key.or_exit(Exit::NoPermission, || {
        format!("the key of instance {} cannot be read", record.instance_id)
    })?;
    let kind = record.engine.as_deref().and_then(EngineKind::by_name);
    Ok(Instance {
        url,
        key: key.map(|key| key.trim().to_owned()),
        tls: None,
        place: String::new(),
        metrics: record.endpoints.metrics.clone().zip(kind),
    })
}

fn access(instance: &Instance) -> Access {
    instance.key.clone().map_or(Access::Open, Access::Bearer)
}

async fn read_counters(instance: &Instance, store: &Store) -> Option<Counters> {
    let (url, kind) = instance.metrics.as_ref()?;
    let profile = engine::profile(*kind);
    let key = store.scrape_key().ok()?;
    let answer = client::get(url, &Access::Bearer(key), ASK).await.ok()?;
    let text = answer.text();
    Some(Counters {
        prompt: engine_counters::sum(&text, profile.prompt_tokens)?,
        output: engine_counters::sum(&text, profile.output_tokens)?,
    })
}

/// `host:port` of an instance, and what stands before the path of an API.
fn place(instance: &Instance) -> anyhow::Result<(&str, &str)> {
    let url = &instance.url;
    let scheme = if instance.tls.is_some() {
        "https://"
    } else {
        "http://"
    };
    let rest = url.strip_prefix(scheme).ok_or_else(|| {
        Failure::new(
            Exit::Usage,
            format!("{url} is no http:// or https:// address"),
        )
    })?;
    Ok(rest.split_at(rest.find('/').unwrap_or(rest.len())))
}

const fn default_port(instance: &Instance) -> u16 {
    if instance.tls.is_some() {
        tls::HTTPS
    } else {
        80
    }
}
