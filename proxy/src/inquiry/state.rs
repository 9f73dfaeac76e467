//! What llama.cpp's server tells of itself.

use std::time::Instant;

use plimsoll_engine::SlotReading;
use serde_json::{Value, json};

use crate::live::Embedded;

/// `/props`: settings where a request says nothing, number of slots, template.
pub(super) fn props(engine: &Embedded) -> Value {
    let (sampling, text) = (engine.sampling(), engine.engine.text());
    let settings = json!({
        "n_ctx": engine.engine.context(),
        "params": {
            "temperature": sampling.temperature,
            "top_k": sampling.top_k,
            "top_p": sampling.top_p,
            "min_p": sampling.min_p,
            "repeat_penalty": sampling.repetition_penalty,
        },
    });
    json!({
        "default_generation_settings": settings,
        "total_slots": engine.engine.slots().len(),
        "model_alias": engine.name,
        "chat_template": text.template_source(false).unwrap_or_default(),
        "chat_template_tool_use": text.template_source(true),
        "bos_token": text.special_token("bos_token").unwrap_or_default(),
        "eos_token": text.special_token("eos_token").unwrap_or_default(),
        "modalities": {"vision": false, "audio": false},
        "is_sleeping": !engine.engine.loaded(),
        "build_info": concat!("plimsoll ", env!("CARGO_PKG_VERSION")),
    })
}

/// `/slots`: what each holds; never a text.
pub(super) fn slots(engine: &Embedded) -> Value {
    let slot = |slot: &SlotReading| {
        let idle = slot.idle_since.map(|since| Instant::now().saturating_duration_since(since).as_secs());
        json!({
            "id": slot.id,
            "n_ctx": slot.limit,
            "speculative": false,
            "is_processing": slot.busy,
            "n_past": slot.tokens,
            "idle_seconds": idle,
        })
    };
    engine.engine.slots().iter().map(slot).collect()
}
