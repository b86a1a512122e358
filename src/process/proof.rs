//! Whose is a listening socket?
//!
//! A probe that is answered proves nothing: another job on a shared node may hold the port, and its engine would be
//! measured under our name. So every LISTEN socket of the port (with `SO_REUSEPORT` there may be several) must be held
//! by a process of ours: one that descends from our child, or one whose environment carries our mark (`AIF_INSTANCE`),
//! which a process keeps that was given away by its parents. Some engines overwrite their environment and keep the
//! parents; some lose the parents and keep the environment: either is enough.
//!
//! Where `/proc` hides the holder (a setuid container runtime, a process that forbids to be looked at), the socket's
//! owner is still told. If that is us, the port was free before and the child lives, the proof is `weak`, not missing.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    ffi::OsStr,
    fmt,
};

use procfs::{
    net::{TcpNetEntry, TcpState},
    process::FDTarget,
};

use super::tree;

/// Who holds a port, as far as it can be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The process; `None` where `/proc` hides it.
    pub process: Option<(u32, String)>,
    /// The user.
    pub user: u32,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = nix::unistd::User::from_uid(self.user.into())
            .ok()
            .flatten()
            .map_or_else(|| self.user.to_string(), |user| user.name);
        match &self.process {
            Some((pid, name)) => write!(f, "process {pid} ({name}) of user {user}"),
            None => write!(f, "a process of user {user}"),
        }
    }
}

/// What a look at a port shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nobody listens.
    Nobody,
    /// Every socket was seen in a process of ours.
    Strong,
    /// The holder is hidden, but the socket belongs to our user.
    Weak,
    /// Somebody else listens there.
    Stranger(Holder),
    /// Somebody else listens there beside us (`SO_REUSEPORT`): the kernel chooses who is asked.
    Shared(Holder),
}

/// Whom we count as ours.
#[derive(Debug, Clone)]
pub struct Ours<'a> {
    /// Our child.
    pub child: u32,
    /// The value of `AIF_INSTANCE` in its environment.
    pub mark: &'a str,
}

/// Whose are the listening sockets of this port?
pub fn prove(port: u16, ours: &Ours<'_>) -> Verdict {
    let sockets: Vec<TcpNetEntry> = listening(|p| p == port);
    if sockets.is_empty() {
        return Verdict::Nobody;
    }
    let inodes: HashSet<u64> = sockets.iter().map(|socket| socket.inode).collect();
    let holders = holders(&inodes);
    let family = family(ours);
    let own_user = nix::unistd::geteuid().as_raw();
    let (mut seen, mut hidden, mut foreign) = (false, false, None);
    for socket in &sockets {
        match holders.get(&socket.inode) {
            Some(pids) if pids.iter().any(|pid| is_ours(*pid, &family, ours.mark)) => seen = true,
            None if socket.uid == own_user => hidden = true,
            pids => {
                let pid = pids.and_then(|pids| pids.first()).copied();
                foreign = Some(stranger(pid, socket.uid));
            }
        }
    }
    match foreign {
        Some(holder) if seen => Verdict::Shared(holder),
        Some(holder) => Verdict::Stranger(holder),
        None if hidden => Verdict::Weak,
        None => Verdict::Strong,
    }
}

/// Who listens on this port; `None`: nobody.
pub fn holder(port: u16) -> Option<Holder> {
    let socket = listening(|p| p == port).into_iter().next()?;
    let holders = holders(&HashSet::from([socket.inode]));
    let pid = holders.get(&socket.inode).and_then(|pids| pids.first());
    Some(stranger(pid.copied(), socket.uid))
}

/// The ports that processes of ours listen on.
pub fn ports(ours: &Ours<'_>) -> BTreeSet<u16> {
    let sockets = listening(|_| true);
    let inodes: HashSet<u64> = sockets.iter().map(|socket| socket.inode).collect();
    let holders = holders(&inodes);
    let family = family(ours);
    sockets
        .iter()
        .filter(|socket| {
            holders
                .get(&socket.inode)
                .is_some_and(|pids| pids.iter().any(|pid| is_ours(*pid, &family, ours.mark)))
        })
        .map(|socket| socket.local_address.port())
        .collect()
}

fn listening(wanted: impl Fn(u16) -> bool) -> Vec<TcpNetEntry> {
    let mut sockets = procfs::net::tcp().unwrap_or_default();
    sockets.extend(procfs::net::tcp6().unwrap_or_default());
    sockets
        .retain(|socket| socket.state == TcpState::Listen && wanted(socket.local_address.port()));
    sockets
}

/// The processes that hold these sockets, as far as `/proc` shows them.
fn holders(inodes: &HashSet<u64>) -> BTreeMap<u64, Vec<u32>> {
    let mut holders: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
    let Ok(all) = procfs::process::all_processes() else {
        return holders;
    };
    for process in all.filter_map(Result::ok) {
        let Ok(descriptors) = process.fd() else {
            continue;
        };
        for descriptor in descriptors.filter_map(Result::ok) {
            if let FDTarget::Socket(inode) = descriptor.target
                && inodes.contains(&inode)
                && let Ok(pid) = u32::try_from(process.pid())
            {
                holders.entry(inode).or_default().push(pid);
            }
        }
    }
    holders
}

fn family(ours: &Ours<'_>) -> HashMap<u32, String> {
    tree::family(ours.child)
        .into_iter()
        .map(|process| (process.pid, process.name))
        .collect()
}

fn is_ours(pid: u32, family: &HashMap<u32, String>, mark: &str) -> bool {
    family.contains_key(&pid) || carries(pid, mark)
}

fn carries(pid: u32, mark: &str) -> bool {
    let environ = i32::try_from(pid)
        .ok()
        .and_then(|pid| procfs::process::Process::new(pid).ok())
        .and_then(|process| process.environ().ok());
    environ.is_some_and(|environ| {
        environ
            .get(OsStr::new(MARK))
            .is_some_and(|value| value == mark)
    })
}

/// The variable that marks a process as ours.
pub const MARK: &str = "AIF_INSTANCE";

fn stranger(pid: Option<u32>, user: u32) -> Holder {
    let name = |pid: u32| {
        let stat = procfs::process::Process::new(i32::try_from(pid).ok()?)
            .ok()?
            .stat()
            .ok()?;
        Some((pid, stat.comm))
    };
    Holder {
        process: pid.and_then(name),
        user,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::TcpListener,
        os::fd::{AsRawFd as _, OwnedFd},
    };

    use super::*;

    #[test]
    fn a_socket_of_ours_is_proven_and_one_of_others_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let own = std::process::id();
        let ours = Ours {
            child: own,
            mark: "none",
        };
        assert_eq!(prove(port, &ours), Verdict::Strong);
        assert!(ports(&ours).contains(&port));

        let nobody = Ours {
            child: u32::MAX,
            mark: "none",
        };
        let Verdict::Stranger(holder) = prove(port, &nobody) else {
            panic!("a stranger was not seen");
        };
        assert_eq!(holder.process.as_ref().map(|(pid, _)| *pid), Some(own));
        assert!(holder.to_string().starts_with(&format!("process {own} (")));
        drop(listener);
        assert_eq!(prove(port, &ours), Verdict::Nobody);
    }

    #[test]
    fn a_port_that_is_shared_with_a_stranger_is_not_ours() {
        let (own, port) = shared_listener(0);
        let (other, _) = shared_listener(port);
        // it holds the one as its standard input, and we the other
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .stdin(OwnedFd::from(other))
            .spawn()
            .unwrap();
        let ours = Ours {
            child: child.id(),
            mark: "none",
        };
        let shared = prove(port, &ours);
        drop(own);
        let alone = prove(port, &ours);
        child.kill().unwrap();
        child.wait().unwrap();
        let Verdict::Shared(holder) = shared else {
            panic!("a stranger beside us was not seen: {shared:?}");
        };
        let seen = holder.process.map(|(pid, _)| pid);
        assert_eq!(seen, Some(std::process::id()));
        assert_eq!(alone, Verdict::Strong);
    }

    fn shared_listener(port: u16) -> (TcpListener, u16) {
        use nix::sys::socket::{
            AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, listen, setsockopt,
            socket, sockopt::ReusePort,
        };
        let made = socket(
            AddressFamily::Inet,
            SockType::Stream,
            SockFlag::SOCK_CLOEXEC,
            None,
        )
        .unwrap();
        setsockopt(&made, ReusePort, &true).unwrap();
        bind(made.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, port)).unwrap();
        listen(&made, Backlog::new(1).unwrap()).unwrap();
        let listener = TcpListener::from(made);
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    }

    #[test]
    fn a_process_without_our_parents_is_known_by_its_mark() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .env(MARK, "server-7")
            .spawn()
            .unwrap();
        // the mark is there when the new program is
        while !carries(child.id(), "server-7") {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert!(!carries(child.id(), "server-8"));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
