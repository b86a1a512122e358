//! Where Prometheus's data may lie: a folder on the node, checked.
//!
//! The database needs POSIX locks and `mmap` that are coherent; Prometheus itself warns of NFS only, so we look. On a
//! network file system it is refused. A node without a disk has a `tmpfs`: there the data takes the job's memory, so
//! its size is capped and the user is told. On a full disk Prometheus goes on and stores nothing, and tells only its
//! log, so the room is asked for at the start and on the way.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use crate::disk::{self, Kind, Medium};

/// Cap of a database that lies in memory.
pub const MEMORY_CAP: &str = "512MB";

/// A disk with less room than this is full.
const LEAST_ROOM: u64 = 1 << 20;

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is on a network file system.
    #[error(
        "{} is on {kind}, where Prometheus's database breaks; set local_dir in the site file (or TMPDIR) to a folder on the node",
        path.display()
    )]
    Network {
        /// The folder.
        path: PathBuf,
        /// Its file system.
        kind: &'static str,
    },
    /// Its disk is full.
    #[error(
        "the disk of {} is full; make room there, or set local_dir in the site file (or TMPDIR) to another folder on the node",
        path.display()
    )]
    Full {
        /// The folder.
        path: PathBuf,
    },
    /// It cannot be made or read.
    #[error("cannot use {} for Prometheus's data", path.display())]
    Unusable {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Looks what a folder lies on; network file systems are refused.
pub fn inspect(path: &Path) -> Result<Medium, Error> {
    let kind = Kind::of(path).map_err(|source| Error::Unusable {
        path: path.to_owned(),
        source,
    })?;
    judge(path, kind)
}

fn judge(path: &Path, kind: Kind) -> Result<Medium, Error> {
    match kind.medium {
        Medium::Network => Err(Error::Network {
            path: path.to_owned(),
            kind: kind.name,
        }),
        medium => Ok(medium),
    }
}

/// A folder that is removed with everything in it when it is dropped.
#[derive(Debug)]
pub struct LocalFolder {
    path: PathBuf,
    /// What it lies on.
    pub medium: Medium,
}

impl LocalFolder {
    /// Makes a new folder, 0700, below `parent`: `name`, or `name-2` … where others have taken it.
    pub fn create(parent: &Path, name: &str) -> Result<Self, Error> {
        let unusable = |path: &Path, source| Error::Unusable {
            path: path.to_owned(),
            source,
        };
        fs::DirBuilder::new()
            .recursive(true)
            .create(parent)
            .map_err(|source| unusable(parent, source))?;
        let medium = inspect(parent)?;
        check_room(parent)?;
        for attempt in 1..100 {
            let path = parent.join(if attempt == 1 {
                name.to_owned()
            } else {
                format!("{name}-{attempt}")
            });
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self { path, medium }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(unusable(&path, source)),
            }
        }
        Err(unusable(
            &parent.join(name),
            io::ErrorKind::AlreadyExists.into(),
        ))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Is there room for more?
    pub fn check_room(&self) -> Result<(), Error> {
        check_room(&self.path)
    }
}

fn check_room(path: &Path) -> Result<(), Error> {
    // who cannot be asked finds out by writing
    if disk::room(path).is_ok_and(|room| room < LEAST_ROOM) {
        return Err(Error::Full {
            path: path.to_owned(),
        });
    }
    Ok(())
}

impl Drop for LocalFolder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            let folder = self.path.display().to_string();
            tracing::warn!(%error, folder, "A folder of Prometheus's data could not be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_refused_by_name() {
        let path = Path::new("/scratch/x");
        let error = judge(path, Kind::of_magic(0x0BD0_0BD0)).unwrap_err();
        assert!(
            error.to_string().starts_with("/scratch/x is on Lustre,"),
            "{error}"
        );
        assert_eq!(judge(path, Kind::of_magic(0xEF53)).unwrap(), Medium::Disk);
    }

    #[test]
    fn a_folder_is_private_never_shared_and_leaves_no_trace() {
        use std::os::unix::fs::PermissionsExt as _;
        let parent = tempfile::tempdir().unwrap();
        let first = LocalFolder::create(parent.path(), "aif-7-0-prometheus").unwrap();
        let second = LocalFolder::create(parent.path(), "aif-7-0-prometheus").unwrap();
        assert!(second.path().ends_with("aif-7-0-prometheus-2"));
        let mode = fs::metadata(first.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        drop((first, second));
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }
}
