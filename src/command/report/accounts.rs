//! What accounting says of a run's job, asked again when the job is over.
//!
//! The report that a run makes itself is made inside its job, for which Slurm has no end and no energy yet, and a run that was told to end
//! did not ask at all. So `aif report` asks once where there is a Slurm, and keeps the answer in the manifest; from
//! then on it is final and nobody is asked again. A job's number comes again after a requeue, and on other clusters: only
//! lines of the run's own cluster that it ran within are taken. What fails here is told and changes nothing.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::{
    command::Shell,
    files,
    run::{Manifest, RunDir},
    slurm::{
        accounting::{self, Accounting, Line},
        client::{self, TIME_FORMAT},
    },
    terminal,
};

/// Clocks of controller and node may disagree by so much.
const SLACK: SignedDuration = SignedDuration::from_secs(5);

/// Asks for what is not final yet.
pub(super) async fn complete(run: &RunDir, shell: &Shell) {
    // as it is written, so that fields of another version stay
    let Ok(mut kept) = files::read_json::<Value>(&run.manifest()) else {
        return;
    };
    let Ok(manifest) = serde_json::from_value::<Manifest>(kept.clone()) else {
        return;
    };
    let Some(job) = manifest.job.as_ref().filter(|_| wants(&manifest)) else {
        return;
    };
    match client::sacct(&job.job_id, &accounting::FIELDS, Some(&manifest.cluster)).await {
        Ok(lines) => {
            let lines = own(lines, manifest.started_at);
            let Some(value) = accounting::kept(&lines) else {
                return;
            };
            kept["accounting"] = value;
            if manifest.price.is_none()
                && let Ok(site) = shell.site()
            {
                kept["price"] = json!(site.price);
            }
            if let Err(error) = files::write_json(&run.manifest(), &kept) {
                terminal::note(format_args!(
                    "aif: the cost of {} is not kept: {error}",
                    run.id
                ));
            }
        }
        // a report is made on any machine
        Err(client::Error::Missing { .. }) => {}
        Err(error) => terminal::note(format_args!(
            "aif: the cost of {} stays as it was: {error}",
            run.id
        )),
    }
}

/// Is the run over, and the last word about its job not heard?
fn wants(manifest: &Manifest) -> bool {
    let known = manifest.accounting.as_ref();
    manifest.state != "running" && !known.is_some_and(|kept| Accounting::of_kept(kept).ended)
}

/// The lines of the job that was there when the run started.
fn own(lines: Vec<Line>, started_at: Timestamp) -> Vec<Line> {
    let stamp = |line: &Line, name: &str| Timestamp::strptime(TIME_FORMAT, line.get(name)?).ok();
    let belongs = |line: &Line| {
        stamp(line, "Start").is_some_and(|start| start <= started_at + SLACK)
            && stamp(line, "End").is_none_or(|end| end + SLACK >= started_at)
    };
    lines.into_iter().filter(belongs).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_incarnation_of_the_job_is_not_the_runs() {
        let line = |start: &str, end: &str| -> Line {
            [("Start", start), ("End", end)]
                .map(|(name, text)| (name.to_owned(), text.to_owned()))
                .into()
        };
        let started = "2026-03-01T12:00:20Z".parse().unwrap();
        let cases = [
            ("2026-03-01T13:00:19+0100", "2026-03-01T13:09:00+0100", true),
            ("2026-03-01T13:00:19+0100", "Unknown", true),
            ("2026-03-01T13:00:19+0100", "2026-03-01T13:00:20+0100", true),
            (
                "2026-03-01T13:20:00+0100",
                "2026-03-01T13:29:00+0100",
                false,
            ),
            (
                "2026-03-01T12:20:00+0100",
                "2026-03-01T12:29:00+0100",
                false,
            ),
            ("Unknown", "Unknown", false),
        ];
        for (start, end, expected) in cases {
            let found = own(vec![line(start, end)], started);
            assert_eq!(found.len(), usize::from(expected), "{start} {end}");
        }
    }
}
