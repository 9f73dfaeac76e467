use serde_json::{Value, json};

use crate::support::{Counter, Memory, parse, preset, run, steps};
use crate::{Chain, Conversation, CountTokens, NoSummaries, Outcome, Refusal, Report};

/// A document of about a hundred tokens.
fn document(name: &str, attribute: &str) -> String {
    format!(
        "<document name=\"{name}\"{attribute}>\n{}\n</document>",
        format!("about {name} ").repeat(400 / (7 + name.len()))
    )
}

fn ask(documents: &[String]) -> Value {
    json!({"role": "user", "content": format!("<documents>\n{}\n</documents>\nWhat é?", documents.join("\n"))})
}

fn hold(params: &Value, messages: &[Value]) -> (Conversation, Report) {
    let chain = Chain::build("test", &steps(&json!([{"rag_budget": params}])));
    let before = parse(&json!({"messages": messages, "max_tokens": 100}).to_string());
    run(&chain, &before, &Counter::default(), &NoSummaries, 1100).unwrap()
}

fn named(conversation: &Conversation) -> Vec<String> {
    let text: String = conversation.messages().iter().map(crate::Message::text).collect();
    text.split("<document name=\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
}

#[test]
fn the_lowest_ranked_go_and_the_order_stays() {
    let plain: Vec<String> = "abcdef".chars().map(|name| document(&name.to_string(), "")).collect();
    let (after, report) = hold(&json!({}), &[ask(&plain)]);
    assert_eq!(named(&after), ["a", "b", "c"]);
    assert_eq!(after.messages()[0].text().matches("[plimsoll: document left out, 1").count(), 3);
    assert!(after.messages()[0].text().ends_with("tokens]\n</documents>\nWhat é?"));
    let row = &report.rows[0];
    assert_eq!((row.outcome, row.messages, row.action), (Outcome::Applied, 1, "drop"));
    assert!(row.reason.starts_with("3 of 6 documents left out, 3"), "{}", row.reason);
    assert!(row.reason.ends_with(" tokens: all may have 400"), "{}", row.reason);

    let scored: Vec<String> = "abcdef"
        .chars()
        .enumerate()
        .map(|(at, name)| document(&name.to_string(), &format!(" score=\"0.{at}\"")))
        .collect();
    assert_eq!(named(&hold(&json!({}), &[ask(&scored)]).0), ["d", "e", "f"]);
    let ranked: Vec<String> = "abcdef"
        .chars()
        .enumerate()
        .map(|(at, name)| document(&name.to_string(), &format!(" rank={}", (at + 3) % 6)))
        .collect();
    assert_eq!(named(&hold(&json!({}), &[ask(&ranked)]).0), ["d", "e", "f"]);
    assert_eq!(named(&hold(&json!({"max_fraction": 0.6}), &[ask(&plain)]).0).len(), 5);
}

#[test]
fn whole_parts_and_messages() {
    let text = |n: usize| format!("[Document {n}] {}", "words ".repeat(70));
    let part = |n: usize| json!({"type": "text", "text": text(n), "cache_control": {"type": "ephemeral"}});
    let parts: Vec<Value> = (0..6).map(part).chain([json!({"type": "text", "text": "Why?"})]).collect();
    let messages = [json!({"role": "system", "content": "s"}), json!({"role": "user", "content": parts})];
    let (after, _) = hold(&json!({}), &messages);
    let message: Value = serde_json::from_str(after.messages()[1].json()).unwrap();
    let starts: Vec<&str> = message["content"]
        .as_array()
        .unwrap()
        .iter()
        .map(|part| {
            let text = part["text"].as_str().unwrap();
            text.get(..11).unwrap_or(text)
        })
        .collect();
    assert_eq!(starts[..3], ["[Document 0", "[Document 1", "[Document 2"]);
    assert!(
        starts[3..6].iter().all(|start| *start == "[plimsoll: ") && message["content"][6]["text"] == "Why?"
    );
    assert_eq!(message["content"][4]["cache_control"], json!({"type": "ephemeral"}));
    assert!(after.messages()[0].is_original());
}

#[test]
fn documents_of_older_turns_make_room() {
    let mut messages = Vec::new();
    let (mut last, mut changes): (Option<Conversation>, usize) = (None, 0);
    for turn in 0..20 {
        messages.push(ask(&[document(&format!("t{turn}"), "")]));
        let (after, _) = hold(&json!({}), &messages);
        let left = named(&after);
        assert_eq!(left.last(), Some(&format!("t{turn}")));
        assert!(left.len() <= 3, "{left:?}");
        let same = last.as_ref().is_none_or(|last| {
            last.messages().iter().zip(after.messages()).all(|(old, new)| old.json() == new.json())
        });
        changes += usize::from(!same);
        last = Some(after);
        messages.push(json!({"role": "assistant", "content": "so"}));
    }
    assert!((6..=10).contains(&changes), "{changes}");
}

#[test]
fn what_stays() {
    let long = "words ".repeat(400);
    let messages = [
        json!({"role": "user", "content": format!("see <document>{long}</document> inline, and\n<documents>{long}</documents>")}),
        json!({"role": "user", "content": format!("<document>\n{long} without an end")}),
        json!({"role": "assistant", "content": format!("<document>\n{long}\n</document>")}),
        json!({"role": "user", "content": "<doc>tiny</doc>"}),
    ];
    let (after, report) = hold(&json!({}), &messages);
    assert!(!after.is_changed());
    assert_eq!(report.rows[0].reason, "0 documents within 400 tokens");
    // The user's own markers say what is a document: the first goes once another arrives.
    let marked = [messages[0].clone(), messages[0].clone()];
    let named = hold(&json!({"markers": ["see <"]}), &marked).0;
    assert!(named.messages()[0].text().starts_with("[plimsoll: document left out, "));
    assert!(named.messages()[1].is_original());
}

/// What a question is about stays, though it alone is over the share.
#[test]
fn the_best_document_of_a_question_stays() {
    let contract = |name: &str| {
        let text = "The tenant pays the rent on the first of the month. ".repeat(240);
        format!("<document name=\"{name}\">\n{text}\n</document>")
    };
    let asked = |text: &str, names: &[&str]| {
        let documents: String = names.iter().map(|name| contract(name) + "\n").collect();
        json!({"role": "user", "content": format!("{documents}{text}")})
    };
    let chain = preset("rag");
    let go = |messages: &[Value]| {
        let before = parse(&json!({"messages": messages}).to_string());
        let (after, _) = run(&chain, &before, &Counter::default(), &NoSummaries, 8192).unwrap();
        let again = run(&chain, &parse(&after.to_json()), &Counter::default(), &NoSummaries, 8192).unwrap().0;
        assert_eq!(again.to_json(), after.to_json());
        after
    };
    let first = [asked("Summarise this contract.", &["a"])];
    let tokens = Counter::default().text(&contract("a"));
    assert!((2900..4000).contains(&tokens), "over the share of 8192, within the window: {tokens}");
    assert!(!go(&first).is_changed());
    // It stays while it is asked about.
    let answer = json!({"role": "assistant", "content": "A lease."});
    let follow = [first.as_slice(), &[answer.clone(), asked("Who pays?", &[])]].concat();
    assert!(!go(&follow).is_changed());
    // It goes when the next is asked about, and is not there again later.
    let next = [follow.as_slice(), &[answer.clone(), asked("And this one?", &["b"])]].concat();
    assert_eq!(named(&go(&next)), ["b"]);
    let later = [next.as_slice(), &[answer, asked("Who pays?", &[])]].concat();
    let (next, later) = (go(&next), go(&later));
    assert!(next.messages().iter().zip(later.messages()).all(|(old, new)| old.json() == new.json()));
    // Of several, each over the share, one.
    assert_eq!(named(&go(&[asked("Which?", &["a", "b", "c"])])), ["a"]);
}

/// One that no window holds is refused, not taken out of the question.
#[test]
fn a_document_that_cannot_fit_is_refused() {
    let message = ask(&[format!("<document name=\"a\">{}</document>", "words ".repeat(4000))]);
    let before = parse(&json!({"messages": [message]}).to_string());
    let refused = run(&preset("rag"), &before, &Counter::default(), &NoSummaries, 2200).unwrap_err();
    assert!(matches!(refused, Refusal::ContextLength(_)), "{refused}");
}

#[test]
fn documents_in_instructions_and_results() {
    let system = json!({"role": "system", "content": format!("Be brief.\n{}", document("s", ""))});
    let calls = json!([{"id": "c", "function": {"name": "find", "arguments": "{}"}}]);
    let found: Vec<String> = "abcdef".chars().map(|name| document(&name.to_string(), "")).collect();
    let messages = [
        system,
        ask(&[document("old", "")]),
        json!({"role": "assistant", "tool_calls": calls}),
        json!({"role": "tool", "tool_call_id": "c", "content": found.join("\n")}),
    ];
    let (after, _) = hold(&json!({}), &messages);
    // What was asked about stays beside what was found, until the next question.
    assert_eq!(named(&after), ["s", "old", "a"]);
    assert!(after.messages()[0].is_original());
    let next = [json!({"role": "assistant", "content": "so"}), ask(&[document("new", "")])];
    assert_eq!(named(&hold(&json!({}), &[messages.as_slice(), &next].concat()).0), ["s", "new"]);
}

#[test]
fn the_preset_keeps_its_budget() {
    let (chain, memory) = (preset("rag"), Memory::default());
    let mut messages = Vec::new();
    for turn in 0..30 {
        let found: Vec<String> = (0..3).map(|n| document(&format!("t{turn}-{n}"), "")).collect();
        messages.push(ask(&found));
        let before = parse(&json!({"messages": messages, "max_tokens": 200}).to_string());
        let (after, report) = run(&chain, &before, &Counter::default(), &memory, 2200).unwrap();
        assert!(report.tokens_after <= 2000);
        let again = run(&chain, &parse(&after.to_json()), &Counter::default(), &NoSummaries, 2200).unwrap().0;
        assert_eq!(again.to_json(), after.to_json());
        messages.push(json!({"role": "assistant", "content": format!("answer {turn}")}));
    }
}
