//! The keys of each kind of recipe. What they mean for a run is decided in `plan`; here stands what may be written.

use super::{
    Kind,
    schema::{Field, Type},
};

/// The keys of a kind of recipe.
pub const fn fields(kind: Kind) -> &'static [Field] {
    match kind {
        Kind::Server => SERVER,
        Kind::Monitor => MONITOR,
        Kind::Client => CLIENT,
    }
}

const COUNT: Type = Type::Whole {
    min: 1,
    max: 1_000_000_000,
};
const SPAN: Type = Type::Duration { zero: false };
const SPAN_OR_ZERO: Type = Type::Duration { zero: true };
const MILLISECONDS: Type = Type::Number {
    min: 0.0,
    above: true,
    max: 1e9,
};
const FIXED_PORT: Type = Type::Whole { min: 1, max: 65535 };

const NAME: Field = Field::new("name", Type::Name, "name of the recipe").required();
const SERVICE_NAME: Field = Field::new(
    "service_name",
    Type::Name,
    "name that links server, monitor and client",
)
.default("the name without -server, -monitor, -client or -test");
const DESCRIPTION: Field = Field::new("description", Type::Text, "for people");

static RESOURCES: &[Field] = &[
    Field::new(
        "partition",
        Type::Text,
        "partition, by the site's or Slurm's name",
    ),
    Field::new("cpu_cores", COUNT, "CPU cores"),
    Field::new("memory_gb", Type::Memory, "memory in GiB"),
    Field::new("gpu_count", Type::Whole { min: 0, max: 1024 }, "GPUs").default("0"),
    Field::new("time_limit", SPAN, "time limit of the job"),
    Field::new("nodes", Type::One("an engine over several nodes"), "nodes").default("1"),
];

static ORCHESTRATION: &[Field] = &[
    Field::new(
        "mode",
        Type::Choice {
            now: &["slurm", "local"],
            later: &[],
        },
        "kept for older recipes: what starts a recipe decides where it runs",
    ),
    Field::new(
        "resources",
        Type::Map(RESOURCES),
        "size of the job, and of the step in a stack",
    ),
];
const ORCHESTRATION_FIELD: Field = Field::new(
    "orchestration",
    Type::Map(ORCHESTRATION),
    "what is asked of Slurm",
);

static CONTAINER: &[Field] = &[
    Field::new("image", Type::Text, "path of the image file")
        .required()
        .expanded(),
    Field::new(
        "source",
        Type::Text,
        "where the image is pulled from when it is missing",
    )
    .expanded(),
    Field::new(
        "gpu",
        Type::Choice {
            now: &["nvidia", "amd", "none"],
            later: &[],
        },
        "which GPUs the container sees",
    )
    .default("nvidia where gpu_count is above 0, else none"),
    Field::new(
        "binds",
        Type::List(&Type::Text),
        "folders of the host, as HOST:CONTAINER[:ro]",
    )
    .expanded(),
    Field::new(
        "args",
        Type::Arguments,
        "program and arguments; {port}, {host} … are filled in",
    )
    .required()
    .expanded(),
];

static READINESS: &[Field] = &[
    Field::new(
        "path",
        Type::Text,
        "path that answers 200 when the engine is ready",
    )
    .default("the engine's"),
    Field::new("timeout", SPAN, "how long the engine may take").default("20m"),
];

static RESTART: &[Field] = &[
    Field::new(
        "max",
        Type::Whole { min: 0, max: 1000 },
        "restarts of an engine that died",
    )
    .default("0"),
    Field::new(
        "backoff",
        SPAN_OR_ZERO,
        "pause before a restart, doubled each time",
    )
    .default("5s"),
];

static SERVICE: &[Field] = &[
    Field::new(
        "command",
        Type::Text,
        "script for `bash -l`, never expanded; PORT and ACTUAL_PORT are set",
    ),
    Field::new(
        "container",
        Type::Map(CONTAINER),
        "image that aif starts itself, instead of `command`",
    ),
    Field::new(
        "program",
        Type::Arguments,
        "program of the host and its arguments, instead of `command`",
    )
    .expanded(),
    Field::new("working_dir", Type::Text, "folder the engine starts in")
        .default(".")
        .expanded(),
    Field::new(
        "env",
        Type::TextMap,
        "variables of the engine; expanded unless `command` is used",
    )
    .expanded(),
    Field::new(
        "ports",
        Type::List(&Type::Port),
        "ports, the first is the API's",
    )
    .default("[auto]"),
    Field::new(
        "readiness",
        Type::Map(READINESS),
        "when the engine is ready",
    ),
    Field::new(
        "auth",
        Type::Choice {
            now: &["key", "none"],
            later: &[],
        },
        "key: each instance makes a key and wants it",
    )
    .default("none"),
    Field::new(
        "restart",
        Type::Map(RESTART),
        "what happens when the engine dies",
    ),
    Field::new(
        "nodes",
        Type::One("an engine over several nodes"),
        "nodes of one engine",
    )
    .default("1"),
    Field::new(
        "replicas",
        Type::One("several instances of one recipe"),
        "instances",
    )
    .default("1"),
];

static SERVER: &[Field] = &[
    NAME,
    SERVICE_NAME,
    DESCRIPTION,
    Field::new(
        "engine",
        Type::Choice {
            now: &["vllm", "llamacpp", "http"],
            later: &["ollama", "chroma", "tgi", "sglang", "qdrant", "triton"],
        },
        "profile: readiness, metrics, how it takes a key",
    )
    .default("by command or image, else http"),
    Field::new("service", Type::Map(SERVICE), "the engine").required(),
    ORCHESTRATION_FIELD,
];

static TARGETS: &[Field] = &[
    Field::new("name", Type::Name, "name of the target").required(),
    Field::new("port", FIXED_PORT, "port of the service that is meant").required(),
    Field::new("metrics_path", Type::Text, "path of its metrics").default("/metrics"),
];

static PROMETHEUS: &[Field] = &[
    Field::new("enabled", Type::Bool, "start Prometheus?").default("true"),
    Field::new("image", Type::Text, "image of Prometheus")
        .default("the prometheus on PATH")
        .expanded(),
    Field::new("scrape_interval", SPAN, "interval of scrapes").default("2s in a stack, else 15s"),
    Field::new("retention_time", SPAN, "how long samples are kept").default("24h"),
    Field::new("port", Type::Port, "port of Prometheus").default("auto"),
    Field::new("partition", Type::Text, "partition of the job"),
    Field::new(
        "resources",
        Type::Map(RESOURCES),
        "size of the job, and of the step in a stack",
    ),
];

static MONITOR: &[Field] = &[
    NAME,
    SERVICE_NAME,
    DESCRIPTION,
    Field::new(
        "targets",
        Type::List(&Type::Map(TARGETS)),
        "targets besides those of the registry",
    ),
    Field::new("prometheus", Type::Map(PROMETHEUS), "Prometheus"),
    Field::new("grafana", Type::TextMap, "Grafana beside Prometheus").later(),
    Field::new("alerts", Type::List(&Type::TextMap), "alert rules").later(),
    ORCHESTRATION_FIELD,
];

static TARGET: &[Field] = &[
    Field::new(
        "protocol",
        Type::Choice {
            now: &["http"],
            later: &["https", "grpc"],
        },
        "protocol",
    )
    .default("http"),
    Field::new("timeout_seconds", SPAN, "limit of one request").default("120"),
];

static ARRIVAL: &[Field] = &[
    Field::new(
        "process",
        Type::Choice {
            now: &["constant", "poisson"],
            later: &["gamma", "trace"],
        },
        "constant: equal gaps; poisson: independent users",
    )
    .default("poisson"),
    Field::new("burstiness", Type::Text, "shape of a gamma process").later(),
    Field::new("file", Type::Text, "trace to replay").later(),
];

static WORKLOAD: &[Field] = &[
    Field::new(
        "api",
        Type::Choice {
            now: &["completions", "chat"],
            later: &[
                "embeddings",
                "rerank",
                "responses",
                "ollama",
                "chroma",
                "tgi",
            ],
        },
        "API that requests go to",
    )
    .default("completions"),
    Field::new(
        "pattern",
        Type::Choice {
            now: &["closed-loop", "open-loop"],
            later: &[],
        },
        "closed-loop: by users; open-loop: by time",
    )
    .default("open-loop where requests_per_second is given, else closed-loop"),
    Field::new(
        "concurrent_users",
        Type::Whole {
            min: 1,
            max: 1_000_000,
        },
        "users at once (closed loop)",
    )
    .default("1"),
    Field::new(
        "think_time_ms",
        Type::Number {
            min: 0.0,
            above: false,
            max: 1e9,
        },
        "pause of a user between answer and next request (closed loop)",
    )
    .default("0"),
    Field::new(
        "requests_per_user",
        COUNT,
        "requests of each user (closed loop)",
    )
    .default("no limit"),
    Field::new(
        "requests_per_second",
        Type::Number {
            min: 0.0,
            above: true,
            max: 1e7,
        },
        "rate (open loop)",
    ),
    Field::new("arrival", Type::Map(ARRIVAL), "arrival process (open loop)"),
    Field::new(
        "max_in_flight",
        COUNT,
        "requests in flight at the most; more are dropped and counted (open loop)",
    )
    .default("no limit"),
    Field::new("duration_seconds", SPAN, "measured window"),
    Field::new("total_requests", COUNT, "requests in all").default("no limit"),
    Field::new(
        "warmup_seconds",
        SPAN_OR_ZERO,
        "load before the measured window",
    )
    .default("0"),
    Field::new(
        "seed",
        Type::Whole {
            min: 0,
            max: u64::MAX,
        },
        "seed of prompts and arrivals",
    )
    .default("0"),
    Field::new("stream", Type::Bool, "streamed answers?").default("true"),
    Field::new("sweep", Type::TextMap, "several loads, one after another").later(),
    Field::new(
        "search",
        Type::TextMap,
        "search for the highest load that keeps the limits",
    )
    .later(),
];

static PARAMS: &[Field] = &[
    Field::new("model_name", Type::Text, "model named in the request").default("the service's own"),
    Field::new(
        "prompt_length",
        Type::Whole {
            min: 1,
            max: 10_000_000,
        },
        "prompt length in tokens",
    )
    .default("128"),
    Field::new(
        "max_tokens",
        Type::Whole {
            min: 1,
            max: 10_000_000,
        },
        "tokens of an answer at the most",
    )
    .default("128"),
    Field::new(
        "num_prompts",
        Type::Whole {
            min: 1,
            max: 10_000_000,
        },
        "size of the prompt pool",
    )
    .default("a prompt for each request"),
    Field::new(
        "temperature",
        Type::Number {
            min: 0.0,
            above: false,
            max: 100.0,
        },
        "sampling temperature",
    )
    .default("the engine's"),
    Field::new(
        "top_p",
        Type::Number {
            min: 0.0,
            above: true,
            max: 1.0,
        },
        "nucleus sampling",
    )
    .default("the engine's"),
    Field::new(
        "ignore_eos",
        Type::Bool,
        "generate max_tokens whatever the model says",
    )
    .default("false"),
];

static DATASET: &[Field] = &[
    Field::new(
        "type",
        Type::Choice {
            now: &["synthetic"],
            later: &[
                "sharegpt",
                "file",
                "jsonl",
                "custom",
                "random",
                "huggingface",
                "trace",
            ],
        },
        "where prompts come from",
    )
    .default("synthetic"),
    Field::new("params", Type::Map(PARAMS), "what requests hold"),
];

static SLO: &[Field] = &[
    Field::new("ttft_ms", MILLISECONDS, "time to first token"),
    Field::new("tpot_ms", MILLISECONDS, "time per output token"),
    Field::new("e2e_ms", MILLISECONDS, "whole request"),
];

static OUTPUT: &[Field] = &[
    Field::new(
        "metrics",
        Type::List(&Type::Text),
        "metrics of the table on the terminal; all are in the files",
    ),
    Field::new(
        "format",
        Type::Choice {
            now: &["json", "csv"],
            later: &["parquet"],
        },
        "kept for older recipes: JSON and CSV are always written",
    ),
    Field::new("destination", Type::Text, "folder of runs")
        .default("results, where the job was submitted")
        .expanded(),
];

static CLIENT: &[Field] = &[
    NAME,
    SERVICE_NAME,
    DESCRIPTION,
    Field::new("target", Type::Map(TARGET), "how the service is reached"),
    Field::new("workload", Type::Map(WORKLOAD), "when requests are sent").required(),
    Field::new("dataset", Type::Map(DATASET), "what requests hold"),
    Field::new("slo", Type::Map(SLO), "limits that a good request keeps"),
    Field::new("output", Type::Map(OUTPUT), "where results go"),
    ORCHESTRATION_FIELD,
];

/// The keys of a site file.
pub static SITE: &[Field] = &[
    Field::new("name", Type::Name, "name of the site").default("the name of the file"),
    Field::new("extends", Type::Text, "another site that this one changes").expanded(),
    Field::new(
        "clusters",
        Type::List(&Type::Text),
        "names of clusters (SLURM_CLUSTER_NAME) that are this site",
    ),
    Field::new("account", Type::Text, "account for jobs").expanded(),
    Field::new("qos", Type::Text, "quality of service").expanded(),
    Field::new(
        "short_qos",
        Type::DurationMap,
        "quality of service for jobs up to a time, such as {dev: 6h}",
    ),
    Field::new(
        "partitions",
        Type::TextMap,
        "partitions: recipe's name to the site's",
    )
    .expanded(),
    Field::new(
        "modules",
        Type::List(&Type::Text),
        "modules that are loaded before an engine starts",
    )
    .expanded(),
    Field::new("login_shell", Type::Bool, "do modules need a login shell?").default("false"),
    Field::new("scratch_dir", Type::Text, "folder for large data").expanded(),
    Field::new(
        "container_dir",
        Type::Text,
        "folder of images: ${CONTAINER_DIR} in recipes",
    )
    .expanded(),
    Field::new(
        "cache_dir",
        Type::Text,
        "folder of caches: ${CACHE_DIR} in recipes",
    )
    .expanded(),
    Field::new("local_dir", Type::Text, "node-local folder")
        .default("$SLURM_TMPDIR, $TMPDIR, /tmp")
        .expanded(),
    Field::new(
        "port_range",
        Type::List(&FIXED_PORT),
        "first and last port to draw from",
    )
    .default("[20000, 29999]"),
    Field::new(
        "gpu_request",
        Type::Choice {
            now: &["gres", "gpus", "gpus-per-node"],
            later: &[],
        },
        "option that asks for GPUs",
    )
    .default("gres"),
    Field::new(
        "login_host",
        Type::Text,
        "host by which the cluster is reached, for ssh -J",
    )
    .expanded(),
    Field::new(
        "sbatch_options",
        Type::List(&Type::Text),
        "further options for sbatch",
    )
    .expanded(),
];
