//! What leader and members say to each other. Both are the same program, which the greeting makes sure of, so that the
//! form may change with it.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::offset::Offset;
use crate::{
    exit::Exit,
    load::{deal::Share, workload::Scale},
    recipe::ClientPlan,
    registry::Record,
    shutdown::Cause,
    stats::{frame::Frame, results::Samples, tally::Tally, tasks::TaskAccount},
};

/// The leader's first word: what a member must prove by.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Challenge {
    pub(super) version: String,
    pub(super) nonce: String,
}

/// The member's answer, and what the leader must prove by.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) task: u32,
    pub(super) node: String,
    pub(super) proof: String,
    pub(super) nonce: String,
}

/// What the leader tells who has proved to be a member.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Welcome {
    pub(super) proof: String,
    /// The run, which the leader has made.
    pub(super) run: String,
    pub(super) run_path: PathBuf,
    /// Where the results go.
    pub(super) folder: PathBuf,
}

/// A load, as its leader has fixed it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Assignment {
    /// Counts the tries to begin one, so that an answer to an earlier try is known as such.
    pub(super) round: u64,
    pub(super) plan: ClientPlan,
    /// What is loaded; none where it is an address from the command line.
    pub(super) records: Vec<Record>,
    pub(super) model: String,
    pub(super) scale: Scale,
    pub(super) share: Share,
    /// Nothing is sent after this long.
    pub(super) until: Option<Duration>,
    /// Where the samples go.
    pub(super) folder: PathBuf,
    pub(super) frame: Frame,
}

/// What a member has ready.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Readiness {
    pub(super) round: u64,
    /// SHA-256 of the stimulus, as this task would send it.
    pub(super) stimulus: String,
    pub(super) clock: Offset,
    pub(super) cpus: Vec<usize>,
    pub(super) workers: usize,
}

/// What a member has seen since it last told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct News {
    pub(super) round: u64,
    /// What has ended since.
    pub(super) tally: Tally,
    /// Of the load so far.
    pub(super) account: TaskAccount,
    /// Time since the start of the load, in seconds.
    pub(super) at_seconds: f64,
    /// It was the last: the load has come to its end here.
    pub(super) ended: bool,
    /// The samples, once they are written.
    pub(super) samples: Option<Samples>,
}

/// From a member to its leader.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Report {
    /// What is your time? With the member's own.
    Ask { asked: i64 },
    /// Ready to begin.
    Ready(Readiness),
    /// Cannot begin.
    Failed { exit: Exit, message: String },
    /// Has seen something.
    News(Box<News>),
    /// Was told to end.
    Told(Cause),
    /// Is there.
    Alive,
}

/// From the leader to a member.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Order {
    /// The leader's time.
    Time {
        asked: i64,
        heard: i64,
        answered: i64,
        /// Time of day less the monotonic clock.
        day: i64,
    },
    /// Make ready.
    Prepare(Box<Assignment>),
    /// Begin at this moment of the leader's clock.
    Start { round: u64, at: i64 },
    /// Send nothing more.
    Drain,
    /// Give up what is in flight.
    Abort,
    /// Was heard.
    Heard,
    /// It is over, and how.
    Bye(Exit),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        load::{
            exchange::{Call, planned},
            sample::{Chunk, Outcome, Sample},
        },
        recipe::{Api, Slo},
        stats::summary::Window,
    };

    /// As it comes to the other side.
    fn sent<T: Serialize + serde::de::DeserializeOwned>(it: &T) -> T {
        let text = serde_json::to_vec(it).expect("it can be written");
        serde_json::from_slice(&text).unwrap_or_else(|error| panic!("it cannot be read: {error}"))
    }

    #[test]
    fn a_plan_comes_as_it_was_whatever_it_asks() {
        let loads = [
            "concurrent_users: 3, requests_per_user: 4, think_time_ms: 0.1",
            "requests_per_second: 33.333333333333336, duration_seconds: 0.1, seed: 18446744073709551615",
            "requests_per_second: 7, arrival: {process: gamma, burstiness: 0.30000000000000004}, max_in_flight: 9, duration_seconds: 5",
            "arrival: {process: ramp, from: 0.1, to: 5, gaps: constant}, duration_seconds: 5, warmup_seconds: 1",
        ];
        let params = [
            "",
            "prompt_length: {uniform: [10, 50]}, max_tokens: {lognormal: {median: 5, sigma: 0.7, max: 40}}",
            "prompt_length: {normal: {mean: 64, std: 2}}, temperature: 0.1, top_p: 0.95, shared_prefix: {groups: 2, ratio: 0.1}",
        ];
        let others = [
            "arrival: {process: trace, file: t.jsonl}",
            "concurrent_users: 3, think_time_ms: {exponential: 2.3}, duration_seconds: 5",
            "concurrent_users: 3, think_time_ms: {uniform: [1, 9]}, duration_seconds: 5",
            "api: chat, requests_per_second: 1.1, duration_seconds: 5, conversation: {turns: {uniform: [2, 5]}, think_time_ms: 10}",
            "sweep: {concurrent_users: [1, 4]}, total_requests: 5, repeats: 2",
        ];
        for (loads, params) in [(&loads[..], &params[..]), (&others, &params[..1])] {
            for (load, params) in loads
                .iter()
                .flat_map(|load| params.iter().map(move |params| (load, params)))
            {
                let plan = ClientPlan::of(load, params);
                assert_eq!(sent(&plan), plan, "{load} {params}");
            }
        }
    }

    fn sample(at: u64, took: u64, tokens: u64, ends: u8) -> Sample {
        let time = Duration::from_micros;
        let outcome = match ends {
            0 => Outcome::Timeout,
            1 => Outcome::Error("http_503".to_owned(), format!("busy {}", at % 3)),
            2 => Outcome::NeverSent,
            _ => Outcome::Success,
        };
        let chunks = (0..tokens).map(|n| Chunk {
            at: time(at + took / 2 + took * n / tokens / 2),
        });
        let call = Call {
            index: at,
            turn: None,
            intended: time(at),
            api: Api::Chat,
            stream: true,
            chunks: 0,
            body: Vec::new(),
            timeout: Duration::ZERO,
            way: None,
        };
        Sample {
            sent: (outcome != Outcome::NeverSent).then_some(time(at + took % 300)),
            connect: at.is_multiple_of(2).then_some(time(took % 90)),
            status: (!at.is_multiple_of(3)).then_some(if ends == 1 { 503 } else { 200 }),
            chunks: chunks.collect(),
            end: time(at + took),
            outcome,
            prompt_tokens: Some(took % 50),
            output_tokens: (!at.is_multiple_of(5)).then_some(tokens),
            cached_tokens: at.is_multiple_of(4).then_some(took % 9),
            // so that a further field needs no change here
            ..planned(&call)
        }
    }

    proptest! {
        // a tally is a dozen histograms
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn what_tasks_tell_adds_up_to_what_one_would_have_seen(
            samples in prop::collection::vec((0_u64..20_000_000, 1000_u64..3_000_000, 1_u64..9, 0_u8..9, 0_usize..6), 0..60),
        ) {
            let window = Window {
                start: Duration::from_secs(2),
                end: Duration::from_secs(15),
            };
            let slo = Slo {
                ttft_ms: Some(700.3),
                ..Slo::default()
            };
            let blank = Tally::new(window, &slo);
            let mut whole = blank.clone();
            let mut parts = vec![blank.clone(); 6];
            for (at, took, tokens, ends, part) in samples {
                let sample = sample(at, took, tokens, ends);
                whole.take(&sample);
                parts[part].take(&sample);
                parts[part].take_loop_delay(sample.intended, Duration::from_nanos(took));
                whole.take_loop_delay(sample.intended, Duration::from_nanos(took));
            }
            let mut merged = blank;
            for part in &parts {
                prop_assert_eq!(&sent(part), part);
                merged.merge(&sent(part));
            }
            prop_assert_eq!(merged.metrics(window), whole.metrics(window));
            prop_assert_eq!(merged.slices(window.end), whole.slices(window.end));
            prop_assert_eq!(merged.whole(), whole.whole());
            prop_assert_eq!(merged.lateness(), whole.lateness());
            prop_assert_eq!(merged.loop_delay(), whole.loop_delay());
            prop_assert_eq!(merged.peaks(), whole.peaks());
            prop_assert_eq!(merged.counts().by_class, whole.counts().by_class);
        }
    }
}
