//! The agent: the small HTTP listener of a role.
//!
//! | path | answers |
//! |---|---|
//! | `/metrics` | the role's own metrics, in the `OpenMetrics` text format, or in the older one for who asks for that alone |
//! | `/instance` | the role's record as it stands |
//! | `/engine/metrics` | of a server: its engine's metrics, served again |
//! | `/` | of a monitor: a page for people ([`super::page`]), with a password of its own |
//!
//! Every other path wants the bearer of `scrape.key`: nodes are shared, and a record tells where a service is.
//! `/engine/metrics` exists so that Prometheus never needs an engine's own key.
//!
//! The content type is exact, because Prometheus 3 fails a scrape whose type it does not know. An agent is not on the
//! tracker of [`Shutdown`]: it must answer while its role drains, so waiting for the tracker must not wait for it. It
//! ends with `shutdown.stop`, with [`Serving::stop`], or with the process. What can fail: a client that goes away or
//! sends rubbish, which ends its connection and nothing else; `accept`, which is tried again after a pause.

use std::{
    convert::Infallible,
    io,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode, body::Incoming, header, server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use sha2::{Digest as _, Sha256};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;

use super::{aliases, exposition, page::Page};
use crate::{
    api::client::{self, Access},
    process::port,
    shutdown::Shutdown,
};

/// What [`Agent`] answers with at `/metrics`: the only form in which all Prometheus since 2.5 read `OpenMetrics`.
pub const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The older format, and what is said of an engine's metrics where the engine itself says nothing.
const PLAIN_METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// An engine has this long to answer; below the scrape timeout that Prometheus has by default.
const UPSTREAM_LIMIT: Duration = Duration::from_secs(5);
/// A client has this long to send its request.
const HEADER_LIMIT: Duration = Duration::from_secs(10);
/// Clients at once; the others wait in the backlog.
const CONNECTIONS: usize = 64;
/// Pause after an `accept` that failed: most often there are no file descriptors left for a moment.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Ports that are drawn from the site's range.
const DRAWS: u32 = 5;

/// A listener for an agent, in the site's range of ports: other nodes may reach no others. Where none of them is free,
/// any port.
///
/// # Errors
/// Where not even that is to be had.
pub async fn listen(host: IpAddr, range: (u16, u16)) -> io::Result<TcpListener> {
    for _ in 0..DRAWS {
        let Ok(port) = port::draw(range, &[]) else {
            break;
        };
        // between the draw and here another process may have taken it
        if let Ok(listener) = TcpListener::bind((host, port)).await {
            return Ok(listener);
        }
    }
    TcpListener::bind((host, 0)).await
}

/// An engine's metrics, to be served again.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// Their URL.
    pub url: String,
    /// How one gets in.
    pub access: Access,
    /// Two names of the same metric, of which both are served whichever the engine has.
    pub aliases: &'static [(&'static str, &'static str)],
}

/// What an agent serves.
pub struct Agent {
    /// The bearer.
    pub key: String,
    /// The role's metrics.
    pub metrics: prometheus_client::registry::Registry,
    /// The role's record as it stands.
    pub instance: Box<dyn Fn() -> serde_json::Value + Send + Sync>,
    /// Of a server: where the engine's metrics are at the moment, for an engine that is started again may listen
    /// elsewhere; gives `None` until it listens.
    pub engine: Option<Box<dyn Fn() -> Option<Upstream> + Send + Sync>>,
    /// How often `/metrics` was answered.
    pub scrapes: Arc<AtomicU64>,
}

/// An agent at work. Dropping it changes nothing: the agent goes on.
#[derive(Debug, Clone)]
pub struct Serving {
    end: CancellationToken,
}

impl Serving {
    /// Ends the listener and its connections.
    pub fn stop(&self) {
        self.end.cancel();
    }
}

impl Agent {
    /// How often `/metrics` was answered.
    pub fn scrapes(&self) -> u64 {
        self.scrapes.load(Ordering::Relaxed)
    }

    /// Serves on this listener until `shutdown.stop`, [`Serving::stop`] or the end of the process; never on the tracker.
    pub fn serve(self: Arc<Self>, listener: TcpListener, shutdown: &Shutdown) -> Serving {
        self.serve_with(None, listener, shutdown)
    }

    /// The same, with a page.
    pub fn serve_with(
        self: Arc<Self>,
        page: Option<Page>,
        listener: TcpListener,
        shutdown: &Shutdown,
    ) -> Serving {
        let end = shutdown.stop.child_token();
        let ended = end.clone();
        let desk = Arc::new(Desk { agent: self, page });
        // not on the tracker: see the module's documentation
        tokio::runtime::Handle::current().spawn(async move {
            tokio::select! {
                () = ended.cancelled() => {}
                () = desk.accept(listener, &ended) => {}
            }
        });
        Serving { end }
    }
}

/// What answers: the agent, and the page beside it.
struct Desk {
    agent: Arc<Agent>,
    page: Option<Page>,
}

impl Desk {
    async fn accept(self: Arc<Self>, listener: TcpListener, end: &CancellationToken) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (desk, end) = (Arc::clone(&self), end.clone());
                    tokio::runtime::Handle::current().spawn(async move {
                        let _place = place;
                        tokio::select! {
                            () = end.cancelled() => {}
                            () = desk.converse(stream) => {}
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "The agent could not accept a connection; it goes on");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn converse(&self, stream: TcpStream) {
        let answer =
            service_fn(|request| async { Ok::<_, Infallible>(self.answer(request).await) });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_LIMIT)
            .serve_connection(TokioIo::new(stream), answer);
        if let Err(error) = connection.await {
            tracing::debug!(%error, "A connection to the agent broke");
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let read = [Method::GET, Method::HEAD].contains(request.method());
        match &self.page {
            Some(page) if read && request.uri().path() == "/" => page.answer(&request).await,
            _ => self.agent.answer(&request).await,
        }
    }
}

impl Agent {
    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !self.admits(request) {
            let mut response = sentence(
                StatusCode::UNAUTHORIZED,
                "this agent wants the bearer of the registry's scrape.key\n",
            );
            response.headers_mut().insert(
                header::WWW_AUTHENTICATE,
                header::HeaderValue::from_static("Bearer"),
            );
            return response;
        }
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return sentence(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered\n");
        }
        match (request.uri().path(), &self.engine) {
            ("/metrics", _) => self.metrics(exposition::wants_plain(request.headers())),
            ("/instance", _) => with_type(
                StatusCode::OK,
                "application/json",
                (self.instance)().to_string(),
            ),
            ("/engine/metrics", Some(upstream)) => match upstream() {
                Some(upstream) => relay(&upstream).await,
                None => sentence(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "the engine has no metrics, or is not ready yet\n",
                ),
            },
            _ => sentence(
                StatusCode::NOT_FOUND,
                "an agent answers /metrics, /instance and, of a server, /engine/metrics\n",
            ),
        }
    }

    fn admits(&self, request: &Request<Incoming>) -> bool {
        request
            .headers()
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| {
                let (scheme, key) = value.split_once(' ')?;
                scheme.eq_ignore_ascii_case("bearer").then_some(key)
            })
            .is_some_and(|given| same(given.trim(), &self.key))
    }

    fn metrics(&self, plain: bool) -> Response<Full<Bytes>> {
        let mut text = String::new();
        if prometheus_client::encoding::text::encode(&mut text, &self.metrics).is_err() {
            return sentence(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the metrics could not be encoded\n",
            );
        }
        self.scrapes.fetch_add(1, Ordering::Relaxed);
        if plain {
            return with_type(StatusCode::OK, PLAIN_METRICS_TYPE, exposition::plain(&text));
        }
        with_type(StatusCode::OK, METRICS_TYPE, text)
    }
}

/// Are two keys the same? The time it takes tells nothing of them: digests are compared, all their bytes.
pub(super) fn same(given: &str, key: &str) -> bool {
    let (given, key) = (Sha256::digest(given), Sha256::digest(key));
    given
        .iter()
        .zip(key.iter())
        .fold(0, |differences, (a, b)| differences | (a ^ b))
        == 0
}

async fn relay(upstream: &Upstream) -> Response<Full<Bytes>> {
    match client::get(&upstream.url, &upstream.access, UPSTREAM_LIMIT).await {
        Ok(answer) if answer.status == StatusCode::OK => {
            let content_type = answer.content_type.as_deref().unwrap_or(PLAIN_METRICS_TYPE);
            match aliases::complete(&answer.text(), upstream.aliases) {
                Some(text) => with_type(StatusCode::OK, content_type, text),
                None => with_type(StatusCode::OK, content_type, answer.body),
            }
        }
        Ok(answer) => sentence(
            StatusCode::BAD_GATEWAY,
            format!(
                "the engine answered {} to {}\n",
                answer.status, upstream.url
            ),
        ),
        Err(error) => sentence(
            StatusCode::BAD_GATEWAY,
            format!("the engine's metrics cannot be had: {error}\n"),
        ),
    }
}

pub(super) fn sentence(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    with_type(status, "text/plain; charset=utf-8", text)
}

pub(super) fn with_type(
    status: StatusCode,
    content_type: &str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    if let Ok(value) = header::HeaderValue::from_str(content_type) {
        response.headers_mut().insert(header::CONTENT_TYPE, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use prometheus_client::{metrics::counter::Counter, registry::Registry};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    async fn start(engine: Option<Upstream>) -> (String, Serving, Arc<Agent>, Shutdown) {
        let mut metrics = Registry::default();
        let cakes = Counter::<u64>::default();
        cakes.inc();
        metrics.register("aif_test_cakes", "Cakes", cakes);
        let agent = Arc::new(Agent {
            key: "open sesame".to_owned(),
            metrics,
            instance: Box::new(|| serde_json::json!({"instance_id": "i"})),
            engine: engine.map(|upstream| Box::new(move || Some(upstream.clone())) as Box<_>),
            scrapes: Arc::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let shutdown = Shutdown::new();
        let serving = Arc::clone(&agent).serve(listener, &shutdown);
        (base, serving, agent, shutdown)
    }

    fn bearer() -> Access {
        Access::Bearer("open sesame".to_owned())
    }

    #[tokio::test]
    async fn every_path_wants_the_bearer() {
        let (base, _serving, agent, _shutdown) = start(None).await;
        for access in [
            Access::Open,
            Access::Bearer("wrong".to_owned()),
            Access::Bearer(String::new()),
            Access::Basic("aif".to_owned(), "open sesame".to_owned()),
        ] {
            for path in ["/metrics", "/instance", "/engine/metrics", "/"] {
                let answer = client::get(&format!("{base}{path}"), &access, SECOND)
                    .await
                    .unwrap();
                assert_eq!(answer.status, 401, "{path} with {access:?}");
            }
        }
        assert_eq!(agent.scrapes(), 0);
    }

    #[tokio::test]
    async fn metrics_and_record_are_served_in_forms_that_readers_know() {
        let (base, _serving, agent, _shutdown) = start(None).await;
        let metrics = client::get(&format!("{base}/metrics"), &bearer(), SECOND)
            .await
            .unwrap();
        assert_eq!(metrics.status, 200);
        assert_eq!(metrics.content_type.as_deref(), Some(METRICS_TYPE));
        assert!(metrics.text().contains("aif_test_cakes_total 1"));
        assert!(metrics.text().ends_with("# EOF\n"));
        assert_eq!(agent.scrapes(), 1);
        let record = client::get(&format!("{base}/instance"), &bearer(), SECOND)
            .await
            .unwrap();
        assert_eq!(record.text(), r#"{"instance_id":"i"}"#);
        for path in ["/engine/metrics", "/nowhere"] {
            let answer = client::get(&format!("{base}{path}"), &bearer(), SECOND)
                .await
                .unwrap();
            assert_eq!(answer.status, 404, "{path}");
        }
    }

    #[tokio::test]
    async fn an_engine_is_served_again_and_its_absence_is_told() {
        let (engine, _engine_serving, _, _engine_shutdown) = start(None).await;
        let (base, _serving, ..) = start(Some(Upstream {
            url: format!("{engine}/metrics"),
            access: bearer(),
            aliases: &[("aif_test_pies", "aif_test_cakes")],
        }))
        .await;
        let answer = client::get(&format!("{base}/engine/metrics"), &bearer(), SECOND)
            .await
            .unwrap();
        assert_eq!(answer.content_type.as_deref(), Some(METRICS_TYPE));
        assert!(answer.text().contains("aif_test_cakes_total 1"));
        assert!(answer.text().contains("aif_test_pies_total 1"));
        assert!(answer.text().ends_with("# EOF\n"));

        for (url, told) in [
            (format!("{engine}/nothing"), "the engine answered 404"),
            (
                "http://127.0.0.1:1/metrics".to_owned(),
                "cannot be had: cannot connect to 127.0.0.1:1",
            ),
        ] {
            let (base, _serving, ..) = start(Some(Upstream {
                url,
                access: bearer(),
                aliases: &[],
            }))
            .await;
            let answer = client::get(&format!("{base}/engine/metrics"), &bearer(), SECOND)
                .await
                .unwrap();
            assert_eq!(answer.status, 502);
            assert!(answer.text().contains(told), "{}", answer.text());
        }
    }

    #[tokio::test]
    async fn it_answers_while_its_role_drains_and_ends_when_told() {
        let (base, serving, _, shutdown) = start(None).await;
        shutdown.drain.cancel();
        shutdown.tasks.close();
        shutdown.tasks.wait().await;
        assert!(client::get(&base, &bearer(), SECOND).await.is_ok());
        serving.stop();
        for _ in 0..100 {
            if client::get(&base, &bearer(), SECOND).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the agent still answers");
    }
}
