//! The keys of a collection of vectors.

use crate::recipe::schema::{Field, Type};

const fn up_to(max: u64) -> Type {
    Type::Whole { min: 1, max }
}

const DIMENSIONS: Type = up_to(65_536);
const COUNT: Type = up_to(100_000_000);
const FEW: Type = up_to(1_000_000);
const NEIGHBOURS: Type = up_to(10_000);
const USERS: Type = up_to(1024);

static VECTORS: &[Field] = &[
    Field::new("dimension", DIMENSIONS, "numbers of a vector").default("128"),
    Field::new("count", COUNT, "vectors that are inserted before the load").default("10000"),
    Field::new(
        "distribution",
        Type::Choice {
            now: &["clusters", "gaussian", "uniform"],
            later: &[],
        },
        "clusters: about centres; gaussian: about the origin; uniform: each number from 0 to 1",
    )
    .default("clusters"),
    Field::new("clusters", FEW, "centres (distribution: clusters)").default("32"),
    Field::new(
        "cluster_std",
        Type::Number {
            min: 0.0,
            above: true,
            max: 1e6,
        },
        "standard deviation about a centre; centres have 1 (distribution: clusters)",
    )
    .default("0.5"),
    Field::new(
        "metric",
        Type::Choice {
            now: &["cosine", "l2", "ip"],
            later: &[],
        },
        "what is near: the angle, the Euclidean distance, the inner product",
    )
    .default("cosine"),
    Field::new("queries", FEW, "different queries, which come in turn").default("200"),
    Field::new(
        "k",
        NEIGHBOURS,
        "neighbours that a query asks for; recall is of these",
    )
    .default("10"),
    Field::new("batch", FEW, "vectors of a request that inserts").default("100"),
    Field::new("insert_users", USERS, "requests that insert at once").default("2"),
    Field::new(
        "keep",
        Type::Bool,
        "keep the collection? else it is deleted at the end",
    )
    .default("false"),
];

pub(super) const FIELD: Field = Field::new(
    "vectors",
    Type::Map(VECTORS),
    "the collection that is made, filled and asked (type: vectors; api: chroma or qdrant)",
);
