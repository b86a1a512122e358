//! Sweeps, searches and repeats: several loads in place of one.
//!
//! The key that a level gives must not be given beside it, and a load with a course of its own has no levels: every such
//! contradiction is told where it stands, for whoever writes it means something else than would run.

use std::time::Duration;

use super::{text, whole};
use crate::recipe::{
    Course, Quantity, Search, Series, Sweep,
    fault::Findings,
    load::{Node, Value},
};

/// Pause where a recipe gives none.
const PAUSE: Duration = Duration::from_secs(2);
/// Share of requests that keep the limits where a recipe gives none.
const ATTAINMENT: f64 = 0.99;
/// Tolerance of a search where a recipe gives none.
const TOLERANCE: f64 = 0.05;

const QUANTITIES: [Quantity; 2] = [Quantity::RequestsPerSecond, Quantity::ConcurrentUsers];

/// What the levels of a workload are levels of, where it has any and names one quantity.
pub(super) fn quantity(workload: &Node) -> Option<Quantity> {
    let node = workload.get("sweep").or_else(|| workload.get("search"))?;
    QUANTITIES
        .into_iter()
        .find(|of| node.get(of.key()).is_some())
}

/// The series that a recipe asks for.
pub(super) fn series(root: &Node, open: bool, findings: &mut Findings) -> Option<Series> {
    let workload = root.get("workload")?;
    let (sweep, search) = (workload.get("sweep"), workload.get("search"));
    let repeats = whole(workload, "repeats").unwrap_or(1);
    let course = match (sweep, search) {
        (Some(sweep), Some(search)) => {
            let later = sweep.at.max(search.at);
            findings.fault(
                later,
                "a sweep goes through given levels, a search finds its own: use one of them",
            );
            return None;
        }
        (None, None) if repeats > 1 => Course::Repeats,
        (None, None) => {
            if let Some(pause) = workload.get("pause_seconds") {
                findings.fault(
                    pause.at,
                    "\"pause_seconds\" lies between the loads of a sweep, a search or repeats, and there is one load: take it out",
                );
            }
            return None;
        }
        (Some(node), None) => {
            let of = level_key(node, "sweep", workload, open, findings)?;
            sweep_of(root, node, of, findings).map(Course::Sweep)?
        }
        (None, Some(node)) => {
            if let Some(repeats) = workload.get("repeats").filter(|_| repeats > 1) {
                findings.fault(
                    repeats.at,
                    "a search repeats the level that it finds, and no other: take \"repeats\" out",
                );
            }
            let of = level_key(node, "search", workload, open, findings)?;
            search_of(root, node, of, findings).map(Course::Search)?
        }
    };
    Some(Series {
        course,
        repeats,
        pause: workload
            .get("pause_seconds")
            .and_then(Node::as_duration)
            .unwrap_or(PAUSE),
    })
}

/// The one quantity that a sweep or a search has levels of, which the load must have and nothing else may give.
fn level_key(
    node: &Node,
    what: &str,
    workload: &Node,
    open: bool,
    findings: &mut Findings,
) -> Option<Quantity> {
    let given: Vec<Quantity> = QUANTITIES
        .into_iter()
        .filter(|of| node.get(of.key()).is_some())
        .collect();
    let [of] = given[..] else {
        findings.fault(
            node.at,
            format!("{what:?} wants levels of \"requests_per_second\" or of \"concurrent_users\", one of the two"),
        );
        return None;
    };
    let key = of.key();
    if let Some(other) = workload.get(key) {
        findings.fault(
            other.at,
            format!("{key:?} stands in {what:?}, too, which gives its levels: take this one out"),
        );
    }
    if open != (of == Quantity::RequestsPerSecond) {
        let here = if open { "an open" } else { "a closed" };
        let at = node.get(key).map_or(node.at, |node| node.at);
        findings.fault(
            at,
            format!("{here} loop has no {key:?}: change the pattern, or the levels of {what:?}"),
        );
        return None;
    }
    let process = text(workload, "arrival.process").unwrap_or_default();
    if open && ["ramp", "trace"].contains(&process.as_str()) {
        findings.fault(
            node.at,
            format!("a {process} has rates of its own, of which there are no levels: take it or {what:?} out"),
        );
        return None;
    }
    Some(of)
}

/// Does the recipe have limits? Whoever asks for them without any is told.
fn needs_limits(root: &Node, at: &Node, what: &str, findings: &mut Findings) -> bool {
    let has = has_limits(root);
    if !has {
        findings.fault(
            at.at,
            format!("{what} needs \"slo\": the limits, such as {{ttft_ms: 500}}"),
        );
    }
    has
}

fn has_limits(root: &Node) -> bool {
    ["ttft_ms", "tpot_ms", "e2e_ms"]
        .iter()
        .any(|key| root.find(&format!("slo.{key}")).is_some())
}

fn sweep_of(root: &Node, node: &Node, of: Quantity, findings: &mut Findings) -> Option<Sweep> {
    let levels = levels(node.get(of.key())?, of, findings)?;
    let stop = node.get("stop_when_slo_missed");
    let stops = stop.and_then(Node::as_bool).unwrap_or(false);
    if let Some(stop) = stop.filter(|_| stops) {
        needs_limits(root, stop, "\"stop_when_slo_missed\"", findings);
        if !levels.is_sorted() {
            findings.fault(
                stop.at,
                "\"stop_when_slo_missed\" wants levels that rise: what follows a level that missed must not be lower",
            );
        }
    }
    let attainment = node.get("slo_attainment");
    if let Some(attainment) = attainment {
        needs_limits(root, attainment, "\"slo_attainment\"", findings);
    }
    let attainment = attainment.and_then(Node::as_f64).unwrap_or(ATTAINMENT);
    Some(Sweep {
        of,
        levels,
        slo_attainment: has_limits(root).then_some(attainment),
        stop_when_slo_missed: stops,
    })
}

/// The levels of a list or a range.
fn levels(node: &Node, of: Quantity, findings: &mut Findings) -> Option<Vec<f64>> {
    let list = match &node.value {
        Value::List(items) => items.iter().filter_map(Node::as_f64).collect(),
        _ => range(node, of, findings)?,
    };
    if list.is_empty() {
        findings.fault(node.at, format!("\"{}\" has no level", of.key()));
        return None;
    }
    for (index, level) in list.iter().enumerate() {
        if list[..index].contains(level) {
            let at = node.items().get(index).map_or(node.at, |item| item.at);
            findings.fault(
                at,
                format!("the level {level} stands there twice: `repeats: 2` runs each level twice"),
            );
            return None;
        }
    }
    Some(list)
}

fn range(node: &Node, of: Quantity, findings: &mut Findings) -> Option<Vec<f64>> {
    let number = |key: &str| node.get(key).and_then(Node::as_f64);
    // what lacks or has a wrong type is told by the table already
    let (from, to) = (number("from")?, number("to")?);
    let steps: u32 = whole(node, "steps")?;
    if from >= to {
        findings.fault(
            node.at,
            format!("a range goes up: {from} is not below {to}"),
        );
        return None;
    }
    let is_log = text(node, "scale").as_deref() == Some("log");
    let at = |step: u32| {
        let share = f64::from(step) / f64::from(steps.max(2) - 1);
        let value = if is_log {
            from * (to / from).powf(share)
        } else {
            from + (to - from) * share
        };
        of.round(value)
    };
    let mut list: Vec<f64> = (0..steps.max(2)).map(at).collect();
    // of few users, several steps may be one
    list.dedup();
    Some(list)
}

fn search_of(root: &Node, node: &Node, of: Quantity, findings: &mut Findings) -> Option<Search> {
    let has = needs_limits(root, node, "a search", findings);
    let bounds = node.get(of.key())?;
    let number = |key: &str| bounds.get(key).and_then(Node::as_f64);
    let (min, max) = (number("min")?, number("max")?);
    if min >= max {
        findings.fault(
            bounds.at,
            format!("a search goes up from min: {min} is not below {max}"),
        );
        return None;
    }
    let share = |key: &str| node.get(key).and_then(Node::as_f64);
    has.then(|| Search {
        of,
        min,
        max,
        slo_attainment: share("slo_attainment").unwrap_or(ATTAINMENT),
        tolerance: share("tolerance").unwrap_or(TOLERANCE),
    })
}

/// The warm-up as a number of requests.
pub(super) fn warmup_requests(workload: &Node, findings: &mut Findings) -> Option<u64> {
    let node = workload.get("warmup_requests")?;
    if workload.get("warmup_seconds").is_some() {
        findings.fault(
            node.at,
            "the warm-up is a time or a number of requests: take \"warmup_requests\" or \"warmup_seconds\" out",
        );
    }
    if text(workload, "arrival.process").as_deref() == Some("ramp") {
        findings.fault(
            node.at,
            "a ramp starts at a time, with the window: write \"warmup_seconds\" in place of \"warmup_requests\"",
        );
    }
    node.as_u64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{ClientPlan, Kind, LoadModel, expand::Variables, plan};

    /// What is wrong with a recipe of this workload, one fault a line.
    fn faults(workload: &str) -> String {
        let text = format!("name: c\nservice_name: s\nworkload:\n{workload}\n");
        let source = plan::Source {
            text: &text,
            path: "x.yaml",
            wanted: Some(Kind::Client),
            overrides: &[],
        };
        match plan::plan(&source, &Variables::new()) {
            Ok(planned) => panic!("no fault: {:?}", planned.plan),
            Err(faults) => faults.to_string(),
        }
    }

    fn levels_of(sweep: &str) -> Vec<f64> {
        let plan = ClientPlan::of(&format!("sweep: {{{sweep}}}, duration_seconds: 1"), "");
        match plan.series.expect("a series").course {
            Course::Sweep(sweep) => sweep.levels,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn levels_come_from_lists_and_ranges() {
        assert_eq!(levels_of("requests_per_second: [4, 0.5]"), [4.0, 0.5]);
        let range = "requests_per_second: {from: 1, to: 9, steps: 5}";
        assert_eq!(levels_of(range), [1.0, 3.0, 5.0, 7.0, 9.0]);
        let log = "requests_per_second: {from: 1, to: 10, steps: 4, scale: log}";
        assert_eq!(levels_of(log), [1.0, 2.154, 4.642, 10.0]);
        // nine steps among four users are four levels
        let few = "concurrent_users: {from: 1, to: 4, steps: 9}";
        assert_eq!(levels_of(few), [1.0, 2.0, 3.0, 4.0]);
    }

    #[test]
    fn the_first_level_is_the_load_of_the_plan() {
        let plan = ClientPlan::of(
            "sweep: {requests_per_second: [4, 8]}, duration_seconds: 1",
            "",
        );
        assert!(
            matches!(plan.load, LoadModel::OpenLoop { requests_per_second: Some(rate), .. } if (rate - 4.0).abs() < 1e-9)
        );
        let plan = ClientPlan::of("sweep: {concurrent_users: [3]}, duration_seconds: 1", "");
        assert!(matches!(
            plan.load,
            LoadModel::ClosedLoop {
                concurrent_users: 3,
                ..
            }
        ));
        assert_eq!(
            ClientPlan::of("repeats: 1, duration_seconds: 1", "").series,
            None
        );
        let series = ClientPlan::of("repeats: 3, duration_seconds: 1", "")
            .series
            .expect("repeats");
        assert_eq!(
            (series.course, series.repeats, series.pause),
            (Course::Repeats, 3, PAUSE)
        );
    }

    #[test]
    fn contradictions_are_told_where_they_stand() {
        let workloads = [
            "search: {until: slo}\n  sweep: {requests_per_second: [1, 2]}",
            "sweep: {requests_per_second: [1], concurrent_users: [1]}",
            "sweep: {slo_attainment: 0.9}",
            "concurrent_users: 2\n  sweep: {concurrent_users: [1, 2]}",
            "pattern: closed-loop\n  sweep: {requests_per_second: [1, 2]}",
            "arrival: {process: ramp, from: 1, to: 2}\n  sweep: {requests_per_second: [1, 2]}",
            "sweep: {concurrent_users: [1, 2, 1]}",
            "sweep: {concurrent_users: [1.5, many]}",
            "sweep: {requests_per_second: {from: 4, to: 2, steps: 3}}",
            "sweep: {requests_per_second: 4}",
            "sweep: {requests_per_second: [2, 1], stop_when_slo_missed: true}",
            "search: {requests_per_second: {min: 8, max: 2}}\n  repeats: 2",
            "pause_seconds: 3",
            "warmup_seconds: 1\n  warmup_requests: 3",
            "arrival: {process: ramp, from: 1, to: 2}\n  warmup_requests: 3",
        ];
        let told =
            workloads.map(|workload| faults(&format!("  duration_seconds: 5\n  {workload}")));
        insta::assert_snapshot!(told.join("\n\n"), @r#"
x.yaml:5:12: unknown key "until"; known here are requests_per_second, concurrent_users, slo_attainment, tolerance
x.yaml:6:10: a sweep goes through given levels, a search finds its own: use one of them

x.yaml:5:10: "sweep" wants levels of "requests_per_second" or of "concurrent_users", one of the two

x.yaml:5:10: "sweep" wants levels of "requests_per_second" or of "concurrent_users", one of the two

x.yaml:5:21: "concurrent_users" stands in "sweep", too, which gives its levels: take this one out

x.yaml:6:32: a closed loop has no "requests_per_second": change the pattern, or the levels of "sweep"

x.yaml:6:10: a ramp has rates of its own, of which there are no levels: take it or "sweep" out

x.yaml:5:36: the level 1 stands there twice: `repeats: 2` runs each level twice

x.yaml:5:30: "workload.sweep.concurrent_users[0]" wants a whole number from 1 to 1000000, found the number 1.5
x.yaml:5:35: "workload.sweep.concurrent_users[1]" wants a whole number from 1 to 1000000, found the text "many"

x.yaml:5:32: a range goes up: 4 is not below 2

x.yaml:5:32: "workload.sweep.requests_per_second" wants a list, each a number above 0 to 10000000, or a mapping of from, to, steps, scale, found the number 4

x.yaml:5:62: "stop_when_slo_missed" needs "slo": the limits, such as {ttft_ms: 500}
x.yaml:5:62: "stop_when_slo_missed" wants levels that rise: what follows a level that missed must not be lower

x.yaml:5:11: a search needs "slo": the limits, such as {ttft_ms: 500}
x.yaml:5:33: a search goes up from min: 8 is not below 2
x.yaml:6:12: a search repeats the level that it finds, and no other: take "repeats" out

x.yaml:5:18: "pause_seconds" lies between the loads of a sweep, a search or repeats, and there is one load: take it out

x.yaml:6:20: the warm-up is a time or a number of requests: take "warmup_requests" or "warmup_seconds" out

x.yaml:6:20: a ramp starts at a time, with the window: write "warmup_seconds" in place of "warmup_requests"
"#);
    }
}
