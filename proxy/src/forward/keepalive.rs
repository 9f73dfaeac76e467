//! Comments in an event stream that has not begun: clients and load balancers take a long silence for a broken connection.
//!
//! The price is the status: it is sent with the first comment, as 200, before the server has answered. What the server
//! then refuses, or fails at, stands in the stream as an event with an `error`, which OpenAI's SDKs raise.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Limited};
use serde_json::{Value, json};
use tokio::time::{Instant, Sleep};

use super::send::UpstreamError;
use super::upstream::is_event_stream;
use crate::admit::Sending;
use crate::body::{Body, BrokenOff, full};
use crate::identify::plain;
use crate::parse::Outgoing;
use crate::respond;
use crate::stamp;
use crate::telemetry::RequestSpan;

/// As clients see it: they skip comments.
const COMMENT: &[u8] = b": keepalive\n\n";
/// Bytes of a refusal that are read.
const MOST: usize = 1024 * 1024;

/// What an answer is given in a stream by.
pub(super) struct Keepalive {
    every: Duration,
    stamps: HeaderMap,
    record: RequestSpan,
}

impl Keepalive {
    /// Of a request whose answer may be a stream that waits. The answer must come as it is then: its head is sent before
    /// it is known.
    pub(super) fn of(sending: &mut Sending) -> Option<Self> {
        let every = sending.upstream.settings().keepalive?;
        let envelope = &mut sending.envelope;
        let Outgoing::Chat(chat) = &sending.outgoing else { return None };
        let chats = plain(envelope.head.uri.path()).ends_with("/chat/completions");
        if !chats || envelope.route.read_tool || chat.conversation.field("stream") != Some("true") {
            return None;
        }
        envelope.head.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let stamps = stamp::stamp(envelope, sending.report.as_ref());
        Some(Self { every, stamps, record: envelope.record.clone() })
    }

    /// The answer, or after a while the beginning of a stream in which it will come.
    pub(super) async fn around(
        self,
        answer: impl Future<Output = Result<Response<Body>, UpstreamError>> + Send + 'static,
    ) -> Result<Response<Body>, UpstreamError> {
        let Self { every, stamps, record } = self;
        let mut answer = Box::pin(answer);
        tokio::select! {
            biased;
            answer = &mut answer => return answer,
            () = tokio::time::sleep(every) => {}
        }
        let late = Box::pin(async move { streamed(answer.await, &record).await });
        let pause = Box::pin(tokio::time::sleep(Duration::ZERO));
        let mut response = Response::new(Waiting { state: State::Waits(late), pause, every }.boxed_unsync());
        let headers = response.headers_mut();
        headers.extend(stamps);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        Ok(response)
    }
}

/// A late answer as the rest of a stream.
async fn streamed(answer: Result<Response<Body>, UpstreamError>, record: &RequestSpan) -> Body {
    let (code, error) = match answer {
        Ok(response) if response.status().is_success() && is_event_stream(response.headers()) => {
            return response.into_body();
        }
        Ok(response) => ("upstream_status", refusal(response).await),
        Err(error) => (error.code(), respond::fault(&error.into()).body()),
    };
    record.failed(StatusCode::OK, code);
    full(format!("data: {error}\n\n"))
}

/// What a server said in place of a stream, as an object with an `error`.
async fn refusal(response: Response<Body>) -> Value {
    let status = response.status();
    let body = Limited::new(response.into_body(), MOST).collect().await;
    let said = body.ok().and_then(|body| serde_json::from_slice::<Value>(&body.to_bytes()).ok());
    said.filter(|said| said.get("error").is_some_and(|error| !error.is_null())).unwrap_or_else(|| {
        let message = format!("the upstream answered with status {} and no stream", status.as_u16());
        json!({"error": {"message": message, "type": "server_error", "param": null, "code": "upstream_status"}})
    })
}

/// Where a stream stands.
enum State {
    /// Its answer has not come.
    Waits(Pin<Box<dyn Future<Output = Body> + Send>>),
    /// It passes.
    Passes(Body),
}

/// A stream that may not have begun.
struct Waiting {
    state: State,
    /// Until the next comment.
    pause: Pin<Box<Sleep>>,
    every: Duration,
}

impl http_body::Body for Waiting {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        if let State::Waits(answer) = &mut self.state
            && let Poll::Ready(body) = answer.as_mut().poll(cx)
        {
            self.state = State::Passes(body);
        }
        if let State::Passes(body) = &mut self.state {
            return Pin::new(body).poll_frame(cx);
        }
        if self.pause.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        let next = Instant::now() + self.every;
        self.pause.as_mut().reset(next);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(COMMENT)))))
    }
}
