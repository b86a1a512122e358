//! What a load was asked to send: its rate, its number of requests, their lengths. A result holds them beside what came.
//!
//! Of several tasks one may be lost. Then the load that was asked is the same, and what can still be held against the
//! others is less: their own part, and what the lost one had told. Pure; nothing can fail.

use super::tasks::Part;
use crate::{
    load::workload::Content,
    recipe::{Arrival, ClientPlan, LoadModel},
    stats::{frame, summary::Window},
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
}
