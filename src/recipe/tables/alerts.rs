//! The keys below `alerts` of a monitor recipe. Each of ours takes `false`, or what is to be different.

use super::{SPAN, SPAN_OR_ZERO};
use crate::recipe::schema::{Field, Type};

const SHARE: Type = Type::Number {
    min: 0.0,
    above: true,
    max: 1.0,
};
const REQUESTS: Type = Type::Number {
    min: 0.0,
    above: false,
    max: f64::INFINITY,
};
const CELSIUS: Type = Type::Number {
    min: 0.0,
    above: true,
    max: 200.0,
};

const FOR: Field = Field::new("for", SPAN_OR_ZERO, "how long it must hold before it fires");

const fn threshold(kind: Type, doc: &'static str, default: &'static str) -> Field {
    Field::new("threshold", kind, doc).default(default)
}

static TARGET_DOWN: &[Field] = &[FOR.default("20s")];
static ENGINE_LOST: &[Field] = &[FOR.default("0")];
static ENGINE_NOT_READY: &[Field] = &[FOR.default("10m")];
static ERROR_RATE: &[Field] = &[
    threshold(SHARE, "share of requests that end badly", "0.05"),
    FOR.default("30s"),
];
static QUEUE_GROWING: &[Field] = &[
    threshold(REQUESTS, "requests that may wait", "8"),
    FOR.default("30s"),
];
static KV_CACHE_FULL: &[Field] = &[
    threshold(SHARE, "share of the cache that is in use", "0.95"),
    FOR.default("30s"),
];
static TTFT_P99: &[Field] = &[
    threshold(
        SPAN,
        "time to first token that 99 of 100 requests must keep",
        "the lowest slo.ttft_ms of the run's clients, else 10s",
    ),
    FOR.default("30s"),
];
static MEMORY_HIGH: &[Field] = &[
    threshold(SHARE, "share of the job's memory that is in use", "0.9"),
    FOR.default("10s"),
];
static OUT_OF_MEMORY: &[Field] = &[FOR.default("0")];
static GPU_HOT: &[Field] = &[
    threshold(CELSIUS, "degrees Celsius", "85"),
    FOR.default("30s"),
];
static GPU_THROTTLED: &[Field] = &[FOR.default("30s")];
static WALLTIME: &[Field] = &[
    threshold(
        SPAN,
        "time that is left to the job",
        "a tenth of the job's time, but 3m to 5m",
    ),
    FOR.default("0"),
];
static RULES: &[Field] = &[
    Field::new("alert", Type::Name, "name of the alert").required(),
    Field::new("expr", Type::Text, "PromQL; what it gives is what is wrong").required(),
    FOR.default("0"),
    Field::new("severity", Type::Name, "how bad it is").default("warning"),
    Field::new("summary", Type::Text, "what it means, for people"),
];

const fn ours(name: &'static str, fields: &'static [Field], doc: &'static str) -> Field {
    Field::new(name, Type::Or(&Type::Bool, fields), doc).default("true")
}

pub(super) static ALERTS: &[Field] = &[
    Field::new("enabled", Type::Bool, "have Prometheus watch for these?").default("true"),
    ours("target_down", TARGET_DOWN, "a target cannot be scraped"),
    ours(
        "engine_lost",
        ENGINE_LOST,
        "an engine ended though nobody told it to",
    ),
    ours(
        "engine_not_ready",
        ENGINE_NOT_READY,
        "a server starts and does not become ready",
    ),
    ours("error_rate", ERROR_RATE, "requests end badly"),
    ours(
        "queue_growing",
        QUEUE_GROWING,
        "many requests wait in the engine, and ever more",
    ),
    ours(
        "kv_cache_full",
        KV_CACHE_FULL,
        "the engine's KV cache is nearly full",
    ),
    ours(
        "ttft_p99",
        TTFT_P99,
        "the 99th percentile of the time to first token is too high",
    ),
    ours(
        "memory_high",
        MEMORY_HIGH,
        "the job is near the limit of its memory",
    ),
    ours(
        "out_of_memory",
        OUT_OF_MEMORY,
        "the kernel killed a process of the job for its memory",
    ),
    ours("gpu_hot", GPU_HOT, "a GPU is too hot"),
    ours(
        "gpu_throttled",
        GPU_THROTTLED,
        "a GPU is slowed down for heat or power",
    ),
    ours("walltime", WALLTIME, "the job's time is nearly over"),
    Field::new("rules", Type::List(&Type::Map(RULES)), "alerts of your own"),
    Field::new(
        "alertmanager",
        Type::Text,
        "host:port or URL of an Alertmanager that is told",
    )
    .expanded(),
];
