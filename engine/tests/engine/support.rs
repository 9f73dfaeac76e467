//! Loads the models with ground truth, and runs prompts on them.

use std::path::PathBuf;
use std::sync::Arc;

use plimsoll_engine::{
    ContextLimit, Device, Engine, EngineConfig, Event, Finish, Generate, GenerateError, KeepAlive, KvDtype,
    LoadError, MemoryLimit, ModelPaths, Offload, Sampling, Usage,
};
use serde_json::Value;

/// A path in the folder of shared test data; `None`, with a note, where that folder is missing.
pub(crate) fn shared(path: &str) -> Option<PathBuf> {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared"));
    if root.is_dir() {
        return Some(root.join(path));
    }
    assert!(variable("PLIMSOLL_REQUIRE_SHARED").as_deref() != Some("1"), "{} is missing", root.display());
    println!("skipped: {} is missing", root.display());
    None
}

/// The demo model's folder.
pub(crate) fn demo(folder: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/demo")).join(folder)
}

/// ONNX Runtime, where `make` puts it.
pub(crate) fn runtime() -> PathBuf {
    let fetched = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.runtime/libonnxruntime.so"));
    let path = variable("ORT_DYLIB_PATH").map_or(fetched, PathBuf::from);
    assert!(path.is_file(), "{} is missing: `make test` fetches it", path.display());
    path
}

#[expect(clippy::disallowed_methods, reason = "tests are told by the environment where things are")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A configuration on the CPU: four slots, the model's own window.
pub(crate) fn config(folder: PathBuf) -> EngineConfig {
    EngineConfig {
        model: ModelPaths { cpu: Some(folder), cuda: None },
        device: Device::Cpu,
        memory: MemoryLimit::Auto,
        context: ContextLimit::Auto,
        slots: 4,
        threads: Some(1),
        onnxruntime: runtime(),
        queue: 16,
        keep_alive: KeepAlive::Always,
        offload: Offload::default(),
        kv_dtype: KvDtype::Auto,
    }
}

/// A model of the shared folder.
pub(crate) fn load(folder: &str) -> Option<Engine> {
    Some(Engine::load(config(shared("models")?.join(folder))).unwrap())
}

/// A tiny model of our own, with the demo model's tokenizer.
#[derive(Debug)]
pub(crate) struct Own {
    pub(crate) engine: Engine,
    pub(crate) truth: PathBuf,
    _folder: tempfile::TempDir,
}

/// Loads a tiny model of `tests/models`.
pub(crate) fn own(name: &str) -> Own {
    own_with(name, KvDtype::Auto).unwrap()
}

/// As [`own`], with a KV cache of this type.
pub(crate) fn own_with(name: &str, kv_dtype: KvDtype) -> Result<Own, LoadError> {
    let source = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/models")).join(name);
    let folder = tempfile::tempdir().unwrap();
    let copy = |from: &std::path::Path, to: &std::path::Path| {
        for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap).filter(|e| e.path().is_file()) {
            std::fs::create_dir_all(to).unwrap();
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    };
    copy(&source, folder.path());
    if source.join("onnx").is_dir() {
        copy(&source.join("onnx"), &folder.path().join("onnx"));
    }
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(demo("model").join(file), folder.path().join(file)).unwrap();
    }
    let engine = Engine::load(EngineConfig { kv_dtype, ..config(folder.path().to_owned()) })?;
    Ok(Own { engine, truth: source.join("truth.json"), _folder: folder })
}

/// What came of a request.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) tokens: Vec<u32>,
    pub(crate) reason: Finish,
    pub(crate) usage: Usage,
    pub(crate) cached: u32,
    /// Tokens that shifts dropped.
    pub(crate) dropped: u32,
}

/// A greedy request that ends at `max_tokens` only.
pub(crate) fn greedy(prompt: &[u32], max_tokens: u32) -> Generate {
    Generate {
        prompt: prompt.into(),
        max_tokens,
        sampling: Sampling::greedy(),
        ignore_eos: true,
        ..Generate::default()
    }
}

/// Reserves what a request needs and runs it to its end.
pub(crate) async fn run(engine: &Engine, request: Generate) -> Result<Answer, GenerateError> {
    let tokens = u32::try_from(request.prompt.len()).unwrap() + request.max_tokens;
    run_within(engine, request, tokens).await
}

/// Runs a request to its end in a window of so many tokens.
pub(crate) async fn run_within(
    engine: &Engine,
    request: Generate,
    tokens: u32,
) -> Result<Answer, GenerateError> {
    let permit = engine.reserve_for(&request.prompt, tokens).await.unwrap();
    let mut generation = engine.generate(request, permit);
    let (mut made, mut cached, mut dropped) = (Vec::new(), None, 0);
    while let Some(event) = generation.next().await {
        match event? {
            Event::Started { cached: tokens, .. } => cached = Some(tokens),
            Event::Prefilled | Event::Logprobs(_) => {}
            Event::Token(token) => made.push(token),
            Event::Shifted { dropped: tokens } => dropped += tokens,
            Event::Done { reason, usage } => {
                let cached = cached.unwrap();
                assert_eq!((usage.completion, usage.cached), (u32::try_from(made.len()).unwrap(), cached));
                return Ok(Answer { tokens: made, reason, usage, cached, dropped });
            }
        }
    }
    panic!("the events ended without an end")
}

/// Runs a future to its end.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// A prompt and what transformers makes of it.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) id: String,
    pub(crate) prompt: Arc<[u32]>,
    pub(crate) greedy: Vec<u32>,
    pub(crate) margins: Vec<f64>,
    pub(crate) json: Value,
}

/// The cases of a model's truth under `cases` or `extra`.
pub(crate) fn cases(model: &str, list: &str) -> Option<Vec<Case>> {
    Some(cases_of(&shared(&format!("models/truth/{model}.json"))?, list))
}

/// The cases of a file under `cases` or `extra`.
pub(crate) fn cases_of(file: &std::path::Path, list: &str) -> Vec<Case> {
    let text = std::fs::read_to_string(file).unwrap();
    let truth: Value = serde_json::from_str(&text).unwrap();
    let case = |json: &Value| Case {
        id: json["id"].as_str().unwrap().to_owned(),
        prompt: ids(&json["ids"]).into(),
        greedy: ids(&json["greedy"]),
        margins: json["margins"].as_array().unwrap().iter().map(|margin| margin.as_f64().unwrap()).collect(),
        json: json.clone(),
    };
    truth[list].as_array().unwrap().iter().map(case).collect()
}

fn ids(json: &Value) -> Vec<u32> {
    json.as_array().unwrap().iter().map(|id| u32::try_from(id.as_u64().unwrap()).unwrap()).collect()
}

/// Checks tokens against a case. In fp16 the first difference may stand where the two likeliest are close.
pub(crate) fn check(case: &Case, tokens: &[u32], fp16: bool) {
    let differs = case.greedy.iter().zip(tokens).position(|(truth, token)| truth != token);
    match differs {
        Some(step) if fp16 => assert!(case.margins[step] < 0.1, "{} differs at {step}", case.id),
        Some(step) => panic!("{} differs at {step}", case.id),
        None => assert_eq!(tokens.len(), case.greedy.len(), "{}", case.id),
    }
}
