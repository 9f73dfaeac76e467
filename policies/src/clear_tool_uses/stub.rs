//! The line that stands for a cleared result.

use crate::tokens::{Tokens, grouped};

/// The line that stands for a result.
pub(super) fn line(tool: Option<&str>, tokens: Tokens, id: Option<&str>) -> String {
    let what = tool.map_or_else(|| "tool result".to_owned(), |tool| format!("result of {tool}"));
    let id = id.map(|id| format!("; full output: {id}")).unwrap_or_default();
    format!("[plimsoll: {what} cleared, {} tokens{id}]", grouped(tokens))
}

/// Whether a raw content is such a line.
pub(super) fn is_stub(raw: &str) -> bool {
    let told = raw.strip_prefix("\"[plimsoll: ").and_then(|rest| rest.strip_suffix("]\""));
    let told = told.and_then(|told| told.rsplit_once(" cleared, ")).map(|(_, tokens)| tokens);
    told.is_some_and(|told| told.ends_with(" tokens") || told.contains(" tokens; full output: ctx_"))
}
