//! What is said to a vector database: a collection is made, filled, asked and deleted. Each dialect is a table of functions.
//!
//! Pure: requests and answers, as bytes. Vectors are known by their numbers, from 0.

mod chroma;
mod qdrant;

use std::sync::Arc;

use super::judge::{Judge, Judged};
use crate::{api::openai::error_message, load::workload::vectors::Set, recipe::Api};

/// A request: method, path, body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Method.
    pub method: &'static str,
    /// Path, from the root of the API.
    pub path: String,
    /// Body; empty where there is none.
    pub body: Vec<u8>,
}

/// Asks for the state of the collection at a place; with a JSON pointer into the answer, and what stands there in the end.
pub type Indexed = fn(place: &str) -> (Asked, &'static str, &'static str);

/// How a database is spoken to.
#[derive(Debug)]
pub struct Dialect {
    /// Makes a collection of this name; refused where there is one.
    pub create: fn(name: &str, set: &Set) -> Asked,
    /// The path of the collection, by its name and the answer to its creation.
    pub place: fn(name: &str, answer: &[u8]) -> Option<String>,
    /// Inserts the vectors of these numbers into the collection at a place.
    pub insert: fn(place: &str, set: &Set, numbers: std::ops::Range<u32>) -> Asked,
    /// Asks whether all that was inserted is indexed; `None` where queries always see all of it as it will be.
    pub indexed: Option<Indexed>,
    /// The path of queries, after the place.
    pub query_path: &'static str,
    /// The body of a query.
    pub query: fn(set: &Set, index: u64) -> Vec<u8>,
    /// The numbers that an answer to a query names.
    pub found: fn(answer: &[u8]) -> Option<Vec<u32>>,
    /// Deletes the collection of this name.
    pub delete: fn(name: &str) -> Asked,
}

/// The dialect of an API; `None` where it is none of vectors.
pub const fn dialect(api: Api) -> Option<&'static Dialect> {
    match api {
        Api::Chroma => Some(&chroma::DIALECT),
        Api::Qdrant => Some(&qdrant::DIALECT),
        _ => None,
    }
}

/// Holds the neighbours that a database names against the true ones.
#[derive(Debug)]
pub struct Recall {
    set: Arc<Set>,
    dialect: &'static Dialect,
}

impl Recall {
    /// By this set and dialect.
    pub const fn new(set: Arc<Set>, dialect: &'static Dialect) -> Self {
        Self { set, dialect }
    }
}

/// A recall of all, in the unit that samples have it in.
pub const WHOLE: u32 = 1_000_000;

impl Judge for Recall {
    fn judge(&self, index: u64, status: u16, body: &[u8]) -> Judged {
        if status != 200 {
            return Judged::error(format!("http_{status}"), error_message(body));
        }
        let Some(mut found) = (self.dialect.found)(body) else {
            return Judged::error("bad_answer", "the answer names no neighbours");
        };
        let truth = self.set.truth(index);
        // more than was asked for is no better answer, and one named twice is one
        found.truncate(truth.len());
        found.sort_unstable();
        found.dedup();
        let hits = truth.iter().filter(|number| found.contains(number)).count();
        let share = hits as u64 * u64::from(WHOLE) / truth.len() as u64;
        Judged {
            recall: u32::try_from(share).ok(),
            ..Judged::default()
        }
    }
}

/// The JSON of vectors, without what stands around them.
fn numbers(vector: &[f32]) -> serde_json::Value {
    vector.iter().copied().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::recipe::vectors::{Nearness, Spread, Vectors};

    fn set(metric: Nearness) -> Set {
        let plan = Vectors {
            dimension: 2,
            count: 50,
            spread: Spread::Gaussian,
            metric,
            queries: 3,
            k: 4,
            batch: 10,
            inserters: 1,
            keep: false,
        };
        Set::of(&plan, 1)
    }

    fn json_of(asked: &Asked) -> Value {
        serde_json::from_slice(&asked.body).expect("JSON")
    }

    #[test]
    fn what_is_said_to_chroma() {
        let set = set(Nearness::Ip);
        let dialect = dialect(Api::Chroma).expect("one");
        let asked = (dialect.create)("n", &set);
        let base = "/api/v2/tenants/default_tenant/databases/default_database/collections";
        assert_eq!((asked.method, &*asked.path), ("POST", base));
        assert_eq!(
            json_of(&asked),
            json!({"name": "n", "get_or_create": false, "configuration": {"hnsw": {"space": "ip"}}})
        );
        let place = (dialect.place)("n", br#"{"id": "0356506c-f829-46b7", "name": "n"}"#);
        let place = place.expect("a place");
        assert_eq!(place, format!("{base}/0356506c-f829-46b7"));
        assert_eq!((dialect.place)("n", br#"{"id": "../x"}"#), None);
        let asked = (dialect.insert)(&place, &set, 3..5);
        assert_eq!((asked.method, asked.path), ("POST", format!("{place}/add")));
        let body: Value = serde_json::from_slice(&asked.body).expect("JSON");
        assert_eq!(body["ids"], json!(["3", "4"]));
        assert_eq!(body["embeddings"][1], numbers(set.vector(4)));
        let query: Value = serde_json::from_slice(&(dialect.query)(&set, 4)).expect("JSON");
        assert_eq!(query["query_embeddings"][0], numbers(set.query(1)));
        assert_eq!(query["n_results"], 4);
        assert_eq!(
            (dialect.found)(br#"{"ids": [["7", "0"]], "distances": [[0.1, 0.2]]}"#),
            Some(vec![7, 0])
        );
        assert_eq!((dialect.found)(br#"{"ids": []}"#), None);
        let asked = (dialect.delete)("n");
        assert_eq!((asked.method, asked.path), ("DELETE", format!("{base}/n")));
    }

    #[test]
    fn what_is_said_to_qdrant() {
        let set = set(Nearness::L2);
        let dialect = dialect(Api::Qdrant).expect("one");
        let asked = (dialect.create)("n", &set);
        assert_eq!((asked.method, &*asked.path), ("PUT", "/collections/n"));
        assert_eq!(
            json_of(&asked),
            json!({"vectors": {"size": 2, "distance": "Euclid"}})
        );
        let place = (dialect.place)("n", br#"{"result": true, "status": "ok"}"#);
        assert_eq!(place.as_deref(), Some("/collections/n"));
        assert_eq!((dialect.place)("n", br#"{"result": false}"#), None);
        let asked = (dialect.insert)("/collections/n", &set, 3..5);
        assert_eq!(
            (asked.method, &*asked.path),
            ("PUT", "/collections/n/points?wait=true")
        );
        assert_eq!(
            json_of(&asked)["points"][1],
            json!({"id": 4, "vector": numbers(set.vector(4))})
        );
        let query: Value = serde_json::from_slice(&(dialect.query)(&set, 0)).expect("JSON");
        assert_eq!(query["query"], numbers(set.query(0)));
        assert_eq!(query["limit"], 4);
        let answer =
            br#"{"result": {"points": [{"id": 7, "score": 0.1}, {"id": 0, "score": 0.2}]}}"#;
        assert_eq!((dialect.found)(answer), Some(vec![7, 0]));
        assert_eq!((dialect.found)(br#"{"result": {}}"#), None);
    }

    #[test]
    fn recall_is_the_share_of_true_neighbours() {
        let set = Arc::new(set(Nearness::Cosine));
        let recall = Recall::new(Arc::clone(&set), dialect(Api::Chroma).expect("one"));
        let answer = |numbers: &[u32]| {
            let names: Vec<String> = numbers.iter().map(u32::to_string).collect();
            json!({"ids": [names]}).to_string()
        };
        let truth = set.truth(2).to_vec();
        let wrong = (0..50)
            .find(|number| !truth.contains(number))
            .expect("another");
        let table = [
            (truth.clone(), WHOLE),
            (truth.iter().rev().copied().collect(), WHOLE),
            (truth[..2].to_vec(), WHOLE / 2),
            (vec![truth[0], truth[0], truth[0], wrong], WHOLE / 4),
            (vec![wrong, wrong, wrong, wrong, truth[0]], 0),
        ];
        for (found, wanted) in table {
            let judged = recall.judge(2, 200, answer(&found).as_bytes());
            assert_eq!(
                (judged.error, judged.recall),
                (None, Some(wanted)),
                "{found:?}"
            );
        }
        let judged = recall.judge(2, 500, b"{\"error\": \"E\", \"message\": \"broken\"}");
        assert_eq!(judged.recall, None);
        assert_eq!(judged.error.expect("an error").0, "http_500");
    }
}
