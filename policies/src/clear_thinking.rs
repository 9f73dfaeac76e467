//! `clear_thinking`: the reasoning of older turns goes, in batches.
//!
//! Turns with reasoning are counted from the first message: whenever a user message finds more than `keep + slack` of
//! them before it, the oldest lose theirs until `keep` are left. What has gone stays gone, so that the prefix changes
//! once per `slack + 1` such turns: at that turn it changes from the oldest reasoning that goes.

use std::collections::VecDeque;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::chain::{Change, Effect, Snapshot};
use crate::conversation::{Message, Replaced, Role, Span, elements, key_is, last, members};
use crate::summaries::is_summary;
use crate::tokens::Tokens;

/// Members of an assistant message that hold its reasoning: DeepSeek's and vLLM's, OpenRouter's, LiteLLM's.
const MEMBERS: [&str; 4] = ["reasoning_content", "reasoning", "reasoning_details", "thinking_blocks"];
/// Types of content parts that hold it.
const PARTS: [&str; 3] = ["thinking", "redacted_thinking", "reasoning"];

/// Takes the reasoning out of older turns: the members `reasoning_content`, `reasoning`, `reasoning_details` and
/// `thinking_blocks`, and thinking parts of the content. The turn that runs keeps all of its own, so that a tool loop
/// never loses a thought. Stands after `clear_tool_uses`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClearThinking {
    /// Turns before the running one that keep their reasoning: `template` leaves it to the model's chat template,
    /// which may drop it anyway, and reports what it takes; `all` keeps it; a number keeps so many turns'.
    /// Default: template.
    pub keep: KeepThinking,
    /// Turns with reasoning that may gather on top of a number before any lose it. Default: 2.
    pub slack: usize,
}

impl Default for ClearThinking {
    fn default() -> Self {
        Self { keep: KeepThinking::Template, slack: 2 }
    }
}

/// Whose reasoning stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepThinking {
    /// What the model's chat template shows.
    Template,
    /// Everybody's.
    All,
    /// So many turns before the running one.
    Turns(usize),
}

impl Serialize for KeepThinking {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Template => serializer.serialize_str("template"),
            Self::All => serializer.serialize_str("all"),
            Self::Turns(turns) => serializer.serialize_u64(*turns as u64),
        }
    }
}

impl<'de> Deserialize<'de> for KeepThinking {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KeepVisitor)
    }
}

struct KeepVisitor;

impl serde::de::Visitor<'_> for KeepVisitor {
    type Value = KeepThinking;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`template`, `all`, or a number of turns")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<KeepThinking, E> {
        match text {
            "template" => Ok(KeepThinking::Template),
            "all" => Ok(KeepThinking::All),
            _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
        }
    }

    fn visit_u64<E: serde::de::Error>(self, turns: u64) -> Result<KeepThinking, E> {
        usize::try_from(turns).map(KeepThinking::Turns).map_err(E::custom)
    }

    fn visit_i64<E: serde::de::Error>(self, turns: i64) -> Result<KeepThinking, E> {
        let fault = |_| E::invalid_value(serde::de::Unexpected::Signed(turns), &self);
        usize::try_from(turns).map(KeepThinking::Turns).map_err(fault)
    }
}

impl JsonSchema for KeepThinking {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "KeepThinking".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({
            "description": "`template`, `all`, or a number of turns.",
            "anyOf": [
                { "type": "string", "enum": ["template", "all"] },
                { "type": "integer", "format": "uint", "minimum": 0 },
            ],
        })
    }
}

/// Applies the policy.
pub(crate) fn apply(params: ClearThinking, snapshot: &Snapshot) -> Effect {
    let history = History::new(snapshot);
    if history.turns.is_empty() {
        return Effect::Unchanged("no reasoning in older turns".to_owned());
    }
    let keep = match params.keep {
        KeepThinking::Turns(keep) => keep,
        KeepThinking::All => return Effect::Unchanged(format!("all kept: {}", history.told())),
        KeepThinking::Template => {
            return Effect::Unchanged(format!("left to the template: {}", history.told()));
        }
    };
    let edits = history.cleared(keep, params.slack);
    if edits.is_empty() {
        let most = keep.saturating_add(params.slack);
        return Effect::Unchanged(format!("{} turns with reasoning of at most {most}", history.turns.len()));
    }
    Effect::Changed(Change {
        touched: edits.len(),
        conversation: snapshot.conversation.with_replaced(edits),
        reason: format!("reasoning older than the last {keep} turns that have some"),
        tokens: None,
        may_grow: false,
        tool: None,
    })
}

/// The reasoning of one message.
struct Thought {
    /// Index in the conversation; none where an earlier step dropped the message.
    live: Option<usize>,
    before: Message,
    after: Message,
    saves: Tokens,
}

/// A turn that is over and had reasoning, and the slot of the user message that ended it.
struct Turn {
    thoughts: Vec<Thought>,
    ended: usize,
}

struct History {
    /// Oldest first.
    turns: Vec<Turn>,
}

impl History {
    /// Reads the history with what earlier steps dropped in its place, so that their cuts move no batch.
    fn new(snapshot: &Snapshot) -> Self {
        let conversation = snapshot.conversation;
        let live = conversation.messages().iter().enumerate().map(|(index, message)| (Some(index), message));
        let gone = conversation.dropped().iter().map(|gone| (None, &gone.message));
        let mut all: Vec<_> = live.chain(gone).filter(|(_, message)| message.slot().is_some()).collect();
        all.sort_by_key(|(_, message)| message.slot());
        let (mut turns, mut thoughts) = (Vec::new(), Vec::new());
        for (live, message) in all {
            if message.role() == Role::User && !is_summary(message) && !thoughts.is_empty() {
                let ended = message.slot().unwrap_or(usize::MAX);
                turns.push(Turn { thoughts: std::mem::take(&mut thoughts), ended });
            }
            thoughts.extend(thought(live, message, snapshot));
        }
        Self { turns }
    }

    fn told(&self) -> String {
        let thoughts = self.turns.iter().flat_map(|turn| &turn.thoughts);
        let tokens: Tokens = thoughts.map(|thought| thought.saves).sum();
        format!("reasoning of {} older turns takes {tokens} tokens", self.turns.len())
    }

    /// Replays the turns: one more than may gather, and the oldest go until `keep` are left.
    fn cleared(&self, keep: usize, slack: usize) -> Vec<(usize, Replaced)> {
        let mut gathered: VecDeque<&Turn> = VecDeque::new();
        let mut edits = Vec::new();
        for turn in &self.turns {
            gathered.push_back(turn);
            if gathered.len() <= keep.saturating_add(slack) {
                continue;
            }
            let going = gathered.len() - keep;
            for thought in gathered.drain(..going).flat_map(|turn| &turn.thoughts) {
                let Some(index) = thought.live else { continue };
                let (before, after) = (thought.before.clone(), thought.after.clone());
                edits.push((index, Replaced { before, after, at: turn.ended }));
            }
        }
        edits
    }
}

/// What a message loses; none where it has no reasoning, or none that the template shows.
fn thought(live: Option<usize>, message: &Message, snapshot: &Snapshot) -> Option<Thought> {
    let json = message.json();
    let might =
        message.role() == Role::Assistant && (json.contains("reasoning") || json.contains("thinking"));
    if !might {
        return None;
    }
    let after = without_reasoning(message)?;
    let weigh = |message: &Message| snapshot.weights.of(std::slice::from_ref(message));
    let saves = weigh(message).saturating_sub(weigh(&after));
    (saves > 0).then(|| Thought { live, before: message.clone(), after, saves })
}

/// A message without its reasoning; none where it has none, or says nothing else.
fn without_reasoning(message: &Message) -> Option<Message> {
    let plain = without_members(message.json());
    let parted = without_parts(plain.as_deref().unwrap_or(message.json()));
    let after = message.with_json(parted.or(plain)?);
    let says = !matches!(after.raw_content(), "" | "null" | "\"\"" | "[]");
    (says || after.has_calls()).then_some(after)
}

fn without_members(json: &str) -> Option<String> {
    let fields = members(json)?;
    let spans: Vec<Span> = fields.iter().map(|field| field.key.start..field.value.end).collect();
    picked(json, &spans, |index| {
        let (key, value) = (&json[fields[index].key.clone()], &json[fields[index].value.clone()]);
        value == "null" || !MEMBERS.iter().any(|member| key_is(key, member))
    })
}

fn without_parts(json: &str) -> Option<String> {
    let fields = members(json)?;
    let content = last(json, &fields, "content")?.value.clone();
    let raw = &json[content.clone()];
    let spans = elements(raw)?;
    let left = picked(raw, &spans, |index| !is_thinking(&raw[spans[index].clone()]))?;
    let left = if elements(&left).is_some_and(|parts| parts.is_empty()) { "null".to_owned() } else { left };
    Some([&json[..content.start], &left, &json[content.end..]].concat())
}

fn is_thinking(part: &str) -> bool {
    let fields = members(part).unwrap_or_default();
    let kind = last(part, &fields, "type").map(|field| &part[field.value.clone()]);
    kind.is_some_and(|kind| PARTS.iter().any(|part| key_is(kind, part)))
}

/// A list without some of its elements, whose spans these are; what stood between the others stays. None where all
/// are kept.
fn picked(list: &str, spans: &[Span], kept: impl Fn(usize) -> bool) -> Option<String> {
    let (first, last) = (spans.first()?, spans.last()?);
    let left: Vec<usize> = (0..spans.len()).filter(|index| kept(*index)).collect();
    if left.len() == spans.len() {
        return None;
    }
    let mut text = list[..first.start].to_owned();
    for (place, index) in left.into_iter().enumerate() {
        if place > 0 {
            text.push_str(&list[spans[index - 1].end..spans[index].start]);
        }
        text.push_str(&list[spans[index].clone()]);
    }
    text.push_str(&list[last.end..]);
    Some(text)
}

#[cfg(test)]
#[path = "clear_thinking_tests.rs"]
mod tests;
