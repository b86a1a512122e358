//! An engine for tests of the server role: listens on `PORT`, and behaves as `TOY` says.
//!
//! `ready` serves, `never` is never ready, `die` ends before it listens, `crash` a little after, `hang` lives and answers no
//! more, `elsewhere` listens on a port of its own choice. It says what arguments it was given. It answers to the paths of several engines, as their documentation says, for those that cannot
//! be run here.
#![expect(clippy::print_stdout, reason = "an engine talks to its log")]

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use aif::env::Env;

/// Does it answer no more?
static HANGS: AtomicBool = AtomicBool::new(false);

fn main() -> ExitCode {
    let env = Env::of_process();
    let mode = env.get("TOY").expect("TOY says what to do");
    let listen = |port: u16| TcpListener::bind(("127.0.0.1", port)).expect("a port");
    match mode {
        "die" => {
            println!("loading the model\nOSError: [Errno 98] Address already in use, or so");
            return ExitCode::from(3);
        }
        "elsewhere" => serve(&listen(0), &env),
        mode => {
            let words: Vec<String> = std::env::args().skip(1).collect();
            println!("listening; arguments: {}", words.join(" "));
            if mode == "hang" {
                std::thread::spawn(|| {
                    std::thread::sleep(Duration::from_secs(2));
                    HANGS.store(true, Ordering::Relaxed);
                });
            }
            if mode == "crash" {
                std::thread::spawn(|| {
                    std::thread::sleep(Duration::from_millis(700));
                    println!("CUDA out of memory");
                    #[expect(clippy::disallowed_methods, reason = "an engine that crashes")]
                    std::process::exit(139);
                });
            }
            serve(&listen(env.number("PORT").expect("PORT is set")), &env);
        }
    }
    ExitCode::SUCCESS
}

fn serve(listener: &TcpListener, env: &Env) {
    let key = env
        .path("LLAMA_ARG_API_KEY_FILE")
        .map(|file| std::fs::read_to_string(file).expect("the key file"))
        .or_else(|| env.get("API_KEY").map(str::to_owned));
    for stream in listener.incoming() {
        while HANGS.load(Ordering::Relaxed) {
            std::thread::park();
        }
        let mut stream = stream.expect("a client");
        let mut lines = BufReader::new(stream.try_clone().expect("a stream")).lines();
        let request = lines.next().and_then(Result::ok).unwrap_or_default();
        let head: Vec<String> = lines
            .map_while(Result::ok)
            .take_while(|l| !l.is_empty())
            .collect();
        let path = request.split(' ').nth(1).unwrap_or("/");
        let admitted = key.as_ref().is_none_or(|key| {
            head.iter()
                .any(|line| line.eq_ignore_ascii_case(&format!("authorization: bearer {key}")))
        });
        let (status, body) = match path {
            "/health" if env.get("TOY") == Some("never") => ("503 Busy", "loading"),
            "/" | "/health" => ("200 OK", "ok"),
            "/api/version" => ("200 OK", r#"{"version": "0.12.3"}"#),
            "/info" => ("200 OK", r#"{"model_id": "toy-model", "version": "3.3.5"}"#),
            "/version" => ("200 OK", r#"{"version": "1.0.0"}"#),
            "/prometheus/metrics" => ("200 OK", "trtllm_num_requests_running 3.0\n"),
            _ if !admitted => ("401 Unauthorized", "no"),
            "/metrics" => (
                "200 OK",
                "llamacpp:requests_processing 0\nllamacpp:requests_deferred 0\n",
            ),
            "/v1/models" => ("200 OK", r#"{"data": [{"id": "toy-model"}]}"#),
            "/props" => ("200 OK", r#"{"build_info": "b42"}"#),
            _ => ("404 Not Found", ""),
        };
        let _ = write!(
            stream,
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
    }
}
