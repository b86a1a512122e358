//! The record of an instance: the format of a file in the registry.
//!
//! The first five keys are those of the original report. Readers ignore fields they do not know (a newer writer), and
//! default those that are missing (an older one).

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{clock, process::address::reachable_address, slurm::job_env::JobEnv};

/// What registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// An engine that serves.
    Server,
    /// A further rank of an engine over several nodes.
    Rank,
    /// A load generator.
    Bench,
    /// Prometheus.
    Monitor,
    /// A gateway.
    Gateway,
    /// Grafana beside a monitor, on its node's loopback.
    Grafana,
    /// A service that is not ours; it has no lease.
    Static,
}

/// Where an instance is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Not ready yet.
    Starting,
    /// Serves, measures, scrapes.
    Ready,
    /// Finishes what is in flight.
    Draining,
    /// A bench that has written its results.
    Done,
    /// A monitor that has archived its snapshot.
    Archived,
}

/// How sure we are that the port is our engine's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proof {
    /// The listening socket was seen in our child.
    Strong,
    /// `/proc` hides it: port was free, child is alive, probe answers.
    Weak,
}

/// Where an instance is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Endpoints {
    /// Base URL of the API.
    pub api: Option<String>,
    /// URL that Prometheus scrapes: the agent's `/engine/metrics` for a server.
    pub metrics: Option<String>,
    /// Base URL of the agent.
    pub agent: Option<String>,
}

/// How one gets in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Auth {
    /// File that holds the key; never the key itself.
    pub key_file: Option<String>,
}

/// One instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Slurm's job; `local-<pid>` without Slurm.
    pub job_id: String,
    /// The recipe.
    pub recipe_name: String,
    /// Unique in the registry.
    pub instance_id: String,
    /// The node, as Slurm names it.
    pub node: String,
    /// Ports that it listens on; the first is the API's.
    pub ports: Vec<u16>,
    /// Version of this format.
    #[serde(default = "schema")]
    pub schema: u32,
    /// What registers.
    pub kind: Kind,
    /// The service.
    pub service_name: String,
    /// The engine, by its profile's name.
    #[serde(default)]
    pub engine: Option<String>,
    /// The model that it serves.
    #[serde(default)]
    pub model: Option<String>,
    /// Where it is in its life.
    pub state: State,
    /// Address that other nodes can really reach.
    pub address: String,
    /// Where it is reached.
    #[serde(default)]
    pub endpoints: Endpoints,
    /// How one gets in.
    #[serde(default)]
    pub auth: Auth,
    /// How sure the port is its own.
    #[serde(default)]
    pub proof: Option<Proof>,
    /// The run it belongs to (the id of the run folder).
    #[serde(default)]
    pub run: Option<String>,
    /// The cluster; `local` without Slurm.
    #[serde(default)]
    pub cluster: String,
    /// The step.
    #[serde(default)]
    pub step_id: Option<String>,
    /// The component of a heterogeneous job.
    #[serde(default)]
    pub het_group: Option<u32>,
    /// Rank in its step.
    #[serde(default)]
    pub rank: u32,
    /// Nodes of one engine.
    #[serde(default = "one")]
    pub nodes: u32,
    /// Port of rank 0's node at which the ranks of the engine meet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meeting_port: Option<u16>,
    /// Why it ends, where it has failed: what the other ranks of its engine are told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// Incarnation of a requeued job.
    #[serde(default)]
    pub restart_count: u32,
    /// Rises with every write.
    #[serde(default)]
    pub sequence: u64,
    /// Interval of heartbeats.
    #[serde(default = "heartbeat")]
    pub heartbeat_seconds: f64,
    /// A record whose sequence stands still for longer is dead.
    #[serde(default = "lease")]
    pub lease_seconds: f64,
    /// When the instance started.
    pub started_at: Timestamp,
    /// When it became ready.
    #[serde(default)]
    pub ready_at: Option<Timestamp>,
    /// Last heartbeat, by its own clock: for people, never compared.
    #[serde(default)]
    pub heartbeat_at: Option<Timestamp>,
    /// When its job ends; `None` = unknown.
    #[serde(default)]
    pub ends_at: Option<Timestamp>,
    /// CPUs that it runs on, where it knows.
    #[serde(default)]
    pub cpus: Vec<usize>,
}

impl Record {
    /// A record of a role that starts now: its instance id is made here, what the job tells is filled in, and the
    /// rest (endpoints, engine, ports …) is left for the role.
    pub fn new(
        kind: Kind,
        service_name: &str,
        recipe_name: &str,
        job: Option<&JobEnv>,
        run: Option<&str>,
    ) -> Self {
        let node = job.map_or_else(host_name, |job| job.node.clone());
        Self {
            job_id: job.map_or_else(
                || format!("local-{}", std::process::id()),
                |job| job.job_id.clone(),
            ),
            recipe_name: recipe_name.to_owned(),
            instance_id: instance_id(kind, job),
            address: reachable_address(&node, job.is_some()),
            node,
            ports: Vec::new(),
            schema: SCHEMA,
            kind,
            service_name: service_name.to_owned(),
            engine: None,
            model: None,
            state: State::Starting,
            endpoints: Endpoints::default(),
            auth: Auth::default(),
            proof: None,
            run: run.map(str::to_owned),
            cluster: job.map_or_else(|| LOCAL.to_owned(), |job| job.cluster.clone()),
            step_id: job.and_then(|job| job.step_id.clone()),
            het_group: job.and_then(|job| job.het_group),
            rank: job.map_or(0, |job| job.rank),
            nodes: one(),
            meeting_port: None,
            failed: None,
            restart_count: job.map_or(0, |job| job.restart_count),
            sequence: 0,
            heartbeat_seconds: heartbeat(),
            lease_seconds: lease(),
            started_at: clock::now(),
            ready_at: None,
            heartbeat_at: None,
            ends_at: job.and_then(|job| job.ends_at),
            cpus: Vec::new(),
        }
    }

    /// Its lease; the usual one where the file holds nonsense.
    pub fn lease(&self) -> Duration {
        Duration::try_from_secs_f64(self.lease_seconds)
            .ok()
            .filter(|lease| (1..=3600).contains(&lease.as_secs()))
            .unwrap_or(Duration::from_secs(30))
    }

    /// The instance id without the name of the role: for the names of logs.
    pub fn short_id(&self) -> &str {
        self.instance_id
            .strip_prefix(kind_name(self.kind))
            .and_then(|rest| rest.strip_prefix('-'))
            .unwrap_or(&self.instance_id)
    }

    /// What it is, for people: `rank 1/2` where it is one of several of an engine.
    pub fn title(&self) -> String {
        let kind = kind_name(self.kind);
        if self.nodes > 1 {
            format!("{kind} {}/{}", self.rank, self.nodes)
        } else {
            kind.to_owned()
        }
    }

    /// Is it of this run? Clusters that share a home may give out the same job ids, by which runs are named.
    pub fn is_of(&self, run: &str, cluster: &str) -> bool {
        self.run.as_deref() == Some(run) && self.cluster == cluster
    }

    /// Does it listen on the loopback of another machine, so that nothing can be asked or sent from here?
    ///
    /// Homes are shared between workstations too: `127.0.0.1` of one means nothing on the next.
    pub fn is_out_of_reach(&self) -> bool {
        self.kind != Kind::Static
            && (self.address.starts_with("127.") || self.address == "localhost")
            && self.node != host_name()
    }
}

/// The name of a kind, as files and tables write it.
pub const fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Server => "server",
        Kind::Rank => "rank",
        Kind::Bench => "bench",
        Kind::Monitor => "monitor",
        Kind::Gateway => "gateway",
        Kind::Grafana => "grafana",
        Kind::Static => "static",
    }
}

/// The name of a state, as files and tables write it.
pub const fn state_name(state: State) -> &'static str {
    match state {
        State::Starting => "starting",
        State::Ready => "ready",
        State::Draining => "draining",
        State::Done => "done",
        State::Archived => "archived",
    }
}

/// `server-42.0-3fa9c1`, `server-local-1234-3fa9c1`: readable, and unique where clusters with equal job ids share a home.
fn instance_id(kind: Kind, job: Option<&JobEnv>) -> String {
    let place = match job {
        Some(job) => {
            let step = job.step_id.as_deref().unwrap_or("batch");
            if job.tasks > 1 {
                format!("{}.{step}.{}", job.job_id, job.rank)
            } else {
                format!("{}.{step}", job.job_id)
            }
        }
        None => format!("local-{}", std::process::id()),
    };
    let unique = uuid::Uuid::new_v4().simple().to_string();
    format!("{}-{place}-{}", kind_name(kind), &unique[..6])
}

fn host_name() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| "localhost".to_owned())
}

/// The cluster of processes that run without Slurm.
pub const LOCAL: &str = "local";

/// The version of the format that this program writes.
pub const SCHEMA: u32 = 1;

fn schema() -> u32 {
    SCHEMA
}

fn one() -> u32 {
    1
}

fn heartbeat() -> f64 {
    5.0
}

fn lease() -> f64 {
    30.0
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A ready server of this service, job and instance.
    pub(in crate::registry) fn ready(service: &str, job: &str, instance: &str) -> Record {
        let mut record = Record::new(Kind::Server, service, "a-server", None, None);
        job.clone_into(&mut record.job_id);
        instance.clone_into(&mut record.instance_id);
        "prod".clone_into(&mut record.cluster);
        record.state = State::Ready;
        record.ready_at = Some(record.started_at);
        record.ports = vec![8000];
        record
    }

    #[test]
    fn records_of_older_and_newer_writers_are_read() {
        let five = r#"{"job_id":"7","recipe_name":"r","instance_id":"i","node":"n1","ports":[8000],
            "kind":"server","service_name":"s","state":"ready","address":"n1","started_at":"2025-01-01T00:00:00Z"}"#;
        let record: Record = serde_json::from_str(five).unwrap();
        assert_eq!((record.schema, record.nodes), (SCHEMA, 1));
        assert_eq!(record.lease(), Duration::from_secs(30));
        let newer = five.replace("\"ports\"", "\"schema\":2,\"colour\":\"blue\",\"ports\"");
        assert_eq!(serde_json::from_str::<Record>(&newer).unwrap().schema, 2);
    }

    #[test]
    fn the_first_keys_are_those_of_the_original_layout() {
        let value = serde_json::to_value(ready("s", "7", "i")).unwrap();
        let keys: Vec<&String> = value.as_object().unwrap().keys().take(5).collect();
        assert_eq!(
            keys,
            ["job_id", "recipe_name", "instance_id", "node", "ports"]
        );
    }

    #[test]
    fn nonsense_in_the_lease_gives_the_usual_one() {
        let mut record = ready("s", "7", "i");
        for nonsense in [f64::NAN, -1.0, f64::INFINITY, 0.0] {
            record.lease_seconds = nonsense;
            assert_eq!(record.lease(), Duration::from_secs(30));
        }
    }

    #[test]
    fn two_instances_never_share_an_id() {
        let (one, two) = (
            ready("s", "7", "i"),
            Record::new(Kind::Server, "s", "r", None, None),
        );
        assert_ne!(one.instance_id, two.instance_id);
        assert!(two.short_id().starts_with("local-"), "{}", two.short_id());
    }
}
