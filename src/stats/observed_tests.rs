//! What requests tell beside their tokens: phases of HTTP, caches, reasoning, turns.

use super::*;
use crate::load::sample::Turn;

#[test]
fn phases_of_http_add_up_and_connecting_is_not_lateness() {
    let mut sample = success(1000, 1030, &[1110, 1150], Some(2));
    sample.connect = Some(ms(25));
    sample.looked_up = Some(ms(4));
    sample.secured = Some(ms(13));
    sample.written = Some(ms(1032));
    sample.first_byte = Some(ms(1100));
    sample.status = Some(200);
    let mut refused = failure(1500, Outcome::Error("http_503".into(), "busy".into()));
    refused.status = Some(503);
    let samples = [sample, refused.clone(), refused];
    let told = metrics(&samples, WINDOW, &Slo::default());
    let phases = [
        ("http_req_looking_up", 4.0),
        ("http_req_connecting", 8.0),
        ("http_req_tls_handshaking", 13.0),
        ("http_req_sending", 2.0),
        ("http_req_waiting", 68.0),
        // to the end, a millisecond after the last chunk
        ("http_req_receiving", 51.0),
        ("dispatch_delay", 30.0),
    ];
    for (name, value) in phases {
        assert_eq!(avg(&told, name).to_bits(), f64::to_bits(value), "{name}");
    }
    assert!((in_window(&samples).lateness().max_ms - 5.0).abs() < 0.01);
    let statuses: Vec<_> = in_window(&samples).counts().by_status.into_iter().collect();
    assert_eq!(statuses, [(200, 1), (503, 2)]);
}

#[test]
fn reasoning_and_cached_tokens_are_told_apart() {
    let plain = success(1000, 1000, &[1100, 1200], Some(2));
    let without = metrics(std::slice::from_ref(&plain), WINDOW, &Slo::default());
    for name in [
        "time_to_first_output_token",
        "reasoning_token_count",
        "cached_prompt_tokens",
        "prompt_cache_hit_ratio",
    ] {
        assert!(!without.contains_key(name), "{name}");
    }
    let mut thinks = success(1000, 1000, &[1100, 1200, 1300], Some(30));
    thinks.first_output = Some(ms(1300));
    thinks.reasons = true;
    thinks.reasoning_tokens = Some(20);
    (thinks.prompt_tokens, thinks.cached_tokens) = (Some(40), Some(30));
    let mut only_thinks = thinks.clone();
    (only_thinks.first_output, only_thinks.cached_tokens) = (None, Some(0));
    let told = metrics(&[plain, thinks, only_thinks], WINDOW, &Slo::default());
    let output = &told["time_to_first_output_token"];
    assert_eq!((output.count, output.avg), (Some(2), 200.0));
    assert_eq!(told["time_to_first_token"].count, Some(3));
    assert_eq!(
        avg(&told, "reasoning_token_count").to_bits(),
        20_f64.to_bits()
    );
    assert_eq!(
        avg(&told, "cached_prompt_tokens").to_bits(),
        15_f64.to_bits()
    );
    // of the 80 of those that tell
    assert_eq!(
        avg(&told, "prompt_cache_hit_ratio").to_bits(),
        0.375_f64.to_bits()
    );
}

#[test]
fn turns_are_told_each_and_the_last_that_is_told_holds_all_behind_it() {
    let turn = |index: u64, number: u32, last: bool| {
        let at = 1000 + u64::from(number) * 10;
        let mut sample = success(at, at, &[at + 50 + u64::from(number)], Some(1));
        sample.index = index;
        sample.turn = Some(Turn { number, last });
        sample.prompt_tokens = Some(10 + 10 * u64::from(number));
        sample.cached_tokens = Some(10 * u64::from(number));
        sample
    };
    let mut samples: Vec<_> = (0..40)
        .map(|number| turn(0, number, number == 39))
        .collect();
    samples.push(turn(1, 0, false));
    let mut broken = turn(1, 1, false);
    broken.outcome = Outcome::Timeout;
    samples.push(broken);
    samples.push(turn(2, 0, false));
    let mut early = turn(3, 0, true);
    early.intended = ms(500);
    samples.push(early);
    let whole = in_window(&samples);
    let (one, other) = samples.split_at(20);
    let mut merged = in_window(one);
    merged.merge(&in_window(other));
    assert_eq!(merged, whole);
    let ends = whole.turns().conversations().expect("conversations");
    let told = (ends.begun, ends.completed, ends.failed, ends.cut_short);
    assert_eq!(told, (4, 2, 1, 1));
    let turns = whole.turns().results();
    assert_eq!(turns.len(), 32);
    let told = |place: usize| {
        (
            turns[place].turn,
            turns[place].requests,
            turns[place].errors,
        )
    };
    assert_eq!(
        (told(0), told(1), told(31)),
        ((1, 3, 0), (2, 2, 1), (32, 9, 0))
    );
    let second = &turns[1].metrics;
    assert_eq!(
        avg(second, "time_to_first_token").to_bits(),
        51_f64.to_bits()
    );
    assert_eq!(
        avg(second, "input_sequence_length").to_bits(),
        20_f64.to_bits()
    );
    assert_eq!(
        avg(second, "prompt_cache_hit_ratio").to_bits(),
        0.5_f64.to_bits()
    );
    assert_eq!(whole.counts().arrived, 3, "of the window, what began");
}
