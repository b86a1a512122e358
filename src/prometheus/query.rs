//! Prometheus's HTTP API: instant and range queries, readiness, targets, the snapshot.
//!
//! A range query gives at most 11 000 points per series, so longer ranges are asked in pieces and put together again:
//! the caller asks for what it wants. Values are numbers; native histograms are left out, as we scrape none.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use hyper::StatusCode;
use jiff::Timestamp;
use serde::Deserialize;

use crate::api::client::{self, Access, Answer};

/// Points of one piece of a range; the server's limit is 11 000.
const POINTS: u32 = 10_000;
/// How the server refuses a question that would take too much of its memory (`--query.max-samples`).
const TOO_MANY: &str = "too many samples";
/// A query has this long: the server's own limit is two minutes.
const QUERY_LIMIT: Duration = Duration::from_secs(130);
/// What is answered from memory has this long.
const SHORT_LIMIT: Duration = Duration::from_secs(5);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be asked.
    #[error("Prometheus does not answer")]
    Client(#[from] client::Error),
    /// It refused.
    #[error("Prometheus refused: {message}")]
    Refused {
        /// Its own words.
        message: String,
    },
    /// The answer is not of the form that its API documents.
    #[error("Prometheus's answer is not understood: {message}")]
    Shape {
        /// What was found.
        message: String,
    },
    /// A range without an end, or a step of no length.
    #[error("the range is empty: start, end and step must leave at least one point")]
    Range,
}

/// One value at one time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Seconds since the epoch.
    pub time: f64,
    /// The value; it may be no number.
    pub value: f64,
}

/// A series: its labels, `__name__` among them, and its points in the order of time.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Points.
    pub points: Vec<Point>,
}

/// From when to when, and in which steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// First point.
    pub start: Timestamp,
    /// Last point at the latest.
    pub end: Timestamp,
    /// Distance of points.
    pub step: Duration,
}

/// A target as Prometheus sees it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetState {
    /// Labels after relabelling.
    pub labels: BTreeMap<String, String>,
    /// What is asked.
    pub scrape_url: String,
    /// `up`, `down` or `unknown`.
    pub health: String,
    /// Why it is down.
    #[serde(default)]
    pub last_error: String,
}

/// A Prometheus to be asked.
#[derive(Debug, Clone)]
pub struct Client {
    base: String,
    access: Access,
}

#[derive(Deserialize)]
struct Envelope {
    status: String,
    #[serde(default)]
    data: serde_json::Value,
    #[serde(default)]
    error: String,
}

impl Client {
    /// A client of the Prometheus at this base URL.
    pub fn new(base: &str, access: Access) -> Self {
        Self {
            base: base.trim_end_matches('/').to_owned(),
            access,
        }
    }

    /// Its base URL.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// How one gets in.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// Is it ready to scrape and to be asked?
    pub async fn is_ready(&self) -> bool {
        client::get(&format!("{}/-/ready", self.base), &self.access, SHORT_LIMIT)
            .await
            .is_ok_and(|answer| answer.status == StatusCode::OK)
    }

    /// Its version.
    pub async fn version(&self) -> Result<String, Error> {
        let data = self.fetch("status/buildinfo").await?;
        text_at(&data, "version")
    }

    /// Its active targets.
    pub async fn targets(&self) -> Result<Vec<TargetState>, Error> {
        let mut data = self.fetch("targets?state=active").await?;
        serde_json::from_value(data["activeTargets"].take()).map_err(|error| shape(&error))
    }

    /// First and last sample that it holds in memory; `None` where it holds none.
    pub async fn head_span(&self) -> Result<Option<(Timestamp, Timestamp)>, Error> {
        let data = self.fetch("status/tsdb").await?;
        let head = &data["headStats"];
        if head["numSeries"].as_u64().unwrap_or(0) == 0 {
            return Ok(None);
        }
        let time = |key: &str| Timestamp::from_millisecond(head[key].as_i64()?).ok();
        Ok(time("minTime").zip(time("maxTime")))
    }

    /// The values of an expression at one time; now where none is given.
    pub async fn instant(&self, query: &str, at: Option<Timestamp>) -> Result<Vec<Series>, Error> {
        let mut form = format!("query={}", encode(query));
        if let Some(at) = at {
            let _ = write!(form, "&time={}", seconds(at));
        }
        series_of(&self.ask("query", form).await?)
    }

    /// The values of an expression over a range, however long.
    pub async fn range(&self, query: &str, range: Range) -> Result<Vec<Series>, Error> {
        let mut joined: BTreeMap<BTreeMap<String, String>, Vec<Point>> = BTreeMap::new();
        let step = range.step.as_millis();
        let mut left = pieces(range)?;
        left.reverse();
        while let Some((start, end)) = left.pop() {
            let form = format!(
                "query={}&start={}&end={}&step={}.{:03}",
                encode(query),
                seconds(start),
                seconds(end),
                step / 1000,
                step % 1000
            );
            let answer = match self.ask("query_range", form).await {
                Err(Error::Refused { message }) if message.contains(TOO_MANY) => {
                    let (first, second) =
                        halves(start, end, range.step).ok_or(Error::Refused { message })?;
                    left.extend([second, first]);
                    continue;
                }
                answer => answer?,
            };
            for series in series_of(&answer)? {
                joined
                    .entry(series.labels)
                    .or_default()
                    .extend(series.points);
            }
        }
        Ok(joined
            .into_iter()
            .map(|(labels, points)| Series { labels, points })
            .collect())
    }

    /// Has it write a snapshot of all its data, the newest samples included; gives the snapshot's name.
    pub async fn snapshot(&self, limit: Duration) -> Result<String, Error> {
        let url = format!("{}/api/v1/admin/tsdb/snapshot", self.base);
        let answer = client::post_form(&url, &self.access, String::new(), limit).await?;
        text_at(&data_of(&answer)?, "name")
    }

    pub(super) async fn fetch(&self, path: &str) -> Result<serde_json::Value, Error> {
        let url = format!("{}/api/v1/{path}", self.base);
        data_of(&client::get(&url, &self.access, SHORT_LIMIT).await?)
    }

    async fn ask(&self, path: &str, form: String) -> Result<serde_json::Value, Error> {
        let url = format!("{}/api/v1/{path}", self.base);
        data_of(&client::post_form(&url, &self.access, form, QUERY_LIMIT).await?)
    }
}

pub(super) fn shape(error: &dyn std::fmt::Display) -> Error {
    Error::Shape {
        message: error.to_string(),
    }
}

fn text_at(data: &serde_json::Value, key: &str) -> Result<String, Error> {
    data[key]
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| shape(&format!("no {key} in {data}")))
}

/// What an answer carries. A refusal has a body of its own, or, before the API is reached, only a status.
fn data_of(answer: &Answer) -> Result<serde_json::Value, Error> {
    match answer.json::<Envelope>() {
        Ok(envelope) if envelope.status == "success" => Ok(envelope.data),
        Ok(envelope) => Err(Error::Refused {
            message: envelope.error,
        }),
        Err(_) => Err(Error::Refused {
            message: format!("{} {}", answer.status, answer.text().trim()),
        }),
    }
}

fn series_of(data: &serde_json::Value) -> Result<Vec<Series>, Error> {
    let result = &data["result"];
    match data["resultType"].as_str() {
        Some("scalar") => Ok(vec![Series {
            labels: BTreeMap::new(),
            points: vec![point(result)?],
        }]),
        Some("vector" | "matrix") => result
            .as_array()
            .into_iter()
            .flatten()
            .map(|entry| {
                let labels = serde_json::from_value(entry["metric"].clone())
                    .map_err(|error| shape(&error))?;
                let points = match (&entry["value"], entry["values"].as_array()) {
                    (_, Some(values)) => values.iter().map(point).collect::<Result<_, _>>()?,
                    (serde_json::Value::Null, None) => Vec::new(),
                    (value, None) => vec![point(value)?],
                };
                Ok(Series { labels, points })
            })
            .filter(|series| series.as_ref().map_or(true, |s| !s.points.is_empty()))
            .collect(),
        other => Err(shape(&format!(
            "a result of type {}, which has no series",
            other.unwrap_or("nothing")
        ))),
    }
}

fn point(pair: &serde_json::Value) -> Result<Point, Error> {
    let read = || {
        Some(Point {
            time: pair.get(0)?.as_f64()?,
            value: pair.get(1)?.as_str()?.parse().ok()?,
        })
    };
    read().ok_or_else(|| shape(&format!("{pair} is no point")))
}

/// A range in pieces that the server answers, each beginning one step after the last point of the one before.
fn pieces(range: Range) -> Result<Vec<(Timestamp, Timestamp)>, Error> {
    let (start, end) = (range.start.as_millisecond(), range.end.as_millisecond());
    let step = i64::try_from(range.step.as_millis()).map_err(|_| Error::Range)?;
    if step == 0 || start > end {
        return Err(Error::Range);
    }
    let length = step
        .checked_mul(i64::from(POINTS - 1))
        .ok_or(Error::Range)?;
    let mut pieces = Vec::new();
    let mut from = start;
    while from <= end {
        let to = from.saturating_add(length).min(end);
        pieces.push((stamp(from)?, stamp(to)?));
        from = to.saturating_add(step);
        if to == end {
            break;
        }
    }
    Ok(pieces)
}

type Piece = (Timestamp, Timestamp);

/// A piece in two, the second of which begins one step after the last point of the first; `None` where it is one point.
fn halves(start: Timestamp, end: Timestamp, step: Duration) -> Option<(Piece, Piece)> {
    let (from, to) = (start.as_millisecond(), end.as_millisecond());
    let step = i64::try_from(step.as_millis()).ok()?;
    let points = (to - from).checked_div(step)? + 1;
    let middle = from + (points / 2 - 1) * step;
    let halves = || {
        let first = (start, stamp(middle).ok()?);
        Some((first, (stamp(middle + step).ok()?, end)))
    };
    (points > 1).then(halves)?
}

fn stamp(milliseconds: i64) -> Result<Timestamp, Error> {
    Timestamp::from_millisecond(milliseconds).map_err(|_| Error::Range)
}

/// A time as the API takes it: seconds with milliseconds, written without the rounding of a float.
fn seconds(time: Timestamp) -> String {
    let milliseconds = time.as_millisecond();
    let sign = if milliseconds < 0 { "-" } else { "" };
    let size = milliseconds.unsigned_abs();
    format!("{sign}{}.{:03}", size / 1000, size % 1000)
}

/// Percent-encodes a value of a form.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: i64) -> Timestamp {
        Timestamp::from_millisecond(milliseconds).unwrap()
    }

    #[test]
    fn answers_become_series() {
        let cases = [
            (
                r#"{"resultType":"vector","result":[{"metric":{"__name__":"up"},"value":[1.5,"1"]}]}"#,
                vec![(1.5, 1.0)],
            ),
            (
                r#"{"resultType":"matrix","result":[{"metric":{},"values":[[1,"+Inf"],[2,"0.25"]]}]}"#,
                vec![(1.0, f64::INFINITY), (2.0, 0.25)],
            ),
            (
                r#"{"resultType":"scalar","result":[3,"7"]}"#,
                vec![(3.0, 7.0)],
            ),
        ];
        for (text, points) in cases {
            let series = series_of(&serde_json::from_str(text).unwrap()).unwrap();
            let seen: Vec<_> = series[0].points.iter().map(|p| (p.time, p.value)).collect();
            assert_eq!(seen, points, "{text}");
        }
        let histogram = r#"{"resultType":"vector","result":[{"metric":{},"histogram":[1,{}]}]}"#;
        assert_eq!(
            series_of(&serde_json::from_str(histogram).unwrap()).unwrap(),
            []
        );
        let text = r#"{"resultType":"string","result":[1,"x"]}"#;
        assert_eq!(
            series_of(&serde_json::from_str(text).unwrap())
                .unwrap_err()
                .to_string(),
            "Prometheus's answer is not understood: a result of type string, which has no series"
        );
    }

    #[test]
    fn expressions_are_encoded() {
        assert_eq!(
            encode("{__name__!=\"\"} + µ"),
            "%7B__name__%21%3D%22%22%7D%20%2B%20%C2%B5"
        );
    }

    #[test]
    fn times_are_written_exactly() {
        for (milliseconds, text) in [
            (1_700_000_000_005, "1700000000.005"),
            (0, "0.000"),
            (-5, "-0.005"),
        ] {
            assert_eq!(seconds(at(milliseconds)), text);
        }
    }

    #[test]
    fn an_empty_range_is_refused() {
        let range = |start, end, step| Range {
            start: at(start),
            end: at(end),
            step: Duration::from_millis(step),
        };
        assert!(pieces(range(0, 10, 0)).is_err());
        assert!(pieces(range(10, 0, 1)).is_err());
        assert_eq!(pieces(range(10, 10, 1)).unwrap().len(), 1);
    }

    #[test]
    fn halves_hold_each_point_once() {
        let step = Duration::from_millis(10);
        assert_eq!(halves(at(0), at(9), step), None);
        assert_eq!(
            halves(at(0), at(19), step),
            Some(((at(0), at(0)), (at(10), at(19))))
        );
        assert_eq!(
            halves(at(5), at(45), step),
            Some(((at(5), at(15)), (at(25), at(45))))
        );
    }

    proptest::proptest! {
        #[test]
        fn pieces_hold_each_point_once(start in 0_i64..1_000_000, length in 0_i64..50_000_000, step in 1_u64..5000) {
            let range = Range { start: at(start), end: at(start + length), step: Duration::from_millis(step) };
            let step = i64::try_from(step).unwrap();
            let mut next = start;
            for (from, to) in pieces(range).unwrap() {
                proptest::prop_assert_eq!(from.as_millisecond(), next);
                let points = (to.as_millisecond() - next) / step + 1;
                proptest::prop_assert!(points <= 11_000);
                next += points * step;
            }
            proptest::prop_assert!(next > start + length);
        }
    }
}
