//! Faults and warnings of a recipe, each with the place it stands at.
//!
//! The pure layers collect [`Findings`] by [`Position`]; only when all is known are they turned into [`Problem`]s that
//! name file or override, so that a user sees every fault of a file at once and in the order of its lines.

use std::{collections::HashSet, fmt};

use serde::Serialize;

/// Where something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Position {
    /// In the file; both count from 1.
    File {
        /// The line.
        line: usize,
        /// The column.
        column: usize,
    },
    /// In the n-th override of the command line.
    Override(usize),
}

impl Position {
    /// The first character of a file.
    pub const START: Self = Self::File { line: 1, column: 1 };
}

/// What was found on the way, with the place of each.
#[derive(Debug, Default)]
pub struct Findings {
    faults: Vec<(Position, String)>,
    warnings: Vec<(Position, String)>,
}

impl Findings {
    /// Notes a fault.
    pub fn fault(&mut self, position: Position, message: impl Into<String>) {
        self.faults.push((position, message.into()));
    }

    /// Notes a warning.
    pub fn warn(&mut self, position: Position, message: impl Into<String>) {
        self.warnings.push((position, message.into()));
    }

    /// The value and the warnings, or every fault. A missing value without a fault would be a bug of ours and is told
    /// as one.
    pub fn finish<T>(
        self,
        value: Option<T>,
        origin: &Origin<'_>,
    ) -> Result<(T, Vec<Problem>), Faults> {
        match value {
            Some(value) if self.faults.is_empty() => Ok((value, origin.problems(self.warnings))),
            _ if self.faults.is_empty() => {
                Err(Faults {
                    problems: vec![origin.problem(
                    Position::START,
                    "cannot be planned, and aif does not know why: please report this recipe"
                        .to_owned(),
                )],
                })
            }
            _ => Err(Faults {
                problems: origin.problems(self.faults),
            }),
        }
    }
}

/// What positions refer to.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// Path of the file.
    pub path: &'a str,
    /// Overrides, as they were typed.
    pub overrides: &'a [String],
}

impl Origin<'_> {
    fn problem(&self, position: Position, message: String) -> Problem {
        match position {
            Position::File { line, column } => Problem {
                place: format!("{}:{line}:{column}", self.path),
                line: Some(line),
                column: Some(column),
                message,
            },
            Position::Override(index) => Problem {
                place: format!(
                    "--set {}",
                    self.overrides
                        .get(index)
                        .map_or("", |set| set.split('=').next().unwrap_or_default())
                ),
                line: None,
                column: None,
                message,
            },
        }
    }

    fn problems(&self, mut list: Vec<(Position, String)>) -> Vec<Problem> {
        list.sort_by_key(|(position, _)| *position);
        let mut seen = HashSet::new();
        list.into_iter()
            .filter(|entry| seen.insert(entry.clone()))
            .map(|(position, message)| self.problem(position, message))
            .collect()
    }
}

/// One fault or warning, as it is shown: `recipes/x.yaml:12:5: unknown key …`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// `path:line:column`, or `--set key`.
    pub place: String,
    /// The line, where it stands in a file.
    pub line: Option<usize>,
    /// The column, where it stands in a file.
    pub column: Option<usize>,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// Every fault of a recipe, one a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Faults {
    /// The faults, in the order of the file.
    pub problems: Vec<Problem>,
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}
