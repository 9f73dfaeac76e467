//! Several streams over HTTP, against onnxruntime-genai that serves the same prompts in process one after the other.

use std::io::Read;
use std::process::{Child, Stdio};
use std::time::Instant;

use plimsoll_tests::http::open;
use plimsoll_tests::process::greeting;
use plimsoll_tests::shared::{one_engine, root};
use plimsoll_tests::{plimsoll, post};
use serde_json::{Value, json};

use crate::genai::{Genai, rest};
use crate::ours::{self, demo};
use crate::report::{Report, count, median};

/// Rounds, after one that does not count.
const ROUNDS: u32 = 15;
/// Tokens of each answer.
const TOKENS: u32 = 200;
/// Tokens of each prompt.
const PROMPT: u32 = 100;
const THREADS: u32 = 2;

/// A sidecar as users run it, in a process of its own.
pub(crate) struct Process {
    child: Child,
    /// Its base URL for clients, with `/v1`.
    pub(crate) url: String,
}

impl Process {
    pub(crate) fn start(engine: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let file = folder.path().join("config.yaml");
        let model = format!("model: {}, name: demo, {engine}", demo().folder.display());
        let config = one_engine(&model, "policy: 'off', mode: 'off'")
            .replace(".runtime/", &format!("{}/.runtime/", root().display()));
        std::fs::write(&file, config).expect("the configuration can be written");
        let mut command = plimsoll();
        command.arg("serve").arg("--config").arg(&file).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the sidecar starts");
        let url = greeting(&mut child);
        Self { child, url }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Answers of one round, by how many asked at once and whether they read along.
const KINDS: [(u32, bool); 5] = [(1, false), (4, false), (8, false), (4, true), (8, true)];

pub(crate) fn run() -> Option<Report> {
    let mut genai = Genai::load(&demo().folder, THREADS)?;
    let sidecar = Process::start(&format!("slots: 8, threads: {THREADS}, context: 2048"));
    let mut report =
        Report::new("Streams over HTTP, beside onnxruntime-genai in process, one after the other");
    // Seconds for one answer of genai's, and for each kind of ours.
    let mut round = |salt: u32| {
        let prompts: Vec<_> = (0..8).map(|stream| ours::prompt(salt * 8 + stream, PROMPT)).collect();
        let theirs = [4, 8].map(|count| genai.answer(&prompts[..count], TOKENS).1 / count as f64);
        let kinds = KINDS.map(|(streams, along)| {
            rest();
            // Nothing of a prompt is cached from the round of the other kind.
            let own = 8 * (ROUNDS + 1) * (1 + u32::from(along)) + salt * 8 + streams * 1000;
            let prompts: Vec<_> = (0..streams).map(|stream| ours::prompt(own + stream, PROMPT)).collect();
            serve(&sidecar, &prompts, along) / f64::from(streams)
        });
        (theirs, kinds)
    };
    let rounds: Vec<_> = (0..=ROUNDS).map(&mut round).skip(1).collect();
    let speed = |seconds: f64| format!("{} tokens/s", count(f64::from(TOKENS) / seconds));
    report.row(
        format!("genai {}, one after the other", genai.version),
        speed(median(rounds.iter().map(|(theirs, _)| (theirs[0] + theirs[1]) / 2.0))),
    );
    for (place, (streams, along)) in KINDS.into_iter().enumerate() {
        let name = format!(
            "{streams} stream{}{}",
            if streams > 1 { "s" } else { "" },
            if along { ", `stream: true`" } else { "" }
        );
        report.row(&name, speed(median(rounds.iter().map(|(_, kinds)| kinds[place]))));
        let target = match streams {
            1 => continue,
            4 => 2.0,
            _ => 3.0,
        };
        let theirs = usize::from(streams > 4);
        report.least(name, median(rounds.iter().map(|(genai, kinds)| genai[theirs] / kinds[place])), target);
    }
    report.note(format!(
        "Demo model, {THREADS} threads, prompts of {PROMPT} tokens, answers of {TOKENS}, prefill and HTTP included; medians of {ROUNDS} rounds."
    ));
    Some(report)
}

/// Seconds until all are answered.
fn serve(sidecar: &Process, prompts: &[Vec<u32>], along: bool) -> f64 {
    let started = Instant::now();
    std::thread::scope(|scope| {
        for prompt in prompts {
            scope.spawn(move || complete(sidecar, prompt, along));
        }
    });
    started.elapsed().as_secs_f64()
}

fn complete(sidecar: &Process, prompt: &[u32], along: bool) {
    let url = format!("{}/completions", sidecar.url);
    let body = json!({
        "model": "demo", "prompt": prompt, "max_tokens": TOKENS, "temperature": 0, "ignore_eos": true, "stream": along,
    });
    if !along {
        let answer: Value = post(&url, &body).ok();
        assert_eq!(answer["usage"]["completion_tokens"], TOKENS);
        return;
    }
    let mut text = String::new();
    open(&url, body.to_string().into_bytes(), &[]).read_to_string(&mut text).expect("it is text");
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
}
