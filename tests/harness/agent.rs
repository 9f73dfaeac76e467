//! Conversations as agents have them, for benchmarks.

use serde_json::{Value, json};

/// A run of an agent: a task, then calls and results in turn, `messages` in all and about `bytes` long. Every text is
/// of this `salt` alone.
pub fn run_of_an_agent(messages: usize, bytes: usize, salt: usize) -> Value {
    let exchange = 2 * bytes / messages;
    let mut all = vec![
        json!({"role": "system", "content": format!("You mend the payments service. Run {salt}.")}),
        json!({"role": "user", "content": format!("Find out why build {salt} fails, and mend it.")}),
    ];
    for step in 0..(messages - 2) / 2 {
        let id = format!("call_{salt}_{step}");
        let path = format!("services/payments/stage{}/part-{salt}-{step}.rs", step % 7);
        let call = json!({"id": id, "type": "function", "function":
            {"name": "read_file", "arguments": json!({"path": path}).to_string()}});
        all.push(json!({"role": "assistant", "content": null, "tool_calls": [call]}));
        let line = |number: usize| {
            format!("{number}: let amount_{number} = ledger.sum({salt}, {step})?; // checked\n")
        };
        let result: String = (0..)
            .map(line)
            .scan(0, |length, line| {
                *length += line.len();
                (*length < exchange.saturating_sub(350)).then_some(line)
            })
            .collect();
        all.push(json!({"role": "tool", "tool_call_id": id, "content": result}));
    }
    json!({"model": "demo", "messages": all, "max_tokens": 1024})
}
