//! Ollama's streams, in pieces: whatever way they come, the sample is the same.

use super::*;

/// An answer of Ollama, in chunks as its server writes them: a line each.
fn streamed(lines: &[&str]) -> Vec<u8> {
    let mut bytes = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for line in lines {
        bytes.extend(format!("{:x}\r\n{line}\n\r\n", line.len() + 1).into_bytes());
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

/// What is made of it when it comes in two reads.
fn read(api: Api, bytes: &[u8], cut: usize) -> Sample {
    let mut sample = Sample::planned(0, Duration::ZERO);
    let mut memory = Memory::default();
    let mut answer = Answer::new(api, &mut sample);
    let mut outcome = None;
    for (piece, at) in [(&bytes[..cut], 1), (&bytes[cut..], 2)] {
        if piece.is_empty() {
            continue;
        }
        answer.take(&mut memory, piece, Duration::from_millis(at), None);
        outcome = outcome.or_else(|| answer.outcome(&memory));
    }
    let outcome = outcome.unwrap_or_else(|| answer.closed(&mut memory, None));
    sample.outcome = outcome;
    sample
}

const LAST: &str = r#"{"model":"m","created_at":"t","done":true,"done_reason":"length","total_duration":9000000,"load_duration":1000000,"prompt_eval_count":26,"prompt_eval_duration":2000000,"eval_count":2,"eval_duration":6000000}"#;

#[test]
fn ollamas_answers_are_the_same_wherever_they_are_cut() {
    let ms = |milliseconds| Some(Duration::from_millis(milliseconds));
    let table = [
        (
            Api::OllamaGenerate,
            [
                r#"{"model":"m","created_at":"t","response":"é","done":false}"#,
                r#"{"model":"m","created_at":"t","response":" so","done":false}"#,
            ],
        ),
        (
            Api::OllamaChat,
            [
                r#"{"message":{"role":"assistant","content":"é"},"done":false}"#,
                r#"{"message":{"role":"assistant","content":" so"},"done":false}"#,
            ],
        ),
    ];
    for (api, [one, two]) in table {
        let bytes = streamed(&[one, two, LAST]);
        for cut in 0..=bytes.len() {
            let sample = read(api, &bytes, cut);
            assert_eq!(sample.outcome, Outcome::Success, "{api:?} {cut}");
            assert_eq!(sample.chunks.len(), 2, "{api:?} {cut}");
            assert_eq!(
                (sample.prompt_tokens, sample.output_tokens),
                (Some(26), Some(2)),
                "{api:?} {cut}"
            );
            let times = Times {
                load: ms(1),
                prompt: ms(2),
                decode: ms(6),
                total: ms(9),
            };
            assert_eq!(sample.engine, times, "{api:?} {cut}");
        }
    }
}

#[test]
fn an_error_within_ollamas_stream_fails_it_wherever_it_is_cut() {
    let one = r#"{"model":"m","created_at":"t","response":" so","done":false}"#;
    let bytes = streamed(&[one, r#"{"error":"the runner has gone"}"#]);
    for cut in 0..=bytes.len() {
        let sample = read(Api::OllamaGenerate, &bytes, cut);
        let wanted = Outcome::Error("stream_error".to_owned(), "the runner has gone".to_owned());
        assert_eq!(sample.outcome, wanted, "{cut}");
        assert_eq!(sample.chunks.len(), 1, "{cut}");
    }
    // without its last line it is no answer, however well HTTP says that it ended
    let sample = read(Api::OllamaGenerate, &streamed(&[one]), 0);
    let wanted = Outcome::Error(
        "broken_stream".to_owned(),
        "the stream ended without done".to_owned(),
    );
    assert_eq!(sample.outcome, wanted);
}
