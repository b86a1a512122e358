//! What killed processes leave in the node's shared memory, `/dev/shm`.
//!
//! It is memory of the node for as long as somebody removes it. Engines of several processes pass data through it (vLLM:
//! segments `psm_…` and semaphores `sem.mp-…` of Python's `multiprocessing`) and remove it when they end by themselves, which
//! a killed one does not. So what a tree of processes has mapped is remembered while it lives; afterwards what is still
//! there, is the user's own, and is mapped by nobody is taken away. Nothing that others made is touched.

use std::{collections::BTreeSet, fs, os::unix::fs::MetadataExt as _};

use super::tree::{self, Process};

const FOLDER: &str = "/dev/shm";

/// The files in shared memory that these processes have mapped, by their inodes: a semaphore is made under one name and
/// then given another, so the name of a mapping may be gone while the file is there.
pub fn of(processes: &[Process]) -> BTreeSet<u64> {
    let maps = processes
        .iter()
        .filter_map(|process| fs::read_to_string(format!("/proc/{}/maps", process.pid)).ok());
    maps.flat_map(|maps| maps.lines().filter_map(mapped).collect::<Vec<_>>())
        .collect()
}

/// The inode of a line of `/proc/PID/maps` whose file is in shared memory: range, rights, offset, device, inode, name.
fn mapped(line: &str) -> Option<u64> {
    let mut words = line.split_whitespace();
    let inode = words.nth(4)?.parse().ok()?;
    words.next()?.starts_with(FOLDER).then_some(inode)
}

/// Removes those of these files that are ours and that no process has mapped; gives those that somebody still has.
pub fn remove(inodes: &BTreeSet<u64>) -> BTreeSet<u64> {
    if inodes.is_empty() {
        return BTreeSet::new();
    }
    let user = nix::unistd::geteuid().as_raw();
    let files: Vec<_> = fs::read_dir(FOLDER)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let meta = fs::symlink_metadata(&path).ok()?;
            let ours = meta.is_file() && meta.uid() == user && inodes.contains(&meta.ino());
            ours.then(|| (meta.ino(), path))
        })
        .collect();
    if files.is_empty() {
        return BTreeSet::new();
    }
    let used = of(&tree::scan());
    let (used, left): (Vec<_>, Vec<_>) = files
        .into_iter()
        .partition(|(inode, _)| used.contains(inode));
    for (_, path) in left {
        let _ = fs::remove_file(path);
    }
    used.into_iter().map(|(inode, _)| inode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_maps_name_files_in_shared_memory() {
        let line = |end: &str| format!("7f0000000000-7f0000001000 rw-s 00000000 00:1b 77 {end}");
        for there in ["/dev/shm/psm_8dbf", "/dev/shm/sem.mp-x (deleted)"] {
            assert_eq!(mapped(&line(there)), Some(77), "{there}");
        }
        for other in ["/usr/lib/libc.so.6", ""] {
            assert_eq!(mapped(&line(other)), None, "{other}");
        }
    }
}
