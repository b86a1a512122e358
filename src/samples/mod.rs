//! `samples.parquet`: every request of a load as a row, from which its result can be computed again.
//!
//! [`mod@column`] says what a row holds, [`recorder`] takes requests in the load path and [`sink`] writes them, in row groups
//! of bounded size; [`reader`] gives them back as the samples that they were. Parquet because every tool for data frames
//! reads it, and because a request of hundreds of tokens takes three bytes for each.
//!
//! The file has another name until it is whole, so a bench that is killed leaves none. Beside the rows it holds, as JSON
//! under [`FACTS`], what a result has that is not in its samples ([`Frame`](crate::stats::frame::Frame)).
//!
//! What can fail: a disk that is full, which costs the samples and not the result; a file that is damaged or not ours.

mod batch;
mod column;
pub mod reader;
pub mod recorder;
mod sink;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use parquet::errors::ParquetError;

pub use self::recorder::{Recorder, Written};
use crate::{load::workload::Asked, stats::summary::Window};

/// Key of the facts, in the metadata of the file.
pub const FACTS: &str = "aif.facts";
/// Key of the number of requests that are missing.
pub const MISSING: &str = "aif.missing";

/// Name of the file; several tasks that share a load write one each.
pub fn file_name(task: Option<u32>) -> String {
    task.map_or_else(
        || "samples.parquet".to_owned(),
        |task| format!("samples-{task}.parquet"),
    )
}

/// The files of a folder, in the order of their tasks.
pub fn files_in(folder: &Path) -> Vec<PathBuf> {
    let number = |name: &str| {
        let middle = name.strip_prefix("samples")?.strip_suffix(".parquet")?;
        match middle.strip_prefix('-') {
            Some(task) => task.parse().ok().map(|task: u64| task + 1),
            None => middle.is_empty().then_some(0),
        }
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<(u64, PathBuf)> = entries
        .filter_map(|entry| Some((number(entry.file_name().to_str()?)?, entry.path())))
        .collect();
    files.sort();
    files.into_iter().map(|(_, path)| path).collect()
}

/// Removes the files of an earlier load from a folder, as far as that is possible: they are of another result than the one
/// that comes.
pub fn forget(folder: &Path) {
    for path in files_in(folder) {
        let _ = std::fs::remove_file(path);
    }
}

/// Why there are no samples.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: ParquetError,
    },
    /// What is there is no file of samples.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: ParquetError,
    },
    /// It was written by another program, or lacks what this one needs.
    #[error("{} {what}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it lacks.
        what: String,
    },
    /// No thread to write.
    #[error("there is no thread to write samples")]
    Thread(#[source] io::Error),
    /// A fault of ours.
    #[error("the thread that wrote samples came to an unplanned end")]
    Panicked,
}

/// What the writer knows of a load before its first request.
pub struct Setup {
    /// Where the file goes.
    pub folder: PathBuf,
    /// The task, of several that share the load.
    pub task: Option<u32>,
    /// How many there are of these.
    pub tasks: usize,
    /// The measured window, as planned, once it is known: until then all is warm-up.
    pub window: Arc<OnceLock<Window>>,
    /// What is loaded, request by request in turn.
    pub targets: Vec<String>,
    /// What is asked of each request, where that was planned.
    pub asked: Box<dyn Fn(u64) -> Option<Asked> + Send>,
}
