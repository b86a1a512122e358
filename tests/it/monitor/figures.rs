//! Whatever form an export has, it holds the figures that Prometheus gives to a direct query: every series, point and digit.

use std::{collections::BTreeMap, fmt::Write as _, path::Path, time::Duration};

use aif::{api::client, prometheus::query::Client};
use serde_json::Value;

use super::export::{export, password_of, serve};

const FIRST: u32 = 1_735_689_600;
const COUNT: u32 = 120;

/// Labels of a series, and its points: milliseconds and the bits of the value.
type Figures = BTreeMap<BTreeMap<String, String>, Vec<(i64, u64)>>;

/// Series of many kinds: labels that must be quoted, values of many digits, gaps, and what is no number.
fn samples() -> String {
    let mut text = String::from("# TYPE aif_cakes counter\n");
    for (label, factor) in [
        ("plain", 1.0),
        ("a,b", 0.1),
        ("say \\\"5\\\" \\\\ \\n", 1e9),
    ] {
        for second in 0..COUNT {
            let value = f64::from(second) * factor + f64::from(second) / 3.0;
            let _ = writeln!(
                text,
                "aif_cakes_total{{kind=\"{label}\"}} {value} {}",
                FIRST + second
            );
        }
    }
    text.push_str("# TYPE aif_oven gauge\n");
    for second in (0..COUNT).filter(|second| second % 7 != 3) {
        let value = match second % 11 {
            0 => "NaN".to_owned(),
            1 => "+Inf".to_owned(),
            2 => "-Inf".to_owned(),
            _ => format!("{}", -f64::from(second) * 1.234_567_890_123e-7),
        };
        let _ = writeln!(text, "aif_oven {value} {}", FIRST + second);
    }
    text.push_str("# EOF\n");
    text
}

fn bits(text: &str) -> u64 {
    let value: f64 = match text {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        text => text
            .parse()
            .unwrap_or_else(|_| panic!("{text} is no number")),
    };
    // there are many that are none
    if value.is_nan() { f64::NAN } else { value }.to_bits()
}

fn milliseconds(seconds: f64) -> i64 {
    #[expect(clippy::cast_possible_truncation, reason = "of these years")]
    let milliseconds = (seconds * 1000.0).round() as i64;
    milliseconds
}

/// What the API itself answers.
async fn direct(client: &Client, path: &str, form: &str) -> Figures {
    let url = format!("{}/api/v1/{path}", client.base());
    let access = client.access().clone();
    let answer = client::post_form(&url, &access, form.to_owned(), Duration::from_mins(1))
        .await
        .unwrap();
    let answer: Value = answer.json().unwrap();
    assert_eq!(answer["status"], "success", "{answer:#}");
    let mut figures = Figures::new();
    for series in answer["data"]["result"].as_array().unwrap() {
        let labels = serde_json::from_value(series["metric"].clone()).unwrap();
        let points = series["values"].as_array().cloned();
        let points = points.unwrap_or_else(|| vec![series["value"].clone()]);
        let point = |pair: &Value| {
            let time = milliseconds(pair[0].as_f64().unwrap());
            (time, bits(pair[1].as_str().unwrap()))
        };
        figures.insert(labels, points.iter().map(point).collect());
    }
    figures
}

fn of_json(text: &str) -> Figures {
    let told: Value = serde_json::from_str(text).unwrap();
    let mut figures = Figures::new();
    for series in told["series"].as_array().unwrap() {
        let labels = serde_json::from_value(series["labels"].clone()).unwrap();
        let point = |pair: &Value| {
            let value = pair[1]
                .as_f64()
                .map_or_else(|| bits(pair[1].as_str().unwrap()), f64::to_bits);
            (milliseconds(pair[0].as_f64().unwrap()), value)
        };
        let points = series["points"].as_array().unwrap();
        figures.insert(labels, points.iter().map(point).collect());
    }
    figures
}

/// Rows of CSV, read as a spreadsheet reads them.
fn rows(text: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut field) = (Vec::new(), Vec::new(), String::new());
    let mut quoted = false;
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '"' if quoted && rest.peek() == Some(&'"') => {
                rest.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut field)),
            '\n' if !quoted => {
                row.push(std::mem::take(&mut field));
                rows.push(std::mem::take(&mut row));
            }
            c => field.push(c),
        }
    }
    assert!(row.is_empty() && field.is_empty() && !quoted, "{text}");
    rows
}

fn of_csv(text: &str) -> Figures {
    let rows = rows(text);
    let (head, rows) = rows.split_first().unwrap();
    assert_eq!(head[..3], ["time", "metric", "value"]);
    let mut figures = Figures::new();
    for row in rows {
        assert_eq!(row.len(), head.len(), "{row:?}");
        // what a series does not have is empty
        let labels = std::iter::once("__name__")
            .chain(head[3..].iter().map(String::as_str))
            .zip(std::iter::once(&row[1]).chain(&row[3..]));
        let labels = labels.filter(|(_, value)| !value.is_empty());
        let labels = labels.map(|(name, value)| (name.to_owned(), value.clone()));
        let time: jiff::Timestamp = row[0].parse().unwrap();
        let points = figures.entry(labels.collect()).or_default();
        points.push((time.as_millisecond(), bits(&row[2])));
    }
    figures
}

fn of_openmetrics(text: &str) -> Figures {
    assert!(text.ends_with("# EOF\n"), "{text:.200}");
    let mut figures = Figures::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, end) = match line.rsplit_once("} ") {
            Some((series, end)) => (series, end),
            None => line.split_once(' ').unwrap(),
        };
        let (value, time) = end.split_once(' ').unwrap();
        let (name, pairs) = series.split_once('{').unwrap_or((series, ""));
        let mut labels = BTreeMap::new();
        if name != "value" {
            labels.insert("__name__".to_owned(), name.to_owned());
        }
        // one label at the most here
        if let Some((label, text)) = pairs.split_once("=\"") {
            let text = text.strip_suffix('"').unwrap();
            let text = text.replace("\\\\", "\0").replace("\\n", "\n");
            let text = text.replace("\\\"", "\"").replace('\0', "\\");
            labels.insert(label.to_owned(), text);
        }
        let points = figures.entry(labels).or_default();
        points.push((milliseconds(time.parse().unwrap()), bits(value)));
    }
    figures
}

/// Reads the figures out of an export.
type Read = fn(&str) -> Figures;

async fn compare(folder: &Path, words: &[&str], expected: &Figures) {
    let forms: [(&str, Read); 3] = [
        ("json", of_json),
        ("csv", of_csv),
        ("openmetrics", of_openmetrics),
    ];
    for (form, read) in forms {
        let text = export(folder, &[words, &["--format", form]].concat()).await;
        assert_eq!(&read(&text), expected, "{form} of {words:?}:\n{text:.500}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_holds_the_figures_of_a_direct_query() {
    let folder = tempfile::tempdir().unwrap();
    let (served, client) = serve(folder.path(), &samples()).await;
    let password = password_of(folder.path(), &client);
    let at = [
        "--url",
        client.base(),
        "--password-file",
        password.to_str().unwrap(),
    ];
    let last = FIRST + COUNT - 1;
    let (start, end) = (FIRST.to_string(), last.to_string());
    let asked = [
        ("aif_cakes_total", 3),
        ("aif_oven", 1),
        ("rate(aif_cakes_total[7s])", 3),
        ("{__name__=~\"aif_.*\"}", 4),
        ("aif_no_such_metric", 0),
    ];
    for (query, count) in asked {
        // what stands in a form must not be taken for a part of it
        let form = query.replace('+', "%2B");
        let over = ["--query", query, "--start", &start, "--end", &end];
        for step in ["1", "2.5"] {
            let ranged = format!("query={form}&start={start}&end={end}&step={step}");
            let expected = direct(&client, "query_range", &ranged).await;
            assert_eq!(expected.len(), count, "{query}");
            let points = expected.values().all(|points| points.len() > 30);
            assert!(points, "{query}: {expected:?}");
            let step = format!("{}ms", step.parse::<f64>().unwrap() * 1000.0);
            let words = [&at[..], &over, &["--step", &step]].concat();
            compare(folder.path(), &words, &expected).await;
        }
        let instant = format!("query={form}&time={end}");
        let expected = direct(&client, "query", &instant).await;
        assert_eq!(expected.len(), count, "{query}");
        let words = [&at[..], &["--query", query, "--at", &end]].concat();
        compare(folder.path(), &words, &expected).await;
    }
    served.stop().await;
}
