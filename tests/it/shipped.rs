//! The recipes of engines that cannot be had here, from their file to the end of the server: the scripts and arguments are
//! those of the recipe, word for word, and under the names of the engines' programs the PATH has a double that takes what
//! these document and nothing else (`tests/engine_double/command_line.rs`). Only the container is left out.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    process::{Command, Stdio},
    time::Duration,
};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{
    doubles::get,
    lab::{Ended, Lab, Started, example, wait_until},
};

/// A recipe, and what its engine must have been told.
struct Shipped {
    server: &'static str,
    service: &'static str,
    /// The client recipe that goes with it, and what makes it short.
    client: &'static str,
    sets: &'static [&'static str],
    engine: &'static str,
    model: Option<&'static str>,
    /// Words that follow each other on its command line; `HOST`, `PORT` and `PORT2` are those of its record.
    told: &'static [&'static [&'static str]],
    /// A path that wants the key, where it takes one.
    guarded: Option<&'static str>,
    /// Does the server see by its metrics that a request is under way?
    waits: bool,
}

const TOKENS: &[&str] = &[
    "workload.duration_seconds=1",
    "workload.warmup_seconds=0",
    "dataset.params.max_tokens=8",
];
const PLAIN: &[&str] = &["workload.duration_seconds=1", "workload.warmup_seconds=0"];
const VECTORS: &[&str] = &[
    "workload.duration_seconds=1",
    "workload.warmup_seconds=0",
    "dataset.vectors.count=400",
    "dataset.vectors.queries=20",
];
const QWEN: Option<&str> = Some("Qwen/Qwen2.5-0.5B-Instruct");

const SHIPPED: [Shipped; 9] = [
    Shipped {
        server: "ollama-server",
        service: "ollama",
        client: "ollama-native-test",
        sets: TOKENS,
        engine: "ollama",
        model: Some("qwen2.5:0.5b"),
        told: &[&["serve"]],
        guarded: None,
        waits: false,
    },
    Shipped {
        server: "tgi-server",
        service: "tgi",
        client: "tgi-test",
        sets: TOKENS,
        engine: "tgi",
        model: QWEN,
        told: &[
            &["--hostname", "HOST"],
            &["--port", "PORT"],
            &["--num-shard", "1"],
        ],
        guarded: Some("/generate"),
        waits: true,
    },
    Shipped {
        server: "sglang-server",
        service: "sglang",
        client: "sglang-test",
        sets: TOKENS,
        engine: "sglang",
        model: QWEN,
        told: &[&["--host", "HOST"], &["--port", "PORT"], &["--tp", "1"]],
        guarded: None,
        waits: true,
    },
    Shipped {
        server: "trtllm-server",
        service: "trtllm",
        client: "trtllm-test",
        sets: TOKENS,
        engine: "trtllm",
        model: QWEN,
        told: &[
            &["--host", "HOST"],
            &["--port", "PORT"],
            &["--tp_size", "1"],
        ],
        guarded: None,
        waits: true,
    },
    Shipped {
        server: "dynamo-server",
        service: "dynamo",
        client: "dynamo-test",
        sets: TOKENS,
        engine: "http",
        model: QWEN,
        told: &[&["--http-port", "PORT"]],
        guarded: None,
        waits: false,
    },
    Shipped {
        server: "triton-server",
        service: "triton",
        client: "triton-test",
        sets: PLAIN,
        engine: "http",
        model: None,
        told: &[&["--http-port", "PORT"], &["--metrics-port", "PORT2"]],
        guarded: None,
        waits: false,
    },
    Shipped {
        server: "qdrant-server",
        service: "qdrant",
        client: "qdrant-test",
        sets: VECTORS,
        engine: "qdrant",
        model: None,
        told: &[],
        guarded: Some("/collections"),
        waits: false,
    },
    Shipped {
        server: "vllm-cpu-server",
        service: "vllm",
        client: "vllm-tiny-test",
        sets: TOKENS,
        engine: "vllm",
        model: Some("tiny-llama"),
        told: &[
            &["--host", "HOST"],
            &["--port", "PORT"],
            &["--served-model-name", "tiny-llama"],
        ],
        guarded: Some("/v1/models"),
        waits: true,
    },
    Shipped {
        server: "llamacpp-server",
        service: "llamacpp",
        client: "llamacpp-chat-test",
        sets: TOKENS,
        engine: "llamacpp",
        model: Some("smollm2-135m"),
        told: &[
            &["--host", "HOST"],
            &["--port", "PORT"],
            &["--alias", "smollm2-135m"],
        ],
        guarded: Some("/v1/models"),
        waits: true,
    },
];

/// Programs that the double stands in for.
const PROGRAMS: [&str; 9] = [
    "ollama",
    "text-generation-launcher",
    "python3",
    "trtllm-serve",
    "tritonserver",
    "qdrant",
    "vllm",
    "llama-server",
    "chroma",
];

/// A laboratory with the double under all its names.
fn lab() -> Lab {
    let lab = Lab::new();
    let bin = lab.path().join("bin");
    std::fs::create_dir_all(&bin).expect("a folder");
    for name in PROGRAMS {
        std::os::unix::fs::symlink(example("engine-double"), bin.join(name)).expect("a link");
    }
    lab
}

fn aif(lab: &Lab, arguments: &[&str]) -> Command {
    let mut command = lab.aif(arguments);
    let path = format!("{}/bin:/usr/local/bin:/usr/bin:/bin", lab.path().display());
    command.env("PATH", path);
    command
}

fn run(lab: &Lab, arguments: &[&str]) -> Ended {
    Ended::of(&aif(lab, arguments).output().expect("aif starts"))
}

/// The recipe's file without its container: the words are those that the container is given.
fn without_container(lab: &Lab, name: &str) -> String {
    let path = lab
        .path()
        .join("recipes/servers")
        .join(format!("{name}.yaml"));
    let text = std::fs::read_to_string(&path).expect("a recipe");
    let mut recipe: serde_yaml::Value = serde_yaml::from_str(&text).expect("YAML");
    let service = recipe["service"].as_mapping_mut().expect("a service");
    let container = service.remove("container").expect("a container");
    service.insert("program".into(), container["args"].clone());
    let file = format!("{name}-here.yaml");
    lab.file(&file, &serde_yaml::to_string(&recipe).expect("YAML"));
    file
}

fn start(lab: &Lab, file: &str) -> Started {
    let mut command = aif(lab, &["server", file]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    Started::of(command)
}

/// The records of a service, when so many of its instances are ready.
fn ready(lab: &Lab, service: &str, server: Started) -> (Started, Value) {
    let ended = run(lab, &["wait", service, "--timeout", "60s", "--json"]);
    if ended.code != 0 {
        server.signal(Signal::SIGTERM);
        panic!("{service}: {}\n{}", ended.stderr, server.end().stderr);
    }
    let records: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    (server, records[0].clone())
}

fn key_of(record: &Value) -> Option<String> {
    let file = record["auth"]["key_file"].as_str()?;
    Some(
        std::fs::read_to_string(file)
            .expect("the key")
            .trim()
            .to_owned(),
    )
}

/// What the double says of itself.
fn of_double(record: &Value) -> Value {
    let api = record["endpoints"]["api"].as_str().expect("an address");
    let (status, answer) = get(&format!("{api}/double"), key_of(record).as_deref());
    assert_eq!(status, 200, "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    serde_json::from_str(body).expect("JSON")
}

/// A stream that is under way: its first bytes have come.
fn stream(record: &Value, tokens: u32) -> TcpStream {
    let api = record["endpoints"]["api"].as_str().expect("an address");
    let mut stream = TcpStream::connect(api.trim_start_matches("http://")).expect("it listens");
    let body = format!(r#"{{"model":"m","prompt":"a","stream":true,"max_tokens":{tokens}}}"#);
    let bearer = key_of(record).map_or_else(String::new, |key| {
        format!("Authorization: Bearer {key}\r\n")
    });
    write!(
        stream,
        "POST /v1/completions HTTP/1.1\r\nHost: x\r\n{bearer}Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("sent");
    let mut first = [0];
    stream.read_exact(&mut first).expect("it begins");
    stream
}

#[test]
fn every_shipped_recipe_of_an_engine_serves_and_is_loaded_by_its_client() {
    for shipped in &SHIPPED {
        let name = shipped.server;
        let lab = lab();
        let file = without_container(&lab, name);
        let (server, record) = ready(&lab, shipped.service, start(&lab, &file));
        assert_eq!(record["state"], "ready", "{name}");
        assert_eq!(record["engine"], shipped.engine, "{name}");
        assert_eq!(record["model"].as_str(), shipped.model, "{name}");
        assert_eq!(
            key_of(&record).is_some(),
            shipped.guarded.is_some(),
            "{name}"
        );
        if let Some(path) = shipped.guarded {
            let api = record["endpoints"]["api"].as_str().expect("an address");
            assert_eq!(get(&format!("{api}{path}"), None).0, 401, "{name}");
        }

        let double = of_double(&record);
        let ports = record["ports"].as_array().expect("ports");
        assert_eq!(double["port"], ports[0], "{name}");
        if !double["second"].is_null() {
            assert_eq!(double["second"], ports[1], "{name}");
        }
        let argv: Vec<&str> = double["argv"]
            .as_array()
            .expect("words")
            .iter()
            .filter_map(Value::as_str)
            .collect();
        for words in shipped.told {
            let port = |index: usize| ports.get(index).map(ToString::to_string);
            let words: Vec<String> = words
                .iter()
                .map(|word| match *word {
                    "HOST" => "127.0.0.1".to_owned(),
                    "PORT" => port(0).expect("a port"),
                    "PORT2" => port(1).expect("a second port"),
                    word => word.to_owned(),
                })
                .collect();
            assert!(
                argv.windows(words.len()).any(|part| part == words),
                "{name}: no {words:?} in {argv:?}"
            );
        }

        let mut bench = vec!["bench", shipped.client, "--allow-invalid", "--out", "out"];
        for set in shipped.sets {
            bench.extend(["--set", set]);
        }
        run(&lab, &bench).assert_exit(0);
        let results = std::fs::read(lab.path().join("out/results.json")).expect("results");
        let results: Value = serde_json::from_slice(&results).expect("JSON");
        assert_eq!(
            results["errors"], 0,
            "{name}: {}",
            results["errors_by_class"]
        );
        let successes = results["successes"].as_u64().expect("a number");
        assert!(successes > 5, "{name}: {successes}");
        assert!(
            of_double(&record)["requests"].as_u64() >= Some(successes),
            "{name}"
        );

        // it is told to end while it answers: 300 tokens of 5 ms each
        let answer = shipped.waits.then(|| stream(&record, 300));
        server.signal(Signal::SIGTERM);
        if let Some(mut answer) = answer {
            let mut text = String::new();
            answer.read_to_string(&mut text).expect("an answer");
            // the last chunk of a whole answer
            assert!(
                text.ends_with("0\r\n\r\n"),
                "{name}: it was broken off after {} bytes",
                text.len()
            );
        }
        let ended = server.end();
        ended.assert_exit(0);
        assert!(
            ended.stderr.contains("The engine ended"),
            "{name}: {}",
            ended.stderr
        );
        lab.assert_nothing_left();
    }
}

#[test]
fn two_servers_of_a_recipe_with_several_ports_share_a_node() {
    for (name, service) in [
        ("dynamo-server", "dynamo"),
        ("triton-server", "triton"),
        ("qdrant-server", "qdrant"),
    ] {
        let lab = lab();
        let file = without_container(&lab, name);
        let (one, first) = ready(&lab, service, start(&lab, &file));
        let other = start(&lab, &file);
        let mut records = Value::Null;
        wait_until(Duration::from_mins(1), "both are ready", || {
            let ended = run(&lab, &["services", "--json"]);
            records = serde_json::from_str(&ended.stdout).unwrap_or_default();
            let all = records.as_array().map(Vec::as_slice).unwrap_or_default();
            let is_ready = |seen: &&Value| {
                seen["record"]["state"] == "ready" && seen["record"]["kind"] == "server"
            };
            all.iter().filter(is_ready).count() == 2
        });
        let mut ports: Vec<u64> = records
            .as_array()
            .expect("a list")
            .iter()
            .flat_map(|seen| {
                seen["record"]["ports"]
                    .as_array()
                    .cloned()
                    .unwrap_or_default()
            })
            .filter_map(|port| port.as_u64())
            .collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 4, "{name}: {ports:?} with {first}");
        if name == "triton-server" {
            // its metrics come from its own second port
            let agent = first["endpoints"]["metrics"].as_str().expect("an address");
            let key = std::fs::read_to_string(lab.path().join(".ubenchai/discover/scrape.key"))
                .expect("a key");
            let (status, told) = get(agent, Some(key.trim()));
            assert_eq!(status, 200);
            assert!(told.contains("nv_inference_count 0"), "{told}");
        }
        for server in [one, other] {
            server.signal(Signal::SIGTERM);
            server.end().assert_exit(0);
        }
        lab.assert_nothing_left();
    }
}

#[test]
fn ollama_has_its_model_in_memory_before_it_is_ready_and_has_generated_nothing() {
    for (model, client) in [("double:1b", "ollama"), ("double-embed", "ollama")] {
        let lab = lab();
        let script =
            format!("ollama pull {model}; exec env OLLAMA_HOST={{host}}:{{port}} ollama serve");
        lab.file(
            "server.yaml",
            &format!(
                "name: ollama-server\nservice_name: ollama\nengine: ollama\nservice:\n  program: [sh, -c, '{script}']\n  env: {{OLLAMA_MODELS: '{}'}}\n  ports: [auto]\n",
                lab.path().join("models").display()
            ),
        );
        let (server, record) = ready(&lab, client, start(&lab, "server.yaml"));
        let double = of_double(&record);
        assert_eq!(
            double["loaded"],
            serde_json::json!([format!("{model} for -1")])
        );
        assert_eq!(double["requests"], 0);
        server.signal(Signal::SIGTERM);
        server.end().assert_exit(0);
    }
}

#[test]
fn a_model_that_ollama_does_not_have_is_a_failure_of_the_server() {
    let lab = lab();
    lab.file(
        "server.yaml",
        &format!(
            "name: ollama-server\nservice_name: ollama\nengine: ollama\nservice:\n  program: [sh, -c, 'ollama pull double:1b; exec env OLLAMA_HOST={{host}}:{{port}} ollama serve']\n  env: {{NO_WAY_OUT: '1', OLLAMA_MODELS: '{}'}}\n  ports: [auto]\n",
            lab.path().join("models").display()
        ),
    );
    let ended = run(&lab, &["server", "server.yaml"]);
    ended.assert_exit(69);
    for words in [
        "the engine cannot load its model",
        "model 'double:1b' not found",
        "let service.readiness.path be /v1/models/double:1b",
        // the line of its log that tells why, and the mend
        "pull it on a login node into the folder of OLLAMA_MODELS",
    ] {
        assert!(ended.stderr.contains(words), "no {words}: {}", ended.stderr);
    }
    lab.assert_nothing_left();
}
