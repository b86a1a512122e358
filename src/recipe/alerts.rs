//! Alerts of a monitor recipe, resolved: which of ours are on, with which threshold, and the recipe's own.
//!
//! What an alert asks Prometheus is not here: that depends on the metrics of engines and agents, and is
//! `prometheus::alerts`'s. Here is what a user may turn: threshold, how long, on or off.

use std::time::Duration;

use serde::Serialize;

/// The alerts that come with aif.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertKind {
    /// A target cannot be scraped.
    TargetDown,
    /// An engine ended though nobody told it to.
    EngineLost,
    /// A server starts and does not become ready.
    EngineNotReady,
    /// Too many requests end badly.
    ErrorRate,
    /// More wait than the engine can take, and ever more.
    QueueGrowing,
    /// Hardly a place is left for the keys and values of further tokens.
    KvCacheFull,
    /// Slow first tokens.
    TtftP99,
    /// The job is about to be killed for its memory.
    MemoryHigh,
    /// The kernel killed a process of the job for its memory.
    OutOfMemory,
    /// A GPU is hot.
    GpuHot,
    /// A GPU is slowed down.
    GpuThrottled,
    /// The job's time is nearly over.
    Walltime,
}

impl AlertKind {
    /// All of them, in the order of the reference.
    pub const ALL: [Self; 12] = [
        Self::TargetDown,
        Self::EngineLost,
        Self::EngineNotReady,
        Self::ErrorRate,
        Self::QueueGrowing,
        Self::KvCacheFull,
        Self::TtftP99,
        Self::MemoryHigh,
        Self::OutOfMemory,
        Self::GpuHot,
        Self::GpuThrottled,
        Self::Walltime,
    ];

    /// The key in the recipe.
    pub const fn key(self) -> &'static str {
        match self {
            Self::TargetDown => "target_down",
            Self::EngineLost => "engine_lost",
            Self::EngineNotReady => "engine_not_ready",
            Self::ErrorRate => "error_rate",
            Self::QueueGrowing => "queue_growing",
            Self::KvCacheFull => "kv_cache_full",
            Self::TtftP99 => "ttft_p99",
            Self::MemoryHigh => "memory_high",
            Self::OutOfMemory => "out_of_memory",
            Self::GpuHot => "gpu_hot",
            Self::GpuThrottled => "gpu_throttled",
            Self::Walltime => "walltime",
        }
    }

    /// Threshold and time where the recipe says nothing. The threshold of the first tokens and of the job's end is known
    /// only in the run, so there is none here.
    pub const fn defaults(self) -> (Option<f64>, Duration) {
        match self {
            Self::TargetDown => (None, Duration::from_secs(20)),
            Self::EngineNotReady => (None, Duration::from_mins(10)),
            Self::ErrorRate => (Some(0.05), Duration::from_secs(30)),
            Self::QueueGrowing => (Some(8.0), Duration::from_secs(30)),
            Self::KvCacheFull => (Some(0.95), Duration::from_secs(30)),
            Self::TtftP99 | Self::GpuThrottled => (None, Duration::from_secs(30)),
            Self::MemoryHigh => (Some(0.9), Duration::from_secs(10)),
            Self::GpuHot => (Some(85.0), Duration::from_secs(30)),
            Self::EngineLost | Self::OutOfMemory | Self::Walltime => (None, Duration::ZERO),
        }
    }
}

/// One of ours as the recipe has it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct AlertSetting {
    /// Which one.
    pub alert: AlertKind,
    /// Its threshold, in base units (a share, requests, seconds, degrees Celsius); `None` where it has none, or where
    /// the run tells it.
    pub threshold: Option<f64>,
    /// How long it must hold before it fires.
    pub hold: Duration,
}

/// An alert that the recipe itself brings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OwnAlert {
    /// Its name.
    pub alert: String,
    /// The expression: what it gives is what is wrong.
    pub expr: String,
    /// How long it must hold before it fires.
    pub hold: Duration,
    /// How bad it is.
    pub severity: String,
    /// What it means, for people.
    pub summary: String,
}

/// The alerts of a monitor.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AlertsPlan {
    /// Those of ours that are on.
    pub ours: Vec<AlertSetting>,
    /// Those of the recipe.
    pub own: Vec<OwnAlert>,
    /// `host:port` or URL of an Alertmanager that is told.
    pub alertmanager: Option<String>,
}

impl Default for AlertsPlan {
    fn default() -> Self {
        let ours = AlertKind::ALL.into_iter().map(|alert| {
            let (threshold, hold) = alert.defaults();
            AlertSetting {
                alert,
                threshold,
                hold,
            }
        });
        Self {
            ours: ours.collect(),
            own: Vec::new(),
            alertmanager: None,
        }
    }
}
