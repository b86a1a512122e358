//! The site: what differs from one cluster to the next, in one YAML file.
//!
//! Chosen by `AIF_SITE` (a name in `sbatch/sites/`, or a path), else `~/.config/aif/site.yaml`, else the file in
//! `sbatch/sites/` whose `clusters` name `SLURM_CLUSTER_NAME`, else `plain`. A user's file may say `extends: meluxina`:
//! its keys win, `partitions` and `short_qos` are joined key by key.
//!
//! Values may use `${VARIABLES}` of the environment, `${AIF_HOME}` (the project's folder) and `${AIF_ACCOUNT}` (the
//! job's account, else the one that sbatch would take). An unset variable is an error with its line; `${NAME:-}` and
//! `${NAME:+text}` are empty instead, and an empty value counts as not given. So a site may want an account where one
//! is needed without being unusable where none is.

mod load;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{env::Env, units};

/// What is wrong with a site file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not there.
    #[error("no site {name}: neither a file nor a name in {}", folder.display())]
    Unknown {
        /// What was asked for.
        name: String,
        /// Where sites were looked for.
        folder: PathBuf,
    },
    /// It cannot be read.
    #[error("{message}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong and where, one fault a line; each names the file.
        message: String,
    },
}

/// The site file that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// The file; `None` where there is not even a plain one.
    pub path: Option<PathBuf>,
    /// Why it counts, in a few words.
    pub why: &'static str,
}

/// A site, expanded.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Site {
    /// Its name.
    pub name: String,
    /// Another site that this one changes.
    pub extends: Option<String>,
    /// Names of clusters (`SLURM_CLUSTER_NAME`) that are this site.
    pub clusters: Vec<String>,
    /// Account for jobs.
    pub account: Option<String>,
    /// Default quality of service.
    pub qos: Option<String>,
    /// Quality of service for jobs up to this long, by its name: `{dev: "00:30:00"}`; the shortest that fits wins.
    pub short_qos: BTreeMap<String, String>,
    /// Partition names that recipes use → partitions of this site.
    pub partitions: BTreeMap<String, String>,
    /// Modules to load before an engine starts.
    pub modules: Vec<String>,
    /// Do modules need a login shell (`bash -l`)?
    pub login_shell: bool,
    /// Folder on the parallel file system for large data.
    pub scratch_dir: Option<PathBuf>,
    /// Folder of container images: `${CONTAINER_DIR}` in recipes.
    pub container_dir: Option<PathBuf>,
    /// Folder of caches (models): `${CACHE_DIR}` in recipes.
    pub cache_dir: Option<PathBuf>,
    /// Node-local folder; `$SLURM_TMPDIR`, `$TMPDIR`, `/tmp` where it is not given.
    pub local_dir: Option<PathBuf>,
    /// Ports to draw from, first and last.
    pub port_range: Option<(u16, u16)>,
    /// How GPUs are asked for: `gres` (`--gres=gpu:N`), `gpus` (`--gpus=N`), `gpus-per-node`.
    pub gpu_request: Option<String>,
    /// Host by which the cluster is reached from outside, for `ssh -J`.
    pub login_host: Option<String>,
    /// Further options for sbatch.
    pub sbatch_options: Vec<String>,
    /// What its resources cost.
    pub price: Option<Price>,
}

/// What resources of a site cost. Prices that are given are added: what a GPU's price already holds is left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Price {
    /// The currency, as it is shown: `EUR`.
    pub currency: String,
    /// Of a GPU for an hour.
    pub per_gpu_hour: Option<f64>,
    /// Of a node for an hour.
    pub per_node_hour: Option<f64>,
    /// Of a CPU, as Slurm counts them, for an hour.
    pub per_cpu_hour: Option<f64>,
}

impl Site {
    /// The site of this environment, and where its files are looked for.
    pub fn load(env: &Env, home: &Path) -> Result<Self, Error> {
        load::load(env, home)
    }

    /// The site file that counts in this environment.
    pub fn choose(env: &Env, home: &Path) -> Result<Chosen, Error> {
        load::choose(env, home)
    }

    /// The quality of service for a job of this length: the short one with the least room that fits, else the default.
    pub fn qos_for(&self, time_limit: Option<Duration>) -> Option<&str> {
        let short = time_limit.and_then(|wanted| {
            self.short_qos
                .iter()
                .filter_map(|(name, limit)| Some((units::parse_duration(limit)?, name)))
                .filter(|(limit, _)| wanted <= *limit)
                .min()
        });
        short.map(|(_, name)| name.as_str()).or(self.qos.as_deref())
    }

    /// The site's name of a partition that a recipe names.
    pub fn partition<'a>(&'a self, name: &'a str) -> &'a str {
        self.partitions.get(name).map_or(name, String::as_str)
    }

    /// Ports to draw from.
    pub fn ports(&self) -> (u16, u16) {
        self.port_range.unwrap_or((20000, 29999))
    }

    /// The node-local folder.
    pub fn local_folder(&self, env: &Env) -> PathBuf {
        self.local_dir
            .clone()
            .or_else(|| env.path("SLURM_TMPDIR"))
            .or_else(|| env.path("TMPDIR"))
            .unwrap_or_else(|| PathBuf::from("/tmp"))
    }

    /// The variables that recipes may use, from the site: `CONTAINER_DIR`, `CACHE_DIR`, `SCRATCH_DIR`, `LOCAL_DIR`.
    pub fn variables(&self, env: &Env) -> BTreeMap<String, String> {
        let text = |path: &PathBuf| path.display().to_string();
        let mut variables = BTreeMap::new();
        let folders = [
            ("CONTAINER_DIR", &self.container_dir),
            ("CACHE_DIR", &self.cache_dir),
            ("SCRATCH_DIR", &self.scratch_dir),
        ];
        for (name, folder) in folders {
            if let Some(folder) = folder {
                variables.insert(name.to_owned(), text(folder));
            }
        }
        variables.insert("LOCAL_DIR".to_owned(), text(&self.local_folder(env)));
        variables
    }
}
