//! What vLLM answers comes back as it is: chats, streams, tool calls.

use plimsoll_tests::shared::{json, root};
use plimsoll_tests::{Reply, get, post_with};
use serde_json::{Value, json};

use super::{WINDOW, servers, sidecar};

/// A sample of the demo model: its messages and tools.
fn sample(name: &str) -> Value {
    let sample = json(&root().join("engine/demo/samples").join(name));
    let mut body =
        json!({"model": "demo", "max_tokens": 64, "temperature": 0, "messages": sample["messages"]});
    if sample["tools"].as_array().is_some_and(|tools| !tools.is_empty()) {
        body["tools"] = sample["tools"].clone();
    }
    body
}

fn expected(name: &str) -> Value {
    json(&root().join("engine/demo/samples").join(name))["expected"].clone()
}

/// An answer without what differs from one request to the next.
fn lasting(answer: &Value) -> Value {
    let mut answer = answer.clone();
    for field in ["id", "created"] {
        answer[field] = Value::Null;
    }
    for choice in answer["choices"].as_array_mut().into_iter().flatten() {
        for part in ["message", "delta"] {
            for call in choice[part]["tool_calls"].as_array_mut().into_iter().flatten() {
                call["id"] = Value::Null;
            }
        }
    }
    answer
}

/// The same chat asked of the server itself, and through us.
fn both(body: &Value) -> [Reply; 2] {
    let [url, _] = servers();
    let sidecar = sidecar(std::slice::from_ref(&url), "");
    [url, sidecar.data_url.clone()].map(|url| {
        let headers = [("x-mode", "strict")];
        post_with(&format!("{url}/v1/chat/completions"), body.to_string().into_bytes(), &headers)
    })
}

#[test]
#[ignore = "needs vLLM: make test-vllm"]
fn a_chat_is_answered() {
    for name in ["01-first-contact.json", "02-recall.json", "12-questions.json"] {
        let [direct, through] = both(&sample(name));
        assert_eq!(lasting(&through.ok()), lasting(&direct.ok()), "{name}");
        let counted = through.header("x-plimsoll-tokens-after");
        assert_eq!(counted, through.json()["usage"]["prompt_tokens"].to_string(), "{name}");
        assert_eq!(through.json()["choices"][0]["message"]["content"], expected(name), "{name}");
    }
}

#[test]
#[ignore = "needs vLLM: make test-vllm"]
fn a_stream_comes_as_it_is() {
    for name in ["02-recall.json", "08-tool-call.json"] {
        let mut body = sample(name);
        body["stream"] = true.into();
        body["stream_options"] = json!({"include_usage": true});
        let [direct, through] = both(&body).map(|reply| {
            assert_eq!(reply.status, 200, "{}", reply.text());
            reply.events().iter().map(lasting).collect::<Vec<_>>()
        });
        // Where the server cuts its text into pieces is a matter of its pace; what they say is not.
        assert_eq!(said(&through), said(&direct), "{name}");
        assert!(through.len() > 3, "{through:?}");
        assert_eq!(through.last(), direct.last(), "{name}: the usage");
    }
}

/// What the pieces of a stream say together: text, calls, the reason of the end.
fn said(events: &[Value]) -> (String, String, Vec<Value>) {
    let choices = || events.iter().filter_map(|event| event["choices"].get(0));
    let text = choices().filter_map(|choice| choice["delta"]["content"].as_str()).collect();
    let calls = choices()
        .flat_map(|choice| choice["delta"]["tool_calls"].as_array().into_iter().flatten())
        .flat_map(|call| {
            ["name", "arguments"].map(|part| call["function"][part].as_str().unwrap_or_default())
        })
        .collect();
    let ends = choices().map(|choice| choice["finish_reason"].clone()).filter(|end| !end.is_null()).collect();
    (text, calls, ends)
}

#[test]
#[ignore = "needs vLLM: make test-vllm"]
fn tools_are_called_and_answered() {
    let [direct, through] = both(&sample("08-tool-call.json"));
    let message = &through.ok()["choices"][0]["message"];
    let call = &message["tool_calls"][0]["function"];
    assert_eq!(lasting(&through.json()), lasting(&direct.ok()));
    assert!(call["name"].is_string() && call["arguments"].is_string(), "{message}");
    // The call and its result go back, and are counted as they run.
    let mut next = sample("08-tool-call.json");
    let id = message["tool_calls"][0]["id"].clone();
    let result = json!({"role": "tool", "tool_call_id": id, "content": "14 degrees, rain"});
    next["messages"].as_array_mut().unwrap().extend([message.clone(), result]);
    let [direct, through] = both(&next);
    assert_eq!(lasting(&through.ok()), lasting(&direct.ok()));
    let counted = through.header("x-plimsoll-tokens-after");
    assert_eq!(counted, through.json()["usage"]["prompt_tokens"].to_string());
}

#[test]
#[ignore = "needs vLLM: make test-vllm"]
fn the_server_tells_the_window_and_agrees_with_every_count() {
    let [url, _] = servers();
    let sidecar = sidecar(&[url], "");
    let state = || get(&format!("{}/state", sidecar.admin_url)).ok();
    let told = state();
    assert_eq!(told["upstreams"]["vllm"]["context_from"], "/v1/models", "{told}");
    let windows: Vec<_> =
        told["routes"].as_array().unwrap().iter().map(|route| &route["window_tokens"]).collect();
    assert_eq!(windows, vec![&json!(WINDOW); 4]);
    let chat = format!("{}/v1/chat/completions", sidecar.data_url);
    for turns in 1..8 {
        let mut body = super::talk::after(turns, "drift");
        body["stream"] = (turns % 2 == 0).into();
        assert_eq!(post_with(&chat, body.to_string().into_bytes(), &[]).status, 200);
    }
    // The answers that streamed did not tell their usage: nobody asked for it.
    let drift = loop {
        let drift = state()["totals"]["drift_by_upstream"]["vllm"].clone();
        if drift["requests"] == 4 {
            break drift;
        }
        std::thread::yield_now();
    };
    assert_eq!(drift["counted_tokens"], drift["reported_tokens"]);
}
