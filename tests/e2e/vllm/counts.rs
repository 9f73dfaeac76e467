//! Our counts are vLLM's: its `/tokenize` judges many conversations.

use std::sync::Arc;

use plimsoll_policies::{Conversation, CountTokens};
use plimsoll_proxy::assemble;
use plimsoll_tests::shared::{json, root, transcripts};
use plimsoll_tests::{Sidecar, post, post_with};
use serde_json::{Value, json};

use super::{servers, sidecar, talk};

/// Conversations of all sorts: samples, recorded ones where they are there, ones that grow, odd ones.
fn conversations() -> Vec<Value> {
    let folder = root().join("engine/demo/samples");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let samples = files.map(|file| json(&file));
    let recorded = transcripts().into_iter().flat_map(|whole| {
        let all = whole["messages"].as_array().unwrap().clone();
        // Some of the requests that made it, each a beginning that ends with the user or a tool.
        (2..=all.len()).step_by(5).map(move |count| json!({"messages": all[..count]})).collect::<Vec<_>>()
    });
    let grown = (1..40).step_by(3).map(|turns| talk::after(turns, "counts"));
    samples.chain(recorded).chain(grown).chain(odd()).filter(|one| !has_calls(one)).collect()
}

/// vLLM reads the arguments of calls and has the template write them anew; ours writes them as the client spelt them, and
/// may differ by their spaces.
fn has_calls(conversation: &Value) -> bool {
    let mut messages = conversation["messages"].as_array().into_iter().flatten();
    messages.any(|message| message["tool_calls"].is_array())
}

fn odd() -> Vec<Value> {
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
fn it_counts_for_us_where_it_is_asked() {
    let [url, _] = servers();
    let sidecar = Sidecar::start(&format!(
        "
listen: {{ data: 127.0.0.1:0, admin: 127.0.0.1:0 }}
log: {{ level: 'off' }}
upstreams: {{ vllm: {{ url: '{url}', context: auto, tokenizer: upstream }} }}
routes: [{{ name: default, upstream: vllm, policy: chat }}]
"
    ));
    let mut cut = 0;
    for turns in (1..80).step_by(6) {
        let reply = post(&format!("{}/v1/chat/completions", sidecar.data_url), &talk::after(turns, "asked"));
        let used = reply.ok()["usage"]["prompt_tokens"].to_string();
        assert_eq!(reply.header("x-plimsoll-tokens-after"), used);
        assert_eq!(reply.header("x-plimsoll-tokens-estimated"), "");
        cut += usize::from(reply.header("x-plimsoll-actions") != "none");
    }
    assert!(cut > 5, "{cut}");
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
