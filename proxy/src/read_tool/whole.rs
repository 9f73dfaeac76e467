//! Answers in one piece.

use http::Response;
use http::header::CONTENT_LENGTH;
use http_body_util::BodyExt;
use serde_json::Value;
use tower::{BoxError, ServiceExt};

use super::calls::Call;
use super::rounds::Rounds;
use super::{Rest, usage};
use crate::body::{Body, full};

/// Stands between the texts of two rounds.
pub(super) const BETWEEN: &str = "\n\n";

/// The answer of the last round, with the texts and the usage of those before it.
pub(super) async fn answer<S: Rest>(
    inner: S,
    mut rounds: Box<Rounds>,
    first: Response<Body>,
) -> Result<Response<Body>, BoxError> {
    let (mut head, body) = first.into_parts();
    let mut bytes = body.collect().await?.to_bytes();
    let mut former = Former::default();
    loop {
        let Ok(mut answer) = serde_json::from_slice::<Value>(&bytes) else {
            return Ok(Response::from_parts(head, full(bytes)));
        };
        let message = &answer["choices"][0]["message"];
        let calls: Vec<Call> = message["tool_calls"].as_array().into_iter().flatten().map(Call::of).collect();
        let reads: Vec<Call> = calls.iter().filter(|call| call.is_read()).cloned().collect();
        let only_reads = !reads.is_empty() && reads.len() == calls.len();
        if !only_reads || !rounds.may_go_on() {
            let changed = former.join(&mut answer) | drop_reads(&mut answer);
            head.headers.remove(CONTENT_LENGTH);
            let body = if changed { full(answer.to_string()) } else { full(bytes) };
            return Ok(Response::from_parts(head, body));
        }
        let message = message.clone();
        former.remember(&answer);
        rounds.append(&message, &reads).await?;
        let next = inner.clone().oneshot(rounds.request()).await?;
        let (next_head, body) = next.into_parts();
        bytes = body.collect().await?.to_bytes();
        if !next_head.status.is_success() {
            return Ok(Response::from_parts(next_head, full(bytes)));
        }
    }
}

/// What the rounds so far said and used.
#[derive(Default)]
struct Former {
    text: String,
    usage: Value,
}

impl Former {
    fn remember(&mut self, answer: &Value) {
        let text = answer["choices"][0]["message"]["content"].as_str().unwrap_or_default();
        self.text = joined(&self.text, text);
        usage::add(&mut self.usage, &answer["usage"]);
    }

    /// Adds what was before to the last answer; says whether there was something.
    fn join(self, answer: &mut Value) -> bool {
        if self.usage.is_null() && self.text.is_empty() {
            return false;
        }
        if let Some(Value::Object(message)) = answer.pointer_mut("/choices/0/message") {
            let text = message.get("content").and_then(Value::as_str).unwrap_or_default();
            let text = joined(&self.text, text);
            if !text.is_empty() {
                message.insert("content".to_owned(), text.into());
            }
        }
        let mut sum = self.usage;
        usage::add(&mut sum, &answer["usage"]);
        if let Some(answer) = answer.as_object_mut() {
            answer.insert("usage".to_owned(), sum);
        }
        true
    }
}

fn joined(one: &str, other: &str) -> String {
    let between = if one.is_empty() || other.is_empty() { "" } else { BETWEEN };
    [one, between, other].concat()
}

/// Takes reads out of an answer; where no other calls are left it ends as a text does.
fn drop_reads(answer: &mut Value) -> bool {
    let Some(Value::Object(choice)) = answer.pointer_mut("/choices/0") else { return false };
    let Some(Value::Object(message)) = choice.get_mut("message") else { return false };
    let Some(Value::Array(calls)) = message.get_mut("tool_calls") else { return false };
    let before = calls.len();
    calls.retain(|call| !Call::of(call).is_read());
    if calls.len() == before {
        return false;
    }
    if calls.is_empty() {
        message.shift_remove("tool_calls");
        if message.get("content").is_none_or(Value::is_null) {
            message.insert("content".to_owned(), "".into());
        }
        choice.insert("finish_reason".to_owned(), "stop".into());
    }
    true
}
