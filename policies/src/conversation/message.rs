//! One message over its raw JSON text.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, OnceLock};

use super::scan::{self, Field, Span};

/// Who speaks, as policies tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// `system`.
    System,
    /// `developer`.
    Developer,
    /// `user`.
    User,
    /// `assistant`.
    Assistant,
    /// `tool`, or `function` as older clients send it: the result of a call.
    Tool,
    /// Any other role, no role, or a message that is not an object.
    Other,
}

impl Role {
    fn parse(raw: &str) -> Self {
        match scan::decode(raw).map(|decoded| decoded.text).as_deref() {
            Some("system") => Self::System,
            Some("developer") => Self::Developer,
            Some("user") => Self::User,
            Some("assistant") => Self::Assistant,
            Some("tool" | "function") => Self::Tool,
            _ => Self::Other,
        }
    }

    /// Whether the message instructs rather than converses: never dropped.
    #[must_use]
    pub fn is_system(self) -> bool {
        matches!(self, Self::System | Self::Developer)
    }
}

/// A tool call of an assistant message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCall {
    /// The call's id; none where it is missing or not a string.
    pub id: Option<String>,
    /// The function's name; empty where it is missing.
    pub name: String,
    /// The arguments as sent: usually JSON in a string.
    pub arguments: String,
}

/// A message: its raw JSON text and a view of the members that policies read. Cloning is cheap.
#[derive(Clone)]
pub struct Message {
    inner: Arc<Inner>,
}

struct Inner {
    body: Arc<str>,
    span: Span,
    slot: Option<usize>,
    original: bool,
    role: Role,
    content: Option<Span>,
    calls: Option<Span>,
    call_id: Option<Span>,
    name: Option<Span>,
    text: OnceLock<String>,
    parsed_calls: OnceLock<Vec<ToolCall>>,
    parsed_call_id: OnceLock<Option<String>>,
}

impl Message {
    /// A message that is a span of a body; `slot` is its place in the original history.
    pub(super) fn original(body: Arc<str>, span: Span, slot: usize) -> Self {
        Self::view(body, span, Some(slot), true)
    }

    /// A message from its own JSON text. It belongs to no history yet.
    #[must_use]
    pub fn from_json(json: impl Into<Arc<str>>) -> Self {
        let body = json.into();
        let span = 0..body.len();
        Self::view(body, span, None, false)
    }

    /// A user message with plain string content.
    #[must_use]
    pub fn user(text: &str) -> Self {
        Self::from_json(format!(r#"{{"role":"user","content":{}}}"#, scan::encode(text)))
    }

    fn view(body: Arc<str>, span: Span, slot: Option<usize>, original: bool) -> Self {
        let text = &body[span.clone()];
        let fields = scan::members(text).unwrap_or_default();
        let at = |field: &Field| span.start + field.value.start..span.start + field.value.end;
        let find = |name| scan::last(text, &fields, name);
        let role = find("role").map_or(Role::Other, |field| Role::parse(&text[field.value.clone()]));
        let calls = find("tool_calls").or_else(|| find("function_call")).map(at);
        let (content, call_id, name) =
            (find("content").map(at), find("tool_call_id").map(at), find("name").map(at));
        let (text, parsed_calls, parsed_call_id) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        let inner = Inner {
            body,
            span,
            slot,
            original,
            role,
            content,
            calls,
            call_id,
            name,
            text,
            parsed_calls,
            parsed_call_id,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Who speaks.
    #[must_use]
    pub fn role(&self) -> Role {
        self.inner.role
    }

    /// The raw JSON text, as it came in or as a policy left it.
    #[must_use]
    pub fn json(&self) -> &str {
        &self.inner.body[self.inner.span.clone()]
    }

    /// Whether the raw text is what the client sent.
    #[must_use]
    pub fn is_original(&self) -> bool {
        self.inner.original
    }

    /// The place in the client's history; none for a message that a policy made.
    #[must_use]
    pub fn slot(&self) -> Option<usize> {
        self.inner.slot
    }

    /// The text: string content, or the text parts joined by line breaks. Empty where there is none.
    #[must_use]
    pub fn text(&self) -> &str {
        self.inner.text.get_or_init(|| {
            let parts: Vec<String> =
                self.slots().into_iter().filter_map(|span| self.decode(&span)).map(|d| d.text).collect();
            parts.join("\n")
        })
    }

    /// The tool calls of an assistant message; empty where there are none.
    #[must_use]
    pub fn tool_calls(&self) -> &[ToolCall] {
        self.inner.parsed_calls.get_or_init(|| match &self.inner.calls {
            Some(span) if self.inner.role == Role::Assistant => parse_calls(&self.inner.body[span.clone()]),
            _ => Vec::new(),
        })
    }

    /// The call a tool message answers; none where it is missing or not a string.
    #[must_use]
    pub fn tool_call_id(&self) -> Option<&str> {
        self.inner
            .parsed_call_id
            .get_or_init(|| self.inner.call_id.as_ref().and_then(|span| self.decode(span)).map(|d| d.text))
            .as_deref()
    }

    /// The `name` member, where it is a string.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        self.inner.name.as_ref().and_then(|span| self.decode(span)).map(|decoded| decoded.text)
    }

    /// The ids of the calls, without reading the calls themselves.
    pub(crate) fn call_ids(&self) -> Vec<Cow<'_, str>> {
        let raw = self.inner.calls.as_ref().map_or("", |span| &self.inner.body[span.clone()]);
        let calls = scan::elements(raw).unwrap_or_default();
        calls.into_iter().filter_map(|span| id_of_call(&raw[span])).collect()
    }

    /// Whether this assistant message calls tools.
    pub(crate) fn has_calls(&self) -> bool {
        let calls = self.inner.calls.as_ref().map_or("", |span| &self.inner.body[span.clone()]);
        let empty = calls.trim_start_matches(['[', '{']).trim_start().starts_with([']', '}']);
        self.role() == Role::Assistant && calls.starts_with(['[', '{']) && !empty
    }

    /// Where the raw `content` stands in the body.
    pub(crate) fn content(&self) -> Option<Span> {
        self.inner.content.clone()
    }

    /// The raw `content`, empty where there is none.
    pub(crate) fn raw_content(&self) -> &str {
        self.inner.content.as_ref().map_or("", |span| &self.inner.body[span.clone()])
    }

    /// Spans of the body that hold this message's text: the string content, or the `text` of each text part.
    pub(crate) fn slots(&self) -> Vec<Span> {
        let Some(content) = self.inner.content.clone() else { return Vec::new() };
        let raw = &self.inner.body[content.clone()];
        if raw.starts_with('"') {
            return vec![content];
        }
        let parts = scan::elements(raw).unwrap_or_default();
        parts.into_iter().filter_map(|part| text_of_part(raw, &part, content.start)).collect()
    }

    /// The raw content parts in order; empty where the content is not a list.
    pub(crate) fn parts(&self) -> Vec<Part<'_>> {
        let Some(content) = self.inner.content.clone() else { return Vec::new() };
        let raw = &self.inner.body[content.clone()];
        let span = |part: &Span| content.start + part.start..content.start + part.end;
        let parts = scan::elements(raw).unwrap_or_default();
        parts.into_iter().map(|part| Part { raw: &raw[part.clone()], span: span(&part) }).collect()
    }

    /// This message with some of its parts replaced by other raw JSON, in the order of the parts.
    pub(crate) fn with_parts(&self, edits: &[(Span, String)]) -> Self {
        let Inner { body, span: own, slot, .. } = &*self.inner;
        let mut json = String::with_capacity(own.len());
        let mut done = own.start;
        for (span, raw) in edits {
            json.push_str(&body[done..span.start]);
            json.push_str(raw);
            done = span.end;
        }
        json.push_str(&body[done..own.end]);
        let length = json.len();
        Self::view(json.into(), 0..length, *slot, false)
    }

    /// This message as another raw JSON text.
    pub(crate) fn with_json(&self, json: String) -> Self {
        let length = json.len();
        Self::view(json.into(), 0..length, self.inner.slot, false)
    }

    /// Decodes a string of the body.
    pub(crate) fn decode(&self, span: &Span) -> Option<scan::Decoded> {
        scan::decode(&self.inner.body[span.clone()])
    }

    /// This message with one of its [`Message::slots`] saying something else; every other byte is kept.
    pub(crate) fn with_text(&self, span: &Span, text: &str) -> Self {
        let Inner { body, span: own, slot, .. } = &*self.inner;
        let encoded = scan::encode(text);
        let json = [&body[own.start..span.start], &encoded, &body[span.end..own.end]].concat();
        let length = json.len();
        Self::view(json.into(), 0..length, *slot, false)
    }

    /// This message with a text as its whole content; none where it has no content.
    pub(crate) fn with_content(&self, text: &str) -> Option<Self> {
        Some(self.with_text(self.inner.content.as_ref()?, text))
    }

    /// This message with an empty object as the arguments of one of its calls; none where that is not shorter.
    pub(crate) fn with_empty_arguments(&self, id: &str) -> Option<Self> {
        let calls = self.inner.calls.clone()?;
        let raw = &self.inner.body[calls.clone()];
        let elements = scan::elements(raw)?;
        let call = elements.into_iter().find(|call| id_of_call(&raw[call.clone()]).as_deref() == Some(id))?;
        let member = |span: &Span, name| {
            let fields = scan::members(&raw[span.clone()])?;
            let value = &scan::last(&raw[span.clone()], &fields, name)?.value;
            Some(span.start + value.start..span.start + value.end)
        };
        let arguments = member(&member(&call, "function")?, "arguments")?;
        let longer = raw[arguments.clone()].starts_with('"') && arguments.len() > r#""{}""#.len();
        longer.then(|| self.with_text(&(calls.start + arguments.start..calls.start + arguments.end), "{}"))
    }

    /// Whether both are the same edit of the same message.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Identity while the message lives: a key for memos that hold the message too.
    pub(crate) fn address(&self) -> usize {
        Arc::as_ptr(&self.inner).addr()
    }
}

/// A content part.
pub(crate) struct Part<'a> {
    pub(crate) raw: &'a str,
    /// Where it stands in the body.
    pub(crate) span: Span,
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Message").field(&self.json()).finish()
    }
}

/// The `text` string of a content part, where it is a text part.
fn text_of_part(content: &str, part: &Span, offset: usize) -> Option<Span> {
    let raw = &content[part.clone()];
    let fields = scan::members(raw)?;
    let kind = scan::last(raw, &fields, "type")?;
    if !scan::key_is(&raw[kind.value.clone()], "text") {
        return None;
    }
    let text = scan::last(raw, &fields, "text")?;
    let start = offset + part.start;
    raw[text.value.clone()].starts_with('"').then(|| start + text.value.start..start + text.value.end)
}

fn id_of_call(raw: &str) -> Option<Cow<'_, str>> {
    let fields = scan::members(raw)?;
    let id = &raw[scan::last(raw, &fields, "id")?.value.clone()];
    let plain = id.strip_prefix('"')?.strip_suffix('"')?;
    if plain.contains('\\') {
        scan::decode(id).map(|id| Cow::Owned(id.text))
    } else {
        Some(Cow::Borrowed(plain))
    }
}

fn parse_calls(raw: &str) -> Vec<ToolCall> {
    match scan::elements(raw) {
        Some(calls) => calls.into_iter().map(|span| parse_call(&raw[span])).collect(),
        None if raw.starts_with('{') => vec![parse_function(raw, None)],
        None => Vec::new(),
    }
}

fn parse_call(raw: &str) -> ToolCall {
    let fields = scan::members(raw).unwrap_or_default();
    let value = |name| scan::last(raw, &fields, name).map(|field| &raw[field.value.clone()]);
    let id = value("id").and_then(scan::decode).map(|decoded| decoded.text);
    parse_function(value("function").unwrap_or(raw), id)
}

fn parse_function(raw: &str, id: Option<String>) -> ToolCall {
    let fields = scan::members(raw).unwrap_or_default();
    let text = |name| {
        let value = scan::last(raw, &fields, name).map(|field| &raw[field.value.clone()])?;
        Some(scan::decode(value).map_or_else(|| value.to_owned(), |decoded| decoded.text))
    };
    ToolCall { id, name: text("name").unwrap_or_default(), arguments: text("arguments").unwrap_or_default() }
}
