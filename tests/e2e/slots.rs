//! Conversations that are saved, survive a restart of the process, and go on; `/slots` and `plimsoll slots`.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};

use plimsoll_tests::shared::{json as file, one_engine, shared};
use plimsoll_tests::{Reply, Sidecar, get, plimsoll, post};
use serde_json::{Value, json};

use crate::tooling::run;

fn config(model: &str, folder: &Path) -> String {
    let engine = format!(
        "model: {model}, name: demo, slots: 3, threads: 1, checkpoints: {}",
        folder.join("kv").display()
    );
    one_engine(&engine, "policy: 'off', mode: 'off'")
}

fn complete(data_url: &str, prompt: &Value, max_tokens: u32) -> Value {
    let body = json!({
        "model": "demo", "prompt": prompt, "max_tokens": max_tokens, "temperature": 0,
        "ignore_eos": true, "return_token_ids": true,
    });
    post(&format!("{data_url}/v1/completions"), &body).ok()
}

/// A sidecar in a process of its own, killed when dropped.
struct Process {
    child: Child,
    data_url: String,
    admin_url: String,
}

impl Process {
    fn start(file: &Path) -> Self {
        let mut command = plimsoll();
        command.arg("serve").arg("--config").arg(file).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let mut urls = BufReader::new(stdout).lines().map(|line| line.unwrap()).filter_map(|line| {
            let from = line.find("http://")?;
            let url = line[from..].split_whitespace().next()?;
            Some(url.trim_end_matches("/v1").trim_end_matches('/').to_owned())
        });
        let mut url = || urls.next().unwrap();
        let (data_url, admin_url) = (url(), url());
        Self { child, data_url, admin_url }
    }

    fn slots(&self, arguments: &[&str]) -> Value {
        let output =
            plimsoll().arg("slots").args(arguments).args(["--json", "--admin", &self.admin_url]).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn a_saved_conversation_goes_on_in_another_process_as_the_truth_says() {
    let Some(models) = shared("models") else { return };
    let truth = file(&models.join("truth/qwen2.json"));
    let cases = truth["cases"].as_array().unwrap();
    let case = cases.iter().max_by_key(|case| case["ids"].as_array().unwrap().len()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.yaml");
    std::fs::write(&path, config(&models.join("qwen2/genai").display().to_string(), folder.path())).unwrap();
    let process = Process::start(&path);
    complete(&process.data_url, &case["ids"], 1);
    let listed = process.slots(&["list"]);
    let slots = listed["upstreams"]["local"]["slots"].as_array().unwrap();
    let slot = slots.iter().find(|slot| slot["tokens"] != 0).unwrap()["id"].to_string();
    let saved = process.slots(&["save", &slot, "long-one"]);
    assert_eq!(saved["tokens"], case["ids"].as_array().unwrap().len());
    drop(process);

    let process = Process::start(&path);
    let restored = process.slots(&["restore", "long-one"]);
    assert_eq!(restored["tokens"], saved["tokens"]);
    let answer = complete(&process.data_url, &case["ids"], 64);
    assert_eq!(
        answer["usage"]["prompt_tokens_details"]["cached_tokens"],
        saved["tokens"].as_u64().unwrap() - 1
    );
    assert_eq!(answer["choices"][0]["token_ids"], case["greedy"]);
}

fn act(sidecar: &Sidecar, action: &str, body: &Value) -> Reply {
    post(&format!("{}/slots/{action}", sidecar.admin_url), body)
}

#[test]
fn the_admin_listener_saves_branches_and_erases() {
    let folder = tempfile::tempdir().unwrap();
    let sidecar = Sidecar::start(&config("engine/demo/model", folder.path()));
    let prompt: Vec<_> = (0..80).map(|i| 300 + i * 3).collect();
    complete(&sidecar.data_url, &json!(prompt), 1);
    let list = || get(&format!("{}/slots", sidecar.admin_url)).ok()["upstreams"]["local"].clone();
    let slot = list()["slots"].as_array().unwrap().iter().position(|slot| slot["tokens"] == 80).unwrap();
    let saved = act(&sidecar, "save", &json!({"slot": slot, "name": "a.1", "tokens": 50})).ok();
    assert_eq!((&saved["tokens"], &saved["upstream"]), (&json!(50), &json!("local")));
    let kept = &list()["checkpoints"][0];
    assert_eq!(
        (&kept["name"], &kept["tokens"], &kept["bytes"]),
        (&json!("a.1"), &json!(50), &saved["bytes"])
    );
    let branched = act(&sidecar, "branch", &json!({"slot": slot, "tokens": 30})).ok();
    assert_eq!((&branched["tokens"], &branched["from"]), (&json!(30), &json!(slot)));
    assert_ne!(branched["slot"], slot);
    assert_eq!(act(&sidecar, "erase", &json!({"slot": slot})).ok()["tokens"], 80);
    assert_eq!(act(&sidecar, "restore", &json!({"name": "a.1"})).ok()["tokens"], 50);
    act(&sidecar, "erase", &json!({"name": "a.1"})).ok();
    assert_eq!(list()["checkpoints"], json!([]));
}

/// Conversations that begin alike hold that beginning once, and `/state` says so.
#[test]
fn a_system_prompt_is_held_once() {
    let folder = tempfile::tempdir().unwrap();
    let sidecar = Sidecar::start(&config("engine/demo/model", folder.path()));
    let prompt = |own: u32| -> Vec<u32> { (300..500).chain([own; 30]).collect() };
    for (own, cached) in [(700, 0), (701, 200), (702, 200)] {
        let answer = complete(&sidecar.data_url, &json!(prompt(own)), 3);
        assert_eq!(answer["usage"]["prompt_tokens_details"]["cached_tokens"], cached);
    }
    let state = get(&format!("{}/state", sidecar.admin_url)).ok()["upstreams"]["local"].clone();
    let (sharing, token) = (&state["kv_sharing"], state["kv_bytes_per_token"].as_u64().unwrap());
    // Whole pages of 16 tokens: 192 of the 200; the rest of each conversation is its own.
    assert_eq!((&sharing["mode"], &sharing["segments"]), (&json!("shared"), &json!(1)));
    assert_eq!((&sharing["bytes"], &sharing["copied_for_want_of_maps"]), (&json!(192 * token), &json!(0)));
    assert!(sharing["maps"].as_u64().unwrap() > 0 && sharing["maps_limit"].as_u64().unwrap() > 1000);
    assert_eq!(state["kv_used_bytes"], (192 + 3 * 40) * token);
    assert!(state["slots"].as_array().unwrap().iter().all(|slot| slot["shared_tokens"] == 192));
}

#[test]
fn what_cannot_be_done_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let sidecar = Sidecar::start(&config("engine/demo/model", folder.path()));
    complete(&sidecar.data_url, &json!([300, 301, 302]), 1);
    std::fs::create_dir(folder.path().join("kv")).unwrap();
    std::fs::write(folder.path().join("kv/bad.kv"), "no checkpoint").unwrap();
    for (action, body, status, code, part) in [
        ("save", json!({"slot": 0}), 400, "invalid_value", "`name` is missing"),
        ("save", json!({"slot": 0, "name": "../x"}), 400, "invalid_value", "cannot be a checkpoint's name"),
        ("save", json!({"slot": 7, "name": "x"}), 404, "unknown_slot", "numbered 0 to 2"),
        ("save", json!({"slot": 1, "name": "x"}), 400, "invalid_value", "holds no conversation"),
        ("save", json!({"slot": 0, "name": "x", "tokens": 99}), 400, "invalid_value", "holds 3"),
        ("save", json!({"slot": 0, "file": "x"}), 400, "invalid_value", "unknown field"),
        ("save", json!({"slot": 0, "name": "x", "upstream": "other"}), 404, "unknown_upstream", "`local`"),
        ("restore", json!({"name": "none"}), 404, "unknown_checkpoint", "`none`"),
        ("restore", json!({"name": "bad"}), 422, "invalid_checkpoint", "not a checkpoint"),
        ("restore", json!({"name": "bad", "slot": 1}), 400, "invalid_value", "no meaning"),
        ("branch", json!({"slot": 1}), 400, "invalid_value", "holds no conversation"),
        ("erase", json!({}), 400, "invalid_value", "one of them"),
        ("sink", json!({}), 400, "invalid_value", "sink"),
    ] {
        let reply = act(&sidecar, action, &body);
        let error = reply.json()["error"].clone();
        assert_eq!((reply.status, &error["code"]), (status, &json!(code)), "{action} {body}: {error}");
        assert!(error["message"].as_str().unwrap().contains(part), "{action} {body}: {error}");
    }
    let listed = get(&format!("{}/slots", sidecar.admin_url)).ok();
    assert!(listed["upstreams"]["local"]["checkpoints"][0]["error"].is_string(), "{listed}");
    // The command says the same, as text and as JSON.
    let restore = ["slots", "restore", "bad", "--admin", &sidecar.admin_url];
    let (good, printed) = run(plimsoll().args(restore));
    assert!(!good && printed.contains("is not a checkpoint"), "{printed}");
    let output = plimsoll().args(restore).arg("--json").output().unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &told["error"]["code"]), (Some(2), &json!("invalid_checkpoint")));
    let (good, table) = run(plimsoll().args(["slots", "list", "--admin", &sidecar.admin_url]));
    assert!(good && table.contains("| local") && table.contains("| bad"), "{table}");
}

#[test]
fn without_a_folder_nothing_is_saved_and_the_token_is_asked_for() {
    let config = one_engine("model: engine/demo/model, name: demo", "policy: 'off', mode: 'off'")
        .replace("admin: 127.0.0.1:0", "admin: 127.0.0.1:0, admin_token: open-sesame");
    let sidecar = Sidecar::start(&config);
    complete(&sidecar.data_url, &json!([300, 301, 302]), 1);
    assert_eq!(act(&sidecar, "erase", &json!({"slot": 0})).status, 401);
    assert_eq!(get(&format!("{}/slots", sidecar.admin_url)).status, 401);
    let token = ["--token", "open-sesame", "--admin", &sidecar.admin_url];
    let (good, printed) = run(plimsoll().args(["slots", "save", "0", "x"]).args(token));
    assert!(!good && printed.contains("upstreams.local.engine.checkpoints"), "{printed}");
    let (good, printed) = run(plimsoll().args(["slots", "erase", "0"]).args(token));
    assert!(good && printed.contains("3 tokens of slot 0 forgotten"), "{printed}");
}
