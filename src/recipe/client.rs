//! The plan of a client: when requests are sent, what they hold, and which limits a good one keeps.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Resources, Series, request::HttpRequest, vectors::Vectors};

/// Which API a client uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Api {
    /// `/v1/completions`.
    Completions,
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/embeddings`: one answer, no stream.
    Embeddings,
    /// `/v1/rerank`: one answer, no stream.
    Rerank,
    /// What the recipe writes out.
    Http,
    /// Queries of vectors, to `ChromaDB`.
    Chroma,
    /// Queries of vectors, to Qdrant.
    Qdrant,
    /// Ollama's own `/api/generate`.
    #[serde(rename = "ollama-generate")]
    OllamaGenerate,
    /// Ollama's own `/api/chat`.
    #[serde(rename = "ollama-chat")]
    OllamaChat,
}

/// APIs, as recipes write them.
pub(super) const API_NAMES: &[&str] = &[
    "completions",
    "chat",
    "embeddings",
    "rerank",
    "http",
    "chroma",
    "qdrant",
    "ollama-generate",
    "ollama-chat",
];

impl Api {
    /// Are its answers tokens that come one after another? Where they are not, there is no first one to wait for.
    pub const fn generates(self) -> bool {
        !matches!(self, Self::Embeddings | Self::Rerank | Self::Http) && !self.is_of_vectors()
    }

    /// Is it that of a vector database?
    pub const fn is_of_vectors(self) -> bool {
        matches!(self, Self::Chroma | Self::Qdrant)
    }

    /// Is it Ollama's own, and none of `OpenAI`'s?
    pub const fn is_ollama(self) -> bool {
        matches!(self, Self::OllamaGenerate | Self::OllamaChat)
    }

    /// Does it take messages?
    pub const fn is_chat(self) -> bool {
        matches!(self, Self::Chat | Self::OllamaChat)
    }

    /// As recipes write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Completions => "completions",
            Self::Chat => "chat",
            Self::Embeddings => "embeddings",
            Self::Rerank => "rerank",
            Self::Http => "http",
            Self::Chroma => "chroma",
            Self::Qdrant => "qdrant",
            Self::OllamaGenerate => "ollama-generate",
            Self::OllamaChat => "ollama-chat",
        }
    }
}

/// A text that is handed on and shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(pub String);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Hidden {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

impl<'de> Deserialize<'de> for Hidden {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

/// When requests are sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "pattern", rename_all = "kebab-case")]
pub enum LoadModel {
    /// By users, each with one request at a time.
    ClosedLoop {
        /// Users at once.
        concurrent_users: u32,
        /// Pause of a user between an answer and the next request.
        think_time: ThinkTime,
        /// Requests of each user; without limit where `None`.
        requests_per_user: Option<u64>,
    },
    /// By time, whatever the answers do.
    OpenLoop {
        /// Rate in requests per second; `None` where the arrivals have a course of their own.
        requests_per_second: Option<f64>,
        /// The arrival process.
        arrival: Arrival,
        /// Requests in flight at the most; what is over is dropped and counted.
        max_in_flight: Option<u32>,
    },
}

/// A pause of users: the same each time, or drawn for each.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ThinkTime {
    /// As that of users who do not know of each other, with this mean.
    Exponential(Duration),
    /// In milliseconds.
    Drawn(Length),
    /// The same each time.
    #[serde(untagged)]
    Fixed(Duration),
}

/// An arrival process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arrival {
    /// Equal gaps.
    Constant,
    /// Exponential gaps.
    Poisson,
    /// Gamma-distributed gaps: in bursts below one, more even above it, Poisson at one.
    Gamma {
        /// Shape of the distribution.
        burstiness: f64,
    },
    /// A rate that goes in a line from one value, which holds in the warm-up, to another at the end of the window.
    Ramp {
        /// Requests per second at the start of the window.
        from: f64,
        /// Requests per second at its end.
        to: f64,
        /// Gaps at each rate.
        gaps: Gaps,
    },
    /// The times and lengths of a trace.
    Trace {
        /// The trace, in Mooncake's form.
        file: PathBuf,
    },
}

/// Gaps between the arrivals of a ramp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Gaps {
    /// As even as the changing rate allows.
    Constant,
    /// Independent users.
    Poisson,
}

/// Tokens of a prompt or an answer at the most.
pub const MOST_TOKENS: u64 = 10_000_000;

/// A length in tokens: one for all requests, or drawn for each.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Length {
    /// Each one between two alike.
    Uniform {
        /// Least.
        min: u32,
        /// Most.
        max: u32,
    },
    /// About a mean.
    Normal {
        /// Mean.
        mean: f64,
        /// Standard deviation.
        std: f64,
        /// Least.
        min: u32,
        /// Most.
        max: u32,
    },
    /// Many short, few long.
    Lognormal {
        /// Median.
        median: f64,
        /// Standard deviation of the logarithm.
        sigma: f64,
        /// Least.
        min: u32,
        /// Most.
        max: u32,
    },
    /// The same for all.
    #[serde(untagged)]
    Fixed(u32),
}

impl Length {
    /// The shortest that can come.
    pub const fn least(&self) -> u32 {
        match *self {
            Self::Fixed(length) => length,
            Self::Uniform { min, .. } | Self::Normal { min, .. } | Self::Lognormal { min, .. } => {
                min
            }
        }
    }
}

/// What prompts share: those of a group begin alike.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SharedPrefix {
    /// Groups; requests belong to them in turn.
    pub groups: u32,
    /// How much is shared.
    #[serde(flatten)]
    pub part: SharedPart,
}

/// How much of a prompt is shared.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SharedPart {
    /// So many tokens.
    Length(u32),
    /// This share of each prompt's tokens.
    Ratio(f64),
}

/// Requests that follow from each other, as those of a user who goes on asking.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Conversation {
    /// Requests of a conversation; as many as the file has where `None`.
    pub turns: Option<Length>,
    /// Pause between an answer and the next turn.
    pub think_time: ThinkTime,
    /// Tokens of each message of the user after the first.
    pub message_length: Length,
}

/// A file that prompts come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dataset {
    /// Its form.
    #[serde(rename = "type")]
    pub kind: DatasetKind,
    /// Where it lies.
    pub file: PathBuf,
    /// Are answers as long as those that it holds?
    pub own_lengths: bool,
}

/// The form of a file of prompts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DatasetKind {
    /// A prompt a line.
    Prompts,
    /// A JSON object a line.
    Jsonl,
    /// A list of conversations.
    ShareGpt,
}

/// Documents of a request that reranks.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Documents {
    /// How many.
    pub count: u32,
    /// Words of each.
    pub length: Length,
}

/// What requests hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Workload {
    /// Model named in the request; the service's own where `None`.
    pub model_name: Option<String>,
    /// Where prompts come from; they are made up where `None`.
    pub dataset: Option<Dataset>,
    /// Are prompts that are made up pieces of the text of our own?
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub corpus: bool,
    /// Prompt length in tokens, as the engine counts them.
    pub prompt_length: Length,
    /// `max_tokens` of a request.
    pub max_tokens: Length,
    /// Size of the prompt pool; a prompt for each request where `None`.
    pub num_prompts: Option<u32>,
    /// What prompts share; nothing where `None`.
    pub shared_prefix: Option<SharedPrefix>,
    /// Requests follow from each other; each is alone where `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation: Option<Conversation>,
    /// Documents that a query is held against; of reranking alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub documents: Option<Documents>,
    /// The request, where the recipe writes it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<HttpRequest>,
    /// The collection of vectors that is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vectors: Option<Vectors>,
    /// Sampling temperature.
    pub temperature: Option<f64>,
    /// Nucleus sampling.
    pub top_p: Option<f64>,
    /// Generate up to `max_tokens` whatever the model says.
    pub ignore_eos: bool,
    /// Streamed answers?
    pub stream: bool,
    /// Further fields of a request's body.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub extra_body: serde_json::Map<String, serde_json::Value>,
    /// Seed of prompts and arrivals.
    pub seed: u64,
}

/// Limits that a good request keeps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Slo {
    /// Time to first token.
    pub ttft_ms: Option<f64>,
    /// Time per output token.
    pub tpot_ms: Option<f64>,
    /// Whole request.
    pub e2e_ms: Option<f64>,
}

/// A client recipe, resolved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClientPlan {
    /// The recipe's name, which names the folder of its results.
    pub name: String,
    /// The service it loads.
    pub service_name: String,
    /// The API.
    pub api: Api,
    /// Limit of one request.
    pub timeout: Duration,
    /// Further headers of a request.
    pub headers: BTreeMap<String, Hidden>,
    /// Is a connection kept for the next request?
    pub keep_alive: bool,
    /// When requests are sent.
    pub load: LoadModel,
    /// Measured window; until the given number of requests where `None`.
    pub duration: Option<Duration>,
    /// Load before the window.
    pub warmup: Duration,
    /// The same as a number of requests; by time alone where `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warmup_requests: Option<u64>,
    /// Requests in all; without limit where `None`.
    pub total_requests: Option<u64>,
    /// Several loads in place of one: `load` is the first of them then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series: Option<Series>,
    /// What requests hold.
    pub workload: Workload,
    /// Limits of a good request.
    pub slo: Slo,
    /// Where results go; the run's folder where `None`.
    pub destination: Option<PathBuf>,
    /// Is every request kept in a file?
    pub samples: bool,
    /// Is the generator measured against an engine of known times, too?
    pub calibrate: bool,
    /// Metrics that the recipe asks for, for the table on the terminal.
    pub metrics: Vec<String>,
    /// Size of job and step.
    pub resources: Resources,
}

#[cfg(test)]
impl ClientPlan {
    /// Of a recipe with these keys in its `workload` and its `dataset.params`.
    pub(crate) fn of(workload: &str, params: &str) -> Self {
        let text = format!(
            "name: a\nservice_name: s\nworkload: {{{workload}}}\ndataset: {{params: {{{params}}}}}\n"
        );
        let source = super::plan::Source {
            text: &text,
            path: "a.yaml",
            wanted: Some(super::Kind::Client),
            overrides: &[],
        };
        match super::plan::plan(&source, &super::expand::Variables::new()) {
            Ok(planned) => match planned.plan {
                super::Plan::Client(plan) => plan,
                other => panic!("no client: {other:?}"),
            },
            Err(faults) => panic!("{faults}"),
        }
    }
}
