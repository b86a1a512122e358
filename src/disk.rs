//! What a folder lies on: the kind of file system, its room, and whether files can be written and renamed there.
//!
//! Other nodes see a network file system, a disk of the node they do not; a database wants the opposite. The kernel says
//! which is which by a magic number of `statfs(2)`. A kind that is not in the table counts as a disk: a new network
//! file system is then used like one, which goes well more often than a refusal.
//!
//! What can fail: a folder that is not there or may not be entered. A network file system whose server is gone does not
//! fail, it hangs: who cannot wait calls these from a thread of its own.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use nix::sys::{
    statfs::statfs,
    statvfs::{Statvfs, statvfs},
};

use crate::{
    clock,
    files::{self, Durability},
};

/// Magic numbers of `statfs(2)`, and what they mean.
const KINDS: [(i64, &str, Medium); 22] = [
    (0x6969, "NFS", Medium::Network),
    (0x0BD0_0BD0, "Lustre", Medium::Network),
    (0x4750_4653, "GPFS", Medium::Network),
    (0x1983_0326, "BeeGFS", Medium::Network),
    (0x00C3_6400, "CephFS", Medium::Network),
    (0xFF53_4D42, "CIFS", Medium::Network),
    (0xFE53_4D42, "SMB", Medium::Network),
    (0x5346_414F, "AFS", Medium::Network),
    (0x6B41_4653, "AFS", Medium::Network),
    (0x517B, "SMB", Medium::Network),
    (0xAAD7_AAEA, "PanFS", Medium::Network),
    (0x7461_636F, "OCFS2", Medium::Network),
    (0x0116_1970, "GFS2", Medium::Network),
    (0x0102_1994, "tmpfs", Medium::Memory),
    (0x8584_58F6, "ramfs", Medium::Memory),
    (0xEF53, "ext4", Medium::Disk),
    (0x5846_5342, "XFS", Medium::Disk),
    (0x9123_683E, "Btrfs", Medium::Disk),
    (0x2FC1_2FC1, "ZFS", Medium::Disk),
    (0x794C_7630, "overlay", Medium::Disk),
    (0x7371_7368, "squashfs", Medium::Disk),
    (0x6573_5546, "FUSE", Medium::Disk),
];

/// What a folder lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Medium {
    /// A disk of the node.
    Disk,
    /// The node's memory.
    Memory,
    /// Servers that other nodes reach, too.
    Network,
}

/// A kind of file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// Its name; "a disk" where it is none that we know.
    pub name: &'static str,
    /// What it lies on.
    pub medium: Medium,
}

impl Kind {
    /// The kind that a path lies on.
    pub fn of(path: &Path) -> io::Result<Self> {
        Ok(Self::of_magic(statfs(path)?.filesystem_type().0))
    }

    /// The kind of a magic number.
    pub fn of_magic(magic: i64) -> Self {
        // on 32 bits and some file systems the number comes sign-extended
        let magic = magic & 0xFFFF_FFFF;
        let known = KINDS.iter().find(|(number, ..)| *number == magic);
        known.map_or(
            Self {
                name: "a disk",
                medium: Medium::Disk,
            },
            |(_, name, medium)| Self {
                name,
                medium: *medium,
            },
        )
    }
}

/// The room that is left to this user, in bytes; a quota shows here only where the file system says so.
pub fn room(path: &Path) -> io::Result<u64> {
    let seen: Statvfs = statvfs(path)?;
    Ok(seen.blocks_available().saturating_mul(seen.fragment_size()))
}

/// The nearest folder that exists: the path, or where it would be made.
pub fn nearest(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut folders = path.ancestors().filter(|folder| folder.exists());
    folders.next().unwrap_or(Path::new("/")).to_owned()
}

/// Writes a file, renames it, and removes it again. Gives by how many milliseconds the stamp that the file system gave it
/// is ahead of this node's clock; negative where it is behind, 0 within the time that the writing took.
pub fn trial(folder: &Path) -> io::Result<i64> {
    let name = format!(".aif-trial-{}", uuid::Uuid::new_v4().simple());
    let path = folder.join(name);
    let before = clock::unix_milliseconds();
    files::write_atomic(&path, b"trial\n", 0o600, Durability::Synced)
        .map_err(|error| error.source)?;
    let stamp = fs::metadata(&path);
    let after = clock::unix_milliseconds();
    fs::remove_file(&path)?;
    let stamp = stamp?;
    let stamp = stamp.mtime() * 1000 + stamp.mtime_nsec() / 1_000_000;
    Ok(stamp - stamp.clamp(before, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_by_their_number_also_when_sign_extended() {
        let kind = |magic| {
            let kind = Kind::of_magic(magic);
            (kind.name, kind.medium)
        };
        assert_eq!(kind(0x6969), ("NFS", Medium::Network));
        assert_eq!(kind(0x0BD0_0BD0), ("Lustre", Medium::Network));
        let extended = i64::from(0xFF53_4D42_u32.cast_signed());
        assert_eq!(kind(extended), ("CIFS", Medium::Network));
        assert_eq!(kind(0x0102_1994), ("tmpfs", Medium::Memory));
        assert_eq!(kind(0xEF53), ("ext4", Medium::Disk));
        assert_eq!(kind(7), ("a disk", Medium::Disk));
    }

    #[test]
    fn a_trial_leaves_nothing_and_finds_this_nodes_clock() {
        let folder = tempfile::tempdir().unwrap();
        let ahead = trial(folder.path()).unwrap();
        assert!((-1000..=1000).contains(&ahead), "{ahead} ms");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let error = trial(&folder.path().join("nowhere")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn the_nearest_folder_is_where_a_missing_one_would_be_made() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(nearest(&folder.path().join("a/b")), folder.path());
        assert_eq!(nearest(folder.path()), folder.path());
    }
}
