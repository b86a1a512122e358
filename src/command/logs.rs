//! `aif logs RUN [ROLE]`: what the roles of a run wrote.

use crate::{
    command::Shell,
    exit::{Exit, Failure},
    files, terminal,
};

/// Arguments of `aif logs`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run: its folder, its name in results/, or its job's id
    pub run: String,
    /// Role (server, monitor, bench-NAME, engine-…); all of them where it is not given
    pub role: Option<String>,
    /// Only the last lines of each
    #[arg(long, short = 'n', value_name = "LINES")]
    pub tail: Option<usize>,
}

/// Prints the logs.
///
/// # Errors
/// Where run or role are not there.
pub fn run(args: &Args, shell: &Shell) -> anyhow::Result<Exit> {
    let run = shell.find_run(&args.run)?;
    let mut names = run.logs();
    if let Some(role) = &args.role {
        let there = names.join(", ");
        names.retain(|name| name == role || name.starts_with(&format!("{role}-")));
        if names.is_empty() {
            let message = format!("run {} has no log of {role}; it has {there}", run.id);
            return Err(Failure::new(Exit::NoInput, message).into());
        }
    }
    for name in &names {
        let path = run.log(name);
        if names.len() > 1 {
            terminal::line(format_args!("==> {} <==", path.display()))?;
        }
        match args.tail {
            Some(lines) => files::tail(&path, lines)
                .iter()
                .try_for_each(terminal::line)?,
            None => files::read_text(&path)?
                .lines()
                .try_for_each(terminal::line)?,
        }
    }
    Ok(Exit::Done)
}
