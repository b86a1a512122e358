//! The cost of runs, reckoned by hand.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::*;

/// A run of an hour and a half on two nodes of eight CPUs and two GPUs each.
fn manifest(change: impl FnOnce(&mut Value)) -> Manifest {
    let mut value = json!({
        "schema": 1, "run": "r", "aif_version": "0", "role": "stack", "state": "complete", "site": "s", "cluster": "c",
        "launcher": "srun", "started_at": "2026-03-01T12:00:21Z",
        "job": {"job_id": "7", "cluster": "c", "nodes": "n[1-2]", "node_cpus": 8},
        "price": {"currency": "EUR", "per_gpu_hour": 2.0, "per_node_hour": 0.5},
        "accounting": {"JobID": "7", "State": "COMPLETED", "ElapsedRaw": "5400", "End": "2026-03-01T13:30:20+0000",
            "AllocTRES": "billing=20,cpu=16,gres/gpu=4,mem=8G,node=2", "ConsumedEnergyRaw": "3600000"},
    });
    change(&mut value);
    serde_json::from_value(value).unwrap()
}

fn told(cost: &Cost) -> String {
    let mut out = format!("{} {}\n", cost.until, cost.scope());
    for figure in &cost.figures {
        let _ = writeln!(out, "{}: {}", figure.figure, figure.told());
    }
    out
}

fn reckon(change: impl FnOnce(&mut Value)) -> Cost {
    Cost::reckon("r", &manifest(change), &Ok(3_000_000.0))
}

fn of<'a>(cost: &'a Cost, name: &str) -> &'a Figure {
    let mut figures = cost.figures.iter();
    figures.find(|figure| figure.figure == name).unwrap()
}

#[test]
fn a_job_that_is_over_has_every_figure() {
    let cost = reckon(|_| {});
    // 1.5 h × (2 nodes, 16 CPUs, 4 GPUs, 20 units); 6 × 2 € + 3 × 0.5 € = 13.5 €
    insta::assert_snapshot!(told(&cost), @r#"
    end Of the whole job, from its start to its end, the start of the engine included.
    node_hours: 3 node-hours
    cpu_hours: 24 CPU-hours
    gpu_hours: 6 GPU-hours
    billing_hours: 30 unit-hours
    energy: 3600000 J
    output_tokens: 3000000 tokens
    tokens_per_gpu_hour: 500000 tokens/GPU-hour
    tokens_per_node_hour: 1000000 tokens/node-hour
    joules_per_token: 1.2 J/token
    money: 13.5 EUR
    money_per_million_tokens: 4.5 EUR/Mtoken
    "#);
    insta::assert_snapshot!(cost.line().unwrap(), @"3 node-hours, 24 CPU-hours, 6 GPU-hours, 3600000 J, 500000 tokens/GPU-hour, 1000000 tokens/node-hour, 1.2 J/token, 13.5 EUR, 4.5 EUR/Mtoken");
}

#[test]
fn a_job_on_a_part_of_a_node_that_still_runs_says_what_it_cannot_know() {
    let cost = reckon(|value| {
        value["price"] = Value::Null;
        value["accounting"]["State"] = "RUNNING".into();
        value["accounting"]["End"] = "Unknown".into();
        value["accounting"]["ConsumedEnergyRaw"] = "".into();
        value["accounting"]["AllocTRES"] = "billing=4,cpu=4,mem=8G,node=1".into();
    });
    insta::assert_snapshot!(told(&cost), @r#"
    report Of the whole job, from its start until the report, which is made before it ends (`aif report` asks again when it is over), the start of the engine included.
    node_hours: 1.5 node-hours
    cpu_hours: 6 CPU-hours
    gpu_hours: not known: no GPU was allocated
    billing_hours: 6 unit-hours
    energy: not known: Slurm adds it up when the job ends
    output_tokens: 3000000 tokens
    tokens_per_gpu_hour: not known: no GPU was allocated
    tokens_per_node_hour: 2000000 tokens/node-hour
    joules_per_token: not known: Slurm adds it up when the job ends
    money: not known: the site file has no `price`
    money_per_million_tokens: not known: the site file has no `price`
    "#);
}

#[test]
fn energy_of_a_shared_node_is_not_the_jobs() {
    let cost = reckon(|value| value["accounting"]["AllocTRES"] = "cpu=4,node=2".into());
    let reason = of(&cost, "energy").reason.clone().unwrap();
    assert!(reason.contains("not all CPUs of its nodes"), "{reason}");
    assert!(
        reason.contains("3600000 J") || reason.contains("3,600,000 J"),
        "{reason}"
    );
    assert_eq!(of(&cost, "joules_per_token").reason, Some(reason));
    let cost = reckon(|value| value["accounting"]["ConsumedEnergyRaw"] = "0".into());
    assert!(of(&cost, "energy").told().contains("AcctGatherEnergyType"));
}

#[test]
fn money_is_never_made_up() {
    let cost = reckon(|value| value["accounting"]["AllocTRES"] = "cpu=4,node=2".into());
    assert_eq!(of(&cost, "money").value, Some(1.5), "no GPU costs nothing");
    let cost = reckon(|value| {
        value["accounting"]["AllocTRES"] = "cpu=4,node=2".into();
        value["price"] = json!({"currency": "EUR", "per_gpu_hour": 2.0});
    });
    assert!(of(&cost, "money").told().contains("prices nothing else"));
    let cost = reckon(|value| value["price"] = json!({"currency": "EUR"}));
    assert!(of(&cost, "money").told().contains("names no rate"));
}

#[test]
fn where_nothing_is_known_one_reason_stands_for_all() {
    let scope = |change: fn(&mut Value)| reckon(change).scope();
    assert_eq!(
        scope(|value| value["job"] = Value::Null),
        "Not known: not a job of Slurm."
    );
    assert_eq!(
        scope(|value| value["accounting"] = json!({"error": "sacct refused: off"})),
        "Not known: accounting did not answer: sacct refused: off."
    );
    assert!(scope(|value| value["accounting"] = Value::Null).contains("was not asked"));
}
