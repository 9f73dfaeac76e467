//! Writes what a policy made of the chat form into the original body: only the touched spans differ.

use std::borrow::Cow;

use plimsoll_policies::json::{elements, last, members};
use plimsoll_policies::{Conversation, Message};

use super::Responses;
use super::items::{Item, Kind, Origin};
use super::parts::{self, Side};
use super::tools;
use crate::dialect::raw::{Object, spliced};

/// The body with the edits of a conversation.
pub(super) fn write(original: &Responses, conversation: &Conversation) -> String {
    let body = &*original.body;
    let Some(object) = Object::of(body) else { return body.to_owned() };
    let mut edits = Vec::new();
    for message in conversation.messages().iter().filter(|message| !message.is_original()) {
        if let (Some(Origin::Instructions(span)), Some(text)) = (origin(original, message), text(message)) {
            edits.push((span.clone(), text.to_owned()));
        }
    }
    if let Some(input) = object.span("input") {
        let now = input_now(original, conversation, &body[input.clone()]);
        edits.extend(now.map(|now| (input, now)));
    }
    let (before, now) = (conversation.field("tools"), conversation.tools());
    if let (Some(place), Some(now)) = (object.span("tools"), now.filter(|now| before != Some(*now))) {
        edits.push((place.clone(), tools::back(&body[place], now)));
    }
    edits.extend(limit(&object, conversation, body));
    spliced(body, 0..body.len(), edits)
}

/// `max_output_tokens`, where a policy set another one.
fn limit(
    object: &Object<'_>,
    conversation: &Conversation,
    body: &str,
) -> Option<(std::ops::Range<usize>, String)> {
    let limit = conversation.output_limit()?;
    let before = object.given("max_output_tokens").and_then(|raw| raw.parse().ok());
    if before == Some(limit) {
        return None;
    }
    let end = body.rfind('}').unwrap_or_default();
    Some(match object.span("max_output_tokens") {
        Some(span) => (span, limit.to_string()),
        None => (end..end, format!(r#","max_output_tokens":{limit}"#)),
    })
}

fn origin<'a>(original: &'a Responses, message: &Message) -> Option<&'a Origin> {
    original.origins.get(message.slot()?)
}

/// The raw content of a message that is one string.
fn text(message: &Message) -> Option<&str> {
    content(message.json()).filter(|content| content.starts_with('"'))
}

fn content(message: &str) -> Option<&str> {
    member(message, "content")
}

fn member<'a>(object: &'a str, name: &str) -> Option<&'a str> {
    last(object, &members(object)?, name).map(|field| &object[field.value.clone()])
}

/// The value of `input`; none where it stays.
fn input_now(original: &Responses, conversation: &Conversation, input: &str) -> Option<String> {
    let messages: Vec<_> = conversation
        .messages()
        .iter()
        .filter(|message| !matches!(origin(original, message), Some(Origin::Instructions(_))))
        .collect();
    let own = original.origins.iter().filter(|origin| !matches!(origin, Origin::Instructions(_))).count();
    if messages.len() == own && messages.iter().all(|message| message.is_original()) {
        return None;
    }
    if !input.starts_with('[') {
        // One text: with others beside it it becomes a list.
        return match messages.as_slice() {
            [one] if one.slot().is_some() => text(one).map(str::to_owned),
            several => {
                Some(format!("[{}]", several.iter().map(|one| one.json()).collect::<Vec<_>>().join(",")))
            }
        };
    }
    let body = &*original.body;
    let mut list = String::from("[");
    for message in messages {
        let items = match origin(original, message) {
            Some(Origin::Items(items)) => items.as_slice(),
            _ => &[],
        };
        let text = match items {
            // What a policy put in is a message in both forms.
            [] => message.json().into(),
            [first, ..] if message.is_original() => {
                let end = items.last().map_or(first.span.end, |last| last.span.end);
                Cow::Borrowed(&body[first.span.start..end])
            }
            items => edited(original, items, message).into(),
        };
        // Nothing is left where reasoning was all there was.
        if list.len() > 1 && !text.is_empty() {
            list.push_str(separator(original, items.first()));
        }
        list.push_str(&text);
    }
    list.push(']');
    Some(list)
}

/// What stood between an item and the one before it.
fn separator<'a>(original: &'a Responses, item: Option<&Item>) -> &'a str {
    let before = item.and_then(|item| {
        let before = original.items.get(item.index.checked_sub(1)?)?;
        Some(&original.body[before.end..item.span.start])
    });
    before.unwrap_or(",")
}

/// The items of an edited message.
fn edited(original: &Responses, items: &[Item], message: &Message) -> String {
    let json = message.json();
    let now = Now {
        content: content(json).unwrap_or("null"),
        calls: calls(json),
        thinks: member(json, "reasoning_content").is_some(),
    };
    let (mut list, mut call, mut part) = (String::new(), 0, 0);
    let several = items.iter().filter(|item| matches!(item.kind, Kind::Message(..))).count() > 1;
    for item in items {
        let body = &*original.body;
        let raw = &body[item.span.clone()];
        let edit = match &item.kind {
            Kind::Thoughts if !now.thinks => continue,
            Kind::Thoughts | Kind::Opaque => None,
            Kind::Call(place) => {
                call += 1;
                place.as_ref().and_then(|place| {
                    let arguments = member(member(now.calls.get(call - 1)?, "function")?, "arguments")?;
                    (*arguments != body[place.clone()]).then(|| (place, arguments.to_owned()))
                })
            }
            Kind::Output(place) => {
                parts::back(&body[place.clone()], now.content, Side::Input).map(|now| (place, now))
            }
            Kind::Message(place, side) => {
                let before = &body[place.clone()];
                let own = if several { now.parts(&mut part, before) } else { now.content.to_owned() };
                parts::back(before, &own, *side).map(|now| (place, now))
            }
        };
        if !list.is_empty() {
            list.push_str(separator(original, Some(item)));
        }
        match edit {
            Some((place, now)) => {
                list.push_str(&spliced(body, item.span.clone(), vec![(place.clone(), now)]));
            }
            None => list.push_str(raw),
        }
    }
    list
}

fn calls(message: &str) -> Vec<&str> {
    let raw = member(message, "tool_calls").unwrap_or_default();
    elements(raw).unwrap_or_default().into_iter().map(|span| &raw[span]).collect()
}

/// A message as a policy left it.
struct Now<'a> {
    content: &'a str,
    calls: Vec<&'a str>,
    thinks: bool,
}

impl Now<'_> {
    /// The parts that belong to one of several messages, in the form of what it was; `done` counts those before it.
    fn parts(&self, done: &mut usize, before: &str) -> String {
        let own = parts::chat_list(before).len();
        let all = elements(self.content).unwrap_or_default();
        let mine: Vec<&str> = all.into_iter().skip(*done).take(own).map(|span| &self.content[span]).collect();
        *done += own;
        // One string was one part.
        match (before.starts_with('"'), mine.as_slice()) {
            (true, [one]) => member(one, "text").unwrap_or(before).to_owned(),
            _ => format!("[{}]", mine.join(",")),
        }
    }
}
