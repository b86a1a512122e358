//! Real Prometheus: what we write is what it reads, and what it has measured outlives it.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests are not recognised as tests"
)]

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use aif::{
    api::client::Access,
    env::Env,
    exit::Exit,
    files::{self, Durability},
    prometheus::{
        archive::Served,
        config::{self, Scraping},
        process::{Binary, Options, Prometheus, choose_port},
        query::{Point, Range, Series},
        snapshot,
        targets::{Source, Targets},
    },
    recipe::{MonitorPlan, PortChoice, Resources, Target},
    registry::{Kind, Publication, Record, State, Store},
    role::{self, Context},
    run::{RecipeEntry, RunDir, StepFile},
    shutdown::{Cause, Shutdown},
    site::Site,
    telemetry::{
        agent::{Agent, Upstream},
        host,
    },
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

fn program(name: &str) -> PathBuf {
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

/// A stack's surroundings: registry, run, and a server of the run that has an engine.
struct Stack {
    context: Context,
    local: tempfile::TempDir,
    _root: tempfile::TempDir,
    server: Publication,
    bench: Publication,
}

impl Stack {
    async fn start(env: Env) -> Self {
        let (root, local) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = Store::open(&root.path().join("registry")).unwrap();
        let run = RunDir::create(root.path(), "vllm-local-1").unwrap();
        let shutdown = Shutdown::new();
        let key = store.scrape_key().unwrap();

        let (engine, _) = start_agent().await;
        let mut metrics = Registry::default();
        host::register(&mut metrics, &env);
        let agent = Agent {
            key: key.clone(),
            metrics,
            instance: Box::new(|| serde_json::Value::Null),
            engine: Some(Upstream {
                url: format!("{engine}/metrics"),
                access: Access::Bearer(KEY.to_owned()),
            }),
            scrapes: Arc::default(),
        };
        let listener = TcpListener::bind((HOST, 0)).await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        Arc::new(agent).serve(listener, &shutdown);
        let mut record = Record::new(Kind::Server, "vllm", "vllm-server", None, Some(&run.id));
        record.state = State::Ready;
        record.ports = vec![8000];
        record.endpoints.agent = Some(base.clone());
        record.endpoints.metrics = Some(format!("{base}/engine/metrics"));
        let server = Publication::publish(&store, record.clone(), &shutdown).unwrap();
        record = Record::new(Kind::Bench, "vllm", "vllm-bench", None, Some(&run.id));
        record.state = State::Ready;
        let bench = Publication::publish(&store, record, &shutdown).unwrap();
        Self {
            context: Context {
                env,
                site: Site {
                    local_dir: Some(local.path().to_owned()),
                    ..Site::default()
                },
                job: None,
                home: root.path().to_owned(),
                store,
                run,
                in_stack: true,
                shutdown,
            },
            local,
            _root: root,
            server,
            bench,
        }
    }

    fn config() -> role::monitor::Config {
        role::monitor::Config {
            plan: MonitorPlan {
                name: "vllm-monitor".to_owned(),
                service_name: "vllm".to_owned(),
                targets: vec![Target {
                    name: "vllm-llm".to_owned(),
                    port: 8000,
                    metrics_path: "/metrics".to_owned(),
                }],
                enabled: true,
                image: Some("docker://prom/prometheus:latest".to_owned()),
                scrape_interval: Some(Duration::from_millis(500)),
                retention: Duration::from_hours(24),
                port: PortChoice::Auto,
                resources: Resources::default(),
            },
            entry: RecipeEntry {
                kind: "monitor".to_owned(),
                path: String::new(),
                text: String::new(),
                overrides: Vec::new(),
                plan: serde_json::Value::Null,
            },
        }
    }

    /// Runs the monitor; what it gave is had from the handle.
    fn monitor(&self) -> tokio::task::JoinHandle<anyhow::Result<Exit>> {
        let context = self.context.clone();
        self.context
            .shutdown
            .tasks
            .spawn(async move { role::monitor::run(Self::config(), &context).await })
    }

    fn records(&self) -> Vec<Record> {
        let mut records = self.context.store.records();
        records.retain(|record| record.kind == Kind::Monitor);
        records
    }

    async fn ready(&self) -> (Record, aif::prometheus::query::Client) {
        let record = eventually("a ready monitor", async || {
            self.records().into_iter().find(|r| r.state == State::Ready)
        })
        .await;
        let password = files::read_text(Path::new(record.auth.key_file.as_ref().unwrap())).unwrap();
        let client = aif::prometheus::query::Client::new(
            record.endpoints.api.as_ref().unwrap(),
            Access::Basic(config::USER.to_owned(), password),
        );
        (record, client)
    }

    /// Nothing of the monitor is left: no record, no data, no process.
    fn assert_no_trace(&self) {
        assert!(self.records().is_empty());
        assert_eq!(std::fs::read_dir(self.local.path()).unwrap().count(), 0);
        assert!(prometheus_of(self.local.path()).is_none());
    }

    fn archive(&self) -> PathBuf {
        self.context.run.metrics().join(snapshot::ARCHIVE)
    }

    fn step(&self) -> StepFile {
        files::read_json(&self.context.run.step("monitor")).unwrap()
    }
}

/// The process id of the Prometheus whose data is below this folder.
fn prometheus_of(folder: &Path) -> Option<i32> {
    let mark = folder.display().to_string();
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| *pid != i32::try_from(std::process::id()).unwrap())
        .find(|pid| {
            std::fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| String::from_utf8_lossy(&line).contains(&mark))
        })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_is_watched_and_archived_when_it_is_released() {
    let stack = Stack::start(Env::of_process()).await;
    let running = stack.monitor();
    let (record, client) = stack.ready().await;
    assert_eq!(record.service_name, "vllm");

    let jobs = eventually("engine and agents are up", async || {
        let up = client.instant("up == 1", None).await.unwrap();
        let jobs: BTreeMap<String, String> = up
            .into_iter()
            .map(|series| {
                let label = |name: &str| series.labels[name].clone();
                (
                    format!("{} {}", label("role"), label("job")),
                    label("instance_id"),
                )
            })
            .collect();
        (jobs.len() == 3).then_some(jobs)
    })
    .await;
    assert_eq!(jobs["server vllm-llm"], stack.server.record().instance_id);
    assert!(jobs.contains_key("server agent"));
    assert_eq!(jobs["monitor agent"], record.instance_id);
    eventually("the engine's series", async || {
        let cakes = client.instant("aif_test_cakes_total", None).await.unwrap();
        cakes.first().map(|series| series.points[0].value)
    })
    .await;
    eventually("the monitor's own series", async || {
        let up = client
            .instant("aif_monitor_targets{health=\"up\"} >= 3", None)
            .await
            .unwrap();
        up.first().map(|_| ())
    })
    .await;

    stack.context.shutdown.tell(Cause::Released);
    assert_eq!(running.await.unwrap().unwrap(), Exit::Done);
    assert!(stack.archive().exists());
    stack.assert_no_trace();
    let step = stack.step();
    assert!(step.ready_at.is_some());
    assert!(step.facts["archive_bytes"].as_u64().unwrap() > 0);
    assert!(
        step.facts["prometheus_version"]
            .as_str()
            .unwrap()
            .contains('.')
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_monitor_waits_for_the_bench_but_not_for_ever() {
    let env = Env::of_process().with("AIF_GRACE_SECONDS", "60");
    let stack = Stack::start(env).await;
    let running = stack.monitor();
    stack.ready().await;
    let told = tokio::time::Instant::now();
    stack.context.shutdown.tell(Cause::Terminated);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!running.is_finished(), "the bench still measures");
    stack
        .bench
        .update(|record| record.state = State::Done)
        .unwrap();
    assert_eq!(running.await.unwrap().unwrap(), Exit::Done);
    assert!(
        told.elapsed() < Duration::from_secs(20),
        "{:?}",
        told.elapsed()
    );
    assert!(stack.archive().exists());
    stack.assert_no_trace();
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_is_started_again_once_and_its_data_outlives_it() {
    use nix::{
        sys::signal::{Signal, kill},
        unistd::Pid,
    };
    let stack = Stack::start(Env::of_process()).await;
    let running = stack.monitor();
    let (_, client) = stack.ready().await;
    let killed = async |other_than: Option<i32>| {
        let pid = eventually("Prometheus runs", async || {
            prometheus_of(stack.local.path()).filter(|pid| Some(*pid) != other_than)
        })
        .await;
        eventually("Prometheus answers", async || {
            client.is_ready().await.then_some(())
        })
        .await;
        eventually("a scrape", async || {
            let up = client.instant("aif_test_cakes_total", None).await.ok()?;
            up.first().map(|_| ())
        })
        .await;
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        pid
    };
    let first = killed(None).await;
    killed(Some(first)).await;
    let error = running.await.unwrap().unwrap_err();
    assert_eq!(Exit::of(&error), Exit::Unavailable);
    assert!(
        format!("{error:#}").starts_with("Prometheus was lost: Prometheus ended (signal 9)"),
        "{error:#}"
    );
    stack.assert_no_trace();

    let parent = tempfile::tempdir().unwrap();
    let binary = Binary::Program(program("prometheus"));
    let port = choose_port(HOST, PortChoice::Auto, PORTS).unwrap();
    let served = Served::start(&stack.archive(), parent.path(), &binary, port)
        .await
        .unwrap();
    let (_, last) = served.span.unwrap();
    let series = served
        .client()
        .instant("aif_test_cakes_total", Some(last))
        .await
        .unwrap();
    assert!((series[0].points[0].value - 42.0).abs() < 1e-9);
    served.stop().await;
}

#[tokio::test]
async fn without_prometheus_the_sentence_says_how_to_get_it() {
    let stack = Stack::start(Env::of_process().with("PATH", "/nowhere")).await;
    let error = stack.monitor().await.unwrap().unwrap_err();
    assert_eq!(Exit::of(&error), Exit::Unavailable);
    assert!(
        format!("{error:#}").contains("put `prometheus` on the PATH"),
        "{error:#}"
    );
    stack.assert_no_trace();
}
