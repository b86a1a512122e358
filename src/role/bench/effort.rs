//! What the generator has of its node, and what it took of that. Nothing can fail: what the kernel does not tell is none.

use std::net::IpAddr;

use nix::{
    ifaddrs::getifaddrs,
    sys::resource::{UsageWho, getrusage},
};

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
        let near = service.records.is_empty() && service.is_here;
        Self {
            shared,
            known: told && !near,
        }
    }
}

/// Is one of these addresses this machine's?
pub(super) fn is_own(addresses: impl IntoIterator<Item = IpAddr>) -> bool {
    let own: Vec<IpAddr> = getifaddrs()
        .into_iter()
        .flatten()
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|found| found.ip().into());
            v4.or_else(|| address.as_sockaddr_in6().map(|found| found.ip().into()))
        })
        .collect();
    addresses.into_iter().any(|address| {
        let address = address.to_canonical();
        address.is_loopback() || address.is_unspecified() || own.contains(&address)
    })
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

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, UdpSocket};

    use super::*;

    #[test]
    fn an_address_of_this_machine_is_known_by_whatever_interface() {
        for own in [
            "127.0.0.1",
            "127.3.2.1",
            "::1",
            "::ffff:127.0.0.1",
            "0.0.0.0",
        ] {
            assert!(is_own([own.parse().expect("an address")]), "{own}");
        }
        // for documents: nobody has it
        let other = IpAddr::from(Ipv4Addr::new(192, 0, 2, 1));
        assert!(!is_own([other]));
        assert!(!is_own([]));
        // where there is a way out, the address that it begins at
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        if socket.connect((other, 9)).is_ok() {
            let address = socket.local_addr().expect("an address").ip();
            assert!(is_own([other, address]), "{address}");
        }
    }
}
