//! What is known of a run, read from its folder.
//!
//! Every file is optional: one that is missing or cannot be read goes into [`Part::missing`] as a sentence, and the report
//! is made of the rest. A manifest that lacks fields (an older or newer writer) is read as far as it can be understood.
//! What fails is only a folder that is not there.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use super::{
    cdf::{self, Distributions},
    live::Live,
};
use crate::{
    exit::Exit,
    files,
    prometheus::{episodes::Alerts, timeline::Timeline},
    run::{Manifest, RunDir, StepFile},
    stats::results::Results,
};

/// Lines of a failed role's log that are shown.
const TAIL: usize = 15;

/// What is known of a run, or of several runs of roles that ran alone.
#[derive(Debug, Clone)]
pub struct Report {
    /// Folder that the report is written to; links start here.
    pub folder: PathBuf,
    /// The runs; one, except where several were joined.
    pub parts: Vec<Part>,
    /// What is so at this moment, where it is of runs that go on.
    pub live: Option<Live>,
}

/// What is known of one run.
#[derive(Debug, Clone)]
pub struct Part {
    /// The run's id: the name of its folder.
    pub id: String,
    /// Its folder.
    pub path: PathBuf,
    /// What it was, as far as the file could be read.
    pub manifest: Option<Manifest>,
    /// What each role said of itself; what lies in `steps/` wins over the manifest's copy.
    pub steps: BTreeMap<String, StepFile>,
    /// The benches that left a folder.
    pub benches: Vec<Bench>,
    /// What the monitor saw of alerts; `None` where nothing tells.
    pub alerts: Option<Alerts>,
    /// What Prometheus saw over time; `None` where nothing tells.
    pub timeline: Option<Timeline>,
    /// Files of the metrics archive.
    pub metrics: Vec<PathBuf>,
    /// Log files.
    pub logs: Vec<PathBuf>,
    /// Last lines of the logs of roles that failed, by the log's name.
    pub tails: Vec<(String, Vec<String>)>,
    /// What should be there and is not; sentences.
    pub missing: Vec<String>,
    /// Is it read while it goes on?
    pub live: bool,
}

/// What is known of one bench.
#[derive(Debug, Clone)]
pub struct Bench {
    /// The name of its folder.
    pub name: String,
    /// That folder.
    pub folder: PathBuf,
    /// Its results; `None` where they are missing or cannot be read.
    pub results: Option<Results>,
    /// The distributions behind them: of a series, those of the load whose numbers are shown.
    pub distributions: Distributions,
    /// Files that it left.
    pub files: Vec<PathBuf>,
}

impl Report {
    /// Reads one run.
    pub fn read(run: &RunDir) -> Result<Self, files::Error> {
        Ok(Self {
            folder: run.path.clone(),
            parts: vec![Part::read(run)?],
            live: None,
        })
    }

    /// Reads several runs for one report in `folder`.
    pub fn join(runs: &[RunDir], folder: &Path) -> Result<Self, files::Error> {
        let mut parts = runs.iter().map(Part::read).collect::<Result<Vec<_>, _>>()?;
        name_strangers(&mut parts);
        Ok(Self {
            folder: folder.to_owned(),
            parts,
            live: None,
        })
    }

    /// Its title: the ids of its runs.
    pub fn title(&self) -> String {
        let ids: Vec<&str> = self.parts.iter().map(|part| part.id.as_str()).collect();
        ids.join(" + ")
    }

    /// Every bench, with the run it belongs to.
    pub fn benches(&self) -> impl Iterator<Item = (&Part, &Bench)> {
        self.parts
            .iter()
            .flat_map(|part| part.benches.iter().map(move |bench| (part, bench)))
    }
}

impl Part {
    fn read(run: &RunDir) -> Result<Self, files::Error> {
        if let Err(source) = fs::read_dir(&run.path) {
            return Err(files::Error::new("open run", &run.path, source));
        }
        let mut missing = Vec::new();
        let manifest = read_manifest(&run.manifest(), &run.id, &mut missing);
        let mut steps = manifest
            .as_ref()
            .map(|manifest| manifest.steps.clone())
            .unwrap_or_default();
        steps.extend(run.steps());
        if steps.is_empty() {
            missing.push("steps/: no role left a step file".to_owned());
        }
        let benches: Vec<Bench> = run
            .benches()
            .into_iter()
            .map(|name| Bench::read(run, name, &mut missing))
            .collect();
        if let Some(manifest) = &manifest {
            for name in planned(manifest) {
                if !benches.iter().any(|bench| bench.name.starts_with(&name)) {
                    missing.push(format!("bench/{name}/: planned, and left nothing"));
                }
            }
        }
        let metrics = files_in(&run.metrics());
        let monitored = manifest
            .as_ref()
            .is_none_or(|manifest| has_recipe(manifest, "monitor"));
        if monitored && !metrics.iter().any(|path| is_snapshot(path)) {
            missing.push("metrics/: no snapshot of Prometheus".to_owned());
        }
        let logs = files_in(&run.path.join("logs"));
        if logs.is_empty() {
            missing.push("logs/: no logs".to_owned());
        }
        let running = manifest
            .as_ref()
            .is_some_and(|manifest| manifest.state == "running");
        let tails = tails(run, &steps, &logs, running);
        Ok(Self {
            id: run.id.clone(),
            path: run.path.clone(),
            manifest,
            steps,
            benches,
            alerts: super::alerts::read(run, &mut missing),
            timeline: super::timeline::read(run, &mut missing),
            metrics,
            logs,
            tails,
            missing,
            live: false,
        })
    }

    /// The archived snapshot.
    pub fn snapshot(&self) -> Option<&Path> {
        self.metrics
            .iter()
            .map(PathBuf::as_path)
            .find(|path| is_snapshot(path))
    }

    /// Everything that went wrong, each once: the manifest's problems and the roles' last words.
    pub fn problems(&self) -> Vec<String> {
        let mut problems: Vec<String> = self
            .manifest
            .iter()
            .flat_map(|manifest| manifest.problems.iter().cloned())
            .collect();
        for (role, step) in &self.steps {
            if let Some(error) = &step.error
                && !problems
                    .iter()
                    .any(|problem| problem.contains(error.as_str()))
            {
                problems.push(format!("{role}: {error}"));
            }
            if let Some(degraded) = step.facts.get("degraded").and_then(|text| text.as_str()) {
                problems.push(format!("{role}: {degraded}"));
            }
        }
        problems
    }
}

impl Bench {
    fn read(run: &RunDir, name: String, missing: &mut Vec<String>) -> Self {
        let folder = run.bench(&name);
        let path = folder.join("results.json");
        let results = match read_results(&path) {
            Ok(results) => Some(results),
            Err(error) => {
                missing.push(format!("bench/{name}/results.json: {}", reason(&error)));
                None
            }
        };
        let series = results
            .as_ref()
            .and_then(|results: &Results| results.series.as_ref());
        let shown = series.and_then(|series| series.headline.as_ref());
        let told = shown.map_or_else(|| folder.clone(), |shown| folder.join(shown));
        Self {
            name,
            distributions: cdf::read(&told.join("histograms.hlog")),
            results,
            files: files_in(&folder),
            folder,
        }
    }
}

/// The last part of an error: what is wrong, without the path that the reader sees anyway.
fn reason(error: &files::Error) -> String {
    if error.source.kind() == std::io::ErrorKind::NotFound {
        "not there".to_owned()
    } else {
        format!("cannot be read: {}", error.source)
    }
}

/// Reads results, as far as they can be understood.
pub fn read_results(path: &Path) -> Result<Results, files::Error> {
    files::read_json(path).and_then(|value| decode_results(value, path))
}

/// Results, with numbers that JSON cannot hold (not-a-number is written as null) taken as missing.
fn decode_results(mut value: Value, path: &Path) -> Result<Results, files::Error> {
    drop_nulls(&mut value);
    if let Some(metrics) = value["metrics"].as_object_mut() {
        metrics.retain(|_, metric| metric["avg"].is_number());
    }
    if let Some(top) = value.as_object_mut() {
        for key in [
            "avg_latency_ms",
            "min_latency_ms",
            "max_latency_ms",
            "throughput_req_per_sec",
        ] {
            top.entry(key).or_insert_with(|| json!(0.0));
        }
        for key in ["load", "workload"] {
            top.entry(key).or_insert(Value::Null);
        }
    }
    serde_json::from_value(value).map_err(|error| files::Error::new("decode", path, error.into()))
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// The manifest: whole, or field by field where something in it cannot be understood.
fn read_manifest(path: &Path, run: &str, missing: &mut Vec<String>) -> Option<Manifest> {
    let value: Value = match files::read_json(path) {
        Ok(value) => value,
        Err(error) => {
            missing.push(format!("manifest.json: {}", reason(&error)));
            return None;
        }
    };
    if let Ok(manifest) = serde_json::from_value(value.clone()) {
        return Some(manifest);
    }
    let mut whole = json!({
        "schema": 0, "run": run, "aif_version": "unknown", "role": "unknown", "state": "unknown", "site": "unknown",
        "cluster": "unknown", "launcher": "unknown", "started_at": "1970-01-01T00:00:00Z",
    });
    let mut lost = Vec::new();
    for name in whole.as_object().expect("an object was just made").keys() {
        if value.get(name).is_none() {
            lost.push(name.clone());
        }
    }
    for (name, field) in value.as_object().into_iter().flatten() {
        let mut more = whole.clone();
        more[name] = field.clone();
        if serde_json::from_value::<Manifest>(more.clone()).is_ok() {
            whole = more;
        } else {
            lost.push(name.clone());
        }
    }
    missing.push(format!("manifest.json: without {}", lost.join(", ")));
    serde_json::from_value(whole).ok()
}

pub(super) fn has_recipe(manifest: &Manifest, kind: &str) -> bool {
    manifest.recipes.iter().any(|recipe| recipe.kind == kind)
}

/// Names of the benches that the run was to hold.
fn planned(manifest: &Manifest) -> Vec<String> {
    let clients = manifest
        .recipes
        .iter()
        .filter(|recipe| recipe.kind == "client");
    clients
        .filter_map(|recipe| Some(recipe.plan["name"].as_str()?.to_owned()))
        .collect()
}

fn is_snapshot(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.is_dir() || name.contains("snapshot") || name.contains(".tar")
}

/// What lies in a folder, sorted; nothing where there is no folder.
fn files_in(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            !path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .starts_with('.')
        })
        .collect();
    files.sort();
    files
}

/// Last lines of the logs of roles that failed. A role that was told to end did not fail by it.
fn tails(
    run: &RunDir,
    steps: &BTreeMap<String, StepFile>,
    logs: &[PathBuf],
    running: bool,
) -> Vec<(String, Vec<String>)> {
    let failed = |step: &StepFile| match step.exit {
        Some(Exit::Done | Exit::Invalid | Exit::Terminated | Exit::Interrupted) => false,
        Some(_) => true,
        None => !running,
    };
    let mut shown = Vec::new();
    for (role, _) in steps.iter().filter(|(_, step)| failed(step)) {
        let engines = logs.iter().filter(|path| {
            role == "server"
                && path
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .starts_with("engine")
        });
        for path in engines.chain([&run.log(role)]) {
            let lines = files::tail(path, TAIL);
            if !lines.is_empty() {
                let name = path
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                shown.push((name, lines));
            }
        }
    }
    shown
}

/// Runs that are joined should have met: an instance that a bench met and none of the runs started is named.
fn name_strangers(parts: &mut [Part]) {
    let ours: Vec<String> = parts
        .iter()
        .flat_map(|part| part.steps.values())
        .filter_map(|step| {
            let id = step
                .facts
                .get("instance_id")
                .or_else(|| step.facts.get("instance"))?;
            Some(id.as_str()?.to_owned())
        })
        .collect();
    if ours.is_empty() {
        return;
    }
    for part in parts {
        let mut met: Vec<&String> = part
            .manifest
            .iter()
            .flat_map(|manifest| &manifest.instances)
            .collect();
        met.extend(
            part.benches
                .iter()
                .filter_map(|bench| bench.results.as_ref())
                .flat_map(|r| &r.target.instances),
        );
        met.sort();
        met.dedup();
        let strangers = met.into_iter().filter(|id| !ours.contains(id));
        let named = strangers.map(|id| {
            format!(
                "run {}: instance {id}, which it met, is of none of these runs",
                part.id
            )
        });
        let named: Vec<String> = named.collect();
        part.missing.extend(named);
    }
}
