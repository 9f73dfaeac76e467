//! Request bodies whose rest is read away where nobody wants it. A client that is refused while it still sends would
//! otherwise meet a connection that is reset, and not its answer (RFC 9112, section 9.6).

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Version, header};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use tokio::runtime::Handle;

use crate::body::{Body, BrokenOff};

/// Bytes that are read away; of a body that is known to be longer none.
const MOST: usize = 1 << 20;
/// How long it may take.
const LONGEST: Duration = Duration::from_secs(2);

/// The request with a body that is read to its end. Not where the client waits to be told to send it, and not over
/// HTTP/2, where a stream ends by itself.
pub(super) fn request(request: Request<Incoming>) -> Request<Body> {
    let plain = request.version() != Version::HTTP_2 && !request.headers().contains_key(header::EXPECT);
    request.map(|body| match plain {
        true => Unread(Some(body)).map_err(BrokenOff::new).boxed_unsync(),
        false => body.map_err(BrokenOff::new).boxed_unsync(),
    })
}

/// A body that is not read to its end yet.
struct Unread(Option<Incoming>);

impl http_body::Body for Unread {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.0 else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(cx);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.0 = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let worth = |body: &Incoming| !body.is_end_stream() && body.size_hint().lower() <= MOST as u64;
        let (Some(rest), Ok(runtime)) = (self.0.take().filter(worth), Handle::try_current()) else { return };
        runtime.spawn(tokio::time::timeout(LONGEST, async move {
            let mut rest = Limited::new(rest, MOST);
            while let Some(Ok(_)) = rest.frame().await {}
        }));
    }
}
