//! What a monitor watches for, and what it saw.
//!
//! Prometheus evaluates the rules; the monitor writes them, tells its log of each alert that begins or ends, and keeps
//! in the run what its series `ALERTS` says. The file is renewed at each change, so a run that is killed still has
//! what was seen until then, and once more at the end.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use jiff::Timestamp;
use tokio::time::Instant;

use crate::{
    clock, engine,
    exit::{Exit, Failure},
    files,
    prometheus::{
        alerts::{self, EngineNames, Facts},
        config,
        episodes::{Alerts, FILE},
        process::Binary,
        query::{Client, Range},
        rules::{self, Recorded},
    },
    recipe::{AlertKind, AlertsPlan},
    role::Context,
    run::Manifest,
};

/// Steps of a range query over the run at the most; a longer run is asked more coarsely.
const STEPS: u32 = 100_000;
/// Places at which it is looked whether an alert had anything to judge.
const LOOKS: u32 = 240;
/// Prometheus has this long to tell what it saw.
const LIMIT: Duration = Duration::from_secs(5);
/// `promtool` has this long.
const CHECK_LIMIT: Duration = Duration::from_secs(10);

type Labels = BTreeMap<String, String>;

/// The alerts of a monitor at work.
#[derive(Debug)]
pub(super) struct Alarms {
    seen: Alerts,
    since: Timestamp,
    interval: Duration,
    path: PathBuf,
    firing: Vec<Labels>,
    /// When a change is to be kept once more.
    again: Option<Instant>,
}

impl Alarms {
    /// The alerts of a plan, and the text of the rule file.
    pub(super) fn new(
        plan: &AlertsPlan,
        context: &Context,
        interval: Duration,
    ) -> Result<(Self, String), config::Error> {
        let engines: Vec<EngineNames> = engine::profiles().map(engine::Profile::names).collect();
        let recorded: Vec<Recorded> = engine::profiles()
            .flat_map(|profile| profile.recorded)
            .copied()
            .collect();
        let now = clock::now();
        let ends_at = context.job.as_ref().and_then(|job| job.ends_at);
        let rules = alerts::alerts(
            plan,
            &Facts {
                engines: &engines,
                interval,
                time_to_first_token: wanted_by_clients(context),
                job: ends_at.and_then(|end| end.duration_since(now).try_into().ok()),
            },
        );
        let text = rules::rules_yml(&rules, &recorded)?;
        let path = context.run.metrics().join(FILE);
        let mut seen = Alerts::new(&rules);
        seen.resume(&path);
        let alarms = Self {
            seen,
            since: now,
            interval,
            path,
            firing: Vec::new(),
            again: None,
        };
        Ok((alarms, text))
    }

    /// Tells the log what has begun and what is over.
    pub(super) async fn look(&mut self, client: &Client) {
        if self.seen.rules.is_empty() {
            return;
        }
        let now = match client.instant("ALERTS{alertstate=\"firing\"}", None).await {
            Ok(series) => series.into_iter().map(|series| series.labels),
            Err(error) => {
                tracing::debug!(%error, "Prometheus did not tell its alerts");
                return;
            }
        };
        let now: Vec<Labels> = now.collect();
        let changed = now != self.firing;
        for labels in now.iter().filter(|labels| !self.firing.contains(labels)) {
            let alert = labels.get("alertname");
            tracing::warn!(alert, ?labels, "An alert fires");
        }
        for labels in self.firing.iter().filter(|labels| !now.contains(labels)) {
            let alert = labels.get("alertname");
            tracing::info!(alert, ?labels, "An alert is over");
        }
        self.firing = now;
        if changed {
            // that an alert is over shows in the series only when it has been missing for a while
            self.again = Some(Instant::now() + self.interval * 2);
            self.keep(client).await;
        } else if self.again.is_some_and(|at| Instant::now() >= at) {
            self.again = None;
            self.keep(client).await;
        }
    }

    /// Keeps what was seen until now.
    pub(super) async fn keep(&mut self, client: &Client) {
        if self.seen.rules.is_empty() {
            return;
        }
        let end = clock::now();
        let length: Duration = end
            .duration_since(self.since)
            .try_into()
            .unwrap_or_default();
        let range = up_to(end, length, self.interval.max(length / STEPS));
        let asked = tokio::time::timeout(LIMIT, self.seen.ask(client, range)).await;
        self.seen.problem = match asked {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(format!("Prometheus did not tell its alerts: {error}")),
            Err(_) => Some(format!("Prometheus did not tell its alerts in {LIMIT:?}")),
        };
        if self.seen.problem.is_none() {
            let range = up_to(end, length, self.interval.max(length / LOOKS));
            let asked = tokio::time::timeout(LIMIT, self.seen.ask_data(client, range)).await;
            if let Ok(Err(error)) = asked {
                tracing::debug!(%error, "Prometheus did not tell which alerts had data");
            }
        }
        self.write();
    }

    /// Nobody can be asked any more.
    pub(super) fn lost(&mut self) {
        if !self.seen.rules.is_empty() {
            self.seen.problem = Some("Prometheus was lost".to_owned());
            self.write();
        }
    }

    fn write(&self) {
        if let Some(problem) = &self.seen.problem {
            tracing::warn!(problem, "The alerts of this run are not all known");
        }
        if let Err(error) = self.seen.write(&self.path) {
            tracing::warn!(%error, "The alerts could not be kept");
        }
    }

    /// Since when there is a monitor.
    pub(super) fn since(&self) -> Timestamp {
        self.since
    }

    /// Is there anything to watch for?
    pub(super) fn watches(&self) -> bool {
        !self.seen.rules.is_empty()
    }

    /// Does an alert of a target or an engine fire at the moment?
    pub(super) fn fires(&self) -> bool {
        let names = self
            .firing
            .iter()
            .filter_map(|alert| alert.get("alertname"));
        let telling = [AlertKind::TargetDown, AlertKind::EngineLost].map(alerts::name);
        names
            .into_iter()
            .any(|name| telling.contains(&name.as_str()))
    }
}

/// A range of at least this length whose last point is its end: an alert that has just begun to fire is the one that
/// the end is about.
fn up_to(end: Timestamp, length: Duration, step: Duration) -> Range {
    let steps = length.as_nanos().div_ceil(step.as_nanos().max(1));
    let whole = step * u32::try_from(steps).unwrap_or(u32::MAX);
    let start = end.checked_sub(whole).unwrap_or(end);
    Range { start, end, step }
}

/// The lowest time to first token that the clients of this run want.
fn wanted_by_clients(context: &Context) -> Option<Duration> {
    let manifest = files::read_json::<Manifest>(&context.run.manifest()).ok()?;
    let wanted = manifest
        .recipes
        .iter()
        .filter_map(|recipe| recipe.plan["slo"]["ttft_ms"].as_f64());
    let lowest = wanted.reduce(f64::min)?;
    Duration::try_from_secs_f64(lowest / 1000.0).ok()
}

/// Has `promtool` look at the rules: with a rule that it cannot read Prometheus would not start, and say so in a log.
/// Where there is none, that has to do.
pub(super) async fn check(
    binary: &Binary,
    context: &Context,
    file: &std::path::Path,
) -> Result<(), Failure> {
    let Some(mut promtool) = binary.promtool(&context.env, file) else {
        return Ok(());
    };
    let checked = promtool
        .args(["check", "rules"])
        .arg(file)
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output();
    match tokio::time::timeout(CHECK_LIMIT, checked).await {
        Ok(Ok(output)) if output.status.code() == Some(1) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let faults = faults(&said);
            if faults.is_empty() {
                tracing::debug!(%said, "promtool could not look at the rules");
                return Ok(());
            }
            let message = format!(
                "alerts.rules of the recipe cannot be read by Prometheus: {}",
                faults.join("; ")
            );
            Err(Failure::new(Exit::Recipe, message))
        }
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => {
            tracing::debug!(%error, "promtool could not be run");
            Ok(())
        }
        Err(_) => {
            tracing::debug!("promtool did not answer");
            Ok(())
        }
    }
}

/// What `promtool` says of rules: `FILE: LINE:COLUMN: group "…", rule 1, "Name": what is wrong`.
fn faults(said: &str) -> Vec<String> {
    let after_group = |line: &str| {
        let rest = line.split_once("group \"")?.1;
        let (_, rest) = rest.split_once(", ")?;
        let (_, rule) = rest.split_once(", ")?;
        Some(rule.trim().to_owned())
    };
    said.lines().filter_map(after_group).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_that_is_wrong_is_named() {
        let said = "  FAILED:\n/local/rules.yml: 5:11: group \"aif-alerts\", rule 1, \"Bad\": could not parse expression: 1:6: parse error: unexpected end of input\n";
        assert_eq!(
            faults(said),
            ["\"Bad\": could not parse expression: 1:6: parse error: unexpected end of input"]
        );
        assert!(faults("promtool: error: path does not exist, try --help").is_empty());
    }

    #[test]
    fn the_last_point_of_a_range_is_its_end() {
        let end: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        let seconds = Duration::from_secs;
        let start = |length| {
            let range = up_to(end, length, seconds(2));
            assert_eq!((range.end, range.step), (end, seconds(2)));
            range.start.to_string()
        };
        assert_eq!(start(seconds(7)), "2026-01-01T00:00:52Z");
        assert_eq!(start(seconds(8)), "2026-01-01T00:00:52Z");
        assert_eq!(start(Duration::ZERO), "2026-01-01T00:01:00Z");
    }
}
