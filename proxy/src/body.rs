//! Bodies of the data listener: read whole within a limit, decoded, or watched as they pass.

mod read;

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use thiserror::Error;
use tokio::time::{Instant, Sleep};
use tower::BoxError;

pub use read::{BodyError, Payload, Unread, read_body};

/// A request or response body of the data listener.
pub type Body = UnsyncBoxBody<Bytes, BrokenOff>;

/// A body that ended before its time. A type of its own: a future that holds a `Body<dyn Error>` is not `Send`
/// to the compiler's eyes (rust-lang/rust#102211).
#[derive(Debug, Error)]
#[error("the body broke off: {0}")]
pub struct BrokenOff(#[source] BoxError);

impl BrokenOff {
    /// Keeps the reason.
    pub fn new(reason: impl Into<BoxError>) -> Self {
        Self(reason.into())
    }
}

/// Nothing came for too long.
#[derive(Debug, Error)]
#[error("nothing came for {}", humantime::format_duration(*.0))]
pub struct Paused(Duration);

/// The answer as a whole took too long.
#[derive(Debug, Error)]
#[error("the answer was not whole in time")]
pub struct Late;

impl BrokenOff {
    /// Why an upstream's answer broke off, in a word, for clients and traces.
    pub fn code(&self) -> &'static str {
        let error: &(dyn std::error::Error + 'static) = self;
        let mut chain = std::iter::successors(Some(error), |error| (*error).source());
        if paused(error).is_some() {
            "upstream_idle_timeout"
        } else if chain.any(<dyn std::error::Error>::is::<Late>) {
            "upstream_total_timeout"
        } else {
            "upstream_broken"
        }
    }
}

/// How long a body had paused before it was broken off, where that lies beneath an error.
pub fn paused(error: &(dyn std::error::Error + 'static)) -> Option<Duration> {
    let chain = std::iter::successors(Some(error), |error| (*error).source());
    chain.filter_map(|error| error.downcast_ref::<Paused>()).map(|paused| paused.0).next()
}

/// Whether it was a body that failed, where that lies beneath an error.
pub fn broke_off(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| (*error).source())
        .any(<dyn std::error::Error>::is::<BrokenOff>)
}

/// A body that is already whole.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    http_body_util::Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// What is told of a body as it passes.
pub trait Observe {
    /// A piece of it.
    fn data(&mut self, _piece: &Bytes) {}
    /// It is whole.
    fn ended(&mut self);
    /// It broke off.
    fn broken(&mut self);
    /// It broke off, for this reason.
    fn broken_by(&mut self, _why: &BrokenOff) {
        self.broken();
    }
}

/// A body that is passed on untouched while somebody watches; the watcher goes when the body does.
pub struct Observed<O> {
    inner: Body,
    observer: O,
}

/// Has a body watched.
pub fn observed<O: Observe + Send + Unpin + 'static>(inner: Body, mut observer: O) -> Body {
    if inner.is_end_stream() {
        observer.ended();
    }
    Observed { inner, observer }.boxed_unsync()
}

impl<O: Observe + Unpin> http_body::Body for Observed<O> {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    self.observer.data(data);
                }
                // hyper does not ask again once the end is in sight.
                if self.inner.is_end_stream() {
                    self.observer.ended();
                }
            }
            Poll::Ready(Some(Err(why))) => self.observer.broken_by(why),
            Poll::Ready(None) => self.observer.ended(),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A body that may not pause for longer than its patience. Its length and end stay known: hyper asks for no more
/// frames once a known length is sent, and whoever watches must see the end then.
struct Impatient {
    inner: Body,
    patience: Duration,
    pause: Option<Pin<Box<Sleep>>>,
}

/// Breaks a body off where it pauses for longer than `patience`.
pub fn impatient(inner: Body, patience: Duration) -> Body {
    Impatient { inner, patience, pause: None }.boxed_unsync()
}

impl http_body::Body for Impatient {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if polled.is_ready() {
            self.pause = None;
            return polled;
        }
        let patience = self.patience;
        let pause = self.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        pause.as_mut().poll(cx).map(|()| Some(Err(BrokenOff::new(Paused(patience)))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A body that must end by a time.
struct Timed {
    inner: Body,
    end: Pin<Box<Sleep>>,
}

/// Breaks a body off that has not ended by `deadline`.
pub fn within(inner: Body, deadline: Instant) -> Body {
    Timed { inner, end: Box::pin(tokio::time::sleep_until(deadline)) }.boxed_unsync()
}

impl http_body::Body for Timed {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        // The time first: a body that never pauses would have no end.
        if self.end.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(BrokenOff::new(Late))));
        }
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A body whose first piece was looked at.
struct Begun {
    first: Option<Result<Frame<Bytes>, BrokenOff>>,
    rest: Body,
}

/// Puts back the first piece of a body.
pub fn begun(first: Result<Frame<Bytes>, BrokenOff>, rest: Body) -> Body {
    Begun { first: Some(first), rest }.boxed_unsync()
}

impl http_body::Body for Begun {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(first)),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let first = match &self.first {
            Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len) as u64,
            _ => 0,
        };
        let rest = self.rest.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(first + rest.lower());
        if let Some(upper) = rest.upper() {
            hint.set_upper(first + upper);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_end_before_the_time_has_its_name() {
        let never = || BodyExt::boxed_unsync(http_body_util::StreamBody::new(tokio_stream::pending()));
        let code = async |body: Body| body.collect().await.map(|_| ()).unwrap_err().code();
        assert_eq!(code(impatient(never(), Duration::ZERO)).await, "upstream_idle_timeout");
        assert_eq!(code(within(never(), Instant::now())).await, "upstream_total_timeout");
        assert_eq!(code(begun(Err(BrokenOff::new("gone")), full(""))).await, "upstream_broken");
        let whole = within(full("whole"), Instant::now() + Duration::from_secs(3600));
        assert_eq!(whole.collect().await.map(http_body_util::Collected::to_bytes).unwrap(), "whole");
    }
}
