//! Ports: drawn from a range, tested before they are given out.
//!
//! Drawing at random keeps jobs on a shared node apart without a lock. A test cannot reserve: between it and the
//! engine's own bind somebody may be faster, so who starts the engine draws again when that happens.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, TcpListener},
};

use rand::Rng as _;

/// No port is free in the range.
#[derive(Debug, thiserror::Error)]
#[error("no free port between {first} and {last}; set port_range in the site file")]
pub struct Exhausted {
    first: u16,
    last: u16,
}

/// Draws a free port of the range, none of `without`.
pub fn draw(range: (u16, u16), without: &[u16]) -> Result<u16, Exhausted> {
    let (first, last) = (range.0.min(range.1).max(1), range.0.max(range.1));
    let count = u32::from(last - first) + 1;
    let start = rand::rng().random_range(0..count);
    (0..count)
        .map(|step| first + u16::try_from((start + step) % count).unwrap_or(0))
        .filter(|port| !without.contains(port))
        .find(|port| is_free(*port))
        .ok_or(Exhausted { first, last })
}

/// Can somebody listen on this port, on every address?
///
/// A listener on whatever address, `SO_REUSEPORT` or not, refuses one that does not share. So the kernel is asked by
/// binding, and not its list of sockets, which takes milliseconds each time.
pub fn is_free(port: u16) -> bool {
    let taken = |result: io::Result<TcpListener>| {
        result.is_err_and(|error| {
            matches!(
                error.kind(),
                io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied
            )
        })
    };
    // a node without IPv6 fails in another way, which says nothing of the port
    !taken(TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)))
        && !taken(TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_taken_on_any_address_is_not_drawn() {
        for address in ["127.0.0.1:0", "0.0.0.0:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let port = listener.local_addr().unwrap().port();
            assert!(!is_free(port), "{address}");
            assert!(draw((port, port), &[]).is_err());
            drop(listener);
            assert_eq!(draw((port, port), &[]).unwrap(), port);
            assert!(draw((port, port), &[port]).is_err());
        }
    }

    #[test]
    fn a_listener_that_shares_its_port_holds_it() {
        use nix::sys::socket::{
            AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, getsockname, listen,
            setsockopt, socket, sockopt::ReusePort,
        };
        let sharing = socket(
            AddressFamily::Inet,
            SockType::Stream,
            SockFlag::empty(),
            None,
        )
        .unwrap();
        setsockopt(&sharing, ReusePort, &true).unwrap();
        bind(
            std::os::fd::AsRawFd::as_raw_fd(&sharing),
            &SockaddrIn::new(127, 0, 0, 1, 0),
        )
        .unwrap();
        listen(&sharing, Backlog::new(1).unwrap()).unwrap();
        let own: SockaddrIn = getsockname(std::os::fd::AsRawFd::as_raw_fd(&sharing)).unwrap();
        assert!(!is_free(own.port()));
        drop(sharing);
        assert!(is_free(own.port()));
    }

    #[test]
    fn an_empty_range_says_what_to_do() {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let error = draw((port, port), &[]).unwrap_err().to_string();
        assert!(
            error.ends_with("set port_range in the site file"),
            "{error}"
        );
    }
}
