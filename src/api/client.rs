//! A small HTTP client for probes, agents, registries and Prometheus: one request, one connection, one deadline.
//!
//! The load path does not use it (it keeps its own connections and stamps); here clarity wins. HTTP/1.1 without TLS,
//! because nearly all that it asks is on the same node or the same cluster network; [`get_by`] is for what is not.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::tls::{self, Tls};

/// Why no answer came.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL is none that this client can ask.
    #[error("{url} is no http:// URL")]
    Url {
        /// What was given.
        url: String,
    },
    /// Nobody listens, or nobody is reached.
    #[error("cannot connect to {authority}")]
    Connect {
        /// Host and port.
        authority: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The deadline passed.
    #[error("no answer from {url} within {timeout:?}")]
    Timeout {
        /// What was asked.
        url: String,
        /// The deadline.
        timeout: Duration,
    },
    /// The connection broke, or the answer was no HTTP.
    #[error("no valid answer from {url}")]
    Http {
        /// What was asked.
        url: String,
        /// What hyper said.
        #[source]
        source: hyper::Error,
    },
    /// The answer is no JSON.
    #[error("answer of {url} is no JSON")]
    Json {
        /// What was asked.
        url: String,
        /// What serde said.
        #[source]
        source: serde_json::Error,
    },
}

impl Error {
    /// Was the connection refused, so that certainly nobody listens there?
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::Connect { source, .. } if source.kind() == std::io::ErrorKind::ConnectionRefused)
    }
}

/// How one gets in.
#[derive(Debug, Clone, Default)]
pub enum Access {
    /// Freely.
    #[default]
    Open,
    /// By a bearer.
    Bearer(String),
    /// By user and password.
    Basic(String, String),
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// `Content-Type`, where given.
    pub content_type: Option<String>,
    /// Its body.
    pub body: Bytes,
    url: String,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|source| Error::Json {
            url: self.url.clone(),
            source,
        })
    }
}

/// Asks by GET.
pub async fn get(url: &str, access: &Access, timeout: Duration) -> Result<Answer, Error> {
    send(Method::GET, url, access, None, (timeout, None)).await
}

/// Asks by GET, also an address of `https://`, where there is something to do it with.
pub async fn get_by(
    url: &str,
    access: &Access,
    timeout: Duration,
    tls: Option<&Tls>,
) -> Result<Answer, Error> {
    send(Method::GET, url, access, None, (timeout, tls)).await
}

/// Sends a form by POST.
pub async fn post_form(
    url: &str,
    access: &Access,
    form: String,
    timeout: Duration,
) -> Result<Answer, Error> {
    send(
        Method::POST,
        url,
        access,
        Some(("application/x-www-form-urlencoded", Bytes::from(form))),
        (timeout, None),
    )
    .await
}

/// Sends JSON by POST.
pub async fn post_json(
    url: &str,
    access: &Access,
    body: &serde_json::Value,
    timeout: Duration,
) -> Result<Answer, Error> {
    send(
        Method::POST,
        url,
        access,
        Some(("application/json", Bytes::from(body.to_string()))),
        (timeout, None),
    )
    .await
}

async fn send(
    method: Method,
    url: &str,
    access: &Access,
    body: Option<(&'static str, Bytes)>,
    (timeout, tls): (Duration, Option<&Tls>),
) -> Result<Answer, Error> {
    let timed_out = || Error::Timeout {
        url: url.to_owned(),
        timeout,
    };
    tokio::time::timeout(timeout, exchange(method, url, access, body, tls))
        .await
        .unwrap_or_else(|_| Err(timed_out()))
}

async fn exchange(
    method: Method,
    url: &str,
    access: &Access,
    body: Option<(&'static str, Bytes)>,
    tls: Option<&Tls>,
) -> Result<Answer, Error> {
    let bad_url = || Error::Url {
        url: url.to_owned(),
    };
    let uri: Uri = url.parse().map_err(|_| bad_url())?;
    let authority = uri
        .authority()
        .filter(|_| match uri.scheme_str() {
            Some("http") => true,
            Some("https") => tls.is_some(),
            _ => false,
        })
        .ok_or_else(bad_url)?;
    let tls = tls.filter(|_| uri.scheme_str() == Some("https"));
    let default = if tls.is_some() { tls::HTTPS } else { 80 };
    let port = authority.port_u16().unwrap_or(default);
    let host = tls::bare(authority.host());
    let open = async {
        let stream = TcpStream::connect((host, port)).await?;
        let _ = stream.set_nodelay(true);
        match tls {
            Some(tls) => tls.secure(host, stream).await,
            None => Ok(tls::plain(stream)),
        }
    };
    let stream = open.await.map_err(|source| Error::Connect {
        authority: authority.to_string(),
        source,
    })?;
    let http = |source| Error::Http {
        url: url.to_owned(),
        source,
    };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(http)?;

    let mut request = Request::builder()
        .method(method)
        .uri(uri.path_and_query().map_or("/", |path| path.as_str()))
        .header(header::HOST, authority.as_str())
        .header(header::CONNECTION, "close")
        .header(
            header::USER_AGENT,
            concat!("aif/", env!("CARGO_PKG_VERSION")),
        );
    request = match access {
        Access::Open => request,
        Access::Bearer(key) => request.header(header::AUTHORIZATION, format!("Bearer {key}")),
        Access::Basic(user, password) => {
            use base64::Engine as _;
            let pair =
                base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
            request.header(header::AUTHORIZATION, format!("Basic {pair}"))
        }
    };
    if let Some((content_type, _)) = &body {
        request = request.header(header::CONTENT_TYPE, *content_type);
    }
    let request = request
        .body(Full::new(body.map(|(_, bytes)| bytes).unwrap_or_default()))
        .map_err(|_| bad_url())?;

    // the connection is driven beside the request: no task outlives this call
    let answer = async {
        let response = sender.send_request(request).await.map_err(http)?;
        let status = response.status();
        let content_type = response
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|v| v.to_str().ok())
            .map(str::to_owned);
        let body = response
            .into_body()
            .collect()
            .await
            .map_err(http)?
            .to_bytes();
        Ok(Answer {
            status,
            content_type,
            body,
            url: url.to_owned(),
        })
    };
    let drive = async {
        let _ = connection.await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        answer = answer => answer,
        () = drive => unreachable!("the driver never ends"),
    }
}
