//! What is loaded: instances from the registry, or one address; their model and keys.

use std::{net::ToSocketAddrs as _, sync::Arc, time::Duration};

use super::{Config, effort};
use crate::{
    api::{
        client::{self, Access},
        openai,
    },
    clock,
    exit::{Exit, Failure, OrExit as _},
    files,
    load::{
        connection::{Pool, Tcp},
        exchange::Target,
    },
    recipe::{Api, ClientPlan, EngineKind, client::Hidden, request::Place},
    registry::{Record, Scope, lookup},
    role::Context,
    stats::results::{Collection, TargetFacts},
    tls::{self, Tls},
};

/// Small questions are answered within this.
pub(super) const ASK: Duration = Duration::from_secs(10);
/// One instance.
#[derive(Debug, Clone)]
pub(super) struct Instance {
    pub(super) url: String,
    key: Option<String>,
    /// What its connections are encrypted with.
    pub(super) tls: Option<Tls>,
    /// Which engine it is, where that is known.
    pub(super) kind: Option<EngineKind>,
    /// Where its collection of vectors is, after the URL.
    place: String,
    /// Its metrics, and the engine whose names they have.
    pub(super) metrics: Option<(String, EngineKind)>,
}

/// The service.
#[derive(Debug, Clone)]
pub(super) struct Service {
    pub(super) instances: Vec<Instance>,
    /// Model named in the requests.
    pub(super) model: String,
    /// The collection of vectors that it holds.
    pub(super) collection: Option<Collection>,
    /// For the results.
    pub(super) facts: TargetFacts,
    /// The records, where it came from the registry.
    pub(super) records: Vec<Record>,
    /// Is one of its addresses this machine's own: the loopback's, or that of another interface?
    pub(super) is_here: bool,
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
    fn resolve(&mut self) -> anyhow::Result<()> {
        for instance in &self.instances {
            let (authority, _) = place(instance)?;
            let (_, authority) = tls::split(authority, default_port(instance));
            let addresses = authority.to_socket_addrs();
            let addresses = addresses.or_exit(Exit::Unavailable, || {
                format!("{authority} cannot be resolved on this node")
            })?;
            self.is_here |= effort::is_own(addresses.map(|address| address.ip()));
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
                kind: None,
                place: String::new(),
                metrics: None,
            }],
            collection: None,
            model: String::new(),
            records: Vec::new(),
            is_here: false,
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
            is_here: false,
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
}

/// Is a model named in its requests? In one that is written out, where its template says so.
fn needs_model(plan: &ClientPlan) -> bool {
    let request = plan.workload.request.as_ref();
    !plan.api.is_of_vectors() && request.is_none_or(|request| request.holds(Place::Model))
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
        kind,
        place: String::new(),
        metrics: record.endpoints.metrics.clone().zip(kind),
    })
}

/// How one gets into an instance.
pub(super) fn access(instance: &Instance) -> Access {
    instance.key.clone().map_or(Access::Open, Access::Bearer)
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
