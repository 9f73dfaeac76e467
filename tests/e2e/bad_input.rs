//! Whatever comes in, the answer is an error in the caller's dialect that says what is wrong; nothing breaks.

use plimsoll_tests::http::request;
use plimsoll_tests::shared::{demo, one_engine};
use plimsoll_tests::{Reply, Sidecar, get, post, post_with};
use serde_json::{Value, json};

fn chat(sidecar: &Sidecar, body: &[u8], headers: &[(&str, &str)]) -> Reply {
    post_with(&format!("{}/v1/chat/completions", sidecar.data_url), body.to_vec(), headers)
}

fn expect_error(reply: &Reply, status: u16, code: &str, part: &str) {
    assert_eq!(reply.status, status, "{}", reply.text());
    let error = &reply.json()["error"];
    assert_eq!(error["code"], code, "{error}");
    assert!(error["message"].as_str().expect("a message").contains(part), "{error}");
    assert!(error["type"].is_string());
}

#[test]
fn bodies_that_are_no_chat_request() {
    let sidecar = Sidecar::start(&demo(1024, "chat"));
    let user = r#""messages":[{"role":"user","content":"hi"}]"#;
    let cases: [(&str, &str, &str); 18] = [
        ("{\"messages\": [", "invalid_json", "line 1"),
        ("[1,2]", "invalid_request", "object"),
        (r#"{"messages":{}}"#, "invalid_request", "`messages` must be an array"),
        (r#"{"messages":[]}"#, "invalid_value", "at least one"),
        (r#"{"messages":["hi"]}"#, "invalid_value", "messages[0]"),
        (r#"{"messages":[{"role":"user","content":5}]}"#, "invalid_value", "messages[0].content"),
        (r#"{"messages":[{"role":"robot","content":"x"}]}"#, "invalid_value", "messages[0].role"),
        (
            r#"{"messages":[{"role":"user","content":"x"},{"role":"tool","tool_call_id":"c","content":"r"}]}"#,
            "invalid_value",
            "preceding message with `tool_calls`",
        ),
        (
            r#"{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:"}}]}]}"#,
            "invalid_value",
            "text parts",
        ),
        (r#"{"messages":[{"role":"user","content":"\ud800"}]}"#, "invalid_value", "messages[0]"),
        (&format!(r#"{{"temperature":"hot",{user}}}"#), "invalid_value", "temperature"),
        (&format!(r#"{{"tools":"x",{user}}}"#), "invalid_value", "`tools`: must be an array"),
        (&format!(r#"{{"tools":[7],{user}}}"#), "invalid_value", "tools[0]"),
        (
            &format!(r#"{{"chat_template_kwargs":7,{user}}}"#),
            "invalid_value",
            "must be an object of the template's",
        ),
        (
            r#"{"messages":[{"role":"user","content":"x"},{"role":"assistant","tool_calls":{"id":"c"}}]}"#,
            "invalid_value",
            "messages[1].tool_calls`: must be an array",
        ),
        (
            r#"{"messages":[{"role":"user","content":"x"},{"role":"assistant","tool_calls":[{"id":"c"}]}]}"#,
            "invalid_value",
            "messages[1].tool_calls[0]",
        ),
        (&format!(r#"{{"max_tokens":1.5,{user}}}"#), "invalid_value", "expected a whole number"),
        (&format!(r#"{{"n":9,{user}}}"#), "invalid_value", "from 1 to 8 answers"),
    ];
    for (body, code, part) in cases {
        expect_error(&chat(&sidecar, body.as_bytes(), &[]), 400, code, part);
    }
    expect_error(&chat(&sidecar, b"{\"messages\": [\xff]}", &[]), 400, "invalid_json", "UTF-8");
    // A policy lowers what cannot be had; without one it is refused.
    let long = format!(r#"{{"max_tokens":100000,{user}}}"#);
    assert_eq!(chat(&sidecar, long.as_bytes(), &[]).status, 200);
    let plain = Sidecar::start(&demo(1024, "'off'"));
    expect_error(&chat(&plain, long.as_bytes(), &[]), 400, "context_length_exceeded", "100000");
    // It still serves.
    let hello = json!({"messages": [{"role": "user", "content": "What is the KV cache?"}]});
    post(&format!("{}/v1/chat/completions", sidecar.data_url), &hello).ok();
}

#[test]
fn encoded_bodies_are_decoded_within_the_limit() {
    let limited = format!("{}limits: {{ body: 64KiB }}\n", demo(1024, "chat"));
    let sidecar = Sidecar::start(&limited);
    let long = vec![b' '; 65 * 1024];
    expect_error(&chat(&sidecar, &long, &[]), 413, "request_too_large", "65536");
    // 65 KiB of blanks, zlib-compressed to some dozen bytes.
    let bomb = deflate(&long);
    assert!(bomb.len() < 1000);
    expect_error(
        &chat(&sidecar, &bomb, &[("content-encoding", "deflate")]),
        413,
        "request_too_large",
        "65536",
    );
    expect_error(&chat(&sidecar, b"plain", &[("content-encoding", "gzip")]), 400, "invalid_body", "gzip");
    expect_error(
        &chat(&sidecar, b"x", &[("content-encoding", "lzma")]),
        415,
        "unsupported_content_encoding",
        "lzma",
    );
    let body = br#"{"messages":[{"role":"user","content":"hi"}]}"#;
    assert_eq!(chat(&sidecar, &deflate(body), &[("content-encoding", "deflate")]).status, 200);
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}

#[test]
fn models_and_paths_that_nobody_serves() {
    let engine = "model: engine/demo/model, name: demo, context: 1024";
    let sidecar = Sidecar::start(&one_engine(engine, "policy: chat"));
    let body = |model: Value| json!({"model": model, "messages": [{"role": "user", "content": "hi"}]});
    let url = format!("{}/v1/chat/completions", sidecar.data_url);
    expect_error(&post(&url, &body("gpt-9".into())), 404, "model_not_found", "served here: demo");
    expect_error(&post(&url, &body(Value::Null)), 400, "missing_model", "served here: demo");
    assert_eq!(post(&url, &body("demo".into())).status, 200);
    assert_eq!(post(&url, &body("local".into())).status, 200, "the upstream's key is an id too");
    expect_error(&get(&format!("{}/v1/nope", sidecar.data_url)), 404, "unknown_url", "GET /v1/nope");
    expect_error(&get(&format!("{}/v1/models/x", sidecar.data_url)), 404, "model_not_found", "x");
    for id in ["demo", "local", "d%65mo", "lo%63al"] {
        let model = get(&format!("{}/v1/models/{id}", sidecar.data_url)).ok();
        assert_eq!(model["id"], "demo", "{id}");
    }
    let models = get(&format!("{}/v1/models", sidecar.data_url));
    let head = request("HEAD", &format!("{}/v1/models", sidecar.data_url), Vec::new(), &[]);
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), models.body.len().to_string(), "as GET has it");
    let models = models.ok();
    assert_eq!(
        (&models["data"][0]["id"], &models["data"][0]["max_model_len"]),
        (&json!("demo"), &json!(1024))
    );
}

#[test]
fn a_context_that_cannot_fit_is_refused_with_its_figures() {
    let sidecar = Sidecar::start(&demo(512, "chat"));
    let words = "context ".repeat(2000);
    let body = json!({"model": "demo", "messages": [{"role": "user", "content": words}], "stream": true});
    let reply = post(&format!("{}/v1/chat/completions", sidecar.data_url), &body);
    expect_error(&reply, 400, "context_length_exceeded", "the window is 512");
    assert_eq!(reply.json()["error"]["param"], "messages");
    let completion = json!({"model": "demo", "prompt": words, "max_tokens": 5});
    let reply = post(&format!("{}/v1/completions", sidecar.data_url), &completion);
    expect_error(&reply, 400, "context_length_exceeded", "512 tokens");
    assert_eq!(reply.json()["error"]["param"], "prompt");
}

/// A client that begins a body and sends no more.
fn pause(url: &str, head: &str) -> String {
    use std::io::{Read, Write};
    let address = url.strip_prefix("http://").expect("an address");
    let mut client = std::net::TcpStream::connect(address).expect("somebody listens");
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n{head}content-length: 100\r\n\r\n{{\"messages\""
    );
    client.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("an answer, and the end");
    answer
}

#[test]
fn a_body_that_pauses_is_given_up() {
    let idle = "limits: { body_idle: 50ms }\n";
    let sidecar = Sidecar::start(&format!("{}{idle}", demo(1024, "chat")));
    let answer = pause(&sidecar.data_url, "connection: close\r\n");
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("\"request_timeout\""), "{answer}");
    assert!(answer.contains("nothing came of the request body for 50ms"), "{answer}");
    // Where the body is passed on unread, too: this upstream takes it and never answers.
    let upstream = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = upstream.local_addr().expect("bound");
    let reader = std::thread::spawn(move || {
        let (mut connection, _) = upstream.accept().expect("a connection");
        std::io::copy(&mut connection, &mut std::io::sink())
    });
    let config = format!(
        "
listen: {{ data: 127.0.0.1:0, admin: 127.0.0.1:0 }}
log: {{ level: 'off' }}
upstreams: {{ other: {{ url: 'http://{address}' }} }}
routes: [{{ name: default, upstream: other, mode: 'off' }}]
{idle}"
    );
    let sidecar = Sidecar::start(&config);
    let answer = pause(&sidecar.data_url, "connection: close\r\n");
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("\"request_timeout\""), "{answer}");
    drop(sidecar);
    reader.join().expect("the upstream's thread").ok();
}

#[test]
fn what_a_client_sent_is_not_sent_back_whole() {
    let sidecar = Sidecar::start(&demo(1024, "chat").replace("any_model: true", "any_model: false"));
    let long = "x".repeat(3000);
    let user = r#""messages":[{"role":"user","content":"hi"}]"#;
    let bodies = [
        format!(r#"{{"model":"{long}",{user}}}"#),
        format!(r#"{{"model":"demo","temperature":"{long}",{user}}}"#),
        format!(r#"{{"model":"demo","messages":[{{"role":"{long}","content":"x"}}]}}"#),
        format!(r#"{{"model":"demo","messages":[{{"role":"user","content":{{"{long}":1}}}}]}}"#),
        format!(r#"{{"model":"demo","logit_bias":{{"{long}":1}},{user}}}"#),
    ];
    for body in bodies {
        let reply = chat(&sidecar, body.as_bytes(), &[]);
        assert!(reply.status == 400 || reply.status == 404, "{}", reply.text());
        assert!(reply.text().len() < 600 && reply.text().contains('…'), "{}", reply.text());
    }
    for path in [format!("v1/{long}"), format!("v1/models/{long}")] {
        let reply = get(&format!("{}/{path}", sidecar.data_url));
        assert_eq!(reply.status, 404);
        assert!(reply.text().len() < 600, "{}", reply.text());
    }
}

#[test]
fn legacy_completions_are_checked_too() {
    let sidecar = Sidecar::start(&demo(512, "chat"));
    let url = format!("{}/v1/completions", sidecar.data_url);
    for (body, part) in [
        (json!({"model": "demo"}), "`prompt` is missing"),
        (json!({"model": "demo", "prompt": ["a", "b"]}), "several prompts"),
        (json!({"model": "demo", "prompt": [-1]}), "token ids"),
        (json!({"model": "demo", "prompt": [999_999]}), "999999"),
        (json!({"model": "demo", "prompt": "a", "echo": true}), "repeating"),
    ] {
        expect_error(&post(&url, &body), 400, "invalid_value", part);
    }
}
