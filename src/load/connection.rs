//! Connections of the load path: opened by ourselves, so that the time they take is measured, and kept alive.
//!
//! There is no cap: as many connections are open as there are requests in flight. What carries the bytes is a trait, so
//! that tests run the whole path on pipes in paused time.

use std::{
    future::Future,
    io,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::Instant,
};
use tokio_util::task::TaskTracker;

/// Something that opens byte streams to the targets of a load.
pub trait Connect: Send + Sync + 'static {
    /// The stream.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Opens one to this `host:port`.
    fn connect(&self, authority: &str) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

/// Real connections.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tcp;

impl Connect for Tcp {
    type Stream = TcpStream;

    async fn connect(&self, authority: &str) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(authority).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// One connection that can carry a request.
#[derive(Debug)]
pub struct Connection {
    pub(super) sender: SendRequest<Full<Bytes>>,
    /// Has it carried a request before?
    pub(super) used: bool,
}

/// Idle connections to one target, the warmest last.
#[derive(Debug)]
pub struct Pool<C> {
    connector: C,
    authority: String,
    idle: Mutex<Vec<Connection>>,
    drivers: TaskTracker,
}

impl<C: Connect> Pool<C> {
    /// A pool without connections.
    pub fn new(connector: C, authority: &str) -> Self {
        Self {
            connector,
            authority: authority.to_owned(),
            idle: Mutex::new(Vec::new()),
            drivers: TaskTracker::new(),
        }
    }

    /// The target's `host:port`.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// An idle connection that is still open.
    pub(super) fn take(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(connection) = idle.pop() {
            if !connection.sender.is_closed() {
                return Some(connection);
            }
        }
        None
    }

    /// Gives a connection back.
    pub(super) fn give(&self, mut connection: Connection) {
        connection.used = true;
        if !connection.sender.is_closed() {
            self.idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(connection);
        }
    }

    /// Opens a connection; tells how long that took.
    pub(super) async fn open(&self) -> io::Result<(Connection, Duration)> {
        let start = Instant::now();
        let stream = self.connector.connect(&self.authority).await?;
        let (sender, driver) = handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        // it ends when the sender is dropped or the peer closes
        self.drivers.spawn(driver);
        Ok((
            Connection {
                sender,
                used: false,
            },
            start.elapsed(),
        ))
    }
}
