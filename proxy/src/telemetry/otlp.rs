//! OTLP over HTTP and over gRPC.

use std::collections::HashMap;
use std::time::Duration;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry_otlp::tonic_types::metadata::MetadataMap;
use opentelemetry_otlp::{MetricExporter, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig};
use tokio::runtime::{EnterGuard, Runtime};

use super::TelemetryError;

/// The longest that one export takes: below the time for a shutdown, so that an export that hangs leaves time for what
/// follows it.
const EXPORT: Duration = Duration::from_secs(3);

/// Where OTLP goes.
#[derive(Debug, Clone)]
pub struct Otlp {
    /// The collector's base URL, such as `http://127.0.0.1:4318`. Over HTTP, `/v1/traces` and `/v1/metrics` are
    /// appended.
    pub endpoint: String,
    /// How it is spoken.
    pub protocol: Protocol,
    /// Headers for each export, such as an API key.
    pub headers: Vec<(String, String)>,
}

/// How OTLP is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// Protobuf over HTTP/1.1, usually on port 4318.
    #[default]
    Http,
    /// gRPC, usually on port 4317.
    Grpc,
}

/// The two exporters and what they need.
pub(super) struct Exporters {
    pub(super) traces: SpanExporter,
    pub(super) metrics: MetricExporter,
    /// Drives gRPC. HTTP needs none: its blocking client has its own thread.
    pub(super) runtime: Option<OwnRuntime>,
    /// Host and port of the collector.
    pub(super) collector: String,
}

/// A runtime that may be dropped in async code, where waiting for its tasks would panic.
pub(super) struct OwnRuntime(Option<Runtime>);

impl OwnRuntime {
    fn enter(&self) -> Option<EnterGuard<'_>> {
        self.0.as_ref().map(Runtime::enter)
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

pub(super) fn exporters(otlp: &Otlp) -> Result<Exporters, TelemetryError> {
    let collector = collector(&otlp.endpoint)?;
    let headers = headers(&otlp.headers)?;
    let (traces, metrics, runtime) = match otlp.protocol {
        Protocol::Http => http_exporters(otlp, &headers)?,
        Protocol::Grpc => grpc_exporters(otlp, headers)?,
    };
    Ok(Exporters { traces, metrics, runtime, collector })
}

type Parts = (SpanExporter, MetricExporter, Option<OwnRuntime>);

fn http_exporters(otlp: &Otlp, headers: &HeaderMap) -> Result<Parts, TelemetryError> {
    let base = otlp.endpoint.trim_end_matches('/');
    let headers: HashMap<String, String> = headers
        .iter()
        .filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())))
        .collect();
    let traces = SpanExporter::builder()
        .with_http()
        .with_endpoint(format!("{base}/v1/traces"))
        .with_headers(headers.clone())
        .with_timeout(EXPORT)
        .build()
        .map_err(|fault| start_error("trace exporter", &fault))?;
    let metrics = MetricExporter::builder()
        .with_http()
        .with_endpoint(format!("{base}/v1/metrics"))
        .with_headers(headers)
        .with_timeout(EXPORT)
        .build()
        .map_err(|fault| start_error("metric exporter", &fault))?;
    Ok((traces, metrics, None))
}

fn grpc_exporters(otlp: &Otlp, headers: HeaderMap) -> Result<Parts, TelemetryError> {
    // On the proxy's runtime, a shutdown from a worker thread would wait for itself: gRPC has its own.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("plimsoll-otlp")
        .enable_all()
        .build()
        .map_err(|fault| start_error("gRPC thread", &fault))?;
    let metadata = MetadataMap::from_headers(headers);
    let runtime = OwnRuntime(Some(runtime));
    let inside = runtime.enter();
    let traces = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(otlp.endpoint.clone())
        .with_metadata(metadata.clone())
        .with_timeout(EXPORT)
        .build()
        .map_err(|fault| start_error("trace exporter", &fault))?;
    let metrics = MetricExporter::builder()
        .with_tonic()
        .with_endpoint(otlp.endpoint.clone())
        .with_metadata(metadata)
        .with_timeout(EXPORT)
        .build()
        .map_err(|fault| start_error("metric exporter", &fault))?;
    drop(inside);
    Ok((traces, metrics, Some(runtime)))
}

/// Host and port of a usable endpoint. User and password stay out: the name goes to the log.
fn collector(endpoint: &str) -> Result<String, TelemetryError> {
    let fault =
        |reason: &str| TelemetryError::Endpoint { endpoint: endpoint.to_owned(), reason: reason.to_owned() };
    let uri: http::Uri =
        endpoint.parse().map_err(|_| fault("it is not a URL, such as `http://127.0.0.1:4318`"))?;
    if uri.query().is_some() {
        return Err(fault("it has a query, which a base URL cannot have"));
    }
    match uri.scheme_str() {
        Some("http") => {
            let host = uri.host().ok_or_else(|| fault("it has no host"))?;
            Ok(uri.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
        }
        Some("https") => {
            Err(fault("https is not spoken here; use a collector on a trusted network and `http://`"))
        }
        _ => Err(fault("it must begin with `http://`")),
    }
}

fn headers(pairs: &[(String, String)]) -> Result<HeaderMap, TelemetryError> {
    pairs
        .iter()
        .map(|(name, value)| {
            let fault = || TelemetryError::Header(name.clone());
            let mut value = HeaderValue::from_str(value).map_err(|_| fault())?;
            value.set_sensitive(true);
            Ok((HeaderName::from_bytes(name.as_bytes()).map_err(|_| fault())?, value))
        })
        .collect()
}

pub(super) fn start_error(part: &'static str, fault: &dyn std::error::Error) -> TelemetryError {
    TelemetryError::Start { part, reason: fault.to_string() }
}
