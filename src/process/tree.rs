//! Who descends from whom, and what they use: read from `/proc`, at the moment it is asked.
//!
//! Parents are scanned rather than `task/*/children` followed: both agree, also across the pid namespace of a
//! container, and the files of children are missing from some kernels. A process that ends meanwhile is passed over.

use std::collections::HashMap;

use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, waitpid},
    },
    unistd::Pid,
};

/// A process, as it was at the moment of the scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its parent.
    pub parent: u32,
    /// Its process group.
    pub group: u32,
    /// Its name, 15 characters at the most.
    pub name: String,
    /// Has it ended, and waits for its parent to ask how?
    pub zombie: bool,
    /// When it started, in ticks since the node did.
    started: u64,
    /// CPU time of it and of its children that were waited for.
    cpu_ticks: u64,
    /// Resident memory.
    memory_pages: u64,
}

impl Process {
    /// Is this the same process, seen again? A number that is used again has another start.
    pub fn is_same(&self, other: &Self) -> bool {
        (self.pid, self.started) == (other.pid, other.started)
    }
}

/// What a tree of processes uses.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// CPU time since they started.
    pub cpu_seconds: f64,
    /// Resident memory.
    pub memory_bytes: u64,
}

/// Every process that can be seen.
pub fn scan() -> Vec<Process> {
    let Ok(all) = procfs::process::all_processes() else {
        return Vec::new();
    };
    all.filter_map(|process| look(&process.ok()?)).collect()
}

fn look(process: &procfs::process::Process) -> Option<Process> {
    let stat = process.stat().ok()?;
    let number = |value: i64| u64::try_from(value).unwrap_or(0);
    Some(Process {
        pid: u32::try_from(stat.pid).ok()?,
        parent: u32::try_from(stat.ppid).unwrap_or(0),
        group: u32::try_from(stat.pgrp).unwrap_or(0),
        zombie: stat.state == 'Z',
        started: stat.starttime,
        cpu_ticks: stat.utime + stat.stime + number(stat.cutime) + number(stat.cstime),
        memory_pages: stat.rss,
        name: stat.comm,
    })
}

/// The process itself, where it lives, and all that descend from it, parents first.
pub fn family(root: u32) -> Vec<Process> {
    family_in(scan(), root)
}

fn family_in(all: Vec<Process>, root: u32) -> Vec<Process> {
    let mut children: HashMap<u32, Vec<Process>> = HashMap::new();
    let mut found = Vec::new();
    for process in all {
        if process.pid == root {
            found.push(process);
        } else {
            children.entry(process.parent).or_default().push(process);
        }
    }
    let mut parents = vec![root];
    while let Some(parent) = parents.pop() {
        for child in children.remove(&parent).unwrap_or_default() {
            parents.push(child.pid);
            found.push(child);
        }
    }
    found
}

/// All that descend from a process, without itself.
pub fn descendants(root: u32) -> Vec<Process> {
    let mut family = family(root);
    family.retain(|process| process.pid != root);
    family
}

/// Shells, by their names.
const SHELLS: [&str; 5] = ["bash", "sh", "dash", "ksh", "zsh"];

/// Whom TERM is for, when this process is to end. A shell that waits for its script's command dies of it on the spot and
/// leaves the command behind, so its children are meant; a shell with a trap of its own is meant itself.
pub fn meant(root: u32) -> Vec<u32> {
    let family = family(root);
    let mut open = vec![root];
    let mut meant = Vec::new();
    while let Some(pid) = open.pop() {
        let children: Vec<u32> = family
            .iter()
            .filter(|process| process.parent == pid && !process.zombie)
            .map(|process| process.pid)
            .collect();
        let is_shell = family
            .iter()
            .any(|process| process.pid == pid && SHELLS.contains(&process.name.as_str()));
        if is_shell && !children.is_empty() && !catches_term(pid) {
            open.extend(children);
        } else {
            meant.push(pid);
        }
    }
    meant
}

fn catches_term(pid: u32) -> bool {
    let status = i32::try_from(pid)
        .ok()
        .and_then(|pid| procfs::process::Process::new(pid).ok())
        .and_then(|process| process.status().ok());
    status.is_some_and(|status| {
        let term = 1 << (Signal::SIGTERM as u64 - 1);
        (status.sigcgt | status.sigign) & term != 0
    })
}

/// What these processes use now. The memory of pages that they share is counted for each.
pub fn usage(pids: &[u32]) -> Usage {
    let mut total = Usage::default();
    for pid in pids {
        let Some(process) = i32::try_from(*pid)
            .ok()
            .and_then(|pid| procfs::process::Process::new(pid).ok())
            .and_then(|process| look(&process))
        else {
            continue;
        };
        total.cpu_seconds += process.cpu_ticks as f64 / procfs::ticks_per_second() as f64;
        total.memory_bytes += process.memory_pages * procfs::page_size();
    }
    total
}

/// Sends a signal to a process that lives; `false` where there is none.
pub fn send(pid: u32, signal: Signal) -> bool {
    // 0 and 1 would mean a group or init: never ours
    i32::try_from(pid).is_ok_and(|pid| pid > 1 && kill(Pid::from_raw(pid), signal).is_ok())
}

/// Kills these processes.
pub fn kill_all(processes: &[Process]) {
    for process in processes.iter().filter(|process| !process.zombie) {
        send(process.pid, Signal::SIGKILL);
    }
}

/// Takes away adopted children that have ended, as a subreaper must.
///
/// Only those that the last call saw as ended already: a child that somebody here waits for is taken by its waiter long
/// before. Gives what is to be passed to the next call.
pub fn reap_adopted(seen_before: &[u32]) -> Vec<u32> {
    let own = std::process::id();
    let ended: Vec<u32> = scan()
        .into_iter()
        .filter(|process| process.parent == own && process.zombie)
        .map(|process| process.pid)
        .collect();
    for pid in ended.iter().filter(|pid| seen_before.contains(pid)) {
        if let Ok(pid) = i32::try_from(*pid) {
            let _ = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG));
        }
    }
    ended
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, parent: u32) -> Process {
        Process {
            pid,
            parent,
            group: 0,
            name: String::new(),
            zombie: false,
            started: 0,
            cpu_ticks: 0,
            memory_pages: 0,
        }
    }

    #[test]
    fn a_family_is_all_that_descend_whatever_the_order() {
        let all = vec![
            process(9, 5),
            process(1, 0),
            process(5, 2),
            process(2, 1),
            process(3, 1),
            process(6, 2),
        ];
        let mut pids: Vec<u32> = family_in(all, 2).iter().map(|p| p.pid).collect();
        pids.sort_unstable();
        assert_eq!(pids, [2, 5, 6, 9]);
    }

    #[test]
    fn this_process_uses_memory() {
        let own = std::process::id();
        assert!(family(own).iter().any(|process| process.pid == own));
        assert!(usage(&[own]).memory_bytes > 0);
        assert_eq!(usage(&[u32::MAX]), Usage::default());
    }
}
