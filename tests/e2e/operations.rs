//! Probes, state, metrics, reload, drain, and clients that leave.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Stdio;

use plimsoll_tests::http::open;
use plimsoll_tests::process::{greeting, stop_within};
use plimsoll_tests::shared::demo;
use plimsoll_tests::{Sidecar, get, plimsoll, post};
use serde_json::{Value, json};

fn hello(sidecar: &Sidecar) -> plimsoll_tests::Reply {
    let body = json!({"model": "demo", "messages": [{"role": "user", "content": "What is the KV cache?"}]});
    post(&format!("{}/v1/chat/completions", sidecar.data_url), &body)
}

#[test]
fn the_admin_listener_answers_and_the_data_listener_does_not_do_its_work() {
    let sidecar = Sidecar::start(&demo(1024, "chat"));
    hello(&sidecar).ok();
    let admin = |path: &str| get(&format!("{}{path}", sidecar.admin_url));
    assert_eq!((admin("/livez").text(), admin("/readyz").text()), ("ok\n".to_owned(), "ready\n".to_owned()));
    let state = admin("/state").ok();
    assert_eq!(state["routes"][0]["mode"], "enforce");
    let engine = &state["upstreams"]["local"];
    assert_eq!(engine["provider"], "CPUExecutionProvider");
    assert_eq!(engine["kv_bytes_per_token"], 4096);
    assert_eq!(engine["slots"].as_array().expect("slots").len(), 4);
    assert!(engine["memory_bytes"]["weights"].as_u64().expect("bytes") > 10_000_000, "{engine}");
    assert_eq!(admin("/config").ok()["routes"][0]["policy"], "chat");
    let metrics = admin("/metrics").text();
    for name in [
        "gen_ai_server_request_duration_seconds",
        "plimsoll_context_tokens",
        "plimsoll_kv_usage",
        "plimsoll_vram_usage",
    ] {
        assert!(metrics.contains(name), "{name} is not in\n{metrics}");
    }
    assert_eq!(get(&format!("{}/metrics", sidecar.data_url)).status, 404);
}

#[test]
fn a_changed_file_is_in_force_without_a_restart_and_a_bad_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    std::fs::write(&file, demo(1024, "chat")).unwrap();
    let sidecar = Sidecar::watch(&file);
    assert_eq!(hello(&sidecar).header("x-plimsoll-policy"), "chat");
    std::fs::write(&file, demo(1024, "agent")).unwrap();
    wait_for(&sidecar, |state| state["config"]["generation"] == 2);
    assert_eq!(hello(&sidecar).header("x-plimsoll-policy"), "agent");
    std::fs::write(&file, demo(1024, "nonsense")).unwrap();
    let state = wait_for(&sidecar, |state| !state["config"]["file"]["last_error"].is_null());
    assert!(state.to_string().contains("nonsense"), "{state}");
    assert_eq!(hello(&sidecar).header("x-plimsoll-policy"), "agent");
}

/// An engine that goes and comes again runs by the settings of its return; only one that stays keeps its former ones.
#[test]
fn what_waits_for_a_restart_is_what_is_not_in_force() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    let engine = |slots: u32| {
        let settings = format!("model: engine/demo/model, context: 1024, slots: {slots}");
        plimsoll_tests::shared::one_engine(&settings, "policy: chat")
    };
    let other = "
listen: { data: 127.0.0.1:0, admin: 127.0.0.1:0 }
log: { level: error }
upstreams: { other: { url: 'http://127.0.0.1:9', context: 8000 } }
routes: [{ name: default, upstream: other, policy: chat }]
";
    std::fs::write(&file, engine(2)).unwrap();
    let sidecar = Sidecar::watch(&file);
    let slots = |state: &Value| state["upstreams"]["local"]["slots"].as_array().map_or(0, Vec::len);
    let mut generation = 1;
    let mut after = |text: &str| {
        // Renamed, so that no half of it is read.
        std::fs::write(folder.path().join("new"), text).unwrap();
        std::fs::rename(folder.path().join("new"), &file).unwrap();
        generation += 1;
        let state = wait_for(&sidecar, |state| state["config"]["generation"] == generation);
        (slots(&state), state["config"]["needs_restart"].clone())
    };
    assert_eq!(after(&engine(3)), (2, json!(["upstreams.local.engine"])));
    assert_eq!(after(other), (0, json!([])));
    assert_eq!(after(&engine(3)), (3, json!([])), "it was loaded anew, as the file says");
    assert_eq!(
        after(&engine(2)),
        (3, json!(["upstreams.local.engine"])),
        "as it was at the start, and not in force"
    );
    assert_eq!(after(&engine(3)), (3, json!([])));
}

/// Asks for the state until it is as wanted; nextest ends a wait that never does.
fn wait_for(sidecar: &Sidecar, wanted: impl Fn(&Value) -> bool) -> Value {
    loop {
        let state = get(&format!("{}/state", sidecar.admin_url)).ok();
        if wanted(&state) {
            return state;
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_client_that_leaves_frees_its_slot() {
    let sidecar = Sidecar::start(&demo(4096, "'off'"));
    let endless =
        json!({"model": "demo", "prompt": "a", "max_tokens": 4000, "ignore_eos": true, "stream": true});
    let url = format!("{}/v1/completions", sidecar.data_url);
    let mut streams: Vec<_> = (0..4).map(|_| open(&url, endless.to_string().into_bytes(), &[])).collect();
    for stream in &mut streams {
        stream.read_exact(&mut [0; 5]).unwrap();
    }
    let busy = |state: &Value| {
        let slots = state["upstreams"]["local"]["slots"].as_array().expect("slots");
        slots.iter().filter(|slot| slot["busy"] == true).count()
    };
    wait_for(&sidecar, |state| busy(state) == 4);
    drop(streams);
    wait_for(&sidecar, |state| busy(state) == 0);
    // One request may hold all of them, streamed or not.
    for stream in [true, false] {
        let mut all = endless.clone();
        (all["n"], all["stream"]) = (4.into(), stream.into());
        let address = sidecar.data_url.strip_prefix("http://").unwrap();
        let mut connection = TcpStream::connect(address).unwrap();
        let head = format!(
            "POST /v1/completions HTTP/1.1\r\nhost: plimsoll\r\ncontent-length: {}\r\n\r\n",
            all.to_string().len()
        );
        connection.write_all(format!("{head}{all}").as_bytes()).unwrap();
        wait_for(&sidecar, |state| busy(state) == 4);
        drop(connection);
        wait_for(&sidecar, |state| busy(state) == 0);
    }
}

#[test]
fn several_answers_compute_their_prompt_once() {
    let sidecar = Sidecar::start(&demo(1024, "'off'"));
    let body =
        json!({"model": "demo", "prompt": "Once upon a time", "max_tokens": 64, "ignore_eos": true, "n": 3});
    let url = format!("{}/v1/completions", sidecar.data_url);
    let usage = &post(&url, &body).ok()["usage"];
    assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], 0);
    let prompt = usage["prompt_tokens"].as_u64().unwrap();
    let state = wait_for(&sidecar, |state| state["upstreams"]["local"]["slots"][2]["reused_tokens"].is_u64());
    let slots = state["upstreams"]["local"]["slots"].as_array().unwrap();
    let mut reused: Vec<_> = slots.iter().filter_map(|slot| slot["reused_tokens"].as_u64()).collect();
    reused.sort_unstable();
    assert_eq!(reused, [0, prompt - 1, prompt - 1]);
}

#[test]
fn a_drain_lets_open_streams_finish() {
    let sidecar = Sidecar::start(&demo(1024, "'off'"));
    let body = json!({"model": "demo", "prompt": "a", "max_tokens": 200, "ignore_eos": true, "stream": true});
    let mut stream =
        open(&format!("{}/v1/completions", sidecar.data_url), body.to_string().into_bytes(), &[]);
    stream.read_exact(&mut [0; 5]).unwrap();
    let reader = std::thread::spawn(move || {
        let mut rest = String::new();
        stream.read_to_string(&mut rest).map(|_| rest)
    });
    sidecar.drain();
    let rest = reader.join().unwrap().unwrap();
    assert!(rest.ends_with("data: [DONE]\n\n") && rest.contains("\"length\""), "{rest}");
}

#[test]
fn a_signal_to_stop_drains_the_process() {
    let ports = ["--set", "listen.data=127.0.0.1:0", "--set", "listen.admin=127.0.0.1:0"];
    let mut command = plimsoll();
    command.arg("serve").args(ports).args(["--set", "telemetry.otlp=null", "--set", "log.level=warn"]);
    let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
    // That the greeting's reader leaves early must not matter.
    let url = greeting(&mut process);
    let body = json!({"model": "demo", "prompt": "a", "max_tokens": 900, "ignore_eos": true, "stream": true});
    stop_within(open(&format!("{url}/completions"), body.to_string().into_bytes(), &[]), &process);
    assert!(process.wait().unwrap().success());
}

#[test]
fn an_idle_model_is_unloaded_and_the_next_request_loads_it() {
    let engine = "model: engine/demo/model, name: demo, slots: 2, keep_alive: 0";
    let sidecar = Sidecar::start(&plimsoll_tests::shared::one_engine(engine, "policy: chat"));
    let engine = |loaded: bool| {
        wait_for(&sidecar, |state| state["upstreams"]["local"]["loaded"] == loaded)["upstreams"]["local"]
            .clone()
    };
    assert_eq!(engine(false)["memory_bytes"]["weights"], 0);
    // Probes look at the sidecar, which can serve.
    assert_eq!(get(&format!("{}/readyz", sidecar.admin_url)).text(), "ready\n");
    let body = json!({
        "model": "demo", "messages": [{"role": "user", "content": "What is the KV cache?"}], "keep_alive": "1h",
    });
    let replies: Vec<_> = std::thread::scope(|scope| {
        let ask = || post(&format!("{}/v1/chat/completions", sidecar.data_url), &body).ok();
        let asked: Vec<_> = (0..3).map(|_| scope.spawn(ask)).collect();
        asked.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert!(
        replies.iter().all(|reply| reply["choices"][0]["message"] == replies[0]["choices"][0]["message"])
    );
    assert!(engine(true)["memory_bytes"]["weights"].as_u64().unwrap() > 10_000_000);
    hello(&sidecar).ok();
    engine(false);
}
