//! Messages: the SDK of Anthropic and the AI SDK's provider for it.

use plimsoll_tests::mock::Answer;
use serde_json::{Value, json};

use super::{Client, EVENTS, Server, ai_sdk_tells, alike, named, tells};

fn usage(output: u32) -> Value {
    json!({
        "input_tokens": 12, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 100, "output_tokens": output,
        "service_tier": "standard",
    })
}

fn message(content: &Value, stop: &Value) -> Value {
    json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5", "content": content,
        "stop_reason": stop, "stop_sequence": null, "new_member": {"a": 1.50}, "usage": usage(4),
    })
}

fn text(text: &str) -> Value {
    message(&json!([{"type": "text", "text": text, "citations": null}]), &json!("end_turn"))
}

/// Thoughts, then two calls at once.
fn calls(name: &str, inputs: &[Value; 2]) -> Value {
    let call =
        |n: usize| json!({"type": "tool_use", "id": format!("toolu_{n}"), "name": name, "input": inputs[n]});
    let thoughts = json!({"type": "thinking", "thinking": "Look again.", "signature": "c2ln"});
    message(&json!([thoughts, call(0), call(1)]), &json!("tool_use"))
}

fn start() -> Value {
    json!({"type": "message_start", "message": message(&json!([]), &Value::Null)})
}

fn block(index: u32, block: &Value, deltas: &[Value]) -> Vec<Value> {
    let mut events = vec![json!({"type": "content_block_start", "index": index, "content_block": block})];
    events.extend(
        deltas.iter().map(|delta| json!({"type": "content_block_delta", "index": index, "delta": delta})),
    );
    events.push(json!({"type": "content_block_stop", "index": index}));
    events
}

fn end(stop: &str) -> [Value; 2] {
    [
        json!({"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": null}, "usage": {"output_tokens": 30}}),
        json!({"type": "message_stop"}),
    ]
}

fn spoken() -> Vec<Value> {
    let deltas = ["Hé ", "😀"].map(|piece| json!({"type": "text_delta", "text": piece}));
    let mut events = vec![start(), json!({"type": "ping"})];
    events.extend(block(0, &json!({"type": "text", "text": ""}), &deltas));
    events.extend(end("end_turn"));
    events
}

/// Thoughts with their signature, then two calls, their input in pieces.
fn called(name: &str, member: &str) -> Vec<Value> {
    let thoughts = [
        json!({"type": "thinking_delta", "thinking": "Look again."}),
        json!({"type": "signature_delta", "signature": "c2ln"}),
    ];
    let mut events = vec![start()];
    events.extend(block(0, &json!({"type": "thinking", "thinking": "", "signature": ""}), &thoughts));
    events.push(json!({"type": "ping"}));
    for n in 1..=2 {
        let tool = json!({"type": "tool_use", "id": format!("toolu_{n}"), "name": name, "input": {}});
        let pieces = [format!("{{\"{member}\":"), format!("\"{n}\"}}")];
        let deltas = pieces.map(|piece| json!({"type": "input_json_delta", "partial_json": piece}));
        events.extend(block(n, &tool, &deltas));
    }
    events.extend(end("tool_use"));
    events
}

fn stream(events: &[Value]) -> Answer {
    Answer::text(EVENTS, &named(events))
}

fn error(kind: &str, message: &str) -> Value {
    json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"})
}

impl Server {
    /// 400, 429 and 500, and one that is over when it is asked again.
    fn message_errors(self) -> Self {
        let slow = error("rate_limit_error", "Slow down");
        self.error(
            400,
            &error("invalid_request_error", "prompt is too long: 9 tokens > 7 maximum"),
            &[("request-id", "req_1")],
        )
        .error(429, &slow, &[("retry-after", "7"), ("request-id", "req_2")])
        .error(500, &error("api_error", "It broke"), &[("request-id", "req_3"), ("x-should-retry", "false")])
        .error(429, &slow, &[("retry-after-ms", "1")])
        .json(&text("Again"))
    }

    fn torn_and_left_messages(self) -> Self {
        self.then(stream(&[start(), error("overloaded_error", "Overloaded")]))
            .open(EVENTS, &named(&spoken()[..4]))
    }
}

fn for_anthropic() -> Server {
    let mut edited = text("Two files.");
    edited["context_management"] = json!({"applied_edits": [{"type": "clear_tool_uses_20250919", "cleared_tool_uses": 2, "cleared_input_tokens": 9}]});
    Server::default()
        .json(&text("Two files."))
        .json(&calls("ls", &[json!({"path": "/"}), json!({"path": "/etc"})]))
        .then(stream(&called("ls", "path")))
        .json(&json!({"input_tokens": 2095}))
        .json(&edited)
        .error(529, &error("overloaded_error", "Overloaded"), &[("request-id", "req_0")])
        .message_errors()
        .torn_and_left_messages()
        .open("application/json", "")
}

#[test]
fn anthropic_sees_and_says_the_same() {
    let client = Client::of("messages_differential.py");
    let Some(printed) = alike(&client, "anthropic", for_anthropic) else { return };
    assert_eq!(printed.len(), 13);
    tells(
        &printed,
        &[
            r#""new_member": {"a": 1.5}"#,
            r#""signature": "c2ln""#,
            r#""cleared_tool_uses": 2"#,
            r#"["OverloadedError", 529"#,
            r#"["BadRequestError", 400"#,
            r#"["RateLimitError", 429"#,
            r#"["InternalServerError", 500"#,
        ],
    );
    assert!(printed[9].contains("Again") && printed[10].contains("overloaded_error"), "{printed:#?}");
}

fn for_the_ai_sdk() -> Server {
    let tool = "get_order_status";
    let object = json!([{"type": "tool_use", "id": "toolu_9", "name": "json", "input": {"state": "open"}}]);
    Server::default()
        .json(&text("Hé 😀"))
        .json(&calls(tool, &[json!({"order_id": "1"}), json!({"order_id": "2"})]))
        .json(&message(&object, &json!("tool_use")))
        .then(stream(&spoken()))
        .then(stream(&called(tool, "order_id")))
        .message_errors()
        .torn_and_left_messages()
}

#[test]
fn the_ai_sdk_sees_and_says_the_same() {
    let client = Client { script: "node/differential.mjs", arguments: &["--provider", "messages"] };
    let Some(printed) = alike(&client, "anthropic", for_the_ai_sdk) else { return };
    ai_sdk_tells(&printed);
}
