//! The verdict: how far a result can be trusted, and why not further.
//!
//! A load generator that was late, dropped requests or missed its rate measured itself and not the service, and no
//! statistics mend that afterwards. So every result carries a verdict with reasons in sentences. Pure; nothing can fail.

use serde::{Deserialize, Serialize};

use super::{
    certificate::Certificate,
    results::{Validity, Verdict},
};

/// Largest deviation of the rate sent from the rate asked, as a share of the latter.
pub const RATE_TOLERANCE: f64 = 0.02;
/// Largest share of requests that may be dropped at `max_in_flight`.
pub const DROP_TOLERANCE: f64 = 0.001;
/// p99 lateness as a share of the median TTFT, over which numbers must not be used.
pub const LATENESS_INVALID: f64 = 0.5;
/// p99 lateness as a share of the median TTFT, over which numbers are to be used with care.
pub const LATENESS_DEGRADED: f64 = 0.1;
/// Lateness of a single request, or delay of the event loop, in ms, from which on it is a stall of the generator, if it is
/// also [`STALL_DEGRADED`]. Percentiles do not see it: two seconds of ten minutes are less than 1 %, and yet a gap and a
/// burst that nobody asked for.
pub const STALL_MS: f64 = 1000.0;
/// The same as a multiple of the median TTFT: a shorter one is lost in the time that the service takes anyway.
pub const STALL_DEGRADED: f64 = 2.0;
/// p99 delay of the event loop as a share of the median time between tokens, over which numbers are to be used with care:
/// its stamps are late; with those of the kernel, tokens that came apart may be read together.
pub const DELAY_DEGRADED: f64 = 0.5;
/// Share of its CPUs over which the generator may be what was measured.
pub const CPU_DEGRADED: f64 = 0.9;
/// Successes under which percentiles mean little.
pub const MIN_SAMPLES: u64 = 100;

/// What the verdict is made of; all about the measured window.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, not states"
)]
pub struct Facts {
    /// Requests that ended well.
    pub successes: u64,
    /// Requests offered.
    pub total: u64,
    /// Rate asked for; `None` for a closed loop.
    pub requested_rate: Option<f64>,
    /// Rate sent.
    pub achieved_rate: f64,
    /// Requests sent that the schedule made: not the later turns of conversations.
    pub arrived: u64,
    /// Requests that the schedule holds in the window.
    pub expected_in_window: Option<u64>,
    /// Of these, dropped at `max_in_flight`.
    pub dropped: u64,
    /// Requests for which this machine had no open file or no port left.
    pub local_limit: u64,
    /// 99th percentile of sent − intended.
    pub lateness_p99_ms: f64,
    /// Largest of the same.
    pub lateness_max_ms: f64,
    /// Requests that were later than [`Self::stall_limit_ms`].
    pub stalled: u64,
    /// Largest delay of the event loop, whoever stamps what comes; `None` where it was not looked at.
    pub loop_delay_max_ms: Option<f64>,
    /// Median time to first token; of whole answers, median request latency.
    pub ttft_p50_ms: Option<f64>,
    /// Median time between tokens.
    pub itl_p50_ms: Option<f64>,
    /// 99th percentile of the event loop's delay; `None` where it was not looked at, or the kernel stamps what comes.
    pub stamp_delay_p99_ms: Option<f64>,
    /// 99th percentile of the time from the coming of bytes to their reading; `None` where the system does not tell.
    pub read_delay_p99_ms: Option<f64>,
    /// CPU time of the generator, as a share of what its workers could have had; of its busiest worker, where that is more.
    pub cpu_share: f64,
    /// Are answers no tokens that come one after another? Then what is waited for is the whole of them.
    pub whole_answers: bool,
    /// Were chunks counted in place of tokens?
    pub counted_by_chunks: bool,
    /// Were prompts to have lengths, and did nobody count their tokens?
    pub lengths_unknown: bool,
    /// Did the generator share CPUs with the engine?
    pub cores_shared: bool,
    /// Is it known which CPUs both had?
    pub cores_known: bool,
    /// Did the monitor end, or lose samples, before or while the load ran?
    pub monitor_lost: bool,
    /// Was an engine started again while the load ran?
    pub engine_restarted: bool,
    /// Was the load told to end before its time?
    pub interrupted: bool,
    /// Do requests come at one rate and at equal gaps? Where they do not, their count varies by nature, and only the
    /// schedule's own count can be held against it.
    pub even: bool,
}

impl Facts {
    /// From which lateness on the generator has stalled.
    pub fn stall_limit_ms(&self) -> f64 {
        let of_ttft = self.ttft_p50_ms.map_or(0.0, |ttft| STALL_DEGRADED * ttft);
        of_ttft.max(STALL_MS)
    }
}

/// The verdict on a result.
pub fn judge(facts: &Facts) -> Validity {
    let mut validity = Validity {
        verdict: Verdict::Valid,
        reasons: Vec::new(),
    };
    let mut add = |verdict: Verdict, reason: String| {
        validity.verdict = validity.verdict.max(verdict);
        validity.reasons.push(reason);
    };
    if facts.successes == 0 {
        add(
            Verdict::Invalid,
            format!("None of {} requests succeeded.", facts.total),
        );
    }
    if let Some(reason) = rate(facts) {
        add(Verdict::Invalid, reason);
    }
    if facts.dropped as f64 > DROP_TOLERANCE * facts.total as f64 {
        add(
            Verdict::Invalid,
            format!(
                "{} of {} requests were dropped at max_in_flight, which is more than {} %.",
                facts.dropped,
                facts.total,
                DROP_TOLERANCE * 100.0
            ),
        );
    }
    if facts.local_limit > 0 {
        let many = facts.local_limit as f64 > DROP_TOLERANCE * facts.total as f64;
        let verdict = if many {
            Verdict::Invalid
        } else {
            Verdict::Degraded
        };
        add(
            verdict,
            format!(
                "{} of {} requests were not sent, for this machine ran out of open files or local ports: raise its limits (ulimit -Hn), keep connections alive, or ask for less.",
                facts.local_limit, facts.total
            ),
        );
    }
    if let Some((verdict, reason)) = lateness(facts) {
        add(verdict, reason);
    }
    if let Some(reason) = stall(facts) {
        add(Verdict::Degraded, reason);
    }
    if let Some(reason) = delay(facts).or_else(|| unread(facts)) {
        add(Verdict::Degraded, reason);
    }
    if facts.cpu_share > CPU_DEGRADED {
        add(
            Verdict::Degraded,
            format!(
                "The load generator, or its busiest worker, used {:.0} % of its CPUs, which is over {:.0} %: give it more (cpu_cores), or ask for less.",
                facts.cpu_share * 100.0,
                CPU_DEGRADED * 100.0
            ),
        );
    }
    if facts.successes > 0 && facts.successes < MIN_SAMPLES {
        add(
            Verdict::Degraded,
            format!(
                "Only {} requests succeeded: percentiles want at least {MIN_SAMPLES}.",
                facts.successes
            ),
        );
    }
    if facts.counted_by_chunks {
        add(
            Verdict::Degraded,
            "The service gave no token counts (usage): chunks were counted as tokens.".to_owned(),
        );
    }
    if facts.lengths_unknown {
        add(
            Verdict::Degraded,
            "Nobody counted the tokens of prompts (no usage, no tokenizer that could be asked): their lengths are words."
                .to_owned(),
        );
    }
    if facts.cores_shared {
        add(
            Verdict::Degraded,
            "The load generator shared CPU cores with the engine.".to_owned(),
        );
    } else if !facts.cores_known {
        add(
            Verdict::Degraded,
            "It is not known whether the load generator shared CPU cores with the engine."
                .to_owned(),
        );
    }
    if facts.monitor_lost {
        add(
            Verdict::Degraded,
            "The monitor was lost before or while the load ran.".to_owned(),
        );
    }
    if facts.engine_restarted {
        add(
            Verdict::Degraded,
            "An engine ended and was started again while the load ran.".to_owned(),
        );
    }
    if facts.interrupted {
        add(
            Verdict::Degraded,
            format!(
                "The load was interrupted before its planned end, after {} requests of the measured window.",
                facts.total
            ),
        );
    }
    validity
}

/// Adds what the certificate of the generator says about the times of a result.
pub fn certify(
    validity: &mut Validity,
    certificate: &Certificate,
    ttft_p50_ms: Option<f64>,
    itl_p50_ms: Option<f64>,
) {
    let limits = [
        (
            "time_to_first_token",
            ttft_p50_ms,
            LATENESS_DEGRADED,
            "time to first token",
        ),
        (
            "inter_token_latency",
            itl_p50_ms,
            DELAY_DEGRADED,
            "time between tokens",
        ),
    ];
    for (metric, median, share, what) in limits {
        let Some(error) = certificate.error(metric) else {
            continue;
        };
        // of few requests the largest error is all that is known of its tail
        let (whose, error) = match (error.p99, error.max) {
            (Some(p99), _) => ("1 % of the measured", p99),
            (None, Some(max)) => ("a measured", max),
            (None, None) => continue,
        };
        if let Some(median) = median.filter(|median| error > share * median) {
            validity.verdict = validity.verdict.max(Verdict::Degraded);
            validity.reasons.push(format!(
                "Against an engine of known times, {whose} {what} was off by {error:.3} ms or more, which is over {:.0} % of the median ({median:.3} ms).",
                share * 100.0
            ));
        }
    }
}

/// Adds that the generator was to be certified and was not.
pub fn not_certified(validity: &mut Validity, why: &str) {
    validity.verdict = validity.verdict.max(Verdict::Degraded);
    validity.reasons.push(format!(
        "The load generator was not measured against an engine of known times: {why}."
    ));
}

/// Was the rate missed?
fn rate(facts: &Facts) -> Option<String> {
    let requested = facts.requested_rate?;
    let percent = RATE_TOLERANCE * 100.0;
    if !facts.even {
        let expected = facts.expected_in_window?;
        let sent = facts.arrived;
        let off = sent.abs_diff(expected);
        // one request at the edge of the window is no fault of the generator
        return (off > 1 && off as f64 > RATE_TOLERANCE * expected as f64).then(|| {
            format!(
                "{sent} requests were sent where the schedule has {expected}, which is off by more than {percent} %."
            )
        });
    }
    // as above: in a short window a single request is more than the tolerance
    let one = facts
        .expected_in_window
        .filter(|expected| *expected > 0)
        .map_or(0.0, |expected| requested / expected as f64 * 1.000_001);
    let off = (facts.achieved_rate - requested).abs();
    (off > (RATE_TOLERANCE * requested).max(one)).then(|| {
        format!(
            "{:.3} requests/s were sent where {requested:.3} were asked for, which is off by more than {percent} %.",
            facts.achieved_rate
        )
    })
}

const fn waited_for(facts: &Facts) -> &'static str {
    if facts.whole_answers {
        "median request latency"
    } else {
        "median time to first token"
    }
}

/// Did requests leave too late? In a closed loop that makes the load lighter, and its times, which count from when they
/// were sent, are what they are: so it is never invalid for that.
fn lateness(facts: &Facts) -> Option<(Verdict, String)> {
    let ttft = facts.ttft_p50_ms?;
    let late = facts.lateness_p99_ms;
    let is_open = facts.requested_rate.is_some() || facts.expected_in_window.is_some();
    let (verdict, share) = if is_open && late > LATENESS_INVALID * ttft {
        (Verdict::Invalid, LATENESS_INVALID)
    } else if late > LATENESS_DEGRADED * ttft {
        (Verdict::Degraded, LATENESS_DEGRADED)
    } else {
        return None;
    };
    Some((
        verdict,
        format!(
            "1 % of requests were sent {late:.3} ms or more after their time, which is over {:.0} % of the {} ({ttft:.3} ms).",
            share * 100.0,
            waited_for(facts)
        ),
    ))
}

/// Did the generator stand still for a while, too shortly for a percentile?
fn stall(facts: &Facts) -> Option<String> {
    let limit = facts.stall_limit_ms();
    if facts.lateness_max_ms > limit {
        return Some(format!(
            "The load generator stalled: {} of {} requests were sent more than {limit:.0} ms after their time, the latest {:.0} ms.",
            facts.stalled.max(1),
            facts.total,
            facts.lateness_max_ms
        ));
    }
    let delay = facts.loop_delay_max_ms.filter(|delay| *delay > limit)?;
    Some(format!(
        "The load generator stalled: it did nothing for {delay:.0} ms, which is more than {limit:.0} ms."
    ))
}

/// Were bytes read too late to tell one token from the next?
fn unread(facts: &Facts) -> Option<String> {
    let (delay, gap) = (facts.read_delay_p99_ms?, facts.itl_p50_ms?);
    // where most tokens are sent together, there are no gaps to lose
    (gap > 0.0 && delay > DELAY_DEGRADED * gap).then(|| {
        format!(
            "1 % of what came lay there for {delay:.3} ms or more before it was read, which is over {:.0} % of the median time between tokens ({gap:.3} ms): tokens that were read together have one stamp.",
            DELAY_DEGRADED * 100.0
        )
    })
}

/// Was the event loop too late for its stamps?
fn delay(facts: &Facts) -> Option<String> {
    let delay = facts.stamp_delay_p99_ms?;
    let limits = [
        (facts.ttft_p50_ms, LATENESS_DEGRADED, waited_for(facts)),
        (
            facts.itl_p50_ms,
            DELAY_DEGRADED,
            "median time between tokens",
        ),
    ];
    limits.into_iter().find_map(|(median, share, what)| {
        let median = median.filter(|median| delay > share * median)?;
        Some(format!(
            "1 % of the time, stamps of the load generator may be late by {delay:.3} ms or more, which is over {:.0} % of the {what} ({median:.3} ms).",
            share * 100.0
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Facts {
        Facts {
            successes: 1000,
            total: 1000,
            arrived: 1000,
            requested_rate: Some(10.0),
            achieved_rate: 10.0,
            expected_in_window: Some(1000),
            dropped: 0,
            local_limit: 0,
            lateness_p99_ms: 1.0,
            lateness_max_ms: 2.0,
            stalled: 0,
            loop_delay_max_ms: Some(0.2),
            ttft_p50_ms: Some(100.0),
            itl_p50_ms: Some(10.0),
            stamp_delay_p99_ms: Some(0.1),
            read_delay_p99_ms: Some(0.1),
            cpu_share: 0.2,
            whole_answers: false,
            counted_by_chunks: false,
            lengths_unknown: false,
            cores_shared: false,
            cores_known: true,
            monitor_lost: false,
            engine_restarted: false,
            interrupted: false,
            even: true,
        }
    }

    #[test]
    fn a_good_load_needs_no_reason() {
        assert_eq!(
            judge(&good()),
            Validity {
                verdict: Verdict::Valid,
                reasons: vec![]
            }
        );
    }

    #[test]
    fn the_readme_tells_these_limits() {
        let readme = include_str!("../../README.md");
        let percent = |share: f64| format!("{} %", share * 100.0);
        let rows = [
            format!(
                "off the rate asked by more than {}",
                percent(RATE_TOLERANCE)
            ),
            format!(
                "more than {} of the requests dropped",
                percent(DROP_TOLERANCE)
            ),
            format!(
                "p99 lateness (sent − intended) over {} of",
                percent(LATENESS_INVALID)
            ),
            format!(
                "| `degraded` | the same over {} |",
                percent(LATENESS_DEGRADED)
            ),
            format!("a request more than {} s late", STALL_MS / 1000.0),
            format!("over {STALL_DEGRADED} times the median time to first token"),
            format!(
                "over {} of the median time between tokens; of stamps also over {} of that",
                percent(DELAY_DEGRADED),
                percent(LATENESS_DEGRADED)
            ),
            format!("over {} of the generator's CPUs", percent(CPU_DEGRADED)),
            format!("fewer than {MIN_SAMPLES} successes"),
            "words taken for the tokens of prompts".to_owned(),
            format!(
                "begun over {} of the window apart",
                percent(crate::stats::tasks::START_DEGRADED)
            ),
        ];
        for row in rows {
            assert!(readme.contains(&row), "{row}");
        }
    }

    #[test]
    fn each_rule_has_its_verdict() {
        type Change = fn(&mut Facts);
        let cases: &[(&str, Change, Verdict)] = &[
            ("no success", |f| f.successes = 0, Verdict::Invalid),
            (
                "rate within 2 %",
                |f| f.achieved_rate = 9.81,
                Verdict::Valid,
            ),
            ("rate too low", |f| f.achieved_rate = 9.79, Verdict::Invalid),
            (
                "no file for one of many",
                |f| f.local_limit = 1,
                Verdict::Degraded,
            ),
            ("no file for more", |f| f.local_limit = 2, Verdict::Invalid),
            (
                "rate too high",
                |f| f.achieved_rate = 10.21,
                Verdict::Invalid,
            ),
            (
                "one of ten missing",
                |f| {
                    (f.achieved_rate, f.expected_in_window) = (9.0, Some(10));
                },
                Verdict::Valid,
            ),
            (
                "two of ten missing",
                |f| {
                    (f.achieved_rate, f.expected_in_window) = (8.0, Some(10));
                },
                Verdict::Invalid,
            ),
            (
                "closed loop has no rate",
                |f| {
                    (f.requested_rate, f.achieved_rate) = (None, 3.0);
                },
                Verdict::Valid,
            ),
            (
                "users of a closed loop are late",
                |f| {
                    (f.requested_rate, f.expected_in_window) = (None, None);
                    f.lateness_p99_ms = 1e3;
                },
                Verdict::Degraded,
            ),
            (
                "poisson varies",
                |f| {
                    (f.even, f.achieved_rate) = (false, 11.0);
                },
                Verdict::Valid,
            ),
            (
                "poisson off its schedule",
                |f| {
                    (f.even, f.expected_in_window) = (false, Some(1030));
                },
                Verdict::Invalid,
            ),
            ("1 of 1000 dropped", |f| f.dropped = 1, Verdict::Valid),
            ("2 of 1000 dropped", |f| f.dropped = 2, Verdict::Invalid),
            ("late", |f| f.lateness_p99_ms = 10.5, Verdict::Degraded),
            ("very late", |f| f.lateness_p99_ms = 50.5, Verdict::Invalid),
            (
                "two seconds of ten minutes",
                |f| f.lateness_max_ms = 2000.0,
                Verdict::Degraded,
            ),
            (
                "a stall in which nobody was to be sent",
                |f| f.loop_delay_max_ms = Some(1500.0),
                Verdict::Degraded,
            ),
            (
                "a stall that is less than a slow service takes",
                |f| (f.lateness_max_ms, f.ttft_p50_ms) = (2000.0, Some(1500.0)),
                Verdict::Valid,
            ),
            (
                "no first token known",
                |f| {
                    (f.lateness_p99_ms, f.ttft_p50_ms) = (50.5, None);
                },
                Verdict::Valid,
            ),
            (
                "stamps late for the first token",
                |f| {
                    (f.stamp_delay_p99_ms, f.itl_p50_ms) = (Some(10.5), None);
                },
                Verdict::Degraded,
            ),
            (
                "stamps late for gaps",
                |f| f.stamp_delay_p99_ms = Some(5.5),
                Verdict::Degraded,
            ),
            (
                "stamps late by less",
                |f| f.stamp_delay_p99_ms = Some(4.5),
                Verdict::Valid,
            ),
            (
                "read late",
                |f| f.read_delay_p99_ms = Some(5.5),
                Verdict::Degraded,
            ),
            (
                "read late, without gaps",
                |f| (f.read_delay_p99_ms, f.itl_p50_ms) = (Some(5.5), None),
                Verdict::Valid,
            ),
            (
                "read in time",
                |f| f.read_delay_p99_ms = Some(4.5),
                Verdict::Valid,
            ),
            (
                "stamps not looked at",
                |f| f.stamp_delay_p99_ms = None,
                Verdict::Valid,
            ),
            ("busy", |f| f.cpu_share = 0.89, Verdict::Valid),
            ("too busy", |f| f.cpu_share = 0.91, Verdict::Degraded),
            ("99 successes", |f| f.successes = 99, Verdict::Degraded),
            ("chunks", |f| f.counted_by_chunks = true, Verdict::Degraded),
            ("words", |f| f.lengths_unknown = true, Verdict::Degraded),
            ("shared", |f| f.cores_shared = true, Verdict::Degraded),
            ("unknown", |f| f.cores_known = false, Verdict::Degraded),
            ("monitor", |f| f.monitor_lost = true, Verdict::Degraded),
            ("restart", |f| f.engine_restarted = true, Verdict::Degraded),
            ("interrupted", |f| f.interrupted = true, Verdict::Degraded),
        ];
        for (name, change, verdict) in cases {
            let mut facts = good();
            change(&mut facts);
            let judged = judge(&facts);
            assert_eq!(judged.verdict, *verdict, "{name}");
            assert_eq!(
                judged.reasons.len(),
                usize::from(*verdict != Verdict::Valid),
                "{name}: {:?}",
                judged.reasons
            );
        }
    }

    #[test]
    fn a_generator_that_errs_too_much_degrades_its_result() {
        let error = |p99| super::super::results::Metric {
            p99: Some(p99),
            ..Default::default()
        };
        let judged = |first: f64, gap: f64| {
            let errors = [
                ("time_to_first_token".to_owned(), error(first)),
                ("inter_token_latency".to_owned(), error(gap)),
            ];
            let certificate = Certificate {
                errors: errors.into(),
                ..Certificate::default()
            };
            let mut validity = judge(&good());
            certify(&mut validity, &certificate, Some(100.0), Some(10.0));
            validity
        };
        assert_eq!(judged(9.9, 4.9), judge(&good()));
        assert_eq!(judged(10.1, 4.9).verdict, Verdict::Degraded);
        assert_eq!(judged(9.9, 5.1).verdict, Verdict::Degraded);
        insta::assert_snapshot!(judged(12.0, 6.0).reasons.join("\n"), @r"
        Against an engine of known times, 1 % of the measured time to first token was off by 12.000 ms or more, which is over 10 % of the median (100.000 ms).
        Against an engine of known times, 1 % of the measured time between tokens was off by 6.000 ms or more, which is over 50 % of the median (10.000 ms).
        ");
        let mut untold = judge(&good());
        certify(&mut untold, &Certificate::default(), Some(100.0), None);
        assert_eq!(untold, judge(&good()));
        not_certified(&mut untold, "nothing came");
        assert_eq!(untold.verdict, Verdict::Degraded);
    }

    #[test]
    fn the_worst_counts_and_all_are_told() {
        let judged = judge(&Facts {
            successes: 5,
            dropped: 7,
            achieved_rate: 9.0,
            lateness_p99_ms: 60.0,
            ..good()
        });
        assert_eq!(judged.verdict, Verdict::Invalid);
        insta::assert_snapshot!(judged.reasons.join("\n"), @r"
        9.000 requests/s were sent where 10.000 were asked for, which is off by more than 2 %.
        7 of 1000 requests were dropped at max_in_flight, which is more than 0.1 %.
        1 % of requests were sent 60.000 ms or more after their time, which is over 50 % of the median time to first token (100.000 ms).
        Only 5 requests succeeded: percentiles want at least 100.
        ");
    }
}
