//! The keys of a client recipe: when requests are sent, what they hold, and which limits a good one keeps.

use super::{
    COUNT, DESCRIPTION, NAME, ORCHESTRATION_FIELD, SERVICE_NAME, SPAN, SPAN_OR_ZERO, request,
    series, vectors,
};
use crate::recipe::{
    client::{API_NAMES, MOST_TOKENS},
    schema::{Field, Type},
};

const POSITIVE: Type = Type::Number {
    min: 0.0,
    above: true,
    max: 1e9,
};

const RATE: Type = Type::Number {
    min: 0.0,
    above: false,
    max: 1e7,
};

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
    Field::new(
        "headers",
        Type::TextMap,
        "further headers of a request; secrets from variables alone",
    )
    .expanded(),
    Field::new(
        "keep_alive",
        Type::Bool,
        "keep connections for further requests? false: a connection for each",
    )
    .default("true"),
];

static ARRIVAL: &[Field] = &[
    Field::new(
        "process",
        Type::Choice {
            now: &["constant", "poisson", "gamma", "ramp", "trace"],
            later: &[],
        },
        "constant: equal gaps; poisson: independent users; gamma: bursts; ramp: a changing rate; trace: times and lengths of a file",
    )
    .default("poisson"),
    Field::new(
        "burstiness",
        Type::Number {
            min: 0.0,
            above: true,
            max: 1e6,
        },
        "shape of the gamma distribution of gaps: below 1 in bursts, 1 is poisson, above more even (gamma)",
    ),
    Field::new(
        "from",
        RATE,
        "requests per second at the start of the window, and before it (ramp)",
    ),
    Field::new(
        "to",
        RATE,
        "requests per second at the end of the window (ramp)",
    ),
    Field::new(
        "gaps",
        Type::Choice {
            now: &["constant", "poisson"],
            later: &[],
        },
        "gaps at each rate (ramp)",
    )
    .default("poisson"),
    Field::new(
        "file",
        Type::Text,
        "trace to replay, one JSON object a line: timestamp (ms), input_length, output_length, hash_ids (trace); from the recipe's folder",
    )
    .expanded(),
];

const PAUSE: Type = Type::Number {
    min: 0.0,
    above: false,
    max: 1e9,
};

/// Distributions of a pause in milliseconds: those of a length, and that of independent users.
static PAUSES: &[Field] = &[
    Field::new(
        "exponential",
        POSITIVE,
        "mean of the exponential distribution",
    ),
    LENGTHS[0],
    LENGTHS[1],
    LENGTHS[2],
];

const TURNS: Type = Type::Whole {
    min: 1,
    max: 10_000,
};

static CONVERSATION: &[Field] = &[
    Field::new(
        "turns",
        Type::Or(&TURNS, LENGTHS),
        "requests of a conversation, or their distribution",
    )
    .default("as many as the file has"),
    Field::new(
        "think_time_ms",
        Type::Or(&PAUSE, PAUSES),
        "pause between an answer and the next turn, or its distribution",
    )
    .default("that of the workload"),
    Field::new(
        "message_length",
        Type::Or(&TOKENS, LENGTHS),
        "tokens of each message of the user after the first, or their distribution",
    )
    .default("prompt_length"),
];

static WORKLOAD: &[Field] = &[
    Field::new(
        "api",
        Type::Choice {
            now: API_NAMES,
            later: &["responses", "tgi"],
        },
        "API that requests go to; http: what `request` writes out, to any service; chroma, qdrant: queries of vectors; ollama-*: Ollama's own",
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
    .default("open-loop where requests_per_second or arrival is given, else closed-loop"),
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
        Type::Or(&PAUSE, PAUSES),
        "pause of a user between answer and next request, or its distribution (closed loop)",
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
        "rate (open loop; not with a ramp or a trace)",
    ),
    Field::new("arrival", Type::Map(ARRIVAL), "arrival process (open loop)"),
    Field::new(
        "max_in_flight",
        COUNT,
        "requests in flight at the most; more are dropped and counted (open loop)",
    )
    .default("no limit"),
    request::FIELD,
    Field::new("duration_seconds", SPAN, "measured window"),
    Field::new("total_requests", COUNT, "requests in all").default("no limit"),
    Field::new(
        "warmup_seconds",
        SPAN_OR_ZERO,
        "load before the measured window; this or warmup_requests",
    )
    .default("0"),
    Field::new(
        "warmup_requests",
        COUNT,
        "the first requests, which are not measured: the window begins with the one after them",
    ),
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
    Field::new(
        "conversation",
        Type::Map(CONVERSATION),
        "requests that follow from each other, each with all that was said before, the engine's answers with it (api: chat); closed loop: each user holds one conversation at a time; open loop: arrivals begin conversations, and total_requests counts them",
    ),
    Field::new(
        "calibrate",
        Type::Bool,
        "afterwards the same load for 10 seconds against an engine of known times, built in: by how much the measured times are wrong",
    )
    .default("false"),
    series::SWEEP_FIELD,
    series::SEARCH_FIELD,
    series::REPEATS_FIELD,
    series::PAUSE_FIELD,
];

const TOKENS: Type = Type::Whole {
    min: 1,
    max: MOST_TOKENS,
};

const SHARE: Type = Type::Number {
    min: 0.0,
    above: false,
    max: 100.0,
};

const LEAST: Field =
    Field::new("min", TOKENS, "least; what is drawn below is drawn again").default("1");
const MOST: Field =
    Field::new("max", TOKENS, "most; what is drawn above is drawn again").default("10000000");

/// Distributions of a length in tokens.
static LENGTHS: &[Field] = &[
    Field::new(
        "uniform",
        Type::List(&TOKENS),
        "[LEAST, MOST]: each length between them alike",
    ),
    Field::new(
        "normal",
        Type::Map(&[
            Field::new("mean", TOKENS, "mean of the normal distribution").required(),
            Field::new(
                "std",
                POSITIVE,
                "standard deviation of the normal distribution",
            )
            .required(),
            LEAST,
            MOST,
        ]),
        "lengths about a mean",
    ),
    Field::new(
        "lognormal",
        Type::Map(&[
            Field::new("median", TOKENS, "median; this or the mean"),
            Field::new(
                "mean",
                TOKENS,
                "mean, before min and max; this or the median",
            ),
            Field::new("sigma", SHARE, "standard deviation of the logarithm").required(),
            LEAST,
            MOST,
        ]),
        "many short, few long",
    ),
];

static PARAMS: &[Field] = &[
    Field::new("model_name", Type::Text, "model named in the request").default("the service's own"),
    Field::new(
        "prompt_length",
        Type::Or(&TOKENS, LENGTHS),
        "prompt length in tokens, or its distribution",
    )
    .default("128"),
    Field::new(
        "max_tokens",
        Type::Or(&TOKENS, LENGTHS),
        "tokens of an answer at the most, or their distribution",
    )
    .default("128"),
    Field::new(
        "shared_prefix",
        Type::Map(&[
            Field::new(
                "groups",
                COUNT,
                "groups of requests, in turn; those of one group begin alike",
            )
            .required(),
            Field::new(
                "length",
                TOKENS,
                "tokens that they share at least; this or the ratio",
            ),
            Field::new(
                "ratio",
                Type::Number {
                    min: 0.0,
                    above: true,
                    max: 1.0,
                },
                "share of each prompt that is common; this or the length",
            ),
        ]),
        "prompts that begin alike, as with a common system prompt; without it no two do",
    ),
    Field::new(
        "documents",
        Type::Whole {
            min: 1,
            max: 10_000,
        },
        "documents that each query is held against (api: rerank)",
    )
    .default("8"),
    Field::new(
        "document_length",
        Type::Or(&TOKENS, LENGTHS),
        "words of each document, or their distribution (api: rerank, where prompt_length is in words, too)",
    )
    .default("128"),
    Field::new("num_prompts", TOKENS, "size of the prompt pool")
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
    Field::new(
        "extra_body",
        Type::AnyMap,
        "further fields of a request's body, such as {min_tokens: 5}; stream_options join aif's own: {continuous_usage_stats: true} has vLLM count the tokens of each chunk",
    )
    .expanded(),
];

static DATASET: &[Field] = &[
    Field::new(
        "type",
        Type::Choice {
            now: &["synthetic", "corpus", "prompts", "jsonl", "sharegpt", "vectors"],
            later: &[
                "file",
                "custom",
                "random",
                "huggingface",
                "trace",
            ],
        },
        "synthetic: made up; corpus: made of English sentences that aif brings; prompts: a file, one a line; jsonl: a file of objects with prompt or messages, and perhaps max_tokens; sharegpt: the first questions of a file of conversations; vectors: a collection of a vector database",
    )
    .default("synthetic"),
    Field::new(
        "file",
        Type::Text,
        "file of the prompts, sent in an order of the seed; from the recipe's folder",
    )
    .expanded(),
    Field::new("params", Type::Map(PARAMS), "what requests hold"),
    vectors::FIELD,
];

static SLO: &[Field] = &[
    Field::new("ttft_ms", POSITIVE, "time to first token"),
    Field::new("tpot_ms", POSITIVE, "time per output token"),
    Field::new("e2e_ms", POSITIVE, "whole request"),
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
    Field::new(
        "samples",
        Type::Bool,
        "keep every request in samples.parquet: some 70 bytes each, and 3 for each token",
    )
    .default("true"),
    Field::new("destination", Type::Text, "folder of runs")
        .default("results, where the job was submitted")
        .expanded(),
];

pub(super) static FIELDS: &[Field] = &[
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
