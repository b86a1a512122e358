//! Targets: what Prometheus scrapes, as `file_sd` reads it.
//!
//! Pure: sources (what the registry knows of live instances) and the targets that the recipe names become two files.
//! Those of the first are ours and want the bearer; those of the second are not (an exporter beside the engine, a static
//! service) and must never be given it.
//!
//! Labels are `service`, `instance_id`, `role`, `node`, `job_id`, and Prometheus's own `job`: `agent` for the metrics of
//! our roles, `engine` (or the name that the recipe gives) for those of an engine. The order is fixed, so that the file
//! changes only when the targets do.

use std::{collections::BTreeMap, path::Path};

use hyper::Uri;
use serde::{Deserialize, Serialize};

use crate::{
    files::{self, Durability},
    recipe::Target,
};

/// A live instance, as far as scraping goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Source {
    /// `server`, `rank`, `bench`, `monitor` …
    pub role: String,
    /// The service.
    pub service: String,
    /// The instance.
    pub instance_id: String,
    /// The node.
    pub node: String,
    /// The job.
    pub job_id: String,
    /// Address that other nodes reach.
    pub address: String,
    /// Ports; the first is the API's.
    pub ports: Vec<u16>,
    /// URL of its metrics: a server's engine, through its agent.
    pub metrics: Option<String>,
    /// Base URL of its agent; `None` where it is not ours.
    pub agent: Option<String>,
}

/// Targets that share their labels: an entry of a `file_sd` file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Group {
    /// `host:port`, one.
    pub targets: Vec<String>,
    /// Labels, and those that tell scheme and path.
    pub labels: BTreeMap<String, String>,
}

impl Group {
    /// The URL that Prometheus will ask.
    pub fn url(&self) -> String {
        let label = |name: &str, default: &'static str| {
            self.labels
                .get(name)
                .map_or(default, String::as_str)
                .to_owned()
        };
        format!(
            "{}://{}{}",
            label("__scheme__", "http"),
            self.targets.first().map_or("", String::as_str),
            label("__metrics_path__", "/metrics")
        )
    }
}

/// The targets of both files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Targets {
    /// Those that want our bearer.
    pub own: Vec<Group>,
    /// Those that want none.
    pub open: Vec<Group>,
}

impl Targets {
    /// What is to be scraped of these instances.
    pub fn of(sources: &[Source], named: &[Target]) -> Self {
        let mut targets = Self::default();
        for source in sources {
            let agent_metrics = source
                .agent
                .as_ref()
                .map(|agent| format!("{}/metrics", agent.trim_end_matches('/')));
            let ours = agent_metrics.is_some();
            if let Some(url) = &agent_metrics {
                targets.own.extend(group(source, "agent", url));
            }
            let engine = source
                .metrics
                .as_ref()
                .filter(|url| Some(*url) != agent_metrics.as_ref());
            let serves = matches!(source.role.as_str(), "server" | "static");
            let named: &[Target] = if serves { named } else { &[] };
            let meant = named
                .iter()
                .position(|target| means_engine(target, named, source));
            if let Some(url) = engine {
                let name = meant.map_or("engine", |index| named[index].name.as_str());
                let place = if ours {
                    &mut targets.own
                } else {
                    &mut targets.open
                };
                place.extend(group(source, name, url));
            }
            for (index, target) in named.iter().enumerate() {
                if engine.is_some() && meant == Some(index) {
                    continue;
                }
                let url = format!(
                    "http://{}{}",
                    authority(&source.address, target.port),
                    target.metrics_path
                );
                targets.open.extend(group(source, &target.name, &url));
            }
        }
        for groups in [&mut targets.own, &mut targets.open] {
            groups.sort();
            groups.dedup();
        }
        targets
    }

    /// Writes both files, whole, so that Prometheus never reads half of one.
    pub fn write(&self, own: &Path, open: &Path) -> Result<(), files::Error> {
        for (path, groups) in [(own, &self.own), (open, &self.open)] {
            let text = serde_json::to_vec_pretty(groups)
                .map_err(|error| files::Error::new("encode", path, error.into()))?;
            files::write_atomic(path, &text, 0o600, Durability::Fast)?;
        }
        Ok(())
    }
}

/// Does the recipe mean the engine's API port by this target?
///
/// It does when it names the port. An engine that listens elsewhere than declared (`ports: [auto]`, a busy port) is
/// meant when there is nothing else that the only target could mean.
fn means_engine(target: &Target, named: &[Target], source: &Source) -> bool {
    match source.ports.as_slice() {
        [api, ..] if *api == target.port => true,
        [_] => named.len() == 1,
        _ => false,
    }
}

/// `host:port`, with the brackets that an IPv6 address needs.
fn authority(address: &str, port: u16) -> String {
    if address.contains(':') && !address.starts_with('[') {
        format!("[{address}]:{port}")
    } else {
        format!("{address}:{port}")
    }
}

/// One target; `None` where its URL is none.
fn group(source: &Source, job: &str, url: &str) -> Option<Group> {
    let uri: Uri = url.parse().ok()?;
    let host = uri.host()?;
    let scheme = uri.scheme_str()?;
    let port = uri
        .port_u16()
        .unwrap_or(if scheme == "https" { 443 } else { 80 });
    let mut labels: BTreeMap<String, String> = [
        ("job", job),
        ("service", &source.service),
        ("instance_id", &source.instance_id),
        ("role", &source.role),
        ("node", &source.node),
        ("job_id", &source.job_id),
        ("__metrics_path__", uri.path()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect();
    if scheme != "http" {
        labels.insert("__scheme__".to_owned(), scheme.to_owned());
    }
    Some(Group {
        targets: vec![authority(host, port)],
        labels,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> Source {
        Source {
            role: "server".to_owned(),
            service: "vllm".to_owned(),
            instance_id: "vllm-7-0".to_owned(),
            node: "n1".to_owned(),
            job_id: "7".to_owned(),
            address: "n1".to_owned(),
            ports: vec![8000],
            metrics: Some("http://n1:21000/engine/metrics".to_owned()),
            agent: Some("http://n1:21000".to_owned()),
        }
    }

    fn named(name: &str, port: u16) -> Target {
        Target {
            name: name.to_owned(),
            port,
            metrics_path: "/metrics".to_owned(),
        }
    }

    fn seen(groups: &[Group]) -> Vec<String> {
        groups
            .iter()
            .map(|group| format!("{} {}", group.labels["job"], group.url()))
            .collect()
    }

    #[test]
    fn a_server_has_its_agent_and_its_engine() {
        let targets = Targets::of(&[server()], &[]);
        assert_eq!(
            serde_json::to_value(&targets.own).unwrap(),
            serde_json::json!([
                {"targets": ["n1:21000"], "labels": {
                    "__metrics_path__": "/engine/metrics", "instance_id": "vllm-7-0", "job": "engine", "job_id": "7",
                    "node": "n1", "role": "server", "service": "vllm"}},
                {"targets": ["n1:21000"], "labels": {
                    "__metrics_path__": "/metrics", "instance_id": "vllm-7-0", "job": "agent", "job_id": "7",
                    "node": "n1", "role": "server", "service": "vllm"}},
            ])
        );
        assert!(targets.open.is_empty());
    }

    #[test]
    fn names_of_the_recipe_are_put_on_what_they_mean() {
        // targets of the recipe, ports of the engine → name of the engine's target, targets without our bearer
        type Case<'a> = (&'a [Target], &'a [u16], &'a str, &'a [&'a str]);
        let agent = "agent http://n1:21000/metrics";
        let cases: [Case<'_>; 4] = [
            // the port is the API's
            (&[named("llm", 8000)], &[8000], "llm", &[]),
            // the only target, and the engine listens elsewhere
            (&[named("llm", 8000)], &[23456], "llm", &[]),
            // an exporter beside the engine
            (
                &[named("llm", 8000), named("dcgm", 9400)],
                &[8000],
                "llm",
                &["dcgm http://n1:9400/metrics"],
            ),
            // nothing tells which one is the engine
            (
                &[named("a", 1), named("b", 2)],
                &[8000],
                "engine",
                &["a http://n1:1/metrics", "b http://n1:2/metrics"],
            ),
        ];
        for (named, ports, engine, open) in cases {
            let source = Source {
                ports: ports.to_vec(),
                ..server()
            };
            let targets = Targets::of(&[source], named);
            let engine = format!("{engine} http://n1:21000/engine/metrics");
            assert_eq!(seen(&targets.own), [engine.as_str(), agent], "{named:?}");
            assert_eq!(seen(&targets.open), open, "{named:?}");
        }
    }

    #[test]
    fn other_roles_have_their_agent_only() {
        let bench = Source {
            role: "bench".to_owned(),
            ports: Vec::new(),
            metrics: Some("http://n1:21000/metrics".to_owned()),
            ..server()
        };
        let targets = Targets::of(&[bench], &[named("llm", 8000)]);
        assert_eq!(seen(&targets.own), ["agent http://n1:21000/metrics"]);
        assert!(targets.open.is_empty());
    }

    #[test]
    fn a_service_that_is_not_ours_is_never_given_the_bearer() {
        let foreign = Source {
            role: "static".to_owned(),
            agent: None,
            metrics: Some("https://api.example/metrics".to_owned()),
            ..server()
        };
        let targets = Targets::of(&[foreign], &[]);
        assert!(targets.own.is_empty());
        assert_eq!(
            seen(&targets.open),
            ["engine https://api.example:443/metrics"]
        );
    }

    #[test]
    fn an_address_of_ipv6_keeps_its_brackets() {
        let source = Source {
            agent: Some("http://[fd00::1]:21000".to_owned()),
            metrics: None,
            address: "fd00::1".to_owned(),
            ..server()
        };
        let targets = Targets::of(&[source], &[named("x", 9)]);
        assert_eq!(seen(&targets.own), ["agent http://[fd00::1]:21000/metrics"]);
        assert_eq!(seen(&targets.open), ["x http://[fd00::1]:9/metrics"]);
    }

    #[test]
    fn rubbish_is_passed_over() {
        let source = Source {
            agent: Some("not a url".to_owned()),
            metrics: Some(String::new()),
            ..server()
        };
        assert_eq!(Targets::of(&[source], &[]), Targets::default());
    }
}
