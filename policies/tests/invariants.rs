//! The invariants of every policy and every chain.

use plimsoll_policies::{Chain, Conversation, Limits, NoSummaries, SUMMARY_HEADER, Tokens};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::checks::{check_growth, check_one, has};
use crate::generate::{Unit, body, history, megabyte};
use crate::support::{Counter, Memory, parse, preset, run, run_within, steps};

/// Every policy with parameters that make it act.
pub(crate) fn policies() -> Vec<Value> {
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
        json!({"fit_context": {"cuts": "costed"}}),
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
pub(crate) fn limits() -> impl Strategy<Value = Limits> {
    let windows = prop::sample::select(vec![200, 400, 700, 1000, 2000, 4000]);
    (windows, prop::option::of(1_000_000_u64..3_000_000)).prop_map(|(window, kv)| Limits {
        free_kv: kv,
        total_kv: kv,
        bytes_per_token: kv.map(|_| 1000),
        ..Limits::tokens(window)
    })
}

/// So many cases, or as many as PROPTEST_CASES asks for: each goes through every policy.
pub(crate) fn fewer(cases: u32) -> ProptestConfig {
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
