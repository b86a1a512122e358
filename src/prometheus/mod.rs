//! Prometheus as a child of ours: its configuration, its targets, its process, its HTTP API, its archive.
//!
//! [`config`], [`targets`], [`alerts`] and [`rules`] are pure: they turn facts into the files that Prometheus reads. [`folder`] is where its
//! data may lie, [`process`] finds and runs the program, [`query`] asks it, [`snapshot`] packs and unpacks its data,
//! [`archive`] serves a packed one again, [`export`] turns answers into JSON and CSV, [`charts`] are what a report asks,
//! [`timeline`] the answers, [`dashboards`] the same questions for a Grafana, which finds them and this Prometheus by [`provisioning`] when
//! [`grafana`] starts it.
//!
//! Everything keeps to what Prometheus 2.42 to 3 have in common.

pub mod alerts;
pub mod archive;
pub mod charts;
pub mod config;
pub mod dashboards;
pub mod episodes;
pub mod export;
pub mod folder;
pub mod grafana;
pub mod judged;
pub mod process;
pub mod provisioning;
pub mod query;
pub mod renamed;
pub mod rules;
mod settled;
pub mod snapshot;
pub mod targets;
pub mod timeline;
