//! The 20th turn of a conversation over HTTP: its first token with what is cached of it, and without.

use std::time::Instant;

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
        "Demo model, 2 threads, `/v1/chat/completions`, answers of one token; medians of {CONVERSATIONS} conversations."
    ));
    Some(report)
}

/// What the user says: about 100 tokens.
fn said(salt: u32, turn: u32) -> String {
    let words = ["cache", "window", "token", "prompt", "policy", "memory", "engine"];
    let word = |i: u32| words[((salt * 5 + turn * 3 + i * i) % 7) as usize];
    let text: Vec<_> = (0..16).map(|i| format!("the {} {}", word(i), salt * 31 + turn * 7 + i)).collect();
    format!("{} Note {}: {}. What is the KV cache?", salt + 100, turn, text.join(", "))
}

/// A first token.
struct First {
    seconds: f64,
    prompt: u64,
    cached: u64,
}

/// An answer of one token is there when its first token is, whatever its text.
fn first(sidecar: &Process, messages: &[Value]) -> First {
    let request = json!({"model": "demo", "messages": messages, "max_tokens": 1, "temperature": 0});
    let started = Instant::now();
    let answer = post(&format!("{}/chat/completions", sidecar.url), &request).ok();
    let seconds = started.elapsed().as_secs_f64();
    let usage = &answer["usage"];
    First {
        seconds,
        prompt: usage["prompt_tokens"].as_u64().expect("a count"),
        cached: usage["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap_or(0),
    }
}
