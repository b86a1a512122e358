//! What a load was asked to send: its rate, its number of requests, their lengths. A result holds them beside what came.
//!
//! Of several tasks one may be lost. Then the load that was asked is the same, and what can still be held against the
//! others is less: their own part, and what the lost one had told. Pure; nothing can fail.

use std::time::Duration;

use super::tasks::Part;
use crate::{
    load::workload::Content,
    recipe::{Arrival, ClientPlan, LoadModel},
    stats::{frame, summary::Window, tally::Tally},
};

/// Rate and number of requests of a window.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Asked {
    /// Requests per second; `None` for a closed loop.
    pub(super) rate: Option<f64>,
    /// The same of the tasks that are left.
    pub(super) rate_of_those_left: Option<f64>,
    /// Requests that the schedule has for them; `None` for a closed loop.
    pub(super) of_those_left: Option<u64>,
}

impl Asked {
    /// By the schedule, over the time in which it is sent; and that time, stretched to when the last but one was sent.
    pub(super) fn and_time(
        plan: &ClientPlan,
        content: &Content,
        (window, tally): (Window, &Tally),
        parts: &[Part],
    ) -> (Self, Window) {
        let sending = sending(plan, content, window);
        let asked = Self::of(plan, content, sending, parts);
        // a generator that fell behind at the end took longer than its schedule; one request that was late does not show that
        let last = tally.last_arrival_but_one().unwrap_or_default();
        let end = sending.end.max(last);
        (asked, Window { end, ..sending })
    }

    /// By the schedule; `parts` are those of several tasks.
    pub(super) fn of(plan: &ClientPlan, content: &Content, window: Window, parts: &[Part]) -> Self {
        let expected = expected(plan, content, window, |_| true);
        let rate = rate(plan, expected, window);
        let lost: Vec<&Part> = parts
            .iter()
            .filter(|part| part.is_lost_on_the_way())
            .collect();
        if lost.is_empty() {
            return Self {
                rate,
                rate_of_those_left: rate,
                of_those_left: expected,
            };
        }
        let held = |index| lost.iter().any(|part| part.dealing.task.holds(index));
        let told: u64 = lost.iter().map(|part| part.arrived).sum();
        let left = self::expected(plan, content, window, |index| !held(index))
            .map(|of_others| of_others + told);
        let share = left.zip(expected.filter(|all| *all > 0));
        Self {
            rate,
            rate_of_those_left: rate
                .map(|rate| share.map_or(rate, |(left, all)| rate * left as f64 / all as f64)),
            of_those_left: left,
        }
    }
}

/// The time in which the schedule sends what it has for this window. A number of requests is sent before the last of them
/// is answered: each has the gap that follows it. So has each at equal gaps, or a load of ten seconds at 0.25 requests/s
/// would have to send two and a half.
fn sending(plan: &ClientPlan, content: &Content, window: Window) -> Window {
    let Some(schedule) = content.schedule() else {
        return window;
    };
    let mut end = window.end;
    let mut times = schedule.times().skip_while(|at| *at < window.start);
    if let Some(last) = plan.total_requests.and_then(|total| total.checked_sub(1)) {
        let last = usize::try_from(last).unwrap_or(usize::MAX);
        let after = times.nth(last).and_then(|_| times.next());
        end = after.map_or(end, |after| end.min(after));
    }
    if !is_even(&plan.load) {
        return Window { end, ..window };
    }
    let first_from = |time: Duration| schedule.times().find(|at| *at >= time).unwrap_or(time);
    Window {
        start: first_from(window.start),
        end: first_from(end),
    }
}

/// Requests that the schedule intended for this window, of these numbers.
fn expected(
    plan: &ClientPlan,
    content: &Content,
    window: Window,
    counts: impl Fn(u64) -> bool,
) -> Option<u64> {
    let times = (0_u64..).zip(content.schedule()?.times());
    let inside = times
        .skip_while(|(_, at)| *at < window.start)
        .take_while(|(_, at)| *at < window.end);
    let limit = plan
        .total_requests
        .and_then(|total| usize::try_from(total).ok())
        .unwrap_or(usize::MAX);
    let of_these = inside.take(limit).filter(|(index, _)| counts(*index));
    Some(of_these.count() as u64)
}

/// The rate that was asked for over this window; `None` for a closed loop.
fn rate(plan: &ClientPlan, expected: Option<u64>, window: Window) -> Option<f64> {
    let LoadModel::OpenLoop {
        requests_per_second,
        ..
    } = plan.load
    else {
        return None;
    };
    // a rate with a course of its own has its mean
    requests_per_second.or_else(|| {
        let seconds = window.seconds();
        (seconds > 0.0).then(|| expected.unwrap_or(0) as f64 / seconds)
    })
}

/// Does a load have one rate and equal gaps?
pub(super) fn is_even(load: &LoadModel) -> bool {
    matches!(
        load,
        LoadModel::OpenLoop {
            arrival: Arrival::Constant,
            ..
        }
    )
}

/// The lengths that were asked for, where each request has its own: beside those that the engine counted. A task's
/// requests have their numbers in the order of their times, so those of the window come last.
pub(super) fn lengths(content: &Content, parts: &[Part]) -> frame::Asked {
    let mut all = frame::Asked::default();
    for part in parts.iter().filter(|_| lengths_vary(content)) {
        for n in part.offered.saturating_sub(part.in_window)..part.offered {
            let asked = content.asked(part.dealing.nth(n));
            let input = asked.prompt_tokens.map(u64::from);
            all.take(input, Some(asked.max_tokens.into()));
        }
    }
    all
}

/// Does each request ask for lengths of its own? A context that grows by what is answered was not asked for.
pub(super) fn lengths_vary(content: &Content) -> bool {
    content.varies() && !content.is_conversation()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        load::{
            deal::{Dealing, Share},
            sample::{Outcome, Sample},
            workload::Material,
        },
        stats::tasks::{Loss, TaskAccount},
    };

    fn part(number: usize, in_window: u64, is_lost: bool) -> Part {
        Part {
            account: TaskAccount {
                workers: 1,
                lost: is_lost.then(Loss::default),
                ..TaskAccount::default()
            },
            dealing: Dealing {
                task: Share { number, of: 4 },
                users: None,
            },
            offered: in_window,
            in_window,
            arrived: in_window,
        }
    }

    #[test]
    fn of_a_lost_task_only_what_it_told_is_expected() {
        let plan = ClientPlan::of(
            "requests_per_second: 40, arrival: {process: constant}, duration_seconds: 10",
            "",
        );
        let content = Content::new(&plan, Material::None, "m");
        let window = Window {
            start: Duration::ZERO,
            end: Duration::from_secs(10),
        };
        let mut parts: Vec<Part> = (0..4).map(|number| part(number, 100, false)).collect();
        let whole = Asked::of(&plan, &content, window, &parts);
        assert_eq!(whole.rate_of_those_left, Some(40.0));
        assert_eq!(whole.of_those_left, Some(400));
        assert_eq!(whole, Asked::of(&plan, &content, window, &[]));
        parts[2] = part(2, 40, true);
        let less = Asked::of(&plan, &content, window, &parts);
        assert_eq!(
            (less.rate, less.rate_of_those_left),
            (Some(40.0), Some(34.0))
        );
        assert_eq!(less.of_those_left, Some(340));
    }

    /// What is asked over its time, and the rate that was sent, of requests that were all sent in time.
    fn sent(plan: &ClientPlan, end: Duration, answer: Duration) -> (Asked, f64) {
        let content = Content::new(plan, Material::None, "m");
        let start = plan.warmup;
        let mut tally = Tally::new(Window { start, end }, &plan.slo);
        let total = plan.total_requests.unwrap_or(u64::MAX);
        let mut measured = 0;
        for (index, intended) in (0_u64..).zip(content.times()) {
            measured += u64::from(intended >= start);
            if intended >= end || measured > total {
                break;
            }
            let sample = Sample {
                sent: Some(intended),
                end: intended + answer,
                outcome: Outcome::Success,
                ..Sample::planned(index, intended)
            };
            tally.take(&sample);
        }
        let last = tally.whole().end.expect("some");
        let window = crate::role::bench::outcome::window(plan, &tally, last);
        let (asked, sending) = Asked::and_time(plan, &content, (window, &tally), &[]);
        (asked, tally.arrival_rate(sending))
    }

    #[test]
    fn slow_answers_do_not_lower_the_rate_that_was_sent() {
        let seconds = Duration::from_secs_f64;
        let never = Duration::MAX;
        let cases = [
            // ended by a number of requests, with and without warm-up and a time
            ("requests_per_second: 10, total_requests: 100", never),
            (
                "requests_per_second: 10, total_requests: 30, warmup_seconds: 0.25",
                never,
            ),
            (
                "requests_per_second: 10, total_requests: 30, duration_seconds: 600",
                seconds(600.0),
            ),
            // cut short, with drains of a minute
            (
                "requests_per_second: 10, duration_seconds: 600",
                seconds(12.34),
            ),
            (
                "requests_per_second: 10, duration_seconds: 600, warmup_seconds: 2",
                seconds(30.01),
            ),
            (
                "requests_per_second: 10, total_requests: 1000",
                seconds(3.05),
            ),
            // no whole number of gaps
            (
                "requests_per_second: 1, duration_seconds: 30.01",
                seconds(30.01),
            ),
            (
                "requests_per_second: 0.25, duration_seconds: 10",
                seconds(10.0),
            ),
        ];
        for (load, end) in cases {
            let plan = ClientPlan::of(&format!("{load}, arrival: {{process: constant}}"), "");
            let LoadModel::OpenLoop {
                requests_per_second: Some(rate),
                ..
            } = plan.load
            else {
                panic!("an open loop");
            };
            let (asked, sent) = sent(&plan, end, seconds(60.0));
            assert_eq!(asked.rate, Some(rate));
            assert!((sent - rate).abs() < 1e-6 * rate, "{load}: {sent}");
        }
    }

    #[test]
    fn a_generator_that_was_behind_at_the_end_did_not_keep_its_rate() {
        let plan = ClientPlan::of(
            "requests_per_second: 10, total_requests: 100, arrival: {process: constant}",
            "",
        );
        let content = Content::new(&plan, Material::None, "m");
        let window = Window {
            start: Duration::ZERO,
            end: Duration::from_secs(40),
        };
        let mut tally = Tally::new(window, &plan.slo);
        let mut late = |seconds| {
            let mut sample = Sample::planned(99, Duration::from_millis(9900));
            sample.sent = Some(Duration::from_secs(seconds));
            tally.take(&sample);
            Asked::and_time(&plan, &content, (window, &tally), &[])
        };
        // one that was late by itself is no worse at the end than anywhere else
        let (asked, sending) = late(21);
        assert_eq!(asked.of_those_left, Some(100));
        assert_eq!(sending.end, Duration::from_secs(10));
        let (_, sending) = late(20);
        assert_eq!(sending.end, Duration::from_secs(20));
    }
}
