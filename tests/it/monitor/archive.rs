//! What we write is what Prometheus reads, and what it has measured outlives it.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use aif::{
    api::client::Access,
    files::{self, Durability},
    prometheus::{
        archive::Served,
        config::{self, Scraping},
        process::{Binary, Options, Prometheus, choose_port},
        query::{Client, Point, Range, Series},
        rules::rules_yml,
        snapshot,
        targets::{Source, Targets},
    },
    recipe::PortChoice,
    run::RunDir,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{HOST, KEY, PORTS, eventually, local, program, prometheus_of, start_agent};

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
        rules: put("rules.yml", &rules_yml(&[], &[]).unwrap()),
        alertmanager: None,
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
        guard: None,
        access: Access::Basic(config::USER.to_owned(), password.to_owned()),
    }
}

fn promtool(arguments: &[&str]) {
    let output = Command::new(program("promtool"))
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

    let strangers = Client::new(client.base(), Access::Open);
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
    let served = Served::start(archive, local(parent.path()), binary, port)
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

/// A run with an archive that holds a few scrapes.
async fn archived_run(root: &Path) -> RunDir {
    let run = RunDir::create(root, "cakes-local-1", "local").unwrap();
    let (agent, _shutdown) = start_agent().await;
    let folder = tempfile::tempdir().unwrap();
    let options = prepare(folder.path(), &agent, "let me in");
    let binary = Binary::Program(program("prometheus"));
    let mut prometheus = Prometheus::start(&binary, &options).unwrap();
    prometheus.ready(Duration::from_mins(1)).await.unwrap();
    eventually("a scrape", async || {
        let cakes = prometheus
            .client
            .instant("aif_test_cakes_total", None)
            .await
            .ok()?;
        cakes.first().map(|_| ())
    })
    .await;
    prometheus.stop(Duration::from_secs(10)).await;
    snapshot::pack(&options.data, &run.metrics().join(snapshot::ARCHIVE)).unwrap();
    run
}

/// Starts `aif open`; the link and the password that it printed.
pub(super) fn open(run: &RunDir, home: &Path) -> (Child, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_aif"))
        .args(["open", run.path.to_str().unwrap()])
        .env("HOME", home)
        .env("TMPDIR", home)
        .env("AIF_REGISTRY", home.join("registry"))
        .current_dir(home)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // to its last line: who writes into a pipe that nobody reads ends
    let mut words = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        words.push(line.split_whitespace().last().unwrap().to_owned());
        if line.starts_with("Ctrl-C") {
            break;
        }
    }
    let (link, password) = (words[0].clone(), words[1].clone());
    assert!(link.starts_with("http://127.0.0.1:"), "{link}");
    (child, link, password)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_opened_archive_answers_until_it_is_closed_and_leaves_no_trace() {
    let (root, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let run = archived_run(root.path()).await;
    let archive = run.metrics().join(snapshot::ARCHIVE);
    let before = std::fs::read(&archive).unwrap();

    let (mut child, link, password) = open(&run, home.path());
    let base = link.split("/graph").next().unwrap();
    let stranger = Client::new(base, Access::Open);
    let refused = stranger.instant("up", None).await.unwrap_err();
    assert!(refused.to_string().contains("401"), "{refused}");
    let client = Client::new(base, Access::Basic(config::USER.to_owned(), password));
    let ever = "last_over_time(aif_test_cakes_total[1d])";
    let series = client.instant(ever, None).await.unwrap();
    assert!((series[0].points[0].value - 42.0).abs() < 1e-9);
    let pid = i32::try_from(child.id()).unwrap();
    kill(Pid::from_raw(pid), Signal::SIGINT).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(prometheus_of(home.path()).is_none());
    let left = std::fs::read_dir(home.path()).unwrap().filter_map(|entry| {
        let name = entry.ok()?.file_name().into_string().ok()?;
        name.contains("archive").then_some(name)
    });
    assert_eq!(left.count(), 0, "no copy is left");
    assert_eq!(
        std::fs::read(&archive).unwrap(),
        before,
        "the archive stays as it was"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_does_not_survive_an_aif_that_was_killed() {
    let (root, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let run = archived_run(root.path()).await;
    let (mut child, _link, _password) = open(&run, home.path());
    assert!(prometheus_of(home.path()).is_some());
    child.kill().unwrap();
    child.wait().unwrap();
    eventually("Prometheus has ended", async || {
        prometheus_of(home.path()).is_none().then_some(())
    })
    .await;
}
