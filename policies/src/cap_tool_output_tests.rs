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
    assert_eq!((row.prefix_kept, row.reason.as_str()), (1, "over 60 tokens"));
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

fn text_of(params: &serde_json::Value, result: &str) -> String {
    cap(params, &body(&json!(result))).0.messages()[1].text().to_owned()
}

#[test]
fn a_log_keeps_its_first_error_and_its_tail() {
    let line = |n: usize| match n {
        400 => "2026-11-21 10:00:01 ERROR worker-7 disk full: /var/lib/x".to_owned(),
        401 => "    at write (store.rs:12)".to_owned(),
        700 => "2026-11-21 10:00:02 ERROR again".to_owned(),
        n => format!("2026-11-21 10:00:00 INFO request {n} served"),
    };
    let log = (0..1000).map(line).collect::<Vec<_>>().join("\n");
    let text = text_of(&json!({"max_tokens": 200}), &log);
    assert!(text.starts_with("2026-11-21 10:00:00 INFO request 0 served\n"), "{text}");
    assert!(text.contains("request 402 served\n[plimsoll: "), "{text}");
    assert!(text.contains("request 399 served\n2026-11-21 10:00:01 ERROR worker-7 disk full: /var/lib/x\n    at write (store.rs:12)\n"), "{text}");
    assert!(
        text.contains("\n[...]\n")
            && text.ends_with("request 998 served\n2026-11-21 10:00:00 INFO request 999 served"),
        "{text}"
    );
    assert!(Counter::default().text(&text) <= 200);
}

#[test]
fn a_diff_keeps_headers_hunks_and_changes() {
    let hunk = |n: usize| {
        format!("@@ -{n},5 +{n},5 @@ fn f{n}()\n same\n same too\n-old {n}\n+new {n}\n same at the end\n")
    };
    let file = |name: &str| {
        let hunks: String = (0..10).map(|n| hunk(n * 10)).collect();
        format!("diff --git a/{name} b/{name}\nindex 1..2 100644\n--- a/{name}\n+++ b/{name}\n{hunks}")
    };
    let diff: String = ["a.rs", "b.rs", "c.rs"].map(file).concat();
    let text = text_of(&json!({"max_tokens": 400}), &diff);
    for name in ["a.rs", "b.rs", "c.rs"] {
        assert!(text.contains(&format!("--- a/{name}\n+++ b/{name}\n@@ -0,5 +0,5 @@ fn f0()\n")), "{text}");
    }
    assert_eq!(text.matches("@@ fn f").count(), 30, "{text}");
    assert!(text.contains("-old 0\n") && text.contains("-old 90\n") && !text.contains("same too"), "{text}");
    assert!(Counter::default().text(&text) <= 400);
}

#[test]
fn a_search_keeps_the_first_hits_of_each_file() {
    let hits = |file: usize| {
        (1..=40).map(|line| format!("src/part{file}.rs:{line}: let hit = {line};\n")).collect::<String>()
    };
    let found: String = (0..6).map(hits).collect();
    let text = text_of(&json!({"max_tokens": 150}), &found);
    for file in 0..6 {
        assert!(
            text.contains(&format!("src/part{file}.rs:1: let hit = 1;\nsrc/part{file}.rs:2: ")),
            "{text}"
        );
        assert!(!text.contains(&format!("part{file}.rs:9:")), "{text}");
    }
    assert!(text.ends_with(" tokens omitted]") && Counter::default().text(&text) <= 150, "{text}");
}

#[test]
fn json_stays_json() {
    let rows: Vec<_> =
        (0..200).map(|n| json!({"id": n, "name": format!("row {n}"), "status": "ok"})).collect();
    let result = serde_json::to_string_pretty(&json!({"total": 200, "rows": rows, "next": null})).unwrap();
    let text = text_of(&json!({"max_tokens": 150}), &result);
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&value["total"], &value["rows"][0]["name"], &value["next"]),
        (&json!(200), &json!("row 0"), &json!(null))
    );
    assert!(value["plimsoll"].as_str().unwrap().starts_with("[plimsoll: "), "{text}");
    assert!(Counter::default().text(&text) <= 150);
}

#[test]
fn the_original_is_named_where_it_is_kept() {
    let steps = steps(&json!([{"cap_tool_output": {"max_tokens": 60}}]));
    let chain = Chain::build("test", &steps).naming_originals(true);
    let before = parse(&body(&json!(lines(300))));
    let after = run(&chain, &before, &Counter::default(), &NoSummaries, 8000).unwrap().0;
    let originals = after.originals();
    assert_eq!(originals.len(), 1);
    assert_eq!(originals[0].message.text(), lines(300));
    assert!(
        after.messages()[1]
            .text()
            .contains(&format!(" of 750 tokens omitted; full output: {}]", originals[0].id))
    );
    assert!(originals[0].id.starts_with("ctx_") && originals[0].id.len() == 20);
    // Where nobody keeps originals none is named.
    assert!(cap(&json!({"max_tokens": 60}), &body(&json!(lines(300)))).0.originals().is_empty());
}

/// Counts bytes: a result is counted once, drafts of the cap's size a few times.
#[derive(Default)]
struct Measured(std::sync::atomic::AtomicUsize);

impl CountTokens for Measured {
    fn prompt(&self, _: &Conversation) -> Result<u64, crate::CountError> {
        Ok(0)
    }

    fn messages(&self, _: &[crate::Message]) -> u64 {
        0
    }

    fn text(&self, text: &str) -> u64 {
        self.0.fetch_add(text.len(), std::sync::atomic::Ordering::Relaxed);
        text.len().div_ceil(4) as u64
    }

    fn name(&self) -> &'static str {
        "measured"
    }

    fn estimated(&self) -> bool {
        true
    }
}

#[test]
fn a_large_result_is_counted_about_once() {
    let megabyte = |line: &str| line.repeat((1 << 20) / line.len());
    let results = [
        megabyte("word after word after word, "),
        megabyte("2026-11-21 10:00:00 INFO served\n"),
        megabyte("src/a/b.rs:12: let x = 1;\n"),
        format!("--- a/x\n+++ b/x\n{}", megabyte("@@ -1 +1 @@\n-a\n+b\n")),
        format!("[{}1]", megabyte("{\"id\":1,\"name\":\"some name\"},")),
    ];
    let chain = Chain::build("test", &steps(&json!(["cap_tool_output"])));
    for result in results {
        let (counter, conversation) = (Measured::default(), parse(&body(&json!(result))));
        let context = crate::Context {
            limits: crate::Limits::tokens(100_000),
            counter: &counter,
            summaries: &NoSummaries,
        };
        chain.apply(&conversation, &context).unwrap();
        let counted = counter.0.into_inner();
        assert!(counted < result.len() + 40 * 6000, "{counted} of {} in {:.40}", result.len(), result);
    }
}

mod never_over {
    use proptest::prelude::*;

    use super::*;

    fn result() -> impl Strategy<Value = String> {
        let line = prop_oneof![
            "[ -~]{0,120}",
            "src/[a-c]\\.rs:[1-9]{1,3}: [a-zé😀 ]{0,60}",
            "2026-11-21 10:00:0[0-9] (INFO|ERROR|WARN) [a-z ]{0,60}",
            "(@@ -1 \\+1 @@|diff --git a/x b/x|--- a|\\+\\+\\+ b|[-+ ][a-z]{0,40})",
            "\\{\"id\": [0-9]{1,4}, \"error\": (null|\"x\")\\}",
        ];
        let lines = prop::collection::vec(line, 1..120);
        prop_oneof![
            lines.clone().prop_map(|lines| lines.join("\n")),
            lines.clone().prop_map(|lines| json!(lines).to_string()),
            lines.prop_map(|lines| json!({"rows": lines, "ok": true}).to_string()),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 512 } else { 10_000 }))]
        #[test]
        fn the_cap(result in result(), max in 32_u64..300, head in 0.0..=1.0, kept: bool) {
            let params = json!([{"cap_tool_output": {"max_tokens": max, "head": head, "errors_exempt": false, "min_savings": 0}}]);
            let chain = Chain::build("test", &steps(&params)).naming_originals(kept);
            let before = parse(&body(&json!(result)));
            let after = run(&chain, &before, &Counter::default(), &NoSummaries, 8000).unwrap().0;
            let text = after.messages()[1].text();
            prop_assert_eq!(text == result, Counter::default().text(&result) <= max);
            prop_assert!(Counter::default().text(text) <= max, "{}", text);
            if text != result {
                prop_assert_eq!(text.matches("[plimsoll: ").count(), 1);
                prop_assert_eq!(after.originals().len(), usize::from(kept));
            }
            let again = run(&chain, &after, &Counter::default(), &NoSummaries, 8000).unwrap().0;
            prop_assert_eq!(again.to_json(), after.to_json());
        }
    }
}
