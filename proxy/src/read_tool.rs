//! `plimsoll_read`: on routes that allow it, the model reads originals of shortened tool results by a tool of ours, and
//! the calls are answered here, inside the client's request.
//!
//! The tool is added to every chat that has tools, whether or not something was shortened yet, so that the prefix never
//! moves for it. Each round of calls is appended to the conversation, which runs the rest of the path again; the client
//! sees one answer: the texts of all rounds, and the usage of all rounds together. Its headers are the first round's.
//! An answer that calls the client's own tools ends the rounds: the client gets its calls, and the model may read on
//! when it comes back with their results. After four rounds further reads are dropped and the answer ends.

mod calls;
mod events;
mod rounds;
mod usage;
mod whole;

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Response;
use http::header::CONTENT_TYPE;
use tower::{BoxError, Layer, Service, ServiceExt};

use crate::body::Body;
use crate::count::Counted;
use rounds::Rounds;

/// Rounds of reads in one answer.
const MAX_ROUNDS: usize = 4;

/// Answers the model's reads.
pub fn layer<S>() -> impl Layer<S, Service = Reading<S>> + Clone {
    tower::layer::layer_fn(|inner| Reading { inner })
}

/// Runs an inner service again for as long as its answers read.
#[derive(Clone)]
pub struct Reading<S> {
    inner: S,
}

/// The rest of the path.
pub(crate) trait Rest:
    Service<Counted, Response = Response<Body>, Error = BoxError, Future: Send> + Clone + Send + 'static
{
}

impl<S> Rest for S where
    S: Service<Counted, Response = Response<Body>, Error = BoxError, Future: Send> + Clone + Send + 'static
{
}

impl<S: Rest> Service<Counted> for Reading<S> {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, counted: Counted) -> Self::Future {
        let inner = self.inner.clone();
        match Rounds::of(counted) {
            Ok(rounds) => Box::pin(answer(inner, rounds)),
            Err(counted) => Box::pin(inner.oneshot(*counted)),
        }
    }
}

/// The first answer decides in which form all of them come.
async fn answer<S: Rest>(inner: S, rounds: Box<Rounds>) -> Result<Response<Body>, BoxError> {
    let response = inner.clone().oneshot(rounds.request()).await?;
    let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !response.status().is_success() {
        Ok(response)
    } else if kind.starts_with("text/event-stream") {
        Ok(events::answer(inner, rounds, response))
    } else if kind.starts_with("application/json") {
        whole::answer(inner, rounds, response).await
    } else {
        Ok(response)
    }
}
