//! `cap_tool_output`: a large tool result keeps its head and its tail.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::chain::{Change, Effect, Snapshot};
use crate::conversation::{Message, Role, Span};
use crate::error_output::is_error;
use crate::fit_context::share;
use crate::summaries::{Recorded, SpanKey};
use crate::tokens::{CountTokens, Tokens, grouped};

/// Ceiling of the default cap; it is also held to a quarter of the window.
const MAX_TOKENS: Tokens = 1500;
/// An error longer than this many caps is a log, and capped like one.
const ERROR_CAPS: Tokens = 4;

/// Shortens a tool result over the cap to its head and its tail, with a line between them that says how much was
/// left out. It happens when the result is first seen and comes out the same at every later turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CapToolOutput {
    /// Tokens a result may have, the marker line included. Default: 1500, at most a quarter of the window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<Tokens>,
    /// Share of what is kept that comes from the start; the rest comes from the end. Default: 0.3.
    pub head: f64,
    /// Other caps for the results of some tools, by the tool's name.
    pub per_tool: BTreeMap<String, Tokens>,
    /// Tools whose results are never shortened.
    pub exempt: Vec<String>,
    /// Leave error messages whole, up to four times the cap. Default: true.
    pub errors_exempt: bool,
    /// Leave a result as it is where less than this share of it would be saved. Default: 0.15.
    pub min_savings: f64,
}

impl Default for CapToolOutput {
    fn default() -> Self {
        Self {
            max_tokens: None,
            head: 0.3,
            per_tool: BTreeMap::new(),
            exempt: Vec::new(),
            errors_exempt: true,
            min_savings: 0.15,
        }
    }
}

impl CapToolOutput {
    /// What is wrong with the parameters, if anything.
    pub(crate) fn fault(&self) -> Option<String> {
        let shares = [("head", self.head), ("min_savings", self.min_savings)];
        let odd = shares.into_iter().find(|(_, share)| !(0.0..=1.0).contains(share));
        let small = self.per_tool.values().chain(&self.max_tokens).find(|cap| **cap < MARKER_TOKENS);
        odd.map(|(name, value)| format!("`{name}: {value}` must be from 0 to 1")).or_else(|| {
            small.map(|cap| {
                format!("a cap of {cap} tokens has no room for the marker; use {MARKER_TOKENS} or more")
            })
        })
    }

    fn cap(&self, tool: Option<&str>, window: Tokens) -> Tokens {
        let own = tool.and_then(|tool| self.per_tool.get(tool)).copied();
        own.or(self.max_tokens).unwrap_or_else(|| MAX_TOKENS.min(window / 4))
    }
}

/// The least cap a user may write.
const MARKER_TOKENS: Tokens = 32;

/// Applies the policy.
pub(crate) fn apply(params: &CapToolOutput, snapshot: &Snapshot) -> Effect {
    let messages = snapshot.conversation.messages();
    let mut edits = Vec::new();
    let mut tools: Vec<Option<String>> = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        if message.role() != Role::Tool {
            continue;
        }
        if let Some((tool, edit)) = capped(params, snapshot, index) {
            edits.push((index, edit));
            tools.push(tool);
        }
    }
    if edits.is_empty() {
        return Effect::Unchanged("no result over its cap".to_owned());
    }
    tools.dedup();
    let touched = edits.len();
    let tool = if let [Some(only)] = &tools[..] { Some(only.clone()) } else { None };
    let cap = params.cap(tool.as_deref(), snapshot.limits.window);
    let reason = format!("over {cap} tokens: head and tail kept");
    let conversation = snapshot.conversation.with_messages(edits);
    Effect::Changed(Change { conversation, touched, reason, tokens: None, may_grow: false, tool })
}

/// The shortened form of a result, with its tool's name; none where it stays.
fn capped(params: &CapToolOutput, snapshot: &Snapshot, index: usize) -> Option<(Option<String>, Message)> {
    let message = &snapshot.conversation.messages()[index];
    let raw = message.raw_content();
    let least = params.per_tool.values().copied().min().unwrap_or(Tokens::MAX);
    // No tokenizer makes more tokens than bytes.
    if (raw.len() as Tokens) <= params.cap(None, snapshot.limits.window).min(least) {
        return None;
    }
    let tool = tool_name(snapshot.conversation.messages(), index);
    if tool.as_ref().is_some_and(|tool| params.exempt.contains(tool)) {
        return None;
    }
    let cap = params.cap(tool.as_deref(), snapshot.limits.window);
    if (raw.len() as Tokens) <= cap {
        return None;
    }
    let key = key(params, cap, message, snapshot.counter);
    let text = match snapshot.summaries.get(&key) {
        Some(Recorded::Text(text)) => text,
        _ => {
            let text = shortened(params, cap, message, snapshot.counter).unwrap_or_default();
            snapshot.summaries.record(&key, &text);
            text
        }
    };
    if text.is_empty() {
        return None;
    }
    Some((tool, message.with_text(&largest_slot(message)?, &text)))
}

/// Names a shortened result: nothing else goes into it.
fn key(params: &CapToolOutput, cap: Tokens, message: &Message, counter: &dyn CountTokens) -> SpanKey {
    let numbers = [cap, params.head.to_bits(), params.min_savings.to_bits(), u64::from(params.errors_exempt)];
    let numbers: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    let (name, json) = (counter.name().as_bytes(), message.json().as_bytes());
    SpanKey::of([b"plimsoll cap_tool_output 1".as_slice(), name, &numbers, json])
}

/// The tool's name: as the result says, or as the call it answers says.
fn tool_name(messages: &[Message], index: usize) -> Option<String> {
    let message = &messages[index];
    message.name().or_else(|| {
        let id = message.tool_call_id()?;
        let calls = messages[..index].iter().rev().flat_map(Message::tool_calls);
        calls.into_iter().find(|call| call.id.as_deref() == Some(id)).map(|call| call.name.clone())
    })
}

/// Where the longest text of a message stands.
fn largest_slot(message: &Message) -> Option<Span> {
    message.slots().into_iter().max_by_key(ExactSizeIterator::len)
}

fn shortened(
    params: &CapToolOutput,
    cap: Tokens,
    message: &Message,
    counter: &dyn CountTokens,
) -> Option<String> {
    let span = largest_slot(message)?;
    // Text that cannot be written back unchanged is nobody's.
    let text = message.decode(&span).filter(|decoded| decoded.exact)?.text;
    let others = message.slots().into_iter().filter(|other| *other != span);
    let others: Tokens =
        others.filter_map(|span| message.decode(&span)).map(|decoded| counter.text(&decoded.text)).sum();
    let cap = cap.saturating_sub(others).max(MARKER_TOKENS);
    let total = counter.text(&text);
    let exempt = params.errors_exempt && total <= cap.saturating_mul(ERROR_CAPS) && is_error(message);
    if total <= cap || exempt {
        return None;
    }
    let (short, tokens) = shorten(&text, total, cap, params.head, counter)?;
    let saved = total.saturating_sub(tokens);
    (saved >= share(total, params.min_savings)).then_some(short)
}

/// Head, marker and tail of a text, and what they count together: at most `cap`.
fn shorten(
    text: &str,
    total: Tokens,
    cap: Tokens,
    head_share: f64,
    counter: &dyn CountTokens,
) -> Option<(String, Tokens)> {
    let mut room = cap.saturating_sub(counter.text(&marker(total, total)));
    for _ in 0..TRIES {
        let head = head(text, total, share(room, head_share), counter);
        let rest = &text[head.len()..];
        let tail = tail(rest, total, room - share(room, head_share), counter);
        let omitted = total.saturating_sub(counter.text(head)).saturating_sub(counter.text(tail));
        let marker = marker(omitted, total);
        let lines = [head.trim_end_matches('\n'), &marker, tail.trim_start_matches('\n')];
        let short = lines.into_iter().filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n");
        let tokens = counter.text(&short);
        if tokens <= cap {
            return Some((short, tokens));
        }
        room = room.saturating_sub(tokens - cap);
    }
    None
}

/// Pieces do not count exactly like the whole: a few tries bring it under the cap.
const TRIES: usize = 6;

/// The line that stands for what was left out.
fn marker(omitted: Tokens, total: Tokens) -> String {
    format!("[plimsoll: {} of {} tokens omitted]", grouped(omitted), grouped(total))
}

/// The longest start of at most `room` tokens, ended at a line where one ends in its second half.
fn head<'t>(text: &'t str, total: Tokens, room: Tokens, counter: &dyn CountTokens) -> &'t str {
    let fits = |bytes: usize| counter.text(&text[..text.floor_char_boundary(bytes)]);
    let end = text.floor_char_boundary(longest(text.len(), total, room, fits));
    let line = text[..end].rfind('\n').map(|at| at + 1).filter(|at| *at >= end / 2);
    &text[..line.unwrap_or(end)]
}

/// The longest end of at most `room` tokens, begun at a line where one begins in its first half.
fn tail<'t>(text: &'t str, total: Tokens, room: Tokens, counter: &dyn CountTokens) -> &'t str {
    let from = |bytes: usize| text.ceil_char_boundary(text.len() - bytes);
    let fits = |bytes: usize| counter.text(&text[from(bytes)..]);
    let start = from(longest(text.len(), total, room, fits));
    let length = text.len() - start;
    let line = text[start..].find('\n').map(|at| at + 1).filter(|at| *at <= length / 2);
    &text[start + line.unwrap_or(0)..]
}

/// About the largest number of bytes whose tokens are at most `room`: interpolates, then halves.
fn longest(bytes: usize, total: Tokens, room: Tokens, tokens: impl Fn(usize) -> Tokens) -> usize {
    let (mut fits, mut over) = (0_usize, bytes + 1);
    let mut guess = scaled(bytes, room, total);
    for attempt in 0..12 {
        guess = guess.clamp(fits + 1, over - 1);
        let count = tokens(guess);
        if count <= room {
            fits = guess;
        } else {
            over = guess;
        }
        let near = count <= room && (room - count) * 32 <= room;
        if near || over - fits <= 1 {
            break;
        }
        guess = if attempt < 4 { scaled(guess, room, count) } else { fits.midpoint(over) };
    }
    fits
}

/// `bytes * room / tokens`.
fn scaled(bytes: usize, room: Tokens, tokens: Tokens) -> usize {
    let scaled = bytes as u128 * u128::from(room) / u128::from(tokens.max(1));
    usize::try_from(scaled).unwrap_or(bytes)
}

#[cfg(test)]
#[path = "cap_tool_output_tests.rs"]
mod tests;
