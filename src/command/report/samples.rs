//! What is made of the samples beside a result: the result again, and files of other tools' formats.
//!
//! A folder of results is any that holds `results.json` or samples: that of a bench, or of one of its levels. What can
//! fail: no such folder, no samples in it, samples that cannot be read (66), a file that cannot be written (73).

use std::{
    fmt,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{
    exit::{Exit, Failure, OrExit as _},
    files::{self, Durability},
    report::{
        aiperf, csv, detailed,
        recount::{Recount, differences},
        vllm,
    },
    samples::files_in,
    stats::results::Completeness,
    terminal,
};

/// Folders below a bench's that may hold results.
const DEEP: usize = 4;
/// Differences that are shown.
const SHOWN: usize = 10;

/// A file for another tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// `profile_export_aiperf.json`, as `AIPerf` writes it
    Aiperf,
    /// vllm.json, as `vllm bench serve --save-result` writes it
    Vllm,
    /// results.csv, the metrics as a table
    Csv,
}

/// What came of a count.
#[derive(Debug, serde::Serialize)]
pub(super) struct Counted {
    folder: PathBuf,
    samples: u64,
    /// Requests that are in no file.
    missing: u64,
    /// Was there no whole result, so that one was written?
    written: bool,
    differences: Vec<String>,
}

impl Counted {
    pub(super) fn exit(&self) -> Exit {
        if self.missing > 0 {
            Exit::NoInput
        } else if self.differences.is_empty() {
            Exit::Done
        } else {
            Exit::Invalid
        }
    }
}

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (folder, samples) = (self.folder.display(), self.samples);
        if self.missing > 0 {
            let missing = self.missing;
            write!(
                f,
                "{folder}: cannot be counted again: {missing} of {} requests are not in the samples",
                samples + missing
            )
        } else if self.written {
            write!(
                f,
                "{folder}: results.json was not whole, and was made from {samples} samples"
            )
        } else if self.differences.is_empty() {
            write!(
                f,
                "{folder}: results.json is what its {samples} samples say"
            )
        } else {
            let found = self.differences.len();
            write!(
                f,
                "{folder}: results.json is not what its {samples} samples say, in {found} places:"
            )?;
            for difference in self.differences.iter().take(SHOWN) {
                write!(f, "\n  {difference}")?;
            }
            Ok(())
        }
    }
}

/// The folders with samples in and below this one.
pub(super) fn folders(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut level = vec![root.to_owned()];
    for _ in 0..=DEEP {
        let mut below = Vec::new();
        for folder in level {
            let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
            below.extend(
                entries
                    .map(|entry| entry.path())
                    .filter(|path| path.is_dir()),
            );
            if !files_in(&folder).is_empty() {
                found.push(folder);
            } else if folder.join("results.json").is_file() && !is_series(&folder) {
                terminal::note(format_args!("{}: has no samples", folder.display()));
            }
        }
        level = below;
    }
    found.sort();
    found
}

/// Are its samples beside the results of its loads?
fn is_series(folder: &Path) -> bool {
    folder.join("levels").is_dir()
}

pub(super) fn holds_results(folder: &Path) -> bool {
    folder.join("results.json").is_file() || !files_in(folder).is_empty()
}

/// Counts the samples of a folder, and compares what they say with its result. Where there is none, or the bench was
/// killed before it was whole, it is written.
pub(super) fn recount(folder: &Path) -> Result<Counted, Failure> {
    let counted = count(folder)?;
    let path = folder.join("results.json");
    let here = serde_json::to_value(&counted.results)
        .or_exit(Exit::Bug, || "the result cannot be written".to_owned())?;
    let there: Option<Value> = files::read_json(&path).ok();
    let whole = serde_json::to_value(Completeness::Running).unwrap_or_default();
    let there = there.filter(|there| there["completeness"] != whole);
    let missing = counted.missing();
    let written = there.is_none() && missing == 0;
    if written {
        files::write_json(&path, &counted.results).or_exit(Exit::CannotCreate, || {
            "the result cannot be written".to_owned()
        })?;
    }
    Ok(Counted {
        folder: folder.to_owned(),
        samples: counted.results.samples.map_or(0, |samples| samples.rows),
        missing,
        written,
        differences: there.map_or_else(Vec::new, |there| differences(&there, &here)),
    })
}

/// Writes the file of a format; gives its path.
pub(super) fn write(
    format: Format,
    is_detailed: bool,
    folder: &Path,
    out: Option<&Path>,
) -> Result<PathBuf, Failure> {
    let counted = count(folder)?;
    if counted.missing() > 0 {
        tracing::warn!(
            missing = counted.missing(),
            "Not all requests are in the samples: what is written is of the others"
        );
    }
    let unreadable = || format!("the samples in {} cannot be read", folder.display());
    let (results, tally, window) = (&counted.results, &counted.tally, counted.frame.window);
    let json = |value: &Value| format!("{value:#}\n").into_bytes();
    let (name, content) = match format {
        Format::Aiperf => {
            let object = aiperf::render(&counted).or_exit(Exit::NoInput, unreadable)?;
            ("profile_export_aiperf.json", json(&object))
        }
        Format::Vllm => {
            let mut object = vllm::render(results, tally, window);
            if is_detailed {
                detailed::add(&mut object, &counted).or_exit(Exit::NoInput, unreadable)?;
            }
            ("vllm.json", json(&object))
        }
        Format::Csv => ("results.csv", csv::render(results).into_bytes()),
    };
    let path = out.unwrap_or(folder).join(name);
    files::create_folder(out.unwrap_or(folder), 0o755)
        .and_then(|()| files::write_atomic(&path, &content, 0o644, Durability::Synced))
        .or_exit(Exit::CannotCreate, || {
            "it cannot be written there; `--out DIR` writes it elsewhere".to_owned()
        })?;
    Ok(path)
}

fn count(folder: &Path) -> Result<Recount, Failure> {
    let counted = Recount::of(folder).or_exit(Exit::NoInput, || {
        format!("the samples in {} cannot be read", folder.display())
    })?;
    counted.ok_or_else(|| {
        let message = format!("{} has no samples any more", folder.display());
        Failure::new(Exit::NoInput, message)
    })
}
