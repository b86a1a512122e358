//! The echo engine by itself: what it says is an answer, what it remembers is the truth, and nobody else gets in.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use super::*;
use crate::clock::monotonic_nanoseconds as now;

fn setup(first_ms: u64, gap_ms: u64) -> Setup {
    Setup {
        speed: Speed {
            first: Duration::from_millis(first_ms),
            gap: Duration::from_millis(gap_ms),
            per_write: 1,
            share: 1.0,
            stagger: false,
        },
        key: Some("secret".to_owned()),
        tag: Some(|body| Some(body.len() as u64)),
        room: 1000,
        cpus: Vec::new(),
    }
}

fn request(path: &str, key: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Sends in two pieces; reads until this has come.
fn ask(echo: &Echo, request: &str, until: &str) -> String {
    let mut stream = TcpStream::connect(echo.address()).expect("a connection");
    let (one, two) = request.as_bytes().split_at(request.len() / 2);
    stream.write_all(one).expect("sent");
    stream.write_all(two).expect("sent");
    let mut text = Vec::new();
    let mut piece = [0; 4096];
    while !String::from_utf8_lossy(&text).contains(until) {
        let count = stream.read(&mut piece).expect("an answer");
        if count == 0 {
            break;
        }
        text.extend_from_slice(&piece[..count]);
    }
    String::from_utf8(text).expect("text")
}

#[test]
fn a_stream_has_its_tokens_and_they_are_remembered() {
    let echo = Echo::start(setup(20, 5)).expect("an engine");
    let before = now();
    let body = r#"{"model":"m","max_tokens":4,"stream":true}"#;
    for path in ["/v1/chat/completions", "/v1/completions"] {
        let text = ask(&echo, &request(path, "secret", body), "[DONE]");
        assert_eq!(text.matches(" word").count(), 4, "{text}");
        assert!(text.contains(r#""completion_tokens":4"#), "{text}");
        assert!(text.contains(r#""finish_reason":"length""#), "{text}");
    }
    let log = echo.stop().expect("its log");
    assert_eq!((log.came, log.tokens, log.requests.len()), (2, 8, 2));
    for one in &log.requests {
        assert_eq!((one.tag, one.at.len()), (body.len() as u64, 5));
        assert!(one.at[0] >= before && one.at[1] - one.at[0] >= 20_000_000);
        // by absolute times: a late token makes no other late
        let last = one.at[0] + 20_000_000 + 3 * 5_000_000;
        assert!(one.at[4] >= last, "{one:?}");
    }
}

#[test]
fn an_answer_that_is_no_stream_comes_whole() {
    let echo = Echo::start(setup(1, 5)).expect("an engine");
    let body = r#"{"model":"m","max_tokens":3,"stream":false}"#;
    let text = ask(&echo, &request("/v1/completions", "secret", body), "usage");
    assert!(text.contains(" word word word"), "{text}");
    let body = r#"{"model":"m","input":"some words"}"#;
    let text = ask(&echo, &request("/v1/embeddings", "secret", body), "usage");
    assert!(text.contains(r#""object":"embedding""#), "{text}");
    let log = echo.stop().expect("its log");
    assert!(log.requests.iter().all(|one| one.at.len() == 2), "{log:?}");
}

#[test]
fn strangers_and_nonsense_are_refused_and_leave_nothing() {
    let echo = Echo::start(setup(1, 1)).expect("an engine");
    let body = r#"{"max_tokens":3,"stream":true}"#;
    let stranger = ask(&echo, &request("/v1/completions", "guess", body), "}");
    assert!(stranger.starts_with("HTTP/1.1 401 "), "{stranger}");
    let nonsense = ask(&echo, &request("/v1/completions", "secret", "words"), "}");
    assert!(nonsense.starts_with("HTTP/1.1 400 "), "{nonsense}");
    let none = ask(&echo, "no HTTP at all\r\n\r\n", "}");
    assert!(none.starts_with("HTTP/1.1 400 "), "{none}");
    let log = echo.stop().expect("its log");
    assert_eq!((log.came, log.requests.len()), (0, 0));
}

#[test]
fn a_share_of_the_tokens_and_a_log_that_is_full() {
    let mut setup = setup(0, 0);
    setup.speed.share = 0.5;
    setup.room = 5;
    let echo = Echo::start(setup).expect("an engine");
    let body = r#"{"max_tokens":8,"stream":true}"#;
    for _ in 0..2 {
        let text = ask(&echo, &request("/v1/completions", "secret", body), "[DONE]");
        assert_eq!(text.matches(" word").count(), 4);
    }
    let log = echo.stop().expect("its log");
    assert_eq!((log.came, log.tokens, log.requests.len()), (2, 8, 1));
}

#[test]
fn a_request_that_was_given_up_is_remembered_as_far_as_it_came() {
    let echo = Echo::start(setup(1, 50)).expect("an engine");
    let body = r#"{"max_tokens":900,"stream":true}"#;
    drop(ask(
        &echo,
        &request("/v1/completions", "secret", body),
        " word",
    ));
    let log = echo.stop().expect("its log");
    let [one] = &log.requests[..] else {
        panic!("{log:?}")
    };
    assert!(one.at.len() >= 2 && one.at.len() < 900, "{}", one.at.len());
}
