//! What a run cost: hours of nodes, CPUs and GPUs, energy, money, and each of them by the tokens that came of it.
//!
//! The figures are of the **whole job**, from its start to its end: image, engine and model had to be loaded, too, and a
//! job that waits for its engine is paid like one that answers. The run's own report is made inside the job, so it counts
//! *until the report*, some seconds less than the bill; `aif report RUN` asks again when the job is over. Tokens are the
//! output tokens of all loads, warm-up and drain included, for these were paid as well.
//!
//! Energy is given only of a job that had its nodes alone (all CPUs of each): Slurm measures nodes, and says itself that
//! the figure of a job on a shared node is not the job's. What cannot be had says why.

use serde::Serialize;

use super::{
    facts::{Fact, fact},
    gather::{Bench, Part},
    text,
};
use crate::{
    files,
    run::Manifest,
    site::Price,
    slurm::accounting::Accounting,
    stats::results::{Results, Tokens},
};

/// The cost of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cost {
    /// The run.
    pub run: String,
    /// `end`, or `report` where the job was not over when it was counted.
    pub until: &'static str,
    /// Why there is none at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The figures.
    pub figures: Vec<Figure>,
}

/// One of the figures: a value or the reason why there is none.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// Its name, for programs.
    pub figure: &'static str,
    /// What it is, for people.
    pub what: &'static str,
    /// Its unit.
    pub unit: String,
    /// How much.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// Why it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A value, or why there is none.
type Known = Result<f64, String>;

impl Cost {
    /// The cost of a part of a report; `None` where nothing tells what it was.
    pub(super) fn of(part: &Part) -> Option<Self> {
        let manifest = part.manifest.as_ref()?;
        let tokens = tokens(part);
        Some(Self::reckon(&part.id, manifest, &tokens))
    }

    fn reckon(run: &str, manifest: &Manifest, tokens: &Known) -> Self {
        let mut cost = Self {
            run: run.to_owned(),
            until: "report",
            reason: None,
            figures: Vec::new(),
        };
        match accounting(manifest) {
            Ok(accounting) => {
                cost.until = if accounting.ended { "end" } else { "report" };
                cost.figures = figures(manifest, &accounting, tokens);
            }
            Err(reason) => cost.reason = Some(reason),
        }
        cost
    }

    /// What it counts, in a sentence.
    pub(super) fn scope(&self) -> String {
        if let Some(reason) = &self.reason {
            return format!("Not known: {reason}.");
        }
        let until = match self.until {
            "end" => "to its end",
            _ => {
                "until the report, which is made before it ends (`aif report` asks again when it is over)"
            }
        };
        format!("Of the whole job, from its start {until}, the start of the engine included.")
    }

    /// The figures as rows.
    pub(super) fn facts(&self) -> Vec<Fact> {
        let row = |figure: &Figure| fact(figure.what, figure.told());
        self.figures.iter().map(row).collect()
    }

    /// Those that are known, on one line; `None` without any.
    pub(super) fn line(&self) -> Option<String> {
        let shown = ["node_hours", "cpu_hours", "gpu_hours", "energy", "money"];
        let per_token = |name: &str| name.contains("token");
        let known: Vec<String> = self
            .figures
            .iter()
            .filter(|figure| figure.figure != "output_tokens")
            .filter(|figure| shown.contains(&figure.figure) || per_token(figure.figure))
            .filter(|figure| figure.value.is_some())
            .map(Figure::told)
            .collect();
        let until = if self.until == "end" {
            ""
        } else {
            " until the report"
        };
        (!known.is_empty()).then(|| format!("{}{until}", known.join(", ")))
    }
}

impl Figure {
    /// The figure with its unit, or why there is none.
    pub(super) fn told(&self) -> String {
        match &self.reason {
            Some(reason) => format!("not known: {reason}"),
            None => text::quantity(self.value, &self.unit),
        }
    }
}

/// What is known of the job, or why nothing is.
fn accounting(manifest: &Manifest) -> Result<Accounting, String> {
    if manifest.job.is_none() {
        return Err("not a job of Slurm".to_owned());
    }
    let Some(kept) = &manifest.accounting else {
        return Err(
            "accounting was not asked; `aif report` asks it where Slurm is there".to_owned(),
        );
    };
    if let Some(error) = kept["error"].as_str() {
        return Err(format!("accounting did not answer: {error}"));
    }
    Ok(Accounting::of_kept(kept))
}

fn figures(manifest: &Manifest, accounting: &Accounting, tokens: &Known) -> Vec<Figure> {
    let hours = |name: &str| {
        let told = accounting.hours(name);
        told.ok_or_else(|| "accounting does not tell what the job had, or for how long".to_owned())
    };
    let nodes = hours("node");
    let gpus = if nodes.is_ok() && accounting.hours("gres/gpu").is_none() {
        Err("no GPU was allocated".to_owned())
    } else {
        hours("gres/gpu")
    };
    let cpus = hours("cpu");
    let energy = energy(manifest, accounting);
    let money = manifest
        .price
        .as_ref()
        .ok_or_else(|| "the site file has no `price`".to_owned())
        .and_then(|price| money(price, &gpus, &nodes, &cpus));
    let currency = manifest.price.as_ref().map_or("", |price| &price.currency);
    let over = |above: &Known, below: &Known| -> Known {
        let (above, below) = (above.clone()?, below.clone()?);
        if below > 0.0 {
            Ok(above / below)
        } else {
            Err("there is nothing to divide by".to_owned())
        }
    };
    let millions = tokens.clone().map(|tokens| tokens / 1e6);
    vec![
        figure("node_hours", "node-hours", "node-hours", &nodes),
        figure("cpu_hours", "CPU-hours", "CPU-hours", &cpus),
        figure("gpu_hours", "GPU-hours", "GPU-hours", &gpus),
        figure(
            "billing_hours",
            "billing units × hours",
            "unit-hours",
            &hours("billing"),
        ),
        figure("energy", "energy of its nodes", "J", &energy),
        figure("output_tokens", "output tokens", "tokens", tokens),
        figure(
            "tokens_per_gpu_hour",
            "output tokens of a GPU-hour",
            "tokens/GPU-hour",
            &over(tokens, &gpus),
        ),
        figure(
            "tokens_per_node_hour",
            "output tokens of a node-hour",
            "tokens/node-hour",
            &over(tokens, &nodes),
        ),
        figure(
            "joules_per_token",
            "energy of an output token",
            "J/token",
            &over(&energy, tokens),
        ),
        figure("money", "price", currency, &money),
        figure(
            "money_per_million_tokens",
            "price of a million output tokens",
            &format!("{currency}/Mtoken"),
            &over(&money, &millions),
        ),
    ]
}

fn figure(figure: &'static str, what: &'static str, unit: &str, known: &Known) -> Figure {
    Figure {
        figure,
        what,
        unit: unit.to_owned(),
        value: known.as_ref().ok().copied(),
        reason: known.as_ref().err().cloned(),
    }
}

/// Joules that are the job's own.
fn energy(manifest: &Manifest, accounting: &Accounting) -> Known {
    let Some(joules) = accounting.joules() else {
        return Err(if accounting.ended {
            "Slurm measures none here (the site's AcctGatherEnergyType)".to_owned()
        } else {
            "Slurm adds it up when the job ends".to_owned()
        });
    };
    let on_node = manifest.job.as_ref().and_then(|job| job.node_cpus);
    let whole = on_node.is_some_and(|on_node| {
        accounting.components.iter().all(|component| {
            let both = component.count("cpu").zip(component.count("node"));
            both.is_some_and(|(cpus, nodes)| (cpus - nodes * f64::from(on_node)).abs() < 0.5)
        })
    });
    if whole {
        Ok(joules)
    } else {
        let joules = text::number(joules);
        Err(format!(
            "the job had not all CPUs of its nodes, as far as is known, and Slurm's {joules} J are of whole nodes (`--exclusive` makes them the job's)"
        ))
    }
}

/// The prices that are given, added up. No GPU costs nothing, as long as something else does.
fn money(price: &Price, gpus: &Known, nodes: &Known, cpus: &Known) -> Known {
    let rates = [
        (price.per_gpu_hour, gpus),
        (price.per_node_hour, nodes),
        (price.per_cpu_hour, cpus),
    ];
    let given: Vec<(f64, &Known)> = rates
        .into_iter()
        .filter_map(|(rate, hours)| Some((rate?, hours)))
        .collect();
    let without_gpu = nodes.is_ok() && gpus.is_err();
    let mut sum = None;
    for (rate, hours) in &given {
        match hours {
            Ok(hours) => *sum.get_or_insert(0.0) += rate * hours,
            Err(_) if without_gpu && std::ptr::eq(*hours, gpus) => {}
            Err(reason) => return Err(reason.clone()),
        }
    }
    sum.ok_or_else(|| {
        if given.is_empty() {
            "the `price` of the site file names no rate".to_owned()
        } else {
            "no GPU was allocated, and the site file prices nothing else".to_owned()
        }
    })
}

/// Output tokens of all loads of a run.
fn tokens(part: &Part) -> Known {
    if !part.steps.contains_key("server") {
        return Err("the engine ran in a job of its own".to_owned());
    }
    let counted = part.benches.iter().flat_map(tokens_of);
    let sum: u64 = counted.map(|tokens| tokens.output.client).sum();
    match (part.benches.is_empty(), sum) {
        (true, _) => Err("the run had no bench".to_owned()),
        (false, 0) => Err("no token came".to_owned()),
        (false, sum) => Ok(sum as f64),
    }
}

/// The counts of a bench; of several loads, those of each.
fn tokens_of(bench: &Bench) -> Vec<Tokens> {
    let Some(results) = &bench.results else {
        return Vec::new();
    };
    let Some(series) = &results.series else {
        return vec![results.tokens.clone()];
    };
    let of_level = |folder: &str| {
        let path = bench.folder.join(folder).join("results.json");
        files::read_json::<Results>(&path).ok()
    };
    let levels = series.levels.iter();
    levels
        .filter_map(|level| Some(of_level(&level.folder)?.tokens))
        .collect()
}

#[cfg(test)]
#[path = "cost_tests.rs"]
mod cost_tests;
