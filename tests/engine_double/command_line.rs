//! The command lines that the engines document, and nothing beside: an option that the real one does not have ends the
//! double, as it ends the real one, and one that a recipe forgot leaves it where nobody looks for it.
//!
//! Sources are those of the profiles (`src/engine/*.rs`) and of the recipes (`recipes/servers/*.yaml`).

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
};

use aif::env::Env;

/// How the double was started.
pub(crate) struct Told {
    /// What it speaks as.
    pub(crate) kind: String,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// A further port: of metrics, of a worker's health, of gRPC.
    pub(crate) second: Option<u16>,
    /// Does it tell metrics?
    pub(crate) metrics: bool,
    pub(crate) argv: Vec<String>,
    /// Its model, or the folder of those that were pulled.
    model: String,
    pulled: Option<PathBuf>,
}

/// Options of a program: those with a value, and those without.
type Options = (&'static [&'static str], &'static [&'static str]);

const VLLM: Options = (
    &[
        "--served-model-name",
        "--host",
        "--port",
        "--dtype",
        "--max-model-len",
        "--max-num-seqs",
        "--shutdown-timeout",
    ],
    &["--enforce-eager"],
);
const LLAMACPP: Options = (
    &[
        "-m",
        "--host",
        "--port",
        "--alias",
        "-c",
        "-np",
        "-t",
        "--sse-ping-interval",
        "--threads-http",
    ],
    &["--metrics"],
);
const TGI: Options = (
    &[
        "--model-id",
        "--hostname",
        "--port",
        "--num-shard",
        "--max-input-tokens",
        "--max-total-tokens",
    ],
    &[],
);
const SGLANG: Options = (
    &[
        "-m",
        "--model-path",
        "--served-model-name",
        "--host",
        "--port",
        "--tp",
    ],
    &["--enable-metrics"],
);
const TRTLLM: Options = (
    &["--host", "--port", "--tp_size", "--extra_llm_api_options"],
    &[],
);
const TRITON: Options = (
    &[
        "--model-repository",
        "--http-port",
        "--allow-grpc",
        "--metrics-port",
        "--exit-timeout-secs",
    ],
    &[],
);
const CHROMA: Options = (&["--path", "--host", "--port"], &[]);
const WORKER: Options = (
    &["-m", "--model", "--discovery-backend", "--kv-events-config"],
    &[],
);
const FRONTEND: Options = (&["-m", "--http-port", "--discovery-backend"], &[]);

impl Told {
    /// By the name under which it was started; ends the process where that is no server.
    pub(crate) fn of_process(env: &Env) -> Self {
        let argv: Vec<String> = std::env::args().collect();
        let name = Path::new(&argv[0]).file_name().unwrap_or_default();
        let has = |word: &str| argv.iter().any(|other| other == word);
        let (kind, options) = match &*name.to_string_lossy() {
            "ollama" if has("serve") => return Self::ollama(env, argv),
            "ollama" => ollama(env, &argv),
            "qdrant" => return Self::qdrant(env, argv),
            "vllm" => ("vllm", VLLM),
            "llama-server" => ("llamacpp", LLAMACPP),
            "text-generation-launcher" => ("tgi", TGI),
            "trtllm-serve" => ("trtllm", TRTLLM),
            "tritonserver" => ("triton", TRITON),
            "chroma" => ("chroma", CHROMA),
            "python3" if has("sglang.launch_server") => ("sglang", SGLANG),
            "python3" if has("dynamo.vllm") => ("worker", WORKER),
            "python3" if has("dynamo.frontend") => ("openai", FRONTEND),
            "python3" => fetch(&argv),
            _ => return Self::by_variables(env, argv),
        };
        Self::by_options(kind, options, env, argv)
    }

    /// `DOUBLE` and `PORT`.
    fn by_variables(env: &Env, argv: Vec<String>) -> Self {
        Self {
            kind: env.get("DOUBLE").expect("DOUBLE says which").to_owned(),
            host: "127.0.0.1".to_owned(),
            port: number(env.get("PORT").expect("PORT is set")),
            second: None,
            metrics: true,
            argv,
            model: "double:1b".to_owned(),
            pulled: None,
        }
    }

    fn by_options(kind: &str, (valued, bare): Options, env: &Env, argv: Vec<String>) -> Self {
        let mut words = argv[1..].iter();
        let (mut values, mut plain) = (Vec::new(), Vec::new());
        while let Some(word) = words.next() {
            if valued.contains(&word.as_str()) {
                let value = words.next().unwrap_or_else(|| refuse(word));
                values.push((word.as_str(), value.clone()));
            } else if word.starts_with('-') && !bare.contains(&word.as_str()) {
                refuse(word);
            } else {
                plain.push(word.clone());
            }
        }
        let of = |name: &str| {
            let found = values.iter().find(|(option, _)| *option == name);
            found.map(|(_, value)| value.clone())
        };
        let first = |names: &[&str]| names.iter().find_map(|name| of(name));
        let file = of("--extra_llm_api_options")
            .map(|file| std::fs::read_to_string(file).unwrap_or_default());
        let on = |words: &str| file.as_ref().is_some_and(|text| text.contains(words));
        let metrics = match kind {
            "llamacpp" => plain.contains(&"--metrics".to_owned()),
            "sglang" => plain.contains(&"--enable-metrics".to_owned()),
            "trtllm" => on("return_perf_metrics: true") && on("enable_iter_perf_stats: true"),
            _ => true,
        };
        let named = [
            "--served-model-name",
            "--alias",
            "--model-path",
            "--model-id",
            "--model",
        ];
        let model = first(&named).or_else(|| {
            plain
                .into_iter()
                .find(|word| !word.starts_with('-') && word != "serve")
        });
        let port = match kind {
            "worker" => env.get("DYN_SYSTEM_PORT").map(str::to_owned),
            _ => first(&["--port", "--http-port"]),
        };
        // a frontend names the models of its workers
        let model = model.unwrap_or_else(|| "Qwen/Qwen2.5-0.5B-Instruct".to_owned());
        Self {
            kind: kind.to_owned(),
            // what they listen on where nobody tells
            host: first(&["--host", "--hostname"]).unwrap_or_else(|| "0.0.0.0".to_owned()),
            port: port.map_or(8000, |port| number(&port)),
            second: (kind == "triton")
                .then(|| of("--metrics-port").map_or(8002, |port| number(&port))),
            metrics,
            argv,
            model,
            pulled: None,
        }
    }

    fn qdrant(env: &Env, argv: Vec<String>) -> Self {
        let port = |name: &str, other| env.get(name).map_or(other, number);
        let storage = env.get("QDRANT__STORAGE__STORAGE_PATH");
        assert!(
            storage.is_some_and(|folder| folder.starts_with('/')),
            "where is it stored?"
        );
        let host = env.get("QDRANT__SERVICE__HOST").unwrap_or("0.0.0.0");
        Self {
            kind: "qdrant".to_owned(),
            host: host.to_owned(),
            port: port("QDRANT__SERVICE__HTTP_PORT", 6333),
            second: Some(port("QDRANT__SERVICE__GRPC_PORT", 6334)),
            metrics: true,
            argv,
            model: String::new(),
            pulled: None,
        }
    }

    fn ollama(env: &Env, argv: Vec<String>) -> Self {
        let address = env.get("OLLAMA_HOST").unwrap_or("127.0.0.1:11434");
        let (host, port) = address.split_once(':').expect("HOST:PORT");
        Self {
            kind: "ollama".to_owned(),
            host: host.to_owned(),
            port: number(port),
            second: None,
            metrics: false,
            argv,
            model: String::new(),
            pulled: env.path("OLLAMA_MODELS"),
        }
    }

    /// Names of the models that it has.
    pub(crate) fn models(&self) -> Vec<String> {
        let Some(folder) = &self.pulled else {
            return vec![self.model.clone()];
        };
        let found = std::fs::read_dir(folder).into_iter().flatten().flatten();
        found
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect()
    }
}

/// Ollama's other commands. What was pulled is a file of that name.
fn ollama(env: &Env, argv: &[String]) -> ! {
    let folder = env.path("OLLAMA_MODELS").expect("a folder");
    let file = argv.get(2).map(|name| folder.join(name));
    let is_good = match (argv[1].as_str(), file) {
        ("list", None) => TcpStream::connect(env.get("OLLAMA_HOST").expect("an address")).is_ok(),
        ("show", Some(file)) => file.exists(),
        ("pull", Some(_)) if env.get("NO_WAY_OUT").is_some() => {
            println!(
                "Error: pull model manifest: Get \"https://registry.ollama.ai/v2/\": dial tcp: i/o timeout"
            );
            false
        }
        ("pull", Some(file)) => std::fs::create_dir_all(&folder)
            .and_then(|()| std::fs::File::create(file))
            .is_ok(),
        _ => refuse(&argv[1]),
    };
    end(i32::from(!is_good))
}

/// `python3 -c` of a script that opens an address.
fn fetch(argv: &[String]) -> ! {
    let script = argv
        .get(2)
        .filter(|_| argv[1] == "-c")
        .unwrap_or_else(|| refuse(&argv[1]));
    let url = script
        .split("http://")
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .expect("an address");
    let (authority, path) = url.split_once('/').expect("a path");
    let ask = || {
        let mut stream = TcpStream::connect(authority)?;
        write!(
            stream,
            "GET /{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok::<_, std::io::Error>(answer.starts_with("HTTP/1.1 200"))
    };
    end(i32::from(!ask().unwrap_or(false)))
}

fn number(text: &str) -> u16 {
    text.parse().unwrap_or_else(|_| refuse(text))
}

fn refuse(word: &str) -> ! {
    println!("error: unrecognized argument: {word}");
    end(2)
}

#[expect(
    clippy::exit,
    clippy::disallowed_methods,
    reason = "some of these programs are no servers"
)]
fn end(code: i32) -> ! {
    std::process::exit(code)
}
