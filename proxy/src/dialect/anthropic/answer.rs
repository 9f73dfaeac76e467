//! What an Anthropic server's answer tells of itself: its usage and, for the trace, what it says.

use serde::Deserialize;
use serde_json::Value;

use crate::forward::{Seen, Usage, first_of, last_of};
use crate::telemetry::Said;

/// Input tokens are those that no cache was read or written for.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
struct Counted {
    input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    output_tokens: Option<u64>,
}

/// The usage of a whole answer, or of a stream: what its end leaves out, its beginning tells.
pub(super) fn usage(seen: &Seen) -> Option<Usage> {
    let end: Counted = last_of(&seen.tail(), "usage")?;
    let begin: Counted = first_of(&seen.head(), "usage").unwrap_or_default();
    let input = end.input_tokens.or(begin.input_tokens);
    let read = end.cache_read_input_tokens.or(begin.cache_read_input_tokens);
    let written = end.cache_creation_input_tokens.or(begin.cache_creation_input_tokens);
    Some(Usage {
        prompt: input.map(|input| input + read.unwrap_or(0) + written.unwrap_or(0)),
        completion: end.output_tokens,
        cached: read,
    })
}

/// Reads a message, or the events of one.
pub(super) fn said(body: &str, said: &mut Said) {
    if body.trim_start().starts_with('{') {
        let message: Value = serde_json::from_str(body).unwrap_or_default();
        for (index, block) in message["content"].as_array().into_iter().flatten().enumerate() {
            begun(index, block, said);
            if block["type"] == "tool_use" {
                said.call(index, "", &block["input"].to_string());
            }
        }
        return message["stop_reason"].as_str().into_iter().for_each(|reason| said.finish(reason));
    }
    let events = body.lines().filter_map(|line| line.strip_prefix("data:"));
    for event in events.filter_map(|data| serde_json::from_str::<Value>(data).ok()) {
        let index = event["index"].as_u64().and_then(|index| usize::try_from(index).ok()).unwrap_or(0);
        let delta = &event["delta"];
        match event["type"].as_str() {
            Some("content_block_start") => begun(index, &event["content_block"], said),
            Some("content_block_delta") => {
                said.text(delta["text"].as_str().unwrap_or_default());
                if let Some(more) = delta["partial_json"].as_str() {
                    said.call(index, "", more);
                }
            }
            Some("message_delta") => {
                delta["stop_reason"].as_str().into_iter().for_each(|reason| said.finish(reason));
            }
            _ => {}
        }
    }
}

fn begun(index: usize, block: &Value, said: &mut Said) {
    match block["type"].as_str() {
        Some("text") => said.text(block["text"].as_str().unwrap_or_default()),
        Some("tool_use") => said.call(index, block["name"].as_str().unwrap_or_default(), ""),
        _ => {}
    }
}

/// The text of a message, whether it ended for want of room, and its usage: what a summariser answers.
pub(crate) fn text(body: &[u8]) -> Option<(String, bool, Usage)> {
    let message: Value = serde_json::from_slice(body).ok()?;
    let blocks = message["content"].as_array()?;
    let texts: Vec<&str> = blocks
        .iter()
        .filter(|block| block["type"] == "text")
        .filter_map(|block| block["text"].as_str())
        .collect();
    let mut seen = Seen::default();
    seen.see(&bytes::Bytes::copy_from_slice(body));
    Some((texts.concat(), message["stop_reason"] == "max_tokens", usage(&seen).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn seen(text: &str) -> Seen {
        let mut seen = Seen::default();
        seen.see(&bytes::Bytes::copy_from_slice(text.as_bytes()));
        seen
    }

    #[test]
    fn usage_counts_what_was_cached_into_the_prompt() {
        let whole = r#"{"usage":{"input_tokens":7,"cache_creation_input_tokens":20,"cache_read_input_tokens":100,"output_tokens":5}}"#;
        let wanted = Usage { prompt: Some(127), completion: Some(5), cached: Some(100) };
        assert_eq!(usage(&seen(whole)), Some(wanted));
        let stream = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":7,\"cache_read_input_tokens\":100,\"output_tokens\":1}}}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":9}}\n\n";
        let wanted = Usage { prompt: Some(107), completion: Some(9), cached: Some(100) };
        assert_eq!(usage(&seen(stream)), Some(wanted));
        assert_eq!(usage(&seen("{}")), None);
    }

    #[test]
    fn a_message_says_the_same_whole_and_in_events() {
        let call = json!({"type": "tool_use", "id": "t", "name": "ls", "input": {"a": 1}});
        let mut whole = Said::default();
        said(
            &json!({"content": [{"type": "text", "text": "hi"}, call], "stop_reason": "tool_use"})
                .to_string(),
            &mut whole,
        );
        let events = [
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}}),
            json!({"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "name": "ls", "input": {}}}),
            json!({"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "{\"a\":1}"}}),
            json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}}),
        ];
        let stream: String = events.iter().map(|event| format!("event: x\ndata: {event}\n\n")).collect();
        let mut streamed = Said::default();
        said(&stream, &mut streamed);
        assert_eq!(whole, streamed);
    }
}
