//! Metrics of the store of originals, read when somebody looks.

use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

use super::names::{attr, metrics};

/// The store as it stands; the counts are since the start.
#[derive(Debug, Clone, Copy)]
pub struct StoreReadings {
    /// Bytes in memory.
    pub memory: u64,
    /// Bytes on disk; none without a folder.
    pub disk: Option<u64>,
    /// Originals that were asked for and there.
    pub hits: u64,
    /// Originals that were asked for and not there.
    pub misses: u64,
    /// Originals that gave way to others in memory.
    pub evictions: u64,
}

pub(super) fn register(meter: &Meter, read: impl Fn() -> Option<StoreReadings> + Send + Sync + 'static) {
    let read = Arc::new(read);
    let usage = read.clone();
    let _registered = meter
        .u64_observable_gauge(metrics::ARTIFACT_USAGE.name)
        .with_unit(metrics::ARTIFACT_USAGE.unit)
        .with_description(metrics::ARTIFACT_USAGE.help)
        .with_callback(move |observer| {
            let Some(store) = usage() else { return };
            observer.observe(store.memory, &[KeyValue::new(attr::STORE_TIER, "memory")]);
            if let Some(disk) = store.disk {
                observer.observe(disk, &[KeyValue::new(attr::STORE_TIER, "disk")]);
            }
        })
        .build();
    let lookups = read.clone();
    let _registered = meter
        .u64_observable_counter(metrics::ARTIFACT_LOOKUPS.name)
        .with_unit(metrics::ARTIFACT_LOOKUPS.unit)
        .with_description(metrics::ARTIFACT_LOOKUPS.help)
        .with_callback(move |observer| {
            let Some(store) = lookups() else { return };
            observer.observe(store.hits, &[KeyValue::new(attr::LOOKUP_RESULT, "hit")]);
            observer.observe(store.misses, &[KeyValue::new(attr::LOOKUP_RESULT, "miss")]);
        })
        .build();
    let _registered = meter
        .u64_observable_counter(metrics::ARTIFACT_EVICTIONS.name)
        .with_unit(metrics::ARTIFACT_EVICTIONS.unit)
        .with_description(metrics::ARTIFACT_EVICTIONS.help)
        .with_callback(move |observer| {
            if let Some(store) = read() {
                observer.observe(store.evictions, &[]);
            }
        })
        .build();
}
