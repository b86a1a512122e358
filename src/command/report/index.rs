//! `aif report FOLDER --index`: all runs below a folder as one page, as JSON, and as a table on the terminal.

use std::path::PathBuf;

use super::{Args, failed};
use crate::{
    command::Shell,
    exit::{Exit, Failure, OrExit as _},
    files,
    report::index::Index,
    terminal,
};

/// Makes it, in the first of the folders unless another is given.
pub(super) fn run(args: &Args, shell: &Shell) -> anyhow::Result<Exit> {
    let mut roots: Vec<PathBuf> = args.runs.iter().map(PathBuf::from).collect();
    if roots.is_empty() {
        roots.push(shell.results_folder());
    }
    if let Some(missing) = roots.iter().find(|root| !root.is_dir()) {
        let message = format!(
            "{} is no folder: name one that runs lie in",
            missing.display()
        );
        return Err(Failure::new(Exit::NoInput, message).into());
    }
    let home = args.out.as_ref().unwrap_or(&roots[0]);
    files::create_folder(home, 0o755).or_exit(Exit::CannotCreate, || {
        format!("the index cannot be written into {}", home.display())
    })?;
    let index = Index::read(&roots, home).map_err(|error| failed(error, home))?;
    let page = index.write().map_err(|error| failed(error, home))?;
    if args.json {
        terminal::json(&index)?;
    } else {
        terminal::line(&index)?;
        terminal::line(page.display())?;
    }
    Ok(Exit::Done)
}
