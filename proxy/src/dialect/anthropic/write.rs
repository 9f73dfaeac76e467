//! A conversation's edits in the bytes of the Messages request that it came from: elements, blocks and members that no
//! edit touches stay as they are, with what stands between them.

use plimsoll_policies::json::Span;
use plimsoll_policies::{Conversation, Message};

use super::content::{self, Block, Edited};
use super::render;
use super::request::{Origin, Read};
use super::tools;
use crate::dialect::raw::{Edits, Object, Raw};

/// Thinking needs at least as many tokens, and fewer than the whole answer.
const LEAST_BUDGET: u64 = 1024;

/// The body with the edits of the conversation that was made of it.
pub(super) fn write(body: &str, read: &Read, conversation: &Conversation) -> String {
    let (Some(object), Ok(before)) = (Raw::whole(body).object(), Conversation::parse_chat(read.json.clone()))
    else {
        return body.to_owned();
    };
    let writer = Writer { body, origins: &read.origins, before: &before };
    let mut edits = Edits::default();
    writer.system(&object, conversation, &mut edits);
    writer.messages(&object, conversation, &mut edits);
    if conversation.tools() != before.tools() {
        tools::write(&object, before.tools(), conversation.tools(), &mut edits);
    }
    output_limit(&object, &before, conversation, &mut edits);
    edits.apply(body, 0..body.len())
}

fn output_limit(object: &Object<'_>, before: &Conversation, after: &Conversation, edits: &mut Edits) {
    let Some(limit) = after.output_limit().filter(|limit| before.output_limit() != Some(*limit)) else {
        return;
    };
    // Where only the count is asked for there is none.
    let Some(most) = object.get("max_tokens") else { return };
    edits.put(most.span(), limit.to_string());
    let budget = object.get("thinking").and_then(|thinking| thinking.object()?.get("budget_tokens"));
    let too_much = budget.filter(|budget| budget.text.parse().is_ok_and(|tokens: u64| tokens >= limit));
    if let Some(budget) = too_much {
        edits.put(budget.span(), LEAST_BUDGET.max(limit.saturating_sub(1)).to_string());
    }
}

struct Writer<'a> {
    body: &'a str,
    origins: &'a [Origin],
    /// The conversation as it was.
    before: &'a Conversation,
}

/// An element of the messages that are sent.
enum Out<'m> {
    /// One of the client's, with those of its messages that are left.
    Own { element: usize, messages: Vec<&'m Message> },
    /// One that a policy made.
    New(&'m Message),
}

impl<'a> Writer<'a> {
    fn origin(&self, message: &Message) -> Option<&'a Origin> {
        self.origins.get(message.slot()?)
    }

    fn original(&self, message: &Message) -> Option<&'a Message> {
        self.before.messages().get(message.slot()?)
    }

    fn system(&self, object: &Object<'_>, conversation: &Conversation, edits: &mut Edits) {
        let is_system =
            |message: &&Message| self.origin(message).is_some_and(|origin| origin.element.is_none());
        let edited = conversation.messages().iter().find(is_system).filter(|message| !message.is_original());
        if let (Some(message), Some(system)) = (edited, object.get("system")) {
            let (text, _) = self.content(&system, &[message]);
            edits.put(system.span(), text);
        }
    }

    fn messages(&self, object: &Object<'_>, conversation: &Conversation, edits: &mut Edits) {
        let Some(elements) = object.get("messages").and_then(|list| list.elements()) else { return };
        let same = conversation.messages().len() == self.before.messages().len()
            && conversation
                .messages()
                .iter()
                .enumerate()
                .all(|(at, m)| m.is_original() && m.slot() == Some(at));
        let (Some(first), Some(last), false) = (elements.first(), elements.last(), same) else { return };
        let span = first.span().start..last.span().end;
        let mut text = String::with_capacity(span.len());
        for out in self.outs(conversation) {
            let (element, written) = match out {
                Out::New(message) => (None, Some(render::message(message))),
                Out::Own { element, messages } => {
                    (Some(element), self.element(&elements[element], element, &messages))
                }
            };
            let Some(written) = written else { continue };
            if !text.is_empty() {
                text.push_str(self.separator(&elements, element));
            }
            text.push_str(&written);
        }
        edits.put(span, text);
    }

    /// What stood between an element and the one before it.
    fn separator(&self, elements: &[Raw<'_>], element: Option<usize>) -> &'a str {
        match element {
            Some(at) if at > 0 => &self.body[elements[at - 1].span().end..elements[at].span().start],
            _ => ",",
        }
    }

    fn outs<'m>(&self, conversation: &'m Conversation) -> Vec<Out<'m>> {
        let mut outs = Vec::new();
        for message in conversation.messages() {
            let Some(origin) = self.origin(message) else {
                outs.push(Out::New(message));
                continue;
            };
            let Some(at) = origin.element else { continue };
            match outs.last_mut() {
                Some(Out::Own { element, messages }) if *element == at => messages.push(message),
                _ => outs.push(Out::Own { element: at, messages: vec![message] }),
            }
        }
        outs
    }

    /// One of the client's elements with what is left of it; none where nothing is.
    fn element(&self, raw: &Raw<'_>, element: usize, messages: &[&Message]) -> Option<String> {
        let own = self.origins.iter().filter(|origin| origin.element == Some(element)).count();
        if own == messages.len() && messages.iter().all(|message| message.is_original()) {
            return Some(raw.text.to_owned());
        }
        let value = raw.object()?.get("content")?;
        let (content, some) = self.content(&value, messages);
        let mut edits = Edits::default();
        edits.put(value.span(), content);
        some.then(|| edits.apply(self.body, raw.span()))
    }

    /// A content with the messages that are left of it, and whether anything is.
    fn content(&self, value: &Raw<'_>, messages: &[&Message]) -> (String, bool) {
        let Some(blocks) = value.elements() else {
            // A string is one message.
            let text = messages.first().map_or("\"\"", |message| content::raw(message));
            return (text.to_owned(), true);
        };
        let kept: Vec<Block> = messages.iter().flat_map(|message| self.blocks(message, &blocks)).collect();
        (self.joined(value, &blocks, &kept), !kept.is_empty())
    }

    fn blocks(&self, message: &Message, blocks: &[Raw<'_>]) -> Vec<Block> {
        let Some(origin) = self.origin(message) else { return Vec::new() };
        if message.is_original() {
            let own = |at: &usize| Block { of: Some(*at), text: blocks[*at].text.to_owned() };
            return origin.blocks.iter().map(own).collect();
        }
        let body = self.body;
        self.original(message)
            .map_or_else(Vec::new, |before| Edited { before, after: message, origin, blocks, body }.blocks())
    }

    /// The blocks in the array that they came from, with what stood between them.
    fn joined(&self, value: &Raw<'_>, blocks: &[Raw<'_>], kept: &[Block]) -> String {
        let span: Option<Span> =
            blocks.first().zip(blocks.last()).map(|(first, last)| first.span().start..last.span().end);
        let Some(span) = span else { return value.text.to_owned() };
        let mut text = self.body[value.span().start..span.start].to_owned();
        for (place, block) in kept.iter().enumerate() {
            if place > 0 {
                text.push_str(self.separator(blocks, block.of));
            }
            text.push_str(&block.text);
        }
        text.push_str(&self.body[span.end..value.span().end]);
        text
    }
}
