//! How numbers, times and names are written in every report: one form for page, text and terminal.
//!
//! Pure. Numbers keep about four significant digits and no grouping, so that they can be copied into a spreadsheet.

use std::{fmt::Write as _, path::Path, time::Duration};

use jiff::Timestamp;

use crate::{stats::results::Verdict, units};

/// What stands where a value is missing.
pub const NONE: &str = "–";

/// A number with about four significant digits; a dash where it is none.
pub fn number(value: f64) -> String {
    let size = value.abs();
    let digits = if !value.is_finite() {
        return NONE.to_owned();
    } else if size >= 1000.0 {
        0
    } else if size >= 100.0 {
        1
    } else if size >= 1.0 {
        2
    } else {
        4
    };
    let text = format!("{value:.digits$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// A difference, with its sign.
pub fn signed(value: f64) -> String {
    let text = number(value);
    if value > 0.0 && text != NONE {
        format!("+{text}")
    } else {
        text
    }
}

/// A number that may be missing.
pub fn optional(value: Option<f64>) -> String {
    value.map_or_else(|| NONE.to_owned(), number)
}

/// A number with its unit.
pub fn quantity(value: Option<f64>, unit: &str) -> String {
    match value.filter(|value| value.is_finite()) {
        Some(value) => format!("{} {unit}", number(value)),
        None => NONE.to_owned(),
    }
}

/// A stamp in UTC to the second: `2026-03-01 12:00:05 UTC`.
pub fn stamp(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// The time of day alone, to the tenth of a second: for steps of one run.
pub fn clock(at: Option<Timestamp>) -> String {
    at.map_or_else(
        || NONE.to_owned(),
        |at| at.strftime("%H:%M:%S%.1f").to_string(),
    )
}

/// Time between two stamps of one machine; a dash where one is missing or they run backwards.
pub fn between(from: Option<Timestamp>, to: Option<Timestamp>) -> String {
    let (Some(from), Some(to)) = (from, to) else {
        return NONE.to_owned();
    };
    Duration::try_from(to.duration_since(from))
        .map_or_else(|_| NONE.to_owned(), units::human_duration)
}

/// The name of a metric as people say it.
pub fn metric_name(name: &str) -> String {
    name.replace('_', " ")
        .replace(" scheduled", " (from the intended time)")
        .replace("slo ", "SLO ")
}

/// The verdict in a word.
pub const fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Valid => "valid",
        Verdict::Degraded => "degraded",
        Verdict::Invalid => "invalid",
    }
}

/// A JSON value as a cell of a table: text as it is, everything else compact.
pub fn value(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => plain(text),
        serde_json::Value::Null => NONE.to_owned(),
        serde_json::Value::Array(items) => {
            items.iter().map(self::value).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

/// Text of a stranger without what a terminal would act on: escape sequences and control characters.
pub fn plain(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        if character == '\u{1b}' {
            if characters.next_if_eq(&'[').is_some() {
                // a sequence ends with its first letter or @ … ~
                while characters.next().is_some_and(|c| !('@'..='~').contains(&c)) {}
            }
        } else if character == '\t' || character == '\n' || !character.is_control() {
            clean.push(character);
        }
    }
    clean
}

/// Text as HTML shows it, inside elements and inside attributes.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// How a load model reads: `closed loop, 3 users, 500 ms think time`.
pub fn load(load: &serde_json::Value) -> String {
    let mut text;
    match load["pattern"].as_str() {
        Some("closed-loop") => {
            text = format!("closed loop, {} users", value(&load["concurrent_users"]));
            let think = duration(&load["think_time"]).filter(|think| !think.is_zero());
            if let Some(think) = think {
                let _ = write!(text, ", {} think time", units::human_duration(think));
            }
            let drawn = ["exponential", "drawn"].map(|kind| load["think_time"].get(kind));
            if let Some(mean) = drawn[0].and_then(duration) {
                let _ = write!(
                    text,
                    ", exponential think time of mean {}",
                    units::human_duration(mean)
                );
            } else if let Some(serde_json::Value::Object(kinds)) = drawn[1] {
                let kind = kinds.keys().map(String::as_str).collect::<String>();
                let _ = write!(text, ", {kind} think time");
            }
            if let Some(requests) = load["requests_per_user"].as_u64() {
                let _ = write!(text, ", at most {requests} requests each");
            }
        }
        Some("open-loop") => {
            text = format!("open loop, {}", arrivals(load));
            if let Some(limit) = load["max_in_flight"].as_u64() {
                let _ = write!(text, ", at most {limit} in flight");
            }
        }
        _ => text = value(load),
    }
    text
}

/// How arrivals of an open loop read: `2.5 requests/s, poisson arrivals`.
fn arrivals(load: &serde_json::Value) -> String {
    let arrival = &load["arrival"];
    let number = |value: &serde_json::Value| optional(value.as_f64());
    if let Some(ramp) = arrival.get("ramp") {
        return format!(
            "{} to {} requests/s, {} arrivals",
            number(&ramp["from"]),
            number(&ramp["to"]),
            value(&ramp["gaps"])
        );
    }
    if let Some(trace) = arrival.get("trace") {
        return format!("the trace {}", value(&trace["file"]));
    }
    let rate = number(&load["requests_per_second"]);
    match arrival.get("gamma") {
        Some(gamma) => format!(
            "{rate} requests/s, gamma arrivals of burstiness {}",
            number(&gamma["burstiness"])
        ),
        None => format!("{rate} requests/s, {} arrivals", value(arrival)),
    }
}

/// What requests hold: `prompts of 64 tokens, at most 8 output tokens, seed 7`, or the file that it comes from.
pub fn workload(workload: &serde_json::Value) -> String {
    let file = workload.get("file").map_or_else(String::new, |file| {
        let (requests, sent) = (&file["requests"], &file["sent"]);
        format!("{requests} requests in the file, {sent} sent, ")
    });
    let seed = value(&workload["seed"]) + &conversation(&workload["conversation"]);
    if let Some(request) = workload.get("request") {
        let (method, path) = (value(&request["method"]), value(&request["path"]));
        return format!("{method} {path}, seed {seed}");
    }
    if let Some(vectors) = workload.get("vectors") {
        let of = |key: &str| value(&vectors[key]);
        let (count, dimension, k, metric) = (of("count"), of("dimension"), of("k"), of("metric"));
        return format!(
            "queries for {k} neighbours among {count} vectors of {dimension} numbers by {metric}, seed {seed}"
        );
    }
    if let Some(documents) = workload.get("documents") {
        let (count, words) = (&documents["count"], length(&documents["length"]));
        return format!(
            "queries of {} words, each with {count} documents of {words} words, seed {seed}",
            length(&workload["prompt_length"])
        );
    }
    let max_tokens = length(&workload["max_tokens"]);
    match (workload.get("dataset"), file.is_empty()) {
        (Some(dataset), _) if dataset.is_object() => {
            let (name, kind) = (value(&dataset["file"]), value(&dataset["type"]));
            format!("prompts of {name} ({kind}), {file}seed {seed}")
        }
        (_, false) => format!("lengths of the trace, {file}seed {seed}"),
        _ => {
            let prompt_length = length(&workload["prompt_length"]);
            if workload["api"] == "embeddings" {
                return format!("texts of {prompt_length} tokens, seed {seed}");
            }
            format!(
                "prompts of {prompt_length} tokens, at most {max_tokens} output tokens, seed {seed}"
            )
        }
    }
}

/// How requests follow from each other: `, in conversations of 5 turns`, or nothing.
fn conversation(conversation: &serde_json::Value) -> String {
    match (&conversation["turns"], conversation.is_object()) {
        (_, false) => String::new(),
        (serde_json::Value::Null, _) => {
            ", in conversations of as many turns as the file has".into()
        }
        (turns, _) => format!(", in conversations of {} turns", length(turns)),
    }
}

/// A length in tokens as plans hold it: `64`, `10 to 500 (uniform)`, `median 100 (lognormal, sigma 1, 1 to 400)`.
pub fn length(length: &serde_json::Value) -> String {
    let number = |value: &serde_json::Value| optional(value.as_f64());
    let range = |of: &serde_json::Value| format!("{} to {}", of["min"], of["max"]);
    if let Some(of) = length.get("uniform") {
        return format!("{} (uniform)", range(of));
    }
    if let Some(of) = length.get("normal") {
        let (mean, std) = (number(&of["mean"]), number(&of["std"]));
        return format!("mean {mean} (normal, std {std}, {})", range(of));
    }
    if let Some(of) = length.get("lognormal") {
        let (median, sigma) = (number(&of["median"]), number(&of["sigma"]));
        return format!("median {median} (lognormal, sigma {sigma}, {})", range(of));
    }
    value(length)
}

/// A duration as plans hold it (`{secs, nanos}`).
pub fn duration(value: &serde_json::Value) -> Option<Duration> {
    let nanos = u32::try_from(value["nanos"].as_u64().unwrap_or(0)).ok()?;
    Some(Duration::from_secs(value["secs"].as_u64()?) + Duration::from_nanos(u64::from(nanos)))
}

/// The link from a page in `folder` to a file: relative, so that the folders can be moved together.
pub fn href(folder: &Path, target: &Path) -> String {
    let from: Vec<_> = folder.components().collect();
    let to: Vec<_> = target.components().collect();
    let same = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = std::iter::repeat_n("..".to_owned(), from.len() - same);
    let down = to[same..]
        .iter()
        .map(|part| encode(&part.as_os_str().to_string_lossy()));
    up.chain(down).collect::<Vec<_>>().join("/")
}

fn encode(name: &str) -> String {
    let mut text = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~@+=,".contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_keep_what_matters() {
        let cases = [
            (0.0, "0"),
            (0.012_345, "0.0123"),
            (3.0, "3"),
            (3.21987, "3.22"),
            (31.25, "31.25"),
            (310.26, "310.3"),
            (1234.56, "1235"),
            (1_234_567.0, "1234567"),
            (-2.5, "-2.5"),
            (f64::NAN, "–"),
            (f64::INFINITY, "–"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn loads_read_as_sentences() {
        let closed = json!({"pattern": "closed-loop", "concurrent_users": 3,
            "think_time": {"secs": 0, "nanos": 500_000_000}, "requests_per_user": 100});
        assert_eq!(
            load(&closed),
            "closed loop, 3 users, 500 ms think time, at most 100 requests each"
        );
        let thinking = |think: serde_json::Value| {
            load(&json!({"pattern": "closed-loop", "concurrent_users": 3, "think_time": think}))
        };
        assert_eq!(
            thinking(json!({"exponential": {"secs": 2, "nanos": 0}})),
            "closed loop, 3 users, exponential think time of mean 2.0 s"
        );
        assert_eq!(
            thinking(json!({"drawn": {"uniform": {"min": 1, "max": 5}}})),
            "closed loop, 3 users, uniform think time"
        );
        let open = json!({"pattern": "open-loop", "requests_per_second": 2.5, "arrival": "poisson", "max_in_flight": null});
        assert_eq!(load(&open), "open loop, 2.5 requests/s, poisson arrivals");
        let file = json!({"requests": 5, "sent": 9, "sha256": "x"});
        assert_eq!(
            workload(
                &json!({"dataset": {"type": "jsonl", "file": "p.jsonl"}, "seed": 3, "file": file})
            ),
            "prompts of p.jsonl (jsonl), 5 requests in the file, 9 sent, seed 3"
        );
        assert_eq!(
            workload(&json!({"dataset": null, "seed": 3, "file": file})),
            "lengths of the trace, 5 requests in the file, 9 sent, seed 3"
        );
        assert_eq!(length(&json!(64)), "64");
        let talks = json!({"prompt_length": 64, "max_tokens": 8, "seed": 3, "conversation": {"turns": {"uniform": {"min": 2, "max": 8}}}});
        assert_eq!(
            workload(&talks),
            "prompts of 64 tokens, at most 8 output tokens, seed 3, in conversations of 2 to 8 (uniform) turns"
        );
        assert_eq!(
            length(&json!({"lognormal": {"median": 100.0, "sigma": 0.5, "min": 1, "max": 400}})),
            "median 100 (lognormal, sigma 0.5, 1 to 400)"
        );
        let gamma = json!({"pattern": "open-loop", "requests_per_second": 2.5, "arrival": {"gamma": {"burstiness": 0.5}}});
        assert_eq!(
            load(&gamma),
            "open loop, 2.5 requests/s, gamma arrivals of burstiness 0.5"
        );
        let ramp = json!({"pattern": "open-loop", "requests_per_second": null, "arrival": {"ramp": {"from": 1.0, "to": 20.0, "gaps": "constant"}}});
        assert_eq!(
            load(&ramp),
            "open loop, 1 to 20 requests/s, constant arrivals"
        );
        assert_eq!(load(&json!({"pattern": "new"})), r#"{"pattern":"new"}"#);
    }

    #[test]
    fn links_are_relative_and_survive_any_name() {
        let page = Path::new("/r/a");
        assert_eq!(href(page, Path::new("/r/a/logs/x.log")), "logs/x.log");
        assert_eq!(href(page, Path::new("/r/b/bench")), "../b/bench");
        assert_eq!(
            href(page, Path::new("/r/a/a b#c?\"d%")),
            "a%20b%23c%3F%22d%25"
        );
        assert_eq!(href(page, Path::new("/r/a/javascript:x")), "javascript%3Ax");
    }

    #[test]
    fn logs_cannot_act_on_a_terminal() {
        assert_eq!(plain("\u{1b}[31mred\u{1b}[0m\u{7}\tx\r"), "red\tx");
    }
}
