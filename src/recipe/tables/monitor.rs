//! The keys of a monitor recipe: Prometheus, and targets besides those of the registry.

use super::{DESCRIPTION, FIXED_PORT, NAME, ORCHESTRATION_FIELD, RESOURCES, SERVICE_NAME, SPAN};
use crate::recipe::schema::{Field, Type};

static TARGETS: &[Field] = &[
    Field::new("name", Type::Name, "name of the target").required(),
    Field::new("port", FIXED_PORT, "port of the service that is meant").required(),
    Field::new("metrics_path", Type::Text, "path of its metrics").default("/metrics"),
];

static PROMETHEUS: &[Field] = &[
    Field::new("enabled", Type::Bool, "start Prometheus?").default("true"),
    Field::new(
        "image",
        Type::Text,
        "path of the image of Prometheus, or where it is pulled from",
    )
    .default("the prometheus on PATH")
    .expanded(),
    Field::new(
        "source",
        Type::Text,
        "where the image is pulled from when it is missing",
    )
    .expanded(),
    Field::new("scrape_interval", SPAN, "interval of scrapes").default("2s in a stack, else 15s"),
    Field::new("retention_time", SPAN, "how long samples are kept").default("24h"),
    Field::new("port", Type::Port, "port of Prometheus").default("auto"),
    Field::new(
        "allow_shared_tsdb",
        Type::Bool,
        "keep its data on a network file system where there is nothing else? It may break",
    )
    .default("false"),
    Field::new("partition", Type::Text, "partition of the job"),
    Field::new(
        "resources",
        Type::Map(RESOURCES),
        "size of the job, and of the step in a stack",
    ),
];

static GRAFANA: &[Field] = &[
    Field::new("enabled", Type::Bool, "start Grafana?").default("true"),
    Field::new("image", Type::Text, "path of an image of Grafana")
        .default("the grafana on PATH")
        .expanded(),
    Field::new(
        "port",
        Type::Port,
        "port of Grafana, on the node's loopback",
    )
    .default("auto"),
];

pub(super) static FIELDS: &[Field] = &[
    NAME,
    SERVICE_NAME,
    DESCRIPTION,
    Field::new(
        "targets",
        Type::List(&Type::Map(TARGETS)),
        "targets besides those of the registry",
    ),
    Field::new("prometheus", Type::Map(PROMETHEUS), "Prometheus"),
    Field::new(
        "grafana",
        Type::Or(&Type::Bool, GRAFANA),
        "Grafana beside Prometheus, with dashboards of engine, bench and nodes",
    )
    .default("false"),
    Field::new(
        "alerts",
        Type::Map(super::alerts::ALERTS),
        "what Prometheus watches for; each of ours takes false, or what is to be different",
    ),
    ORCHESTRATION_FIELD,
];
