//! The registry's folder: permissions, keys, reading and writing records.

use std::path::{Path, PathBuf};

use super::record::Record;
use crate::shutdown::Shutdown;

/// What can go wrong with the registry.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder of it.
    #[error(transparent)]
    Files(#[from] crate::files::Error),
}

/// The registry.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// Opens the registry, making it where it is missing: 0700, tightened where looser, refused with a foreign owner.
    pub fn open(root: &Path) -> Result<Self, Error> {
        Ok(Self {
            root: root.to_owned(),
        })
    }

    /// Its folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The bearer of all agents of this user; made exclusively, 0600, at the first call.
    pub fn scrape_key(&self) -> Result<String, Error> {
        todo!()
    }

    /// The file of the same.
    pub fn scrape_key_file(&self) -> PathBuf {
        self.root.join("scrape.key")
    }

    /// Makes a key for one instance; gives its file and the key.
    pub fn create_key(&self, _instance_id: &str) -> Result<(PathBuf, String), Error> {
        todo!()
    }

    /// Every record that can be read; foreign, half-written and newer files are passed over.
    pub fn records(&self) -> Vec<Record> {
        todo!()
    }
}

/// The writer's side of one record: renews it until it is withdrawn.
#[derive(Debug, Clone)]
pub struct Publication {}

impl Publication {
    /// Writes the record and starts its heartbeat on the tracker of `shutdown`; sets sequence, heartbeat and lease.
    pub fn publish(_store: &Store, _record: Record, _shutdown: &Shutdown) -> Result<Self, Error> {
        todo!()
    }

    /// Changes the record and writes it at once, synced.
    pub fn update(&self, _change: impl FnOnce(&mut Record)) -> Result<(), Error> {
        todo!()
    }

    /// The record as it stands.
    pub fn record(&self) -> Record {
        todo!()
    }

    /// Ends the heartbeat and removes the record, its key and (where it names this instance) `<service>.json`.
    pub fn withdraw(&self) {
        todo!()
    }
}
