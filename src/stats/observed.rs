//! What the answered requests of a window tell, each kind of observation in a distribution of its own.
//!
//! Names and meanings are those of the field's tools where they agree. The phases of HTTP add up: looking up, connecting,
//! TLS handshaking (where a connection was opened), sending (first to last byte of the request), waiting (to the first byte of the answer),
//! receiving (to its end). Pure; nothing can fail, and what was not observed is no metric.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    events::ByEvent,
    histogram::Distribution,
    results::Metric,
    summary::{last, tpot, with_tokens},
};
use crate::load::sample::{Sample, Times};

/// Distributions over the successes of a window.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// The same as a tool sees it that takes every event for a chunk.
    pub by_event: ByEvent,
    /// Sent → first token.
    ttft: Distribution,
    ttft_scheduled: Distribution,
    /// Sent → first byte, of answers without a token.
    #[serde(default)]
    ttfb: Distribution,
    /// Sent → first token that is no reasoning.
    ttfo: Distribution,
    /// First → second chunk.
    ttst: Distribution,
    token_gaps: Distribution,
    /// Between chunks.
    pub chunk_gaps: Distribution,
    /// Per token after the first, of answers in several chunks.
    tpot: Distribution,
    /// Tokens per second after the first, of the same answers.
    speed: Distribution,
    /// Whole latency per token.
    ntpot: Distribution,
    /// Sent → last token.
    pub latency: Distribution,
    latency_scheduled: Distribution,
    delay: Distribution,
    #[serde(default)]
    looking_up: Distribution,
    connecting: Distribution,
    #[serde(default)]
    securing: Distribution,
    sending: Distribution,
    waiting: Distribution,
    receiving: Distribution,
    /// Prompt tokens, as the server counts.
    pub input: Distribution,
    /// Of these, those of its cache, where it tells.
    cached: Distribution,
    /// Prompt tokens of the answers that tell what was cached.
    cached_of: u64,
    /// Output tokens.
    pub output: Distribution,
    /// Of these, those of reasoning, where the server tells.
    reasoning: Distribution,
    /// Answers with reasoning by a name of its own.
    reasoned: u64,
    /// Shares of the true neighbours that queries of vectors found.
    #[serde(default)]
    recall: Distribution,
    /// Times by the engine's own clock, where it tells.
    #[serde(default)]
    engine: Engine,
}

/// Times by the engine's own clock.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Engine {
    load: Distribution,
    prompt: Distribution,
    decode: Distribution,
    total: Distribution,
}

impl Engine {
    fn take(&mut self, times: Times) {
        let pairs = [
            (&mut self.load, times.load),
            (&mut self.prompt, times.prompt),
            (&mut self.decode, times.decode),
            (&mut self.total, times.total),
        ];
        for (all, time) in pairs {
            if let Some(time) = time {
                all.record(time);
            }
        }
    }
}

impl Observed {
    pub(super) fn take(&mut self, sample: &Sample) {
        let Some(sent) = sample.sent else { return };
        let latency = last(sample).saturating_sub(sent);
        if let Some(first) = sample.first_token() {
            self.ttft.record(first.saturating_sub(sent));
            self.ttft_scheduled
                .record(first.saturating_sub(sample.intended));
        }
        if let Some(came) = sample.first_byte.filter(|_| sample.chunks.is_empty()) {
            self.ttfb.record(came.saturating_sub(sent));
        }
        if let Some(first) = sample.first_output {
            self.ttfo.record(first.saturating_sub(sent));
        }
        self.latency.record(latency);
        self.latency_scheduled
            .record(last(sample).saturating_sub(sample.intended));
        self.delay.record(sent.saturating_sub(sample.intended));
        self.take_phases(sample, sent);
        if let [first, second, ..] = sample.chunks[..] {
            self.ttst.record(second.at.saturating_sub(first.at));
        }
        for pair in sample.chunks.windows(2) {
            let gap = pair[1].at.saturating_sub(pair[0].at);
            self.chunk_gaps.record(gap);
        }
        self.by_event.take(sample, sent);
        self.take_token_gaps(sample);
        if let Some(tpot) = tpot(sample) {
            self.tpot.record(tpot);
            if !tpot.is_zero() {
                self.speed.record_rate(tpot.as_secs_f64().recip());
            }
        }
        self.take_counts(sample, latency);
        if let Some(share) = sample.recall {
            self.recall.record_rate(f64::from(share) / 1e6);
        }
    }

    fn take_phases(&mut self, sample: &Sample, sent: Duration) {
        if let Some(connect) = sample.connect {
            let apart = sample.looked_up.unwrap_or_default() + sample.secured.unwrap_or_default();
            self.connecting.record(connect.saturating_sub(apart));
        }
        if let Some(took) = sample.looked_up {
            self.looking_up.record(took);
        }
        if let Some(took) = sample.secured {
            self.securing.record(took);
        }
        // an answer may come before the request has gone out
        let written = sample.written.unwrap_or(sent);
        self.sending.record(written.saturating_sub(sent));
        if let Some(came) = sample.first_byte {
            self.waiting.record(came.saturating_sub(written));
            self.receiving.record(sample.end.saturating_sub(came));
        }
    }

    fn take_counts(&mut self, sample: &Sample, latency: Duration) {
        if let Some(tokens) = sample.prompt_tokens {
            self.input.record_count(tokens);
            if let Some(cached) = sample.cached_tokens {
                self.cached.record_count(cached);
                self.cached_of += tokens;
            }
        }
        let tokens = sample.tokens();
        self.output.record_count(tokens);
        if let Ok(parts @ 1..) = u32::try_from(tokens) {
            self.ntpot.record(latency / parts);
        }
        if let Some(tokens) = sample.reasoning_tokens {
            self.reasoning.record_count(tokens);
        }
        self.reasoned += u64::from(sample.reasons);
        self.engine.take(sample.engine);
    }

    /// A chunk of k tokens ends k gaps. One without a token (fewer tokens than chunks) ends none: its time goes to the
    /// next token.
    fn take_token_gaps(&mut self, sample: &Sample) {
        let Some(mut before) = sample.first_token() else {
            return;
        };
        for (chunk, tokens) in with_tokens(sample).skip(1) {
            if let Ok(parts @ 1..) = u32::try_from(tokens) {
                let gap = chunk.at.saturating_sub(before) / parts;
                self.token_gaps.record_n(gap, tokens);
                before = chunk.at;
            }
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        let pairs = [
            (&mut self.ttft, &other.ttft),
            (&mut self.ttft_scheduled, &other.ttft_scheduled),
            (&mut self.ttfb, &other.ttfb),
            (&mut self.ttfo, &other.ttfo),
            (&mut self.ttst, &other.ttst),
            (&mut self.token_gaps, &other.token_gaps),
            (&mut self.chunk_gaps, &other.chunk_gaps),
            (&mut self.tpot, &other.tpot),
            (&mut self.speed, &other.speed),
            (&mut self.ntpot, &other.ntpot),
            (&mut self.latency, &other.latency),
            (&mut self.latency_scheduled, &other.latency_scheduled),
            (&mut self.delay, &other.delay),
            (&mut self.looking_up, &other.looking_up),
            (&mut self.connecting, &other.connecting),
            (&mut self.securing, &other.securing),
            (&mut self.sending, &other.sending),
            (&mut self.waiting, &other.waiting),
            (&mut self.receiving, &other.receiving),
            (&mut self.input, &other.input),
            (&mut self.cached, &other.cached),
            (&mut self.output, &other.output),
            (&mut self.reasoning, &other.reasoning),
            (&mut self.recall, &other.recall),
            (&mut self.engine.load, &other.engine.load),
            (&mut self.engine.prompt, &other.engine.prompt),
            (&mut self.engine.decode, &other.engine.decode),
            (&mut self.engine.total, &other.engine.total),
        ];
        for (own, other) in pairs {
            own.merge(other);
        }
        self.cached_of += other.cached_of;
        self.reasoned += other.reasoned;
        self.by_event.merge(&other.by_event);
    }

    /// Prompt tokens that were found in the server's cache, as a share of all; `None` where it does not tell.
    pub(super) fn cached_share(&self) -> Option<f64> {
        (self.cached_of > 0).then(|| self.cached.sum_of_counts() as f64 / self.cached_of as f64)
    }

    pub(super) fn metrics(&self) -> BTreeMap<String, Metric> {
        (self.named().into_iter())
            .filter_map(|(name, all, unit)| Some((name.to_owned(), all.to_metric(unit)?)))
            .collect()
    }

    /// By the names of their metrics, with units.
    pub(super) fn named(&self) -> Vec<(&'static str, &Distribution, &'static str)> {
        // without reasoning it is the time to the first token, and needs no second name
        let ttfo = (self.reasoned > 0).then_some(("time_to_first_output_token", &self.ttfo, "ms"));
        [
            ("time_to_first_token", &self.ttft, "ms"),
            ("time_to_first_token_scheduled", &self.ttft_scheduled, "ms"),
            ("time_to_first_byte", &self.ttfb, "ms"),
            ("time_to_second_token", &self.ttst, "ms"),
            ("inter_token_latency", &self.token_gaps, "ms"),
            ("inter_chunk_latency", &self.chunk_gaps, "ms"),
            ("time_per_output_token", &self.tpot, "ms"),
            ("normalized_time_per_output_token", &self.ntpot, "ms"),
            ("output_token_throughput_per_user", &self.speed, "tokens/s"),
            ("request_latency", &self.latency, "ms"),
            ("request_latency_scheduled", &self.latency_scheduled, "ms"),
            ("dispatch_delay", &self.delay, "ms"),
            ("http_req_looking_up", &self.looking_up, "ms"),
            ("http_req_connecting", &self.connecting, "ms"),
            ("http_req_tls_handshaking", &self.securing, "ms"),
            ("http_req_sending", &self.sending, "ms"),
            ("http_req_waiting", &self.waiting, "ms"),
            ("http_req_receiving", &self.receiving, "ms"),
            ("input_sequence_length", &self.input, "tokens"),
            ("cached_prompt_tokens", &self.cached, "tokens"),
            ("output_sequence_length", &self.output, "tokens"),
            ("reasoning_token_count", &self.reasoning, "tokens"),
            ("recall", &self.recall, "ratio"),
            ("engine_load_time", &self.engine.load, "ms"),
            ("engine_prompt_time", &self.engine.prompt, "ms"),
            ("engine_decode_time", &self.engine.decode, "ms"),
            ("engine_total_time", &self.engine.total, "ms"),
        ]
        .into_iter()
        .chain(ttfo)
        .collect()
    }
}
