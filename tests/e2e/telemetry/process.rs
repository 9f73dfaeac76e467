//! Callers, configurations and collectors of all kinds.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use plimsoll_proxy::telemetry::{
    Component, EngineReadings, GenAi, Otlp, Protocol, Telemetry, TelemetryConfig,
};
use plimsoll_tests::collector::{Collector, attribute, hex};

use super::{CALLER, SpanStatus, TREE, begin, call, config, governed, governed_trace, status, stop};
use crate::tooling::tool;

fn caller() -> HeaderMap {
    HeaderMap::from_iter([(http::HeaderName::from_static("traceparent"), HeaderValue::from_static(CALLER))])
}

#[tokio::test]
async fn a_trusted_caller_is_continued() -> anyhow::Result<()> {
    let collector = Collector::start().await?;
    let telemetry = Telemetry::start(&config(&collector, Protocol::Http))?;
    let request = begin(&telemetry, &caller());
    let chat = request.chat(&call(false));
    let mut upstream = HeaderMap::new();
    chat.inject(&mut upstream);
    drop((chat, request));
    let trace = collector.trace("4bf92f3577b34da6a3ce929d0e0e4736").await?;
    assert_eq!(hex(&trace.server().parent_span_id), "00f067aa0ba902b7");
    let span = hex(&trace.named("chat demo")?.span_id);
    assert_eq!(upstream["traceparent"], format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{span}-01"));
    stop(telemetry).await
}

#[tokio::test]
async fn an_untrusted_caller_is_linked() -> anyhow::Result<()> {
    let collector = Collector::start().await?;
    let config = TelemetryConfig { trust_incoming: false, ..config(&collector, Protocol::Http) };
    let telemetry = Telemetry::start(&config)?;
    let request = begin(&telemetry, &caller());
    let id = request.trace_id().expect("traces are exported");
    drop(request);
    let trace = collector.trace(&id).await?;
    let [link] = trace.server().links.as_slice() else { panic!("one link") };
    assert_eq!(hex(&link.trace_id), "4bf92f3577b34da6a3ce929d0e0e4736");
    assert!(trace.server().parent_span_id.is_empty());
    stop(telemetry).await
}

#[tokio::test]
async fn sampling_follows_a_trusted_caller() -> anyhow::Result<()> {
    let collector = Collector::start().await?;
    let config = TelemetryConfig { sample_ratio: 0.0, ..config(&collector, Protocol::Http) };
    let telemetry = Telemetry::start(&config)?;
    let unsampled = begin(&telemetry, &HeaderMap::new());
    assert_eq!(unsampled.trace_id(), None);
    drop(unsampled);
    drop(begin(&telemetry, &caller()));
    collector.trace("4bf92f3577b34da6a3ce929d0e0e4736").await?;
    stop(telemetry).await?;
    assert_eq!(collector.received().spans().count(), 1);
    Ok(())
}

#[tokio::test]
async fn proxies_in_one_process_do_not_mix() -> anyhow::Result<()> {
    let (one, other) = (Collector::start().await?, Collector::start().await?);
    let first = Telemetry::start(&config(&one, Protocol::Http))?;
    let second = Telemetry::start(&config(&other, Protocol::Grpc))?;
    let id = governed(&first);
    stop(first).await?;
    stop(second.clone()).await?;
    assert_eq!(one.trace(&id).await?.tree(), TREE);
    assert_eq!(other.received().spans().count(), 0);
    assert!(!second.prometheus().contains("plimsoll_context_requests_total{"));
    Ok(())
}

#[tokio::test]
async fn old_backends_get_old_names() -> anyhow::Result<()> {
    let collector = Collector::start().await?;
    let config = TelemetryConfig { gen_ai: GenAi::V1_36, ..config(&collector, Protocol::Http) };
    let telemetry = Telemetry::start(&config)?;
    let id = governed(&telemetry);
    let trace = collector.trace(&id).await?;
    let chat = trace.children(trace.server())[2];
    assert_eq!(attribute(&chat.attributes, "gen_ai.system"), "plimsoll");
    for new in
        ["gen_ai.provider.name", "gen_ai.conversation.compacted", "gen_ai.usage.cache_read.input_tokens"]
    {
        assert!(attribute(&chat.attributes, new).is_null(), "{new}");
    }
    stop(telemetry).await
}

#[tokio::test]
async fn loading_a_model_is_a_trace_of_its_own() -> anyhow::Result<()> {
    let collector = Collector::start().await?;
    let telemetry = Telemetry::start(&config(&collector, Protocol::Http))?;
    telemetry.model_load("demo").failed("missing_file");
    let spans = collector.spans(1).await?;
    assert_eq!((spans[0].name.as_str(), status(&spans[0])), ("load_model demo", SpanStatus::Error));
    assert!(spans[0].parent_span_id.is_empty());
    stop(telemetry).await
}

#[tokio::test]
async fn the_resource_names_the_process() -> anyhow::Result<()> {
    let (collector, ..) = governed_trace(Protocol::Http).await?;
    let received = collector.received();
    let resource = received.traces[0].resource_spans[0].resource.as_ref().expect("a resource");
    for (key, value) in
        [("service.name", "plimsoll-test"), ("service.instance.id", "one"), ("service.version", "0.0.0")]
    {
        assert_eq!(attribute(&resource.attributes, key), value);
    }
    Ok(())
}

/// Requests end and `/metrics` answers whatever the collector does; shutting down gives up and says so.
async fn survives(endpoint: String, protocol: Protocol) -> anyhow::Result<()> {
    let telemetry = Telemetry::start(&TelemetryConfig {
        service_name: "plimsoll-test".into(),
        instance_id: "one".into(),
        version: "0.0.0",
        otlp: Some(Otlp { endpoint, protocol, headers: Vec::new() }),
        sample_ratio: 1.0,
        trust_incoming: true,
        baggage: Vec::new(),
        capture_content: false,
        gen_ai: GenAi::Latest,
    })?;
    // More spans than the queue holds: the surplus is dropped, nobody waits.
    for _ in 0..500 {
        governed(&telemetry);
    }
    assert!(telemetry.prometheus().contains("plimsoll_context_requests_total"));
    // What was pushed cannot have arrived.
    let lost = tokio::task::spawn_blocking(move || telemetry.shutdown()).await?.expect_err("nobody took it");
    assert!(lost.to_string().contains("traces and metrics"), "{lost}");
    Ok(())
}

#[tokio::test]
async fn a_collector_that_is_down_costs_nothing() -> anyhow::Result<()> {
    let gone = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    survives(format!("http://{gone}"), Protocol::Http).await?;
    survives(format!("http://{gone}"), Protocol::Grpc).await
}

#[tokio::test]
async fn a_collector_that_hangs_costs_nothing() -> anyhow::Result<()> {
    // Never accepts: connections wait in its backlog.
    let silent = Arc::new(std::net::TcpListener::bind("127.0.0.1:0")?);
    let endpoint = format!("http://{}", silent.local_addr()?);
    tokio::try_join!(survives(endpoint.clone(), Protocol::Http), survives(endpoint, Protocol::Grpc))?;
    Ok(())
}

#[tokio::test]
async fn metrics_pass_promtool() -> anyhow::Result<()> {
    let collector = Collector::start().await?;
    let telemetry = Telemetry::start(&config(&collector, Protocol::Http))?;
    telemetry.observe(|| {
        vec![EngineReadings {
            offload: plimsoll_engine::OffloadReading::default(),
            upstream: "engine".into(),
            queue_depth: 1,
            kv_used: 1,
            kv_limit: 2,
            memory: vec![Component { name: "weights", bytes: 1 }],
            source: "engine",
            leaks: vec![("weights", 0)],
        }]
    });
    telemetry.config_loaded(1);
    governed(&telemetry);
    if let Some(promtool) = tool(".tools/bin/promtool") {
        let mut promtool = Command::new(promtool).args(["check", "metrics"]).stdin(Stdio::piped()).spawn()?;
        promtool.stdin.take().expect("piped").write_all(telemetry.prometheus().as_bytes())?;
        assert!(promtool.wait()?.success());
    }
    stop(telemetry).await
}
