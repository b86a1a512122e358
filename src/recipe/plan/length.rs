//! Lengths in tokens: a number, or a distribution that each request draws its own from.
//!
//! Bounds cut a distribution off, so a centre outside of them would leave hardly anything to draw: that is a fault.

use super::whole;
use crate::recipe::{
    Length,
    client::MOST_TOKENS,
    fault::Findings,
    load::{Node, Value},
};

/// Length where a recipe gives none.
const USUAL: u32 = 128;

/// The length at a path.
pub(super) fn length(root: &Node, path: &str, findings: &mut Findings) -> Length {
    let usual = Length::Fixed(USUAL);
    let Some(node) = root.find(path) else {
        return usual;
    };
    if !matches!(node.value, Value::Map(_)) {
        return whole(root, path).map_or(usual, Length::Fixed);
    }
    let kinds: Vec<_> = ["uniform", "normal", "lognormal"]
        .into_iter()
        .filter_map(|kind| Some((kind, node.get(kind)?)))
        .collect();
    let [(kind, inner)] = kinds.as_slice() else {
        // a key that is not known is told by the table already
        if !kinds.is_empty() || node.entries().is_empty() {
            findings.fault(
                node.at,
                format!("{path:?} wants one distribution: uniform, normal or lognormal"),
            );
        }
        return usual;
    };
    let found = match *kind {
        "uniform" => uniform(inner),
        "normal" => normal(inner),
        _ => lognormal(inner),
    };
    found.unwrap_or_else(|message| {
        // what lacks or has a wrong type is told by the table already
        if let Some(message) = message {
            findings.fault(inner.at, format!("{path:?} {message}"));
        }
        usual
    })
}

type Found = Result<Length, Option<String>>;

fn uniform(node: &Node) -> Found {
    let ends: Vec<u32> = node
        .items()
        .iter()
        .filter_map(|item| u32::try_from(item.as_u64()?).ok())
        .collect();
    match ends[..] {
        [min, max] if min <= max => Ok(Length::Uniform { min, max }),
        _ => Err(Some(
            "wants `uniform: [LEAST, MOST]`, two numbers of which the first is not above the second"
                .to_owned(),
        )),
    }
}

fn normal(node: &Node) -> Found {
    let mean = node.get("mean").and_then(Node::as_f64).ok_or(None)?;
    let std = node.get("std").and_then(Node::as_f64).ok_or(None)?;
    let (min, max) = bounds(node, "mean", mean)?;
    Ok(Length::Normal {
        mean,
        std,
        min,
        max,
    })
}

fn lognormal(node: &Node) -> Found {
    let sigma = node.get("sigma").and_then(Node::as_f64).ok_or(None)?;
    let number = |key: &str| node.get(key).and_then(Node::as_f64);
    let median = match (number("median"), number("mean")) {
        (Some(median), None) => median,
        (None, Some(mean)) => mean * (-sigma * sigma / 2.0).exp(),
        _ => {
            return Err(Some(
                "wants the median or the mean of a lognormal distribution, one of the two"
                    .to_owned(),
            ));
        }
    };
    let (min, max) = bounds(node, "median", median)?;
    Ok(Length::Lognormal {
        median,
        sigma,
        min,
        max,
    })
}

fn bounds(node: &Node, what: &str, centre: f64) -> Result<(u32, u32), Option<String>> {
    let min = whole(node, "min").unwrap_or(1);
    let most = u32::try_from(MOST_TOKENS).unwrap_or(u32::MAX);
    let max = whole(node, "max").unwrap_or(most);
    if centre.round() < f64::from(min) || centre.round() > f64::from(max) {
        return Err(Some(format!(
            "has its {what} ({centre:.0}) outside of {min} to {max}, between which all lengths lie"
        )));
    }
    Ok((min, max))
}
