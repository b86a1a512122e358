//! What came of a series, in words: first what it was, then its answer.
//!
//! The words say what is known and no more: a search that ended at the highest level it might try has found no limit, and
//! one that was cut short says so. Pure.

use super::super::text;
use crate::{
    recipe::Quantity,
    stats::series::{Ended, Interval, Kind, Level, Series},
};

/// What came of the series: first what it was, then its answer, in a few words each.
pub fn answer(series: &Series) -> Vec<String> {
    let mut said = match (series.kind, series.of) {
        (Kind::Search, Some(of)) => searched(series, of),
        (Kind::Sweep, Some(of)) => swept(series, of),
        _ => repeated(series),
    };
    if let (Some(Ended::Interrupted), left @ 1..) = (series.ended, series.not_run.len()) {
        said.push(format!("{left} not run"));
    }
    said
}

fn share(series: &Series) -> String {
    let share = series.slo_attainment.unwrap_or(1.0) * 100.0;
    format!("{} % of requests", text::number(share))
}

fn searched(series: &Series, of: Quantity) -> Vec<String> {
    let mut said = vec![format!("search of {} loads", series.levels.len())];
    let Some(found) = &series.search else {
        return said;
    };
    let missed = found
        .lowest_missed
        .map_or_else(String::new, |missed| format!(", missed at {missed}"));
    said.push(match (found.answer, found.lowest_missed, series.ended) {
        (None, None, _) => "nothing is known of the limits".to_owned(),
        (None, Some(_), _) => {
            format!(
                "limits not kept at {}, the lowest load",
                of.amount(found.min)
            )
        }
        (Some(answer), _, Some(Ended::MetAtMax)) => format!(
            "limits kept up to {}, the highest load that was to be tried",
            of.amount(answer)
        ),
        (Some(answer), ..) => format!(
            "highest load that keeps the limits for {}: {}{missed}",
            share(series),
            of.amount(answer)
        ),
    });
    if found.answer.is_some() {
        let word = if found.confirmed {
            "confirmed by a second load"
        } else {
            "not confirmed"
        };
        said.push(word.to_owned());
    }
    if !found.unconfirmed.is_empty() {
        let levels: Vec<String> = found.unconfirmed.iter().map(ToString::to_string).collect();
        said.push(format!(
            "kept once and missed when tried again: {}",
            levels.join(", ")
        ));
    }
    said
}

fn swept(series: &Series, of: Quantity) -> Vec<String> {
    let mut said = vec![format!("sweep of {} loads", series.levels.len())];
    let missed = series.lowest_missed();
    said.push(
        match (series.slo_attainment, series.highest_met(), missed) {
            (Some(_), Some(met), Some(missed)) => format!(
                "limits kept for {} up to {}, missed at {missed}",
                share(series),
                of.amount(met)
            ),
            (Some(_), Some(met), None) => format!(
                "limits kept for {} at every level, up to {}",
                share(series),
                of.amount(met)
            ),
            (Some(_), None, _) => format!("limits kept at no level for {}", share(series)),
            (None, ..) => most(series, of),
        },
    );
    let mut levels = series.levels.iter();
    let knee = levels.find(|level| Some(&level.folder) == series.knee.as_ref());
    if let Some(knee) = knee.and_then(|level| level.requested) {
        said.push(format!("knee at {}", of.amount(knee)));
    }
    if series.ended == Some(Ended::SloMissed) {
        said.push("ended where they were missed, as asked".to_owned());
    }
    said
}

fn most(series: &Series, of: Quantity) -> String {
    let rate = |level: &&Level| level.avg("request_throughput").unwrap_or(0.0);
    let usable = series.levels.iter().filter(|level| level.is_usable());
    let most = usable.max_by(|one, other| rate(one).total_cmp(&rate(other)));
    match most.and_then(|level| Some((level.requested?, rate(&level)))) {
        Some((value, rate)) => format!(
            "most throughput: {} requests/s at {}",
            text::number(rate),
            of.amount(value)
        ),
        None => "no level can be used".to_owned(),
    }
}

fn repeated(series: &Series) -> Vec<String> {
    let Some(all) = series.repeats.first() else {
        return vec![format!("{} repeats", series.levels.len())];
    };
    let wanted = [
        ("request_throughput", "avg", "throughput", "requests/s"),
        ("time_to_first_token", "p50", "TTFT p50", "ms"),
        ("time_to_first_token", "p99", "TTFT p99", "ms"),
    ];
    let said: Vec<String> = wanted
        .into_iter()
        .filter_map(|(metric, of, name, unit)| {
            let interval = all.metrics.get(metric)?.get(of)?;
            Some(format!("{name} {} {unit}", plus_minus(interval)))
        })
        .collect();
    let what = if said.is_empty() {
        format!("{} repeats, too few for an interval", all.run)
    } else {
        let percent = text::number(all.confidence * 100.0);
        format!("{} repeats, with {percent} % intervals", all.count)
    };
    std::iter::once(what).chain(said).collect()
}

fn plus_minus(interval: &Interval) -> String {
    format!(
        "{} ± {}",
        text::number(interval.mean),
        text::number(interval.half())
    )
}
