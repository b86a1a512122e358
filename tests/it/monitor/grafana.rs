//! What is written for a Grafana: Prometheus takes every question, and the files lead to it. And how one is run beside a monitor:
//! a double, for the real one cannot be had here.

use std::{fmt::Write as _, path::Path, process::Command, time::Duration};

use aif::{
    api::client::{self, Access},
    engine,
    env::Env,
    exit::Exit,
    files,
    prometheus::{dashboards::WINDOW, query::Client},
    recipe::{GrafanaPlan, PortChoice},
    registry::{Kind, Record, State},
    shutdown::Cause,
};

use super::{eventually, program, role::Stack};

/// The value of the only line that starts so.
fn told(text: &str, key: &str) -> String {
    let lines = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix(key));
    let values: Vec<&str> = lines.map(str::trim).collect();
    assert_eq!(values.len(), 1, "{key} in {text}");
    values[0].to_owned()
}

#[test]
fn promtool_takes_every_question_of_every_dashboard() {
    let mut rules = "groups:\n- name: g\n  rules:\n".to_owned();
    let boards = engine::dashboards();
    let lines = boards.iter().flat_map(|board| &board.panels);
    let lines: Vec<_> = lines.flat_map(|panel| &panel.lines).collect();
    assert!(lines.len() > 60, "{}", lines.len());
    for (number, line) in lines.iter().enumerate() {
        let query = serde_json::to_string(&line.query.replace(WINDOW, "1m")).unwrap();
        let _ = writeln!(rules, "  - record: r{number}\n    expr: {query}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rules.yml");
    files::write_atomic(&path, rules.as_bytes(), 0o600, files::Durability::Fast).unwrap();
    let checked = Command::new(program("promtool"))
        .args(["check", "rules"])
        .arg(&path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(
        checked.status.success() && said.contains(&format!("{} rules found", lines.len())),
        "{said} {}",
        String::from_utf8_lossy(&checked.stderr)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_of_a_run_that_goes_on_lead_to_its_prometheus() {
    let stack = Stack::start(Env::of_process()).await;
    let running = stack.monitor();
    stack.ready().await;
    let folder = stack.context.home.join("grafana");
    let words = ["--grafana", folder.to_str().unwrap()];
    assert_eq!(stack.exports(&words).await.unwrap(), Exit::Done);

    let source = files::read_text(&folder.join("provisioning/datasources/aif.yaml")).unwrap();
    assert_eq!(told(&source, "timeInterval:"), "500ms");
    let login = (
        told(&source, "basicAuthUser:"),
        told(&source, "basicAuthPassword:"),
    );
    let client = Client::new(&told(&source, "url:"), Access::Basic(login.0, login.1));
    eventually("an answer to who has the files", async || {
        let up = client.instant("up", None).await.unwrap();
        (!up.is_empty()).then_some(())
    })
    .await;
    let found = files::read_text(&folder.join("provisioning/dashboards/aif.yaml")).unwrap();
    let dashboards = told(&found, "path:");
    for name in ["aif-vllm", "aif-llamacpp", "aif-bench", "aif-node"] {
        let path = Path::new(&dashboards).join(format!("{name}.json"));
        let board: serde_json::Value = files::read_json(&path).unwrap();
        assert_eq!(board["uid"], name);
        assert!(board["panels"].as_array().unwrap().len() > 5, "{name}");
    }

    stack.context.shutdown.tell(Cause::Released);
    assert_eq!(running.await.unwrap().unwrap(), Exit::Done);
    let error = stack.exports(&words).await.unwrap_err();
    assert_eq!(Exit::of(&error), Exit::Unavailable);
    assert!(format!("{error:#}").contains("`aif open"), "{error:#}");
}

/// The environment in which the double is the `grafana` on the `PATH`.
fn with_double() -> Env {
    with_path(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/grafana"))
}

fn with_path(folder: &Path) -> Env {
    let env = Env::of_process();
    let path = format!("{}:{}", folder.display(), env.get("PATH").unwrap());
    env.with("PATH", &path)
}

fn plan(image: Option<&str>) -> GrafanaPlan {
    GrafanaPlan {
        image: image.map(str::to_owned),
        port: PortChoice::Auto,
    }
}

fn grafana_of(stack: &Stack) -> Option<Record> {
    let records = stack.context.store.records();
    records
        .into_iter()
        .find(|record| record.kind == Kind::Grafana)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grafana_beside_the_monitor_shows_its_prometheus_to_who_has_the_password() {
    let stack = Stack::start(with_double()).await;
    let running = stack.monitor_with(plan(None));
    stack.ready().await;
    let record = eventually("a ready Grafana", async || {
        grafana_of(&stack).filter(|record| record.state == State::Ready)
    })
    .await;
    assert_eq!(record.service_name, "vllm");
    let url = record.endpoints.api.clone().unwrap();
    assert!(url.starts_with("http://127.0.0.1:"), "{url}");
    let limit = Duration::from_secs(5);
    let stranger = client::get(&format!("{url}/"), &Access::Open, limit).await;
    assert_eq!(stranger.unwrap().status, 401);
    let password = files::read_text(Path::new(&record.auth.key_file.unwrap())).unwrap();
    let access = Access::Basic("aif".to_owned(), password.clone());
    let seen = client::get(&format!("{url}/"), &access, limit)
        .await
        .unwrap();
    assert_eq!(
        seen.json::<serde_json::Value>().unwrap(),
        serde_json::json!({"dashboards": ["aif-bench", "aif-llamacpp", "aif-node", "aif-vllm"], "prometheus": "success"})
    );
    // others can read arguments
    let arguments = std::fs::read_dir("/proc").unwrap().flatten();
    let arguments = arguments.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    assert!(
        arguments
            .into_iter()
            .all(|line| !String::from_utf8_lossy(&line).contains(&password))
    );

    stack.context.shutdown.tell(Cause::Released);
    assert_eq!(running.await.unwrap().unwrap(), Exit::Done);
    stack.assert_no_trace();
    assert!(
        client::get(&url, &Access::Open, limit).await.is_err(),
        "it has ended"
    );
    let step = stack.step();
    assert_eq!(step.facts["grafana_version"], "0.0.0-double");
    assert!(!step.facts.contains_key("degraded"), "{:?}", step.facts);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_monitor_whose_grafana_fails_goes_on_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let dies = b"#!/bin/sh\necho 'the database is locked' >&2\nexit 1\n";
    let path = folder.path().join("grafana");
    files::write_atomic(&path, dies, 0o755, files::Durability::Fast).unwrap();
    let cases = [
        (Env::of_process(), plan(None), "put `grafana` on the PATH"),
        (
            Env::of_process(),
            plan(Some("nowhere/g.sif")),
            "nowhere/g.sif: pull it on a login node",
        ),
        (
            with_path(folder.path()),
            plan(None),
            "it ended by itself (exit code 1)\n  the database is locked",
        ),
    ];
    for (env, plan, wanted) in cases {
        let stack = Stack::start(env).await;
        let running = stack.monitor_with(plan);
        let (_, client) = stack.ready().await;
        let said = eventually("a word about it", async || {
            let step = stack.step();
            Some(step.facts.get("degraded")?.as_str()?.to_owned())
        })
        .await;
        assert!(
            said.starts_with("degraded: there is no Grafana: "),
            "{said}"
        );
        assert!(said.contains(wanted), "{said}");
        assert!(client.is_ready().await);
        assert!(grafana_of(&stack).is_none());
        stack.context.shutdown.tell(Cause::Released);
        assert_eq!(running.await.unwrap().unwrap(), Exit::Done, "{said}");
        stack.assert_no_trace();
    }
}
