//! The demo model's twelve samples, token for token, and what it is bundled for: tools, streams, stops, limits.

use plimsoll_tests::shared::{demo, json, root};
use plimsoll_tests::{Sidecar, post};
use serde_json::{Value, json};

fn chat(sidecar: &Sidecar, body: &Value) -> plimsoll_tests::Reply {
    post(&format!("{}/v1/chat/completions", sidecar.data_url), body)
}

fn samples() -> Vec<Value> {
    let folder = root().join("engine/demo/samples");
    let mut files: Vec<_> = folder.read_dir().expect("the samples are there").flatten().collect();
    files.sort_by_key(std::fs::DirEntry::file_name);
    files.iter().map(|file| json(&file.path())).collect()
}

#[test]
fn twelve_samples_are_answered_token_for_token() {
    // The samples are prompts to the letter: no policy may put their tools in order.
    let sidecar = Sidecar::start(&demo(2048, "'off'"));
    let samples = samples();
    assert_eq!(samples.len(), 12);
    for sample in &samples {
        let mut body = json!({"model": "demo", "temperature": 0, "return_token_ids": true});
        body["messages"] = wire(&sample["messages"]);
        if sample["tools"].as_array().is_some_and(|tools| !tools.is_empty()) {
            body["tools"] = sample["tools"].clone();
        }
        let answer = chat(&sidecar, &body).ok();
        let mut tokens = answer["choices"][0]["token_ids"].as_array().expect("token ids").clone();
        let expected = sample["expected_tokens"].as_array().expect("tokens");
        // The sample does not tell the token that ends the answer.
        tokens.truncate(expected.len());
        assert_eq!(tokens, *expected, "{}", sample["name"]);
        assert_eq!(answer["usage"]["prompt_tokens"], sample["prompt_tokens"], "{}", sample["name"]);
    }
}

/// Messages as clients send them: a sample's calls have no ids and hold their arguments as objects.
fn wire(messages: &Value) -> Value {
    let mut messages = messages.clone();
    let mut open = Vec::new();
    for (index, message) in messages.as_array_mut().expect("messages").iter_mut().enumerate() {
        if let Some(calls) = message["tool_calls"].as_array_mut() {
            for (number, call) in calls.iter_mut().enumerate() {
                let id = format!("call_{index}_{number}");
                let function = call.get("function").unwrap_or(call).clone();
                let arguments = spaced(&function["arguments"]);
                *call = json!({"id": id, "type": "function",
                    "function": {"name": function["name"], "arguments": arguments}});
                open.insert(0, id);
            }
        }
        if message["role"] == "tool" {
            message["tool_call_id"] = open.pop().into();
        }
    }
    messages
}

/// JSON with Python's spaces, which the model was trained on.
fn spaced(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let members: Vec<_> =
                map.iter().map(|(key, value)| format!("\"{key}\": {}", spaced(value))).collect();
            format!("{{{}}}", members.join(", "))
        }
        other => other.to_string(),
    }
}

#[test]
fn a_stream_says_the_same_as_one_answer() {
    let sidecar = Sidecar::start(&demo(2048, "chat"));
    let mut body =
        json!({"model": "demo", "messages": [{"role": "user", "content": "What is the KV cache?"}]});
    let whole = chat(&sidecar, &body).ok();
    body["stream"] = true.into();
    body["stream_options"] = json!({"include_usage": true});
    let events = chat(&sidecar, &body).events();
    let text: String =
        events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, whole["choices"][0]["message"]["content"]);
    assert!(text.contains("keys and values"), "{text}");
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    let (usage, chunks) = events.split_last().expect("events");
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(usage["usage"]["completion_tokens"], whole["usage"]["completion_tokens"]);
    assert!(chunks.iter().all(|chunk| chunk["usage"].is_null()));
    assert_eq!(chunks.last().expect("chunks")["choices"][0]["finish_reason"], "stop");
}

#[test]
fn a_growing_conversation_reuses_its_prefix() {
    let sidecar = Sidecar::start(&demo(2048, "chat"));
    let mut messages = vec![json!({"role": "user", "content": "My name is Maria Lopez."})];
    let first = chat(&sidecar, &json!({"model": "demo", "messages": messages})).ok();
    messages.push(first["choices"][0]["message"].clone());
    messages.push(json!({"role": "user", "content": "What is my name?"}));
    let second = chat(&sidecar, &json!({"model": "demo", "messages": messages})).ok();
    assert_eq!(second["choices"][0]["message"]["content"], "Your name is Maria Lopez.");
    let cached = second["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().expect("a count");
    assert!(cached >= first["usage"]["prompt_tokens"].as_u64().expect("a count"), "{second}");
}

#[test]
fn stops_and_limits_end_an_answer() {
    let sidecar = Sidecar::start(&demo(2048, "chat"));
    let ask = |more: Value| {
        let mut body =
            json!({"model": "demo", "messages": [{"role": "user", "content": "What is the KV cache?"}]});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        chat(&sidecar, &body).ok()["choices"][0].clone()
    };
    let stopped = ask(json!({"stop": ["attention", "never said"]}));
    assert_eq!(stopped["message"]["content"], "The KV cache keeps the ");
    assert_eq!(stopped["finish_reason"], "stop");
    let short = ask(json!({"max_tokens": 4}));
    assert_eq!(short["finish_reason"], "length");
    let seeded = |seed: u64| ask(json!({"temperature": 1.5, "seed": seed}))["message"]["content"].clone();
    assert_eq!(seeded(7), seeded(7));
}

#[test]
fn a_tool_call_comes_in_its_own_shape() {
    let sidecar = Sidecar::start(&demo(2048, "agent"));
    let sample = samples().into_iter().find(|sample| sample["name"] == "tool-call").expect("the sample");
    let mut body = json!({"model": "demo", "messages": sample["messages"], "tools": sample["tools"]});
    let choice = chat(&sidecar, &body).ok()["choices"][0].clone();
    assert_eq!(choice["finish_reason"], "tool_calls");
    let call = &choice["message"]["tool_calls"][0];
    assert_eq!(call["function"]["name"], "get_order_status");
    assert_eq!(call["function"]["arguments"], r#"{"order_id": "ORD-90412"}"#);
    assert!(choice["message"]["content"].is_null());
    body["stream"] = true.into();
    let events = chat(&sidecar, &body).events();
    let deltas = events.iter().filter_map(|event| event["choices"][0]["delta"]["tool_calls"][0].as_object());
    let arguments: String = deltas.filter_map(|delta| delta["function"]["arguments"].as_str()).collect();
    assert_eq!(arguments, r#"{"order_id": "ORD-90412"}"#);
}
