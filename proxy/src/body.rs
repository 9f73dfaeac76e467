//! Bodies of the data listener: read whole within a limit, decoded, or watched as they pass.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, HeaderMap};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use thiserror::Error;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, Sleep};
use tower::BoxError;

use crate::cut::cut;

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

/// At most this many content codings are undone: more is an attack, not a client.
const MAX_CODINGS: usize = 4;

/// Why a request body could not be read.
#[derive(Debug, Error)]
pub enum BodyError {
    /// The body, decoded or not, is longer than `limits.body`.
    #[error("the request body is longer than the limit of {limit} bytes")]
    TooLarge {
        /// Bytes a decoded body may have.
        limit: usize,
    },
    /// A content coding that is not known here.
    #[error("content-encoding `{coding}` is not supported: send `zstd`, `gzip`, `br`, `deflate` or none")]
    UnknownCoding {
        /// The coding as the client spelled it.
        coding: String,
    },
    /// The body does not decode as its content-encoding says.
    #[error("the request body is not valid `{coding}` data")]
    Corrupt {
        /// The coding that failed.
        coding: &'static str,
    },
    /// The client paused for longer than `limits.body_idle`.
    #[error(
        "nothing came of the request body for {}: send it without such a pause",
        humantime::format_duration(*.after)
    )]
    Idle {
        /// The time it had.
        after: Duration,
    },
    /// The client stopped sending.
    #[error("the request body ended early: {0}")]
    Broken(BoxError),
}

/// A request body, read whole.
#[derive(Debug, Clone)]
pub struct Payload {
    /// The bytes as they came, still encoded: what an untouched request forwards.
    pub original: Bytes,
    /// The same bytes decoded; the same buffer where there was no encoding.
    pub decoded: Bytes,
}

/// Reads a body whole and undoes its content codings. `limit` (bytes) holds for both forms.
pub async fn read_body(headers: &HeaderMap, body: Body, limit: usize) -> Result<Payload, BodyError> {
    // What can be refused by the head alone is: the client need not send it (RFC 9110, section 10.1.1).
    let codings = codings(headers)?;
    if body.size_hint().lower() > limit as u64 {
        return Err(BodyError::TooLarge { limit });
    }
    let original = whole(body, limit).await?;
    let mut decoded = original.clone();
    for coding in codings.into_iter().rev() {
        decoded = coding.decode(&decoded, limit).await?;
    }
    Ok(Payload { original, decoded })
}

/// All of a body in one buffer, made once where the length is known: a copy beside the pieces would double it.
async fn whole(mut body: Body, limit: usize) -> Result<Bytes, BodyError> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| match paused(&error) {
            Some(after) => BodyError::Idle { after },
            None => BodyError::Broken(error.into()),
        })?;
        // Trailers say nothing that is asked here.
        let Ok(piece) = frame.into_data() else { continue };
        if piece.len() > limit - whole.len() {
            return Err(BodyError::TooLarge { limit });
        }
        if whole.is_empty() {
            if body.is_end_stream() {
                return Ok(piece);
            }
            let rest = usize::try_from(body.size_hint().lower()).unwrap_or(limit).min(limit);
            whole.reserve(piece.len() + rest);
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}

#[derive(Debug, Clone, Copy)]
enum Coding {
    Zstd,
    Gzip,
    Brotli,
    Deflate,
}

impl Coding {
    fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
            Self::Brotli => "br",
            Self::Deflate => "deflate",
        }
    }

    async fn decode(self, bytes: &[u8], limit: usize) -> Result<Bytes, BodyError> {
        use async_compression::tokio::bufread::{BrotliDecoder, GzipDecoder, ZlibDecoder, ZstdDecoder};
        // One byte more than allowed tells a body at the limit from one beyond it, without unpacking a bomb.
        let room = limit as u64 + 1;
        let mut out = Vec::with_capacity(bytes.len().min(limit));
        let read = match self {
            Self::Zstd => ZstdDecoder::new(bytes).take(room).read_to_end(&mut out).await,
            Self::Gzip => GzipDecoder::new(bytes).take(room).read_to_end(&mut out).await,
            Self::Brotli => BrotliDecoder::new(bytes).take(room).read_to_end(&mut out).await,
            Self::Deflate => ZlibDecoder::new(bytes).take(room).read_to_end(&mut out).await,
        };
        match read {
            Err(_) => Err(BodyError::Corrupt { coding: self.name() }),
            Ok(_) if out.len() > limit => Err(BodyError::TooLarge { limit }),
            Ok(_) => Ok(out.into()),
        }
    }
}

/// The codings a body went through, in the order they were applied.
fn codings(headers: &HeaderMap) -> Result<Vec<Coding>, BodyError> {
    let unknown = |coding: &str| BodyError::UnknownCoding { coding: cut(coding).into_owned() };
    let mut found = Vec::new();
    for value in headers.get_all(CONTENT_ENCODING) {
        let value = value.to_str().map_err(|_| unknown("?"))?;
        for coding in value.split(',').map(str::trim).filter(|c| !c.is_empty()) {
            match coding.to_ascii_lowercase().as_str() {
                "identity" => {}
                "zstd" => found.push(Coding::Zstd),
                "gzip" | "x-gzip" => found.push(Coding::Gzip),
                "br" => found.push(Coding::Brotli),
                "deflate" => found.push(Coding::Deflate),
                _ => return Err(unknown(coding)),
            }
        }
    }
    if found.len() > MAX_CODINGS {
        return Err(unknown("more than four codings"));
    }
    Ok(found)
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
    async fn a_body_in_pieces_is_read_whole_within_its_limit() {
        let pieces = || {
            let inner = begun(Ok(Frame::data("second ".into())), full("third"));
            begun(Ok(Frame::data("first ".into())), inner)
        };
        let read = async |body, limit| read_body(&HeaderMap::new(), body, limit).await;
        assert_eq!(read(pieces(), 18).await.unwrap().original, "first second third");
        assert!(matches!(read(pieces(), 17).await, Err(BodyError::TooLarge { limit: 17 })));
        assert_eq!(read(full(""), 0).await.unwrap().decoded, "");
        // Of unknown length, and too long in its second piece.
        let streamed = |pieces: [&'static str; 2]| {
            let frames = pieces.map(|piece| Ok(Frame::data(Bytes::from(piece))));
            BodyExt::boxed_unsync(http_body_util::StreamBody::new(tokio_stream::iter(frames)))
        };
        assert_eq!(read(streamed(["ab", "c"]), 3).await.unwrap().original, "abc");
        assert!(matches!(read(streamed(["ab", "cd"]), 3).await, Err(BodyError::TooLarge { .. })));
        let broken = begun(Ok(Frame::data("a".into())), begun(Err(BrokenOff::new("gone")), full("")));
        assert!(matches!(read(broken, 9).await, Err(BodyError::Broken(_))));
    }

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
