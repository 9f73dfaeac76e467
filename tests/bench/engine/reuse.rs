//! The 20th turn of a conversation over HTTP: its first token with what is cached of it, and without.

use std::io::{BufRead, BufReader};
use std::time::Instant;

use plimsoll_tests::http::open;
use plimsoll_tests::post;
use serde_json::{Value, json};

use crate::report::{Report, median, millis};
use crate::streams::Process;

const CONVERSATIONS: u32 = 7;
const TURNS: u32 = 20;
/// Tokens of each answer.
const ANSWER: u32 = 60;

pub(crate) fn run() -> Option<Report> {
    let sidecar = Process::start("slots: 4, threads: 2, context: 4096");
    let mut report = Report::new("Turn 20 of a conversation, over HTTP");
    let mut pairs = Vec::new();
    for salt in 0..=CONVERSATIONS {
        let mut messages = Vec::new();
        for turn in 1..TURNS {
            messages.push(json!({"role": "user", "content": said(salt, turn)}));
            let request =
                json!({"model": "demo", "messages": messages, "max_tokens": ANSWER, "ignore_eos": true});
            let answer = post(&format!("{}/chat/completions", sidecar.url), &request).ok();
            messages.push(answer["choices"][0]["message"].clone());
        }
        messages.push(json!({"role": "user", "content": said(salt, TURNS)}));
        let with = first(&sidecar, &messages);
        // Another beginning, of the same length: nothing of it is cached.
        messages[0] = json!({"role": "user", "content": said(salt + 100, 1)});
        pairs.push((with, first(&sidecar, &messages)));
    }
    let pairs = &pairs[1..];
    let tokens = |of: fn(&First) -> u64| median(pairs.iter().map(|(with, _)| of(with) as f64));
    report.row("prompt", format!("{} tokens, {} of them cached", tokens(|f| f.prompt), tokens(|f| f.cached)));
    let seconds = |of: fn(&(First, First)) -> f64| millis(median(pairs.iter().map(of)));
    report.row("first token, nothing to reuse", seconds(|pair| pair.1.seconds));
    report.row("first token, with reuse", seconds(|pair| pair.0.seconds));
    let ratio = median(pairs.iter().map(|(with, without)| with.seconds / without.seconds));
    report.most("with reuse, of without", ratio, 0.1);
    report.note(format!(
        "Demo model, 2 threads, `/v1/chat/completions` with `stream: true`; medians of {CONVERSATIONS} conversations."
    ));
    Some(report)
}

/// What the user says: about 110 tokens.
fn said(salt: u32, turn: u32) -> String {
    let words = ["cache", "window", "token", "prompt", "policy", "memory", "engine"];
    let word = |i: u32| words[((salt * 5 + turn * 3 + i * i) % 7) as usize];
    let text: Vec<_> = (0..18).map(|i| format!("the {} {}", word(i), salt * 31 + turn * 7 + i)).collect();
    format!("{} Note {}: {}. What is the KV cache?", salt + 100, turn, text.join(", "))
}

/// A first token.
struct First {
    seconds: f64,
    prompt: u64,
    cached: u64,
}

fn first(sidecar: &Process, messages: &[Value]) -> First {
    let request = json!({
        "model": "demo", "messages": messages, "max_tokens": 2, "ignore_eos": true, "temperature": 0,
        "stream": true, "stream_options": {"include_usage": true},
    });
    let started = Instant::now();
    let answer = open(&format!("{}/chat/completions", sidecar.url), request.to_string().into_bytes(), &[]);
    let (mut seconds, mut usage) = (None, Value::Null);
    for line in BufReader::new(answer).lines() {
        let line = line.expect("the stream goes on");
        let Some(event) = line.strip_prefix("data: ").filter(|event| *event != "[DONE]") else { continue };
        let event: Value = serde_json::from_str(event).expect("each event is JSON");
        let text = event["choices"][0]["delta"]["content"].as_str().unwrap_or("");
        if !text.is_empty() {
            seconds.get_or_insert(started.elapsed().as_secs_f64());
        }
        if event["usage"].is_object() {
            usage = event["usage"].clone();
        }
    }
    First {
        seconds: seconds.expect("a token came"),
        prompt: usage["prompt_tokens"].as_u64().expect("a count"),
        cached: usage["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap_or(0),
    }
}
