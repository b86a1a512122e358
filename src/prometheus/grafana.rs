//! Grafana: where it is found, and how it is started so that it is the user's alone and asks nobody outside.
//!
//! It is an image run by Apptainer where one is named, else `grafana` on the `PATH`. All settings go by the environment
//! (`GF_<SECTION>_<KEY>`, which wins over files), the password among them: arguments are for everybody to read. It listens on
//! the loopback of its node, nobody gets in without the password, and it neither looks for news, updates and plugins nor tells
//! how it is used: nodes have no way out, and would wait for it in vain.
//!
//! Looked up in Grafana's own sources and documentation: the settings in `conf/defaults.ini` and *Configure Grafana* (versions
//! 10 to 13), the command and the folder of the image in `packaging/docker/{run.sh,Dockerfile}`, `GET /api/health` in *Other HTTP
//! API*. So a Grafana of version 10 or later is wanted. None was at hand: it was started as a double only.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;

use super::config::USER;
use crate::{
    api::client::{self, Access},
    apptainer::command,
    env::Env,
    site::Site,
};

/// Its folder in the image, and where packages put it.
const HOME: &str = "/usr/share/grafana";
/// An answer from memory has this long.
const LIMIT: Duration = Duration::from_secs(2);

/// Why it cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No program.
    #[error(
        "Grafana is not there: put `grafana` on the PATH, or name an image in the recipe's grafana.image"
    )]
    Missing,
    /// No image.
    #[error(
        "no image {path}: pull it on a login node (`apptainer pull {path} docker://grafana/grafana:VERSION`), or correct grafana.image", path = .0.display()
    )]
    Image(PathBuf),
    /// An image, and nothing to run it with.
    #[error("neither apptainer nor singularity is on the PATH to run {}", .0.display())]
    Apptainer(PathBuf),
}

/// The command line of its server, for which this folder is to be seen in a container.
pub fn argv(
    env: &Env,
    site: &Site,
    image: Option<&Path>,
    folder: &Path,
) -> Result<Vec<String>, Error> {
    let Some(image) = image else {
        let program = env.find_program("grafana").ok_or(Error::Missing)?;
        return Ok(server(&program.display().to_string(), &home_of(&program)));
    };
    if !image.is_file() {
        return Err(Error::Image(image.to_owned()));
    }
    let folder = folder.display().to_string();
    let mut arguments: Vec<String> = ["exec", "--pid", "--bind", &folder, "--pwd", &folder]
        .map(str::to_owned)
        .to_vec();
    arguments.push(image.display().to_string());
    arguments.extend(server("grafana", Path::new(HOME)));
    command::argv(env, site, &arguments).ok_or_else(|| Error::Apptainer(image.to_owned()))
}

fn server(program: &str, home: &Path) -> Vec<String> {
    let home = format!("--homepath={}", home.display());
    vec![program.to_owned(), "server".to_owned(), home]
}

/// The folder that a program belongs to: that of an unpacked release (`bin/grafana`), else that of packages.
fn home_of(program: &Path) -> PathBuf {
    let real = program
        .canonicalize()
        .unwrap_or_else(|_| program.to_owned());
    let release = real.parent().and_then(Path::parent);
    release
        .filter(|home| home.join("conf/defaults.ini").is_file())
        .map_or_else(|| HOME.into(), Path::to_owned)
}

/// All that it is told.
#[derive(Debug)]
pub struct Settings<'a> {
    /// Its own folder, of which it makes all that it needs.
    pub folder: &'a Path,
    /// The provisioning.
    pub provisioning: &'a Path,
    /// Its port.
    pub port: u16,
    /// Password of the user `aif`, who may do all.
    pub password: &'a str,
    /// What it signs and encrypts with; by default one that everybody knows.
    pub secret: &'a str,
}

impl Settings<'_> {
    /// The environment, also for a container.
    pub fn environment(&self) -> BTreeMap<String, String> {
        let path = |name: &str| self.folder.join(name).display().to_string();
        let settings = [
            ("PATHS_DATA", path("data")),
            ("PATHS_LOGS", path("logs")),
            ("PATHS_PLUGINS", path("plugins")),
            (
                "PATHS_PROVISIONING",
                self.provisioning.display().to_string(),
            ),
            ("DATABASE_TYPE", "sqlite3".to_owned()),
            ("LOG_MODE", "console".to_owned()),
            ("SERVER_PROTOCOL", "http".to_owned()),
            ("SERVER_HTTP_ADDR", "127.0.0.1".to_owned()),
            ("SERVER_HTTP_PORT", self.port.to_string()),
            ("SECURITY_ADMIN_USER", USER.to_owned()),
            ("SECURITY_ADMIN_PASSWORD", self.password.to_owned()),
            ("SECURITY_SECRET_KEY", self.secret.to_owned()),
        ];
        let off = [
            "AUTH_ANONYMOUS_ENABLED",
            "AUTH_DISABLE_LOGIN_FORM",
            "AUTH_PROXY_ENABLED",
            "USERS_ALLOW_SIGN_UP",
            "ANALYTICS_REPORTING_ENABLED",
            "ANALYTICS_CHECK_FOR_UPDATES",
            "ANALYTICS_CHECK_FOR_PLUGIN_UPDATES",
            "ANALYTICS_FEEDBACK_LINKS_ENABLED",
            "NEWS_NEWS_FEED_ENABLED",
            "SNAPSHOTS_EXTERNAL_ENABLED",
        ];
        let on = ["SECURITY_DISABLE_GRAVATAR", "PLUGINS_PREINSTALL_DISABLED"];
        let off = off.into_iter().map(|name| (name, "false".to_owned()));
        let on = on.into_iter().map(|name| (name, "true".to_owned()));
        let all = settings.into_iter().chain(off).chain(on);
        command::environment(
            &all.map(|(name, value)| (format!("GF_{name}"), value))
                .collect(),
        )
    }
}

#[derive(Deserialize)]
struct Health {
    database: String,
    version: Option<String>,
}

/// Its version, when it is ready; `None` until then.
pub async fn ready(base: &str) -> Option<String> {
    let answer = client::get(&format!("{base}/api/health"), &Access::Open, LIMIT)
        .await
        .ok()?;
    let health: Health = answer.json().ok().filter(|_| answer.status.is_success())?;
    (health.database == "ok").then(|| health.version.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::{self, Durability};

    fn program(path: &Path) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        files::write_atomic(path, b"#!/bin/sh\n", 0o755, Durability::Fast).unwrap();
    }

    #[test]
    fn an_image_is_run_by_apptainer_and_sees_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let bin = folder.path().join("bin");
        let env = Env::default().with("PATH", &bin.display().to_string());
        let image = folder.path().join("g.sif");
        let find = || argv(&env, &Site::default(), Some(&image), Path::new("/local/g"));
        assert!(find().unwrap_err().to_string().contains("apptainer pull"));
        program(&image);
        assert!(matches!(find().unwrap_err(), Error::Apptainer(_)));
        program(&bin.join("apptainer"));
        let shown = find()
            .unwrap()
            .join(" ")
            .replace(&folder.path().display().to_string(), "");
        assert_eq!(
            shown,
            "/bin/apptainer exec --pid --bind /local/g --pwd /local/g /g.sif grafana server --homepath=/usr/share/grafana"
        );
    }

    #[test]
    fn a_program_is_told_the_folder_that_it_belongs_to() {
        let folder = tempfile::tempdir().unwrap();
        let bin = folder.path().join("grafana-12/bin");
        let env = Env::default().with("PATH", &bin.display().to_string());
        let find = || argv(&env, &Site::default(), None, Path::new("/local/g"));
        assert!(matches!(find().unwrap_err(), Error::Missing));
        program(&bin.join("grafana"));
        assert_eq!(find().unwrap()[2], "--homepath=/usr/share/grafana");
        program(&folder.path().join("grafana-12/conf/defaults.ini"));
        assert!(find().unwrap()[2].ends_with("/grafana-12"));
    }

    #[test]
    fn nobody_gets_in_without_the_password_and_nobody_outside_is_asked() {
        let settings = Settings {
            folder: Path::new("/local/g"),
            provisioning: Path::new("/local/g/provisioning"),
            port: 20400,
            password: "open sesame",
            secret: "s",
        };
        let all = settings.environment();
        for (name, value) in [
            ("GF_SERVER_HTTP_ADDR", "127.0.0.1"),
            ("GF_AUTH_ANONYMOUS_ENABLED", "false"),
            ("GF_SECURITY_ADMIN_PASSWORD", "open sesame"),
            ("APPTAINERENV_GF_SERVER_HTTP_PORT", "20400"),
            ("GF_PLUGINS_PREINSTALL_DISABLED", "true"),
            ("GF_ANALYTICS_CHECK_FOR_UPDATES", "false"),
        ] {
            assert_eq!(all[name], value, "{name}");
        }
    }
}
