//! From messages as clients send them to messages as a chat template takes them.
//!
//! OpenAI's clients send a call's arguments as JSON text, contents as lists of parts or as null, and `developer`
//! messages. Templates differ in which of these they understand: each is tried once at load, and only what the
//! template does not understand is converted.

use std::borrow::Cow;
use std::sync::LazyLock;
use std::time::SystemTime;

use serde_json::{Map, Value, json};

use crate::text::template::{Prompt, Templates};

/// What a template understands of OpenAI's message shapes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Understood {
    /// A call's arguments as text are written as they are; otherwise they must be an object.
    argument_texts: bool,
    /// Contents may be lists of parts; otherwise they must be text.
    parts: bool,
    /// `developer` is a role; otherwise such messages become `system` messages.
    developer: bool,
}

/// A text that no template writes by itself.
const PROBE: &str = "plimsoll-probe";

impl Understood {
    /// Tries the template that is used with or without tools.
    pub(super) fn probe(templates: &Templates, with_tools: bool) -> Self {
        let tools = with_tools.then(probe_tools);
        let writes = |messages: Value, wanted: &str, unwanted: &str| {
            let messages = messages.as_array().map_or(&[][..], Vec::as_slice);
            let prompt = probe_prompt(messages, tools.as_ref());
            let text = templates.render(&prompt).unwrap_or_default();
            text.contains(wanted) && !text.contains(unwanted)
        };
        let arguments = format!("{{\"{PROBE}\":1}}");
        let escaped = format!("\\\"{PROBE}");
        let parts = json!([{"type": "text", "text": PROBE}]);
        Self {
            argument_texts: writes(probe_call(&Value::String(arguments.clone())), &arguments, &escaped),
            parts: writes(json!([{"role": "user", "content": parts}]), PROBE, "type"),
            developer: writes(
                json!([{"role": "developer", "content": PROBE}, {"role": "user", "content": "q"}]),
                PROBE,
                "\0",
            ),
        }
    }

    /// A message as the template takes it.
    pub(super) fn message<'m>(&self, message: &'m Value) -> Cow<'m, Value> {
        let Some(fields) = message.as_object() else { return Cow::Borrowed(message) };
        let plain = fields.get("content").is_some_and(Value::is_string)
            && !fields.contains_key("tool_calls")
            && !fields.values().any(Value::is_null)
            && (self.developer || fields.get("role").is_none_or(|role| role != "developer"));
        if plain {
            return Cow::Borrowed(message);
        }
        let mut converted = Map::new();
        for (name, value) in fields {
            if let Some(value) = self.field(name, value) {
                converted.insert(name.clone(), value);
            }
        }
        converted.entry("content").or_insert_with(|| Value::String(String::new()));
        Cow::Owned(Value::Object(converted))
    }

    /// A field as the template takes it; `None` for one that says nothing: templates ask whether it is there.
    fn field(&self, name: &str, value: &Value) -> Option<Value> {
        match (name, value) {
            (_, Value::Null) => None,
            ("role", Value::String(role)) if role == "developer" && !self.developer => Some("system".into()),
            ("content", Value::Array(parts)) if !self.parts => Some(joined_texts(parts).into()),
            ("tool_calls", Value::Array(calls)) if calls.is_empty() => None,
            ("tool_calls", Value::Array(calls)) if !self.argument_texts => {
                Some(calls.iter().map(call_with_object).collect())
            }
            _ => Some(value.clone()),
        }
    }
}

/// The text parts of a content, a line each, as other servers join them.
fn joined_texts(parts: &[Value]) -> String {
    let texts: Vec<&str> =
        parts.iter().filter_map(|part| part.as_str().or_else(|| part["text"].as_str())).collect();
    texts.join("\n")
}

/// A call whose arguments are an object; text that is no JSON stays text.
fn call_with_object(call: &Value) -> Value {
    let mut call = call.clone();
    if let Some(arguments) = call.pointer_mut("/function/arguments")
        && let Value::String(text) = arguments
    {
        let parsed = if text.trim().is_empty() { Ok(json!({})) } else { serde_json::from_str(text) };
        if let Ok(parsed) = parsed {
            *arguments = parsed;
        }
    }
    call
}

/// A prompt to find out what a template does; never shown to a model.
pub(super) fn probe_prompt<'a>(messages: &'a [Value], tools: Option<&'a Value>) -> Prompt<'a> {
    static NOTHING: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);
    Prompt { messages, tools, add_generation_prompt: false, kwargs: &NOTHING, now: SystemTime::UNIX_EPOCH }
}

/// A conversation with one tool call.
pub(super) fn probe_call(arguments: &Value) -> Value {
    json!([
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "", "tool_calls": [
            // Some templates insist on nine letters and digits.
            {"id": "plimsoll1", "type": "function", "function": {"name": "probe_tool", "arguments": arguments}}
        ]},
        {"role": "tool", "tool_call_id": "plimsoll1", "name": "probe_tool", "content": "r"}
    ])
}

/// The tool that [`probe_call`] calls.
pub(super) fn probe_tools() -> Value {
    json!([{"type": "function", "function": {
        "name": "probe_tool",
        "description": "d",
        "parameters": {"type": "object", "properties": {}}
    }}])
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
