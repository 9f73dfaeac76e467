use serde_json::json;

use super::*;
use crate::support::{Counter, parse, preset, run, steps};
use crate::{CountTokens, Message, NoSummaries};

const BODY: &str = r#"{"messages":[{"role":"user","content":"hi"}] }"#;

#[test]
fn off_does_nothing() {
    let (after, report) = run(&preset("off"), &parse(BODY), &Counter::default(), &NoSummaries, 1).unwrap();
    assert_eq!((&*after.to_json(), report.rows.len(), report.tokens_after), (BODY, 0, report.tokens_before));
    assert!(report.actions().is_empty());
}

#[test]
#[expect(clippy::too_many_lines, reason = "most of it is the report")]
fn a_report_tells_the_whole_story() {
    let (_, report) = run(&preset("agent"), &parse(BODY), &Counter::default(), &NoSummaries, 1000).unwrap();
    insta::assert_json_snapshot!(report, @r#"
    {
      "policy": "agent",
      "window": 1000,
      "budget": 750,
      "reserved": 250,
      "tokens_before": 15,
      "tokens_after": 15,
      "messages_before": 1,
      "messages_after": 1,
      "estimated": true,
      "tokenizer": "four-bytes",
      "rows": [
        {
          "policy": "normalize_prefix",
          "action": "sort",
          "messages": 0,
          "tokens_before": 15,
          "tokens_after": 15,
          "reason": "",
          "prefix_kept": 1,
          "outcome": "unchanged"
        },
        {
          "policy": "reserve_output",
          "action": "reserve",
          "messages": 0,
          "tokens_before": 15,
          "tokens_after": 15,
          "reason": "250 by default: the prompt may have 750",
          "prefix_kept": 1,
          "outcome": "unchanged"
        },
        {
          "policy": "cap_tool_output",
          "action": "cap",
          "messages": 0,
          "tokens_before": 15,
          "tokens_after": 15,
          "reason": "no result over its cap",
          "prefix_kept": 1,
          "outcome": "unchanged"
        },
        {
          "policy": "clear_tool_uses",
          "action": "clear",
          "messages": 0,
          "tokens_before": 15,
          "tokens_after": 15,
          "reason": "15 tokens; results are cleared over 375",
          "prefix_kept": 1,
          "outcome": "unchanged"
        },
        {
          "policy": "clear_thinking",
          "action": "clear",
          "messages": 0,
          "tokens_before": 15,
          "tokens_after": 15,
          "reason": "no reasoning in older turns",
          "prefix_kept": 1,
          "outcome": "unchanged"
        },
        {
          "policy": "summarize",
          "action": "summarize",
          "messages": 0,
          "tokens_before": 15,
          "tokens_after": 15,
          "reason": "nothing dropped",
          "prefix_kept": 1,
          "outcome": "unchanged"
        },
        {
          "policy": "fit_context",
          "action": "fit",
          "messages": 0,
          "tokens_before": 15,
          "tokens_after": 15,
          "reason": "15 of 750 tokens",
          "prefix_kept": 1,
          "outcome": "unchanged"
        }
      ]
    }
    "#);
}

/// A prompt is the larger, the later `b` stands in its tools and the more markers of ours it holds.
struct Contrary;

impl CountTokens for Contrary {
    fn prompt(&self, conversation: &Conversation) -> Result<Tokens, CountError> {
        let markers = conversation.to_json().matches("[plimsoll:").count();
        Ok((100 * markers + conversation.tools().and_then(|tools| tools.find('b')).unwrap_or(10)) as Tokens)
    }

    fn messages(&self, messages: &[Message]) -> Tokens {
        messages.iter().map(|message| message.json().len() as Tokens).sum()
    }

    fn text(&self, text: &str) -> Tokens {
        text.len() as Tokens
    }

    fn name(&self) -> &'static str {
        "contrary"
    }

    fn estimated(&self) -> bool {
        true
    }
}

fn contrary(step: &str, body: &str) -> (Conversation, Report) {
    let chain = Chain::build("test", &steps(&json!([step])));
    let context = Context { limits: Limits::tokens(10_000), counter: &Contrary, summaries: &NoSummaries };
    let Verdict::Done { conversation, report } = chain.apply(&parse(body), &context).unwrap() else {
        panic!()
    };
    (conversation, report)
}

#[test]
fn what_makes_the_prompt_larger_is_undone() {
    let long = "a line\\n".repeat(400);
    let body = format!(
        r#"{{"messages":[{{"role":"user","content":"go"}},
        {{"role":"assistant","tool_calls":[{{"id":"c","function":{{"name":"f","arguments":"{{}}"}}}}]}},
        {{"role":"tool","tool_call_id":"c","content":"{long}"}}]}}"#
    );
    let (conversation, report) = contrary("cap_tool_output", &body);
    assert_eq!(&*conversation.to_json(), body);
    assert_eq!((report.rows[0].outcome, report.actions().len()), (Outcome::Undone, 0));
    assert!(report.rows[0].reason.ends_with("undone: 110 tokens instead of 10"), "{}", report.rows[0].reason);
}

#[test]
fn one_order_of_tools_is_worth_a_token() {
    let body = r#"{"tools":[{"name":"b"},{"name":"a"}],"messages":[]}"#;
    let (conversation, report) = contrary("normalize_prefix", body);
    assert_eq!(&*conversation.to_json(), r#"{"tools":[{"name":"a"},{"name":"b"}],"messages":[]}"#);
    assert_eq!(report.rows[0].outcome, Outcome::Applied);
}

#[test]
fn what_cannot_be_counted_is_refused() {
    let counter = Counter { alternate: true, excess: 0 };
    let body = r#"{"messages":[{"role":"user","content":"a"},{"role":"user","content":"b"}]}"#;
    let refusal = run(&preset("chat"), &parse(body), &counter, &NoSummaries, 1000).unwrap_err();
    assert!(refusal.to_string().starts_with("the conversation cannot be counted: roles must alternate"));
}
