//! The Responses API before an HTTP upstream: its bytes where no policy acts, edited items where one does, and untouched
//! where the server knows more than the request says.

use plimsoll_tests::mock::{Answer, Mock};
use plimsoll_tests::shared::demo;
use plimsoll_tests::{Reply, Sidecar, post, post_with};
use serde_json::{Value, json};

fn sidecar(mock: &Mock, route: &str) -> Sidecar {
    Sidecar::start(&format!(
        "
listen: {{ data: 127.0.0.1:0, admin: 127.0.0.1:0 }}
log: {{ level: error }}
upstreams: {{ other: {{ url: '{}', context: 8000, timeouts: {{ first_byte: 20s }} }} }}
routes:
  - {{ name: default, upstream: other, {route} }}
",
        mock.url
    ))
}

fn ask(sidecar: &Sidecar, body: &str) -> Reply {
    post_with(&format!("{}/v1/responses", sidecar.data_url), body.as_bytes().to_vec(), &[])
}

/// Odd but legal: spaces, escapes, number spellings, unknown fields and items, a duplicate key, a lone surrogate.
const ODD: &str = r#" { "model":"gpt-5" ,"temperature":1.50,"x":{"big":123456789012345678901234567890},"dup":1,"dup":2,
  "instructions":"Be br\u0069ef \/ kind", "input" : [ {"role":"user","content":"hello \ud800"} ,
  {"type":"reasoning","id":"rs","summary":[],"encrypted_content":"gA\/A\u003d"}, {"type":"hosted_new_call","id":"h"},
  {"type":"message","id":"msg","role":"assistant","status":"completed","content":[{"type":"output_text","text":"hi","annotations":[]}]},
  {"content":[{"type":"input_text","text":"look"},{"type":"input_image","image_url":"data:,"}],"role":"user"}],
  "tools":[{"type":"function","name":"b","strict":true},{"type":"web_search"},{"type":"function","name":"a"}],"store":true}
"#;

const TOOLS: &str =
    r#"[{"type":"function","name":"b","strict":true},{"type":"web_search"},{"type":"function","name":"a"}]"#;

#[test]
fn what_no_policy_touches_keeps_its_bytes() {
    let sorted = ODD.replace(TOOLS, r#"[ {"type":"function","name":"a"},{"name":"b","type":"function"}]"#);
    for (route, body) in [
        ("policy: agent, mode: 'off'", ODD),
        ("policy: agent, mode: shadow", ODD),
        ("policy: chat", sorted.as_str()),
    ] {
        let mock = Mock::start(vec![Answer::json(r#"{"id":"resp_1", "output":[]}"#)]);
        let reply = ask(&sidecar(&mock, route), body);
        let seen = mock.only();
        assert_eq!(seen.line, "POST /v1/responses");
        assert_eq!(String::from_utf8_lossy(&seen.body), body);
        assert_eq!(reply.text(), r#"{"id":"resp_1", "output":[]}"#);
        assert_eq!(reply.header("x-plimsoll-ungoverned"), "");
    }
}

#[test]
fn a_policy_changes_only_what_it_names() {
    let mock = Mock::start(Vec::new());
    let reply = ask(&sidecar(&mock, "policy: agent"), ODD);
    let seen = String::from_utf8_lossy(&mock.only().body).into_owned();
    let (before, after) = ODD.split_once(TOOLS).unwrap();
    assert!(seen.starts_with(before) && seen.ends_with(after), "{seen}");
    let mut sorted: Vec<Value> = serde_json::from_str(TOOLS).unwrap();
    let got: Vec<Value> = serde_json::from_str(&seen[before.len()..seen.len() - after.len()]).unwrap();
    assert_ne!(got, sorted);
    for tool in got {
        sorted.retain(|other| *other != tool);
    }
    assert!(sorted.is_empty());
    assert!(reply.header("x-plimsoll-actions").starts_with("normalize_prefix="));
    assert_eq!(reply.header("x-plimsoll-tokens-estimated"), "true");
}

/// Forty rounds of a tool in a window that holds a few.
fn long_agent() -> Value {
    let mut input = vec![json!({"role": "user", "content": "Read all the files."})];
    for n in 0..40 {
        input.push(json!({"type": "reasoning", "id": format!("rs_{n}"), "summary": [], "encrypted_content": format!("e{n}")}));
        input.push(json!({"type": "function_call", "id": format!("fc_{n}"), "call_id": format!("c{n}"), "name": "read", "arguments": format!("{{\"n\":{n}}}")}));
        let output = format!("file {n}: {}", "some words of it ".repeat(60));
        input.push(json!({"type": "function_call_output", "call_id": format!("c{n}"), "output": output}));
    }
    json!({"model": "gpt-5", "input": input, "store": false})
}

#[test]
fn a_long_history_is_cut_by_items_that_belong_together() {
    let mock = Mock::start(Vec::new());
    let body = long_agent();
    let reply = ask(&sidecar(&mock, "policy: chat"), &body.to_string());
    let sent: Value = serde_json::from_slice(&mock.only().body).unwrap();
    let (before, after) = (body["input"].as_array().unwrap(), sent["input"].as_array().unwrap());
    assert!(after.len() < before.len(), "{}", reply.header("x-plimsoll-actions"));
    let tokens = |name: &str| reply.header(name).parse::<u64>().unwrap();
    assert!(tokens("x-plimsoll-tokens-after") < 8000 && tokens("x-plimsoll-tokens-before") > 8000);
    assert_eq!(after[0], before[0]);
    assert_eq!(after.last(), before.last());
    // Reasoning, call and result stay or go together.
    let kinds: Vec<_> = after.iter().filter_map(|item| item["type"].as_str()).collect();
    for round in kinds.chunks(3) {
        assert_eq!(round, ["reasoning", "function_call", "function_call_output"]);
    }
    assert!(after.iter().filter(|item| item["type"] == "function_call").all(|item| before.contains(item)));
}

#[test]
fn what_refers_to_stored_answers_is_passed_and_told() {
    for (field, body) in [
        (
            "previous_response_id",
            r#"{"model":"m","input":"more", "previous_response_id":"resp_1","tools":[]}"#,
        ),
        ("conversation", r#"{"model":"m","input":"more","conversation":"conv_1"}"#),
        ("item_reference", r#"{"model":"m","input":[{"type":"item_reference","id":"msg_1"}]}"#),
        ("prompt", r#"{"prompt":{"id":"pmpt_1"}}"#),
    ] {
        let mock = Mock::start(Vec::new());
        let reply = ask(&sidecar(&mock, "policy: agent, any_model: true"), body);
        assert_eq!(mock.only().body, body.as_bytes());
        assert_eq!(reply.header("x-plimsoll-ungoverned"), field);
        assert_eq!(reply.header("x-plimsoll-tokens-before"), "");
    }
}

#[test]
fn a_count_is_that_of_the_governed_request() {
    let mock = Mock::start(vec![Answer::json(r#"{"object":"response.input_tokens","input_tokens":5}"#)]);
    let front = sidecar(&mock, "policy: chat");
    let url = format!("{}/v1/responses/input_tokens", front.data_url);
    let reply = post(&url, &long_agent());
    assert_eq!(reply.ok()["input_tokens"], 5);
    let sent: Value = serde_json::from_slice(&mock.only().body).unwrap();
    assert!(sent["input"].as_array().unwrap().len() < 121);

    let engine = Sidecar::start(&demo(1024, "chat"));
    let talk: Vec<Value> = (0..60)
        .flat_map(|n| {
            [
                json!({"role": "user", "content": format!("Question {n}, in some words of its own.")}),
                json!({"role": "assistant", "content": "An answer, in words."}),
            ]
        })
        .chain([json!({"role": "user", "content": "And now?"})])
        .collect();
    let body = json!({"model": "demo", "input": talk, "max_output_tokens": 8});
    let counted = post(&format!("{}/v1/responses/input_tokens", engine.data_url), &body);
    let tokens = counted.ok()["input_tokens"].as_u64().unwrap();
    let answer = post(&format!("{}/v1/responses", engine.data_url), &body);
    assert_eq!(answer.ok()["usage"]["input_tokens"], tokens);
    assert_eq!(answer.header("x-plimsoll-tokens-after"), tokens.to_string());
    assert!(answer.header("x-plimsoll-tokens-before").parse::<u64>().unwrap() > tokens);
}

#[test]
fn a_server_judges_what_may_not_be_truncated() {
    let mock = Mock::start(Vec::new());
    let front = sidecar(&mock, "policy: chat");
    let mut body = long_agent();
    body["truncation"] = "disabled".into();
    let reply = ask(&front, &body.to_string());
    assert_eq!(mock.only().body, body.to_string().as_bytes());
    assert_eq!(reply.header("x-plimsoll-ungoverned"), "truncation");
    assert_eq!(reply.header("x-plimsoll-tokens-after"), "");
}

#[test]
fn who_forbids_truncation_gets_none() {
    let engine = Sidecar::start(&demo(1024, "chat"));
    let talk: Vec<Value> = (0..80)
        .flat_map(|n| {
            [
                json!({"role": "user", "content": format!("Question {n}, in some words of its own.")}),
                json!({"role": "assistant", "content": "An answer, in words."}),
            ]
        })
        .chain([json!({"role": "user", "content": "And now?"})])
        .collect();
    let ask = |truncation: &str| {
        let body = json!({"model": "demo", "input": talk, "max_output_tokens": 8, "truncation": truncation});
        post(&format!("{}/v1/responses", engine.data_url), &body)
    };
    assert_eq!(ask("auto").ok()["truncation"], "auto");
    let refused = ask("disabled");
    assert_eq!(
        (refused.status, refused.json()["error"]["code"].as_str()),
        (400, Some("context_length_exceeded"))
    );
    assert_eq!(refused.json()["error"]["param"], "input");
}
