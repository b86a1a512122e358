//! How far the times of a result are from true ones, as reports and terminal say it: beside the numbers, in a note, and in
//! full. Pure; a result that was not looked at has none of it.

use super::{
    facts::{Fact, fact},
    text,
};
use crate::stats::{certificate::Certificate, results::Results};

/// The error by which a metric is measured: its 99th percentile, or its largest where the count does not bear that.
pub(super) fn error_of(results: &Results, metric: &str) -> Option<f64> {
    let error = results.certificate.as_ref()?.error(metric)?;
    error.p99.or(error.max)
}

/// How the errors of a result's times were found: the note that explains `±`.
pub(super) fn note(certificate: &Certificate) -> String {
    let beside = if certificate.cores_shared {
        " on the generator's CPUs"
    } else {
        ""
    };
    format!(
        "± p99 (or largest) error, by {} requests to an engine of known times{beside}",
        certificate.requests
    )
}

/// What an engine of known times showed of the generator.
pub(super) fn facts(certificate: &Certificate) -> Vec<Fact> {
    let mut facts = vec![
        fact(
            "compared",
            format!(
                "{} requests in {} s, {} requests/s",
                certificate.requests,
                text::number(certificate.seconds),
                text::number(certificate.achieved_rate)
            ),
        ),
        fact(
            "engine of known times",
            format!(
                "first token after {} ms, then each {} ms; itself late by {} ms at the most",
                text::number(certificate.engine_first_ms),
                text::number(certificate.engine_gap_ms),
                text::number(certificate.engine_late_ms)
            ),
        ),
        fact(
            "on CPUs of the generator",
            if certificate.cores_shared {
                "yes"
            } else {
                "no"
            },
        ),
    ];
    let spread = |p50: Option<f64>, p99: Option<f64>, max: Option<f64>| {
        format!(
            "p50 {} ms, p99 {} ms, largest {} ms",
            text::optional(p50),
            text::optional(p99),
            text::optional(max)
        )
    };
    for (name, error) in &certificate.errors {
        let name = match name.as_str() {
            "stamp_delay" => "from a token's writing to its stamp".to_owned(),
            name => format!("error of {}", text::metric_name(name)),
        };
        facts.push(fact(&name, spread(error.p50, error.p99, error.max)));
    }
    facts.push(fact(
        "lateness (sent − intended)",
        format!(
            "p99 {} ms, largest {} ms",
            text::number(certificate.lateness_p99_ms),
            text::number(certificate.lateness_max_ms)
        ),
    ));
    facts
}
