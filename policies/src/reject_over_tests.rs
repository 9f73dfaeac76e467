use serde_json::json;

use crate::support::{Counter, parse, run, steps};
use crate::{Chain, CountTokens, NoSummaries, Outcome, Refusal, Report};

fn body() -> String {
    let turn = |number| json!({"role": "user", "content": format!("{number} {}", "word ".repeat(40))});
    json!({"messages": (0..10).map(turn).collect::<Vec<_>>(), "max_tokens": 100}).to_string()
}

fn reject(list: &serde_json::Value) -> Result<Report, Refusal> {
    let chain = Chain::build("test", &steps(list));
    run(&chain, &parse(&body()), &Counter::default(), &NoSummaries, 8000).map(|(_, report)| report)
}

#[test]
fn over_the_ceiling_is_refused_with_exact_numbers() {
    let tokens = Counter::default().prompt(&parse(&body())).unwrap();
    let Err(Refusal::ContextLength(length)) = reject(&json!([{"reject_over": {"tokens": tokens - 1}}]))
    else {
        panic!("not refused")
    };
    assert_eq!((length.prompt, length.budget, length.unremovable), (tokens, tokens - 1, tokens));
    assert_eq!((length.window, length.reserved, length.report.budget), (8000, 100, 7900));
    let row = &length.report.rows[0];
    let reason = format!("{tokens} tokens are over the ceiling of {}", tokens - 1);
    assert_eq!((row.policy, row.outcome, &row.reason), ("reject_over", Outcome::Rejected, &reason));
    let report = reject(&json!([{"reject_over": {"tokens": tokens}}])).unwrap();
    assert_eq!(report.rows[0].outcome, Outcome::Unchanged);
}

#[test]
fn it_judges_what_the_steps_before_it_left() {
    let trim = json!({"trim_turns": {"keep": 1, "slack": 0}});
    let ceiling = json!({"reject_over": {"tokens": 300}});
    assert!(reject(&json!([trim, ceiling])).is_ok());
    assert!(reject(&json!([ceiling, trim])).is_err());
}
