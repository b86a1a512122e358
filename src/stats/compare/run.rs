//! One run as a comparison sees it: what was observed, cell by cell of time.
//!
//! The window is cut into cells of equal length, of a second or less. A request belongs to the cell of its intended time,
//! as it belongs to the window; what counts for a rate belongs to the cell it happened in. Latencies are kept to the three
//! figures of a result's percentiles, so a run of millions of gaps takes little. Pure; nothing can fail.

use std::{collections::HashMap, time::Duration};

use hdrhistogram::Histogram;

use super::super::{
    histogram::Distribution,
    results::Metric,
    summary::{Window, last, meets, runs_of_tokens, tpot, with_tokens},
};
use crate::{load::sample::Sample, recipe::Slo};

/// Cells that a run has at the least, and at the most.
const CELLS: (f64, f64) = (100.0, 1200.0);

/// Times of requests that are compared, by their metrics; the scheduled ones of open loops alone.
pub const LATENCIES: [&str; 7] = [
    "time_to_first_token_scheduled",
    "time_to_first_token",
    "inter_token_latency",
    "time_per_output_token",
    "normalized_time_per_output_token",
    "request_latency_scheduled",
    "request_latency",
];

/// Rates that are compared, with their units.
pub const RATES: [(&str, &str); 3] = [
    ("request_throughput", "requests/s"),
    ("output_token_throughput", "tokens/s"),
    ("total_token_throughput", "tokens/s"),
];

/// Share of the offered requests that ended badly.
pub const ERROR_RATE: &str = "error_rate";

/// Requests that ended well within all limits, for each second.
pub const GOODPUT: &str = "goodput";

/// Share of the offered requests that did.
pub const SLO_ATTAINMENT: &str = "slo_attainment";

/// Is it a share, in percent, that is compared by its difference?
pub fn is_share(metric: &str) -> bool {
    [ERROR_RATE, SLO_ATTAINMENT].contains(&metric)
}

/// What happened in a cell.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cell {
    /// Of each rate.
    pub(super) happened: [u64; RATES.len()],
    /// Requests offered.
    pub(super) offered: u64,
    /// Of these, those that ended badly.
    pub(super) errors: u64,
    /// Of these, those that kept all limits.
    pub(super) good: u64,
}

/// Observations of one kind.
#[derive(Debug, Clone)]
pub(super) struct Latency {
    pub(super) all: Distribution,
    /// By value (in µs, as a histogram holds it) and cell, how often.
    pub(super) bins: HashMap<(u64, u32), u32>,
    /// Of each cell, the sum in ms and the number.
    pub(super) sums: Vec<(f64, u64)>,
}

/// One run.
#[derive(Debug, Clone)]
pub struct Run {
    planned: Window,
    start: Duration,
    is_open: bool,
    /// Limits that a good request keeps.
    pub(super) slo: Slo,
    pub(super) cell_seconds: f64,
    pub(super) cells: Vec<Cell>,
    pub(super) latencies: Vec<Latency>,
    /// Says to what a histogram rounds.
    scale: Histogram<u64>,
}

impl Run {
    /// Without requests yet. `planned` says what belongs to the window, `window` is as it came.
    pub fn new(planned: Window, window: Window, is_open: bool, slo: Slo) -> Self {
        let count = window.seconds().ceil().clamp(CELLS.0, CELLS.1);
        let cells = vec![Cell::default(); whole(count)];
        let latency = Latency {
            all: Distribution::new(),
            bins: HashMap::new(),
            sums: vec![(0.0, 0); cells.len()],
        };
        Self {
            planned,
            start: window.start,
            is_open,
            slo,
            cell_seconds: window.seconds().max(f64::MIN_POSITIVE) / count,
            latencies: vec![latency; LATENCIES.len()],
            cells,
            scale: Histogram::new(3).expect("three figures are allowed"),
        }
    }

    /// Adds a request of the load.
    pub fn take(&mut self, sample: &Sample) {
        self.take_rates(sample);
        if !self.planned.owns(sample.intended) {
            return;
        }
        let at = self.cell(sample.intended);
        self.cells[at].offered += 1;
        if !sample.is_success() {
            self.cells[at].errors += 1;
            return;
        }
        self.cells[at].good += u64::from(meets(sample, &self.slo));
        let Some(sent) = sample.sent else { return };
        let intended = self.is_open.then_some(sample.intended);
        let since = |from: Option<Duration>, to: Option<Duration>| Some(to?.saturating_sub(from?));
        let (first, end) = (sample.first_token(), last(sample));
        let latency = end.saturating_sub(sent);
        let tokens = u32::try_from(sample.tokens()).unwrap_or(0);
        let values = [
            since(intended, first),
            since(Some(sent), first),
            None,
            tpot(sample),
            latency.checked_div(tokens),
            since(intended, Some(end)),
            Some(latency),
        ];
        for (kind, value) in values.into_iter().enumerate() {
            if let Some(value) = value {
                self.record(kind, at, value, 1);
            }
        }
        self.take_gaps(sample, at);
    }

    /// As a result counts them: a chunk of k tokens ends k gaps.
    fn take_gaps(&mut self, sample: &Sample, at: usize) {
        let Some(mut before) = sample.first_token() else {
            return;
        };
        for (chunk, tokens) in with_tokens(sample).skip(1) {
            if let Ok(parts @ 1..) = u32::try_from(tokens) {
                let gap = chunk.at.saturating_sub(before) / parts;
                self.record(2, at, gap, parts);
                before = chunk.at;
            }
        }
    }

    fn take_rates(&mut self, sample: &Sample) {
        let planned = self.planned;
        if sample.is_success() && planned.saw(sample.end) {
            let at = self.cell(sample.end);
            self.cells[at].happened[0] += 1;
        }
        let alike = |one, other| {
            planned.saw(one) == planned.saw(other) && self.cell(one) == self.cell(other)
        };
        let tokens: Vec<_> = runs_of_tokens(sample, alike).collect();
        for (time, tokens, _) in tokens {
            if planned.saw(time) {
                let at = self.cell(time);
                self.cells[at].happened[1] += tokens;
                self.cells[at].happened[2] += tokens;
            }
        }
        // of a whole answer its end
        let whole = || (sample.is_success() && sample.chunks.is_empty()).then_some(sample.end);
        if let Some(first) = sample
            .first_token()
            .or_else(whole)
            .filter(|at| planned.saw(*at))
        {
            let at = self.cell(first);
            self.cells[at].happened[2] += sample.prompt_tokens.unwrap_or(0);
        }
    }

    fn record(&mut self, kind: usize, at: usize, value: Duration, n: u32) {
        let latency = &mut self.latencies[kind];
        latency.all.record_n(value, u64::from(n));
        let micros = u64::try_from((value.as_nanos() + 500) / 1000).unwrap_or(u64::MAX);
        let bin = self.scale.highest_equivalent(micros);
        let cell = u32::try_from(at).unwrap_or(u32::MAX);
        *latency.bins.entry((bin, cell)).or_default() += n;
        let (sum, count) = &mut latency.sums[at];
        *sum += value.as_nanos() as f64 / 1e6 * f64::from(n);
        *count += u64::from(n);
    }

    /// The cell of a time; the last one ends with the window.
    fn cell(&self, at: Duration) -> usize {
        let seconds = at.saturating_sub(self.start).as_secs_f64();
        whole((seconds / self.cell_seconds).floor()).min(self.cells.len() - 1)
    }

    /// What blocks must keep together: latencies and throughput over time.
    pub(super) fn series(&self) -> Vec<Vec<f64>> {
        let kinds = [1, 2, 6].map(|kind| &self.latencies[kind]);
        let told = kinds.into_iter().filter(|latency| latency.all.count() > 0);
        let mut series: Vec<Vec<f64>> = told
            .map(|latency| {
                let mean = latency.all.mean_ms();
                let sums = latency.sums.iter();
                sums.map(|(sum, count)| {
                    if *count == 0 {
                        mean
                    } else {
                        sum / *count as f64
                    }
                })
                .collect()
            })
            .collect();
        for rate in [0, 1] {
            let happened = self.cells.iter().map(|cell| cell.happened[rate] as f64);
            series.push(happened.collect());
        }
        series
    }

    /// A metric of these runs together, as a result tells it.
    pub(super) fn latency(runs: &[Self], kind: usize) -> Option<Metric> {
        let mut all = Distribution::new();
        for run in runs {
            all.merge(&run.latencies[kind].all);
        }
        all.to_metric("ms")
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "no less than none, and an end is given"
)]
fn whole(value: f64) -> usize {
    value as usize
}
