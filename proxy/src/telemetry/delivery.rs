//! Whether exports arrive. An exporter that fails says so at each attempt; here it is said when it begins and when it
//! ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};

/// How the last export of a signal went.
#[derive(Debug)]
pub(super) struct Delivery {
    /// `traces` or `metrics`.
    signal: &'static str,
    /// The collector's host and port.
    collector: String,
    failing: AtomicBool,
}

impl Delivery {
    pub(super) fn new(signal: &'static str, collector: String) -> Arc<Self> {
        Arc::new(Self { signal, collector, failing: AtomicBool::new(false) })
    }

    /// Whether the last export was lost.
    pub(super) fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    fn note(&self, result: &OTelSdkResult) {
        let Self { signal, collector, failing } = self;
        match result {
            Err(error) if !failing.swap(true, Ordering::Relaxed) => {
                tracing::warn!(
                    target: "plimsoll::telemetry",
                    signal,
                    collector,
                    %error,
                    "telemetry is lost until the collector takes it"
                );
            }
            Ok(()) if failing.swap(false, Ordering::Relaxed) => {
                tracing::info!(
                    target: "plimsoll::telemetry",
                    signal,
                    collector,
                    "the collector takes telemetry again"
                );
            }
            _ => {}
        }
    }
}

/// An exporter whose results are noted.
#[derive(Debug)]
pub(super) struct Noted<E> {
    inner: E,
    delivery: Arc<Delivery>,
}

impl<E> Noted<E> {
    pub(super) fn new(inner: E, delivery: &Arc<Delivery>) -> Self {
        Self { inner, delivery: Arc::clone(delivery) }
    }
}

impl<E: SpanExporter> SpanExporter for Noted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let result = self.inner.export(batch).await;
        self.delivery.note(&result);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

impl<E: PushMetricExporter> PushMetricExporter for Noted<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let result = self.inner.export(metrics).await;
        self.delivery.note(&result);
        result
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.inner.temporality()
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_sdk::error::OTelSdkError;

    use super::*;

    #[test]
    fn a_delivery_recovers() {
        let delivery = Delivery::new("traces", "127.0.0.1:4318".into());
        assert!(!delivery.is_failing());
        delivery.note(&Err(OTelSdkError::Timeout(Duration::from_secs(3))));
        assert!(delivery.is_failing());
        delivery.note(&Ok(()));
        assert!(!delivery.is_failing());
    }
}
