//! The keys of a client recipe that ask for several loads in place of one.

use super::SPAN_OR_ZERO;
use crate::recipe::schema::{Field, Type};

/// Levels, or repeats, at the most.
const MOST: u64 = 1000;

const LEVEL_RATE: Type = Type::Number {
    min: 0.0,
    above: true,
    max: 1e7,
};

const LEVEL_USERS: Type = Type::Whole {
    min: 1,
    max: 1_000_000,
};

const ATTAINMENT: Type = Type::Number {
    min: 0.0,
    above: true,
    max: 1.0,
};

static SCALE: &[&str] = &["linear", "log"];

/// A range of levels.
macro_rules! range {
    ($level:expr) => {
        &[
            Field::new("from", $level, "first level").required(),
            Field::new("to", $level, "last level").required(),
            Field::new("steps", Type::Whole { min: 2, max: MOST }, "levels in all").required(),
            Field::new(
                "scale",
                Type::Choice {
                    now: SCALE,
                    later: &[],
                },
                "linear: equal steps; log: equal factors",
            )
            .default("linear"),
        ]
    };
}

/// The bounds of a search.
macro_rules! bounds {
    ($level:expr) => {
        &[
            Field::new("min", $level, "lowest level that is tried").required(),
            Field::new("max", $level, "highest level that is tried").required(),
        ]
    };
}

static SWEEP: &[Field] = &[
    Field::new(
        "requests_per_second",
        Type::Or(&Type::List(&LEVEL_RATE), range!(LEVEL_RATE)),
        "rates (open loop)",
    ),
    Field::new(
        "concurrent_users",
        Type::Or(&Type::List(&LEVEL_USERS), range!(LEVEL_USERS)),
        "users at once (closed loop)",
    ),
    Field::new(
        "slo_attainment",
        ATTAINMENT,
        "share of the offered requests that must keep all limits of slo at a level, which must be served as fast as it is sent, but for a tenth",
    )
    .default("0.99, where slo is given"),
    Field::new(
        "stop_when_slo_missed",
        Type::Bool,
        "is the first level that does not keep them the last?",
    )
    .default("false"),
];

static SEARCH: &[Field] = &[
    Field::new(
        "requests_per_second",
        Type::Map(bounds!(LEVEL_RATE)),
        "rates (open loop)",
    ),
    Field::new(
        "concurrent_users",
        Type::Map(bounds!(LEVEL_USERS)),
        "users at once (closed loop)",
    ),
    Field::new(
        "slo_attainment",
        ATTAINMENT,
        "share of the offered requests that must keep all limits of slo at a level, which must be served as fast as it is sent, but for a tenth",
    )
    .default("0.99"),
    Field::new(
        "tolerance",
        Type::Number {
            min: 0.001,
            above: false,
            max: 1.0,
        },
        "how far the lowest level that missed may lie above the answer, as a share of it",
    )
    .default("0.05"),
];

pub(super) const SWEEP_FIELD: Field = Field::new(
    "sweep",
    Type::Map(SWEEP),
    "several loads, one after another, each with its own warm-up, window and result",
);

pub(super) const SEARCH_FIELD: Field = Field::new(
    "search",
    Type::Map(SEARCH),
    "search for the highest load that keeps the limits of slo: doubled from min, then halved between, then confirmed",
);

pub(super) const REPEATS_FIELD: Field = Field::new(
    "repeats",
    Type::Whole { min: 1, max: MOST },
    "times that each load is run, each with a seed of its own; the results have an interval over them",
)
.default("1");

pub(super) const PAUSE_FIELD: Field = Field::new(
    "pause_seconds",
    SPAN_OR_ZERO,
    "pause between two loads of a sweep, a search or repeats",
)
.default("2");
