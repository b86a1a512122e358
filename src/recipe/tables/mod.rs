//! The keys that may be written: one file for each kind of recipe, one for site files, and here what they share.
//!
//! What the keys mean for a run is decided in `plan`.

mod alerts;
mod client;
mod monitor;
mod request;
mod series;
mod server;
mod site;
mod vectors;

pub use self::site::SITE;
use super::{
    Kind,
    schema::{Field, Type},
};

/// The keys of a kind of recipe.
pub const fn fields(kind: Kind) -> &'static [Field] {
    match kind {
        Kind::Server => server::FIELDS,
        Kind::Monitor => monitor::FIELDS,
        Kind::Client => client::FIELDS,
    }
}

const COUNT: Type = Type::Whole {
    min: 1,
    max: 1_000_000_000,
};
const NODES: Type = Type::Whole { min: 1, max: 4096 };
const SPAN: Type = Type::Duration { zero: false };
const SPAN_OR_ZERO: Type = Type::Duration { zero: true };
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
    Field::new(
        "nodes",
        NODES,
        "nodes of one engine, each with the cores, memory and GPUs above",
    )
    .default("1"),
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
