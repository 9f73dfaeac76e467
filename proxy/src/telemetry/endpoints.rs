//! Metrics of upstreams' servers, read when somebody looks.

use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

use super::names::{attr, metrics};
use super::readings::{Source, signed};

/// One server of an upstream as it stands.
#[derive(Debug, Clone)]
pub struct EndpointReading {
    /// The upstream's name.
    pub upstream: Arc<str>,
    /// The server's address, as configured.
    pub endpoint: String,
    /// Whether it is asked.
    pub up: bool,
    /// Requests under way there.
    pub in_flight: u64,
    /// Attempts by how they ended.
    pub attempts: Vec<(&'static str, u64)>,
    /// Times that it was left out.
    pub ejections: u64,
}

pub(super) fn register(meter: &Meter, source: &Arc<Source<EndpointReading>>) {
    up(meter, Arc::clone(source));
    active(meter, Arc::clone(source));
    attempts(meter, Arc::clone(source));
    ejections(meter, Arc::clone(source));
}

fn up(meter: &Meter, source: Arc<Source<EndpointReading>>) {
    let _registered = meter
        .u64_observable_gauge(metrics::ENDPOINT_UP.name)
        .with_unit(metrics::ENDPOINT_UP.unit)
        .with_description(metrics::ENDPOINT_UP.help)
        .with_callback(move |observer| {
            for reading in source.read() {
                observer.observe(u64::from(reading.up), &labels(&reading));
            }
        })
        .build();
}

fn active(meter: &Meter, source: Arc<Source<EndpointReading>>) {
    let _registered = meter
        .i64_observable_up_down_counter(metrics::ENDPOINT_ACTIVE.name)
        .with_unit(metrics::ENDPOINT_ACTIVE.unit)
        .with_description(metrics::ENDPOINT_ACTIVE.help)
        .with_callback(move |observer| {
            for reading in source.read() {
                observer.observe(signed(reading.in_flight), &labels(&reading));
            }
        })
        .build();
}

fn attempts(meter: &Meter, source: Arc<Source<EndpointReading>>) {
    let _registered = meter
        .u64_observable_counter(metrics::ENDPOINT_ATTEMPTS.name)
        .with_unit(metrics::ENDPOINT_ATTEMPTS.unit)
        .with_description(metrics::ENDPOINT_ATTEMPTS.help)
        .with_callback(move |observer| {
            for reading in source.read() {
                for (result, count) in &reading.attempts {
                    let mut labels = labels(&reading).to_vec();
                    labels.push(KeyValue::new(attr::ATTEMPT_RESULT, *result));
                    observer.observe(*count, &labels);
                }
            }
        })
        .build();
}

fn ejections(meter: &Meter, source: Arc<Source<EndpointReading>>) {
    let _registered = meter
        .u64_observable_counter(metrics::ENDPOINT_EJECTIONS.name)
        .with_unit(metrics::ENDPOINT_EJECTIONS.unit)
        .with_description(metrics::ENDPOINT_EJECTIONS.help)
        .with_callback(move |observer| {
            for reading in source.read() {
                observer.observe(reading.ejections, &labels(&reading));
            }
        })
        .build();
}

fn labels(reading: &EndpointReading) -> [KeyValue; 2] {
    [
        KeyValue::new(attr::UPSTREAM, reading.upstream.to_string()),
        KeyValue::new(attr::ENDPOINT, reading.endpoint.clone()),
    ]
}
