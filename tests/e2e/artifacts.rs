//! What a policy takes out of a tool result can be fetched, by the caller who sent it and by nobody else.

use plimsoll_tests::http::get_with;
use plimsoll_tests::mock::Mock;
use plimsoll_tests::{Reply, Sidecar, get, post_with};
use serde_json::{Value, json};

const KEY: (&str, &str) = ("authorization", "Bearer key-one");
const OTHER: (&str, &str) = ("authorization", "Bearer key-two");

pub(crate) fn config(mock: &Mock, route: &str, more: &str) -> String {
    format!(
        "
listen: {{ data: 127.0.0.1:0, admin: 127.0.0.1:0 }}
log: {{ level: error }}
upstreams:
  other: {{ url: '{}', dialect: openai, context: 8000 }}
routes:
  - {{ name: default, upstream: other, {route} }}
{more}
",
        mock.url
    )
}

pub(crate) fn long() -> String {
    (0..6000).map(|n| format!("zeile {n} über\n")).collect()
}

/// A chat whose tool result is long.
pub(crate) fn body(result: &str) -> Value {
    let call = json!({"id": "c1", "type": "function", "function": {"name": "sh", "arguments": "{}"}});
    json!({"model": "gpt-4o", "messages": [
        {"role": "user", "content": "run it"},
        {"role": "assistant", "content": null, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": result},
    ], "tools": [{"type": "function", "function": {"name": "sh", "parameters": {"type": "object"}}}]})
}

fn chat(sidecar: &Sidecar, body: &Value, headers: &[(&str, &str)]) -> Reply {
    post_with(&format!("{}/v1/chat/completions", sidecar.data_url), body.to_string().into_bytes(), headers)
}

/// The id that the mock was told.
pub(crate) fn id(mock: &Mock) -> String {
    let sent = String::from_utf8(mock.seen()[0].body.to_vec()).unwrap();
    let (_, after) = sent.split_once("tokens omitted; full output: ").expect("an original is named");
    after.split_once(']').unwrap().0.to_owned()
}

fn fetch(sidecar: &Sidecar, id: &str, headers: &[(&str, &str)]) -> Reply {
    get_with(&format!("{}/v1/context/artifacts/{id}", sidecar.data_url), headers)
}

#[test]
fn the_same_caller_fetches_the_original_whole_or_in_parts() {
    let mock = Mock::start(Vec::new());
    let sidecar = Sidecar::start(&config(&mock, "policy: agent", ""));
    assert_eq!(chat(&sidecar, &body(&long()), &[KEY]).status, 200);
    let id = id(&mock);
    let whole = fetch(&sidecar, &id, &[KEY]).ok();
    assert_eq!((&whole["text"], &whole["total_bytes"]), (&json!(long()), &json!(long().len())));
    assert_eq!((&whole["object"], &whole["next_offset"]), (&json!("context.artifact"), &Value::Null));
    // Parts are cut between characters and make the whole.
    let (mut text, mut offset) = (String::new(), json!(0));
    while !offset.is_null() {
        let part = fetch(&sidecar, &format!("{id}?offset={offset}&limit=9973"), &[KEY]).ok();
        text.push_str(part["text"].as_str().unwrap());
        offset = part["next_offset"].clone();
    }
    assert_eq!(text, long());
    let plain = fetch(&sidecar, &format!("{id}?limit=7"), &[KEY, ("accept", "text/plain")]);
    assert_eq!(
        (plain.text(), plain.header("content-type")),
        ("zeile 0".to_owned(), "text/plain; charset=utf-8".to_owned())
    );
    assert_eq!(plain.header("x-plimsoll-total-bytes"), long().len().to_string());
    assert_eq!(plain.header("x-plimsoll-next-offset"), "7");
    assert_eq!(fetch(&sidecar, &format!("{id}?limit=x"), &[KEY]).status, 400);
    let metrics = get(&format!("{}/metrics", sidecar.admin_url)).text();
    let hits = metrics
        .lines()
        .find(|line| line.starts_with("plimsoll_artifact_lookups") && line.contains("\"hit\""));
    assert!(hits.is_some_and(|line| !line.ends_with(" 0")), "{metrics}");
    assert!(metrics.contains("plimsoll_artifact_usage"), "{metrics}");
}

#[test]
fn nobody_else_finds_it() {
    let mock = Mock::start(Vec::new());
    let sidecar = Sidecar::start(&config(&mock, "policy: agent", ""));
    chat(&sidecar, &body(&long()), &[KEY]);
    let id = id(&mock);
    for headers in [&[][..], &[OTHER], &[("x-api-key", "Bearer key-one")]] {
        let reply = fetch(&sidecar, &id, headers);
        assert_eq!((reply.status, &reply.json()["error"]["code"]), (404, &json!("artifact_not_found")));
    }
    assert_eq!(fetch(&sidecar, "ctx_0000000000000000", &[KEY]).status, 404);
    assert_eq!(fetch(&sidecar, "..%2f..%2fetc%2fpasswd", &[KEY]).status, 404);
    // What an upstream has below that path is hidden only while originals are kept.
    assert_eq!(mock.seen().len(), 1);
}

#[test]
fn callers_without_a_key_are_told_apart_by_the_configured_header() {
    let mock = Mock::start(Vec::new());
    let config = config(&mock, "policy: agent", "")
        .replace("admin: 127.0.0.1:0", "admin: 127.0.0.1:0, caller_header: x-user");
    let sidecar = Sidecar::start(&config);
    chat(&sidecar, &body(&long()), &[("x-user", "ann")]);
    let id = id(&mock);
    assert_eq!(fetch(&sidecar, &id, &[("x-user", "ann")]).status, 200);
    assert_eq!(fetch(&sidecar, &id, &[("x-user", "ben")]).status, 404);
    assert_eq!(fetch(&sidecar, &id, &[]).status, 404);
}

#[test]
fn a_cleared_result_names_its_original_too() {
    let mock = Mock::start(Vec::new());
    let policy = "policies: { p: { steps: [cap_tool_output: { max_tokens: 400 }, clear_tool_uses: { trigger: 0, keep: 1, clear_at_least: 0 }] } }";
    let sidecar = Sidecar::start(&config(&mock, "policy: p", policy));
    let mut body = body(&long());
    let messages = body["messages"].as_array_mut().unwrap();
    for id in ["c2", "c3"] {
        let call = json!({"id": id, "type": "function", "function": {"name": "sh", "arguments": "{}"}});
        messages.push(json!({"role": "assistant", "content": null, "tool_calls": [call]}));
        messages.push(json!({"role": "tool", "tool_call_id": id, "content": "ok"}));
    }
    let reply = chat(&sidecar, &body, &[KEY]);
    assert_eq!(reply.header("x-plimsoll-actions"), "cap_tool_output=1, clear_tool_uses=1");
    let sent: Value = serde_json::from_slice(&mock.only().body).unwrap();
    let stub = sent["messages"][2]["content"].as_str().unwrap();
    let (_, id) =
        stub.trim_end_matches(']').split_once("tokens; full output: ").expect("an original is named");
    assert_eq!(fetch(&sidecar, id, &[KEY]).ok()["text"], json!(long()));
}

#[test]
fn nothing_is_kept_where_nothing_is_changed_or_the_store_is_off() {
    let mock = Mock::start(Vec::new());
    let shadow = Sidecar::start(&config(&mock, "policy: agent, mode: shadow", ""));
    chat(&shadow, &body(&long()), &[KEY]);
    let enforced = Sidecar::start(&config(&mock, "policy: agent", ""));
    mock.forget();
    chat(&enforced, &body(&long()), &[KEY]);
    let id = id(&mock);
    assert_eq!(fetch(&shadow, &id, &[KEY]).status, 404);
    mock.forget();
    let off = Sidecar::start(&config(&mock, "policy: agent", "artifacts: { memory: 0 }"));
    chat(&off, &body(&long()), &[KEY]);
    let sent = String::from_utf8(mock.only().body.to_vec()).unwrap();
    assert!(sent.contains("tokens omitted]") && !sent.contains("ctx_"), "{sent}");
    // The path is the upstream's again.
    assert_eq!(fetch(&off, &id, &[KEY]).text(), "{}");
}

#[test]
fn a_folder_outlives_the_process() {
    let mock = Mock::start(Vec::new());
    let folder = tempfile::tempdir().unwrap();
    let more = format!("artifacts: {{ disk: {} }}", folder.path().display());
    let first = Sidecar::start(&config(&mock, "policy: agent", &more));
    chat(&first, &body(&long()), &[KEY]);
    let id = id(&mock);
    // A drain waits for what is being written.
    first.drain();
    let second = Sidecar::start(&config(&mock, "policy: agent", &more));
    assert_eq!(fetch(&second, &id, &[KEY]).ok()["text"], json!(long()));
    assert_eq!(fetch(&second, &id, &[OTHER]).status, 404);
}
