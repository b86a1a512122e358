//! What could be measured on the nodes of a run, and what not and why, as each role's samplers told at its end.
//!
//! A chart that is not there, or a figure that is a dash, is explained here. Roles of one node tell much alike, and a role
//! has two dozen samplers: so those that are in the same state, for the same reason, by the word of the same roles share a
//! row, and the worst comes first. Pure.

use std::collections::BTreeMap;

use crate::run::StepFile;

/// Heads of the table.
pub(super) const HEAD: [&str; 4] = ["state", "samplers", "why", "told by"];
/// Key of a step's facts.
pub(super) const FACT: &str = "samplers";
/// States, the worst first; others come after.
const STATES: [&str; 4] = ["failed", "degraded", "unsupported", "healthy"];

/// The rows of the table: none where no role told anything.
pub(super) fn rows(steps: &BTreeMap<String, StepFile>) -> Vec<[String; 4]> {
    // who told what of which sampler
    let mut told: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    for (role, step) in steps {
        let samplers = step.facts.get(FACT).and_then(|facts| facts.as_object());
        for (sampler, state) in samplers.into_iter().flatten() {
            let by = told.entry((sampler, state.as_str().unwrap_or_default()));
            by.or_default().push(format!("{role} on {}", step.node));
        }
    }
    let mut rows: BTreeMap<(usize, &str, &str, String), Vec<&str>> = BTreeMap::new();
    for ((sampler, text), by) in told {
        let (state, why) = split(text);
        let place = STATES.iter().position(|known| *known == state);
        let key = (place.unwrap_or(STATES.len()), state, why, by.join(", "));
        rows.entry(key).or_default().push(sampler);
    }
    let row = |((_, state, why, by), samplers): ((_, &str, &str, String), Vec<&str>)| {
        let samplers = samplers.join(", ");
        [state.to_owned(), samplers, why.to_owned(), by]
    };
    rows.into_iter().map(row).collect()
}

/// State and reason of what a sampler is told to be: `degraded: half of it`, `healthy; failed at 1 of 9 looks`.
fn split(text: &str) -> (&str, &str) {
    match text.find([':', ';']) {
        Some(end) => (&text[..end], text[end + 1..].trim()),
        None => (text, ""),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::clock;

    #[test]
    fn roles_that_say_the_same_share_a_row_and_the_worst_comes_first() {
        let step = |node: &str, samplers: serde_json::Value| -> StepFile {
            let step = json!({
                "schema": 1, "role": "r", "recipe": "x", "pid": 1, "node": node,
                "started_at": clock::now(), "facts": {"samplers": samplers, "port": 1},
            });
            serde_json::from_value(step).unwrap()
        };
        let node = json!({
            "cpu": "healthy", "disk": "healthy", "gpu": "unsupported: no driver: none at all",
            "load": "healthy; failed at 1 of 9 looks, last: it was gone",
        });
        let mut steps = BTreeMap::new();
        steps.insert("server".to_owned(), step("n1", node.clone()));
        steps.insert("monitor".to_owned(), step("n1", node));
        let other = json!({"cpu": "failed: no such file", "disk": "healthy"});
        steps.insert("bench-x".to_owned(), step("n2", other));
        let both = "monitor on n1, server on n1";
        assert_eq!(
            rows(&steps),
            [
                ["failed", "cpu", "no such file", "bench-x on n2"],
                ["unsupported", "gpu", "no driver: none at all", both],
                ["healthy", "disk", "", &format!("bench-x on n2, {both}")],
                ["healthy", "cpu", "", both],
                [
                    "healthy",
                    "load",
                    "failed at 1 of 9 looks, last: it was gone",
                    both
                ],
            ]
        );
        assert!(rows(&BTreeMap::new()).is_empty());
    }
}
