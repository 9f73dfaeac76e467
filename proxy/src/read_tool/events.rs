//! Answers as event streams: the texts of all rounds in one stream, the reads themselves in none.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http::Response;
use http::header::CONTENT_LENGTH;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use serde_json::{Map, Value, json};
use tower::{BoxError, ServiceExt};

use super::calls::Call;
use super::rounds::Rounds;
use super::whole::BETWEEN;
use super::{Rest, usage};
use crate::body::{Body, BrokenOff, full};
use crate::respond;

/// The end of a stream.
const DONE: &[u8] = b"data: [DONE]\n\n";

/// The stream of all rounds; dropping it ends the one that runs.
pub(super) fn answer<S: Rest>(inner: S, rounds: Box<Rounds>, first: Response<Body>) -> Response<Body> {
    let (mut head, body) = first.into_parts();
    head.headers.remove(CONTENT_LENGTH);
    let events = Events {
        inner,
        rounds,
        body,
        unread: BytesMut::new(),
        queue: VecDeque::new(),
        join: Join::default(),
        ended: false,
    };
    let frames = stream::unfold(events, |mut events| async move {
        let next = events.next().await?;
        Some((next.map(Frame::data), events))
    });
    Response::from_parts(head, StreamBody::new(frames).boxed_unsync())
}

struct Events<S> {
    inner: S,
    rounds: Box<Rounds>,
    body: Body,
    unread: BytesMut,
    queue: VecDeque<Bytes>,
    join: Join,
    ended: bool,
}

impl<S: Rest> Events<S> {
    async fn next(&mut self) -> Option<Result<Bytes, BrokenOff>> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Some(Ok(event));
            }
            if self.ended {
                return None;
            }
            if let Some(event) = take_event(&mut self.unread) {
                self.event(event).await;
                continue;
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.unread.extend(frame.into_data()),
                Some(Err(broken)) => {
                    self.ended = true;
                    return Some(Err(broken));
                }
                None => self.end_of_body().await,
            }
        }
    }

    async fn event(&mut self, event: Bytes) {
        match data(&event) {
            Some(b"[DONE]") => self.end_of_round().await,
            Some(json) => match serde_json::from_slice(json) {
                Ok(chunk) => self.queue.extend(self.join.chunk(chunk, event, self.rounds.may_go_on())),
                Err(_) => self.queue.push_back(event),
            },
            None => self.queue.push_back(event),
        }
    }

    /// Some servers end without `[DONE]`, and some without the last blank line.
    async fn end_of_body(&mut self) {
        // It is asked again where something is left of it.
        self.body = full("");
        if !self.unread.trim_ascii().is_empty() {
            self.unread.extend_from_slice(b"\n\n");
        } else if self.join.reads_only() && self.rounds.may_go_on() {
            self.end_of_round().await;
        } else {
            self.queue.extend(self.join.closing());
            self.ended = true;
        }
    }

    async fn end_of_round(&mut self) {
        if self.join.reads_only() && self.rounds.may_go_on() {
            if let Err(error) = self.go_on().await {
                self.queue.push_back(event_of(&respond::fault(&error).body()));
                self.ended = true;
            }
            return;
        }
        self.queue.extend(self.join.closing());
        self.queue.push_back(Bytes::from_static(DONE));
        self.ended = true;
    }

    /// Answers the reads and takes the stream of the next round.
    async fn go_on(&mut self) -> Result<(), BoxError> {
        let (message, reads) = self.join.turn();
        self.rounds.append(&message, &reads).await?;
        let response = self.inner.clone().oneshot(self.rounds.request()).await?;
        let (head, body) = response.into_parts();
        self.unread.clear();
        if head.status.is_success() {
            self.body = body;
            return Ok(());
        }
        let bytes = body.collect().await?.to_bytes();
        let error: Value = serde_json::from_slice(&bytes).unwrap_or_else(|_| {
            json!({"error": {"message": format!("the upstream answered {}", head.status), "type": "server_error"}})
        });
        self.queue.push_back(event_of(&error));
        self.ended = true;
        Ok(())
    }
}

/// Makes one stream of several.
#[derive(Default)]
struct Join {
    /// `id` and `created` of the first chunk, which all others have too; none where it has none.
    first: Option<[Option<Value>; 2]>,
    round: usize,
    /// Texts of the message by member, such as `content`.
    texts: Map<String, Value>,
    /// Whether any round before this one said something.
    said: bool,
    /// The calls of this round by their index, where they have one; the client's with the index it sees.
    calls: Vec<(Option<u64>, Call, Option<usize>)>,
    usage: Value,
    used: Value,
    last: Option<Value>,
}

impl Join {
    /// Whether this round called for reads and for nothing else.
    fn reads_only(&self) -> bool {
        !self.calls.is_empty() && self.calls.iter().all(|(_, call, _)| call.is_read())
    }

    /// What the client sees of a chunk.
    fn chunk(&mut self, mut chunk: Value, event: Bytes, may_go_on: bool) -> Option<Bytes> {
        if !chunk.is_object() || chunk.get("error").is_some() {
            return Some(event);
        }
        let mut changed = self.round > 0;
        self.identify(&mut chunk);
        if chunk.get("usage").is_some_and(Value::is_object) {
            self.used = chunk["usage"].clone();
            if self.round > 0 {
                let mut sum = self.usage.clone();
                usage::add(&mut sum, &self.used);
                chunk["usage"] = sum;
            }
            // The last chunk's; whether this round is the last is not known yet.
            if chunk["choices"].as_array().is_none_or(Vec::is_empty) {
                self.last = Some(chunk);
                return None;
            }
        }
        let Some(choice) = chunk["choices"].get_mut(0).filter(|choice| choice.is_object()) else {
            return Some(event);
        };
        if let Some(delta) = choice.get_mut("delta") {
            changed |= self.calls_of(delta);
            changed |= self.texts_of(delta);
        }
        let ends = choice.get("finish_reason").is_some_and(|reason| !reason.is_null());
        if ends && self.reads_only() {
            if may_go_on {
                return None;
            }
            choice["finish_reason"] = "stop".into();
            changed = true;
        }
        let empty = !ends && choice.get("delta").and_then(Value::as_object).is_none_or(Map::is_empty);
        match changed {
            true if empty => None,
            true => Some(event_of(&chunk)),
            false => Some(event),
        }
    }

    /// Makes a chunk one of the first round's answer.
    fn identify(&mut self, chunk: &mut Value) {
        let names = ["id", "created"];
        let first = self.first.get_or_insert_with(|| names.map(|name| chunk.get(name).cloned()));
        for (name, value) in names.into_iter().zip(first) {
            if let Some(value) = value {
                chunk[name] = value.clone();
            }
        }
    }

    /// Takes the reads out of a delta and numbers the client's calls anew; says whether something changed.
    fn calls_of(&mut self, delta: &mut Value) -> bool {
        let Some(calls) = delta.get_mut("tool_calls").and_then(Value::as_array_mut) else { return false };
        let mut changed = false;
        calls.retain_mut(|call| {
            let shown = self.call(call);
            changed |= shown.is_none_or(|shown| call["index"] != shown);
            if let (Some(shown), Some(call)) = (shown, call.as_object_mut()) {
                call.insert("index".to_owned(), shown.into());
            }
            shown.is_some()
        });
        if calls.is_empty()
            && let Some(delta) = delta.as_object_mut()
        {
            delta.shift_remove("tool_calls");
            delta.retain(|_, value| !value.is_null());
        }
        changed
    }

    /// Notes a piece of a call; gives the index that the client sees, none for a read.
    fn call(&mut self, piece: &Value) -> Option<usize> {
        let (index, call) = (piece["index"].as_u64(), Call::of(piece));
        // Some servers number no call, or every call 0; some give each piece an id of its own.
        let here = |known: &Option<u64>| index.is_none() || *known == index;
        let same = self.calls.iter().rposition(|(at, begun, _)| here(at) && begun.id == call.id);
        let last = self.calls.iter().rposition(|(at, ..)| here(at));
        let begun =
            same.or(last).map(|at| &mut self.calls[at]).filter(|(_, begun, _)| begun.goes_on_with(&call));
        if let Some((_, begun, shown)) = begun {
            begun.arguments.push_str(&call.arguments);
            return *shown;
        }
        let clients = self.calls.iter().filter(|(_, call, _)| !call.is_read()).count();
        let shown = (!call.is_read()).then_some(clients);
        self.calls.push((index, call, shown));
        shown
    }

    /// Notes the texts of a delta; between two rounds that say something stands a blank line.
    fn texts_of(&mut self, delta: &mut Value) -> bool {
        let Some(delta) = delta.as_object_mut() else { return false };
        if self.round > 0 {
            delta.shift_remove("role");
        }
        for (name, value) in delta.iter().filter(|(name, _)| *name != "role") {
            if let Some(more) = value.as_str() {
                let text = self.texts.entry(name.clone()).or_insert_with(|| "".into());
                *text = [text.as_str().unwrap_or_default(), more].concat().into();
            }
        }
        if self.round == 0 {
            return false;
        }
        delta.retain(|_, value| !value.is_null() && value != "");
        let begins = self.said && self.texts.get("content").is_some_and(|text| text != "");
        if begins && let Some(content) = delta.get_mut("content") {
            *content = [BETWEEN, content.as_str().unwrap_or_default()].concat().into();
            self.said = false;
        }
        true
    }

    /// The message of the round that ended and its reads; the next round begins.
    fn turn(&mut self) -> (Value, Vec<Call>) {
        let mut message = std::mem::take(&mut self.texts);
        self.said |= message.get("content").is_some_and(|text| text != "");
        message.insert("role".to_owned(), "assistant".into());
        message.entry("content").or_insert(Value::Null);
        let reads: Vec<Call> = std::mem::take(&mut self.calls).into_iter().map(|(_, call, _)| call).collect();
        let calls = reads.iter().map(|Call { id, name, arguments }| {
            json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}})
        });
        message.insert("tool_calls".to_owned(), calls.collect());
        usage::add(&mut self.usage, &std::mem::take(&mut self.used));
        self.last = None;
        self.round += 1;
        (Value::Object(message), reads)
    }

    /// What comes before the end: the usage of all rounds, where the client asked for it.
    fn closing(&mut self) -> Option<Bytes> {
        self.last.take().map(|chunk| event_of(&chunk))
    }
}

/// The first whole event, with the blank line that ends it.
fn take_event(unread: &mut BytesMut) -> Option<Bytes> {
    let end = |pattern: &[u8]| {
        unread.windows(pattern.len()).position(|part| part == pattern).map(|at| at + pattern.len())
    };
    let end = [end(b"\n\n"), end(b"\r\n\r\n")].into_iter().flatten().min()?;
    Some(unread.split_to(end).freeze())
}

/// The data of an event of one line; comments and others have none.
fn data(event: &Bytes) -> Option<&[u8]> {
    event.strip_prefix(b"data:").map(<[u8]>::trim_ascii)
}

fn event_of(json: &Value) -> Bytes {
    format!("data: {json}\n\n").into()
}
