//! What real engines answered to requests that they refuse, and streams that are not the usual: the outcome, the status
//! and the words are the same wherever the bytes are cut.

use super::*;

/// What an engine sent, up to the note of the end.
fn recorded(name: &str) -> Vec<u8> {
    let file = format!("{}/tests/data/sse/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(file).expect("a captured answer");
    let find = |what: &[u8]| bytes.windows(what.len()).position(|part| part == what);
    let start = find(b"HTTP/1.1").expect("a status line");
    let end = find(b"\n# rc=").or_else(|| find(b"\n# curl rc "));
    bytes[start..end.expect("a note of the end")].to_vec()
}

/// Asks once for each way to cut the answer in two, at every so many bytes, and for all pieces of so many bytes.
async fn each_way(bytes: &[u8], stride: usize, closes: bool) -> Vec<Sample> {
    let mut ways = vec![bytes.chunks(stride).map(<[u8]>::to_vec).collect::<Vec<_>>()];
    let cuts = (1..bytes.len()).step_by(stride);
    ways.extend(cuts.map(|at| vec![bytes[..at].to_vec(), bytes[at..].to_vec()]));
    let mut samples = Vec::new();
    for pieces in ways {
        let reply = if closes {
            Reply::BytesAndClose(pieces)
        } else {
            Reply::Bytes(pieces)
        };
        samples.push(Server::new([reply]).ask(Api::Chat).await);
    }
    samples
}

const REFUSED: [(&str, u16, &str); 20] = [
    ("llama.err_404", 404, "File Not Found"),
    ("llama.err_405", 404, "File Not Found"),
    (
        "llama.err_badjson",
        400,
        "[json.exception.parse_error.101] parse error at line 1, column 37: syntax error while parsing value - unexpected end of input; expected '[', '{', or a literal",
    ),
    (
        "llama.err_badtype",
        400,
        "Field 'max_tokens': [json.exception.type_error.302] type must be number, but is string",
    ),
    (
        "llama.err_neg_maxtok",
        400,
        "Field 'max_tokens': Value must be between -1 <= value <= 2147483647, but got -5",
    ),
    (
        "llama.err_noct",
        400,
        "[json.exception.parse_error.101] parse error at line 1, column 1: syntax error while parsing value - invalid literal; last read: 'h'",
    ),
    ("llama.err_nomessages", 400, "'messages' is required"),
    (
        "llama.err_overlong_chat",
        400,
        "request (12031 tokens) exceeds the available context size (2048 tokens), try increasing it",
    ),
    (
        "llama.err_overlong_stream",
        400,
        "request (12001 tokens) exceeds the available context size (2048 tokens), try increasing it",
    ),
    ("vllm.err_404", 404, "Not Found"),
    ("vllm.err_405", 405, "Method Not Allowed"),
    (
        "vllm.err_badjson",
        400,
        "1 validation error: {'type': 'json_invalid', 'loc': 'body.34', 'msg': 'JSON decode error', 'input': '<dict of 0 items>', 'ctx': {'error': 'Expecting value'}}",
    ),
    (
        "vllm.err_badmodel",
        404,
        "The model `nope` does not exist. Valid aliases: tiny-llama.",
    ),
    (
        "vllm.err_badtype",
        400,
        "1 validation error: {'type': 'int_parsing', 'loc': 'body.max_tokens', 'msg': 'Input should be a valid integer, unable to parse string as an integer', 'input': 'x'}",
    ),
    (
        "vllm.err_maxtok_toolong",
        400,
        "max_tokens=100000 cannot be greater than max_model_len=2048. Please request fewer output tokens. (parameter=max_tokens, value=100000)",
    ),
    (
        "vllm.err_neg_maxtok",
        400,
        "max_tokens must be at least 1, got -5. (parameter=max_tokens, value=-5)",
    ),
    (
        "vllm.err_noct",
        400,
        "1 validation error: Unsupported Media Type: Only 'application/json' is allowed",
    ),
    (
        "vllm.err_nomessages",
        400,
        "1 validation error: {'type': 'missing', 'loc': 'body.messages', 'msg': 'Field required', 'input': '<dict of 1 items>'}",
    ),
    (
        "vllm.err_overlong_chat",
        400,
        "This model's maximum context length is 2048 tokens. However, your prompt contains 72050 characters (more than 59392 characters, which is the upper bound for 2048 input tokens). Please reduce the length of the input prompt. (parameter=input_text, value=72050)",
    ),
    (
        "vllm.err_overlong_stream",
        400,
        "This model's maximum context length is 2048 tokens. However, your prompt contains 72000 characters (more than 59392 characters, which is the upper bound for 2048 input tokens). Please reduce the length of the input prompt. (parameter=input_text, value=72000)",
    ),
];

#[tokio::test(start_paused = true)]
async fn what_engines_refuse_is_told_in_their_words() {
    for (name, status, message) in REFUSED {
        for sample in each_way(&recorded(name), 1, false).await {
            let wanted = error(&format!("http_{status}"), message);
            assert_eq!(sample.outcome, wanted, "{name}");
            assert_eq!(sample.status, Some(status), "{name}");
            assert!(sample.chunks.is_empty(), "{name}");
        }
    }
}

/// A capture: its chunks, whether it breaks off, its output tokens, and those of each chunk.
type Unusual = (&'static str, usize, bool, Option<u64>, &'static [u32]);

#[tokio::test(start_paused = true)]
async fn unusual_streams_of_engines() {
    let broken = |sample: &Sample| sample.outcome.class() == Some("broken_stream");
    // two answers in one stream; usage in each event; an engine that was told to end, and a client that waited
    let table: [Unusual; 5] = [
        ("llama.n2_stream", 4, false, None, &[]),
        ("vllm.n2_stream", 3, false, None, &[]),
        ("llama.chat_stream_contusage", 4, false, Some(4), &[]),
        // the first token made no text, and is told by an event of its own
        ("vllm.chat_stream_contusage", 3, false, Some(4), &[2, 1, 1]),
        ("vllm.stream_at_sigterm_3", 39, true, None, &[]),
    ];
    for (name, chunks, is_broken, output, counts) in table {
        let stride = if is_broken { 61 } else { 3 };
        for sample in each_way(&recorded(name), stride, is_broken).await {
            assert_eq!(broken(&sample), is_broken, "{name}: {:?}", sample.outcome);
            assert_eq!(
                sample.is_success(),
                !is_broken,
                "{name}: {:?}",
                sample.outcome
            );
            assert_eq!(sample.chunks.len(), chunks, "{name}");
            assert_eq!(sample.output_tokens, output, "{name}");
            assert_eq!(sample.counts(), counts, "{name}");
            let wanted = output.filter(|_| !counts.is_empty());
            assert_eq!(sample.live, wanted.unwrap_or(chunks as u64), "{name}");
            assert_eq!(sample.status, Some(200), "{name}");
        }
    }
}
