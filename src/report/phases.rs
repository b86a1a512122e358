//! The way of a run from its submission to the first token, phase by phase: what Slurm, the start of steps and the engine
//! take before anything is served.
//!
//! | phase | from | to |
//! |---|---|---|
//! | `queue` | submitted | the job started |
//! | `launch` | the job started | the first step of ours ran |
//! | `ready` | the first step of ours ran | the engine answered |
//! | `first_token` | the engine answered | a client had its first token |
//! | `total` | submitted | a client had its first token |
//!
//! Stamps are by the clocks of those who made them (controller, nodes), and Slurm tells whole seconds: a phase that comes
//! out below zero by that is told as zero, one that is further below as clocks that disagree. Pure. A phase that cannot
//! be had says why.

use std::{collections::BTreeMap, fmt};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::{
    run::{Manifest, StepFile},
    slurm::client::TIME_FORMAT,
};

/// By so much may stamps of two clocks contradict each other: Slurm's whole second, and nodes that are not quite equal.
const DISAGREEMENT: SignedDuration = SignedDuration::from_millis(1500);

/// A phase.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Phase {
    /// Its name, for programs.
    pub phase: &'static str,
    /// What it is, for people.
    pub what: &'static str,
    /// How long it took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// When it was over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// Why there is no figure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A moment, or why it is not known.
type Moment = Result<Timestamp, String>;

/// The phases of a run.
pub fn of(manifest: &Manifest, steps: &BTreeMap<String, StepFile>) -> Vec<Phase> {
    let submitted = submitted(manifest);
    let started = started(manifest);
    let first_step = steps
        .values()
        .map(|step| step.started_at)
        .min()
        .ok_or_else(|| "no step has started".to_owned());
    let ready = ready(steps);
    let first_token = first_token(steps);
    vec![
        phase("queue", "submitted to started", &submitted, &started),
        phase("launch", "started to first step", &started, &first_step),
        phase("ready", "first step to engine ready", &first_step, &ready),
        phase(
            "first_token",
            "engine ready to first token of the load",
            &ready,
            &first_token,
        ),
        phase(
            "total",
            "submitted to first token of the load",
            &submitted,
            &first_token,
        ),
    ]
}

/// The phases of a part of a report; none where it has no manifest.
pub(super) fn of_part(part: &super::Part) -> Vec<Phase> {
    let manifest = part.manifest.as_ref();
    manifest.map_or_else(Vec::new, |manifest| of(manifest, &part.steps))
}

impl Phase {
    /// The figure, or why there is none.
    pub(super) fn told(&self) -> String {
        match &self.reason {
            Some(reason) => format!("not known: {reason}"),
            None => super::text::quantity(self.seconds, "s"),
        }
    }
}

fn phase(name: &'static str, what: &'static str, from: &Moment, to: &Moment) -> Phase {
    let mut phase = Phase {
        phase: name,
        what,
        seconds: None,
        ended_at: to.as_ref().ok().copied(),
        reason: None,
    };
    match (from, to) {
        (Ok(from), Ok(to)) => {
            let took = to.duration_since(*from);
            if took < -DISAGREEMENT {
                phase.reason = Some(format!(
                    "it ended {:.1} s before it began: the clocks disagree, or it was ready before",
                    -took.as_secs_f64()
                ));
            } else {
                phase.seconds = Some(took.as_secs_f64().max(0.0));
            }
        }
        (Err(reason), _) | (_, Err(reason)) => phase.reason = Some(reason.clone()),
    }
    phase
}

fn submitted(manifest: &Manifest) -> Moment {
    if manifest.job.is_none() {
        return Err("not a job of Slurm".to_owned());
    }
    let Some(accounting) = &manifest.accounting else {
        return Err("accounting was not asked when the job was submitted".to_owned());
    };
    if let Some(error) = accounting["error"].as_str() {
        return Err(format!("accounting did not answer: {error}"));
    }
    stamp(&accounting["Submit"])
        .ok_or_else(|| "accounting does not tell when the job was submitted".to_owned())
}

fn started(manifest: &Manifest) -> Moment {
    let Some(job) = &manifest.job else {
        return Ok(manifest.started_at);
    };
    job.started_at
        .or_else(|| stamp(&manifest.accounting.as_ref()?["Start"]))
        .ok_or_else(|| "this version of Slurm does not tell when the job started".to_owned())
}

fn ready(steps: &BTreeMap<String, StepFile>) -> Moment {
    let server = steps
        .get("server")
        .ok_or_else(|| "the run had no server of its own".to_owned())?;
    server
        .ready_at
        .ok_or_else(|| "the engine was never ready".to_owned())
}

fn first_token(steps: &BTreeMap<String, StepFile>) -> Moment {
    let mut benches = steps
        .iter()
        .filter(|(role, _)| role.starts_with("bench"))
        .peekable();
    if benches.peek().is_none() {
        return Err("the run had no bench".to_owned());
    }
    benches
        .filter_map(|(_, step)| step.facts.get("first_token_at")?.as_str()?.parse().ok())
        .min()
        .ok_or_else(|| "no token came".to_owned())
}

/// A time as `sacct` tells it with [`TIME_FORMAT`].
fn stamp(value: &serde_json::Value) -> Option<Timestamp> {
    Timestamp::strptime(TIME_FORMAT, value.as_str()?).ok()
}

/// The phases on one line of a terminal.
pub(super) struct Line<'a>(pub(super) &'a [Phase]);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self
            .0
            .iter()
            .filter_map(|phase| Some((phase.what, phase.seconds?)));
        for (at, (what, seconds)) in known.enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{what} {seconds:.1} s")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn manifest(job: bool, accounting: &serde_json::Value) -> Manifest {
        let mut value = json!({
            "schema": 1, "run": "r", "aif_version": "0", "role": "stack", "state": "complete", "site": "s", "cluster": "c",
            "launcher": "srun", "started_at": "2026-03-01T12:00:21Z", "accounting": accounting,
        });
        if job {
            value["job"] = json!({
                "job_id": "7", "cluster": "c", "nodes": "n1", "started_at": "2026-03-01T12:00:20Z",
            });
        }
        serde_json::from_value(value).unwrap()
    }

    fn steps(bench: serde_json::Value) -> BTreeMap<String, StepFile> {
        let step = |role: &str, started: &str, ready: &str, facts: serde_json::Value| {
            let value = json!({
                "schema": 1, "role": role, "recipe": role, "pid": 1, "node": "n1", "started_at": started,
                "ready_at": ready, "facts": facts,
            });
            (role.to_owned(), serde_json::from_value(value).unwrap())
        };
        [
            step(
                "server",
                "2026-03-01T12:00:21.5Z",
                "2026-03-01T12:01:00Z",
                json!({}),
            ),
            step(
                "monitor",
                "2026-03-01T12:00:21.25Z",
                "2026-03-01T12:00:23Z",
                json!({}),
            ),
            step(
                "bench-b",
                "2026-03-01T12:01:01Z",
                "2026-03-01T12:01:02Z",
                bench,
            ),
        ]
        .into()
    }

    fn told(phases: &[Phase]) -> Vec<(&str, String)> {
        let told = |phase: &Phase| match (phase.seconds, &phase.reason) {
            (Some(seconds), None) => format!("{seconds}"),
            (None, Some(reason)) => reason.clone(),
            both => panic!("a figure or a reason: {both:?}"),
        };
        phases
            .iter()
            .map(|phase| (phase.phase, told(phase)))
            .collect()
    }

    #[test]
    fn every_phase_of_a_job_has_its_figure() {
        // the zone is the site's own
        let accounting =
            json!({"Submit": "2026-03-01T13:00:05+0100", "Start": "2026-03-01T13:00:20+0100"});
        let token = json!({"first_token_at": "2026-03-01T12:01:02.75Z"});
        let phases = of(&manifest(true, &accounting), &steps(token));
        let expected = [
            ("queue", "15"),
            ("launch", "1.25"),
            ("ready", "38.75"),
            ("first_token", "2.75"),
            ("total", "57.75"),
        ];
        assert_eq!(
            told(&phases),
            expected.map(|(name, text)| (name, text.to_owned()))
        );
        assert_eq!(
            Line(&phases[..2]).to_string(),
            "submitted to started 15.0 s, started to first step 1.2 s"
        );
    }

    #[test]
    fn what_is_not_known_says_why() {
        let phases = of(
            &manifest(true, &json!({"error": "sacct is not there"})),
            &steps(json!({})),
        );
        let told = told(&phases);
        assert_eq!(told[0].1, "accounting did not answer: sacct is not there");
        assert_eq!(told[1].1, "1.25");
        assert_eq!(told[3].1, "no token came");

        let phases = of(&manifest(false, &json!(null)), &BTreeMap::new());
        assert_eq!(phases[0].reason.as_deref(), Some("not a job of Slurm"));
        assert_eq!(phases[1].reason.as_deref(), Some("no step has started"));
        assert_eq!(phases[4].reason.as_deref(), Some("not a job of Slurm"));
    }

    #[test]
    fn clocks_that_disagree_give_no_figure() {
        let token = |at: &str| json!({"first_token_at": at});
        let phases = |at: &str| of(&manifest(false, &json!(null)), &steps(token(at)));
        assert_eq!(phases("2026-03-01T12:00:59.5Z")[3].seconds, Some(0.0));
        let far = &phases("2026-03-01T12:00:50Z")[3];
        assert!(
            far.reason.as_ref().unwrap().contains("the clocks disagree"),
            "{far:?}"
        );
    }
}
