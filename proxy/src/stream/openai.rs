//! OpenAI's shapes of an answer: chat completions and legacy completions, in chunks or whole.

use std::sync::Arc;

use plimsoll_engine::text::Piece;
use serde_json::{Map, Value, json};

use super::logprobs::{self, Likelihood};
use crate::forward::{End, Part};

/// Which of OpenAI's two completion APIs asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `/v1/chat/completions`
    Chat,
    /// `/v1/completions`
    Text,
}

/// One answer in the making.
pub struct Reply {
    /// The API.
    pub kind: Kind,
    /// Id of the answer.
    pub id: String,
    /// Unix time in seconds.
    pub created: u64,
    /// The model that answers.
    pub model: String,
    /// Whether a stream ends with the usage.
    pub include_usage: bool,
    /// The prompt's token ids, where the client asked for token ids (vLLM's `return_token_ids`).
    pub prompt_ids: Option<Arc<[u32]>>,
    /// Whether log probabilities were asked for.
    pub logprobs: bool,
    /// What has come so far, for an answer in one piece.
    pub collected: Collected,
}

/// An answer gathered from its parts.
#[derive(Debug, Default)]
pub struct Collected {
    text: String,
    thoughts: String,
    calls: Vec<ToolCall>,
    tokens: Vec<u32>,
    logprobs: Vec<Likelihood>,
    /// Characters of the tokens whose log probabilities were sent.
    offset: usize,
}

#[derive(Debug)]
struct ToolCall {
    name: String,
    arguments: String,
    /// Whether its arguments came to their end.
    whole: bool,
}

impl Reply {
    /// Adds a part to the whole.
    pub fn collect(&mut self, part: Part) {
        self.collected.tokens.extend(part.tokens);
        self.collected.logprobs.extend(part.logprobs);
        for piece in part.pieces {
            match piece {
                Piece::Text(text) => self.collected.text.push_str(&text),
                Piece::Thinking(thoughts) => self.collected.thoughts.push_str(&thoughts),
                Piece::CallStart { name, .. } => {
                    self.collected.calls.push(ToolCall { name, arguments: String::new(), whole: false });
                }
                Piece::CallArguments { json_fragment, .. } => {
                    if let Some(call) = self.collected.calls.last_mut() {
                        call.arguments.push_str(&json_fragment);
                    }
                }
                Piece::CallEnd { .. } => self.call_ended(),
            }
        }
    }

    /// The whole answer.
    pub fn whole(self, end: &End) -> Value {
        let object = match self.kind {
            Kind::Chat => "chat.completion",
            Kind::Text => "text_completion",
        };
        let mut answer = self.frame(object, json!([]));
        if let (Kind::Chat, Some(ids)) = (self.kind, &self.prompt_ids) {
            answer.insert("prompt_token_ids".to_owned(), json!(&ids[..]));
        }
        answer.insert("usage".to_owned(), usage(end));
        answer.insert("choices".to_owned(), json!([self.choice(end)]));
        Value::Object(answer)
    }

    fn choice(mut self, end: &End) -> Value {
        let finish = self.finish(end);
        let likelihoods = std::mem::take(&mut self.collected.logprobs);
        let logprobs = self.likelihoods(&likelihoods);
        let mut choice = match self.kind {
            Kind::Chat => json!({"index": 0, "message": message(&self.id, &self.collected)}),
            Kind::Text => json!({"index": 0, "text": self.collected.text}),
        };
        choice["logprobs"] = logprobs;
        choice["finish_reason"] = finish.into();
        if let Some(ids) = &self.prompt_ids {
            choice["token_ids"] = json!(self.collected.tokens);
            if self.kind == Kind::Text {
                choice["prompt_token_ids"] = json!(&ids[..]);
            }
        }
        choice
    }

    /// The chunks before the first token.
    pub fn opening(&self) -> Vec<Value> {
        if self.kind == Kind::Text {
            return Vec::new();
        }
        let delta = json!({"role": "assistant", "content": ""});
        let mut chunk = self.chunk(&delta, None, &[], Value::Null);
        if let Some(ids) = &self.prompt_ids {
            chunk["prompt_token_ids"] = json!(&ids[..]);
        }
        vec![chunk]
    }

    /// The chunks of a part.
    pub fn chunks(&mut self, part: &Part) -> Vec<Value> {
        let mut tokens = &part.tokens[..];
        let mut logprobs = self.likelihoods(&part.logprobs);
        let mut chunks = Vec::with_capacity(part.pieces.len());
        for piece in &part.pieces {
            let delta = match piece {
                Piece::Text(text) => self.text_delta(text),
                // As DeepSeek's API and vLLM name it.
                Piece::Thinking(thoughts) => json!({"reasoning_content": thoughts}),
                Piece::CallStart { index, name } => json!({"tool_calls": [{
                    "index": index, "id": call_id(&self.id, *index), "type": "function",
                    "function": {"name": name, "arguments": ""},
                }]}),
                Piece::CallArguments { index, json_fragment } => {
                    json!({"tool_calls": [{"index": index, "function": {"arguments": json_fragment}}]})
                }
                Piece::CallEnd { .. } => {
                    self.call_ended();
                    continue;
                }
            };
            if matches!(piece, Piece::CallStart { .. }) {
                let (name, arguments) = (String::new(), String::new());
                self.collected.calls.push(ToolCall { name, arguments, whole: false });
            }
            chunks.push(self.chunk(&delta, None, tokens, logprobs.take()));
            tokens = &[];
        }
        // Tokens whose text is held back still go out where the client asked for them.
        let asked = self.prompt_ids.is_some() || self.logprobs;
        if chunks.is_empty() && asked && !tokens.is_empty() {
            chunks.push(self.chunk(&self.text_delta(""), None, tokens, logprobs));
        }
        chunks
    }

    /// The chunks after the last token.
    pub fn closing(&self, end: &End) -> Vec<Value> {
        let last = match self.kind {
            Kind::Chat => json!({}),
            Kind::Text => self.text_delta(""),
        };
        let mut chunks = vec![self.chunk(&last, Some(self.finish(end)), &[], Value::Null)];
        if self.include_usage {
            let mut chunk = self.frame(self.chunk_object(), json!([]));
            chunk.insert("usage".to_owned(), usage(end));
            chunks.push(Value::Object(chunk));
        }
        chunks
    }

    /// Null where none were asked for, or none are there.
    fn likelihoods(&mut self, list: &[Likelihood]) -> Value {
        match self.kind {
            _ if !self.logprobs || list.is_empty() => Value::Null,
            Kind::Chat => logprobs::chat(list),
            Kind::Text => logprobs::text(list, &mut self.collected.offset),
        }
    }

    fn call_ended(&mut self) {
        if let Some(call) = self.collected.calls.last_mut() {
            call.whole = true;
        }
    }

    /// Clients parse the arguments where they are told `tool_calls`: a call that was cut off is not one.
    fn finish(&self, end: &End) -> &'static str {
        let calls = &self.collected.calls;
        if !calls.is_empty() && calls.iter().all(|call| call.whole) { "tool_calls" } else { end.finish }
    }

    fn text_delta(&self, text: &str) -> Value {
        match self.kind {
            Kind::Chat => json!({"content": text}),
            Kind::Text => json!({"text": text}),
        }
    }

    fn chunk(&self, delta: &Value, finish: Option<&str>, tokens: &[u32], logprobs: Value) -> Value {
        let mut choice = match self.kind {
            Kind::Chat => json!({"index": 0, "delta": delta}),
            Kind::Text => json!({"index": 0, "text": delta["text"]}),
        };
        choice["logprobs"] = logprobs;
        choice["finish_reason"] = finish.into();
        if self.prompt_ids.is_some() {
            choice["token_ids"] = json!(tokens);
        }
        let mut chunk = self.frame(self.chunk_object(), json!([choice]));
        // Every chunk but the last says that the usage is still to come.
        if self.include_usage {
            chunk.insert("usage".to_owned(), Value::Null);
        }
        Value::Object(chunk)
    }

    fn chunk_object(&self) -> &'static str {
        match self.kind {
            Kind::Chat => "chat.completion.chunk",
            Kind::Text => "text_completion",
        }
    }

    fn frame(&self, object: &str, choices: Value) -> Map<String, Value> {
        let mut frame = Map::new();
        frame.insert("id".to_owned(), self.id.clone().into());
        frame.insert("object".to_owned(), object.into());
        frame.insert("created".to_owned(), self.created.into());
        frame.insert("model".to_owned(), self.model.clone().into());
        frame.insert("choices".to_owned(), choices);
        frame
    }
}

fn message(id: &str, collected: &Collected) -> Value {
    let mut message = said(id, collected);
    if !collected.thoughts.is_empty() {
        message["reasoning_content"] = collected.thoughts.as_str().into();
    }
    message
}

fn said(id: &str, collected: &Collected) -> Value {
    let text = &collected.text;
    if collected.calls.is_empty() {
        return json!({"role": "assistant", "content": text, "refusal": null});
    }
    let calls: Vec<_> = collected
        .calls
        .iter()
        .enumerate()
        .map(|(index, call)| {
            let function = json!({"name": call.name, "arguments": call.arguments});
            json!({"id": call_id(id, index), "type": "function", "function": function})
        })
        .collect();
    let content = if text.trim().is_empty() { Value::Null } else { text.as_str().into() };
    json!({"role": "assistant", "content": content, "refusal": null, "tool_calls": calls})
}

/// Ids are unique across answers, as clients keep them in one conversation.
fn call_id(answer: &str, index: usize) -> String {
    format!("call_{}_{index}", answer.trim_start_matches("chatcmpl-"))
}

fn usage(end: &End) -> Value {
    let mut usage = json!({
        "prompt_tokens": end.prompt,
        "completion_tokens": end.completion,
        "total_tokens": end.prompt + end.completion,
        "prompt_tokens_details": {"cached_tokens": end.cached},
    });
    if let Some(reasoning) = end.reasoning {
        usage["completion_tokens_details"] = json!({"reasoning_tokens": reasoning});
    }
    usage
}
