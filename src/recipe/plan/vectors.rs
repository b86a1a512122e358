//! The collection of vectors of a client recipe, and what means nothing beside it.

use super::{text, whole};
use crate::recipe::{
    Api,
    fault::Findings,
    load::Node,
    vectors::{Nearness, Spread, Vectors},
};

/// Numbers of a collection at the most: 2 GB, as the client holds them.
const MOST: u64 = 500_000_000;

pub(super) fn vectors(root: &Node, api: Api, findings: &mut Findings) -> Option<Vectors> {
    let is_wanted = text(root, "dataset.type").as_deref() == Some("vectors");
    let at = |path: &str| root.find(path).map_or(root.at, |node| node.at);
    if is_wanted != api.is_of_vectors() {
        let (path, message) = if is_wanted {
            (
                "dataset.type",
                "vectors want an API of a vector database: `workload: {api: chroma}` or `{api: qdrant}`",
            )
        } else {
            (
                "workload.api",
                "an API of a vector database wants `dataset: {type: vectors}`",
            )
        };
        findings.fault(at(path), message);
        return None;
    }
    let node = root.find("dataset.vectors");
    if !is_wanted {
        if let Some(node) = node {
            findings.fault(
                node.at,
                "\"vectors\" wants `type: vectors` and an API of a vector database: `workload: {api: chroma}` or `{api: qdrant}`",
            );
        }
        return None;
    }
    if let Some(params) = root.find("dataset.params") {
        findings.fault(
            params.at,
            "\"params\" means nothing for vectors: \"vectors\" tells of them",
        );
    }
    if let Some(trace) = root.find("workload.arrival.file") {
        findings.fault(
            trace.at,
            "a trace tells of prompts, and vectors have none: take another arrival process",
        );
    }
    let empty = Node::map_at(at("dataset.type"));
    let node = node.unwrap_or(&empty);
    let number = |key: &str, default: u32| whole(node, key).unwrap_or(default);
    let spread = match text(node, "distribution").as_deref() {
        Some("gaussian") => Spread::Gaussian,
        Some("uniform") => Spread::Uniform,
        _ => Spread::Clusters {
            count: number("clusters", 32),
            std: node
                .get("cluster_std")
                .and_then(Node::as_f64)
                .unwrap_or(0.5),
        },
    };
    let vectors = Vectors {
        dimension: number("dimension", 128),
        count: number("count", 10_000),
        spread,
        metric: match text(node, "metric").as_deref() {
            Some("l2") => Nearness::L2,
            Some("ip") => Nearness::Ip,
            _ => Nearness::Cosine,
        },
        queries: number("queries", 200),
        k: number("k", 10),
        batch: number("batch", 100),
        inserters: number("insert_users", 2),
        keep: node.get("keep").and_then(Node::as_bool).unwrap_or(false),
    };
    if !matches!(spread, Spread::Clusters { .. }) {
        for key in ["clusters", "cluster_std"] {
            if let Some(given) = node.get(key) {
                findings.fault(
                    given.at,
                    format!("{key:?} wants `distribution: clusters`: take it out"),
                );
            }
        }
    }
    if vectors.k > vectors.count {
        findings.fault(
            node.get("k").map_or(node.at, |node| node.at),
            format!(
                "{} neighbours are asked of {} vectors: lower \"k\", or raise \"count\"",
                vectors.k, vectors.count
            ),
        );
    }
    let numbers = u64::from(vectors.count) * u64::from(vectors.dimension);
    if numbers > MOST {
        findings.fault(
            node.at,
            format!(
                "{} vectors of {} numbers are more than the {MOST} numbers that a client holds: lower \"count\" or \"dimension\"",
                vectors.count, vectors.dimension
            ),
        );
    }
    Some(vectors)
}

#[cfg(test)]
mod tests {
    use crate::recipe::{
        Kind, Plan,
        expand::Variables,
        plan::{Source, plan},
        vectors::{Nearness, Spread},
    };

    fn read(api: &str, dataset: &str) -> Result<Plan, String> {
        let text = format!(
            "name: a\nservice_name: s\nworkload: {{total_requests: 1, api: {api}}}\ndataset: {dataset}\n"
        );
        let source = Source {
            text: &text,
            path: "a.yaml",
            wanted: Some(Kind::Client),
            overrides: &[],
        };
        let planned = plan(&source, &Variables::new());
        planned
            .map(|planned| planned.plan)
            .map_err(|faults| faults.to_string())
    }

    #[test]
    fn a_collection_has_defaults_and_may_be_told() {
        let Ok(Plan::Client(plan)) = read("chroma", "{type: vectors}") else {
            panic!("a plan");
        };
        let vectors = plan.workload.vectors.expect("vectors");
        assert_eq!(
            (vectors.dimension, vectors.count, vectors.k),
            (128, 10_000, 10)
        );
        assert_eq!(vectors.metric, Nearness::Cosine);
        assert!(!plan.workload.stream && !plan.api.generates() && !vectors.keep);
        let told = "{type: vectors, vectors: {dimension: 3, count: 20, k: 5, metric: l2, distribution: uniform}}";
        let Ok(Plan::Client(plan)) = read("qdrant", told) else {
            panic!("a plan");
        };
        let vectors = plan.workload.vectors.expect("vectors");
        assert_eq!((vectors.spread, vectors.k), (Spread::Uniform, 5));
    }

    #[test]
    fn what_does_not_go_together_is_told() {
        let faults = |api: &str, dataset: &str| read(api, dataset).expect_err("faults");
        insta::assert_snapshot!(faults("chat", "{type: vectors}"), @r##"
a.yaml:4:17: vectors want an API of a vector database: `workload: {api: chroma}` or `{api: qdrant}`
"##);
        insta::assert_snapshot!(faults("chroma", "{type: synthetic}"), @r##"
a.yaml:3:36: an API of a vector database wants `dataset: {type: vectors}`
"##);
        insta::assert_snapshot!(faults("chat", "{vectors: {count: 5}}"), @r##"
a.yaml:4:20: "vectors" wants `type: vectors` and an API of a vector database: `workload: {api: chroma}` or `{api: qdrant}`
"##);
        insta::assert_snapshot!(faults("qdrant", "{type: vectors, params: {prompt_length: 4}, vectors: {count: 5, distribution: gaussian, clusters: 3, metric: angle}}"), @r##"
a.yaml:4:34: "params" means nothing for vectors: "vectors" tells of them
a.yaml:4:63: 10 neighbours are asked of 5 vectors: lower "k", or raise "count"
a.yaml:4:108: "clusters" wants `distribution: clusters`: take it out
a.yaml:4:119: "dataset.vectors.metric" wants one of cosine, l2, ip, found the text "angle"
"##);
        insta::assert_snapshot!(faults("qdrant", "{type: vectors, vectors: {count: 100000000, dimension: 4096}}"), @r##"
a.yaml:4:35: 100000000 vectors of 4096 numbers are more than the 500000000 numbers that a client holds: lower "count" or "dimension"
"##);
    }
}
