use serde_json::json;

use crate::support::{Counter, parse, run, steps};
use crate::{Chain, Conversation, Message, NoSummaries};

/// A system prompt and turns of a question and an answer.
fn chat(turns: usize) -> Conversation {
    let mut messages = vec![json!({"role": "system", "content": "s"})];
    for turn in 0..turns {
        messages.push(json!({"role": "user", "content": format!("q{turn}")}));
        messages.push(json!({"role": "assistant", "content": format!("a{turn}")}));
    }
    messages.push(json!({"role": "user", "content": "last"}));
    parse(&json!({"messages": messages}).to_string())
}

fn texts(conversation: &Conversation) -> Vec<&str> {
    conversation.messages().iter().map(Message::text).collect()
}

fn trim(params: &serde_json::Value, conversation: &Conversation) -> Conversation {
    let chain = Chain::build("test", &steps(&json!([{"trim_turns": params}])));
    run(&chain, conversation, &Counter::default(), &NoSummaries, 8000).unwrap().0
}

#[test]
fn turns_go_in_batches() {
    let params = json!({"keep": 2, "slack": 2});
    assert!(!trim(&params, &chat(4)).is_changed());
    let cut = trim(&params, &chat(5));
    assert_eq!(texts(&cut), ["s", "q0", "q4", "a4", "last"]);
    assert_eq!(cut.dropped().len(), 7);
    assert!(cut.dropped().iter().all(|gone| gone.by == "trim_turns"));
    assert_eq!(texts(&trim(&params, &chat(7))), ["s", "q0", "q4", "a4", "q5", "a5", "q6", "a6", "last"]);
    assert_eq!(texts(&trim(&params, &chat(8))), ["s", "q0", "q7", "a7", "last"]);
}

#[test]
fn without_a_pin_the_first_turn_goes_too() {
    let params = json!({"keep": 1, "slack": 0, "pin_first_user": false});
    assert_eq!(texts(&trim(&params, &chat(3))), ["s", "last"]);
}

#[test]
fn a_conversation_without_turns_stays() {
    let body = r#"{"messages":[{"role":"assistant","content":"a"},{"role":"tool","content":"t"}]}"#;
    assert!(!trim(&json!({"keep": 1, "slack": 0}), &parse(body)).is_changed());
    assert!(!trim(&json!({"keep": 1, "slack": 0}), &parse(r#"{"messages":[]}"#)).is_changed());
}

#[test]
fn roles_alternate_where_they_must() {
    let chain = Chain::build("test", &steps(&json!([{"trim_turns": {"keep": 2, "slack": 2}}])));
    let counter = Counter { alternate: true, excess: 0 };
    let after = run(&chain, &chat(5), &counter, &NoSummaries, 8000).unwrap().0;
    assert_eq!(texts(&after), ["s", "q0", "a3", "q4", "a4", "last"]);
}
