//! All runs below a folder as one page: what was measured when, and how it went over time.
//!
//! A run folder has an entry for each of its benches, and one without numbers where it held none; a folder of results that
//! belongs to no run (`aif bench --out`) has one, too. What is broken is listed with the reason, whatever else can be read
//! of it. [`page`] makes the page, with its trends; [`Index`] is also the JSON and, shown, the table of the terminal.
//!
//! What can fail: a folder that cannot be read, and the writing.

mod page;
mod trends;

use std::{
    fmt,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::Serialize;

use super::{
    Error,
    gather::{Report, read_results},
    text,
};
use crate::{
    files::{self, Durability},
    run::RunDir,
    stats::results::{Metric, Results},
};

/// Folders below the given one that are looked through for runs.
const DEEP: usize = 4;

/// A measurement, or a run without one.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Entry {
    /// The run's id.
    pub run: String,
    /// The bench; `None` where the run held none.
    pub bench: Option<String>,
    /// The folder, from that of the index.
    pub folder: String,
    /// Its page, likewise; `None` where there is none.
    pub report: Option<String>,
    /// When it started.
    pub started_at: Option<Timestamp>,
    /// The client recipe; of a run without a bench, what was run.
    pub recipe: String,
    /// The engine.
    pub engine: Option<String>,
    /// The model.
    pub model: Option<String>,
    /// File name of the image.
    pub image: Option<String>,
    /// Node of the server, else those that were loaded.
    pub node: Option<String>,
    /// The load, as a sentence.
    pub load: Option<String>,
    /// Verdict of the result; how the run went where there is none.
    pub verdict: String,
    /// Median time to first token in ms, from the intended time in an open loop.
    pub ttft_p50_ms: Option<f64>,
    /// Its 99th percentile.
    pub ttft_p99_ms: Option<f64>,
    /// Median time between tokens in ms.
    pub itl_p50_ms: Option<f64>,
    /// Requests per second.
    pub request_throughput: Option<f64>,
    /// Output tokens per second.
    pub output_token_throughput: Option<f64>,
}

/// A folder that is not whole.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Broken {
    /// The folder, from that of the index.
    pub folder: String,
    /// What is wrong with it.
    pub reasons: Vec<String>,
}

/// All runs below a folder.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Index {
    /// Where it lies.
    pub folder: PathBuf,
    /// The folders that were looked through.
    pub below: Vec<PathBuf>,
    /// Measurements, the newest first.
    pub entries: Vec<Entry>,
    /// What is broken.
    pub broken: Vec<Broken>,
}

impl Index {
    /// Looks through these folders, for an index that lies in `home`.
    ///
    /// # Errors
    /// One cannot be read.
    pub fn read(roots: &[PathBuf], home: &Path) -> Result<Self, Error> {
        let absolute = |path: &Path| {
            path.canonicalize()
                .map_err(|source| files::Error::new("open", path, source))
        };
        let mut index = Self {
            folder: absolute(home)?,
            below: Vec::new(),
            entries: Vec::new(),
            broken: Vec::new(),
        };
        let mut level: Vec<PathBuf> = Vec::new();
        for root in roots {
            level.push(absolute(root)?);
        }
        for root in &level {
            std::fs::read_dir(root).map_err(|source| files::Error::new("read", root, source))?;
        }
        index.below.clone_from(&level);
        for _ in 0..=DEEP {
            let mut below = Vec::new();
            for folder in level {
                if is_run(&folder) {
                    index.add_run(&folder);
                } else if folder.join("results.json").is_file() {
                    index.add_result(&folder);
                } else {
                    index.look_below(&folder, &mut below);
                }
            }
            level = below;
        }
        index.entries.sort_by(|one, other| {
            let newest = other.started_at.cmp(&one.started_at);
            newest
                .then_with(|| one.folder.cmp(&other.folder))
                .then_with(|| one.bench.cmp(&other.bench))
        });
        index.entries.dedup();
        index
            .broken
            .sort_by(|one, other| one.folder.cmp(&other.folder));
        index.broken.dedup();
        Ok(index)
    }

    /// Writes `index.html` and `index.json` into its folder; gives the path of the page.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn write(&self) -> Result<PathBuf, Error> {
        files::write_json(&self.folder.join("index.json"), self)?;
        let path = self.folder.join("index.html");
        let page = page::render(self)?;
        files::write_atomic(&path, page.as_bytes(), 0o644, Durability::Synced)?;
        Ok(path)
    }

    fn look_below(&mut self, folder: &Path, below: &mut Vec<PathBuf>) {
        match std::fs::read_dir(folder) {
            Ok(entries) => {
                let folders = entries.flatten().map(|entry| entry.path());
                let is_seen = |path: &PathBuf| {
                    let name = path.file_name().unwrap_or_default();
                    // a link may lead round
                    path.is_dir() && !path.is_symlink() && !name.to_string_lossy().starts_with('.')
                };
                below.extend(folders.filter(is_seen));
            }
            Err(error) => self.add_broken(folder, vec![format!("cannot be read: {error}")]),
        }
    }

    fn add_broken(&mut self, folder: &Path, reasons: Vec<String>) {
        let folder = self.place(folder);
        self.broken.push(Broken { folder, reasons });
    }

    /// A path from that of the index.
    fn place(&self, path: &Path) -> String {
        match path.strip_prefix(&self.folder) {
            Ok(rest) if rest.as_os_str().is_empty() => ".".to_owned(),
            Ok(rest) => rest.display().to_string(),
            Err(_) => path.display().to_string(),
        }
    }

    fn add_result(&mut self, folder: &Path) {
        match read_results(&folder.join("results.json")) {
            Ok(results) => {
                let mut entry = Entry {
                    run: self.place(folder),
                    bench: Some(results.name.clone()),
                    folder: self.place(folder),
                    ..Entry::default()
                };
                entry.take(&results);
                self.entries.push(entry);
            }
            Err(error) => {
                self.add_broken(
                    folder,
                    vec![format!("results.json cannot be read: {}", error.source)],
                );
            }
        }
    }

    fn add_run(&mut self, folder: &Path) {
        let read = RunDir::open(folder).and_then(|run| Report::read(&run));
        let report = match read {
            Ok(report) => report,
            Err(error) => {
                return self.add_broken(folder, vec![format!("{error}: {}", error.source)]);
            }
        };
        let Some(part) = report.parts.first() else {
            return;
        };
        let counts = |missing: &&String| {
            ["manifest.json", "bench/", "steps/"]
                .iter()
                .any(|part| missing.starts_with(part))
        };
        let reasons: Vec<String> = part.missing.iter().filter(counts).cloned().collect();
        if !reasons.is_empty() {
            self.add_broken(folder, reasons);
        }
        let page = folder.join("report.html");
        let server = part.steps.get("server");
        let image = server.and_then(|step| step.facts.get("image")?["path"].as_str());
        let image = image.and_then(|path| Path::new(path).file_name());
        let manifest = part.manifest.as_ref();
        let known = Entry {
            run: part.id.clone(),
            folder: self.place(folder),
            report: page.is_file().then(|| text::href(&self.folder, &page)),
            started_at: manifest.map(|manifest| manifest.started_at),
            recipe: manifest.map_or_else(String::new, |manifest| manifest.role.clone()),
            engine: server.and_then(|step| Some(step.facts.get("engine")?.as_str()?.to_owned())),
            model: server.and_then(|step| Some(step.facts.get("model")?.as_str()?.to_owned())),
            image: image.map(|name| name.to_string_lossy().into_owned()),
            node: server.map(|step| step.node.clone()),
            verdict: report.outcome().word().to_owned(),
            ..Entry::default()
        };
        let mut any = false;
        for bench in &part.benches {
            let Some(results) = &bench.results else {
                continue;
            };
            any = true;
            let mut entry = known.clone();
            entry.bench = Some(bench.name.clone());
            entry.take(results);
            self.entries.push(entry);
        }
        if !any {
            self.entries.push(known);
        }
    }
}

impl Entry {
    /// What a result says.
    fn take(&mut self, results: &Results) {
        let metric = |name: &str| results.metrics.get(name);
        let open = results.load["pattern"] == "open-loop";
        let scheduled = metric("time_to_first_token_scheduled").filter(|_| open);
        let first = scheduled.or_else(|| metric("time_to_first_token"));
        let average = |name: &str| metric(name).map(|metric: &Metric| metric.avg);
        let target = &results.target;
        self.started_at = Some(results.started_at);
        self.recipe.clone_from(&results.name);
        self.engine = target.engine.clone().or_else(|| self.engine.take());
        self.model = target.model.clone().or_else(|| self.model.take());
        if self.node.is_none() && !target.nodes.is_empty() {
            self.node = Some(target.nodes.join(", "));
        }
        self.load = Some(text::load(&results.load));
        text::verdict(results.validity.verdict).clone_into(&mut self.verdict);
        self.ttft_p50_ms = first.and_then(|metric| metric.p50);
        self.ttft_p99_ms = first.and_then(|metric| metric.p99);
        self.itl_p50_ms = metric("inter_token_latency").and_then(|metric| metric.p50);
        self.request_throughput = average("request_throughput");
        self.output_token_throughput = average("output_token_throughput");
    }
}

/// Did a run leave it?
fn is_run(folder: &Path) -> bool {
    ["run.json", "manifest.json"]
        .iter()
        .any(|name| folder.join(name).is_file())
        || ["steps", "bench"]
            .iter()
            .any(|name| folder.join(name).is_dir())
}

/// So many characters; of a longer text the end, where names differ.
fn fit(text: &str, width: usize) -> String {
    let text = text::plain(text).replace('\n', " ");
    let long = text.chars().count();
    if long <= width {
        return text;
    }
    let tail = text.chars().skip(long - width + 1);
    std::iter::once('…').chain(tail).collect()
}

impl fmt::Display for Index {
    /// A table of 100 columns at the most.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<17}{:<19}{:<19}{:<13}{:>8}{:>8}{:>8}{:>8}",
            "started (UTC)", "run", "recipe", "verdict", "TTFT", "p99", "ITL", "req/s"
        )?;
        for entry in &self.entries {
            let started = entry.started_at.map_or_else(
                || text::NONE.to_owned(),
                |at| at.strftime("%Y-%m-%d %H:%M").to_string(),
            );
            write!(
                f,
                "\n{started:<17}{:<19}{:<19}{:<13}",
                fit(&entry.run, 18),
                fit(&entry.recipe, 18),
                fit(&entry.verdict, 12)
            )?;
            let numbers = [
                entry.ttft_p50_ms,
                entry.ttft_p99_ms,
                entry.itl_p50_ms,
                entry.request_throughput,
            ];
            for number in numbers {
                write!(f, "{:>8}", text::optional(number))?;
            }
        }
        for broken in &self.broken {
            write!(
                f,
                "\nbroken: {}: {}",
                text::plain(&broken.folder),
                text::plain(&broken.reasons.join("; "))
            )?;
        }
        Ok(())
    }
}
