//! The files by which a Grafana finds this Prometheus and these dashboards when it starts.
//!
//! ```text
//! DIR/provisioning/datasources/aif.yaml     the data source: URL, user, password
//! DIR/provisioning/dashboards/aif.yaml      where the dashboards are
//! DIR/dashboards/aif-vllm.json              … -llamacpp, -bench, -node
//! ```
//!
//! Format: Grafana's documentation *Provision Grafana* (looked up as of versions 10 to 13.3), `apiVersion: 1`. There `$NAME` in a
//! value is a variable of the environment and `$$` a dollar. Others read what lies in a shared folder, and the data source holds a
//! password: its file is 0600. What can fail: a file that cannot be written.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Serialize;

use super::{
    config,
    dashboards::{DATASOURCE, Dashboard, Shown},
};
use crate::{
    files::{self, Durability},
    units::prometheus_duration,
};

/// Grafana looks again whether dashboards have changed.
const LOOK_SECONDS: u32 = 30;

/// Why the files are not there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// One could not be written.
    #[error(transparent)]
    Files(#[from] files::Error),
    /// The YAML writer refused.
    #[error("cannot write Grafana's provisioning")]
    Yaml(#[from] serde_yaml::Error),
    /// The folder has no absolute path.
    #[error("cannot tell the path of {}", path.display())]
    Path {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// The Prometheus that is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Base URL, as the Grafana reaches it.
    pub url: String,
    /// The password of the user `aif`, or another user; `None` where nobody is asked.
    pub login: Option<(String, String)>,
    /// Interval of scrapes; 15 s by Grafana's own default.
    pub interval: Option<Duration>,
}

impl Source {
    /// One of ours, which wants this password.
    pub fn own(url: String, password: String, interval: Option<Duration>) -> Self {
        Self {
            url,
            login: Some((config::USER.to_owned(), password)),
            interval,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Sources {
    api_version: u32,
    datasources: [DataSource; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DataSource {
    name: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    uid: &'static str,
    access: &'static str,
    url: String,
    is_default: bool,
    editable: bool,
    basic_auth: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    basic_auth_user: Option<String>,
    json_data: JsonData,
    #[serde(skip_serializing_if = "Option::is_none")]
    secure_json_data: Option<SecureJsonData>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JsonData {
    http_method: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_interval: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SecureJsonData {
    basic_auth_password: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Providers {
    api_version: u32,
    providers: [Provider; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Provider {
    name: &'static str,
    folder: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    update_interval_seconds: u32,
    allow_ui_updates: bool,
    options: Options,
}

#[derive(Serialize)]
struct Options {
    path: PathBuf,
}

/// Writes all of them below a folder, which is made where it is not there. Gives the path of the provisioning: what
/// `GF_PATHS_PROVISIONING` is to be.
pub fn write(
    folder: &Path,
    source: &Source,
    boards: &[Dashboard],
    shown: Shown,
) -> Result<PathBuf, Error> {
    files::create_folder(folder, 0o700)?;
    let folder = std::path::absolute(folder).map_err(|source| Error::Path {
        path: folder.to_owned(),
        source,
    })?;
    let dashboards = folder.join("dashboards");
    let provisioning = folder.join("provisioning");
    for folder in [
        &dashboards,
        &provisioning,
        &provisioning.join("datasources"),
        &provisioning.join("dashboards"),
    ] {
        files::create_folder(folder, 0o700)?;
    }
    for board in boards {
        let path = dashboards.join(format!("{}.json", board.uid));
        files::write_json(&path, &board.json(shown))?;
    }
    let put = |kind: &str, text: String| {
        let path = provisioning.join(kind).join("aif.yaml");
        files::write_atomic(&path, text.as_bytes(), 0o600, Durability::Fast)
    };
    put("datasources", datasource(source)?)?;
    put("dashboards", provider(&dashboards)?)?;
    Ok(provisioning)
}

fn datasource(source: &Source) -> Result<String, serde_yaml::Error> {
    // a dollar would be a variable
    let plain = |text: &str| text.replace('$', "$$");
    let login = source.login.as_ref();
    serde_yaml::to_string(&Sources {
        api_version: 1,
        datasources: [DataSource {
            name: "aif",
            kind: "prometheus",
            uid: DATASOURCE,
            access: "proxy",
            url: plain(&source.url),
            is_default: true,
            editable: false,
            basic_auth: login.is_some(),
            basic_auth_user: login.map(|(user, _)| plain(user)),
            json_data: JsonData {
                http_method: "POST",
                time_interval: source.interval.map(prometheus_duration),
            },
            secure_json_data: login.map(|(_, password)| SecureJsonData {
                basic_auth_password: plain(password),
            }),
        }],
    })
}

fn provider(dashboards: &Path) -> Result<String, serde_yaml::Error> {
    serde_yaml::to_string(&Providers {
        api_version: 1,
        providers: [Provider {
            name: "aif",
            folder: "aif",
            kind: "file",
            update_interval_seconds: LOOK_SECONDS,
            allow_ui_updates: false,
            options: Options {
                path: dashboards.to_owned(),
            },
        }],
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_data_source_says_where_and_how() {
        let source = Source::own(
            "http://node1:9090".to_owned(),
            "a$b".to_owned(),
            Some(Duration::from_secs(2)),
        );
        insta::assert_snapshot!(datasource(&source).unwrap(), @r"
        apiVersion: 1
        datasources:
        - name: aif
          type: prometheus
          uid: aif-prometheus
          access: proxy
          url: http://node1:9090
          isDefault: true
          editable: false
          basicAuth: true
          basicAuthUser: aif
          jsonData:
            httpMethod: POST
            timeInterval: 2s
          secureJsonData:
            basicAuthPassword: a$$b
        ");
        let open = Source {
            url: "http://p".to_owned(),
            login: None,
            interval: None,
        };
        let text = datasource(&open).unwrap();
        assert!(
            text.contains("basicAuth: false") && !text.contains("Password"),
            "{text}"
        );
    }

    #[test]
    fn dashboards_are_found_by_an_absolute_path() {
        insta::assert_snapshot!(provider(Path::new("/home/a b/dashboards")).unwrap(), @r"
        apiVersion: 1
        providers:
        - name: aif
          folder: aif
          type: file
          updateIntervalSeconds: 30
          allowUiUpdates: false
          options:
            path: /home/a b/dashboards
        ");
    }

    #[test]
    fn the_password_is_for_nobody_else() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("grafana");
        let source = Source::own("http://p".to_owned(), "secret".to_owned(), None);
        let board = Dashboard {
            uid: "aif-x".to_owned(),
            title: "X".to_owned(),
            panels: Vec::new(),
        };
        write(&folder, &source, &[board], Shown::Live).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder), 0o700);
        assert_eq!(
            mode(&folder.join("provisioning/datasources/aif.yaml")),
            0o600
        );
        assert!(folder.join("dashboards/aif-x.json").is_file());
    }
}
