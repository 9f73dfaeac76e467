//! `plimsoll explain`, the admin's `/explain` and shadow mode tell the same figures.

use plimsoll_tests::shared::{demo, shared, transcripts};
use plimsoll_tests::{Sidecar, plimsoll, post};
use serde_json::{Value, json};

use crate::tooling::run;

/// The longest conversation whose last groups fit a small window.
fn long_transcript() -> Option<(usize, Value)> {
    let all = transcripts();
    let longest =
        all.iter().enumerate().max_by_key(|(_, one)| one["messages"].as_array().map_or(0, Vec::len));
    longest.map(|(line, one)| (line + 1, one.clone()))
}

#[test]
fn the_table_of_a_transcript_has_exact_counts() {
    let (Some(file), Some((line, transcript))) =
        (shared("transcripts/tau_airline_40.jsonl"), long_transcript())
    else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.yaml");
    // Nobody listens there: explaining asks no upstream.
    let settings = "
listen: { data: 127.0.0.1:0, admin: 127.0.0.1:0 }
log: { level: error }
upstreams: { other: { url: 'http://127.0.0.1:9', tokenizer: engine/demo/model, context: 16000 } }
routes: [{ name: default, upstream: other, policy: agent }]
";
    std::fs::write(&config, settings).unwrap();
    let explain = || {
        let mut command = plimsoll();
        command.args(["explain", "--line", &line.to_string(), "--config"]).arg(&config).arg(&file);
        command
    };
    let (good, table) = run(&mut explain());
    assert!(good, "{table}");
    for part in
        ["normalize_prefix", "cap_tool_output", "summarize", "fit_context", "(exact)", "x-plimsoll-actions: "]
    {
        assert!(table.contains(part), "{part} is not in\n{table}");
    }
    let offline: Value = serde_json::from_slice(&explain().arg("--json").output().unwrap().stdout).unwrap();
    let report = &offline["report"];
    assert!(report["tokens_after"].as_u64() <= report["budget"].as_u64(), "{report}");
    assert!(report["tokens_after"].as_u64() < report["tokens_before"].as_u64(), "{report}");
    let sidecar = Sidecar::start(settings);
    let live = post(&format!("{}/explain?messages=true", sidecar.admin_url), &transcript).ok();
    assert_eq!(live["report"], *report);
    assert_eq!(live["messages"], offline["messages"]);
}

#[test]
fn shadow_mode_tells_the_table_and_runs_the_original() {
    let enforce = Sidecar::start(&demo(2048, "agent"));
    let shadow = Sidecar::start(&demo(2048, "agent, mode: shadow"));
    let rows: String = (0..400).map(|n| format!("row {n} is fine\n")).collect();
    let call = json!([{"id": "c", "type": "function", "function": {"name": "read_file", "arguments": "{}"}}]);
    let body = json!({"model": "demo", "max_tokens": 8, "messages": [
        {"role": "user", "content": "Read it."},
        {"role": "assistant", "content": null, "tool_calls": call},
        {"role": "tool", "tool_call_id": "c", "content": &rows[..4000]},
    ]});
    let ask = |sidecar: &Sidecar| post(&format!("{}/v1/chat/completions", sidecar.data_url), &body);
    let (enforced, shadowed) = (ask(&enforce), ask(&shadow));
    assert_eq!(enforced.status, 200, "{}", enforced.text());
    assert_eq!(enforced.header("x-plimsoll-actions"), "cap_tool_output=1");
    assert_eq!(shadowed.header("x-plimsoll-would-actions"), "cap_tool_output=1");
    assert_eq!(shadowed.header("x-plimsoll-would-tokens-after"), enforced.header("x-plimsoll-tokens-after"));
    assert_eq!(shadowed.header("x-plimsoll-tokens-after"), shadowed.header("x-plimsoll-tokens-before"));
    for reply in [enforced, shadowed] {
        assert_eq!(reply.ok()["usage"]["prompt_tokens"].to_string(), reply.header("x-plimsoll-tokens-after"));
    }
}

#[test]
fn a_stranger_route_is_named() {
    let sidecar = Sidecar::start(&demo(1024, "chat"));
    let reply = post(&format!("{}/explain?route=nope", sidecar.admin_url), &json!({"messages": []}));
    assert_eq!(reply.status, 400);
    assert!(reply.text().contains("there are `default`"), "{}", reply.text());
}
