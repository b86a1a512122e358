//! One metric, two names: engines rename what they measure, and a query should not care which release answers.
//!
//! Where an engine's text has a metric under one name of a pair only, its series are given again under the other, so
//! that both names hold for both generations. Nothing is computed, only what is the same is repeated: a pair must not
//! name two things that merely look alike.

/// What a name may end with in a series: counters and histograms have several series each.
const ENDINGS: [&str; 6] = ["", "_total", "_bucket", "_sum", "_count", "_created"];
/// The last line of the `OpenMetrics` form, after which nothing may come.
const END: &str = "# EOF";

/// The text with these pairs of names completed, or `None` where nothing is missing.
pub(super) fn complete(text: &str, pairs: &[(&str, &str)]) -> Option<String> {
    let mut added = String::new();
    for (one, other) in pairs {
        let (ones, others) = (lines_of(text, one), lines_of(text, other));
        match (ones.is_empty(), others.is_empty()) {
            (false, true) => repeat(&mut added, &ones, one, other),
            (true, false) => repeat(&mut added, &others, other, one),
            _ => {}
        }
    }
    if added.is_empty() {
        return None;
    }
    let (body, end) = match text.trim_end().strip_suffix(END) {
        Some(body) => (body, "# EOF\n"),
        None => (text, ""),
    };
    let gap = if body.ends_with('\n') { "" } else { "\n" };
    Some(format!("{body}{gap}{added}{end}"))
}

/// The lines of a metric: its series, its help and its type.
fn lines_of<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    text.lines()
        .filter(|line| {
            let start = ["# HELP ", "# TYPE ", "# UNIT "]
                .iter()
                .find_map(|comment| line.strip_prefix(comment))
                .unwrap_or(line);
            let word = start.split(['{', ' ']).next().unwrap_or_default();
            word.strip_prefix(name)
                .is_some_and(|ending| ENDINGS.contains(&ending))
        })
        .collect()
}

fn repeat(added: &mut String, lines: &[&str], from: &str, to: &str) {
    for line in lines {
        added.push_str(&line.replacen(from, to, 1));
        added.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAIRS: &[(&str, &str)] = &[
        ("v:gpu_use", "v:kv_use"),
        ("v:tpot_seconds", "v:itl_seconds"),
    ];

    #[test]
    fn both_names_hold_whichever_the_engine_has() {
        let old = "# HELP v:gpu_use Use.\n# TYPE v:gpu_use gauge\nv:gpu_use{e=\"v:gpu_use\"} 0.5\nv:gpu_used 1\n";
        insta::assert_snapshot!(complete(old, PAIRS).unwrap(), @r#"
        # HELP v:gpu_use Use.
        # TYPE v:gpu_use gauge
        v:gpu_use{e="v:gpu_use"} 0.5
        v:gpu_used 1
        # HELP v:kv_use Use.
        # TYPE v:kv_use gauge
        v:kv_use{e="v:gpu_use"} 0.5
        "#);
        let new = "# TYPE v:itl_seconds histogram\nv:itl_seconds_bucket{le=\"1\"} 2\nv:itl_seconds_sum 1\nv:itl_seconds_count 2\n# EOF\n";
        insta::assert_snapshot!(complete(new, PAIRS).unwrap(), @r#"
        # TYPE v:itl_seconds histogram
        v:itl_seconds_bucket{le="1"} 2
        v:itl_seconds_sum 1
        v:itl_seconds_count 2
        # TYPE v:tpot_seconds histogram
        v:tpot_seconds_bucket{le="1"} 2
        v:tpot_seconds_sum 1
        v:tpot_seconds_count 2
        # EOF
        "#);
    }

    #[test]
    fn nothing_is_added_where_both_are_there_or_none() {
        for text in ["", "other 1\n", "v:gpu_use 1\nv:kv_use 1\n"] {
            assert_eq!(complete(text, PAIRS), None, "{text}");
        }
        assert_eq!(
            complete("v:kv_use 1", PAIRS).unwrap(),
            "v:kv_use 1\nv:gpu_use 1\n"
        );
    }
}
