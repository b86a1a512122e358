//! TLS for the addresses that are given by `--url https://…`: a build may speak it (`--features tls`) or not.
//!
//! Engines inside a cluster are reached without it, and it brings a library of cryptography with it, so it is left out
//! unless it is asked for. This is the one place that knows: without the feature nobody can have a [`Tls`], and whoever wants one
//! is told how to get it. With it, certificates are checked against those that the system trusts, or against a file alone.
//! Fails with words for people: a file that holds no certificate, a system that trusts none, a server that is not whom
//! it says to be.

use std::{io, path::Path};

use tokio::net::TcpStream;

pub use self::inner::{Stream, Tls};

/// A port where an address names none.
pub const HTTPS: u16 = 443;

/// The two in a build that speaks TLS.
#[cfg(feature = "tls")]
mod inner {
    use std::{
        fmt, io,
        path::Path,
        pin::Pin,
        sync::Arc,
        task::{Context, Poll, ready},
    };

    use tokio::{
        io::{AsyncRead, AsyncWrite, ReadBuf},
        net::TcpStream,
    };
    use tokio_rustls::{
        TlsConnector,
        client::TlsStream,
        rustls::{
            ClientConfig, RootCertStore,
            pki_types::{CertificateDer, ServerName, pem::PemObject as _},
        },
    };

    /// Whom to trust.
    #[derive(Clone)]
    pub struct Tls(TlsConnector);

    impl fmt::Debug for Tls {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Tls")
        }
    }

    pub(super) fn trust(ca_file: Option<&Path>) -> io::Result<Tls> {
        let mut roots = RootCertStore::empty();
        let found: Vec<CertificateDer<'_>> = match ca_file {
            Some(file) => CertificateDer::pem_file_iter(file)
                .and_then(Iterator::collect)
                .map_err(|error| io::Error::other(format!("{}: {error}", file.display())))?,
            // one that cannot be read is one that is not trusted
            None => rustls_native_certs::load_native_certs().certs,
        };
        roots.add_parsable_certificates(found);
        if roots.is_empty() {
            let whose = ca_file.map_or_else(
                || "the system's store of trusted certificates".to_owned(),
                |file| file.display().to_string(),
            );
            return Err(io::Error::other(format!("{whose} holds no certificate")));
        }
        let config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Tls(TlsConnector::from(Arc::new(config))))
    }

    pub(super) async fn secure(tls: &Tls, host: &str, stream: TcpStream) -> io::Result<Stream> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let stream = tls.0.connect(name, stream).await?;
        Ok(Stream::Secure(Box::new(stream), false))
    }

    /// What a connection is made of.
    #[derive(Debug)]
    pub enum Stream {
        /// Plain.
        Plain(TcpStream),
        /// Encrypted; is there something that was written and has not left?
        Secure(Box<TlsStream<TcpStream>>, bool),
    }

    pub(super) const fn plain(stream: TcpStream) -> Stream {
        Stream::Plain(stream)
    }

    pub(super) const fn socket(stream: &Stream) -> Option<&TcpStream> {
        match stream {
            Stream::Plain(stream) => Some(stream),
            Stream::Secure(..) => None,
        }
    }

    impl AsyncRead for Stream {
        fn poll_read(
            self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            match self.get_mut() {
                Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
                Self::Secure(stream, held) => {
                    // whoever reads waits for an answer, so what it answers must leave
                    if *held && let Poll::Ready(left) = Pin::new(&mut *stream).poll_flush(context) {
                        left?;
                        *held = false;
                    }
                    Pin::new(stream).poll_read(context, buffer)
                }
            }
        }
    }

    impl AsyncWrite for Stream {
        fn poll_write(
            self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            match self.get_mut() {
                Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
                Self::Secure(stream, held) => {
                    let count = ready!(Pin::new(&mut *stream).poll_write(context, bytes))?;
                    *held = Pin::new(stream).poll_flush(context)?.is_pending();
                    Poll::Ready(Ok(count))
                }
            }
        }

        fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            match self.get_mut() {
                Self::Plain(stream) => Pin::new(stream).poll_flush(context),
                Self::Secure(stream, _) => Pin::new(stream).poll_flush(context),
            }
        }

        fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            match self.get_mut() {
                Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
                Self::Secure(stream, _) => Pin::new(stream).poll_shutdown(context),
            }
        }
    }
}

/// The two in a build that does not.
#[cfg(not(feature = "tls"))]
mod inner {
    use std::{io, path::Path};

    use tokio::net::TcpStream;

    /// Nobody has one.
    #[derive(Debug, Clone)]
    pub enum Tls {}

    pub(super) fn trust(_: Option<&Path>) -> io::Result<Tls> {
        Err(io::Error::other(
            "this aif was built without TLS: `cargo build --release --locked --features tls` makes one that speaks it",
        ))
    }

    #[expect(clippy::unused_async, reason = "the other build waits here")]
    pub(super) async fn secure(tls: &Tls, _: &str, _: TcpStream) -> io::Result<Stream> {
        match *tls {}
    }

    pub(super) const fn plain(stream: TcpStream) -> Stream {
        stream
    }

    #[expect(clippy::unnecessary_wraps, reason = "the other build has some without")]
    pub(super) const fn socket(stream: &Stream) -> Option<&TcpStream> {
        Some(stream)
    }

    /// What a connection is made of.
    pub type Stream = TcpStream;
}

impl Tls {
    /// Trusts what the system trusts, or what a file of PEM names and nobody else.
    ///
    /// # Errors
    /// Nobody to trust, or a build without TLS.
    pub fn new(ca_file: Option<&Path>) -> io::Result<Self> {
        inner::trust(ca_file)
    }

    /// Makes a connection to this host one that nobody else reads.
    ///
    /// # Errors
    /// The other side is not whom it should be, or speaks no TLS.
    pub async fn secure(&self, host: &str, stream: TcpStream) -> io::Result<Stream> {
        inner::secure(self, host, stream).await
    }
}

/// A connection as it is.
pub const fn plain(stream: TcpStream) -> Stream {
    inner::plain(stream)
}

/// The socket of a connection whose bytes are those that are read; `None` of an encrypted one.
pub const fn socket(stream: &Stream) -> Option<&TcpStream> {
    inner::socket(stream)
}

/// Does an address want it?
pub fn is_wanted(url: &str) -> bool {
    url.starts_with("https://")
}

/// The host of `host:port`, and the whole with a port where it had none.
pub fn split(authority: &str, port: u16) -> (&str, String) {
    // within brackets colons are those of an address
    let after = authority.rfind(']').unwrap_or(0);
    match authority[after..].rfind(':') {
        Some(colon) => (&authority[..after + colon], authority.to_owned()),
        None => (authority, format!("{authority}:{port}")),
    }
}

/// A host as a certificate names it.
pub fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_added_where_there_is_none() {
        let table = [
            ("h", "h", "h:443"),
            ("h:8000", "h", "h:8000"),
            ("10.0.0.1", "10.0.0.1", "10.0.0.1:443"),
            ("[fd00::1]", "[fd00::1]", "[fd00::1]:443"),
            ("[fd00::1]:80", "[fd00::1]", "[fd00::1]:80"),
        ];
        for (authority, host, whole) in table {
            assert_eq!(split(authority, HTTPS), (host, whole.to_owned()));
        }
        assert_eq!(bare("[fd00::1]"), "fd00::1");
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn a_build_without_it_says_how_to_get_it() {
        let error = Tls::new(None).expect_err("no TLS").to_string();
        assert!(error.contains("--features tls"), "{error}");
    }
}
