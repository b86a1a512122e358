//! One start of an engine: a port, the process, and the proof that it is ready.
//!
//! Ready means: the probe answers at the address that others are given, the listening socket is the child's, the key is
//! taken where there is one, and the child lives. A drawn port may be lost to somebody faster between the draw and the
//! engine's own bind; then another one is drawn. A fixed port that is taken is an error that names its holder.

use std::time::Duration;

use hyper::StatusCode;
use tokio::time::Instant;

use crate::{
    api::client::{self, Access},
    exit::{Exit, Failure, OrExit as _},
    process::{
        child::{Child, Ended},
        port,
        proof::{self, Holder, Ours, Verdict},
        ready::{NotReady, wait_until_ready},
    },
    recipe::{EngineKind, Launch, PortChoice},
    registry::Proof,
    units::human_duration,
};

use super::{
    launch::{self, Script},
    preload,
    ranks::Peers,
    setup::Parts,
};

/// Ports that are drawn before it is given up.
const DRAWS: u32 = 5;
/// How long one probe may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// A command's own ports are looked for this often.
const SEARCH: Duration = Duration::from_secs(1);
/// What an engine that failed has to end in.
const FAREWELL: Duration = Duration::from_secs(5);

/// What to do about a port that somebody else holds.
const MEND: &str = "use `ports: [auto]` with {port} or $PORT, or end that process";

/// An engine that is ready.
pub(super) struct Engine {
    pub(super) child: Child,
    /// The address by which it is reached.
    pub(super) host: String,
    /// Its ports; the first is the API's.
    pub(super) ports: Vec<u16>,
    pub(super) proof: Proof,
    pub(super) seconds_to_ready: f64,
    _script: Option<Script>,
}

/// Why it did not become ready.
pub(super) struct Failed {
    pub(super) failure: Failure,
    /// Was the port lost to somebody else?
    port_lost: bool,
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        Self {
            failure,
            port_lost: false,
        }
    }
}

/// What an engine says of itself.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) version: Option<String>,
    pub(super) model: Option<String>,
}

/// What a probe found.
enum Found {
    Ready {
        host: String,
        port: u16,
        proof: Proof,
    },
    Stranger(Holder),
    /// The engine and somebody else both listen there.
    Shared(Holder),
    /// Rank 0, of which this is another, is ready.
    Follows,
    /// It answers, but refuses the key that it was given.
    KeyRefused(StatusCode),
}

impl Engine {
    /// Starts the engine and waits until it is ready, with its model. Dropping this ends what was started.
    pub(super) async fn bring_up(parts: &Parts<'_>, peers: &Peers) -> Result<Self, Failed> {
        preload::load(parts, Self::come_up(parts, peers).await?).await
    }

    async fn come_up(parts: &Parts<'_>, peers: &Peers) -> Result<Self, Failed> {
        if parts.plan.resources.nodes() > 1 {
            // the other ranks would not start again with this one
            return Self::start(parts, &choose_ports(parts, &[])?, peers).await;
        }
        let mut lost = Vec::new();
        loop {
            let ports = choose_ports(parts, &lost)?;
            match Self::start(parts, &ports, peers).await {
                Err(failed) if failed.port_lost && lost.len() + 1 < DRAWS as usize => {
                    tracing::warn!(
                        port = ports[0],
                        "The port was lost to somebody else; drawing another"
                    );
                    lost.push(ports[0]);
                }
                other => return other,
            }
        }
    }

    async fn start(parts: &Parts<'_>, ports: &[u16], peers: &Peers) -> Result<Self, Failed> {
        let port = ports[0];
        let (spec, script) = launch::spec(parts, ports)?;
        parts.starting();
        let child = Child::start(&spec, &parts.context.shutdown)
            .or_exit(Exit::Unavailable, || {
                "the engine cannot be started".to_owned()
            })?;
        parts.started(child.pid());
        tracing::info!(pid = child.pid(), port, log = %spec.log.display(), "Started the engine");
        // not for everybody's log: a recipe may hold what its author should not have written there
        tracing::debug!(argv = ?spec.argv, "The engine's command line");
        let start = Instant::now();
        let probe = Probe::new(parts, &child, port);
        let timeout = parts.plan.readiness.timeout;
        let timeout = timeout.unwrap_or(parts.profile.load_timeout);
        let ask = async |searched: &mut Instant| match peers.follows() {
            false => probe.ask(searched).await,
            true if peers.leader_is_ready().await => Ok(Found::Follows),
            true => Err("rank 0 is not ready".to_owned()),
        };
        let mut searched = start;
        let drain = &parts.context.shutdown.drain;
        let found = tokio::select! {
            biased;
            found = wait_until_ready(async || ask(&mut searched).await, child.ended(), timeout) => found,
            () = drain.cancelled() => Err(NotReady::TimedOut("told to end".to_owned())),
        };
        let drawn = parts.plan.ports[0] == PortChoice::Auto;
        let (failure, port_lost) = match found {
            Ok(Found::Ready { host, port, proof }) => {
                let mut ports = ports.to_vec();
                if ports[0] != port {
                    tracing::warn!(
                        declared = ports[0],
                        port,
                        "The engine listens elsewhere than declared; taking that port"
                    );
                    ports[0] = port;
                }
                child.note_shared_memory();
                return Ok(Self {
                    child,
                    host,
                    ports,
                    proof,
                    seconds_to_ready: start.elapsed().as_secs_f64(),
                    _script: script,
                });
            }
            Ok(Found::Follows) => {
                child.note_shared_memory();
                return Ok(Self {
                    child,
                    host: parts.publication.record().address,
                    ports: Vec::new(),
                    proof: Proof::Weak,
                    seconds_to_ready: start.elapsed().as_secs_f64(),
                    _script: script,
                });
            }
            Ok(Found::Stranger(holder)) => {
                let what = format!("port {port} is taken by {holder}, not by the engine; {MEND}");
                (Failure::new(Exit::Unavailable, what), drawn)
            }
            Ok(Found::Shared(holder)) => {
                let what = format!(
                    "port {port} is shared by the engine and {holder} (SO_REUSEPORT), and either may be asked; {MEND}"
                );
                (Failure::new(Exit::Unavailable, what), drawn)
            }
            Ok(Found::KeyRefused(status)) => {
                let what = format!("the engine answers {status} to the key that it was given");
                (parts.failure(&what), false)
            }
            Err(NotReady::Ended(how)) => {
                let mut what = "the engine ended before it was ready".to_owned();
                let holder = proof::holder(port);
                if how == Ended::Code(0) {
                    what.push_str(" (it must stay in the foreground for as long as it serves)");
                }
                if let Some(holder) = &holder {
                    what = format!("{what}, and port {port} is held by {holder}");
                }
                let taken = holder.is_some() || said_in_use(parts);
                (parts.death(&what, how), drawn && taken)
            }
            Err(NotReady::TimedOut(last)) => {
                let what = format!(
                    "the engine was not ready within {} (service.readiness.timeout): {last}",
                    human_duration(timeout)
                );
                (parts.failure(&what), false)
            }
        };
        child
            .stop(FAREWELL, parts.context.shutdown.stop.cancelled())
            .await;
        Err(Failed { failure, port_lost })
    }

    /// Base URL of the API.
    pub(super) fn base_url(&self) -> String {
        format!("http://{}:{}", self.host, self.ports[0])
    }

    /// Says what whoever reaches the node can use although there is a key.
    pub(super) fn tell_open_paths(parts: &Parts<'_>) {
        let open = parts.profile.open_paths;
        if parts.key.is_some() && !open.is_empty() {
            tracing::info!(
                "The engine answers these without its key: {}",
                open.join(" ")
            );
        }
    }

    /// Ends it without regard to clients: another rank of it is lost, or it hangs.
    pub(super) async fn end(&self, parts: &Parts<'_>) {
        let stop = parts.context.shutdown.stop.cancelled();
        self.child.stop(FAREWELL, stop).await;
    }

    /// Ends what an engine that ended has left.
    pub(super) async fn clean_up(&self) {
        self.child
            .stop(Duration::ZERO, std::future::ready(()))
            .await;
    }

    /// Asks for version and model, where the profile knows how.
    pub(super) async fn ask_about_itself(&self, parts: &Parts<'_>) -> Told {
        let ask = async |path: &str| {
            let url = format!("{}{path}", self.base_url());
            let answer = client::get(&url, &parts.access(), PATIENCE).await.ok()?;
            answer.json::<serde_json::Value>().ok()
        };
        let mut told = Told::default();
        if let Some((path, key)) = parts.profile.version {
            let answer = ask(path).await.unwrap_or_default();
            told.version = answer[key].as_str().map(str::to_owned);
        }
        if let Some(path) = parts.profile.models_path {
            let answer = ask(path).await.unwrap_or_default();
            told.model = served(&answer, parts.plan.model.as_deref());
        }
        told
    }
}

/// The model that an engine serves by its own list: the recipe's where that is among them, for an engine may have
/// adapters and aliases beside it, in any order; else the first.
fn served(list: &serde_json::Value, wanted: Option<&str>) -> Option<String> {
    let models = list["data"].as_array()?;
    let names = || models.iter().filter_map(|model| model["id"].as_str());
    let same = names().find(|name| Some(*name) == wanted);
    same.or_else(|| names().next()).map(str::to_owned)
}

fn choose_ports(parts: &Parts<'_>, lost: &[u16]) -> Result<Vec<u16>, Failure> {
    let mut ports: Vec<u16> = Vec::new();
    let before = parts.publication.record().ports;
    for (index, choice) in parts.plan.ports.iter().enumerate() {
        // an engine that is started again is looked for where it was
        let same = before.get(index).copied();
        let port = match *choice {
            PortChoice::Fixed(port) if port::is_free(port) => port,
            PortChoice::Fixed(port) => {
                let holder = proof::holder(port).map_or_else(
                    || "it cannot be bound".to_owned(),
                    |holder| format!("it is held by {holder}"),
                );
                let message = format!("port {port} of the recipe is taken: {holder}; {MEND}");
                return Err(Failure::new(Exit::Unavailable, message));
            }
            PortChoice::Auto
                if let Some(port) =
                    same.filter(|port| !lost.contains(port) && port::is_free(*port)) =>
            {
                port
            }
            PortChoice::Auto => {
                let without = [ports.as_slice(), lost].concat();
                port::draw(parts.context.site.ports(), &without)
                    .map_err(|error| Failure::new(Exit::Unavailable, error.to_string()))?
            }
        };
        ports.push(port);
    }
    if ports.is_empty() {
        return Err(Failure::new(Exit::Recipe, "the recipe names no port"));
    }
    Ok(ports)
}

fn said_in_use(parts: &Parts<'_>) -> bool {
    parts.said().iter().any(|line| {
        let line = line.to_ascii_lowercase();
        let of_port = ["address", "socket", "port "]
            .iter()
            .any(|word| line.contains(word));
        (of_port && line.contains("already in use")) || line.contains("couldn't bind")
    })
}

/// One look at an engine that is expected to become ready.
struct Probe<'a> {
    parts: &'a Parts<'a>,
    ours: Ours<'a>,
    port: u16,
    path: String,
    /// Addresses to ask: the one that others are given, then the loopback.
    hosts: Vec<String>,
}

impl<'a> Probe<'a> {
    fn new(parts: &'a Parts<'a>, child: &Child, port: u16) -> Self {
        let path = parts.plan.readiness.path.as_deref();
        let mut hosts = vec![parts.publication.record().address];
        if hosts[0] != "127.0.0.1" {
            hosts.push("127.0.0.1".to_owned());
        }
        Self {
            parts,
            ours: Ours {
                child: child.pid(),
                mark: &parts.instance,
            },
            port,
            path: path.unwrap_or(parts.profile.ready_path).to_owned(),
            hosts,
        }
    }

    async fn ask(&self, searched: &mut Instant) -> Result<Found, String> {
        let is_command = matches!(self.parts.plan.launch, Launch::Command(_));
        let missing = match self.ask_port(self.port).await {
            Ok(Found::Stranger(holder)) if is_command => {
                format!("port {} is held by {holder}", self.port)
            }
            Err(missing) => missing,
            found => return found,
        };
        // a command may listen elsewhere than it declared
        if is_command && searched.elapsed() >= SEARCH {
            *searched = Instant::now();
            let mut others = proof::ports(&self.ours);
            others.remove(&self.port);
            for port in others {
                if let Ok(found @ Found::Ready { .. }) = self.ask_port(port).await {
                    return Ok(found);
                }
            }
        }
        Err(missing)
    }

    async fn ask_port(&self, port: u16) -> Result<Found, String> {
        let mut missing = String::new();
        for host in &self.hosts {
            let url = format!("http://{host}:{port}{}", self.path);
            match client::get(&url, &self.parts.access(), PATIENCE).await {
                Ok(answer) => {
                    // whoever answers: is it ours?
                    let proof = match proof::prove(port, &self.ours) {
                        Verdict::Strong => Proof::Strong,
                        Verdict::Weak => Proof::Weak,
                        Verdict::Stranger(holder) => return Ok(Found::Stranger(holder)),
                        Verdict::Shared(holder) => return Ok(Found::Shared(holder)),
                        Verdict::Nobody => return Err(format!("nobody listens on port {port}")),
                    };
                    if !self.is_ready(answer.status) {
                        return Err(format!("{url} answers {}", answer.status));
                    }
                    if let Some(status) = self.key_refused(host, port).await {
                        return Ok(Found::KeyRefused(status));
                    }
                    if host != &self.hosts[0] {
                        tracing::warn!(
                            address = self.hosts[0],
                            "The engine listens on the loopback only: no other node reaches it; let it listen on {{host}}"
                        );
                    }
                    let host = host.clone();
                    return Ok(Found::Ready { host, port, proof });
                }
                Err(error) if missing.is_empty() => missing = error.to_string(),
                Err(_) => {}
            }
        }
        Err(missing)
    }

    /// Without a path of the recipe, a program that nothing is known of is ready when it serves anything.
    fn is_ready(&self, status: StatusCode) -> bool {
        if self.parts.profile.kind == EngineKind::Http && self.parts.plan.readiness.path.is_none() {
            status.as_u16() < 500
        } else {
            status.is_success()
        }
    }

    /// The challenge: with the key it must answer; without, it should not.
    async fn key_refused(&self, host: &str, port: u16) -> Option<StatusCode> {
        let path = self.parts.profile.guarded_path?;
        self.parts.key.as_ref()?;
        let url = format!("http://{host}:{port}{path}");
        let with = client::get(&url, &self.parts.access(), PATIENCE)
            .await
            .ok()?;
        if matches!(
            with.status,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
        ) {
            return Some(with.status);
        }
        let without = client::get(&url, &Access::Open, PATIENCE).await.ok()?;
        let refused = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN];
        if !refused.contains(&without.status) {
            tracing::warn!(
                "The engine answers without its key: whoever reaches the node can use it"
            );
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_recipes_model_is_kept_where_the_engine_serves_it() {
        let list = json!({"data": [{"id": "adapter"}, {"id": "base"}]});
        for (wanted, model) in [
            (Some("base"), "base"),
            (Some("/models/base.gguf"), "adapter"),
            (None, "adapter"),
        ] {
            assert_eq!(served(&list, wanted).as_deref(), Some(model), "{wanted:?}");
        }
        assert_eq!(served(&json!({"data": []}), Some("base")), None);
        assert_eq!(served(&json!("no list"), Some("base")), None);
    }
}
