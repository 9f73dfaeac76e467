//! `plimsoll explain`, the admin's `/explain` and shadow mode tell the same figures.

use plimsoll_tests::shared::{demo, shared, transcripts};
use plimsoll_tests::{Sidecar, get, plimsoll, post, post_with};
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

#[test]
fn faults_of_the_admin_are_json_with_type_and_code() {
    let sidecar = Sidecar::start(&demo(1024, "chat"));
    let at = |path: &str| format!("{}/explain{path}", sidecar.admin_url);
    let hello = json!({"messages": [{"role": "user", "content": "hi"}]});
    let raw = |body: &[u8]| post_with(&at(""), body.to_vec(), &[]);
    for (reply, status, code, part) in [
        (get(&at("/x?diff=maybe")), 400, "invalid_value", "`maybe` must be `true`"),
        (get(&at("/x?dif=1")), 400, "invalid_value", "unknown field `dif`"),
        (get(&at("/%ff?diff=1")), 400, "invalid_value", "UTF-8"),
        (get(&at("/x?diff=1&messages=0")), 404, "report_not_found", "no report of request"),
        (post(&at("?diff=2"), &hello), 400, "invalid_value", "`2` must be"),
        (post(&at("?route=nope"), &hello), 400, "unknown_route", "no route `nope`"),
        (post(&at(""), &json!({"messages": 7})), 400, "invalid_request", "messages"),
        (raw(b"{"), 400, "invalid_json", "not a chat request"),
        (raw(b"\xff"), 400, "invalid_body", "UTF-8"),
    ] {
        let error = reply.json()["error"].clone();
        assert_eq!((reply.status, &error["code"]), (status, &json!(code)), "{error}");
        assert_eq!(error["type"], "invalid_request_error");
        assert!(error["message"].as_str().unwrap().contains(part), "{error}");
    }
    let shown = post(&at("?diff=1&messages=true"), &hello).ok();
    assert!(shown["diff"].is_string() && shown["messages"].is_array(), "{shown:#}");
}

/// A request whose tool result is capped: its id, and the sidecar that saw it.
fn governed(capture: &str) -> (Sidecar, String) {
    let sidecar =
        Sidecar::start(&format!("{}explain: {{ keep: 2, capture: {capture} }}\n", demo(2048, "agent")));
    let rows: String = (0..300).map(|n| format!("row {n} canary\n")).collect();
    let call = json!([{"id": "c", "type": "function", "function": {"name": "read_file", "arguments": "{}"}}]);
    let body = json!({"model": "demo", "max_tokens": 8, "messages": [
        {"role": "user", "content": "Read it."},
        {"role": "assistant", "content": null, "tool_calls": call},
        {"role": "tool", "tool_call_id": "c", "content": rows},
    ]});
    let reply = post(&format!("{}/v1/chat/completions", sidecar.data_url), &body);
    assert_eq!(reply.status, 200, "{}", reply.text());
    let id = reply.header("x-plimsoll-request-id");
    (sidecar, id)
}

fn explain_request(sidecar: &Sidecar, id: &str) -> std::process::Command {
    let mut command = plimsoll();
    command.args(["explain", "--request", id, "--admin", &sidecar.admin_url]);
    command
}

#[test]
fn a_recent_request_is_explained_by_its_id() {
    let (sidecar, id) = governed("null");
    let told = get(&format!("{}/explain/{id}?messages=true&diff=true", sidecar.admin_url)).ok();
    assert_eq!(
        (&told["id"], &told["mode"], &told["route"]),
        (&json!(id), &json!("enforce"), &json!("default"))
    );
    assert_eq!(told["actions"], "cap_tool_output=1");
    assert!(!told.to_string().contains("canary"), "content is not kept: {told}");
    assert!(told["content"].to_string().contains("explain.capture"), "{told}");
    let (good, table) = run(&mut explain_request(&sidecar, &id));
    assert!(good && table.contains("| cap_tool_output ") && table.contains("(exact)"), "{table}");
    let (good, printed) = run(explain_request(&sidecar, &id).arg("--diff"));
    assert!(good && printed.contains("no diff: the content was not kept"), "{printed}");
    // It goes when two others have come.
    let hello = json!({"model": "demo", "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]});
    for _ in 0..2 {
        post(&format!("{}/v1/chat/completions", sidecar.data_url), &hello).ok();
    }
    let gone = get(&format!("{}/explain/{id}", sidecar.admin_url));
    assert_eq!(gone.status, 404);
    assert!(gone.text().contains("the last 2 that a policy saw are kept"), "{}", gone.text());
    let output = explain_request(&sidecar, &id).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no report of request"), "{output:?}");
}

#[test]
fn a_captured_request_is_shown_as_a_diff() {
    let (sidecar, id) = governed("1MiB");
    let (good, printed) = run(explain_request(&sidecar, &id).arg("--diff"));
    for part in ["--- sent by the client", "+++ sent to the model", "-  row 150 canary", "+  [plimsoll: "] {
        assert!(good && printed.contains(part), "{part} is not in\n{printed}");
    }
    let output = explain_request(&sidecar, &id).arg("--json").output().unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(told["messages"][2]["content"].to_string().contains("[plimsoll: "), "{told:#}");
}

#[test]
fn a_refused_request_is_explained_too() {
    let sidecar = Sidecar::start(&demo(512, "chat"));
    let body = json!({"messages": [{"role": "user", "content": "word ".repeat(2000)}]});
    let reply = post(&format!("{}/v1/chat/completions", sidecar.data_url), &body);
    assert_eq!(reply.status, 400);
    let output = explain_request(&sidecar, &reply.header("x-plimsoll-request-id")).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(printed.contains("refused: ") && printed.contains("window 512"), "{printed}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_file_and_standard_input_are_shown_as_a_diff() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("conversation.json");
    let long = json!({"messages": [
        {"role": "user", "content": "Read it."},
        {"role": "assistant", "content": null, "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c", "content": "a row\n".repeat(2000)},
    ]});
    std::fs::write(&file, long.to_string()).unwrap();
    let (good, printed) = run(plimsoll().args(["explain", "--window", "4096", "--diff"]).arg(&file));
    assert!(good && printed.contains("@@") && printed.contains("+  [plimsoll: "), "{printed}");
    let input = std::fs::File::open(&file).unwrap();
    let (good, same) = run(plimsoll().args(["explain", "--window", "4k", "--diff", "-"]).stdin(input));
    assert!(good && same == printed, "{same}");
    std::fs::write(&file, r#"{"messages":[{"role":"user","content":"hi"}]}"#).unwrap();
    let (good, printed) = run(plimsoll().args(["explain", "--diff"]).arg(&file));
    assert!(good && printed.contains("nothing differs"), "{printed}");
}
