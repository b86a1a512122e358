//! The address by which other nodes reach this one.
//!
//! `SLURMD_NODENAME` may be any string, and a name may resolve to a loopback address (Debian's `127.0.1.1`): a record
//! with either would be an endpoint that nobody reaches. So the name counts only where it resolves to an address that
//! one of our interfaces has; else an interface's own address is taken.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs as _};

use nix::{ifaddrs::getifaddrs, net::if_::InterfaceFlags};

/// Interfaces of containers and virtual machines: other nodes do not see them.
const INTERNAL: [&str; 6] = ["docker", "virbr", "veth", "br-", "cni", "podman"];

/// What other nodes can reach: the node's name where it resolves to an address of ours, else an interface's address;
/// without Slurm everything stays on `127.0.0.1`. May ask the resolver, so it may take a moment.
pub fn reachable_address(node: &str, in_slurm: bool) -> String {
    if !in_slurm {
        return "127.0.0.1".to_owned();
    }
    let resolved: Vec<IpAddr> = (node, 0)
        .to_socket_addrs()
        .map(|addresses| addresses.map(|address| address.ip()).collect())
        .unwrap_or_default();
    choose(node, &resolved, &own_addresses())
}

/// An address as a number, of one that [`reachable_address`] gave: some programs want no names. May ask the resolver.
pub fn numeric_address(reachable: &str) -> String {
    let resolved = (reachable, 0).to_socket_addrs();
    let first = resolved.ok().and_then(|mut addresses| {
        addresses.find(|address| !address.ip().is_loopback() || reachable.starts_with("127."))
    });
    first.map_or_else(|| reachable.to_owned(), |address| address.ip().to_string())
}

/// Where to listen, so that [`reachable_address`] reaches it: everywhere under Slurm, else on the loopback only.
pub fn listening_address(reachable: &str, in_slurm: bool) -> IpAddr {
    match (in_slurm, reachable.starts_with('[')) {
        (false, _) => Ipv4Addr::LOCALHOST.into(),
        (true, false) => Ipv4Addr::UNSPECIFIED.into(),
        (true, true) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

fn choose(node: &str, resolved: &[IpAddr], own: &[IpAddr]) -> String {
    let ours = |ip: &&IpAddr| !ip.is_loopback() && own.contains(ip);
    if resolved.iter().any(|ip| ours(&ip)) {
        return node.to_owned();
    }
    let best = own.iter().find(|ip| ip.is_ipv4()).or_else(|| own.first());
    match best {
        Some(IpAddr::V4(ip)) => ip.to_string(),
        Some(IpAddr::V6(ip)) => format!("[{ip}]"),
        None => node.to_owned(),
    }
}

/// Addresses of the interfaces that are up and that other nodes may see.
fn own_addresses() -> Vec<IpAddr> {
    let Ok(interfaces) = getifaddrs() else {
        return Vec::new();
    };
    interfaces
        .filter(|interface| {
            interface.flags.contains(InterfaceFlags::IFF_UP)
                && !interface.flags.contains(InterfaceFlags::IFF_LOOPBACK)
                && !INTERNAL
                    .iter()
                    .any(|name| interface.interface_name.starts_with(name))
        })
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
        })
        .filter(|ip| !matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn under_slurm_one_listens_everywhere_and_else_on_the_loopback() {
        let cases = [
            ("127.0.0.1", false, "127.0.0.1"),
            ("node7", true, "0.0.0.0"),
            ("[fd00::7]", true, "::"),
        ];
        for (reachable, in_slurm, listens) in cases {
            assert_eq!(listening_address(reachable, in_slurm).to_string(), listens);
        }
    }

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn the_name_counts_only_where_it_leads_here() {
        let cases: [(&[&str], &[&str], &str); 6] = [
            (&["198.51.100.11"], &["198.51.100.11"], "node1"),
            (&["127.0.1.1"], &["198.51.100.11"], "198.51.100.11"),
            (&["203.0.113.9"], &["198.51.100.11"], "198.51.100.11"),
            (&[], &["2001:db8::1", "198.51.100.11"], "198.51.100.11"),
            (&[], &["2001:db8::1"], "[2001:db8::1]"),
            (&["127.0.0.1"], &[], "node1"),
        ];
        for (resolved, own, expected) in cases {
            assert_eq!(choose("node1", &ips(resolved), &ips(own)), expected);
        }
    }

    #[test]
    fn without_slurm_everything_stays_on_the_loopback() {
        assert_eq!(reachable_address("anything", false), "127.0.0.1");
    }
}
