//! What is asked of Prometheus for the report's charts: load, engine and node over the time of a run.
//!
//! Pure. A question whose series are not there has no answer and no line, so the same questions fit every engine and node;
//! a chart without any line is named as not measured. What several agents of a node measure alike is taken once; what
//! several instances do is added up.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::units::prometheus_duration;

/// What a chart is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// The load, as benches tell it.
    Load,
    /// The engine, by its own metrics.
    Engine,
    /// The node: CPU, memory, pressure, network, disks, power, GPU.
    Node,
}

/// A chart to be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// What it is about.
    pub group: Group,
    /// Its title.
    pub title: &'static str,
    /// Its panels: unit, and lines.
    pub panels: Vec<(&'static str, Vec<Question>)>,
}

/// A question that gives one line, or one for each value of its labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Name of the line.
    pub name: String,
    /// The expression.
    pub query: String,
}

/// Names under which an engine tells what is drawn. All may be empty.
#[derive(Debug, Clone, Copy, Default)]
pub struct EngineSeries {
    /// Gauges of requests that run.
    pub running: &'static [&'static str],
    /// Gauges of requests that wait.
    pub waiting: &'static [&'static str],
    /// Gauge of the share of the KV cache that is in use, by all its names.
    pub kv_cache: &'static [&'static str],
    /// What it does at once in a step: name and expression, in which `WINDOW` is replaced.
    pub batch: &'static [(&'static str, &'static str)],
    /// Counters of prompt tokens.
    pub prompt_tokens: &'static [&'static str],
    /// Counters of output tokens.
    pub output_tokens: &'static [&'static str],
}

/// Every chart, for these engines; rates look back over this time.
pub fn charts(engines: &[EngineSeries], window: Duration) -> Vec<Ask> {
    charts_over(engines, &prometheus_duration(window))
}

/// The same, where how far rates look back is written as `PromQL` or a variable that stands for it.
pub fn charts_over(engines: &[EngineSeries], window: &str) -> Vec<Ask> {
    let mut all = load(window);
    all.extend(engine(engines, window));
    all.extend(node(window));
    all
}

fn ask(name: &str, query: impl Into<String>) -> Question {
    Question {
        name: name.to_owned(),
        query: query.into(),
    }
}

fn load(window: &str) -> Vec<Ask> {
    let ended =
        |matching: &str| format!("sum(rate(aif_bench_requests_total{{{matching}}}[{window}]))");
    let of_all = |of: &str, name: &str| {
        format!(
            "1000 * histogram_quantile({of}, sum by (le) (rate(aif_bench_{name}_seconds_bucket[{window}])))"
        )
    };
    let quantile = |of: &str| of_all(of, "time_to_first_token");
    let latency = |of: &str| of_all(of, "request_latency");
    let mean = |name: &str| {
        format!("1000 * sum(rate({name}_sum[{window}])) / (sum(rate({name}_count[{window}])) > 0)")
    };
    vec![
        Ask {
            group: Group::Load,
            title: "Requests of the load",
            panels: vec![
                (
                    "requests/s",
                    vec![
                        ask("ended well", ended("outcome=\"success\"")),
                        ask("ended badly", ended("outcome!=\"success\"")),
                    ],
                ),
                (
                    "requests",
                    vec![ask("in flight", "sum(aif_bench_requests_in_flight)")],
                ),
            ],
        },
        Ask {
            group: Group::Load,
            title: "Latencies of the load",
            panels: vec![
                (
                    "ms to the first token",
                    vec![ask("median", quantile("0.5")), ask("p99", quantile("0.99"))],
                ),
                (
                    "ms of the whole request",
                    vec![ask("median", latency("0.5")), ask("p99", latency("0.99"))],
                ),
                (
                    "ms between tokens",
                    vec![ask("mean", mean("aif_bench_inter_token_latency_seconds"))],
                ),
            ],
        },
    ]
}

fn engine(engines: &[EngineSeries], window: &str) -> Vec<Ask> {
    // each engine has its own names: what is not there is empty, and `or` takes what is
    let sums = |names: fn(&EngineSeries) -> &'static [&'static str],
                of: &dyn Fn(&str) -> String| {
        let names = engines.iter().flat_map(|engine| names(engine).iter());
        let parts: Vec<String> = names.map(|name| of(name)).collect();
        (!parts.is_empty()).then(|| format!("sum({})", parts.join(" or ")))
    };
    let gauge = |name: &str| name.to_owned();
    // `or` goes by labels without the name: two counters of one engine would hide each other
    let rate = |name: &str| {
        format!("label_replace(rate({name}[{window}]), \"counter\", \"{name}\", \"\", \"\")")
    };
    let cache: Vec<&str> = engines
        .iter()
        .flat_map(|engine| engine.kv_cache)
        .copied()
        .collect();
    let line = |name: &str, query: Option<String>| query.map(|query| ask(name, query));
    let lines = |all: Vec<Option<Question>>| all.into_iter().flatten().collect::<Vec<_>>();
    let batch = engines.iter().flat_map(|engine| engine.batch);
    let batch = batch.map(|(name, query)| ask(name, query.replace("WINDOW", window)));
    let cache = (!cache.is_empty()).then(|| format!("100 * max({})", cache.join(" or ")));
    vec![
        Ask {
            group: Group::Engine,
            title: "Requests in the engine",
            panels: vec![(
                "requests",
                lines(vec![
                    line("running", sums(|all| all.running, &gauge)),
                    line("waiting in its queue", sums(|all| all.waiting, &gauge)),
                ]),
            )],
        },
        Ask {
            group: Group::Engine,
            title: "Batch of the engine",
            panels: vec![("in a step", batch.collect())],
        },
        Ask {
            group: Group::Engine,
            title: "KV cache of the engine",
            panels: vec![("%", lines(vec![line("in use", cache)]))],
        },
        Ask {
            group: Group::Engine,
            title: "Tokens of the engine",
            panels: vec![
                (
                    "prompt tokens/s",
                    lines(vec![line("read", sums(|all| all.prompt_tokens, &rate))]),
                ),
                (
                    "output tokens/s",
                    lines(vec![line("made", sums(|all| all.output_tokens, &rate))]),
                ),
            ],
        },
    ]
}

fn node(window: &str) -> Vec<Ask> {
    let gib = |name: &str| format!("max by (node) ({name}) / 1073741824");
    let gpu = |name: &str, of: &str| format!("max by (node, gpu) (aif_gpu_{name}){of}");
    // several agents of a node tell the same: once, and then added up over its devices
    let bytes = |name: &str, device: &str, matching: &str| {
        format!(
            "sum by (node) (max by (node, {device}) (rate(aif_node_{name}_bytes_total{matching}[{window}]))) / 1000000"
        )
    };
    let outside = "{device!=\"lo\"}";
    let pressure = |of: &str| {
        let whose = if of.starts_with("job") {
            "node, job_id"
        } else {
            "node"
        };
        ask(
            "for",
            format!("100 * max by ({whose}, resource) (rate(aif_{of}_seconds_total[{window}]))"),
        )
    };
    vec![
        Ask {
            group: Group::Node,
            title: "CPU",
            panels: vec![(
                "cores",
                vec![
                    ask(
                        "of the job",
                        format!("max by (node) (rate(aif_job_cpu_seconds_total[{window}]))"),
                    ),
                    ask(
                        "of the node",
                        format!(
                            "sum by (node) (max by (node, mode) (rate(aif_node_cpu_seconds_total{{mode!~\"idle|iowait\"}}[{window}])))"
                        ),
                    ),
                ],
            )],
        },
        Ask {
            group: Group::Node,
            title: "Memory",
            panels: vec![(
                "GiB",
                vec![
                    ask("of the job", gib("aif_job_memory_working_set_bytes")),
                    ask("limit of the job", gib("aif_job_memory_limit_bytes")),
                    ask(
                        "of the node",
                        gib("aif_node_memory_size_bytes - aif_node_memory_available_bytes"),
                    ),
                ],
            )],
        },
        Ask {
            group: Group::Node,
            title: "Pressure: tasks that wait for CPU, memory or IO",
            panels: vec![
                (
                    "% of time in which a task of the node waited",
                    vec![pressure("node_pressure_waiting")],
                ),
                (
                    "% of time in which all tasks of the node waited",
                    vec![pressure("node_pressure_stalled")],
                ),
                (
                    "% of time in which a task of the job waited",
                    vec![pressure("job_pressure_waiting")],
                ),
            ],
        },
        Ask {
            group: Group::Node,
            title: "Network of the node",
            panels: vec![
                (
                    "MB/s",
                    vec![
                        ask("received", bytes("network_receive", "device", outside)),
                        ask("sent", bytes("network_transmit", "device", outside)),
                    ],
                ),
                (
                    "MB/s of InfiniBand",
                    vec![
                        ask("received", bytes("infiniband_receive", "device, port", "")),
                        ask("sent", bytes("infiniband_transmit", "device, port", "")),
                    ],
                ),
            ],
        },
        Ask {
            group: Group::Node,
            title: "Disks of the node",
            panels: vec![(
                "MB/s",
                vec![
                    ask("read", bytes("disk_read", "device", "")),
                    ask("written", bytes("disk_write", "device", "")),
                ],
            )],
        },
        Ask {
            group: Group::Node,
            title: "Power of the node",
            panels: vec![(
                "W",
                vec![
                    ask(
                        "by its CPUs' counters:",
                        format!(
                            "max by (node, domain) (rate(aif_node_energy_joules_total[{window}]))"
                        ),
                    ),
                    ask(
                        "by its sensors:",
                        "max by (node, domain) (aif_node_power_watts)",
                    ),
                ],
            )],
        },
        Ask {
            group: Group::Node,
            title: "GPU",
            panels: vec![
                (
                    "% busy",
                    vec![ask(
                        "GPU",
                        format!("100 * {}", gpu("utilization_ratio", "")),
                    )],
                ),
                (
                    "GiB",
                    vec![ask("GPU", gpu("memory_used_bytes", " / 1073741824"))],
                ),
                ("W", vec![ask("GPU", gpu("power_watts", ""))]),
                ("°C", vec![ask("GPU", gpu("temperature_celsius", ""))]),
            ],
        },
    ]
}
