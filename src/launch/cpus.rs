//! How the roles of one node share its CPUs.
//!
//! Overlapping steps that ask for CPUs all get the same first ones, so steps ask for none, see the whole allocation, and
//! each role takes its part of it by `sched_setaffinity`. Every role computes the same split from the same list, without
//! talking: the engine gets the first CPUs, the monitor the last one, benches those before it. Where the CPUs do not
//! suffice, monitor and bench share one, so that the engine keeps its own; with a single CPU all share it, and the
//! result of the bench says so.

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

use crate::env::Env;

/// Who is on a node, as `AIF_CPUS` says it: `server,monitor,bench=4`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shares {
    /// Is an engine here?
    pub server: bool,
    /// Is a monitor here?
    pub monitor: bool,
    /// CPUs that the largest bench here asks; 0 = no bench.
    pub bench: u32,
}

impl Shares {
    /// Reads the variable; `None` where it is unset.
    pub fn from_env(env: &Env) -> Option<Self> {
        let mut shares = Self::default();
        for part in env.get("AIF_CPUS")?.split(',') {
            match part.split_once('=').unwrap_or((part, "")) {
                ("server", _) => shares.server = true,
                ("monitor", _) => shares.monitor = true,
                ("bench", count) => shares.bench = count.parse().unwrap_or(1),
                _ => {}
            }
        }
        Some(shares)
    }

    /// The variable's value.
    pub fn to_value(self) -> String {
        let mut parts = Vec::new();
        if self.server {
            parts.push("server".to_owned());
        }
        if self.monitor {
            parts.push("monitor".to_owned());
        }
        if self.bench > 0 {
            parts.push(format!("bench={}", self.bench));
        }
        parts.join(",")
    }

    /// The CPUs of one role (`server`, `monitor`, `bench`) out of those of the allocation.
    pub fn of(self, role: &str, cpus: &[usize]) -> Vec<usize> {
        let total = cpus.len();
        let others = usize::from(self.monitor || self.bench > 0);
        let alone = !(self.server || self.monitor && self.bench > 0);
        if total <= 1 || others == 0 || alone {
            return cpus.to_vec();
        }
        let own_monitor = self.monitor && (total > 2 || !self.server);
        let monitor = usize::from(own_monitor || self.monitor && self.bench == 0);
        let left = total - monitor;
        let bench = match self.bench {
            0 => 0,
            asked if self.server => (asked as usize).clamp(1, (left / 2).max(1)),
            _ => left,
        };
        let engine = left - bench;
        match role {
            "server" => cpus[..engine.max(1)].to_vec(),
            "bench" => cpus[engine..engine + bench].to_vec(),
            _ if monitor > 0 => cpus[total - monitor..].to_vec(),
            _ => cpus[total - 1..].to_vec(),
        }
    }
}

/// The CPUs that this process may use.
pub fn allowed() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(Pid::from_raw(0)) else {
        return Vec::new();
    };
    (0..CpuSet::count())
        .filter(|cpu| set.is_set(*cpu).unwrap_or(false))
        .collect()
}

/// Takes this role's share of the CPUs, for this thread and all that come of it. Gives what it took.
///
/// A kernel that refuses leaves the role where it was: slower, not wrong.
pub fn take(role: &str, env: &Env) -> Vec<usize> {
    let all = allowed();
    let Some(shares) = Shares::from_env(env) else {
        return all;
    };
    let own = shares.of(role, &all);
    let mut set = CpuSet::new();
    let complete = own.iter().all(|cpu| set.set(*cpu).is_ok());
    if complete && !own.is_empty() && sched_setaffinity(Pid::from_raw(0), &set).is_ok() {
        own
    } else {
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(total: usize, shares: Shares) -> [Vec<usize>; 3] {
        let cpus: Vec<usize> = (0..total).collect();
        ["server", "bench", "monitor"].map(|role| shares.of(role, &cpus))
    }

    #[test]
    fn the_engine_keeps_its_own_cpus_as_long_as_there_are_two() {
        let all = Shares {
            server: true,
            monitor: true,
            bench: 2,
        };
        let cases: [(usize, [&[usize]; 3]); 5] = [
            (1, [&[0], &[0], &[0]]),
            (2, [&[0], &[1], &[1]]),
            (3, [&[0], &[1], &[2]]),
            (4, [&[0, 1], &[2], &[3]]),
            (8, [&[0, 1, 2, 3, 4], &[5, 6], &[7]]),
        ];
        for (total, expected) in cases {
            assert_eq!(
                split(total, all),
                expected.map(<[usize]>::to_vec),
                "{total} CPUs"
            );
        }
    }

    #[test]
    fn without_an_engine_on_the_node_the_bench_takes_what_the_monitor_leaves() {
        let shares = Shares {
            server: false,
            monitor: true,
            bench: 2,
        };
        assert_eq!(split(4, shares)[1..], [vec![0, 1, 2], vec![3]]);
        assert_eq!(split(2, shares)[1..], [vec![0], vec![1]]);
    }

    #[test]
    fn the_variable_round_trips() {
        let shares = Shares {
            server: true,
            monitor: false,
            bench: 4,
        };
        let value = shares.to_value();
        assert_eq!(value, "server,bench=4");
        assert_eq!(
            Shares::from_env(&[("AIF_CPUS", value.as_str())].into_iter().collect()),
            Some(shares)
        );
    }

    proptest::proptest! {
        #[test]
        fn every_role_gets_cpus_of_the_allocation_and_the_engine_shares_none(total in 2_usize..64, bench in 1_u32..80, monitor: bool) {
            let [server, bench, watcher] = split(total, Shares { server: true, monitor, bench });
            proptest::prop_assert!(!server.is_empty() && !bench.is_empty());
            proptest::prop_assert!(server.iter().all(|cpu| !bench.contains(cpu) && (!monitor || !watcher.contains(cpu))));
            proptest::prop_assert!(bench.iter().all(|cpu| *cpu < total));
        }
    }
}
