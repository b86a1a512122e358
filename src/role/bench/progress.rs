//! How a load goes, while it goes: rate, requests in flight, time to the first token, tokens per second.
//!
//! On a terminal it is a line that is written over, twice a second; elsewhere each checkpoint logs the same. The numbers are
//! those of the last seconds, from counters that requests leave behind as they end, and tokens as they come: no worker is
//! asked, for to ask one holds it up. Nothing can fail.

use std::{collections::VecDeque, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use super::exporter::{Exporter, Seen};
use crate::{recipe::ClientPlan, report::text, terminal};

/// Time that the numbers are taken over.
const SPAN: Duration = Duration::from_secs(5);

/// The line, and what it was made of.
pub(super) struct Progress {
    bar: ProgressBar,
    start: Instant,
    /// How long the load is to take, or of how many requests it is, where that is known.
    planned: (Option<Duration>, Option<u64>),
    /// Counts at the start: those of loads before this one are in them.
    begun: Seen,
    seen: VecDeque<(Instant, Seen)>,
    /// Do answers have a first token?
    generates: bool,
}

/// What is told of the last seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Now {
    /// Requests that ended well, per second.
    pub(super) requests_per_second: f64,
    /// Output tokens that came, per second.
    pub(super) tokens_per_second: f64,
    /// Mean time to the first token of those that ended; to the whole answer where answers are no tokens.
    pub(super) ttft_ms: Option<f64>,
    /// Requests that ended badly, since the start.
    pub(super) errors: u64,
}

impl Progress {
    /// A bar where there is a terminal and the load has a known length, else a line, else nothing.
    pub(super) fn of(plan: &ClientPlan, exporter: &Exporter, start: Instant) -> Self {
        let bar = match (terminal::interactive(), plan.duration) {
            (false, _) => ProgressBar::hidden(),
            (true, Some(duration)) => {
                let bar = ProgressBar::new((plan.warmup + duration).as_secs());
                let style = ProgressStyle::with_template("{prefix} [{bar:20}] {pos}/{len} s {msg}");
                bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
                bar
            }
            (true, None) => {
                let bar = ProgressBar::new_spinner();
                let style = ProgressStyle::with_template("{prefix} {pos} s {msg}");
                bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
                bar
            }
        };
        bar.set_prefix(plan.name.clone());
        let begun = exporter.seen();
        exporter.load_begins();
        Self {
            bar,
            start,
            planned: (
                plan.duration.map(|duration| plan.warmup + duration),
                plan.total_requests,
            ),
            begun,
            seen: VecDeque::from([(start, begun)]),
            generates: plan.api.generates(),
        }
    }

    /// Looks at the counters, and shows what they say.
    pub(super) fn tick(&mut self, exporter: &Exporter) -> Now {
        let at = Instant::now();
        let seen = exporter.seen();
        // what is older than the span goes, but for the last of it, from which is counted
        while self.seen.get(1).is_some_and(|(then, _)| at - *then >= SPAN) {
            self.seen.pop_front();
        }
        let from = self.seen.front().copied();
        let (since, before) = from.unwrap_or((self.start, self.begun));
        self.seen.push_back((at, seen));
        let now = Now {
            errors: seen.failed.saturating_sub(self.begun.failed),
            ..now(before, seen, at - since)
        };
        exporter.load_goes(at - self.start, self.share(at, seen));
        if !self.bar.is_hidden() {
            self.bar.set_position((at - self.start).as_secs());
            self.bar
                .set_message(said(now, seen.in_flight, self.generates));
        }
        now
    }

    /// Which share of the load is done, from 0 to 1 or above, by its time or by its requests.
    fn share(&self, at: Instant, seen: Seen) -> Option<f64> {
        match self.planned {
            (Some(whole), _) if whole > Duration::ZERO => {
                Some((at - self.start).as_secs_f64() / whole.as_secs_f64())
            }
            (_, Some(whole)) if whole > 0 => {
                let ended = |seen: Seen| seen.answered + seen.failed;
                let ended = ended(seen).saturating_sub(ended(self.begun));
                Some(ended as f64 / whole as f64)
            }
            _ => None,
        }
    }

    /// Takes the line away.
    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

fn now(before: Seen, seen: Seen, span: Duration) -> Now {
    let seconds = span.as_secs_f64();
    let rate = |from: u64, to: u64| {
        if seconds > 0.0 {
            to.saturating_sub(from) as f64 / seconds
        } else {
            0.0
        }
    };
    let first = seen.first_tokens.saturating_sub(before.first_tokens);
    let waited = seen.waited_us.saturating_sub(before.waited_us);
    Now {
        requests_per_second: rate(before.answered, seen.answered),
        tokens_per_second: rate(before.tokens, seen.tokens),
        ttft_ms: (first > 0).then(|| waited as f64 / first as f64 / 1000.0),
        errors: seen.failed.saturating_sub(before.failed),
    }
}

fn said(now: Now, in_flight: i64, generates: bool) -> String {
    let number = |value: f64| text::number(value);
    let errors = match now.errors {
        0 => String::new(),
        1 => ", 1 error".to_owned(),
        errors => format!(", {errors} errors"),
    };
    let waited = text::quantity(now.ttft_ms, "ms");
    let rate = number(now.requests_per_second);
    if !generates {
        return format!("{rate} req/s, {in_flight} in flight, latency {waited}{errors}");
    }
    format!(
        "{rate} req/s, {in_flight} in flight, TTFT {waited}, {} tok/s{errors}",
        number(now.tokens_per_second)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_tells_of_the_last_seconds() {
        let before = Seen {
            answered: 100,
            failed: 1,
            tokens: 1000,
            first_tokens: 100,
            waited_us: 9_000_000,
            in_flight: 7,
        };
        let seen = Seen {
            answered: 150,
            failed: 2,
            tokens: 1800,
            first_tokens: 150,
            waited_us: 10_000_000,
            in_flight: 8,
        };
        let told = now(before, seen, Duration::from_secs(5));
        assert_eq!(
            said(told, seen.in_flight, true),
            "10 req/s, 8 in flight, TTFT 20 ms, 160 tok/s, 1 error"
        );
        assert_eq!(
            said(told, 8, false),
            "10 req/s, 8 in flight, latency 20 ms, 1 error"
        );
        let nothing = now(seen, seen, Duration::from_secs(5));
        assert_eq!(
            said(nothing, 8, true),
            "0 req/s, 8 in flight, TTFT –, 0 tok/s"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_before_the_span_is_forgotten() {
        let exporter = Exporter::new(crate::recipe::Api::Chat);
        let plan = ClientPlan::of("duration_seconds: 60", "");
        let mut progress = Progress::of(&plan, &exporter, Instant::now());
        for _ in 0..100 {
            tokio::time::advance(Duration::from_millis(500)).await;
            progress.tick(&exporter);
        }
        assert_eq!(progress.seen.len(), 11, "a start, and ten ticks since");
    }
}
