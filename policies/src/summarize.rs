//! `summarize`: what is dropped leaves a summary.
//!
//! The history is replayed with the marks of `fit_context`, and what earlier steps dropped takes part. Each cut ends
//! an epoch: its summary is made of the summary before it and the newly dropped span, so that no fact goes without a
//! word and nothing changes between cuts. Where cuts fall depends on counts alone, never on what a summary says.

mod epochs;
mod text;

use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::chain::{Change, Effect, Snapshot};
use crate::conversation::{Conversation, Message};
use crate::replay::{Manner, Marks};
use crate::summaries::{Summariser, is_summary, last_user, with_header};
use crate::tokens::{CountError, Tokens};

use epochs::History;
use text::Written;

const NAME: &str = "summarize";

/// Ceilings of the defaults; each is also held to a share of the window.
const MAX_TOKENS: Tokens = 1024;
const MIN_SPAN: Tokens = 4000;
/// The least a summary may be allowed: less has no room for a fact.
const LEAST: Tokens = 32;

/// Replaces what the chain drops by a summary: a user message of its own after the first user message. Each summary
/// is made of the last one and the newly dropped messages. Stands before `fit_context` and after `trim_turns`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Summarize {
    /// Who writes it: `extract`, the built-in summariser without a model; `engine`, the model of the engine that the
    /// route leads to; or `{upstream: NAME}`, any upstream. Default: extract.
    pub with: Summariser,
    /// The model that an upstream over HTTP is asked for. Default: the one that the request names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Tokens the summary message may have. Default: 1024, at most an eighth of the window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<Tokens>,
    /// A model is asked only for spans of at least this many tokens; smaller ones are left to the built-in summariser.
    /// Default: 4000, at most a quarter of the window and what one cut frees.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_span: Option<Tokens>,
    /// How long a model may take, such as `60s`. Default: 60s.
    pub timeout: Timeout,
    /// The share of the identifiers (paths, ids, numbers, addresses) of the span that a model's summary must name;
    /// below it, lines that hold the missing ones are added word for word. Default: 0.9.
    pub verify: f64,
    /// What stands in for a model's summary that failed. Default: extract.
    pub on_failure: OnFailure,
    /// Whether a model writes the next summary before the next cut, after an answer, so that the request that brings
    /// the cut does not wait for it. Half way from `low` to `high` it is settled what that cut drops. Default: true.
    pub ahead: bool,
    /// Whether the embedded engine computes the prompt that the next cut will leave before it comes, in a spare slot,
    /// while nothing else runs. Takes memory for a second prompt of each conversation. Default: false.
    pub prefill_ahead: bool,
}

/// What stands in for a summary that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// The built-in summariser: it cannot fail, costs next to nothing, and no fact is lost without a word.
    #[default]
    Extract,
    /// Nothing: the span goes without a summary, and the report says so.
    Trim,
}

impl Default for Summarize {
    fn default() -> Self {
        Self {
            with: Summariser::Extract,
            model: None,
            max_tokens: None,
            min_span: None,
            timeout: Timeout(Duration::from_secs(60)),
            verify: 0.9,
            on_failure: OnFailure::Extract,
            ahead: true,
            prefill_ahead: false,
        }
    }
}

impl Summarize {
    /// What is wrong with the parameters, if anything.
    pub(crate) fn fault(&self) -> Option<String> {
        if !(0.0..=1.0).contains(&self.verify) {
            return Some(format!("`verify: {}` must be from 0 to 1", self.verify));
        }
        if self.model.as_ref().is_some_and(String::is_empty) {
            return Some("`model` is empty; name a model, or leave it out".to_owned());
        }
        let small = self.max_tokens.filter(|tokens| *tokens < LEAST);
        small.map(|tokens| format!("`max_tokens: {tokens}` has no room for a summary; use {LEAST} or more"))
    }

    /// Whether what the next cut drops is settled before it comes.
    pub(crate) fn plans(&self) -> bool {
        self.prefill_ahead || (self.ahead && self.with.is_model())
    }

    pub(crate) fn max_tokens_for(&self, window: Tokens) -> Tokens {
        self.max_tokens.unwrap_or_else(|| MAX_TOKENS.min(window / 8))
    }

    fn min_span_for(&self, window: Tokens, marks: Marks) -> Tokens {
        let freed = marks.high.saturating_sub(marks.low);
        self.min_span.unwrap_or_else(|| MIN_SPAN.min(window / 4).min(freed))
    }
}

/// A length of time, written as `60s`, `500ms` or `2m`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Timeout(pub Duration);

impl fmt::Debug for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl Serialize for Timeout {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(self.0))
    }
}

impl<'de> Deserialize<'de> for Timeout {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let fault = |_| format!("`{text}` is not a length of time; write it like `60s`, `500ms` or `2m`");
        humantime::parse_duration(&text).map(Self).map_err(fault).map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Timeout {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Timeout".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "type": "string", "description": "A length of time, such as `60s`, `500ms` or `2m`." })
    }
}

/// Applies the policy.
pub(crate) fn apply(params: &Summarize, snapshot: &Snapshot) -> Effect {
    let Snapshot { conversation, tokens, marks, .. } = snapshot;
    if !snapshot.ahead
        && *tokens <= marks.high
        && conversation.dropped().is_empty()
        && !conversation.has_replaced()
    {
        return Effect::Unchanged("nothing dropped".to_owned());
    }
    // A template that demands alternating roles has no place for a message of its own.
    let effect = attempt(params, snapshot, Place::Message)
        .or_else(|refused| attempt(params, snapshot, Place::PinnedUser).map_err(|_| refused));
    effect.unwrap_or_else(|refused| Effect::Failed(refused.to_string()))
}

/// Where the summary goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// A message of its own.
    Message,
    /// The end of the first user message.
    PinnedUser,
}

fn attempt(params: &Summarize, snapshot: &Snapshot, place: Place) -> Result<Effect, CountError> {
    let manner =
        Manner { summary: snapshot.summary, alternate: place == Place::PinnedUser, plan: params.plans() };
    let history = History::replay(snapshot, manner)?;
    if history.epochs.is_empty() {
        return Ok(Effect::Unchanged("nothing dropped".to_owned()));
    }
    let written = match text::write(params, snapshot, &history, place) {
        Ok(written) => written,
        Err(ask) => return Ok(Effect::Ask(*ask)),
    };
    let kept = history.without_spans(snapshot.conversation, NAME);
    let counted = |body: &str| {
        let conversation = placed(&kept, &history, body, place);
        snapshot.counter.prompt(&conversation).map(|tokens| (conversation, tokens))
    };
    let (mut conversation, mut tokens) = counted(&written.body)?;
    let mut reason = reason(&history, &written, snapshot);
    // For a turn whose last messages leave it too little: less of the summary is better than none.
    if let Some(limit) = room(snapshot, &written.body, tokens) {
        (conversation, tokens) = counted(&text::shortened(params, snapshot, &written.body, limit))?;
        reason += &format!(", shortened to {limit} beside what cannot go");
    }
    Ok(Effect::Changed(Change {
        conversation,
        touched: history.dropped(),
        reason,
        tokens: Some(tokens),
        // It takes no more than what it stands for, but that may have been dropped by an earlier step.
        may_grow: true,
        tool: None,
    }))
}

/// What a summary may have where the whole prompt, with it, is over the budget; none where all is well or too little is
/// left.
fn room(snapshot: &Snapshot, body: &str, tokens: Tokens) -> Option<Tokens> {
    let over = tokens.checked_sub(snapshot.marks.budget).filter(|over| *over > 0)?;
    let summary = snapshot.counter.messages(&[Message::user(&with_header(body))]);
    summary.checked_sub(over).filter(|room| *room >= LEAST && !body.is_empty())
}

fn reason(history: &History, written: &Written, snapshot: &Snapshot) -> String {
    let summary = snapshot.weights.of(&[Message::user(&with_header(&written.body))]);
    let (count, tokens) = (history.dropped(), history.dropped_tokens());
    let by = written.by;
    match written.body.is_empty() {
        true => format!("{count} messages of {tokens} tokens without a summary, {by}"),
        false => format!("{count} messages of {tokens} tokens in a summary of {summary}, {by}"),
    }
}

/// The conversation with this summary in the place of the last one, or as a new one.
fn placed(conversation: &Conversation, history: &History, body: &str, place: Place) -> Conversation {
    if body.is_empty() {
        return conversation.clone();
    }
    let messages = conversation.messages();
    let text = with_header(body);
    let end = last_user(messages).unwrap_or(messages.len());
    if let Some(index) = messages[..end].iter().rposition(is_summary) {
        return with_text(conversation, index, |_| text.clone());
    }
    let anchor =
        messages.iter().position(|message| message.slot() == history.anchor && history.anchor.is_some());
    match (place, anchor) {
        (Place::PinnedUser, Some(index)) => with_text(conversation, index, |own| {
            let own = text::merged(own).map_or(own, |(own, _)| own);
            format!("{own}\n\n{text}")
        }),
        (_, Some(index)) => conversation.with_inserted(index + 1, Message::user(&text)),
        (_, None) => {
            let instructions =
                messages.iter().take_while(|message| message.slot() < Some(history.start)).count();
            conversation.with_inserted(instructions, Message::user(&text))
        }
    }
}

/// The conversation with the last text of a message replaced.
fn with_text(conversation: &Conversation, index: usize, text: impl Fn(&str) -> String) -> Conversation {
    let message = &conversation.messages()[index];
    let Some(span) = message.slots().pop() else { return conversation.clone() };
    let own = message.decode(&span).map(|decoded| decoded.text).unwrap_or_default();
    conversation.with_messages(vec![(index, message.with_text(&span, &text(&own)))])
}

#[cfg(test)]
#[path = "summarize_tests.rs"]
mod tests;
