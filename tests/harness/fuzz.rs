//! What is read of strangers, one reader a target: whatever the bytes are, the answer is a value or an error. Driven by
//! `tests/fuzz/main.rs` with libFuzzer, and by a short deterministic run of mutated seeds in every `make test`.

mod bodies;

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use plimsoll_engine::text::{Text, ToolCallFormat};
use plimsoll_engine::{CheckpointInfo, Model};
use plimsoll_proxy::config::{Config, Sources};
use plimsoll_proxy::forward::usage::Seen;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

use crate::shared::root;

/// A reader, what it may begin with, and how often a short run tries it.
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Reads.
    pub run: fn(&[u8]),
    /// Inputs that it takes as they are.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Mutations of a short run: fewer where each takes long.
    pub tries: usize,
}

/// Every target.
pub const TARGETS: [Target; 10] = [
    Target { name: "chat", run: bodies::chat, seeds: bodies::chats, tries: 1500 },
    Target { name: "anthropic", run: bodies::anthropic, seeds: bodies::messages, tries: 1500 },
    Target { name: "ollama_chat", run: bodies::ollama_chat, seeds: bodies::ollama_chats, tries: 1500 },
    Target {
        name: "ollama_generate",
        run: bodies::ollama_generate,
        seeds: bodies::ollama_prompts,
        tries: 1500,
    },
    Target { name: "responses", run: bodies::responses, seeds: bodies::responses_bodies, tries: 1500 },
    Target { name: "config", run: config, seeds: configs, tries: 400 },
    Target { name: "usage", run: usage, seeds: usages, tries: 5000 },
    Target { name: "tool_calls", run: tool_calls, seeds: calls, tries: 5000 },
    Target { name: "model", run: model, seeds: models, tries: 150 },
    Target { name: "checkpoint", run: checkpoint, seeds: checkpoints, tries: 500 },
];

/// A target by its name.
///
/// # Panics
/// There is none of this name.
pub fn target(name: &str) -> &'static Target {
    let found = TARGETS.iter().find(|target| target.name == name);
    found.unwrap_or_else(|| panic!("no target is named `{name}`"))
}

/// Mutates the seeds of a target and reads what came out, the same on every run.
pub fn short_run(target: &Target) {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let seeds = (target.seeds)();
    seeds.iter().for_each(|seed| (target.run)(seed));
    for _ in 0..target.tries {
        let mut input = seeds[random.random_range(0..seeds.len())].clone();
        for _ in 0..random.random_range(1..8) {
            mutate(&mut input, &seeds, &mut random);
        }
        (target.run)(&input);
    }
}

/// Marks that readers look for.
const MARKS: [&[u8]; 16] = [
    b"\"",
    b"\\u",
    b"\\ud800",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\0",
    b"\xff",
    b"\n\n",
    b"<tool_call>",
    b"1e999",
    b"{{",
    b"{%",
];

fn mutate(input: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut impl Rng) {
    let at = random.random_range(0..=input.len());
    let end = random.random_range(at..=input.len().min(at + 64));
    match random.random_range(0..6) {
        0 if at < input.len() => input[at] ^= 1 << random.random_range(0..8),
        1 if at < input.len() => input[at] = random.random_range(0..=255),
        2 => drop(input.drain(at..end)),
        3 => {
            let piece = input[at..end].to_vec();
            input.splice(at..at, piece);
        }
        4 => {
            let mark = MARKS[random.random_range(0..MARKS.len())];
            input.splice(at..at, mark.iter().copied());
        }
        _ => {
            let other = &seeds[random.random_range(0..seeds.len())];
            let from = random.random_range(0..=other.len());
            input.splice(at..end, other[from..other.len().min(from + 64)].iter().copied());
        }
    }
}

/// All faults are told, whatever the file holds.
fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    with_folder(|folder| {
        let sources = Sources {
            file: folder.join("config.yaml"),
            environment: BTreeMap::new(),
            overrides: Vec::new(),
            directory: folder.to_owned(),
        };
        if let Err(faults) = Config::parse(text, &sources) {
            assert!(!faults.to_string().is_empty());
        }
    });
}

fn configs() -> Vec<Vec<u8>> {
    let files = ["config.yaml", "docs/example/config.yaml", "engine/demo/eval/config.yaml"];
    files.iter().map(|file| fs::read(root().join(file)).expect("it is shipped")).collect()
}

/// Cut into pieces of the length that the first byte says.
fn usage(data: &[u8]) {
    let Some((&size, stream)) = data.split_first() else { return };
    let mut tail = Seen::default();
    for piece in stream.chunks(usize::from(size) + 1) {
        tail.see(&Bytes::copy_from_slice(piece));
        tail.usage();
    }
}

fn usages() -> Vec<Vec<u8>> {
    let usage =
        r#""usage":{"prompt_tokens":7,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":3}}"#;
    let stream = format!(
        "data: {{\"choices\":[],\"usage\":null}}\n\ndata: {{\"choices\":[],{usage}}}\n\ndata: [DONE]\n\n"
    );
    vec![format!("{{{usage}}}").into_bytes(), stream.into_bytes()]
}

/// How families of models write calls. The upper half of an input's first byte says which of them reads it.
const FAMILIES: [ToolCallFormat; 10] = [
    ToolCallFormat::Hermes,
    ToolCallFormat::Llama,
    ToolCallFormat::Pythonic,
    ToolCallFormat::Lfm2,
    ToolCallFormat::Mistral,
    ToolCallFormat::MistralNamed,
    ToolCallFormat::DeepSeek,
    ToolCallFormat::DeepSeekPlain,
    ToolCallFormat::FunctionTag,
    ToolCallFormat::Json,
];

/// However an answer is cut, a few pieces come of it, and no text is invented.
fn tool_calls(data: &[u8]) {
    let Some((&size, answer)) = data.split_first() else { return };
    let text = String::from_utf8_lossy(answer);
    let mut parser = FAMILIES[usize::from(size / 16) % FAMILIES.len()].parser();
    let mut pieces = Vec::new();
    let characters: Vec<char> = text.chars().collect();
    for piece in characters.chunks(usize::from(size % 16) + 1) {
        pieces.extend(parser.push(&piece.iter().collect::<String>()));
    }
    pieces.extend(parser.finish());
    assert!(pieces.len() <= 4 * text.len() + 4, "{pieces:?}");
}

fn calls() -> Vec<Vec<u8>> {
    let call = r#"<tool_call>{"name":"f","arguments":{"a":[1,{"b":"}</tool_call>"}]}}</tool_call>"#;
    let twice = format!("so: {call}\n{call} then");
    let hermes = ["", "plain text", call, &twice, "<tool_call>\n{\"name\": \"f\"", "<tool_cal"];
    // One of each other family, in the order of `FAMILIES`.
    let others = [
        r#"<|python_tag|>{"name":"f","parameters":{"a":1}}; {"name":"g","parameters":{}}"#,
        r#"[f(a=1, b="x\"y", c=[True, None, {'k': -1.5}]), g()]"#,
        r#"<|tool_call_start|>[f(a='}')]<|tool_call_end|> then"#,
        r#"[TOOL_CALLS] [{"name":"f","arguments":{"a":1},"id":"123456789"}]"#,
        r#"[TOOL_CALLS]f[ARGS]{"a":1}[TOOL_CALLS]g[ARGS]{}"#,
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{\"a\":1}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"a\":1}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        r#"<function=f>{"a":1}</function> and <function=g>{}</function>"#,
        r#"[{"name":"f","arguments":{"a":1}},{"name":"g","parameters":{}}]"#,
    ];
    let seed = |family: u8, answer: &str| [&[family * 16 + 3], answer.as_bytes()].concat();
    let others = (1..).zip(others).map(|(family, answer)| seed(family, answer));
    hermes.into_iter().map(|answer| seed(0, answer)).chain(others).collect()
}

/// Files of a model folder; the first byte of an input says which of them the rest is.
const FILES: [&str; 6] = [
    "model.onnx",
    "config.json",
    "genai_config.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "tokenizer.json",
];

/// Graph, configuration, template and tokenizer of a model.
fn model(data: &[u8]) {
    let Some((&which, content)) = data.split_first() else { return };
    let file = FILES[usize::from(which) % FILES.len()];
    with_folder(|folder| {
        let model = folder.join("model");
        let path = model.join(file);
        let shipped = fs::read(&path).expect("it is there");
        fs::write(&path, content).expect("written");
        if let Ok(read) = Model::read(&model) {
            assert!(read.kv_bytes_per_token > 0);
        }
        // The tokenizer's own file takes long to read: where it is whole, the rest of the text is read with the graph's.
        if file != "model.onnx"
            && let Ok(text) = Text::load(&model)
        {
            text.certificate();
        }
        fs::write(&path, shipped).expect("written");
    });
}

fn models() -> Vec<Vec<u8>> {
    let seed = |(number, file): (usize, &&str)| {
        let content = fs::read(demo().join(file)).expect("it is shipped");
        let number = u8::try_from(number).expect("few files");
        // A tokenizer of some kilobytes is broken everywhere by so few mutations.
        [&[number], &content[..content.len().min(32 * 1024)]].concat()
    };
    FILES.iter().enumerate().map(seed).collect()
}

/// A header with its checksum in order, so that what is read is what it says.
fn checkpoint(data: &[u8]) {
    with_folder(|folder| {
        let path = folder.join("saved.kv");
        fs::write(&path, data).expect("written");
        let _ = CheckpointInfo::read(&path);
        let mut header = b"PLIMKV\x1a\n\x01\0\0\0".to_vec();
        header.extend(u32::try_from(16 + data.len() + 32).unwrap_or(u32::MAX).to_le_bytes());
        header.extend_from_slice(data);
        header.extend_from_slice(blake3::hash(&header).as_bytes());
        fs::write(&path, &header).expect("written");
        if let Ok(read) = CheckpointInfo::read(&path) {
            assert!(read.tokens.len() * 4 <= header.len(), "more tokens than the file has");
        }
    });
}

/// What stands behind the length of the header: of the file, two hashes, one strip, two tokens.
fn checkpoints() -> Vec<Vec<u8>> {
    let mut whole = 4096_u64.to_le_bytes().to_vec();
    whole.extend([7; 64]);
    for number in [1_u32, 2, 1, 8, 16, 40, 41] {
        whole.extend(number.to_le_bytes());
    }
    vec![whole, vec![0; 120], vec![0xff; 120]]
}

fn demo() -> PathBuf {
    root().join("engine/demo/model")
}

/// Runs in a folder of this thread's own, with a copy of the demo model in it.
fn with_folder(run: impl FnOnce(&Path)) {
    thread_local! {
        static FOLDER: OnceCell<TempDir> = const { OnceCell::new() };
    }
    FOLDER.with(|folder| {
        let folder = folder.get_or_init(|| {
            let folder = tempfile::tempdir().expect("a folder");
            let model = folder.path().join("model");
            fs::create_dir(&model).expect("a folder");
            for file in FILES {
                fs::copy(demo().join(file), model.join(file)).expect("copied");
            }
            let weights = demo().join("model.onnx.data");
            std::os::unix::fs::symlink(weights, model.join("model.onnx.data")).expect("a link");
            folder
        });
        run(folder.path());
    });
}
