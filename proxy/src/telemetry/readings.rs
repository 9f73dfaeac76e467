//! Gauges of the engines, read when somebody looks.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

use super::names::{attr, metrics};
use super::record::to_f64;

/// One engine as it stands.
#[derive(Debug, Clone)]
pub struct EngineReadings {
    /// The upstream's name.
    pub upstream: Arc<str>,
    /// Requests waiting for memory.
    pub queue_depth: u64,
    /// Bytes of keys and values in use.
    pub kv_used: u64,
    /// Bytes of keys and values there is room for.
    pub kv_limit: u64,
    /// Idle conversations that are put by.
    pub offload: plimsoll_engine::OffloadReading,
    /// Memory by component.
    pub memory: Vec<Component>,
    /// Where the memory readings come from (`engine+nvml`, `engine+rss`).
    pub source: &'static str,
    /// Whether each component grows that should not: 0 no, 1 perhaps, 2 yes.
    pub leaks: Vec<(&'static str, u64)>,
}

/// One component's memory.
#[derive(Debug, Clone, Copy)]
pub struct Component {
    /// `weights`, `kv_cache`, `workspace`, `process_rss`, ...: a metric label.
    pub name: &'static str,
    /// Its size in bytes.
    pub bytes: u64,
}

/// One shape of conversation under one upstream's chat template.
#[derive(Debug, Clone)]
pub struct TemplateReading {
    /// The upstream's name.
    pub upstream: Arc<str>,
    /// `chat`, `tools`, `date`, ...: a metric label.
    pub shape: &'static str,
    /// Whether the start of a growing prompt stays as it is.
    pub stable: bool,
}

type Read<R> = Box<dyn Fn() -> Vec<R> + Send + Sync>;

/// Where readings come from, once there is something to read.
pub(super) struct Source<R>(OnceLock<Read<R>>);

impl<R> Default for Source<R> {
    fn default() -> Self {
        Self(OnceLock::new())
    }
}

impl<R> Source<R> {
    pub(super) fn set(&self, read: Read<R>) {
        // The first source stays; a reload changes what it returns.
        let _ = self.0.set(read);
    }

    /// A panic here would end the metrics thread and with it all metrics: it costs this reading only.
    pub(super) fn read(&self) -> Vec<R> {
        let Some(read) = self.0.get() else { return Vec::new() };
        catch_unwind(AssertUnwindSafe(read)).unwrap_or_default()
    }
}

pub(super) fn register(meter: &Meter, source: &Arc<Source<EngineReadings>>) {
    queue_depth(meter, Arc::clone(source));
    kv_usage(meter, Arc::clone(source));
    memory(meter, Arc::clone(source));
    leaks(meter, Arc::clone(source));
}

fn queue_depth(meter: &Meter, source: Arc<Source<EngineReadings>>) {
    let _registered = meter
        .i64_observable_up_down_counter(metrics::QUEUE_DEPTH.name)
        .with_unit(metrics::QUEUE_DEPTH.unit)
        .with_description(metrics::QUEUE_DEPTH.help)
        .with_callback(move |observer| {
            for engine in source.read() {
                observer.observe(signed(engine.queue_depth), &[upstream(&engine)]);
            }
        })
        .build();
}

fn kv_usage(meter: &Meter, source: Arc<Source<EngineReadings>>) {
    let _registered = meter
        .f64_observable_gauge(metrics::KV_USAGE.name)
        .with_unit(metrics::KV_USAGE.unit)
        .with_description(metrics::KV_USAGE.help)
        .with_callback(move |observer| {
            for engine in source.read().iter().filter(|engine| engine.kv_limit > 0) {
                observer.observe(to_f64(engine.kv_used) / to_f64(engine.kv_limit), &[upstream(engine)]);
            }
        })
        .build();
}

fn memory(meter: &Meter, source: Arc<Source<EngineReadings>>) {
    let _registered = meter
        .i64_observable_up_down_counter(metrics::VRAM_USAGE.name)
        .with_unit(metrics::VRAM_USAGE.unit)
        .with_description(metrics::VRAM_USAGE.help)
        .with_callback(move |observer| {
            for engine in source.read() {
                for component in &engine.memory {
                    let labels = [
                        upstream(&engine),
                        KeyValue::new(attr::VRAM_COMPONENT, component.name),
                        KeyValue::new(attr::VRAM_SOURCE, engine.source),
                    ];
                    observer.observe(signed(component.bytes), &labels);
                }
            }
        })
        .build();
}

pub(super) fn register_templates(meter: &Meter, source: Arc<Source<TemplateReading>>) {
    let _registered = meter
        .u64_observable_gauge(metrics::TEMPLATE_STABLE.name)
        .with_unit(metrics::TEMPLATE_STABLE.unit)
        .with_description(metrics::TEMPLATE_STABLE.help)
        .with_callback(move |observer| {
            for reading in source.read() {
                let labels = [
                    KeyValue::new(attr::UPSTREAM, reading.upstream.to_string()),
                    KeyValue::new(attr::TEMPLATE_SHAPE, reading.shape),
                ];
                observer.observe(u64::from(reading.stable), &labels);
            }
        })
        .build();
}

fn leaks(meter: &Meter, source: Arc<Source<EngineReadings>>) {
    let _registered = meter
        .u64_observable_gauge(metrics::LEAK_STATE.name)
        .with_unit(metrics::LEAK_STATE.unit)
        .with_description(metrics::LEAK_STATE.help)
        .with_callback(move |observer| {
            for engine in source.read() {
                for (component, state) in &engine.leaks {
                    let labels = [upstream(&engine), KeyValue::new(attr::VRAM_COMPONENT, *component)];
                    observer.observe(*state, &labels);
                }
            }
        })
        .build();
}

fn upstream(engine: &EngineReadings) -> KeyValue {
    KeyValue::new(attr::UPSTREAM, engine.upstream.to_string())
}

pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
