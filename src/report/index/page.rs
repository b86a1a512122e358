//! `index.html`: a table that can be sorted and filtered, what is broken, and trends.
//!
//! The page opens from a file and needs no network. Its little script only sorts and filters what is there: without it the
//! table is whole. What can fail is the template: a fault of ours.

use minijinja::{Value, context};

use super::{
    super::{Error, html, text},
    Entry, Index,
    trends::trends,
};

/// Heads of the table, and whether each is of numbers.
const HEAD: [(&str, bool); 14] = [
    ("started", false),
    ("run", false),
    ("recipe", false),
    ("engine", false),
    ("model", false),
    ("image", false),
    ("node", false),
    ("load", false),
    ("verdict", false),
    ("TTFT p50, ms", true),
    ("TTFT p99, ms", true),
    ("ITL p50, ms", true),
    ("requests/s", true),
    ("tokens/s", true),
];

pub(super) fn render(index: &Index) -> Result<String, Error> {
    let mut templates = html::templates()?;
    templates.add_template("index.html", include_str!("index.html.j2"))?;
    let charts: Vec<Value> = trends(&index.entries)
        .into_iter()
        .map(|chart| {
            context! {
                title => chart.title, svg => Value::from_safe_string(chart.svg), head => chart.head, rows => chart.rows,
                note => chart.note,
            }
        })
        .collect();
    let head: Vec<Value> = HEAD
        .into_iter()
        .map(|(name, number)| context! { name, number })
        .collect();
    let below = index
        .below
        .iter()
        .map(|folder| folder.display().to_string());
    let page = templates.get_template("index.html")?.render(context! {
        folder => below.collect::<Vec<_>>().join(", "), head, charts,
        rows => index.entries.iter().map(row).collect::<Vec<_>>(), broken => index.broken,
        version => env!("CARGO_PKG_VERSION"),
    })?;
    Ok(page)
}

fn row(entry: &Entry) -> Value {
    let word = |value: &Option<String>| value.clone().unwrap_or_else(|| text::NONE.to_owned());
    let words = [
        &entry.engine,
        &entry.model,
        &entry.image,
        &entry.node,
        &entry.load,
    ]
    .map(word);
    let numbers = [
        entry.ttft_p50_ms,
        entry.ttft_p99_ms,
        entry.itl_p50_ms,
        entry.request_throughput,
        entry.output_token_throughput,
    ];
    let numbers = numbers.map(|number| {
        // what is missing comes last, whichever way it is sorted
        context! { text => text::optional(number), sort => number.map_or_else(String::new, |number| number.to_string()) }
    });
    context! {
        started => entry.started_at.map_or_else(|| text::NONE.to_owned(), text::stamp),
        run => entry.run, href => entry.report, recipe => entry.recipe, words, numbers,
        verdict => entry.verdict, tone => html::tone(&entry.verdict),
    }
}
