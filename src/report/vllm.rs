//! `vllm.json`: the keys of `vllm bench serve --save-result`, for the tools that read that format.
//!
//! Each key has the meaning that it has there, also where ours differs under a like name: `itl` are gaps between chunks,
//! the duration includes the drain, rates are of whole requests over that duration, percentiles are interpolated, and the
//! peak of tokens counts chunks. Requests of the warm-up are not in it. Nothing can fail; without a success all is 0.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    load::sample::Sample,
    stats::{results::Results, summary::Window},
};

/// The object, in the order of the original.
pub fn render(results: &Results, samples: &[Sample], window: Window) -> Value {
    let requests: Vec<&Sample> = samples
        .iter()
        .filter(|sample| window.owns(sample.intended))
        .collect();
    let answered: Vec<(&Sample, Duration)> = requests
        .iter()
        .filter(|sample| sample.is_success())
        .filter_map(|sample| Some((*sample, sample.sent?)))
        .collect();
    let end = requests.iter().map(|sample| sample.end).max();
    let duration = end.map_or(0.0, |end| end.saturating_sub(window.start).as_secs_f64());
    let rate = |amount: f64| {
        if duration > 0.0 {
            amount / duration
        } else {
            0.0
        }
    };

    let completed = answered.len();
    let input: u64 = answered.iter().filter_map(|(s, _)| s.prompt_tokens).sum();
    let output: u64 = answered.iter().map(|(sample, _)| sample.tokens()).sum();
    // the same requests are good there; only the time that they are divided by differs
    let goodput = results.metrics.get("goodput");
    let goodput = goodput.map(|goodput| rate((goodput.avg * window.seconds()).round()));
    let peaks = Peaks::of(&answered);
    let load = &results.load;
    let model = results.target.model.clone().unwrap_or_default();
    let asked = load["requests_per_second"].as_f64();
    let chat = results.workload["api"].as_str() != Some("completions");
    let backend = if chat { "openai-chat" } else { "openai" };
    let most = [&load["concurrent_users"], &load["max_in_flight"]];

    let mut object = json!({
        "date": results.ended_at.strftime("%Y%m%d-%H%M%S").to_string(),
        "endpoint_type": backend,
        "backend": backend,
        "label": null,
        "model_id": model,
        "tokenizer_id": model,
        "num_prompts": requests.len(),
        "request_rate": asked.map_or_else(|| json!("inf"), |rate| json!(rate)),
        "burstiness": 1.0,
        "max_concurrency": most.into_iter().find_map(Value::as_u64),
        "duration": duration,
        "completed": completed,
        "failed": requests.len() - completed,
        "total_input_tokens": input,
        "total_output_tokens": output,
        "request_throughput": rate(completed as f64),
        "request_goodput": goodput,
        "output_throughput": rate(output as f64),
        "total_token_throughput": rate((input + output) as f64),
        "max_output_tokens_per_s": peaks.chunks,
        "max_concurrent_requests": peaks.requests,
    });
    for (name, values) in latencies(&answered) {
        let told = describe(values);
        for (statistic, value) in ["mean", "median", "std", "p99"].into_iter().zip(told) {
            object[format!("{statistic}_{name}_ms")] = json!(value);
        }
    }
    object
}

/// Observations in ms, by their short name.
fn latencies(answered: &[(&Sample, Duration)]) -> [(&'static str, Vec<f64>); 4] {
    let (mut ttft, mut tpot, mut itl, mut e2el) = (vec![], vec![], vec![], vec![]);
    for &(sample, sent) in answered {
        let last = sample.last_token().unwrap_or(sample.end);
        let first = sample.first_token().unwrap_or(last);
        ttft.push(milliseconds(first, sent));
        e2el.push(milliseconds(last, sent));
        if sample.tokens() > 1 {
            tpot.push(milliseconds(last, first) / (sample.tokens() - 1) as f64);
        }
        let pairs = sample.chunks.windows(2);
        itl.extend(pairs.map(|pair| milliseconds(pair[1].at, pair[0].at)));
    }
    [("ttft", ttft), ("tpot", tpot), ("itl", itl), ("e2el", e2el)]
}

fn milliseconds(to: Duration, from: Duration) -> f64 {
    to.saturating_sub(from).as_nanos() as f64 / 1e6
}

/// Mean, median, deviation of the population, 99th percentile; 0 without values, as there.
fn describe(mut values: Vec<f64>) -> [f64; 4] {
    if values.is_empty() {
        return [0.0; 4];
    }
    values.sort_unstable_by(f64::total_cmp);
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let deviation = (squares / count).sqrt();
    [
        mean,
        percentile(&values, 50),
        deviation,
        percentile(&values, 99),
    ]
}

/// A percentile of sorted values, linear between neighbours.
fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let hundredths = (sorted.len() - 1) * percent;
    let (below, part) = (hundredths / 100, (hundredths % 100) as f64 / 100.0);
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * part
}

/// The fullest seconds, counted from the first request.
struct Peaks {
    chunks: f64,
    requests: u64,
}

impl Peaks {
    fn of(answered: &[(&Sample, Duration)]) -> Self {
        let start = answered.iter().map(|(_, sent)| *sent).min();
        let start = start.unwrap_or_default();
        let second = |at: Duration| {
            usize::try_from(at.saturating_sub(start).as_secs()).unwrap_or(usize::MAX - 2)
        };
        let ends = answered.iter().map(|(sample, _)| sample.last_token());
        let length = ends.flatten().map(second).max().map_or(0, |last| last + 1);
        let mut chunks = vec![0_u64; length];
        // a request is counted in every second that it touches
        let (mut came, mut left) = (vec![0_u64; length], vec![0_u64; length + 1]);
        for &(sample, sent) in answered {
            for chunk in &sample.chunks {
                chunks[second(chunk.at).min(length - 1)] += 1;
            }
            if let Some(last) = sample.last_token() {
                came[second(sent).min(length - 1)] += 1;
                left[second(last) + 1] += 1;
            }
        }
        let (mut now, mut requests) = (0_u64, 0);
        for (came, left) in came.into_iter().zip(left) {
            now = (now + came).saturating_sub(left);
            requests = requests.max(now);
        }
        Self {
            chunks: chunks.into_iter().max().unwrap_or(0) as f64,
            requests,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::load::sample::{Chunk, Outcome};

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
            intended: ms(sent),
            sent: Some(ms(sent)),
            connect: None,
            first_byte: None,
            chunks: chunks.iter().map(|at| Chunk { at: ms(*at) }).collect(),
            end: ms(chunks.last().copied().unwrap_or(sent)),
            outcome: Outcome::Success,
            prompt_tokens: Some(10),
            output_tokens: Some(tokens),
            dropped: false,
        }
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
        let told = render(&results(&load, &goodput), &samples, WINDOW);
        let expected = json!({
            "date": "20260102-030506", "endpoint_type": "openai-chat", "backend": "openai-chat", "label": null,
            "model_id": "m", "tokenizer_id": "m", "num_prompts": 4, "request_rate": 2.5, "burstiness": 1.0,
            "max_concurrency": 64, "duration": 4.0, "completed": 3, "failed": 1,
            "total_input_tokens": 30, "total_output_tokens": 9, "request_throughput": 0.75,
            "request_goodput": 0.5, "output_throughput": 2.25, "total_token_throughput": 9.75,
            // from 1 s on: three chunks and one in the first second; two requests in it, one in the next ones
            "max_output_tokens_per_s": 4.0, "max_concurrent_requests": 2,
        });
        for (key, value) in expected.as_object().expect("object") {
            assert_eq!(&told[key], value, "{key}");
        }
        let close = |key: &str, value: f64| {
            let is = told[key].as_f64().expect("number");
            assert!((is - value).abs() < 1e-6, "{key}: {is}, not {value}");
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

    #[test]
    fn a_closed_loop_without_an_answer() {
        let load = json!({"pattern": "closed-loop", "concurrent_users": 3});
        let told = render(&results(&load, &json!({})), &[], WINDOW);
        assert_eq!(told["request_rate"], "inf");
        assert_eq!(told["max_concurrency"], 3);
        assert_eq!(told["request_goodput"], Value::Null);
        assert_eq!(told["mean_ttft_ms"], 0.0);
        assert_eq!(told["request_throughput"], 0.0);
    }
}
