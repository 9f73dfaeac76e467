use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::*;

fn quiet() -> TelemetryConfig {
    TelemetryConfig {
        service_name: "plimsoll-test".into(),
        instance_id: "one".into(),
        version: "0.0.0",
        otlp: None,
        sample_ratio: 1.0,
        trust_incoming: true,
        baggage: Vec::new(),
        capture_content: false,
        gen_ai: GenAi::Latest,
    }
}

fn begin(telemetry: &Telemetry, headers: &HeaderMap) -> RequestSpan {
    telemetry.request(&Incoming {
        id: "req-1".into(),
        method: &Method::POST,
        path: "/v1/chat/completions",
        template: Some("/v1/chat/completions"),
        headers,
        client: None,
    })
}

fn routed(telemetry: &Telemetry) -> RequestSpan {
    let request = begin(telemetry, &HeaderMap::new());
    request.routed(RouteFacts {
        route: "default".into(),
        policy: "agent".into(),
        mode: "enforce",
        upstream: "engine".into(),
        model: "demo".into(),
    });
    request
}

fn facts(enforced: bool) -> PolicyFacts {
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
        alerts: vec![Alert { kind: "growth", reason: "2 times".into() }],
        actions: vec![Action {
            policy: "trim_turns".into(),
            reason: "over_budget".into(),
            tokens_removed: 1500,
            tokens_added: 0,
            messages: 28,
            tool: None,
        }],
        enforced,
        took: std::time::Duration::from_millis(1),
    }
}

fn call() -> ChatRequest<'static> {
    ChatRequest {
        operation: Operation::Chat,
        provider: "plimsoll",
        model: "demo",
        server: None,
        stream: false,
        compacted: true,
        settings: Settings::default(),
    }
}

#[test]
fn a_request_becomes_metrics_once() {
    let telemetry = Telemetry::start(&quiet()).expect("starts");
    let request = routed(&telemetry);
    assert!(telemetry.prometheus().contains("http_server_active_requests{"), "{}", telemetry.prometheus());
    request.policy("agent").finish(facts(true));
    drop(request.wait());
    let mut chat = request.chat(&call());
    chat.token();
    chat.token();
    chat.facts().input_tokens = Some(1500);
    chat.facts().output_tokens = Some(2);
    chat.completed();
    request.completed(StatusCode::OK);
    assert!(!telemetry.prometheus().contains("gen_ai_server_request_duration_seconds_count"));
    drop(request);
    let text = telemetry.prometheus();
    for line in [
        r#"gen_ai_server_request_duration_seconds_count{gen_ai_operation_name="chat",gen_ai_provider_name="plimsoll",gen_ai_request_model="demo"} 1"#,
        r#"plimsoll_context_tokens_removed_total{plimsoll_context_action_type="trim_turns",plimsoll_context_policy_mode="enforce",plimsoll_context_policy_name="agent",plimsoll_model="demo",plimsoll_route="default"} 1500"#,
        r#"plimsoll_context_alerts_total{plimsoll_context_alert_type="growth",plimsoll_context_policy_mode="enforce",plimsoll_context_policy_name="agent",plimsoll_model="demo",plimsoll_route="default"} 1"#,
        r#"http_server_active_requests{http_request_method="POST",url_scheme="http"} 0"#,
        r#"http_server_request_duration_seconds_count{http_request_method="POST",http_response_status_code="200",http_route="/v1/chat/completions",url_scheme="http"} 1"#,
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    for name in [
        "gen_ai_server_time_to_first_token_seconds_count",
        "gen_ai_server_time_per_output_token_seconds_count",
        "plimsoll_context_requests_total",
        "plimsoll_context_tokens_drift_ratio_sum",
        "plimsoll_admission_wait_seconds_count",
        r#"plimsoll_context_tokens_sum{plimsoll_context_policy_mode="enforce",plimsoll_context_policy_name="agent",plimsoll_context_stage="before""#,
    ] {
        assert!(text.contains(name), "{name}\n{text}");
    }
}

#[test]
fn a_prompt_that_could_not_be_counted_has_no_size() {
    let telemetry = Telemetry::start(&quiet()).expect("starts");
    let uncounted =
        PolicyFacts { tokens_before: 0, tokens_after: 0, outcome: PolicyOutcome::Rejected, ..facts(true) };
    routed(&telemetry).policy("agent").finish(uncounted);
    let text = telemetry.prometheus();
    assert!(!text.contains("plimsoll_context_tokens_count"), "{text}");
    assert!(text.contains(r#"plimsoll_context_policy_outcome="rejected""#), "{text}");
}

#[test]
fn methods_of_clients_make_no_labels() {
    let telemetry = Telemetry::start(&quiet()).expect("starts");
    let method = Method::from_bytes(b"BREW").expect("a token");
    let headers = HeaderMap::new();
    let incoming = Incoming {
        id: String::new(),
        method: &method,
        path: "/",
        template: None,
        headers: &headers,
        client: None,
    };
    drop(telemetry.request(&incoming));
    let text = telemetry.prometheus();
    assert!(text.contains("_OTHER") && !text.contains("BREW"), "{text}");
}

#[test]
fn shadow_mode_compares_the_count_of_what_was_sent() {
    let telemetry = Telemetry::start(&quiet()).expect("starts");
    let request = routed(&telemetry);
    request.policy("agent").finish(facts(false));
    let mut chat = request.chat(&call());
    chat.facts().input_tokens = Some(2000);
    chat.completed();
    assert_eq!(request.record().drift(), Some(1.5));
}

#[test]
fn engines_are_read_at_each_scrape() {
    let telemetry = Telemetry::start(&quiet()).expect("starts");
    telemetry.observe(|| {
        vec![EngineReadings {
            offload: plimsoll_engine::OffloadReading {
                host_bytes: 7,
                disk_bytes: Some(9),
                ..plimsoll_engine::OffloadReading::default()
            },
            upstream: "engine".into(),
            queue_depth: 3,
            kv_used: 50,
            kv_limit: 200,
            memory: vec![
                Component { name: "weights", bytes: 1000 },
                Component { name: "kv_cache", bytes: 200 },
            ],
            source: "engine",
            leaks: vec![("weights", 0)],
        }]
    });
    let text = telemetry.prometheus();
    for line in [
        r#"plimsoll_kv_usage_ratio{plimsoll_upstream="engine"} 0.25"#,
        r#"plimsoll_admission_queue_depth{plimsoll_upstream="engine"} 3"#,
        r#"plimsoll_kv_offload_usage_bytes{plimsoll_kv_offload_tier="host",plimsoll_upstream="engine"} 7"#,
        r#"plimsoll_kv_offload_usage_bytes{plimsoll_kv_offload_tier="disk",plimsoll_upstream="engine"} 9"#,
        r#"plimsoll_kv_offload_moves_total{plimsoll_kv_offload_step="put_by",plimsoll_upstream="engine"} 0"#,
        r#"plimsoll_kv_offload_restored_tokens_total{plimsoll_upstream="engine"} 0"#,
        r#"plimsoll_vram_usage_bytes{plimsoll_upstream="engine",plimsoll_vram_component="weights",plimsoll_vram_source="engine"} 1000"#,
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[test]
fn a_reading_that_panics_costs_only_itself() {
    let telemetry = Telemetry::start(&quiet()).expect("starts");
    telemetry.observe(|| panic!("on purpose"));
    telemetry.config_loaded(7);
    telemetry.config_refused();
    let text = telemetry.prometheus();
    assert!(text.contains("plimsoll_config_generation 7"), "{text}");
    assert!(text.contains(r#"plimsoll_config_reloads_total{plimsoll_config_result="refused"} 1"#), "{text}");
}

#[test]
fn without_a_collector_a_caller_is_handed_on() {
    let telemetry = Telemetry::start(&quiet()).expect("starts");
    let caller = HeaderValue::from_static("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    let headers = HeaderMap::from_iter([(http::HeaderName::from_static("traceparent"), caller.clone())]);
    let request = begin(&telemetry, &headers);
    assert_eq!(request.trace_id(), None);
    let mut upstream = HeaderMap::new();
    request.chat(&call()).inject(&mut upstream);
    assert_eq!(upstream["traceparent"], caller);
}

#[test]
fn faults_say_what_would_do() {
    let start = |endpoint: &str, header: &str| {
        let headers = vec![(header.to_owned(), "value".to_owned())];
        let otlp = Otlp { endpoint: endpoint.into(), protocol: Protocol::Http, headers };
        Telemetry::start(&TelemetryConfig { otlp: Some(otlp), ..quiet() }).err().expect("a fault").to_string()
    };
    assert!(start("https://collector:4318", "a").contains("`http://`"));
    assert!(start("collector:4318", "a").contains("`collector:4318`"));
    assert!(start("http://collector:4318/?a=b", "a").contains("query"));
    assert!(start("http://collector:4318", "no good").contains("`no good`"));
}

#[tokio::test]
async fn dropping_it_in_async_code_does_not_panic() {
    for protocol in [Protocol::Http, Protocol::Grpc] {
        let otlp = Otlp { endpoint: "http://127.0.0.1:9".into(), protocol, headers: Vec::new() };
        drop(Telemetry::start(&TelemetryConfig { otlp: Some(otlp), ..quiet() }).expect("starts"));
    }
}
