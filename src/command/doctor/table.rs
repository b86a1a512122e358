//! The doctor's list for people: what stands well first, what fails last, and below it what all comes to.
//!
//! It is read on a terminal, in a job's output and in letters to a site's support: no colours, a hundred columns.

use super::check::{Check, State, Verdict};

const WIDTH: usize = 100;
const STATE: usize = 10;
/// A longer name still stands apart from what follows.
const NAME: usize = 23;

/// The list, line by line.
pub(super) fn lines(checks: &[Check], advice: Option<&str>) -> Vec<String> {
    let mut lines = Vec::new();
    let with = |states: &[State]| -> Vec<&Check> {
        let fits = |check: &&Check| states.contains(&check.state);
        checks.iter().filter(fits).collect()
    };
    let bad = [with(&[State::Warning]), with(&[State::Failed])].concat();
    for check in with(&[State::Ok, State::NotHere]).into_iter().chain(bad) {
        row(check, &mut lines);
    }
    lines.push(String::new());
    lines.extend(wrapped(&verdict(checks), WIDTH));
    lines.extend(advice.into_iter().flat_map(|text| wrapped(text, WIDTH)));
    lines
}

fn row(check: &Check, lines: &mut Vec<String>) {
    let room = WIDTH - STATE - NAME;
    let mend = check.mend.as_ref().map(|mend| format!("-> {mend}"));
    let texts = wrapped(&check.found, room)
        .into_iter()
        .chain(mend.iter().flat_map(|mend| wrapped(mend, room)));
    for (index, text) in texts.enumerate() {
        let (state, name) = if index == 0 {
            (check.state.word(), check.name.as_str())
        } else {
            ("", "")
        };
        lines.push(format!(
            "{state:<STATE$}{name:<width$} {text}",
            width = NAME - 1
        ));
    }
}

fn verdict(checks: &[Check]) -> String {
    let names = |state| -> Vec<&str> {
        let fits = checks.iter().filter(|check| check.state == state);
        fits.map(|check| check.name.as_str()).collect()
    };
    let (warnings, failures) = (names(State::Warning).len(), names(State::Failed));
    match Verdict::of(checks) {
        Verdict::CanRun if warnings == 0 => "a stack can run here".to_owned(),
        Verdict::CanRun => format!("a stack can run here; {}", count(warnings, "warning")),
        Verdict::CannotRun => format!(
            "a stack cannot run here: {} missing ({})",
            match failures.len() {
                1 => "1 thing is".to_owned(),
                number => format!("{number} things are"),
            },
            failures.join(", ")
        ),
    }
}

fn count(number: usize, what: &str) -> String {
    let end = if number == 1 { "" } else { "s" };
    format!("{number} {what}{end}")
}

/// A text in lines of this width, broken between words; a word that is too long (a path) is broken where it must be.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split_whitespace() {
        let mut letters: Vec<char> = word.chars().collect();
        if used > 0 && used + 1 + letters.len() > width {
            lines.push(String::new());
            used = 0;
        }
        while letters.len() > width {
            let rest = letters.split_off(width);
            lines.last_mut().expect("a line").extend(letters);
            lines.push(String::new());
            letters = rest;
        }
        let line = lines.last_mut().expect("a line");
        if used > 0 {
            line.push(' ');
            used += 1;
        }
        used += letters.len();
        line.extend(letters);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_come_last_with_their_mend_and_nothing_is_too_wide() {
        let long = format!("/{}", "x".repeat(150));
        let checks = [
            Check::failed(
                "container runtime",
                "neither apptainer nor singularity",
                "load its module",
            ),
            Check::ok("site file", "plain"),
            Check::warning("partitions", "no partition gpu ".repeat(9), "name them"),
            Check::not_here("GPUs", long),
            Check::failed("Prometheus", "not on the PATH", "put it there"),
        ];
        let lines = lines(&checks, Some("ask a node, too"));
        insta::assert_snapshot!(lines.join("\n"), @r"
        ok        site file              plain
        not here  GPUs                   /xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
                                         xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
                                         xxxxxxxxxxxxxxxxx
        warning   partitions             no partition gpu no partition gpu no partition gpu no partition gpu
                                         no partition gpu no partition gpu no partition gpu no partition gpu
                                         no partition gpu
                                         -> name them
        MISSING   container runtime      neither apptainer nor singularity
                                         -> load its module
        MISSING   Prometheus             not on the PATH
                                         -> put it there

        a stack cannot run here: 2 things are missing (container runtime, Prometheus)
        ask a node, too
        ");
        assert!(lines.iter().all(|line| line.chars().count() <= WIDTH));
    }

    #[test]
    fn the_last_line_says_how_it_stands() {
        let ok = Check::ok("a", "b");
        let warning = Check::warning("c", "d", "e");
        let failure = Check::failed("f", "g", "h");
        assert_eq!(verdict(std::slice::from_ref(&ok)), "a stack can run here");
        assert_eq!(verdict(&[ok, warning]), "a stack can run here; 1 warning");
        assert_eq!(
            verdict(&[failure]),
            "a stack cannot run here: 1 thing is missing (f)"
        );
    }
}
