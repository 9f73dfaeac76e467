//! A collector that takes connections and never answers costs no request anything: the process as users run it.

use std::io::Read;
use std::net::TcpListener;
use std::process::Stdio;

use plimsoll_tests::http::open;
use plimsoll_tests::process::{greeting, stop_within};
use plimsoll_tests::{plimsoll, post_with};
use serde_json::{Value, json};

use crate::traced::{CANARY, caller, trace_id};

#[test]
fn requests_are_answered_and_the_drain_ends() {
    // Connections wait in its queue for ever.
    let hole = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("telemetry.otlp.endpoint=http://{}", hole.local_addr().unwrap());
    let mut command = plimsoll();
    command.arg("serve");
    for set in ["listen.data=127.0.0.1:0", "listen.admin=127.0.0.1:0", "log.format=json", &endpoint] {
        command.args(["--set", set]);
    }
    command.args(["--set", &format!("telemetry.otlp.headers.x-api-key={CANARY}")]);
    let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = process.stderr.take().unwrap();
    let log = std::thread::spawn(move || {
        let mut text = String::new();
        log.read_to_string(&mut text).map(|_| text)
    });
    let chat = format!("{}/chat/completions", greeting(&mut process));
    let body = |content: &str| {
        let messages = json!([{"role": "user", "content": content}]);
        json!({"model": "demo", "messages": messages, "max_tokens": 900, "ignore_eos": true, "stream": true})
            .to_string()
            .into_bytes()
    };
    let short = json!({"model": "demo", "messages": [{"role": "user", "content": CANARY}]});
    let reply = post_with(&chat, short.to_string().into_bytes(), &[("traceparent", &caller(1))]);
    assert_eq!(reply.status, 200, "{}", reply.text());
    stop_within(open(&chat, body(CANARY), &[]), &process);
    assert!(process.wait().unwrap().success());

    let log = log.join().unwrap().unwrap();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let request = |line: &&Value| line["target"] == "plimsoll::request" && line["trace_id"] == trace_id(1);
    let request = lines.iter().find(request).unwrap_or_else(|| panic!("no line of the request:\n{log}"));
    assert_eq!((&request["status"], &request["outcome"]), (&json!(200), &json!("completed")));
    assert!(log.contains("telemetry was not delivered"), "{log}");
    assert!(!log.contains(CANARY), "{log}");
}
