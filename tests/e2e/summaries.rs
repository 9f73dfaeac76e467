//! What a cut drops is summarised, by rules or by the engine's own model, and the facts in it can be asked for.

use plimsoll_tests::mock::{Answer, Mock};
use plimsoll_tests::shared::demo;
use plimsoll_tests::{Reply, Sidecar, post, post_with};
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

const SERVERS: &str = "
listen: { data: 127.0.0.1:0, admin: 127.0.0.1:0 }
log: { level: error }
upstreams:
  chat: { url: 'CHAT', context: 480 }
  gpt: { url: 'GPT/base/', context: 8000, api_key: of-the-config }
routes: [{ name: default, upstream: chat, policy: server }]
policies:
  server:
    steps:
      - summarize: { with: { upstream: gpt }, model: small, max_tokens: 60, min_span: 32, timeout: TIMEOUT, ahead: AHEAD }
      - fit_context: { low: 0.4 }
";

fn servers(chat: &Mock, gpt: &Mock, ahead: bool) -> Sidecar {
    patient(chat, gpt, ahead, "20s")
}

fn patient(chat: &Mock, gpt: &Mock, ahead: bool, timeout: &str) -> Sidecar {
    let config = SERVERS.replace("CHAT", &chat.url).replace("GPT", &gpt.url).replace("TIMEOUT", timeout);
    Sidecar::start(&config.replace("AHEAD", &ahead.to_string()))
}

fn send(sidecar: &Sidecar, messages: &[Value]) -> Reply {
    let body = json!({"model": "large", "max_tokens": 64, "messages": messages});
    let url = format!("{}/v1/chat/completions", sidecar.data_url);
    post_with(&url, body.to_string().into_bytes(), &[("authorization", "Bearer of-the-caller")])
}

fn summarised(mock: &Mock) -> String {
    let sent: Value = serde_json::from_slice(&mock.seen().last().expect("a request").body).expect("JSON");
    sent["messages"][1]["content"].as_str().expect("a text").to_owned()
}

/// A summariser that never answers costs one `timeout` a request, however many cuts lie behind a conversation.
#[test]
fn a_hanging_server_is_waited_for_once() {
    let (hanging, _never) = Answer::stream();
    let (chat, gpt) = (Mock::start(Vec::new()), Mock::start(vec![hanging]));
    let sidecar = patient(&chat, &gpt, false, "300ms");
    let turn = |n: usize| {
        let text = format!("Item {n} is ORD-{n:05}. {}", "and so on ".repeat(12));
        [json!({"role": "user", "content": text}), json!({"role": "assistant", "content": "Noted."})]
    };
    let mut messages: Vec<Value> = (0..200).flat_map(turn).collect();
    messages.push(json!({"role": "user", "content": "Which items?"}));
    let first = send(&sidecar, &messages);
    assert_eq!((first.status, gpt.seen().len()), (200, 1), "{}", first.text());
    assert!(summarised(&chat).starts_with("Summary of the earlier conversation:"));
    // What stood in stays: the next turn begins as this one, and nobody is asked.
    let sent = |mock: &Mock| -> Value { serde_json::from_slice(&mock.seen().last().unwrap().body).unwrap() };
    let before = sent(&chat);
    messages.extend([
        json!({"role": "assistant", "content": "Many."}),
        json!({"role": "user", "content": "Ok."}),
    ]);
    assert_eq!((send(&sidecar, &messages).status, gpt.seen().len()), (200, 1));
    let (before, after) = (before["messages"].as_array().unwrap().clone(), sent(&chat));
    assert_eq!(before[..], after["messages"].as_array().unwrap()[..before.len()]);
}

#[test]
fn by_a_server() {
    let written =
        json!({"choices": [{"message": {"content": "Order: ORD-48213."}, "finish_reason": "stop"}]});
    let (chat, gpt) = (Mock::start(Vec::new()), Mock::start(vec![Answer::json(&written.to_string())]));
    let sidecar = servers(&chat, &gpt, false);
    let messages = conversation();
    assert!(send(&sidecar, &messages).header("x-plimsoll-actions").starts_with("summarize="));
    let asked = gpt.only();
    assert_eq!(
        (asked.line.as_str(), &asked.headers["authorization"]),
        ("POST /base/v1/chat/completions", &"Bearer of-the-config".parse().expect("a header"))
    );
    let sent: Value = serde_json::from_slice(&asked.body).expect("JSON");
    assert_eq!((&sent["model"], &sent["temperature"]), (&json!("small"), &json!(0)));
    let asked = sent["messages"].as_array().expect("messages");
    let (request, span) = asked.split_last().expect("a request");
    assert_eq!(span, &messages[..span.len()]);
    assert!(request["content"].as_str().expect("a text").starts_with("Summarise the conversation"));
    assert!(summarised(&chat).contains("Order: ORD-48213."), "{}", summarised(&chat));
    // It is asked once; what it wrote stays for the epoch.
    send(&sidecar, &messages);
    assert_eq!(gpt.seen().len(), 1);
}

#[test]
fn a_server_that_is_down_has_a_stand_in_and_is_asked_again_at_the_next_cut() {
    let text = |text: &str| {
        json!({"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}).to_string()
    };
    let answers = vec![
        Answer::json("{}").status(503),
        Answer::json(&text("Order: ORD-48213.")),
        Answer::json(&text("Order: ORD-48213. Talk of memory.")),
    ];
    let (chat, gpt) = (Mock::start(Vec::new()), Mock::start(answers));
    let sidecar = servers(&chat, &gpt, false);
    let mut messages = conversation();
    send(&sidecar, &messages);
    let stand_in = summarised(&chat);
    assert!(stand_in.contains("ORD-48213") && gpt.seen().len() == 1, "{stand_in}");
    let talk: Vec<Value> = messages[4..10].to_vec();
    while gpt.seen().len() == 1 {
        assert_eq!(summarised(&chat), stand_in);
        messages.extend(talk.clone());
        messages.push(json!({"role": "assistant", "content": "As I said."}));
        messages.push(json!({"role": "user", "content": "And now?"}));
        send(&sidecar, &messages);
    }
    assert_eq!(gpt.seen().len(), 3);
    assert!(summarised(&chat).contains("Talk of memory."), "{}", summarised(&chat));
}

#[test]
fn the_summary_is_there_before_the_cut() {
    let text = json!({"choices": [{"message": {"content": "Order: ORD-48213."}, "finish_reason": "stop"}]});
    let (chat, gpt) = (Mock::start(Vec::new()), Mock::start(vec![Answer::json(&text.to_string())]));
    let sidecar = servers(&chat, &gpt, true);
    let messages = conversation();
    for end in (1..messages.len()).step_by(2) {
        let asked = gpt.seen().len();
        if send(&sidecar, &messages[..end]).header("x-plimsoll-actions").starts_with("summarize=") {
            // It was written after an answer: nobody waited for it.
            assert_eq!(asked, 1);
            assert!(summarised(&chat).contains("Order: ORD-48213."), "{}", summarised(&chat));
            return;
        }
        sidecar.settled();
    }
    panic!("nothing was cut");
}

const AHEAD: &str = "
policies:
  plain:
    steps:
      - summarize: { with: engine, max_tokens: 48, min_span: 32, verify: 0 }
      - fit_context
  double:
    steps:
      - summarize: { with: engine, max_tokens: 48, min_span: 32, verify: 0, prefill_ahead: true }
      - fit_context
";

/// What came of a conversation that was asked turn by turn.
#[derive(Debug, Default, PartialEq)]
struct Grown {
    answers: Vec<Value>,
    prompts: Vec<u64>,
    /// For each cut, tokens of its prompt and how many of them were computed.
    cuts: Vec<(u64, u64)>,
}

fn grow(policy: &str) -> Grown {
    let config = demo(2048, policy).replace("any_model: true", "any_model: true, window: 400");
    let sidecar = Sidecar::start(&format!("{config}{AHEAD}"));
    let mut messages: Vec<Value> = conversation().into_iter().chain(conversation().split_off(4)).collect();
    // No two turns are alike, or what one left in the cache would serve the other.
    for (number, message) in
        messages.iter_mut().enumerate().filter(|(_, message)| message["role"] == "assistant")
    {
        message["content"] = format!("{number}. {}", message["content"].as_str().expect("a text")).into();
    }
    let (mut grown, mut before) = (Grown::default(), String::new());
    for end in (0..messages.len()).filter(|end| messages[*end]["role"] == "user") {
        let messages = &messages[..=end];
        let body = json!({"model": "demo", "temperature": 0, "max_tokens": 64, "messages": messages});
        let reply = post(&format!("{}/v1/chat/completions", sidecar.data_url), &body);
        let (answer, actions) = (reply.ok(), reply.header("x-plimsoll-actions").clone());
        let usage = &answer["usage"];
        let prompt = usage["prompt_tokens"].as_u64().expect("a count");
        let cached = usage["prompt_tokens_details"]["cached_tokens"].as_u64().expect("a count");
        if actions != before && actions != "none" {
            grown.cuts.push((prompt, prompt - cached));
        }
        grown.answers.push(answer["choices"][0]["message"].clone());
        grown.prompts.push(prompt);
        before = actions;
        sidecar.settled();
    }
    grown
}

#[test]
fn the_prompt_behind_the_cut_is_there_before_it() {
    let (plain, double) = (grow("plain"), grow("double"));
    assert_eq!((&plain.answers, &plain.prompts), (&double.answers, &double.prompts));
    assert_eq!(plain.answers.last().expect("an answer")["content"], "Your order number is ORD-48213.");
    assert!(double.cuts.len() >= 4, "{double:?}");
    for ((prompt, alone), (_, computed)) in plain.cuts.iter().zip(&double.cuts) {
        // What is left to compute is the last answer, as the client sends it, and the new question.
        assert!(*computed < 64 && alone > computed, "{computed} of {prompt} computed, {alone} without");
    }
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
