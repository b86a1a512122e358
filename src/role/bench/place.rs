//! Where results go: a folder that is made, and room that is taken, before anything is measured.
//!
//! What can fail is making it, which ends the bench before its load, and writing in it, which is told at its end (73).

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use super::{measure::Measured, outcome};
use crate::{
    exit::{Exit, Failure, OrExit as _},
    files::{self, Durability},
    recipe::{Api, ClientPlan},
    report, samples,
    stats::results::Results,
};

/// Room that is taken for the results before anything is measured.
const RESERVE: usize = 512 << 10;

/// Where the results go, with room for them: a disk that fills while they are measured still has that.
#[derive(Debug)]
pub(super) struct Place {
    folder: PathBuf,
    room: File,
}

impl Place {
    /// Makes the folder and takes the room before anything is measured: a bad path or a full disk fails now, and not after
    /// an hour.
    pub(super) fn take(folder: &Path) -> Result<Self, Failure> {
        let room = files::create_folder(folder, 0o755)
            .and_then(|()| files::reserve(folder, RESERVE))
            .or_exit(Exit::CannotCreate, || {
                "the results could not be written there".to_owned()
            })?;
        samples::forget(folder);
        Ok(Self {
            folder: folder.to_owned(),
            room,
        })
    }

    /// Writes the result of one load in all its forms.
    pub(super) fn write(self, plan: &ClientPlan, measured: &Measured) -> Result<(), Failure> {
        let Measured {
            results,
            tally,
            elapsed,
            ..
        } = measured;
        let window = outcome::window(plan, tally, *elapsed);
        // that tool has no such requests
        let vllm = (plan.api != Api::Http && !plan.api.is_of_vectors())
            .then(|| report::vllm::render(results, tally, window));
        let vllm = vllm.map(serde_json::to_value).transpose();
        let vllm = vllm.or_exit(Exit::Bug, || {
            "the results cannot be written as JSON".to_owned()
        })?;
        let log = report::hlog::render(results, tally, window)
            .map_err(|error| Failure::new(Exit::Bug, error))?;
        let path = self.folder.join("histograms.hlog");
        self.put(results, vllm.as_ref())?;
        files::write_atomic(&path, &log, 0o644, Durability::Synced)
            .or_exit(Exit::CannotCreate, || {
                "the histograms cannot be written".to_owned()
            })
    }

    /// Writes a result, and what stands beside it.
    pub(super) fn put(
        self,
        results: &Results,
        vllm: Option<&serde_json::Value>,
    ) -> Result<(), Failure> {
        let mut tables = vec![("results.csv", report::csv::render(results))];
        if let Some(series) = &results.series {
            tables.push(("levels.csv", report::levels::csv(series)));
        }
        drop(self.room);
        let file = |name: &str| self.folder.join(name);
        let table = |(name, text): &(&str, String)| {
            files::write_atomic(&file(name), text.as_bytes(), 0o644, Durability::Synced)
        };
        files::write_json(&file("results.json"), results)
            .and_then(|()| vllm.map_or(Ok(()), |vllm| files::write_json(&file("vllm.json"), vllm)))
            .and_then(|()| tables.iter().try_for_each(table))
            .or_exit(Exit::CannotCreate, || {
                "the results cannot be written".to_owned()
            })
    }
}
