//! `vllm.json`: the keys of `vllm bench serve --save-result`, for the tools that read that format.
//!
//! Each key has the meaning that it has there, also where ours differs under a like name: an event without text is a chunk
//! like any other ([`crate::stats::events`]), `itl` are gaps between chunks, the duration includes the drain, rates are of
//! whole requests over that duration, percentiles are interpolated (between values of three significant figures, for no
//! sample is kept), and the peak of tokens counts chunks. Seconds of peaks count from the start of the load. `latencies` (0 of a failure) and `queue_times` (sent − intended) have a value for each
//! request, but in the order of size; of more than 100,000 requests both keys are left out, which is told. A good request is one
//! that keeps its limits by events, too. Requests of the warm-up are not in it.
//!
//! `burstiness` is `"inf"` of equal gaps, as that tool's option has it, 1 of Poisson and of a closed loop, and null of a trace,
//! for which it has no word. `max_concurrency` is a bound at which requests wait: that of a closed loop. Requests over
//! `max_in_flight` are dropped, so of an open loop it is null. Nothing can fail; without a success all is 0.

use serde_json::{Value, json};

use crate::stats::{
    histogram::Distribution, observed::Observed, results::Results, summary::Window, tally::Tally,
};

/// How the backend of embeddings is called there; its files have keys of their own.
const EMBEDDINGS: &str = "openai-embeddings";

/// Requests whose times are listed, at the most.
const MOST_VALUES: u64 = 100_000;

/// The object, in the order of the original.
pub fn render(results: &Results, tally: &Tally, window: Window) -> Value {
    let counts = tally.counts();
    let observed = tally.observed();
    let end = tally.owned_end();
    let duration = end.map_or(0.0, |end| end.saturating_sub(window.start).as_secs_f64());
    let rate = |amount: f64| {
        if duration > 0.0 {
            amount / duration
        } else {
            0.0
        }
    };

    let completed = observed.latency.count();
    let input = observed.input.sum_of_counts();
    let output = observed.output.sum_of_counts();
    let is_judged = results.metrics.contains_key("goodput");
    let goodput = is_judged.then(|| rate(tally.good_by_event() as f64));
    let (most_chunks, most_requests) = tally.peaks();
    let load = &results.load;
    let model = results.target.model.clone().unwrap_or_default();
    let asked = load["requests_per_second"].as_f64();
    let asked = asked.or(results.generator.requested_rate);
    let backend = match results.workload["api"].as_str() {
        Some("completions") => "openai",
        Some("embeddings") => EMBEDDINGS,
        _ => "openai-chat",
    };
    let mut object = json!({
        "date": results.ended_at.strftime("%Y%m%d-%H%M%S").to_string(),
        "endpoint_type": backend,
        "backend": backend,
        "label": null,
        "model_id": model,
        "tokenizer_id": model,
        "num_prompts": counts.total,
        "request_rate": asked.map_or_else(|| json!("inf"), |rate| json!(rate)),
        "burstiness": burstiness(&load["arrival"]),
        "max_concurrency": load["concurrent_users"].as_u64(),
        "duration": duration,
        "completed": completed,
    });
    let failed = counts.total - completed;
    let rest = if backend == EMBEDDINGS {
        json!({
            "total_input_tokens": input,
            // one text a request
            "total_input_sequences": completed,
            "request_throughput": rate(completed as f64),
            "input_sequence_throughput": rate(completed as f64),
            "total_token_throughput": rate(input as f64),
            "latencies": null,
            "queue_times": null,
        })
    } else {
        json!({
            "failed": failed,
            "total_input_tokens": input,
            "total_output_tokens": output,
            "request_throughput": rate(completed as f64),
            "request_goodput": goodput,
            "output_throughput": rate(output as f64),
            "total_token_throughput": rate((input + output) as f64),
            "latencies": null,
            "queue_times": null,
            "max_output_tokens_per_s": most_chunks as f64,
            "max_concurrent_requests": most_requests,
            // of speech alone
            "rtfx": 0.0,
        })
    };
    merge(&mut object, rest);
    list(&mut object, tally);
    for (name, all) in latencies(observed) {
        if backend == EMBEDDINGS && name != "e2el" {
            continue;
        }
        let told = [
            ("mean", all.mean_ms()),
            ("median", all.linear_quantile_ms(0.5)),
            ("std", all.deviation_ms()),
            ("p99", all.linear_quantile_ms(0.99)),
        ];
        for (statistic, value) in told {
            object[format!("{statistic}_{name}_ms")] = json!(value);
        }
    }
    object
}

fn merge(object: &mut Value, rest: Value) {
    if let (Value::Object(object), Value::Object(rest)) = (object, rest) {
        object.extend(rest);
    }
}

/// How gaps vary, as that tool says it.
fn burstiness(arrival: &Value) -> Value {
    if let Some(shape) = arrival["gamma"]["burstiness"].as_f64() {
        return json!(shape);
    }
    let is_even = *arrival == "constant" || arrival["ramp"]["gaps"] == "constant";
    if is_even {
        json!("inf")
    } else if arrival.get("trace").is_some() {
        Value::Null
    } else {
        json!(1.0)
    }
}

/// Puts the times of each request in their places. There are none of too many requests for a file that is read whole: an
/// empty list would say that there was no request.
fn list(object: &mut Value, tally: &Tally) {
    let requests = tally.counts().total;
    if requests > MOST_VALUES {
        if let Value::Object(object) = object {
            for key in ["latencies", "queue_times"] {
                object.shift_remove(key);
            }
        }
        tracing::info!(
            requests,
            most = MOST_VALUES,
            "vllm.json has no latencies and queue_times of so many requests; samples.parquet has each"
        );
        return;
    }
    // a request that has no such time has 0 in its place, as there
    let padded = |all: &Distribution| {
        let mut times = values(all);
        let others = requests.saturating_sub(times.len() as u64);
        times.extend((0..others).map(|_| 0.0));
        json!(times)
    };
    object["latencies"] = padded(&tally.observed().by_event.latency);
    object["queue_times"] = padded(tally.all_lateness());
}

/// What was observed, in seconds, in the order of size: in which order requests had these times is not kept.
fn values(all: &Distribution) -> Vec<f64> {
    let mut values = Vec::new();
    for (ms, count) in all.each_ms() {
        values.extend((0..count).map(|_| ms / 1e3));
    }
    values
}

/// Observations by their short name, as they are there: by every event of a stream.
fn latencies(observed: &Observed) -> [(&'static str, Distribution); 4] {
    let all = &observed.by_event;
    [
        ("ttft", all.ttft.clone()),
        ("tpot", all.tpot.clone()),
        ("itl", all.gaps(&observed.chunk_gaps)),
        ("e2el", all.latency.clone()),
    ]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::{
        load::sample::{Chunk, Outcome, Sample},
        recipe::Slo,
    };

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    const WINDOW: Window = Window {
        start: Duration::from_secs(1),
        end: Duration::from_secs(3),
    };

    fn sample(sent: u64, chunks: &[u64], tokens: u64) -> Sample {
        Sample {
            index: 0,
            turn: None,
            intended: ms(sent),
            sent: Some(ms(sent)),
            written: None,
            connect: None,
            looked_up: None,
            secured: None,
            first_byte: None,
            status: None,
            chunks: chunks.iter().map(|at| Chunk { at: ms(*at) }).collect(),
            end: ms(chunks.last().copied().unwrap_or(sent)),
            outcome: Outcome::Success,
            first_output: chunks.first().map(|at| ms(*at)),
            reasons: false,
            cached_tokens: None,
            reasoning_tokens: None,
            recall: None,
            engine: crate::load::sample::Times::default(),
            prompt_tokens: Some(10),
            output_tokens: Some(tokens),
            dropped: false,
            said: String::new(),
            silent: Vec::new(),
            counts: Vec::new(),
            live: 0,
            lay: Vec::new(),
        }
    }

    fn tally(samples: &[Sample]) -> Tally {
        judged(samples, &Slo::default())
    }

    fn judged(samples: &[Sample], slo: &Slo) -> Tally {
        let mut tally = Tally::new(WINDOW, slo);
        for sample in samples {
            tally.take(sample);
        }
        tally
    }

    fn results(load: &Value, metrics: &Value) -> Results {
        serde_json::from_value(json!({
            "total_requests": 0, "successes": 0, "errors": 0, "avg_latency_ms": 0.0, "min_latency_ms": 0.0,
            "max_latency_ms": 0.0, "throughput_req_per_sec": 0.0, "schema": 1, "name": "n", "service_name": "s",
            "completeness": "complete", "started_at": "2026-01-02T03:04:05Z", "ended_at": "2026-01-02T03:05:06Z",
            "duration_seconds": 2.0, "warmup_seconds": 1.0, "target": {"model": "m"}, "load": load, "workload": {},
            "errors_by_class": {}, "metrics": metrics, "validity": {"verdict": "valid", "reasons": []},
            "stimulus_sha256": ""
        }))
        .expect("results")
    }

    #[test]
    fn their_numbers_by_hand() {
        let mut failed = sample(1500, &[], 0);
        failed.outcome = Outcome::Timeout;
        let samples = [
            sample(500, &[1100], 1), // warm-up
            sample(1000, &[1100, 1150, 1300], 5),
            sample(2900, &[3100, 5000], 3),
            sample(1200, &[1400], 1),
            failed,
        ];
        let load = json!({"pattern": "open-loop", "requests_per_second": 2.5, "max_in_flight": 64});
        let goodput = json!({"goodput": {"unit": "requests/s", "avg": 1.0}});
        let slo = Slo {
            ttft_ms: Some(150.0),
            tpot_ms: Some(60.0),
            e2e_ms: None,
        };
        // of the three that ended well the first and no other is fast enough
        let told = render(&results(&load, &goodput), &judged(&samples, &slo), WINDOW);
        let expected = json!({
            "date": "20260102-030506", "endpoint_type": "openai-chat", "backend": "openai-chat", "label": null,
            "model_id": "m", "tokenizer_id": "m", "num_prompts": 4, "request_rate": 2.5, "burstiness": 1.0,
            "max_concurrency": null, "duration": 4.0, "completed": 3, "failed": 1,
            "total_input_tokens": 30, "total_output_tokens": 9, "request_throughput": 0.75,
            "request_goodput": 0.25, "output_throughput": 2.25, "total_token_throughput": 9.75,
            // from 1 s on: three chunks and one in the first second; two requests in it, one in the next ones
            "max_output_tokens_per_s": 4.0, "max_concurrent_requests": 2,
        });
        for (key, value) in expected.as_object().expect("object") {
            assert_eq!(&told[key], value, "{key}");
        }
        let close = |key: &str, value: f64| {
            let is = told[key].as_f64().expect("number");
            // percentiles have three significant figures
            assert!(
                (is - value).abs() < value * 1e-3,
                "{key}: {is}, not {value}"
            );
        };
        // ttft 100 200 200, e2el 300 2100 200, tpot 50 950, itl 50 150 1900
        close("mean_ttft_ms", 500.0 / 3.0);
        close("median_ttft_ms", 200.0);
        close("std_ttft_ms", 47.140_452_079);
        close("p99_ttft_ms", 200.0);
        close("mean_tpot_ms", 500.0);
        close("std_tpot_ms", 450.0);
        close("p99_tpot_ms", 941.0);
        close("mean_itl_ms", 700.0);
        close("p99_itl_ms", 1865.0);
        close("median_e2el_ms", 300.0);
        close("p99_e2el_ms", 2064.0);
    }

    fn keys(object: &Value) -> Vec<&String> {
        object.as_object().expect("an object").keys().collect()
    }

    /// `vllm bench serve --save-result --percentile-metrics ttft,tpot,itl,e2el` of vLLM 0.32.
    const THEIRS: [(&str, &str); 2] = [
        (
            "completions",
            include_str!("../../tests/data/vllm/serve.openai.json"),
        ),
        (
            "embeddings",
            include_str!("../../tests/data/vllm/serve.embeddings.json"),
        ),
    ];

    #[test]
    fn the_keys_are_those_of_a_file_that_the_tool_wrote() {
        let load = json!({"pattern": "closed-loop", "concurrent_users": 4});
        for (api, file) in THEIRS {
            let theirs: Value = serde_json::from_str(file).expect("JSON");
            let mut results = results(&load, &json!({}));
            results.workload = json!({"api": api});
            let samples = [
                sample(1000, &[1100, 1150], 2),
                sample(1100, &[1300, 1400], 2),
            ];
            let ours = render(&results, &tally(&samples), WINDOW);
            assert_eq!(keys(&ours), keys(&theirs), "{api}");
            for (key, theirs) in theirs.as_object().expect("an object") {
                // a whole number may be written as one, and the rest is of the same kind
                let kind = |value: &Value| match value {
                    Value::Null => "null",
                    Value::Number(_) => "number",
                    Value::String(_) => "text",
                    Value::Array(_) => "list",
                    Value::Bool(_) | Value::Object(_) => "other",
                };
                // their loop was open
                if key != "max_concurrency" {
                    assert_eq!(kind(&ours[key]), kind(theirs), "{api}: {key}");
                }
            }
        }
    }

    #[test]
    fn an_event_without_text_is_a_chunk_there() {
        let mut chat = sample(1000, &[1100, 1150], 3);
        // role, a token that makes no character yet, and the reason of the end
        chat.silent = [1090, 1120, 1160].map(ms).into();
        let results = results(&json!({"pattern": "closed-loop"}), &json!({}));
        let told = render(&results, &tally(&[chat.clone()]), WINDOW);
        let wanted = [
            ("mean_ttft_ms", 90.0),
            ("mean_e2el_ms", 160.0),
            ("mean_tpot_ms", 35.0),
            // 10 20 30 10
            ("mean_itl_ms", 17.5),
            ("max_output_tokens_per_s", 5.0),
        ];
        for (key, value) in wanted {
            let found = told[key].as_f64().expect("a number");
            assert!((found - value).abs() < 1e-9, "{key}: {found}");
        }
        // ours knows content alone
        let ours = tally(&[chat]).metrics(WINDOW);
        let mean = |name: &str| ours[name].avg.round().to_string();
        assert_eq!(mean("time_to_first_token"), "100");
        assert_eq!(mean("inter_chunk_latency"), "50");
        assert_eq!(mean("request_latency"), "150");
    }

    #[test]
    fn times_of_each_request_are_there_in_the_order_of_size() {
        let mut failed = sample(1500, &[], 0);
        (failed.outcome, failed.intended) = (Outcome::Timeout, ms(1480));
        let samples = [sample(1000, &[1300], 1), failed, sample(1200, &[1400], 1)];
        let load = json!({"pattern": "open-loop", "requests_per_second": 2.5});
        let told = render(&results(&load, &json!({})), &tally(&samples), WINDOW);
        let list = |key: &str| {
            let list = told[key].as_array().expect("a list").iter();
            list.map(|value| (value.as_f64().expect("a number") * 1e3).round())
                .collect::<Vec<_>>()
        };
        assert_eq!(list("latencies"), [200.0, 300.0, 0.0]);
        assert_eq!(list("queue_times"), [0.0, 0.0, 20.0]);
    }

    #[test]
    fn of_too_many_requests_there_is_no_list_and_of_all_others_a_whole_one() {
        let results = results(&json!({"pattern": "closed-loop"}), &json!({}));
        let mut all = tally(&[]);
        for micros in 0..MOST_VALUES {
            let mut one = sample(1000, &[], 0);
            one.end = ms(1000) + Duration::from_micros(micros);
            all.take(&one);
        }
        let told = render(&results, &all, WINDOW);
        let list = told["latencies"].as_array().expect("a list");
        assert_eq!(list.len() as u64, MOST_VALUES);
        assert_eq!(
            told["queue_times"].as_array().map(Vec::len),
            Some(list.len())
        );
        let sum: f64 = list.iter().filter_map(Value::as_f64).sum();
        let mean = sum / MOST_VALUES as f64;
        assert!((mean - 0.05).abs() < 0.0001, "{mean}");

        all.take(&sample(1000, &[1100], 1));
        let told = render(&results, &all, WINDOW);
        for key in ["latencies", "queue_times"] {
            assert_eq!(told.get(key), None, "{key}");
        }
        assert_eq!(told["completed"], MOST_VALUES + 1);
    }

    #[test]
    fn arrivals_are_told_by_the_words_of_that_tool() {
        for (arrival, wanted) in [
            (json!("constant"), json!("inf")),
            (json!("poisson"), json!(1.0)),
            (json!({"gamma": {"burstiness": 0.5}}), json!(0.5)),
            (
                json!({"ramp": {"from": 1.0, "to": 2.0, "gaps": "constant"}}),
                json!("inf"),
            ),
            (
                json!({"ramp": {"from": 1.0, "to": 2.0, "gaps": "poisson"}}),
                json!(1.0),
            ),
            (json!({"trace": {"file": "t.jsonl"}}), Value::Null),
        ] {
            let load = json!({"pattern": "open-loop", "arrival": arrival, "max_in_flight": 8});
            let told = render(&results(&load, &json!({})), &tally(&[]), WINDOW);
            assert_eq!(told["burstiness"], wanted, "{load}");
            assert_eq!(
                told["max_concurrency"],
                Value::Null,
                "what is over is dropped"
            );
        }
    }

    #[test]
    fn a_good_request_is_one_by_events_there() {
        // its role comes in time, its first token does not
        let mut chat = sample(1000, &[1100, 1150], 2);
        chat.silent = vec![ms(1020)];
        let slo = |ttft: f64, tpot: Option<f64>| Slo {
            ttft_ms: Some(ttft),
            tpot_ms: tpot,
            e2e_ms: None,
        };
        let goodput = json!({"goodput": {"unit": "requests/s", "avg": 0.0}});
        let good = |slo: &Slo| {
            let told = judged(&[chat.clone()], slo);
            let told = render(&results(&json!({}), &goodput), &told, WINDOW);
            told["request_goodput"].as_f64().expect("a number") > 0.0
        };
        assert!(good(&slo(50.0, None)));
        assert!(!good(&slo(10.0, None)));
        // from the role on the token after the first took 130 ms
        assert!(good(&slo(50.0, Some(130.0))));
        assert!(!good(&slo(50.0, Some(100.0))));
    }

    #[test]
    fn embeddings_have_keys_of_their_own() {
        let load = json!({"pattern": "closed-loop", "concurrent_users": 3});
        let mut results = results(&load, &json!({}));
        results.workload = json!({"api": "embeddings"});
        let told = render(&results, &tally(&[sample(1000, &[1100], 0)]), WINDOW);
        assert_eq!(told["total_input_sequences"], 1);
        for key in ["failed", "total_output_tokens", "mean_ttft_ms"] {
            assert_eq!(told.get(key), None, "{key}");
        }
    }

    #[test]
    fn a_closed_loop_without_an_answer() {
        let load = json!({"pattern": "closed-loop", "concurrent_users": 3});
        let told = render(&results(&load, &json!({})), &tally(&[]), WINDOW);
        assert_eq!(told["request_rate"], "inf");
        assert_eq!(told["max_concurrency"], 3);
        assert_eq!(told["request_goodput"], Value::Null);
        assert_eq!(told["mean_ttft_ms"], 0.0);
        assert_eq!(told["request_throughput"], 0.0);
    }
}
