//! `aif compare A B [C…]`: what differs between runs, whether it is more than chance, and a gate for pipelines.
//!
//! A side is one run, or several runs of the same thing with commas between (`A1,A2`); a folder whose own name has a comma
//! is taken as it is. Each further side is held against the first. Exit codes: 81 where a rule of `--fail-if` is broken,
//! 80 where there are rules and a result must not be used, 64 for a rule that cannot be read, 66 where a side is missing.

use std::path::{Path, PathBuf};

use crate::{
    command::Shell,
    compare::{
        Comparison,
        fail_if::{Rule, State},
        page,
        sides::{self, Side},
        table,
    },
    exit::{Exit, Failure, OrExit as _},
    files::{self, Durability},
    terminal,
};

/// Sides at the most: they are called by letters.
const MOST: usize = 26;

/// How a comparison is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A table for the terminal
    #[default]
    Table,
    /// Markdown
    Markdown,
    /// JSON, with every interval in its unit
    Json,
    /// One page
    Html,
}

/// Arguments of `aif compare`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Sides, each a run (folder, name in results/, or job's id), a bench's folder or its results.json; `A1,A2` are runs of one side
    #[arg(required = true, num_args = 2.., value_name = "RUN[,RUN]")]
    pub sides: Vec<String>,
    /// Exit 81 where a difference to the first side goes beyond a limit
    #[arg(
        long,
        value_name = "RULE",
        help = "Exit 81 where a difference to the first side goes beyond a limit: 'ttft.p99 > +5%', 'itl > +2ms', 'request_throughput < -5%', 'error_rate > +1pp', 'slo_attainment < -1pp'"
    )]
    pub fail_if: Vec<String>,
    /// Also where the limit is exceeded and chance may have made the difference
    #[arg(long, requires = "fail_if")]
    pub fail_in_doubt: bool,
    /// Hold rules against results that are invalid, too, instead of exit 80
    #[arg(long, requires = "fail_if")]
    pub allow_invalid: bool,
    /// How it is shown
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub format: Format,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
    /// Write it into this file instead of printing it
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Seed of the draws: the same gives the same numbers
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// Compares, and shows it.
///
/// # Errors
/// A rule that cannot be read, a side that is not there, a file that cannot be written.
pub fn run(args: &Args, shell: &Shell) -> anyhow::Result<Exit> {
    let rules = args.fail_if.iter().map(|text| text.parse::<Rule>());
    let rules: Vec<Rule> = rules
        .collect::<Result<_, _>>()
        .map_err(|fault| Failure::new(Exit::Usage, fault.to_string()))?;
    if args.sides.len() > MOST {
        let message = format!("more than {MOST} sides cannot be told apart");
        return Err(Failure::new(Exit::Usage, message).into());
    }
    let sides = ('A'..='Z').zip(&args.sides);
    let sides = sides.map(|(letter, name)| {
        let folders = folders(name, shell)?;
        Side::read(letter, name, &folders).or_exit(Exit::NoInput, || {
            format!("{letter} ({name}) cannot be compared")
        })
    });
    let sides: Vec<Side> = sides.collect::<Result<_, Failure>>()?;
    let comparison = Comparison::of(&sides, &rules, args.seed)
        .map_err(|error| Failure::new(Exit::NoInput, error.to_string()))?;
    show(args, &comparison)?;
    let broken = [State::Broken, State::NotMeasured];
    let doubt: &[State] = if args.fail_in_doubt {
        &[State::Doubt]
    } else {
        &[]
    };
    let failed = comparison.rules_in(&broken) + comparison.rules_in(doubt);
    if !rules.is_empty() && comparison.is_invalid() && !args.allow_invalid {
        terminal::note(
            "aif: a result that must not be used passes no rule; see the warnings (--allow-invalid holds the rules against it all the same)",
        );
        return Ok(Exit::Invalid);
    }
    if failed > 0 {
        terminal::note(format_args!(
            "aif: {failed} of {} rules broken",
            comparison.rules.len()
        ));
        return Ok(Exit::Gate);
    }
    Ok(Exit::Done)
}

fn show(args: &Args, comparison: &Comparison) -> anyhow::Result<()> {
    let format = if args.json { Format::Json } else { args.format };
    let shown = match format {
        Format::Table => table::plain(comparison),
        Format::Markdown => table::markdown(comparison),
        Format::Json => serde_json::to_string_pretty(comparison)
            .or_exit(Exit::Bug, || "the comparison cannot be written".to_owned())?,
        Format::Html => page::render(comparison)
            .or_exit(Exit::Bug, || "the page cannot be rendered".to_owned())?,
    };
    let Some(path) = &args.out else {
        return Ok(terminal::line(shown.trim_end())?);
    };
    let content = format!("{}\n", shown.trim_end());
    files::write_atomic(path, content.as_bytes(), 0o644, Durability::Synced)
        .or_exit(Exit::CannotCreate, || {
            "the comparison cannot be written there".to_owned()
        })?;
    terminal::line(path.display())?;
    Ok(())
}

/// The folders that a side names.
fn folders(name: &str, shell: &Shell) -> Result<Vec<PathBuf>, Failure> {
    if Path::new(name).exists() {
        return Ok(vec![folder(name, shell)?]);
    }
    let names = name.split(',').filter(|name| !name.is_empty());
    let found: Vec<PathBuf> = names
        .map(|name| folder(name, shell))
        .collect::<Result<_, _>>()?;
    if found.is_empty() {
        return Err(Failure::new(Exit::Usage, format!("{name:?} names no run")));
    }
    Ok(found)
}

fn folder(name: &str, shell: &Shell) -> Result<PathBuf, Failure> {
    let path = Path::new(name);
    if path.is_file() {
        if path.file_name().is_some_and(|name| name == "results.json") {
            let parent = path
                .parent()
                .filter(|parent| !parent.as_os_str().is_empty());
            return Ok(parent.unwrap_or(Path::new(".")).to_owned());
        }
        let message =
            format!("{name} is a file: give a run folder, a bench's folder, or a results.json");
        return Err(Failure::new(Exit::NoInput, message));
    }
    if sides::holds_results(path) || path.join("bench").is_dir() {
        return Ok(path.to_owned());
    }
    shell.find_run(name).map(|run| run.path)
}
