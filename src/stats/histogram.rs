//! A distribution of observations: exact sums beside a histogram.
//!
//! Percentiles come from an `HdrHistogram`, for those of several tasks can be merged, which percentiles cannot. Mean and
//! deviation are kept apart as integer sums: they are exact, and a merge gives the same whatever the order. Nothing can
//! fail: the histogram grows as needed.
//!
//! A metric has a percentile only where the count bears it ([`order`]), with the interval in which it lies with 95 %. The
//! median alone is given of any number: as the mean, it says what was seen and not what may come.

use std::time::Duration;

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::{order, results::Metric};

/// Significant figures of percentiles.
const FIGURES: u8 = 3;

/// The median, which a metric always has.
const MEDIAN: f64 = 0.5;

/// Observations of one kind: durations, or counts.
///
/// Values are held in thousandths of the histogram's unit: a duration in ns over units of 1 µs, a count in thousandths.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    #[serde(with = "encoded")]
    histogram: Histogram<u64>,
    count: u64,
    /// Of the count, those that were observed apart: what came `n` times at once is one.
    apart: u64,
    sum: u128,
    squares: u128,
    min: u64,
    max: u64,
}

impl Default for Distribution {
    fn default() -> Self {
        Self::new()
    }
}

impl Distribution {
    /// Without observations.
    pub fn new() -> Self {
        Self {
            histogram: Histogram::new(FIGURES).expect("three figures are allowed"),
            count: 0,
            apart: 0,
            sum: 0,
            squares: 0,
            min: u64::MAX,
            max: 0,
        }
    }

    /// Adds a duration.
    pub fn record(&mut self, value: Duration) {
        self.record_n(value, 1);
    }

    /// Adds a duration that was observed `n` times.
    pub fn record_n(&mut self, value: Duration, n: u64) {
        self.add(u64::try_from(value.as_nanos()).unwrap_or(u64::MAX), n);
    }

    /// Adds a count, such as tokens of an answer. A distribution holds counts or durations, never both.
    pub fn record_count(&mut self, value: u64) {
        self.add(value.saturating_mul(1000), 1);
    }

    /// Adds a rate in units per second, to a thousandth of one. A distribution holds rates or something else, never both.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float that is too large becomes the largest integer, one below none becomes none"
    )]
    pub fn record_rate(&mut self, per_second: f64) {
        self.add((per_second * 1e6).round() as u64, 1);
    }

    fn add(&mut self, thousandths: u64, n: u64) {
        if n == 0 {
            return;
        }
        let unit = thousandths / 1000 + u64::from(thousandths % 1000 >= 500);
        self.histogram
            .record_n(unit, n)
            .expect("a histogram that grows takes any value");
        let value = u128::from(thousandths);
        self.count += n;
        self.apart += 1;
        self.sum += value * u128::from(n);
        self.squares = self
            .squares
            .saturating_add((value * value).saturating_mul(u128::from(n)));
        self.min = self.min.min(thousandths);
        self.max = self.max.max(thousandths);
    }

    /// Adds the observations of another: the same as recording all of them here.
    pub fn merge(&mut self, other: &Self) {
        self.histogram
            .add(&other.histogram)
            .expect("a histogram that grows takes any other");
        self.count += other.count;
        self.apart += other.apart;
        self.sum += other.sum;
        self.squares = self.squares.saturating_add(other.squares);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// The histogram: durations in µs, counts as they are.
    pub fn histogram(&self) -> &Histogram<u64> {
        &self.histogram
    }

    /// Takes observations out that are in it. Extremes stay what they were.
    pub fn remove(&mut self, other: &Self) {
        self.histogram
            .subtract(&other.histogram)
            .expect("what is taken out was put in");
        self.count -= other.count;
        self.sum -= other.sum;
        self.squares = self.squares.saturating_sub(other.squares);
    }

    /// How many observations?
    pub fn count(&self) -> u64 {
        self.count
    }

    /// A quantile of durations, in ms; 0 without any.
    pub fn quantile_ms(&self, quantile: f64) -> f64 {
        self.quantile(quantile) / 1e6
    }

    /// Mean of durations, in ms; 0 without any.
    pub fn mean_ms(&self) -> f64 {
        self.mean() / 1e6
    }

    /// Smallest duration, in ms; 0 without any.
    pub fn min_ms(&self) -> f64 {
        if self.count == 0 {
            return 0.0;
        }
        self.min as f64 / 1e6
    }

    /// Largest duration, in ms; 0 without any.
    pub fn max_ms(&self) -> f64 {
        self.max as f64 / 1e6
    }

    /// Durations over this many ms, to the histogram's precision.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float that is too large becomes the largest integer, one below none becomes none"
    )]
    pub fn count_over_ms(&self, milliseconds: f64) -> u64 {
        let over = (milliseconds * 1e3) as u64;
        self.histogram
            .count_between(over.saturating_add(1), u64::MAX)
    }

    /// A quantile of durations, in ms, linear between the two observations that it lies between; 0 without any.
    pub fn linear_quantile_ms(&self, quantile: f64) -> f64 {
        let Some(last) = self.count.checked_sub(1) else {
            return 0.0;
        };
        let at = last as f64 * quantile;
        let value = |rank: f64| {
            // the middle of the share of an observation: no rounding leads to its neighbour
            self.quantile((rank + 0.5) / self.count as f64) / 1e6
        };
        let (below, above) = (value(at.floor()), value(at.ceil()));
        below + (above - below) * at.fract()
    }

    /// Durations in ms, the smallest first, each with how often it was observed: what a quantile at each rank gives.
    pub fn each_ms(&self) -> impl Iterator<Item = (f64, u64)> {
        let (min, max) = (self.min as f64, self.max as f64);
        self.histogram.iter_recorded().map(move |step| {
            let value = self.histogram.highest_equivalent(step.value_iterated_to());
            let value = (value as f64 * 1000.0).clamp(min, max);
            (value / 1e6, step.count_at_value())
        })
    }

    /// Standard deviation of durations, in ms; 0 without any.
    pub fn deviation_ms(&self) -> f64 {
        if self.count == 0 {
            return 0.0;
        }
        self.deviation() / 1e6
    }

    /// Sum of counts.
    pub fn sum_of_counts(&self) -> u64 {
        u64::try_from(self.sum / 1000).unwrap_or(u64::MAX)
    }

    /// The metric: durations for `ms`, rates for `tokens/s` and `ratio`, counts for any other unit; `None` without observations.
    pub fn to_metric(&self, unit: &str) -> Option<Metric> {
        if self.count == 0 {
            return None;
        }
        let scale = match unit {
            "ms" | "tokens/s" | "ratio" => 1e6,
            _ => 1e3,
        };
        let mut intervals = BTreeMap::new();
        let mut at = |name: &str, quantile: f64| {
            match order::interval(self.apart, quantile) {
                Some((low, high)) => {
                    let ends = [low, high].map(|rank| self.ranked(rank) / scale);
                    intervals.insert(name.to_owned(), ends);
                }
                None if quantile > MEDIAN => return None,
                None => {}
            }
            Some(self.quantile(quantile) / scale)
        };
        // of shares the low end is the bad one
        let is_borne = order::interval(self.apart, 0.95).is_some();
        let p5 = (unit == "ratio" && is_borne).then(|| self.quantile(0.05) / scale);
        Some(Metric {
            p5,
            unit: unit.to_owned(),
            avg: self.mean() / scale,
            min: Some(self.min as f64 / scale),
            max: Some(self.max as f64 / scale),
            std: Some(self.deviation() / scale),
            p50: at("p50", MEDIAN),
            p90: at("p90", 0.9),
            p95: at("p95", 0.95),
            p99: at("p99", 0.99),
            p999: at("p99.9", 0.999),
            p9999: at("p99.99", 0.9999),
            count: Some(self.count),
            intervals,
        })
    }

    /// What was observed at a rank, from 1, of what was observed apart.
    fn ranked(&self, rank: u64) -> f64 {
        // the middle of its share: no rounding leads to its neighbour
        self.quantile((rank as f64 - 0.5) / self.apart as f64)
    }

    fn mean(&self) -> f64 {
        if self.count == 0 {
            return 0.0;
        }
        self.sum as f64 / self.count as f64
    }

    /// Of the population. The difference is taken in integers: in floats it would drown in the size of both terms.
    fn deviation(&self) -> f64 {
        let count = u128::from(self.count);
        let (whole, rest) = (self.sum / count, self.sum % count);
        let product =
            (whole.saturating_mul(self.sum)).saturating_add(rest.saturating_mul(self.sum) / count);
        (self.squares.saturating_sub(product) as f64 / self.count as f64).sqrt()
    }

    /// In thousandths. A bucket of the histogram is wider than what was observed in it, so the ends are kept exact.
    fn quantile(&self, quantile: f64) -> f64 {
        if self.count == 0 {
            return 0.0;
        }
        let value = self.histogram.value_at_quantile(quantile) as f64 * 1000.0;
        value.clamp(self.min as f64, self.max as f64)
    }
}

/// A histogram in its own V2 form, as text: empty stretches cost next to nothing.
mod encoded {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use hdrhistogram::{
        Histogram,
        serialization::{Deserializer, Serializer as _, V2Serializer},
    };
    use serde::{Deserialize as _, de::Error as _, ser::Error as _};

    pub(super) fn serialize<S: serde::Serializer>(
        histogram: &Histogram<u64>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::new();
        V2Serializer::new()
            .serialize(histogram, &mut bytes)
            .map_err(S::Error::custom)?;
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Histogram<u64>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = STANDARD.decode(text).map_err(D::Error::custom)?;
        let mut histogram = Deserializer::new()
            .deserialize(&mut bytes.as_slice())
            .map_err(|error| D::Error::custom(format!("{error:?}")))?;
        // it takes more than it was sent with
        histogram.auto(true);
        Ok(histogram)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[(u64, u64)]) -> Distribution {
        let mut all = Distribution::new();
        for &(micros, n) in values {
            all.record_n(Duration::from_micros(micros), n);
        }
        all
    }

    #[test]
    fn sums_are_exact() {
        let metric = of(&[(2000, 1), (4000, 3), (5000, 2), (7000, 1), (9000, 1)])
            .to_metric("ms")
            .expect("observed");
        // the text-book set 2 4 4 4 5 5 7 9: mean 5, deviation of the population 2
        assert_eq!((metric.avg, metric.std), (5.0, Some(2.0)));
        assert_eq!((metric.min, metric.max), (Some(2.0), Some(9.0)));
        assert_eq!(metric.count, Some(8));
        let p50 = metric.p50.expect("observed");
        assert!((p50 - 4.0).abs() < 0.004, "{p50}");
        assert_eq!(metric.p90, None, "five observations bear no tail");
        assert!(metric.intervals.is_empty());
    }

    #[test]
    fn a_percentile_is_given_with_its_interval_and_only_where_the_count_bears_it() {
        let upto = |count| of(&(1..=count).map(|n| (n * 1000, 1)).collect::<Vec<_>>());
        let metric = upto(1000).to_metric("ms").expect("observed");
        let close = |found: Option<f64>, wanted: f64| {
            let found = found.expect("given");
            assert!((found - wanted).abs() <= wanted * 2e-3, "{found}, {wanted}");
        };
        close(metric.p99, 990.0);
        assert_eq!((metric.p999, metric.p9999), (None, None));
        let told: Vec<_> = metric.intervals.keys().map(String::as_str).collect();
        assert_eq!(told, ["p50", "p90", "p95", "p99"]);
        let [low, high] = metric.intervals["p99"];
        close(Some(low), 984.0);
        close(Some(high), 997.0);
        let metric = upto(40_000).to_metric("ms").expect("observed");
        close(metric.p9999, 39_996.0);
        assert_eq!(
            metric.intervals["p99.99"][1].to_bits(),
            40_000_f64.to_bits()
        );
        close(upto(5).to_metric("ms").expect("observed").p50, 3.0);
    }

    #[test]
    fn what_came_together_is_one_observation() {
        let metric = of(&[(1000, 500), (2000, 500)])
            .to_metric("ms")
            .expect("observed");
        assert_eq!(metric.count, Some(1000));
        assert_eq!((metric.p99, metric.intervals.len()), (None, 0));
    }

    #[test]
    fn rates_are_exact_to_a_thousandth() {
        let mut all = Distribution::new();
        all.record_rate(4.125);
        all.record_rate(1e-9);
        all.record_rate(f64::INFINITY);
        assert_eq!(all.count(), 3);
        let mut one = Distribution::new();
        one.record_rate(4.125);
        let metric = one.to_metric("tokens/s").expect("observed");
        assert_eq!((metric.avg, metric.p50), (4.125, Some(4.125)));
    }

    #[test]
    fn counts_are_not_durations() {
        let mut all = Distribution::new();
        all.record_count(3);
        all.record_count(5);
        let metric = all.to_metric("tokens").expect("observed");
        assert_eq!((metric.avg, metric.std), (4.0, Some(1.0)));
        assert_eq!((metric.p50, metric.max), (Some(3.0), Some(5.0)));
    }

    #[test]
    fn nothing_observed_is_no_metric() {
        assert_eq!(Distribution::new().to_metric("ms"), None);
        assert_eq!(Distribution::new().min_ms().to_bits(), 0);
        assert_eq!(Distribution::new().quantile_ms(0.5).to_bits(), 0);
    }

    #[test]
    fn extremes_are_held() {
        let mut all = Distribution::new();
        all.record(Duration::ZERO);
        all.record(Duration::MAX);
        assert_eq!(all.count(), 2);
        assert!(all.to_metric("ms").is_some());
    }

    proptest! {
        #[test]
        fn a_merge_is_the_histogram_of_the_concatenation(
            one in prop::collection::vec((0_u64..100_000_000, 1_u64..5), 0..40),
            two in prop::collection::vec((0_u64..100_000_000, 1_u64..5), 0..40),
        ) {
            let mut merged = of(&one);
            merged.merge(&of(&two));
            let whole = of(&[one, two].concat());
            prop_assert_eq!(merged.to_metric("ms"), whole.to_metric("ms"));
            prop_assert_eq!(merged, whole);
        }
    }
}
