//! What a run leaves for people and other tools: pages, tables, files of other tools' formats.
//!
//! A report is made of what lies in the run folder and of nothing else, so `aif report` makes the same one again years
//! later on another machine. Whatever is missing (a run that was killed, an older format) is named in the report instead
//! of failing it: half a report of a broken run is when a report is needed most. What can fail is writing it.
//!
//! [`gather`] reads the folder, [`outcome`] judges it in a word, [`chart`] and [`svg`] draw, [`levels`] tells several
//! loads, [`phases`] how long the start took, [`cost`] what it cost; [`html`], [`markdown`] and [`summary`] tell the same facts to a browser, a
//! text and a terminal, [`text`] holds how numbers and times are written in all three. [`csv`], [`vllm`] and [`hlog`] are
//! files for other tools, which the bench writes; [`aiperf`] and [`detailed`] are made on demand, from samples;
//! [`recount`] makes a result of them again.
//!
//! [`alerts`] are those that the monitor kept, [`timeline`] what Prometheus saw over time, [`cdf`] the distributions of
//! latencies, [`turns`] those of conversations. [`live`] is what the page of a run that goes on says besides.

pub mod aiperf;
pub mod alerts;
pub mod cdf;
mod certified;
pub mod chart;
pub mod cost;
pub mod csv;
pub mod detailed;
mod facts;
pub mod gather;
mod generator;
pub mod hlog;
pub mod html;
pub mod index;
pub mod levels;
pub mod live;
pub mod markdown;
pub mod outcome;
pub mod phases;
pub mod recount;
mod samplers;
mod scale;
pub mod summary;
pub mod svg;
pub mod table;
pub mod text;
pub mod timeline;
pub mod turns;
pub mod vllm;

use std::path::Path;

pub use gather::{Bench, Part, Report};
pub use outcome::Outcome;
pub use summary::Summary;

use crate::{
    files::{self, Durability},
    run::RunDir,
};

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder.
    #[error(transparent)]
    Files(#[from] files::Error),
    /// The page cannot be rendered: a fault of ours.
    #[error("the report's page cannot be rendered")]
    Render(#[from] minijinja::Error),
}

/// Writes `report.html`, `report.md` and `cost.json` into the run folder and gives what the terminal shows.
pub fn write(run: &RunDir) -> Result<Summary, Error> {
    write_into(&Report::read(run)?, &run.path)
}

/// Writes one report of several runs into a folder, which is made where it is missing.
pub fn write_joined(runs: &[RunDir], folder: &Path) -> Result<Summary, Error> {
    files::create_folder(folder, 0o755)?;
    let folder = folder
        .canonicalize()
        .map_err(|source| files::Error::new("open", folder, source))?;
    write_into(&Report::join(runs, &folder)?, &folder)
}

fn write_into(report: &Report, folder: &Path) -> Result<Summary, Error> {
    let page = html::render(report)?;
    let path = folder.join("report.html");
    files::write_atomic(&path, page.as_bytes(), 0o644, Durability::Synced)?;
    let text = markdown::render(report);
    let markdown = folder.join("report.md");
    files::write_atomic(&markdown, text.as_bytes(), 0o644, Durability::Synced)?;
    let costs: Vec<_> = report.parts.iter().filter_map(cost::Cost::of).collect();
    let costs = serde_json::json!({"schema": 1, "runs": costs});
    files::write_json(&folder.join("cost.json"), &costs)?;
    Ok(Summary::of(report, &path))
}
