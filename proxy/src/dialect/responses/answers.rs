//! What is read of a server's answers as they pass, for spans and metrics.

use serde::Deserialize;
use serde_json::Value;

use crate::forward::{Seen, Usage, last_of};
use crate::telemetry::Said;

#[derive(Deserialize)]
struct Used {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    input_tokens_details: Option<Details>,
}

#[derive(Deserialize)]
struct Details {
    cached_tokens: Option<u64>,
}

/// The usage of an answer, whole or streamed: its last event has it.
pub(super) fn usage(seen: &Seen) -> Option<Usage> {
    let used: Used = last_of(&seen.tail(), "usage")?;
    let cached = used.input_tokens_details.and_then(|details| details.cached_tokens);
    Some(Usage { prompt: used.input_tokens, completion: used.output_tokens, cached })
}

/// Reads an answer, whole or streamed.
pub(super) fn said(body: &str, said: &mut Said) {
    if body.trim_start().starts_with('{') {
        if let Ok(response) = serde_json::from_str::<Value>(body) {
            response["output"].as_array().into_iter().flatten().for_each(|item| read(item, said));
            finish(&response, said);
        }
        return;
    }
    for data in body.lines().filter_map(|line| line.strip_prefix("data:")) {
        let Ok(event) = serde_json::from_str::<Value>(data.trim()) else { continue };
        match event["type"].as_str() {
            Some("response.output_item.done") => read(&event["item"], said),
            Some("response.completed" | "response.incomplete" | "response.failed") => {
                finish(&event["response"], said);
            }
            _ => {}
        }
    }
}

fn finish(response: &Value, said: &mut Said) {
    let reason = response["incomplete_details"]["reason"].as_str().or(response["status"].as_str());
    if let Some(reason) = reason {
        said.finish(reason);
    }
}

fn read(item: &Value, said: &mut Said) {
    let texts = || item["content"].as_array().into_iter().flatten().filter_map(|part| part["text"].as_str());
    match item["type"].as_str() {
        Some("message") => texts().for_each(|text| said.text(text)),
        Some("reasoning") => texts().for_each(|text| said.thoughts(text)),
        Some("function_call") => {
            let field = |name: &str| item[name].as_str().unwrap_or_default();
            said.called(field("name"), field("arguments"));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_is_read_whole_and_streamed() {
        let response = json!({
            "output": [
                {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "hm"}]},
                {"type": "message", "content": [{"type": "output_text", "text": "hi"}]},
                {"type": "function_call", "name": "ls", "arguments": "{}"},
                {"type": "web_search_call"},
            ],
            "status": "completed",
            "usage": {"input_tokens": 7, "input_tokens_details": {"cached_tokens": 4}, "output_tokens": 2},
        });
        let mut whole = Said::default();
        said(&response.to_string(), &mut whole);
        let items = response["output"].as_array().unwrap();
        let mut events: Vec<Value> =
            items.iter().map(|item| json!({"type": "response.output_item.done", "item": item})).collect();
        events.push(json!({"type": "response.completed", "response": response}));
        let stream: String = events.iter().map(|event| format!("event: x\ndata: {event}\n\n")).collect();
        let mut streamed = Said::default();
        said(&stream, &mut streamed);
        assert_eq!(whole, streamed);
        let mut wanted = Said::default();
        wanted.thoughts("hm");
        wanted.text("hi");
        wanted.called("ls", "{}");
        wanted.finish("completed");
        assert_eq!(whole, wanted);
        let mut seen = Seen::default();
        seen.see(&Bytes::from(stream));
        let usage = usage(&seen).unwrap();
        assert_eq!((usage.prompt, usage.completion, usage.cached), (Some(7), Some(2), Some(4)));
    }
}
