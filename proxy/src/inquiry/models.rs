//! Models as Ollama lists them.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Map, Value, json};

use crate::live::{Embedded, Live};

/// The version of Ollama whose API is spoken: clients choose by it what they may ask.
const VERSION: &str = "0.13.0";

/// What Ollama counts for ever as: the longest time that its clients read.
const FOR_EVER: Duration = Duration::from_secs(292 * 365 * 24 * 60 * 60);

/// Template variables by which a model may be asked to think.
const THINKING: [&str; 3] = ["enable_thinking", "thinking", "reasoning_effort"];

/// Ollama's version, and ours.
pub(super) fn version() -> Value {
    json!({"version": VERSION, "plimsoll": env!("CARGO_PKG_VERSION")})
}

/// All models.
pub(super) fn tags(live: &Live) -> Value {
    let models: Vec<_> = live.engines().map(|engine| Value::Object(entry(engine))).collect();
    json!({"models": models})
}

/// The models that are loaded now, and for how long.
pub(super) fn loaded(live: &Live) -> Value {
    let one = |engine: &Arc<Embedded>| {
        let memory = engine.engine.memory();
        let on_gpu = memory.device_total.is_some();
        let mut entry = entry(engine);
        entry.remove("modified_at");
        entry.insert("size".to_owned(), memory.total().into());
        entry.insert("size_vram".to_owned(), if on_gpu { memory.total() } else { 0 }.into());
        entry.insert("context_length".to_owned(), engine.engine.context().into());
        entry.insert("expires_at".to_owned(), time(expiry(engine.engine.unloads_at())).into());
        Value::Object(entry)
    };
    let models: Vec<_> = live.engines().filter(|engine| engine.engine.loaded()).map(one).collect();
    json!({"models": models})
}

/// One model, as far as its folder tells. The window is the one that is served.
pub(super) fn show(engine: &Embedded) -> Value {
    let (model, text) = (engine.engine.model(), engine.engine.text());
    let family = family(engine);
    let mut capabilities = vec!["completion"];
    capabilities.extend(text.tool_calls().map(|_| "tools"));
    capabilities.extend(thinks(engine).then_some("thinking"));
    let of = |name: &str| format!("{family}.{name}");
    let info = Map::from_iter([
        ("general.architecture".to_owned(), family.into()),
        (of("context_length"), engine.engine.context().into()),
        (of("block_count"), model.kv_layers.into()),
        (of("attention.head_count_kv"), model.kv_heads.into()),
        (of("attention.key_length"), model.head_dim.into()),
        (of("vocab_size"), model.vocab.into()),
    ]);
    json!({
        "modelfile": "",
        "parameters": parameters(engine),
        "template": text.template_source(false).unwrap_or_default(),
        "details": details(engine),
        "model_info": info,
        "capabilities": capabilities,
        "modified_at": time(modified(engine)),
    })
}

/// Whether the model's template lets it be asked to think.
pub(crate) fn thinks(engine: &Embedded) -> bool {
    let text = engine.engine.text();
    text.thinking().is_some() || THINKING.iter().any(|variable| text.asks_for(variable))
}

/// How tokens are chosen where a request says nothing, as a Modelfile writes it.
fn parameters(engine: &Embedded) -> String {
    let sampling = engine.sampling();
    let mut lines =
        vec![format!("num_ctx {}", engine.engine.context()), format!("temperature {}", sampling.temperature)];
    if sampling.temperature > 0.0 {
        lines.extend((sampling.top_k > 0).then(|| format!("top_k {}", sampling.top_k)));
        lines.push(format!("top_p {}", sampling.top_p));
        lines.push(format!("min_p {}", sampling.min_p));
    }
    lines.push(format!("repeat_penalty {}", sampling.repetition_penalty));
    lines.join("\n")
}

fn entry(engine: &Embedded) -> Map<String, Value> {
    let name =
        if engine.name.contains(':') { engine.name.clone() } else { format!("{}:latest", engine.name) };
    Map::from_iter([
        ("name".to_owned(), name.clone().into()),
        ("model".to_owned(), name.into()),
        ("modified_at".to_owned(), time(modified(engine)).into()),
        ("size".to_owned(), engine.engine.model().weights_bytes.into()),
        ("digest".to_owned(), digest(engine).into()),
        ("details".to_owned(), details(engine)),
    ])
}

fn details(engine: &Embedded) -> Value {
    let family = family(engine);
    json!({
        "parent_model": "", "format": "onnx", "family": family, "families": [family],
        "parameter_size": "", "quantization_level": "",
    })
}

fn family(engine: &Embedded) -> &str {
    engine.engine.model().family.as_deref().unwrap_or("unknown")
}

/// Names this model as it was loaded: what its folder says, and sizes and dates of its files. Weights are not read.
fn digest(engine: &Embedded) -> String {
    blake3::hash(format!("{:?}", engine.engine.model()).as_bytes()).to_hex().to_string()
}

fn modified(engine: &Embedded) -> SystemTime {
    let about = std::fs::metadata(&engine.engine.model().file);
    about.and_then(|about| about.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// When a model goes that nobody needs before.
fn expiry(at: Option<Instant>) -> SystemTime {
    SystemTime::now() + at.map_or(FOR_EVER, |at| at.saturating_duration_since(Instant::now()))
}

/// A time as Ollama writes it.
pub(crate) fn time(time: SystemTime) -> String {
    humantime::format_rfc3339_nanos(time).to_string()
}
