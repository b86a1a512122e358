//! Verdicts and headlines of series that are written by hand.

use super::super::Found;
use super::*;
use crate::{recipe::Quantity, stats::results::Metric};

fn metric(avg: f64) -> Metric {
    Metric {
        avg,
        p50: Some(avg),
        p99: Some(avg * 2.0),
        ..Metric::default()
    }
}

/// A load at a level, with its throughput and latency.
fn level(number: u32, requested: f64, throughput: f64, latency: f64, met: bool) -> Level {
    Level {
        number,
        requested: Some(requested),
        repeat: None,
        purpose: None,
        seed: number.into(),
        folder: format!("levels/{number:02}"),
        met: Some(met),
        saturated: false,
        completeness: Completeness::Complete,
        validity: Validity {
            verdict: Verdict::Valid,
            reasons: Vec::new(),
        },
        total_requests: 100,
        successes: 100,
        errors: 0,
        started_at: jiff::Timestamp::UNIX_EPOCH,
        duration_seconds: 10.0,
        stimulus_sha256: String::new(),
        metrics: [
            ("request_throughput".to_owned(), metric(throughput)),
            ("request_latency".to_owned(), metric(latency)),
        ]
        .into(),
    }
}

fn series(kind: Kind, levels: Vec<Level>) -> Series {
    Series {
        kind,
        of: Some(Quantity::RequestsPerSecond),
        slo_attainment: None,
        slo: BTreeMap::new(),
        ended: Some(Ended::Complete),
        headline: None,
        knee: None,
        levels,
        not_run: Vec::new(),
        search: None,
        repeats: Vec::new(),
    }
}

fn judged(level: &mut Level, verdict: Verdict, reason: &str) {
    level.validity = Validity {
        verdict,
        reasons: vec![reason.to_owned()],
    };
}

fn sweep() -> Series {
    let levels = vec![
        level(1, 1.0, 1.0, 100.0, true),
        level(2, 2.0, 2.0, 105.0, true),
        level(3, 4.0, 4.0, 130.0, true),
        level(4, 8.0, 4.5, 900.0, false),
    ];
    series(Kind::Sweep, levels)
}

fn headline(mut series: Series) -> (Option<String>, Option<String>) {
    series.conclude();
    (series.headline, series.knee)
}

#[test]
fn a_sweep_shows_the_highest_level_that_kept_the_limits_and_its_knee() {
    let (shown, knee) = headline(sweep());
    assert_eq!(shown.as_deref(), Some("levels/03"));
    assert_eq!(knee.as_deref(), Some("levels/03"));

    // what lies above a level that missed counts no more
    let mut lucky = sweep();
    lucky.levels[1].met = Some(false);
    assert_eq!(headline(lucky).0.as_deref(), Some("levels/01"));

    // without limits: the most throughput
    let mut plain = sweep();
    for level in &mut plain.levels {
        level.met = None;
    }
    assert_eq!(headline(plain.clone()).0.as_deref(), Some("levels/04"));
    judged(&mut plain.levels[3], Verdict::Invalid, "Dropped.");
    assert_eq!(headline(plain).0.as_deref(), Some("levels/03"));
}

#[test]
fn an_overloaded_level_does_not_spoil_the_rest_of_a_sweep() {
    let mut overloaded = sweep();
    assert_eq!(overloaded.validity().verdict, Verdict::Valid);
    judged(&mut overloaded.levels[3], Verdict::Invalid, "Dropped.");
    let validity = overloaded.validity();
    assert_eq!(validity.verdict, Verdict::Degraded);
    assert_eq!(
        validity.reasons,
        [
            "Invalid loads are left out of the answer.",
            "Load 04 (8 requests/s): Dropped."
        ]
    );
    for level in &mut overloaded.levels {
        judged(level, Verdict::Invalid, "Late.");
    }
    let validity = overloaded.validity();
    assert_eq!(validity.verdict, Verdict::Invalid);
    assert_eq!(validity.reasons, ["All 4 loads: Late."]);
}

#[test]
fn a_search_is_worth_what_its_answer_and_its_bound_are_worth() {
    let mut search = sweep();
    search.kind = Kind::Search;
    search.ended = Some(Ended::Found);
    search.levels.push(level(5, 4.0, 4.0, 125.0, true));
    search.search = Some(Found {
        min: 1.0,
        max: 8.0,
        tolerance: 1.0,
        answer: Some(4.0),
        confirmed: true,
        lowest_missed: Some(8.0),
        unconfirmed: Vec::new(),
    });
    assert_eq!(headline(search.clone()).0.as_deref(), Some("levels/05"));
    // a level on the way tells nothing about the answer
    judged(&mut search.levels[0], Verdict::Invalid, "Late.");
    assert_eq!(search.validity().verdict, Verdict::Valid);
    judged(&mut search.levels[4], Verdict::Degraded, "Few.");
    let validity = search.validity();
    assert_eq!(validity.verdict, Verdict::Degraded);
    assert_eq!(validity.reasons, ["Load 05 (4 requests/s): Few."]);
    // where the generator ended, the service need not
    judged(&mut search.levels[3], Verdict::Invalid, "Late.");
    let validity = search.validity();
    assert_eq!(validity.verdict, Verdict::Degraded);
    assert!(validity.reasons[0].contains("need not be where the service ends"));

    // nothing kept the limits, and not even that is sure
    let mut nothing = series(Kind::Search, vec![level(1, 1.0, 1.0, 900.0, false)]);
    nothing.search = search.search.map(|found| Found {
        answer: None,
        lowest_missed: Some(1.0),
        ..found
    });
    assert_eq!(nothing.validity().verdict, Verdict::Valid);
    judged(&mut nothing.levels[0], Verdict::Invalid, "Late.");
    assert_eq!(nothing.validity().verdict, Verdict::Invalid);
}

#[test]
fn repeats_show_the_one_in_the_middle_and_their_interval() {
    let repeat = |number: u32, latency: f64| Level {
        requested: None,
        repeat: Some(number),
        met: None,
        ..level(number, 0.0, 5.0, latency, true)
    };
    let mut three = series(
        Kind::Repeats,
        vec![repeat(1, 130.0), repeat(2, 100.0), repeat(3, 110.0)],
    );
    three.of = None;
    three.conclude();
    assert_eq!(three.headline.as_deref(), Some("levels/03"));
    let [all] = &three.repeats[..] else {
        panic!("one load: {:?}", three.repeats);
    };
    assert_eq!((all.count, all.run), (3, 3));
    let latency = &all.metrics["request_latency"];
    assert!((latency["avg"].mean - 113.333).abs() < 0.001);
    assert!((latency["p99"].mean - 226.667).abs() < 0.001);
    assert!((all.metrics["request_throughput"]["avg"].half()).abs() < 1e-9);

    // an invalid one is left out, and told
    judged(&mut three.levels[0], Verdict::Invalid, "Late.");
    three.conclude();
    assert_eq!((three.repeats[0].count, three.repeats[0].run), (2, 3));
    assert_eq!(three.validity().verdict, Verdict::Degraded);
}

#[test]
fn what_was_not_run_is_named() {
    let mut cut = sweep();
    cut.ended = Some(Ended::Interrupted);
    cut.not_run = vec![
        super::super::NotRun {
            requested: Some(16.0),
            repeat: None,
        },
        super::super::NotRun {
            requested: Some(32.0),
            repeat: Some(2),
        },
    ];
    let validity = cut.validity();
    assert_eq!(validity.verdict, Verdict::Degraded);
    assert_eq!(
        validity.reasons,
        [
            "The series was interrupted after 4 loads: not run were 16 requests/s; 32 requests/s, repeat 2."
        ]
    );
}
