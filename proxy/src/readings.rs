//! The engines' memory, slots and queues, as gauges and as `/state`.

mod notes;

use std::sync::{Arc, Weak};

use plimsoll_engine::{
    COMPONENTS, Engine, LeakReport, MemoryReading, OffloadReading, SharingReading, SlotReading,
};
use serde_json::{Value, json};

use crate::forward::upstream::{EndpointState, HttpUpstream};
use crate::kept::Readings;
use crate::live::{Embedded, Kind, Live, Shared, Upstream};
use crate::telemetry::{Component, EndpointReading, EngineReadings, StoreReadings, TemplateReading, counted};

pub use notes::{SlotNote, SlotNotes};

/// Lets the gauges read the engines of whatever configuration is in force.
pub fn observe(shared: &Arc<Shared>) {
    let shared: Weak<Shared> = Arc::downgrade(shared);
    let telemetry = shared.upgrade().map(|shared| shared.telemetry.clone());
    if let Some(telemetry) = telemetry {
        let of_templates = shared.clone();
        let of_endpoints = shared.clone();
        telemetry.observe_endpoints(move || {
            of_endpoints.upgrade().map(|shared| endpoints(&shared.live.load())).unwrap_or_default()
        });
        let kept = Weak::clone(&shared);
        telemetry.observe_store(move || {
            let kept = kept.upgrade()?.kept.clone();
            kept.artifacts.as_ref().map(|artifacts| store(artifacts.readings()))
        });
        telemetry
            .observe(move || shared.upgrade().map(|shared| read(&shared.live.load())).unwrap_or_default());
        telemetry.observe_templates(move || {
            of_templates.upgrade().map(|shared| templates(&shared.live.load())).unwrap_or_default()
        });
    }
}

/// What the gauge of the chat templates shows.
fn templates(live: &Live) -> Vec<TemplateReading> {
    let of_upstream = |upstream: &Upstream| {
        let reading = |shape, stable| TemplateReading { upstream: upstream.name.clone(), shape, stable };
        let certificate = upstream.certificate.as_ref()?;
        let shapes = certificate.shapes.iter().map(|shape| reading(shape.name, shape.holds()));
        Some(shapes.chain([reading("date", certificate.date.is_none())]).collect::<Vec<_>>())
    };
    live.upstreams.iter().filter_map(|upstream| of_upstream(upstream)).flatten().collect()
}

/// What the metrics of upstreams' servers show.
fn endpoints(live: &Live) -> Vec<EndpointReading> {
    let of_upstream = |upstream: &Upstream| {
        let Kind::Http(server) = &upstream.kind else { return Vec::new() };
        let name = upstream.name.clone();
        let reading = |state: EndpointState| EndpointReading {
            upstream: name.clone(),
            endpoint: state.url,
            up: state.health != "out",
            in_flight: state.in_flight,
            attempts: state.attempts,
            ejections: state.ejections,
        };
        server.states().into_iter().map(reading).collect()
    };
    live.upstreams.iter().flat_map(|upstream| of_upstream(upstream)).collect()
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

fn store(readings: Readings) -> StoreReadings {
    let Readings { memory, disk, hits, misses, evictions } = readings;
    StoreReadings { memory, disk, hits, misses, evictions }
}

fn readings(upstream: &Upstream, engine: &Engine) -> EngineReadings {
    let memory = engine.memory();
    EngineReadings {
        upstream: upstream.name.clone(),
        queue_depth: engine.queue_depth() as u64,
        kv_used: memory.kv_used,
        kv_limit: memory.kv_limit,
        offload: engine.offload(),
        memory: memory.components().map(|(name, bytes)| Component { name, bytes }).collect(),
        source: memory.source,
        leaks: COMPONENTS.map(|name| (name, memory.leak.of(name) as u64)).to_vec(),
    }
}

/// The state of all upstreams, for people and for `plimsoll ps`.
pub fn state(live: &Live) -> Value {
    live.upstreams.iter().map(|upstream| (upstream.name.to_string(), one(upstream))).collect()
}

fn one(upstream: &Upstream) -> Value {
    let mut state = match &upstream.kind {
        Kind::Engine(engine) => embedded(engine),
        Kind::Http(server) => http(server),
    };
    state["template"] = json!(upstream.certificate);
    state
}

fn http(server: &HttpUpstream) -> Value {
    let endpoint = |state: EndpointState| {
        let attempts: serde_json::Map<String, Value> =
            state.attempts.into_iter().map(|(result, count)| (result.to_owned(), count.into())).collect();
        json!({
            "url": state.url,
            "health": state.health,
            "failures": state.failures,
            "out_seconds": state.out_for.map(|time| time.as_secs_f64()),
            "in_flight": state.in_flight,
            "attempts": attempts,
            "ejections": state.ejections,
        })
    };
    json!({
        "kind": "http",
        "context_tokens": server.window(),
        "context_from": server.window_from(),
        "affinity": server.has_affinity(),
        "endpoints": server.states().into_iter().map(endpoint).collect::<Vec<_>>(),
    })
}

fn embedded(embedded: &Embedded) -> Value {
    let engine = &embedded.engine;
    let (model, device, memory) = (engine.model(), engine.device(), engine.memory());
    let slots: Vec<_> = engine.slots().iter().map(|slot| self::slot(slot, &embedded.slots)).collect();
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
        "kv_type": model.kv_type.to_string(),
        "kv_bytes_per_token": model.kv_bytes_per_token,
        "kv_used_bytes": memory.kv_used,
        "kv_reserved_bytes": memory.kv_reserved,
        "kv_limit_bytes": memory.kv_limit,
        "kv_sharing": sharing(engine.sharing()),
        "offload": offload(&engine.offload()),
        "memory_bytes": components,
        "memory_limit_bytes": limit(&memory),
        "memory_source": memory.source,
        "memory_attribution": memory.attribution.map(plimsoll_engine::Attribution::as_str),
        "leak": leak(&memory.leak),
        "process_rss_bytes": memory.process_rss,
        "device_used_bytes": memory.device_used,
        "device_total_bytes": memory.device_total,
        "counted_by_segment": embedded.counter.text.segmented(),
        "queued": engine.queue_depth(),
        "slots": slots,
    })
}

/// Bytes that all components together may come to, once the KV cache is full.
fn limit(memory: &MemoryReading) -> u64 {
    memory.total() - memory.kv_cache + memory.kv_cache.max(memory.kv_limit)
}

/// How conversations share what they begin with, and why not.
fn sharing(sharing: SharingReading) -> Value {
    json!({
        "mode": sharing.mode,
        "reason": sharing.reason,
        "segments": sharing.segments,
        "bytes": sharing.bytes,
        "maps": sharing.maps,
        "maps_limit": sharing.maps_limit,
        "copied_for_want_of_maps": sharing.copied,
    })
}

/// Idle conversations that are put by, and what that has come to.
fn offload(offload: &OffloadReading) -> Value {
    let counts: serde_json::Map<String, Value> =
        counted(offload).into_iter().map(|(step, count)| (step.to_owned(), count.into())).collect();
    json!({
        "off": offload.off,
        "host_bytes": offload.host_bytes,
        "host_limit_bytes": offload.host_limit,
        "host_conversations": offload.host_conversations,
        "disk_bytes": offload.disk_bytes,
        "disk_limit_bytes": offload.disk_bytes.map(|_| offload.disk_limit),
        "disk_conversations": offload.disk_bytes.map(|_| offload.disk_conversations),
        "counts": counts,
        "restored_tokens": offload.counts.restored_tokens,
        "seconds_per_byte": {
            "out": offload.seconds_per_byte_out,
            "back": offload.seconds_per_byte_back,
            "read": offload.seconds_per_byte_read,
        },
    })
}

fn leak(leak: &LeakReport) -> Value {
    json!({
        "state": leak.state.as_str(),
        "component": leak.component,
        "growth_bytes": leak.growth,
        "threshold_bytes": leak.threshold,
        "samples": leak.samples,
    })
}

fn slot(slot: &SlotReading, notes: &SlotNotes) -> Value {
    // Nothing is held: whose it was says nothing any more.
    let note = notes.of(slot.id).filter(|_| slot.tokens > 0 || slot.busy);
    json!({
        "id": slot.id,
        "tokens": slot.tokens,
        "shared_tokens": slot.shared,
        "limit": slot.limit,
        "busy": slot.busy,
        "idle_seconds": slot.idle_since.map(|since| since.elapsed().as_secs()),
        "conversation": note.as_ref().map(|note| &note.conversation),
        "request": note.as_ref().map(|note| &note.request),
        "turns": note.as_ref().map(|note| note.turns),
        "reused_tokens": note.as_ref().map(|note| note.reused),
        "prompt_tokens": note.as_ref().map(|note| note.prompt),
    })
}
