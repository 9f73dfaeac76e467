//! Telling a tool's error from a tool's result.

use crate::conversation::{Message, decode, key_is, last, members};

/// How a line begins that reports an error.
const OPENINGS: [&str; 7] = ["error", "exception", "traceback", "fatal", "panic", "failed", "failure"];

/// Whether a tool message reports an error: it says so in a member of its own, is a JSON object with an `error`, or
/// begins like one.
pub(crate) fn is_error(message: &Message) -> bool {
    flagged(message.json(), &["is_error", "isError"]) || begins_like_one(message.text())
}

/// Whether a JSON object has one of these members, and not as `null`, `false` or an empty value.
fn flagged(json: &str, names: &[&str]) -> bool {
    let Some(fields) = members(json) else { return false };
    let value = |name: &&str| last(json, &fields, name).map(|field| &json[field.value.clone()]);
    names
        .iter()
        .filter_map(value)
        .any(|value| !matches!(value, "null" | "false" | "\"\"" | "[]" | "{}" | "0"))
}

/// Whether a JSON value, such as one item of a result, reports an error.
pub(crate) fn reports_error(json: &str) -> bool {
    const LEVELS: [&str; 3] = ["level", "severity", "status"];
    let Some(fields) = members(json) else { return false };
    let value = |name: &str| last(json, &fields, name).map(|field| &json[field.value.clone()]);
    let level = |name: &&str| {
        let level = value(name).and_then(decode).map(|decoded| decoded.text.to_ascii_lowercase());
        level.is_some_and(|level| ["error", "fatal", "critical", "failed", "failure"].contains(&&*level))
    };
    flagged(json, &["error", "errors", "exception"])
        || LEVELS.iter().any(level)
        || ["success", "ok"].iter().any(|name| value(name) == Some("false"))
}

fn begins_like_one(text: &str) -> bool {
    let text = text.trim_start();
    if text.starts_with('{') {
        return flagged(text, &["error", "errors", "exception"]) || has_error_status(text);
    }
    let start = text.get(..text.floor_char_boundary(16)).unwrap_or_default().to_ascii_lowercase();
    OPENINGS.iter().any(|opening| {
        let after = start.trim_start_matches(['[', '*', '#', ' ']).strip_prefix(opening);
        after.is_some_and(|after| !after.starts_with(|c: char| c.is_alphanumeric()))
    })
}

fn has_error_status(json: &str) -> bool {
    let fields = members(json).unwrap_or_default();
    last(json, &fields, "status").is_some_and(|field| key_is(&json[field.value.clone()], "error"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(text: &str) -> Message {
        Message::from_json(format!(r#"{{"role":"tool","content":{}}}"#, serde_json::Value::from(text)))
    }

    #[test]
    fn errors_are_told_from_results() {
        for text in
            ["Error: no such file", "Traceback (most recent call last):", r#"{"error":"x"}"#, "[ERROR] x"]
        {
            assert!(is_error(&tool(text)), "{text}");
        }
        for text in
            ["ok", "Errors were found: none", r#"{"error":null,"rows":[]}"#, r#"{"rows":[]}"#, "", "Faile"]
        {
            assert!(!is_error(&tool(text)), "{text}");
        }
        assert!(is_error(&Message::from_json(r#"{"role":"tool","is_error":true,"content":"x"}"#)));
    }
}
