//! The invariants of every policy and every chain.

use plimsoll_policies::{Chain, Conversation, Message, NoSummaries, Refusal, Report, Role, SUMMARY_HEADER};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::generate::{IMAGE, Unit, body, history};
use crate::support::{Counter, Memory, parse, run, steps};
use crate::transcripts::squeezed;

/// Every policy with parameters that make it act.
fn policies() -> Vec<Value> {
    vec![
        json!("normalize_prefix"),
        json!({"reserve_output": {"default": 64, "min_output": 16}}),
        json!({"cap_tool_output": {"max_tokens": 60, "errors_exempt": false}}),
        json!({"cap_tool_output": {"head": 0.6, "min_savings": 0.0, "per_tool": {"look": 40}}}),
        json!("drop_images"),
        json!({"drop_images": {"keep_last": 0, "slack": 1}}),
        json!("clear_tool_uses"),
        json!({"clear_tool_uses": {"trigger": 0.1, "keep": 1, "clear_at_least": 60, "clear_inputs": true}}),
        json!({"trim_turns": {"keep": 3, "slack": 2}}),
        json!({"trim_turns": {"keep": 1, "slack": 0, "pin_first_user": false}}),
        json!("summarize"),
        json!({"summarize": {"with": "engine", "min_span": 30, "max_tokens": 80}}),
        json!({"reject_over": {"tokens": 1500}}),
        json!("fit_context"),
        json!({"fit_context": {"high": 0.7, "low": 0.2, "keep_last": 1, "min_progress": 0.3}}),
        json!({"fit_context": {"cut": false}}),
    ]
}

fn chain() -> impl Strategy<Value = Chain> {
    prop::sample::subsequence(policies(), 1..8).prop_map(|picked| {
        let mut list: Vec<Value> = Vec::new();
        let name = |step: &Value| steps(&json!([step]))[0].name();
        for step in picked {
            if !list.iter().any(|other| name(other) == name(&step)) {
                list.push(step);
            }
        }
        Chain::build("test", &steps(&Value::Array(list)))
    })
}

fn window() -> impl Strategy<Value = u64> {
    prop::sample::select(vec![200, 400, 700, 1000, 2000, 4000])
}

/// Number of a generated message: whatever else an edit touches, it stays.
fn number(message: &Message) -> Option<usize> {
    let value: Value = serde_json::from_str(&message.json().replace("\\ud83d end", "end")).ok()?;
    let number = value.get("n").or_else(|| value.get(0)).unwrap_or(&value);
    number.as_u64().and_then(|number| usize::try_from(number).ok())
}

fn is_summary(message: &Message) -> bool {
    message.text().starts_with(SUMMARY_HEADER)
}

fn has(chain: &Chain, policy: &str) -> bool {
    chain.steps().iter().any(|step| step.name() == policy)
}

/// Untouched messages keep their bytes; touched ones are tool results that only say less.
fn check_bytes(before: &Conversation, after: &Conversation) -> Result<(), TestCaseError> {
    for message in after.messages().iter().filter(|message| !is_summary(message)) {
        let number = number(message).unwrap();
        let original = &before.messages()[number];
        if message.is_original() {
            prop_assert_eq!(message.json(), original.json());
            continue;
        }
        if message.role() == Role::User {
            let json = message.json().replace(r#"{"type":"text","text":"[plimsoll: image removed]"}"#, IMAGE);
            prop_assert_eq!(json, original.json());
            continue;
        }
        prop_assert!(message.json().len() < original.json().len());
        if message.role() == Role::Assistant {
            check_inputs(message, original)?;
            continue;
        }
        prop_assert_eq!(message.role(), Role::Tool);
        prop_assert!(message.text().contains("[plimsoll: "));
        prop_assert_eq!(message.tool_call_id(), original.tool_call_id());
    }
    Ok(())
}

/// Only arguments are gone, and the calls are the same.
fn check_inputs(message: &Message, original: &Message) -> Result<(), TestCaseError> {
    prop_assert_eq!(message.text(), original.text());
    prop_assert_eq!(message.tool_calls().len(), original.tool_calls().len());
    for (call, original) in message.tool_calls().iter().zip(original.tool_calls()) {
        prop_assert_eq!((&call.id, &call.name), (&original.id, &original.name));
        let gone = call.arguments == "{}";
        prop_assert!(gone || call.arguments == original.arguments);
    }
    Ok(())
}

/// Messages that went, and those that went down to a line, in the order of the history.
fn cuts(conversation: &Conversation) -> (usize, Vec<Option<usize>>) {
    let is_line = |message: &&Message| {
        message.text().contains(" cleared, ") || message.text().contains("image removed")
    };
    let lines = conversation.messages().iter().filter(is_line).map(number);
    (conversation.dropped().len(), lines.collect())
}

/// Results stay with their call, and calls with their results.
fn check_exchanges(before: &Conversation, after: &Conversation) -> Result<(), TestCaseError> {
    let kept: Vec<usize> = after.messages().iter().filter_map(number).collect();
    prop_assert!(kept.is_sorted(), "order changed");
    let mut call = None;
    for (index, message) in before.messages().iter().enumerate() {
        match message.role() {
            Role::Assistant if !message.tool_calls().is_empty() => call = Some(index),
            Role::Tool => {
                if let Some(call) = call {
                    let (call, result) = (kept.contains(&call), kept.contains(&index));
                    prop_assert_eq!(call, result, "message {} torn from its exchange", index);
                }
            }
            _ => call = None,
        }
    }
    Ok(())
}

/// Instructions and the last user message stay.
fn check_kept(before: &Conversation, after: &Conversation) -> Result<(), TestCaseError> {
    let kept: Vec<usize> = after.messages().iter().filter_map(number).collect();
    let last_user = before.messages().iter().rposition(|message| message.role() == Role::User);
    for (index, message) in before.messages().iter().enumerate() {
        if message.role().is_system() || Some(index) == last_user {
            prop_assert!(kept.contains(&index), "message {} is gone", index);
        }
    }
    prop_assert_eq!(kept.last().copied(), before.messages().len().checked_sub(1));
    Ok(())
}

/// What the report says is so.
fn check_report(
    chain: &Chain,
    before: &Conversation,
    after: &Conversation,
    report: &Report,
) -> Result<(), TestCaseError> {
    let counter = Counter::default();
    let count = |conversation| plimsoll_policies::CountTokens::prompt(&counter, conversation).unwrap();
    prop_assert_eq!(report.tokens_before, count(before));
    prop_assert_eq!(report.tokens_after, count(after));
    prop_assert_eq!(report.tokens_after, count(&parse(&after.to_json())));
    prop_assert!(
        report.tokens_after <= report.tokens_before
            || report.actions().iter().any(|(by, _)| ["summarize", "drop_images"].contains(by))
    );
    prop_assert!(!has(chain, "fit_context") || report.tokens_after <= report.budget);
    prop_assert_eq!(report.rows.len(), chain.steps().len());
    let dropped =
        before.messages().len() - after.messages().iter().filter(|message| !is_summary(message)).count();
    let gone = after.dropped().iter().filter(|gone| !is_summary(&gone.message)).count();
    prop_assert_eq!(dropped, gone);
    prop_assert_eq!(report.actions().is_empty(), !after.is_changed());
    Ok(())
}

/// Everything outside the messages, the tools and the output limit is as it was.
fn check_rest(before: &str, after: &Conversation) -> Result<(), TestCaseError> {
    if !after.is_changed() {
        prop_assert_eq!(&*after.to_json(), before);
    }
    let json = after.to_json();
    let pieces = [
        json.starts_with("{ \"model\":\"m\", \"messages\": [\n  "),
        json.contains("\n ],\"seed\":1.50,\"x\":1E3, \"seed\": 2,\"tools\":["),
        json.ends_with("} "),
    ];
    prop_assert_eq!(pieces, [true; 3]);
    Ok(())
}

proptest! {
    #[test]
    fn one_conversation(units in history(30), chain in chain(), window in window(), limit in prop::option::of(1_u64..900)) {
        let text = body(&units, limit);
        let before = parse(&text);
        match run(&chain, &before, &Counter::default(), &NoSummaries, window) {
            Ok((after, report)) => {
                check_bytes(&before, &after)?;
                check_exchanges(&before, &after)?;
                check_kept(&before, &after)?;
                check_report(&chain, &before, &after, &report)?;
                check_rest(&text, &after)?;
                let again = run(&chain, &parse(&after.to_json()), &Counter::default(), &NoSummaries, window);
                let (again, _) = again.map_err(|refusal| TestCaseError::fail(refusal.to_string()))?;
                let texts = |conversation: &Conversation| {
                    conversation.to_json().split('\n').map(str::to_owned).collect::<Vec<_>>()
                };
                for (again, after) in texts(&again).iter().zip(texts(&after)) {
                    prop_assert_eq!(again, &after, "not idempotent");
                }
                prop_assert_eq!(again.to_json(), after.to_json(), "not idempotent");
            }
            Err(Refusal::ContextLength(length)) => {
                prop_assert!(has(&chain, "fit_context") || has(&chain, "reject_over"));
                prop_assert!(length.prompt > length.budget && length.unremovable > length.budget, "{length:?}");
            }
            Err(refusal) => prop_assert!(false, "{refusal}"),
        }
    }

    #[test]
    fn growing_conversation(units in history(24), chain in chain(), window in window()) {
        let memory = Memory::default();
        let mut last: Option<(Conversation, bool)> = None;
        for count in 1..=units.len() {
            let before = parse(&body(&units[..count], Some(50)));
            let Ok((after, report)) = run(&chain, &before, &Counter::default(), &memory, window) else {
                last = None;
                continue;
            };
            if count == units.len() {
                let fresh = run(&chain, &before, &Counter::default(), &NoSummaries, window).unwrap().0;
                prop_assert_eq!(fresh.to_json(), after.to_json(), "memory changed the result");
            }
            // Where even a summary has too little room it is shortened, or the guard cuts by force, each time anew.
            let guarded = has(&chain, "summarize")
                && (report.actions().iter().any(|(by, _)| *by == "fit_context") || squeezed(&report));
            if let Some((last, forced)) = last.filter(|(last, _)| cuts(last) == cuts(&after))
                && !forced
                && !guarded
            {
                let grown = last.messages().iter().zip(after.messages());
                for (old, new) in grown {
                    prop_assert_eq!(old.json(), new.json(), "prefix changed without a cut");
                }
                prop_assert_eq!(last.tools(), after.tools());
            }
            last = Some((after, guarded));
        }
    }

    #[test]
    fn counts_that_do_not_add_up(units in history(30), chain in chain(), window in window(), excess in 0_u64..30) {
        let counter = Counter { excess, alternate: false };
        let before = parse(&body(&units, Some(50)));
        if let Ok((_, report)) = run(&chain, &before, &counter, &NoSummaries, window) {
            prop_assert!(!has(&chain, "fit_context") || report.tokens_after <= report.budget);
        }
    }

    #[test]
    fn bytes_never_panic(text in "[\\[\\]{}\",:a-z0-9\\\\ ]{0,40}", units in history(4)) {
        let _ = Conversation::parse_chat(text.as_str().into());
        let whole = body(&units, None);
        let cut = whole.floor_char_boundary(whole.len() * text.len() / 41);
        let _ = Conversation::parse_chat(whole[..cut].into());
        let _ = Conversation::parse_chat(format!("{{\"messages\":[{text}]}}").into());
    }
}

/// A chat with alternating roles stays one, with its summary inside the first user message.
#[test]
fn alternating_roles() {
    let counter = Counter { alternate: true, excess: 0 };
    let chain = crate::support::preset("chat");
    let mut units: Vec<Unit> = vec![vec![r#"{"role":"system","n":"@","content":"Be brief."}"#.to_owned()]];
    let mut merged = 0;
    for turn in 0..120 {
        units.push(vec![format!(
            r#"{{"role":"user","n":"@","content":"My code {turn} is QX-{turn}00. {}"}}"#,
            "la ".repeat(20)
        )]);
        let before = parse(&body(&units, Some(64)));
        let (after, report) = run(&chain, &before, &counter, &Memory::default(), 1000).unwrap();
        assert!(report.tokens_after <= report.budget);
        merged += usize::from(after.messages()[1].text().contains(SUMMARY_HEADER));
        let again = run(&chain, &parse(&after.to_json()), &counter, &NoSummaries, 1000).unwrap().0;
        assert_eq!(again.to_json(), after.to_json());
        units.push(vec![format!(
            r#"{{"role":"assistant","n":"@","content":"noted {turn} {}"}}"#,
            "so ".repeat(20)
        )]);
    }
    assert!(merged > 80, "{merged}");
}
