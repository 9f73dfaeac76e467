//! The tool as the model sees it: its definition, its calls, its results.

use std::sync::Arc;

use plimsoll_policies::{CountTokens, READ_TOOL, Tokens};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::cut::cut;
use crate::kept::page;

/// The tool's definition.
pub(super) const TOOL: &str = r#"{"type":"function","function":{"name":"plimsoll_read","description":"Read the full text of a tool result that was shortened or cleared. Such a result says `full output: ctx_...`.","parameters":{"type":"object","properties":{"id":{"type":"string","description":"the id, ctx_..."},"offset":{"type":"integer","description":"first byte, default 0"},"limit":{"type":"integer","description":"bytes at most, default 4000"}},"required":["id"]}}}"#;

/// Bytes of a result where the call does not say.
const LIMIT: usize = 4000;
/// Tokens of a result at most; held to a quarter of the window too.
const MAX_TOKENS: Tokens = 1500;
/// Tries to bring a result under its tokens.
const TRIES: usize = 8;

/// A call of the model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) id: String,
    pub(super) name: String,
    /// JSON in a text, as the model wrote it.
    pub(super) arguments: String,
}

impl Call {
    /// Reads a call of an answer in one piece.
    pub(super) fn of(call: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let function = &call["function"];
        Self { id: text(&call["id"]), name: text(&function["name"]), arguments: text(&function["arguments"]) }
    }

    /// Whether a piece of a stream goes on with this call. One without a name does; one that repeats the name does too,
    /// unless it has another id, or begins arguments while these are whole.
    pub(super) fn goes_on_with(&self, piece: &Self) -> bool {
        let whole = || serde_json::from_str::<Value>(&self.arguments).is_ok();
        let begins = || piece.arguments.trim_start().starts_with('{') && whole();
        let same = piece.name == self.name && (piece.id.is_empty() || piece.id == self.id);
        piece.name.is_empty() || (same && !begins())
    }

    /// Whether it is ours to answer.
    pub(super) fn is_read(&self) -> bool {
        self.name == READ_TOOL
    }
}

#[derive(Deserialize)]
struct Arguments {
    id: String,
    #[serde(default, deserialize_with = "number")]
    offset: Option<usize>,
    #[serde(default, deserialize_with = "number")]
    limit: Option<usize>,
}

/// A number, also one that the model wrote as a text.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::String(text) => match text.trim().parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(D::Error::custom(format_args!("`{}` is not a whole number", cut(&text)))),
        },
        value => serde_json::from_value(value).map_err(D::Error::custom),
    }
}

/// What a call gives: a part of the original with a line on where it stands, or what is wrong with the call.
pub(super) fn result(
    arguments: &str,
    find: impl FnOnce(&str) -> Option<Arc<str>>,
    counter: &dyn CountTokens,
    window: Tokens,
) -> String {
    let Arguments { id, offset, limit } = match serde_json::from_str(arguments) {
        Ok(arguments) => arguments,
        Err(error) => return format!("Error: the arguments cannot be read: {error}"),
    };
    let Some(text) = find(&id) else {
        return "Error: no output with this id is kept any more. Run the tool again if it is needed."
            .to_owned();
    };
    let most = MAX_TOKENS.min(window / 4);
    let (offset, mut limit) = (offset.unwrap_or(0), limit.unwrap_or(LIMIT).max(1));
    let mut part = page(&text, offset, limit);
    for _ in 0..TRIES {
        let tokens = counter.text(part.text);
        if tokens <= most {
            break;
        }
        let share = part.text.len() as u128 * u128::from(most) / u128::from(tokens);
        limit = usize::try_from(share).unwrap_or(limit) * 9 / 10;
        part = page(&text, offset, limit.max(1));
    }
    let end = part.offset + part.text.len();
    let more = part.next.map(|next| format!("; read on at offset {next}")).unwrap_or_default();
    format!("{}\n[plimsoll: bytes {} to {end} of {}{more}]", part.text, part.offset, text.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::count::Estimate;

    #[test]
    fn the_definition_is_a_tool() {
        let tool: Value = serde_json::from_str(TOOL).expect("JSON");
        assert_eq!(tool["function"]["name"], READ_TOOL);
    }

    #[test]
    fn parts_say_where_they_stand_and_fit_the_window() {
        let text: Arc<str> = "wörter und mehr\n".repeat(2000).into();
        let read = |arguments: &str, window| {
            let find = |id: &str| (id == "ctx_1").then(|| text.clone());
            result(arguments, find, &Estimate::new("o200k_base"), window)
        };
        let first = read(r#"{"id":"ctx_1"}"#, 100_000);
        assert!(
            first.ends_with(&format!(
                "\n[plimsoll: bytes 0 to 4000 of {}; read on at offset 4000]",
                text.len()
            )),
            "{first}"
        );
        let last = read(&format!(r#"{{"id":"ctx_1","offset":{},"limit":99}}"#, text.len() - 5), 100_000);
        assert_eq!(
            last,
            format!("mehr\n\n[plimsoll: bytes {} to {} of {}]", text.len() - 5, text.len(), text.len())
        );
        let small = read(r#"{"id":"ctx_1","limit":1000000}"#, 400);
        assert!(Estimate::new("o200k_base").text(&small) < 130, "{small}");
        assert!(read(r#"{"id":"ctx_2"}"#, 400).starts_with("Error: no output"));
        assert!(read("{", 400).starts_with("Error: the arguments"));
        // Models write numbers as texts too.
        let plain = read(r#"{"id":"ctx_1","offset":100,"limit":50}"#, 100_000);
        assert!(
            plain.contains("[plimsoll: bytes 99 to 149 of ") || plain.contains("[plimsoll: bytes 100 to ")
        );
        assert_eq!(read(r#"{"id":"ctx_1","offset":"100","limit":" 50 "}"#, 100_000), plain);
        assert_eq!(read(r#"{"id":"ctx_1","offset":null}"#, 100_000), first);
        assert!(read(r#"{"id":"ctx_1","offset":"x"}"#, 400).contains("`x` is not a whole number"));
        assert!(read(r#"{"id":"ctx_1","offset":-1}"#, 400).starts_with("Error: the arguments"));
    }
}
