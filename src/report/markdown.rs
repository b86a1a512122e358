//! `report.md`: the facts of the page in short, for a terminal, a pull request or a lab book.
//!
//! Names and messages come from recipes, engines and logs: in a table a bar or a line break would break the row, and `<`
//! would be HTML in most viewers, so all of them are escaped.

use std::fmt::Write as _;

use super::{
    alerts::{self, AlertRow},
    cost::Cost,
    facts::{step_rows, token_rows},
    gather::{Part, Report},
    levels, phases, samplers,
    summary::{FROM_INTENDED, Headline},
    text, timeline, turns,
};
use crate::stats::{results::Results, series::Series};

/// The text.
pub fn render(report: &Report) -> String {
    let mut out = String::new();
    let outcome = report.outcome();
    let _ = writeln!(out, "# {}\n", cell(&report.title()));
    let _ = writeln!(
        out,
        "**{}.** {}",
        capital(outcome.word()),
        outcome.meaning()
    );
    let clean = report
        .parts
        .iter()
        .all(|part| part.missing.is_empty() && part.problems().is_empty());
    if !clean {
        out.push('\n');
    }
    for problem in report.parts.iter().flat_map(Part::problems) {
        let _ = writeln!(out, "- problem: {}", cell(&problem));
    }
    for missing in report.parts.iter().flat_map(|part| &part.missing) {
        let _ = writeln!(out, "- missing: {}", cell(missing));
    }
    for (headline, (_, bench)) in Headline::all(report).iter().zip(report.benches()) {
        let _ = writeln!(out, "\n## Bench {}\n", cell(&bench.name));
        match &bench.results {
            Some(results) => of_bench(&mut out, headline, results),
            None => out.push_str("No result.\n"),
        }
    }
    for part in &report.parts {
        of_part(&mut out, part, report.parts.len() > 1);
    }
    out
}

fn of_bench(out: &mut String, headline: &Headline, results: &Results) {
    let _ = writeln!(
        out,
        "{}: {}.\n",
        capital(&headline.judgement()),
        headline.gist()
    );
    for reason in &headline.reasons {
        let _ = writeln!(out, "- {}", cell(reason));
    }
    if !headline.reasons.is_empty() {
        out.push('\n');
    }
    if let Some(series) = &results.series {
        of_series(out, series);
    }
    let _ = writeln!(out, "{}\n", cell(&text::load(&results.load)));
    let certified = headline.certified.is_some();
    if !headline.figures.is_empty() {
        out.push_str(if certified {
            "| | mean | p50 | p99 | max | unit | error |\n|---|--:|--:|--:|--:|---|--:|\n"
        } else {
            "| | mean | p50 | p99 | max | unit |\n|---|--:|--:|--:|--:|---|\n"
        });
    }
    for figure in &headline.figures {
        let numbers = [figure.avg, figure.p50, figure.p99, figure.max];
        let [avg, p50, p99, max] = numbers.map(text::optional);
        let error = match figure.error {
            Some(error) => format!(" ±{} |", text::number(error)),
            None if certified => format!(" {} |", text::NONE),
            None => String::new(),
        };
        let _ = writeln!(
            out,
            "| {} | {avg} | {p50} | {p99} | {max} | {} |{error}",
            cell(&figure.name),
            cell(&figure.unit)
        );
    }
    if let Some(certified) = &headline.certified {
        let _ = writeln!(out, "\n{certified}");
    }
    if headline
        .figures
        .iter()
        .any(|figure| figure.name.ends_with('*'))
    {
        let _ = writeln!(out, "\n\\{FROM_INTENDED}");
    }
    out.push('\n');
    if let Some(conversations) = &results.conversations {
        let _ = writeln!(out, "{}\n", turns::told(conversations));
        table(out, &turns::HEAD, turns::rows(results));
    }
    for row in token_rows(results) {
        let _ = writeln!(
            out,
            "- {}: client {}, engine {}: {}",
            row.name, row.client, row.engine, row.comparison
        );
    }
    for (class, count) in &results.errors_by_class {
        let _ = writeln!(out, "- errors `{}`: {count}", cell(class).replace('`', "'"));
    }
}

fn table(out: &mut String, head: &[&str], rows: Vec<Vec<String>>) {
    let _ = writeln!(out, "| {} |", head.join(" | "));
    let _ = writeln!(out, "|{}", "---|".repeat(head.len()));
    for row in rows {
        let cells: Vec<String> = row.iter().map(|text| cell(text)).collect();
        let _ = writeln!(out, "| {} |", cells.join(" | "));
    }
    out.push('\n');
}

/// The loads as a table, the intervals over repeats, and whose numbers follow.
fn of_series(out: &mut String, series: &Series) {
    let rows = levels::rows(series).into_iter().map(|row| row.cells);
    table(out, &levels::head(series), rows.collect());
    let intervals = levels::interval_rows(series);
    if !intervals.is_empty() {
        table(out, &levels::INTERVAL_HEAD, intervals);
    }
    if let Some(shown) = &series.headline {
        let _ = writeln!(out, "Of {}:\n", cell(shown));
    }
}

fn of_part(out: &mut String, part: &Part, several: bool) {
    let name = if several {
        format!(" in {}", cell(&part.id))
    } else {
        String::new()
    };
    if let Some(alerts) = &part.alerts {
        let _ = writeln!(
            out,
            "\n## Alerts{name}\n\n{}",
            cell(&alerts::verdict(alerts))
        );
        let rows = AlertRow::all(part);
        if !rows.is_empty() {
            out.push_str("\n| alert | severity | at | for | state | of | meaning |\n|---|---|---|---|---|---|---|\n");
        }
        for row in rows {
            let cells = [
                &row.alert,
                &row.severity,
                &row.at,
                &row.lasted,
                row.state,
                &row.about,
                &row.summary,
            ];
            let cells: Vec<String> = cells.into_iter().map(cell).collect();
            let _ = writeln!(out, "| {} |", cells.join(" | "));
        }
    }
    if let Some(timeline) = &part.timeline {
        let _ = writeln!(out, "\n## Engine and node{name}\n");
        if let Some(untold) = &timeline.problem {
            let _ = writeln!(out, "{}\n", cell(untold));
        }
        table(out, &timeline::HEAD, timeline::rows(timeline));
        if !timeline.absent.is_empty() {
            let absent = cell(&timeline.absent.join(", "));
            let _ = writeln!(out, "Not measured here: {absent}.");
        }
    }
    let _ = writeln!(out, "\n## What ran{name}\n");
    if let Some(manifest) = &part.manifest {
        let took = text::between(Some(manifest.started_at), manifest.ended_at);
        let _ = writeln!(
            out,
            "{} on site {}, cluster {}, started by {}, aif {}; {}, {took}\n",
            cell(&manifest.role),
            cell(&manifest.site),
            cell(&manifest.cluster),
            cell(&manifest.launcher),
            cell(&manifest.aif_version),
            text::stamp(manifest.started_at)
        );
        if let Some(job) = &manifest.job {
            let restart = match job.restart_count {
                0 => String::new(),
                count => format!(", restart {count}"),
            };
            let (id, nodes) = (cell(&job.job_id), cell(&job.nodes));
            let _ = writeln!(out, "Job {id}{restart} on {nodes}\n");
        }
    }
    if !part.steps.is_empty() {
        out.push_str("| role | recipe | step | node | start | ready | end | exit |\n|---|---|---|---|---|---|---|---|\n");
    }
    for step in step_rows(part) {
        let cells = [
            &step.role,
            &step.recipe,
            &step.step,
            &step.node,
            &step.started,
            &step.ready,
            &step.ended,
            &step.exit,
        ];
        let cells: Vec<String> = cells.into_iter().map(|text| cell(text)).collect();
        let _ = writeln!(out, "| {} |", cells.join(" | "));
    }
    let samplers = samplers::rows(&part.steps);
    if !samplers.is_empty() {
        let _ = writeln!(out, "\n### What could be measured on the nodes{name}\n");
        let rows = samplers.into_iter().map(Vec::from).collect();
        table(out, &samplers::HEAD, rows);
    }
    let phases = phases::of_part(part);
    if !phases.is_empty() {
        out.push_str("\n| phase | took |\n|---|---|\n");
    }
    for phase in &phases {
        let _ = writeln!(out, "| {} | {} |", phase.what, cell(&phase.told()));
    }
    if let Some(cost) = Cost::of(part) {
        let _ = writeln!(out, "\n### Cost{name}\n\n{}", cell(&cost.scope()));
        if !cost.figures.is_empty() {
            out.push_str("\n| | |\n|---|---|\n");
        }
        for figure in &cost.figures {
            let _ = writeln!(out, "| {} | {} |", figure.what, cell(&figure.told()));
        }
    }
    for (log, lines) in &part.tails {
        let _ = writeln!(out, "\nLast lines of {}:\n", cell(log));
        for line in lines {
            let _ = writeln!(out, "    {}", text::plain(line));
        }
    }
    if part.snapshot().is_some() {
        let _ = writeln!(
            out,
            "\nMetrics again: `aif open {}`",
            cell(&part.id).replace('`', "'")
        );
    }
}

/// A stranger's text on one line of a table.
pub(crate) fn cell(text: &str) -> String {
    text::plain(text)
        .replace('\n', " ")
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('|', "\\|")
}

fn capital(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(characters).collect()
    })
}
