//! Replicas without a common store: a process that never saw a conversation governs it as one that saw it grow.

use std::io::Write;
use std::process::Stdio;
use std::sync::Arc;

use plimsoll_proxy::replay::requests;
use plimsoll_tests::mock::Mock;
use plimsoll_tests::shared::transcripts;
use plimsoll_tests::{Sidecar, plimsoll, post_with};
use serde_json::Value;

const POLICIES: [&str; 2] = ["chat", "agent"];

fn config(url: &str) -> String {
    let route = |name: &str| {
        format!(
            "  - {{ name: {name}, match: {{ header: {{ x-policy: {name} }} }}, upstream: other, policy: {name} }}\n"
        )
    };
    let routes: String = POLICIES.into_iter().map(route).collect();
    format!(
        "
listen: {{ data: 127.0.0.1:0, admin: 127.0.0.1:0 }}
log: {{ level: error }}
upstreams: {{ other: {{ url: '{url}', tokenizer: engine/demo/model, context: 8192 }} }}
routes:
{routes}  - {{ name: default, upstream: other, policy: chat }}
"
    )
}

/// What a process that has just started makes of a request.
fn fresh(config: &std::path::Path, policy: &str, request: &str) -> Value {
    let mut explain = plimsoll();
    explain.args(["explain", "--json", "--route", policy, "--config"]).arg(config).arg("-");
    let mut child = explain.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(request.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    told["messages"].clone()
}

/// Sends each request of these conversations to one sidecar, and every `nth` of them to a fresh process.
fn agree(conversations: &[Value], nth: usize) {
    let mock = Mock::start(Vec::new());
    let sidecar = Sidecar::start(&config(&mock.url));
    let file = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
    std::fs::write(file.path(), config(&mock.url)).unwrap();
    let (mut compared, mut cut) = (0, 0);
    for conversation in conversations {
        let recording: Arc<str> = conversation.to_string().into();
        for (policy, (index, request)) in POLICIES.into_iter().flat_map(|policy| {
            requests(&recording).unwrap().into_iter().enumerate().map(move |one| (policy, one))
        }) {
            let request = request.to_json();
            let url = format!("{}/v1/chat/completions", sidecar.data_url);
            let reply = post_with(&url, request.as_bytes().to_vec(), &[("x-policy", policy)]);
            assert_eq!(reply.status, 200, "{}", reply.text());
            let sent: Value = serde_json::from_slice(&mock.only().body).unwrap();
            mock.forget();
            if index % nth == nth - 1 {
                assert_eq!(
                    fresh(file.path(), policy, &request),
                    sent["messages"],
                    "{policy}, request {index}"
                );
                compared += 1;
                cut += usize::from(reply.header("x-plimsoll-actions") != "none");
            }
        }
    }
    assert!(compared > 0 && cut > 0, "{compared} compared, {cut} of them cut");
}

/// The conversations with the most messages.
fn longest(count: usize) -> Vec<Value> {
    let mut all = transcripts();
    all.sort_by_key(|one| std::cmp::Reverse(one["messages"].as_array().map_or(0, Vec::len)));
    all.truncate(count);
    all
}

#[test]
fn a_fresh_process_agrees() {
    let conversations = longest(1);
    if !conversations.is_empty() {
        agree(&conversations, 8);
    }
}

#[test]
#[ignore = "long: a process for each request of forty conversations"]
fn fresh_processes_agree_on_every_request() {
    let conversations = longest(40);
    if !conversations.is_empty() {
        agree(&conversations, 1);
    }
}
