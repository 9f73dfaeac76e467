use serde_json::{Value, json};

use super::*;
use crate::support::{Counter, Engine, Memory, parse, run_within, steps};
use crate::{Limits, NoSummaries, Outcome};

const WINDOW: Tokens = 1100;

fn chain(cuts: &str, more: &[Value]) -> Chain {
    let mut list = more.to_vec();
    list.extend([json!({"reserve_output": {"default": 100}}), json!({"fit_context": {"cuts": cuts}})]);
    Chain::build("test", &steps(&Value::Array(list)))
}

/// Instructions, then so many messages of about 40 tokens.
fn chat(messages: usize) -> Conversation {
    let role = |index: usize| ["system", "user", "assistant"][if index == 0 { 0 } else { 2 - index % 2 }];
    let message = |index| json!({"role": role(index), "content": format!("{index} {}", "x".repeat(120))});
    parse(&json!({"messages": (0..messages).map(message).collect::<Vec<_>>()}).to_string())
}

fn limits() -> Limits {
    Limits { prefill_seconds_per_token: Some(0.001), ..Limits::tokens(WINDOW) }
}

/// A conversation asked turn by turn by one process; for each request what went out, and the guard's row.
fn grow(chain: &Chain, memory: &Memory, engine: &Engine, turns: usize) -> Vec<(Conversation, Report)> {
    let ask = |turn: usize| {
        let asked = run_within(chain, &chat(2 * turn), engine, memory, limits()).unwrap();
        engine.compute(&asked.0);
        asked
    };
    (1..=turns).map(ask).collect()
}

fn why(report: &Report) -> &str {
    &report.rows.last().unwrap().reason
}

#[test]
fn with_a_resident_prefix_the_cut_waits_for_the_budget() {
    let grown = |cuts| grow(&chain(cuts, &[]), &Memory::default(), &Engine::default(), 14);
    let (tokens, costed) = (grown("tokens"), grown("costed"));
    let first = |grown: &[(Conversation, Report)]| grown.iter().position(|(sent, _)| sent.is_changed());
    let (at_mark, at_budget) = (first(&tokens).unwrap(), first(&costed).unwrap());
    assert!(tokens[at_mark].1.tokens_before > 850 && tokens[at_mark - 1].1.tokens_before <= 850);
    assert!(costed[at_budget].1.tokens_before > 1000 && costed[at_budget - 1].1.tokens_before <= 1000);
    assert!(at_mark < at_budget);
    let (sent, report) = &costed[at_mark];
    let held = costed[at_mark - 1].1.tokens_after - 3;
    let (now, cut) = (report.tokens_after, tokens[at_mark].1.tokens_after);
    // Of the cut prompt the instructions and the first question are there.
    let head: Tokens =
        sent.messages()[..2].iter().map(|message| 4 + message.json().len().div_ceil(4) as Tokens).sum();
    let seconds = |tokens| format!("{tokens} ({:.2} s)", tokens as f64 * 0.001);
    assert_eq!(
        why(report),
        format!(
            "{now} of 1000 tokens; nothing old enough to drop; waits: {held} of {now} tokens are resident; a cut would \
             compute {}, waiting {}",
            seconds(cut - head),
            seconds(now - held)
        )
    );
    assert_eq!(report.limits.resident_prefix, Some(held));
    assert!(costed[at_budget].1.rows.last().unwrap().reason.starts_with("over 850 of 1000 tokens"));
}

#[test]
fn with_nothing_resident_the_cut_comes_at_the_mark() {
    let cold = |cuts| {
        run_within(&chain(cuts, &[]), &chat(20), &Engine::default(), &Memory::default(), limits()).unwrap()
    };
    let ((tokens, _), (costed, report)) = (cold("tokens"), cold("costed"));
    assert!(costed.is_changed() && report.tokens_before <= report.budget);
    assert_eq!(tokens.to_json(), costed.to_json());
    let before = report.tokens_before;
    assert!(
        why(&report).contains(&format!("; cuts: 0 of {before} tokens are resident; the cut computes ")),
        "{report:?}"
    );
}

#[test]
fn where_nothing_is_known_it_is_as_by_tokens() {
    for messages in 2..40 {
        let run = |cuts| {
            let memory = Memory::default();
            run_within(&chain(cuts, &[]), &chat(messages), &Counter::default(), &memory, limits()).unwrap()
        };
        let ((tokens, plain), (costed, report)) = (run("tokens"), run("costed"));
        assert_eq!(tokens.to_json(), costed.to_json());
        assert_eq!(plain.rows, report.rows);
    }
}

#[test]
fn a_request_asked_again_is_decided_as_before() {
    let (memory, engine) = (Memory::default(), Engine::default());
    let chain = chain("costed", &[]);
    let grown = grow(&chain, &memory, &engine, 30);
    for (index, (sent, report)) in grown.iter().enumerate() {
        // By now other prompts are held.
        let (again, told) = run_within(&chain, &chat(2 * (index + 1)), &engine, &memory, limits()).unwrap();
        assert_eq!((again.to_json(), &told.rows), (sent.to_json(), &report.rows));
    }
}

#[test]
fn between_cuts_the_prefix_stays() {
    for more in [&[][..], &[json!({"summarize": {"max_tokens": 80}})]] {
        let grown = grow(&chain("costed", more), &Memory::default(), &Engine::default(), 40);
        let plain = grow(&chain("tokens", more), &Memory::default(), &Engine::default(), 40);
        let breaks = |grown: &[(Conversation, Report)]| {
            let kept = |pair: &&[(Conversation, Report)]| {
                let (old, new) = (pair[0].0.messages(), pair[1].0.messages());
                !old.iter().zip(new).all(|(old, new)| old.json() == new.json())
            };
            grown.windows(2).filter(kept).count()
        };
        assert!(
            breaks(&grown) > 3 && breaks(&grown) < breaks(&plain),
            "{} {}",
            breaks(&grown),
            breaks(&plain)
        );
        assert!(grown.iter().all(|(_, report)| report.tokens_after <= report.budget));
    }
}

#[test]
fn a_summary_that_is_not_written_yet_is_waited_for() {
    let (memory, engine) = (Memory::default(), Engine::default());
    let chain =
        chain("costed", &[json!({"summarize": {"with": "engine", "min_span": 32, "max_tokens": 80}})]);
    let grown = grow(&chain, &memory, &engine, 14);
    assert!(grown.iter().any(|(_, report)| why(report).contains("a summary that is not written yet")));
    let (_, first) = grown.iter().find(|(sent, _)| sent.is_changed()).unwrap();
    assert!(first.rows[0].outcome == Outcome::Applied && first.tokens_before > 1000, "{first:?}");
}

#[test]
fn summary_and_guard_agree() {
    let with = [json!({"summarize": {"max_tokens": 80}})];
    for (sent, report) in grow(&chain("costed", &with), &Memory::default(), &Engine::default(), 40) {
        assert!(sent.dropped().iter().all(|gone| gone.by == "summarize"), "{:?}", report.rows);
    }
}

#[test]
fn a_fresh_process_may_cut_elsewhere() {
    let chain = chain("costed", &[]);
    let grown = grow(&chain, &Memory::default(), &Engine::default(), 30);
    for (index, (sent, report)) in grown.iter().enumerate() {
        let before = chat(2 * (index + 1));
        let (fresh, told) = run_within(&chain, &before, &Engine::default(), &NoSummaries, limits()).unwrap();
        assert!(told.tokens_after <= told.budget && report.tokens_after <= report.budget);
        assert_eq!(fresh.messages().last().unwrap().json(), sent.messages().last().unwrap().json());
    }
}

#[test]
fn decisions_are_read_as_they_were_written() {
    for waits_from in [None, Some(12)] {
        let decision = Decision { waits_from, reason: "waits: 1 of 2".to_owned() };
        assert_eq!(Decision::parse(&decision.to_text()), Some(decision));
    }
    assert_eq!(Decision::parse("soon"), None);
}
