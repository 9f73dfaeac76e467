//! The items of `input` as messages of chat completions, each with where it came from.
//!
//! What the model made in one go (reasoning, a message, calls) is one assistant message, so that policies keep or drop
//! it as a whole. Items that are known by name alone are carried along: one that stands for more than itself is never
//! dropped.

use std::borrow::Cow;

use plimsoll_policies::json::{Span, elements, encode};

use super::compaction;
use super::parts::{self, Side};
use crate::dialect::raw::{Object, Raw};

/// Where a message came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// `instructions`, whose value stands there.
    Instructions(Span),
    /// `input` as one string, which stands there.
    Text(Span),
    /// Consecutive items of `input`.
    Items(Vec<Item>),
}

/// An item of `input`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    /// Its place in `input`.
    pub(super) index: usize,
    /// Where it stands in the body.
    pub(super) span: Span,
    /// What of it a policy may edit.
    pub(super) kind: Kind,
}

/// What of an item a policy may edit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// A message's content.
    Message(Span, Side),
    /// A call's arguments, where they are text.
    Call(Option<Span>),
    /// A result.
    Output(Span),
    /// Reasoning in plain words may go as a whole.
    Thoughts,
    /// Nothing.
    Opaque,
}

/// Messages in chat completions' form, as raw JSON, with their origins.
#[derive(Debug, Default)]
pub(super) struct Messages {
    /// Raw JSON of each message.
    pub(super) json: Vec<String>,
    /// Where each came from.
    pub(super) origins: Vec<Origin>,
    /// The type of each item.
    pub(super) kinds: Vec<String>,
    turn: Turn,
}

/// An item's type. Messages need not say theirs, nor need references.
fn kind_of(object: &Object<'_>) -> String {
    let absent =
        if object.raw("role").is_none() && object.raw("id").is_some() { "item_reference" } else { "message" };
    object.string("type").unwrap_or_else(|| absent.to_owned())
}

/// A message's content; what is neither text nor list is left for whoever must understand it.
fn content_of(raw: &str) -> Cow<'_, str> {
    if raw.starts_with(['"', '[']) { parts::chat(raw) } else { raw.into() }
}

/// What the model made in one go, as far as it is read.
#[derive(Debug, Default)]
struct Turn {
    items: Vec<Item>,
    /// Raw contents of its messages.
    contents: Vec<String>,
    /// Raw calls in chat completions' form.
    calls: Vec<String>,
    thoughts: Vec<String>,
}

impl Messages {
    /// One message of one origin.
    pub(super) fn push(&mut self, json: String, origin: Origin) {
        self.close();
        self.json.push(json);
        self.origins.push(origin);
    }

    /// Reads the items of an array that stands in the body.
    pub(super) fn read(&mut self, body: &str, input: &Span) {
        let items = elements(&body[input.clone()]).unwrap_or_default();
        for (index, span) in items.into_iter().enumerate() {
            self.item(body, index, input.start + span.start..input.start + span.end);
        }
        self.close();
    }

    fn item(&mut self, body: &str, index: usize, span: Span) {
        let Some(object) = Raw::at(body, &span).object() else {
            self.kinds.push("message".to_owned());
            // Checked where somebody must understand it.
            let origin = Origin::Items(vec![Item { index, span: span.clone(), kind: Kind::Opaque }]);
            return self.push(body[span].to_owned(), origin);
        };
        let kind = kind_of(&object);
        let summary = (kind == compaction::KIND).then(|| compaction::read(&object)).flatten();
        // A summary of ours is a message like another.
        self.kinds.push(if summary.is_some() { "message".to_owned() } else { kind.clone() });
        if let Some(summary) = summary {
            let json = format!(r#"{{"role":"user","content":{}}}"#, encode(&summary));
            return self.push(json, Origin::Items(vec![Item { index, span, kind: Kind::Opaque }]));
        }
        match kind.as_str() {
            "message" => self.message(&object, index, span),
            "reasoning" => self.reasoning(body, &object, index, span),
            "function_call" => self.call(&object, index, span, "arguments"),
            "custom_tool_call" => self.call(&object, index, span, "input"),
            "web_search_call"
            | "file_search_call"
            | "code_interpreter_call"
            | "image_generation_call"
            | "mcp_call" => self.turn.items.push(Item { index, span, kind: Kind::Opaque }),
            kind if kind.ends_with("_call") && object.raw("call_id").is_some() => {
                self.call(&object, index, span, "");
            }
            kind if kind.ends_with("_output") => self.output(&object, index, span, kind),
            // A compaction stands for all that was before it, a list of tools for what may be called.
            _ => {
                let origin = Origin::Items(vec![Item { index, span, kind: Kind::Opaque }]);
                self.push(r#"{"role":"system","content":""}"#.to_owned(), origin);
            }
        }
    }

    fn message(&mut self, object: &Object<'_>, index: usize, span: Span) {
        let content = object.span("content").unwrap_or(span.end..span.end);
        let raw = object.raw("content").unwrap_or("null");
        if object.string("role").as_deref() == Some("assistant") {
            if !self.turn.contents.is_empty() && self.turn.calls.is_empty() {
                self.close();
            }
            self.turn.contents.push(raw.to_owned());
            return self.turn.items.push(Item { index, span, kind: Kind::Message(content, Side::Output) });
        }
        let role = object.raw("role").unwrap_or("null");
        let json = format!(r#"{{"role":{role},"content":{}}}"#, content_of(raw));
        let kind = Kind::Message(content, Side::Input);
        self.push(json, Origin::Items(vec![Item { index, span, kind }]));
    }

    /// Reasoning in plain words is the model's to read again; encrypted it is carried along.
    fn reasoning(&mut self, body: &str, object: &Object<'_>, index: usize, span: Span) {
        let content = object.span("content").unwrap_or(span.end..span.end);
        let parts = elements(&body[content.clone()]).unwrap_or_default();
        let texts: Vec<String> = parts
            .iter()
            .filter_map(|part| {
                Object::of(&body[content.start + part.start..content.start + part.end])?.string("text")
            })
            .collect();
        let kind = if texts.is_empty() { Kind::Opaque } else { Kind::Thoughts };
        self.turn.thoughts.extend(texts);
        self.turn.items.push(Item { index, span, kind });
    }

    /// `arguments` names the member that holds them; empty where nothing of the call is understood but that it is one.
    fn call(&mut self, object: &Object<'_>, index: usize, span: Span, arguments: &str) {
        let id = object.raw("call_id").unwrap_or("null");
        let name = object.raw("name").or_else(|| object.raw("type")).unwrap_or("null");
        let place = object.span(arguments);
        let raw = object.raw(arguments).unwrap_or(if arguments.is_empty() { r#""{}""# } else { "null" });
        let function = format!(r#"{{"name":{name},"arguments":{raw}}}"#);
        self.turn.calls.push(format!(r#"{{"id":{id},"type":"function","function":{function}}}"#));
        self.turn.items.push(Item { index, span, kind: Kind::Call(place) });
    }

    fn output(&mut self, object: &Object<'_>, index: usize, span: Span, kind: &str) {
        let id = object.raw("call_id").or_else(|| object.raw("id")).unwrap_or("null");
        let textual = ["function_call_output", "custom_tool_call_output"].contains(&kind);
        let raw = object.raw("output").filter(|_| textual);
        let content = raw.map_or(r#""""#.into(), parts::chat);
        let json = format!(r#"{{"role":"tool","tool_call_id":{id},"content":{content}}}"#);
        let place = object.span("output").filter(|_| textual);
        let kind = place.map_or(Kind::Opaque, Kind::Output);
        self.push(json, Origin::Items(vec![Item { index, span, kind }]));
    }

    /// Ends what the model made in one go.
    fn close(&mut self) {
        let Turn { items, contents, calls, thoughts } = std::mem::take(&mut self.turn);
        if items.is_empty() {
            return;
        }
        let content = match contents.as_slice() {
            [] if calls.is_empty() => r#""""#.to_owned(),
            [] => "null".to_owned(),
            [one] => content_of(one).into_owned(),
            several => {
                let parts: Vec<_> = several.iter().flat_map(|content| parts::chat_list(content)).collect();
                format!("[{}]", parts.join(","))
            }
        };
        let mut json = format!(r#"{{"role":"assistant","content":{content}"#);
        if !thoughts.is_empty() {
            json.push_str(&format!(r#","reasoning_content":{}"#, encode(&thoughts.join("\n"))));
        }
        if !calls.is_empty() {
            json.push_str(&format!(r#","tool_calls":[{}]"#, calls.join(",")));
        }
        json.push('}');
        self.json.push(json);
        self.origins.push(Origin::Items(items));
    }
}
