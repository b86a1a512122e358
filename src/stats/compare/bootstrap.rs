//! How sure the numbers of one side are, by drawing its runs again, block by block.
//!
//! Requests in time are not independent: what waits in a queue waits together. So not requests are drawn, but blocks of
//! neighbouring cells (circular blocks, of the length that [`super::blocks`] finds), until a run is as long as it was; every
//! statistic is computed of what was drawn, and how much it varies from draw to draw is its standard error. A request
//! brings all its times with it, and a cell its counts: rates are drawn as the rest is.
//!
//! Of several runs, the runs are drawn, too, and blocks within each. What the draws of runs vary more than those of blocks
//! alone is what runs differ among themselves; it is corrected for the few runs there are, and has as many degrees of
//! freedom as there are runs, less one. Of one run nothing is known of that: its intervals hold for this run, not for the
//! next.
//!
//! Seeded; the same samples give the same numbers. Pure; nothing can fail.

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::{
    blocks,
    run::{ERROR_RATE, GOODPUT, LATENCIES, RATES, Run, SLO_ATTAINMENT, is_share},
    spread::{Spread, Variance, floors, variance},
};
use crate::{recipe::Slo, stats::results::Metric};

/// Draws. Of these, a standard error is known to 4 %.
const DRAWS: usize = 400;
/// Observations that are enough to say how sure a number is.
pub(super) const ENOUGH: u64 = 30;
/// A number that a metric has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Statistic {
    /// Mean, or the whole of a rate.
    Mean,
    /// Median.
    P50,
    /// 90th percentile.
    P90,
    /// 95th percentile.
    P95,
    /// 99th percentile.
    P99,
}

impl Statistic {
    /// All there are.
    pub const ALL: [Self; 5] = [Self::Mean, Self::P50, Self::P90, Self::P95, Self::P99];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::P50 => "p50",
            Self::P90 => "p90",
            Self::P95 => "p95",
            Self::P99 => "p99",
        }
    }

    /// What a metric says of it.
    pub fn of(self, metric: &Metric) -> Option<f64> {
        match self {
            Self::Mean => Some(metric.avg),
            Self::P50 => metric.p50,
            Self::P90 => metric.p90,
            Self::P95 => metric.p95,
            Self::P99 => metric.p99,
        }
    }

    const fn quantile(self) -> Option<f64> {
        match self {
            Self::Mean => None,
            Self::P50 => Some(0.5),
            Self::P90 => Some(0.9),
            Self::P95 => Some(0.95),
            Self::P99 => Some(0.99),
        }
    }
}

/// A number and how sure it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    /// The metric.
    pub metric: &'static str,
    /// Which of its numbers.
    pub statistic: Statistic,
    /// Its unit.
    pub unit: &'static str,
    /// As it was measured.
    pub value: f64,
    /// `None` where the observations do not suffice.
    pub(super) spread: Option<Spread>,
}

/// What one side's runs say together.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimates {
    /// Number by number.
    pub all: Vec<Estimate>,
    /// Blocks of each run, and their length in seconds.
    pub blocks: Vec<(usize, f64)>,
    /// Do the times of a run hang together for longer than blocks can be?
    pub too_short: bool,
    /// Limits that a good request keeps; `None` where there are none, or each run has its own.
    pub(super) slo: Option<Slo>,
}

/// The cells of a run among those of all.
struct Span {
    first: usize,
    cells: usize,
    block: usize,
}

/// Observations of one kind, in order.
struct Sorted {
    /// Value, cell, how often.
    bins: Vec<(f64, u32, u32)>,
    sums: Vec<(f64, u64)>,
}

/// Everything of all runs of a side, with its cells in one row.
struct Pool<'a> {
    runs: &'a [Run],
    spans: Vec<Span>,
    /// Only what was observed.
    latencies: Vec<(usize, Sorted)>,
    /// Of all runs, where they have the same.
    slo: Option<Slo>,
}

impl Estimates {
    /// Of the runs of a side.
    pub fn of(runs: &[Run], seed: u64) -> Self {
        let lengths: Vec<_> = runs
            .iter()
            .map(|run| blocks::length(&run.series()))
            .collect();
        let pool = Pool::of(runs, &lengths);
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let measured = pool.statistics(&vec![1; pool.cells()]);
        let draw = |of_runs: bool, random: &mut ChaCha8Rng| -> Vec<Vec<f64>> {
            let drawn = (0..DRAWS).map(|_| pool.statistics(&pool.draw(of_runs, random)));
            drawn.collect()
        };
        let within = draw(false, &mut random);
        let whole = (runs.len() > 1).then(|| draw(true, &mut random));
        let blocks = pool.spans.iter().map(|span| span.cells / span.block);
        let blocks: Vec<usize> = blocks.collect();
        let freedom = (blocks.iter().sum::<usize>() - blocks.len()).max(1) as f64;
        let mut all = pool.described();
        debug_assert_eq!(all.len(), measured.len());
        for (place, (estimate, count)) in all.iter_mut().enumerate() {
            if *count < ENOUGH {
                continue;
            }
            let beyond = estimate
                .statistic
                .quantile()
                .map_or(f64::INFINITY, |quantile| {
                    (*count as f64 * (1.0 - quantile)).max(1.0)
                });
            let of = |draws: &[Vec<f64>], map: fn(f64) -> f64| -> Option<f64> {
                variance(
                    &draws
                        .iter()
                        .map(|draw| map(draw[place]))
                        .collect::<Vec<_>>(),
                )
            };
            let spread = |map: fn(f64) -> f64, floor: f64| {
                // the mean of few blocks varies more than draws of these say
                let few = freedom / (freedom + blocks.len() as f64);
                let inner = of(&within, map)? / few + floor;
                let inner = Variance {
                    size: inner,
                    freedom: freedom.min(beyond),
                };
                let Some(whole) = &whole else {
                    return Some(inner);
                };
                let runs = runs.len() as f64;
                let between = (of(whole, map)? - of(&within, map)?).max(0.0) * runs / (runs - 1.0);
                let more = (between - inner.size).max(0.0);
                Some(inner.and(Variance {
                    size: more,
                    freedom: runs - 1.0,
                }))
            };
            let (relative, absolute) = floors(estimate, *count);
            let of_value = spread(|value| value, absolute);
            estimate.spread = of_value.map(|of_value| Spread {
                of_log: (!is_share(estimate.metric) && estimate.value > 0.0)
                    .then(|| spread(f64::ln, relative))
                    .flatten(),
                of_value,
            });
        }
        Self {
            all: all.into_iter().map(|(estimate, _)| estimate).collect(),
            blocks: blocks
                .iter()
                .zip(pool.spans.iter().zip(runs))
                .map(|(blocks, (span, run))| (*blocks, span.block as f64 * run.cell_seconds))
                .collect(),
            slo: pool.slo,
            too_short: lengths.iter().any(|(_, too_short)| *too_short),
        }
    }
}

impl<'a> Pool<'a> {
    fn of(runs: &'a [Run], lengths: &[(usize, bool)]) -> Self {
        let mut spans = Vec::new();
        let mut first = 0;
        for (run, (block, _)) in runs.iter().zip(lengths) {
            let cells = run.cells.len();
            spans.push(Span {
                first,
                cells,
                block: *block,
            });
            first += cells;
        }
        let sorted = |kind: usize| {
            let mut bins = Vec::new();
            let mut sums = Vec::new();
            for (run, span) in runs.iter().zip(&spans) {
                let latency = &run.latencies[kind];
                let first = u32::try_from(span.first).unwrap_or(0);
                let own = latency.bins.iter();
                bins.extend(own.map(|((bin, cell), n)| (*bin as f64 / 1e3, first + cell, *n)));
                sums.extend(&latency.sums);
            }
            bins.sort_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)));
            (!bins.is_empty()).then_some((kind, Sorted { bins, sums }))
        };
        let latencies = (0..LATENCIES.len()).filter_map(sorted).collect();
        let slo = runs.first().map(|run| run.slo);
        let slo = slo.filter(|slo| *slo != Slo::default());
        Self {
            runs,
            spans,
            latencies,
            slo: slo.filter(|slo| runs.iter().all(|run| run.slo == *slo)),
        }
    }

    fn cells(&self) -> usize {
        self.spans.iter().map(|span| span.cells).sum()
    }

    /// How often each cell is drawn.
    fn draw(&self, of_runs: bool, random: &mut ChaCha8Rng) -> Vec<u32> {
        let mut weights = vec![0; self.cells()];
        for place in 0..self.spans.len() {
            let place = if of_runs {
                random.random_range(0..self.spans.len())
            } else {
                place
            };
            let span = &self.spans[place];
            let mut left = span.cells;
            while left > 0 {
                let start = random.random_range(0..span.cells);
                for cell in start..start + span.block.min(left) {
                    weights[span.first + cell % span.cells] += 1;
                }
                left = left.saturating_sub(span.block);
            }
        }
        weights
    }

    /// What is told, in the order of [`Self::statistics`], each with its observations.
    fn described(&self) -> Vec<(Estimate, u64)> {
        let mut all = Vec::new();
        for (kind, _) in &self.latencies {
            let metric = Run::latency(self.runs, *kind).unwrap_or_default();
            let count = metric.count.unwrap_or(0);
            // gaps of a request are no observations of their own
            let apart = if LATENCIES[*kind] == "inter_token_latency" {
                count.min(
                    self.runs
                        .iter()
                        .map(|run| run.latencies[6].all.count())
                        .sum(),
                )
            } else {
                count
            };
            for statistic in Statistic::ALL {
                let value = statistic.of(&metric).unwrap_or(f64::NAN);
                all.push((estimate(LATENCIES[*kind], statistic, "ms", value), apart));
            }
        }
        let measured = self.rates(&vec![1; self.cells()]);
        for (rate, (metric, unit)) in RATES.into_iter().enumerate() {
            let count = self.sum(|cell| cell.happened[rate]);
            all.push((
                estimate(metric, Statistic::Mean, unit, measured[rate]),
                count,
            ));
        }
        let offered = self.sum(|cell| cell.offered);
        let shares = [
            (ERROR_RATE, "%", offered),
            (GOODPUT, "requests/s", self.sum(|cell| cell.good)),
            (SLO_ATTAINMENT, "%", offered),
        ];
        let measured = measured[RATES.len()..].iter();
        for ((metric, unit, count), value) in shares.into_iter().zip(measured) {
            all.push((estimate(metric, Statistic::Mean, unit, *value), count));
        }
        all
    }

    fn sum(&self, of: impl Fn(&super::run::Cell) -> u64) -> u64 {
        self.runs.iter().flat_map(|run| &run.cells).map(of).sum()
    }

    /// Every statistic of what was drawn.
    fn statistics(&self, weights: &[u32]) -> Vec<f64> {
        let mut all = Vec::new();
        for (_, sorted) in &self.latencies {
            let (mut sum, mut count) = (0.0, 0_u64);
            for ((cell_sum, cell_count), weight) in sorted.sums.iter().zip(weights) {
                sum += cell_sum * f64::from(*weight);
                count += cell_count * u64::from(*weight);
            }
            all.push(sum / count as f64);
            sorted.quantiles(weights, count, &mut all);
        }
        all.extend(self.rates(weights));
        all
    }

    /// The rates, the share of errors, and where there are limits, goodput and the share that kept them.
    fn rates(&self, weights: &[u32]) -> Vec<f64> {
        let mut happened = [0_u64; RATES.len()];
        let (mut seconds, mut offered, mut errors, mut good) = (0.0, 0, 0, 0);
        for (run, span) in self.runs.iter().zip(&self.spans) {
            for (cell, weight) in run.cells.iter().zip(&weights[span.first..]) {
                let weight = u64::from(*weight);
                for (sum, own) in happened.iter_mut().zip(cell.happened) {
                    *sum += own * weight;
                }
                seconds += run.cell_seconds * weight as f64;
                offered += cell.offered * weight;
                errors += cell.errors * weight;
                good += cell.good * weight;
            }
        }
        let percent = |count: u64| count as f64 / offered.max(1) as f64 * 100.0;
        let mut all: Vec<f64> = happened.map(|sum| sum as f64 / seconds).into();
        all.push(percent(errors));
        if self.slo.is_some() {
            all.extend([good as f64 / seconds, percent(good)]);
        }
        all
    }
}

impl Sorted {
    /// The percentiles, in their order.
    fn quantiles(&self, weights: &[u32], count: u64, all: &mut Vec<f64>) {
        let mut wanted = Statistic::ALL.into_iter().filter_map(Statistic::quantile);
        let mut next = wanted.next();
        let mut seen = 0_u64;
        for (value, cell, n) in &self.bins {
            seen += u64::from(*n) * u64::from(weights[*cell as usize]);
            while let Some(quantile) =
                next.filter(|quantile| seen as f64 >= quantile * count as f64 && count > 0)
            {
                let _ = quantile;
                all.push(*value);
                next = wanted.next();
            }
        }
        while next.is_some() {
            all.push(f64::NAN);
            next = wanted.next();
        }
    }
}

const fn estimate(
    metric: &'static str,
    statistic: Statistic,
    unit: &'static str,
    value: f64,
) -> Estimate {
    Estimate {
        metric,
        statistic,
        unit,
        value,
        spread: None,
    }
}
