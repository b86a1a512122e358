//! `report.html`: one page that holds everything, opens from a file, and needs neither network nor script. The page of
//! a run that goes on is the same with a section more, without links into the run's folder, and with a script that fetches
//! it again (`live.js`): it keeps what is unfolded, where one is, and how far one has read.
//!
//! The template (`report.html.j2`) is compiled in; whatever it prints is escaped, because names, messages and log lines
//! come from strangers. Only the charts are marked as safe, and [`super::svg`] escapes its own texts. The views
//! here turn facts into the texts of the page; the template decides where they stand. What can fail is the template
//! itself: a fault of ours, which the tests would show.

use std::path::Path;

use minijinja::{Environment, Value, context};
use serde::Serialize;

use super::{
    Error,
    alerts::{self, AlertRow},
    cdf, certified, chart,
    cost::Cost,
    facts::{Fact, fact, manifest_facts, metric_rows, step_rows, target_facts, token_rows},
    gather::{Bench, Part, Report},
    generator::generator_facts,
    levels,
    live::{Live, Load},
    phases, samplers,
    summary::{FROM_INTENDED, Headline},
    text, timeline, turns,
};
use crate::prometheus::timeline::Timeline;

/// Percentiles and the rest, in the order of the table.
const METRIC_HEAD: [&str; 12] = [
    "unit", "count", "mean", "std", "min", "p50", "p90", "p95", "p99", "p99.9", "p99.99", "max",
];

/// What all pages have: `page.css`, and that whatever is printed is escaped.
pub fn templates() -> Result<Environment<'static>, Error> {
    let mut templates = Environment::new();
    // minijinja's own escapes slashes, too, which makes every path of the source unreadable; and log lines hold
    // control characters, which HTML cannot escape
    templates.set_formatter(|out, _, value| {
        if value.is_safe() {
            return Ok(out.write_str(value.as_str().unwrap_or_default())?);
        }
        Ok(out.write_str(&text::escape(&text::plain(&value.to_string())))?)
    });
    templates.add_template("page.css", include_str!("page.css"))?;
    Ok(templates)
}

/// The page.
pub fn render(report: &Report) -> Result<String, Error> {
    let mut templates = templates()?;
    templates.add_template("report.html", include_str!("report.html.j2"))?;
    templates.add_template("live.js", include_str!("live.js"))?;
    let outcome = report.outcome();
    let headlines = Headline::all(report);
    let benches: Vec<Value> = report
        .benches()
        .zip(&headlines)
        .map(|((part, bench), headline)| bench_view(report, part, bench, headline))
        .collect();
    let parts: Vec<Value> = report
        .parts
        .iter()
        .map(|part| part_view(report, part))
        .collect();
    let page = templates.get_template("report.html")?.render(context! {
        title => report.title(), live => report.live.as_ref().map(|live| live_view(report, live)),
        outcome => outcome.word(),
        tone => tone(outcome.word()),
        meaning => outcome.meaning(),
        several => report.parts.len() > 1,
        benches, parts,
        metric_head => METRIC_HEAD,
        problems => report.parts.iter().flat_map(Part::problems).collect::<Vec<_>>(),
        missing => report.parts.iter().flat_map(|part| &part.missing).collect::<Vec<_>>(),
        version => env!("CARGO_PKG_VERSION"),
    })?;
    Ok(page)
}

/// What is so at this moment.
fn live_view(report: &Report, live: &Live) -> Value {
    let load = |load: &Load| {
        context! { bench => load.bench, share => load.share.map(|share| format!("{share:.3}")), told => load.told() }
    };
    context! {
        at => live.stamp(), every => live.every.as_millis(), standing => report.standing(live),
        instances => live.instances, loads => live.loads.iter().map(load).collect::<Vec<_>>(),
        firing => report.firing().collect::<Vec<_>>(),
    }
}

/// The colour that a word stands in; the word is always there, too.
pub fn tone(word: &str) -> &'static str {
    match word {
        "valid" | "complete" => "good",
        "invalid" | "failed" => "bad",
        _ => "fair",
    }
}

/// A link to a file of the run.
#[derive(Debug, Clone, Serialize)]
struct Link {
    name: String,
    href: String,
}

fn link(report: &Report, path: &Path) -> Link {
    Link {
        name: path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        href: text::href(&report.folder, path),
    }
}

/// Charts as the template takes them.
fn drawn(charts: impl IntoIterator<Item = chart::Figure>) -> Vec<Value> {
    let view = |chart: chart::Figure| {
        context! {
            title => chart.title, svg => Value::from_safe_string(chart.svg), head => chart.head,
            rows => chart.rows, note => chart.note,
        }
    };
    charts.into_iter().map(view).collect()
}

fn bench_view(report: &Report, part: &Part, bench: &Bench, headline: &Headline) -> Value {
    let files: Vec<Link> = bench.files.iter().map(|path| link(report, path)).collect();
    let judgement = headline.judgement();
    let word = headline.verdict.map_or("no result", text::verdict);
    let Some(results) = &bench.results else {
        return context! { name => bench.name, judgement, word, tone => tone(word), run => headline.run, files };
    };
    let figures: Vec<Value> = headline
        .figures
        .iter()
        .map(|figure| {
            context! {
                name => figure.name, unit => figure.unit, rate => figure.is_rate(),
                error => figure.error.map(text::number),
                avg => text::optional(figure.avg), p50 => text::optional(figure.p50), tail => figure.tail(),
            }
        })
        .collect();
    let open = results.load["pattern"] == "open-loop";
    let beside = timelines(report, part);
    let beside = beside.flat_map(|timeline| timeline::of_bench(timeline, results));
    let series = results.series.as_ref().map(|series| {
        let rows: Vec<Value> = levels::rows(series)
            .into_iter()
            .map(|row| {
                let folder = bench.folder.join(&row.folder);
                context! { href => text::href(&report.folder, &folder), cells => row.cells, shown => row.shown }
            })
            .collect();
        context! {
            head => levels::head(series), rows, shown => series.headline,
            interval_head => levels::INTERVAL_HEAD, intervals => levels::interval_rows(series),
            curve => drawn(levels::curve(series)),
        }
    });
    context! {
        name => bench.name, judgement, word, tone => tone(word), run => headline.run, files,
        extent => headline.extent(), gist => headline.gist(), series,
        reasons => headline.reasons,
        figures, charts => drawn(chart::figures(results)), beside => drawn(beside),
        spread => drawn(cdf::figure(&bench.distributions, open)),
        turn_head => turns::HEAD, turns => turns::rows(results),
        conversations => results.conversations.as_ref().map(turns::told),
        star => headline.figures.iter().any(|figure| figure.name.ends_with('*')).then_some(FROM_INTENDED),
        target => target_facts(results),
        metrics => metric_rows(results),
        tokens => token_rows(results),
        counted_by => results.tokens.counted_by,
        generator => generator_facts(&results.generator),
        certified => headline.certified,
        certificate => results.certificate.as_ref().map(certified::facts),
        errors_by_class => results.errors_by_class.iter().map(|(class, count)| fact(class, count.to_string())).collect::<Vec<_>>(),
        error_samples => results.error_samples,
    }
}

/// What a monitor saw while a bench of this run measured: its own, else those of the runs beside it.
fn timelines<'a>(report: &'a Report, part: &'a Part) -> impl Iterator<Item = &'a Timeline> {
    let others = report.parts.iter().filter(|_| part.timeline.is_none());
    let others = others.filter_map(|other| other.timeline.as_ref());
    part.timeline.iter().chain(others)
}

/// Does a bench show engine and node on its own axis? Then those over the whole run may be folded.
fn is_beside(part: &Part, bench: &Bench) -> bool {
    let results = bench.results.as_ref();
    part.timeline.is_some() && results.is_some_and(|results| results.series.is_none())
}

fn part_view(report: &Report, part: &Part) -> Value {
    let recipes: Vec<Value> = part
        .manifest
        .iter()
        .flat_map(|manifest| &manifest.recipes)
        .map(|recipe| {
            context! {
                kind => recipe.kind, path => recipe.path, text => recipe.text, overrides => recipe.overrides.join(" "),
                plan => serde_json::to_string_pretty(&recipe.plan).unwrap_or_default(),
            }
        })
        .collect();
    let tails: Vec<Value> = part
        .tails
        .iter()
        .map(|(name, lines)| {
            context! { name, text => lines.join("\n") }
        })
        .collect();
    let cost =
        Cost::of(part).map(|cost| context! { scope => cost.scope(), figures => cost.facts() });
    let accounted: Vec<Fact> = part
        .manifest
        .iter()
        .filter_map(|manifest| manifest.accounting.as_ref()?.as_object())
        .flatten()
        .map(|(name, value)| fact(name, text::value(value)))
        .collect();
    let watched: Vec<Fact> = part
        .alerts
        .iter()
        .flat_map(|alerts| &alerts.rules)
        .map(|rule| {
            let untold = if rule.had_data == Some(false) {
                " (had no data in this run)"
            } else {
                ""
            };
            fact(&format!("{}{untold}", rule.alert), &rule.expr)
        })
        .collect();
    let over_time: Vec<Value> = part
        .timeline
        .iter()
        .flat_map(|timeline| drawn(timeline::of_run(timeline, part)))
        .collect();
    let timeline = part.timeline.as_ref();
    context! {
        over_time, beside => part.benches.iter().any(|bench| is_beside(part, bench)), not_measured => timeline.map(|timeline| timeline.absent.join(", ")),
        untold => timeline.and_then(|timeline| timeline.problem.clone()),
        alerts => AlertRow::all(part), watched, alerted => part.alerts.as_ref().map(alerts::verdict),
        phases => phases::of_part(part).iter().map(|phase| fact(phase.what, phase.told())).collect::<Vec<_>>(),
        id => part.id, facts => manifest_facts(part), steps => step_rows(part), sampler_head => samplers::HEAD, samplers => samplers::rows(&part.steps), recipes, tails, cost, accounted,
        snapshot => part.snapshot().map(|path| link(report, path)),
        metrics => part.metrics.iter().map(|path| link(report, path)).collect::<Vec<_>>(),
        logs => part.logs.iter().map(|path| link(report, path)).collect::<Vec<_>>(),
        manifest => part.manifest.as_ref().map(|_| link(report, &part.path.join("manifest.json"))),
    }
}
