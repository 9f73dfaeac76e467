//! Blocks of an edited message: those whose part is as it was keep their bytes, in a changed one only the changed value is
//! replaced, so that its other members (`cache_control`, `is_error`) stay.

use plimsoll_policies::Message;
use plimsoll_policies::json::encode;

use super::request::Origin;
use crate::dialect::raw::{Edits, Object, Raw};

/// A block as it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    /// Index of the client's block that it was; none where a policy made it.
    pub(super) of: Option<usize>,
    /// Its JSON.
    pub(super) text: String,
}

/// The raw content of a message; an empty string where it has none.
pub(super) fn raw(message: &Message) -> &str {
    let content = Raw::whole(message.json()).object().and_then(|object| object.get("content"));
    content.map_or("\"\"", |content| content.text)
}

/// The parts of a content as raw JSON; a string is one text.
fn parts(content: &str) -> Vec<String> {
    match Raw::whole(content).elements() {
        Some(parts) => parts.iter().map(|part| part.text.to_owned()).collect(),
        None if content == "\"\"" => Vec::new(),
        None => vec![format!(r#"{{"type":"text","text":{content}}}"#)],
    }
}

/// An edited message beside what it was made of.
pub(super) struct Edited<'a> {
    /// The message as it was.
    pub(super) before: &'a Message,
    /// The message as it is now.
    pub(super) after: &'a Message,
    /// Where it came from.
    pub(super) origin: &'a Origin,
    /// The blocks of its element.
    pub(super) blocks: &'a [Raw<'a>],
    /// The client's body.
    pub(super) body: &'a str,
}

impl Edited<'_> {
    /// Its blocks.
    pub(super) fn blocks(&self) -> Vec<Block> {
        if self.origin.result { self.result().into_iter().collect() } else { self.said() }
    }

    /// The block of a tool's result.
    fn result(&self) -> Option<Block> {
        let at = *self.origin.blocks.first()?;
        let block = self.blocks.get(at)?;
        let mut edits = Edits::default();
        match block.object()?.get("content") {
            Some(value) => {
                let content = match value.elements() {
                    None => raw(self.after).to_owned(),
                    Some(own) => {
                        let texts = self.merged(&own).into_iter().map(|block| block.text);
                        format!("[{}]", texts.collect::<Vec<_>>().join(","))
                    }
                };
                edits.put(value.span(), content);
            }
            None => {
                let end = block.span().end - 1;
                edits.put(end..end, format!(",\"content\":{}", raw(self.after)));
            }
        }
        Some(Block { of: Some(at), text: edits.apply(self.body, block.span()) })
    }

    /// The blocks of what somebody said: text, calls and thoughts, in the order they were in.
    fn said(&self) -> Vec<Block> {
        let Origin { parts, calls, .. } = self.origin;
        let mut texts = self.merged(self.blocks);
        let object = Raw::whole(self.after.json()).object();
        let has = |name: &str| object.as_ref().is_some_and(|object| object.get(name).is_some());
        // Of the instructions, what is no part is not the conversation's to drop.
        let keeps = has("reasoning_content") || has("thinking_blocks") || self.origin.element.is_none();
        let mut out = Vec::new();
        for at in &self.origin.blocks {
            let Some(block) = self.blocks.get(*at) else { continue };
            if parts.contains(at) {
                // What a policy made stands with the parts, ahead of calls that came after them.
                let here = texts.iter().take_while(|text| text.of.is_none_or(|of| of <= *at)).count();
                let here = if Some(at) == parts.last() { texts.len() } else { here };
                out.extend(texts.drain(..here));
            } else if let Some(place) = calls.iter().position(|call| call == at) {
                out.extend(self.call(place, *at, block));
            } else if keeps {
                out.push(Block { of: Some(*at), text: block.text.to_owned() });
            }
        }
        if parts.is_empty() {
            // Nothing was said beside the calls: what is said now comes before them.
            let place = out.iter().position(|block| block.of.is_some_and(|of| calls.contains(&of)));
            let place = place.unwrap_or(out.len());
            out.splice(place..place, texts);
        }
        out
    }

    /// A call with its arguments as they are now; none where it is gone.
    fn call(&self, place: usize, at: usize, block: &Raw<'_>) -> Option<Block> {
        let was = self.before.tool_calls().get(place)?;
        let now = self.after.tool_calls().iter().find(|call| call.id == was.id)?;
        let mut edits = Edits::default();
        if now.arguments != was.arguments
            && let Some(input) = block.object()?.get("input")
        {
            let object = Raw::whole(&now.arguments).object().map(|_| now.arguments.as_str());
            edits.put(input.span(), object.unwrap_or("{}"));
        }
        Some(Block { of: Some(at), text: edits.apply(self.body, block.span()) })
    }

    /// The parts as they are now, in the blocks that they were among these.
    fn merged(&self, blocks: &[Raw<'_>]) -> Vec<Block> {
        let own = self.origin.parts.iter().filter_map(|at| Some((*at, blocks.get(*at)?.clone())));
        merged(&own.collect::<Vec<_>>(), &parts(raw(self.before)), &parts(raw(self.after)), self.body)
    }
}

/// Blocks of parts that may have been edited, replaced or taken out: each part as it was keeps its block.
fn merged(own: &[(usize, Raw<'_>)], before: &[String], after: &[String], body: &str) -> Vec<Block> {
    let mut blocks = Vec::with_capacity(after.len());
    let mut next = 0;
    for (place, part) in after.iter().enumerate() {
        let same = (next..before.len().min(own.len())).find(|at| before[*at] == *part);
        let of = same.or_else(|| {
            let place = if after.len() == before.len() { place } else { carrier(own, next)? };
            (place >= next && place < own.len()).then_some(place)
        });
        let Some((at, block)) = of.and_then(|of| own.get(of)) else {
            blocks.push(Block { of: None, text: part.clone() });
            continue;
        };
        next = of.unwrap_or(next) + 1;
        let text = if same.is_some() { Some(block.text.to_owned()) } else { changed(block, part, body) };
        blocks.extend(text.map(|text| Block { of: Some(*at), text }));
    }
    blocks
}

/// The block that a text which stands for several goes into: one at which a cache ends, so that it ends there still.
fn carrier(own: &[(usize, Raw<'_>)], next: usize) -> Option<usize> {
    let caches = |block: &Raw<'_>| block.object().is_some_and(|block| block.get("cache_control").is_some());
    let place = (next..own.len()).rev().find(|at| caches(&own[*at].1));
    place.or_else(|| (next < own.len()).then_some(next))
}

/// A block that says something else; none where it says nothing any more.
fn changed(block: &Raw<'_>, part: &str, body: &str) -> Option<String> {
    let (own, part_object) = (block.object()?, Raw::whole(part).object()?);
    let text = part_object.get("text");
    if text.as_ref().is_some_and(|text| text.text == "\"\"") {
        return None;
    }
    match (own.get("text").filter(Raw::is_string), text) {
        (Some(was), Some(text)) => {
            let mut edits = Edits::default();
            edits.put(was.span(), text.text);
            Some(edits.apply(body, block.span()))
        }
        _ => Some(with_cache(part, &own)),
    }
}

/// A part that stands for a block, with the cache that ends at it.
fn with_cache(part: &str, block: &Object<'_>) -> String {
    match (block.get("cache_control"), part.strip_suffix('}')) {
        (Some(cache), Some(open)) => format!("{open},\"cache_control\":{}}}", cache.text),
        _ => part.to_owned(),
    }
}

/// A text as a block.
pub(super) fn text(text: &str) -> String {
    format!(r#"{{"type":"text","text":{}}}"#, encode(text))
}
