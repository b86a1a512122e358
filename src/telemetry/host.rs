//! The node, the job and the step as a role sees them, sampled at each scrape.
//!
//! A collector reads files of `/proc`, `/sys` and the cgroups when it is asked: no task, no interval, no value that is
//! older than the scrape (but for threads, which are walked every 10 s: see [`super::samplers::processes`]). A bench has a
//! thread for it ([`super::paced`]). The load of a node explains a slow answer; without it a benchmark guesses. The sources
//! stand in [`super::samplers`].
//!
//! Every sampler reports `aif_sampler_state{sampler,state}` 1, where the state is
//!
//! | state | means |
//! |---|---|
//! | `healthy` | it gives all that it is for |
//! | `degraded` | it gives something else or less than it should, and says what |
//! | `unsupported` | this node or job does not have it |
//! | `failed` | it is there, and could not be read |
//!
//! One that cannot run gives no series, never zeros. The reason is logged once per change of state, is in the agent's
//! `/instance`, and goes into the step file and so into the report ([`Samplers::facts`]).

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder, registry::Registry};

use super::{
    root::Root,
    sample::{Absent, Family, Reading, Sampler},
    samplers,
};
use crate::env::Env;

/// Registers the samplers of node, job and step.
pub fn register(registry: &mut Registry, env: &Env) -> Samplers {
    let samplers = Samplers::of(env);
    registry.register_collector(Box::new(samplers.clone()));
    samplers
}

/// The samplers of an agent, and what became of them. Cloning shares them.
#[derive(Debug, Clone)]
pub struct Samplers(Arc<Mutex<Host>>);

#[derive(Debug)]
struct Host {
    samplers: Vec<Box<dyn Sampler>>,
    told: BTreeMap<&'static str, Told>,
}

/// What was said of a sampler.
#[derive(Debug, Default)]
struct Told {
    state: State,
    reason: Option<String>,
    looks: u64,
    failures: u64,
    last_failure: String,
}

/// How a sampler does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// Nobody has looked yet.
    #[default]
    Unknown,
    Healthy,
    Degraded,
    Unsupported,
    Failed,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unsupported => "unsupported",
            Self::Failed => "failed",
        }
    }
}

impl Samplers {
    /// All of them, for the process that this environment belongs to.
    pub(super) fn of(env: &Env) -> Self {
        Self::new(samplers::all(&Root::of_node(), env))
    }

    pub(super) fn new(samplers: Vec<Box<dyn Sampler>>) -> Self {
        Self(Arc::new(Mutex::new(Host {
            samplers,
            told: BTreeMap::new(),
        })))
    }

    fn host(&self) -> MutexGuard<'_, Host> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state of each sampler with its reason, for programs.
    pub fn states(&self) -> serde_json::Value {
        let host = self.looked();
        let one = |told: &Told| {
            let mut state = serde_json::json!({"state": told.state.name()});
            if let Some(reason) = &told.reason {
                state["reason"] = reason.as_str().into();
            }
            if told.failures > 0 {
                state["failures"] = told.failures.into();
            }
            state
        };
        let states = host.told.iter();
        states
            .map(|(name, told)| ((*name).to_owned(), one(told)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }

    /// The state of each sampler in words, for a step file and the report.
    pub fn facts(&self) -> serde_json::Value {
        let host = self.looked();
        let states = host.told.iter();
        states
            .map(|(name, told)| ((*name).to_owned(), told.to_string().into()))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }

    /// What the node is made of: its CPUs, and this step's GPUs with their driver. What is not known is left out.
    pub fn machine(&self) -> serde_json::Value {
        let families = self.host().look();
        let gpus = families.iter().flat_map(|family| &family.series);
        let gpus = gpus.filter(|(labels, _)| labels.iter().any(|(name, _)| *name == "driver"));
        let mut all: BTreeMap<(&str, String), usize> = BTreeMap::new();
        for (name, value) in gpus.flat_map(|(labels, _)| labels) {
            if ["model", "driver"].contains(name) {
                *all.entry((*name, value.clone())).or_default() += 1;
            }
        }
        let told = |wanted: &str| -> Vec<String> {
            let own = all.iter().filter(|((name, _), _)| *name == wanted);
            let told = own.map(|((name, value), count)| match *name {
                "model" => format!("{count} × {value}"),
                _ => value.clone(),
            });
            told.collect()
        };
        let cpus = Root::of_node().text("/proc/cpuinfo").unwrap_or_default();
        let model = cpus.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            (name.trim() == "model name").then(|| value.trim().to_owned())
        });
        let parts = [
            ("cpu", model.into_iter().collect()),
            ("gpu", told("model")),
            ("driver", told("driver")),
        ];
        let known = parts.into_iter().filter(|(_, values)| !values.is_empty());
        known
            .map(|(name, values)| (name.to_owned(), values.join(", ").into()))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }

    /// What `/instance` answers: a record, and beside its fields the states.
    pub fn beside(&self, record: impl serde::Serialize) -> serde_json::Value {
        let mut answer = serde_json::to_value(record).unwrap_or_default();
        if let Some(fields) = answer.as_object_mut() {
            fields.insert("samplers".to_owned(), self.states());
        }
        answer
    }

    /// Looks at everything: what is served of it.
    pub(super) fn look(&self) -> Vec<Family> {
        let mut host = self.host();
        let mut families = host.look();
        families.push(host.states());
        families
    }

    /// The host, looked at once at least.
    fn looked(&self) -> MutexGuard<'_, Host> {
        let mut host = self.host();
        if host.told.is_empty() {
            host.look();
        }
        host
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.state.name())?;
        if let Some(reason) = &self.reason {
            write!(f, ": {reason}")?;
        }
        if self.failures > 0 && self.state != State::Failed {
            let Self {
                failures,
                looks,
                last_failure,
                ..
            } = self;
            write!(
                f,
                "; failed at {failures} of {looks} looks, last: {last_failure}"
            )?;
        }
        Ok(())
    }
}

impl Host {
    /// Looks at everything: the families by name, in the order in which they came first.
    fn look(&mut self) -> Vec<Family> {
        let mut families: Vec<Family> = Vec::new();
        for sampler in &mut self.samplers {
            for (name, reading) in sampler.sample() {
                self.told.entry(name).or_default().tell(name, &reading);
                for family in reading.map(|sampled| sampled.families).unwrap_or_default() {
                    // two kinds of GPU in a node give the same metrics: a name may be described once only
                    match families.iter_mut().find(|other| other.is_like(&family)) {
                        Some(other) => other.series.extend(family.series),
                        None => families.push(family),
                    }
                }
            }
        }
        families
    }

    /// The state of each sampler, as a series.
    fn states(&self) -> Family {
        let mut states = Family::gauge(
            "aif_sampler_state",
            "State of a sampler: 1 for the one that it is in",
            None,
        );
        for (sampler, told) in &self.told {
            states.push([("sampler", sampler), ("state", told.state.name())], 1.0);
        }
        states
    }
}

impl Told {
    fn tell(&mut self, sampler: &str, reading: &Reading) {
        let (state, reason) = match reading {
            Ok(sampled) => match (&sampled.wanting, &sampled.note) {
                (Some(wanting), _) => (State::Degraded, Some(wanting.clone())),
                (None, note) => (State::Healthy, note.clone()),
            },
            Err(Absent::Unsupported(reason)) => (State::Unsupported, Some(reason.clone())),
            Err(Absent::Failed(reason)) => (State::Failed, Some(reason.clone())),
        };
        self.looks += 1;
        if state == State::Failed {
            self.failures += 1;
            self.last_failure = reason.clone().unwrap_or_default();
        }
        let changed = std::mem::replace(&mut self.state, state) != state;
        self.reason = reason;
        if !changed {
            return;
        }
        let reason = self.reason.as_deref().unwrap_or_default();
        match state {
            State::Failed => tracing::warn!(sampler, reason, "A sampler failed"),
            State::Degraded => tracing::info!(sampler, reason, "A sampler is degraded"),
            State::Unsupported => {
                tracing::info!(sampler, reason, "A sampler is not supported here");
            }
            State::Unknown | State::Healthy => {
                tracing::debug!(sampler, reason, "A sampler is healthy");
            }
        }
    }
}

impl Collector for Samplers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let families = self.look();
        families
            .iter()
            .try_for_each(|family| family.encode(&mut encoder))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(samplers: &Samplers) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(samplers.clone()));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }

    /// Gives these readings, one a look.
    #[derive(Debug)]
    struct Script(Vec<Reading>);

    impl Sampler for Script {
        fn sample(&mut self) -> Vec<(&'static str, Reading)> {
            vec![("cakes", self.0.remove(0))]
        }
    }

    fn cakes(value: f64) -> super::super::sample::Sampled {
        vec![Family::gauge("aif_cakes", "Cakes", None).alone(value)].into()
    }

    #[test]
    fn the_machine_is_told_by_its_cpus_and_by_the_gpus_of_the_step() {
        let info = |gpus: &[&str]| {
            let family = Family::gauge("aif_gpu_info", "A GPU", None);
            let gpus = gpus.iter();
            gpus.fold(family, |family, gpu| {
                let labels = [("gpu", *gpu), ("model", "Card"), ("driver", "550.1")];
                family.with(labels, 1.0)
            })
        };
        let of = |gpus: &[&str]| {
            let script = Script(vec![Ok(vec![info(gpus)].into())]);
            Samplers::new(vec![Box::new(script)]).machine()
        };
        let machine = of(&["0", "1"]);
        assert_eq!(machine["gpu"], "2 × Card");
        assert_eq!(machine["driver"], "550.1");
        assert_eq!(of(&[]).get("gpu"), None);
    }

    #[test]
    fn this_node_is_measured() {
        let mut registry = Registry::default();
        let samplers = register(&mut registry, &Env::default());
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for series in [
            "aif_node_cpu_seconds_total{mode=\"idle\"}",
            "aif_node_load{minutes=\"1\"}",
            "aif_node_memory_size_bytes ",
            "aif_node_context_switches_total ",
            "aif_sampler_state{sampler=\"memory\",state=\"healthy\"} 1.0",
            "aif_sampler_state{sampler=\"job_memory\",state=\"unsupported\"} 1.0",
            "aif_sampler_state{sampler=\"gpu_amd\",state=\"unsupported\"} 1.0",
        ] {
            assert!(text.contains(series), "{series} is not in\n{text}");
        }
        assert!(!text.contains("aif_job_"), "no job, no series of it");
        assert_eq!(
            samplers.states()["job_memory"]["reason"],
            "this process is in no job"
        );
    }

    #[test]
    fn every_state_is_told_with_its_reason_and_a_failure_is_not_forgotten() {
        let samplers = Samplers::new(vec![Box::new(Script(vec![
            Ok(cakes(1.0)),
            Ok(cakes(2.0).wanting("half a cake")),
            Err(Absent::Failed("the oven is cold".to_owned())),
            Err(Absent::Unsupported("no oven".to_owned())),
            Ok(cakes(5.0).note("of plums")),
        ]))]);
        let state =
            |state: &str| format!("aif_sampler_state{{sampler=\"cakes\",state=\"{state}\"}}");
        for (value, name) in [
            (Some(1), "healthy"),
            (Some(2), "degraded"),
            (None, "failed"),
            (None, "unsupported"),
            (Some(5), "healthy"),
        ] {
            let text = encode(&samplers);
            assert!(text.contains(&state(name)), "{name}:\n{text}");
            match value {
                Some(value) => assert!(text.contains(&format!("aif_cakes {value}.0")), "{text}"),
                None => assert!(!text.contains("aif_cakes"), "{text}"),
            }
        }
        assert_eq!(
            samplers.states(),
            serde_json::json!({"cakes": {"state": "healthy", "reason": "of plums", "failures": 1}})
        );
        assert_eq!(
            samplers.facts()["cakes"],
            "healthy: of plums; failed at 1 of 5 looks, last: the oven is cold"
        );
    }

    #[test]
    fn a_metric_of_two_samplers_is_described_once() {
        let script = |value| Box::new(Script(vec![Ok(cakes(value))])) as Box<dyn Sampler>;
        let text = encode(&Samplers::new(vec![script(1.0), script(2.0)]));
        assert_eq!(text.matches("# TYPE aif_cakes gauge").count(), 1, "{text}");
        assert!(text.contains("aif_cakes 1.0\naif_cakes 2.0\n"), "{text}");
    }

    #[test]
    fn a_scrape_is_cheap() {
        let mut registry = Registry::default();
        register(&mut registry, &Env::default());
        let mut best = std::time::Duration::MAX;
        for _ in 0..20 {
            let start = tokio::time::Instant::now();
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
            best = best.min(start.elapsed());
        }
        // without optimisation, on a machine that does other things too
        assert!(best.as_millis() < 20, "{best:?}");
    }
}
