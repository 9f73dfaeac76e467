//! What a policy changed, as text.

use plimsoll_policies::{Conversation, Message};
use serde_json::Value;
use similar::TextDiff;

/// Lines around a difference.
const CONTEXT: usize = 3;

/// A unified diff from what the client sent to what runs; empty where nothing was changed.
pub fn diff(before: &Conversation, after: &Conversation) -> String {
    let (before, after) = (text(before), text(after));
    let diff = TextDiff::from_lines(&before, &after);
    diff.unified_diff().context_radius(CONTEXT).header("sent by the client", "sent to the model").to_string()
}

/// A conversation as people read it: members, tools, messages.
fn text(conversation: &Conversation) -> String {
    let mut text = String::new();
    let members = conversation.fields().filter(|(name, _)| !matches!(*name, "messages" | "tools"));
    for (name, json) in members {
        text += &format!("{name}: {}\n", one_line(json));
    }
    let tools = conversation.tools().and_then(|tools| serde_json::from_str::<Vec<Value>>(tools).ok());
    for tool in tools.iter().flatten() {
        text += &format!("tool: {tool}\n");
    }
    conversation.messages().iter().for_each(|one| message(one, &mut text));
    text
}

fn message(message: &Message, text: &mut String) {
    let value: Value = serde_json::from_str(message.json()).unwrap_or_default();
    let role = value["role"].as_str().unwrap_or("message");
    match message.tool_call_id() {
        Some(id) => *text += &format!("[{role} {id}]\n"),
        None => *text += &format!("[{role}]\n"),
    }
    for line in message.text().lines() {
        *text += &format!("  {line}\n");
    }
    // What is no text: images, files, audio.
    let parts = value["content"].as_array().into_iter().flatten();
    for part in parts.filter(|part| part["type"] != "text") {
        *text +=
            &format!("  ({} of {} bytes)\n", part["type"].as_str().unwrap_or("part"), part.to_string().len());
    }
    for call in message.tool_calls() {
        *text += &format!("  -> {}({})\n", call.name, call.arguments);
    }
    for key in ["reasoning_content", "reasoning"] {
        for line in value[key].as_str().into_iter().flat_map(str::lines) {
            *text += &format!("  ({key}) {line}\n");
        }
    }
}

fn one_line(json: &str) -> String {
    serde_json::from_str::<Value>(json).map_or_else(|_| json.to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_is_shown_with_its_surroundings() {
        let of = |body: Value| Conversation::parse_chat(body.to_string().into()).expect("a chat request");
        let image = serde_json::json!([{"type": "text", "text": "Look."}, {"type": "image_url", "image_url": {"url": "data:x"}}]);
        let call = serde_json::json!({"id": "c", "function": {"name": "read", "arguments": "{\"a\":1}"}});
        let body = |result: &str, limit: u32| {
            of(serde_json::json!({"model": "m", "max_tokens": limit, "tools": [{"a": 1}], "messages": [
                {"role": "user", "content": image},
                {"role": "assistant", "content": null, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "c", "content": result},
            ]}))
        };
        assert_eq!(diff(&body("a\nb", 5), &body("a\nb", 5)), "");
        insta::assert_snapshot!(diff(&body("a\nb\nc", 5), &body("a\n[cut]\nc", 4)), @r#"
        --- sent by the client
        +++ sent to the model
        @@ -1,5 +1,5 @@
         model: "m"
        -max_tokens: 5
        +max_tokens: 4
         tool: {"a":1}
         [user]
           Look.
        @@ -8,5 +8,5 @@
           -> read({"a":1})
         [tool c]
           a
        -  b
        +  [cut]
           c
        "#);
    }
}
