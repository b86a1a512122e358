//! What the generator has of its node, and what it took of that. Nothing can fail: what the kernel does not tell is none.

use nix::sys::resource::{UsageWho, getrusage};

use super::service::Service;

/// Whom the generator shares its cores with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cores {
    /// With an engine of the service.
    pub(super) shared: bool,
    /// Is it known at all?
    pub(super) known: bool,
}

impl Cores {
    /// Of a generator on these CPUs of this node.
    pub(super) fn of(service: &Service, node: &str, own: &[usize]) -> Self {
        let beside = || service.records.iter().filter(|record| record.node == node);
        let shared = beside().any(|record| record.cpus.iter().any(|cpu| own.contains(cpu)));
        let told = beside().all(|record| !record.cpus.is_empty());
        // a service that is given by its address may be anywhere, also here
        let near = service.records.is_empty() && service.is_on_loopback();
        Self {
            shared,
            known: told && !near,
        }
    }
}

/// CPU time of this process so far, in seconds.
pub(super) fn cpu_seconds() -> f64 {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else {
        return 0.0;
    };
    let seconds =
        |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    seconds(usage.user_time()) + seconds(usage.system_time())
}

/// Most memory that this process has had so far.
pub(super) fn memory_mb() -> Option<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    Some(usage.max_rss() as f64 * 1024.0 / 1e6)
}
