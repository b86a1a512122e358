//! `ChromaDB`'s REST API, version 2: by the `openapi.json` of its server 1.5.9, and by what that one answered.
//!
//! A collection that is there makes the creation fail (409) unless `get_or_create` is set. It is known by a UUID, which the
//! answer to its creation tells; its deletion goes by its name. `l2` is the square of the Euclidean distance, which has the
//! same order.

use serde_json::{Value, json};

use super::{Asked, Dialect, numbers};
use crate::{load::workload::vectors::Set, recipe::vectors::Nearness};

const COLLECTIONS: &str = "/api/v2/tenants/default_tenant/databases/default_database/collections";

pub(super) const DIALECT: Dialect = Dialect {
    create: |name, set| {
        Asked {
        method: "POST",
        path: COLLECTIONS.to_owned(),
        body: json!({"name": name, "get_or_create": false, "configuration": {"hnsw": {"space": space(set)}}})
            .to_string()
            .into_bytes(),
    }
    },
    place: |_, answer| {
        let answer: Value = serde_json::from_slice(answer).ok()?;
        let id = answer["id"].as_str()?;
        let is_id = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        id.bytes().all(is_id).then(|| format!("{COLLECTIONS}/{id}"))
    },
    insert: |place, set, range| {
        let ids: Vec<String> = range.clone().map(|number| number.to_string()).collect();
        let vectors: Vec<Value> = range.map(|number| numbers(set.vector(number))).collect();
        Asked {
            method: "POST",
            path: format!("{place}/add"),
            body: json!({"ids": ids, "embeddings": vectors})
                .to_string()
                .into_bytes(),
        }
    },
    indexed: None,
    query_path: "/query",
    query: |set, index| {
        json!({"query_embeddings": [numbers(set.query(index))], "n_results": set.plan().k, "include": ["distances"]})
            .to_string()
            .into_bytes()
    },
    found: |answer| {
        let answer: Value = serde_json::from_slice(answer).ok()?;
        let ids = answer["ids"][0].as_array()?.iter();
        ids.map(|id| id.as_str()?.parse().ok()).collect()
    },
    delete: |name| Asked {
        method: "DELETE",
        path: format!("{COLLECTIONS}/{name}"),
        body: Vec::new(),
    },
};

const fn space(set: &Set) -> &'static str {
    match set.plan().metric {
        Nearness::Cosine => "cosine",
        Nearness::L2 => "l2",
        Nearness::Ip => "ip",
    }
}
