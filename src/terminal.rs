//! What is printed for people and scripts: standard output, line by line.
//!
//! A reader that went away (`aif services | head`) is no failure of ours: the error is passed up, and `main` treats a
//! broken pipe as success. Progress and warnings go to standard error, by [`note`] and [`warning`].

use std::{
    fmt::Display,
    io::{self, IsTerminal as _, Write as _},
};

/// Writes one line to standard output.
pub fn line(text: impl Display) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{text}")
}

/// Writes a value as indented JSON to standard output.
pub fn json(value: &impl serde::Serialize) -> io::Result<()> {
    line(serde_json::to_string_pretty(value).map_err(io::Error::from)?)
}

/// Writes one line to standard error; a failure to do so is nothing that could be told anybody.
pub fn note(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Writes one line to standard error of what is not as it should be, though what was asked for goes on: told apart from the
/// one error by which a command ends.
pub fn warning(text: impl Display) {
    note(format_args!("aif: warning: {text}"));
}

/// Is there a person at standard error?
pub fn interactive() -> bool {
    io::stderr().is_terminal()
}
