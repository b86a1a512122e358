//! `profile_export_aiperf.json`: the blocks of metrics that `AIPerf` writes (schema 1.4), for the tools that read that format.
//!
//! Each block has the meaning that it has there, counted from the samples: `inter_token_latency` is a mean of each request
//! and not our pooled gaps, rates are divided by the time from the first request to the last answer, percentiles are
//! interpolated (between values of three significant figures). Lengths are those that the server counts, as there with
//! `--use-server-token-count`; where it counts none, every block that needs them is left out. Left out is also what would
//! have another meaning: the phases of HTTP (there, the answer begins with its body) and what only `AIPerf` has. Requests of
//! the warm-up are not in it. What can fail: samples that cannot be read.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Map, Value, json};

use super::recount::Recount;
use crate::{
    load::sample::{Outcome, Sample},
    samples::Error,
    stats::{
        histogram::Distribution,
        results::{Completeness, Results},
        summary::{last, meets},
    },
};

/// The version of the format.
const SCHEMA: &str = "1.4";
/// Kinds of errors that are told apart at the most.
const ERRORS: usize = 100;

/// Percentiles by their names.
const PERCENTILES: [(&str, f64); 9] = [
    ("p1", 0.01),
    ("p5", 0.05),
    ("p10", 0.1),
    ("p25", 0.25),
    ("p50", 0.5),
    ("p75", 0.75),
    ("p90", 0.9),
    ("p95", 0.95),
    ("p99", 0.99),
];

/// The object.
///
/// # Errors
/// The samples cannot be read.
pub fn render(recount: &Recount) -> Result<Value, Error> {
    let slo = recount.frame.slo;
    let has_slo = slo.ttft_ms.is_some() || slo.tpot_ms.is_some() || slo.e2e_ms.is_some();
    let mut profile = Profile {
        streams: recount.results.workload["stream"] == true,
        ..Profile::default()
    };
    recount.each(|request| {
        profile.take(&request.sample);
        profile.good += u64::from(request.sample.is_success() && meets(&request.sample, &slo));
    })?;
    Ok(profile.object(&recount.results, has_slo))
}

/// What is counted of the window.
#[derive(Default)]
struct Profile {
    streams: bool,
    completed: u64,
    failed: u64,
    good: u64,
    /// Answers without a token count.
    uncounted: u64,
    errors: BTreeMap<(String, String, Option<u16>), u64>,
    first: Option<Duration>,
    end: Duration,
    latency: Distribution,
    ttft: Distribution,
    ttst: Distribution,
    ttfo: Distribution,
    itl: Distribution,
    icl: Distribution,
    /// Tokens per second and user.
    speed: Distribution,
    /// The same over the whole latency.
    whole_speed: Distribution,
    input: Distribution,
    output: Distribution,
    reasoning: Distribution,
    /// Output without reasoning, where that is told.
    spoken: Distribution,
}

impl Profile {
    fn take(&mut self, sample: &Sample) {
        let (Some(sent), Outcome::Success) = (sample.began(), &sample.outcome) else {
            self.fail(sample);
            return;
        };
        self.completed += 1;
        self.first = Some(self.first.map_or(sent, |first| first.min(sent)));
        self.end = self.end.max(sample.end);
        let latency = last(sample).saturating_sub(sent);
        self.latency.record(latency);
        let ttft = sample.first_token().map(|at| at.saturating_sub(sent));
        if let Some(ttft) = ttft {
            self.ttft.record(ttft);
        }
        if let Some(at) = sample.first_output {
            self.ttfo.record(at.saturating_sub(sent));
        }
        for (place, pair) in sample.chunks.windows(2).enumerate() {
            let gap = pair[1].at.saturating_sub(pair[0].at);
            self.icl.record(gap);
            if place == 0 {
                self.ttst.record(gap);
            }
        }
        if let Some(tokens) = sample.prompt_tokens {
            self.input.record_count(tokens);
        }
        let Some(tokens) = sample.output_tokens else {
            self.uncounted += 1;
            return;
        };
        self.output.record_count(tokens);
        if let Some(reasoning) = sample.reasoning_tokens {
            self.reasoning.record_count(reasoning);
            self.spoken.record_count(tokens.saturating_sub(reasoning));
        }
        if let Ok(parts @ 1..) = u32::try_from(tokens) {
            if !latency.is_zero() {
                let seconds = latency.as_secs_f64();
                self.whole_speed.record_rate(f64::from(parts) / seconds);
            }
            let after = ttft.map(|ttft| latency.saturating_sub(ttft));
            if let Some(itl) = after.and_then(|after| after.checked_div(parts - 1)) {
                self.itl.record(itl);
                if !itl.is_zero() {
                    self.speed.record_rate(itl.as_secs_f64().recip());
                }
            }
        }
    }

    fn fail(&mut self, sample: &Sample) {
        self.failed += 1;
        let class = sample.outcome.class().unwrap_or("error").to_owned();
        let message = match &sample.outcome {
            Outcome::Error(_, message) => message.clone(),
            _ => String::new(),
        };
        let kind = (class, message, sample.status);
        if self.errors.len() < ERRORS || self.errors.contains_key(&kind) {
            *self.errors.entry(kind).or_default() += 1;
        }
    }

    fn object(&self, results: &Results, has_slo: bool) -> Value {
        let mut object = Map::new();
        let mut add = |name: &str, value: Option<Value>| {
            object.extend(value.map(|value| (name.to_owned(), value)));
        };
        add("schema_version", Some(json!(SCHEMA)));
        add("benchmark_id", results.run.as_ref().map(|run| json!(run)));
        let seed = &results.workload["seed"];
        add(
            "run_info",
            seed.is_number()
                .then(|| json!({"benchmark_id": results.run, "random_seed": seed})),
        );
        let seconds = self.end.saturating_sub(self.first.unwrap_or(self.end));
        let seconds = Some(seconds.as_secs_f64()).filter(|seconds| *seconds > 0.0);
        let scalar = |unit: &str, avg: f64| json!({"unit": unit, "avg": avg});
        let rate = |unit: &str, amount: u64| Some(scalar(unit, amount as f64 / seconds?));
        let counted = self.uncounted == 0 && self.completed > 0;
        let (input, output) = (self.input.sum_of_counts(), self.output.sum_of_counts());
        let all_told = counted && self.input.count() == self.completed;

        add("request_throughput", rate("requests/sec", self.completed));
        add("request_latency", times(&self.latency));
        add(
            "request_count",
            Some(scalar("requests", self.completed as f64)),
        );
        if self.streams {
            add("time_to_first_token", times(&self.ttft));
            add("time_to_second_token", times(&self.ttst));
            add("time_to_first_output_token", times(&self.ttfo));
            add("inter_chunk_latency", times(&self.icl));
        }
        if self.streams && counted {
            add("inter_token_latency", times(&self.itl));
            add(
                "output_token_throughput_per_user",
                rates(&self.speed, "tokens/sec/user"),
            );
        }
        if counted {
            add("output_token_throughput", rate("tokens/sec", output));
            add(
                "e2e_output_token_throughput",
                rates(&self.whole_speed, "tokens/sec/user"),
            );
            add("output_sequence_length", counts(&self.output));
            add("total_osl", Some(scalar("tokens", output as f64)));
        }
        if counted && self.reasoning.count() == self.completed {
            add("output_token_count", counts(&self.spoken));
            add("reasoning_token_count", counts(&self.reasoning));
        }
        if self.input.count() == self.completed {
            add("input_sequence_length", counts(&self.input));
            add("total_isl", Some(scalar("tokens", input as f64)));
        }
        if all_told {
            add("total_token_throughput", rate("tokens/sec", input + output));
        }
        if has_slo {
            let all = (self.completed + self.failed).max(1) as f64;
            add("goodput", rate("requests/sec", self.good));
            add(
                "good_request_count",
                Some(scalar("requests", self.good as f64)),
            );
            add(
                "good_request_fraction",
                Some(scalar("ratio", self.good as f64 / all)),
            );
        }
        add(
            "error_request_count",
            (self.failed > 0).then(|| scalar("requests", self.failed as f64)),
        );
        add(
            "benchmark_duration",
            seconds.map(|seconds| scalar("sec", seconds)),
        );
        let is_complete = results.completeness == Completeness::Complete;
        add("is_complete", Some(json!(is_complete)));
        add("was_cancelled", Some(json!(!is_complete)));
        add("start_time", Some(json!(results.started_at)));
        add("end_time", Some(json!(results.ended_at)));
        let errors = self.errors.iter().map(|((class, message, status), count)| {
            let mut details = json!({"type": class, "message": message});
            if let Some(status) = status {
                details["code"] = json!(status);
            }
            json!({"error_details": details, "count": count})
        });
        add("error_summary", Some(errors.collect()));
        Value::Object(object)
    }
}

fn times(all: &Distribution) -> Option<Value> {
    block(all, "ms", 1.0)
}

fn rates(all: &Distribution, unit: &str) -> Option<Value> {
    block(all, unit, 1.0)
}

fn counts(all: &Distribution) -> Option<Value> {
    // a distribution holds thousandths: a millisecond has as many of them as a thousand
    block(all, "tokens", 1e3)
}

fn block(all: &Distribution, unit: &str, scale: f64) -> Option<Value> {
    if all.count() == 0 {
        return None;
    }
    let average = all.mean_ms() * scale;
    let mut block = json!({"unit": unit, "avg": average});
    for (name, quantile) in PERCENTILES {
        block[name] = json!(all.linear_quantile_ms(quantile) * scale);
    }
    block["min"] = json!(all.min_ms() * scale);
    block["max"] = json!(all.max_ms() * scale);
    block["std"] = json!(all.deviation_ms() * scale);
    block["count"] = json!(all.count());
    block["sum"] = json!(average * all.count() as f64);
    Some(block)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{load::sample::Chunk, stats::frame::Frame};

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn sample(sent: u64, chunks: &[u64], tokens: Option<u64>) -> Sample {
        let sent = ms(sent);
        Sample {
            sent: Some(sent),
            chunks: chunks.iter().map(|at| Chunk { at: ms(*at) }).collect(),
            first_output: chunks.first().map(|at| ms(*at)),
            end: ms(chunks.last().copied().unwrap_or(0) + 10),
            outcome: Outcome::Success,
            prompt_tokens: Some(10),
            output_tokens: tokens,
            ..Sample::planned(0, sent)
        }
    }

    fn object(samples: &[Sample]) -> Value {
        let mut profile = Profile {
            streams: true,
            good: 1,
            ..Profile::default()
        };
        for sample in samples {
            profile.take(sample);
        }
        profile.object(&Frame::example().results, true)
    }

    #[test]
    fn their_numbers_by_hand() {
        let mut failed = sample(1200, &[], None);
        failed.outcome = Outcome::Error("http_503".to_owned(), "busy".to_owned());
        failed.status = Some(503);
        let told = object(&[
            sample(1000, &[1100, 1150, 1300], Some(5)),
            sample(1500, &[1700, 2690], Some(2)),
            failed,
        ]);
        let expected = json!({
            "schema_version": "1.4",
            // from 1000 ms to 2700 ms
            "benchmark_duration": {"unit": "sec", "avg": 1.7},
            "request_count": {"unit": "requests", "avg": 2.0},
            "request_throughput": {"unit": "requests/sec", "avg": 2.0 / 1.7},
            "output_token_throughput": {"unit": "tokens/sec", "avg": 7.0 / 1.7},
            "total_token_throughput": {"unit": "tokens/sec", "avg": 27.0 / 1.7},
            "total_isl": {"unit": "tokens", "avg": 20.0},
            "goodput": {"unit": "requests/sec", "avg": 1.0 / 1.7},
            "good_request_fraction": {"unit": "ratio", "avg": 1.0 / 3.0},
            "error_request_count": {"unit": "requests", "avg": 1.0},
            "was_cancelled": false,
            "error_summary": [
                {"error_details": {"type": "http_503", "message": "busy", "code": 503}, "count": 1},
            ],
        });
        for (key, value) in expected.as_object().expect("an object") {
            assert_eq!(&told[key], value, "{key}");
        }
        let close = |path: &str, wanted: f64| {
            let found = told.pointer(path).and_then(Value::as_f64).expect(path);
            assert!((found - wanted).abs() <= wanted * 1e-3, "{path}: {found}");
        };
        close("/request_latency/avg", f64::midpoint(300.0, 1190.0));
        close("/time_to_first_token/p50", 150.0);
        close("/time_to_second_token/max", 990.0);
        // of each request: 200 / 4 and 990 / 1
        close("/inter_token_latency/min", 50.0);
        close("/inter_token_latency/p25", 50.0 + 940.0 / 4.0);
        // of each chunk: 50, 150, 990
        close("/inter_chunk_latency/p50", 150.0);
        close("/inter_chunk_latency/count", 3.0);
        close("/output_token_throughput_per_user/max", 20.0);
        close("/e2e_output_token_throughput/max", 5.0 / 0.3);
        close("/output_sequence_length/avg", 3.5);
        close("/input_sequence_length/sum", 20.0);
        // what nobody told, and what has another meaning there
        for key in [
            "reasoning_token_count",
            "http_req_waiting",
            "aiperf_version",
        ] {
            assert_eq!(told.get(key), None, "{key}");
        }
    }

    #[test]
    fn without_token_counts_nothing_is_told_that_needs_them() {
        let told = object(&[
            sample(1000, &[1100, 1150], Some(2)),
            sample(1000, &[1100, 1150], None),
        ]);
        for key in [
            "inter_token_latency",
            "output_sequence_length",
            "output_token_throughput",
            "total_token_throughput",
        ] {
            assert_eq!(told.get(key), None, "{key}");
        }
        assert_eq!(told["inter_chunk_latency"]["count"], 2);
        assert_eq!(told["input_sequence_length"]["count"], 2);
    }

    #[test]
    fn a_load_without_an_answer_has_no_blocks_but_counts() {
        let told = object(&[]);
        assert_eq!(told["request_count"]["avg"], 0.0);
        for key in [
            "request_throughput",
            "request_latency",
            "benchmark_duration",
        ] {
            assert_eq!(told.get(key), None, "{key}");
        }
    }
}
