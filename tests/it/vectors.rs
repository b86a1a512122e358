//! Loads of a vector database, against a double that speaks as Qdrant's reference says, and finds as many of the true
//! neighbours as it is told to. The real `ChromaDB` is asked on the cluster (`tests/slurm/cases-services.sh`).

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};

use crate::{
    bench::{number, results},
    lab::{Ended, Lab, alone, assert_near},
};

/// What the double holds and has seen.
#[derive(Debug, Default)]
struct Seen {
    collections: BTreeMap<String, BTreeMap<u64, Vec<f64>>>,
    /// Method and path of each request, and the key that it had.
    asked: Vec<(String, String, Option<String>)>,
    looks: u32,
}

/// How the double errs.
#[derive(Debug, Clone, Copy, Default)]
struct Faults {
    /// Neighbours of a query that it does not find.
    missed: usize,
    /// Inserts that are answered well before one fails.
    inserts: Option<usize>,
    /// Is every collection there already?
    refuses: bool,
}

/// A double of Qdrant.
struct Double {
    port: u16,
    seen: Arc<Mutex<Seen>>,
}

impl Double {
    fn start(faults: Faults) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let mut seen = Seen::default();
        seen.collections
            .insert("precious".to_owned(), BTreeMap::from([(1, vec![0.5])]));
        let seen = Arc::new(Mutex::new(seen));
        let own = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let seen = Arc::clone(&own);
                std::thread::spawn(move || serve(stream, &seen, faults));
            }
        });
        Self { port, seen }
    }

    fn collections(&self) -> Vec<String> {
        let seen = self.seen.lock().expect("no panic");
        seen.collections.keys().cloned().collect()
    }

    fn asked(&self) -> Vec<(String, String, Option<String>)> {
        self.seen.lock().expect("no panic").asked.clone()
    }

    fn bench(&self, lab: &Lab, recipe: &str, more: &[&str]) -> Ended {
        let url = format!("http://127.0.0.1:{}", self.port);
        let recipe = lab.file("load.yaml", recipe).display().to_string();
        let mut all = vec![
            "bench",
            &recipe,
            "--url",
            &url,
            "--out",
            "out",
            "--allow-invalid",
        ];
        all.extend(more);
        lab.run(&all)
    }
}

fn serve(stream: TcpStream, seen: &Mutex<Seen>, faults: Faults) {
    let mut write = stream.try_clone().expect("a socket");
    let mut read = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if read.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let mut words = line.split(' ').map(str::to_owned);
        let (method, path) = (
            words.next().expect("a method"),
            words.next().expect("a path"),
        );
        let (mut length, mut key) = (0, None);
        loop {
            let mut header = String::new();
            read.read_line(&mut header).expect("a header");
            let Some((name, value)) = header.trim().split_once(": ") else {
                break;
            };
            match name {
                "content-length" => length = value.parse().expect("a length"),
                "api-key" => key = Some(value.to_owned()),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        read.read_exact(&mut body).expect("a body");
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let mut seen = seen.lock().expect("no panic");
        let (status, answer) = answer(&mut seen, faults, &method, &path, &body);
        seen.asked.push((method, path, key));
        drop(seen);
        let text = answer.to_string();
        let whole = format!(
            "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{text}",
            text.len()
        );
        if write.write_all(whole.as_bytes()).is_err() {
            return;
        }
    }
}

fn answer(seen: &mut Seen, faults: Faults, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let rest = path.strip_prefix("/collections/").unwrap_or_default();
    let (name, rest) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let error = |status, text: &str| (status, json!({"status": {"error": text}}));
    let inserts = seen
        .asked
        .iter()
        .filter(|(_, path, _)| path.contains("points?"))
        .count();
    match (method, rest) {
        ("PUT", "") if faults.refuses || seen.collections.contains_key(name) => {
            error(409, "Wrong input: Collection already exists!")
        }
        ("PUT", "") => {
            seen.collections.insert(name.to_owned(), BTreeMap::new());
            (200, json!({"result": true, "status": "ok"}))
        }
        ("GET", "") => {
            seen.looks += 1;
            let state = if seen.looks < 3 { "yellow" } else { "green" };
            (200, json!({"result": {"status": state}}))
        }
        ("DELETE", "") => {
            let was = seen.collections.remove(name).is_some();
            (200, json!({"result": was}))
        }
        ("PUT", "/points?wait=true") if faults.inserts.is_some_and(|most| inserts >= most) => {
            error(500, "disk full")
        }
        ("PUT", "/points?wait=true") => {
            let collection = seen.collections.get_mut(name).expect("a collection");
            for point in body["points"].as_array().expect("points") {
                let vector = point["vector"].as_array().expect("a vector").iter();
                let vector = vector.map(|x| x.as_f64().expect("a number")).collect();
                collection.insert(point["id"].as_u64().expect("an id"), vector);
            }
            (
                200,
                json!({"result": {"status": "completed"}, "status": "ok"}),
            )
        }
        ("POST", "/points/query") => {
            let query: Vec<f64> = body["query"]
                .as_array()
                .expect("a query")
                .iter()
                .map(|x| x.as_f64().expect("a number"))
                .collect();
            let limit = usize::try_from(body["limit"].as_u64().expect("a limit")).expect("small");
            let mut all: Vec<(f64, u64)> = seen.collections[name]
                .iter()
                .map(|(id, vector)| {
                    let both = vector.iter().zip(&query);
                    (both.map(|(a, b)| (a - b).powi(2)).sum::<f64>(), *id)
                })
                .collect();
            all.sort_by(|one, other| one.0.total_cmp(&other.0));
            // the farthest in place of those that it misses
            let near = all.iter().take(limit - faults.missed);
            let far = all.iter().rev().take(faults.missed);
            let points: Vec<Value> = near
                .chain(far)
                .map(|(score, id)| json!({"id": id, "score": score}))
                .collect();
            (200, json!({"result": {"points": points}, "status": "ok"}))
        }
        _ => error(404, "Not found"),
    }
}

fn recipe(vectors: &str) -> String {
    format!(
        "name: load\nservice_name: s\nworkload: {{api: qdrant, concurrent_users: 2, total_requests: 120, seed: 4}}\ndataset: {{type: vectors, vectors: {{dimension: 8, count: 230, metric: l2, queries: 30, k: 10, batch: 25{vectors}}}}}\n"
    )
}

#[test]
fn recall_is_against_the_true_neighbours_and_nothing_is_left() {
    let lab = Lab::new();
    let double = Double::start(Faults {
        missed: 2,
        ..Faults::default()
    });
    let key = lab.file("key", "sesame\n").display().to_string();
    let ended = double.bench(&lab, &recipe(""), &["--api-key-file", &key]);
    ended.assert_exit(0);
    let results = results(&lab);
    assert_eq!(results["successes"], 120, "{results:#}");
    for of in ["avg", "min", "p5", "max"] {
        let recall = number(&results, &format!("/metrics/recall/{of}"));
        assert!((recall - 0.8).abs() < 1e-9, "{of}: {recall}");
    }
    assert_eq!(results["collection"]["vectors"], 230);
    assert_eq!(results["metrics"]["insert_latency"]["count"], 10);
    assert!(number(&results, "/metrics/insert_throughput/avg") > 0.0);
    assert!(results["metrics"].get("time_to_first_token").is_none());
    for shown in ["recall (ratio)", "insert throughput (vectors/s)"] {
        assert!(ended.stdout.contains(shown), "{}", ended.stdout);
    }
    assert!(!ended.stdout.contains("token"), "{}", ended.stdout);
    assert_eq!(double.collections(), ["precious"]);
    let asked = double.asked();
    assert!(
        asked
            .iter()
            .all(|(_, _, key)| key.as_deref() == Some("sesame"))
    );
    assert!(asked.iter().all(|(_, path, _)| !path.contains("precious")));
    assert!(
        asked
            .iter()
            .any(|(method, path, _)| method == "PUT" && path.contains("/collections/aif-"))
    );
}

#[test]
fn queries_of_an_open_loop_come_at_their_rate() {
    let _alone = alone();
    let lab = Lab::new();
    let double = Double::start(Faults::default());
    let closed = "concurrent_users: 2, total_requests: 120";
    let open = "pattern: open-loop, requests_per_second: 100, arrival: {process: constant}, total_requests: 120";
    let text = recipe("").replace(closed, open);
    assert!(text.contains(open), "{text}");
    double.bench(&lab, &text, &[]).assert_exit(0);
    let results = results(&lab);
    assert_eq!(results["successes"], 120, "{results:#}");
    assert_eq!(results["metrics"]["recall"]["min"], 1.0);
    assert_near(
        "rate",
        number(&results, "/generator/achieved_rate"),
        100.0,
        2.0,
    );
    assert_eq!(double.collections(), ["precious"]);
}

#[test]
fn a_collection_stays_where_that_is_asked() {
    let lab = Lab::new();
    let double = Double::start(Faults::default());
    double
        .bench(&lab, &recipe(", keep: true"), &[])
        .assert_exit(0);
    let found = results(&lab);
    assert_eq!(found["metrics"]["recall"]["min"], 1.0);
    let name = found["collection"]["name"].as_str().expect("a name");
    assert_eq!(double.collections(), [name, "precious"]);
    assert_eq!(found["collection"]["kept"], true);
}

#[test]
fn half_a_collection_is_deleted_and_not_asked() {
    let lab = Lab::new();
    let double = Double::start(Faults {
        inserts: Some(3),
        ..Faults::default()
    });
    let ended = double.bench(&lab, &recipe(""), &[]);
    ended.assert_exit(69);
    let said = &ended.stderr;
    assert!(
        said.contains("did not insert vectors") && said.contains("disk full"),
        "{said}"
    );
    assert_eq!(double.collections(), ["precious"]);
    assert!(
        double
            .asked()
            .iter()
            .all(|(_, path, _)| !path.ends_with("/query"))
    );
}

#[test]
fn what_somebody_else_made_is_left_alone() {
    let lab = Lab::new();
    let double = Double::start(Faults {
        refuses: true,
        ..Faults::default()
    });
    let ended = double.bench(&lab, &recipe(""), &[]);
    ended.assert_exit(69);
    let said = &ended.stderr;
    assert!(said.contains("did not make the collection"), "{said}");
    assert_eq!(
        double.asked().len(),
        1,
        "refused, and nothing more was done"
    );
}
