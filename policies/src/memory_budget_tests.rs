use serde_json::{Value, json};

use super::*;
use crate::support::{Counter, parse, preset, steps};
use crate::{Chain, Context, Conversation, Limits, NoSummaries, Outcome, Refusal, Report, Verdict};

/// An engine with room for 4,000 tokens of 1,000 bytes, `free` of them.
fn limits(free: u64) -> Limits {
    let (total_kv, bytes_per_token) = (Some(4_000_000), Some(1000));
    Limits { free_kv: Some(free * 1000), total_kv, bytes_per_token, ..Limits::tokens(3000) }
}

fn chat(messages: usize) -> Conversation {
    let role = |index: usize| if index.is_multiple_of(2) { "user" } else { "assistant" };
    let message = |index| json!({"role": role(index), "content": "x".repeat(350)});
    parse(&json!({"messages": (0..messages).map(message).collect::<Vec<_>>(), "max_tokens": 100}).to_string())
}

fn hold(params: &Value, limits: Limits, before: &Conversation) -> Result<(Conversation, Report), Refusal> {
    let chain =
        Chain::build("test", &steps(&json!([{"memory_budget": params}, "reserve_output", "fit_context"])));
    let context = Context { limits, counter: &Counter::default(), summaries: &NoSummaries };
    match chain.apply(before, &context)? {
        Verdict::Done { conversation, report } => Ok((conversation, report)),
        Verdict::Ask(_) => unreachable!(),
    }
}

#[test]
fn bytes_become_tokens() {
    let (after, report) = hold(&json!({"kv": "1MB"}), limits(4000), &chat(16)).unwrap();
    assert_eq!((report.window, report.budget, report.reserved), (1000, 900, 100));
    assert!(report.tokens_after <= 900 && after.messages().len() < 16);
    assert_eq!(report.rows[0].reason, "976.6 KiB of KV cache hold 1,000 tokens");
    assert_eq!((report.rows[0].outcome, report.limits.window), (Outcome::Unchanged, 3000));
    let (_, shared) = hold(&json!({"share": 0.5}), limits(4000), &chat(4)).unwrap();
    assert_eq!(shared.window, 2000);
    let (_, default) = hold(&json!({}), limits(4000), &chat(4)).unwrap();
    assert_eq!(default.window, 1000);
    let (_, whole) = hold(&json!({"share": 1.0}), limits(4000), &chat(4)).unwrap();
    assert_eq!((whole.window, whole.rows[0].reason.contains("the window is 3,000")), (3000, true));
}

#[test]
fn what_is_free_now_counts_in_steps() {
    let window = |free| hold(&json!({"kv": 2_000_000}), limits(free), &chat(16)).unwrap().1.window;
    assert_eq!((window(2000), window(1999), window(1760)), (2000, 1750, 1750));
    assert_eq!(window(1100), 1000);
}

#[test]
fn scarce_memory_refuses_nothing() {
    let (after, report) = hold(&json!({"share": 0.5}), limits(0), &chat(16)).unwrap();
    assert!(report.tokens_after <= report.budget && report.window < 1000);
    assert!(after.messages().len() < 8, "the last groups stay");
    let Err(Refusal::ContextLength(length)) = hold(&json!({"kv": 300_000}), limits(4000), &chat(16)) else {
        panic!("the limit itself refuses")
    };
    assert_eq!(length.window, 300);
}

#[test]
fn a_server_over_http_is_let_be() {
    let (after, report) = hold(&json!({"kv": "1MB"}), Limits::tokens(8000), &chat(4)).unwrap();
    assert!(!after.is_changed() && report.window == 8000);
    assert_eq!(report.rows[0].reason, "not applicable: the upstream does not tell its KV cache");
}

#[test]
fn a_budget_that_was_settled_is_lowered() {
    let mut all = preset("agent").steps().to_vec();
    all.insert(all.len() - 1, Step::MemoryBudget(MemoryBudget { kv: Some(Bytes(1_000_000)), share: None }));
    let context = Context { limits: limits(4000), counter: &Counter::default(), summaries: &NoSummaries };
    let verdict = Chain::build("test", &all).apply(&chat(24), &context).unwrap();
    let Verdict::Done { report, .. } = verdict else { panic!() };
    assert!(report.tokens_after <= 900 && report.budget == 900, "{report:?}");
}

#[test]
fn faults() {
    let fault = |json: Value| serde_json::from_value::<MemoryBudget>(json).unwrap().fault();
    assert!(fault(json!({})).is_none() && fault(json!({"kv": "2GiB"})).is_none());
    for json in
        [json!({"kv": 1, "share": 0.5}), json!({"kv": 0}), json!({"share": 0.0}), json!({"share": 1.5})]
    {
        assert!(fault(json).is_some());
    }
    let error = serde_json::from_value::<MemoryBudget>(json!({"kv": "2 gallons"})).unwrap_err();
    assert_eq!(error.to_string(), "`2 gallons` is not a number of bytes; write it like `2GiB`");
    assert_eq!(serde_json::to_value(Bytes(1 << 31)).unwrap(), json!(2_147_483_648_u64));
}

use crate::Step;
