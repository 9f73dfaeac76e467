//! Cuts by cost on the engine: a conversation that is held goes on beyond the mark, one that is not is cut there.

use plimsoll_tests::shared::demo;
use plimsoll_tests::{Reply, Sidecar, post};
use serde_json::{Value, json};

use crate::summaries::conversation;

const POLICY: &str = "
policies:
  costed:
    steps:
      - growth_alert: { collapse: { tokens: 150 } }
      - reserve_output: { default: 64 }
      - summarize: { with: extract, max_tokens: 96 }
      - fit_context: { cuts: costed, high: 0.6, low: 0.4 }
";

fn start(slots: &str) -> Sidecar {
    let config = demo(2048, "costed").replace("any_model: true", "any_model: true, window: 520");
    Sidecar::start(&format!("{}{POLICY}", config.replace("slots: 4", slots)))
}

fn ask(sidecar: &Sidecar, messages: &[Value]) -> Reply {
    let body = json!({"model": "demo", "temperature": 0, "max_tokens": 64, "messages": messages});
    post(&format!("{}/v1/chat/completions", sidecar.data_url), &body)
}

/// The row of a step in the report that the sidecar kept of a request.
fn row(sidecar: &Sidecar, reply: &Reply, policy: &str) -> Value {
    let url = format!("{}/explain/{}", sidecar.admin_url, reply.header("x-plimsoll-request-id"));
    let explained: Value = plimsoll_tests::get(&url).ok();
    let rows = explained["report"]["rows"].as_array().expect("rows").clone();
    rows.into_iter().find(|row| row["policy"] == policy).expect("a row of the step")
}

fn reason(sidecar: &Sidecar, reply: &Reply) -> String {
    row(sidecar, reply, "fit_context")["reason"].as_str().expect("a reason").to_owned()
}

/// Ends of the requests that a conversation shows.
fn turns(messages: &[Value]) -> impl Iterator<Item = usize> {
    (0..messages.len()).filter(|end| messages[*end]["role"] == "user")
}

#[test]
fn a_conversation_that_is_held_waits_and_one_that_is_not_is_cut() {
    let (held, cold) = (start("slots: 4"), start("slots: 4"));
    let messages = conversation();
    let (mut waited, mut cut) = (0, 0);
    for end in turns(&messages) {
        let reply = ask(&held, &messages[..=end]);
        let why = reason(&held, &reply);
        let before: u64 = reply.header("x-plimsoll-tokens-before").parse().expect("a count");
        let after: u64 = reply.header("x-plimsoll-tokens-after").parse().expect("a count");
        assert!(after <= 456, "{after}");
        let Some((_, figures)) = why.split_once("; waits: ") else {
            cut += u64::from(reply.header("x-plimsoll-actions").contains("summarize="));
            continue;
        };
        waited += 1;
        assert!(cut == 0 && before == after && after > 273, "{why}");
        // What it says is held is what the engine then found.
        let cached = &reply.ok()["usage"]["prompt_tokens_details"]["cached_tokens"];
        assert!(
            figures.starts_with(&format!("{cached} of {after} tokens are resident; a cut would compute ")),
            "{why}"
        );
        assert!(figures.contains(" s), waiting "), "{why}");
        // Nothing of the same is held elsewhere: there the mark cuts.
        if waited == 1 {
            let reply = ask(&cold, &messages[..=end]);
            let why = reason(&cold, &reply);
            assert!(reply.header("x-plimsoll-actions").contains("summarize="), "{why}");
            assert!(
                why.contains(&format!("; cuts: 0 of {before} tokens are resident; the cut computes ")),
                "{why}"
            );
            assert!(
                reply.ok()["choices"][0]["message"]["content"].as_str().is_some_and(|text| !text.is_empty())
            );
        }
    }
    assert!(waited >= 2 && cut >= 1, "{waited} {cut}");
    let reply = ask(&held, &messages);
    assert_eq!(reply.ok()["choices"][0]["message"]["content"], "Your order number is ORD-48213.");
}

#[test]
fn reuse_that_is_lost_is_told() {
    let sidecar = start("slots: 1, offload: { host: null }");
    let messages = conversation();
    let ends: Vec<usize> = turns(&messages).collect();
    let first = ask(&sidecar, &messages[..=ends[4]]);
    assert!(!first.header("x-plimsoll-alerts").contains("reuse"), "{:?}", first.headers);
    // The only slot goes to somebody else.
    ask(&sidecar, &[json!({"role": "user", "content": "What is the KV cache?"})]).ok();
    let second = ask(&sidecar, &messages[..=ends[5]]);
    assert!(second.header("x-plimsoll-alerts").contains("reuse"), "{:?}", second.headers);
    let alert = row(&sidecar, &second, "growth_alert")["reason"].to_string();
    assert!(alert.contains("are not held any more"), "{alert}");
    let third = ask(&sidecar, &messages[..=ends[6]]);
    assert!(!third.header("x-plimsoll-alerts").contains("reuse"), "{:?}", third.headers);
}
