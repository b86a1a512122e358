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
    stats::summary::Window,
};

const PER_SECOND: u32 = 20;
/// Standard deviation of the logarithm.
const SIGMA: f64 = 0.3;

/// A run of so many seconds: how much a request is like the one before, and its mean latency in ms.
fn run(seed: u64, seconds: u32, memory: f64, mean: f64) -> Run {
    let window = Window {
        start: Duration::ZERO,
        end: Duration::from_secs(seconds.into()),
    };
    let mut run = Run::new(window, window, false);
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
