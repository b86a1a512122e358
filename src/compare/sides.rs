//! The sides of a comparison, read from folders: each is one run, or several of the same thing that are taken together.
//!
//! A run folder brings all its benches, a folder of results the one; a bench of several loads brings each of them, and its
//! repeats are runs of one side. What can fail: a folder without results, or with results that cannot be read. Samples that
//! are missing or damaged are told, and the numbers of the result stand for themselves.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::{
    files,
    report::gather::read_results,
    run::Manifest,
    samples::{self, reader::Reader},
    stats::{compare::Run, results::Results},
};

/// Folders above a result in which its run's manifest is looked for.
const ABOVE: usize = 5;

/// Why a side cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No result at all.
    #[error(
        "{} holds no results: it should be a run folder, a bench's folder, or a results.json",
        .0.display()
    )]
    Nothing(PathBuf),
    /// A result that cannot be read.
    #[error(transparent)]
    Results(#[from] files::Error),
}

/// Which loads of two sides belong together: the bench, and the level of a sweep.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Name of the bench.
    pub bench: String,
    /// Level, as text.
    pub level: Option<String>,
}

/// One load.
#[derive(Debug)]
pub struct Load {
    /// Folder of its result.
    pub folder: PathBuf,
    /// The result.
    pub results: Results,
    /// What its run was.
    pub manifest: Option<Manifest>,
    /// Its requests, or why there are none.
    pub samples: Result<Run, String>,
}

/// One side.
#[derive(Debug)]
pub struct Side {
    /// `A`, `B`, …
    pub letter: char,
    /// As it was given.
    pub name: String,
    /// Loads that belong together, each with its repeats.
    pub loads: BTreeMap<Key, Vec<Load>>,
}

impl Side {
    /// Reads the runs of a side.
    ///
    /// # Errors
    /// One holds no results, or such as cannot be read.
    pub fn read(letter: char, name: &str, folders: &[PathBuf]) -> Result<Self, Error> {
        let mut loads: BTreeMap<Key, Vec<Load>> = BTreeMap::new();
        for folder in folders {
            let before = loads.len();
            let mut found = false;
            for (bench, folder) in benches(folder) {
                found = true;
                read_bench(&bench, &folder, &mut loads)?;
            }
            if !found && loads.len() == before {
                return Err(Error::Nothing(folder.clone()));
            }
        }
        Ok(Self {
            letter,
            name: name.to_owned(),
            loads,
        })
    }

    /// Every load.
    pub fn all(&self) -> impl Iterator<Item = &Load> {
        self.loads.values().flatten()
    }
}

/// Is it a folder of results?
pub fn holds_results(folder: &Path) -> bool {
    folder.join("results.json").is_file()
}

/// The benches of a folder by name: itself, or those of a run.
fn benches(folder: &Path) -> Vec<(String, PathBuf)> {
    let name = |path: &Path| {
        let name = path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    };
    if holds_results(folder) {
        return vec![(name(folder), folder.to_owned())];
    }
    let entries = std::fs::read_dir(folder.join("bench"))
        .into_iter()
        .flatten();
    let mut all: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| holds_results(path))
        .map(|path| (name(&path), path))
        .collect();
    all.sort();
    all
}

fn read_bench(
    bench: &str,
    folder: &Path,
    loads: &mut BTreeMap<Key, Vec<Load>>,
) -> Result<(), Error> {
    let results = read_results(&folder.join("results.json"))?;
    let bench = match results.name.clone() {
        name if name.is_empty() => bench.to_owned(),
        name => name,
    };
    let mut add = |level: Option<String>, load: Load| {
        let key = Key {
            bench: bench.clone(),
            level,
        };
        loads.entry(key).or_default().push(load);
    };
    let Some(series) = results.series.clone() else {
        add(None, load(folder, results));
        return Ok(());
    };
    for level in &series.levels {
        let folder = folder.join(&level.folder);
        let results = read_results(&folder.join("results.json"))?;
        let requested = match (level.requested, series.of) {
            (Some(value), Some(of)) => Some(of.amount(value)),
            _ => None,
        };
        add(requested, load(&folder, results));
    }
    Ok(())
}

fn load(folder: &Path, results: Results) -> Load {
    let absolute = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let mut above = absolute.ancestors().take(ABOVE);
    let manifest = above.find_map(|folder| files::read_json(&folder.join("manifest.json")).ok());
    Load {
        folder: folder.to_owned(),
        samples: read_samples(folder),
        manifest,
        results,
    }
}

fn read_samples(folder: &Path) -> Result<Run, String> {
    let told = |error: samples::Error| {
        let cause = std::error::Error::source(&error)
            .map_or_else(String::new, |cause| format!(": {cause}"));
        format!("{error}{cause}")
    };
    let files = samples::files_in(folder);
    let readers = files.iter().map(|path| Reader::open(path));
    let readers: Vec<Reader> = readers.collect::<Result<_, _>>().map_err(told)?;
    let Some(first) = readers.first() else {
        return Err("it has no samples.parquet".to_owned());
    };
    let frame = &first.frame;
    let mut run = Run::new(frame.planned, frame.window, frame.is_open, frame.slo);
    for reader in &readers {
        reader
            .each(|request| run.take(&request.sample))
            .map_err(told)?;
    }
    Ok(run)
}
