//! Qdrant's collections: made, filled, asked for true neighbours, deleted.

use std::{collections::BTreeMap, sync::Mutex};

use serde_json::{Value, json};

type Points = BTreeMap<u64, Vec<f64>>;

#[derive(Default)]
pub(crate) struct Vectors(Mutex<BTreeMap<String, Points>>);

impl Vectors {
    /// Status and body, where it is a request of these.
    pub(crate) fn answer(
        &self,
        kind: &str,
        method: &str,
        path: &str,
        body: &Value,
    ) -> Option<(&'static str, Value)> {
        let rest = path
            .strip_prefix("/collections/")
            .filter(|_| kind == "qdrant")?;
        let (name, rest) = rest.split_once('/').unwrap_or((rest, ""));
        let mut collections = self.0.lock().expect("no thread panics");
        let result = match (method, rest) {
            ("PUT", "") => json!(collections.insert(name.to_owned(), Points::new()).is_none()),
            ("DELETE", "") => json!(collections.remove(name).is_some()),
            ("GET", "") => json!({"status": "green", "points_count": collections.get(name)?.len()}),
            ("PUT", "points?wait=true") => {
                for point in body["points"].as_array()? {
                    let id = point["id"].as_u64()?;
                    collections
                        .get_mut(name)?
                        .insert(id, numbers(&point["vector"]));
                }
                json!({"operation_id": 1, "status": "completed"})
            }
            ("POST", "points/query") => {
                let query = numbers(&body["query"]);
                let mut near: Vec<(f64, u64)> = (collections.get(name)?.iter())
                    .map(|(id, vector)| (cosine(&query, vector), *id))
                    .collect();
                near.sort_by(|one, other| other.0.total_cmp(&one.0));
                near.truncate(usize::try_from(body["limit"].as_u64()?).ok()?);
                let points: Vec<Value> = near
                    .iter()
                    .map(|(score, id)| json!({"id": id, "score": score}))
                    .collect();
                json!({"points": points})
            }
            _ => return None,
        };
        Some((
            "200 OK",
            json!({"result": result, "status": "ok", "time": 0.001}),
        ))
    }
}

fn numbers(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_f64)
        .collect()
}

fn cosine(one: &[f64], other: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    dot(one, other) / (dot(one, one) * dot(other, other)).sqrt()
}
