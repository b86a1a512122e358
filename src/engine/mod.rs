//! Engine profiles: what aif must know of a program that serves. One small file each, data more than code.

mod chroma;
mod dashboards;
mod hints;
mod http;
mod llamacpp;
mod ollama;
mod qdrant;
mod sglang;
mod tgi;
mod trtllm;
mod vllm;

pub use dashboards::dashboards;

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    prometheus::{alerts::EngineNames, charts::EngineSeries, rules::Recorded},
    recipe::{Api, EngineKind},
    units::human_duration,
};

/// How long an engine of large models may take to be ready: weights of tens of GB come from a busy parallel file system.
const LARGE_MODELS: Duration = Duration::from_mins(20);

/// How an engine takes its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyBy {
    /// A variable of its environment holds the key.
    Variable(&'static str),
    /// A variable of its environment names the file.
    FileVariable(&'static str),
    /// It takes none.
    None,
}

/// What an engine over several nodes is started with, beside what the recipe says. Each node runs one rank of it; rank 0
/// has the API. Placeholders are those of recipes.
#[derive(Debug, Clone, Copy)]
pub struct Ranks {
    /// Arguments of every rank; left out where the recipe has the first of them itself.
    pub all: &'static [&'static str],
    /// Further arguments of all ranks but 0.
    pub others: &'static [&'static str],
    /// Variables of every rank, which give way to the recipe's.
    pub variables: &'static [(&'static str, &'static str)],
}

/// How an engine is asked for the tokens of a prompt, by POST to `/tokenize`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tokenizing {
    /// By `prompt`, or the `messages` of a chat; it answers their `count`.
    Prompt,
    /// By `content`; it answers its `tokens`. Messages of a chat become a text by POST to `/apply-template`.
    Content,
}

/// What an engine does when it is told to end while it has requests.
#[derive(Debug, Clone, Copy)]
pub struct Drain {
    /// In a few words; [`Drain::UNKNOWN`] where nobody has told.
    pub on_term: &'static str,
    /// Option of its command line that bounds it.
    pub option: Option<&'static str>,
}

impl Drain {
    /// Neither seen nor documented where we looked.
    pub const UNKNOWN: Self = Self {
        on_term: "not known",
        option: None,
    };
}

/// What aif must know of an engine.
#[derive(Debug, Clone, Copy)]
pub struct Profile {
    /// Which one.
    pub kind: EngineKind,
    /// Path that answers 200 when it is ready.
    pub ready_path: &'static str,
    /// How long it may load where the recipe does not say.
    pub load_timeout: Duration,
    /// APIs of it that a client recipe may ask for, beside `http`.
    pub apis: &'static [Api],
    /// What it does on TERM.
    pub drain: Drain,
    /// Path of its metrics.
    pub metrics_path: Option<&'static str>,
    /// How it takes a key.
    pub key: KeyBy,
    /// Paths that it answers without the key although there is one. Empty where it takes none.
    pub open_paths: &'static [&'static str],
    /// Path that lists its models in the manner of `OpenAI`.
    pub models_path: Option<&'static str>,
    /// Paths by which a model is loaded before its first request: POST of its name, and no prompt. The next is asked where
    /// one says 400, which is that the model is not for it. Empty where an engine loads its model itself.
    pub preload: &'static [&'static str],
    /// Path that wants the key where there is one, whatever else it says to a GET.
    pub guarded_path: Option<&'static str>,
    /// Path and JSON key that tell its version.
    pub version: Option<(&'static str, &'static str)>,
    /// Names of its counters: prompt tokens (to be summed) …
    pub prompt_tokens: &'static [&'static str],
    /// … and output tokens.
    pub output_tokens: &'static [&'static str],
    /// Gauges of requests that run and that wait, for the report's charts.
    pub running: &'static [&'static str],
    /// Requests that wait.
    pub waiting: &'static [&'static str],
    /// Gauge of the share of its KV cache that is in use, by its names of all generations.
    pub kv_cache: &'static [&'static str],
    /// Histogram of the time to first token, in seconds.
    pub time_to_first_token: Option<&'static str>,
    /// Histograms of the time between tokens, in seconds, by the names of all generations: the first that is there counts.
    pub inter_token_latency: &'static [&'static str],
    /// How it is asked for the tokens of a prompt.
    pub tokenizing: Option<Tokenizing>,
    /// Counters of failed and of all requests, as selectors.
    pub failures: &'static [(&'static str, &'static str)],
    /// What Prometheus records under further names.
    pub recorded: &'static [Recorded],
    /// Older and newer name of what is the same metric: both are served, whichever it has.
    pub aliases: &'static [(&'static str, &'static str)],
    /// Variables that name folders for what it compiles or keeps for itself, and the folder's name. They are put on the
    /// node's own disk: many jobs that start at once are slow on a shared one, and break each other's locks.
    pub caches: &'static [(&'static str, &'static str)],
    /// How it is started over several nodes, where that is known.
    pub ranks: Option<Ranks>,
    /// Words in its log that tell what went wrong, and the mend.
    pub hints: &'static [(&'static str, &'static str)],
}

/// The profile of an engine.
pub fn profile(kind: EngineKind) -> &'static Profile {
    match kind {
        EngineKind::Vllm => &vllm::PROFILE,
        EngineKind::LlamaCpp => &llamacpp::PROFILE,
        EngineKind::Ollama => &ollama::PROFILE,
        EngineKind::Tgi => &tgi::PROFILE,
        EngineKind::Sglang => &sglang::PROFILE,
        EngineKind::Trtllm => &trtllm::PROFILE,
        EngineKind::Qdrant => &qdrant::PROFILE,
        EngineKind::Chroma => &chroma::PROFILE,
        EngineKind::Http => &http::PROFILE,
    }
}

/// Every profile.
pub fn profiles() -> impl Iterator<Item = &'static Profile> {
    EngineKind::ALL.into_iter().map(profile)
}

/// What engines tell of how much they do in a step: name and expression, in which `WINDOW` is how far a rate looks back.
const BATCH: [(EngineKind, &[(&str, &str)]); 2] = [
    (
        EngineKind::Vllm,
        &[(
            "tokens",
            "sum(rate(vllm:iteration_tokens_total_sum[WINDOW])) / (sum(rate(vllm:iteration_tokens_total_count[WINDOW])) > 0)",
        )],
    ),
    (
        EngineKind::LlamaCpp,
        &[(
            "busy slots, on average since the start",
            "sum(llamacpp:n_busy_slots_per_decode)",
        )],
    ),
];

impl Profile {
    /// Names under which it tells what alerts ask for.
    pub fn names(&self) -> EngineNames {
        EngineNames {
            waiting: self.waiting,
            kv_cache: self.kv_cache,
            time_to_first_token: self.time_to_first_token,
            failures: self.failures,
        }
    }

    /// Names under which it tells what the report draws.
    pub fn series(&self) -> EngineSeries {
        EngineSeries {
            running: self.running,
            waiting: self.waiting,
            kv_cache: self.kv_cache,
            batch: BATCH
                .iter()
                .find(|(kind, _)| *kind == self.kind)
                .map_or(&[], |(_, batch)| batch),
            prompt_tokens: self.prompt_tokens,
            output_tokens: self.output_tokens,
        }
    }

    /// What people are shown of it beside a recipe.
    pub fn shown(&self) -> Value {
        let apis: Vec<&str> = self.apis.iter().map(|api| api.name()).collect();
        json!({
            "ready_path": self.ready_path,
            "load_timeout": human_duration(self.load_timeout),
            "metrics_path": self.metrics_path,
            "key": match self.key {
                KeyBy::Variable(name) => format!("by the variable {name}"),
                KeyBy::FileVariable(name) => format!("by a file that the variable {name} names"),
                KeyBy::None => "none".to_owned(),
            },
            "open_paths": self.open_paths,
            "apis": apis,
            "on_term": self.drain.on_term,
            "drain_option": self.drain.option,
            "several_nodes": self.ranks.is_some(),
        })
    }

    /// The line of its log that tells why it failed, and the mend; `None` where no line is known.
    pub fn cause<'a>(&self, log: &'a [String]) -> Option<(&'a str, &'static str)> {
        hints::cause(self.hints, log)
    }

    /// Requests that run or wait in it, by its own metrics; `None` where they do not tell.
    pub fn in_flight(&self, metrics: &str) -> Option<f64> {
        let names = self.running.iter().chain(self.waiting);
        let values: Vec<f64> = names.filter_map(|name| sum_of(metrics, name)).collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }
}

/// The sum of all series of a metric in Prometheus's text form.
fn sum_of(metrics: &str, name: &str) -> Option<f64> {
    let values: Vec<f64> = metrics
        .lines()
        .filter_map(|line| line.strip_prefix(name))
        .filter(|rest| rest.starts_with(['{', ' ']))
        .filter_map(|rest| {
            let value = match rest.rfind('}') {
                Some(end) => &rest[end + 1..],
                None => rest,
            };
            value.split_whitespace().next()?.parse().ok()
        })
        .collect();
    (!values.is_empty()).then(|| values.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    const VLLM: &str = include_str!("../../tests/data/engines/vllm.metrics.txt");
    const LLAMA: &str = include_str!("../../tests/data/engines/llamacpp.metrics.txt");

    #[test]
    fn every_name_of_a_profile_is_in_what_its_engine_says() {
        for (kind, metrics) in [(EngineKind::Vllm, VLLM), (EngineKind::LlamaCpp, LLAMA)] {
            let profile = profile(kind);
            let first_token = profile.time_to_first_token.into_iter();
            for name in first_token.chain(profile.kv_cache.first().copied()) {
                let told = metrics.contains(&format!("# TYPE {name} "));
                assert_eq!(told, kind == EngineKind::Vllm, "{name}");
            }
            for recorded in profile.recorded {
                let source = recorded.expr.split(" or ").next().unwrap();
                let source = source.trim_end_matches(')').rsplit('(').next().unwrap();
                let base = ["_bucket", "_sum", "_count"]
                    .iter()
                    .find_map(|ending| source.strip_suffix(ending))
                    .unwrap_or(source);
                assert!(metrics.contains(&format!("# TYPE {base} ")), "{source}");
            }
            let names = [
                profile.prompt_tokens,
                profile.output_tokens,
                profile.running,
                profile.waiting,
            ];
            for name in names.into_iter().flatten() {
                assert!(sum_of(metrics, name).is_some(), "{kind:?} has no {name}");
            }
            assert_eq!(profile.in_flight(metrics), Some(0.0));
            for (old, new) in profile.aliases {
                let has = |name: &&&str| metrics.contains(&format!("# TYPE {name}"));
                let names: Vec<_> = [old, new].into_iter().filter(has).collect();
                assert_eq!(names, [new], "the newer name is the one that it has now");
            }
        }
        assert_eq!(profile(EngineKind::Http).in_flight(VLLM), None);
    }

    /// Engines that cannot be had here: lines in the form that their documentation gives.
    #[test]
    fn engines_known_by_their_documentation_are_read() {
        let tgi = "tgi_batch_current_size 2\ntgi_queue_size 1\ntgi_request_input_length_sum 512\ntgi_request_generated_tokens_sum 96\n";
        let sglang = "sglang:num_running_reqs{model_name=\"m\"} 2.0\nsglang:num_queue_reqs{model_name=\"m\"} 1.0\nsglang:prompt_tokens_total{model_name=\"m\"} 5.12e+02\nsglang:generation_tokens_total{model_name=\"m\"} 96.0\n";
        let trtllm = "trtllm_num_requests_running{model_name=\"m\"} 2.0\ntrtllm_num_requests_waiting{model_name=\"m\"} 1.0\ntrtllm_prompt_tokens_total{model_name=\"m\"} 512.0\ntrtllm_generation_tokens_total{model_name=\"m\"} 96.0\n";
        for (kind, metrics) in [
            (EngineKind::Tgi, tgi),
            (EngineKind::Sglang, sglang),
            (EngineKind::Trtllm, trtllm),
        ] {
            let profile = profile(kind);
            assert_eq!(profile.in_flight(metrics), Some(3.0), "{kind:?}");
            let tokens = |names: &[&str]| names.iter().find_map(|name| sum_of(metrics, name));
            assert_eq!(tokens(profile.prompt_tokens), Some(512.0), "{kind:?}");
            assert_eq!(tokens(profile.output_tokens), Some(96.0), "{kind:?}");
        }
        let ollama = profile(EngineKind::Ollama);
        assert_eq!(ollama.metrics_path, None);
        let log =
            ["Error: pull model manifest: Get \"https://…\": dial tcp: i/o timeout".to_owned()];
        let (_, mend) = ollama.cause(&log).unwrap();
        assert!(mend.contains("login node"));
    }

    #[test]
    fn what_an_engine_is_called_and_how_it_takes_a_key_is_said_once() {
        for kind in EngineKind::ALL {
            assert_eq!(EngineKind::by_name(kind.name()), Some(kind));
            assert_eq!(profile(kind).kind, kind);
            assert_eq!(profile(kind).ranks.is_some(), kind.spans_nodes());
            if kind.keyless().is_some() {
                assert_eq!(profile(kind).key, KeyBy::None, "{kind:?}");
            }
            // who takes a key tells what is open all the same; its readiness is
            let open = profile(kind).open_paths;
            assert_eq!(open.is_empty(), profile(kind).key == KeyBy::None);
            assert!(open.is_empty() || open.contains(&profile(kind).ready_path));
            let guarded = profile(kind).guarded_path;
            assert!(guarded.is_none_or(|path| !open.contains(&path)));
            assert!(!profile(kind).load_timeout.is_zero());
            assert!(kind == EngineKind::Http || !profile(kind).apis.is_empty());
        }
    }

    #[test]
    fn series_are_summed_and_longer_names_are_others() {
        let metrics = "# HELP a x\na{e=\"0\"} 2\na{e=\"} 1\"} 3 1700000000\na_total 9\nb 1.5\n";
        assert_eq!(sum_of(metrics, "a"), Some(5.0));
        assert_eq!(sum_of(metrics, "b"), Some(1.5));
        assert_eq!(sum_of(metrics, "c"), None);
    }
}
