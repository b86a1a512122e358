//! The keys of a site file: what differs from one cluster to the next.

use super::FIXED_PORT;
use crate::recipe::schema::{Field, Type};

/// What a resource may cost for an hour.
const RATE: Type = Type::Number {
    min: 0.0,
    above: false,
    max: f64::INFINITY,
};

/// The keys of `price`.
static PRICE: &[Field] = &[
    Field::new("currency", Type::Name, "currency, as it is shown: EUR").required(),
    Field::new("per_gpu_hour", RATE, "of a GPU for an hour"),
    Field::new("per_node_hour", RATE, "of a node for an hour"),
    Field::new(
        "per_cpu_hour",
        RATE,
        "of a CPU, as Slurm counts them, for an hour",
    ),
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
        "price",
        Type::Map(PRICE),
        "what resources cost; prices that are given are added up",
    ),
    Field::new(
        "sbatch_options",
        Type::List(&Type::Text),
        "further options for sbatch",
    )
    .expanded(),
];
