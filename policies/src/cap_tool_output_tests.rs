use serde_json::json;

use crate::support::{Counter, Memory, parse, run, steps};
use crate::{Chain, Conversation, CountTokens, NoSummaries, Outcome, Report};

fn body(content: &serde_json::Value) -> String {
    let call = json!({"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "ls", "arguments": "{}"}}]});
    json!({"messages": [call, {"role": "tool", "tool_call_id": "a", "content": content, "x": 1}]}).to_string()
}

fn cap(params: &serde_json::Value, body: &str) -> (Conversation, Report) {
    let chain = Chain::build("test", &steps(&json!([{"cap_tool_output": params}])));
    run(&chain, &parse(body), &Counter::default(), &NoSummaries, 8000).unwrap()
}

fn lines(count: usize) -> String {
    (0..count).map(|line| format!("line {line:04}\n")).collect()
}

#[test]
fn head_and_tail_on_lines() {
    let (after, report) = cap(&json!({"max_tokens": 60}), &body(&json!(lines(1000))));
    let want = "line 0000\nline 0001\nline 0002\nline 0003\nline 0004\n[plimsoll: 2,454 of 2,500 tokens omitted]\n\
                line 0987\nline 0988\nline 0989\nline 0990\nline 0991\nline 0992\nline 0993\nline 0994\nline 0995\n\
                line 0996\nline 0997\nline 0998\nline 0999\n";
    assert_eq!(after.messages()[1].text(), want);
    assert!(Counter::default().text(want) <= 60);
    let row = &report.rows[0];
    assert_eq!((row.outcome, row.messages, row.tool.as_deref()), (Outcome::Applied, 1, Some("ls")));
    assert_eq!((row.prefix_kept, row.reason.as_str()), (1, "over 60 tokens: head and tail kept"));
    assert!(after.messages()[1].json().ends_with(r#"","x":1}"#));
}

#[test]
fn one_long_line_is_cut_between_characters() {
    let (after, _) = cap(&json!({"max_tokens": 50, "head": 0.5}), &body(&json!("é€😀".repeat(500))));
    let text = after.messages()[1].text();
    assert!(text.starts_with("é€😀é") && text.ends_with("€😀") && text.contains("\n[plimsoll: "), "{text}");
    assert!(Counter::default().text(text) <= 50);
}

#[test]
fn what_stays_whole() {
    let long = body(&json!(lines(100)));
    let stays = [
        (json!({"max_tokens": 260}), &long),
        (json!({"max_tokens": 240, "min_savings": 0.5}), &long),
        (json!({"max_tokens": 60, "exempt": ["ls"]}), &long),
        (json!({"max_tokens": 60, "per_tool": {"ls": 900}}), &long),
        (json!({"max_tokens": 80}), &body(&json!(format!("Error: {}", lines(100))))),
        (json!({"max_tokens": 60}), &body(&json!([{"type": "image", "data": lines(100)}]))),
        (json!({"max_tokens": 60}), &body(&json!(lines(100))).replace("line 0050", "\\ud800")),
    ];
    for (params, body) in stays {
        assert_eq!(&*cap(&params, body).0.to_json(), body, "{params}");
    }
    assert!(cap(&json!({"max_tokens": 60}), &body(&json!(format!("Error: {}", lines(100))))).0.is_changed());
    assert!(cap(&json!({"per_tool": {"ls": 60}}), &long).0.is_changed());
}

#[test]
fn the_largest_part_gives_way() {
    let parts =
        json!([{"type": "text", "text": "short"}, {"type": "text", "text": lines(100)}, {"type": "image"}]);
    let (after, _) = cap(&json!({"max_tokens": 60}), &body(&parts));
    assert!(
        after.messages()[1]
            .json()
            .contains(r#"[{"type":"text","text":"short"},{"type":"text","text":"line 0000\n"#)
    );
}

#[test]
fn the_same_with_and_without_a_memory() {
    let chain = Chain::build("test", &steps(&json!([{"cap_tool_output": {"max_tokens": 60}}])));
    let (before, memory) = (parse(&body(&json!(lines(300)))), Memory::default());
    let apply = || run(&chain, &before, &Counter::default(), &memory, 8000).unwrap().0.to_json();
    assert_eq!(apply(), apply());
    assert_eq!(apply(), run(&chain, &before, &Counter::default(), &NoSummaries, 8000).unwrap().0.to_json());
}

#[test]
fn the_default_is_a_share_of_a_small_window() {
    let chain = Chain::build("test", &steps(&json!(["cap_tool_output"])));
    let before = parse(&body(&json!(lines(2000))));
    let tokens = |window| {
        let after = run(&chain, &before, &Counter::default(), &NoSummaries, window).unwrap().0;
        Counter::default().text(after.messages()[1].text())
    };
    assert!((200..=256).contains(&tokens(1024)) && (1300..=1500).contains(&tokens(100_000)));
}
