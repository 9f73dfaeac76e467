//! An OpenTelemetry collector for tests: OTLP over gRPC and over HTTP in, raw messages and Jaeger's query API out.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State as Shared;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use http_body_util::{BodyExt as _, Empty};
use opentelemetry_proto::tonic::collector::metrics::v1 as metrics;
use otlp_embedded::proto::collector::trace::v1 as traces;
use otlp_embedded::proto::common::v1::{KeyValue, any_value};
use otlp_embedded::proto::trace::v1::span::SpanKind;
use otlp_embedded::{Config, State, TraceService as _, TraceServiceImpl, TraceServiceServer};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::transport::server::TcpIncoming;

pub use otlp_embedded::proto::trace::v1::Span;

/// How long to wait for telemetry before a test is called failed. Exporters deliver within a second or two.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running collector, on ephemeral ports of the loopback interface. Stops when dropped.
pub struct Collector {
    /// Takes OTLP over gRPC, traces and metrics.
    pub grpc_endpoint: String,
    /// Takes OTLP over HTTP (`/v1/traces`, `/v1/metrics`), protobuf only.
    pub http_endpoint: String,
    /// Jaeger's UI and query API (`/api/services`, `/api/traces/{id}`).
    pub jaeger_url: String,
    received: watch::Receiver<Received>,
    servers: Vec<JoinHandle<()>>,
}

/// Everything received, as it came.
#[derive(Clone, Default)]
pub struct Received {
    /// Trace exports.
    pub traces: Vec<traces::ExportTraceServiceRequest>,
    /// Metric exports.
    pub metrics: Vec<metrics::ExportMetricsServiceRequest>,
    /// Headers (or gRPC metadata) of each trace export.
    pub headers: Vec<HeaderMap>,
}

impl Received {
    /// All spans, in the order of their arrival.
    pub fn spans(&self) -> impl Iterator<Item = &Span> {
        self.traces
            .iter()
            .flat_map(|export| &export.resource_spans)
            .flat_map(|resource| resource.scope_spans.iter().flat_map(|scope| &scope.spans))
    }

    /// Names of all metrics.
    pub fn metric_names(&self) -> impl Iterator<Item = &str> {
        let resources = self.metrics.iter().flat_map(|export| &export.resource_metrics);
        let scopes = resources.flat_map(|resource| &resource.scope_metrics);
        scopes.flat_map(|scope| &scope.metrics).map(|metric| metric.name.as_str())
    }
}

impl Collector {
    /// Starts a collector.
    pub async fn start() -> anyhow::Result<Self> {
        let state = State::new(Config { max_length: 1000, max_memory_usage: 1 << 26 });
        let (sender, received) = watch::channel(Received::default());
        let sink = Sink { jaeger: Arc::new(TraceServiceImpl::new(Arc::clone(&state))), received: sender };
        let (grpc_endpoint, grpc) = serve_grpc(sink.clone()).await?;
        let otlp = Router::new()
            .route("/v1/traces", post(http_traces))
            .route("/v1/metrics", post(http_metrics))
            .with_state(sink);
        let (http_endpoint, http) = serve_http(otlp).await?;
        let (jaeger_url, jaeger) = serve_http(otlp_embedded::ui_app(state, "/")).await?;
        Ok(Self { grpc_endpoint, http_endpoint, jaeger_url, received, servers: vec![grpc, http, jaeger] })
    }

    /// What has been received by now.
    pub fn received(&self) -> Received {
        self.received.borrow().clone()
    }

    /// Waits until `enough` says so.
    pub async fn wait_for(&self, enough: impl Fn(&Received) -> bool) -> anyhow::Result<Received> {
        let mut received = self.received.clone();
        let found = tokio::time::timeout(PATIENCE, received.wait_for(|received| enough(received))).await;
        match found {
            Ok(found) => Ok(found.context("the collector has stopped")?.clone()),
            Err(_) => {
                let names: Vec<String> = self.received().spans().map(|span| span.name.clone()).collect();
                Err(anyhow!("telemetry did not arrive; spans so far: {names:?}"))
            }
        }
    }

    /// Waits until `count` spans have been received, and gives all.
    pub async fn spans(&self, count: usize) -> anyhow::Result<Vec<Span>> {
        let received = self.wait_for(|received| received.spans().count() >= count).await?;
        Ok(received.spans().cloned().collect())
    }

    /// Waits for the trace of a request until it is complete: its SERVER span ends last and so arrives last.
    pub async fn trace(&self, trace_id: &str) -> anyhow::Result<Trace> {
        let ours = |span: &&Span| hex(&span.trace_id) == trace_id;
        let received = self.wait_for(|received| received.spans().filter(ours).any(is_server)).await?;
        Ok(Trace { spans: received.spans().filter(ours).cloned().collect() })
    }

    /// Asks Jaeger's query API, as its UI does. `path` is such as `/api/traces/{id}`.
    pub async fn jaeger(&self, path: &str) -> anyhow::Result<Value> {
        let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new());
        let answer =
            client.build_http::<Empty<Bytes>>().get(format!("{}{path}", self.jaeger_url).parse()?).await?;
        let (head, body) = answer.into_parts();
        let body = body.collect().await?.to_bytes();
        anyhow::ensure!(head.status == StatusCode::OK, "{}: {}", head.status, String::from_utf8_lossy(&body));
        Ok(serde_json::from_slice(&body)?)
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        for server in &self.servers {
            server.abort();
        }
    }
}

/// The spans of one request.
pub struct Trace {
    /// In the order of their arrival: children before parents.
    pub spans: Vec<Span>,
}

impl Trace {
    /// The request's own span.
    pub fn server(&self) -> &Span {
        self.spans
            .iter()
            .find(|span| is_server(span))
            .expect("a trace is complete when it has this span. This is a bug.")
    }

    /// The spans right under `parent`, in the order they began.
    pub fn children(&self, parent: &Span) -> Vec<&Span> {
        let mut children: Vec<&Span> =
            self.spans.iter().filter(|span| span.parent_span_id == parent.span_id).collect();
        children.sort_by_key(|span| span.start_time_unix_nano);
        children
    }

    /// The one span with that name.
    pub fn named(&self, name: &str) -> anyhow::Result<&Span> {
        self.spans.iter().find(|span| span.name == name).with_context(|| {
            let names: Vec<&str> = self.spans.iter().map(|span| span.name.as_str()).collect();
            format!("no span `{name}` among {names:?}")
        })
    }

    /// Names and nesting, one span a line, for comparison with an expected tree.
    pub fn tree(&self) -> String {
        let mut lines = String::new();
        self.draw(self.server(), 0, &mut lines);
        lines
    }

    fn draw(&self, span: &Span, depth: usize, lines: &mut String) {
        lines.push_str(&format!("{:indent$}{}\n", "", span.name, indent = depth * 2));
        for child in self.children(span) {
            self.draw(child, depth + 1, lines);
        }
    }
}

/// An attribute's value as JSON; null where it is absent.
pub fn attribute(attributes: &[KeyValue], key: &str) -> Value {
    let found = attributes.iter().find(|attribute| attribute.key == key);
    found.and_then(|attribute| attribute.value.as_ref()?.value.as_ref()).map_or(Value::Null, json_value)
}

fn json_value(value: &any_value::Value) -> Value {
    match value {
        any_value::Value::StringValue(text) => json!(text),
        any_value::Value::BoolValue(truth) => json!(truth),
        any_value::Value::IntValue(number) => json!(number),
        any_value::Value::DoubleValue(number) => json!(number),
        any_value::Value::ArrayValue(array) => {
            array.values.iter().map(|item| item.value.as_ref().map_or(Value::Null, json_value)).collect()
        }
        any_value::Value::KvlistValue(list) => {
            list.values.iter().map(|pair| (pair.key.clone(), attribute(&list.values, &pair.key))).collect()
        }
        any_value::Value::BytesValue(bytes) => json!(hex(bytes)),
    }
}

/// An id as lower-case hex, as it is written in `traceparent`.
pub fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_server(span: &Span) -> bool {
    span.kind == SpanKind::Server as i32
}

/// Where both protocols deliver.
#[derive(Clone)]
struct Sink {
    jaeger: Arc<TraceServiceImpl>,
    received: watch::Sender<Received>,
}

impl Sink {
    async fn take_traces(
        &self,
        headers: HeaderMap,
        export: traces::ExportTraceServiceRequest,
    ) -> Result<traces::ExportTraceServiceResponse, tonic::Status> {
        // Jaeger first: who waits for the raw message may ask Jaeger next.
        let answer = self.jaeger.export(tonic::Request::new(export.clone())).await?;
        self.received.send_modify(|received| {
            received.traces.push(export);
            received.headers.push(headers);
        });
        Ok(answer.into_inner())
    }

    fn take_metrics(&self, export: metrics::ExportMetricsServiceRequest) {
        self.received.send_modify(|received| received.metrics.push(export));
    }
}

#[tonic::async_trait]
impl otlp_embedded::TraceService for Sink {
    async fn export(
        &self,
        request: tonic::Request<traces::ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<traces::ExportTraceServiceResponse>, tonic::Status> {
        let (metadata, _, export) = request.into_parts();
        self.take_traces(metadata.into_headers(), export).await.map(tonic::Response::new)
    }
}

#[tonic::async_trait]
impl metrics::metrics_service_server::MetricsService for Sink {
    async fn export(
        &self,
        request: tonic::Request<metrics::ExportMetricsServiceRequest>,
    ) -> Result<tonic::Response<metrics::ExportMetricsServiceResponse>, tonic::Status> {
        self.take_metrics(request.into_inner());
        Ok(tonic::Response::new(metrics::ExportMetricsServiceResponse::default()))
    }
}

async fn serve_grpc(sink: Sink) -> anyhow::Result<(String, JoinHandle<()>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    let server = tonic::transport::Server::builder()
        .add_service(TraceServiceServer::new(sink.clone()))
        .add_service(metrics::metrics_service_server::MetricsServiceServer::new(sink))
        .serve_with_incoming(TcpIncoming::from(listener));
    let task = tokio::spawn(async move {
        if let Err(fault) = server.await {
            eprintln!("collector: gRPC server failed: {fault}");
        }
    });
    Ok((endpoint, task))
}

async fn serve_http(app: Router) -> anyhow::Result<(String, JoinHandle<()>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    let task = tokio::spawn(async move {
        if let Err(fault) = axum::serve(listener, app).await {
            eprintln!("collector: HTTP server failed: {fault}");
        }
    });
    Ok((endpoint, task))
}

async fn http_traces(
    Shared(sink): Shared<Sink>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Vec<u8>, StatusCode> {
    let export = traces::ExportTraceServiceRequest::decode(body).map_err(|_| StatusCode::BAD_REQUEST)?;
    let answer = sink.take_traces(headers, export).await.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(answer.encode_to_vec())
}

async fn http_metrics(Shared(sink): Shared<Sink>, body: Bytes) -> Result<Vec<u8>, StatusCode> {
    let export = metrics::ExportMetricsServiceRequest::decode(body).map_err(|_| StatusCode::BAD_REQUEST)?;
    sink.take_metrics(export);
    Ok(metrics::ExportMetricsServiceResponse::default().encode_to_vec())
}
