use serde_json::{Value, json};

use crate::support::{Counter, parse, run, steps};
use crate::{Chain, Conversation, NoSummaries, Outcome, Report};

/// Turns of a question, a thought with a call, its result, a thought with an answer; then one more question.
fn turns(count: usize) -> Vec<Value> {
    let thought = |turn: usize| format!("I think {turn} {}", "so ".repeat(30));
    let mut messages = Vec::new();
    for turn in 0..count {
        let calls = json!([{"id": format!("c{turn}"), "function": {"name": "f", "arguments": "{}"}}]);
        messages.push(json!({"role": "user", "content": format!("question {turn}")}));
        messages.push(json!({"role": "assistant", "content": null, "reasoning_content": thought(turn), "tool_calls": calls}));
        messages.push(json!({"role": "tool", "tool_call_id": format!("c{turn}"), "content": "r"}));
        messages.push(json!({"role": "assistant", "reasoning": thought(turn), "content": "answer"}));
    }
    messages
}

fn clear(params: &Value, messages: &[Value]) -> (Conversation, Report) {
    let chain = Chain::build("test", &steps(&json!([{"clear_thinking": params}])));
    let before = parse(&json!({"messages": messages}).to_string());
    run(&chain, &before, &Counter::default(), &NoSummaries, 8000).unwrap()
}

fn thinking(conversation: &Conversation) -> Vec<usize> {
    let all = conversation.messages().iter().enumerate();
    all.filter(|(_, message)| message.json().contains("I think")).map(|(index, _)| index).collect()
}

#[test]
fn older_turns_lose_it_in_batches() {
    let mut messages = turns(4);
    let (after, _) = clear(&json!({"keep": 1}), &messages);
    assert!(!after.is_changed(), "three turns are over, three may gather, the fourth runs");
    messages.push(json!({"role": "user", "content": "next"}));
    let (after, report) = clear(&json!({"keep": 1}), &messages);
    assert_eq!(thinking(&after), [13, 15]);
    assert_eq!(
        after.messages()[3].json(),
        r#"{"role":"assistant","content":"answer"}"#,
        "only the reasoning goes"
    );
    assert!(after.messages()[1].has_calls());
    let row = &report.rows[0];
    assert_eq!((row.outcome, row.messages, row.action, row.prefix_kept), (Outcome::Applied, 6, "clear", 1));
    assert_eq!(row.reason, "reasoning older than the last 1 turns that have some");
}

#[test]
fn what_has_gone_stays_gone() {
    let messages = turns(12);
    let (mut last, mut changes) = (Vec::new(), 0);
    for end in 1..=messages.len() {
        let (after, _) = clear(&json!({"keep": 2, "slack": 3}), &messages[..end]);
        let left = thinking(&after);
        let all: Vec<usize> = (0..end).filter(|index| index % 2 == 1).collect();
        let gone = all.len() - left.len();
        assert!(all.ends_with(&left) && gone >= last.len());
        changes += usize::from(gone > last.len());
        last = vec![0; gone];
    }
    assert_eq!((changes, last.len()), (2, 16));
}

#[test]
fn a_running_loop_keeps_all_of_its_own() {
    let mut messages = turns(1);
    for step in 0..8 {
        messages.push(
            json!({"role": "assistant", "reasoning": format!("I think {step}"), "content": "going on"}),
        );
    }
    assert!(!clear(&json!({"keep": 0, "slack": 0}), &messages).0.is_changed());
    messages.push(json!({"role": "user", "content": "stop"}));
    assert_eq!(thinking(&clear(&json!({"keep": 0, "slack": 0}), &messages).0), [0_usize; 0]);
}

#[test]
fn template_and_all_only_tell() {
    let mut messages = turns(4);
    messages.push(json!({"role": "user", "content": "next"}));
    let (after, report) = clear(&json!({}), &messages);
    assert!(!after.is_changed());
    let told = &report.rows[0].reason;
    assert!(told.starts_with("left to the template: reasoning of 4 older turns takes "), "{told}");
    assert!(clear(&json!({"keep": "all"}), &messages).1.rows[0].reason.starts_with("all kept: "));
    assert_eq!(clear(&json!({}), &messages[..1]).1.rows[0].reason, "no reasoning in older turns");
}

#[test]
fn parts_go_and_husks_stay() {
    let thought = json!({"type": "thinking", "thinking": "I think so", "signature": "abc"});
    let calls = json!([{"id": "c", "function": {"name": "f", "arguments": "{}"}}]);
    let messages = [
        json!({"role": "user", "content": "a"}),
        json!({"role": "assistant", "content": [thought, {"type": "text", "text": "b", "cache_control": {}}]}),
        json!({"role": "assistant", "content": [thought], "tool_calls": calls}),
        json!({"role": "tool", "tool_call_id": "c", "content": "r"}),
        json!({"role": "assistant", "content": [thought]}),
        json!({"role": "assistant", "reasoning": "I think", "content": null}),
        json!({"role": "assistant", "reasoning": null, "content": "reasoning"}),
        json!({"role": "user", "content": "reasoning, thinking"}),
    ];
    let (after, _) = clear(&json!({"keep": 0, "slack": 0}), &messages);
    let contents: Vec<Value> = after
        .messages()
        .iter()
        .map(|message| serde_json::from_str::<Value>(message.json()).unwrap()["content"].clone())
        .collect();
    assert_eq!(contents[1], json!([{"type": "text", "text": "b", "cache_control": {}}]));
    assert_eq!((&contents[2], &contents[4]), (&Value::Null, &json!([thought])));
    assert!((5..8).all(|index| after.messages()[index].is_original()));
}
