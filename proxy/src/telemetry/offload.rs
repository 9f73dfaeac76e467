//! Conversations that leave their slots and come back: a trace each step, and metrics read when somebody looks.

use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;
use opentelemetry::trace::{Span as _, SpanBuilder, SpanKind, Tracer as _};
use opentelemetry_sdk::trace::SdkTracer;
use plimsoll_engine::{OffloadMove, OffloadReading, OffloadStep};

use super::names::{attr, metrics, span};
use super::readings::{EngineReadings, Source, signed};
use super::spans::count;

/// Writes the span of a step that is over.
pub(super) fn record(tracer: &SdkTracer, model: &str, step: &OffloadMove) {
    let (name, tier) = match step.step {
        OffloadStep::PutBy => (span::OFFLOAD, "host"),
        OffloadStep::Written => (span::OFFLOAD, "disk"),
        OffloadStep::Read => (span::RESTORE, "disk"),
        OffloadStep::Restored => (span::RESTORE, "host"),
    };
    let attributes = vec![
        KeyValue::new(attr::MODEL, model.to_owned()),
        KeyValue::new(attr::OFFLOAD_TIER, tier),
        count(attr::OFFLOAD_TOKENS, u64::from(step.tokens)),
        count(attr::OFFLOAD_BYTES, step.bytes),
    ];
    let builder = SpanBuilder::from_name(format!("{name} {model}"))
        .with_kind(SpanKind::Internal)
        .with_start_time(step.started)
        .with_attributes(attributes);
    let mut moved = tracer.build_with_context(builder, &opentelemetry::Context::new());
    moved.end_with_timestamp(step.started.checked_add(step.took).unwrap_or(step.started));
}

pub(super) fn register(meter: &Meter, source: &Arc<Source<EngineReadings>>) {
    usage(meter, Arc::clone(source));
    moves(meter, Arc::clone(source));
    restored(meter, Arc::clone(source));
}

fn usage(meter: &Meter, source: Arc<Source<EngineReadings>>) {
    let _registered = meter
        .i64_observable_up_down_counter(metrics::OFFLOAD_USAGE.name)
        .with_unit(metrics::OFFLOAD_USAGE.unit)
        .with_description(metrics::OFFLOAD_USAGE.help)
        .with_callback(move |observer| {
            for engine in source.read().iter().filter(|engine| engine.offload.off.is_none()) {
                let host = Some(("host", engine.offload.host_bytes));
                let disk = engine.offload.disk_bytes.map(|bytes| ("disk", bytes));
                for (tier, bytes) in host.into_iter().chain(disk) {
                    observer.observe(signed(bytes), &labels(engine, attr::OFFLOAD_TIER, tier));
                }
            }
        })
        .build();
}

fn moves(meter: &Meter, source: Arc<Source<EngineReadings>>) {
    let _registered = meter
        .u64_observable_counter(metrics::OFFLOAD_MOVES.name)
        .with_unit(metrics::OFFLOAD_MOVES.unit)
        .with_description(metrics::OFFLOAD_MOVES.help)
        .with_callback(move |observer| {
            for engine in source.read().iter().filter(|engine| engine.offload.off.is_none()) {
                for (step, count) in counted(&engine.offload) {
                    observer.observe(count, &labels(engine, attr::OFFLOAD_STEP, step));
                }
            }
        })
        .build();
}

fn restored(meter: &Meter, source: Arc<Source<EngineReadings>>) {
    let _registered = meter
        .u64_observable_counter(metrics::OFFLOAD_RESTORED.name)
        .with_unit(metrics::OFFLOAD_RESTORED.unit)
        .with_description(metrics::OFFLOAD_RESTORED.help)
        .with_callback(move |observer| {
            for engine in source.read().iter().filter(|engine| engine.offload.off.is_none()) {
                let upstream = [KeyValue::new(attr::UPSTREAM, engine.upstream.to_string())];
                observer.observe(engine.offload.counts.restored_tokens, &upstream);
            }
        })
        .build();
}

/// The steps by name, in `/metrics` and `/state`.
pub fn counted(offload: &OffloadReading) -> [(&'static str, u64); 8] {
    let counts = offload.counts;
    [
        ("put_by", counts.put_by),
        ("restored", counts.restored),
        ("written", counts.written),
        ("read", counts.read),
        ("declined", counts.declined),
        ("evicted", counts.evicted),
        ("deleted", counts.deleted),
        ("failed", counts.failed),
    ]
}

fn labels(engine: &EngineReadings, key: &'static str, value: &'static str) -> [KeyValue; 2] {
    [KeyValue::new(attr::UPSTREAM, engine.upstream.to_string()), KeyValue::new(key, value)]
}
