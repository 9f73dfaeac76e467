//! What a cut drops is summarised, by rules or by the engine's own model, and the facts in it can be asked for.

use plimsoll_tests::shared::demo;
use plimsoll_tests::{Sidecar, post};
use serde_json::{Value, json};

pub(crate) const POLICIES: &str = "
policies:
  extract:
    steps:
      - summarize: { with: extract, max_tokens: 160 }
      - fit_context: { low: 0.4 }
  engine:
    steps:
      - summarize: { with: engine, max_tokens: 160, min_span: 32, verify: 0 }
      - fit_context: { low: 0.4 }
";

#[test]
fn by_rules() {
    a_fact_outlives_its_message("extract");
}

#[test]
fn by_the_model() {
    a_fact_outlives_its_message("engine");
}

fn a_fact_outlives_its_message(policy: &str) {
    let config = demo(2048, policy).replace("any_model: true", "any_model: true, window: 640");
    let sidecar = Sidecar::start(&format!("{config}{POLICIES}"));
    let body = json!({"model": "demo", "temperature": 0, "max_tokens": 64, "messages": conversation()});
    let reply = post(&format!("{}/v1/chat/completions", sidecar.data_url), &body);
    let answer = reply.ok();
    assert_eq!(answer["choices"][0]["message"]["content"], "Your order number is ORD-48213.");
    assert!(reply.header("x-plimsoll-actions").starts_with("summarize="), "{:?}", reply.headers);
    assert_eq!(answer["usage"]["prompt_tokens"].to_string(), reply.header("x-plimsoll-tokens-after"));
    // The summary is remembered: explaining finds it and asks no model.
    let explained = post(&format!("{}/explain?messages=true", sidecar.admin_url), &body).ok();
    let summary = explained["messages"][1]["content"].as_str().expect("a summary");
    assert!(
        summary.starts_with("Summary of the earlier conversation:\n") && summary.contains("ORD-48213"),
        "{summary}"
    );
    assert_eq!(explained["report"]["tokens_after"], answer["usage"]["prompt_tokens"]);
}

/// A greeting, a fact, talk until the window is full, and the question.
pub(crate) fn conversation() -> Vec<Value> {
    let mut messages = vec![
        json!({"role": "user", "content": "Hello"}),
        json!({"role": "assistant", "content": "Hello! How can I help you?"}),
        json!({"role": "user", "content": "My order number is ORD-48213."}),
        json!({"role": "assistant", "content": "Thanks, I have noted that."}),
    ];
    let (asked, told) = (
        "Why do long chats use more memory?",
        "Every token of the conversation adds keys and values to the KV cache. A chat that is twice as long \
         therefore needs about twice as much cache memory.",
    );
    for _ in 0..9 {
        messages.push(json!({"role": "user", "content": asked}));
        messages.push(json!({"role": "assistant", "content": told}));
    }
    messages.push(json!({"role": "user", "content": "What is my order number?"}));
    messages
}
