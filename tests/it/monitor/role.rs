//! The role from its start to its end, in a registry and a run of its own.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use aif::{
    api::client::Access,
    command::{self, Shell},
    env::Env,
    exit::Exit,
    files,
    prometheus::{
        archive::Served,
        config,
        process::{Binary, choose_port},
        query::Client,
        snapshot,
    },
    recipe::{AlertsPlan, GrafanaPlan, MonitorPlan, PortChoice, Resources, Target},
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
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

use super::{HOST, KEY, PORTS, eventually, local, program, prometheus_of, start_agent};

/// A stack's surroundings: registry, run, and a server of the run that has an engine.
pub(super) struct Stack {
    pub(super) context: Context,
    pub(super) local: tempfile::TempDir,
    _root: tempfile::TempDir,
    pub(super) server: Publication,
    bench: Publication,
    /// Ends the engine.
    pub(super) engine: Shutdown,
    /// Ends the server's agent.
    pub(super) agent: Shutdown,
}

impl Stack {
    pub(super) async fn start(env: Env) -> Self {
        let (root, local) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = Store::open(&root.path().join("registry")).unwrap();
        let run = RunDir::create(root.path(), "vllm-local-1", "local").unwrap();
        let shutdown = Shutdown::new();
        let key = store.scrape_key().unwrap();

        let (engine, engine_shutdown) = start_agent().await;
        let mut metrics = Registry::default();
        host::register(&mut metrics, &env);
        let agent = Agent {
            key: key.clone(),
            metrics,
            instance: Box::new(|| serde_json::Value::Null),
            engine: Some(Box::new(move || {
                Some(Upstream {
                    url: format!("{engine}/metrics"),
                    access: Access::Bearer(KEY.to_owned()),
                    aliases: &[],
                })
            })),
            scrapes: Arc::default(),
        };
        let listener = TcpListener::bind((HOST, 0)).await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let agent_shutdown = Shutdown::new();
        Arc::new(agent).serve(listener, &agent_shutdown);
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
            engine: engine_shutdown,
            agent: agent_shutdown,
        }
    }

    fn config(alerts: AlertsPlan, grafana: Option<GrafanaPlan>) -> role::monitor::Config {
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
                source: None,
                scrape_interval: Some(Duration::from_millis(500)),
                retention: Duration::from_hours(24),
                port: PortChoice::Auto,
                allow_shared_tsdb: false,
                alerts,
                grafana,
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
    pub(super) fn monitor(&self) -> tokio::task::JoinHandle<anyhow::Result<Exit>> {
        self.monitor_for(AlertsPlan::default())
    }

    /// The same with these alerts.
    pub(super) fn monitor_for(
        &self,
        alerts: AlertsPlan,
    ) -> tokio::task::JoinHandle<anyhow::Result<Exit>> {
        self.spawn(Self::config(alerts, None))
    }

    /// The same with a Grafana.
    pub(super) fn monitor_with(
        &self,
        grafana: GrafanaPlan,
    ) -> tokio::task::JoinHandle<anyhow::Result<Exit>> {
        self.spawn(Self::config(AlertsPlan::default(), Some(grafana)))
    }

    fn spawn(
        &self,
        config: role::monitor::Config,
    ) -> tokio::task::JoinHandle<anyhow::Result<Exit>> {
        let context = self.context.clone();
        self.context
            .shutdown
            .tasks
            .spawn(async move { role::monitor::run(config, &context).await })
    }

    fn records(&self) -> Vec<Record> {
        let mut records = self.context.store.records();
        records.retain(|record| record.kind == Kind::Monitor);
        records
    }

    pub(super) async fn ready(&self) -> (Record, Client) {
        let record = eventually("a ready monitor", async || {
            self.records().into_iter().find(|r| r.state == State::Ready)
        })
        .await;
        let password = files::read_text(Path::new(record.auth.key_file.as_ref().unwrap())).unwrap();
        let client = Client::new(
            record.endpoints.api.as_ref().unwrap(),
            Access::Basic(config::USER.to_owned(), password),
        );
        (record, client)
    }

    /// Nothing of the monitor is left: no record, no data, no process.
    pub(super) fn assert_no_trace(&self) {
        assert!(!self.context.store.root().join("prometheus.json").exists());
        assert!(self.records().is_empty());
        let all = self.context.store.records();
        assert!(all.iter().all(|record| record.kind != Kind::Grafana));
        assert_eq!(std::fs::read_dir(self.local.path()).unwrap().count(), 0);
        assert!(prometheus_of(self.local.path()).is_none());
    }

    fn archive(&self) -> PathBuf {
        self.context.run.metrics().join(snapshot::ARCHIVE)
    }

    /// Runs `aif export` on the run; what it wrote.
    pub(super) async fn export(&self, more: &[&str]) -> String {
        let out = self.context.home.join("out.csv");
        let words = [&["--out", out.to_str().unwrap()], more].concat();
        assert_eq!(self.exports(&words).await.unwrap(), Exit::Done);
        files::read_text(&out).unwrap()
    }

    /// Runs `aif export` on the run with these words.
    pub(super) async fn exports(&self, words: &[&str]) -> anyhow::Result<Exit> {
        use clap::Parser as _;
        #[derive(Debug, clap::Parser)]
        struct Typed {
            #[command(flatten)]
            args: command::export::Args,
        }
        let run = self.context.run.path.display().to_string();
        let typed = Typed::parse_from(["export", &run].iter().chain(words));
        let shell = Shell {
            env: Env::of_process()
                .with(
                    "AIF_REGISTRY",
                    &self.context.store.root().display().to_string(),
                )
                .with("TMPDIR", &self.local.path().display().to_string()),
            home: self.context.home.clone(),
        };
        command::export::run(typed.args, &shell).await
    }

    pub(super) fn step(&self) -> StepFile {
        files::read_json(&self.context.run.step("monitor")).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_is_watched_and_archived_when_it_is_released() {
    let stack = Stack::start(Env::of_process()).await;
    let running = stack.monitor();
    let (record, client) = stack.ready().await;
    assert_eq!(record.service_name, "vllm");
    let listed = stack.context.store.root().join("prometheus.json");
    let found: Record = files::read_json(&listed).unwrap();
    assert_eq!(found.instance_id, record.instance_id);

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

    let live = stack.export(&["--query", "aif_test_cakes_total"]).await;
    let (header, row) = live.trim_end().split_once('\n').unwrap();
    assert_eq!(
        header,
        "time,metric,value,instance,instance_id,job,job_id,node,role,service"
    );
    assert!(row.contains(",aif_test_cakes_total,42,"), "{row}");

    stack.context.shutdown.tell(Cause::Released);
    assert_eq!(running.await.unwrap().unwrap(), Exit::Done);
    assert!(stack.archive().exists());
    stack.assert_no_trace();
    let archived = stack.export(&["--query", "aif_test_cakes_total"]).await;
    let values = |text: &str| {
        let row = text.lines().nth(1).unwrap().split_once(',').unwrap().1;
        row.to_owned()
    };
    assert_eq!(
        values(&archived),
        values(&live),
        "the archive says what Prometheus said"
    );
    let all = stack.export(&[]).await;
    for metric in [
        "up",
        "aif_test_cakes_total",
        "aif_node_load",
        "aif_monitor_targets",
    ] {
        assert!(
            all.contains(&format!(",{metric},")),
            "{metric} is not in the export"
        );
    }
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
    let served = Served::start(&stack.archive(), local(parent.path()), &binary, port)
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
