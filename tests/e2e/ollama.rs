//! Ollama's dialect before an Ollama server: what a policy does there; and on the embedded engine.

use plimsoll_tests::http::open;
use plimsoll_tests::mock::{Answer, Mock};
use plimsoll_tests::shared::demo;
use plimsoll_tests::{Reply, Sidecar, post, post_with};
use serde_json::{Value, json};

fn sidecar(mock: &Mock, upstream: &str, route: &str) -> Sidecar {
    Sidecar::start(&format!(
        "
listen: {{ data: 127.0.0.1:0, admin: 127.0.0.1:0 }}
log: {{ level: error }}
upstreams: {{ other: {{ url: '{}', context: 8000, {upstream} }} }}
routes: [ {{ name: default, upstream: other, {route} }} ]
policies: {{ plain: {{ steps: [ {{ cap_tool_output: {{ max_tokens: 1500 }} }} ] }} }}
",
        mock.url
    ))
}

fn ask(sidecar: &Sidecar, path: &str, body: &str) -> Reply {
    post_with(&format!("{}{path}", sidecar.data_url), body.as_bytes().to_vec(), &[])
}

/// Odd but legal, as Ollama reads it.
const ODD: &str = r#"{ "model":"llama3.2" ,"x":{"big":123456789012345678901234567890},"dup":1,"dup":2,
  "options" : {"temperature":1.50,"seed":1E3, "mirostat":1}, "messages" : [ {"role":"system","content":"Be br\u0069ef \/ kind"} ,
  {"content":"hello \ud800","role":"user","images":["QUJD"]} ], "think":"low","tools":[{"type":"function","function":{"name":"b"}},{"type":"function","function":{"name":"a"}}]}"#;

const NDJSON: &str = "application/x-ndjson";
const STREAM: &str = concat!(
    "{\"model\":\"m\",\"created_at\":\"2026-11-21T10:00:00Z\",\"message\":{\"role\":\"assistant\",\"content\":\"He\",\"thinking\":\"hm\"},\"done\":false}\n",
    "{\"model\":\"m\",\"created_at\":\"2026-11-21T10:00:00Z\",\"message\":{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":{\"a\":1}}}]},\"done\":false}\n",
    "{\"model\":\"m\",\"created_at\":\"2026-11-21T10:00:00Z\",\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done\":true,\"done_reason\":\"stop\",\"prompt_eval_count\":26,\"eval_count\":7}\n",
);

#[test]
fn a_policy_changes_only_what_it_names() {
    let mock = Mock::start(vec![Answer::text(NDJSON, STREAM)]);
    let sidecar = sidecar(&mock, "dialect: ollama", "policy: agent");
    let reply = ask(&sidecar, "/api/chat", ODD);
    let tools = r#"{"type":"function","function":{"name":"b"}},{"type":"function","function":{"name":"a"}}"#;
    let sorted = r#"{"type":"function","function":{"name":"a"}},{"type":"function","function":{"name":"b"}}"#;
    assert_eq!(String::from_utf8_lossy(&mock.only().body), ODD.replace(tools, sorted));
    assert_eq!(reply.header("x-plimsoll-actions"), "normalize_prefix=2");
    assert_eq!((reply.text().as_str(), reply.header("content-type").as_str()), (STREAM, NDJSON));
}

#[test]
fn a_long_tool_result_is_capped_and_every_other_message_keeps_its_bytes() {
    let mock = Mock::start(Vec::new());
    let sidecar = sidecar(&mock, "dialect: ollama", "policy: agent");
    let long: String = (0..6000).map(|n| format!("line {n}\\n")).collect();
    let before = r#"{"messages":[{"role" : "user","content":"run it","n":1.0}, {"role":"assistant","content":"","tool_calls":[{"function":{"name":"sh","arguments":{ "a" : 1.0 }}}]},{"role":"tool","tool_name":"sh","content":""#;
    let after = r#""} ,{"content":"and now?","role":"user"}],"model":"m"}"#;
    let reply = ask(&sidecar, "/api/chat", &format!("{before}{long}{after}"));
    let sent = String::from_utf8(mock.only().body.to_vec()).unwrap();
    assert!(sent.starts_with(before) && sent.ends_with(after) && sent.len() < 20_000, "{sent}");
    assert!(sent.contains("tokens omitted"), "{sent}");
    assert_eq!(reply.header("x-plimsoll-actions"), "cap_tool_output=1");
}

/// `num_ctx` is the window that the server will use: without us it would cut in silence.
#[test]
fn a_smaller_num_ctx_is_the_window() {
    let mock = Mock::start(Vec::new());
    let sidecar = sidecar(&mock, "dialect: ollama", "policy: chat");
    let turn = |n: usize| json!([{"role": "user", "content": format!("{n} {}", "amber lamp ".repeat(40))}, {"role": "assistant", "content": "Yes."}]);
    let talk = |turns: usize, num_ctx: u32| {
        let mut messages: Vec<Value> = (0..turns).flat_map(|n| turn(n).as_array().unwrap().clone()).collect();
        messages.push(json!({"role": "user", "content": "And now?"}));
        ask(
            &sidecar,
            "/api/chat",
            &json!({"model": "m", "messages": messages, "options": {"num_ctx": num_ctx}}).to_string(),
        )
    };
    let whole = talk(14, 8000);
    assert_eq!(whole.header("x-plimsoll-actions"), "none");
    let cut = talk(14, 1024);
    let after: u64 = cut.header("x-plimsoll-tokens-after").parse().unwrap();
    assert!(cut.status == 200 && after < 1024, "{} {after}", cut.status);
    let long = json!({"model": "m", "messages": [{"role": "user", "content": "amber lamp ".repeat(600)}], "options": {"num_ctx": 512}});
    let refused = ask(&sidecar, "/api/chat", &long.to_string());
    let error = refused.json()["error"].as_str().unwrap().to_owned();
    assert!(refused.status == 400 && error.contains("512"), "{error}");
    assert_eq!(mock.seen().len(), 2);
}

#[test]
fn what_no_policy_may_touch_is_passed_and_told() {
    let mock = Mock::start(Vec::new());
    let sidecar = sidecar(&mock, "dialect: ollama", "policy: chat");
    for (field, body) in [
        ("context", r#"{"model":"m", "prompt":"q", "context":[1, 2]}"#),
        ("raw", r#"{"model":"m", "prompt":"q", "raw":true}"#),
        ("suffix", r#"{"model":"m", "prompt":"q", "suffix":"s"}"#),
        ("", r#"{"model":"m", "prompt":"q"}"#),
    ] {
        let reply = ask(&sidecar, "/api/generate", body);
        assert_eq!(mock.seen().pop().unwrap().body, body.as_bytes());
        assert_eq!(reply.header("x-plimsoll-ungoverned"), field);
        assert_eq!(reply.header("x-plimsoll-tokens-before").is_empty(), !field.is_empty());
    }
}

#[test]
fn a_server_of_another_dialect_is_not_asked() {
    let mock = Mock::start(Vec::new());
    let other = sidecar(&mock, "dialect: openai", "policy: chat");
    let refused = ask(&other, "/api/chat", r#"{"model":"m","messages":[{"role":"user","content":"q"}]}"#);
    let error = refused.json()["error"].as_str().unwrap().to_owned();
    assert!(error.contains("`ollama`") && error.contains("upstreams.other.dialect"), "{error}");
    let ollama = sidecar(&mock, "dialect: ollama", "policy: chat");
    let refused =
        ask(&ollama, "/v1/chat/completions", r#"{"model":"m","messages":[{"role":"user","content":"q"}]}"#);
    assert!(refused.json()["error"]["message"].as_str().unwrap().contains("`openai`"), "{}", refused.text());
    assert_eq!(mock.seen().len(), 0);
}

#[test]
fn lines_come_as_they_are_made() {
    use std::io::{BufRead, BufReader};
    let sidecar = Sidecar::start(&demo(1024, "chat"));
    let body = json!({"model": "demo", "messages": [{"role": "user", "content": "What is the KV cache?"}], "options": {"temperature": 0}});
    let url = format!("{}/api/chat", sidecar.data_url);
    let stream = open(&url, body.to_string().into_bytes(), &[]);
    assert_eq!(stream.headers()["content-type"], NDJSON);
    let lines: Vec<Value> =
        BufReader::new(stream).lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    let text: String = lines.iter().map(|line| line["message"]["content"].as_str().unwrap()).collect();
    let whole = post(&url, &{
        let mut whole = body;
        whole["stream"] = false.into();
        whole
    })
    .ok();
    assert_eq!((whole["message"]["content"].as_str(), lines.len() > 3), (Some(text.as_str()), true));
    let last = lines.last().unwrap();
    for count in ["prompt_eval_count", "eval_count", "done_reason", "done"] {
        assert_eq!(last[count], whole[count]);
    }
}

/// Without a policy the engine's own bounds hold, with figures, and in the caller's names.
#[test]
fn the_engine_refuses_with_figures_and_by_ollamas_names() {
    let sidecar = Sidecar::start(&demo(1024, "'off', mode: 'off'"));
    let url = format!("{}/api/chat", sidecar.data_url);
    let error = |body: Value| {
        let reply = post(&url, &body);
        assert_eq!(reply.status, 400, "{}", reply.text());
        reply.json()["error"].as_str().unwrap().to_owned()
    };
    let hello = json!([{"role": "user", "content": "amber lamp ".repeat(30)}]);
    let fits = post(
        &url,
        &json!({"messages": hello, "stream": false, "options": {"num_ctx": 512, "num_predict": 2}}),
    )
    .ok();
    let prompt = fits["prompt_eval_count"].as_u64().unwrap();
    let refused = error(json!({"messages": hello, "options": {"num_ctx": 20, "num_predict": 2}}));
    assert!(refused.contains("20 tokens") && refused.contains(&prompt.to_string()), "{refused}");
    let bound = post(
        &url,
        &json!({"messages": hello, "stream": false, "options": {"num_ctx": prompt + 3, "temperature": 0}}),
    )
    .ok();
    assert_eq!((&bound["eval_count"], &bound["done_reason"]), (&json!(3), &json!("length")));
    assert!(error(json!({"messages": hello, "options": {"top_p": 7}})).contains("`options.top_p`"));
    assert!(error(json!({"messages": hello, "format": {"type": 5}})).contains("`format`"));
    assert!(error(json!({"messages": [{"role": "tool", "content": "a"}]})).contains("messages[0]"));
    let unparsable = ask(&sidecar, "/api/generate", "{nope");
    assert!(unparsable.status == 400 && unparsable.json()["error"].is_string());
    assert_eq!(post(&format!("{}/api/pull", sidecar.data_url), &json!({"model": "m"})).status, 404);
}

/// vLLM's count of messages is of what the policy would send, and says so.
#[test]
fn messages_are_counted_as_they_would_run() {
    let sidecar = Sidecar::start(&demo(512, "chat"));
    let mut messages: Vec<Value> = (0..30)
        .flat_map(|n| {
            [
                json!({"role": "user", "content": format!("number {n}: {}", "amber ".repeat(10))}),
                json!({"role": "assistant", "content": "Noted."}),
            ]
        })
        .collect();
    messages.push(json!({"role": "user", "content": "And now?"}));
    let counted = post(
        &format!("{}/tokenize", sidecar.data_url),
        &json!({"model": "demo", "messages": messages, "max_tokens": 1}),
    );
    let chat = json!({"model": "demo", "messages": messages, "max_tokens": 1, "return_token_ids": true});
    let ran = post(&format!("{}/v1/chat/completions", sidecar.data_url), &chat);
    let count = counted.ok();
    assert_eq!(count["tokens"], ran.ok()["prompt_token_ids"]);
    assert_eq!(count["count"].to_string(), counted.header("x-plimsoll-tokens-after"));
    let before: u64 = counted.header("x-plimsoll-tokens-before").parse().unwrap();
    assert!(before > 512 && count["max_model_len"] == 512, "{before}");
}
