//! The keys of a server recipe: the engine, how it is started, and when it is ready.

use super::{DESCRIPTION, NAME, NODES, ORCHESTRATION_FIELD, SERVICE_NAME, SPAN, SPAN_OR_ZERO};
use crate::recipe::schema::{Field, Type};

/// How several instances are had without a key for them.
const REPLICAS: &str = "leave it out, and start a task for each instance: `sbatch --nodes={N} --ntasks={N} jobs/server.sh RECIPE` \
    (one on each of {N} nodes), or in a job that has room for all `srun --ntasks={N} bin/aif server RECIPE` with what each \
    wants (--cpus-per-task, --gpus-per-task) and `ports: [auto]`; a bench shares its load among all of a job";

static CONTAINER: &[Field] = &[
    Field::new("image", Type::Text, "path of the image file")
        .required()
        .expanded(),
    Field::new(
        "source",
        Type::Text,
        "where the image is pulled from when it is missing: docker://…, oras://…, a file",
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
    Field::new("timeout", SPAN, "how long the engine may take").default("the engine's"),
];

static METRICS: &[Field] = &[
    Field::new(
        "port",
        Type::PortPlace,
        "their port, where it is none of the API's",
    )
    .default("the API's"),
    Field::new("path", Type::Text, "their path")
        .default("the engine's; /metrics on a port of their own"),
];

static LIVENESS: &[Field] = &[Field::new(
    "timeout",
    SPAN_OR_ZERO,
    "silence after which an engine that lives counts as hung; 0: never",
)
.default("5m")];

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
        "ports, the first is the API's, {port}; {port2} to {port4} are the others, in a script $PORT2 to $PORT4",
    )
    .default("[auto]"),
    Field::new(
        "readiness",
        Type::Map(READINESS),
        "when the engine is ready",
    ),
    Field::new(
        "metrics",
        Type::Map(METRICS),
        "where the engine tells its metrics, for one of `engine: http` or where it is set up otherwise",
    ),
    Field::new(
        "offline",
        Type::Bool,
        "true: HF_HUB_OFFLINE, TRANSFORMERS_OFFLINE and HF_DATASETS_OFFLINE are 1, unless env says otherwise",
    )
    .default("false"),
    Field::new(
        "liveness",
        Type::Map(LIVENESS),
        "when an engine that does not answer counts as hung",
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
    Field::new("nodes", NODES, "the same as orchestration.resources.nodes").default("1"),
    Field::new(
        "replicas",
        Type::One(REPLICAS),
        "instances of one task; for several, start several tasks",
    )
    .default("1"),
];

pub(super) static FIELDS: &[Field] = &[
    NAME,
    SERVICE_NAME,
    DESCRIPTION,
    Field::new(
        "engine",
        Type::Choice {
            now: &[
                "vllm", "llamacpp", "ollama", "tgi", "sglang", "trtllm", "qdrant", "chroma", "http",
            ],
            later: &[],
        },
        "profile: readiness, metrics, how it takes a key",
    )
    .default("by command or image, else http"),
    Field::new("service", Type::Map(SERVICE), "the engine").required(),
    ORCHESTRATION_FIELD,
];
