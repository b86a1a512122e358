//! A packed snapshot, served again: what `aif open` and `aif export` ask.
//!
//! Prometheus writes to its data even when it scrapes nothing, so it is given a copy: the archive stays as it was.
//! The copy lies on this machine's own disk and is removed at the end. Nothing is deleted for its age. Others on the
//! machine reach the port, so it wants a password that is made for the occasion.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use serde::Deserialize;

use super::{
    config,
    folder::{self, LocalFolder, Sharing},
    process::{self, Binary, Options, Port, Prometheus},
    query::Client,
    snapshot,
};
use crate::{
    api::client::Access,
    env::Env,
    exit::Exit,
    files::{self, Durability},
    process::guard,
    run::{Manifest, RunDir, StepFile},
    site::Site,
};

/// Long enough for any archive; Prometheus's own limit is 292 years.
const FOREVER: &str = "100y";
/// A large log takes its time to be replayed.
const READY_LIMIT: Duration = Duration::from_mins(2);
/// Nothing needs to be kept of the copy.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Why an archive cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be unpacked.
    #[error(transparent)]
    Archive(#[from] snapshot::Error),
    /// There is no place for the copy.
    #[error(transparent)]
    Folder(#[from] folder::Error),
    /// A file beside it.
    #[error(transparent)]
    Files(#[from] files::Error),
    /// The configuration.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// Prometheus does not run.
    #[error(transparent)]
    Process(#[from] process::Error),
    /// The task that unpacks died.
    #[error("unpacking was broken off")]
    Unpacking(#[from] tokio::task::JoinError),
    /// The run has none.
    #[error("run {run} has no archive of metrics: {} is not there", path.display())]
    None {
        /// The run.
        run: String,
        /// Where it would be.
        path: PathBuf,
    },
}

impl Error {
    /// The code that it ends a command with.
    pub fn exit(&self) -> Exit {
        match self {
            Self::None { .. } | Self::Archive(_) => Exit::NoInput,
            Self::Process(_) => Exit::Unavailable,
            Self::Folder(_) | Self::Files(_) => Exit::CannotCreate,
            Self::Config(_) | Self::Unpacking(_) => Exit::Bug,
        }
    }
}

/// The interval of scrapes of a run's monitor, as its step file tells it.
pub fn scrape_interval(run: &RunDir) -> Option<Duration> {
    let step = files::read_json::<StepFile>(&run.step("monitor")).ok()?;
    let seconds = step.facts.get("scrape_interval_seconds")?.as_f64()?;
    let interval = Duration::try_from_secs_f64(seconds).ok()?;
    Some(interval).filter(|interval| !interval.is_zero())
}

/// Where the copy of an archive is made.
#[derive(Debug, Clone, Copy)]
pub struct Local<'a> {
    /// The folder that it is made in.
    pub parent: &'a Path,
    /// May that be on a network file system?
    pub sharing: Sharing,
}

/// An archive that is served.
#[derive(Debug)]
pub struct Served {
    prometheus: Prometheus,
    /// The port on 127.0.0.1.
    pub port: u16,
    /// Was there a checksum beside the archive, which holds?
    pub checked: bool,
    /// The password of the user `aif`.
    pub password: String,
    /// First and last sample, as far as that can be told.
    pub span: Option<(Timestamp, Timestamp)>,
    // removed after Prometheus was killed: fields are dropped in this order
    _folder: LocalFolder,
}

impl Served {
    /// Serves the archive of a run, on a copy made in `local`, by the image that the run used where it is still there.
    pub async fn of_run(
        run: &RunDir,
        local: Local<'_>,
        (env, site): (&Env, &Site),
        port: Port,
    ) -> Result<Self, Error> {
        let path = run.metrics().join(snapshot::ARCHIVE);
        if !path.is_file() {
            return Err(Error::None {
                run: run.id.clone(),
                path,
            });
        }
        let manifest = files::read_json::<Manifest>(&run.manifest()).ok();
        let steps = manifest.map(|manifest| manifest.steps).unwrap_or_default();
        let image = steps
            .get("monitor")
            .and_then(|step| step.facts.get("image")?["path"].as_str());
        let binary = Binary::find(env, site, image.map(Path::new))?;
        Self::start(&path, local, &binary, port).await
    }

    /// Unpacks an archive into a copy and starts Prometheus on it, on 127.0.0.1.
    pub async fn start(
        archive: &Path,
        local: Local<'_>,
        binary: &Binary,
        port: Port,
    ) -> Result<Self, Error> {
        let name = format!("aif-{}-archive", std::process::id());
        let folder = LocalFolder::create(local.parent, &name, local.sharing)?;
        let data = folder.path().join("data");
        files::create_folder(&data, 0o700)?;
        let (from, into) = (archive.to_owned(), data.clone());
        let checked = tokio::task::spawn_blocking(move || snapshot::unpack(&from, &into)).await??;
        let config = folder.path().join("prometheus.yml");
        files::write_atomic(
            &config,
            config::empty_yml()?.as_bytes(),
            0o600,
            Durability::Fast,
        )?;
        let password = uuid::Uuid::new_v4().simple().to_string();
        let web = folder.path().join("web.yml");
        files::write_atomic(
            &web,
            config::web_yml(&password)?.as_bytes(),
            0o600,
            Durability::Fast,
        )?;
        let blocks = span_of_blocks(&data);
        let mut prometheus = Prometheus::start(
            binary,
            &Options {
                config,
                web: Some(web),
                data,
                host: IpAddr::from([127, 0, 0, 1]),
                port: port.number,
                retention: FOREVER.to_owned(),
                size: None,
                log: folder.path().join("prometheus.log"),
                visible: Vec::new(),
                guard: guard::program(),
                access: Access::Basic(config::USER.to_owned(), password.clone()),
            },
        )?;
        prometheus.ready(READY_LIMIT).await?;
        let head = prometheus.client.head_span().await.ok().flatten();
        let span = [blocks, head]
            .into_iter()
            .flatten()
            .reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
        Ok(Self {
            prometheus,
            port: port.number,
            checked,
            password,
            span,
            _folder: folder,
        })
    }

    /// Asks it.
    pub fn client(&self) -> &Client {
        &self.prometheus.client
    }

    /// Waits until Prometheus ends by itself, which it should not.
    pub async fn exited(&mut self) -> process::Error {
        self.prometheus.exited().await
    }

    /// Ends Prometheus and removes the copy.
    pub async fn stop(self) {
        self.prometheus.stop(STOP_GRACE).await;
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BlockMeta {
    min_time: i64,
    max_time: i64,
}

/// First and last sample of the blocks in a data folder.
fn span_of_blocks(data: &Path) -> Option<(Timestamp, Timestamp)> {
    fs::read_dir(data)
        .ok()?
        .filter_map(|entry| {
            let path: PathBuf = entry.ok()?.path().join("meta.json");
            let meta: BlockMeta = files::read_json(&path).ok()?;
            // the end of a block is exclusive
            Some((
                Timestamp::from_millisecond(meta.min_time).ok()?,
                Timestamp::from_millisecond(meta.max_time - 1).ok()?,
            ))
        })
        .reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
}
