//! OpenAI's shapes of an answer: chat completions and legacy completions, in chunks or whole.

use std::sync::Arc;

use plimsoll_engine::text::Piece;
use serde_json::{Map, Value, json};

use super::logprobs::{self, Likelihood};
use super::{Framing, Reply};
use crate::forward::{End, Part};
use crate::respond::Fault;

/// Which of OpenAI's two completion APIs asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `/v1/chat/completions`
    Chat,
    /// `/v1/completions`
    Text,
}

/// One answer in the making.
pub struct Completion {
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
    /// What has come so far of each choice.
    pub choices: Vec<Collected>,
}

/// A choice gathered from its parts.
#[derive(Debug, Default)]
pub struct Collected {
    text: String,
    thoughts: String,
    calls: Vec<ToolCall>,
    tokens: Vec<u32>,
    logprobs: Vec<Likelihood>,
    /// Characters of the tokens whose log probabilities were sent.
    offset: usize,
    /// Why it ended, once it has.
    finished: Option<&'static str>,
}

#[derive(Debug)]
struct ToolCall {
    name: String,
    arguments: String,
    /// Whether its arguments came to their end.
    whole: bool,
}

impl Reply for Completion {
    fn framing(&self) -> Framing {
        Framing::Data
    }

    fn failed(&mut self, fault: &Fault) -> Value {
        fault.body()
    }

    fn collect(&mut self, part: Part) {
        let collected = &mut self.choices[part.choice];
        collected.tokens.extend(part.tokens);
        collected.logprobs.extend(part.logprobs);
        collected.finished = part.finished;
        for piece in part.pieces {
            match piece {
                Piece::Text(text) => collected.text.push_str(&text),
                Piece::Thinking(thoughts) => collected.thoughts.push_str(&thoughts),
                Piece::CallStart { name, .. } => {
                    collected.calls.push(ToolCall { name, arguments: String::new(), whole: false });
                }
                Piece::CallArguments { json_fragment, .. } => {
                    if let Some(call) = collected.calls.last_mut() {
                        call.arguments.push_str(&json_fragment);
                    }
                }
                Piece::CallEnd { .. } => collected.call_ended(),
            }
        }
    }

    fn whole(mut self: Box<Self>, end: &End) -> Value {
        let object = match self.kind {
            Kind::Chat => "chat.completion",
            Kind::Text => "text_completion",
        };
        let mut answer = self.frame(object, json!([]));
        if let (Kind::Chat, Some(ids)) = (self.kind, &self.prompt_ids) {
            answer.insert("prompt_token_ids".to_owned(), json!(&ids[..]));
        }
        answer.insert("usage".to_owned(), usage(end));
        truncated(&mut answer, end);
        let choices = (0..self.choices.len()).map(|index| self.choice(index)).collect();
        answer.insert("choices".to_owned(), choices);
        Value::Object(answer)
    }

    fn opening(&mut self) -> Vec<Value> {
        if self.kind == Kind::Text {
            return Vec::new();
        }
        let delta = json!({"role": "assistant", "content": ""});
        let role = |index| self.chunk(index, &delta, None, (&[], Value::Null));
        let mut chunks: Vec<_> = (0..self.choices.len()).map(role).collect();
        if let (Some(ids), Some(first)) = (&self.prompt_ids, chunks.first_mut()) {
            first["prompt_token_ids"] = json!(&ids[..]);
        }
        chunks
    }

    fn chunks(&mut self, part: &Part) -> Vec<Value> {
        let index = part.choice;
        let mut tokens = &part.tokens[..];
        let mut logprobs = self.likelihoods(index, &part.logprobs);
        let mut chunks = Vec::with_capacity(part.pieces.len());
        for piece in &part.pieces {
            if let Some(delta) = self.delta(index, piece) {
                chunks.push(self.chunk(index, &delta, None, (tokens, logprobs.take())));
                tokens = &[];
            }
        }
        // Tokens whose text is held back still go out where the client asked for them.
        let asked = self.prompt_ids.is_some() || self.logprobs;
        if chunks.is_empty() && asked && !tokens.is_empty() {
            chunks.push(self.chunk(index, &self.text_delta(""), None, (tokens, logprobs)));
        }
        if part.finished.is_some() {
            self.choices[index].finished = part.finished;
            let last = match self.kind {
                Kind::Chat => json!({}),
                Kind::Text => self.text_delta(""),
            };
            chunks.push(self.chunk(index, &last, self.choices[index].finish(), (&[], Value::Null)));
        }
        chunks
    }

    fn closing(&mut self, end: &End) -> Vec<Value> {
        if !self.include_usage {
            return Vec::new();
        }
        let mut chunk = self.frame(self.chunk_object(), json!([]));
        chunk.insert("usage".to_owned(), usage(end));
        truncated(&mut chunk, end);
        vec![Value::Object(chunk)]
    }
}

impl Completion {
    fn choice(&mut self, index: usize) -> Value {
        let likelihoods = std::mem::take(&mut self.choices[index].logprobs);
        let logprobs = self.likelihoods(index, &likelihoods);
        let collected = &self.choices[index];
        let mut choice = match self.kind {
            Kind::Chat => json!({"index": index, "message": message(&self.id, index, collected)}),
            Kind::Text => json!({"index": index, "text": collected.text}),
        };
        choice["logprobs"] = logprobs;
        choice["finish_reason"] = collected.finish().into();
        if let Some(ids) = &self.prompt_ids {
            choice["token_ids"] = json!(collected.tokens);
            if self.kind == Kind::Text {
                choice["prompt_token_ids"] = json!(&ids[..]);
            }
        }
        choice
    }

    /// What a piece adds to its choice; the end of a call says nothing.
    fn delta(&mut self, choice: usize, piece: &Piece) -> Option<Value> {
        match piece {
            Piece::Text(text) => Some(self.text_delta(text)),
            // As DeepSeek's API and vLLM name it.
            Piece::Thinking(thoughts) => Some(json!({"reasoning_content": thoughts})),
            Piece::CallStart { index, name } => {
                let (empty, arguments) = (String::new(), String::new());
                self.choices[choice].calls.push(ToolCall { name: empty, arguments, whole: false });
                Some(json!({"tool_calls": [{
                    "index": index, "id": call_id(&self.id, choice, *index), "type": "function",
                    "function": {"name": name, "arguments": ""},
                }]}))
            }
            Piece::CallArguments { index, json_fragment } => {
                Some(json!({"tool_calls": [{"index": index, "function": {"arguments": json_fragment}}]}))
            }
            Piece::CallEnd { .. } => {
                self.choices[choice].call_ended();
                None
            }
        }
    }

    /// Null where none were asked for, or none are there.
    fn likelihoods(&mut self, choice: usize, list: &[Likelihood]) -> Value {
        match self.kind {
            _ if !self.logprobs || list.is_empty() => Value::Null,
            Kind::Chat => logprobs::chat(list),
            Kind::Text => logprobs::text(list, &mut self.choices[choice].offset),
        }
    }

    fn text_delta(&self, text: &str) -> Value {
        match self.kind {
            Kind::Chat => json!({"content": text}),
            Kind::Text => json!({"text": text}),
        }
    }

    /// A chunk of one choice, with the tokens behind it and how likely they were.
    fn chunk(&self, index: usize, delta: &Value, finish: Option<&str>, behind: (&[u32], Value)) -> Value {
        let (tokens, logprobs) = behind;
        let mut choice = match self.kind {
            Kind::Chat => json!({"index": index, "delta": delta}),
            Kind::Text => json!({"index": index, "text": delta["text"]}),
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

impl Collected {
    fn call_ended(&mut self) {
        if let Some(call) = self.calls.last_mut() {
            call.whole = true;
        }
    }

    /// Clients parse the arguments where they are told `tool_calls`: a call that was cut off is not one.
    fn finish(&self) -> Option<&'static str> {
        let called = !self.calls.is_empty() && self.calls.iter().all(|call| call.whole);
        if called { Some("tool_calls") } else { self.finished }
    }
}

fn message(id: &str, choice: usize, collected: &Collected) -> Value {
    let mut message = said(id, choice, collected);
    if !collected.thoughts.is_empty() {
        message["reasoning_content"] = collected.thoughts.as_str().into();
    }
    message
}

fn said(id: &str, choice: usize, collected: &Collected) -> Value {
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
            json!({"id": call_id(id, choice, index), "type": "function", "function": function})
        })
        .collect();
    let content = if text.trim().is_empty() { Value::Null } else { text.as_str().into() };
    json!({"role": "assistant", "content": content, "refusal": null, "tool_calls": calls})
}

/// Ids are unique across answers, as clients keep them in one conversation.
fn call_id(answer: &str, choice: usize, index: usize) -> String {
    let answer = answer.trim_start_matches("chatcmpl-");
    if choice == 0 { format!("call_{answer}_{index}") } else { format!("call_{answer}_{choice}_{index}") }
}

/// As llama.cpp's server says that tokens were dropped on the way.
fn truncated(answer: &mut Map<String, Value>, end: &End) {
    if end.dropped > 0 {
        answer.insert("truncated".to_owned(), true.into());
    }
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
