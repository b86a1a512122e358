//! Metrics that engines have renamed, found under either name in what a Prometheus holds.
//!
//! Our agents give an engine's metrics under both names, but a Prometheus that is not ours, or one of an older aif, has
//! only those of the release that it scraped. So what is exported is completed here: where a series is there under one
//! name of a pair alone, it is given under the other, too. Nothing is computed.

use std::collections::{BTreeMap, BTreeSet};

use super::query::Series;

/// The label that holds the name.
pub const NAME: &str = "__name__";
/// What a name may end with in a series: counters and histograms have several series each.
const ENDINGS: [&str; 6] = ["", "_total", "_bucket", "_sum", "_count", "_created"];

/// An older and a newer name of one metric.
pub type Pair = (&'static str, &'static str);

/// Completes series by these pairs of names.
pub fn complete(series: &mut Vec<Series>, pairs: &[Pair]) {
    let named = |all: &[Series], name: &str| -> BTreeSet<BTreeMap<String, String>> {
        let of = all
            .iter()
            .filter(|series| series.labels.get(NAME).is_some_and(|own| own == name));
        of.map(|series| without_name(&series.labels)).collect()
    };
    let mut added = Vec::new();
    for (one, other) in pairs.iter().flat_map(|(old, new)| [(old, new), (new, old)]) {
        for ending in ENDINGS {
            let (from, to) = (format!("{one}{ending}"), format!("{other}{ending}"));
            let there = named(series, &to);
            for source in series
                .iter()
                .filter(|series| series.labels.get(NAME) == Some(&from))
            {
                if !there.contains(&without_name(&source.labels)) {
                    let mut copy = source.clone();
                    copy.labels.insert(NAME.to_owned(), to.clone());
                    added.push(copy);
                }
            }
        }
    }
    series.extend(added);
    series.sort_by(|a, b| a.labels.cmp(&b.labels));
}

fn without_name(labels: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut labels = labels.clone();
    labels.remove(NAME);
    labels
}

/// The expression that finds a metric under both of its names, and the name that was asked for, where the expression is
/// a metric of a pair and nothing more: `name` or `name{label="x"}`. In anything longer the names are the author's.
pub fn either(query: &str, pairs: &[Pair]) -> Option<(String, String)> {
    let query = query.trim();
    let (name, selector) = query.split_at(query.find('{').unwrap_or(query.len()));
    let name = name.trim();
    let inside = selector
        .strip_prefix('{')
        .map(|rest| rest.strip_suffix('}'));
    if let Some(inside) = inside
        && inside.is_none_or(|inside| inside.contains(['{', '}']))
    {
        return None;
    }
    let other = pairs
        .iter()
        .flat_map(|(old, new)| [(old, new), (new, old)])
        .find_map(|(one, other)| {
            let ending = name.strip_prefix(one)?;
            ENDINGS
                .contains(&ending)
                .then(|| format!("{other}{ending}"))
        })?;
    Some((format!("{query} or {other}{selector}"), name.to_owned()))
}

/// Gives all series this name.
pub fn rename(series: &mut [Series], name: &str) {
    for series in series {
        if let Some(own) = series.labels.get_mut(NAME) {
            name.clone_into(own);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prometheus::query::Point;

    const PAIRS: &[Pair] = &[("v:gpu_use", "v:kv_use"), ("v:tpot", "v:itl")];

    fn series(name: &str, instance: &str, value: f64) -> Series {
        Series {
            labels: [(NAME, name), ("instance", instance)]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            points: vec![Point { time: 1.0, value }],
        }
    }

    #[test]
    fn both_names_are_there_and_what_has_both_stays_as_it_is() {
        let mut all = vec![
            series("v:gpu_use", "old", 1.0),
            series("v:kv_use", "new", 2.0),
            series("v:gpu_use", "both", 3.0),
            series("v:kv_use", "both", 4.0),
            series("v:itl_bucket", "new", 5.0),
            series("v:other", "new", 6.0),
        ];
        complete(&mut all, PAIRS);
        let seen: Vec<_> = all
            .iter()
            .map(|s| {
                (
                    s.labels[NAME].as_str(),
                    s.labels["instance"].as_str(),
                    s.points[0].value,
                )
            })
            .collect();
        assert_eq!(
            seen,
            [
                ("v:gpu_use", "both", 3.0),
                ("v:gpu_use", "new", 2.0),
                ("v:gpu_use", "old", 1.0),
                ("v:itl_bucket", "new", 5.0),
                ("v:kv_use", "both", 4.0),
                ("v:kv_use", "new", 2.0),
                ("v:kv_use", "old", 1.0),
                ("v:other", "new", 6.0),
                ("v:tpot_bucket", "new", 5.0),
            ]
        );
    }

    #[test]
    fn a_renamed_metric_is_asked_by_both_names_and_anything_else_as_it_is() {
        let asked = |query| either(query, PAIRS);
        assert_eq!(
            asked(" v:gpu_use{i=\"1\"} "),
            Some((
                "v:gpu_use{i=\"1\"} or v:kv_use{i=\"1\"}".to_owned(),
                "v:gpu_use".to_owned()
            ))
        );
        assert_eq!(
            asked("v:itl_count"),
            Some((
                "v:itl_count or v:tpot_count".to_owned(),
                "v:itl_count".to_owned()
            ))
        );
        for other in [
            "v:gpu_used",
            "v:gpu_use + 1",
            "v:gpu_use{a=\"}\"} + 1",
            "rate(v:itl_sum[1m])",
            "",
        ] {
            assert_eq!(asked(other), None, "{other}");
        }
    }
}
