//! Our alerts: what each asks Prometheus.
//!
//! One alert may ask several engines and the bench, each under its own names; the parts are joined with `or`, and a part
//! whose series are not there is silent. So the rules fit every engine that has a profile, one that has no metric for
//! something (llama.cpp tells no latencies) is judged by what its clients see, and a node without a GPU has no alerts
//! of GPUs.
//!
//! Rates look back over four scrapes and a minute at the least, because one scrape that is late must not blind them.
//! What is wrong with a whole job is told once, whichever of its roles saw it: agents on one node all measure the same.

use std::time::Duration;

use super::rules::Alert;
use crate::{
    recipe::{AlertKind, AlertSetting, AlertsPlan},
    units::prometheus_duration,
};

/// Names under which an engine tells what alerts ask for. All may be empty.
#[derive(Debug, Clone, Copy, Default)]
pub struct EngineNames {
    /// Gauge of requests that wait.
    pub waiting: &'static [&'static str],
    /// Gauge of the share of the KV cache that is in use, by its names of all generations.
    pub kv_cache: &'static [&'static str],
    /// Histogram of the time to first token, in seconds.
    pub time_to_first_token: Option<&'static str>,
    /// Selectors of the counters of failed and of all requests.
    pub failures: &'static [(&'static str, &'static str)],
}

/// What the rules depend on besides the recipe.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The engines that may be there.
    pub engines: &'a [EngineNames],
    /// Interval of scrapes and evaluations.
    pub interval: Duration,
    /// The time to first token that the run's clients want.
    pub time_to_first_token: Option<Duration>,
    /// How long the job may run in all.
    pub job: Option<Duration>,
}

/// Rates look back at least so far.
const LEAST_WINDOW: Duration = Duration::from_mins(1);
/// Slowest first token at the 99th percentile where nobody says what is wanted.
const SLOWEST: Duration = Duration::from_secs(10);
/// What is left of a job that is nearly over: a tenth of it within these bounds (Slurm may send its signal two minutes
/// before the end), and never more than half.
const LEFT: (Duration, Duration) = (Duration::from_mins(3), Duration::from_mins(5));
/// Labels that tell an instance.
const AGENT: &str = "up{role=\"server\", job=\"agent\"}";
const INSTANCE: &str = "service, instance_id, node, job_id";

/// The alerts of a plan.
pub fn alerts(plan: &AlertsPlan, facts: &Facts<'_>) -> Vec<Alert> {
    let ours = plan.ours.iter().map(|setting| Alert {
        name: name(setting.alert).to_owned(),
        expr: expression(setting, facts),
        hold: setting.hold,
        severity: severity(setting.alert).to_owned(),
        summary: summary(setting.alert).to_owned(),
    });
    let own = plan.own.iter().map(|own| Alert {
        name: own.alert.clone(),
        expr: own.expr.clone(),
        hold: own.hold,
        severity: own.severity.clone(),
        summary: own.summary.clone(),
    });
    ours.chain(own).collect()
}

/// The name of an alert of ours.
pub const fn name(alert: AlertKind) -> &'static str {
    match alert {
        AlertKind::TargetDown => "TargetDown",
        AlertKind::EngineLost => "EngineLost",
        AlertKind::EngineNotReady => "EngineNotReady",
        AlertKind::ErrorRate => "HighErrorRate",
        AlertKind::QueueGrowing => "QueueGrowing",
        AlertKind::KvCacheFull => "KvCacheNearlyFull",
        AlertKind::TtftP99 => "SlowFirstToken",
        AlertKind::MemoryHigh => "MemoryNearLimit",
        AlertKind::OutOfMemory => "OutOfMemory",
        AlertKind::GpuHot => "GpuHot",
        AlertKind::GpuThrottled => "GpuThrottled",
        AlertKind::Walltime => "WalltimeNearlyOver",
    }
}

const fn severity(alert: AlertKind) -> &'static str {
    match alert {
        AlertKind::TargetDown | AlertKind::EngineLost | AlertKind::OutOfMemory => "critical",
        _ => "warning",
    }
}

const fn summary(alert: AlertKind) -> &'static str {
    match alert {
        AlertKind::TargetDown => {
            "A target cannot be scraped: it hangs, is overloaded, has ended, or is out of reach"
        }
        AlertKind::EngineLost => {
            "An engine was lost or started again, without a word that it drains"
        }
        AlertKind::EngineNotReady => "A server has been starting for long and is not ready",
        AlertKind::ErrorRate => "Many requests end badly",
        AlertKind::QueueGrowing => {
            "Requests wait in the engine, and ever more of them: more is asked than it can do"
        }
        AlertKind::KvCacheFull => {
            "The engine's KV cache is nearly full: requests will have to wait"
        }
        AlertKind::TtftP99 => "First tokens are slower than wanted at the 99th percentile",
        AlertKind::MemoryHigh => "The job is near the limit of its memory, at which it is killed",
        AlertKind::OutOfMemory => "The kernel killed a process of the job for want of memory",
        AlertKind::GpuHot => "A GPU is too hot",
        AlertKind::GpuThrottled => "A GPU is slowed down for heat or power",
        AlertKind::Walltime => "The job's time is nearly over",
    }
}

fn expression(setting: &AlertSetting, facts: &Facts<'_>) -> String {
    let interval = facts.interval;
    let window = prometheus_duration(LEAST_WINDOW.max(interval * 4));
    let threshold = setting.threshold.unwrap_or_default();
    let engines = facts.engines.iter();
    match setting.alert {
        // benches come and go
        AlertKind::TargetDown => "up{role!=\"bench\"} == 0".to_owned(),
        AlertKind::EngineLost => engine_lost(&window, interval),
        AlertKind::EngineNotReady => {
            format!("max by ({INSTANCE}) (aif_server_state{{state=\"starting\"}}) == 1")
        }
        AlertKind::ErrorRate => {
            let bench = (
                "aif_bench_requests_total{outcome=~\"error|timeout\"}",
                "aif_bench_requests_total",
            );
            let pairs = std::iter::once(&bench).chain(engines.flat_map(|names| names.failures));
            any(pairs.map(|(bad, all)| {
                let rate =
                    |selector: &str| format!("sum by ({INSTANCE}) (rate({selector}[{window}]))");
                format!("{} / {} > {threshold}", rate(bad), rate(all))
            }))
        }
        AlertKind::QueueGrowing => any(engines.flat_map(|names| names.waiting).map(|waiting| {
            format!("({waiting} > {threshold} and deriv({waiting}[{window}]) > 0)")
        })),
        AlertKind::KvCacheFull => any(engines
            .filter(|names| !names.kv_cache.is_empty())
            .map(|names| format!("({}) > {threshold}", names.kv_cache.join(" or ")))),
        AlertKind::TtftP99 => {
            let threshold = setting
                .threshold
                .unwrap_or_else(|| facts.time_to_first_token.unwrap_or(SLOWEST).as_secs_f64());
            let bench = "aif_bench_time_to_first_token_seconds";
            let names =
                std::iter::once(bench).chain(engines.filter_map(|names| names.time_to_first_token));
            any(names.map(|name| {
                format!(
                    "histogram_quantile(0.99, sum by (le, {INSTANCE}) (rate({name}_bucket[{window}]))) > {threshold}"
                )
            }))
        }
        AlertKind::MemoryHigh => format!(
            "max by (node, job_id) (aif_job_memory_working_set_bytes) / max by (node, job_id) (aif_job_memory_limit_bytes) > {threshold}"
        ),
        AlertKind::OutOfMemory => {
            format!("max by (node, job_id) (increase(aif_job_oom_kills_total[{window}])) > 0")
        }
        AlertKind::GpuHot => {
            format!("{} > {threshold}", of_device("aif_gpu_temperature_celsius"))
        }
        // an idle GPU and a clock that somebody set are no fault, and at its power limit is where a busy one is meant to be
        AlertKind::GpuThrottled => format!(
            "{} > 0",
            of_device(
                "{__name__=~\"aif_gpu_throttle.*\", __name__!~\".*_total\", reason!~\".*idle.*|.*setting.*|.*sync.*|.*none.*|.*power_cap.*\"}"
            )
        ),
        AlertKind::Walltime => {
            let left = facts
                .job
                .map_or(LEFT.1, |job| (job / 10).clamp(LEFT.0, LEFT.1).min(job / 2));
            let left = setting.threshold.unwrap_or(left.as_secs_f64());
            format!("aif_monitor_job_end_timestamp_seconds - time() < {left}")
        }
    }
}

/// An engine was started again; or a server's agent, which was there a while ago and had no word of an end, is gone or
/// gives no answer twice.
fn engine_lost(window: &str, interval: Duration) -> String {
    let twice = prometheus_duration(interval * 2);
    format!(
        "max by ({INSTANCE}) (increase(aif_server_restarts_total[{window}])) > 0 \
         or max by ({INSTANCE}) (max_over_time({AGENT}[{window}]) == 1 unless max_over_time({AGENT}[{twice}]) == 1) \
         unless on (instance_id) {}",
        drained(window)
    )
}

fn drained(window: &str) -> String {
    format!("max_over_time(aif_server_state{{state=\"draining\"}}[{window}]) == 1")
}

/// What will be told as a target down or an engine lost, unless it comes again: it takes some scrapes and evaluations, in
/// which a target may vanish altogether.
pub fn in_doubt() -> String {
    let window = prometheus_duration(LEAST_WINDOW);
    format!(
        "up{{role!=\"bench\"}} == 0 \
         or (max_over_time({AGENT}[{window}]) == 1 unless {AGENT} == 1 unless on (instance_id) {})",
        drained(&window)
    )
}

/// Seen by several roles of a job, told once.
fn of_device(selector: &str) -> String {
    format!("max without (instance, instance_id, role, job, service) ({selector})")
}

fn any(parts: impl Iterator<Item = String>) -> String {
    let parts: Vec<String> = parts.collect();
    if parts.is_empty() {
        // an alert that no engine has the series for is silent, and not left out in silence
        return "absent(vector(1))".to_owned();
    }
    parts.join(" or ")
}
