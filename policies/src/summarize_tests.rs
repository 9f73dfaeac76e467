use serde_json::json;

use crate::support::{Counter, Memory, parse, run, steps};
use crate::{
    Ask, Chain, Context, Conversation, CountTokens, Limits, Message, NoSummaries, Outcome, Recorded,
    SUMMARY_HEADER, Summaries, Verdict,
};

const WINDOW: u64 = 1000;

/// Each turn tells one code.
fn chat(turns: usize) -> serde_json::Value {
    let mut messages = vec![json!({"role": "system", "content": "Be brief."})];
    for turn in 0..turns {
        let filler = "and so on ".repeat(12);
        messages.push(json!({"role": "user", "content": format!("My code {turn} is QX-{turn}00. {filler}")}));
        messages.push(json!({"role": "assistant", "content": format!("Noted {turn}. {filler}")}));
    }
    messages.push(json!({"role": "user", "content": "Which codes?"}));
    json!({"messages": messages, "max_tokens": 100})
}

fn chain(params: &serde_json::Value) -> Chain {
    Chain::build("test", &steps(&json!([{"summarize": params}, "fit_context"])))
}

fn apply(chain: &Chain, body: &serde_json::Value, summaries: &dyn Summaries) -> Verdict {
    let context = Context { limits: Limits::tokens(WINDOW), counter: &Counter::default(), summaries };
    chain.apply(&parse(&body.to_string()), &context).unwrap()
}

fn ask(verdict: Verdict) -> Ask {
    match verdict {
        Verdict::Ask(ask) => ask,
        Verdict::Done { report, .. } => panic!("{report:?}"),
    }
}

fn done(verdict: Verdict) -> Conversation {
    match verdict {
        Verdict::Done { conversation, .. } => conversation,
        Verdict::Ask(ask) => panic!("{ask:?}"),
    }
}

fn summary(conversation: &Conversation) -> &Message {
    let summaries: Vec<&Message> =
        conversation.messages().iter().filter(|message| message.text().starts_with(SUMMARY_HEADER)).collect();
    assert_eq!(summaries.len(), 1);
    summaries[0]
}

#[test]
fn what_goes_is_told() {
    let (after, report) =
        run(&chain(&json!({})), &parse(&chat(12).to_string()), &Counter::default(), &NoSummaries, WINDOW)
            .unwrap();
    assert_eq!(after.messages()[1].text().split('.').next(), Some("My code 0 is QX-000"));
    assert_eq!(after.messages()[2].json(), summary(&after).json());
    assert!(
        summary(&after)
            .json()
            .starts_with(r#"{"role":"user","content":"Summary of the earlier conversation:\n- "#)
    );
    let all: String = after.messages().iter().map(Message::text).collect();
    for code in 0..12 {
        assert!(all.contains(&format!("QX-{code}00")), "{code}: {all}");
    }
    let row = &report.rows[0];
    assert_eq!(
        (row.outcome, row.messages, report.rows[1].outcome),
        (Outcome::Applied, after.dropped().len(), Outcome::Unchanged)
    );
    assert!(row.reason.ends_with(", by extract") && row.tokens_after < row.tokens_before, "{}", row.reason);
    assert!(Counter::default().messages(&[summary(&after).clone()]) <= WINDOW / 8);
}

#[test]
fn what_trim_turns_dropped_is_told_too() {
    let both = json!([{"trim_turns": {"keep": 2, "slack": 1}}, "summarize", "fit_context"]);
    let body = chat(5);
    let (after, report) = run(
        &Chain::build("test", &steps(&both)),
        &parse(&body.to_string()),
        &Counter::default(),
        &NoSummaries,
        8000,
    )
    .unwrap();
    let all: String = after.messages().iter().map(Message::text).collect();
    assert!((0..5).all(|code| all.contains(&format!("QX-{code}00"))), "{all}");
    assert!(report.rows[1].tokens_after > report.rows[1].tokens_before);
    assert!(report.tokens_after < report.tokens_before);
}

#[test]
fn a_summary_the_client_kept_is_taken_up() {
    let mut body = chat(12);
    let kept = format!("{SUMMARY_HEADER}\n- user: My name is Ada-77.");
    body["messages"].as_array_mut().unwrap().insert(2, json!({"role": "user", "content": kept, "id": 5}));
    let after = done(apply(&chain(&json!({})), &body, &NoSummaries));
    let text = summary(&after).text();
    assert!(text.contains("Ada-77") && text.contains("QX-100"), "{text}");
    assert!(summary(&after).json().ends_with(r#"","id":5}"#));
}

#[test]
fn a_model_is_asked_once_for_each_epoch() {
    let (chain, memory) = (chain(&json!({"with": "engine", "timeout": "5s"})), Memory::default());
    let first = ask(apply(&chain, &chat(9), &memory));
    assert_eq!((first.previous.as_deref(), first.timeout.as_secs()), (None, 5));
    assert!(first.span[0].text().starts_with("Noted 0.") && first.max_tokens < WINDOW / 8);
    assert_eq!(ask(apply(&chain, &chat(10), &memory)).key, first.key);
    memory.put(first.key, Recorded::Text("All codes: QX-100 to QX-900.".into()));
    let mut turns = 9;
    let second = loop {
        match apply(&chain, &chat(turns), &memory) {
            Verdict::Ask(ask) => break ask,
            Verdict::Done { conversation, .. } => assert!(summary(&conversation).text().contains("QX-100")),
        }
        turns += 1;
    };
    assert!(turns > 10 && second.key != first.key);
    assert!(second.previous.unwrap().starts_with("All codes: QX-100"));
}

#[test]
fn a_model_that_forgets_gets_a_ledger() {
    let (chain, memory) = (chain(&json!({"with": "engine"})), Memory::default());
    let asked = ask(apply(&chain, &chat(9), &memory));
    memory.put(asked.key, Recorded::Text(format!("{SUMMARY_HEADER}\nThe user told some codes.")));
    let after = done(apply(&chain, &chat(9), &memory));
    let text = summary(&after).text();
    assert!(text.starts_with(&format!("{SUMMARY_HEADER}\nThe user told some codes.\n- ")), "{text}");
    assert!(text.contains("QX-100"), "{text}");
    let trusting = Chain::build(
        "test",
        &steps(&json!([{"summarize": {"with": "engine", "verify": 0.0}}, "fit_context"])),
    );
    let after = done(apply(&trusting, &chat(9), &memory));
    assert_eq!(summary(&after).text(), format!("{SUMMARY_HEADER}\nThe user told some codes."));
}

#[test]
fn a_long_answer_is_cut_to_its_limit() {
    let (chain, memory) = (chain(&json!({"with": "engine", "max_tokens": 60})), Memory::default());
    let asked = ask(apply(&chain, &chat(9), &memory));
    memory.put(asked.key, Recorded::Text("so much to say ".repeat(500)));
    let after = done(apply(&chain, &chat(9), &memory));
    assert!(Counter::default().messages(&[summary(&after).clone()]) <= 60);
}

#[test]
fn a_failure_has_a_stand_in() {
    for (on_failure, stands) in [("extract", true), ("trim", false)] {
        let (chain, memory) =
            (chain(&json!({"with": "engine", "on_failure": on_failure})), Memory::default());
        let asked = ask(apply(&chain, &chat(9), &memory));
        memory.put(asked.key, Recorded::Failed { passing: false });
        let (after, report) =
            run(&chain, &parse(&chat(9).to_string()), &Counter::default(), &memory, WINDOW).unwrap();
        assert_eq!(after.messages().iter().any(|message| message.text().starts_with(SUMMARY_HEADER)), stands);
        assert!(report.rows[0].reason.contains("the model failed"), "{}", report.rows[0].reason);
    }
}

#[test]
fn a_stand_in_does_not_stay() {
    let (chain, memory) = (chain(&json!({"with": "engine"})), Memory::default());
    let asked = ask(apply(&chain, &chat(9), &memory));
    memory.put(asked.key, Recorded::Failed { passing: false });
    let stand_in = done(apply(&chain, &chat(9), &memory));
    memory.put(asked.key, Recorded::Text("QX-100, QX-200, QX-300 and QX-400, said the model.".into()));
    let after = done(apply(&chain, &chat(9), &memory));
    assert!(
        summary(&after).text().contains("said the model")
            && !summary(&stand_in).text().contains("said the model")
    );
}

#[test]
fn a_passing_failure_is_asked_again_at_the_next_cut() {
    let (chain, memory) = (chain(&json!({"with": "engine"})), Memory::default());
    let first = ask(apply(&chain, &chat(9), &memory));
    memory.put(first.key, Recorded::Failed { passing: true });
    let mut stand_in = summary(&done(apply(&chain, &chat(9), &memory))).text().to_owned();
    let mut turns = 10;
    // The text that went out stays for as long as its epoch does.
    let again = loop {
        match apply(&chain, &chat(turns), &memory) {
            Verdict::Ask(ask) => break ask,
            Verdict::Done { conversation, .. } => {
                assert_eq!(summary(&conversation).text(), std::mem::take(&mut stand_in));
                stand_in = summary(&conversation).text().to_owned();
            }
        }
        turns += 1;
    };
    assert!(turns > 10 && again.again && again.key == first.key);
    memory.put(again.key, Recorded::Text("QX-100, QX-200, QX-300 and more, said the model.".into()));
    let second = ask(apply(&chain, &chat(turns), &memory));
    assert!(!second.again && second.previous.unwrap().starts_with("QX-100, QX-200"));
    // One that fails again goes without, and nobody asks a third time.
    memory.put(again.key, Recorded::Failed { passing: false });
    assert_eq!(ask(apply(&chain, &chat(turns), &memory)).key, second.key);
}

#[test]
fn it_is_asked_behind_what_went_out_before() {
    let (chain, memory) = (chain(&json!({"with": {"upstream": "gpt"}, "model": "small"})), Memory::default());
    let first = ask(apply(&chain, &chat(9), &memory));
    let before = done(apply(&chain, &chat(3), &memory));
    let prompt = first.messages("Sum up.");
    let (request, same) = prompt.split_last().unwrap();
    assert_eq!(request.json(), r#"{"role":"user","content":"Sum up."}"#);
    let sent = before.messages().iter().map(Message::json);
    assert!(sent.zip(same).take(5).all(|(sent, asked)| sent == asked.json()));
    assert_eq!((first.model.as_deref(), first.head.len()), (Some("small"), 2));
    memory.put(first.key, Recorded::Text("QX-100, QX-200, QX-300, QX-400.".into()));
    let second = (10..).find_map(|turns| match apply(&chain, &chat(turns), &memory) {
        Verdict::Ask(ask) => Some(ask),
        Verdict::Done { .. } => None,
    });
    let after = done(apply(&chain, &chat(9), &memory));
    let head = second.unwrap().head;
    assert_eq!(head.len(), 3);
    assert!(head.iter().zip(after.messages()).all(|(asked, sent)| asked.json() == sent.json()));
}

#[test]
fn small_spans_are_not_worth_a_model() {
    let chain = chain(&json!({"with": "engine", "min_span": 100_000}));
    assert!(summary(&done(apply(&chain, &chat(9), &NoSummaries))).text().contains("QX-100"));
}

/// In each turn a user says something and a tool is called once.
fn agent(turns: &[(&str, &str)]) -> Vec<serde_json::Value> {
    let turn = |(number, (said, result)): (usize, &(&str, &str))| {
        let calls = json!([{"id": format!("c{number}"), "function": {"name": "read", "arguments": "{}"}}]);
        [
            json!({"role": "user", "content": said}),
            json!({"role": "assistant", "content": null, "tool_calls": calls}),
            json!({"role": "tool", "tool_call_id": format!("c{number}"), "content": result}),
        ]
    };
    turns.iter().enumerate().flat_map(turn).collect()
}

/// The summaries of a conversation that grows by a message at a time, each with the number of dropped messages.
fn summaries(list: &serde_json::Value, messages: &[serde_json::Value]) -> Vec<(usize, String)> {
    let chain = Chain::build("test", &steps(list));
    let memory = Memory::default();
    let mut told: Vec<(usize, String)> = Vec::new();
    for end in 1..=messages.len() {
        let before = parse(&json!({"messages": messages[..end]}).to_string());
        let (after, _) = run(&chain, &before, &Counter::default(), &memory, 2000).unwrap();
        if !after.dropped().is_empty() {
            told.push((after.dropped().len(), summary(&after).text().to_owned()));
        }
    }
    told
}

/// What earlier steps do later to messages that a summary tells of changes neither them nor the summary.
#[test]
fn a_summary_tells_what_went_out() {
    let lines = |from: usize, to: usize| -> String {
        (from..to).map(|line| format!("{line}: let value_{line} = {line};\n")).collect()
    };
    let document = |name: &str| format!("<document>\n{}\n</document>\n", format!("{name} ").repeat(140));
    let documents = format!("{}{}{}Noted.", document("QX-100"), document("QX-200"), document("QX-300"));
    let (repeated, long) = (format!("{}QX-900", lines(0, 40)), lines(500, 610));
    let clear = json!({"clear_tool_uses": {"trigger": 0.0, "keep": 2, "clear_at_least": 0}});
    let trim = json!({"trim_turns": {"keep": 3, "slack": 0}});
    let dedupe = (json!({"dedupe": {"min_tokens": 64}}), [lines(0, 40), repeated]);
    let rag = (json!({"rag_budget": {"max_fraction": 0.1}}), [documents, "fine".to_owned()]);
    let summarize = json!({"summarize": {"max_tokens": 100}});
    let fit = json!({"fit_context": {"high": 0.7, "low": 0.2, "keep_last": 1, "min_progress": 0}});
    for (earlier, (edit, [one, two])) in [(&clear, &dedupe), (&clear, &rag), (&trim, &dedupe), (&trim, &rag)]
    {
        let first = [("Read it.", one.as_str()), ("Again.", two), (&long, "done")];
        let messages = agent(&[&first[..], &[("ok", "done"); 2]].concat());
        let told = summaries(&json!([earlier, edit, summarize, fit]), &messages);
        assert_eq!(told.len(), 9);
        for (dropped, text) in &told {
            assert_eq!((*dropped, text), (5, &told[0].1), "{earlier} {edit}");
        }
    }
}
