//! The status page, and `plimsoll ps`, which read the same state.

use std::collections::BTreeSet;

use plimsoll_tests::http::get_with;
use plimsoll_tests::shared::{demo, one_engine};
use plimsoll_tests::{Sidecar, get, plimsoll, post};
use regex::Regex;
use serde_json::{Value, json};

use crate::tooling::run;

/// More than the window of [`demo`] at 1024 holds, so that the policy has to act.
pub(crate) fn long_talk() -> Value {
    let turns = (0..40).flat_map(|turn| {
        let question =
            format!("Tell me about ship number {turn} and what it carries over the seas of the world.");
        let answer = format!("Ship number {turn} carries goods, and a line is painted on her hull.");
        [json!({"role": "user", "content": question}), json!({"role": "assistant", "content": answer})]
    });
    let last = json!({"role": "user", "content": "What is the KV cache?"});
    json!({"model": "demo", "messages": turns.chain([last]).collect::<Vec<_>>()})
}

fn chat(sidecar: &Sidecar, body: &Value) -> plimsoll_tests::Reply {
    post(&format!("{}/v1/chat/completions", sidecar.data_url), body)
}

fn state(sidecar: &Sidecar) -> Value {
    get(&format!("{}/state", sidecar.admin_url)).ok()
}

#[test]
fn finished_requests_are_in_the_state_without_their_words() {
    let sidecar = Sidecar::start(&demo(1024, "chat"));
    let reply = chat(&sidecar, &long_talk());
    let answer = reply.ok();
    let refused = json!({"model": "demo", "messages": [{"role": "user", "content": "word ".repeat(3000)}]});
    assert_eq!(chat(&sidecar, &refused).status, 400);
    // A record is finished when its holders are dropped, which may be after the answer arrived.
    let state = loop {
        let state = state(&sidecar);
        if state["totals"]["requests"] == 2 {
            break state;
        }
        std::thread::yield_now();
    };
    let by_id = |id: &str| {
        let requests = state["requests"].as_array().expect("requests");
        requests.iter().find(|request| request["id"] == id).expect("it is kept").clone()
    };
    let request = by_id(&reply.header("x-plimsoll-request-id"));
    assert_eq!((&request["status"], &request["outcome"]), (&json!(200), &json!("completed")));
    assert_eq!(request["tokens_after"].to_string(), reply.header("x-plimsoll-tokens-after"));
    assert_eq!(request["tokens_before"].to_string(), reply.header("x-plimsoll-tokens-before"));
    assert_eq!(request["output_tokens"], answer["usage"]["completion_tokens"]);
    assert_eq!(request["route"], "default");
    let totals = &state["totals"];
    assert_eq!(totals["by_outcome"], json!({"completed": 1, "rejected": 1}));
    assert_eq!(
        (&totals["tokens_before"], &totals["tokens_sent"]),
        (&request["tokens_before"], &request["tokens_after"])
    );
    let rule = request["actions"][0]["policy"].as_str().expect("a rule");
    assert_eq!(totals["removed_by_action"][rule], request["actions"][0]["tokens_removed"]);
    assert!(!state.to_string().contains("ship number"), "{state}");
}

#[test]
fn the_page_runs_its_own_script_alone() {
    let sidecar = Sidecar::start(&demo(1024, "chat"));
    let page = get(&format!("{}/", sidecar.admin_url));
    assert_eq!((page.status, page.header("content-type").as_str()), (200, "text/html; charset=utf-8"));
    assert_eq!(page.header("x-frame-options"), "DENY");
    let policy = page.header("content-security-policy");
    for part in ["default-src 'none'", "script-src 'sha256-", "style-src 'sha256-", "frame-ancestors 'none'"]
    {
        assert!(policy.contains(part), "{part} is not in {policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    let text = page.text();
    assert_eq!((text.matches("<script").count(), text.matches("<style").count()), (1, 1));
    // What the policy would refuse: code, styles and files from elsewhere.
    let refused = Regex::new(r#"(?i)https?://|\bon\w+=|\bstyle=|<iframe|innerHTML"#).unwrap();
    let found: Vec<_> = refused.find_iter(&text).map(|found| found.as_str()).collect();
    assert_eq!(found, Vec::<&str>::new());
    // On the data listener that path is another's.
    assert_eq!(get(&format!("{}/", sidecar.data_url)).text(), "Ollama is running");
}

#[test]
fn the_page_reads_what_the_state_has() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    std::fs::write(&file, demo(1024, "chat")).unwrap();
    let sidecar = Sidecar::watch(&file);
    chat(&sidecar, &long_talk()).ok();
    std::fs::write(&file, demo(1024, "nonsense")).unwrap();
    let state = loop {
        let state = state(&sidecar);
        if state["totals"]["requests"] == 1 && !state["config"]["file"]["last_error"].is_null() {
            break state;
        }
        std::thread::yield_now();
    };
    let page = get(&format!("{}/", sidecar.admin_url)).text();
    for (name, pointer) in [
        ("state", ""),
        ("config", "/config"),
        ("file", "/config/file"),
        ("error", "/config/file/last_error"),
        ("fault", "/config/file/last_error/faults/0"),
        ("totals", "/totals"),
        ("engine", "/upstreams/local"),
        ("slot", "/upstreams/local/slots/0"),
        ("leak", "/upstreams/local/leak"),
        ("context", "/requests/0/context"),
        ("route", "/routes/0"),
        ("request", "/requests/0"),
        ("action", "/requests/0/actions/0"),
    ] {
        let object = state.pointer(pointer).unwrap_or(&Value::Null);
        let object = object.as_object().unwrap_or_else(|| panic!("{pointer} is not in {state}"));
        let field = Regex::new(&format!(r"\b{name}\.([a-z_]+)")).unwrap();
        let fields: BTreeSet<_> = field.captures_iter(&page).map(|found| found[1].to_owned()).collect();
        assert!(!fields.is_empty(), "the page reads nothing of `{name}`");
        for field in fields {
            assert!(object.contains_key(&field), "the page reads `{name}.{field}`, not in {object:?}");
        }
    }
}

#[test]
fn the_page_is_open_and_its_figures_are_not() {
    let config =
        demo(1024, "chat").replace("admin: 127.0.0.1:0", "admin: 127.0.0.1:0, admin_token: open-sesame");
    let sidecar = Sidecar::start(&config);
    assert_eq!(get(&format!("{}/", sidecar.admin_url)).status, 200);
    let url = format!("{}/state", sidecar.admin_url);
    assert_eq!(get(&url).status, 401);
    assert_eq!(get_with(&url, &[("authorization", "Bearer open-sesame")]).status, 200);

    let ps = |arguments: &[&str]| {
        plimsoll().args(["ps", "--admin", &sidecar.admin_url]).args(arguments).output().unwrap()
    };
    let refused = ps(&[]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--token"), "{refused:?}");
    assert!(ps(&["--token", "open-sesame"]).status.success());
}

#[test]
fn ps_shows_the_engines() {
    let engine = "model: engine/demo/model, name: demo, slots: 3, context: 512";
    let sidecar = Sidecar::start(&one_engine(engine, "policy: chat"));
    let (good, printed) = run(plimsoll().args(["ps", "--admin", &sidecar.admin_url]));
    assert!(good, "{printed}");
    for part in [
        "configuration 1 (",
        "| local",
        "| demo",
        "| cpu",
        "| ok",
        " MiB / ",
        " 0/3 |",
        "|     0 |",
        "|     512 |",
        "memory of local: weights ",
        ", unattributed ",
    ] {
        assert!(printed.contains(part), "{part} is not in\n{printed}");
    }
    let json = plimsoll().args(["ps", "--json", "--admin", &sidecar.admin_url]).output().unwrap();
    let printed: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(printed["upstreams"]["local"]["context_tokens"], 512);
}

#[test]
fn ps_says_where_nobody_answers() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    for (address, part) in
        [(nobody.as_str(), "no sidecar answers"), ("https://localhost", "http://"), ("a b", "no URL")]
    {
        let output = plimsoll().args(["ps", "--admin", address]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{address}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(part), "{output:?}");
    }
}

#[test]
fn the_state_tells_whose_conversation_is_where_and_why() {
    let config = demo(1024, "chat")
        .replace("log: {", "telemetry: { trace_url: 'http://127.0.0.1:16686/trace/{trace_id}' }\nlog: {");
    let sidecar = Sidecar::start(&config);
    let mut talk = json!({"model": "demo", "max_tokens": 8, "messages": [{"role": "user", "content": "What is the KV cache?"}]});
    let first = chat(&sidecar, &talk);
    let answer = first.ok()["choices"][0]["message"].clone();
    let messages = talk["messages"].as_array_mut().expect("messages");
    messages.extend([answer, json!({"role": "user", "content": "And a slot?"})]);
    let second = chat(&sidecar, &talk);
    second.ok();
    chat(&sidecar, &long_talk()).ok();
    // The engine looks at its memory once it rests, which may be after the last answer.
    let state = loop {
        let state = state(&sidecar);
        if state["totals"]["requests"] == 3 && state["upstreams"]["local"]["leak"]["samples"] != 0 {
            break state;
        }
        std::thread::yield_now();
    };
    let engine = &state["upstreams"]["local"];
    assert_eq!((&engine["leak"]["state"], &engine["leak"]["component"]), (&json!("ok"), &Value::Null));
    let parts: Vec<_> = engine["memory_bytes"].as_object().expect("components").keys().collect();
    assert_eq!(parts, ["weights", "kv_cache", "workspace", "slack", "context", "unattributed"]);
    let slots = engine["slots"].as_array().expect("slots");
    let id = first.header("x-plimsoll-request-id");
    let slot = slots.iter().find(|slot| slot["conversation"] == json!(id)).expect("the conversation's slot");
    assert_eq!(
        (&slot["turns"], &slot["request"]),
        (&json!(2), &json!(second.header("x-plimsoll-request-id")))
    );
    assert!(slot["reused_tokens"].as_u64() > Some(5), "{slot}");
    let cut = &state["requests"][0];
    assert_eq!(cut["context"]["outcome"], "modified");
    let (budget, reserved) = (&cut["context"]["budget"], &cut["context"]["reserved"]);
    assert_eq!(budget.as_u64().unwrap() + reserved.as_u64().unwrap(), 1024);
    assert!(!cut["actions"][0]["reason"].as_str().expect("a reason").is_empty(), "{cut}");
    assert_eq!(state["running"], json!([]));
    assert_eq!(state["trace_url"], "http://127.0.0.1:16686/trace/{trace_id}");
    let metrics = get(&format!("{}/metrics", sidecar.admin_url)).text();
    let series = r#"plimsoll_vram_leak_state{plimsoll_upstream="local",plimsoll_vram_component="slack"} 0"#;
    assert!(metrics.contains(series), "{metrics}");
}

#[test]
fn a_trace_link_is_no_script() {
    let config = demo(1024, "chat")
        .replace("log: {", "telemetry: { trace_url: 'javascript:alert({trace_id})' }\nlog: {");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    std::fs::write(&file, config).unwrap();
    let refused = plimsoll().args(["validate", "--config"]).arg(&file).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("telemetry.trace_url"), "{refused:?}");
}

#[test]
fn top_reads_once_or_line_by_line_and_draws_on_terminals_alone() {
    let sidecar = Sidecar::start(&demo(1024, "chat"));
    chat(&sidecar, &long_talk()).ok();
    let top = |arguments: &[&str]| {
        plimsoll().args(["top", "--admin", &sidecar.admin_url]).args(arguments).output().unwrap()
    };
    let once = top(&["--once", "--json"]);
    let printed: Value = serde_json::from_slice(&once.stdout).unwrap();
    assert_eq!(printed["upstreams"]["local"]["leak"]["state"], "ok");
    let once = top(&["--once"]);
    let printed = String::from_utf8_lossy(&once.stdout).into_owned();
    for part in ["plimsoll ", "local: demo on cpu, memory ", "leak check: ok", "w weights ", "prompt tokens "]
    {
        assert!(printed.contains(part), "{part} is not in\n{printed}");
    }
    assert!(!printed.contains('\u{1b}'), "no escapes in a pipe");
    let piped = top(&[]);
    assert_eq!(piped.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&piped.stderr).contains("--once"), "{piped:?}");
}
