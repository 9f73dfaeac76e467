//! Lets web pages of configured origins ask the data listener (CORS); without `listen.cors` nothing is done here.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Response};
use tower::{Layer, Service};

use crate::body::Body;
use crate::config::Cors;
use crate::live::Shared;
use crate::record::Received;
use crate::respond;

/// Asks whether a page of the public web may reach into a private network.
const PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-request-private-network");
/// Says that it may.
const ALLOW_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-allow-private-network");

/// Wraps a service.
pub fn layer<S>(shared: Arc<Shared>) -> impl Layer<S, Service = Crossing<S>> + Clone {
    tower::layer::layer_fn(move |inner| Crossing { inner, shared: shared.clone() })
}

/// Adds what browsers ask for to the answers of an inner service.
#[derive(Clone)]
pub struct Crossing<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S> Service<Received> for Crossing<S>
where
    S: Service<Received, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, received: Received) -> Self::Future {
        let Some(cors) = &self.shared.started.listen.cors else { return Box::pin(self.inner.call(received)) };
        let headers = received.request.headers();
        let Some(origin) = allowed(headers, cors) else { return Box::pin(self.inner.call(received)) };
        if is_preflight(received.request.method(), headers) {
            let answer = preflight(headers, origin);
            return Box::pin(std::future::ready(Ok(answer)));
        }
        let answer = self.inner.call(received);
        Box::pin(async move {
            let mut answer = answer.await?;
            // An upstream's own words on this are about its own address.
            let theirs: Vec<HeaderName> =
                answer.headers().keys().filter(|name| is_cors(name)).cloned().collect();
            for name in theirs {
                answer.headers_mut().remove(name);
            }
            open(answer.headers_mut(), origin);
            answer.headers_mut().insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("*"));
            Ok(answer)
        })
    }
}

/// Whether a page may not ask: it names its origin, pages are spoken of, and not of this one.
pub fn is_foreign(headers: &HeaderMap, cors: Option<&Cors>) -> bool {
    cors.is_some_and(|cors| headers.contains_key(header::ORIGIN) && allowed(headers, cors).is_none())
}

/// What an allowed origin is answered by.
fn allowed(headers: &HeaderMap, cors: &Cors) -> Option<HeaderValue> {
    let origin = headers.get(header::ORIGIN)?;
    if cors.any {
        return Some(HeaderValue::from_static("*"));
    }
    cors.takes(origin.to_str().ok()?).then(|| origin.clone())
}

fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

fn is_cors(name: &HeaderName) -> bool {
    name.as_str().starts_with("access-control-")
}

/// What is asked for is granted: keys are what protects a route, and `*` would leave out `authorization`.
fn preflight(asked: &HeaderMap, origin: HeaderValue) -> Response<Body> {
    let mut answer = respond::nothing();
    let headers = answer.headers_mut();
    for (question, grant) in [
        (header::ACCESS_CONTROL_REQUEST_METHOD, header::ACCESS_CONTROL_ALLOW_METHODS),
        (header::ACCESS_CONTROL_REQUEST_HEADERS, header::ACCESS_CONTROL_ALLOW_HEADERS),
        (PRIVATE_NETWORK, ALLOW_PRIVATE_NETWORK),
    ] {
        if let Some(value) = asked.get(question) {
            headers.insert(grant, value.clone());
        }
    }
    // Two hours, the most that Chromium takes.
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("7200"));
    headers.insert(
        header::VARY,
        HeaderValue::from_static("access-control-request-method, access-control-request-headers"),
    );
    open(headers, origin);
    answer
}

fn open(headers: &mut HeaderMap, origin: HeaderValue) {
    if origin != "*" {
        headers.append(header::VARY, HeaderValue::from_static("origin"));
    }
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
}
