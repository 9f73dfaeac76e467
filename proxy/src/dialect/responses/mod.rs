//! OpenAI's Responses API, stateless: `POST /v1/responses`, and `input_tokens` and `compact` below it.
//!
//! Items become messages of a chat request, and what a policy does to those is written back into the items: what is
//! known by name alone (encrypted reasoning, calls of hosted tools, compactions) is carried along byte for byte. Requests
//! that refer to what a server has stored are not touched, since what they send is not all that the model reads.

mod parts;
mod items;
mod tools;
mod request;
mod write;
mod place;
mod output;
mod reply;
mod answers;
mod compaction;

use std::sync::Arc;

use plimsoll_policies::json::Span;
use plimsoll_policies::{Conversation, ParseError, Tokens};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{DialectError, Original, Translated};
use crate::admit::Run;
use crate::dialect::raw::Object;
use crate::forward::{Seen, Usage};
use crate::parse::OptionError;
use crate::stream::Reply;
use crate::telemetry::Said;
use items::Origin;

pub(super) use place::renamed;

/// A request behind its chat form.
struct Responses {
    body: Arc<str>,
    /// Where each message of the chat form came from.
    origins: Vec<Origin>,
    /// Where each item of `input` stands.
    items: Vec<Span>,
    unserved: Option<OptionError>,
    ungoverned: Option<&'static str>,
}

/// Translates a body.
///
/// # Errors
/// Bytes that are no JSON, or no object.
pub(super) fn translate(body: &str) -> Result<Translated, DialectError> {
    serde_json::from_str::<&RawValue>(body).map_err(|error| ParseError::from_json(&error))?;
    let Some(object) = Object::of(body) else {
        return Err(DialectError::form("body", "the body must be an object with `model` and `input`"));
    };
    let request::Read { json, origins, unserved, ungoverned } = request::read(body, &object);
    let items = origins.iter().filter_map(|origin| match origin {
        Origin::Items(items) => Some(items),
        Origin::Instructions(_) | Origin::Text(_) => None,
    });
    let items = items.flatten().map(|item| item.span.clone()).collect();
    let original = Responses { body: body.into(), origins, items, unserved, ungoverned };
    Ok(Translated { json: json.into(), original: Arc::new(original) })
}

impl Original for Responses {
    fn write(&self, conversation: &Conversation) -> String {
        write::write(self, conversation)
    }

    fn place(&self, param: &str) -> String {
        place::place(&self.origins, param)
    }

    fn reply(&self, run: &Run) -> Box<dyn Reply> {
        Box::new(reply::Response::new(&self.body, &run.engine.name, &run.options.sampling))
    }

    fn usage(&self, seen: &Seen) -> Option<Usage> {
        answers::usage(seen)
    }

    fn said(&self, body: &str, said: &mut Said) {
        answers::said(body, said);
    }

    fn unserved(&self) -> Option<OptionError> {
        self.unserved.clone()
    }

    fn ungoverned(&self) -> Option<&'static str> {
        self.ungoverned
    }

    fn forbids_cuts(&self) -> Option<&'static str> {
        let truncation = Object::of(&self.body)?.raw("truncation")?;
        (truncation == "\"disabled\"").then_some("truncation")
    }

    fn compacted(&self, summary: &str, tokens: Tokens, written: Tokens) -> Option<Value> {
        Some(compaction::answer(self, summary, tokens, written))
    }

    fn counted(&self, tokens: Tokens, _before: Tokens) -> Value {
        json!({"object": "response.input_tokens", "input_tokens": tokens})
    }
}

#[cfg(test)]
#[path = "responses_tests.rs"]
mod tests;
