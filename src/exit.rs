//! Exit codes: what a process of ours tells the shell, Slurm and scripts.
//!
//! The list is part of the public interface (README, `--help`), so it lives in one place, and every role and command
//! returns one of these and nothing else. The code of an engine is recorded and told, never passed on: 1 from a Python
//! engine would say nothing.
//!
//! [`Failure`] is an error that knows its code. Roles and commands return `anyhow::Result<Exit>`; [`Exit::of`] finds the
//! code of whatever came out: the outermost `Failure` in the chain, else what the I/O error means, else [`Exit::Bug`].

use std::{fmt, io, process::ExitCode};

/// How a process of ours ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// Done.
    Done,
    /// The command line is wrong.
    Usage,
    /// A recipe is invalid, or names what this version cannot do.
    Recipe,
    /// An input file or an image is missing.
    NoInput,
    /// Service, engine or Prometheus not there, not ready in time, or lost.
    Unavailable,
    /// A fault of ours.
    Bug,
    /// Something cannot be written.
    CannotCreate,
    /// Try again: preempted, or a node was lost.
    TryAgain,
    /// Permission denied.
    NoPermission,
    /// The site file is wrong.
    Site,
    /// The result is invalid: do not use its numbers.
    Invalid,
    /// A regression gate said no.
    Gate,
    /// The time limit was reached.
    TimeLimit,
    /// Interrupted from the keyboard.
    Interrupted,
    /// Terminated by a signal.
    Terminated,
}

impl Exit {
    /// Every code there is, in the order of the documentation.
    pub const ALL: [Self; 15] = [
        Self::Done,
        Self::Usage,
        Self::Recipe,
        Self::NoInput,
        Self::Unavailable,
        Self::Bug,
        Self::CannotCreate,
        Self::TryAgain,
        Self::NoPermission,
        Self::Site,
        Self::Invalid,
        Self::Gate,
        Self::TimeLimit,
        Self::Interrupted,
        Self::Terminated,
    ];

    /// The number that the shell sees.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Usage => 64,
            Self::Recipe => 65,
            Self::NoInput => 66,
            Self::Unavailable => 69,
            Self::Bug => 70,
            Self::CannotCreate => 73,
            Self::TryAgain => 75,
            Self::NoPermission => 77,
            Self::Site => 78,
            Self::Invalid => 80,
            Self::Gate => 81,
            Self::TimeLimit => 124,
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }

    /// The meaning in a few words, as the reference and `--help` show it.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Usage => "wrong command line",
            Self::Recipe => "recipe invalid, or naming what this version cannot do",
            Self::NoInput => "input file or image missing",
            Self::Unavailable => {
                "service, engine or Prometheus not there, not ready in time, or lost"
            }
            Self::Bug => "a fault of aif itself",
            Self::CannotCreate => "cannot write",
            Self::TryAgain => "try again: preempted, or a node was lost",
            Self::NoPermission => "permission denied",
            Self::Site => "site file invalid",
            Self::Invalid => "the result is invalid",
            Self::Gate => "a regression gate said no",
            Self::TimeLimit => "time limit",
            Self::Interrupted => "interrupted",
            Self::Terminated => "terminated",
        }
    }

    /// The exit that stands for a code of one of our processes; `None` where no process of ours ends so.
    pub fn from_code(code: i32) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|exit| i32::from(exit.code()) == code)
    }

    /// The code that an error stands for.
    pub fn of(error: &anyhow::Error) -> Self {
        for cause in error.chain() {
            if let Some(failure) = cause.downcast_ref::<Failure>() {
                return failure.exit;
            }
            if let Some(error) = cause.downcast_ref::<io::Error>() {
                return Self::of_io(error);
            }
        }
        Self::Bug
    }

    /// The code that an I/O error stands for.
    pub fn of_io(error: &io::Error) -> Self {
        use io::ErrorKind as Kind;
        match error.kind() {
            Kind::NotFound => Self::NoInput,
            Kind::PermissionDenied => Self::NoPermission,
            Kind::StorageFull
            | Kind::ReadOnlyFilesystem
            | Kind::QuotaExceeded
            | Kind::FileTooLarge => Self::CannotCreate,
            Kind::ConnectionRefused
            | Kind::ConnectionReset
            | Kind::TimedOut
            | Kind::HostUnreachable => Self::Unavailable,
            _ => Self::Bug,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// An expected failure: one clear sentence, and the code it ends in.
#[derive(Debug)]
pub struct Failure {
    /// The code.
    pub exit: Exit,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Failure {
    /// A failure that needs no further cause.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            source: None,
        }
    }

    /// A failure caused by another error, which is printed below it.
    pub fn caused(
        exit: Exit,
        message: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            exit,
            message: message.into(),
            source: Some(source.into()),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn std::error::Error + 'static))
    }
}

/// Gives an error its code and its sentence.
pub trait OrExit<T> {
    /// Turns an error into a [`Failure`] with this code and this sentence.
    fn or_exit(self, exit: Exit, message: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T, E: Into<Box<dyn std::error::Error + Send + Sync>>> OrExit<T> for Result<T, E> {
    fn or_exit(self, exit: Exit, message: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|source| Failure::caused(exit, message(), source))
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn codes_are_distinct_and_found_again() {
        for exit in Exit::ALL {
            assert_eq!(Exit::from_code(i32::from(exit.code())), Some(exit));
        }
        assert_eq!(Exit::from_code(1), None);
    }

    #[test]
    fn an_error_keeps_its_code_under_context() {
        let error = Err::<(), _>(Failure::new(Exit::Recipe, "no such key"))
            .context("reading x.yaml")
            .unwrap_err();
        assert_eq!(Exit::of(&error), Exit::Recipe);
        let full = io::Error::from(io::ErrorKind::StorageFull);
        assert_eq!(Exit::of(&anyhow::Error::new(full)), Exit::CannotCreate);
        assert_eq!(Exit::of(&anyhow::anyhow!("what?")), Exit::Bug);
    }
}
