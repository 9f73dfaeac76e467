//! `normalize_prefix`: what stands at the head of the prompt is the same at every turn.

use std::fmt;
use std::time::Duration;

use regex::Regex;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::chain::{Change, Effect, Snapshot};
use crate::conversation::{Conversation, Message, Span, encode};
use crate::schema_order::canonical;
use crate::summaries::{Recorded, SpanKey};
use crate::summarize::Timeout;
use crate::trailing::Trailing;
use crate::volatile::{self, Piece};

/// Puts tools in one order, so that a client that lists them differently each time does not lose the cached prefix,
/// and reports, rounds or takes out text in the instructions that changes from request to request: dates, times, ids,
/// counters. No other byte of the instructions changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NormalizePrefix {
    /// Sort tools by name. Default: true.
    pub sort_tools: bool,
    /// Sort the keys of the tools' schemas; arrays stay as they are. Default: true.
    pub canonical_schema: bool,
    /// What happens to dates, times, ids and counters in the system prompt: `warn`, `relocate`, `strip`, or a map
    /// `round: 1h`. `warn` names all that looks like one. The others change only UUIDs and nonces, dates and times that
    /// are said to be of the moment (`today is`, `current time`, `date:`, `now:`), labelled counters (`session #42`,
    /// `request id: 7`) and what `patterns` name: a date or number in a rule stays. Default: warn.
    pub volatile: Volatile,
    /// Regular expressions for more text of that kind, wherever it stands.
    pub patterns: Vec<Pattern>,
}

/// What happens to text that changes from request to request: a bare name, or `round: 1h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Volatile {
    /// It is reported and stays.
    #[default]
    Warn,
    /// It moves to the end of the last user message; a name in brackets, such as `[date]`, stands in its place. The
    /// instructions and all older messages are then the same at every turn. What it costs, at every turn, whether the
    /// text changed or not: the message that held it is without it at the next turn, so that from there on, the last
    /// exchange with all its tool results, the prompt is computed again. It pays for what changes at nearly every
    /// request, such as a time with seconds. For a date, which makes the prompt new once a day, `warn` costs less.
    Relocate,
    /// It goes; a name in brackets stands in its place.
    Strip,
    /// Times of day and timestamps are rounded down to this interval, of a minute to a day; the rest, and what no clock
    /// shows, is reported and stays.
    Round(Timeout),
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

impl NormalizePrefix {
    /// What is wrong with the parameters, if anything.
    pub(crate) fn fault(&self) -> Option<String> {
        let Volatile::Round(Timeout(interval)) = self.volatile else { return None };
        let day = Duration::from_hours(24);
        let whole = interval >= Duration::from_mins(1) && interval <= day && interval.subsec_nanos() == 0;
        let divides = whole && day.as_secs().is_multiple_of(interval.as_secs());
        (!divides).then(|| {
            let interval = humantime::format_duration(interval);
            format!(
                "`round: {interval}` must divide a day and be of a minute to a day, such as `15m` or `1h`"
            )
        })
    }

    fn patterns(&self) -> Vec<&Regex> {
        self.patterns.iter().map(|pattern| &pattern.0).collect()
    }
}

/// Applies the policy.
pub(crate) fn apply(params: &NormalizePrefix, snapshot: &Snapshot) -> Effect {
    let before = snapshot.conversation;
    let mode = match params.volatile {
        // What has no other place stays where it is.
        Volatile::Relocate if !Trailing::has_place(before) => Volatile::Warn,
        mode => mode,
    };
    let quieted = quieted(params, mode, before);
    let tools = before.tools().and_then(|tools| canonical(tools, params.sort_tools, params.canonical_schema));
    let sorted = tools.as_ref().map(|(_, touched)| format!("{touched} tools put in order"));
    let quiet = (quieted.count > 0).then(|| format!("{} volatile pieces {}", quieted.count, verb(mode)));
    let stays = matches!(mode, Volatile::Warn | Volatile::Round(_)).then(|| warning(params, mode, snapshot));
    let stays = stays.filter(|warning| !warning.is_empty());
    let reason = sorted.into_iter().chain(quiet).chain(stays).collect::<Vec<_>>().join("; ");
    if tools.is_none() && quieted.edits.is_empty() {
        return Effect::Unchanged(reason);
    }
    let touched = tools.as_ref().map_or(0, |(_, touched)| *touched) + quieted.edits.len();
    let conversation = before.with_messages(quieted.edits);
    let conversation = match tools {
        Some((tools, _)) => conversation.with_tools(tools),
        None => conversation,
    };
    // Another order may tokenise a little longer. It is kept all the same: callers that list their tools in other
    // orders share a prefix only where all of them are put in one.
    let change = Change { conversation, touched, reason, tokens: None, may_grow: true, tool: None };
    match quieted.moved.is_empty() {
        true => Effect::Changed(change),
        false => Effect::Trailing(
            change,
            format!("[plimsoll: from the instructions: {}]", quieted.moved.join("; ")),
        ),
    }
}

fn verb(volatile: Volatile) -> &'static str {
    match volatile {
        Volatile::Warn => "stay",
        Volatile::Relocate => "moved to the end of the last user message",
        Volatile::Strip => "stripped",
        Volatile::Round(_) => "rounded down",
    }
}

/// The instructions without what is volatile in them.
#[derive(Default)]
struct Quieted {
    edits: Vec<(usize, Message)>,
    /// Pieces that were taken out or rounded.
    count: usize,
    /// What is said elsewhere, each with the name that stands in its place.
    moved: Vec<String>,
}

fn quieted(params: &NormalizePrefix, mode: Volatile, conversation: &Conversation) -> Quieted {
    let mut quieted = Quieted::default();
    if mode == Volatile::Warn {
        return quieted;
    }
    let patterns = params.patterns();
    let mut names: Vec<(&'static str, String)> = Vec::new();
    for (index, message) in conversation.messages().iter().enumerate() {
        if !message.role().is_system() {
            continue;
        }
        let mut edits: Vec<(Span, String)> = Vec::new();
        for span in message.slots() {
            // Text that cannot be written back unchanged is nobody's.
            let Some(text) = message.decode(&span).filter(|text| text.exact).map(|text| text.text) else {
                continue;
            };
            let (quiet, count) = quiet(&text, &patterns, mode, &mut names);
            quieted.count += count;
            if quiet != text {
                edits.push((span, encode(&quiet)));
            }
        }
        if !edits.is_empty() {
            quieted.edits.push((index, message.with_parts(&edits)));
        }
    }
    if mode == Volatile::Relocate {
        quieted.moved =
            names.iter().enumerate().map(|(at, (_, text))| format!("{} {text}", name(&names, at))).collect();
    }
    quieted
}

/// A text without its volatile pieces, or with rounded ones, and how many changed; `names` are the pieces so far.
fn quiet(
    text: &str,
    patterns: &[&Regex],
    volatile: Volatile,
    names: &mut Vec<(&'static str, String)>,
) -> (String, usize) {
    let mut quiet = String::with_capacity(text.len());
    let (mut done, mut count) = (0, 0);
    for Piece { kind, range } in volatile::pieces(text, patterns) {
        let piece = &text[range.clone()];
        let instead = match volatile {
            Volatile::Round(Timeout(interval)) => volatile::rounded(kind, piece, interval.as_secs().max(1)),
            Volatile::Strip => Some(format!("[{kind}]")),
            Volatile::Relocate => Some(named(names, kind, piece)),
            Volatile::Warn => None,
        };
        let Some(instead) = instead.filter(|instead| instead != piece) else { continue };
        quiet.push_str(&text[done..range.start]);
        quiet.push_str(&instead);
        (done, count) = (range.end, count + 1);
    }
    quiet.push_str(&text[done..]);
    (quiet, count)
}

/// The name that stands for a piece: the same for the same text.
fn named(names: &mut Vec<(&'static str, String)>, kind: &'static str, piece: &str) -> String {
    let known = names.iter().position(|(own, text)| (*own, text.as_str()) == (kind, piece));
    let at = known.unwrap_or_else(|| {
        names.push((kind, piece.to_owned()));
        names.len() - 1
    });
    name(names, at)
}

/// `[date]` for the first of a kind, `[date 2]` for the next.
fn name(names: &[(&'static str, String)], at: usize) -> String {
    let kind = names[at].0;
    match names[..at].iter().filter(|(other, _)| *other == kind).count() {
        0 => format!("[{kind}]"),
        earlier => format!("[{kind} {}]", earlier + 1),
    }
}

/// What is volatile in the system prompt: kinds, numbers and places, never the text itself.
fn warning(params: &NormalizePrefix, mode: Volatile, snapshot: &Snapshot) -> String {
    let system = snapshot.conversation.messages().iter().filter(|message| message.role().is_system());
    let system: Vec<&Message> = system.collect();
    let interval = match mode {
        Volatile::Round(Timeout(interval)) => Some(interval.as_secs().max(1)),
        _ => None,
    };
    let parts = [if interval.is_some() {
        b"plimsoll volatile 3, rounded".as_slice()
    } else {
        b"plimsoll volatile 3"
    }]
    .into_iter();
    let parts = parts.chain(params.patterns.iter().map(|pattern| pattern.0.as_str().as_bytes()));
    let key =
        SpanKey::of(parts.chain([b"".as_slice()]).chain(system.iter().map(|m| m.raw_content().as_bytes())));
    if let Some(Recorded::Text(text)) = snapshot.summaries.get(&key) {
        return text;
    }
    let text = system.iter().map(|message| message.text()).collect::<Vec<_>>().join("\n");
    let patterns = params.patterns();
    let rounded = interval.map(|_| volatile::pieces(&text, &patterns)).unwrap_or_default();
    let quiet = |piece: &Piece| {
        let rounds = |interval| volatile::rounded(piece.kind, &text[piece.range.clone()], interval).is_some();
        rounded.contains(piece) && interval.is_some_and(rounds)
    };
    let found = volatile::find(&text, &patterns, quiet);
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
