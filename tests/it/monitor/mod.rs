//! Real Prometheus: what we write is what it reads, and what it has measured outlives it.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests are not recognised as tests"
)]

mod alarms;
mod alerts;
mod archive;
mod export;
mod figures;
mod grafana;
mod role;

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use aif::{
    env::Env,
    prometheus::{archive::Local, folder::Sharing},
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

/// A place for the copy of an archive.
fn local(parent: &Path) -> Local<'_> {
    Local {
        parent,
        sharing: Sharing::Refused,
    }
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
