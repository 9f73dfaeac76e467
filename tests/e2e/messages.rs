//! Anthropic's Messages: its SDK on the embedded engine, and before an Anthropic server as if nobody stood between.

use std::process::Command;

use plimsoll_tests::mock::{Answer, Mock};
use plimsoll_tests::{Reply, Sidecar, post_with};
use serde_json::{Value, json};

use crate::tooling::{root, stdout, tool};

const MESSAGE: &str = r#"{"id":"msg_1","type":"message","role":"assistant","model":"claude-sonnet-4-5","content":[{"type":"text","text":"Two files.","citations":null}],"stop_reason":"end_turn","stop_sequence":null,"new_member":{"a":1.50},"usage":{"input_tokens":12,"cache_creation_input_tokens":0,"cache_read_input_tokens":100,"output_tokens":4,"service_tier":"standard"}}"#;
const OVERLOADED: &str =
    r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"req_1"}"#;
const LIMITED: &str =
    r#"{"type":"error","error":{"type":"rate_limit_error","message":"Slow down"},"request_id":"req_2"}"#;

/// A stream as the API sends it: each event named, thoughts before a call.
fn stream() -> String {
    let usage = json!({"input_tokens": 12, "cache_read_input_tokens": 100, "output_tokens": 1});
    let message = json!({"id": "msg_2", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5", "content": [], "stop_reason": null, "stop_sequence": null, "usage": usage});
    let delta =
        |index: u32, delta: Value| json!({"type": "content_block_delta", "index": index, "delta": delta});
    events(&[
        json!({"type": "message_start", "message": message}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}}),
        json!({"type": "ping"}),
        delta(0, json!({"type": "thinking_delta", "thinking": "Look again."})),
        delta(0, json!({"type": "signature_delta", "signature": "c2ln"})),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "id": "toolu_2", "name": "ls", "input": {}}}),
        delta(1, json!({"type": "input_json_delta", "partial_json": "{\"path\":"})),
        delta(1, json!({"type": "input_json_delta", "partial_json": "\"/etc\"}"})),
        json!({"type": "content_block_stop", "index": 1}),
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": null}, "usage": {"output_tokens": 30}}),
        json!({"type": "message_stop"}),
    ])
}

fn events(events: &[Value]) -> String {
    let one = |event: &Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap());
    events.iter().map(one).collect()
}

/// An error after the beginning of a stream.
fn broken() -> String {
    let start = json!({"type": "message_start", "message": serde_json::from_str::<Value>(MESSAGE).unwrap()});
    events(&[start, serde_json::from_str(OVERLOADED).unwrap()])
}

/// What the server answers, in the order in which `messages_twice.py` asks.
fn answers() -> Vec<Answer> {
    let edited = MESSAGE.replace(
        "\"stop_sequence\":null,",
        "\"stop_sequence\":null,\"context_management\":{\"applied_edits\":[{\"type\":\"clear_tool_uses_20250919\",\"cleared_tool_uses\":2,\"cleared_input_tokens\":9}]},",
    );
    vec![
        Answer::json(MESSAGE).header("request-id", "req_0"),
        Answer::text("text/event-stream; charset=utf-8", &stream()),
        Answer::json(r#"{"input_tokens":2095}"#),
        Answer::json(&edited),
        Answer::json(OVERLOADED).status(529).header("request-id", "req_1"),
        Answer::json(LIMITED).status(429).header("retry-after", "7").header("request-id", "req_2"),
        Answer::text("text/event-stream; charset=utf-8", &broken()),
    ]
}

fn before(mock: &Mock, upstream: &str, policy: &str) -> Sidecar {
    Sidecar::start(&format!(
        "
listen: {{ data: 127.0.0.1:0, admin: 127.0.0.1:0 }}
log: {{ level: error }}
upstreams:
  claude: {{ url: '{}', dialect: anthropic, context: 8000, timeouts: {{ first_byte: 20s }}, {upstream} }}
policies:
  results: {{ steps: [cap_tool_output: {{ max_tokens: 100 }}] }}
routes:
  - {{ name: default, upstream: claude, policy: {policy} }}
",
        mock.url
    ))
}

fn ask(sidecar: &Sidecar, path: &str, body: &str, headers: &[(&str, &str)]) -> Reply {
    let headers =
        [&[("content-type", "application/json"), ("anthropic-version", "2023-06-01")], headers].concat();
    post_with(&format!("{}{path}", sidecar.data_url), body.as_bytes().to_vec(), &headers)
}

fn python(script: &str, arguments: &[&str]) -> Option<Command> {
    let mut command = Command::new(tool(".venv/bin/python")?);
    command.env("NO_PROXY", "127.0.0.1").env("PYTHONDONTWRITEBYTECODE", "1");
    command.arg(root().join("tests/clients").join(script)).args(arguments);
    Some(command)
}

#[test]
fn its_sdk_cannot_tell_the_way_through_from_the_way_there() {
    let (direct, behind) = (Mock::start(answers()), Mock::start(answers()));
    // A policy runs, counts, and finds nothing to do.
    let sidecar = before(&behind, "ask_usage: true", "agent");
    let arguments = ["--direct", &direct.url, "--through", &sidecar.data_url];
    let Some(mut command) = python("messages_twice.py", &arguments) else { return };
    print!("{}", stdout(&mut command));
    let (direct, through) = (direct.seen(), behind.seen());
    assert_eq!((direct.len(), through.len()), (7, 7));
    for (direct, through) in direct.iter().zip(&through) {
        assert_eq!(through.line, direct.line);
        assert_eq!(through.body, direct.body, "{}", direct.line);
        let own = |name: &str| matches!(name, "host" | "connection" | "traceparent" | "tracestate");
        for (name, value) in direct.headers.iter().filter(|(name, _)| !own(name.as_str())) {
            assert_eq!(through.headers.get(name), Some(value), "{name}");
        }
    }
    assert!(direct.iter().all(|seen| seen.headers["authorization"] == "Bearer sk-test"));
}

/// A request whose second result is too long, in a spelling of its own.
fn long_result(text: &str) -> String {
    format!(
        r#"{{ "max_tokens":64,"model" : "claude-x", "system":[{{"type":"text","text":"Be br\u0069ef","cache_control":{{"type":"ephemeral"}}}}],
  "messages":[ {{"role":"user","content":"q"}} ,
  {{"content":[{{"type":"thinking","thinking":"t","signature":"s\/s"}},{{"type":"tool_use","id":"a","name":"ls","input":{{ "n": 1.50 }}}},{{"type":"tool_use","id":"b","name":"ls","input":{{}}}}],"role":"assistant"}},
  {{"role":"user","content":[{{"type":"tool_result","tool_use_id":"a","content":"short"}} , {{"type":"tool_result","tool_use_id":"b","is_error":false,"content":[{{"cache_control":{{"type":"ephemeral"}},"type":"text","text":"{text}"}}]}},{{"type":"text","text":"so?"}}]}} ],"x":{{"big":123456789012345678901234567890}} }}"#
    )
}

#[test]
fn a_policy_changes_the_result_it_shortens_and_nothing_else() {
    let mock = Mock::start(Vec::new());
    let sidecar = before(&mock, "", "results");
    let text = "word ".repeat(2000);
    for path in ["/v1/messages?beta=true", "/v1/messages/count_tokens"] {
        mock.forget();
        let reply = ask(&sidecar, path, &long_result(&text), &[]);
        assert_eq!(reply.header("x-plimsoll-actions"), "cap_tool_output=1");
        let seen = mock.only();
        assert_eq!(seen.line, format!("POST {path}"));
        let body = String::from_utf8_lossy(&seen.body).into_owned();
        let whole = long_result(&text);
        let (head, tail) = whole.split_once(&text).unwrap();
        assert!(body.starts_with(head) && body.ends_with(tail), "{body}");
        assert!(body.len() < whole.len() / 4 && body.contains("[plimsoll: "), "{body}");
    }
}

#[test]
fn credentials_pass_and_those_of_the_configuration_go_before() {
    let mock = Mock::start(Vec::new());
    let body = long_result("short");
    let passing = before(&mock, "", "results");
    ask(
        &passing,
        "/v1/messages",
        &body,
        &[("authorization", "Bearer own"), ("x-api-key", "own"), ("anthropic-beta", "a , b")],
    );
    let seen = mock.only();
    assert_eq!(
        (&seen.headers["authorization"], &seen.headers["x-api-key"]),
        (&"Bearer own".parse().unwrap(), &"own".parse().unwrap())
    );
    assert_eq!(
        (&seen.headers["anthropic-beta"], &seen.body[..]),
        (&"a , b".parse().unwrap(), body.as_bytes())
    );
    mock.forget();
    let keyed = before(&mock, "api_key: configured", "results");
    ask(&keyed, "/v1/messages", &body, &[("authorization", "Bearer own"), ("x-api-key", "own")]);
    let seen = mock.only();
    assert_eq!(
        (seen.headers.get("authorization"), &seen.headers["x-api-key"]),
        (None, &"configured".parse().unwrap())
    );
}

#[test]
fn errors_of_ours_are_told_in_its_form() {
    let mock = Mock::start(Vec::new());
    let sidecar = before(&mock, "", "agent");
    let told = |reply: &Reply, kind: &str, part: &str| {
        let body: Value = serde_json::from_str(&reply.text()).unwrap();
        assert_eq!((&body["type"], &body["error"]["type"]), (&json!("error"), &json!(kind)), "{body}");
        assert!(body["error"]["message"].as_str().unwrap().contains(part), "{body}");
        assert_eq!(body["request_id"], reply.header("x-plimsoll-request-id"));
    };
    let reply = ask(&sidecar, "/v1/messages", "{nope", &[]);
    told(&reply, "invalid_request_error", "line 1");
    let long =
        format!(r#"{{"max_tokens":64,"messages":[{{"role":"user","content":"{}"}}]}}"#, "word ".repeat(9000));
    let reply = ask(&sidecar, "/v1/messages", &long, &[]);
    told(&reply, "invalid_request_error", "prompt is too long: ");
    assert_eq!(reply.status, 400);
    let reply = ask(&sidecar, "/v1/messages", "x", &[("content-encoding", "lzma")]);
    told(&reply, "invalid_request_error", "lzma");
    assert_eq!(mock.seen().len(), 0);
    // What is JSON, only not of the dialect's form, is the server's to judge.
    assert_eq!(ask(&sidecar, "/v1/messages", r#"{"messages": 7}"#, &[]).status, 200);
    let chat = ask(&sidecar, "/v1/chat/completions", r#"{"messages":[{"role":"user","content":"q"}]}"#, &[]);
    let body: Value = serde_json::from_str(&chat.text()).unwrap();
    assert_eq!((chat.status, &body["error"]["code"]), (404, &json!("unsupported_dialect")));
}
