use serde_json::{Value, json};

use crate::support::{Counter, parse, run, steps};
use crate::{Chain, Conversation, NoSummaries, Outcome, Refusal, Report};

fn fit(messages: &Value, excess: u64) -> Result<(Conversation, Report), Refusal> {
    let chain = Chain::build("test", &steps(&json!([{"fit_context": {"on_overflow": "truncate_middle"}}])));
    let before = parse(&json!({"messages": messages, "max_tokens": 100}).to_string());
    run(&chain, &before, &Counter { excess, alternate: false }, &NoSummaries, 1100)
}

fn lines(count: usize) -> String {
    (0..count).map(|line| format!("line {line} says é and more\n")).collect()
}

#[test]
fn the_longest_message_loses_its_middle() {
    let text = lines(400);
    let messages = json!([
        {"role": "system", "content": "s".repeat(400)},
        {"role": "user", "content": "short"},
        {"role": "assistant", "content": "old ".repeat(300)},
        {"role": "user", "content": text, "x": 1.50},
    ]);
    for excess in [0, 20] {
        let (after, report) = fit(&messages, excess).unwrap();
        assert!(report.tokens_after <= 1000 && report.tokens_after > 700, "{}", report.tokens_after);
        let cut = after.messages().last().unwrap();
        let (head, rest) = cut.text().split_once("\n[plimsoll: ").unwrap();
        let (told, tail) = rest.split_once(" tokens cut from the middle of this message]\n").unwrap();
        assert!(text.starts_with(head) && text.ends_with(tail) && head.len().abs_diff(tail.len()) < 60);
        assert!(head.ends_with("and more") && tail.starts_with("line "), "whole lines");
        assert!(told.replace(',', "").parse::<u64>().unwrap() > 1000);
        assert!(after.messages()[..after.messages().len() - 1].iter().all(crate::Message::is_original));
        assert!(cut.json().ends_with(r#","x":1.5}"#));
        let row = &report.rows[0];
        assert_eq!(row.outcome, Outcome::Applied);
        assert!(row.reason.contains("cut out the middle of the 1 longest"), "{}", row.reason);
        let again = parse(&after.to_json());
        let chain =
            Chain::build("test", &steps(&json!([{"fit_context": {"on_overflow": "truncate_middle"}}])));
        let again = run(&chain, &again, &Counter { excess, alternate: false }, &NoSummaries, 1100).unwrap().0;
        assert!(!again.is_changed());
    }
}

#[test]
fn instructions_are_cut_last() {
    let messages = json!([
        {"role": "system", "content": "s".repeat(6000)},
        {"role": "user", "content": "u".repeat(2000)},
    ]);
    let (after, _) = fit(&messages, 0).unwrap();
    assert!(after.messages()[1].text().len() < 500 && after.messages()[0].text().len() > 2000);
}

#[test]
fn what_has_no_middle_is_refused() {
    let call =
        |n: usize| json!({"id": format!("c{n}"), "function": {"name": "f", "arguments": "{}".repeat(900)}});
    let messages = json!([
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": null, "tool_calls": [call(1), call(2), call(3)]},
    ]);
    assert!(matches!(fit(&messages, 0), Err(Refusal::ContextLength(_))));
}
