//! A page that an agent serves at `/`, beside its metrics: made when it is asked for, given to whoever knows the password.
//!
//! A browser can send no bearer, so it is asked for user and password (HTTP Basic), as it is by the Prometheus beside it.
//! The page must fetch nothing and be shown in no other page, which the headers see to. What can fail is the making, which
//! is told as 503 with a sentence.

use std::pin::Pin;

use base64::Engine as _;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode,
    header::{self, HeaderValue},
};

use super::agent::{same, sentence, with_type};

/// A page in the making, or why there is none.
pub type Rendering = Pin<Box<dyn Future<Output = Result<String, String>> + Send>>;

/// What the page may do: show itself, and ask for itself again.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A page, and who may see it.
pub struct Page {
    /// The user.
    pub user: &'static str,
    /// The password.
    pub password: String,
    /// Makes it.
    pub render: Box<dyn Fn() -> Rendering + Send + Sync>,
}

impl Page {
    pub(super) async fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        if !self.admits(request) {
            let mut response = sentence(
                StatusCode::UNAUTHORIZED,
                "this page wants a user and a password; `aif status` says in which file it is\n",
            );
            let wanted = HeaderValue::from_static("Basic realm=\"aif\", charset=\"UTF-8\"");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, wanted);
            return response;
        }
        let mut response = match (self.render)().await {
            Ok(page) => with_type(StatusCode::OK, "text/html; charset=utf-8", page),
            Err(why) => sentence(StatusCode::SERVICE_UNAVAILABLE, why + "\n"),
        };
        let kept = [
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::CACHE_CONTROL, "no-store"),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ];
        for (name, value) in kept {
            response
                .headers_mut()
                .insert(name, HeaderValue::from_static(value));
        }
        response
    }

    fn admits<B>(&self, request: &Request<B>) -> bool {
        let given = request
            .headers()
            .get(header::AUTHORIZATION)
            .and_then(|value| {
                let (scheme, coded) = value.to_str().ok()?.split_once(' ')?;
                let basic = scheme.eq_ignore_ascii_case("basic");
                let coded = basic.then(|| coded.trim())?;
                let decoded = base64::engine::general_purpose::STANDARD.decode(coded);
                String::from_utf8(decoded.ok()?).ok()
            });
        given.is_some_and(|given| same(&given, &format!("{}:{}", self.user, self.password)))
    }
}
