//! Monitor recipes.

use std::time::Duration;

use super::{port, resources, text, whole};
use crate::recipe::{
    GrafanaPlan, MonitorPlan, PortChoice, Resources, Target, fault::Findings, load::Node,
};

const KEPT: Duration = Duration::from_hours(24);

pub(super) fn plan(root: &Node, findings: &mut Findings) -> Option<MonitorPlan> {
    let prometheus = |key: &str| root.find("prometheus").and_then(|node| node.get(key));
    let outer = resources(root, "orchestration.resources");
    let inner = resources(root, "prometheus.resources");
    Some(MonitorPlan {
        name: text(root, "name")?,
        service_name: text(root, "service_name")?,
        targets: root
            .get("targets")
            .map(Node::items)
            .unwrap_or_default()
            .iter()
            .filter_map(target)
            .collect(),
        enabled: prometheus("enabled")
            .and_then(Node::as_bool)
            .unwrap_or(true),
        image: text(root, "prometheus.image"),
        source: text(root, "prometheus.source"),
        scrape_interval: prometheus("scrape_interval").and_then(Node::as_duration),
        retention: prometheus("retention_time")
            .and_then(Node::as_duration)
            .unwrap_or(KEPT),
        port: prometheus("port")
            .and_then(port)
            .unwrap_or(PortChoice::Auto),
        allow_shared_tsdb: prometheus("allow_shared_tsdb")
            .and_then(Node::as_bool)
            .unwrap_or(false),
        alerts: super::alerts::plan(root, findings),
        grafana: root.get("grafana").and_then(grafana),
        resources: Resources {
            partition: text(root, "prometheus.partition")
                .or(inner.partition)
                .or(outer.partition),
            cpu_cores: inner.cpu_cores.or(outer.cpu_cores),
            memory_gb: inner.memory_gb.or(outer.memory_gb),
            gpu_count: inner.gpu_count.max(outer.gpu_count),
            time_limit: inner.time_limit.or(outer.time_limit),
            nodes: None,
        },
    })
}

/// `true` is the program on the `PATH`; a mapping is meant unless it says that it is switched off.
fn grafana(node: &Node) -> Option<GrafanaPlan> {
    let is_map = node.as_bool().is_none() && !node.is_null();
    let switch = if is_map {
        node.get("enabled").and_then(Node::as_bool)
    } else {
        node.as_bool()
    };
    switch.unwrap_or(is_map).then(|| GrafanaPlan {
        image: text(node, "image"),
        port: node.get("port").and_then(port).unwrap_or(PortChoice::Auto),
    })
}

fn target(node: &Node) -> Option<Target> {
    Some(Target {
        name: text(node, "name")?,
        port: whole(node, "port")?,
        metrics_path: text(node, "metrics_path").unwrap_or_else(|| "/metrics".to_owned()),
    })
}
