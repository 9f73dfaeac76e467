//! A conversation over the original JSON text.
//!
//! The text is never rewritten: messages, tools and the output limit are views of it, and an edit replaces only
//! the spans it touches.

mod message;
pub(crate) mod scan;
mod splice;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

pub use message::{Message, Role, ToolCall};
pub(crate) use scan::{Field, Span, decode, elements, encode, key_is, last, members};

use crate::tokens::Tokens;

/// Members that limit the output, the one that counts first.
const OUTPUT_LIMITS: [&str; 2] = ["max_completion_tokens", "max_tokens"];

/// An OpenAI chat request over its original text. Cloning is cheap.
#[derive(Clone)]
pub struct Conversation {
    source: Arc<Source>,
    messages: Arc<Vec<Message>>,
    dropped: Arc<Vec<Dropped>>,
    /// Edits of messages that had gone out before, by slot, oldest first.
    replaced: Arc<BTreeMap<usize, Vec<Replaced>>>,
    tools: Option<Arc<str>>,
    output_limit: Option<Tokens>,
    /// Raw JSON text in place of the client's `stream_options`.
    stream_options: Option<Arc<str>>,
    /// Whether the list of messages is no longer the client's.
    edited: bool,
}

/// What came in.
struct Source {
    body: Arc<str>,
    outline: scan::Outline,
}

/// A message that a policy removed.
#[derive(Debug, Clone)]
pub struct Dropped {
    /// The message as it was when it was removed.
    pub message: Message,
    /// The policy that removed it.
    pub by: &'static str,
    /// Place in the client's history of the message on whose arrival it was removed.
    pub(crate) at: usize,
}

/// An edit of a message that went out as it was before, until another arrived.
#[derive(Debug, Clone)]
pub(crate) struct Replaced {
    pub(crate) before: Message,
    pub(crate) after: Message,
    /// Place in the client's history of the message on whose arrival it was edited.
    pub(crate) at: usize,
}

/// Index of the last answer that a prompt before this one led to: what ends in an answer is to be continued, and that one
/// was no reply to an earlier prompt.
pub(crate) fn last_answer(messages: &[Message]) -> Option<usize> {
    let before = messages.len().checked_sub(1)?;
    messages[..before].iter().rposition(|message| message.role() == Role::Assistant)
}

/// Bytes that are not a chat request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} (line {line}, column {column})")]
pub struct ParseError {
    /// What is wrong, or what is expected.
    pub what: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in bytes, from 1; 0 where the line is empty.
    pub column: usize,
    /// Whether the bytes are JSON, of the wrong shape.
    json: bool,
}

impl Conversation {
    /// Reads a chat request without changing a byte of it.
    ///
    /// # Errors
    /// Bytes that are not JSON; a body that is not an object; `messages` missing or not an array. Anything else
    /// that is odd stays as it is and is nobody's business here.
    pub fn parse_chat(body: Arc<str>) -> Result<Self, ParseError> {
        let outline = scan::outline(&body).map_err(|error| ParseError::from_json(&error))?;
        let messages = outline
            .elements
            .iter()
            .enumerate()
            .map(|(slot, span)| Message::original(body.clone(), span.clone(), slot))
            .collect();
        Ok(Self {
            source: Arc::new(Source { body, outline }),
            messages: Arc::new(messages),
            dropped: Arc::default(),
            replaced: Arc::default(),
            tools: None,
            output_limit: None,
            stream_options: None,
            edited: false,
        })
    }

    /// The messages as they would be sent.
    #[must_use]
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// The first user message as it came in, whatever a policy made of it; none where no user speaks.
    #[must_use]
    pub fn first_user(&self) -> Option<Message> {
        let Source { body, outline } = &*self.source;
        let spans = outline.elements.iter().enumerate();
        let mut messages = spans.map(|(slot, span)| Message::original(body.clone(), span.clone(), slot));
        messages.find(|message| message.role() == Role::User)
    }

    /// The raw JSON text of the tools array as it would be sent; none where there is no array.
    #[must_use]
    pub fn tools(&self) -> Option<&str> {
        self.tools.as_deref().or_else(|| self.field("tools")).filter(|raw| raw.starts_with('['))
    }

    /// The raw JSON text of a member of the body as it came in; of duplicates the last. `messages` is not one.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        let Source { body, outline } = &*self.source;
        last(body, &outline.fields, name).map(|field| &body[field.value.clone()])
    }

    /// Members of the body as they came in, in order, as name and raw JSON text; `messages` is not one.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        let Source { body, outline } = &*self.source;
        // A name between its quotes; one with escapes is nobody's option.
        let name = |field: &Field| field.key.start + 1..field.key.end - 1;
        outline.fields.iter().map(move |field| (&body[name(field)], &body[field.value.clone()]))
    }

    /// Tokens the caller wants at most: `max_completion_tokens`, else `max_tokens`.
    #[must_use]
    pub fn output_limit(&self) -> Option<Tokens> {
        self.output_limit.or_else(|| OUTPUT_LIMITS.iter().find_map(|name| self.field(name)?.parse().ok()))
    }

    /// Whether a policy changed anything.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        self.edited || self.tools.is_some() || self.output_limit.is_some() || self.stream_options.is_some()
    }

    /// The request: the original text itself where nothing changed, else the original with the touched spans
    /// replaced.
    #[must_use]
    pub fn to_json(&self) -> Arc<str> {
        if self.is_changed() { splice::splice(self).into() } else { self.source.body.clone() }
    }

    /// The request, asking for the usage of its stream as well. `None` where it does so already, does not stream, or has
    /// `stream_options` that are no object.
    #[must_use]
    pub fn asking_usage(&self) -> Option<Self> {
        if self.field("stream") != Some("true") {
            return None;
        }
        let raw = self.field("stream_options").filter(|raw| *raw != "null").unwrap_or("{}");
        let mut options: serde_json::Map<String, serde_json::Value> = serde_json::from_str(raw).ok()?;
        if options.insert("include_usage".to_owned(), true.into()) == Some(true.into()) {
            return None;
        }
        let options = serde_json::Value::Object(options).to_string();
        Some(Self { stream_options: Some(options.into()), ..self.clone() })
    }

    /// A request with more messages before and after its own, given as raw JSON. `tools` becomes its tools array where
    /// it names none. The text is the new request's original.
    ///
    /// # Errors
    /// A message or the tools are not JSON.
    pub fn extended(&self, before: &[&str], after: &[&str], tools: Option<&str>) -> Result<Self, ParseError> {
        let base = if self.is_changed() { Self::parse_chat(self.to_json())? } else { self.clone() };
        let Source { body, outline } = &*base.source;
        let end = outline.elements.last().map_or(outline.open, |span| span.end);
        let own = &body[outline.open..end];
        let own = Some(own).filter(|_| !outline.elements.is_empty());
        let messages: Vec<&str> = before.iter().copied().chain(own).chain(after.iter().copied()).collect();
        let head = &body[..outline.open];
        let (open, rest) = head.split_at(head.find('{').map_or(0, |at| at + 1));
        let tools = tools.filter(|_| base.field("tools").is_none());
        let tools = tools.map(|tools| format!("\"tools\":{tools},")).unwrap_or_default();
        Self::parse_chat([open, &tools, rest, &messages.join(","), &body[end..]].concat().into())
    }

    /// A request that goes on from a saved conversation: as [`Self::extended`] before, but system and developer messages
    /// at its beginning that the saved one begins with too are not sent a second time. Others stay where they are, behind
    /// what was saved.
    ///
    /// # Errors
    /// A saved message or the tools are not JSON.
    pub fn resuming(&self, saved: &[&str], tools: Option<&str>) -> Result<Self, ParseError> {
        let begins = |role: Role| matches!(role, Role::System | Role::Developer);
        let read = |json: &str| serde_json::from_str::<serde_json::Value>(json).ok();
        let before = Self::parse_chat(format!("{{\"messages\":[{}]}}", saved.join(",")).into())?;
        let known = before.messages().iter().take_while(|message| begins(message.role()));
        let known: Vec<_> = known.filter_map(|message| read(message.json())).collect();
        let own = self.messages().iter().take_while(|message| begins(message.role()));
        let twice: Vec<bool> =
            own.map(|message| read(message.json()).is_some_and(|message| known.contains(&message))).collect();
        self.head_without(&twice).extended(saved, &[], tools)
    }

    /// Without those of the first messages for which `gone` says so.
    fn head_without(&self, gone: &[bool]) -> Self {
        if !gone.contains(&true) {
            return self.clone();
        }
        let stays = |index: &usize| !gone.get(*index).is_some_and(|gone| *gone);
        let messages =
            (0..self.messages.len()).filter(stays).map(|index| self.messages[index].clone()).collect();
        Self { messages: Arc::new(messages), edited: true, ..self.clone() }
    }

    /// With one more tool at the end of its tools; none where it has no tools.
    #[must_use]
    pub fn with_tool(&self, tool: &str) -> Option<Self> {
        let tools = self.tools()?.strip_suffix(']')?.trim_end();
        let separator = if tools.ends_with('[') { return None } else { "," };
        Some(self.with_tools(format!("{tools}{separator}{tool}]")))
    }

    /// Messages that policies removed, in the order of the client's history.
    #[must_use]
    pub fn dropped(&self) -> &[Dropped] {
        &self.dropped
    }

    /// Only the first `count` messages.
    pub(crate) fn head(&self, count: usize) -> Self {
        let messages = self.messages.iter().take(count).cloned().collect();
        Self { messages: Arc::new(messages), edited: true, ..self.clone() }
    }

    /// Without the messages for which `removed` gives the place on whose arrival they went.
    pub(crate) fn without(&self, by: &'static str, removed: impl Fn(usize) -> Option<usize>) -> Self {
        let mut dropped = (*self.dropped).clone();
        let mut kept = Vec::with_capacity(self.messages.len());
        for (index, message) in self.messages.iter().enumerate() {
            match removed(index) {
                Some(at) => dropped.push(Dropped { message: message.clone(), by, at }),
                None => kept.push(message.clone()),
            }
        }
        if kept.len() == self.messages.len() {
            return self.clone();
        }
        dropped.sort_by_key(|tombstone| tombstone.message.slot());
        Self { messages: Arc::new(kept), dropped: Arc::new(dropped), edited: true, ..self.clone() }
    }

    /// With messages replaced by edits of themselves.
    pub(crate) fn with_messages(&self, edits: Vec<(usize, Message)>) -> Self {
        if edits.is_empty() {
            return self.clone();
        }
        let mut messages = (*self.messages).clone();
        for (index, message) in edits {
            messages[index] = message;
        }
        Self { messages: Arc::new(messages), edited: true, ..self.clone() }
    }

    /// With messages replaced from another's arrival on. Each edit is of the message as it is now, or as the edit
    /// before it left it.
    pub(crate) fn with_replaced(&self, edits: Vec<(usize, Replaced)>) -> Self {
        let mut messages = (*self.messages).clone();
        let mut replaced = (*self.replaced).clone();
        for (index, edit) in edits {
            messages[index] = edit.after.clone();
            replaced.entry(edit.before.slot().unwrap_or(usize::MAX)).or_default().push(edit);
        }
        Self { messages: Arc::new(messages), replaced: Arc::new(replaced), edited: true, ..self.clone() }
    }

    /// The edits of a message that had gone out before, oldest first.
    pub(crate) fn replaced(&self, message: &Message) -> &[Replaced] {
        let slot = message.slot().filter(|_| !self.replaced.is_empty());
        slot.and_then(|slot| self.replaced.get(&slot)).map_or(&[], Vec::as_slice)
    }

    /// A message as it first went out.
    pub(crate) fn first_sent<'m>(&'m self, message: &'m Message) -> &'m Message {
        self.replaced(message).first().map_or(message, |edit| &edit.before)
    }

    /// A message as the client sent it; itself where a policy made it.
    pub(crate) fn original(&self, message: &Message) -> Message {
        let Source { body, outline } = &*self.source;
        let slot = message.slot().filter(|_| !message.is_original());
        slot.and_then(|slot| Some((slot, outline.elements.get(slot)?))).map_or_else(
            || message.clone(),
            |(slot, span)| Message::original(body.clone(), span.clone(), slot),
        )
    }

    /// Whether a message was edited after it had gone out.
    pub(crate) fn has_replaced(&self) -> bool {
        !self.replaced.is_empty()
    }

    /// With one more message at this index.
    pub(crate) fn with_inserted(&self, index: usize, message: Message) -> Self {
        let mut messages = (*self.messages).clone();
        messages.insert(index, message);
        Self { messages: Arc::new(messages), edited: true, ..self.clone() }
    }

    /// With another tools array.
    pub(crate) fn with_tools(&self, tools: String) -> Self {
        Self { tools: Some(tools.into()), ..self.clone() }
    }

    /// With another limit on the output; members that hold one are replaced, else `max_tokens` is added.
    pub(crate) fn with_output_limit(&self, limit: Tokens) -> Self {
        Self { output_limit: Some(limit), ..self.clone() }
    }
}

impl fmt::Debug for Conversation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conversation").field("json", &self.to_json()).finish_non_exhaustive()
    }
}

impl ParseError {
    /// Bytes that are not even text.
    #[must_use]
    pub fn not_utf8(error: std::str::Utf8Error) -> Self {
        let what = format!("not UTF-8 text: byte {} begins no character", error.valid_up_to());
        Self { what, line: 1, column: error.valid_up_to() + 1, json: false }
    }

    /// Whether the bytes are JSON, only not a chat request.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// What `serde_json` says of a body; its place is told apart from its words.
    #[must_use]
    pub fn from_json(error: &serde_json::Error) -> Self {
        let (line, column) = (error.line(), error.column());
        let message = error.to_string();
        let place = format!(" at line {line} column {column}");
        let what = message.strip_suffix(&place).unwrap_or(&message).to_owned();
        Self { what, line, column, json: error.is_data() }
    }
}

#[cfg(test)]
#[path = "conversation/conversation_tests.rs"]
mod tests;
