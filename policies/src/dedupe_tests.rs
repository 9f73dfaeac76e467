use serde_json::{Value, json};

use crate::support::{Counter, Memory, parse, run, steps};
use crate::{Chain, Conversation, NoSummaries, Outcome, Report};

fn file(from: usize, to: usize) -> String {
    (from..to).map(|line| format!("{line}: let value_{line} = compute({line});\n")).collect()
}

fn result(number: usize, content: &Value) -> [Value; 2] {
    let id = format!("c{number}");
    let calls = json!([{"id": id, "function": {"name": "read", "arguments": "{}"}}]);
    [
        json!({"role": "assistant", "content": null, "tool_calls": calls}),
        json!({"role": "tool", "tool_call_id": id, "content": content, "x": 1}),
    ]
}

fn agent(results: &[Value]) -> Vec<Value> {
    let results = results.iter().enumerate().flat_map(|(number, content)| result(number, content));
    std::iter::once(json!({"role": "user", "content": file(0, 100)})).chain(results).collect()
}

fn point(params: &Value, messages: &[Value]) -> (Conversation, Report) {
    let chain = Chain::build("test", &steps(&json!([{"dedupe": params}])));
    let before = parse(&json!({"messages": messages}).to_string());
    run(&chain, &before, &Counter::default(), &NoSummaries, 8000).unwrap()
}

#[test]
fn a_copy_points_to_the_first() {
    let (after, report) = point(&json!({}), &agent(&[json!(file(0, 60)), json!("ok"), json!(file(0, 60))]));
    assert!(after.messages()[2].is_original(), "the first copy is never touched");
    assert_eq!(
        after.messages()[6].text(),
        "[plimsoll: the same 60 lines, 473 tokens, as in message 3, result of read, \
         from \"0: let value_0 = compute(0);\" to \"59: let value_59 = compute(59);\"]\n"
    );
    let row = &report.rows[0];
    assert_eq!((row.outcome, row.messages, row.action), (Outcome::Applied, 1, "point"));
    assert_eq!(row.reason, "1 blocks of 200 tokens or more point to their first copy");
}

#[test]
fn a_block_within_a_text() {
    let again = format!("// changed\n{}// end of it", file(10, 50));
    let (after, _) = point(&json!({}), &agent(&[json!(file(0, 60)), json!(again)]));
    let text = after.messages()[4].text();
    assert!(text.starts_with("// changed\n[plimsoll: the same 40 lines, "), "{text}");
    assert!(text.ends_with("compute(49);\"]\n// end of it"), "{text}");
    assert!(text.contains("as in message 3"));
}

#[test]
fn parts_of_one_message() {
    let part = |text: String| json!({"type": "text", "text": text, "cache_control": {"type": "ephemeral"}});
    let twice =
        json!([part(file(0, 40)), {"type": "image", "n": 1.0}, part(file(0, 40)), part("short".into())]);
    let (after, report) = point(&json!({}), &agent(&[twice]));
    let message = serde_json::from_str::<Value>(after.messages()[2].json()).unwrap();
    assert_eq!(message["content"][0]["text"], file(0, 40));
    assert!(message["content"][2]["text"].as_str().unwrap().contains("as in message 3"));
    assert_eq!(message["content"][2]["cache_control"], json!({"type": "ephemeral"}));
    assert_eq!(report.rows[0].messages, 1);
}

#[test]
fn a_part_before_one_of_its_own() {
    let part = |text: String| json!({"type": "text", "text": text});
    let both = json!([part(file(0, 40)), part(file(100, 140))]);
    let (after, report) = point(&json!({}), &agent(&[json!(file(0, 40)), both, json!(file(0, 40))]));
    assert!(after.messages()[4].text().starts_with("[plimsoll: the same 40 lines, "));
    assert!(after.messages()[4].text().ends_with(&file(100, 140)));
    assert!(after.messages()[6].text().starts_with("[plimsoll: the same 40 lines, "));
    assert_eq!(report.rows[0].messages, 2);
}

/// What else an edit takes out of a message leaves its pointers.
#[test]
fn a_pointer_stays_when_reasoning_goes() {
    let answer =
        |text: String| json!({"role": "assistant", "reasoning_content": "Hm. ".repeat(20), "content": text});
    let ask = json!({"role": "user", "content": "Which?"});
    let messages = [ask.clone(), answer(file(0, 40)), ask.clone(), answer(file(0, 40)), ask];
    let list = json!([{"clear_thinking": {"keep": 0, "slack": 0}}, {"dedupe": {"roles": ["assistant"]}}]);
    for end in [4, 5] {
        let before = parse(&json!({"messages": messages[..end]}).to_string());
        let chain = Chain::build("test", &steps(&list));
        let (after, _) = run(&chain, &before, &Counter::default(), &NoSummaries, 8000).unwrap();
        assert_eq!(after.messages()[3].json().contains("Hm."), end == 4);
        assert!(after.messages()[3].text().starts_with("[plimsoll: the same 40 lines, "));
    }
}

#[test]
fn what_stays() {
    for (params, second) in [
        (json!({}), file(0, 15)),
        (json!({}), file(60, 120)),
        (json!({"min_tokens": 5000}), file(0, 60)),
        (json!({"roles": ["assistant"]}), file(0, 60)),
    ] {
        assert!(!point(&params, &agent(&[json!(file(0, 60)), json!(second)])).0.is_changed());
    }
    // What the user said is no first copy, unless named.
    let once = agent(&[json!(file(0, 60))]);
    assert!(!point(&json!({}), &once).0.is_changed());
    let named = point(&json!({"roles": ["tool", "user"]}), &once).0;
    assert!(
        named.messages()[0].is_original() && named.messages()[2].text().contains("message 1, of the user")
    );
}

/// A pointer that went out stays, whatever becomes of the first copy.
#[test]
fn pointers_never_change() {
    let results: Vec<Value> =
        (0..30).map(|number| json!(format!("{number}\n{}", file(number % 3 * 9, 60)))).collect();
    let messages = agent(&results);
    let memory = Memory::default();
    for list in [
        json!(["dedupe"]),
        json!([{"clear_tool_uses": {"keep": 2}}, "dedupe", "fit_context"]),
        json!([{"trim_turns": {"keep": 1, "slack": 0}}, "dedupe", "summarize", "fit_context"]),
    ] {
        let chain = Chain::build("test", &steps(&list));
        let mut pointers: std::collections::BTreeMap<usize, String> = std::collections::BTreeMap::new();
        for end in 1..=messages.len() {
            let before = parse(&json!({"messages": messages[..end], "max_tokens": 100}).to_string());
            let (after, _) = run(&chain, &before, &Counter::default(), &memory, 4000).unwrap();
            for message in after.messages().iter().filter(|message| message.text().contains("the same ")) {
                if let Some(slot) = message.slot() {
                    let known = pointers.entry(slot).or_insert_with(|| message.text().to_owned());
                    assert_eq!(known, message.text());
                }
            }
            let again =
                run(&chain, &parse(&after.to_json()), &Counter::default(), &NoSummaries, 4000).unwrap().0;
            assert_eq!(again.to_json(), after.to_json());
        }
        assert!(pointers.len() > 20, "{}", pointers.len());
    }
}

#[test]
fn a_line_said_a_thousand_times_is_no_danger() {
    let same = "the very same line\n".repeat(20_000);
    let (after, _) = point(&json!({}), &agent(&[json!(same), json!(format!("{same}x\n{same}"))]));
    assert!(after.messages()[4].text().len() < 600);
}
