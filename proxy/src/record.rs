//! Begins one record a request and holds it until the last byte of the answer, or until the client leaves.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use http::{HeaderValue, Request, Response, StatusCode};
use tower::{Layer, Service};

use crate::body::{Body, BrokenOff, Observe, observed};
use crate::dialect::Dialect;
use crate::identify::{Api, plain};
use crate::live::Shared;
use crate::telemetry::{Incoming, Outcome, RequestSpan};

/// The id under which a request is found in headers, logs and traces.
pub const REQUEST_ID: &str = "x-plimsoll-request-id";

/// A request whose record has begun.
pub struct Received {
    /// The request as it came.
    pub request: Request<Body>,
    /// Its path in the plain spelling.
    pub path: String,
    /// The API that its request line names.
    pub api: Api,
    /// The dialect of its path, in which errors are told too.
    pub dialect: Dialect,
    /// Its record.
    pub span: RequestSpan,
    /// Requests in flight, this one included.
    pub in_flight: usize,
}

/// Counts a request as long as it lives.
struct InFlight(Arc<AtomicUsize>);

impl InFlight {
    fn enter(count: &Arc<AtomicUsize>) -> (Self, usize) {
        let now = count.fetch_add(1, Ordering::Relaxed) + 1;
        (Self(count.clone()), now)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Wraps a service in a record.
pub fn layer<S>(shared: Arc<Shared>) -> impl Layer<S, Service = Recorded<S>> + Clone {
    let in_flight = Arc::default();
    tower::layer::layer_fn(move |inner| Recorded {
        inner,
        shared: shared.clone(),
        in_flight: Arc::clone(&in_flight),
    })
}

/// Records each request of an inner service.
#[derive(Clone)]
pub struct Recorded<S> {
    inner: S,
    shared: Arc<Shared>,
    in_flight: Arc<AtomicUsize>,
}

impl<S> Service<Request<Body>> for Recorded<S>
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

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // Ids that sort by time make a log readable.
        let id = uuid::Uuid::now_v7().simple().to_string();
        let path = plain(request.uri().path());
        let (api, dialect) = (Api::of(request.method(), &path), Dialect::of(&path));
        let span = self.shared.telemetry.request(&Incoming {
            id: id.clone(),
            method: request.method(),
            path: request.uri().path(),
            template: api.template(),
            headers: request.headers(),
            client: request.extensions().get().copied(),
        });
        let (guard, in_flight) = InFlight::enter(&self.in_flight);
        let answer = self.inner.call(Received { request, path, api, dialect, span: span.clone(), in_flight });
        Box::pin(async move {
            let Ok(response) = answer.await;
            let status = response.status();
            span.answering(status);
            let held = Held { span, status, _in_flight: guard };
            let mut response = response.map(|body| observed(body, held));
            if let Ok(id) = HeaderValue::try_from(id) {
                response.headers_mut().insert(REQUEST_ID, id);
            }
            Ok(response)
        })
    }
}

/// A body's hold on its request's record.
struct Held {
    span: RequestSpan,
    status: StatusCode,
    _in_flight: InFlight,
}

impl Observe for Held {
    /// A request that was refused or failed on its way stays so, though its answer is whole.
    fn ended(&mut self) {
        if self.span.record().outcome == Outcome::Disconnected {
            self.span.completed(self.status);
        }
    }

    fn broken(&mut self) {
        self.span.failed(self.status, "upstream_broken");
    }

    fn broken_by(&mut self, why: &BrokenOff) {
        self.span.failed(self.status, why.code());
    }
}
