//! onnxruntime-genai in a Python process of its own, driven line by line.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use plimsoll_tests::shared::root;
use serde_json::{Value, json};

/// A process with a model.
pub(crate) struct Genai {
    process: Child,
    asked: ChildStdin,
    said: BufReader<ChildStdout>,
    /// Its version.
    pub(crate) version: String,
}

/// How one prompt went.
pub(crate) struct Timed {
    /// Seconds until the prompt was computed.
    pub(crate) prefill: f64,
    /// Seconds from the first token to the last.
    pub(crate) decode: f64,
    /// The answer.
    pub(crate) tokens: Vec<u32>,
}

impl Genai {
    /// Loads a model; `None`, with a note, where `make` has not fetched the package.
    pub(crate) fn load(model: &Path, threads: u32) -> Option<Self> {
        let python = root().join(".tools/genai/bin/python");
        if !python.exists() {
            eprintln!("skipped: `{}` is missing, `make bench-engine` makes it", python.display());
            return None;
        }
        let mut command = Command::new(python);
        command.arg(root().join("tests/bench/engine/genai.py")).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("python starts");
        let asked = process.stdin.take().expect("a pipe was asked for");
        let said = BufReader::new(process.stdout.take().expect("a pipe was asked for"));
        let mut genai = Self { process, asked, said, version: String::new() };
        let loaded = genai.ask(&json!({"model": model, "threads": threads}));
        genai.version = loaded["version"].as_str().expect("a version").to_owned();
        Some(genai)
    }

    fn ask(&mut self, request: &Value) -> Value {
        rest();
        writeln!(self.asked, "{request}").expect("python listens");
        let mut line = String::new();
        self.said.read_line(&mut line).expect("python answers");
        serde_json::from_str(&line).expect("python answers in JSON")
    }

    /// Answers prompts one after the other; tells how each went, and seconds of the whole.
    pub(crate) fn answer(&mut self, prompts: &[Vec<u32>], tokens: u32) -> (Vec<Timed>, f64) {
        let said = self.ask(&json!({"prompts": prompts, "tokens": tokens}));
        let seconds = |value: &Value| value.as_f64().expect("seconds");
        let timed = |answer: &Value| Timed {
            prefill: seconds(&answer["prefill"]),
            decode: seconds(&answer["decode"]),
            tokens: serde_json::from_value(answer["tokens"].clone()).expect("token ids"),
        };
        let answers = said["answers"].as_array().expect("answers").iter().map(timed).collect();
        (answers, seconds(&said["seconds"]))
    }
}

impl Drop for Genai {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Until the threads of whoever ran before have stopped waiting for more with their core.
pub(crate) fn rest() {
    std::thread::park_timeout(Duration::from_millis(30));
}
