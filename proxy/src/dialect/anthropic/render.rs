//! Chat messages as elements of a Messages request, for messages that no client sent.

use plimsoll_policies::json::encode;
use plimsoll_policies::{Message, Role};

use super::content::{raw, text};
use crate::dialect::raw::Raw;

/// A message as an element of its own. The instructions are the system's in OpenAI's form alone.
pub(super) fn message(message: &Message) -> String {
    match message.role() {
        Role::Assistant => format!(r#"{{"role":"assistant","content":{}}}"#, answer(message)),
        Role::Tool => format!(r#"{{"role":"user","content":[{}]}}"#, result(message)),
        _ => format!(r#"{{"role":"user","content":{}}}"#, raw(message)),
    }
}

fn result(message: &Message) -> String {
    let id = encode(message.tool_call_id().unwrap_or_default());
    format!(r#"{{"type":"tool_result","tool_use_id":{id},"content":{}}}"#, raw(message))
}

fn answer(message: &Message) -> String {
    if message.tool_calls().is_empty() {
        return raw(message).to_owned();
    }
    let mut blocks: Vec<String> =
        Some(message.text()).filter(|said| !said.is_empty()).map(text).into_iter().collect();
    for call in message.tool_calls() {
        let arguments = call.arguments.as_str();
        let input = Raw::whole(arguments).object().map_or("{}", |_| arguments);
        let (id, name) = (encode(call.id.as_deref().unwrap_or_default()), encode(&call.name));
        blocks.push(format!(r#"{{"type":"tool_use","id":{id},"name":{name},"input":{input}}}"#));
    }
    format!("[{}]", blocks.join(","))
}

/// The instructions of messages, a text, and the others as raw elements; results of one turn stand in one.
pub(crate) fn conversation(messages: &[Message]) -> (String, Vec<String>) {
    let system: Vec<&str> =
        messages.iter().filter(|message| message.role().is_system()).map(Message::text).collect();
    let mut elements: Vec<String> = Vec::new();
    let mut results: Vec<String> = Vec::new();
    let close = |results: &mut Vec<String>, elements: &mut Vec<String>| {
        if !results.is_empty() {
            elements.push(format!(r#"{{"role":"user","content":[{}]}}"#, results.join(",")));
            results.clear();
        }
    };
    for one in messages.iter().filter(|message| !message.role().is_system()) {
        if one.role() == Role::Tool {
            results.push(result(one));
        } else {
            close(&mut results, &mut elements);
            elements.push(message(one));
        }
    }
    close(&mut results, &mut elements);
    (system.join("\n\n"), elements)
}
