//! Qdrant's REST API: by its reference (api.qdrant.tech, v1.19) and its `openapi.json`; it was **not run on the real one**,
//! only against a double that speaks this.
//!
//! `PUT /collections/NAME` refuses a collection that is there (409). Points are put with `wait=true`, so that the answer
//! comes when they are stored; the index is built after that, and the collection is `green` when it is whole.

use serde_json::{Value, json};

use super::{Asked, Dialect, numbers};
use crate::recipe::vectors::Nearness;

pub(super) const DIALECT: Dialect = Dialect {
    create: |name, set| {
        let distance = match set.plan().metric {
            Nearness::Cosine => "Cosine",
            Nearness::L2 => "Euclid",
            Nearness::Ip => "Dot",
        };
        Asked {
            method: "PUT",
            path: format!("/collections/{name}"),
            body: json!({"vectors": {"size": set.plan().dimension, "distance": distance}})
                .to_string()
                .into_bytes(),
        }
    },
    place: |name, answer| {
        let answer: Value = serde_json::from_slice(answer).ok()?;
        let is_made = answer["result"].as_bool() == Some(true);
        is_made.then(|| format!("/collections/{name}"))
    },
    insert: |place, set, range| {
        let points: Vec<Value> = range
            .map(|number| json!({"id": number, "vector": numbers(set.vector(number))}))
            .collect();
        Asked {
            method: "PUT",
            path: format!("{place}/points?wait=true"),
            body: json!({"points": points}).to_string().into_bytes(),
        }
    },
    indexed: Some(|place| {
        let asked = Asked {
            method: "GET",
            path: place.to_owned(),
            body: Vec::new(),
        };
        (asked, "/result/status", "green")
    }),
    query_path: "/points/query",
    query: |set, index| {
        json!({"query": numbers(set.query(index)), "limit": set.plan().k})
            .to_string()
            .into_bytes()
    },
    found: |answer| {
        let answer: Value = serde_json::from_slice(answer).ok()?;
        let points = answer["result"]["points"].as_array()?.iter();
        points
            .map(|point| point["id"].as_u64()?.try_into().ok())
            .collect()
    },
    delete: |name| Asked {
        method: "DELETE",
        path: format!("/collections/{name}"),
        body: Vec::new(),
    },
};
