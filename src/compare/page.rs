//! A comparison as one page that needs neither network nor script, in the style of a run's report.
//!
//! What can fail is the template: a fault of ours.

use minijinja::{Value, context};

use super::{Comparison, fail_if::State, table};
use crate::report::{Error, html, text};

/// The page.
pub fn render(comparison: &Comparison) -> Result<String, Error> {
    let mut templates = html::templates()?;
    templates.add_template("compare.html", include_str!("compare.html.j2"))?;
    let first = comparison.sides.first().map(|side| side.letter.to_string());
    let pairs: Vec<Value> = comparison
        .pairs
        .iter()
        .map(|pair| {
            context! {
                title => table::title(pair), side => pair.side.to_string(), blocks => pair.blocks.join("; "),
                rows => table::rows(pair), whys => table::whys(pair),
            }
        })
        .collect();
    let sides: Vec<Value> = comparison
        .sides
        .iter()
        .map(|side| {
            let word = text::verdict(side.verdict);
            context! {
                letter => side.letter.to_string(), name => side.name, word, tone => html::tone(word),
                folders => side.folders,
            }
        })
        .collect();
    let rules: Vec<Value> = comparison
        .rules
        .iter()
        .map(|answer| {
            let tone = match answer.state {
                State::Kept => "good",
                State::Doubt => "fair",
                State::Broken | State::NotMeasured => "bad",
            };
            context! { rule => answer.rule.text, word => answer.state.word(), tone, told => answer.told }
        })
        .collect();
    let facts = |facts: &[super::facts::Fact]| -> Vec<Value> {
        let view = |fact: &super::facts::Fact| {
            let values = fact
                .values
                .iter()
                .map(|value| value.as_deref().unwrap_or(text::NONE));
            context! { name => fact.name, values => values.collect::<Vec<_>>() }
        };
        facts.iter().map(view).collect()
    };
    let names: Vec<&str> = comparison
        .sides
        .iter()
        .map(|side| side.name.as_str())
        .collect();
    let page = templates.get_template("compare.html")?.render(context! {
        title => names.join(" and "), first, sides, pairs, rules,
        differs => facts(&comparison.differs), same => facts(&comparison.same),
        unknown => comparison.unknown.join(", "), warnings => comparison.warnings, notes => comparison.notes, method => comparison.method(),
        version => env!("CARGO_PKG_VERSION"),
    })?;
    Ok(page)
}
