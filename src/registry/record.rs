//! The record of an instance: the format of a file in the registry.
//!
//! The first five keys are those of the original report. Readers ignore fields they do not know (a newer writer), and
//! default those that are missing (an older one).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

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
