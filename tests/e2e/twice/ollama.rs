//! Ollama's client.

use plimsoll_tests::mock::Answer;
use serde_json::{Value, json};

use super::{Client, Server, alike, tells};

const NDJSON: &str = "application/x-ndjson";

fn part(more: &Value) -> Value {
    let mut part = json!({"model": "m", "created_at": "2026-11-21T10:00:00.5Z"});
    part.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    part
}

fn lines(parts: &[Value]) -> String {
    parts.iter().map(|part| format!("{part}\n")).collect()
}

/// Thoughts, two calls at once, how likely each token was, and the counts.
fn streamed() -> Answer {
    let call = |n: u32| json!({"function": {"name": "f", "arguments": {"a": n}}});
    let likely =
        json!([{"token": "He", "logprob": -0.1, "top_logprobs": [{"token": "He", "logprob": -0.1}]}]);
    let said = |message: Value| part(&json!({"message": message, "done": false}));
    let mut first = said(json!({"role": "assistant", "content": "He", "thinking": "hm"}));
    first["logprobs"] = likely;
    let called = said(json!({"role": "assistant", "content": "", "tool_calls": [call(1), call(2)]}));
    let last = part(&json!({
        "message": {"role": "assistant", "content": ""}, "done": true, "done_reason": "stop", "prompt_eval_count": 26, "eval_count": 7,
    }));
    Answer::text(NDJSON, &lines(&[first, called, last]))
}

/// One answer for each call of the script, in its order.
fn server() -> Server {
    let chat = part(&json!({
        "message": {"role": "assistant", "content": "Hi", "images": null}, "done": true, "done_reason": "stop",
        "total_duration": 5_000_000_000_u64, "prompt_eval_count": 26,
    }));
    let text = part(&json!({"response": "So", "done": true, "context": [1, 2, 3, 4]}));
    let texts =
        [part(&json!({"response": "A", "done": false})), part(&json!({"response": "", "done": true}))];
    let models = json!({"models": [{"name": "m:latest", "model": "m:latest", "size": 7, "digest": "d", "details": {"family": "llama"}}]});
    let begun = part(&json!({"message": {"role": "assistant", "content": "He"}, "done": false}));
    let pulled = [json!({"status": "pulling manifest"}), json!({"status": "success", "total": 7})];
    Server::default()
        .json(&chat)
        .then(streamed())
        .json(&text)
        .then(Answer::text(NDJSON, &lines(&texts)))
        .json(&text)
        .json(&part(&json!({"response": "", "done": true, "done_reason": "unload"})))
        .json(&json!({"model": "m", "embeddings": [[0.1, -0.2], [1e-7, 3]], "prompt_eval_count": 2}))
        .json(&json!({"embedding": [0.1, 0.2]}))
        .json(&json!({"model_info": {"llama.context_length": 131_072}, "capabilities": ["completion", "tools"]}))
        .json(&models)
        .json(&models)
        .then(Answer::text(NDJSON, &lines(&pulled)))
        .then(Answer::json(""))
        .then(Answer::json(""))
        .error(404, &json!({"error": "model 'no-such-model' not found"}), &[])
        .error(400, &json!({"error": "too long"}), &[])
        .error(429, &json!({"error": "slow down"}), &[("retry-after", "7")])
        .error(500, &json!({"error": "it broke"}), &[])
        .then(Answer::text(NDJSON, &lines(&[begun.clone(), json!({"error": "it broke"})])))
        .open(NDJSON, &lines(&[begun]))
}

#[test]
fn its_client_sees_and_says_the_same() {
    let Some(printed) = alike(&Client::of("ollama_differential.py"), "ollama", server) else { return };
    assert_eq!(printed.len(), 20);
    tells(&printed, &["top_logprobs", "[404, ", "[400, ", "[429, ", "[500, ", "it broke"]);
    assert_eq!(printed[1].matches(r#""name": "f""#).count(), 2, "{}", printed[1]);
}
