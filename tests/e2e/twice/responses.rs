//! Responses: the SDK of OpenAI and the AI SDK's provider for it; langchain-openai asks there as well.

use plimsoll_tests::mock::Answer;
use serde_json::{Value, json};

use super::{Client, EVENTS, Server, ai_sdk_tells, alike, named, tells};

fn usage() -> Value {
    json!({
        "input_tokens": 70, "input_tokens_details": {"cached_tokens": 64, "cache_write_tokens": 0}, "output_tokens": 9,
        "output_tokens_details": {"reasoning_tokens": 2}, "total_tokens": 79,
    })
}

fn response(status: &str, output: &Value, usage: &Value) -> Value {
    json!({
        "id": "resp_1", "object": "response", "created_at": 1_700_000_000, "status": status, "model": "gpt-5", "output": output,
        "parallel_tool_calls": true, "tool_choice": "auto", "tools": [], "usage": usage, "error": null,
        "incomplete_details": null, "instructions": null, "metadata": {}, "temperature": 1.0, "top_p": 1.0, "new_field": {"a": 1.50},
    })
}

fn message(text: &str, logprobs: &Value) -> Value {
    json!({
        "id": "msg_1", "type": "message", "status": "completed", "role": "assistant",
        "content": [{"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}],
    })
}

fn likely() -> Value {
    let one =
        |token: &str, logprob: f64| json!({"token": token, "logprob": logprob, "bytes": token.as_bytes()});
    let mut first = one("Hé", -0.1);
    first["top_logprobs"] = json!([one("Hé", -0.1), one("Hm", -2.5)]);
    json!([first])
}

fn call(n: u32, arguments: &str, status: &str) -> Value {
    json!({"id": format!("fc_{n}"), "type": "function_call", "status": status, "call_id": format!("call_{n}"), "name": "get_order_status", "arguments": arguments})
}

fn whole(output: &Value) -> Value {
    response("completed", output, &usage())
}

fn text(text: &str) -> Value {
    whole(&json!([message(text, &likely())]))
}

/// Two calls at once, behind thoughts.
pub(super) fn calls() -> Value {
    let thoughts = json!({"id": "rs_2", "type": "reasoning", "summary": [], "encrypted_content": "gAAAAC=="});
    whole(&json!([
        thoughts,
        call(1, "{\"order_id\": \"1\"}", "completed"),
        call(2, "{\"order_id\": \"2\"}", "completed")
    ]))
}

fn events(mut events: Vec<Value>) -> String {
    for (number, event) in events.iter_mut().enumerate() {
        event["sequence_number"] = number.into();
    }
    named(&events)
}

fn created() -> Value {
    json!({"type": "response.created", "response": response("in_progress", &json!([]), &Value::Null)})
}

fn delta(piece: &str) -> Value {
    json!({"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "item_id": "msg_1", "delta": piece, "logprobs": []})
}

/// The events of a text, one of a kind that nobody knows among them.
fn spoken() -> Vec<Value> {
    let empty = json!({"id": "msg_1", "type": "message", "status": "in_progress", "role": "assistant", "content": []});
    let part = |text: &str| json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []});
    vec![
        created(),
        json!({"type": "response.output_item.added", "output_index": 0, "item": empty}),
        json!({"type": "response.content_part.added", "output_index": 0, "content_index": 0, "item_id": "msg_1", "part": part("")}),
        delta("Hé "),
        json!({"type": "response.new_kind", "a": 1.50}),
        delta("😀"),
        json!({"type": "response.output_text.done", "output_index": 0, "content_index": 0, "item_id": "msg_1", "text": "Hé 😀", "logprobs": []}),
        json!({"type": "response.content_part.done", "output_index": 0, "content_index": 0, "item_id": "msg_1", "part": part("Hé 😀")}),
        json!({"type": "response.output_item.done", "output_index": 0, "item": message("Hé 😀", &json!([]))}),
        json!({"type": "response.completed", "response": text("Hé 😀")}),
    ]
}

/// The events of two calls.
fn called() -> Vec<Value> {
    let mut list = vec![created()];
    for n in 1..=2 {
        let (place, arguments) = (n - 1, format!("{{\"order_id\": \"{n}\"}}"));
        let (id, done) = (format!("fc_{n}"), call(n, &arguments, "completed"));
        list.push(json!({"type": "response.output_item.added", "output_index": place, "item": call(n, "", "in_progress")}));
        for piece in [&arguments[..5], &arguments[5..]] {
            list.push(json!({"type": "response.function_call_arguments.delta", "output_index": place, "item_id": id, "delta": piece}));
        }
        list.push(json!({"type": "response.function_call_arguments.done", "output_index": place, "item_id": id, "name": "get_order_status", "arguments": arguments}));
        list.push(json!({"type": "response.output_item.done", "output_index": place, "item": done}));
    }
    list.push(json!({"type": "response.completed", "response": calls()}));
    list
}

/// Two calls, streamed.
pub(super) fn stream() -> Answer {
    Answer::text(EVENTS, &events(called()))
}

/// A failure in the midst of a stream.
fn torn() -> Answer {
    let mut failed = response("failed", &json!([]), &Value::Null);
    failed["error"] = json!({"code": "server_error", "message": "It broke"});
    let mut list: Vec<Value> = spoken().into_iter().take(4).collect();
    list.push(json!({"type": "response.failed", "response": failed}));
    Answer::text(EVENTS, &events(list))
}

impl Server {
    fn response_errors(self) -> Self {
        let error = |message: &str, kind: &str, code: &str| json!({"error": {"message": message, "type": kind, "param": "input", "code": code}});
        let slow = error("Slow down", "rate_limit_error", "rate_limit_exceeded");
        self.error(
            400,
            &error("Too long", "invalid_request_error", "context_length_exceeded"),
            &[("x-request-id", "req_4")],
        )
        .error(429, &slow, &[("retry-after", "7"), ("x-ratelimit-remaining-requests", "0")])
        .error(500, &error("It broke", "server_error", "server_error"), &[("x-should-retry", "false")])
        .error(429, &slow, &[("retry-after-ms", "1")])
        .json(&text("Again"))
    }

    fn left_response(self) -> Self {
        self.open(EVENTS, &events(spoken().into_iter().take(4).collect()))
    }
}

fn for_openai() -> Server {
    let compacted = json!({
        "id": "resp_2", "object": "response.compaction", "created_at": 1, "usage": usage(),
        "output": [message("q", &json!([])), {"id": "cmp_1", "type": "compaction", "encrypted_content": "gAAAAD=="}],
    });
    Server::default()
        .json(&calls())
        .json(&text("Hé 😀"))
        .json(&text("{\"state\": \"open\"}"))
        .then(Answer::text(EVENTS, &events(spoken())))
        .then(stream())
        .json(&text("More"))
        .json(&json!({"object": "response.input_tokens", "input_tokens": 11}))
        .json(&compacted)
        .json(&text("Hé 😀"))
        .response_errors()
        .then(torn())
        .left_response()
        .open("application/json", "")
}

#[test]
fn openai_sees_and_says_the_same() {
    let client = Client::of("responses_differential.py");
    let Some(printed) = alike(&client, "openai", for_openai) else { return };
    assert_eq!(printed.len(), 16);
    tells(
        &printed,
        &[
            r#""token": "H\u00e9""#,
            r#""parsed": {"state": "open"}"#,
            "response.new_kind",
            r#""encrypted_content": "gAAAAD==""#,
            r#"["BadRequestError", 400, "context_length_exceeded""#,
            r#"["RateLimitError", 429"#,
            r#"["InternalServerError", 500"#,
            "response.failed",
        ],
    );
    assert!(printed[12].contains("Again"), "{}", printed[12]);
}

fn for_the_ai_sdk() -> Server {
    Server::default()
        .json(&text("Hé 😀"))
        .json(&calls())
        .json(&text("{\"state\": \"open\"}"))
        .then(Answer::text(EVENTS, &events(spoken())))
        .then(stream())
        .response_errors()
        .then(torn())
        .left_response()
}

#[test]
fn the_ai_sdk_sees_and_says_the_same() {
    let client = Client { script: "node/differential.mjs", arguments: &["--provider", "responses"] };
    let Some(printed) = alike(&client, "openai", for_the_ai_sdk) else { return };
    ai_sdk_tells(&printed);
}
