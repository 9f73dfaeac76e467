//! The answer of the embedded engine: one response object, or the events in which it grows.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use super::object::Object;
use super::output::Output;
use crate::admit::Run;
use crate::forward::{End, Part};
use crate::respond::Fault;
use crate::stream::{Framing, Reply};

/// Members of the request that the answer repeats, and what it says where they are absent.
const REPEATED: [(&str, &str); 15] = [
    ("instructions", "null"),
    ("max_output_tokens", "null"),
    ("max_tool_calls", "null"),
    ("metadata", "{}"),
    ("parallel_tool_calls", "true"),
    ("prompt_cache_key", "null"),
    ("reasoning", r#"{"effort":null,"summary":null}"#),
    ("safety_identifier", "null"),
    ("service_tier", "\"default\""),
    ("text", r#"{"format":{"type":"text"}}"#),
    ("tool_choice", "\"auto\""),
    ("tools", "[]"),
    ("top_logprobs", "0"),
    ("truncation", "\"disabled\""),
    ("user", "null"),
];

/// One response in the making.
pub(super) struct Response {
    /// Its members but for what is known only at the end.
    head: Map<String, Value>,
    output: Output,
    /// Why it ended.
    finished: Option<&'static str>,
    /// Number of the next event.
    next: u64,
}

impl Response {
    /// The response to a request that is about to run.
    pub(super) fn new(body: &str, run: &Run) -> Self {
        let id = uuid::Uuid::now_v7().simple().to_string();
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let sampling = &run.options.sampling;
        let mut head = repeated(body);
        let mut add = |name: &str, value: Value| head.insert(name.to_owned(), value);
        add("id", format!("resp_{id}").into());
        add("object", "response".into());
        add("created_at", created.into());
        add("model", run.engine.name.as_str().into());
        add("temperature", number(sampling.temperature));
        add("top_p", number(sampling.top_p));
        // Nothing is kept: neither the answer nor what went before it.
        add("background", false.into());
        add("store", false.into());
        add("previous_response_id", Value::Null);
        Self { head, output: Output::new(&id), finished: None, next: 0 }
    }

    /// The response object.
    fn json(&self, status: &str, error: Value, usage: Value) -> Value {
        let mut response = self.head.clone();
        let cut = self.finished == Some("length") && status == "incomplete";
        let details = if cut { json!({"reason": "max_output_tokens"}) } else { Value::Null };
        response.insert("status".to_owned(), status.into());
        response.insert("error".to_owned(), error);
        response.insert("incomplete_details".to_owned(), details);
        response.insert("output".to_owned(), self.output.json().into());
        response.insert("usage".to_owned(), usage);
        Value::Object(response)
    }

    fn status(&self) -> &'static str {
        if self.finished == Some("length") { "incomplete" } else { "completed" }
    }

    /// An event of the whole response.
    fn event(&mut self, status: &str, kind: &str, usage: Value) -> Value {
        let response = self.json(status, Value::Null, usage);
        self.numbered(json!({"type": format!("response.{kind}"), "response": response}))
    }

    fn numbered(&mut self, mut event: Value) -> Value {
        event["sequence_number"] = self.next.into();
        self.next += 1;
        event
    }
}

impl Reply for Response {
    fn framing(&self) -> Framing {
        Framing::Named
    }

    fn opening(&mut self) -> Vec<Value> {
        vec![self.event("in_progress", "created", Value::Null)]
    }

    fn started(&mut self, _prompt: u64, _cached: u64) -> Vec<Value> {
        vec![self.event("in_progress", "in_progress", Value::Null)]
    }

    fn chunks(&mut self, part: &Part) -> Vec<Value> {
        self.finished = self.finished.or(part.finished);
        let events = self.output.add(part);
        events.into_iter().map(|event| self.numbered(event)).collect()
    }

    fn closing(&mut self, end: &End) -> Vec<Value> {
        let status = self.status();
        vec![self.event(status, status, usage(end))]
    }

    fn failed(&mut self, fault: &Fault) -> Value {
        let error = json!({"code": "server_error", "message": fault.message});
        let response = self.json("failed", error, Value::Null);
        self.numbered(json!({"type": "response.failed", "response": response}))
    }

    fn collect(&mut self, part: Part) {
        self.finished = self.finished.or(part.finished);
        self.output.add(&part);
    }

    fn whole(self: Box<Self>, end: &End) -> Value {
        self.json(self.status(), Value::Null, usage(end))
    }
}

fn usage(end: &End) -> Value {
    json!({
        "input_tokens": end.prompt,
        // What is computed stays in the cache.
        "input_tokens_details": {"cached_tokens": end.cached, "cache_write_tokens": end.prompt - end.cached},
        "output_tokens": end.completion,
        "output_tokens_details": {"reasoning_tokens": end.reasoning.unwrap_or(0)},
        "total_tokens": end.prompt + end.completion,
    })
}

fn repeated(body: &str) -> Map<String, Value> {
    let object = Object::of(body);
    let given = |name: &str| serde_json::from_str(object.as_ref()?.given(name)?).ok();
    let one = |(name, absent): &(&str, &str)| {
        let value = given(name).or_else(|| serde_json::from_str(absent).ok());
        ((*name).to_owned(), value.unwrap_or(Value::Null))
    };
    let mut members: Map<String, Value> = REPEATED.iter().map(one).collect();
    if let Some(text) = members.get_mut("text").and_then(Value::as_object_mut) {
        text.entry("format").or_insert_with(|| json!({"type": "text"}));
    }
    members
}

/// A setting as people write it: 0.7, not 0.699999988079071.
fn number(value: f32) -> Value {
    value.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}
