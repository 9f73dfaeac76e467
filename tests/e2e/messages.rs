//! Anthropic's Messages before an Anthropic server: what a policy changes there, credentials, and errors of ours.

use plimsoll_tests::mock::Mock;
use plimsoll_tests::{Reply, Sidecar, post_with};
use serde_json::{Value, json};

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
