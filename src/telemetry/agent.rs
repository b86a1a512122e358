//! The agent: the small HTTP listener of a role.
//!
//! | path | answers |
//! |---|---|
//! | `/metrics` | the role's own metrics, OpenMetrics or classic text, or protobuf |
//! | `/instance` | the role's record as it stands |
//! | `/engine/metrics` | of a server: its engine's metrics, served again |
//!
//! Every path wants the bearer of `scrape.key`.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::net::TcpListener;

use crate::{api::client::Access, shutdown::Shutdown};

/// An engine's metrics, to be served again.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// Their URL.
    pub url: String,
    /// How one gets in.
    pub access: Access,
}

/// What an agent serves.
pub struct Agent {
    /// The bearer.
    pub key: String,
    /// The role's metrics.
    pub metrics: prometheus_client::registry::Registry,
    /// The role's record as it stands.
    pub instance: Box<dyn Fn() -> serde_json::Value + Send + Sync>,
    /// The engine's metrics.
    pub engine: Option<Upstream>,
    /// How often `/metrics` was answered.
    pub scrapes: Arc<AtomicU64>,
}

impl Agent {
    /// How often `/metrics` was answered.
    pub fn scrapes(&self) -> u64 {
        self.scrapes.load(Ordering::Relaxed)
    }

    /// Serves on this listener until `shutdown.stop`, on its tracker.
    pub fn serve(self: Arc<Self>, _listener: TcpListener, _shutdown: &Shutdown) {
        todo!()
    }
}
