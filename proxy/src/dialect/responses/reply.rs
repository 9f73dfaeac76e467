//! The answer of the embedded engine: one response object, or the events in which it grows.

use std::time::{SystemTime, UNIX_EPOCH};

use plimsoll_engine::Sampling;
use serde_json::{Map, Value, json};

use super::output::Output;
use crate::dialect::raw::Object;
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
    pub(super) fn new(body: &str, model: &str, sampling: &Sampling) -> Self {
        let id = uuid::Uuid::now_v7().simple().to_string();
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut head = repeated(body);
        let mut add = |name: &str, value: Value| head.insert(name.to_owned(), value);
        add("id", format!("resp_{id}").into());
        add("object", "response".into());
        add("created_at", created.into());
        add("model", model.into());
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

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use plimsoll_engine::text::Piece;

    use super::*;
    use crate::forward::Times;

    const BODY: &str = r#" {"model":"m","metadata":{"a":"b"},"text":{"verbosity":"low"},"tools":[{"type":"function","name":"f"}]} "#;

    fn response() -> Box<Response> {
        let sampling = Sampling { temperature: 0.7, ..Sampling::default() };
        Box::new(Response::new(BODY, "demo", &sampling))
    }

    fn said(finished: &'static str) -> [Part; 2] {
        let text = Part { pieces: vec![Piece::Text("hi".to_owned())], ..Part::default() };
        [text, Part { finished: Some(finished), ..Part::default() }]
    }

    fn end(finish: &'static str) -> End {
        End {
            finish,
            stop: None,
            prompt: 10,
            cached: 4,
            completion: 2,
            dropped: 0,
            reasoning: Some(1),
            times: Times::default(),
        }
    }

    fn whole(finished: &'static str) -> Value {
        let mut response = response();
        said(finished).into_iter().for_each(|part| response.collect(part));
        response.whole(&end(finished))
    }

    #[test]
    fn a_whole_response_repeats_the_request_and_counts() {
        let response = whole("stop");
        assert_eq!((&response["status"], &response["error"]), (&json!("completed"), &Value::Null));
        assert_eq!((&response["model"], &response["temperature"]), (&json!("demo"), &json!(0.7)));
        assert_eq!((&response["metadata"]["a"], &response["tools"][0]["name"]), (&json!("b"), &json!("f")));
        assert_eq!(response["text"], json!({"verbosity": "low", "format": {"type": "text"}}));
        assert_eq!(
            response["usage"],
            json!({
                "input_tokens": 10, "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 6},
                "output_tokens": 2, "output_tokens_details": {"reasoning_tokens": 1}, "total_tokens": 12,
            })
        );
        let cut = whole("length");
        assert_eq!(cut["incomplete_details"], json!({"reason": "max_output_tokens"}));
        assert_eq!(
            (&cut["status"], &cut["output"][0]["status"]),
            (&json!("incomplete"), &json!("incomplete"))
        );
    }

    #[test]
    fn events_are_numbered_and_end_with_what_is_answered_whole() {
        for finished in ["stop", "length"] {
            let mut response = response();
            let mut events = response.opening();
            events.extend(response.started(10, 4));
            said(finished).iter().for_each(|part| events.extend(response.chunks(part)));
            events.extend(response.closing(&end(finished)));
            let numbers: Vec<_> =
                events.iter().filter_map(|event| event["sequence_number"].as_u64()).collect();
            assert_eq!(numbers, (0..events.len() as u64).collect::<Vec<_>>());
            let mut last = events.pop().unwrap()["response"].clone();
            assert_eq!(events[0]["response"]["output"], json!([]));
            let mut wanted = whole(finished);
            let own = last["id"].as_str().unwrap().trim_start_matches("resp_").to_owned();
            assert_eq!(last["output"][0]["id"], format!("msg_{own}_0"));
            for response in [&mut last, &mut wanted] {
                response["id"] = Value::Null;
                response["created_at"] = Value::Null;
                response["output"][0]["id"] = Value::Null;
            }
            assert_eq!(last, wanted);
        }
    }

    #[test]
    fn a_failure_is_the_last_event() {
        let mut response = response();
        response.opening();
        response.chunks(&said("stop")[0]);
        let fault = Fault {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            code: "engine_failed",
            param: None,
            message: "the engine failed".to_owned(),
            retry: None,
            allow: None,
            overflow: None,
        };
        let event = response.failed(&fault);
        assert_eq!((&event["type"], &event["sequence_number"]), (&json!("response.failed"), &json!(4)));
        assert_eq!(
            event["response"]["error"],
            json!({"code": "server_error", "message": "the engine failed"})
        );
        assert_eq!(
            (&event["response"]["status"], &event["response"]["usage"]),
            (&json!("failed"), &Value::Null)
        );
        assert_eq!(event["response"]["output"][0]["type"], "message");
    }
}
