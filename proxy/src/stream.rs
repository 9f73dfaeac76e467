//! Writes an engine's answer in the caller's dialect: as server-sent events, or as one JSON.

mod openai;
mod logprobs;

use std::collections::VecDeque;

use bytes::Bytes;
use futures_util::stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{HeaderName, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use serde_json::Value;
use tower::BoxError;

use crate::body::{Body, BrokenOff};
use crate::forward::{Answer, EngineFailed, Step};
use crate::respond;

pub use logprobs::Likelihood;
pub use openai::{Collected, Kind, Reply};

/// The end of an OpenAI event stream.
const DONE: &[u8] = b"data: [DONE]\n\n";

/// The whole answer as one JSON, when it is complete.
pub async fn whole(mut answer: Answer, mut reply: Reply) -> Result<Response<Body>, EngineFailed> {
    loop {
        match answer.next().await? {
            Step::Part(part) => reply.collect(part),
            Step::End(end) => return Ok(respond::json(&reply.whole(&end))),
        }
    }
}

/// The answer as events, one a part, as they come.
pub fn events(answer: Answer, reply: Reply) -> Response<Body> {
    let queue = reply.opening().iter().map(event).collect();
    let events = Events { answer, reply, queue, ended: false };
    let frames = stream::unfold(events, |mut events| async move {
        let event = events.next().await?;
        Some((Ok::<_, BrokenOff>(Frame::data(event)), events))
    });
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // A buffering proxy on the way would hold tokens back.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

struct Events {
    answer: Answer,
    reply: Reply,
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
        match self.answer.next().await {
            Ok(Step::Part(part)) => self.queue.extend(self.reply.chunks(&part).iter().map(event)),
            Ok(Step::End(end)) => {
                self.queue.extend(self.reply.closing(&end).iter().map(event));
                self.queue.push_back(Bytes::from_static(DONE));
                self.ended = true;
            }
            // The status is sent: SDKs take an object with `error` in the stream as the exception it is.
            Err(error) => {
                let error: BoxError = error.into();
                self.queue.push_back(event(&respond::fault(&error).body()));
                self.ended = true;
            }
        }
    }
}

fn event(json: &Value) -> Bytes {
    format!("data: {json}\n\n").into()
}
