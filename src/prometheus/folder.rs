//! Where Prometheus's data may lie: a folder on the node, checked.
//!
//! The database needs POSIX locks and `mmap` that are coherent; Prometheus itself warns of NFS only, so we look. On a
//! network file system it is refused. A node without a disk has a `tmpfs`: there the data takes the job's memory, so
//! its size is capped and the user is told.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use nix::sys::statfs::statfs;

/// Magic numbers of `statfs(2)` that mean a network file system.
const NETWORK: [(i64, &str); 8] = [
    (0x6969, "NFS"),
    (0x0BD0_0BD0, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x1983_0326, "BeeGFS"),
    (0x00C3_6400, "CephFS"),
    (0xFF53_4D42, "CIFS"),
    (0xFE53_4D42, "SMB"),
    (0x5346_414F, "AFS"),
];
const TMPFS: i64 = 0x0102_1994;
const RAMFS: i64 = 0x8584_58F6;

/// Cap of a database that lies in memory.
pub const MEMORY_CAP: &str = "512MB";

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

/// What a folder lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Medium {
    /// A disk of the node.
    Disk,
    /// The node's memory.
    Memory,
}

/// Looks what a folder lies on; network file systems are refused.
pub fn inspect(path: &Path) -> Result<Medium, Error> {
    let seen = statfs(path).map_err(|errno| Error::Unusable {
        path: path.to_owned(),
        source: errno.into(),
    })?;
    judge(path, seen.filesystem_type().0)
}

fn judge(path: &Path, magic: i64) -> Result<Medium, Error> {
    // on 32 bits and some file systems the number comes sign-extended
    let magic = magic & 0xFFFF_FFFF;
    if let Some((_, kind)) = NETWORK.iter().find(|(number, _)| *number == magic) {
        return Err(Error::Network {
            path: path.to_owned(),
            kind,
        });
    }
    Ok(if magic == TMPFS || magic == RAMFS {
        Medium::Memory
    } else {
        Medium::Disk
    })
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
        for (magic, kind) in [
            (0x6969, "NFS"),
            (0x0BD0_0BD0, "Lustre"),
            (0x4750_4653, "GPFS"),
        ] {
            let error = judge(path, magic).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("/scratch/x is on {kind},")),
                "{error}"
            );
        }
        assert_eq!(judge(path, -12_497_598).ok(), Some(Medium::Disk));
        assert!(
            judge(path, i64::from(0xFF53_4D42_u32.cast_signed())).is_err(),
            "sign-extended"
        );
        assert_eq!(judge(path, 0x0102_1994).unwrap(), Medium::Memory);
        assert_eq!(judge(path, 0xEF53).unwrap(), Medium::Disk);
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
