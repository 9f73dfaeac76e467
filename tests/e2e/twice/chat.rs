//! Chat completions and completions: the SDK of OpenAI, langchain-openai, and two providers of the AI SDK.

use plimsoll_tests::mock::Answer;
use serde_json::{Value, json};

use super::responses;
use super::{Client, EVENTS, Server, ai_sdk_tells, alike, tells};

fn usage() -> Value {
    json!({
        "prompt_tokens": 70, "completion_tokens": 9, "total_tokens": 79, "new_count": 1,
        "prompt_tokens_details": {"cached_tokens": 64, "audio_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 2},
    })
}

fn likely(token: &str) -> Value {
    let one =
        |token: &str, logprob: f64| json!({"token": token, "logprob": logprob, "bytes": token.as_bytes()});
    let mut first = one(token, -0.1);
    first["top_logprobs"] = json!([one(token, -0.1), one("Hm", -2.5)]);
    json!({"content": [first], "refusal": null})
}

fn completion(choices: &Value, usage: &Value) -> Value {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1_700_000_000, "model": "gpt-4o-2024-08-06",
        "system_fingerprint": "fp_1", "service_tier": "default", "choices": choices, "usage": usage, "new_member": {"a": 1.50},
    })
}

fn choice(index: u32, content: &str, logprobs: &Value) -> Value {
    json!({
        "index": index, "finish_reason": "stop", "logprobs": logprobs,
        "message": {"role": "assistant", "content": content, "refusal": null, "annotations": []},
    })
}

fn calls() -> Value {
    let call = |n: u32| json!({"id": format!("call_{n}"), "type": "function", "function": {"name": "get_order_status", "arguments": format!("{{ \"order_id\": \"{n}\" }}")}});
    json!([{
        "index": 0, "finish_reason": "tool_calls", "logprobs": null,
        "message": {"role": "assistant", "content": null, "tool_calls": [call(1), call(2)]},
    }])
}

fn chunk(choices: &Value, more: &Value) -> Value {
    let mut chunk = json!({
        "id": "chatcmpl-2", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "gpt-4o-2024-08-06",
        "system_fingerprint": "fp_1", "choices": choices,
    });
    chunk.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    chunk
}

fn delta(index: u32, delta: &Value, logprobs: &Value, finish: Option<&str>) -> Value {
    json!([{"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}])
}

fn events(chunks: &[Value]) -> Answer {
    let data: String = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
    Answer::text(EVENTS, &format!(": ready\n\n{data}data: [DONE]\n\n"))
}

/// A text in two pieces; where usage is asked for, in a chunk of its own.
fn text(asked: bool) -> Answer {
    let more = if asked { json!({"usage": null}) } else { json!({"obfuscation": "xy"}) };
    let one = |what: Value, finish: Option<&str>| chunk(&delta(0, &what, &Value::Null, finish), &more);
    let mut chunks = vec![
        one(json!({"role": "assistant", "content": "", "refusal": null}), None),
        one(json!({"content": "Hé "}), None),
        one(json!({"content": "😀"}), None),
        one(json!({}), Some("stop")),
    ];
    chunks.extend(asked.then(|| chunk(&json!([]), &json!({"usage": usage()}))));
    events(&chunks)
}

/// Two answers, interleaved.
fn several() -> Answer {
    let one = |index: u32, token: &str| {
        chunk(
            &delta(index, &json!({"role": "assistant", "content": token}), &likely(token), None),
            &json!({}),
        )
    };
    let end = |index: u32| chunk(&delta(index, &json!({}), &Value::Null, Some("stop")), &json!({}));
    events(&[one(0, "A"), one(1, "B"), one(0, "a"), end(0), one(1, "b"), end(1)])
}

/// Two calls, their arguments in pieces.
fn call_deltas(asked: bool) -> Answer {
    let named = |index: u32| json!({"index": index, "id": format!("call_{index}"), "type": "function", "function": {"name": "get_order_status", "arguments": ""}});
    let more = |index: u32, piece: &str| json!({"index": index, "function": {"arguments": piece}});
    let pieces =
        [named(0), more(0, "{\"order_id\":"), more(0, " \"1\"}"), named(1), more(1, "{\"order_id\": \"2\"}")];
    let one = |call: &Value| chunk(&delta(0, &json!({"tool_calls": [call]}), &Value::Null, None), &json!({}));
    let mut chunks: Vec<Value> = pieces.iter().map(one).collect();
    chunks.push(chunk(&delta(0, &json!({}), &Value::Null, Some("tool_calls")), &json!({})));
    chunks.extend(asked.then(|| chunk(&json!([]), &json!({"usage": usage()}))));
    events(&chunks)
}

fn error(message: &str, kind: &str, code: Option<&str>) -> Value {
    json!({"error": {"message": message, "type": kind, "param": null, "code": code}})
}

/// An error in the midst of a stream.
fn torn() -> Answer {
    let first =
        chunk(&delta(0, &json!({"role": "assistant", "content": "He"}), &Value::Null, None), &json!({}));
    let broken = error("The server had an error", "server_error", Some("server_error"));
    Answer::text(EVENTS, &format!("data: {first}\n\ndata: {broken}\n\n"))
}

impl Server {
    fn chat(self, choices: &Value) -> Self {
        self.json(&completion(choices, &usage()))
    }

    /// 400, 429 and 500, and one that is over when it is asked again.
    fn errors(self) -> Self {
        let long = error(
            "Input tokens exceed the configured limit of 7 tokens",
            "invalid_request_error",
            Some("context_length_exceeded"),
        );
        let slow = error("Slow down", "rate_limit_exceeded", Some("rate_limit_exceeded"));
        let broken = error("The server had an error", "server_error", None);
        self.error(400, &long, &[("x-request-id", "req_4")])
            .error(429, &slow, &[("retry-after", "7"), ("x-ratelimit-remaining-requests", "0")])
            .error(500, &broken, &[("x-request-id", "req_5"), ("x-should-retry", "false")])
            .error(429, &slow, &[("retry-after-ms", "1")])
            .chat(&json!([choice(0, "Again", &Value::Null)]))
    }

    /// A stream that its client leaves.
    fn left_chat(self) -> Self {
        let first =
            chunk(&delta(0, &json!({"role": "assistant", "content": "He"}), &Value::Null, None), &json!({}));
        self.open(EVENTS, &format!("data: {first}\n\n"))
    }
}

fn two() -> Value {
    json!([choice(0, "A", &likely("A")), choice(1, "B", &likely("B"))])
}

fn for_openai() -> Server {
    let text_choice = |index: u32| json!({"index": index, "text": "So", "logprobs": {"tokens": ["So"], "token_logprobs": [-0.5], "top_logprobs": [{"So": -0.5}], "text_offset": [0]}, "finish_reason": "length"});
    let texts = json!({"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m", "choices": [text_choice(0), text_choice(1)], "usage": usage()});
    let piece = json!({"id": "cmpl-2", "object": "text_completion", "created": 1, "model": "m", "choices": [{"index": 0, "text": "So", "logprobs": null, "finish_reason": null}]});
    let first = completion(&json!([choice(0, "Hé 😀", &Value::Null)]), &usage());
    let told =
        Answer::json(&first.to_string()).header("x-request-id", "req_1").header("openai-processing-ms", "12");
    Server::default()
        .then(told.header("x-ratelimit-remaining-requests", "4999"))
        .chat(&two())
        .chat(&calls())
        .chat(&json!([choice(0, "{\"state\": \"open\"}", &Value::Null)]))
        .then(text(false))
        .then(text(true))
        .then(several())
        .then(call_deltas(false))
        .then(call_deltas(true))
        .json(&texts)
        .then(events(&[piece]))
        .errors()
        .then(torn())
        .left_chat()
        .open("application/json", "")
}

#[test]
fn openai_sees_and_says_the_same() {
    let Some(printed) = alike(&Client::of("chat_differential.py"), "openai", for_openai) else { return };
    assert_eq!(printed.len(), 18);
    tells(
        &printed,
        &[
            r#""x-ratelimit-remaining-requests": "4999""#,
            r#""message": {"content": "B""#,
            r#""cached_tokens": 64"#,
            r#""parsed": {"state": "open"}"#,
            r#"["BadRequestError", 400, "context_length_exceeded""#,
            r#"["RateLimitError", 429"#,
            r#""retry-after": "7""#,
            r#"["InternalServerError", 500"#,
            r#"["APIError", null, "server_error""#,
        ],
    );
    // What was asked for a second time was answered.
    assert!(printed[14].contains("Again"), "{}", printed[14]);
}

fn for_langchain() -> Server {
    Server::default()
        .chat(&json!([choice(0, "Hé 😀", &Value::Null)]))
        .chat(&two())
        .chat(&calls())
        .chat(&json!([choice(0, "{\"state\": \"open\"}", &Value::Null)]))
        .then(text(false))
        .then(text(true))
        .then(several())
        .then(call_deltas(false))
        .errors()
        .then(torn())
        .left_chat()
        .json(&responses::calls())
        .then(responses::stream())
}

#[test]
fn langchain_sees_and_says_the_same() {
    let client = Client::of("langchain_differential.py");
    let Some(printed) = alike(&client, "openai", for_langchain) else { return };
    assert_eq!(printed.len(), 16);
    tells(&printed, &["OpenAIContextOverflowError", "OpenAIRateLimitError", "Again", r#"{"state": "open"}"#]);
}

fn for_the_ai_sdk() -> Server {
    Server::default()
        .chat(&json!([choice(0, "Hé 😀", &likely("Hé 😀"))]))
        .chat(&calls())
        .chat(&json!([choice(0, "{\"state\": \"open\"}", &Value::Null)]))
        .then(text(true))
        .then(call_deltas(true))
        .errors()
        .then(torn())
        .left_chat()
}

#[test]
fn the_ai_sdk_sees_and_says_the_same() {
    for arguments in [&["--provider", "chat"], &["--provider", "compatible"]] {
        let client = Client { script: "node/differential.mjs", arguments };
        let Some(printed) = alike(&client, "openai", for_the_ai_sdk) else { return };
        ai_sdk_tells(&printed);
    }
}
