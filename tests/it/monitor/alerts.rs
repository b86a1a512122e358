//! The rules that we write: real `promtool` reads them, and each alert fires when it should and is silent when not.

use std::{path::Path, process::Command, time::Duration};

use aif::{
    engine,
    files::{self, Durability},
    prometheus::{
        alerts::{EngineNames, Facts, alerts},
        rules::{Recorded, rules_yml},
    },
    recipe::{AlertKind, AlertsPlan},
};

use super::program;

/// What is fed and what must come of it: `promtool test rules` reads it beside the rules.
const CASES: &str = include_str!("../../data/prometheus/alerts.test.yml");

/// The rule file of a recipe that says nothing of alerts, in a run whose clients want a first token in 2 s and whose job
/// takes half an hour.
fn write_rules(folder: &Path) {
    let engines: Vec<EngineNames> = engine::profiles().map(engine::Profile::names).collect();
    let recorded: Vec<Recorded> = engine::profiles()
        .flat_map(|profile| profile.recorded)
        .copied()
        .collect();
    let facts = Facts {
        engines: &engines,
        interval: Duration::from_secs(2),
        time_to_first_token: Some(Duration::from_secs(2)),
        job: Some(Duration::from_mins(30)),
    };
    let text = rules_yml(&alerts(&AlertsPlan::default(), &facts), &recorded).unwrap();
    for (name, text) in [("rules.yml", text.as_str()), ("cases.yml", CASES)] {
        files::write_atomic(&folder.join(name), text.as_bytes(), 0o644, Durability::Fast).unwrap();
    }
}

fn promtool(folder: &Path, arguments: &[&str]) {
    let output = Command::new(program("promtool"))
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "promtool {arguments:?}: {}{}\nthe rules:\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
        files::read_text(&folder.join("rules.yml")).unwrap()
    );
}

#[test]
fn every_alert_fires_when_it_should_and_only_then() {
    let folder = tempfile::tempdir().unwrap();
    write_rules(folder.path());
    promtool(
        folder.path(),
        &["check", "rules", "--lint-fatal", "rules.yml"],
    );
    promtool(folder.path(), &["test", "rules", "cases.yml"]);
    let rules = files::read_text(&folder.path().join("rules.yml")).unwrap();
    insta::with_settings!({ prepend_module_to_snapshot => false, snapshot_path => "../snapshots" }, {
        insta::assert_snapshot!("rules_of_a_monitor", rules);
    });
    let names: Vec<&str> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    assert_eq!(names.len(), AlertKind::ALL.len());
    for name in names {
        // once with something that it says, once where it says nothing
        let tested = CASES.matches(&format!("alertname: {name}\n")).count();
        let silent = CASES
            .split("alertname: ")
            .filter(|case| case.starts_with(&format!("{name}\n")) && !case.contains("exp_labels"))
            .count();
        assert!(
            tested > silent && silent > 0,
            "{name}: {tested} cases, {silent} of silence"
        );
    }
}

#[test]
fn names_of_the_original_tool_are_recorded() {
    let folder = tempfile::tempdir().unwrap();
    write_rules(folder.path());
    for name in [
        "vllm_requests_total",
        "vllm_request_duration_seconds_bucket",
        "vllm_request_duration_seconds_sum",
        "vllm_request_duration_seconds_count",
        "vllm_time_to_first_token_seconds_bucket",
        "vllm_num_requests_running",
        "vllm_gpu_cache_usage_perc",
    ] {
        let asked = format!("expr: {name}");
        assert!(CASES.contains(&asked), "{name} is not among the cases");
    }
    promtool(folder.path(), &["test", "rules", "cases.yml"]);
}
