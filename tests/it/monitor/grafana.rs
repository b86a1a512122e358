//! What is written for a Grafana: Prometheus takes every question, and the files lead to it.

use std::{fmt::Write as _, path::Path, process::Command};

use aif::{
    api::client::Access,
    engine,
    env::Env,
    exit::Exit,
    files,
    prometheus::{dashboards::WINDOW, query::Client},
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
