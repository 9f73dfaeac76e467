//! The trace of a governed request, read back as Jaeger reads it.

use plimsoll_tests::collector::{Collector, attribute};
use plimsoll_tests::shared::demo;
use plimsoll_tests::{Sidecar, post_with};
use serde_json::json;

const CALLER: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[test]
fn over_grpc() {
    trace_of_a_governed_request("grpc");
}

#[test]
fn over_http() {
    trace_of_a_governed_request("http");
}

fn trace_of_a_governed_request(protocol: &str) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let collector = runtime.block_on(Collector::start()).unwrap();
    let endpoint = if protocol == "grpc" { &collector.grpc_endpoint } else { &collector.http_endpoint };
    let telemetry = format!(
        "telemetry: {{ service_name: tested, otlp: {{ endpoint: '{endpoint}', protocol: {protocol} }} }}\n"
    );
    let sidecar = Sidecar::start(&format!("{}{telemetry}", demo(2048, "agent")));
    let secret = "the word is xyzzy";
    let rows: String = (0..300).map(|n| format!("row {n}: {secret}\n")).collect();
    let call = json!([{"id": "c", "type": "function", "function": {"name": "read_file", "arguments": "{}"}}]);
    let body = json!({"model": "demo", "max_tokens": 8, "messages": [
        {"role": "user", "content": "Read it."},
        {"role": "assistant", "content": null, "tool_calls": call},
        {"role": "tool", "tool_call_id": "c", "content": &rows[..4000]},
    ]});
    let parent = format!("00-{CALLER}-00f067aa0ba902b7-01");
    let url = format!("{}/v1/chat/completions", sidecar.data_url);
    let reply = post_with(&url, body.to_string().into_bytes(), &[("traceparent", &parent)]);
    assert_eq!(reply.status, 200, "{}", reply.text());
    // Draining delivers what is left.
    sidecar.drain();
    let trace = runtime.block_on(collector.trace(CALLER)).unwrap();
    let server = trace.server();
    assert_eq!(server.name, "POST /v1/chat/completions");
    let names: Vec<_> = trace.children(server).iter().map(|span| span.name.clone()).collect();
    assert_eq!(names, ["apply_context_policy agent", "wait_for_slot", "chat demo"]);
    let policy = trace.named("apply_context_policy agent").unwrap();
    let number = |key: &str| attribute(&policy.attributes, key).as_i64().expect(key);
    assert_eq!(
        number("plimsoll.context.tokens.before").to_string(),
        reply.header("x-plimsoll-tokens-before")
    );
    assert_eq!(number("plimsoll.context.tokens.after").to_string(), reply.header("x-plimsoll-tokens-after"));
    let [event] = &policy.events[..] else { panic!("{:?}", policy.events) };
    assert_eq!(event.name, "plimsoll.context.action");
    assert_eq!(attribute(&event.attributes, "plimsoll.context.action.type"), "cap_tool_output");
    let chat = trace.named("chat demo").unwrap();
    let phases: Vec<_> = trace.children(chat).iter().map(|span| span.name.clone()).collect();
    assert_eq!(phases, ["prefill", "decode"]);
    let number = |key: &str| attribute(&chat.attributes, key).as_i64().expect(key);
    assert_eq!(number("gen_ai.usage.input_tokens").to_string(), reply.header("x-plimsoll-tokens-after"));
    assert_eq!(number("plimsoll.kv.reused_tokens"), 0);
    let run = number("gen_ai.usage.input_tokens") + number("gen_ai.usage.output_tokens");
    assert_eq!(number("plimsoll.kv.bytes"), run * 4096);
    assert!(number("plimsoll.vram.after") >= 14_000_000);
    assert_eq!(attribute(&chat.attributes, "gen_ai.conversation.compacted"), true);
    // As Jaeger's UI asks for it; and nothing anybody wrote is in it.
    let jaeger = runtime.block_on(collector.jaeger(&format!("/api/traces/{CALLER}"))).unwrap();
    let spans = jaeger["data"][0]["spans"].as_array().expect("spans");
    assert_eq!(spans.len(), 6, "{jaeger}");
    assert!(!format!("{jaeger}{:?}", collector.received().traces).contains("xyzzy"));
}
