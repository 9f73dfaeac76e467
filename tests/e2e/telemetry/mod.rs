//! Telemetry as a collector receives it, over both protocols.

use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};
use otlp_embedded::proto::trace::v1::Status;
use otlp_embedded::proto::trace::v1::span::SpanKind;
use otlp_embedded::proto::trace::v1::status::StatusCode as SpanStatus;
use plimsoll_proxy::telemetry::{
    Action, ChatRequest, GenAi, Incoming, MemoryFacts, Operation, Otlp, PolicyFacts, PolicyOutcome, Protocol,
    RequestSpan, RouteFacts, Settings, Telemetry, TelemetryConfig,
};
use plimsoll_tests::collector::{Collector, Span, Trace, attribute};
use serde_json::json;

mod process;

const CALLER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn config(collector: &Collector, protocol: Protocol) -> TelemetryConfig {
    let endpoint = match protocol {
        Protocol::Http => collector.http_endpoint.clone(),
        Protocol::Grpc => collector.grpc_endpoint.clone(),
    };
    TelemetryConfig {
        service_name: "plimsoll-test".into(),
        instance_id: "one".into(),
        version: "0.0.0",
        otlp: Some(Otlp { endpoint, protocol, headers: vec![("x-api-key".into(), "secret".into())] }),
        sample_ratio: 1.0,
        trust_incoming: true,
        baggage: Vec::new(),
        capture_content: false,
        gen_ai: GenAi::Latest,
    }
}

fn begin(telemetry: &Telemetry, headers: &HeaderMap) -> RequestSpan {
    let request = telemetry.request(&Incoming {
        id: "req-1".into(),
        method: &Method::POST,
        path: "/v1/chat/completions",
        template: Some("/v1/chat/completions"),
        headers,
        client: None,
    });
    request.routed(RouteFacts {
        route: "default".into(),
        policy: "agent".into(),
        mode: "enforce",
        upstream: "engine".into(),
        model: "demo".into(),
    });
    request
}

fn policy_facts() -> PolicyFacts {
    PolicyFacts {
        window: 2048,
        budget: 1792,
        reserved: 256,
        tokens_before: 3000,
        tokens_after: 1500,
        messages_before: 40,
        messages_after: 12,
        estimated: false,
        tokenizer: "demo".into(),
        outcome: PolicyOutcome::Modified,
        error: None,
        alerts: Vec::new(),
        actions: vec![Action {
            policy: "cap_tool_output".into(),
            reason: "per_tool_cap".into(),
            tokens_removed: 1600,
            tokens_added: 100,
            messages: 3,
            tool: Some("search".into()),
        }],
        enforced: true,
        took: Duration::from_micros(700),
    }
}

fn call(compacted: bool) -> ChatRequest<'static> {
    ChatRequest {
        operation: Operation::Chat,
        provider: "plimsoll",
        model: "demo",
        server: None,
        stream: true,
        compacted,
        settings: Settings { max_tokens: Some(256), temperature: Some(0.0), ..Settings::default() },
    }
}

/// A governed request with a summary, answered by the engine. Gives its trace.
fn governed(telemetry: &Telemetry) -> String {
    let request = begin(telemetry, &HeaderMap::new());
    let policy = request.policy("agent");
    let summary = policy.summarize(9);
    drop(summary.wait());
    summary.chat(&call(false)).completed();
    summary.completed(Some(80));
    policy.finish(policy_facts());
    drop(request.wait());
    let mut chat = request.chat(&call(true));
    chat.prefill(1200, 300);
    chat.prefilled();
    chat.token();
    chat.token();
    let facts = chat.facts();
    facts.input_tokens = Some(1500);
    facts.output_tokens = Some(2);
    facts.finish_reasons = vec!["stop".into()];
    facts.memory =
        Some(MemoryFacts { before: 100, after: 120, peak: 130, source: "engine", process_rss: Some(9000) });
    if let Some(kv) = &mut facts.kv {
        kv.bytes = 64_000;
    }
    chat.completed();
    request.completed(StatusCode::OK);
    request.trace_id().expect("traces are exported")
}

fn kind(span: &Span) -> SpanKind {
    span.kind()
}

fn status(span: &Span) -> SpanStatus {
    span.status.as_ref().map_or(SpanStatus::Unset, Status::code)
}

async fn stop(telemetry: Telemetry) -> anyhow::Result<()> {
    tokio::task::spawn_blocking(move || telemetry.shutdown()).await??;
    Ok(())
}

async fn governed_trace(protocol: Protocol) -> anyhow::Result<(Collector, Trace, String)> {
    let collector = Collector::start().await?;
    let telemetry = Telemetry::start(&config(&collector, protocol))?;
    let id = governed(&telemetry);
    let trace = collector.trace(&id).await?;
    stop(telemetry).await?;
    Ok((collector, trace, id))
}

const TREE: &str = "\
POST /v1/chat/completions
  apply_context_policy agent
    summarize_context
      wait_for_slot
      chat demo
  wait_for_slot
  chat demo
    prefill
    decode
";

#[tokio::test(flavor = "current_thread")]
async fn the_tree_arrives_over_http() -> anyhow::Result<()> {
    let (collector, trace, _) = governed_trace(Protocol::Http).await?;
    assert_eq!(trace.tree(), TREE);
    let received = collector.received();
    assert_eq!(received.headers[0]["x-api-key"], "secret");
    let metrics: Vec<&str> = received.metric_names().collect();
    assert!(metrics.contains(&"plimsoll.context.tokens"), "{metrics:?}");
    Ok(())
}

// One worker is what a pod with one CPU gets: the case in which gRPC on the proxy's own runtime hangs.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_tree_arrives_over_grpc() -> anyhow::Result<()> {
    let (collector, trace, _) = governed_trace(Protocol::Grpc).await?;
    assert_eq!(trace.tree(), TREE);
    let received = collector.received();
    assert_eq!(received.headers[0]["x-api-key"], "secret");
    assert!(received.metric_names().any(|name| name == "gen_ai.server.request.duration"));
    Ok(())
}

#[tokio::test]
async fn spans_say_what_happened() -> anyhow::Result<()> {
    let (_collector, trace, _) = governed_trace(Protocol::Http).await?;
    let server = trace.server();
    assert_eq!((kind(server), status(server)), (SpanKind::Server, SpanStatus::Unset));
    assert_eq!(attribute(&server.attributes, "http.response.status_code"), 200);
    assert_eq!(attribute(&server.attributes, "plimsoll.request.outcome"), "completed");
    assert!(server.parent_span_id.is_empty());

    let policy = trace.named("apply_context_policy agent")?;
    assert_eq!(kind(policy), SpanKind::Internal);
    assert_eq!(attribute(&policy.attributes, "plimsoll.context.tokens.before"), 3000);
    assert_eq!(attribute(&policy.attributes, "plimsoll.context.tokens.after"), 1500);
    assert_eq!(attribute(&policy.attributes, "plimsoll.context.action.types"), json!(["cap_tool_output"]));
    let [event] = policy.events.as_slice() else { panic!("one event a rule: {:?}", policy.events) };
    assert_eq!(event.name, "plimsoll.context.action");
    assert_eq!(attribute(&event.attributes, "plimsoll.context.action.type"), "cap_tool_output");
    assert_eq!(attribute(&event.attributes, "plimsoll.context.action.tokens.removed"), 1600);
    assert_eq!(attribute(&event.attributes, "gen_ai.tool.name"), "search");

    let chat = trace.children(server)[2];
    assert_eq!(kind(chat), SpanKind::Internal);
    let expected = json!({
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "plimsoll",
        "gen_ai.request.max_tokens": 256,
        "gen_ai.usage.input_tokens": 1500,
        "gen_ai.usage.output_tokens": 2,
        "gen_ai.usage.cache_read.input_tokens": 1200,
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.conversation.compacted": true,
        "plimsoll.kv.reused_tokens": 1200,
        "plimsoll.kv.computed_tokens": 300,
        "plimsoll.kv.bytes": 64000,
        "plimsoll.vram.before": 100,
        "plimsoll.vram.after": 120,
        "plimsoll.vram.peak": 130,
        "plimsoll.vram.source": "engine",
        "plimsoll.process.rss": 9000,
    });
    for (key, value) in expected.as_object().expect("an object") {
        assert_eq!(&attribute(&chat.attributes, key), value, "{key}");
    }
    assert!(attribute(&chat.attributes, "gen_ai.response.time_to_first_chunk").is_f64());
    Ok(())
}

#[tokio::test]
async fn no_child_outlives_its_parent() -> anyhow::Result<()> {
    let (_collector, trace, _) = governed_trace(Protocol::Http).await?;
    for parent in &trace.spans {
        for child in trace.children(parent) {
            assert!(
                child.start_time_unix_nano >= parent.start_time_unix_nano,
                "{} {}",
                child.name,
                parent.name
            );
            assert!(child.end_time_unix_nano <= parent.end_time_unix_nano, "{} {}", child.name, parent.name);
        }
    }
    Ok(())
}

#[tokio::test]
async fn jaeger_shows_the_trace() -> anyhow::Result<()> {
    let (collector, _, id) = governed_trace(Protocol::Http).await?;
    let services = collector.jaeger("/api/services").await?;
    assert_eq!(services["data"], json!(["plimsoll-test"]));
    let trace = collector.jaeger(&format!("/api/traces/{id}")).await?;
    let spans = trace["data"][0]["spans"].as_array().expect("spans");
    assert_eq!(spans.len(), TREE.lines().count());
    Ok(())
}

#[tokio::test]
async fn a_client_that_leaves_is_no_error() -> anyhow::Result<()> {
    let collector = Collector::start().await?;
    let telemetry = Telemetry::start(&config(&collector, Protocol::Http))?;
    let request = begin(&telemetry, &HeaderMap::new());
    let id = request.trace_id().expect("traces are exported");
    let mut chat = request.chat(&call(false));
    chat.prefill(0, 10);
    chat.prefilled();
    chat.token();
    chat.facts().output_tokens = Some(1);
    // The request's handle goes first: the call in progress keeps its span open.
    drop(request);
    drop(chat);
    let trace = collector.trace(&id).await?;
    assert_eq!(trace.tree(), "POST /v1/chat/completions\n  chat demo\n    prefill\n    decode\n");
    for span in [trace.server(), trace.named("chat demo")?] {
        assert_eq!(status(span), SpanStatus::Unset);
        assert_eq!(attribute(&span.attributes, "plimsoll.request.outcome"), "disconnected");
        assert!(attribute(&span.attributes, "error.type").is_null());
    }
    assert_eq!(attribute(&trace.named("chat demo")?.attributes, "gen_ai.usage.output_tokens"), 1);
    stop(telemetry).await
}

#[tokio::test]
async fn only_failures_are_errors() -> anyhow::Result<()> {
    let collector = Collector::start().await?;
    let telemetry = Telemetry::start(&config(&collector, Protocol::Http))?;
    let rejected = begin(&telemetry, &HeaderMap::new());
    rejected.rejected(StatusCode::BAD_REQUEST, "context_length_exceeded");
    let failed = begin(&telemetry, &HeaderMap::new());
    let upstream = ChatRequest { server: Some(("127.0.0.1", 8000)), provider: "openai", ..call(false) };
    failed.chat(&upstream).failed("upstream_unreachable");
    failed.failed(StatusCode::BAD_GATEWAY, "upstream_unreachable");
    let ids = [&rejected, &failed].map(|request| request.trace_id().expect("traces are exported"));
    drop((rejected, failed));

    let trace = collector.trace(&ids[0]).await?;
    assert_eq!(status(trace.server()), SpanStatus::Unset);
    assert_eq!(attribute(&trace.server().attributes, "error.type"), "context_length_exceeded");
    let trace = collector.trace(&ids[1]).await?;
    let chat = trace.named("chat demo")?;
    assert_eq!(kind(chat), SpanKind::Client);
    assert_eq!(attribute(&chat.attributes, "server.port"), 8000);
    for span in [trace.server(), chat] {
        assert_eq!(status(span), SpanStatus::Error);
        assert_eq!(attribute(&span.attributes, "error.type"), "upstream_unreachable");
    }
    stop(telemetry).await
}
