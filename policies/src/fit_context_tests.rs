use serde_json::json;

use super::*;
use crate::support::{Counter, parse, run, steps};
use crate::{Chain, CountTokens, Message, NoSummaries, Outcome, Refusal, Report};

fn chat(messages: usize, size: usize) -> Conversation {
    let role = |index: usize| ["system", "user", "assistant"][if index == 0 { 0 } else { 2 - index % 2 }];
    let message = |index| json!({"role": role(index), "content": format!("{index} {}", "x".repeat(size))});
    parse(&json!({"messages": (0..messages).map(message).collect::<Vec<_>>(), "max_tokens": 100}).to_string())
}

fn fit(
    params: &serde_json::Value,
    before: &Conversation,
    counter: &Counter,
) -> Result<(Conversation, Report), Refusal> {
    let chain = Chain::build("test", &steps(&json!([{"fit_context": params}])));
    run(&chain, before, counter, &NoSummaries, 1100)
}

#[test]
fn marks_are_shares_of_the_budget() {
    let marks = FitContext::default().marks(1000);
    assert_eq!((marks.high, marks.low, marks.min_progress), (850, 600, 250));
    let narrow = FitContext { high: 0.5, low: 0.45, ..FitContext::default() }.marks(1000);
    assert_eq!(narrow.min_progress, 50);
}

#[test]
fn under_the_high_mark_nothing_happens() {
    let before = chat(8, 350);
    let (after, report) = fit(&json!({}), &before, &Counter::default()).unwrap();
    assert!(!after.is_changed() && report.tokens_after < 850);
    assert_eq!(report.rows[0].outcome, Outcome::Unchanged);
}

#[test]
fn over_it_the_oldest_go() {
    let (after, report) = fit(&json!({}), &chat(12, 350), &Counter::default()).unwrap();
    assert!(report.tokens_after <= 850 && report.tokens_before > 1000);
    let kept: Vec<&str> = after.messages().iter().map(|m| m.text().split(' ').next().unwrap()).collect();
    assert_eq!(kept, ["0", "1", "6", "7", "8", "9", "10", "11"]);
    let row = &report.rows[0];
    assert_eq!((row.prefix_kept, row.messages, row.outcome), (2, 4, Outcome::Applied));
    assert_eq!(row.reason, "over 850 of 1000 tokens: the oldest went, down to 600");
}

#[test]
fn what_cannot_fit_is_refused_with_exact_numbers() {
    let before = chat(6, 1600);
    let Err(Refusal::ContextLength(length)) = fit(&json!({}), &before, &Counter::default()) else { panic!() };
    let weigh = |index: usize| Counter::default().messages(&before.messages()[index..=index]);
    let unremovable = 3 + [0, 1, 4, 5].map(weigh).iter().sum::<Tokens>();
    assert_eq!(
        (length.prompt, length.unremovable),
        (Counter::default().prompt(&before).unwrap(), unremovable)
    );
    assert_eq!((length.budget, length.window, length.reserved), (1000, 1100, 100));
    assert_eq!(length.report.rows[0].outcome, Outcome::Rejected);
    let want = format!(
        "the prompt is too long: it has {} tokens and may have 1000; the window is 1100 and 100 are reserved for the \
         output; {unremovable} of them cannot be dropped",
        length.prompt
    );
    assert_eq!(length.to_string(), want);
}

#[test]
fn without_cuts_it_only_judges() {
    let params = json!({"cut": false});
    assert!(!fit(&params, &chat(9, 350), &Counter::default()).unwrap().0.is_changed());
    assert!(fit(&params, &chat(12, 350), &Counter::default()).is_err());
}

#[test]
fn the_exact_count_has_the_last_word() {
    // Pieces say about 800, the whole 1,200.
    let counter = Counter { excess: 50, alternate: false };
    let (after, report) = fit(&json!({}), &chat(8, 350), &counter).unwrap();
    assert!(report.tokens_before > 1000 && report.tokens_after <= 1000 && after.is_changed());
}

#[test]
fn roles_alternate_where_they_must() {
    let counter = Counter { alternate: true, excess: 0 };
    for messages in (2..40).step_by(2) {
        let (after, _) = fit(&json!({}), &chat(messages, 200), &counter).unwrap();
        assert!(counter.prompt(&after).is_ok());
    }
}

#[test]
fn a_late_result_goes_with_its_call() {
    let big = "x".repeat(2000);
    let body = json!({"messages": [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": big, "tool_calls": [{"id": "a"}, {"id": "b"}]},
        {"role": "tool", "tool_call_id": "a", "content": big},
        {"role": "assistant", "content": big}, {"role": "tool", "tool_call_id": "b", "content": "late"},
        {"role": "assistant", "content": "1"}, {"role": "user", "content": "2"},
    ]});
    let (after, _) = fit(&json!({}), &parse(&body.to_string()), &Counter::default()).unwrap();
    assert_eq!(after.messages().iter().map(Message::text).collect::<Vec<_>>(), ["q", "1", "2"]);
}

/// Also where an earlier step has edited what had gone out.
#[test]
fn without_cuts_nothing_is_dropped_by_force() {
    let clear = json!({"clear_tool_uses": {"trigger": 0.0, "keep": 1, "clear_at_least": 0}});
    let chain = Chain::build("test", &steps(&json!([clear, {"fit_context": {"cut": false}}])));
    let call = |n: usize| json!({"role": "assistant", "tool_calls": [{"id": n.to_string(), "function": {"name": "f"}}]});
    let result =
        |n: usize| json!({"role": "tool", "tool_call_id": n.to_string(), "content": "x".repeat(800)});
    let mut messages = vec![json!({"role": "user", "content": "y".repeat(3000)})];
    messages.extend((0..3).flat_map(|n| [call(n), result(n)]));
    messages.extend([
        json!({"role": "assistant", "content": "z".repeat(900)}),
        json!({"role": "user", "content": "so?"}),
    ]);
    let before = parse(&json!({"messages": messages, "max_tokens": 100}).to_string());
    let refused = run(&chain, &before, &Counter::default(), &NoSummaries, 1100);
    assert!(matches!(refused, Err(Refusal::ContextLength(_))), "{refused:?}");
}
