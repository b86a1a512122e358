//! What two sides were: facts by name, so that what differs can be put first.
//!
//! Taken from results, manifests, and plans; a plan's settings are facts one by one, and the flags of an engine too, so a
//! recipe that was changed in one place differs in one line. Pure; what is not known is no fact.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use super::sides::{Load, Side};
use crate::{
    report::text,
    run::{Manifest, StepFile},
};

/// Facts that a reader looks for first, in this order; the others follow by name.
const FIRST: [&str; 14] = [
    "stimulus",
    "recipe",
    "load",
    "workload",
    "window",
    "model",
    "engine",
    "engine version",
    "image",
    "image digest",
    "node",
    "machine",
    "GPU",
    "driver",
];

/// Parts of a plan that are told otherwise, or say nothing of the measurement.
const LEFT_OUT: [&str; 12] = [
    "kind",
    "name",
    "service_name",
    "description",
    "engine",
    "model",
    "load",
    "workload",
    "destination",
    "metrics",
    "duration",
    "warmup",
];

/// Facts without which nobody knows whether the same was measured.
const NEEDED: [&str; 5] = ["model", "engine version", "image digest", "node", "machine"];

/// A fact of all sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fact {
    /// Its name.
    pub name: String,
    /// Of each side; `None` where it is not known.
    pub values: Vec<Option<String>>,
}

impl Fact {
    /// Is it one that a reader looks for?
    pub fn is_main(&self) -> bool {
        FIRST.contains(&self.name.as_str())
    }

    /// Is it the same on every side?
    pub fn is_same(&self) -> bool {
        self.values.windows(2).all(|pair| pair[0] == pair[1])
    }
}

/// Facts that should be known, and are not of any side.
pub fn unknown(facts: &[Fact]) -> Vec<&'static str> {
    let known = |name: &&str| facts.iter().any(|fact| fact.name == *name);
    NEEDED.into_iter().filter(|name| !known(name)).collect()
}

/// All facts of these sides, in the order in which they are told.
pub fn facts(sides: &[Side]) -> Vec<Fact> {
    let known: Vec<BTreeMap<String, String>> = sides.iter().map(of_side).collect();
    let names: BTreeSet<&String> = known.iter().flat_map(BTreeMap::keys).collect();
    let mut all: Vec<Fact> = names
        .into_iter()
        .map(|name| Fact {
            name: name.clone(),
            values: known.iter().map(|side| side.get(name).cloned()).collect(),
        })
        .collect();
    let place = |fact: &Fact| FIRST.iter().position(|first| *first == fact.name);
    all.sort_by_key(|fact| place(fact).unwrap_or(FIRST.len()));
    all
}

/// Those of a side; where its loads differ among themselves, each value once.
fn of_side(side: &Side) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for load in side.all() {
        for (name, value) in of_load(load) {
            let values = all.entry(name).or_default();
            if !value.is_empty() && !values.contains(&value) {
                values.push(value);
            }
        }
    }
    all.retain(|_, values| !values.is_empty());
    let joined = all
        .into_iter()
        .map(|(name, values)| (name, values.join(" / ")));
    joined.collect()
}

fn of_load(load: &Load) -> Vec<(String, String)> {
    let results = &load.results;
    let mut all = vec![
        ("stimulus".to_owned(), results.stimulus_sha256.clone()),
        ("recipe".to_owned(), results.name.clone()),
        ("load".to_owned(), text::load(&results.load)),
        (
            "window".to_owned(),
            format!(
                "{:.0} s after {:.0} s of warm-up",
                results.duration_seconds, results.warmup_seconds
            ),
        ),
        (
            "model".to_owned(),
            results.target.model.clone().unwrap_or_default(),
        ),
        (
            "engine".to_owned(),
            results.target.engine.clone().unwrap_or_default(),
        ),
        (
            "instances".to_owned(),
            results
                .target
                .instances
                .len()
                .max(results.target.urls.len())
                .to_string(),
        ),
        (
            "CPUs shared with the engine".to_owned(),
            if results.generator.cores_shared {
                "yes"
            } else {
                "no"
            }
            .to_owned(),
        ),
        (
            "verdict".to_owned(),
            text::verdict(results.validity.verdict).to_owned(),
        ),
    ];
    if results.workload.is_object() {
        all.push(("workload".to_owned(), text::workload(&results.workload)));
    }
    if let Some(manifest) = &load.manifest {
        of_manifest(manifest, &results.name, &mut all);
    }
    all
}

fn of_manifest(manifest: &Manifest, bench: &str, all: &mut Vec<(String, String)>) {
    let mut add = |name: &str, value: String| all.push((name.to_owned(), value));
    add("aif", manifest.aif_version.clone());
    add("cluster", manifest.cluster.clone());
    add("site", manifest.site.clone());
    add("steps started by", manifest.launcher.clone());
    if let Some(job) = &manifest.job {
        add("partition", job.partition.clone().unwrap_or_default());
    }
    if let Some(server) = manifest.steps.get("server") {
        of_server(server, &mut add);
    }
    for recipe in &manifest.recipes {
        let is_of_bench = recipe.kind == "client" && recipe.plan["name"] == bench;
        if recipe.kind != "server" && !is_of_bench {
            continue;
        }
        for (name, part) in recipe.plan.as_object().into_iter().flatten() {
            if !LEFT_OUT.contains(&name.as_str()) {
                settings(&format!("{} {name}", recipe.kind), part, &mut add);
            }
        }
    }
}

fn of_server(server: &StepFile, add: &mut impl FnMut(&str, String)) {
    add("node", server.node.clone());
    add("CPUs of the server", server.cpus.len().to_string());
    let fact = |name: &str| server.facts.get(name).unwrap_or(&Value::Null);
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    add("engine version", word(fact("engine_version")));
    add("image", word(&fact("image")["path"]));
    add("image digest", word(&fact("image")["digest"]));
    let machine = fact("machine");
    add("machine", word(&machine["cpu"]));
    add("GPU", word(&machine["gpu"]));
    add("driver", word(&machine["driver"]));
}

/// The leaves of a plan by their paths; of a command line, its flags.
fn settings(path: &str, value: &Value, add: &mut impl FnMut(&str, String)) {
    match value {
        Value::Null => {}
        Value::Object(parts) if parts.contains_key("secs") => {
            let told = text::duration(value).map(crate::units::human_duration);
            add(path, told.unwrap_or_default());
        }
        Value::Object(parts) => {
            for (name, part) in parts {
                settings(&format!("{path} {name}"), part, add);
            }
        }
        Value::Array(words) if path.ends_with(" args") => flags(words, add),
        other => add(path, text::value(other)),
    }
}

/// Flags with their values: `-np 4` is the fact `flag -np`.
fn flags(words: &[Value], add: &mut impl FnMut(&str, String)) {
    let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
    let is_flag = |word: &str| word.starts_with('-') && word.parse::<f64>().is_err();
    let start = words
        .iter()
        .position(|word| is_flag(word))
        .unwrap_or(words.len());
    add("command", words[..start].join(" "));
    let mut place = start;
    while place < words.len() {
        let values = words[place + 1..]
            .iter()
            .take_while(|word| !is_flag(word))
            .count();
        let told = words[place + 1..=place + values].join(" ");
        let (flag, told) = match words[place].split_once('=') {
            Some((flag, value)) => (flag, format!("{value} {told}").trim_end().to_owned()),
            None => (words[place], told),
        };
        add(
            &format!("flag {flag}"),
            if told.is_empty() {
                "yes".to_owned()
            } else {
                told
            },
        );
        place += values + 1;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_command_line_is_told_flag_by_flag() {
        let mut told = Vec::new();
        let args = json!([
            "llama-server",
            "-np",
            "4",
            "--metrics",
            "-t",
            "-1",
            "--alias=m"
        ]);
        settings("server launch args", &args, &mut |name, value| {
            told.push(format!("{name}: {value}"));
        });
        let wanted = [
            "command: llama-server",
            "flag -np: 4",
            "flag --metrics: yes",
            "flag -t: -1",
            "flag --alias: m",
        ];
        assert_eq!(told, wanted);
    }
}
