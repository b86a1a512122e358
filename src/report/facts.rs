//! Facts as rows of tables: names and texts, the same for page and text.
//!
//! Pure; a fact that is not known is a dash or no row.

use serde::Serialize;

use super::{gather::Part, samplers, text};
use crate::{exit::Exit, stats::results::Results};

/// A name and what it is.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Fact {
    name: String,
    value: String,
}

pub(super) fn fact(name: &str, value: impl Into<String>) -> Fact {
    Fact {
        name: name.to_owned(),
        value: value.into(),
    }
}

/// Metrics in the order in which they are read; others follow by name.
const METRIC_ORDER: [&str; 20] = [
    "time_to_first_token_scheduled",
    "time_to_first_token",
    "time_to_first_output_token",
    "time_to_first_byte",
    "time_to_second_token",
    "inter_token_latency",
    "inter_chunk_latency",
    "time_per_output_token",
    "normalized_time_per_output_token",
    "request_latency_scheduled",
    "request_latency",
    "request_throughput",
    "recall",
    "insert_latency",
    "insert_throughput",
    "output_token_throughput",
    "output_token_throughput_per_user",
    "total_token_throughput",
    "goodput",
    "slo_attainment",
];

pub(super) fn target_facts(results: &Results) -> Vec<Fact> {
    let target = &results.target;
    let workload = &results.workload;
    let or_none = |text: Option<&String>| text.cloned().unwrap_or_else(|| text::NONE.to_owned());
    let mut facts = vec![
        fact("service", &results.service_name),
        fact("engine", or_none(target.engine.as_ref())),
        fact("model", or_none(target.model.as_ref())),
        fact("load", text::load(&results.load)),
    ];
    if workload.is_object() {
        facts.push(fact("workload", text::workload(workload)));
    }
    facts.extend([
        fact("started", text::stamp(results.started_at)),
        fact(
            "window",
            format!(
                "{} s after {} s of warm-up",
                text::number(results.duration_seconds),
                text::number(results.warmup_seconds)
            ),
        ),
        fact("sent to", target.urls.join(", ")),
        fact("instances", target.instances.join(", ")),
        fact("nodes", target.nodes.join(", ")),
        fact("stimulus (SHA-256)", &results.stimulus_sha256),
    ]);
    facts.retain(|fact| !fact.value.is_empty());
    facts
}

/// A row of the table of all metrics: its name, and a cell for each head.
#[derive(Debug, Clone, Serialize)]
pub(super) struct MetricRow {
    name: String,
    key: String,
    cells: Vec<Cell>,
}

/// A number as it is shown, and how sure it is.
#[derive(Debug, Clone, Serialize)]
struct Cell {
    text: String,
    interval: Option<String>,
}

pub(super) fn metric_rows(results: &Results) -> Vec<MetricRow> {
    let row = |(key, metric): (&String, &crate::stats::results::Metric)| {
        let count = metric
            .count
            .map_or_else(|| text::NONE.to_owned(), |count| count.to_string());
        let numbers = [
            ("avg", Some(metric.avg)),
            ("std", metric.std),
            ("min", metric.min),
            ("p50", metric.p50),
            ("p90", metric.p90),
            ("p95", metric.p95),
            ("p99", metric.p99),
            ("p99.9", metric.p999),
            ("p99.99", metric.p9999),
            ("max", metric.max),
        ];
        let plain = |text| Cell {
            text,
            interval: None,
        };
        let number = |(name, value)| Cell {
            text: text::optional(value),
            interval: metric.intervals.get(name).map(|[low, high]| {
                let (low, high) = (text::number(*low), text::number(*high));
                format!("{low} to {high}, with 95 %")
            }),
        };
        let cells = [metric.unit.clone(), count]
            .map(plain)
            .into_iter()
            .chain(numbers.map(number))
            .collect();
        MetricRow {
            name: text::metric_name(key),
            key: key.clone(),
            cells,
        }
    };
    let place = |key: &str| METRIC_ORDER.iter().position(|known| *known == key);
    let mut metrics: Vec<_> = results.metrics.iter().collect();
    metrics.sort_by_key(|(key, _)| place(key).unwrap_or(METRIC_ORDER.len()));
    metrics.into_iter().map(row).collect()
}

/// A count by the client beside the engine's own.
#[derive(Debug, Clone, Serialize)]
pub(super) struct TokenRow {
    pub(super) name: &'static str,
    pub(super) client: String,
    pub(super) engine: String,
    pub(super) comparison: String,
}

/// Tokens as client and engine counted them.
pub(super) fn token_rows(results: &Results) -> Vec<TokenRow> {
    let counts = [
        ("prompt tokens", &results.tokens.prompt),
        ("output tokens", &results.tokens.output),
    ];
    let row = |(name, counted): (&'static str, &crate::stats::results::Counted)| TokenRow {
        name,
        client: counted.client.to_string(),
        engine: counted
            .engine
            .map_or_else(|| text::NONE.to_owned(), |count| count.to_string()),
        comparison: match counted.engine {
            None => "the engine's counters were not to be had".to_owned(),
            Some(engine) if engine == counted.client => "equal".to_owned(),
            Some(engine) if engine > counted.client => {
                format!("the engine counted {} more", engine - counted.client)
            }
            Some(engine) => format!("the engine counted {} fewer", counted.client - engine),
        },
    };
    let counts = counts.into_iter().filter(|(_, counted)| {
        results.generates() || counted.client > 0 || counted.engine.is_some_and(|count| count > 0)
    });
    counts.map(row).collect()
}

pub(super) fn manifest_facts(part: &Part) -> Vec<Fact> {
    let Some(manifest) = &part.manifest else {
        return Vec::new();
    };
    let plan_of = |kind: &str| {
        manifest
            .recipes
            .iter()
            .find(|recipe| recipe.kind == kind)
            .map(|recipe| &recipe.plan)
    };
    let mut facts = vec![
        fact("run", &manifest.run),
        fact("kind of run", &manifest.role),
        fact(
            "state",
            match manifest.exit {
                Some(exit) => format!(
                    "{}, exit {} ({})",
                    manifest.state,
                    exit.code(),
                    exit.meaning()
                ),
                None => manifest.state.clone(),
            },
        ),
        fact("started", text::stamp(manifest.started_at)),
        fact(
            "took",
            text::between(Some(manifest.started_at), manifest.ended_at),
        ),
        fact("site", &manifest.site),
        fact("cluster", &manifest.cluster),
        fact("steps started by", &manifest.launcher),
        fact("aif", &manifest.aif_version),
    ];
    if let Some(job) = &manifest.job {
        let restarts = if job.restart_count > 0 {
            format!(", restart {}", job.restart_count)
        } else {
            String::new()
        };
        facts.push(fact("job", format!("{}{restarts}", job.job_id)));
        facts.push(fact("nodes", &job.nodes));
        facts.extend(
            job.partition
                .iter()
                .map(|partition| fact("partition", partition)),
        );
        facts.extend(job.account.iter().map(|account| fact("account", account)));
    }
    if let Some(plan) = plan_of("server") {
        for key in ["service_name", "engine", "model"] {
            facts.extend(
                plan[key]
                    .as_str()
                    .map(|text| fact(&text::metric_name(key), text)),
            );
        }
        let planned = &plan["launch"]["container"]["image"];
        let found = part
            .steps
            .get("server")
            .and_then(|step| step.facts.get("image"));
        let image = found.map_or(planned, |found| &found["path"]);
        facts.extend(image.as_str().map(|image| fact("image", image)));
        let digest = found.and_then(|found| found["digest"].as_str());
        facts.extend(digest.map(|digest| fact("image digest", digest)));
    }
    facts.extend(
        (!manifest.instances.is_empty())
            .then(|| fact("instances met", manifest.instances.join(", "))),
    );
    facts
}

/// A step of the run: times are of its node's own clock.
#[derive(Debug, Clone, Serialize)]
pub(super) struct StepRow {
    pub(super) role: String,
    pub(super) recipe: String,
    pub(super) step: String,
    pub(super) node: String,
    pub(super) cpus: String,
    pub(super) started: String,
    pub(super) ready: String,
    pub(super) ended: String,
    pub(super) to_ready: String,
    pub(super) exit: String,
    facts: Vec<Fact>,
}

/// A fact of a step; one that has parts, as an image has, is as many facts.
fn named(name: &str, value: &serde_json::Value) -> Vec<Fact> {
    match value {
        serde_json::Value::Object(parts) => parts
            .iter()
            .map(|(part, value)| {
                let name = format!("{name} {}", part.replace('_', " "));
                fact(&name, text::value(value))
            })
            .collect(),
        value => vec![fact(name, text::value(value))],
    }
}

/// The steps in the order in which they started.
pub(super) fn step_rows(part: &Part) -> Vec<StepRow> {
    let mut steps: Vec<_> = part.steps.iter().collect();
    steps.sort_by_key(|(_, step)| step.started_at);
    let row = |(role, step): (&String, &crate::run::StepFile)| {
        let place = match (&step.job, &step.step) {
            (Some(job), Some(id)) => format!("{job}.{id}"),
            (Some(job), None) => job.clone(),
            _ => format!("process {}", step.pid),
        };
        let exit = step.exit.map_or_else(
            || text::NONE.to_owned(),
            |exit| {
                if exit == Exit::Done {
                    "0".to_owned()
                } else {
                    format!("{} ({})", exit.code(), exit.meaning())
                }
            },
        );
        StepRow {
            role: role.clone(),
            recipe: step.recipe.clone(),
            step: place,
            node: step.node.clone(),
            cpus: step
                .cpus
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", "),
            started: text::clock(Some(step.started_at)),
            ready: text::clock(step.ready_at),
            ended: text::clock(step.ended_at),
            to_ready: text::between(Some(step.started_at), step.ready_at),
            exit,
            facts: step
                .facts
                .iter()
                // they have a table of their own
                .filter(|(name, _)| *name != samplers::FACT)
                .flat_map(|(name, value)| named(&name.replace('_', " "), value))
                .collect(),
        }
    };
    steps.into_iter().map(row).collect()
}
