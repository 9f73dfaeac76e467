//! The embedded engine through the HTTP API: tokens a second by streams, and the time to a first token with and
//! without a prefix to reuse. Compare the rows of one run.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use plimsoll_engine::{
    ContextLimit, Device, Engine, EngineConfig, Generate, KeepAlive, KvDtype, MemoryLimit, ModelPaths,
    Sampling,
};
use plimsoll_tests::shared::{one_engine, root, shared};
use plimsoll_tests::{Sidecar, post};
use serde_json::json;

/// Tokens that each stream decodes.
const TOKENS: u64 = 200;
/// Tokens of the prompt whose first token is timed.
const PROMPT: u32 = 900;
/// Tokens of the conversation that is restored, where the model has room for them.
const CONVERSATION: u32 = 4000;

fn complete(sidecar: &Sidecar, prompt: &[u32], max_tokens: u64) {
    let body = json!({"model": "demo", "prompt": prompt, "max_tokens": max_tokens, "temperature": 0, "ignore_eos": true});
    post(&format!("{}/v1/completions", sidecar.data_url), &body).ok();
}

fn decode(criterion: &mut Criterion) {
    let sidecar = sidecar();
    let mut group = criterion.benchmark_group("decode");
    group.sample_size(10);
    for streams in [1, 4, 8] {
        group.throughput(Throughput::Elements(streams * TOKENS));
        group.bench_function(format!("{streams} streams, tokens/s"), |bench| {
            bench.iter(|| {
                std::thread::scope(|scope| {
                    for stream in 0..streams {
                        let prompt = [u32::try_from(stream).unwrap_or(0) + 300, 301, 302];
                        let sidecar = &sidecar;
                        scope.spawn(move || complete(sidecar, &prompt, TOKENS));
                    }
                });
            });
        });
    }
    group.finish();
}

fn first_token(criterion: &mut Criterion) {
    let sidecar = sidecar();
    let mut group = criterion.benchmark_group(format!("time to first token, {PROMPT} tokens"));
    group.sample_size(10);
    let mut salt = 0;
    group.bench_function("nothing to reuse", |bench| {
        bench.iter(|| {
            salt += 1;
            let prompt: Vec<u32> = (0..PROMPT).map(|token| 300 + (token + salt * 7) % 1500).collect();
            complete(&sidecar, &prompt, 1);
        });
    });
    let mut last = 0;
    group.bench_function("all but the last 20 tokens reused", |bench| {
        bench.iter(|| {
            last += 1;
            let tail = (0..20).map(|token| 300 + (token + last * 7) % 1500);
            let prompt: Vec<u32> = (0..PROMPT - 20).map(|token| 300 + token).chain(tail).collect();
            complete(&sidecar, &prompt, 1);
        });
    });
    group.finish();
}

/// Tokens that each of fifty sessions begins with.
const PREFIX: u32 = 800;
const SESSIONS: u32 = 50;

/// A decoding step of fifty sessions over one system prompt, whose pages they share, and of as many over prompts of
/// their own, as copies of one would be.
fn shared_prefix(criterion: &mut Criterion) {
    let Some(model) = shared("models/qwen2/genai") else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut group =
        criterion.benchmark_group(format!("decoding step of {SESSIONS} rows over {PREFIX} tokens"));
    group.sample_size(10);
    for (name, own) in [("each its own", 1), ("shared", 0)] {
        let engine = load(&model, SESSIONS);
        let (sender, batches) = std::sync::mpsc::channel();
        engine.watch_batches(move |batch| drop(sender.send(batch)));
        let prompt = |session: u32| -> Arc<[u32]> {
            let tail = (0..20).map(|token| 300 + (token * 11 + session * 37) % 1500);
            (0..PREFIX).map(|token| 300 + (token * 7 + own * session) % 1500).chain(tail).collect()
        };
        let steps = || {
            runtime.block_on(sessions(&engine, prompt));
            let whole = batches.try_iter().filter(|batch| batch.rows == SESSIONS);
            let (time, steps) = whole.fold((Duration::ZERO, 0), |(time, steps), batch| {
                (time + batch.ended.duration_since(batch.started).unwrap_or_default(), steps + batch.steps)
            });
            time / u32::try_from(steps).expect("few steps").max(1)
        };
        // What they begin with is computed before anything is measured: at first they come to decode one by one.
        runtime.block_on(sessions(&engine, prompt));
        println!("{name}: {} MiB of KV memory", engine.memory().kv_used >> 20);
        group.bench_function(name, |bench| {
            bench.iter_custom(|times| (0..times).map(|_| steps()).sum());
        });
    }
    group.finish();
}

/// All at once, with answers of 150 tokens.
async fn sessions(engine: &Engine, prompt: impl Fn(u32) -> Arc<[u32]>) {
    let mut all = tokio::task::JoinSet::new();
    for session in 0..SESSIONS {
        let (engine, prompt) = (engine.clone(), prompt(session));
        all.spawn(async move {
            let tokens = u32::try_from(prompt.len()).expect("short") + 150;
            let permit = engine.reserve_for(&prompt, tokens).await.expect("there is room");
            let sampling = Sampling::greedy();
            let request =
                Generate { prompt, max_tokens: 150, sampling, ignore_eos: true, ..Generate::default() };
            let mut answer = engine.generate_tagged(request, permit, Some(Arc::new(session)));
            while let Some(event) = answer.next().await {
                event.expect("the model answers");
            }
        });
    }
    all.join_all().await;
}

fn load(model: &Path, slots: u32) -> Engine {
    let config = EngineConfig {
        model: ModelPaths { cpu: Some(model.to_owned()), cuda: None },
        device: Device::Cpu,
        memory: MemoryLimit::Auto,
        context: ContextLimit::Auto,
        slots,
        threads: Some(1),
        onnxruntime: root().join(".runtime/libonnxruntime.so"),
        queue: 64,
        keep_alive: KeepAlive::Always,
        kv_dtype: KvDtype::Auto,
    };
    Engine::load(config).expect("the model loads")
}

/// The first token of a conversation of 4,000 tokens: computed, and restored from a file in an engine that held
/// nothing.
fn restore(criterion: &mut Criterion) {
    let Some(model) = shared("models/qwen2/genai") else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let engine = load(&model, 2);
    let length = CONVERSATION.min(engine.context() - 1);
    let prompt: Arc<[u32]> = (0..length).map(|token| 300 + token * 7 % 1500).collect();
    let first = || {
        let request = Generate { prompt: prompt.clone(), max_tokens: 1, ..Generate::default() };
        runtime.block_on(async {
            let permit = engine.reserve(length + 1).await.expect("there is room");
            let mut answer = engine.generate(request, permit);
            while let Some(event) = answer.next().await {
                event.expect("the model answers");
            }
        });
    };
    let forget = || {
        for slot in engine.slots() {
            engine.erase(slot.id).expect("nothing runs");
        }
    };
    let mut group = criterion.benchmark_group(format!("time to first token, {length} tokens"));
    group.sample_size(10);
    group.bench_function("computed", |bench| {
        bench.iter_batched(forget, |()| first(), BatchSize::PerIteration);
    });
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("conversation");
    first();
    engine.save(&prompt, &path).expect("it is held");
    group.bench_function("restored from a file", |bench| {
        let restored = |()| {
            engine.restore(&path).expect("it is whole");
            first();
        };
        bench.iter_batched(forget, restored, BatchSize::PerIteration);
    });
    group.finish();
}

fn sidecar() -> Sidecar {
    let engine = "model: engine/demo/model, name: demo, slots: 8, context: 2048";
    Sidecar::start(&one_engine(engine, "policy: 'off', mode: 'off'"))
}

criterion_group!(engine, decode, first_token, restore, shared_prefix);
criterion_main!(engine);
