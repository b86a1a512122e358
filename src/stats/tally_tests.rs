//! Samples small enough to compute by hand.

#[path = "observed_tests.rs"]
mod observed;

use super::*;
use crate::load::sample::Chunk;

/// All of these, added up.
fn of(samples: &[Sample], window: Window, slo: &Slo) -> Tally {
    let mut tally = Tally::new(window, slo);
    for sample in samples {
        tally.take(sample);
    }
    tally
}

fn metrics(samples: &[Sample], window: Window, slo: &Slo) -> BTreeMap<String, Metric> {
    of(samples, window, slo).metrics(window)
}

fn in_window(samples: &[Sample]) -> Tally {
    of(samples, WINDOW, &Slo::default())
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const WINDOW: Window = Window {
    start: Duration::from_secs(1),
    end: Duration::from_secs(3),
};

/// A success: intended, sent, chunks (all in ms), prompt and output tokens.
fn success(intended: u64, sent: u64, chunks: &[u64], tokens: Option<u64>) -> Sample {
    Sample {
        index: intended,
        turn: None,
        intended: ms(intended),
        sent: Some(ms(sent)),
        written: None,
        connect: None,
        looked_up: None,
        secured: None,
        first_byte: None,
        status: None,
        chunks: chunks.iter().map(|at| Chunk { at: ms(*at) }).collect(),
        end: ms(chunks.last().copied().unwrap_or(sent) + 1),
        outcome: Outcome::Success,
        first_output: chunks.first().map(|at| ms(*at)),
        reasons: false,
        cached_tokens: None,
        reasoning_tokens: None,
        recall: None,
        engine: crate::load::sample::Times::default(),
        prompt_tokens: Some(10),
        output_tokens: tokens,
        dropped: false,
        said: String::new(),
        silent: Vec::new(),
        counts: Vec::new(),
        live: 0,
        lay: Vec::new(),
    }
}

fn failure(intended: u64, outcome: Outcome) -> Sample {
    let sent = (outcome != Outcome::NeverSent).then_some(ms(intended));
    Sample {
        sent,
        end: ms(intended + 50),
        outcome,
        prompt_tokens: None,
        ..success(intended, intended, &[], None)
    }
}

fn avg(metrics: &BTreeMap<String, Metric>, name: &str) -> f64 {
    let avg = metrics.get(name).unwrap_or_else(|| panic!("no {name}")).avg;
    (avg * 1e6).round() / 1e6
}

#[test]
fn latencies_by_hand() {
    // 7 tokens in 3 chunks: 2, 2, 3
    let samples = [success(1000, 1010, &[1110, 1150, 1210], Some(7))];
    let metrics = metrics(&samples, WINDOW, &Slo::default());
    let cases = [
        ("time_to_first_token", 100.0),
        ("time_to_first_token_scheduled", 110.0),
        ("time_to_second_token", 40.0),
        ("inter_chunk_latency", 50.0),
        // 2 x 20 ms, 3 x 20 ms
        ("inter_token_latency", 20.0),
        ("time_per_output_token", 16.666_666),
        // 200 ms over 7 tokens, and the inverse of 16.666666 ms
        ("normalized_time_per_output_token", 28.571_428),
        ("output_token_throughput_per_user", 60.000_002),
        ("request_latency", 200.0),
        ("request_latency_scheduled", 210.0),
        ("dispatch_delay", 10.0),
        ("http_req_sending", 0.0),
        ("input_sequence_length", 10.0),
        ("output_sequence_length", 7.0),
        ("request_throughput", 0.5),
        ("output_token_throughput", 3.5),
        ("total_token_throughput", 8.5),
    ];
    for (name, value) in cases {
        assert_eq!(avg(&metrics, name).to_bits(), f64::to_bits(value), "{name}");
    }
    assert_eq!(metrics["inter_token_latency"].count, Some(5));
    assert_eq!(metrics["inter_chunk_latency"].count, Some(2));
    assert_eq!(metrics.len(), cases.len(), "{:?}", metrics.keys());
}

#[test]
fn tokens_that_are_told_with_each_chunk_weigh_its_gap() {
    // 2 tokens, 4 after 40 ms, 1 after 60 ms, and one more that came without a text
    let mut sample = success(1000, 1010, &[1110, 1150, 1210], Some(8));
    sample.counts = vec![2, 4, 1];
    let metrics = metrics(&[sample.clone()], WINDOW, &Slo::default());
    let found = [
        "inter_token_latency",
        "inter_chunk_latency",
        "output_token_throughput",
    ]
    .map(|name| avg(&metrics, name).to_bits());
    // 4 x 10 ms, 2 x 30 ms
    assert_eq!(found, [16.666_667, 50.0, 4.0].map(f64::to_bits));
    // not of every chunk: spread evenly, as ever
    sample.counts.pop();
    let metrics = self::metrics(&[sample], WINDOW, &Slo::default());
    // 2 + 3 + 3 tokens: 3 x 13.3 ms, 3 x 20 ms
    let itl = avg(&metrics, "inter_token_latency");
    assert_eq!(itl.to_bits(), f64::to_bits(16.666_667));
    assert_eq!(metrics["inter_token_latency"].max, Some(20.0));
}

#[test]
fn fewer_tokens_than_chunks() {
    // 2 tokens in 4 chunks: the last two have them; the first of these waited since the first chunk
    let samples = [success(1000, 1000, &[1100, 1110, 1140, 1150], Some(2))];
    let gaps = &metrics(&samples, WINDOW, &Slo::default())["inter_token_latency"];
    assert_eq!(
        (gaps.count, gaps.min, gaps.max),
        (Some(2), Some(10.0), Some(40.0))
    );
}

#[test]
fn one_token_or_one_chunk_has_no_time_between() {
    let samples = [
        success(1000, 1000, &[1100], Some(1)),
        success(1000, 1000, &[1100], Some(20)),
        success(1000, 1000, &[], Some(0)),
    ];
    let metrics = metrics(&samples, WINDOW, &Slo::default());
    for name in [
        "time_per_output_token",
        "inter_token_latency",
        "inter_chunk_latency",
        "http_req_connecting",
        "time_to_second_token",
        "output_token_throughput_per_user",
    ] {
        assert!(!metrics.contains_key(name), "{name}");
    }
    assert_eq!(metrics["time_to_first_token"].count, Some(2));
    assert_eq!(metrics["request_latency"].count, Some(3));
}

#[test]
fn the_window_owns_by_intended_time_and_counts_events_by_theirs() {
    let samples = [
        // warm-up, ends in the window: no latency, but throughput
        success(900, 900, &[950, 1050], Some(2)),
        // of the window, ends in the drain: the other way round
        success(2900, 2900, &[2950, 3050], Some(2)),
        // drain
        success(3000, 3000, &[3100], Some(1)),
    ];
    let metrics = metrics(&samples, WINDOW, &Slo::default());
    assert_eq!(metrics["request_latency"].count, Some(1));
    assert_eq!(
        avg(&metrics, "request_latency").to_bits(),
        150_f64.to_bits()
    );
    assert_eq!(
        avg(&metrics, "request_throughput").to_bits(),
        0.5_f64.to_bits()
    );
    assert_eq!(
        avg(&metrics, "output_token_throughput").to_bits(),
        1_f64.to_bits()
    );
    assert_eq!(
        avg(&metrics, "total_token_throughput").to_bits(),
        6_f64.to_bits()
    );
    assert_eq!(in_window(&samples).counts().total, 1);
    assert_eq!(
        in_window(&samples).sent_rate(WINDOW).to_bits(),
        0.5_f64.to_bits()
    );
}

#[test]
fn goodput_is_of_what_was_offered() {
    let samples = [
        success(1000, 1000, &[1050, 1100], Some(2)),
        success(1100, 1100, &[1300, 1310], Some(2)),
        success(1200, 1200, &[1250, 1400], Some(2)),
        success(1300, 1300, &[1350], Some(1)),
        failure(1400, Outcome::Timeout),
    ];
    let slo = Slo {
        ttft_ms: Some(50.0),
        tpot_ms: Some(60.0),
        e2e_ms: None,
    };
    let with = metrics(&samples, WINDOW, &slo);
    assert_eq!(avg(&with, "goodput").to_bits(), 1_f64.to_bits());
    assert_eq!(avg(&with, "slo_attainment").to_bits(), 0.4_f64.to_bits());
    let without = metrics(&samples, WINDOW, &Slo::default());
    assert!(!without.contains_key("goodput") && !without.contains_key("slo_attainment"));
}

#[test]
fn counts_by_class_and_first_messages() {
    let error = |at, message: &str| failure(at, Outcome::Error("http_503".into(), message.into()));
    let mut dropped = failure(1900, Outcome::NeverSent);
    dropped.dropped = true;
    let mut samples = vec![
        success(1000, 1000, &[1100], Some(1)),
        success(1000, 1000, &[1300], Some(1)),
        error(1100, "busy"),
        error(1200, "busy"),
        failure(1300, Outcome::Timeout),
        dropped,
        error(500, "warm-up"),
    ];
    samples.extend((0..9).map(|n| error(2000 + n, &n.to_string())));
    let counts = in_window(&samples).counts();
    assert_eq!((counts.total, counts.successes, counts.errors), (15, 2, 13));
    let classes: Vec<_> = counts
        .by_class
        .iter()
        .map(|(c, n)| (c.as_str(), *n))
        .collect();
    assert_eq!(
        classes,
        [("http_503", 11), ("never_sent", 1), ("timeout", 1)]
    );
    assert_eq!(
        counts.error_samples,
        [
            "http_503: busy",
            "http_503: 0",
            "http_503: 1",
            "http_503: 2",
            "http_503: 3"
        ]
    );
    let latency = (
        counts.avg_latency_ms,
        counts.min_latency_ms,
        counts.max_latency_ms,
    );
    assert_eq!(latency, (200.0, 100.0, 300.0));
}

#[test]
fn nothing_is_nothing() {
    assert!(
        metrics(
            &[],
            Window {
                end: WINDOW.start,
                ..WINDOW
            },
            &Slo::default()
        )
        .is_empty()
    );
    assert_eq!(in_window(&[]).counts(), Counts::default());
    assert_eq!(in_window(&[]).lateness(), Lateness::default());
    assert!(in_window(&[]).slices(Duration::ZERO).is_empty());
    assert_eq!(in_window(&[]).slices(ms(2500)).len(), 3);
}

#[test]
fn seconds_of_the_load() {
    let samples = [
        success(0, 0, &[500, 1500], Some(4)),
        success(100, 100, &[300, 900], None),
        failure(1900, Outcome::Timeout),
        failure(2100, Outcome::NeverSent),
    ];
    let slices = in_window(&samples).slices(ms(2150));
    let told: Vec<_> = slices
        .iter()
        .map(|s| (s.sent, s.completed, s.errors, s.output_tokens, s.in_flight))
        .collect();
    assert_eq!(told, [(2, 1, 0, 4, 1), (1, 1, 1, 2, 0), (0, 0, 1, 0, 0)]);
    assert_eq!(slices[0].ttft_p50_ms, Some(350.0));
    assert_eq!(slices[0].ttft_max_ms, Some(500.0));
    assert_eq!(
        (slices[1].t.to_bits(), slices[1].ttft_p50_ms),
        (1_f64.to_bits(), None)
    );
}

#[test]
fn lateness_of_what_was_sent() {
    let samples: Vec<_> = (0..100)
        .map(|n| success(1000 + n, 1000 + n + u64::from(n == 7) * 40, &[], None))
        .chain([failure(1500, Outcome::NeverSent)])
        .collect();
    let late = in_window(&samples).lateness();
    assert_eq!((late.p50_ms, late.p99_ms, late.max_ms), (0.0, 0.0, 40.0));
}

#[test]
fn tallies_of_workers_are_one() {
    let slo = Slo {
        ttft_ms: Some(150.0),
        ..Slo::default()
    };
    let mut samples: Vec<_> = (0..60)
        .map(|n| {
            let at = 800 + n * 50;
            success(at, at + n % 3, &[at + 100 + n, at + 200, at + 200], Some(3))
        })
        .collect();
    samples.push(failure(
        1500,
        Outcome::Error("http_503".into(), "busy".into()),
    ));
    samples.push(failure(1600, Outcome::Timeout));
    let whole = of(&samples, WINDOW, &slo);
    let (even, odd): (Vec<_>, Vec<_>) = samples.into_iter().partition(|s| s.index % 100 == 0);
    let mut merged = of(&even, WINDOW, &slo);
    merged.merge(&of(&odd, WINDOW, &slo));
    assert_eq!(merged, whole);
    assert_eq!(
        whole.whole().bundled,
        60,
        "one of each three came with the one before"
    );
}

#[test]
fn a_late_loop_is_told_for_the_window_alone() {
    let mut tally = in_window(&[]);
    for (at, delay) in [(500, 90), (1500, 2), (2000, 4), (3500, 90)] {
        tally.take_loop_delay(ms(at), ms(delay));
    }
    let delay = tally.loop_delay().expect("looked at");
    assert_eq!((delay.p50_ms, delay.max_ms), (2.0, 4.0));
}

#[test]
fn what_ends_after_the_load_is_told_in_its_last_second() {
    let samples = [
        success(0, 0, &[500, 4500], Some(2)),
        failure(3900, Outcome::Cancelled),
    ];
    let slices = in_window(&samples).slices(ms(2000));
    let told: Vec<_> = slices
        .iter()
        .map(|s| (s.sent, s.completed, s.errors, s.output_tokens))
        .collect();
    assert_eq!(told, [(1, 0, 0, 1), (1, 1, 1, 1)]);
}

#[test]
fn several_tokens_in_one_chunk_have_not_kept_a_limit_of_the_time_per_token() {
    let slo = Slo {
        tpot_ms: Some(1000.0),
        ..Slo::default()
    };
    let kept = |chunks: &[u64], tokens| meets(&success(1000, 1000, chunks, tokens), &slo);
    assert!(kept(&[1100], Some(1)), "one token has none to keep");
    assert!(kept(&[1100, 1200], Some(2)));
    assert!(!kept(&[1100], Some(200)), "nobody knows their times");
}

#[test]
fn a_token_without_text_has_a_time_by_its_event() {
    let slo = Slo {
        tpot_ms: Some(100.0),
        ..Slo::default()
    };
    // "yes", and the token that ends it
    let ended = |at, tokens| Sample {
        silent: vec![ms(at)],
        ..success(1000, 1000, &[1050], Some(tokens))
    };
    assert!(meets(&ended(1100, 2), &slo));
    assert!(!meets(&ended(1300, 2), &slo), "250 ms of 100");
    assert!(
        !meets(&ended(1051, 3), &slo),
        "two events tell of no three tokens"
    );
}

#[test]
fn whom_a_service_does_not_let_in_has_come_all_the_same() {
    let refused = |class: &str| Sample {
        sent: None,
        ..failure(1000, Outcome::Error(class.to_owned(), String::new()))
    };
    let rate = |class| in_window(&[refused(class)]).arrival_rate(WINDOW);
    assert!((rate(Outcome::REFUSED) - 0.5).abs() < 1e-9);
    assert!((rate("connect") - 0.5).abs() < 1e-9);
    assert!(
        rate(Outcome::LOCAL_LIMIT).abs() < 1e-9,
        "that is the generator's fault"
    );
    assert!(
        in_window(&[refused(Outcome::REFUSED)])
            .sent_rate(WINDOW)
            .abs()
            < 1e-9
    );
}

#[test]
fn the_last_arrival_but_one_is_found_in_any_order_and_over_workers() {
    let sent = |at| success(1000, at, &[2900], Some(1));
    let one = in_window(&[sent(1300), sent(1100), sent(1200)]);
    assert_eq!(one.last_arrival_but_one(), Some(ms(1200)));
    let mut both = in_window(&[sent(1250)]);
    assert_eq!(both.last_arrival_but_one(), None);
    both.merge(&one);
    assert_eq!(both.last_arrival_but_one(), Some(ms(1250)));
}

#[test]
fn a_client_that_waits_at_the_door_waits_for_its_answer() {
    let slo = Slo {
        ttft_ms: Some(200.0),
        ..Slo::default()
    };
    let mut sample = success(1000, 2000, &[2100, 2200], Some(2));
    assert!(meets(&sample, &slo));
    sample.connect = Some(ms(1000));
    assert!(!meets(&sample, &slo), "a second of it was connecting");
    // ours counts from what was sent, and connecting apart; other tools count both as one
    let tally = in_window(&[sample]);
    assert_eq!(
        tally.observed.by_event.ttft.mean_ms().round().to_bits(),
        1100f64.to_bits()
    );
}
