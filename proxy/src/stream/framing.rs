//! How events stand in a stream.

use bytes::Bytes;
use serde_json::Value;

/// The form of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Server-sent events with `data:` alone, and `[DONE]` at the end: OpenAI's completions.
    Data,
    /// Server-sent events that are named by their own `type`, and no mark at the end: Anthropic's messages and OpenAI's
    /// responses.
    Named,
    /// A JSON text a line: Ollama's.
    Lines,
}

impl Framing {
    /// The content type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Data | Self::Named => "text/event-stream; charset=utf-8",
            Self::Lines => "application/x-ndjson",
        }
    }

    /// One event.
    pub fn frame(self, event: &Value) -> Bytes {
        match self {
            Self::Data => format!("data: {event}\n\n"),
            Self::Named => {
                format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or("error"))
            }
            Self::Lines => format!("{event}\n"),
        }
        .into()
    }

    /// What ends a stream that is whole.
    pub fn end(self) -> Option<Bytes> {
        (self == Self::Data).then(|| Bytes::from_static(b"data: [DONE]\n\n"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_form_has_its_frame_and_its_end() {
        let event = json!({"type": "ping"});
        let frames = [Framing::Data, Framing::Named, Framing::Lines].map(|framing| framing.frame(&event));
        assert_eq!(frames[0], "data: {\"type\":\"ping\"}\n\n");
        assert_eq!(frames[1], "event: ping\ndata: {\"type\":\"ping\"}\n\n");
        assert_eq!(frames[2], "{\"type\":\"ping\"}\n");
        assert_eq!((Framing::Named.end(), Framing::Lines.end()), (None, None));
    }
}
