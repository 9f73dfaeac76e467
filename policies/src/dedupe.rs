//! `dedupe`: a block that is said again points to its first copy.
//!
//! The later copy is replaced when it arrives, the earlier one never, and pointers are absolute: the number of a
//! message in the client's history. So a longer history starts with what the shorter one gave, byte for byte.

use std::collections::HashMap;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize};

use crate::chain::{Change, Effect, Snapshot};
use crate::conversation::{Edit, Message, Role, Span, encode};
use crate::tokens::{Tokens, grouped};

/// The least a block may have: a pointer takes about half of it.
const LEAST: Tokens = 64;
/// Places of a line that are looked at: the same line may stand in a text thousands of times.
const PLACES: usize = 8;
/// Characters of a line that a pointer quotes.
const QUOTED: usize = 60;
/// How a pointer begins. A text that holds one is neither shortened nor pointed to.
const POINTER: &str = "[plimsoll: the same ";

/// Replaces a run of whole lines that an earlier message holds word for word by a pointer: the number of that message,
/// its tool, the first and the last line. Only what speakers in `roles` said is compared and replaced. Where the first
/// copy is dropped or cleared later, the pointer stays as it is, and tells what stood there. Stands after
/// `cap_tool_output`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Dedupe {
    /// Tokens that a repeated block has at least. Default: 200.
    pub min_tokens: Tokens,
    /// Whose text is compared: `tool`, `assistant`, `user`. Default: `[tool]`.
    pub roles: Vec<Speaker>,
}

/// Whose text is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Speaker {
    /// Results of tools.
    Tool,
    /// What the model said; its tool calls are left alone.
    Assistant,
    /// What users said.
    User,
}

impl<'de> Deserialize<'de> for Speaker {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "tool" => Ok(Self::Tool),
            "assistant" => Ok(Self::Assistant),
            "user" => Ok(Self::User),
            other => Err(serde::de::Error::unknown_variant(other, &["tool", "assistant", "user"])),
        }
    }
}

impl JsonSchema for Speaker {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Speaker".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({
            "type": "string", "enum": ["tool", "assistant", "user"], "description": "Whose text is compared.",
        })
    }
}

impl Default for Dedupe {
    fn default() -> Self {
        Self { min_tokens: 200, roles: vec![Speaker::Tool] }
    }
}

impl Dedupe {
    /// What is wrong with the parameters, if anything.
    pub(crate) fn fault(&self) -> Option<String> {
        if self.roles.is_empty() {
            return Some("`roles: []` compares nothing; name `tool`, `assistant` or `user`".to_owned());
        }
        let small = self.min_tokens < LEAST;
        small.then(|| {
            format!("`min_tokens: {}` is less than a pointer saves; use {LEAST} or more", self.min_tokens)
        })
    }

    fn compares(&self, role: Role) -> bool {
        let speaker = match role {
            Role::Tool => Speaker::Tool,
            Role::Assistant => Speaker::Assistant,
            Role::User => Speaker::User,
            _ => return false,
        };
        self.roles.contains(&speaker)
    }
}

/// Applies the policy.
pub(crate) fn apply(params: &Dedupe, snapshot: &Snapshot) -> Effect {
    let texts = texts(params, snapshot);
    let mut known = Known { texts: &texts, lines: HashMap::new() };
    let mut blocks: HashMap<usize, usize> = HashMap::new();
    let mut edits = Vec::new();
    let mut place = 0;
    for message in texts.chunk_by(|text, next| text.slot == next.slot) {
        let slot = message[0].slot;
        let mut parts: Vec<(&str, Option<String>)> = Vec::with_capacity(message.len());
        for text in message {
            let repeated = known.repeated(params.min_tokens, place, snapshot);
            known.learn(place);
            place += 1;
            *blocks.entry(slot).or_default() += repeated.len();
            parts.push((&text.text, (!repeated.is_empty()).then(|| encode(&text.pointing(&repeated)))));
        }
        if parts.iter().any(|(_, pointing)| pointing.is_some()) {
            edits.push(Edit { slot, at: slot, make: Box::new(move |state| pointed(state, &parts)) });
        }
    }
    if edits.is_empty() {
        return Effect::Unchanged(format!("no block of {} tokens is said twice", params.min_tokens));
    }
    let conversation = snapshot.conversation.with_edits(&edits);
    let touched = conversation.touched_since(snapshot.conversation);
    let blocks: usize = touched.iter().filter_map(|slot| blocks.get(slot)).sum();
    Effect::Changed(Change {
        touched: touched.len(),
        conversation,
        reason: format!("{blocks} blocks of {} tokens or more point to their first copy", params.min_tokens),
        tokens: None,
        may_grow: false,
        tool: None,
    })
}

/// A state of a message with pointers in those of its texts that it has by now; none where it has none of them.
fn pointed(state: &Message, texts: &[(&str, Option<String>)]) -> Option<Message> {
    let mut texts = texts.iter();
    let mut parts: Vec<(Span, String)> = Vec::new();
    for span in state.slots() {
        let Some(decoded) = state.decode(&span) else { continue };
        // What an edit put in between is no text of the message.
        let mut rest = texts.clone();
        if let Some((_, pointing)) = rest.find(|(text, _)| *text == decoded.text) {
            texts = rest;
            parts.extend(pointing.clone().map(|pointing| (span, pointing)));
        }
    }
    (!parts.is_empty()).then(|| state.with_parts(&parts))
}

/// A text as it first went out.
struct Text {
    /// Place of its message in the client's history.
    slot: usize,
    who: String,
    text: String,
    /// Where its lines begin, and its end.
    starts: Vec<usize>,
}

/// Lines of a text that stand in an earlier one.
struct Repeated {
    lines: std::ops::Range<usize>,
    pointer: String,
}

/// All texts that may hold a block, in the order of the history, those of dropped messages included.
fn texts(params: &Dedupe, snapshot: &Snapshot) -> Vec<Text> {
    let conversation = snapshot.conversation;
    let mut tools: HashMap<&str, &str> = HashMap::new();
    let mut texts = Vec::new();
    for (slot, message) in conversation.history() {
        let calls = message.tool_calls().iter();
        tools.extend(calls.filter_map(|call| Some((call.id.as_deref()?, &*call.name))));
        let sent = conversation.first_sent(message);
        // No tokenizer makes more tokens than bytes.
        if !params.compares(message.role()) || (sent.raw_content().len() as Tokens) < params.min_tokens {
            continue;
        }
        let who = who(message, &tools);
        texts.extend(sent.slots().into_iter().filter_map(|span| {
            // Text that cannot be written back unchanged is nobody's.
            let text = sent.decode(&span).filter(|decoded| decoded.exact)?.text;
            let usable = (text.len() as Tokens) >= params.min_tokens && !text.contains(POINTER);
            usable.then(|| Text { slot, who: who.clone(), starts: starts(&text), text })
        }));
    }
    texts
}

fn who(message: &Message, tools: &HashMap<&str, &str>) -> String {
    let called = message.tool_call_id().and_then(|id| tools.get(id)).map(|tool| (*tool).to_owned());
    match message.role() {
        Role::Tool => called
            .or_else(|| message.name())
            .map_or_else(|| "a tool's result".to_owned(), |tool| format!("result of {tool}")),
        Role::Assistant => "an answer".to_owned(),
        _ => "of the user".to_owned(),
    }
}

fn starts(text: &str) -> Vec<usize> {
    let breaks = text.match_indices('\n').map(|(at, _)| at + 1).filter(|at| *at < text.len());
    std::iter::once(0).chain(breaks).chain([text.len()]).collect()
}

impl Text {
    fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// A line without its end, which the last of a text may lack.
    fn line(&self, line: usize) -> &str {
        self.lines(line..line + 1).trim_end_matches('\n')
    }

    fn lines(&self, lines: std::ops::Range<usize>) -> &str {
        &self.text[self.starts[lines.start]..self.starts[lines.end]]
    }

    /// The text with pointers in the place of what is repeated.
    fn pointing(&self, repeated: &[Repeated]) -> String {
        let mut text = String::with_capacity(self.text.len());
        let mut done = 0;
        for Repeated { lines, pointer } in repeated {
            text.push_str(self.lines(done..lines.start));
            text.push_str(pointer);
            if self.lines(lines.clone()).ends_with('\n') {
                text.push('\n');
            }
            done = lines.end;
        }
        text.push_str(self.lines(done..self.len()));
        text
    }
}

/// The texts so far, by their lines.
struct Known<'t> {
    texts: &'t [Text],
    /// The first places of each line: the text and the line in it.
    lines: HashMap<&'t str, Vec<(usize, usize)>>,
}

impl<'t> Known<'t> {
    fn learn(&mut self, place: usize) {
        let text = &self.texts[place];
        for line in 0..text.len() {
            let places = self.lines.entry(text.line(line)).or_default();
            if places.len() < PLACES {
                places.push((place, line));
            }
        }
    }

    /// The runs of lines of a text that stand in earlier ones, each the longest from where it begins.
    fn repeated(&self, min_tokens: Tokens, place: usize, snapshot: &Snapshot) -> Vec<Repeated> {
        let text = &self.texts[place];
        let mut repeated = Vec::new();
        let mut line = 0;
        while line < text.len() {
            let Some((length, from)) = self.longest(text, line) else {
                line += 1;
                continue;
            };
            let lines = line..line + length;
            let block = text.lines(lines.clone());
            let tokens = if (block.len() as Tokens) < min_tokens { 0 } else { snapshot.counter.text(block) };
            if tokens >= min_tokens {
                repeated.push(Repeated { pointer: pointer(text, &lines, tokens, &self.texts[from]), lines });
            }
            // What is too short from here is too short from the next of its lines, in the same place.
            line += length;
        }
        repeated
    }

    /// How many lines from this one stand in one earlier text, at most, and in which.
    fn longest(&self, text: &Text, line: usize) -> Option<(usize, usize)> {
        let places = self.lines.get(text.line(line))?;
        let run = |(place, start): &(usize, usize)| {
            let other = &self.texts[*place];
            let most = (text.len() - line).min(other.len() - start);
            let same = (0..most).take_while(|step| text.line(line + step) == other.line(start + step));
            (same.count(), *place)
        };
        // Of equal runs the first copy is the one to point to.
        places.iter().map(run).reduce(|best, next| if next.0 > best.0 { next } else { best })
    }
}

fn pointer(text: &Text, lines: &std::ops::Range<usize>, tokens: Tokens, first: &Text) -> String {
    let said = |line: &usize| !text.line(*line).trim().is_empty();
    let from = lines.clone().find(said).unwrap_or(lines.start);
    let to = lines.clone().rev().find(said).unwrap_or(lines.start);
    let (count, tokens) = (grouped(lines.len() as u64), grouped(tokens));
    let (from, to) = (quoted(text.line(from)), quoted(text.line(to)));
    format!(
        "{POINTER}{count} lines, {tokens} tokens, as in message {}, {}, from {from} to {to}]",
        first.slot + 1,
        first.who
    )
}

/// A line in quotes, its middle left out where it is long.
fn quoted(line: &str) -> String {
    let line = line.trim();
    if line.chars().count() <= QUOTED {
        return format!("{line:?}");
    }
    let start: String = line.chars().take(QUOTED / 2).collect();
    format!("{:?}", format!("{start}..."))
}

#[cfg(test)]
#[path = "dedupe_tests.rs"]
mod tests;
