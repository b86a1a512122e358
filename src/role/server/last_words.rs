//! How the failure of an engine is told: what happened, the mend, and the end of its log. The line that tells why often
//! stands far above that end, which is the traceback of whoever waited for it: so it is told, too. Pure; nothing can fail.

/// Lines of its log that an engine's death is told with.
const LAST_LINES: usize = 20;

/// The lines among which the cause of an end is looked for: all, or those that came `lately`.
pub(super) fn looked_at(said: &[String], lately: bool) -> &[String] {
    let first = said.len().saturating_sub(LAST_LINES);
    &said[if lately { first } else { 0 }..]
}

/// A failure as it is told: what happened, the mend, and the end of the log, above it the line that tells why.
pub(super) fn told(
    what: &str,
    mend: Option<&str>,
    line: Option<&str>,
    log: &str,
    said: &[String],
) -> String {
    let mut message = what.to_owned();
    if let Some(mend) = mend {
        message.push_str("; ");
        message.push_str(mend);
    }
    if said.is_empty() {
        message.push_str("; it wrote nothing");
        return message;
    }
    let last = &said[said.len().saturating_sub(LAST_LINES)..];
    let above = line.filter(|line| !last.iter().any(|last| last == line));
    let after = above.map_or("", |_| ", after the line that tells why");
    for part in ["; the end of its log (", log, ")", after, ":"] {
        message.push_str(part);
    }
    for line in above
        .into_iter()
        .chain(above.map(|_| "…"))
        .chain(last.iter().map(String::as_str))
    {
        message.push_str("\n  | ");
        message.push_str(line);
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_tells_why_stands_above_the_end_of_the_log() {
        let mut said = vec!["torch.OutOfMemoryError: CUDA out of memory".to_owned()];
        said.extend((0..30).map(|line| format!("  File \"core.py\", line {line}")));
        let why = said[0].clone();
        let message = told("it died", Some("ask for more"), Some(&why), "e.log", &said);
        let lines: Vec<&str> = message.lines().collect();
        assert_eq!(
            lines[0],
            "it died; ask for more; the end of its log (e.log), after the line that tells why:"
        );
        assert_eq!(lines[1], format!("  | {why}"));
        assert_eq!(lines[2], "  | …");
        assert_eq!(lines.len(), 3 + LAST_LINES);
        assert!(lines.ends_with(&["  |   File \"core.py\", line 29"]));
    }

    #[test]
    fn what_was_survived_is_no_cause_of_a_signal() {
        let mut said = vec!["nvidia-smi: command not found".to_owned()];
        said.extend((0..LAST_LINES).map(|line| line.to_string()));
        assert_eq!(looked_at(&said, false), said);
        assert_eq!(looked_at(&said, true), &said[1..]);
        assert_eq!(looked_at(&said[..2], true), &said[..2]);
    }

    #[test]
    fn a_line_that_is_in_the_end_of_the_log_is_told_once() {
        let said = vec!["first".to_owned(), "why".to_owned()];
        let message = told("it died", None, Some("why"), "e.log", &said);
        assert_eq!(
            message,
            "it died; the end of its log (e.log):\n  | first\n  | why"
        );
        assert_eq!(
            told("it died", None, None, "e.log", &[]),
            "it died; it wrote nothing"
        );
    }
}
