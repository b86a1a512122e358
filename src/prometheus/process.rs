//! The program: where it is found, how it is started, when it is ready, how it ends.
//!
//! It is an image run by Apptainer where the recipe names a file that is there, else `prometheus` on the `PATH`. It
//! leads a process group of its own, so that a signal to our group does not end it before its snapshot was taken, and
//! its exit is an event that the caller awaits.
//!
//! What can fail: it is not there, its port is taken, it exits before it is ready (a damaged database, a configuration
//! that it does not know). The error then carries the last lines of its log.

use std::{
    ffi::OsString,
    fmt,
    net::{IpAddr, TcpListener},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use nix::sys::signal::Signal;
use rand::Rng as _;
use tokio::process::{Child, Command};

use super::query::Client;
use crate::{
    api::client::Access, apptainer::command, env::Env, files, process::tree, recipe::PortChoice,
    site::Site,
};

/// Between two questions whether it is ready.
const PROBE_PAUSE: Duration = Duration::from_millis(100);
/// Ports that are tried before the range counts as full.
const DRAWS: u32 = 64;

/// Why there is no Prometheus.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither image nor program.
    #[error(
        "Prometheus is not there: put `prometheus` on the PATH (a module, or the release from prometheus.io), or name an image that exists in the recipe's prometheus.image"
    )]
    Missing,
    /// No port is free.
    #[error("no free port between {first} and {last} for Prometheus")]
    Ports {
        /// First of the range.
        first: u16,
        /// Last of the range.
        last: u16,
    },
    /// A file of it.
    #[error(transparent)]
    Files(#[from] files::Error),
    /// It could not be started.
    #[error("cannot start {program}")]
    Start {
        /// What was started.
        program: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It ended by itself.
    #[error("Prometheus ended ({}){}", described(*status), last_words(tail))]
    Exited {
        /// How.
        status: ExitStatus,
        /// Its last lines.
        tail: Vec<String>,
    },
    /// It runs but does not become ready.
    #[error("Prometheus is not ready after {limit:?}; its log is {}", log.display())]
    NotReady {
        /// Time that it had.
        limit: Duration,
        /// Its log.
        log: PathBuf,
    },
}

fn described(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "for no known reason".to_owned(),
    }
}

fn last_words(tail: &[String]) -> String {
    tail.iter()
        .fold(String::new(), |text, line| text + "\n  " + line)
}

/// Where Prometheus comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Binary {
    /// A program of the host.
    Program(PathBuf),
    /// An image, run by Apptainer.
    Image {
        /// The words that start Apptainer, with the modules that bring it.
        apptainer: Vec<String>,
        /// The image.
        image: PathBuf,
    },
}

impl fmt::Display for Binary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program(path) => write!(f, "{}", path.display()),
            Self::Image { image, .. } => write!(f, "image {}", image.display()),
        }
    }
}

impl Binary {
    /// The image of the recipe where it is a file and Apptainer is there, or comes by the site's modules; else the program on
    /// the `PATH`.
    pub fn find(env: &Env, site: &Site, image: Option<&Path>) -> Result<Self, Error> {
        let image = image.filter(|path| path.is_file());
        if let (Some(image), Some(apptainer)) = (image, command::argv(env, site, &[])) {
            return Ok(Self::Image {
                apptainer,
                image: image.to_owned(),
            });
        }
        env.find_program("prometheus")
            .map(Self::Program)
            .ok_or(Error::Missing)
    }

    /// The `promtool` that came with it, which sees the folder of this file; `None` where it came without one.
    pub fn promtool(&self, env: &Env, file: &Path) -> Option<Command> {
        match self {
            Self::Program(path) => {
                let beside = path.with_file_name("promtool");
                let program = if beside.is_file() {
                    beside
                } else {
                    env.find_program("promtool")?
                };
                Some(Command::new(program))
            }
            Self::Image { apptainer, image } => {
                let (first, words) = apptainer.split_first()?;
                let mut command = Command::new(first);
                command
                    .args(words)
                    .args(["exec", "--pid", "--bind"])
                    .arg(file.parent()?)
                    .arg(image)
                    .arg("promtool");
                Some(command)
            }
        }
    }

    /// Program and first arguments, with these paths visible in the container under their own names.
    fn command(&self, visible: &[PathBuf]) -> Vec<OsString> {
        match self {
            Self::Program(path) => vec![path.into()],
            Self::Image { apptainer, image } => {
                let mut command: Vec<OsString> = apptainer.iter().map(Into::into).collect();
                command.extend(["exec".into(), "--pid".into()]);
                for path in visible {
                    command.extend(["--bind".into(), path.into()]);
                }
                command.extend([image.into(), "prometheus".into()]);
                command
            }
        }
    }
}

/// How it is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// `prometheus.yml`.
    pub config: PathBuf,
    /// The web configuration; nobody is asked for a password where it is `None`.
    pub web: Option<PathBuf>,
    /// Folder of its data.
    pub data: PathBuf,
    /// Address that it listens on.
    pub host: IpAddr,
    /// Port that it listens on.
    pub port: u16,
    /// How long data is kept, in its own syntax.
    pub retention: String,
    /// How much data is kept, where that is limited.
    pub size: Option<&'static str>,
    /// Its log.
    pub log: PathBuf,
    /// Further paths that it must see.
    pub visible: Vec<PathBuf>,
    /// Our own binary, where it is to end Prometheus should we be killed. Under Slurm the end of the step does that.
    pub guard: Option<PathBuf>,
    /// How one gets in.
    pub access: Access,
}

impl Options {
    /// The arguments. No secret is among them: others on the node can read them.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            format!("--config.file={}", self.config.display()),
            format!("--storage.tsdb.path={}", self.data.display()),
            format!("--storage.tsdb.retention.time={}", self.retention),
            format!(
                "--web.listen-address={}",
                std::net::SocketAddr::new(self.host, self.port)
            ),
            "--web.enable-admin-api".to_owned(),
            "--web.enable-lifecycle".to_owned(),
        ];
        if let Some(web) = &self.web {
            arguments.push(format!("--web.config.file={}", web.display()));
        }
        if let Some(size) = self.size {
            arguments.push(format!("--storage.tsdb.retention.size={size}"));
        }
        arguments
    }
}

/// A port, and whether it is another than the one that was wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port {
    /// The port.
    pub number: u16,
    /// Was another one wanted, which is taken?
    pub fallback: bool,
}

/// The port that was wanted, else a free one of the range.
pub fn choose_port(host: IpAddr, wanted: PortChoice, range: (u16, u16)) -> Result<Port, Error> {
    let free = |port: u16| TcpListener::bind((host, port)).is_ok();
    let fallback = match wanted {
        PortChoice::Fixed(number) if free(number) => {
            return Ok(Port {
                number,
                fallback: false,
            });
        }
        PortChoice::Fixed(_) => true,
        PortChoice::Auto => false,
    };
    let (first, last) = range;
    // drawn, not counted up: many jobs on one node would otherwise run into each other
    (0..DRAWS)
        .map(|_| rand::rng().random_range(first..=last.max(first)))
        .find(|port| free(*port))
        .map(|number| Port { number, fallback })
        .ok_or(Error::Ports { first, last })
}

/// A Prometheus that runs. It is killed when it is dropped.
#[derive(Debug)]
pub struct Prometheus {
    child: Child,
    /// `None` once it has ended: then the number may be another's.
    pid: Option<u32>,
    /// Asks it.
    pub client: Client,
    log: PathBuf,
}

impl Prometheus {
    /// Starts it; it is not ready yet.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(binary: &Binary, options: &Options) -> Result<Self, Error> {
        let log = files::open_log(&options.log)?;
        let failed = |source| Error::Start {
            program: binary.to_string(),
            source,
        };
        let folder = options.config.parent().unwrap_or(Path::new("/"));
        let mut visible = vec![folder.to_owned()];
        visible.extend(options.visible.iter().cloned());
        let mut words: Vec<OsString> = Vec::new();
        if let Some(guard) = &options.guard {
            words.extend([guard.into(), "guard".into(), "--".into()]);
        }
        words.extend(binary.command(&visible));
        let child = Command::new(&words[0])
            .args(&words[1..])
            .args(options.arguments())
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let pid = child.id();
        let host = match options.host {
            host if !host.is_unspecified() => host,
            _ => IpAddr::from([127, 0, 0, 1]),
        };
        let address = std::net::SocketAddr::new(host, options.port);
        Ok(Self {
            child,
            pid,
            client: Client::new(&format!("http://{address}"), options.access.clone()),
            log: options.log.clone(),
        })
    }

    /// Waits until it is ready, or tells that it ended or that time is up.
    pub async fn ready(&mut self, limit: Duration) -> Result<(), Error> {
        let client = self.client.clone();
        let probe = async {
            while !client.is_ready().await {
                tokio::time::sleep(PROBE_PAUSE).await;
            }
        };
        let log = self.log.clone();
        tokio::select! {
            error = self.exited() => Err(error),
            answer = tokio::time::timeout(limit, probe) => {
                answer.map_err(|_| Error::NotReady { limit, log })
            }
        }
    }

    /// Waits until it ends by itself; that is an error. Can be dropped and called again.
    pub async fn exited(&mut self) -> Error {
        match self.child.wait().await {
            Ok(status) => {
                self.pid = None;
                Error::Exited {
                    status,
                    tail: files::tail(&self.log, 5),
                }
            }
            Err(source) => Error::Start {
                program: "Prometheus".to_owned(),
                source,
            },
        }
    }

    /// Ends it: TERM, and after the grace KILL.
    pub async fn stop(mut self, grace: Duration) {
        if let Some(pid) = self.pid {
            tree::send(pid, Signal::SIGTERM);
            if tokio::time::timeout(grace, self.child.wait()).await.is_ok() {
                self.pid = None;
            }
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // all that descends from it: behind Apptainer or the guard the child is not Prometheus itself
        if let Some(pid) = self.pid {
            tree::kill_all(&tree::family(pid));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options {
            config: "/local/prometheus.yml".into(),
            web: Some("/local/web.yml".into()),
            data: "/local/data".into(),
            host: IpAddr::from([0, 0, 0, 0]),
            port: 9090,
            retention: "24h".to_owned(),
            size: Some("512MB"),
            log: "/run/prometheus.log".into(),
            visible: vec!["/registry/scrape.key".into()],
            guard: None,
            access: Access::Open,
        }
    }

    #[test]
    fn arguments() {
        insta::assert_snapshot!(options().arguments().join("\n"), @r"
        --config.file=/local/prometheus.yml
        --storage.tsdb.path=/local/data
        --storage.tsdb.retention.time=24h
        --web.listen-address=0.0.0.0:9090
        --web.enable-admin-api
        --web.enable-lifecycle
        --web.config.file=/local/web.yml
        --storage.tsdb.retention.size=512MB
        ");
    }

    #[test]
    fn an_image_sees_what_it_must_read() {
        let binary = Binary::Image {
            apptainer: vec!["/bin/apptainer".to_owned()],
            image: "/images/p.sif".into(),
        };
        assert_eq!(
            binary.command(&["/local".into(), "/registry/scrape.key".into()]),
            [
                "/bin/apptainer",
                "exec",
                "--pid",
                "--bind",
                "/local",
                "--bind",
                "/registry/scrape.key",
                "/images/p.sif",
                "prometheus"
            ]
        );
    }

    #[test]
    fn an_image_that_is_not_there_gives_way_to_the_path() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let program = |name: &str| {
            let path = folder.path().join(name);
            std::fs::File::create(&path)
                .unwrap()
                .set_permissions(std::fs::Permissions::from_mode(0o755))
                .unwrap();
            path
        };
        let env = Env::default().with("PATH", &folder.path().display().to_string());
        let plain = Site::default();
        let nowhere = Some(Path::new("/nowhere/prometheus_latest.sif"));
        let missing = Binary::find(&env, &plain, nowhere).unwrap_err();
        assert!(
            missing
                .to_string()
                .starts_with("Prometheus is not there: put")
        );
        let prometheus = program("prometheus");
        let image = program("p.sif");
        let named = Some(image.as_path());
        assert_eq!(
            Binary::find(&env, &plain, named).unwrap(),
            Binary::Program(prometheus),
            "an image without Apptainer"
        );
        // where a module brings it, a shell loads that first
        let modules = Site {
            modules: vec!["Apptainer/1.3.6".to_owned()],
            ..Site::default()
        };
        let by_module = Binary::find(&env, &modules, named).unwrap();
        let words = by_module.command(&["/data".into()]);
        assert_eq!(words[0], "bash");
        let last: Vec<_> = words.iter().skip(words.len() - 7).collect();
        let sif = image.display().to_string();
        assert_eq!(
            last,
            [
                "apptainer",
                "exec",
                "--pid",
                "--bind",
                "/data",
                &sif,
                "prometheus"
            ]
        );
        let promtool = by_module
            .promtool(&env, Path::new("/data/rules.yml"))
            .unwrap();
        assert_eq!(promtool.as_std().get_program(), "bash");
        let apptainer = program("apptainer");
        assert_eq!(
            Binary::find(&env, &plain, named).unwrap(),
            Binary::Image {
                apptainer: vec![apptainer.display().to_string()],
                image: image.clone()
            }
        );
    }

    #[test]
    fn a_taken_port_gives_way_to_a_free_one() {
        let host = IpAddr::from([127, 0, 0, 1]);
        let holder = TcpListener::bind((host, 0)).unwrap();
        let taken = holder.local_addr().unwrap().port();
        let port = choose_port(host, PortChoice::Fixed(taken), (20000, 29999)).unwrap();
        assert!(port.fallback);
        assert_ne!(port.number, taken);
        assert!(
            !choose_port(host, PortChoice::Auto, (20000, 29999))
                .unwrap()
                .fallback
        );
        let error = choose_port(host, PortChoice::Auto, (taken, taken)).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("no free port between {taken} and {taken} for Prometheus")
        );
    }

    #[tokio::test]
    async fn an_early_exit_is_told_at_once_with_its_last_words() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("prometheus");
        let script = b"#!/bin/sh\necho 'it hurts' >&2\nexit 2\n";
        files::write_atomic(&path, script, 0o755, files::Durability::Fast).unwrap();
        assert!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o111 != 0);
        let options = Options {
            log: folder.path().join("log"),
            ..options()
        };
        let mut prometheus = Prometheus::start(&Binary::Program(path), &options).unwrap();
        let error = prometheus.ready(Duration::from_secs(30)).await.unwrap_err();
        insta::assert_snapshot!(error, @r"
        Prometheus ended (exit code 2)
          it hurts
        ");
    }
}
