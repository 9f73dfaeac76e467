use serde_json::json;

use crate::support::{Counter, parse, run, steps};
use crate::{Chain, Conversation, NoSummaries, Outcome, Refusal, Report};

fn chat(messages: usize, limit: Option<u64>) -> Conversation {
    let role = |index: usize| if index.is_multiple_of(2) { "user" } else { "assistant" };
    let message = |index| json!({"role": role(index), "content": "x".repeat(100)});
    let mut body = json!({"messages": (0..messages).map(message).collect::<Vec<_>>()});
    if let Some(limit) = limit {
        body["max_completion_tokens"] = json!(limit);
    }
    parse(&body.to_string())
}

fn reserve(
    params: &serde_json::Value,
    before: &Conversation,
    window: u64,
) -> Result<(Conversation, Report), Refusal> {
    let chain = Chain::build("test", &steps(&json!([{"reserve_output": params}, "fit_context"])));
    run(&chain, before, &Counter::default(), &NoSummaries, window)
}

#[test]
fn the_budget_is_what_the_output_leaves() {
    let budgets = [
        (json!({}), None, 1000, 750),
        (json!({}), None, 100_000, 98_976),
        (json!({"default": 900}), None, 1000, 100),
        (json!({}), Some(300), 1000, 700),
    ];
    for (params, limit, window, budget) in budgets {
        let (after, report) = reserve(&params, &chat(1, limit), window).unwrap();
        assert_eq!((report.budget, report.reserved), (budget, window - budget));
        assert_eq!((report.rows[0].outcome, after.output_limit()), (Outcome::Unchanged, limit));
    }
}

#[test]
fn a_limit_that_cannot_be_had_is_lowered() {
    let (after, report) = reserve(&json!({}), &chat(41, Some(1000)), 1000).unwrap();
    assert_eq!((after.output_limit(), report.budget, report.reserved), (Some(250), 750, 250));
    assert_eq!(report.rows[0].reason, "output limit lowered from 1000 to 250: the prompt may have 750");
    assert!(after.to_json().contains(r#""max_completion_tokens":250"#));
    assert_eq!(report.actions()[0], ("reserve_output", 1));
    // It fits as it is.
    assert!(!reserve(&json!({}), &chat(1, Some(950)), 1000).unwrap().0.is_changed());
    let refused = reserve(&json!({"clamp": false}), &chat(41, Some(1000)), 1000);
    let Err(Refusal::ContextLength(length)) = refused else { panic!("{refused:?}") };
    assert_eq!((length.budget, length.reserved, length.window), (0, 1000, 1000));
}

#[test]
fn never_under_the_least() {
    // What is never dropped has 113 tokens.
    let (after, _) = reserve(&json!({"default": 300}), &chat(41, Some(500)), 250).unwrap();
    let left = after.output_limit().unwrap();
    assert_eq!(left, 137);
    assert!(reserve(&json!({"default": 300, "min_output": 200}), &chat(41, Some(500)), 250).is_err());
}
