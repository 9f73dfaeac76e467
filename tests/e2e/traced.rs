//! What is told of each kind of request, read back from a collector: spans, parents, links, metrics, and no secret.

use std::io::Read;

use otlp_embedded::proto::trace::v1::span::SpanKind;
use otlp_embedded::proto::trace::v1::status::StatusCode;
use plimsoll_tests::collector::{Collector, Span, Trace, attribute, hex};
use plimsoll_tests::http::open;
use plimsoll_tests::mock::{Answer, Mock};
use plimsoll_tests::shared::demo;
use plimsoll_tests::{Reply, Sidecar, get, post_with};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::status::long_talk;
use crate::summaries::{POLICIES, conversation};

/// Stands in messages, keys and baggage; must stand nowhere else.
pub(crate) const CANARY: &str = "xyzzy-canary";

/// A sidecar and the collector of its traces.
pub(crate) struct Traced {
    pub(crate) runtime: Runtime,
    pub(crate) collector: Collector,
    pub(crate) sidecar: Sidecar,
}

impl Traced {
    pub(crate) fn start(config: &str, telemetry: &str) -> Self {
        let runtime = Runtime::new().unwrap();
        let collector = runtime.block_on(Collector::start()).unwrap();
        let endpoint = &collector.grpc_endpoint;
        let headers = format!("headers: {{ x-api-key: {CANARY} }}");
        let otlp = format!("otlp: {{ endpoint: '{endpoint}', protocol: grpc, {headers} }}");
        let sidecar = Sidecar::start(&format!("{config}telemetry: {{ {otlp}, {telemetry} }}\n"));
        Self { runtime, collector, sidecar }
    }

    pub(crate) fn url(&self) -> String {
        format!("{}/v1/chat/completions", self.sidecar.data_url)
    }

    /// Sends a chat as part of the trace number `trace`.
    pub(crate) fn chat(&self, trace: u8, body: &Value) -> Reply {
        post_with(&self.url(), body.to_string().into_bytes(), &[("traceparent", &caller(trace))])
    }

    pub(crate) fn trace(&self, trace: u8) -> Trace {
        self.runtime.block_on(self.collector.trace(&trace_id(trace))).unwrap()
    }

    /// Waits for a line of the metrics.
    fn metric(&self, wanted: impl Fn(&str) -> bool) -> String {
        loop {
            let metrics = get(&format!("{}/metrics", self.sidecar.admin_url)).text();
            if let Some(line) = metrics.lines().find(|line| wanted(line)) {
                return line.to_owned();
            }
            std::thread::yield_now();
        }
    }

    /// The trace as Jaeger's UI asks for it.
    fn jaeger(&self, trace: u8) -> Value {
        let path = format!("/api/traces/{}", trace_id(trace));
        self.runtime.block_on(self.collector.jaeger(&path)).unwrap()
    }

    /// All that was exported, and what Jaeger makes of it.
    fn everything(&self, trace: u8) -> String {
        let jaeger = self.jaeger(trace);
        let received = self.collector.received();
        let metrics = get(&format!("{}/metrics", self.sidecar.admin_url)).text();
        format!("{jaeger}{:?}{:?}{metrics}", received.traces, received.metrics)
    }
}

pub(crate) fn trace_id(trace: u8) -> String {
    format!("{trace:032x}")
}

pub(crate) fn caller(trace: u8) -> String {
    format!("00-{}-00f067aa0ba902b7-01", trace_id(trace))
}

fn kind(span: &Span) -> SpanKind {
    span.kind()
}

fn status(span: &Span) -> StatusCode {
    span.status.as_ref().map_or(StatusCode::Unset, otlp_embedded::proto::trace::v1::Status::code)
}

fn is(span: &Span, expected: &Value) {
    for (key, value) in expected.as_object().expect("an object") {
        assert_eq!(&attribute(&span.attributes, key), value, "{key} of {}", span.name);
    }
}

/// In front of a mock, with a secret wherever one may be.
fn in_front_of(mock: &Mock, upstream: &str) -> String {
    format!(
        "
listen: {{ data: 127.0.0.1:0, admin: 127.0.0.1:0 }}
log: {{ level: error }}
upstreams:
  other: {{ url: '{}', context: 700, api_key: {CANARY}, {upstream} }}
routes:
  - {{ name: default, upstream: other, policy: chat }}
",
        mock.url
    )
}

const CHUNKS: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello\"}}],\"usage\":null}\n\n\
     data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\" there\"},\"finish_reason\":\"stop\"}],\"usage\":null}\n\n";
const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":500,\"completion_tokens\":2,\
     \"prompt_tokens_details\":{\"cached_tokens\":400}}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

fn stream() -> Answer {
    let (answer, send) = Answer::stream();
    std::thread::spawn(move || {
        // In pieces that end nowhere in particular.
        for piece in format!("{CHUNKS}{USAGE}{DONE}").as_bytes().chunks(37) {
            if send.blocking_send(piece.to_vec().into()).is_err() {
                return;
            }
        }
    });
    answer
}

fn streamed(mut body: Value) -> Value {
    body["stream"] = json!(true);
    body
}

#[test]
fn a_governed_stream_asks_for_the_usage_that_its_client_does_not_see() {
    let mock = Mock::start(vec![stream(), stream(), stream()]);
    let traced = Traced::start(&in_front_of(&mock, "dialect: openai"), "service_name: tested");
    let reply = traced.chat(1, &streamed(long_talk()));
    assert_eq!(reply.text(), format!("{CHUNKS}{DONE}"));
    let sent: Value = serde_json::from_slice(&mock.only().body).unwrap();
    assert_eq!(sent["stream_options"], json!({"include_usage": true}));
    let trace = traced.trace(1);
    let chat = trace.named("chat demo").unwrap();
    assert_eq!((kind(chat), status(chat)), (SpanKind::Client, StatusCode::Unset));
    is(
        chat,
        &json!({
            "gen_ai.usage.input_tokens": 500,
            "gen_ai.usage.output_tokens": 2,
            "gen_ai.usage.cache_read.input_tokens": 400,
            "gen_ai.conversation.compacted": true,
            "gen_ai.request.stream": true,
        }),
    );
    // The client's own wish is left to it, and so is a request that no policy touched.
    let mut own = streamed(long_talk());
    own["stream_options"] = json!({"include_usage": true});
    assert_eq!(traced.chat(2, &own).text(), format!("{CHUNKS}{USAGE}{DONE}"));
    mock.forget();
    let short = streamed(json!({"model": "demo", "messages": [{"role": "user", "content": CANARY}]}));
    let bytes = short.to_string().into_bytes();
    let reply = post_with(&traced.url(), bytes.clone(), &[("traceparent", &caller(3))]);
    assert_eq!(reply.text(), format!("{CHUNKS}{USAGE}{DONE}"));
    assert_eq!(mock.only().body, bytes);
    traced.metric(|line| line.starts_with("plimsoll_kv_reused_tokens_total{") && line.ends_with(" 1200"));
    traced.trace(3);
    assert!(!traced.everything(3).contains(CANARY));
}

#[test]
fn another_attempt_is_told_with_the_server_that_answered() {
    let mock = Mock::start(Vec::new());
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = in_front_of(&mock, "affinity: none");
    let several = format!("urls: ['http://{dead}', '{}']", mock.url);
    let config = config.replace(&format!("url: '{}'", mock.url), &several);
    let traced = Traced::start(&config, "service_name: tested");
    let body = json!({"model": "demo", "messages": [{"role": "user", "content": "Hello"}]});
    assert_eq!(traced.chat(1, &body).status, 200);
    let port: u16 = mock.url.rsplit(':').next().unwrap().parse().unwrap();
    let trace = traced.trace(1);
    let chat = trace.named("chat demo").unwrap();
    assert_eq!(status(chat), StatusCode::Unset);
    is(chat, &json!({"server.address": "127.0.0.1", "server.port": port, "plimsoll.upstream.attempts": 2}));
}

#[test]
fn listed_baggage_becomes_attributes_and_none_goes_on() {
    let mock = Mock::start(Vec::new());
    let traced =
        Traced::start(&in_front_of(&mock, "forward_baggage: false"), "baggage: [session.id, tenant]");
    let baggage = format!("session.id=s-1,secret={CANARY}");
    let body = json!({"model": "demo", "messages": [{"role": "user", "content": "Hello"}]});
    let headers = [("traceparent", &*caller(1)), ("baggage", &*baggage)];
    post_with(&traced.url(), body.to_string().into_bytes(), &headers).ok();
    let trace = traced.trace(1);
    is(trace.server(), &json!({"session.id": "s-1", "tenant": null, "secret": null}));
    let seen = mock.only();
    assert!(!seen.headers.contains_key("baggage"), "{:?}", seen.headers);
    let chat = hex(&trace.named("chat demo").unwrap().span_id);
    assert_eq!(seen.headers["traceparent"], format!("00-{}-{chat}-01", trace_id(1)));
    assert!(!traced.everything(1).contains(CANARY));
    let lets = Traced::start(&in_front_of(&mock, "forward_baggage: true"), "service_name: tested");
    mock.forget();
    post_with(&lets.url(), body.to_string().into_bytes(), &headers).ok();
    assert_eq!(mock.only().headers["baggage"], *baggage);
}

#[test]
fn content_is_told_where_it_is_asked_for_and_nowhere_else() {
    let mock = Mock::start(vec![stream()]);
    let traced = Traced::start(&in_front_of(&mock, "dialect: openai"), "capture_content: true");
    let body = streamed(json!({"model": "demo", "messages": [{"role": "user", "content": "Hello"}]}));
    traced.chat(1, &body);
    let trace = traced.trace(1);
    let chat = trace.named("chat demo").unwrap();
    let content = |key: &str| -> Value {
        serde_json::from_str(attribute(&chat.attributes, key).as_str().expect(key)).unwrap()
    };
    let said = json!([{"role": "user", "parts": [{"type": "text", "content": "Hello"}]}]);
    assert_eq!(content("gen_ai.input.messages"), said);
    assert_eq!(content("gen_ai.output.messages")[0]["parts"][0]["content"], "Hello there");

    let engine = Traced::start(&demo(1024, "chat"), "capture_content: true");
    let reply =
        engine.chat(2, &json!({"model": "demo", "messages": [{"role": "user", "content": "Hello"}]})).ok();
    let trace = engine.trace(2);
    let output = attribute(&trace.named("chat demo").unwrap().attributes, "gen_ai.output.messages");
    let output: Value = serde_json::from_str(output.as_str().expect("the answer")).unwrap();
    assert_eq!(output[0]["parts"][0]["content"], reply["choices"][0]["message"]["content"]);
}

#[test]
fn a_later_turn_links_to_the_summary_that_it_uses() {
    let config = demo(2048, "engine").replace("any_model: true", "any_model: true, window: 640");
    let traced = Traced::start(&format!("{config}{POLICIES}"), "service_name: tested");
    let ask = |messages: &[Value]| json!({"model": "demo", "temperature": 0, "max_tokens": 64, "messages": messages});
    let mut messages = conversation();
    let first = traced.chat(1, &ask(&messages)).ok();
    messages.push(first["choices"][0]["message"].clone());
    messages.push(json!({"role": "user", "content": "Thank you. What is my order number?"}));
    traced.chat(2, &ask(&messages)).ok();
    let (first, second) = (traced.trace(1), traced.trace(2));
    let summary = first.named("summarize_context").unwrap();
    let [.., inner] = &first.children(summary)[..] else { panic!("{}", first.tree()) };
    assert_eq!(inner.name, "chat demo");
    let policy = first.named("apply_context_policy engine").unwrap();
    assert_eq!(summary.parent_span_id, policy.span_id);
    let main = |trace: &Trace| -> Span {
        trace.children(trace.server()).into_iter().find(|span| span.name == "chat demo").unwrap().clone()
    };
    assert!(main(&first).links.is_empty(), "its own summary stands in its own trace");
    assert!(second.named("summarize_context").is_err(), "{}", second.tree());
    let links = main(&second).links;
    let [link] = &links[..] else { panic!("one link: {links:?}") };
    assert_eq!((hex(&link.trace_id), &link.span_id), (trace_id(1), &summary.span_id));
    // Jaeger shows it as a reference.
    let jaeger = traced.jaeger(2).to_string();
    assert!(jaeger.contains(&hex(&summary.span_id)), "{jaeger}");
    assert!(!traced.everything(1).contains("ORD-48213"));
}

#[test]
fn a_refused_request_is_no_error_and_says_why() {
    let traced = Traced::start(&demo(1024, "strict"), "service_name: tested");
    let words = format!("{CANARY} ").repeat(600);
    let reply = traced.chat(1, &json!({"model": "demo", "messages": [{"role": "user", "content": words}]}));
    assert_eq!(reply.status, 400);
    let trace = traced.trace(1);
    assert_eq!(trace.tree(), "POST /v1/chat/completions\n  apply_context_policy strict\n");
    let server = trace.server();
    assert_eq!((kind(server), status(server)), (SpanKind::Server, StatusCode::Unset));
    is(
        server,
        &json!({
            "http.response.status_code": 400,
            "error.type": "context_length_exceeded",
            "plimsoll.request.outcome": "rejected",
        }),
    );
    let policy = trace.named("apply_context_policy strict").unwrap();
    is(
        policy,
        &json!({"plimsoll.context.policy.outcome": "rejected", "plimsoll.context.window.limit": 1024}),
    );
    traced.metric(|line| {
        line.starts_with("plimsoll_context_requests_total{") && line.contains("outcome=\"rejected\"")
    });
    assert!(!traced.everything(1).contains(CANARY));
}

#[test]
fn a_shadowed_request_tells_what_would_have_been() {
    let config = demo(4096, "chat").replace("any_model: true", "any_model: true, mode: shadow, window: 640");
    let traced = Traced::start(&config, "service_name: tested");
    let reply = traced.chat(1, &long_talk());
    assert_eq!(reply.status, 200, "{}", reply.text());
    let trace = traced.trace(1);
    let policy = trace.named("apply_context_policy chat").unwrap();
    is(
        policy,
        &json!({"plimsoll.context.policy.mode": "shadow", "plimsoll.context.policy.outcome": "modified"}),
    );
    assert!(policy.events.iter().all(|event| event.name == "plimsoll.context.action"));
    assert!(!policy.events.is_empty());
    let number = |span: &Span, key: &str| attribute(&span.attributes, key).as_u64().expect("a number");
    let (before, after) =
        (number(policy, "plimsoll.context.tokens.before"), number(policy, "plimsoll.context.tokens.after"));
    assert!(after < before);
    // What was sent is the original: its segments add up to it, and nothing was taken out of it.
    let segments = ["system", "tools", "history", "tool_results", "user"];
    let sum: u64 =
        segments.map(|part| number(policy, &format!("plimsoll.context.tokens.{part}"))).iter().sum();
    assert!(sum.abs_diff(before) <= segments.len() as u64, "{sum} of {before}");
    let chat = trace.named("chat demo").unwrap();
    assert_eq!(number(chat, "gen_ai.usage.input_tokens"), before);
    is(chat, &json!({"gen_ai.conversation.compacted": null}));
    let line = traced.metric(|line| line.starts_with("plimsoll_context_tokens_removed_total{"));
    assert!(line.contains("plimsoll_context_policy_mode=\"shadow\""), "{line}");
}

fn endless() -> Vec<u8> {
    let messages = json!([{"role": "user", "content": "Hello"}]);
    json!({"model": "demo", "messages": messages, "max_tokens": 900, "ignore_eos": true, "stream": true})
        .to_string()
        .into_bytes()
}

#[test]
fn a_cancelled_request_ends_its_spans_and_is_no_error() {
    let traced = Traced::start(&demo(1024, "chat"), "service_name: tested");
    let mut stream = open(&traced.url(), endless(), &[("traceparent", &caller(1))]);
    // The role comes at once; tokens come behind it.
    stream.read_exact(&mut [0; 2048]).unwrap();
    drop(stream);
    let trace = traced.trace(1);
    let chat = trace.named("chat demo").unwrap();
    for span in [trace.server(), chat] {
        assert_eq!(status(span), StatusCode::Unset);
        is(span, &json!({"plimsoll.request.outcome": "disconnected", "error.type": null}));
    }
    let phases: Vec<_> = trace.children(chat).iter().map(|span| span.name.clone()).collect();
    assert_eq!(phases, ["prefill", "decode"]);
}

#[test]
fn responses_of_a_server_are_told_as_chats_are() {
    let usage =
        json!({"input_tokens": 40, "input_tokens_details": {"cached_tokens": 30}, "output_tokens": 2});
    let item = json!({"type": "message", "content": [{"type": "output_text", "text": "hi"}]});
    let answer = json!({"status": "completed", "output": [item], "usage": usage}).to_string();
    let mock = Mock::start(vec![Answer::json(&answer), Answer::json(&answer)]);
    let traced = Traced::start(&in_front_of(&mock, "ask_usage: true"), "capture_content: true");
    let url = format!("{}/v1/responses", traced.sidecar.data_url);
    let ask = |trace: u8, body: &Value| {
        post_with(&url, body.to_string().into_bytes(), &[("traceparent", &caller(trace))]).ok();
        traced.trace(trace)
    };
    let trace = ask(1, &json!({"model": "gpt-5", "input": "Hello", "max_output_tokens": 9}));
    is(
        trace.server(),
        &json!({"plimsoll.request.dialect": "responses", "plimsoll.request.ungoverned": null}),
    );
    let chat = trace.named("chat gpt-5").unwrap();
    is(
        chat,
        &json!({
            "gen_ai.usage.input_tokens": 40, "gen_ai.usage.output_tokens": 2, "gen_ai.request.max_tokens": 9,
            "gen_ai.usage.cache_read.input_tokens": 30, "gen_ai.provider.name": "openai",
        }),
    );
    let said = attribute(&chat.attributes, "gen_ai.output.messages");
    assert!(said.as_str().unwrap().contains("\"hi\""), "{said}");
    let stored = json!({"model": "gpt-5", "input": "More", "previous_response_id": "resp_1"});
    let trace = ask(2, &stored);
    is(trace.server(), &json!({"plimsoll.request.ungoverned": "previous_response_id"}));
}

#[test]
fn several_answers_are_one_call() {
    let traced = Traced::start(&demo(1024, "chat"), "service_name: tested, capture_content: true");
    let messages = json!([{"role": "user", "content": "What is the KV cache?"}]);
    let body = json!({"model": "demo", "messages": messages, "max_tokens": 3, "n": 3, "seed": 5});
    let answer = traced.chat(1, &body).ok();
    let trace = traced.trace(1);
    let chats: Vec<_> = trace.spans.iter().filter(|span| span.name == "chat demo").collect();
    assert_eq!(chats.len(), 1);
    let prompt = answer["usage"]["prompt_tokens"].as_u64().unwrap();
    is(
        chats[0],
        &json!({
            "gen_ai.usage.input_tokens": prompt, "gen_ai.usage.output_tokens": 9,
            "gen_ai.response.finish_reasons": ["length", "length", "length"],
            "plimsoll.kv.reused_tokens": 0, "plimsoll.kv.computed_tokens": prompt,
        }),
    );
    let said = attribute(&chats[0].attributes, "gen_ai.output.messages");
    let said: Value = serde_json::from_str(said.as_str().unwrap()).unwrap();
    for (choice, said) in answer["choices"].as_array().unwrap().iter().zip(said.as_array().unwrap()) {
        assert_eq!(said["parts"][0]["content"], choice["message"]["content"]);
        assert_eq!(said["finish_reason"], "length");
    }
}

#[test]
fn calls_that_decode_together_are_linked_from_their_batch() {
    let traced = Traced::start(&demo(1024, "chat"), "sample: 0.0");
    let mut streams: Vec<_> =
        [1, 2].map(|trace| open(&traced.url(), endless(), &[("traceparent", &caller(trace))])).into();
    for stream in &mut streams {
        let mut rest = String::new();
        stream.read_to_string(&mut rest).unwrap();
    }
    let shared = |span: &&Span| span.name == "decode_batch demo" && span.links.len() == 2;
    let batches = traced.collector.wait_for(|received| received.spans().any(|span| shared(&span)));
    let received = traced.runtime.block_on(batches).unwrap();
    let batch = received.spans().find(shared).unwrap();
    assert!(batch.parent_span_id.is_empty());
    assert_eq!(kind(batch), SpanKind::Internal);
    is(batch, &json!({"plimsoll.batch.rows": 2, "plimsoll.model": "demo"}));
    assert!(attribute(&batch.attributes, "plimsoll.batch.steps").as_u64().expect("steps") > 0);
    for trace in [1, 2] {
        let chat = traced.trace(trace).named("chat demo").unwrap().span_id.clone();
        assert_ne!(batch.trace_id, hex_bytes(&trace_id(trace)));
        assert!(batch.links.iter().any(|link| link.span_id == chat), "{:?}", batch.links);
    }
}

fn hex_bytes(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn reuse_is_predicted_before_it_happens() {
    let traced = Traced::start(&demo(1024, "chat"), "service_name: tested");
    let body = json!({"model": "demo", "max_tokens": 4, "messages": [{"role": "user", "content": "Hello, what is the KV cache?"}]});
    traced.chat(1, &body).ok();
    traced.trace(1);
    traced.chat(2, &body).ok();
    let trace = traced.trace(2);
    let chat = trace.named("chat demo").unwrap();
    let number = |key: &str| attribute(&chat.attributes, key).as_u64().expect("a number");
    let prompt = number("gen_ai.usage.input_tokens");
    assert_eq!(number("plimsoll.kv.predicted_tokens"), prompt - 1);
    assert_eq!(number("plimsoll.kv.reused_tokens"), prompt - 1);
    let line = traced.metric(|line| line.starts_with("plimsoll_kv_predicted_tokens_total{"));
    assert!(line.ends_with(&format!(" {}", prompt - 1)), "{line}");
    let computed = traced.metric(|line| {
        line.starts_with("plimsoll_kv_computed_tokens_total{") && line.ends_with(&format!(" {}", prompt + 1))
    });
    assert!(computed.contains("plimsoll_route=\"default\""), "{computed}");
}
