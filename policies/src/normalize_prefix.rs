//! `normalize_prefix`: what stands at the head of the prompt is the same at every turn.

use std::fmt;

use regex::Regex;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::chain::{Change, Effect, Snapshot};
use crate::conversation::Message;
use crate::schema_order::canonical;
use crate::summaries::{Recorded, SpanKey};
use crate::volatile;

/// Puts tools in one order, so that a client that lists them differently each time does not lose the cached prefix,
/// and reports text in the system prompt that changes from request to request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NormalizePrefix {
    /// Sort tools by name. Default: true.
    pub sort_tools: bool,
    /// Sort the keys of the tools' schemas; arrays stay as they are. Default: true.
    pub canonical_schema: bool,
    /// What happens to dates, times, ids and counters in the system prompt. Default: warn.
    pub volatile: Volatile,
    /// Regular expressions for more text of that kind.
    pub patterns: Vec<Pattern>,
}

/// What happens to text that changes from request to request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Volatile {
    /// It is reported and stays.
    #[default]
    Warn,
}

impl Default for NormalizePrefix {
    fn default() -> Self {
        Self { sort_tools: true, canonical_schema: true, volatile: Volatile::Warn, patterns: Vec::new() }
    }
}

/// A regular expression of the user.
#[derive(Clone)]
pub struct Pattern(Regex);

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({})", self.0.as_str())
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.as_str())
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let fault = |_| format!("`{text}` is not a regular expression; check its brackets and backslashes");
        Regex::new(&text).map(Self).map_err(fault).map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Pattern {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Pattern".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "type": "string", "format": "regex", "description": "A regular expression." })
    }
}

/// Applies the policy.
pub(crate) fn apply(params: &NormalizePrefix, snapshot: &Snapshot) -> Effect {
    let conversation = snapshot.conversation;
    let warning = warning(params, snapshot);
    let tools =
        conversation.tools().and_then(|tools| canonical(tools, params.sort_tools, params.canonical_schema));
    let Some((tools, touched)) = tools else { return Effect::Unchanged(warning) };
    let mut reason = format!("{touched} tools put in order");
    if !warning.is_empty() {
        reason = format!("{reason}; {warning}");
    }
    let conversation = conversation.with_tools(tools);
    // Another order may tokenise a little longer. It is kept all the same: callers that list their tools in other
    // orders share a prefix only where all of them are put in one.
    Effect::Changed(Change { conversation, touched, reason, tokens: None, may_grow: true, tool: None })
}

/// What is volatile in the system prompt: kinds, numbers and places, never the text itself.
fn warning(params: &NormalizePrefix, snapshot: &Snapshot) -> String {
    let system = snapshot.conversation.messages().iter().filter(|message| message.role().is_system());
    let system: Vec<&Message> = system.collect();
    let parts = [b"plimsoll volatile 1".as_slice()].into_iter();
    let parts = parts.chain(params.patterns.iter().map(|pattern| pattern.0.as_str().as_bytes()));
    let key =
        SpanKey::of(parts.chain([b"".as_slice()]).chain(system.iter().map(|m| m.raw_content().as_bytes())));
    if let Some(Recorded::Text(text)) = snapshot.summaries.get(&key) {
        return text;
    }
    let text = system.iter().map(|message| message.text()).collect::<Vec<_>>().join("\n");
    let patterns: Vec<&Regex> = params.patterns.iter().map(|pattern| &pattern.0).collect();
    let found = volatile::find(&text, &patterns);
    let list =
        found.iter().map(|found| format!("{} {} (first at byte {})", found.count, found.kind, found.first));
    let list = list.collect::<Vec<_>>().join(", ");
    let warning = match list.is_empty() {
        true => String::new(),
        false => format!("volatile in the system prompt: {list}; a change there makes the whole prompt new"),
    };
    snapshot.summaries.record(&key, &warning);
    warning
}

#[cfg(test)]
#[path = "normalize_prefix_tests.rs"]
mod tests;
