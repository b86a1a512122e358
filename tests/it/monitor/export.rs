//! What `aif export` writes is what Prometheus answers: long ranges, renamed metrics, and `OpenMetrics` that `promtool` reads.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use aif::{
    api::client::{self, Access},
    command::{self, Shell},
    env::Env,
    exit::Exit,
    files::{self, Durability},
    prometheus::{
        archive::Served,
        process::{Binary, choose_port},
        query::Client,
        snapshot,
    },
    recipe::PortChoice,
};
use clap::Parser as _;
use serde_json::Value;

use super::{HOST, PORTS, eventually, local, program};

/// When the samples begin, and how many there are of each series, one a second.
const FIRST: u32 = 1_735_689_600;
const COUNT: u32 = 25_000;

#[derive(Debug, clap::Parser)]
struct Typed {
    #[command(flatten)]
    args: command::export::Args,
}

async fn try_export(home: &Path, words: &[&str]) -> anyhow::Result<String> {
    let out = home.join("out");
    let more = ["export", "--out", out.to_str().unwrap()];
    let typed = Typed::parse_from(more.iter().chain(words));
    let shell = Shell {
        env: Env::of_process(),
        home: home.to_owned(),
    };
    let exit = command::export::run(typed.args, &shell).await?;
    assert_eq!(exit, Exit::Done);
    Ok(files::read_text(&out).unwrap())
}

pub(super) async fn export(home: &Path, words: &[&str]) -> String {
    try_export(home, words).await.unwrap()
}

/// Samples as an older vLLM would have left them: a counter, and a gauge by its name of then.
fn samples() -> String {
    let mut text = String::from("# TYPE vllm:prompt_tokens counter\n");
    for second in 0..COUNT {
        let time = FIRST + second;
        let _ = writeln!(
            text,
            "vllm:prompt_tokens_total{{m=\"a\\\"b\"}} {} {time}",
            second * 3
        );
    }
    text.push_str("# TYPE vllm:gpu_cache_usage_perc gauge\n");
    for second in (0..COUNT).step_by(5) {
        let time = FIRST + second;
        let _ = writeln!(text, "vllm:gpu_cache_usage_perc 0.{} {time}", second % 97);
    }
    text.push_str("# EOF\n");
    text
}

/// Has `promtool` make a data folder of `OpenMetrics`.
fn blocks(folder: &Path, openmetrics: &str) -> PathBuf {
    let (text, data) = (folder.join("samples.om"), folder.join("data"));
    files::write_atomic(&text, openmetrics.as_bytes(), 0o644, Durability::Fast).unwrap();
    let output = Command::new(program("promtool"))
        .args(["tsdb", "create-blocks-from", "openmetrics"])
        .args([&text, &data])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    data
}

pub(super) async fn serve(folder: &Path, openmetrics: &str) -> (Served, Client) {
    let archive = folder.join(snapshot::ARCHIVE);
    snapshot::pack(&blocks(folder, openmetrics), &archive).unwrap();
    let binary = Binary::Program(program("prometheus"));
    let port = choose_port(HOST, PortChoice::Auto, PORTS).unwrap();
    let served = Served::start(&archive, local(folder), &binary, port)
        .await
        .unwrap();
    let client = served.client().clone();
    (served, client)
}

/// Points of the first series of a range, asked without any code of ours in between.
async fn direct(client: &Client, query: &str, start: u32, end: u32) -> Vec<(f64, f64)> {
    let url = format!("{}/api/v1/query_range", client.base());
    let form = format!("query={query}&start={start}&end={end}&step=1");
    let access = client.access().clone();
    let answer = client::post_form(&url, &access, form, Duration::from_mins(1))
        .await
        .unwrap();
    let answer: Value = answer.json().unwrap();
    let values = answer["data"]["result"][0]["values"].as_array().unwrap();
    let point = |pair: &Value| {
        let value = pair[1].as_str().unwrap().parse().unwrap();
        (pair[0].as_f64().unwrap(), value)
    };
    values.iter().map(point).collect()
}

fn points(text: &str) -> Vec<(f64, f64)> {
    let answer: Value = serde_json::from_str(text).unwrap();
    let series = answer["series"].as_array().unwrap();
    assert_eq!(series.len(), 1, "{text:.200}");
    let point = |pair: &Value| (pair[0].as_f64().unwrap(), pair[1].as_f64().unwrap());
    let points = series[0]["points"].as_array().unwrap();
    points.iter().map(point).collect()
}

pub(super) fn password_of(folder: &Path, client: &Client) -> PathBuf {
    let Access::Basic(_, password) = client.access() else {
        panic!("an archive is served with a password")
    };
    let file = folder.join("password");
    files::write_atomic(&file, password.as_bytes(), 0o600, Durability::Fast).unwrap();
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_range_is_joined_without_a_seam_and_openmetrics_come_back() {
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
    let over = ["--start", &start, "--end", &end, "--step", "1s"];

    // 25 000 points: more than Prometheus gives at once
    let metric = "vllm:prompt_tokens_total";
    let words = [&at[..], &over, &["--query", metric]].concat();
    let exported = points(&export(folder.path(), &words).await);
    let mut expected = Vec::new();
    for from in (FIRST..=last).step_by(7000) {
        expected.extend(direct(&client, metric, from, (from + 6999).min(last)).await);
    }
    assert_eq!(expected.len(), COUNT as usize);
    assert!(
        exported == expected,
        "the export differs from direct queries"
    );

    // an instant, and one relative to it
    let words = [&at[..], &["--query", metric, "--at", &end]].concat();
    let instant = points(&export(folder.path(), &words).await);
    assert_eq!(instant, [(f64::from(last), f64::from((COUNT - 1) * 3))]);

    // the old name is found under the new one, alone and with all of its engine
    let words = [&at[..], &over, &["--query", "vllm:kv_cache_usage_perc"]].concat();
    let renamed = export(folder.path(), &words).await;
    let old = direct(&client, "vllm:gpu_cache_usage_perc", FIRST, FIRST + 100).await;
    assert_eq!(points(&renamed)[..old.len()], old);
    assert!(renamed.contains("\"__name__\":\"vllm:kv_cache_usage_perc\""));
    let words = [&at[..], &over, &["--engine", "vllm", "--format", "csv"]].concat();
    let engine = export(folder.path(), &words).await;
    let names: BTreeSet<&str> = engine
        .lines()
        .skip(1)
        .map(|row| row.split(',').nth(1).unwrap())
        .collect();
    assert_eq!(
        names.into_iter().collect::<Vec<_>>(),
        [
            "vllm:gpu_cache_usage_perc",
            "vllm:kv_cache_usage_perc",
            metric
        ]
    );

    // what is written as OpenMetrics is read by promtool, and answers the same
    let words = [
        &at[..],
        &over,
        &["--query", metric, "--format", "openmetrics"],
    ]
    .concat();
    let text = export(folder.path(), &words).await;
    served.stop().await;
    let again = tempfile::tempdir().unwrap();
    let (served, client) = serve(again.path(), &text).await;
    let password = password_of(again.path(), &client);
    let at = [
        "--url",
        client.base(),
        "--password-file",
        password.to_str().unwrap(),
    ];
    let words = [&at[..], &over, &["--query", metric]].concat();
    let returned = points(&export(again.path(), &words).await);
    assert!(returned == expected, "the second Prometheus differs");
    let labels = direct_labels(&client, metric, last).await;
    assert_eq!(labels["m"], "a\"b");
    served.stop().await;
}

async fn direct_labels(client: &Client, query: &str, at: u32) -> Value {
    let url = format!("{}/api/v1/query", client.base());
    let form = format!("query={query}&time={at}");
    let access = client.access().clone();
    let answer = client::post_form(&url, &access, form, Duration::from_mins(1))
        .await
        .unwrap();
    answer.json::<Value>().unwrap()["data"]["result"][0]["metric"].take()
}

/// A Prometheus that answers with few samples at once; killed when the test is over.
struct Stingy(Child);

impl Drop for Stingy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prometheus_that_refuses_large_answers_is_asked_for_smaller_ones() {
    let folder = tempfile::tempdir().unwrap();
    let data = blocks(folder.path(), &samples());
    let config = folder.path().join("p.yml");
    files::write_atomic(&config, b"scrape_configs: []\n", 0o644, Durability::Fast).unwrap();
    let port = choose_port(HOST, PortChoice::Auto, PORTS).unwrap().number;
    let _stingy = Stingy(
        Command::new(program("prometheus"))
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", data.display()))
            .arg("--storage.tsdb.retention.time=100y")
            .arg("--query.max-samples=3000")
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let url = format!("http://127.0.0.1:{port}");
    let client = Client::new(&url, Access::Open);
    eventually("Prometheus", async || client.is_ready().await.then_some(())).await;
    let (start, end) = (FIRST.to_string(), (FIRST + 9_999).to_string());
    let words = [
        &url,
        "--query",
        "vllm:prompt_tokens_total",
        "--start",
        &start,
        "--end",
        &end,
        "--step",
        "1s",
    ];
    let exported = points(&export(folder.path(), &words).await);
    assert_eq!(exported.len(), 10_000);
    for (index, (time, value)) in exported.iter().enumerate() {
        let index = u32::try_from(index).unwrap();
        let expected = (f64::from(FIRST + index), f64::from(index * 3));
        assert!((*time, *value) == expected, "point {index}");
    }
    // what cannot be halved any more is told
    let all = [
        url.as_str(),
        "--query",
        "count_over_time(vllm:prompt_tokens_total[3h])",
        "--at",
        &end,
    ];
    let error = try_export(folder.path(), &all).await.unwrap_err();
    assert_eq!(Exit::of(&error), Exit::Usage);
    assert!(
        format!("{error:#}").contains("too many samples"),
        "{error:#}"
    );
}
