//! Connections of the load path: opened by ourselves, so that the time they take is measured, and kept alive.
//!
//! There is no cap: as many connections are open as there are requests in flight. What carries the bytes, and what waits
//! for a moment, is a trait, so that tests run the whole path on pipes in paused time. A connection belongs to the event
//! loop that it was opened on, so every worker has a pool of its own.

use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    os::fd::AsRawFd as _,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Waker},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, ReadBuf},
    net::{TcpSocket, TcpStream, lookup_host},
    sync::OnceCell,
    time::{Instant, Sleep, sleep},
};

use super::{
    answer::Memory,
    pace::{Pace, Timer},
    receive::{self, Receive},
    room,
};
use crate::tls::{self, Stream, Tls};

/// Something that opens byte streams to the targets of a load.
pub trait Connect: Clone + Send + Sync + 'static {
    /// The stream.
    type Stream: Receive;
    /// What waits for the moments of a schedule.
    type Pace: Pace;

    /// Opens a stream to this `host:port`.
    fn connect(&self, authority: &str) -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// The same, and what of its time was spent on what, where that is known; the whole is told by whoever waits.
    fn open(
        &self,
        authority: &str,
    ) -> impl Future<Output = io::Result<(Self::Stream, Took)>> + Send {
        async { Ok((self.connect(authority).await?, Took::default())) }
    }

    /// Something that waits, on the event loop that runs here.
    fn pace(&self) -> io::Result<Self::Pace>;
}

/// How long a connection took to open, and parts of that.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Took {
    /// All of it.
    pub whole: Duration,
    /// The look-up of a name; `None` where that was known, or is an address.
    pub looking_up: Option<Duration>,
    /// To agree on encryption; `None` of a plain one.
    pub securing: Option<Duration>,
}

/// Real connections. Names are looked up once.
#[derive(Debug, Clone, Default)]
pub struct Tcp {
    addresses: OnceCell<Vec<SocketAddr>>,
    /// Where connections are encrypted. A connection is then open when it is agreed how.
    tls: Option<Tls>,
    /// Is what comes stamped when it is read, also where the system knows better?
    unstamped: bool,
}

impl Tcp {
    /// Encrypted where there is something to do it with.
    pub fn new(tls: Option<Tls>) -> Self {
        Self {
            addresses: OnceCell::new(),
            tls,
            unstamped: false,
        }
    }

    /// Plain connections whose bytes are stamped when they are read, as those of encrypted ones are.
    pub fn unstamped() -> Self {
        Self {
            unstamped: true,
            ..Self::default()
        }
    }
}

impl Connect for Tcp {
    type Stream = Stream;
    type Pace = Timer;

    async fn connect(&self, authority: &str) -> io::Result<Stream> {
        Ok(self.open(authority).await?.0)
    }

    async fn open(&self, authority: &str) -> io::Result<(Stream, Took)> {
        let mut took = Took::default();
        let port = if self.tls.is_some() { tls::HTTPS } else { 80 };
        let (host, whole) = tls::split(authority, port);
        let find = async || Ok::<_, io::Error>(lookup_host(&whole).await?.collect());
        let is_asked = !self.addresses.initialized() && tls::bare(host).parse::<IpAddr>().is_err();
        let start = Instant::now();
        let addresses = self.addresses.get_or_try_init(find).await?;
        took.looking_up = is_asked.then(|| start.elapsed());
        let stream = first_of(addresses).await?;
        stream.set_nodelay(true)?;
        if !self.unstamped {
            // where the system does not know, stamps are taken when bytes are read
            let _ = receive::ask_for_stamps(&stream);
        }
        match &self.tls {
            Some(tls) => {
                let start = Instant::now();
                let stream = tls.secure(tls::bare(host), stream).await?;
                took.securing = Some(start.elapsed());
                Ok((stream, took))
            }
            None => Ok((tls::plain(stream), took)),
        }
    }

    fn pace(&self) -> io::Result<Timer> {
        Timer::new()
    }
}

/// A stream to the first of these addresses that takes it. Where none does, a refusal is what tells most: it comes from the
/// service's machine, while an address of a family that this machine does not use fails for reasons of its own.
async fn first_of(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut told: Option<io::Error> = None;
    let mut tell = |error: io::Error| {
        let is_refused = |told: &io::Error| told.kind() == io::ErrorKind::ConnectionRefused;
        if !told.as_ref().is_some_and(is_refused) {
            told = Some(error);
        }
    };
    for address in addresses {
        let socket = if address.is_ipv4() {
            TcpSocket::new_v4()
        } else {
            TcpSocket::new_v6()
        };
        let socket = match socket {
            Ok(socket) if room::is_spare(socket.as_raw_fd()) => return Err(room::none_left()),
            Ok(socket) => socket,
            // a machine without IPv6 may have the other
            Err(error) => {
                tell(error);
                continue;
            }
        };
        match socket.connect(*address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => tell(error),
        }
    }
    let nowhere = || io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    Err(told.unwrap_or_else(nowhere))
}

/// One connection, with what an exchange on it needs: kept from one to the next, so that nothing is made anew.
pub struct Connection<S> {
    pub(super) stream: S,
    /// Has it carried a request before?
    pub(super) used: bool,
    pub(super) memory: Memory,
    /// The limit of the exchange.
    pub(super) limit: Pin<Box<Sleep>>,
}

impl<S: AsyncRead + Unpin> Connection<S> {
    /// Is it open, with nothing to read? What the event loop knows is asked, not the system.
    fn is_idle(&mut self) -> bool {
        let mut byte = [0];
        let mut context = Context::from_waker(Waker::noop());
        Pin::new(&mut self.stream)
            .poll_read(&mut context, &mut ReadBuf::new(&mut byte))
            .is_pending()
    }
}

/// Idle connections to one target, the warmest last.
pub struct Pool<C: Connect> {
    connector: C,
    authority: String,
    /// Does a connection carry more than one request?
    keep_alive: bool,
    idle: Mutex<Vec<Connection<C::Stream>>>,
}

impl<C: Connect> Pool<C> {
    /// A pool without connections.
    pub fn new(connector: C, authority: &str) -> Self {
        Self {
            connector,
            authority: authority.to_owned(),
            keep_alive: true,
            idle: Mutex::new(Vec::new()),
        }
    }

    /// The same; where not, every request has a connection of its own.
    #[must_use]
    pub fn keep_alive(self, keep_alive: bool) -> Self {
        Self { keep_alive, ..self }
    }

    /// Does a connection carry more than one request?
    pub fn is_kept_alive(&self) -> bool {
        self.keep_alive
    }

    /// A pool of the same target, without connections.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self::new(self.connector.clone(), &self.authority).keep_alive(self.keep_alive)
    }

    /// The target's `host:port`.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// What opens its connections.
    pub fn connector(&self) -> &C {
        &self.connector
    }

    /// An idle connection that is still open.
    pub(super) fn take(&self) -> Option<Connection<C::Stream>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(mut connection) = idle.pop() {
            if connection.is_idle() {
                return Some(connection);
            }
        }
        None
    }

    /// Gives a connection back.
    pub(super) fn give(&self, mut connection: Connection<C::Stream>) {
        if !self.keep_alive {
            return;
        }
        connection.used = true;
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(connection);
    }

    /// Opens a connection; tells how long that took.
    pub(super) async fn open(&self) -> io::Result<(Connection<C::Stream>, Took)> {
        let start = Instant::now();
        let (stream, mut took) = self.connector.open(&self.authority).await?;
        let connection = Connection {
            stream,
            used: false,
            memory: Memory::default(),
            limit: Box::pin(sleep(Duration::ZERO)),
        };
        took.whole = start.elapsed();
        Ok((connection, took))
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_refusal_is_told_whatever_fails_after_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let closed = listener.local_addr().expect("an address");
        drop(listener);
        // nothing can be connected to that: this machine itself says so
        let broadcast = "255.255.255.255:9".parse().expect("an address");
        let alone = first_of(&[broadcast]).await.expect_err("no stream");
        assert_ne!(alone.kind(), io::ErrorKind::ConnectionRefused);
        for addresses in [[closed, broadcast], [broadcast, closed]] {
            let error = first_of(&addresses).await.expect_err("no stream");
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{error}");
        }
        let none = first_of(&[]).await.expect_err("no stream");
        assert_eq!(none.kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn the_look_up_of_a_name_is_told_apart_and_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let named = Tcp::default();
        let authority = format!("localhost:{port}");
        let (_, took) = named.open(&authority).await.expect("open");
        assert!(took.looking_up.is_some());
        assert_eq!(took.securing, None, "nothing is encrypted");
        let (_, took) = named.open(&authority).await.expect("open");
        assert_eq!(took.looking_up, None, "it is known");
        let (_, took) = (Tcp::default().open(&format!("127.0.0.1:{port}")).await).expect("open");
        assert_eq!(took.looking_up, None, "an address needs none");
    }
}
