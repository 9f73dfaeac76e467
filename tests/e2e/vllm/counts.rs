//! Our counts are vLLM's: its `/tokenize` judges many conversations.

use std::sync::Arc;

use plimsoll_policies::{Conversation, CountTokens};
use plimsoll_proxy::assemble;
use plimsoll_tests::shared::{json, root, transcripts};
use plimsoll_tests::{post, post_with};
use serde_json::{Value, json};

use super::{servers, sidecar, talk};

/// Conversations of all sorts: samples, recorded ones where they are there, ones that grow, odd ones.
fn conversations() -> Vec<Value> {
    let folder = root().join("engine/demo/samples");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let samples = files.map(|file| as_sent(json(&file)));
    let recorded = transcripts().into_iter().flat_map(|whole| {
        let all = whole["messages"].as_array().unwrap().clone();
        // Some of the requests that made it, each a beginning that ends with the user or a tool.
        (2..=all.len()).step_by(5).map(move |count| json!({"messages": all[..count]})).collect::<Vec<_>>()
    });
    let grown = (1..40).step_by(3).map(|turns| talk::after(turns, "counts"));
    samples.chain(recorded).chain(grown).chain(odd()).collect()
}

/// A sample as clients send it: calls have ids, and their arguments are text.
fn as_sent(mut sample: Value) -> Value {
    let messages = sample["messages"].as_array_mut().into_iter().flatten();
    for call in messages.filter_map(|message| message["tool_calls"].as_array_mut()).flatten() {
        call["id"] = "c".into();
        call["function"]["arguments"] = call["function"]["arguments"].to_string().into();
    }
    for result in sample["messages"].as_array_mut().into_iter().flatten().filter(|one| one["role"] == "tool")
    {
        result["tool_call_id"] = "c".into();
    }
    sample
}

fn odd() -> Vec<Value> {
    let call = json!({"id": "c", "type": "function", "function": {"name": "f", "arguments": "{\"a\": [1, \"b\"], \"\u{e9}\": null}"}});
    let tool = json!({"type": "function", "function": {"name": "f", "description": "Does \"it\".",
        "parameters": {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "integer"}}}}}});
    let user = |content: Value| json!({"role": "user", "content": content});
    vec![
        json!({"messages": [user(json!("  two  spaces\n\n\ttab "))]}),
        json!({"messages": [user(json!("\u{1f600} caf\u{e9} \u{4f60}\u{597d} \u{200b} \u{0301}"))]}),
        json!({"messages": [user(json!("<|im_end|> and <|im_start|>user"))]}),
        json!({"messages": [user(json!([{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]))]}),
        json!({"messages": [user(json!("")), {"role": "assistant", "content": ""}, user(json!("1234567890"))]}),
        json!({"messages": [{"role": "system", "content": "s"}, user(json!("q"))], "tools": [tool]}),
        json!({"tools": [tool], "messages": [user(json!("q")), {"role": "assistant", "content": null, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c", "content": "{\"r\": 1}"}]}),
    ]
}

/// vLLM's own count of a conversation's prompt.
fn its(url: &str, conversation: &Value) -> u64 {
    let mut body =
        json!({"model": "demo", "messages": conversation["messages"], "add_generation_prompt": true});
    if conversation["tools"].is_array() {
        body["tools"] = conversation["tools"].clone();
    }
    post(&format!("{url}/tokenize"), &body).ok()["count"].as_u64().unwrap()
}

#[test]
#[ignore = "needs vLLM: make test-vllm"]
fn our_count_is_its_count() {
    let [url, _] = servers();
    let counter = assemble::exact("demo", &root().join("engine/demo/model")).unwrap();
    let all = conversations();
    assert!(all.len() > 30, "{}", all.len());
    for conversation in &all {
        let read = Conversation::parse_chat(Arc::from(conversation.to_string())).unwrap();
        let ours = counter.prompt(&read).unwrap();
        assert_eq!(ours, its(&url, conversation), "{conversation}");
    }
    println!("{} conversations counted alike", all.len());
}

#[test]
#[ignore = "needs vLLM: make test-vllm"]
fn what_is_sent_after_a_cut_has_the_tokens_that_we_say() {
    let [url, _] = servers();
    let sidecar = sidecar(&[url], "");
    let mut cut = 0;
    for turns in (1..80).step_by(6) {
        let body = talk::after(turns, "sent");
        let chat = format!("{}/v1/chat/completions", sidecar.data_url);
        let reply = post_with(&chat, body.to_string().into_bytes(), &[]);
        let used = reply.ok()["usage"]["prompt_tokens"].to_string();
        assert_eq!(reply.header("x-plimsoll-tokens-after"), used);
        // Asked for the count alone, vLLM counts what the policy leaves.
        let counted = post(&format!("{}/tokenize", sidecar.data_url), &body).ok()["count"].to_string();
        assert_eq!(counted, used);
        cut += usize::from(reply.header("x-plimsoll-actions") != "none");
    }
    assert!(cut > 5, "{cut}");
}
