//! What was said, as the `GenAI` conventions write it: messages of a role and parts. Written only where the
//! configuration says `capture_content`.

use plimsoll_policies::Message;
use serde_json::{Map, Value, json};

/// Longer content is left out: a collector refuses a batch of more than a few MiB.
const MAX: usize = 256 * 1024;

/// An attribute's text, unless it is too long for one.
pub(super) fn bounded(json: String) -> Option<String> {
    (json.len() <= MAX).then_some(json)
}

/// Messages that go to a model.
pub(super) fn input(messages: &[Message]) -> String {
    let messages = messages.iter().map(|message| match serde_json::from_str(message.json()) {
        Ok(Value::Object(message)) => one(&message),
        _ => json!({"role": "other", "parts": []}),
    });
    Value::Array(messages.collect()).to_string()
}

fn one(message: &Map<String, Value>) -> Value {
    let role = message.get("role").and_then(Value::as_str).unwrap_or("other");
    let mut parts = Vec::new();
    let content = message.get("content").unwrap_or(&Value::Null);
    if role == "tool" {
        let id = message.get("tool_call_id");
        parts.push(json!({"type": "tool_call_response", "id": id, "response": content}));
    } else {
        parts.extend(content.as_str().map(text));
        parts.extend(content.as_array().into_iter().flatten().map(part));
    }
    for call in message.get("tool_calls").and_then(Value::as_array).into_iter().flatten() {
        let function = &call["function"];
        parts.push(tool_call(&call["id"], &function["name"], &function["arguments"]));
    }
    json!({"role": role, "parts": parts})
}

/// Of images and the like only the kind is told.
fn part(part: &Value) -> Value {
    part["text"].as_str().map_or_else(|| json!({"type": part["type"]}), text)
}

fn text(content: &str) -> Value {
    json!({"type": "text", "content": content})
}

fn tool_call(id: &Value, name: &Value, arguments: &Value) -> Value {
    json!({"type": "tool_call", "id": id, "name": name, "arguments": arguments})
}

/// An answer in the making.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    text: String,
    /// What the model thought.
    thoughts: String,
    /// Name and arguments of each tool call.
    calls: Vec<(String, String)>,
    finish: Option<String>,
}

impl Said {
    /// More text.
    pub fn text(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// More of what the model thought.
    pub fn thoughts(&mut self, thoughts: &str) {
        self.thoughts.push_str(thoughts);
    }

    /// A tool call begins, or goes on with more of its arguments. Calls are numbered from 0.
    pub fn call(&mut self, index: usize, name: &str, arguments: &str) {
        if self.calls.len() <= index && index < 1024 {
            self.calls.resize_with(index + 1, Default::default);
        }
        if let Some(call) = self.calls.get_mut(index) {
            call.0.push_str(name);
            call.1.push_str(arguments);
        }
    }

    /// A tool call as a whole.
    pub fn called(&mut self, name: &str, arguments: &str) {
        self.call(self.calls.len(), name, arguments);
    }

    /// Why it ended.
    pub fn finish(&mut self, reason: &str) {
        self.finish = Some(reason.to_owned());
    }

    /// Reads an answer in `OpenAI`'s shape: one object, or the chunks of a stream. Only its first choice.
    pub fn read(&mut self, body: &str) {
        let mut one = |json: &str| {
            if let Ok(answer) = serde_json::from_str::<Value>(json) {
                self.choice(&answer["choices"][0]);
            }
        };
        if body.trim_start().starts_with('{') {
            return one(body);
        }
        body.lines().filter_map(|line| line.strip_prefix("data:")).for_each(|data| one(data.trim()));
    }

    fn choice(&mut self, choice: &Value) {
        let said = if choice["delta"].is_object() { &choice["delta"] } else { &choice["message"] };
        self.text(said["content"].as_str().unwrap_or_default());
        self.thoughts(said["reasoning_content"].as_str().unwrap_or_default());
        for (place, call) in said["tool_calls"].as_array().into_iter().flatten().enumerate() {
            let index = call["index"].as_u64().and_then(|index| usize::try_from(index).ok()).unwrap_or(place);
            let field = |name: &str| call["function"][name].as_str().unwrap_or_default();
            self.call(index, field("name"), field("arguments"));
        }
        if let Some(reason) = choice["finish_reason"].as_str() {
            self.finish(reason);
        }
    }

    fn message(&self) -> Value {
        let mut parts = Vec::new();
        if !self.thoughts.is_empty() {
            parts.push(json!({"type": "reasoning", "content": self.thoughts}));
        }
        parts.extend((!self.text.is_empty()).then(|| text(&self.text)));
        for (name, arguments) in &self.calls {
            parts.push(json!({"type": "tool_call", "name": name, "arguments": arguments}));
        }
        json!({"role": "assistant", "parts": parts, "finish_reason": self.finish})
    }
}

/// An answer: one message for each of its choices.
pub(super) fn output(choices: &[Said]) -> String {
    choices.iter().map(Said::message).collect::<Value>().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_become_parts() {
        let messages: Vec<Message> = [
            json!({"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "image_url", "image_url": {"url": "x"}}]}),
            json!({"role": "assistant", "content": null, "tool_calls": [{"id": "a", "function": {"name": "ls", "arguments": "{}"}}]}),
            json!({"role": "tool", "tool_call_id": "a", "content": "f"}),
        ]
        .map(|message| Message::from_json(message.to_string()))
        .to_vec();
        let read: Value = serde_json::from_str(&input(&messages)).unwrap();
        assert_eq!(
            read,
            json!([
                {"role": "user", "parts": [{"type": "text", "content": "hi"}, {"type": "image_url"}]},
                {"role": "assistant", "parts": [{"type": "tool_call", "id": "a", "name": "ls", "arguments": "{}"}]},
                {"role": "tool", "parts": [{"type": "tool_call_response", "id": "a", "response": "f"}]},
            ])
        );
    }

    #[test]
    fn an_answer_is_read_whole_and_in_chunks() {
        let call =
            |arguments: &str| json!([{"index": 0, "function": {"name": "ls", "arguments": arguments}}]);
        let mut whole = Said::default();
        whole.read(&json!({"choices": [{"message": {"content": "hi", "reasoning_content": "hm", "tool_calls": call("{}")}, "finish_reason": "stop"}]}).to_string());
        let chunks = [
            json!({"choices": [{"delta": {"reasoning_content": "hm"}}]}),
            json!({"choices": [{"delta": {"content": "h"}}]}),
            json!({"choices": [{"delta": {"content": "i", "tool_calls": call("{")}}]}),
            json!({"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]}, "finish_reason": "stop"}]}),
            json!({"choices": []}),
        ];
        let mut streamed = Said::default();
        let stream: String = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
        streamed.read(&format!("{stream}data: [DONE]\n\n"));
        assert_eq!(whole, streamed);
        let output: Value = serde_json::from_str(&output(&[whole])).unwrap();
        assert_eq!(output[0]["parts"][0], json!({"type": "reasoning", "content": "hm"}));
        assert_eq!(output[0]["parts"][2], json!({"type": "tool_call", "name": "ls", "arguments": "{}"}));
        assert_eq!(output[0]["finish_reason"], "stop");
    }

    #[test]
    fn what_is_too_long_is_left_out() {
        assert_eq!(bounded("x".repeat(MAX + 1)), None);
    }
}
