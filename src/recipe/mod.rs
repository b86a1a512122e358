//! Recipes: what a user writes, checked, and the plan that comes of it.
//!
//! Pure: no file, no clock, no environment of its own. [`load`] turns text into a located tree and a recipe, [`check`]
//! reports every fault of a file at once with line, column and the nearest known key, [`plan`] resolves a recipe
//! against overrides and the variables of site, job and environment until nothing is open.
//!
//! The original tool's recipes are a subset of this schema and run unchanged. Unknown keys are errors: a key that is
//! ignored in silence is a benchmark that did something else than it says.

pub mod alerts;
pub mod check;
pub mod client;
pub mod describe;
pub mod expand;
pub mod fault;
pub mod infer;
pub mod legacy;
pub mod load;
pub mod overrides;
pub mod plan;
pub mod request;
pub mod schema;
pub mod script;
pub mod series;
pub mod tables;
pub mod template;
#[cfg(test)]
mod tests;
pub mod vectors;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

pub use self::alerts::{AlertKind, AlertSetting, AlertsPlan, OwnAlert};
pub use self::client::{
    Api, Arrival, ClientPlan, Conversation, Dataset, DatasetKind, Documents, Gaps, Length,
    LoadModel, SharedPart, SharedPrefix, Slo, ThinkTime, Workload,
};
pub use self::series::{Course, Quantity, Search, Series, Sweep};

/// The variable by which an engine is told of the file that holds its key.
pub const KEY_VARIABLE: &str = "AIF_API_KEY_FILE";

/// The three kinds of recipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Starts an engine.
    Server,
    /// Starts Prometheus.
    Monitor,
    /// Loads a service.
    Client,
}

impl Kind {
    /// All of them, in the order of a stack.
    pub const ALL: [Self; 3] = [Self::Server, Self::Monitor, Self::Client];

    /// The name as messages, `--set` prefixes and manifests write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Monitor => "monitor",
            Self::Client => "client",
        }
    }

    /// The folder below `recipes/` that holds recipes of this kind.
    pub const fn folder(self) -> &'static str {
        match self {
            Self::Server => "servers",
            Self::Monitor => "monitors",
            Self::Client => "clients",
        }
    }
}

/// The engines that have a profile, and `http` for anything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// vLLM.
    Vllm,
    /// llama.cpp's `llama-server`.
    LlamaCpp,
    /// Ollama.
    Ollama,
    /// Hugging Face's text-generation-inference.
    Tgi,
    /// `SGLang`.
    Sglang,
    /// `TensorRT-LLM`'s `trtllm-serve`.
    Trtllm,
    /// Qdrant.
    Qdrant,
    /// `ChromaDB`.
    Chroma,
    /// Anything that answers HTTP.
    Http,
}

impl EngineKind {
    /// Every one.
    pub const ALL: [Self; 9] = [
        Self::Vllm,
        Self::LlamaCpp,
        Self::Ollama,
        Self::Tgi,
        Self::Sglang,
        Self::Trtllm,
        Self::Qdrant,
        Self::Chroma,
        Self::Http,
    ];

    /// Why it cannot be given a key, where it cannot: a key in an argument could be read by everybody on the node.
    pub const fn keyless(self) -> Option<&'static str> {
        match self {
            Self::Ollama => Some("Ollama takes no key"),
            Self::Sglang => {
                Some("SGLang takes its key in an argument only, which all on the node can read")
            }
            Self::Trtllm => Some("trtllm-serve takes no key"),
            Self::Chroma => Some("ChromaDB takes no key"),
            Self::Vllm | Self::LlamaCpp | Self::Tgi | Self::Qdrant | Self::Http => None,
        }
    }

    /// Does the profile know how it is started over several nodes?
    pub const fn spans_nodes(self) -> bool {
        matches!(self, Self::Vllm | Self::Sglang)
    }

    /// How it is had over several nodes where aif cannot start it so.
    pub const fn nodes_otherwise(self) -> Option<&'static str> {
        match self {
            Self::Trtllm => Some(
                "trtllm-serve over several nodes is an MPI program with a process for each GPU, and aif starts one process on each node: \
                 submit it as a job of its own (`srun --mpi=pmix … trtllm-llmapi-launch trtllm-serve …`, as examples/llm-api/llm_mgmn_trtllm_serve.sh \
                 of TensorRT-LLM does) and tell aif of it, `aif services add NAME --url http://NODE:PORT --engine trtllm`; on one node give it all \
                 GPUs by --tp_size",
            ),
            _ => None,
        }
    }

    /// The engine of this name; `None` where there is no profile of it.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The name as recipes write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vllm => "vllm",
            Self::LlamaCpp => "llamacpp",
            Self::Ollama => "ollama",
            Self::Tgi => "tgi",
            Self::Sglang => "sglang",
            Self::Trtllm => "trtllm",
            Self::Qdrant => "qdrant",
            Self::Chroma => "chroma",
            Self::Http => "http",
        }
    }
}

/// A recipe resolved: nothing left open but what only the node knows (`{port}`, `{host}` …).
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
#[expect(clippy::large_enum_variant, reason = "a process has a few plans")]
pub enum Plan {
    /// Of a server recipe.
    Server(ServerPlan),
    /// Of a monitor recipe.
    Monitor(MonitorPlan),
    /// Of a client recipe.
    Client(ClientPlan),
}

impl Plan {
    /// Its kind.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Server(_) => Kind::Server,
            Self::Monitor(_) => Kind::Monitor,
            Self::Client(_) => Kind::Client,
        }
    }

    /// The recipe's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Server(plan) => &plan.name,
            Self::Monitor(plan) => &plan.name,
            Self::Client(plan) => &plan.name,
        }
    }

    /// The service it belongs to.
    pub fn service_name(&self) -> &str {
        match self {
            Self::Server(plan) => &plan.service_name,
            Self::Monitor(plan) => &plan.service_name,
            Self::Client(plan) => &plan.service_name,
        }
    }

    /// What it asks of Slurm.
    pub const fn resources(&self) -> &Resources {
        match self {
            Self::Server(plan) => &plan.resources,
            Self::Monitor(plan) => &plan.resources,
            Self::Client(plan) => &plan.resources,
        }
    }
}

/// What a job or a step of this recipe asks of Slurm.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Resources {
    /// Partition, as the recipe or the site names it.
    pub partition: Option<String>,
    /// CPU cores.
    pub cpu_cores: Option<u32>,
    /// Memory in GiB.
    pub memory_gb: Option<f64>,
    /// GPUs, of each node.
    pub gpu_count: u32,
    /// Time limit.
    pub time_limit: Option<Duration>,
    /// Nodes, where the recipe tells; cores, memory and GPUs are those of each.
    pub nodes: Option<u32>,
}

impl Resources {
    /// Nodes: one, where the recipe does not tell.
    pub fn nodes(&self) -> u32 {
        self.nodes.unwrap_or(1)
    }
}

/// A port: a number, or one that is drawn when the process starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PortChoice {
    /// Drawn from the site's range.
    Auto,
    /// This one and no other.
    Fixed(u16),
}

/// How a server recipe starts its engine.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Launch {
    /// A script, handed as written to a login shell.
    Command(String),
    /// A container that we start.
    Container(Container),
    /// A program of the host, without a container.
    Program(Vec<String>),
}

/// Which GPUs a container sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Gpu {
    /// `--nv`.
    Nvidia,
    /// `--rocm`.
    Amd,
    /// None.
    None,
}

/// A container that we start.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Container {
    /// Path of the image.
    pub image: PathBuf,
    /// Where it can be had when it is missing.
    pub source: Option<String>,
    /// Which GPUs it sees.
    pub gpu: Gpu,
    /// Binds, as `apptainer exec --bind` takes them.
    pub binds: Vec<String>,
    /// Program and arguments, with `{port}` and its like not yet filled in.
    pub args: Vec<String>,
}

/// When is the engine ready?
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Readiness {
    /// Path to ask; the engine's own where `None`.
    pub path: Option<String>,
    /// How long it may take; the engine's own where `None`.
    pub timeout: Option<Duration>,
}

/// The port of something beside an engine's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PortPlace {
    /// This one.
    Fixed(u16),
    /// The one at this index of the engine's ports.
    Listed(usize),
}

impl PortPlace {
    /// From a number, or a placeholder: `{port2}` is the second.
    pub fn of(text: &str) -> Option<Self> {
        let Some(name) = text
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'))
        else {
            return text.parse().ok().filter(|port| *port > 0).map(Self::Fixed);
        };
        let index = (0..check::PORTS).find(|index| check::port_name(*index) == name)?;
        Some(Self::Listed(index))
    }

    /// The number, of an engine with these ports.
    pub fn of_engine(self, ports: &[u16]) -> Option<u16> {
        match self {
            Self::Fixed(port) => Some(port),
            Self::Listed(index) => ports.get(index).copied(),
        }
    }
}

/// Where an engine tells its metrics, as far as the recipe says so; its profile knows the rest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct MetricsPlace {
    /// A port of their own.
    pub port: Option<PortPlace>,
    /// Their path.
    pub path: Option<String>,
}

/// How often an engine that died is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Restart {
    /// Restarts at the most.
    pub max: u32,
    /// Pause before each, doubled each time.
    pub backoff: Duration,
}

/// A server recipe, resolved.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServerPlan {
    /// The recipe's name.
    pub name: String,
    /// The service it registers.
    pub service_name: String,
    /// For people.
    pub description: Option<String>,
    /// The engine's profile.
    pub engine: EngineKind,
    /// Model, where the recipe tells (`--model X`, `-m`, `--alias`, `vllm serve X`).
    pub model: Option<String>,
    /// How the engine is started.
    pub launch: Launch,
    /// Folder it starts in.
    pub working_dir: PathBuf,
    /// Variables set for it.
    pub env: BTreeMap<String, String>,
    /// Ports; the first is the API's. Never empty.
    pub ports: Vec<PortChoice>,
    /// When it is ready.
    pub readiness: Readiness,
    /// Where its metrics are.
    pub metrics: MetricsPlace,
    /// Does it ask no hub?
    pub offline: bool,
    /// Silence after which an engine that lives counts as hung; `None`: never.
    pub liveness: Option<Duration>,
    /// Is a key made for each instance?
    pub auth_key: bool,
    /// Restarts.
    pub restart: Restart,
    /// Size of job and step.
    pub resources: Resources,
}

/// One target that a monitor recipe names (besides those of the registry).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// Port of the service that it means.
    pub port: u16,
    /// Path of its metrics.
    pub metrics_path: String,
}

/// Grafana beside Prometheus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GrafanaPlan {
    /// Path of its image; the program on `PATH` where it is none.
    pub image: Option<String>,
    /// Its port, on the node's loopback.
    pub port: PortChoice,
}

/// A monitor recipe, resolved.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MonitorPlan {
    /// The recipe's name.
    pub name: String,
    /// The service it watches.
    pub service_name: String,
    /// Targets that the recipe names.
    pub targets: Vec<Target>,
    /// Does it start Prometheus at all?
    pub enabled: bool,
    /// Image of Prometheus; the one on `PATH` where it is none or missing.
    pub image: Option<String>,
    /// Where it can be had when it is missing.
    pub source: Option<String>,
    /// Interval of scrapes; `None`: the default, which is shorter in a stack.
    pub scrape_interval: Option<Duration>,
    /// Retention.
    pub retention: Duration,
    /// Port of Prometheus.
    pub port: PortChoice,
    /// May its data lie on a network file system?
    pub allow_shared_tsdb: bool,
    /// What it watches for.
    pub alerts: AlertsPlan,
    /// Grafana beside it.
    pub grafana: Option<GrafanaPlan>,
    /// Size of job and step.
    pub resources: Resources,
}
