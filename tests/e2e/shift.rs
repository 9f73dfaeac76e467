//! Answers that go on past the window: who says so, where it shows, and who is refused.

use plimsoll_tests::collector::{Collector, attribute};
use plimsoll_tests::shared::{one_engine, shared};
use plimsoll_tests::{Reply, Sidecar, post, post_with};
use serde_json::{Value, json};

const SHIFT: &str = "x-plimsoll-context-shift";

fn demo(shift: &str, route: &str) -> String {
    one_engine(&format!("model: engine/demo/model, name: demo, context: 256, slots: 3{shift}"), route)
}

fn complete(sidecar: &Sidecar, more: &Value) -> Reply {
    let mut body = json!({"model": "demo", "prompt": "One two three.", "temperature": 0, "ignore_eos": true});
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    post(&format!("{}/v1/completions", sidecar.data_url), &body)
}

#[test]
fn an_answer_goes_on_where_the_configuration_says_so() {
    let sidecar = Sidecar::start(&demo(", context_shift: { keep: 8 }", "policy: 'off'"));
    let long = complete(&sidecar, &json!({"max_tokens": 600}));
    let told = long.ok();
    assert_eq!((&told["usage"]["completion_tokens"], &told["truncated"]), (&json!(600), &json!(true)));
    assert_eq!(told["choices"][0]["finish_reason"], "length");
    // 124 tokens at 256, and again whenever the window is full.
    assert_eq!(long.header(SHIFT), "dropped=372");
    // Up to there it is what it would be without, and it is the same again.
    let short = complete(&sidecar, &json!({"max_tokens": 200}));
    let begins = short.json()["choices"][0]["text"].as_str().unwrap().to_owned();
    assert!(told["choices"][0]["text"].as_str().unwrap().starts_with(&begins));
    assert_eq!((short.header(SHIFT).as_str(), short.json().get("truncated")), ("", None));
    let again = complete(&sidecar, &json!({"max_tokens": 600}));
    assert_eq!(again.json()["choices"], told["choices"]);
    // What stays makes another answer, once something goes.
    let other = complete(&sidecar, &json!({"max_tokens": 600, "n_keep": 120})).json();
    assert_ne!(other["choices"], told["choices"]);
    // A request may do without.
    let refused = complete(&sidecar, &json!({"max_tokens": 600, "shift": false}));
    assert_eq!(
        (refused.status, refused.json()["error"]["code"].as_str()),
        (400, Some("context_length_exceeded"))
    );
    // Nobody has to say when it ends, but it does: after ten windows.
    let unbounded = complete(&sidecar, &json!({}));
    assert_eq!(unbounded.ok()["usage"]["completion_tokens"], 2560);
    let wrong = complete(&sidecar, &json!({"n_keep": -2}));
    assert_eq!((wrong.status, wrong.json()["error"]["param"].as_str()), (400, Some("n_keep")));
}

#[test]
fn a_stream_says_so_before_and_after() {
    let sidecar = Sidecar::start(&demo(", context_shift: {}", "policy: chat"));
    let ask = |tokens: u32| {
        let body = json!({
            "model": "demo", "messages": [{"role": "user", "content": "Hello"}], "temperature": 0, "ignore_eos": true,
            "max_tokens": tokens, "stream": true, "stream_options": {"include_usage": true},
        });
        post(&format!("{}/v1/chat/completions", sidecar.data_url), &body)
    };
    let long = ask(500);
    assert_eq!(long.header(SHIFT), "possible");
    let text = long.text();
    let last = text.lines().filter_map(|line| line.strip_prefix("data: {")).next_back().unwrap().to_owned();
    let last: Value = serde_json::from_str(&format!("{{{last}")).unwrap();
    assert_eq!((&last["usage"]["completion_tokens"], &last["truncated"]), (&json!(500), &json!(true)));
    let short = ask(20);
    assert!(short.header(SHIFT).is_empty() && !short.text().contains("truncated"), "{}", short.text());
}

#[test]
fn the_span_has_what_was_dropped() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let collector = runtime.block_on(Collector::start()).unwrap();
    let telemetry = format!("telemetry: {{ otlp: {{ endpoint: '{}' }} }}\n", collector.http_endpoint);
    let sidecar =
        Sidecar::start(&format!("{}{telemetry}", demo(", context_shift: { keep: 8 }", "policy: 'off'")));
    let trace = "4bf92f3577b34da6a3ce929d0e0e4737";
    let body = json!({"model": "demo", "prompt": "One", "max_tokens": 300, "ignore_eos": true, "seed": 1});
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    let url = format!("{}/v1/completions", sidecar.data_url);
    let reply = post_with(&url, body.to_string().into_bytes(), &[("traceparent", &parent)]);
    assert_eq!(reply.header(SHIFT), "dropped=124", "{}", reply.text());
    sidecar.drain();
    let trace = runtime.block_on(collector.trace(trace)).unwrap();
    let call = trace.named("text_completion demo").unwrap();
    let number = |key: &str| attribute(&call.attributes, key).as_i64().expect(key);
    assert_eq!(number("plimsoll.kv.dropped_tokens"), 124);
    let held = number("gen_ai.usage.input_tokens") + number("gen_ai.usage.output_tokens") - 124;
    assert_eq!(number("plimsoll.kv.bytes"), held * 4096);
}

/// Ollama's own words, and nothing in the configuration.
#[test]
fn ollamas_clients_ask_for_it() {
    let Some(model) = shared("models/qwen2/genai") else { return };
    let engine = format!("model: '{}', name: m, context: 512, slots: 2", model.display());
    let sidecar = Sidecar::start(&one_engine(&engine, "policy: 'off'"));
    let ask = |more: Value| {
        let mut body = json!({"model": "m", "prompt": "a b c d e f g", "raw": true, "stream": false});
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        post(&format!("{}/api/generate", sidecar.data_url), &body)
    };
    let options = json!({"num_ctx": 128, "num_predict": 300, "num_keep": 5, "temperature": 0});
    let long = ask(json!({"shift": true, "options": options}));
    let told = long.ok();
    assert_eq!((&told["eval_count"], &told["done_reason"]), (&json!(300), &json!("length")));
    assert_eq!(told["truncated"], true);
    // Half of the 123 that do not stay, each time.
    let dropped: u64 = long.header(SHIFT).strip_prefix("dropped=").unwrap().parse().unwrap();
    assert!(dropped > 61 && dropped.is_multiple_of(61), "{dropped}");
    let stream = ask(json!({"shift": true, "options": options, "stream": true}));
    assert_eq!(stream.header(SHIFT), "possible");
    assert!(stream.text().lines().last().unwrap().contains(r#""truncated":true"#));
    // Said or not, without it the window is the end.
    for more in [json!({"options": options}), json!({"shift": false, "options": options})] {
        let refused = ask(more);
        assert_eq!(refused.status, 400);
        assert!(refused.text().contains("maximum context length is 128 tokens"), "{}", refused.text());
    }
    let wrong = ask(json!({"shift": true, "options": {"num_keep": -5}}));
    assert!(wrong.status == 400 && wrong.text().contains("`options.num_keep` is -5"), "{}", wrong.text());
}

#[test]
fn a_model_that_cannot_is_refused_with_the_reason() {
    let Some(model) = shared("models/lfm2/genai") else { return };
    let engine = format!("model: '{}', name: m, context: 512, slots: 1", model.display());
    let reason = "the context of this model cannot be shifted: some layers keep a state or a window";
    let sidecar = Sidecar::start(&one_engine(&engine, "policy: 'off'"));
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "a"}], "stream": false, "shift": true,
                      "options": {"num_predict": 5}});
    let refused = post(&format!("{}/api/chat", sidecar.data_url), &body);
    assert!(refused.status == 400 && refused.text().contains(reason), "{}", refused.text());
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "a"}], "shift": true});
    let refused = post(&format!("{}/v1/chat/completions", sidecar.data_url), &body);
    assert_eq!((refused.status, refused.json()["error"]["param"].as_str()), (400, Some("shift")));
    // And where the configuration asks for it, nothing starts.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    std::fs::write(&file, one_engine(&format!("{engine}, context_shift: {{}}"), "policy: 'off'")).unwrap();
    let mut command = plimsoll_tests::plimsoll();
    let failed = command.arg("serve").arg("--config").arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(
        !failed.status.success() && said.contains(reason) && said.contains("leave `context_shift` out"),
        "{said}"
    );
}
