//! Answers of the embedded engine as a message: its content blocks, and the events that build them.

use plimsoll_engine::text::Piece;
use plimsoll_policies::Report;
use serde_json::{Value, json};

use super::edits;
use crate::admit::Run;
use crate::dialect::Dialect;
use crate::forward::{End, Part};
use crate::respond::Fault;
use crate::stream::{Framing, Reply};

/// A message in the making.
pub(super) struct MessageReply {
    /// Our id of the request.
    request: String,
    id: String,
    model: String,
    /// Whether the window has less room than was asked for.
    narrowed: bool,
    /// What the caller's own edits did, where it asked for some.
    edited: Option<Report>,
    prompt: u64,
    cached: u64,
    /// The kind of the block that is open.
    open: Option<&'static str>,
    /// Blocks so far, the open one included.
    count: usize,
    /// Calls, and those of them that are whole.
    calls: (usize, usize),
    /// White space that may turn out to be nothing.
    space: String,
    /// The blocks of an answer in one piece; arguments as text until they are whole.
    content: Vec<Value>,
}

impl MessageReply {
    pub(super) fn new(run: &Run) -> Self {
        Self {
            request: run.envelope.record.id(),
            id: format!("msg_{}", uuid::Uuid::now_v7().simple()),
            model: run.engine.name.clone(),
            narrowed: run.options.max_tokens.is_some_and(|asked| run.max_tokens < asked),
            edited: run.envelope.edited.clone(),
            prompt: run.prompt.len() as u64,
            cached: 0,
            open: None,
            count: 0,
            calls: (0, 0),
            space: String::new(),
            content: Vec::new(),
        }
    }

    fn message(&self) -> Value {
        json!({
            "id": self.id, "type": "message", "role": "assistant", "model": self.model, "content": [],
            "stop_reason": null, "stop_sequence": null, "usage": self.usage(0),
        })
    }

    /// What was cached is told apart from what was computed.
    fn usage(&self, output: u64) -> Value {
        json!({
            "input_tokens": self.prompt - self.cached,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": self.cached,
            "output_tokens": output,
        })
    }

    fn events(&mut self, pieces: &[Piece]) -> Vec<Value> {
        let mut events = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Text(text) => self.say(text, &mut events),
                Piece::Thinking(thought) => {
                    if self.open != Some("thinking") {
                        let block = json!({"type": "thinking", "thinking": "", "signature": ""});
                        self.begin("thinking", &block, &mut events);
                    }
                    events.push(self.delta(&json!({"type": "thinking_delta", "thinking": thought})));
                }
                Piece::CallStart { name, .. } => {
                    self.space.clear();
                    self.calls.0 += 1;
                    let id = format!("toolu_{}_{}", self.id.trim_start_matches("msg_"), self.calls.0);
                    self.begin(
                        "tool_use",
                        &json!({"type": "tool_use", "id": id, "name": name, "input": {}}),
                        &mut events,
                    );
                }
                Piece::CallArguments { json_fragment, .. } => {
                    events.push(
                        self.delta(&json!({"type": "input_json_delta", "partial_json": json_fragment})),
                    );
                }
                Piece::CallEnd { .. } => {
                    self.calls.1 += 1;
                    self.stop(&mut events);
                }
            }
        }
        events
    }

    /// White space alone before a call is no block.
    fn say(&mut self, text: &str, events: &mut Vec<Value>) {
        if self.open != Some("text") {
            if text.trim().is_empty() {
                self.space.push_str(text);
                return;
            }
            self.begin("text", &json!({"type": "text", "text": ""}), events);
        }
        let text = std::mem::take(&mut self.space) + text;
        events.push(self.delta(&json!({"type": "text_delta", "text": text})));
    }

    fn begin(&mut self, kind: &'static str, block: &Value, events: &mut Vec<Value>) {
        self.stop(events);
        events.push(json!({"type": "content_block_start", "index": self.count, "content_block": block}));
        (self.open, self.count) = (Some(kind), self.count + 1);
    }

    fn stop(&mut self, events: &mut Vec<Value>) {
        if self.open.take().is_some() {
            events.push(json!({"type": "content_block_stop", "index": self.count - 1}));
        }
    }

    fn delta(&self, delta: &Value) -> Value {
        json!({"type": "content_block_delta", "index": self.count.saturating_sub(1), "delta": delta})
    }

    fn reason(&self, end: &End) -> &'static str {
        let (begun, whole) = self.calls;
        match (end.finish, &end.stop) {
            _ if begun > 0 && begun == whole => "tool_use",
            (_, Some(_)) => "stop_sequence",
            ("length", _) if self.narrowed => "model_context_window_exceeded",
            ("length", _) => "max_tokens",
            _ => "end_turn",
        }
    }

    /// Adds events to the content of an answer in one piece.
    fn gather(&mut self, events: Vec<Value>) {
        for mut event in events {
            match event["type"].as_str() {
                Some("content_block_start") => self.content.push(event["content_block"].take()),
                Some("content_block_delta") => {
                    let Some(block) = self.content.last_mut() else { continue };
                    append(block, &event["delta"]);
                }
                _ => {}
            }
        }
    }
}

/// Adds a delta to a block; arguments are text as long as they grow.
fn append(block: &mut Value, delta: &Value) {
    for (name, from) in [("text", "text"), ("thinking", "thinking"), ("input", "partial_json")] {
        if let Some(more) = delta[from].as_str() {
            let so_far = block[name].as_str().unwrap_or_default();
            block[name] = format!("{so_far}{more}").into();
        }
    }
}

/// A block of the whole answer; none for a call that was cut off.
fn settled(mut block: Value) -> Option<Value> {
    if block["type"] == "tool_use"
        && let Some(text) = block["input"].as_str()
    {
        block["input"] = serde_json::from_str(text).ok().filter(Value::is_object)?;
    }
    Some(block)
}

impl Reply for MessageReply {
    fn framing(&self) -> Framing {
        Framing::Named
    }

    fn started(&mut self, prompt: u64, cached: u64) -> Vec<Value> {
        (self.prompt, self.cached) = (prompt, cached);
        vec![json!({"type": "message_start", "message": self.message()}), json!({"type": "ping"})]
    }

    fn chunks(&mut self, part: &Part) -> Vec<Value> {
        self.events(&part.pieces)
    }

    fn closing(&mut self, end: &End) -> Vec<Value> {
        let mut events = Vec::new();
        if self.count == 0 && !self.space.is_empty() {
            self.begin("text", &json!({"type": "text", "text": ""}), &mut events);
            let text = std::mem::take(&mut self.space);
            events.push(self.delta(&json!({"type": "text_delta", "text": text})));
        }
        self.stop(&mut events);
        let mut delta = json!({
            "type": "message_delta",
            "delta": {"stop_reason": self.reason(end), "stop_sequence": stop_sequence(self.reason(end), end)},
            "usage": self.usage(end.completion),
        });
        if let Some(report) = &self.edited {
            delta["context_management"] = edits::applied(report);
        }
        events.extend([delta, json!({"type": "message_stop"})]);
        events
    }

    fn failed(&mut self, fault: &Fault) -> Value {
        fault.body_in(Dialect::Anthropic, &self.request)
    }

    fn collect(&mut self, part: Part) {
        let events = self.events(&part.pieces);
        self.gather(events);
    }

    fn whole(mut self: Box<Self>, end: &End) -> Value {
        (self.prompt, self.cached) = (end.prompt, end.cached);
        let events = self.closing(end);
        self.gather(events);
        let mut message = self.message();
        let content = std::mem::take(&mut self.content);
        message["content"] = content.into_iter().filter_map(settled).collect();
        let reason = self.reason(end);
        message["stop_reason"] = reason.into();
        message["stop_sequence"] = stop_sequence(reason, end);
        message["usage"] = self.usage(end.completion);
        if let Some(report) = &self.edited {
            message["context_management"] = edits::applied(report);
        }
        message
    }
}

fn stop_sequence(reason: &str, end: &End) -> Value {
    end.stop.as_deref().filter(|_| reason == "stop_sequence").into()
}
