//! `aif logs RUN [ROLE]`: what the roles of a run wrote.
//!
//! Roles write a JSON object a line, for machines; people get time, level, message and the fields of the message. What the
//! whole run has in common, and who speaks, is in the head of each log and not repeated. Lines of engines stay as they are.

use serde_json::{Map, Value};

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
    /// Print the lines as they were written
    #[arg(long)]
    pub json: bool,
}

/// What every line of a log has.
const COMMON: [&str; 8] = [
    "time", "level", "role", "run", "job_id", "node", "target", "message",
];

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
        let lines = match args.tail {
            Some(lines) => files::tail(&path, lines),
            None => files::read_text(&path)?
                .lines()
                .map(str::to_owned)
                .collect(),
        };
        for line in lines {
            let plain = (!args.json).then(|| readable(&line)).flatten();
            terminal::line(plain.unwrap_or(line))?;
        }
    }
    Ok(Exit::Done)
}

/// A line of a role's log, for people; `None` where it is none.
fn readable(line: &str) -> Option<String> {
    let fields: Map<String, Value> = serde_json::from_str(line).ok()?;
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    let time = text("time")?;
    // 2026-01-31T12:34:56.789012Z: milliseconds are enough to read
    let time = time.get(..23).unwrap_or(time).replace('T', " ");
    let told = format!("{time} {:5} {}", text("level")?, text("message")?);
    let fields = fields
        .iter()
        .filter(|(name, _)| !COMMON.contains(&name.as_str()))
        .map(|(name, value)| match value {
            Value::String(text) => format!(" {name}={text}"),
            value => format!(" {name}={value}"),
        });
    Some(std::iter::once(told).chain(fields).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_read_as_a_sentence_and_an_engine_as_it_spoke() {
        let line = r#"{"time":"2026-11-24T14:17:24.012095035Z","level":"INFO","role":"server","run":"llamacpp-7","job_id":"7","node":"node4","target":"aif::role","message":"The engine is ready","seconds":0.9,"url":"http://node4:25298"}"#;
        assert_eq!(
            readable(line).unwrap(),
            "2026-11-24 14:17:24.012 INFO  The engine is ready seconds=0.9 url=http://node4:25298"
        );
        for other in ["srv  load_model: loading", r#"{"n": 1}"#, "", "7"] {
            assert_eq!(readable(other), None, "{other}");
        }
    }
}
