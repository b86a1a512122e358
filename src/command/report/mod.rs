//! `aif report RUN…`: makes the report of a run again, or one report of roles that ran alone.
//!
//! A stack leaves its own report; a run that was killed did not come to it, and roles that ran as jobs of their own left
//! one each. The report is made of the run folders alone, so it may be made anywhere and at any time; where there is a
//! Slurm, what the job cost is asked for first ([`accounts`]). Instead of a report, the samples of a bench give its
//! result again, or a file for another tool ([`samples`]), and `--index` makes one page of all runs below a folder
//! ([`index`]).

mod accounts;
mod index;
mod samples;

use std::path::{Path, PathBuf};

pub use self::samples::Format;
use crate::{
    command::Shell,
    exit::{Exit, Failure, OrExit as _},
    files,
    report::{self, Summary},
    run::{Manifest, RunDir},
    terminal,
};

/// Arguments of `aif report`.
#[derive(Debug, Default, clap::Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "flags of a command line, not states"
)]
pub struct Args {
    /// Runs: a folder, a name in results/, or a job's id. Roles that ran alone are joined into one report
    #[arg(required_unless_present_any = ["schema", "index"], value_name = "RUN")]
    pub runs: Vec<String>,
    /// Folder for the report; without it the folder of the run, or of the first one
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Print the summary as JSON
    #[arg(long)]
    pub json: bool,
    /// Instead: compute results again from samples.parquet, and say whether they are the same
    #[arg(long)]
    pub recompute: bool,
    /// Instead: write the file of this format, from samples.parquet, beside results.json
    #[arg(long, value_enum, value_name = "FORMAT", conflicts_with = "recompute")]
    pub format: Option<Format>,
    /// Of vllm.json: with every request, as `--save-detailed` has it
    #[arg(long, requires = "format")]
    pub detailed: bool,
    /// Instead: write index.html and index.json of all runs below these folders, or below results/
    #[arg(long, conflicts_with_all = ["recompute", "format"])]
    pub index: bool,
    /// Instead: print the JSON schema of results.json
    #[arg(long, conflicts_with_all = ["runs", "recompute", "format", "index"])]
    pub schema: bool,
}

/// The JSON schema of `results.json`.
const SCHEMA: &str = include_str!("../../stats/results.schema.json");

/// Makes the reports and prints their summaries.
///
/// # Errors
/// Where a run is not there or a report cannot be written.
pub async fn run(args: Args, shell: &Shell) -> anyhow::Result<Exit> {
    if args.schema {
        terminal::line(SCHEMA.trim_end())?;
        return Ok(Exit::Done);
    }
    if args.index {
        return index::run(&args, shell);
    }
    if args.recompute || args.format.is_some() {
        return of_samples(&args, shell);
    }
    let mut runs: Vec<RunDir> = Vec::new();
    for name in &args.runs {
        let run = find(name, shell)?;
        if !runs.contains(&run) {
            runs.push(run);
        }
    }
    for run in &runs {
        accounts::complete(run, shell).await;
    }
    let (stacks, alone): (Vec<_>, Vec<_>) = runs.into_iter().partition(is_stack);
    let reports = stacks.len() + usize::from(!alone.is_empty());
    if args.out.is_some() && reports > 1 {
        let message = "--out takes one report: give it one stack, or roles that ran alone; each stack keeps its own";
        return Err(Failure::new(Exit::Usage, message).into());
    }
    let mut summaries: Vec<Summary> = Vec::new();
    for stack in &stacks {
        summaries.push(make(std::slice::from_ref(stack), args.out.as_deref())?);
    }
    if !alone.is_empty() {
        summaries.push(make(&alone, args.out.as_deref())?);
    }
    if args.json {
        terminal::json(&summaries)?;
    } else {
        for summary in &summaries {
            terminal::line(summary)?;
        }
    }
    Ok(Exit::Done)
}

/// What is made of samples.
fn of_samples(args: &Args, shell: &Shell) -> anyhow::Result<Exit> {
    let mut folders: Vec<PathBuf> = Vec::new();
    for name in &args.runs {
        let folder = Path::new(name);
        let found = if samples::holds_results(folder) {
            samples::folders(folder)
        } else {
            samples::folders(&find(name, shell)?.path.join("bench"))
        };
        if found.is_empty() {
            let message = format!(
                "{name} has no samples: a bench leaves them in samples.parquet unless its recipe says `output: {{samples: false}}`"
            );
            return Err(Failure::new(Exit::NoInput, message).into());
        }
        folders.extend(found);
    }
    if let Some(format) = args.format {
        if args.out.is_some() && folders.len() > 1 {
            let message = "--out takes one result: name its folder";
            return Err(Failure::new(Exit::Usage, message).into());
        }
        for folder in &folders {
            let path = samples::write(format, args.detailed, folder, args.out.as_deref())?;
            terminal::line(path.display())?;
        }
        return Ok(Exit::Done);
    }
    let counted = folders.iter().map(|folder| samples::recount(folder));
    let counted = counted.collect::<Result<Vec<_>, _>>()?;
    if args.json {
        terminal::json(&counted)?;
    } else {
        for counted in &counted {
            terminal::line(counted)?;
        }
    }
    let exits = counted.iter().map(samples::Counted::exit);
    Ok(exits.max_by_key(|exit| exit.code()).unwrap_or(Exit::Done))
}

/// One report of these runs.
fn make(runs: &[RunDir], out: Option<&Path>) -> Result<Summary, Failure> {
    let first = &runs[0];
    let made = match (runs, out) {
        ([only], None) => report::write(only),
        (_, out) => report::write_joined(runs, out.unwrap_or(&first.path)),
    };
    made.map_err(|error| failed(error, out.unwrap_or(&first.path)))
}

/// Why there is no report in a folder.
fn failed(error: report::Error, folder: &Path) -> Failure {
    // a folder that cannot be written is no missing input, whatever the system calls it
    let exit = match &error {
        report::Error::Files(error)
            if error.source.kind() == std::io::ErrorKind::PermissionDenied =>
        {
            Exit::NoPermission
        }
        report::Error::Files(_) => Exit::CannotCreate,
        report::Error::Render(_) => Exit::Bug,
    };
    let folder = folder.display();
    let message =
        format!("the report cannot be written into {folder}; `--out DIR` writes it elsewhere");
    Failure::caused(exit, message, error)
}

/// Stacks have a report each; a manifest that cannot be read counts as one, for nothing else is known of the run.
fn is_stack(run: &RunDir) -> bool {
    files::read_json::<Manifest>(&run.manifest()).map_or(true, |manifest| manifest.role == "stack")
}

/// A run by its name. A folder counts as one, too, where a run left more than its marks.
fn find(name: &str, shell: &Shell) -> Result<RunDir, Failure> {
    let missing = match shell.find_run(name) {
        Ok(run) => return Ok(run),
        Err(missing) => missing,
    };
    let folder = Path::new(name);
    if !folder.is_dir() {
        return Err(missing);
    }
    if ["bench", "steps"]
        .iter()
        .any(|part| folder.join(part).is_dir())
    {
        return RunDir::open(folder)
            .or_exit(Exit::NoInput, || format!("run {name} cannot be opened"));
    }
    let message = format!(
        "{name} is not a run folder: it should hold manifest.json, run.json, steps/ or bench/; \
         runs lie in {} unless --out or AIF_RUN_DIR said otherwise",
        shell.results_folder().display()
    );
    Err(Failure::new(Exit::NoInput, message))
}
