//! The engines' memory and queues, as gauges and as `/state`.

use std::sync::{Arc, Weak};

use plimsoll_engine::Engine;
use serde_json::{Value, json};

use crate::live::{Embedded, Kind, Live, Shared, Upstream};
use crate::telemetry::{Component, EngineReadings};

/// Lets the gauges read the engines of whatever configuration is in force.
pub fn observe(shared: &Arc<Shared>) {
    let shared: Weak<Shared> = Arc::downgrade(shared);
    let telemetry = shared.upgrade().map(|shared| shared.telemetry.clone());
    if let Some(telemetry) = telemetry {
        telemetry
            .observe(move || shared.upgrade().map(|shared| read(&shared.live.load())).unwrap_or_default());
    }
}

fn read(live: &Live) -> Vec<EngineReadings> {
    live.upstreams
        .iter()
        .filter_map(|upstream| match &upstream.kind {
            Kind::Engine(engine) => Some(readings(upstream, &engine.engine)),
            Kind::Http(_) => None,
        })
        .collect()
}

fn readings(upstream: &Upstream, engine: &Engine) -> EngineReadings {
    let memory = engine.memory();
    EngineReadings {
        upstream: upstream.name.clone(),
        queue_depth: engine.queue_depth() as u64,
        kv_used: memory.kv_used,
        kv_limit: memory.kv_limit,
        memory: memory.components().map(|(name, bytes)| Component { name, bytes }).collect(),
        source: memory.source,
    }
}

/// The state of all upstreams, for people and for `plimsoll ps`.
pub fn state(live: &Live) -> Value {
    live.upstreams.iter().map(|upstream| (upstream.name.to_string(), one(upstream))).collect()
}

fn one(upstream: &Upstream) -> Value {
    match &upstream.kind {
        Kind::Engine(engine) => embedded(engine),
        Kind::Http(_) => json!({"kind": "http"}),
    }
}

fn embedded(embedded: &Embedded) -> Value {
    let engine = &embedded.engine;
    let (model, device, memory) = (engine.model(), engine.device(), engine.memory());
    let slots: Vec<_> = engine
        .slots()
        .iter()
        .map(|slot| json!({"id": slot.id, "tokens": slot.tokens, "limit": slot.limit, "busy": slot.busy}))
        .collect();
    let components: serde_json::Map<String, Value> =
        memory.components().map(|(name, bytes)| (name.to_owned(), bytes.into())).collect();
    json!({
        "kind": "engine",
        "model": embedded.name,
        "loaded": engine.loaded(),
        "folder": model.folder,
        "device": device.name,
        "provider": device.provider,
        "device_reason": device.reason,
        "context_tokens": engine.context(),
        "kv_bytes_per_token": model.kv_bytes_per_token,
        "kv_used_bytes": memory.kv_used,
        "kv_reserved_bytes": memory.kv_reserved,
        "kv_limit_bytes": memory.kv_limit,
        "memory_bytes": components,
        "memory_limit_bytes": memory.total() - memory.kv_used + memory.kv_limit,
        "memory_source": memory.source,
        "process_rss_bytes": memory.process_rss,
        "device_used_bytes": memory.device_used,
        "device_total_bytes": memory.device_total,
        "counted_by_segment": embedded.counter.text.segmented(),
        "queued": engine.queue_depth(),
        "slots": slots,
    })
}
