//! The files that Prometheus reads at its start: `prometheus.yml` and the web configuration.
//!
//! They are serialised from structs, never filled into a template: a service's name cannot break the YAML, and a key
//! that does not exist cannot be written. Where values come from the user (names, paths) they are data.
//!
//! Targets come by `file_sd`: the monitor renews one file. The file is on the monitor's own node, but the refresh is
//! short all the same, for a folder that sends no inotify events must not stall discovery for the default 5 minutes.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Serialize;

use crate::units::prometheus_duration;

/// The user of the web interface and the API.
pub const USER: &str = "aif";
/// How often the target files are read again even without an event.
const REFRESH: Duration = Duration::from_secs(2);
/// Prometheus's own default; a shorter interval shortens it.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(10);
/// The password is a random key that nobody can guess, so a slow hash would only make each request slow.
const BCRYPT_COST: u32 = 5;

/// Why a configuration could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The YAML writer refused.
    #[error("cannot write Prometheus's configuration")]
    Yaml(#[from] serde_yaml::Error),
    /// The password could not be hashed.
    #[error("cannot hash the password of Prometheus")]
    Hash(#[from] bcrypt::BcryptError),
}

/// What Prometheus is to scrape, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scraping {
    /// Interval of scrapes.
    pub interval: Duration,
    /// File with the targets that want the bearer.
    pub own_targets: PathBuf,
    /// File with the targets that want none: they are not ours, and must not be given our key.
    pub open_targets: PathBuf,
    /// File that holds the bearer.
    pub key_file: PathBuf,
    /// File with the rules.
    pub rules: PathBuf,
    /// `host:port` or URL of an Alertmanager that is told.
    pub alertmanager: Option<String>,
}

#[derive(Serialize)]
struct Config<'a> {
    global: Global,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule_files: Option<[&'a Path; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alerting: Option<Alerting<'a>>,
    scrape_configs: Vec<ScrapeConfig<'a>>,
}

#[derive(Serialize)]
struct Global {
    scrape_interval: String,
    scrape_timeout: String,
    evaluation_interval: String,
}

#[derive(Serialize)]
struct Alerting<'a> {
    alertmanagers: [Alertmanager<'a>; 1],
}

#[derive(Serialize)]
struct Alertmanager<'a> {
    scheme: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    path_prefix: &'a str,
    static_configs: [Static<'a>; 1],
}

#[derive(Serialize)]
struct Static<'a> {
    targets: [&'a str; 1],
}

/// An Alertmanager at `host:port`, or at a URL.
fn alerting(address: &str) -> Alerting<'_> {
    let (scheme, rest) = address.split_once("://").unwrap_or(("http", address));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    Alerting {
        alertmanagers: [Alertmanager {
            scheme,
            path_prefix: path.trim_end_matches('/'),
            static_configs: [Static {
                targets: [authority],
            }],
        }],
    }
}

#[derive(Serialize)]
struct ScrapeConfig<'a> {
    job_name: &'static str,
    honor_labels: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    authorization: Option<Authorization<'a>>,
    file_sd_configs: [FileDiscovery<'a>; 1],
}

#[derive(Serialize)]
struct Authorization<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    credentials_file: &'a Path,
}

#[derive(Serialize)]
struct FileDiscovery<'a> {
    files: [&'a Path; 1],
    refresh_interval: String,
}

/// The text of `prometheus.yml`.
pub fn prometheus_yml(scraping: &Scraping) -> Result<String, Error> {
    let discovery = |file| {
        [FileDiscovery {
            files: [file],
            refresh_interval: prometheus_duration(REFRESH),
        }]
    };
    let interval = prometheus_duration(scraping.interval);
    Ok(serde_yaml::to_string(&Config {
        global: Global {
            scrape_interval: interval.clone(),
            scrape_timeout: prometheus_duration(scraping.interval.min(LONGEST_TIMEOUT)),
            evaluation_interval: interval,
        },
        rule_files: Some([scraping.rules.as_path()]),
        alerting: scraping.alertmanager.as_deref().map(alerting),
        scrape_configs: vec![
            ScrapeConfig {
                job_name: "aif",
                honor_labels: false,
                authorization: Some(Authorization {
                    kind: "Bearer",
                    credentials_file: &scraping.key_file,
                }),
                file_sd_configs: discovery(scraping.own_targets.as_path()),
            },
            ScrapeConfig {
                job_name: "open",
                honor_labels: false,
                authorization: None,
                file_sd_configs: discovery(scraping.open_targets.as_path()),
            },
        ],
    })?)
}

/// The text of a `prometheus.yml` that scrapes nothing: for an archive.
pub fn empty_yml() -> Result<String, Error> {
    Ok(serde_yaml::to_string(&Config {
        global: Global {
            scrape_interval: "1m".to_owned(),
            scrape_timeout: "10s".to_owned(),
            evaluation_interval: "1m".to_owned(),
        },
        rule_files: None,
        alerting: None,
        scrape_configs: Vec::new(),
    })?)
}

#[derive(Serialize)]
struct Web {
    basic_auth_users: BTreeMap<&'static str, String>,
}

/// The text of the web configuration: who may use interface and API.
pub fn web_yml(password: &str) -> Result<String, Error> {
    let hash = bcrypt::hash(password, BCRYPT_COST)?;
    Ok(serde_yaml::to_string(&Web {
        basic_auth_users: BTreeMap::from([(USER, hash)]),
    })?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_says_what_is_scraped_and_how() {
        let text = prometheus_yml(&Scraping {
            interval: Duration::from_secs(2),
            own_targets: "/local/targets.json".into(),
            open_targets: "/local/open.json".into(),
            key_file: "/home/a b/scrape.key".into(),
            rules: "/local/rules.yml".into(),
            alertmanager: Some("https://alerts.example:9093/am/".to_owned()),
        })
        .unwrap();
        insta::assert_snapshot!(text, @r"
        global:
          scrape_interval: 2s
          scrape_timeout: 2s
          evaluation_interval: 2s
        rule_files:
        - /local/rules.yml
        alerting:
          alertmanagers:
          - scheme: https
            path_prefix: /am
            static_configs:
            - targets:
              - alerts.example:9093
        scrape_configs:
        - job_name: aif
          honor_labels: false
          authorization:
            type: Bearer
            credentials_file: /home/a b/scrape.key
          file_sd_configs:
          - files:
            - /local/targets.json
            refresh_interval: 2s
        - job_name: open
          honor_labels: false
          file_sd_configs:
          - files:
            - /local/open.json
            refresh_interval: 2s
        ");
    }

    #[test]
    fn the_timeout_never_exceeds_the_interval() {
        for (interval, timeout) in [(500, "500ms"), (2000, "2s"), (60_000, "10s")] {
            let text = prometheus_yml(&Scraping {
                interval: Duration::from_millis(interval),
                own_targets: "a".into(),
                open_targets: "b".into(),
                key_file: "c".into(),
                rules: "d".into(),
                alertmanager: None,
            })
            .unwrap();
            assert!(
                text.contains(&format!("scrape_timeout: {timeout}\n")),
                "{text}"
            );
        }
    }

    #[test]
    fn the_password_is_only_hashed() {
        let text = web_yml("open sesame").unwrap();
        assert!(!text.contains("sesame"));
        assert!(
            text.starts_with("basic_auth_users:\n  aif: $2b$05$"),
            "{text}"
        );
    }
}
