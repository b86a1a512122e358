//! The format of `results.json`: what a bench leaves.
//!
//! The first seven keys are those of the original report. Times are in milliseconds and say so. Readers ignore fields
//! they do not know and default those that are missing, so that a report can be made of an older run.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::recipe::Api;

use super::{beside::Beside, certificate::Certificate, series::Series, tasks::TaskAccount};

/// The version of the format that this program writes.
pub const SCHEMA: u32 = 1;

/// Is the result whole?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Completeness {
    /// The load ran to its planned end.
    Complete,
    /// It was told to end before.
    Interrupted,
    /// Written while it runs: whoever finds this met a bench that was killed.
    Running,
}

/// How far the numbers can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Use them.
    Valid,
    /// Use them knowing the reasons.
    Degraded,
    /// Do not use them.
    Invalid,
}

/// The verdict and its reasons.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Validity {
    /// The verdict.
    pub verdict: Verdict,
    /// Why it is not better; sentences for people.
    pub reasons: Vec<String>,
}

/// One metric. Rates over the whole window have `avg` alone. A percentile is missing where the count does not bear it
/// ([`super::order`]).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Metric {
    /// `ms`, `requests/s`, `tokens/s`, `vectors/s`, `tokens`, `ratio`.
    pub unit: String,
    /// Mean.
    pub avg: f64,
    /// Smallest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// Largest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// Standard deviation of the population.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub std: Option<f64>,
    /// 5th percentile, of shares, where less is worse.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p5: Option<f64>,
    /// Median.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50: Option<f64>,
    /// 90th percentile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p90: Option<f64>,
    /// 95th percentile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p95: Option<f64>,
    /// 99th percentile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99: Option<f64>,
    /// 99.9th percentile.
    #[serde(default, rename = "p99.9", skip_serializing_if = "Option::is_none")]
    pub p999: Option<f64>,
    /// 99.99th percentile.
    #[serde(default, rename = "p99.99", skip_serializing_if = "Option::is_none")]
    pub p9999: Option<f64>,
    /// Observations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Of each percentile by its name, the ends between which it lies with 95 %.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub intervals: BTreeMap<String, [f64; 2]>,
}

/// What was loaded.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct TargetFacts {
    /// Base URLs.
    pub urls: Vec<String>,
    /// Model named in the requests.
    pub model: Option<String>,
    /// Engine, where the registry tells.
    pub engine: Option<String>,
    /// Instances met.
    pub instances: Vec<String>,
    /// Their nodes.
    pub nodes: Vec<String>,
    /// Requests of the window that each of the URLs got, in their order …
    pub requests: Vec<u64>,
    /// … and those of them that failed.
    pub failed: Vec<u64>,
}

/// A count by the client and by the engine's own counters, over the whole load.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Counted {
    /// What the client counted.
    pub client: u64,
    /// What the engine counted; `None` where its counters were not to be had.
    pub engine: Option<u64>,
}

/// Token counts over the whole load, warm-up and drain included.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Tokens {
    /// `usage` of the server, or `chunks` counted in its place.
    pub counted_by: String,
    /// Prompt tokens.
    pub prompt: Counted,
    /// Output tokens.
    pub output: Counted,
}

/// The load generator's own account.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Generator {
    /// Rate asked for, of an open loop.
    pub requested_rate: Option<f64>,
    /// Rate sent, over the measured window.
    pub achieved_rate: f64,
    /// Requests dropped at `max_in_flight`, over the whole load; those of the window are judged.
    pub dropped: u64,
    /// Lateness, median, in ms: sent − intended, without the time that a new connection took. That is the server's and
    /// the network's, and told as `http_req_looking_up`, `…_connecting` and `…_tls_handshaking`; the metrics
    /// `dispatch_delay` and `…_scheduled` hold both.
    pub lateness_p50_ms: f64,
    /// 99th percentile of the same.
    pub lateness_p99_ms: f64,
    /// Largest of the same.
    pub lateness_max_ms: f64,
    /// By how much the event loops were late for moments that they had set themselves, median, in ms: how late a stamp
    /// may be that is not the kernel's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loop_delay_p50_ms: Option<f64>,
    /// 99th percentile of the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loop_delay_p99_ms: Option<f64>,
    /// Largest of the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loop_delay_max_ms: Option<f64>,
    /// Of the answers, the share whose stamps are the kernel's: when bytes came to this machine, however late they were
    /// read. Others (encrypted ones, and those of a system that does not tell) are stamped when they are read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel_stamped_share: Option<f64>,
    /// How long bytes lay there before they were read, median, in ms: by this much a stamp of the reading would be late.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_delay_p50_ms: Option<f64>,
    /// 99th percentile of the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_delay_p99_ms: Option<f64>,
    /// Largest of the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_delay_max_ms: Option<f64>,
    /// Chunks that were read together with the one before, as a share of all: these two have one stamp. The engine sent
    /// them together, or this program was late.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bundled_share: Option<f64>,
    /// Event loops that sent and read, each a thread.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<usize>,
    /// CPU time of this process over the load, in seconds.
    pub cpu_seconds: f64,
    /// CPU time as a share of what its workers could have had, from the beginning of the measured window until all was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_share: Option<f64>,
    /// CPU time of each worker as a share of a core, over the same time; of several tasks, those of all, task after task.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub worker_cpu_shares: Vec<f64>,
    /// Most memory that this process has had, in MB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mb: Option<f64>,
    /// CPUs that it ran on.
    pub cpus: Vec<usize>,
    /// Were they shared with the engine?
    pub cores_shared: bool,
    /// Of a load of several tasks, each one's account: then CPU time and workers above are those of all, and the share is
    /// that of the task that had least to spare.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<TaskAccount>,
    /// Time between the first and the last task's beginning, at the most, in ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_spread_ms: Option<f64>,
}

/// The requests themselves, in a file beside the result.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Samples {
    /// Files, beside the result; none where they could not be written.
    pub files: Vec<String>,
    /// Requests in them.
    pub rows: u64,
    /// Requests that are not: to write them in time would have held up the load.
    pub missing: u64,
    /// Why there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// One second of the load.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Slice {
    /// Seconds since the start of the load (warm-up included).
    pub t: f64,
    /// Requests sent in it.
    pub sent: u64,
    /// Requests that ended well in it.
    pub completed: u64,
    /// Requests that ended badly in it.
    pub errors: u64,
    /// Tokens received in it.
    pub output_tokens: u64,
    /// Requests in flight at its end.
    pub in_flight: u64,
    /// Median time to first token of those whose first token came in it, in ms.
    pub ttft_p50_ms: Option<f64>,
    /// Largest of the same.
    pub ttft_max_ms: Option<f64>,
    /// Mean gap between tokens, of those that came in it, in ms.
    pub itl_ms: Option<f64>,
}

/// How conversations ended, over the whole load.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Conversations {
    /// Those that began.
    pub begun: u64,
    /// Those that came to their last planned turn.
    pub completed: u64,
    /// Those that ended with a turn that failed.
    pub failed: u64,
    /// Those that the end of the load cut short.
    pub cut_short: u64,
}

/// One turn of the conversations of the window.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct TurnResult {
    /// Which, from 1; the last that is told holds all further ones.
    pub turn: u32,
    /// Requests offered.
    pub requests: u64,
    /// Those that ended badly.
    pub errors: u64,
    /// Metrics by name.
    pub metrics: BTreeMap<String, Metric>,
}

/// A collection of vectors that was made and filled before the load.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Collection {
    /// Its name.
    pub name: String,
    /// Is it still there?
    pub kept: bool,
    /// Vectors that were inserted, on all instances.
    pub vectors: u64,
    /// Time that it took, in seconds.
    pub insert_seconds: f64,
    /// `insert_latency` of each request that inserted, and `insert_throughput`; they stand among the metrics, too.
    pub metrics: BTreeMap<String, Metric>,
}

/// The whole result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Results {
    /// Requests offered in the measured window: successes + errors.
    pub total_requests: u64,
    /// Those that ended well.
    pub successes: u64,
    /// Those that did not: error, timeout, cancelled, never sent.
    pub errors: u64,
    /// Mean request latency.
    pub avg_latency_ms: f64,
    /// Smallest.
    pub min_latency_ms: f64,
    /// Largest.
    pub max_latency_ms: f64,
    /// Successes that ended in the window, per second of it.
    pub throughput_req_per_sec: f64,
    /// Version of this format.
    pub schema: u32,
    /// The client recipe.
    pub name: String,
    /// The service.
    pub service_name: String,
    /// The run.
    #[serde(default)]
    pub run: Option<String>,
    /// Is it whole?
    pub completeness: Completeness,
    /// Start of the load.
    pub started_at: Timestamp,
    /// Its end.
    pub ended_at: Timestamp,
    /// The measured window, in seconds.
    pub duration_seconds: f64,
    /// Load before it, in seconds.
    pub warmup_seconds: f64,
    /// What was loaded.
    pub target: TargetFacts,
    /// The plan's load model, as planned.
    pub load: serde_json::Value,
    /// The plan's workload, as planned.
    pub workload: serde_json::Value,
    /// Errors by class: `timeout`, `cancelled`, `never_sent`, `http_503` …; `refused` is a connection that was refused, `connect`
    /// one that failed in another way, `local_limit` one for which this machine had no open file or no port left.
    pub errors_by_class: BTreeMap<String, u64>,
    /// Answers of the window by their HTTP status.
    #[serde(default)]
    pub responses_by_status: BTreeMap<u16, u64>,
    /// The first few error messages, each once.
    #[serde(default)]
    pub error_samples: Vec<String>,
    /// Metrics by name.
    pub metrics: BTreeMap<String, Metric>,
    /// The verdict.
    pub validity: Validity,
    /// SHA-256 of everything that was planned to be sent.
    pub stimulus_sha256: String,
    /// Token counts.
    #[serde(default)]
    pub tokens: Tokens,
    /// Mean times beside those of the engine's own clock, where it tells them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_times: Option<Beside>,
    /// The collection of vectors that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collection: Option<Collection>,
    /// How conversations ended, where requests follow from each other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversations: Option<Conversations>,
    /// Their turns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub turns: Vec<TurnResult>,
    /// The generator's account.
    #[serde(default)]
    pub generator: Generator,
    /// The requests, from which all of it can be computed again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<Samples>,
    /// By how much the generator's measurements miss the truth, where that was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Certificate>,
    /// Second by second.
    #[serde(default)]
    pub slices: Vec<Slice>,
    /// Of a sweep, a search or repeats: all its loads. What stands above is that of the load in [`Series::headline`], with
    /// the time, verdict and stimulus of the whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series: Option<Series>,
}

impl Results {
    /// Were its answers tokens that come one after another?
    pub fn generates(&self) -> bool {
        serde_json::from_value(self.workload["api"].clone()).map_or(true, Api::generates)
    }
}

#[cfg(test)]
#[path = "schema_tests.rs"]
mod schema_tests;
