use serde_json::json;

use crate::support::{Counter, Memory, parse, run, steps};
use crate::{Chain, Outcome, Report};

fn normalize(params: &serde_json::Value, body: &str) -> (String, Report) {
    let chain = Chain::build("test", &steps(&json!([{"normalize_prefix": params}])));
    let memory = Memory::default();
    let first = run(&chain, &parse(body), &Counter::default(), &memory, 8000).unwrap();
    let (after, report) = run(&chain, &parse(body), &Counter::default(), &memory, 8000).unwrap();
    assert_eq!(first.1, report);
    (after.to_json().to_string(), report)
}

const BODY: &str = r#"{"tools":[{"function":{"name":"b"}}, {"function":{"name":"a","parameters":{"z":1,"a":2}}}],
 "messages":[{"role":"system","content":"It is 2024-05-15 15:00:00."},{"role":"user","content":"2024-05-15"}]}"#;

#[test]
fn tools_get_one_order() {
    let (json, report) = normalize(&json!({}), BODY);
    let tools = r#"[{"function":{"name":"a","parameters":{"a":2,"z":1}}}, {"function":{"name":"b"}}]"#;
    assert!(json.starts_with(&format!("{{\"tools\":{tools},\n ")), "{json}");
    assert_eq!(report.actions(), [("normalize_prefix", 2)]);
    assert_eq!(report.rows[0].prefix_kept, 2);
}

#[test]
fn volatile_text_is_reported_and_stays() {
    let (json, report) =
        normalize(&json!({"sort_tools": false, "canonical_schema": false, "patterns": ["It is"]}), BODY);
    assert_eq!(json, BODY);
    let want = "volatile in the system prompt: 1 time (first at byte 17), 1 date (first at byte 6), 1 pattern \
                (first at byte 0); a change there makes the whole prompt new";
    assert_eq!((report.rows[0].reason.as_str(), report.rows[0].outcome), (want, Outcome::Unchanged));
    assert!(report.actions().is_empty());
}

/// Instructions with a value of each kind, and one that is none.
fn chat(turns: usize, clock: &str) -> String {
    let system = format!(
        "It is {clock} on 2024-05-15.\nUse ISO 8601, caf\u{e9}, 5-7 days.\nSince 2024-05-15: id cch=9f{};",
        clock.replace(':', "")
    );
    let mut messages = vec![json!({"role": "system", "content": system, "x": 1})];
    for turn in 0..turns {
        messages.push(json!({"role": "user", "content": format!("question {turn}")}));
        messages.push(json!({"role": "assistant", "content": format!("answer {turn}")}));
    }
    messages.push(
        json!({"role": "user", "content": [{"type": "text", "text": "last"}, {"type": "image", "n": 1}]}),
    );
    json!({"messages": messages, "max_tokens": 100}).to_string()
}

fn texts(json: &str) -> Vec<String> {
    parse(json).messages().iter().map(|message| message.text().to_owned()).collect()
}

#[test]
fn stripped_and_nothing_else_changed() {
    let (json, report) = normalize(&json!({"volatile": "strip"}), &chat(0, "15:23:45"));
    let want = "It is [time] on [date].\nUse ISO 8601, caf\u{e9}, 5-7 days.\nSince 2024-05-15: id [nonce];";
    assert_eq!(texts(&json)[0], want);
    assert_eq!(
        json.replace(&json!(want).to_string(), "S"),
        chat(0, "15:23:45").replace(&json!(texts(&chat(0, "15:23:45"))[0]).to_string(), "S")
    );
    assert_eq!(report.rows[0].reason, "3 volatile pieces stripped");
    let rules = "In an emergency tell the user to call 911. Users may request 10 items. Each message 3 sentences at \
                 most. The refund law of 2023-05-01 applies.";
    let body = json!({"messages": [{"role": "system", "content": rules}, {"role": "user", "content": "hi"}]})
        .to_string();
    for volatile in [json!("strip"), json!("relocate"), json!({"round": "1h"})] {
        assert_eq!(normalize(&json!({"volatile": volatile}), &body).0, body);
    }
    let (other, _) = normalize(&json!({"volatile": "strip"}), &chat(0, "09:00:00"));
    assert_eq!(json, other, "the prompt is the same at any time");
}

#[test]
fn rounded_times_hold_for_an_interval() {
    let at = |clock: &str| normalize(&json!({"volatile": {"round": "1h"}}), &chat(0, clock)).0;
    let with_nonce = |clock: &str| texts(&at(clock))[0].split("id ").next().unwrap().to_owned();
    assert_eq!(with_nonce("15:00:01"), with_nonce("15:59:59"));
    assert!(with_nonce("15:23:45").starts_with("It is 15:00:00 on 2024-05-15."));
    let (_, report) = normalize(&json!({"volatile": {"round": "1h"}}), &chat(0, "15:23:45"));
    let reason = &report.rows[0].reason;
    assert!(
        reason.starts_with("1 volatile pieces rounded down; volatile in the system prompt: 2 date"),
        "{reason}"
    );
}

#[test]
fn relocated_to_the_end_of_the_last_user_message() {
    let (json, report) = normalize(&json!({"volatile": "relocate"}), &chat(1, "15:23:45"));
    let note = "[plimsoll: from the instructions: [time] 15:23:45; [date] 2024-05-15; [nonce] cch=9f152345]";
    let texts = texts(&json);
    assert_eq!(
        texts[0],
        "It is [time] on [date].\nUse ISO 8601, caf\u{e9}, 5-7 days.\nSince 2024-05-15: id [nonce];"
    );
    assert_eq!(texts[3], format!("last\n{note}"));
    let parts = serde_json::from_str::<serde_json::Value>(&json).unwrap()["messages"][3]["content"].clone();
    assert_eq!(
        parts,
        json!([{"type": "text", "text": "last"}, {"type": "image", "n": 1}, {"type": "text", "text": note}])
    );
    assert_eq!(report.rows[0].reason, "3 volatile pieces moved to the end of the last user message");
    let string =
        r#"{"messages":[{"role":"system","content":"Date: 2024-05-15"},{"role":"user","content":"hi"}]}"#;
    let (json, _) = normalize(&json!({"volatile": "relocate"}), string);
    let want = r#"{"messages":[{"role":"system","content":"Date: [date]"},{"role":"user","content":"hi\n\n[plimsoll: from the instructions: [date] 2024-05-15]"}]}"#;
    assert_eq!(json, want);
    let nobody = r#"{"messages":[{"role":"system","content":"2024-05-15"}]}"#;
    let (json, report) = normalize(&json!({"volatile": "relocate"}), nobody);
    assert_eq!((json.as_str(), report.rows[0].outcome), (nobody, Outcome::Unchanged));
    assert!(report.rows[0].reason.starts_with("volatile in the system prompt: 1 date"));
}

/// What relocation is worth: with another time at every turn all but the last turn stays a prefix, and cuts are those
/// of the same conversation without it.
#[test]
fn only_the_last_turn_is_computed_again() {
    let chain = |volatile: &str| {
        Chain::build(
            "test",
            &steps(&json!([{"normalize_prefix": {"volatile": volatile}}, "summarize", "fit_context"])),
        )
    };
    let memory = Memory::default();
    let mut last: Vec<String> = Vec::new();
    let (mut cuts, mut dropped) = (0, 0);
    for turn in 0..60 {
        let before = parse(&chat(turn, &format!("15:{:02}:00", turn % 60)));
        let (after, report) = run(&chain("relocate"), &before, &Counter::default(), &memory, 700).unwrap();
        assert!(report.tokens_after <= report.budget);
        let messages: Vec<String> =
            after.messages().iter().map(|message| message.json().to_owned()).collect();
        let common = last.iter().zip(&messages).take_while(|(old, new)| old == new).count();
        let cut = after.dropped().len() != dropped;
        assert!(cut || common + 1 >= last.len(), "turn {turn}: {common} of {}", last.len());
        assert!(after.dropped().len() >= dropped, "what was dropped came back");
        (cuts, dropped) = (cuts + usize::from(cut), after.dropped().len());
        let again =
            run(&chain("relocate"), &parse(&after.to_json()), &Counter::default(), &memory, 700).unwrap().0;
        assert_eq!(again.to_json(), after.to_json());
        last = messages;
    }
    assert!((2..12).contains(&cuts), "{cuts}");
}
