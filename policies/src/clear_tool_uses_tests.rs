use serde_json::{Value, json};

use crate::support::{Counter, Memory, parse, run, steps};
use crate::{Chain, Conversation, CountTokens, Message, NoSummaries, Outcome, Report, SUMMARY_HEADER};

/// A question, then calls of `look` with a result of about `tokens` tokens each.
fn agent(calls: usize, tokens: usize) -> Vec<Value> {
    let mut messages = vec![json!({"role": "user", "content": "find it"})];
    for call in 0..calls {
        let function = json!({"name": "look", "arguments": format!("{{\"path\": \"/data/file-{call}\"}}")});
        let calls = json!([{"id": format!("c{call}"), "type": "function", "function": function}]);
        messages.push(json!({"role": "assistant", "content": null, "tool_calls": calls}));
        let text = format!("result {call} says ORD-{call:05}. {}", "word ".repeat(tokens * 4 / 5));
        messages.push(json!({"role": "tool", "tool_call_id": format!("c{call}"), "content": text, "x": 1}));
    }
    messages
}

fn body(messages: &[Value]) -> Conversation {
    parse(&json!({"messages": messages, "max_tokens": 100}).to_string())
}

fn clear(params: &Value, before: &Conversation) -> (Conversation, Report) {
    let chain = Chain::build("test", &steps(&json!([{"clear_tool_uses": params}])));
    run(&chain, before, &Counter::default(), &NoSummaries, 2100).unwrap()
}

fn stubs(conversation: &Conversation) -> Vec<usize> {
    let is_stub = |message: &Message| message.text().contains(" cleared, ");
    let all = conversation.messages().iter().enumerate();
    all.filter(|(_, message)| is_stub(message)).map(|(index, _)| index).collect()
}

#[test]
fn older_results_leave_a_line() {
    let before = body(&agent(10, 200));
    let (after, report) = clear(&json!({}), &before);
    assert_eq!(stubs(&after), [2, 4, 6, 8, 10, 12]);
    let tokens = Counter::default().messages(&before.messages()[2..3]);
    let want = format!("[plimsoll: result of look cleared, {tokens} tokens]");
    assert_eq!(after.messages()[2].text(), want);
    let json = format!(r#"{{"role":"tool","content":"{want}","tool_call_id":"c0","x":1}}"#);
    let sorted = |json: &str| serde_json::from_str::<Value>(json).unwrap();
    assert_eq!(sorted(after.messages()[2].json()), sorted(&json));
    let row = &report.rows[0];
    assert_eq!((row.outcome, row.messages, row.prefix_kept), (Outcome::Applied, 6, 2));
    assert_eq!((row.action, row.tool.as_deref()), ("clear", Some("look")));
    assert_eq!(row.reason, "over 1000 tokens: 6 results older than the last 3");
    assert_eq!(after.dropped().len(), 0);
}

#[test]
fn the_prefix_changes_once_a_batch() {
    let messages = agent(40, 100);
    let (mut last, mut batches) = (0, 0);
    for end in 1..=messages.len() {
        let (after, _) = clear(&json!({}), &body(&messages[..end]));
        let cleared = stubs(&after);
        assert!(
            cleared.len() >= last && cleared.iter().enumerate().all(|(nth, index)| *index == 2 + 2 * nth)
        );
        batches += usize::from(cleared.len() > last);
        last = cleared.len();
    }
    // A batch frees a quarter of the budget of 2000 here: five results.
    assert!((5..=8).contains(&batches) && last >= 32, "{batches} {last}");
}

#[test]
fn what_stays() {
    let messages = agent(10, 200);
    let before = body(&messages);
    let stays = [
        json!({"exclude": ["look"]}),
        json!({"trigger": 1.0, "clear_at_least": 5000}),
        json!({"keep": 10}),
        json!({"min_bytes": 5000}),
    ];
    for params in stays {
        let (after, report) = clear(&params, &before);
        assert!(!after.is_changed() && report.rows[0].outcome == Outcome::Unchanged, "{params}");
    }
    let (after, _) = clear(&json!({"keep": 1, "clear_at_least": 0, "trigger": 0.0}), &before);
    assert_eq!(stubs(&after).last(), Some(&(messages.len() - 3)));
    let short: Vec<Value> = agent(200, 1);
    assert!(!clear(&json!({"min_bytes": 50}), &body(&short)).0.is_changed());
}

#[test]
fn results_that_nobody_has_seen_stay() {
    let call = |n: usize| json!({"id": format!("c{n}"), "function": {"name": "look", "arguments": "{}"}});
    let calls: Vec<Value> = (0..8).map(call).collect();
    let mut messages =
        vec![json!({"role": "user", "content": "go"}), json!({"role": "assistant", "tool_calls": calls})];
    let result =
        |n: usize| json!({"role": "tool", "tool_call_id": format!("c{n}"), "content": "word ".repeat(240)});
    messages.extend((0..8).map(result));
    assert!(!clear(&json!({}), &body(&messages)).0.is_changed());
    messages.push(json!({"role": "assistant", "content": "seen"}));
    assert_eq!(stubs(&clear(&json!({}), &body(&messages)).0), [2, 3, 4, 5, 6]);
}

#[test]
fn inputs_go_where_asked() {
    let before = body(&agent(10, 200));
    let (after, report) = clear(&json!({"clear_inputs": true}), &before);
    let arguments = |index: usize| after.messages()[index].tool_calls()[0].arguments.clone();
    assert_eq!((arguments(1).as_str(), arguments(11).as_str()), ("{}", "{}"));
    assert_eq!(arguments(13), r#"{"path": "/data/file-6"}"#);
    assert_eq!(after.messages()[1].tool_calls()[0].id.as_deref(), Some("c0"));
    assert_eq!(report.rows[0].messages, 12);
}

#[test]
fn odd_results() {
    let mut messages = agent(8, 200);
    messages[2]["content"] =
        json!([{"type": "text", "text": "word ".repeat(200)}, {"type": "image", "data": "x"}]);
    messages[4]["tool_call_id"] = json!(7);
    messages[6]["content"] = json!({"deep": "word ".repeat(200)});
    let (after, _) = clear(&json!({}), &body(&messages));
    // The next of them wait for their batch; an object is no result that can be read.
    assert_eq!(stubs(&after), [2, 4, 8]);
    assert!(after.messages()[4].text().starts_with("[plimsoll: tool result cleared, "));
}

/// What a cut dropped before a batch was cleared stays dropped, and summaries tell of results, not of stubs.
#[test]
fn summaries_see_what_was_cleared() {
    let mut messages = agent(30, 120);
    for (index, message) in messages.iter_mut().enumerate().filter(|(index, _)| index % 2 == 1) {
        message["content"] = json!(format!("step {index} {}", "so ".repeat(80)));
    }
    let chain = Chain::build("test", &steps(&json!(["clear_tool_uses", "summarize", "fit_context"])));
    let (memory, mut dropped, mut told) = (Memory::default(), 0, false);
    for end in 1..=messages.len() {
        let before = body(&messages[..end]);
        let (after, report) = run(&chain, &before, &Counter::default(), &memory, 2100).unwrap();
        assert!(report.tokens_after <= 2000);
        assert!(after.dropped().len() >= dropped, "dropped messages came back");
        dropped = after.dropped().len();
        let summary = after.messages().iter().find(|message| message.text().starts_with(SUMMARY_HEADER));
        told |= summary.is_some_and(|summary| summary.text().contains("ORD-"));
        assert!(!summary.is_some_and(|summary| summary.text().contains("[plimsoll: ")));
        let fresh = run(&chain, &before, &Counter::default(), &NoSummaries, 2100).unwrap().0;
        assert_eq!(fresh.to_json(), after.to_json());
    }
    assert!(dropped > 10 && told, "{dropped} {told}");
}

/// A call of a tool on a file and its result of about `tokens` tokens.
fn on_file(number: usize, tool: &str, path: &str, tokens: usize) -> [Value; 2] {
    let function = json!({"name": tool, "arguments": format!("{{\"path\": \"{path}\"}}")});
    let calls = json!([{"id": format!("c{number}"), "type": "function", "function": function}]);
    let text = "word ".repeat(tokens * 4 / 5);
    [
        json!({"role": "assistant", "content": null, "tool_calls": calls}),
        json!({"role": "tool", "tool_call_id": format!("c{number}"), "content": text}),
    ]
}

#[test]
fn reads_that_no_longer_hold_go_first() {
    let deeds = [("read", "a"), ("read", "b"), ("read", "c"), ("edit", "a"), ("read", "b"), ("look", "d")];
    let mut messages = vec![json!({"role": "user", "content": "go"})];
    messages.extend(deeds.iter().enumerate().flat_map(|(at, (tool, path))| on_file(at, tool, path, 300)));
    messages.push(json!({"role": "assistant", "content": "seen"}));
    let before = body(&messages);
    let (after, report) = clear(&json!({}), &before);
    assert_eq!(stubs(&after), [2, 4], "the first read of `a` was edited, that of `b` repeated");
    assert_eq!(
        report.rows[0].reason,
        "over 1000 tokens: 2 results older than the last 3, 2 of them reads of what was edited or read again"
    );
    assert!(!clear(&json!({"keep": 6, "stale_first": false}), &before).0.is_changed());
    // Among the last results too.
    let (after, _) = clear(&json!({"keep": 6}), &before);
    assert_eq!(stubs(&after), [2, 4]);
    let (again, _) = clear(&json!({}), &parse(&after.to_json()));
    assert!(!again.is_changed());
}
