use serde_json::{Value, json};

use crate::support::{Counter, parse, steps};
use crate::{
    Chain, Context, Conversation, CountError, CountTokens, Limits, Message, NoSummaries, Outcome, Row,
    Tokens, Verdict,
};

/// The row for user and assistant messages of about these many tokens, oldest first.
fn alert(params: &Value, sizes: &[usize], resident: Option<Tokens>) -> Row {
    let role = |index: usize| if index.is_multiple_of(2) { "user" } else { "assistant" };
    let message =
        |(index, size): (usize, &usize)| json!({"role": role(index), "content": "x".repeat(size * 4)});
    let messages: Vec<Value> = sizes.iter().enumerate().map(message).collect();
    let before = parse(&json!({"messages": messages}).to_string());
    let limits = Limits::tokens(8000);
    let context = Context { limits, counter: &Holding(resident), summaries: &NoSummaries };
    let chain = Chain::build("test", &steps(&json!([{"growth_alert": params}, "fit_context"])));
    let Verdict::Done { report, .. } = chain.apply(&before, &context).unwrap() else { panic!() };
    assert!(report.actions().iter().all(|(by, _)| *by == "fit_context"));
    assert_eq!(report.alerts().count(), report.rows[0].alerts.len());
    assert_eq!(report.tokens_before, Counter::default().prompt(&before).unwrap());
    report.rows[0].clone()
}

#[test]
fn small_steps_are_no_news() {
    let row = alert(&json!({}), &[500, 100, 100], None);
    assert_eq!((row.outcome, row.alerts.len()), (Outcome::Unchanged, 0));
    assert_eq!(alert(&json!({}), &[10], None).reason, "24 tokens, the first prompt");
    let tiny = alert(&json!({}), &[10, 50, 100], None);
    assert_eq!(tiny.outcome, Outcome::Unchanged, "ten times nothing is little");
}

#[test]
fn growth_by_a_factor() {
    let row = alert(&json!({}), &[2000, 100, 1500], None);
    assert_eq!((row.outcome, &*row.alerts), (Outcome::Alert, &["growth"][..]));
    assert_eq!(row.reason, "3,638 tokens after 2,014 are over 1.5 times");
    assert!(alert(&json!({"factor": 2.0}), &[2000, 100, 1500], None).alerts.is_empty());
}

#[test]
fn a_size_is_passed_once() {
    // Three quarters of the window are 6,000.
    assert_eq!(alert(&json!({}), &[5500, 100, 600], None).alerts, ["size"]);
    assert!(alert(&json!({}), &[5500, 100, 600, 100, 100], None).alerts.is_empty());
    assert_eq!(alert(&json!({"tokens": 100}), &[200], None).alerts, ["size"]);
}

/// Says that so much of any prompt is held.
struct Holding(Option<Tokens>);

impl CountTokens for Holding {
    fn prompt(&self, conversation: &Conversation) -> Result<Tokens, CountError> {
        Counter::default().prompt(conversation)
    }

    fn messages(&self, messages: &[Message]) -> Tokens {
        Counter::default().messages(messages)
    }

    fn text(&self, text: &str) -> Tokens {
        Counter::default().text(text)
    }

    fn name(&self) -> &'static str {
        "holding"
    }

    fn estimated(&self) -> bool {
        true
    }

    fn resident(&self, _: &Conversation) -> Option<Tokens> {
        self.0
    }
}

#[test]
fn reuse_collapses() {
    let row = alert(&json!({}), &[4000, 100, 100], Some(1000));
    assert_eq!((&*row.alerts, row.outcome), (&["reuse"][..], Outcome::Alert));
    assert_eq!(row.reason, "3,014 of the 4,014 tokens before are not held any more");
    assert!(alert(&json!({}), &[4000, 100, 100], Some(4000)).alerts.is_empty());
    assert!(alert(&json!({}), &[4000, 100, 100], None).alerts.is_empty());
    assert!(alert(&json!({"collapse": {"tokens": 5000}}), &[4000, 100, 100], Some(0)).alerts.is_empty());
}

#[test]
fn a_cut_of_its_own_is_no_collapse() {
    // The last question brings a cut of the guard: what stood before it is gone by intent.
    let sizes = [3000, 100, 3000, 100, 2500];
    assert_eq!(alert(&json!({"factor": 9.0}), &sizes, Some(0)).alerts, [""; 0]);
    // A turn later the same prompt should be there.
    let sizes = [3000, 100, 3000, 100, 2500, 100, 100];
    assert_eq!(alert(&json!({"factor": 9.0}), &sizes, Some(0)).alerts, ["reuse"]);
}
