//! What a monitor saw of alerts stands in its run: an engine that answers no more, a server that is gone, a quiet run.

use std::time::Duration;

use aif::{
    api::client::Access,
    env::Env,
    exit::Exit,
    files,
    prometheus::{
        config::USER,
        episodes::{Alerts, Episode, FILE},
        query::{Client, Range, Series},
    },
    recipe::{AlertKind, AlertsPlan, OwnAlert},
    shutdown::Cause,
};

use jiff::Timestamp;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::{HOST, archive::open, eventually, role::Stack};

/// Ours, of which a target that is down is told after a second.
fn impatient() -> AlertsPlan {
    let mut plan = AlertsPlan::default();
    for setting in &mut plan.ours {
        if setting.alert == AlertKind::TargetDown {
            setting.hold = Duration::from_secs(1);
        }
    }
    plan
}

fn kept(stack: &Stack) -> Alerts {
    files::read_json(&stack.context.run.metrics().join(FILE)).unwrap()
}

async fn all_up(client: &Client, count: usize) {
    eventually("engine and agents are up", async || {
        let up = client.instant("up == 1", None).await.unwrap();
        (up.len() == count).then_some(())
    })
    .await;
}

async fn fires(client: &Client, alert: &str) {
    let query = format!("ALERTS{{alertname=\"{alert}\", alertstate=\"firing\"}}");
    eventually(alert, async || {
        let firing = client.instant(&query, None).await.unwrap();
        firing.first().map(|_| ())
    })
    .await;
}

fn named<'a>(alerts: &'a Alerts, name: &str) -> Vec<&'a Episode> {
    alerts
        .episodes
        .iter()
        .filter(|episode| episode.alert == name)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_answers_no_more_and_a_server_that_is_gone_are_kept_in_the_run() {
    let stack = Stack::start(Env::of_process()).await;
    let running = stack.monitor_for(impatient());
    let (_, client) = stack.ready().await;
    all_up(&client, 3).await;
    stack.engine.stop.cancel();
    fires(&client, "TargetDown").await;
    // the file is there while the run goes on
    eventually("the alert in the run", async || {
        let path = stack.context.run.metrics().join(FILE);
        let alerts: Alerts = files::read_json(&path).ok()?;
        named(&alerts, "TargetDown").first().map(|_| ())
    })
    .await;
    stack.agent.stop.cancel();
    fires(&client, "EngineLost").await;
    let live = answers(&client, None).await;
    stack.context.shutdown.tell(Cause::Released);
    assert_eq!(running.await.unwrap().unwrap(), Exit::Done);
    stack.assert_no_trace();

    let alerts = kept(&stack);
    assert_eq!(alerts.problem, None);
    assert_eq!(alerts.rules.len(), AlertKind::ALL.len());
    // of what is not here nothing could be judged
    for (alert, had) in [
        ("TargetDown", true),
        ("EngineLost", true),
        ("EngineNotReady", false),
        ("GpuHot", false),
        ("OutOfMemory", false),
        ("WalltimeNearlyOver", false),
    ] {
        let rule = alerts.rules.iter().find(|rule| rule.alert == alert);
        let rule = rule.unwrap_or_else(|| panic!("no {alert}: {:?}", alerts.rules));
        assert_eq!(rule.had_data, Some(had), "{rule:?}");
    }
    let down = named(&alerts, "TargetDown");
    let engine = down
        .iter()
        .find(|episode| episode.labels["job"] == "vllm-llm")
        .unwrap();
    assert_eq!(
        engine.labels["instance_id"],
        stack.server.record().instance_id
    );
    assert_eq!(engine.severity, "critical");
    assert!(engine.summary.starts_with("A target cannot be scraped"));
    let fired = engine.fired_at.unwrap();
    assert!(fired >= engine.since && engine.ended_at.is_none());
    let lost = named(&alerts, "EngineLost");
    assert_eq!(lost.len(), 1, "{lost:?}");
    assert!(lost[0].fired_at.is_some());
    // the archive says the same
    let archived = stack
        .export(&[
            "--query",
            "max_over_time(ALERTS{alertname=\"EngineLost\"}[1h])",
        ])
        .await;
    assert!(archived.contains("EngineLost,firing"), "{archived}");
    // and so does what `aif open` serves, to every question, over the same range
    let (mut child, link, password) = open(&stack.context.run, &stack.context.home);
    let base = link.split("/graph").next().unwrap();
    let opened = Client::new(base, Access::Basic(USER.to_owned(), password));
    let again = answers(&opened, Some(live.0)).await;
    let pid = i32::try_from(child.id()).unwrap();
    kill(Pid::from_raw(pid), Signal::SIGINT).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(again, live);
}

/// What a Prometheus answers to some questions over the half minute before this time, or, where none is given, until a
/// second ago.
async fn answers(client: &Client, end: Option<Timestamp>) -> (Timestamp, Vec<Vec<Series>>) {
    let end = end.unwrap_or_else(|| Timestamp::now() - Duration::from_secs(1));
    let range = Range {
        start: end - Duration::from_secs(30),
        end,
        step: Duration::from_millis(500),
    };
    let mut all = Vec::new();
    for query in [
        "up",
        "ALERTS",
        "aif_test_cakes_total",
        "rate(aif_node_cpu_seconds_total{mode=\"user\"}[5s])",
        "sum by (job) (up)",
    ] {
        let series = client.range(query, range).await.unwrap();
        assert!(!series.is_empty(), "{query}");
        all.push(series);
        let mut series = client.instant(query, Some(end)).await.unwrap();
        series.sort_by(|a, b| a.labels.cmp(&b.labels));
        all.push(series);
    }
    (end, all)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_run_says_what_was_watched_for_and_that_nothing_came() {
    let stack = Stack::start(Env::of_process()).await;
    let mut plan = impatient();
    plan.own.push(OwnAlert {
        alert: "Never".to_owned(),
        expr: "up > 1".to_owned(),
        hold: Duration::ZERO,
        severity: "info".to_owned(),
        summary: "it cannot be".to_owned(),
    });
    let running = stack.monitor_for(plan);
    let (_, client) = stack.ready().await;
    all_up(&client, 3).await;
    stack.context.shutdown.tell(Cause::Released);
    assert_eq!(running.await.unwrap().unwrap(), Exit::Done);
    let alerts = kept(&stack);
    assert_eq!(alerts.episodes, []);
    assert!(alerts.until.is_some() && alerts.problem.is_none());
    let own = alerts.rules.last().unwrap();
    assert_eq!(
        (own.alert.as_str(), own.severity.as_str()),
        ("Never", "info")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_is_no_promql_is_named_before_anything_starts() {
    let stack = Stack::start(Env::of_process()).await;
    let mut plan = AlertsPlan::default();
    plan.own.push(OwnAlert {
        alert: "Mine".to_owned(),
        expr: "rate(up)".to_owned(),
        hold: Duration::ZERO,
        severity: "warning".to_owned(),
        summary: String::new(),
    });
    let error = stack.monitor_for(plan).await.unwrap().unwrap_err();
    assert_eq!(Exit::of(&error), Exit::Recipe);
    assert_eq!(
        error.to_string(),
        "alerts.rules of the recipe cannot be read by Prometheus: \"Mine\": could not parse expression: 1:6: parse \
         error: expected type range vector in call to function \"rate\", got instant vector"
    );
    stack.assert_no_trace();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alertmanager_is_told_where_the_recipe_names_one() {
    let stack = Stack::start(Env::of_process()).await;
    let listener = TcpListener::bind((HOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut plan = AlertsPlan {
        alertmanager: Some(format!("http://{address}/am")),
        ..AlertsPlan::default()
    };
    plan.own.push(OwnAlert {
        alert: "Always".to_owned(),
        expr: "vector(1)".to_owned(),
        // Prometheus takes 5 s to find its Alertmanagers, and tells again only after a minute
        hold: Duration::from_secs(8),
        severity: "info".to_owned(),
        summary: "it is so".to_owned(),
    });
    let running = stack.monitor_for(plan);
    let (mut stream, _) = tokio::time::timeout(Duration::from_mins(1), listener.accept())
        .await
        .unwrap()
        .unwrap();
    let mut told = String::new();
    let mut buffer = [0; 4096];
    while !told.contains("it is so") {
        let read = stream.read(&mut buffer).await.unwrap();
        assert!(read > 0, "{told}");
        told.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    assert!(told.starts_with("POST /am/api/v"), "{told}");
    assert!(told.contains("\"alertname\":\"Always\""), "{told}");
    stream
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        .await
        .unwrap();
    stack.context.shutdown.tell(Cause::Released);
    assert_eq!(running.await.unwrap().unwrap(), Exit::Done);
}
