//! `cap_tool_output`: a large tool result keeps what says most of its kind.

mod detect;
mod diff;
mod fit;
mod json;
mod lines;
mod log;
mod search;
mod text;

use std::collections::BTreeMap;
use std::slice;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::artifact::{READ_TOOL, artifact_id};
use crate::chain::{Change, Effect, Snapshot};
use crate::conversation::{Message, Role, Span};
use crate::error_output::is_error;
use crate::fit_context::share;
use crate::summaries::{Recorded, SpanKey};
use crate::tokens::{CountTokens, Tokens, grouped};
use detect::Kind;

/// Ceiling of the default cap; it is also held to a quarter of the window.
const MAX_TOKENS: Tokens = 1500;
/// An error longer than this many caps is a log, and capped like one.
const ERROR_CAPS: Tokens = 4;

/// Shortens a tool result over the cap, by what it is: text keeps its head and its tail; JSON stays JSON, with its
/// keys, its first items and those that report errors; a log keeps its first error and its tail; a diff its headers,
/// hunks and changed lines; a search the first hits of each file. A line says how much was left out. It happens when
/// the result is first seen and comes out the same at every later turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CapToolOutput {
    /// Tokens a result may have, the marker line included. Default: 1500, at most a quarter of the window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<Tokens>,
    /// Share of what is kept of a text or a log that comes from the start (of a log: and from its first error); the
    /// rest comes from the end. Default: 0.3.
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

/// The least cap a user may write: the marker with its id takes most of it.
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
    let reason = format!("over {cap} tokens");
    let conversation = snapshot.conversation.with_messages(edits);
    Effect::Changed(Change { conversation, touched, reason, tokens: None, may_grow: false, tool })
}

/// The shortened form of a result, with its tool's name; none where it stays.
fn capped(params: &CapToolOutput, snapshot: &Snapshot, index: usize) -> Option<(Option<String>, Message)> {
    let message = &snapshot.conversation.messages()[index];
    let raw = message.raw_content();
    // No tokenizer makes more tokens than bytes, and a message weighs more than its text alone.
    let within =
        |cap: Tokens| (raw.len() as Tokens) <= cap || snapshot.weights.of(slice::from_ref(message)) <= cap;
    let least = params.per_tool.values().copied().min().unwrap_or(Tokens::MAX);
    if within(params.cap(None, snapshot.limits.window).min(least)) {
        return None;
    }
    let tool = tool_name(snapshot.conversation.messages(), index);
    if tool.as_ref().is_some_and(|tool| tool == READ_TOOL || params.exempt.contains(tool)) {
        return None;
    }
    let cap = params.cap(tool.as_deref(), snapshot.limits.window);
    if within(cap) {
        return None;
    }
    let id = snapshot.originals.then(|| artifact_id(snapshot.conversation.original(message).raw_content()));
    let key = key(params, (cap, id.as_deref()), message, snapshot.counter);
    let text = match snapshot.summaries.get(&key) {
        Some(Recorded::Text(text)) => text,
        _ => {
            let cap = Cap { tokens: cap, head: params.head, id: id.as_deref() };
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
fn key(
    params: &CapToolOutput,
    (cap, id): (Tokens, Option<&str>),
    message: &Message,
    counter: &dyn CountTokens,
) -> SpanKey {
    let numbers = [cap, params.head.to_bits(), params.min_savings.to_bits(), u64::from(params.errors_exempt)];
    let numbers: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    let (name, json) = (counter.name().as_bytes(), message.json().as_bytes());
    let id = id.unwrap_or_default().as_bytes();
    SpanKey::of([b"plimsoll cap_tool_output 2".as_slice(), name, &numbers, id, json])
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

/// What a result may have, and how its original is named.
#[derive(Clone, Copy)]
struct Cap<'a> {
    tokens: Tokens,
    /// Share of it that comes from the start.
    head: f64,
    /// The original's id; none where nobody keeps it.
    id: Option<&'a str>,
}

impl Cap<'_> {
    /// The line that stands for what was left out.
    fn marker(&self, omitted: Tokens, total: Tokens) -> String {
        let id = self.id.map(|id| format!("; full output: {id}")).unwrap_or_default();
        format!("[plimsoll: {} of {} tokens omitted{id}]", grouped(omitted), grouped(total))
    }
}

fn shortened(
    params: &CapToolOutput,
    cap: Cap,
    message: &Message,
    counter: &dyn CountTokens,
) -> Option<String> {
    let span = largest_slot(message)?;
    // Text that cannot be written back unchanged is nobody's.
    let text = message.decode(&span).filter(|decoded| decoded.exact)?.text;
    let others = message.slots().into_iter().filter(|other| *other != span);
    let others: Tokens =
        others.filter_map(|span| message.decode(&span)).map(|decoded| counter.text(&decoded.text)).sum();
    let tokens = cap.tokens.saturating_sub(others).max(MARKER_TOKENS);
    let total = counter.text(&text);
    let exempt = params.errors_exempt && total <= tokens.saturating_mul(ERROR_CAPS) && is_error(message);
    if total <= tokens || exempt {
        return None;
    }
    let (short, tokens) = shorten(&text, total, Cap { tokens, ..cap }, counter)?;
    let saved = total.saturating_sub(tokens);
    (saved >= share(total, params.min_savings)).then_some(short)
}

/// The short form of a text and its tokens, at most the cap's. What cannot be shortened as what it is becomes a head
/// and a tail.
fn shorten(text: &str, total: Tokens, cap: Cap, counter: &dyn CountTokens) -> Option<(String, Tokens)> {
    let goal = fit::Goal { text, total, cap, counter };
    let short = match detect::kind(text) {
        Kind::Json(json) => goal.fit(&json),
        Kind::Diff => goal.fit(&diff::lines(text)),
        Kind::Search(search) => goal.fit(&search.lines(text)),
        Kind::Log => goal.fit(&log::lines(text, cap.head)),
        Kind::Text => None,
    };
    short.or_else(|| text::shorten(&goal))
}

#[cfg(test)]
#[path = "cap_tool_output_tests.rs"]
mod tests;
