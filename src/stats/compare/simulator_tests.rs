//! Loads whose truth is known: how often is a difference told where there is none, and found where there is one?
//!
//! Latencies are lognormal about a state that remembers (AR(1)), request by request: what a queue does to those that wait
//! in it. 20 requests/s; all times come from seeds, so every run of this test sees the same.

use std::time::Duration;

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, StandardNormal};

use super::*;
use crate::{
    load::sample::{Chunk, Outcome, Sample},
    recipe::Slo,
    stats::summary::Window,
};

const PER_SECOND: u32 = 20;
/// Standard deviation of the logarithm.
const SIGMA: f64 = 0.3;

/// A run of so many seconds: how much a request is like the one before, and its mean latency in ms.
fn run(seed: u64, seconds: u32, memory: f64, mean: f64) -> Run {
    run_within(Slo::default(), seed, seconds, memory, mean)
}

/// The same with limits.
fn run_within(slo: Slo, seed: u64, seconds: u32, memory: f64, mean: f64) -> Run {
    let window = Window {
        start: Duration::ZERO,
        end: Duration::from_secs(seconds.into()),
    };
    let mut run = Run::new(window, window, false, slo);
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut normal = || -> f64 { StandardNormal.sample(&mut random) };
    let mut state = normal();
    let gap = Duration::from_secs(1) / PER_SECOND;
    for number in 0..seconds * PER_SECOND {
        state = memory * state + (1.0 - memory * memory).sqrt() * normal();
        let milliseconds = mean * (SIGMA * state - SIGMA * SIGMA / 2.0).exp();
        let latency = Duration::from_secs_f64(milliseconds / 1e3);
        let sent = gap * number;
        let tokens = [0.3, 0.5, 1.0].map(|share| Chunk {
            at: sent + latency.mul_f64(share),
        });
        run.take(&Sample {
            sent: Some(sent),
            chunks: tokens.into(),
            end: sent + latency,
            output_tokens: Some(3),
            outcome: Outcome::Success,
            ..Sample::planned(number.into(), sent)
        });
    }
    run
}

fn compared(a: &[Run], b: &[Run]) -> Vec<Difference> {
    let sides = [Estimates::of(a, 1), Estimates::of(b, 2)];
    let mut all = differences(&sides[0], &sides[1]);
    assert!(judge(all.iter_mut()) > 20);
    all
}

fn is_told(all: &[Difference]) -> bool {
    all.iter().any(|one| one.verdict != Verdict::CannotTell)
}

fn mean_latency(all: &[Difference]) -> &Difference {
    let is = |one: &&Difference| {
        (one.metric.as_str(), one.statistic) == ("request_latency", Statistic::Mean)
    };
    all.iter().find(is).expect("it is compared")
}

/// How many of so many comparisons of loads that are equal tell a difference.
fn alarms(repeats: u64, side: impl Fn(u64) -> Vec<Run>) -> usize {
    let told = (0..repeats).filter(|seed| is_told(&compared(&side(2 * seed), &side(2 * seed + 1))));
    told.count()
}

#[test]
fn equal_loads_are_told_apart_no_more_often_than_the_level_says() {
    // a run is thirty times and more as long as what it remembers
    for (memory, seconds) in [(0.0, 20), (0.7, 20), (0.95, 60)] {
        let alarms = alarms(200, |seed| vec![run(seed, seconds, memory, 100.0)]);
        println!("memory {memory}: {alarms} of 200");
        assert!(alarms <= 10, "memory {memory}: {alarms} of 200");
    }
}

#[test]
fn runs_that_differ_among_themselves_are_no_difference_of_sides() {
    // each run is up to a tenth faster or slower than the next
    let side = |seed: u64| -> Vec<Run> {
        let mut random = ChaCha8Rng::seed_from_u64(seed + 77);
        let runs = (0..3).map(|part| {
            let effect: f64 = StandardNormal.sample(&mut random);
            run(3 * seed + part, 10, 0.7, 100.0 * (0.05 * effect).exp())
        });
        runs.collect()
    };
    let alarms = alarms(200, side);
    println!("{alarms} of 200");
    assert!(alarms <= 10, "{alarms} of 200");
}

#[test]
fn a_tenth_more_is_found_every_time() {
    for seed in 1000..1020 {
        let [a, b] =
            [(0, 100.0), (1, 110.0)].map(|(more, mean)| [run(2 * seed + more, 240, 0.7, mean)]);
        let all = compared(&a, &b);
        let found = mean_latency(&all);
        assert_eq!(found.verdict, Verdict::Worse, "{seed}: {found:?}");
        let interval = found.interval.expect("tested").percent.expect("a ratio");
        assert!(
            interval[0] > 0.0 && interval[0] < 10.0 && interval[1] > 10.0,
            "{interval:?}"
        );
    }
}

#[test]
fn the_same_samples_give_the_same_numbers() {
    let sides = || (vec![run(1, 20, 0.7, 100.0)], vec![run(2, 20, 0.7, 100.0)]);
    let [one, other] = [sides(), sides()].map(|(a, b)| compared(&a, &b));
    assert_eq!(one, other);
}

#[test]
fn the_share_within_the_limits_is_compared_with_its_interval_and_only_by_the_same_limits() {
    let limit = |e2e_ms| Slo {
        e2e_ms: Some(e2e_ms),
        ..Slo::default()
    };
    let within = |slo, seed, mean| [run_within(slo, seed, 60, 0.3, mean)];
    let of = |all: &[Difference], metric: &str| {
        let found = all.iter().find(|one| one.metric == metric).cloned();
        found.unwrap_or_else(|| panic!("no {metric}"))
    };
    let without = compared(
        &within(Slo::default(), 1, 100.0),
        &within(Slo::default(), 2, 100.0),
    );
    assert!(
        without
            .iter()
            .all(|one| one.metric != GOODPUT && one.metric != SLO_ATTAINMENT)
    );

    // lognormal of mean 100 and 125 ms against 130 ms: 85 % and 61 % by its distribution, of 20 requests/s
    let slower = compared(
        &within(limit(130.0), 1, 100.0),
        &within(limit(130.0), 2, 125.0),
    );
    let attained = of(&slower, SLO_ATTAINMENT);
    let (a, b) = (attained.a.unwrap(), attained.b.unwrap());
    assert!(
        (a - 84.7).abs() < 4.0 && (b - 61.1).abs() < 5.0,
        "{attained:?}"
    );
    assert_eq!(attained.verdict, Verdict::Worse, "{attained:?}");
    let interval = attained.interval.unwrap();
    assert_eq!(
        interval.percent, None,
        "shares are compared in percentage points"
    );
    assert!(
        interval.absolute[1] < 0.0 && interval.absolute[0] > -45.0,
        "{interval:?}"
    );
    let goodput = of(&slower, GOODPUT);
    assert_eq!(goodput.verdict, Verdict::Worse, "{goodput:?}");
    assert!((goodput.a.unwrap() - 0.2 * a).abs() < 1e-9, "{goodput:?}");
    let faster = compared(
        &within(limit(130.0), 2, 125.0),
        &within(limit(130.0), 1, 100.0),
    );
    assert_eq!(of(&faster, SLO_ATTAINMENT).verdict, Verdict::Better);
    // two more are tested, and the others allowed less
    let size = |all: &[Difference]| all.iter().filter(|one| one.interval.is_some()).count();
    assert_eq!(size(&slower), size(&without) + 2);
    let width = |all: &[Difference]| {
        let [low, high] = of(all, "request_latency")
            .interval
            .unwrap()
            .percent
            .unwrap();
        high - low
    };
    let plain = compared(
        &within(Slo::default(), 1, 100.0),
        &within(Slo::default(), 2, 125.0),
    );
    assert!(width(&slower) > width(&plain));

    let other = compared(
        &within(limit(130.0), 1, 100.0),
        &within(limit(200.0), 2, 100.0),
    );
    for metric in [GOODPUT, SLO_ATTAINMENT] {
        let one = of(&other, metric);
        assert!(one.interval.is_none() && one.why.unwrap().contains("limits"));
        assert_eq!(one.verdict, Verdict::CannotTell);
    }
}
