//! Writes an engine's answer in the caller's dialect: as a stream, or as one JSON.

pub mod openai;
mod framing;
mod logprobs;
mod reply;

use std::collections::VecDeque;

use bytes::Bytes;
use futures_util::stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{HeaderName, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tower::BoxError;

use crate::body::{Body, BrokenOff};
use crate::forward::{Answer, End, EngineFailed, Step};
use crate::respond;

pub use framing::Framing;
pub use logprobs::{Likelihood, likelihoods};
pub use openai::Kind;
pub use reply::Reply;

/// The whole answer as one JSON, when it is complete, and what it took.
pub async fn whole(
    mut answer: Answer,
    mut reply: Box<dyn Reply>,
) -> Result<(Response<Body>, End), EngineFailed> {
    loop {
        match answer.next().await? {
            Step::Started { prompt, cached } => drop(reply.started(prompt, cached)),
            Step::Part(part) => reply.collect(part),
            Step::End(end) => return Ok((respond::json(&reply.whole(&end)), end)),
        }
    }
}

/// The answer as events, one a part, as they come.
pub fn events(answer: Answer, mut reply: Box<dyn Reply>) -> Response<Body> {
    let framing = reply.framing();
    let queue = reply.opening().iter().map(|event| framing.frame(event)).collect();
    let events = Events { answer, reply, framing, queue, ended: false };
    let frames = stream::unfold(events, |mut events| async move {
        let event = events.next().await?;
        Some((Ok::<_, BrokenOff>(Frame::data(event)), events))
    });
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(framing.content_type()));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // A buffering proxy on the way would hold tokens back.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

struct Events {
    answer: Answer,
    reply: Box<dyn Reply>,
    framing: Framing,
    queue: VecDeque<Bytes>,
    ended: bool,
}

impl Events {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Some(event);
            }
            if self.ended {
                return None;
            }
            self.advance().await;
        }
    }

    async fn advance(&mut self) {
        let step = self.answer.next().await;
        self.ended = matches!(step, Ok(Step::End(_)) | Err(_));
        let whole = matches!(step, Ok(Step::End(_)));
        let events = match step {
            Ok(Step::Started { prompt, cached }) => self.reply.started(prompt, cached),
            Ok(Step::Part(part)) => self.reply.chunks(&part),
            Ok(Step::End(end)) => self.reply.closing(&end),
            // The status is sent: SDKs take an error in the stream as the exception it is.
            Err(error) => {
                let error: BoxError = error.into();
                vec![self.reply.failed(&respond::fault(&error))]
            }
        };
        self.queue.extend(events.iter().map(|event| self.framing.frame(event)));
        if whole {
            self.queue.extend(self.framing.end());
        }
    }
}
