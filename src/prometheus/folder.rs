//! Where Prometheus's data may lie: a folder on the node, checked.
//!
//! The database needs POSIX locks and `mmap` that are coherent; Prometheus itself warns of NFS only, so we look. On a
//! network file system it is refused, until the user insists. What a FUSE file system leads to only its type in the table
//! of mounts tells, so of these only those pass that are known to lie on the node. A node without a disk has a `tmpfs`: there the data takes the job's memory, so
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
        "{} is on {kind}, where Prometheus's database breaks; set local_dir in the site file (or TMPDIR) to a folder on the node, or insist with --allow-shared-tsdb",
        path.display()
    )]
    Network {
        /// The folder.
        path: PathBuf,
        /// Its file system.
        kind: String,
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

/// May the data lie where other nodes see it, too?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// No: such a folder is refused.
    Refused,
    /// The user insists.
    Allowed,
}

impl Sharing {
    /// As a flag says it.
    pub fn of(allowed: bool) -> Self {
        if allowed {
            Self::Allowed
        } else {
            Self::Refused
        }
    }
}

/// Types of FUSE file systems that lie on the node itself, as the table of mounts names them.
const LOCAL_FUSE: [&str; 9] = [
    "fuseblk",
    "fuse.fuse-overlayfs",
    "fuse.bindfs",
    "fuse.mergerfs",
    "fuse.unionfs",
    "fuse.ntfs-3g",
    "fuse.ext2fs",
    "fuse.lxcfs",
    "fuse.gocryptfs",
];

/// Looks what a folder lies on; network file systems are refused.
pub fn inspect(path: &Path, sharing: Sharing) -> Result<Medium, Error> {
    let unusable = |source| Error::Unusable {
        path: path.to_owned(),
        source,
    };
    let kind = Kind::of(path).map_err(unusable)?;
    let fuse = if kind.name == "FUSE" {
        let real = fs::canonicalize(path).map_err(unusable)?;
        let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(unusable)?;
        Some(type_of_mount(&mounts, &real).unwrap_or_else(|| "fuse".to_owned()))
    } else {
        None
    };
    judge(path, kind, fuse.as_deref(), sharing)
}

fn judge(path: &Path, kind: Kind, fuse: Option<&str>, sharing: Sharing) -> Result<Medium, Error> {
    let network = match fuse {
        Some(fuse) if LOCAL_FUSE.contains(&fuse) => None,
        Some(fuse) => Some(format!("FUSE ({fuse})")),
        None => (kind.medium == Medium::Network).then(|| kind.name.to_owned()),
    };
    match (network, sharing) {
        (Some(kind), Sharing::Refused) => Err(Error::Network {
            path: path.to_owned(),
            kind,
        }),
        (Some(kind), Sharing::Allowed) => {
            let folder = path.display().to_string();
            tracing::warn!(
                folder,
                kind,
                "Prometheus's data lies on a network file system, as it was asked to"
            );
            Ok(Medium::Network)
        }
        (None, _) => Ok(kind.medium),
    }
}

/// The type of the file system that a path lies on, from the table of mounts of `proc(5)`: of the mount points above it
/// the longest, and of those at one place the last.
fn type_of_mount(mounts: &str, path: &Path) -> Option<String> {
    let mount = |line: &str| {
        let (mount, system) = line.split_once(" - ")?;
        let point = mount.split(' ').nth(4)?.replace("\\040", " ");
        let kind = system.split(' ').next()?.to_owned();
        path.starts_with(&point).then_some((point.len(), kind))
    };
    let found = mounts.lines().filter_map(mount);
    found
        .max_by_key(|(length, _)| *length)
        .map(|(_, kind)| kind)
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
    pub fn create(parent: &Path, name: &str, sharing: Sharing) -> Result<Self, Error> {
        let unusable = |path: &Path, source| Error::Unusable {
            path: path.to_owned(),
            source,
        };
        fs::DirBuilder::new()
            .recursive(true)
            .create(parent)
            .map_err(|source| unusable(parent, source))?;
        let medium = inspect(parent, sharing)?;
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
        let judged = |magic, fuse, sharing| judge(path, Kind::of_magic(magic), fuse, sharing);
        for (magic, name) in [
            (0x6969, "NFS"),
            (0x0BD0_0BD0, "Lustre"),
            (0x4750_4653, "GPFS"),
            (0x1983_0326, "BeeGFS"),
        ] {
            let error = judged(magic, None, Sharing::Refused).unwrap_err();
            insta::allow_duplicates! {
                let said = error.to_string().replace(name, "[NAME]");
                insta::assert_snapshot!(said, @"/scratch/x is on [NAME], where Prometheus's database breaks; set local_dir in the site file (or TMPDIR) to a folder on the node, or insist with --allow-shared-tsdb");
            }
            assert_eq!(
                judged(magic, None, Sharing::Allowed).unwrap(),
                Medium::Network
            );
        }
        assert_eq!(
            judged(0xEF53, None, Sharing::Refused).unwrap(),
            Medium::Disk
        );
    }

    #[test]
    fn of_fuse_only_what_lies_on_the_node_passes() {
        let path = Path::new("/mnt/a b/x");
        let mounts = "22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n\
                      40 22 0:35 / /mnt/a\\040b rw master:2 - fuse.sshfs host:/x rw,user_id=7\n\
                      41 22 0:36 / /mnt rw - fuse.bindfs /y rw\n\
                      42 22 0:37 / /mntx rw - fuseblk /dev/sdb rw\n";
        let judged = |path: &Path| {
            let fuse = type_of_mount(mounts, path);
            judge(
                path,
                Kind::of_magic(0x6573_5546),
                fuse.as_deref(),
                Sharing::Refused,
            )
        };
        let error = judged(path).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("/mnt/a b/x is on FUSE (fuse.sshfs), where"),
            "{error}"
        );
        assert_eq!(judged(Path::new("/mnt/a")).unwrap(), Medium::Disk);
        assert_eq!(judged(Path::new("/mntx")).unwrap(), Medium::Disk);
        // an unknown one may lead anywhere
        assert!(judged(Path::new("/home")).is_err());
    }

    #[test]
    fn a_folder_is_private_never_shared_and_leaves_no_trace() {
        use std::os::unix::fs::PermissionsExt as _;
        let parent = tempfile::tempdir().unwrap();
        let first =
            LocalFolder::create(parent.path(), "aif-7-0-prometheus", Sharing::Refused).unwrap();
        let second =
            LocalFolder::create(parent.path(), "aif-7-0-prometheus", Sharing::Refused).unwrap();
        assert!(second.path().ends_with("aif-7-0-prometheus-2"));
        let mode = fs::metadata(first.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        drop((first, second));
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }
}
