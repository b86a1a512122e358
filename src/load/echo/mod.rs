//! An engine of exact times, on a thread of its own: what a load generator measures can be held against what was done.
//!
//! It answers as `OpenAI`'s APIs do and says nothing. A token is written when it is due (so long after its request came to
//! this machine, then at equal gaps), by absolute times, so that lateness does not add up. Of each request it remembers
//! when it came and when each token was written: that is the truth, also where it was late itself. A request came when the
//! kernel says so (`SO_TIMESTAMPNS`), not when the thread got round to it: else the client would be charged with that.
//!
//! Prepared bytes, one `epoll` loop, one timer: it must be faster than the client that it is for. It listens on loopback
//! only, and a key keeps others of the same machine away. What can fail is the start: no socket, no thread.

mod engine;
mod says;

use std::{
    io::{self, Read as _},
    net::{SocketAddr, TcpListener},
    os::{fd::AsRawFd as _, unix::net::UnixStream},
    thread::JoinHandle,
    time::Duration,
};

use nix::{
    sched::{CpuSet, sched_setaffinity},
    sys::socket::{AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, listen, socket},
    unistd::Pid,
};

use self::engine::Engine;
use crate::stats::certificate::Stamps;

/// How the engine answers.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Speed {
    /// From the request's coming to the first token; to the whole answer, where it is not streamed.
    pub first: Duration,
    /// From a token to the next. With both 0 it goes as fast as it can, a token to each stream in turn.
    pub gap: Duration,
    /// Tokens in a write; the whole answer is one where it is 0.
    pub per_write: u64,
    /// Of the tokens that a request asks for it gets this share, at least one.
    pub share: f64,
    /// The first answer on a connection ends early, each at another token: users that began together go apart, and
    /// stay so. Tokens are then due at any time, too, and not all at once.
    pub stagger: bool,
}

/// What a request is called, by its body.
pub type Tag = fn(&[u8]) -> Option<u64>;

/// What the engine is started with.
#[derive(Debug, Clone)]
pub struct Setup {
    /// How it answers.
    pub speed: Speed,
    /// The bearer that requests must carry, where there is one.
    pub key: Option<String>,
    /// What a request is called in the log, by its body; no log where there is none.
    pub tag: Option<Tag>,
    /// Tokens that the log has room for; requests that come when it is full are answered and not remembered.
    pub room: usize,
    /// CPUs to run on; those of whoever starts it where there is none, or where it may not have these.
    pub cpus: Vec<usize>,
}

/// All that was done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Log {
    /// Requests, in the order in which they ended: when each came and when each of its tokens was written; of an answer
    /// that is no stream, when that was.
    pub requests: Vec<Stamps>,
    /// When the first came.
    pub first: u64,
    /// Requests that came.
    pub came: u64,
    /// Tokens that were written.
    pub tokens: u64,
    /// Calls of the system that wrote them.
    pub writes: u64,
    /// By how much a token was late at the most, in nanoseconds.
    pub late: u64,
    /// CPUs that it ran on, where they were its own.
    pub cpus: Vec<usize>,
}

/// An engine that runs. It ends when this is dropped.
#[derive(Debug)]
pub struct Echo {
    address: SocketAddr,
    /// Closed to end it.
    end: UnixStream,
    thread: JoinHandle<io::Result<Log>>,
}

impl Echo {
    /// Starts it on a port of loopback.
    ///
    /// # Errors
    /// No socket, no thread.
    pub fn start(setup: Setup) -> io::Result<Self> {
        let listener = listener()?;
        let address = listener.local_addr()?;
        let (end, told) = UnixStream::pair()?;
        told.set_nonblocking(true)?;
        let thread = std::thread::Builder::new()
            .name("echo".to_owned())
            .spawn(move || serve(listener, &told, setup))?;
        Ok(Self {
            address,
            end,
            thread,
        })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it; tells what it did.
    ///
    /// # Errors
    /// It came to an unplanned end.
    pub fn stop(self) -> io::Result<Log> {
        drop(self.end);
        self.thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the echo engine ended unplanned")))
    }
}

/// Serves, on the thread that runs here, until the other end of `told` is closed.
///
/// # Errors
/// A system call that should not fail did.
pub fn serve(listener: TcpListener, told: &UnixStream, setup: Setup) -> io::Result<Log> {
    let cpus = take(&setup.cpus);
    let mut engine = Engine::new(listener, told, setup)?;
    engine.serve()?;
    let mut log = engine.into_log();
    log.cpus = cpus;
    Ok(log)
}

/// Did the other end close?
fn is_closed(mut told: &UnixStream) -> bool {
    matches!(told.read(&mut [0; 8]), Ok(0))
}

/// With the longest queue of connections that the system gives: ten thousand come at once.
///
/// # Errors
/// No socket.
pub fn listener() -> io::Result<TcpListener> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
    bind(socket.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0))?;
    listen(&socket, Backlog::MAXCONN)?;
    Ok(socket.into())
}

/// Takes these CPUs for this thread; gives those that it has then for itself.
fn take(cpus: &[usize]) -> Vec<usize> {
    let mut set = CpuSet::new();
    let known = cpus.iter().all(|cpu| set.set(*cpu).is_ok());
    let taken = known && !cpus.is_empty() && sched_setaffinity(Pid::from_raw(0), &set).is_ok();
    if taken { cpus.to_vec() } else { Vec::new() }
}

#[cfg(test)]
mod tests;
