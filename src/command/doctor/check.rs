//! A line of the doctor's list, and what the list comes to.

use serde::Serialize;

use crate::exit::Exit;

/// How a thing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    /// Not on this machine, and nothing that must be.
    NotHere,
    /// As it should be.
    Ok,
    /// A stack runs all the same.
    Warning,
    /// A stack does not run.
    Failed,
}

impl State {
    /// The word in the table.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::NotHere => "not here",
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "MISSING",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    pub(super) name: String,
    pub(super) state: State,
    pub(super) found: String,
    pub(super) mend: Option<String>,
}

impl Check {
    pub(super) fn ok(name: &str, found: impl Into<String>) -> Self {
        Self::new(name, State::Ok, found)
    }

    pub(super) fn not_here(name: &str, found: impl Into<String>) -> Self {
        Self::new(name, State::NotHere, found)
    }

    /// A warning or a failure: each says what to do.
    pub(super) fn bad(
        name: &str,
        state: State,
        found: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self {
            mend: Some(mend.into()),
            ..Self::new(name, state, found)
        }
    }

    pub(super) fn warning(name: &str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self::bad(name, State::Warning, found, mend)
    }

    pub(super) fn failed(name: &str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self::bad(name, State::Failed, found, mend)
    }

    fn new(name: &str, state: State, found: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            state,
            found: found.into(),
            mend: None,
        }
    }
}

/// What all checks come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    CanRun,
    CannotRun,
}

impl Verdict {
    pub(super) fn of(checks: &[Check]) -> Self {
        if checks.iter().any(|check| check.state == State::Failed) {
            Self::CannotRun
        } else {
            Self::CanRun
        }
    }

    /// The code that the doctor ends with. A site file that is faulty stops every command, so its code comes first.
    pub(super) fn exit(self, site_is_faulty: bool) -> Exit {
        match self {
            Self::CanRun => Exit::Done,
            Self::CannotRun if site_is_faulty => Exit::Site,
            Self::CannotRun => Exit::Unavailable,
        }
    }
}

/// The first two numbers of a version, wherever it stands in a line.
pub(super) fn version(text: &str) -> Option<(u32, u32)> {
    text.split_whitespace().find_map(|word| {
        let word = word.trim_start_matches('v');
        let mut parts = word.split(|c: char| !c.is_ascii_digit());
        let major = parts.next()?.parse().ok()?;
        word.contains('.').then_some(())?;
        Some((major, parts.next()?.parse().ok()?))
    })
}

/// Bytes for people.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if value < 10.0 && unit > 0 {
        format!("{value:.1} {}", UNITS[unit])
    } else {
        format!("{value:.0} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        for (text, found) in [
            ("24.11.5", Some((24, 11))),
            ("apptainer version 1.4.5", Some((1, 4))),
            ("singularity-ce version 4.1.2-bionic", Some((4, 1))),
            (
                "prometheus, version 2.42.0+ds (branch: debian/sid)",
                Some((2, 42)),
            ),
            ("v3.5.0-rc1", Some((3, 5))),
            ("no version 7 here", None),
        ] {
            assert_eq!(version(text), found, "{text}");
        }
    }

    #[test]
    fn a_warning_is_no_failure_and_the_site_file_comes_first() {
        let warning = Check::warning("a", "b", "c");
        let failure = Check::failed("a", "b", "c");
        assert_eq!(
            Verdict::of(std::slice::from_ref(&warning)).exit(false),
            Exit::Done
        );
        let both = Verdict::of(&[warning, failure]);
        assert_eq!(both.exit(false), Exit::Unavailable);
        assert_eq!(both.exit(true), Exit::Site);
    }

    #[test]
    fn sizes_for_people() {
        assert_eq!(size(999), "999 B");
        assert_eq!(size(1_500), "1.5 kB");
        assert_eq!(size(61_179_633_664), "61 GB");
    }
}
