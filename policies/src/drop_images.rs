//! `drop_images`: older images become a line of text, in batches.
//!
//! Images are counted from the first message: whenever more than `keep_last + slack` have gathered, the oldest go
//! until `keep_last` are left. What has gone stays gone, so that the prefix changes once per `slack + 1` images: at
//! that turn it changes from the oldest image that goes, and the engine's cache or a provider's begins there anew.

use std::collections::{HashMap, VecDeque};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::chain::{Change, Effect, Snapshot};
use crate::conversation::{Message, Replaced, Role, Span, decode, key_is, last, members};
use crate::tokens::grouped;

/// Replaces older images by a text part of the same message that says how large they were. Images that the model has
/// not answered yet stay. Images go in batches, so that the prefix changes once per batch and not at every image.
/// Counters see only text: by their count the prompt grows by the notes. Stands before `clear_tool_uses`, which
/// clears results with their images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DropImages {
    /// Images that stay when images go. Default: 2.
    pub keep_last: usize,
    /// Images that may gather on top before any go. Default: 2.
    pub slack: usize,
}

impl Default for DropImages {
    fn default() -> Self {
        Self { keep_last: 2, slack: 2 }
    }
}

/// Applies the policy.
pub(crate) fn apply(params: DropImages, snapshot: &Snapshot) -> Effect {
    let messages = snapshot.conversation.messages();
    let images: Vec<Image> = messages.iter().enumerate().flat_map(images).collect();
    let count = images.len();
    let batches = batches(params, messages, images);
    let mut edited: HashMap<usize, Vec<(Span, String)>> = HashMap::new();
    let mut edits = Vec::new();
    let mut dropped = 0;
    for (arrival, batch) in batches {
        let mut touched: Vec<usize> = batch.iter().map(|image| image.index).collect();
        touched.dedup();
        let before: Vec<Message> =
            touched.iter().map(|index| edit(&messages[*index], edited.get(index))).collect();
        dropped += batch.len();
        batch
            .into_iter()
            .for_each(|image| edited.entry(image.index).or_default().push((image.span, image.note)));
        for (index, before) in touched.into_iter().zip(before) {
            let after = edit(&messages[index], edited.get(&index));
            edits.push((index, Replaced { before, after, at: arrival }));
        }
    }
    if edits.is_empty() {
        let most = params.keep_last.saturating_add(params.slack);
        return Effect::Unchanged(format!("{count} images of at most {most}"));
    }
    Effect::Changed(Change {
        conversation: snapshot.conversation.with_replaced(edits),
        touched: edited.len(),
        reason: format!("{dropped} images older than the last {}", params.keep_last),
        tokens: None,
        // What an image takes is not counted; its note is.
        may_grow: true,
        tool: None,
    })
}

fn edit(message: &Message, parts: Option<&Vec<(Span, String)>>) -> Message {
    parts.map_or_else(|| message.clone(), |parts| message.with_parts(parts))
}

/// An image that can go.
struct Image {
    index: usize,
    span: Span,
    /// The raw text part that would stand for it.
    note: String,
}

/// The images of a user message.
fn images((index, message): (usize, &Message)) -> Vec<Image> {
    // Most messages have none: not a part of them is read.
    let none = message.role() != Role::User || message.slot().is_none();
    if none || !message.raw_content().starts_with('[') || !message.raw_content().contains("image") {
        return Vec::new();
    }
    let parts = message.parts().into_iter();
    parts.filter_map(|part| Some(Image { index, note: note(part.raw)?, span: part.span })).collect()
}

/// Replays the images: one more than may gather, and the oldest go until `keep_last` are left. Each batch with the
/// slot of the message on whose arrival it went.
fn batches(params: DropImages, messages: &[Message], images: Vec<Image>) -> Vec<(usize, Vec<Image>)> {
    let mut images = images.into_iter().peekable();
    let mut live: VecDeque<Image> = VecDeque::new();
    let mut batches = Vec::new();
    let mut answered = 0;
    for (index, message) in messages.iter().enumerate() {
        if message.role() == Role::Assistant {
            answered = index;
        }
        while let Some(image) = images.next_if(|image| image.index == index) {
            live.push_back(image);
        }
        let Some(slot) = message.slot() else { continue };
        let seen = live.partition_point(|image| image.index < answered);
        let going = seen.min(live.len().saturating_sub(params.keep_last));
        if going > params.slack {
            batches.push((slot, live.drain(..going).collect()));
        }
    }
    batches
}

/// The text part that stands for an image; none where the part is no image. It keeps the part's `cache_control`.
fn note(raw: &str) -> Option<String> {
    let fields = members(raw)?;
    let value = |name| last(raw, &fields, name).map(|field| &raw[field.value.clone()]);
    let kind = value("type")?;
    if !["image_url", "image", "input_image"].iter().any(|name| key_is(kind, name)) {
        return None;
    }
    let size = value("image_url").and_then(url).map_or_else(String::new, |url| size(&url));
    let cache = value("cache_control").map_or_else(String::new, |raw| format!(r#","cache_control":{raw}"#));
    Some(format!(r#"{{"type":"text","text":"[plimsoll: image removed{size}]"{cache}}}"#))
}

/// The address of an image: a string, or the `url` of an object.
fn url(raw: &str) -> Option<String> {
    let fields = members(raw).unwrap_or_default();
    let raw = last(raw, &fields, "url").map_or(raw, |field| &raw[field.value.clone()]);
    decode(raw).map(|decoded| decoded.text)
}

/// How large an image is, as far as its address tells; never the address itself.
fn size(url: &str) -> String {
    if !url.starts_with("data:") {
        return ", given as a link".to_owned();
    }
    let Some((kind, data)) = url.split_once(',') else { return String::new() };
    let bytes = if kind.ends_with(";base64") { data.trim_end_matches('=').len() * 3 / 4 } else { data.len() };
    format!(", {} bytes", grouped(bytes as u64))
}

#[cfg(test)]
#[path = "drop_images_tests.rs"]
mod tests;
