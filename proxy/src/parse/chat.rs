//! Chat completions in OpenAI's shape.

use std::sync::Arc;

use plimsoll_policies::{Conversation, Message, ParseError, Role};
use thiserror::Error;

use crate::body::Payload;
use crate::cut::cut;
use crate::dialect::{DialectError, Original, Translated};
use crate::identify::Identified;

/// A chat request over its original bytes.
pub struct Chat {
    /// The body as it came.
    pub payload: Payload,
    /// The conversation in it.
    pub conversation: Conversation,
    /// The model asked for.
    pub model: Option<String>,
}

/// A message that the embedded engine cannot take.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("`{param}`: {message}")]
pub struct MessageError {
    /// The place in the body, like `messages[3].content`.
    pub param: String,
    /// What is wrong and what would be right.
    pub message: String,
}

/// What was read of a body.
pub(super) struct Read {
    /// The conversation in it, in OpenAI's form.
    pub(super) conversation: Conversation,
    /// What it was, where that is another dialect's.
    pub(super) original: Option<Arc<dyn Original>>,
}

/// Reads the conversation out of a decoded body; one of another dialect is translated.
pub(super) fn read(request: &Identified, payload: &Payload) -> Result<Read, DialectError> {
    let text = std::str::from_utf8(&payload.decoded).map_err(ParseError::not_utf8)?;
    let (json, original) = match request.dialect.translate(request.api, text)? {
        Some(Translated { json, original }) => (json, Some(original)),
        None => (text.into(), None),
    };
    Ok(Read { conversation: Conversation::parse_chat(json)?, original })
}

/// The model a body names.
pub(super) fn model(conversation: &Conversation) -> Option<String> {
    conversation.field("model").and_then(|json| serde_json::from_str(json).ok())
}

/// Tools that the template could not show the model are refused: an agent without its tools is no agent.
pub(super) fn check_tools(conversation: &Conversation) -> Result<(), MessageError> {
    let tools = match conversation.field("tools").map(serde_json::from_str) {
        None | Some(Ok(serde_json::Value::Null)) => return Ok(()),
        Some(Ok(serde_json::Value::Array(tools))) => tools,
        Some(_) => return Err(fault("tools".to_owned(), "must be an array of functions")),
    };
    match tools.iter().position(|tool| !tool["function"]["name"].is_string()) {
        None => Ok(()),
        Some(index) => {
            let form = "must be `{\"type\": \"function\", \"function\": {\"name\": ...}}`";
            Err(fault(format!("tools[{index}]"), form))
        }
    }
}

/// Variables for the template come by name.
pub(super) fn check_kwargs(conversation: &Conversation) -> Result<(), MessageError> {
    let name = "chat_template_kwargs";
    match conversation.field(name).map(serde_json::from_str) {
        None | Some(Ok(serde_json::Value::Null | serde_json::Value::Object(_))) => Ok(()),
        Some(Ok(other)) => {
            let form = "must be an object of the template's variables, such as {\"enable_thinking\": false}";
            Err(fault(name.to_owned(), &format!("{form}, found `{}`", cut(&other.to_string()))))
        }
        Some(Err(error)) => Err(fault(name.to_owned(), &format!("cannot be read as text: {error}"))),
    }
}

/// What a template would only stumble over is told apart here, message by message.
pub(super) fn check_messages(conversation: &Conversation) -> Result<(), MessageError> {
    let messages = conversation.messages();
    if messages.is_empty() {
        return Err(fault("messages".to_owned(), "is empty: send at least one message"));
    }
    let mut open_calls: Vec<&str> = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        let at = format!("messages[{index}]");
        check_message(message, &at)?;
        match message.role() {
            Role::Assistant => {
                open_calls = message.tool_calls().iter().filter_map(|call| call.id.as_deref()).collect();
            }
            Role::Tool => check_result(message, &at, &open_calls)?,
            _ => open_calls.clear(),
        }
    }
    Ok(())
}

fn check_message(message: &Message, at: &str) -> Result<(), MessageError> {
    let value: serde_json::Value = serde_json::from_str(message.json())
        .map_err(|error| fault(at.to_owned(), &format!("cannot be read as text: {error}")))?;
    if !value.is_object() {
        return Err(fault(at.to_owned(), "must be an object with `role` and `content`"));
    }
    if message.role() == Role::Other {
        let known = "`system`, `developer`, `user`, `assistant` or `tool`";
        return Err(fault(
            format!("{at}.role"),
            &format!("must be {known}, found `{}`", cut(&value["role"].to_string())),
        ));
    }
    check_calls(&value["tool_calls"], at)?;
    match &value["content"] {
        serde_json::Value::String(_) => Ok(()),
        serde_json::Value::Null if message.role() == Role::Assistant => Ok(()),
        serde_json::Value::Array(parts) => check_parts(parts, at),
        other => {
            let found = other.to_string();
            let message = format!("must be a string or text parts, found `{}`", cut(&found));
            Err(fault(format!("{at}.content"), &message))
        }
    }
}

/// Calls that the template could not write. Arguments may be an object, too, as other servers take them.
fn check_calls(calls: &serde_json::Value, at: &str) -> Result<(), MessageError> {
    let at = format!("{at}.tool_calls");
    let calls = match calls {
        serde_json::Value::Null => return Ok(()),
        serde_json::Value::Array(calls) => calls,
        other => {
            let found = other.to_string();
            return Err(fault(at, &format!("must be an array of calls, found `{}`", cut(&found))));
        }
    };
    for (index, call) in calls.iter().enumerate() {
        let function = &call["function"];
        let arguments = &function["arguments"];
        let right = function["name"].is_string()
            && (arguments.is_string() || arguments.is_object() || arguments.is_null())
            && (call["id"].is_string() || call["id"].is_null());
        if !right {
            let form = "must be `{\"id\": ..., \"type\": \"function\", \"function\": {\"name\": ..., \"arguments\": \"{...}\"}}`";
            let found = call.to_string();
            return Err(fault(format!("{at}[{index}]"), &format!("{form}, found `{}`", cut(&found))));
        }
    }
    Ok(())
}

fn check_parts(parts: &[serde_json::Value], at: &str) -> Result<(), MessageError> {
    for (index, part) in parts.iter().enumerate() {
        if part["type"] != "text" || !part["text"].is_string() {
            let text = "only text parts are served by the embedded engine";
            return Err(fault(format!("{at}.content[{index}]"), text));
        }
    }
    Ok(())
}

fn check_result(message: &Message, at: &str, open_calls: &[&str]) -> Result<(), MessageError> {
    match message.tool_call_id() {
        Some(id) if open_calls.contains(&id) => Ok(()),
        id => Err(fault(
            format!("{at}.tool_call_id"),
            &format!(
                "messages with role `tool` must be a response to a preceding message with `tool_calls`; found `{}`",
                cut(id.unwrap_or("none"))
            ),
        )),
    }
}

fn fault(param: String, message: &str) -> MessageError {
    MessageError { param, message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Conversation {
        Conversation::parse_chat(json.into()).expect("a chat request")
    }

    fn calls(json: &str) -> Result<(), MessageError> {
        let call = format!(r#"{{"role":"assistant","content":null,"tool_calls":{json}}}"#);
        check_messages(&read(&format!(r#"{{"messages":[{{"role":"user","content":"q"}},{call}]}}"#)))
    }

    #[test]
    fn calls_of_the_wrong_form_are_told_by_their_place() {
        for json in [
            "null",
            "[]",
            r#"[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]"#,
            r#"[{"function":{"name":"f","arguments":{"a":1}}},{"function":{"name":"f"}}]"#,
        ] {
            assert_eq!(calls(json), Ok(()), "{json}");
        }
        for (json, at) in [
            ("{}", "messages[1].tool_calls"),
            ("\"f()\"", "messages[1].tool_calls"),
            ("[7]", "messages[1].tool_calls[0]"),
            (r#"[{"id":"c"}]"#, "messages[1].tool_calls[0]"),
            (r#"[{"function":{"name":"f"}},{"function":"f"}]"#, "messages[1].tool_calls[1]"),
            (r#"[{"id":5,"function":{"name":"f"}}]"#, "messages[1].tool_calls[0]"),
            (r#"[{"function":{"name":"f","arguments":[1]}}]"#, "messages[1].tool_calls[0]"),
        ] {
            assert_eq!(calls(json).expect_err(json).param, at, "{json}");
        }
    }

    #[test]
    fn variables_of_the_template_are_an_object() {
        let check =
            |json: &str| check_kwargs(&read(&format!(r#"{{"messages":[],"chat_template_kwargs":{json}}}"#)));
        assert_eq!((check("null"), check(r#"{"enable_thinking":false}"#)), (Ok(()), Ok(())));
        for json in ["[]", "5", "\"x\"", "true"] {
            assert_eq!(check(json).expect_err(json).param, "chat_template_kwargs");
        }
    }

    #[test]
    fn what_was_found_is_cut() {
        let long =
            format!(r#"{{"messages":[{{"role":"user","content":{{"a":"{}"}}}}]}}"#, "x".repeat(10_000));
        let fault = check_messages(&read(&long)).expect_err("an object");
        assert!(fault.message.contains('…') && fault.message.len() < 200, "{fault}");
    }
}
