//! Real Prometheus: what we write is what it reads, and what it has measured outlives it.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests are not recognised as tests"
)]

use std::{net::IpAddr, path::Path, sync::Arc, time::Duration};

use aif::{
    api::client::Access,
    env::Env,
    files::{self, Durability},
    prometheus::{
        archive::Served,
        config::{self, Scraping},
        process::{Binary, Options, Prometheus, choose_port},
        query::{Point, Range, Series},
        snapshot,
        targets::{Source, Targets},
    },
    recipe::PortChoice,
    shutdown::Shutdown,
    telemetry::{agent::Agent, host},
};
use prometheus_client::{metrics::counter::Counter, registry::Registry};
use tokio::net::TcpListener;

const HOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const PORTS: (u16, u16) = (20000, 29999);
const KEY: &str = "the bearer of all agents";

/// Waits until something is so; a minute is for machines that do much else.
async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..600 {
        if let Some(seen) = look().await {
            return seen;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{what}: not within a minute");
}

fn program(name: &str) -> std::path::PathBuf {
    Env::of_process()
        .find_program(name)
        .unwrap_or_else(|| panic!("{name} is not on the PATH: these tests want the real one"))
}

async fn start_agent() -> (String, Shutdown) {
    let mut metrics = Registry::default();
    let cakes = Counter::<u64>::default();
    cakes.inc_by(42);
    metrics.register("aif_test_cakes", "Cakes", cakes);
    host::register(&mut metrics, &Env::default());
    let listener = TcpListener::bind((HOST, 0)).await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let agent = Agent {
        key: KEY.to_owned(),
        metrics,
        instance: Box::new(|| serde_json::Value::Null),
        engine: None,
        scrapes: Arc::default(),
    };
    let shutdown = Shutdown::new();
    Arc::new(agent).serve(listener, &shutdown);
    (base, shutdown)
}

/// Writes all that Prometheus reads into a folder.
fn prepare(folder: &Path, agent: &str, password: &str) -> Options {
    let put = |name: &str, text: &str| {
        let path = folder.join(name);
        files::write_atomic(&path, text.as_bytes(), 0o600, Durability::Fast).unwrap();
        path
    };
    let scraping = Scraping {
        interval: Duration::from_millis(500),
        own_targets: folder.join("targets.json"),
        open_targets: folder.join("open.json"),
        key_file: put("scrape.key", KEY),
    };
    let source = Source {
        role: "bench".to_owned(),
        service: "cakes".to_owned(),
        instance_id: "cakes-1".to_owned(),
        node: "here".to_owned(),
        job_id: "1".to_owned(),
        agent: Some(agent.to_owned()),
        ..Source::default()
    };
    Targets::of(&[source], &[])
        .write(&scraping.own_targets, &scraping.open_targets)
        .unwrap();
    Options {
        config: put(
            "prometheus.yml",
            &config::prometheus_yml(&scraping).unwrap(),
        ),
        web: Some(put("web.yml", &config::web_yml(password).unwrap())),
        data: folder.join("data"),
        host: HOST,
        port: choose_port(HOST, PortChoice::Auto, PORTS).unwrap().number,
        retention: "1h".to_owned(),
        size: Some("512MB"),
        log: folder.join("prometheus.log"),
        visible: Vec::new(),
        access: Access::Basic(config::USER.to_owned(), password.to_owned()),
    }
}

fn promtool(arguments: &[&str]) {
    let output = std::process::Command::new(program("promtool"))
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "promtool {arguments:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_scraped_outlives_prometheus() {
    let (agent, _shutdown) = start_agent().await;
    let folder = tempfile::tempdir().unwrap();
    let options = prepare(folder.path(), &agent, "let me in");
    promtool(&["check", "config", options.config.to_str().unwrap()]);
    promtool(&[
        "check",
        "web-config",
        options.web.as_ref().unwrap().to_str().unwrap(),
    ]);

    let binary = Binary::Program(program("prometheus"));
    let mut prometheus = Prometheus::start(&binary, &options).unwrap();
    prometheus.ready(Duration::from_mins(1)).await.unwrap();
    let client = prometheus.client.clone();

    let strangers = aif::prometheus::query::Client::new(client.base(), Access::Open);
    let refused = strangers.instant("up", None).await.unwrap_err();
    assert!(refused.to_string().contains("401"), "{refused}");

    let query = "aif_test_cakes_total";
    let live: Vec<Series> = eventually("two scrapes of the agent", async || {
        let at = client
            .instant("count_over_time(up[1m])", None)
            .await
            .unwrap();
        let enough = at.first()?.points.first()?.value >= 2.0;
        let series = client.instant(query, None).await.unwrap();
        (enough && !series.is_empty()).then_some(series)
    })
    .await;
    let labels = &live[0].labels;
    for (name, value) in [
        ("job", "agent"),
        ("service", "cakes"),
        ("instance_id", "cakes-1"),
        ("role", "bench"),
        ("node", "here"),
        ("job_id", "1"),
    ] {
        assert_eq!(labels[name], value, "label {name}");
    }
    let targets = client.targets().await.unwrap();
    assert_eq!(targets.len(), 1);
    assert_eq!(
        (targets[0].health.as_str(), targets[0].last_error.as_str()),
        ("up", "")
    );

    let now = jiff::Timestamp::now();
    let range = Range {
        start: now - Duration::from_mins(1),
        end: now,
        step: Duration::from_millis(500),
    };
    let before = client.range(query, range).await.unwrap();
    assert!(
        before[0]
            .points
            .iter()
            .all(|Point { value, .. }| (*value - 42.0).abs() < 1e-9)
    );

    let name = client.snapshot(Duration::from_secs(30)).await.unwrap();
    let archive = folder.path().join("metrics").join(snapshot::ARCHIVE);
    snapshot::pack(&options.data.join("snapshots").join(name), &archive).unwrap();
    prometheus.stop(Duration::from_secs(10)).await;
    assert!(!client.is_ready().await, "Prometheus has ended");

    check_archive(&binary, &archive, range, &before, true).await;
    // the same from the data folder itself, as it is packed when Prometheus died
    snapshot::pack(&options.data, &archive).unwrap();
    check_archive(&binary, &archive, range, &before, false).await;
}

async fn check_archive(
    binary: &Binary,
    archive: &Path,
    range: Range,
    before: &[Series],
    whole: bool,
) {
    let parent = tempfile::tempdir().unwrap();
    let port = choose_port(HOST, PortChoice::Auto, PORTS).unwrap();
    let served = Served::start(archive, parent.path(), binary, port)
        .await
        .unwrap();
    let (first, last) = served.span.expect("a span");
    assert!(first <= last && last <= jiff::Timestamp::now());
    assert!(range.end.duration_since(first).as_secs() < 120, "{first}");
    let again = served
        .client()
        .range("aif_test_cakes_total", range)
        .await
        .unwrap();
    if whole {
        assert_eq!(again, before);
    } else {
        assert_eq!(again[0].labels, before[0].labels);
        assert!(again[0].points.len() >= before[0].points.len());
    }
    served.stop().await;
    assert_eq!(
        std::fs::read_dir(parent.path()).unwrap().count(),
        0,
        "no trace"
    );
}
