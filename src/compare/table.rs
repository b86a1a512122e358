//! A comparison as text of 100 columns at the most, and as Markdown.
//!
//! Pure. Both have the same rows, so the cells are made once. Names come from recipes and folders: in Markdown, what would
//! break a table or be HTML is escaped.

use std::fmt::Write as _;

use super::{Comparison, Pair, facts::Fact};
use crate::{
    report::{
        markdown::cell,
        text::{self, NONE},
    },
    stats::compare::Difference,
};

/// Columns of the whole.
const WIDTH: usize = 100;
/// Columns of a number's name.
const NAME: usize = 38;
/// Columns of a number.
const NUMBER: usize = 10;
/// Columns of a difference.
const DIFFERENCE: usize = 11;
/// Columns of an interval.
const INTERVAL: usize = 17;
/// An end of an interval beyond which it says nothing.
const FAR: f64 = 9999.0;
/// Columns of a fact's name.
const FACT: usize = 28;

/// A row: a number of both sides.
#[derive(Debug, Clone, serde::Serialize)]
pub(super) struct Row {
    /// Of a metric with several numbers, its name, on the first of them.
    pub(super) above: Option<String>,
    /// Is it the only number of its metric?
    pub(super) alone: bool,
    /// Name, both sides, difference, interval.
    pub(super) cells: [String; 5],
    pub(super) verdict: &'static str,
}

/// The rows of a pair.
pub(super) fn rows(pair: &Pair) -> Vec<Row> {
    let mut before = "";
    let mut all = Vec::new();
    for one in &pair.differences {
        let mut row = row(one);
        if one.metric == before {
            row.above = None;
        }
        before = &one.metric;
        all.push(row);
    }
    all
}

fn row(one: &Difference) -> Row {
    let name = one.metric.replace('_', " ");
    let name = format!("{name} ({})", one.unit);
    let is_time = one.unit == "ms";
    let own = if is_time {
        one.statistic.name().to_owned()
    } else {
        name.clone()
    };
    Row {
        above: is_time.then_some(name),
        alone: !is_time,
        cells: [
            own,
            text::optional(one.a),
            text::optional(one.b),
            difference(one),
            interval(one),
        ],
        verdict: one.verdict.word(),
    }
}

/// Why numbers have no interval, each reason once.
pub(super) fn whys(pair: &Pair) -> Vec<&str> {
    let told = pair.differences.iter();
    let mut whys: Vec<&str> = told.filter_map(|one| one.why.as_deref()).collect();
    whys.sort_unstable();
    whys.dedup();
    whys
}

/// In percent of the first side; of a share, in percentage points.
fn difference(one: &Difference) -> String {
    match (one.percent, one.absolute) {
        (Some(percent), _) => format!("{} %", short(percent)),
        (None, Some(absolute)) if one.unit == "%" => format!("{} pp", short(absolute)),
        (None, Some(absolute)) => short(absolute),
        (None, None) => NONE.to_owned(),
    }
}

fn interval(one: &Difference) -> String {
    let Some(interval) = one.interval else {
        return NONE.to_owned();
    };
    let [low, high] = interval.percent.unwrap_or(interval.absolute);
    format!("{} … {}", short(low), short(high))
}

/// With its sign, and no more figures than a difference has.
fn short(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    if value.is_nan() {
        return NONE.to_owned();
    }
    if value.abs() > FAR {
        return format!("{}∞", if value > 0.0 { '+' } else { '-' });
    }
    let text = format!("{value:+.digits$}");
    if text.trim_start_matches(['+', '-', '0', '.']).is_empty() {
        "0".to_owned()
    } else {
        text
    }
}

/// For a terminal.
pub fn plain(comparison: &Comparison) -> String {
    let mut out = String::new();
    for side in &comparison.sides {
        let line = format!(
            "{}: {} ({})",
            side.letter,
            side.name,
            text::verdict(side.verdict)
        );
        fold(&mut out, "", &line);
    }
    section(&mut out, "Warning", &comparison.warnings);
    out.push_str("\nWhat differs\n");
    if comparison.differs.is_empty() {
        out.push_str("  nothing that is known\n");
    }
    let sides = comparison.sides.len();
    let width = ((WIDTH - 2 - FACT) / sides).saturating_sub(2);
    for Fact { name, values } in &comparison.differs {
        let _ = write!(out, "  {:<FACT$}", cut(name, FACT - 1));
        for (side, value) in comparison.sides.iter().zip(values) {
            let value = value.as_deref().unwrap_or(NONE);
            let shown = cut(&format!("{} {value}", side.letter), width);
            let _ = write!(out, "{shown:<width$}  ");
        }
        end_line(&mut out);
    }
    for line in shared(comparison) {
        fold(&mut out, "", &line);
    }
    for pair in &comparison.pairs {
        of_pair(&mut out, comparison, pair);
    }
    section(&mut out, "Rule", &rules(comparison));
    out.push('\n');
    fold(&mut out, "", &comparison.method());
    for note in &comparison.notes {
        fold(&mut out, "", note);
    }
    out.truncate(out.trim_end().len());
    out
}

fn of_pair(out: &mut String, comparison: &Comparison, pair: &Pair) {
    let first = comparison.sides.first().map_or('A', |side| side.letter);
    let _ = write!(out, "\n{:<NAME$}", cut(&title(pair), NAME - 1));
    for head in [first.to_string(), pair.side.to_string()] {
        let _ = write!(out, "{head:>NUMBER$}");
    }
    let _ = writeln!(
        out,
        "{:>DIFFERENCE$}{:>INTERVAL$}",
        "difference", "interval"
    );
    for row in rows(pair) {
        if let Some(above) = &row.above {
            let _ = writeln!(out, "  {above}");
        }
        let indent = if row.cells[0].contains('(') {
            "  "
        } else {
            "    "
        };
        let [name, a, b, difference, interval] = &row.cells;
        let _ = write!(out, "{:<NAME$}", cut(&format!("{indent}{name}"), NAME - 1));
        let _ = write!(
            out,
            "{a:>NUMBER$}{b:>NUMBER$}{difference:>DIFFERENCE$}{interval:>INTERVAL$}"
        );
        let _ = writeln!(out, "  {}", row.verdict);
    }
    for why in whys(pair) {
        fold(out, "  ", &format!("Without an interval: {why}."));
    }
}

/// The bench and its level, without what may be long in it.
pub(super) fn title(pair: &Pair) -> String {
    let level = pair
        .level
        .as_ref()
        .map_or_else(String::new, |level| format!(", {level}"));
    format!("{}{level}", text::plain(&pair.bench))
}

/// Rules with what came of them.
pub(super) fn rules(comparison: &Comparison) -> Vec<String> {
    let told = comparison.rules.iter();
    told.map(|answer| format!("{}: {} ({})", answer.rule, answer.state.word(), answer.told))
        .collect()
}

/// What all sides share, and what is known of none.
fn shared(comparison: &Comparison) -> Vec<String> {
    let (main, others): (Vec<_>, Vec<_>) = comparison.same.iter().partition(|fact| fact.is_main());
    let mut names: Vec<String> = main.into_iter().map(|fact| fact.name.clone()).collect();
    match others.len() {
        0 => {}
        1 => names.push("one more".to_owned()),
        more => names.push(format!("{more} more")),
    }
    let mut told = Vec::new();
    if !names.is_empty() {
        told.push(format!("The same: {}", names.join(", ")));
    }
    if !comparison.unknown.is_empty() {
        told.push(format!("Not known: {}", comparison.unknown.join(", ")));
    }
    told
}

fn section(out: &mut String, name: &str, lines: &[String]) {
    if !lines.is_empty() {
        out.push('\n');
    }
    for line in lines {
        fold(out, "", &format!("{name}: {line}"));
    }
}

/// Lines of 100 columns, broken between words; what follows the first is indented.
fn fold(out: &mut String, indent: &str, text: &str) {
    let mut column = indent.chars().count();
    out.push_str(indent);
    let mut first = true;
    for word in text::plain(text).split_whitespace() {
        let long = word.chars().count();
        if !first && column + 1 + long > WIDTH {
            let _ = write!(out, "\n{indent}  ");
            column = indent.chars().count() + 2;
        } else if !first {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += long;
        first = false;
    }
    out.push('\n');
}

fn end_line(out: &mut String) {
    out.truncate(out.trim_end_matches(' ').len());
    out.push('\n');
}

/// So many characters at the most; of a longer text the beginning.
fn cut(text: &str, width: usize) -> String {
    let text = text::plain(text).replace('\n', " ");
    if text.chars().count() <= width {
        return text;
    }
    text.chars()
        .take(width.saturating_sub(1))
        .chain(['…'])
        .collect()
}

/// For a pull request or a lab book.
pub fn markdown(comparison: &Comparison) -> String {
    let mut out = "# Comparison\n\n".to_owned();
    for side in &comparison.sides {
        let verdict = text::verdict(side.verdict);
        let _ = writeln!(out, "- {}: {} ({verdict})", side.letter, cell(&side.name));
    }
    for warning in &comparison.warnings {
        let _ = writeln!(out, "- **warning**: {}", cell(warning));
    }
    let letters = comparison.sides.iter().map(|side| side.letter.to_string());
    let letters = letters.collect::<Vec<_>>().join(" | ");
    let rule = |columns: usize| "---|".repeat(columns);
    let _ = write!(
        out,
        "\n## What differs\n\n| | {letters} |\n|{}\n",
        rule(comparison.sides.len() + 1)
    );
    for fact in &comparison.differs {
        let values = fact
            .values
            .iter()
            .map(|value| cell(value.as_deref().unwrap_or(NONE)));
        let values = values.collect::<Vec<_>>().join(" | ");
        let _ = writeln!(out, "| {} | {values} |", cell(&fact.name));
    }
    for line in shared(comparison) {
        let _ = writeln!(out, "\n{}", cell(&line));
    }
    for pair in &comparison.pairs {
        let first = comparison.sides.first().map_or('A', |side| side.letter);
        let _ = write!(
            out,
            "\n## {}: {first} and {}\n\n| | {first} | {} | difference | interval | verdict |\n|---|{}---|\n",
            cell(&title(pair)),
            pair.side,
            pair.side,
            "--:|".repeat(4),
        );
        let mut metric = String::new();
        for row in rows(pair) {
            if let Some(above) = &row.above {
                metric.clone_from(above);
            }
            let [name, rest @ ..] = &row.cells;
            let name = if name.contains('(') {
                name.clone()
            } else {
                format!("{metric} {name}")
            };
            let _ = writeln!(
                out,
                "| {} | {} | {} |",
                cell(&name),
                rest.join(" | "),
                row.verdict
            );
        }
    }
    if !comparison.rules.is_empty() {
        out.push_str("\n## Rules\n\n");
        for rule in rules(comparison) {
            let _ = writeln!(out, "- {}", cell(&rule));
        }
    }
    let _ = write!(out, "\n{}\n", comparison.method());
    for note in &comparison.notes {
        let _ = write!(out, "\n{}\n", cell(note));
    }
    out.truncate(out.trim_end().len());
    out
}
