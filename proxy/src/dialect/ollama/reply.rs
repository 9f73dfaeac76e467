//! Answers of the embedded engine in Ollama's form: an object a line, or one object.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use plimsoll_engine::text::{Piece, Text};
use serde_json::{Map, Value, json};

use super::request::Endpoint;
use crate::forward::{End, Part};
use crate::inquiry;
use crate::respond::Fault;
use crate::stream::{Framing, Likelihood, Reply, likelihoods};

/// One answer in the making.
pub(super) struct Answer {
    /// The endpoint.
    pub(super) endpoint: Endpoint,
    /// The model as the caller spells it.
    pub(super) model: String,
    /// When the request came.
    pub(super) asked: Instant,
    /// Id of the request, of which ids of calls are made.
    pub(super) id: String,
    /// Whether log probabilities were asked for.
    pub(super) logprobs: bool,
    /// Where the answer gives its tokens back as `context`.
    pub(super) context: Option<Context>,
    /// What came so far.
    pub(super) said: Said,
}

/// What `context` is made of.
pub(super) struct Context {
    /// Tokens of the prompt.
    pub(super) prompt: Arc<[u32]>,
    /// Encodes an answer that a stop string ended: its tokens hold more than was said.
    pub(super) text: Arc<Text>,
}

/// An answer gathered from its parts.
#[derive(Debug, Default)]
pub(super) struct Said {
    text: String,
    thought: String,
    calls: Vec<Value>,
    tokens: Vec<u32>,
    logprobs: Vec<Likelihood>,
    /// A call whose arguments are still written: number, name, arguments.
    call: Option<(usize, String, String)>,
}

/// What goes into one object.
#[derive(Default)]
struct Delta {
    text: String,
    thought: String,
    calls: Vec<Value>,
}

impl Delta {
    fn is_empty(&self) -> bool {
        self.text.is_empty() && self.thought.is_empty() && self.calls.is_empty()
    }
}

impl Reply for Answer {
    fn framing(&self) -> Framing {
        Framing::Lines
    }

    fn collect(&mut self, part: Part) {
        let delta = self.delta(&part.pieces);
        self.said.text.push_str(&delta.text);
        self.said.thought.push_str(&delta.thought);
        self.said.calls.extend(delta.calls);
        self.said.tokens.extend(part.tokens);
        self.said.logprobs.extend(part.logprobs);
    }

    fn chunks(&mut self, part: &Part) -> Vec<Value> {
        let delta = self.delta(&part.pieces);
        self.said.tokens.extend(&part.tokens);
        self.said.text.push_str(&delta.text);
        if delta.is_empty() && (!self.logprobs || part.logprobs.is_empty()) {
            return Vec::new();
        }
        let mut object = self.object(&delta);
        if self.logprobs && !part.logprobs.is_empty() {
            object.insert("logprobs".to_owned(), likelihoods(&part.logprobs).into());
        }
        object.insert("done".to_owned(), false.into());
        vec![Value::Object(object)]
    }

    fn closing(&mut self, end: &End) -> Vec<Value> {
        let rest = self.rest();
        vec![self.done(&rest, end)]
    }

    fn failed(&mut self, fault: &Fault) -> Value {
        super::error(fault)
    }

    fn whole(mut self: Box<Self>, end: &End) -> Value {
        let rest = self.rest();
        let delta = Delta {
            text: self.said.text.clone() + &rest.text,
            thought: std::mem::take(&mut self.said.thought) + &rest.thought,
            calls: std::mem::take(&mut self.said.calls),
        };
        let mut whole = self.done(&delta, end);
        if self.logprobs {
            whole["logprobs"] = likelihoods(&self.said.logprobs).into();
        }
        whole
    }
}

impl Answer {
    fn delta(&mut self, pieces: &[Piece]) -> Delta {
        let mut delta = Delta::default();
        for piece in pieces {
            match piece {
                Piece::Text(text) => delta.text.push_str(text),
                Piece::Thinking(thoughts) => delta.thought.push_str(thoughts),
                Piece::CallStart { index, name } => {
                    self.said.call = Some((*index, name.clone(), String::new()));
                }
                Piece::CallArguments { json_fragment, .. } => {
                    if let Some((_, _, arguments)) = &mut self.said.call {
                        arguments.push_str(json_fragment);
                    }
                }
                Piece::CallEnd { .. } => delta.calls.extend(self.call()),
            }
        }
        delta
    }

    /// The call that is complete now. Arguments are an object here.
    fn call(&mut self) -> Option<Value> {
        let (index, name, arguments) = self.said.call.take()?;
        let arguments: Value = match serde_json::from_str(&arguments) {
            Ok(Value::String(text)) => serde_json::from_str(&text).unwrap_or(Value::String(text)),
            Ok(value) => value,
            Err(_) => arguments.into(),
        };
        let id = format!("call_{}_{index}", self.id);
        Some(json!({"id": id, "function": {"index": index, "name": name, "arguments": arguments}}))
    }

    /// What was held back; a call that was cut off is none, and its text is what the model wrote.
    fn rest(&mut self) -> Delta {
        let mut delta = Delta::default();
        if let Some((_, name, arguments)) = self.said.call.take() {
            delta.text.push_str(&format!("{{\"name\": {}, \"arguments\": {arguments}", Value::from(name)));
        }
        delta
    }

    fn object(&self, delta: &Delta) -> Map<String, Value> {
        let mut object = Map::new();
        object.insert("model".to_owned(), self.model.clone().into());
        object.insert("created_at".to_owned(), now().into());
        match self.endpoint {
            Endpoint::Chat => {
                let mut message = json!({"role": "assistant", "content": delta.text});
                if !delta.thought.is_empty() {
                    message["thinking"] = delta.thought.clone().into();
                }
                if !delta.calls.is_empty() {
                    message["tool_calls"] = delta.calls.clone().into();
                }
                object.insert("message".to_owned(), message);
            }
            Endpoint::Generate => {
                object.insert("response".to_owned(), delta.text.clone().into());
                if !delta.thought.is_empty() {
                    object.insert("thinking".to_owned(), delta.thought.clone().into());
                }
            }
        }
        object
    }

    /// Tokens of prompt and answer, from which a later request goes on.
    fn tokens(&self, context: &Context, stopped: bool) -> Vec<u32> {
        let said =
            stopped.then(|| context.text.encode(&self.said.text).ok()).flatten().map(|said| said.ids());
        let said = said.as_deref().unwrap_or(&self.said.tokens);
        context.prompt.iter().chain(said).copied().collect()
    }

    /// With the figures that stand at the end.
    fn done(&self, delta: &Delta, end: &End) -> Value {
        let mut object = self.object(delta);
        object.insert("done".to_owned(), true.into());
        object.insert("done_reason".to_owned(), end.finish.into());
        if let Some(context) = &self.context {
            object.insert("context".to_owned(), json!(self.tokens(context, end.stop.is_some())));
        }
        let times = [
            ("total_duration", self.asked.elapsed()),
            ("load_duration", end.times.queued),
            ("prompt_eval_duration", end.times.prefill),
            ("eval_duration", end.times.decode),
        ];
        object.extend(times.map(|(name, time)| (name.to_owned(), nanos(time).into())));
        object.insert("prompt_eval_count".to_owned(), end.prompt.into());
        object.insert("eval_count".to_owned(), end.completion.into());
        if end.dropped > 0 {
            // As the server below Ollama says it.
            object.insert("truncated".to_owned(), true.into());
        }
        Value::Object(object)
    }
}

/// The answer where nothing was asked but that the model be there; where it is to go, the reason is `unload`.
pub(super) fn loaded(endpoint: Endpoint, model: &str) -> Value {
    let mut answer = json!({"model": model, "created_at": now(), "done": true, "done_reason": "load"});
    match endpoint {
        Endpoint::Chat => answer["message"] = json!({"role": "assistant", "content": ""}),
        Endpoint::Generate => answer["response"] = "".into(),
    }
    answer
}

fn now() -> String {
    inquiry::time(SystemTime::now())
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "reply_tests.rs"]
mod tests;
