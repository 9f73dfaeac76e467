//! The invariants of every policy and every chain.

use plimsoll_policies::{
    Chain, Conversation, Limits, Message, NoSummaries, Refusal, Report, Role, SUMMARY_HEADER, Step, Tokens,
    config::{OnOverflow, Volatile},
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::generate::{IMAGE, Unit, body, history, megabyte};
use crate::support::{Counter, Memory, parse, preset, run, run_within, steps};
use crate::transcripts::squeezed;

/// Every policy with parameters that make it act.
fn policies() -> Vec<Value> {
    vec![
        json!("normalize_prefix"),
        json!({"normalize_prefix": {"volatile": "strip", "patterns": ["ORD-[0-9]+"]}}),
        json!({"normalize_prefix": {"volatile": "relocate"}}),
        json!({"normalize_prefix": {"volatile": {"round": "1h"}}}),
        json!({"reserve_output": {"default": 64, "min_output": 16}}),
        json!({"memory_budget": {"kv": 600_000}}),
        json!({"memory_budget": {"share": 0.5}}),
        json!({"cap_tool_output": {"max_tokens": 60, "errors_exempt": false}}),
        json!({"cap_tool_output": {"head": 0.6, "min_savings": 0.0, "per_tool": {"look": 40}}}),
        json!("drop_images"),
        json!({"drop_images": {"keep_last": 0, "slack": 1}}),
        json!("clear_tool_uses"),
        json!({"clear_tool_uses": {"trigger": 0.1, "keep": 1, "clear_at_least": 60, "clear_inputs": true}}),
        json!({"clear_tool_uses": {"trigger": 0.0, "clear_at_least": 0}}),
        json!("clear_thinking"),
        json!({"clear_thinking": {"keep": 1, "slack": 1}}),
        json!({"clear_thinking": {"keep": 0, "slack": 0}}),
        json!({"dedupe": {"min_tokens": 64}}),
        json!({"dedupe": {"min_tokens": 64, "roles": ["tool", "user", "assistant"]}}),
        json!("rag_budget"),
        json!({"rag_budget": {"max_fraction": 0.1}}),
        json!({"trim_turns": {"keep": 3, "slack": 2}}),
        json!({"trim_turns": {"keep": 1, "slack": 0, "pin_first_user": false}}),
        json!("summarize"),
        json!({"summarize": {"with": "engine", "min_span": 30, "max_tokens": 80}}),
        json!({"growth_alert": {"tokens": 500}}),
        json!({"reject_over": {"tokens": 1500}}),
        json!("fit_context"),
        json!({"fit_context": {"high": 0.7, "low": 0.2, "keep_last": 1, "min_progress": 0.3}}),
        json!({"fit_context": {"cut": false}}),
        json!({"fit_context": {"on_overflow": "truncate_middle"}}),
    ]
}

fn chain() -> impl Strategy<Value = Chain> {
    prop::sample::subsequence(policies(), 1..12).prop_map(|picked| {
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

/// Some know how much KV cache there is.
fn limits() -> impl Strategy<Value = Limits> {
    let windows = prop::sample::select(vec![200, 400, 700, 1000, 2000, 4000]);
    (windows, prop::option::of(1_000_000_u64..3_000_000)).prop_map(|(window, kv)| Limits {
        free_kv: kv,
        total_kv: kv,
        bytes_per_token: kv.map(|_| 1000),
        ..Limits::tokens(window)
    })
}

/// Number of a generated message: whatever else an edit touches, it stays.
fn number(message: &Message) -> Option<usize> {
    let json = message.json();
    let digits = json.find("\"n\":").map_or(json.trim_matches(['[', ']']), |at| &json[at + 4..]);
    digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn is_summary(message: &Message) -> bool {
    message.text().starts_with(SUMMARY_HEADER)
}

fn has(chain: &Chain, policy: &str) -> bool {
    chain.steps().iter().any(|step| step.name() == policy)
}

fn volatile(chain: &Chain) -> Volatile {
    let mut modes = chain.steps().iter().filter_map(|step| match step {
        Step::NormalizePrefix(params) => Some(params.volatile),
        _ => None,
    });
    modes.next().unwrap_or_default()
}

/// Untouched messages keep their bytes; touched ones say less, and say so.
fn check_bytes(chain: &Chain, before: &Conversation, after: &Conversation) -> Result<(), TestCaseError> {
    let last_user = before.messages().iter().rposition(|message| message.role() == Role::User);
    for message in after.messages().iter().filter(|message| !is_summary(message)) {
        let number = number(message).unwrap();
        let original = &before.messages()[number];
        if message.is_original() {
            prop_assert_eq!(message.json(), original.json());
            continue;
        }
        prop_assert_eq!((message.role(), shell(message)), (original.role(), shell(original)));
        if is_cut(message) {
            let fits = chain.steps().iter().any(|step| {
                matches!(step, Step::FitContext(params) if params.on_overflow == OnOverflow::TruncateMiddle)
            });
            prop_assert!(fits);
            continue;
        }
        match message.role() {
            Role::System | Role::Developer => check_instructions(chain, message, original)?,
            Role::User => {
                let noted = Some(number) == last_user && volatile(chain) == Volatile::Relocate;
                let json =
                    message.json().replace(r#"{"type":"text","text":"[plimsoll: image removed]"}"#, IMAGE);
                let named = message.text().contains("[plimsoll: ");
                prop_assert!(json == original.json() || named || noted);
            }
            Role::Assistant => check_inputs(message, original)?,
            _ => {
                prop_assert!(message.json().len() < original.json().len());
                prop_assert!(message.text().contains("[plimsoll: "));
                prop_assert_eq!(message.tool_call_id(), original.tool_call_id());
            }
        }
    }
    Ok(())
}

/// All of a message that no policy touches.
fn shell(message: &Message) -> Option<Value> {
    let mut value: Value = serde_json::from_str(&message.json().replace("\\u", "u")).ok()?;
    for member in ["content", "tool_calls", "reasoning", "reasoning_content", "reasoning_details"] {
        value.as_object_mut()?.shift_remove(member);
    }
    Some(value)
}

fn is_cut(message: &Message) -> bool {
    message.text().contains("tokens cut from the middle of this message]")
}

/// Names stand for what is volatile; nothing else is another.
fn check_instructions(chain: &Chain, message: &Message, original: &Message) -> Result<(), TestCaseError> {
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let (words, originals) = (words(message.text()), words(original.text()));
    prop_assert!(volatile(chain) != Volatile::Warn && words.len() == originals.len());
    for (word, original) in words.iter().zip(&originals) {
        let volatile = original.starts_with("2024-05-15") || original.starts_with("ORD-48213");
        prop_assert!(word == original || (volatile && word.starts_with('[')), "{original} is {word}");
    }
    Ok(())
}

/// Only arguments and reasoning are gone, and the calls are the same.
fn check_inputs(message: &Message, original: &Message) -> Result<(), TestCaseError> {
    prop_assert!(message.text() == original.text() || message.text().contains("[plimsoll: the same "));
    prop_assert_eq!(message.tool_calls().len(), original.tool_calls().len());
    for (call, original) in message.tool_calls().iter().zip(original.tool_calls()) {
        prop_assert_eq!((&call.id, &call.name), (&original.id, &original.name));
        let gone = call.arguments == "{}";
        prop_assert!(gone || call.arguments == original.arguments);
    }
    Ok(())
}

/// Messages that went, and what later turns took out of the first `count`: a cut.
fn cuts(conversation: &Conversation, count: usize) -> (usize, Vec<(usize, usize)>) {
    let marks = |message: &Message| {
        let told = [" cleared, ", "image removed", "document left out"];
        let told: usize = told.iter().map(|mark| message.text().matches(mark).count()).sum();
        told + usize::from(message.role() == Role::Assistant && !message.is_original())
    };
    let early = conversation.messages().iter().filter_map(|message| Some((number(message)?, marks(message))));
    (conversation.dropped().len(), early.filter(|(number, marks)| *marks > 0 && *number < count).collect())
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
            || report
                .actions()
                .iter()
                .any(|(by, _)| ["summarize", "drop_images", "normalize_prefix"].contains(by))
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

/// One conversation by itself: the invariants that one request shows.
fn check_one(chain: &Chain, text: &str, limits: Limits) -> Result<(), TestCaseError> {
    let before = parse(text);
    let run = |conversation: &Conversation| {
        run_within(chain, conversation, &Counter::default(), &NoSummaries, limits)
    };
    match run(&before) {
        Ok((after, report)) => {
            check_bytes(chain, &before, &after)?;
            check_exchanges(&before, &after)?;
            check_kept(&before, &after)?;
            check_report(chain, &before, &after, &report)?;
            check_rest(text, &after)?;
            let again = run(&parse(&after.to_json()));
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
            prop_assert!(has(chain, "fit_context") || has(chain, "reject_over"));
            prop_assert!(length.prompt > length.budget && length.unremovable > length.budget, "{length:?}");
        }
        Err(refusal) => prop_assert!(false, "{refusal}"),
    }
    Ok(())
}

/// A conversation as it grows: between cuts each result begins with the one before.
fn check_growth(chain: &Chain, units: &[Unit], limits: Limits) -> Result<(), TestCaseError> {
    let (memory, counter) = (Memory::default(), Counter::default());
    let mut last: Option<(Conversation, bool, usize)> = None;
    for count in 1..=units.len() {
        let before = parse(&body(&units[..count], Some(50)));
        let Ok((after, report)) = run_within(chain, &before, &counter, &memory, limits) else {
            last = None;
            continue;
        };
        if count == units.len() {
            let fresh = run_within(chain, &before, &counter, &NoSummaries, limits).unwrap().0;
            prop_assert_eq!(fresh.to_json(), after.to_json(), "memory changed the result");
        }
        // Where even a summary has too little room it is shortened, or the guard cuts by force, each time anew; so it does inside messages. Where
        // what stays leaves no room for the answer, the output limit gives way, and the budget is another each time.
        let acted = |policy| report.actions().iter().any(|(by, _)| *by == policy);
        let fitted = has(chain, "summarize") && (acted("fit_context") || squeezed(&report));
        let forced = fitted || acted("reserve_output") || after.messages().iter().any(is_cut);
        if let Some((last, false, length)) = &last
            && !forced
            && cuts(last, *length) == cuts(&after, *length)
        {
            check_prefix(chain, last, &after)?;
        }
        last = Some((after, forced, before.messages().len()));
    }
    Ok(())
}

fn check_prefix(chain: &Chain, last: &Conversation, after: &Conversation) -> Result<(), TestCaseError> {
    let said = |message: &Message| message.role() == Role::User && !is_summary(message);
    // What moved out of the instructions stands there for one turn.
    let relocates = volatile(chain) == Volatile::Relocate;
    let noted = last.messages().iter().rposition(said).filter(|_| relocates);
    // Before the first user message it has nowhere to go.
    if relocates
        && !noted.is_some_and(|index| last.messages()[index].json().contains("from the instructions"))
    {
        return Ok(());
    }
    for (index, (old, new)) in last.messages().iter().zip(after.messages()).enumerate() {
        prop_assert!(
            Some(index) == noted || old.json() == new.json(),
            "prefix changed without a cut: {} became {}",
            old.json(),
            new.json()
        );
    }
    prop_assert_eq!(last.tools(), after.tools());
    Ok(())
}

/// So many cases, or as many as PROPTEST_CASES asks for: each goes through every policy.
fn fewer(cases: u32) -> ProptestConfig {
    let asked = std::env::var_os("PROPTEST_CASES").is_some();
    let config = ProptestConfig::default();
    ProptestConfig { cases: if asked { config.cases } else { cases }, ..config }
}

fn alone(policy: &Value) -> Chain {
    Chain::build("test", &steps(&json!([policy])))
}

proptest! {
    #![proptest_config(fewer(12))]

    #[test]
    fn every_policy_alone(units in history(16), limits in limits(), limit in prop::option::of(1_u64..900)) {
        let text = body(&units, limit);
        for policy in policies() {
            let named = |fault: TestCaseError| TestCaseError::fail(format!("{policy}: {fault}"));
            check_one(&alone(&policy), &text, limits).map_err(named)?;
        }
    }

    #[test]
    fn every_policy_alone_grows(units in history(10), limits in limits()) {
        for policy in policies() {
            let named = |fault: TestCaseError| TestCaseError::fail(format!("{policy}: {fault}"));
            check_growth(&alone(&policy), &units, limits).map_err(named)?;
        }
    }
}

proptest! {
    #[test]
    fn one_conversation(units in history(30), chain in chain(), limits in limits(), limit in prop::option::of(1_u64..900)) {
        check_one(&chain, &body(&units, limit), limits)?;
    }

    #[test]
    fn growing_conversation(units in history(24), chain in chain(), limits in limits()) {
        check_growth(&chain, &units, limits)?;
    }

    /// What is free at the moment may cut more, and never refuses what the window allows.
    #[test]
    fn scarce_memory(units in history(20), free in 0_u64..2_000_000, window in 400_u64..2000) {
        let chain = Chain::build("test", &steps(&json!([{"memory_budget": {"share": 1.0}}, "reserve_output", "fit_context"])));
        let plain = Chain::build("test", &steps(&json!(["reserve_output", "fit_context"])));
        let before = parse(&body(&units, Some(50)));
        let (total_kv, bytes_per_token) = (Some(2_000_000), Some(1000));
        let limits = Limits { free_kv: Some(free), total_kv, bytes_per_token, ..Limits::tokens(window) };
        let held = run_within(&chain, &before, &Counter::default(), &NoSummaries, limits);
        let free = run(&plain, &before, &Counter::default(), &NoSummaries, window);
        prop_assert_eq!(held.is_ok(), free.is_ok());
        if let Ok((_, report)) = held {
            prop_assert!(report.tokens_after <= report.budget && report.window <= window);
        }
    }

    #[test]
    fn counts_that_do_not_add_up(units in history(30), chain in chain(), limits in limits(), excess in 0_u64..30) {
        let counter = Counter { excess, alternate: false };
        let before = parse(&body(&units, Some(50)));
        if let Ok((_, report)) = run_within(&chain, &before, &counter, &NoSummaries, limits) {
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
    let chain = preset("chat");
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

/// A result of a megabyte between small ones, through every policy and every preset.
#[test]
fn a_megabyte() {
    let small = |text: &str| vec![format!(r#"{{"role":"user","n":"@","content":"{text}"}}"#)];
    let units = [small("go"), megabyte(), small("and again"), megabyte(), small("so?")];
    let text = body(&units, Some(64));
    let presets = ["chat", "agent", "rag"].map(preset);
    for chain in policies().iter().map(alone).chain(presets) {
        for window in [2000, 1_000_000] {
            let window: Tokens = window;
            let limits = Limits {
                total_kv: Some(1 << 30),
                free_kv: Some(1 << 30),
                bytes_per_token: Some(1000),
                ..Limits::tokens(window)
            };
            check_one(&chain, &text, limits).unwrap();
        }
    }
}
