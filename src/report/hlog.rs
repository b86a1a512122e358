//! `histograms.hlog`: the distributions themselves, as an interval log of `HdrHistograms` (V2, compressed).
//!
//! Percentiles cannot be added up, histograms can: whoever compares or joins runs needs these. Every tool that processes
//! such logs reads it; each distribution is one interval, the measured window, with its metric's name as the tag. Values
//! are microseconds, to three significant figures; the column of the largest is in milliseconds, as is usual. Without
//! observations there is no line. Nothing can fail but the encoding of a histogram, which would be a fault of ours.

use hdrhistogram::serialization::{
    V2DeflateSerializer,
    interval_log::{IntervalLogWriterBuilder, Tag},
};

use crate::stats::{results::Results, summary::Window, tally::Tally};

/// What a value is, for those who open the file.
const UNIT: &str = "[Values are in microseconds; Interval_Max is in milliseconds]";
/// Microseconds of a millisecond.
const DIVISOR: f64 = 1000.0;

/// The log of a load.
///
/// # Errors
/// A histogram that cannot be encoded.
pub fn render(results: &Results, tally: &Tally, window: Window) -> Result<Vec<u8>, String> {
    let mut log = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let mut builder = IntervalLogWriterBuilder::new();
    builder
        .add_comment(&format!(
            "[aif {}: {}]",
            env!("CARGO_PKG_VERSION"),
            results.name
        ))
        .add_comment(UNIT)
        .with_start_time(results.started_at.into())
        .with_base_time(results.started_at.into())
        .with_max_value_divisor(DIVISOR);
    let mut writer = builder
        .begin_log_with(&mut log, &mut serializer)
        .map_err(|error| error.to_string())?;
    let length = window.end.saturating_sub(window.start);
    for (name, all) in tally.distributions() {
        if all.count() > 0 {
            let tag = Tag::new(name);
            writer
                .write_histogram(all.histogram(), window.start, length, tag)
                .map_err(|error| format!("{name}: {error:?}"))?;
        }
    }
    drop(writer);
    Ok(log)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use base64::Engine as _;
    use hdrhistogram::{
        Histogram,
        serialization::{
            Deserializer,
            interval_log::{IntervalLogIterator, LogEntry},
        },
    };

    use super::*;
    use crate::{
        load::sample::{Chunk, Outcome, Sample},
        stats::{frame::Frame, results::Metric},
    };

    /// Histograms of a log by their tags.
    fn read(log: &[u8]) -> BTreeMap<String, Histogram<u64>> {
        let mut found = BTreeMap::new();
        for entry in IntervalLogIterator::new(log) {
            if let LogEntry::Interval(interval) = entry.expect("an entry") {
                assert_eq!(interval.start_timestamp(), Duration::from_secs(1));
                assert_eq!(interval.duration(), Duration::from_secs(2));
                let text = interval.encoded_histogram();
                let bytes = base64::engine::general_purpose::STANDARD
                    .decode(text)
                    .expect("base64");
                let histogram = Deserializer::new().deserialize(&mut &*bytes);
                let tag = interval.tag().map_or("", |tag| tag.as_str()).to_owned();
                found.insert(tag, histogram.expect("a histogram"));
            }
        }
        found
    }

    /// A log as `hdrh`, the Python tool, writes it: of 1000 values, 977 µs apart.
    const THEIRS: &str = include_str!("../../tests/data/hlog/theirs.hlog");

    #[test]
    fn a_log_that_the_public_tool_wrote_is_read_by_what_reads_ours() {
        let read = read(THEIRS.as_bytes());
        let [histogram] = &read.values().collect::<Vec<_>>()[..] else {
            panic!("{read:?}")
        };
        assert_eq!(histogram.len(), 1000);
        assert_eq!(histogram.value_at_quantile(0.5), 488_703);
        assert_eq!(histogram.value_at_quantile(0.99), 967_679);
    }

    #[test]
    fn what_is_read_back_has_the_percentiles_of_the_result() {
        let frame = Frame::example();
        let mut tally = frame.tally();
        for index in 0..1000_u64 {
            let at = Duration::from_micros(1_000_000 + 977 * index);
            let after = |ms: u64| Some(at + Duration::from_micros(ms * (1000 + index)));
            let chunks = [5, 6, 9].map(|ms| Chunk {
                at: after(ms).expect("a time"),
            });
            tally.take(&Sample {
                sent: after(0),
                written: after(1),
                first_byte: after(2),
                chunks: chunks.into(),
                outcome: Outcome::Success,
                output_tokens: Some(3),
                ..Sample::planned(index, at)
            });
        }
        let (results, window) = (&frame.results, frame.window);
        let log = render(results, &tally, window).expect("a log");
        let text = String::from_utf8(log.clone()).expect("text");
        assert!(text.contains("Values are in microseconds"), "{text}");
        let read = read(&log);
        let metrics = tally.metrics(window);
        let timed: Vec<&String> = metrics
            .iter()
            .filter(|(_, metric)| metric.unit == "ms")
            .map(|(name, _)| name)
            .collect();
        assert!(timed.len() >= 8, "{timed:?}");
        for name in timed {
            let (metric, histogram): (&Metric, _) = (&metrics[name], &read[name]);
            assert_eq!(metric.count, Some(histogram.len()), "{name}");
            for (quantile, told) in [(0.5, metric.p50), (0.9, metric.p90), (0.99, metric.p99)] {
                let value = histogram.value_at_quantile(quantile) as f64 / 1000.0;
                let told = told.expect("observed");
                // the result is held within what was observed, a bucket is wider
                assert!(
                    (value - told).abs() <= told * 1e-3,
                    "{name}: {value}, not {told}"
                );
            }
        }
        assert_eq!(read["lateness"].len(), tally.counts().total);
    }
}
