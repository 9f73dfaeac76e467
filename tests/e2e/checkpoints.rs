//! A governed conversation is saved, and goes on from there: in the same process, in another, for the same caller alone.

use std::path::{Path, PathBuf};

use plimsoll_tests::http::{get_with, request};
use plimsoll_tests::mock::Mock;
use plimsoll_tests::shared::one_engine;
use plimsoll_tests::{Reply, Sidecar, post_with};
use serde_json::{Value, json};

use crate::artifacts::{body, config, long};

const KEY: (&str, &str) = ("authorization", "Bearer key-one");
const OTHER: (&str, &str) = ("authorization", "Bearer key-two");

fn over_http(mock: &Mock, folder: &Path, route: &str) -> Sidecar {
    let more = format!("checkpoints: {{ dir: {}, per_caller: 3 }}", folder.display());
    Sidecar::start(&config(mock, route, &more))
}

fn save(sidecar: &Sidecar, body: &Value, headers: &[(&str, &str)]) -> Reply {
    post_with(&format!("{}/v1/context/checkpoints", sidecar.data_url), body.to_string().into_bytes(), headers)
}

fn chat(sidecar: &Sidecar, body: &Value, headers: &[(&str, &str)]) -> Reply {
    post_with(&format!("{}/v1/chat/completions", sidecar.data_url), body.to_string().into_bytes(), headers)
}

fn fetch(sidecar: &Sidecar, path: &str, headers: &[(&str, &str)]) -> Reply {
    get_with(&format!("{}/v1/context/checkpoints{path}", sidecar.data_url), headers)
}

fn delete(sidecar: &Sidecar, id: &str, headers: &[(&str, &str)]) -> Reply {
    plimsoll_tests::http::delete_with(&format!("{}/v1/context/checkpoints/{id}", sidecar.data_url), headers)
}

fn id(saved: &Value) -> String {
    saved["id"].as_str().unwrap().to_owned()
}

fn more() -> Value {
    json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "and now?"}]})
}

#[test]
fn what_was_governed_goes_on_in_another_process() {
    let (mock, folder) = (Mock::start(Vec::new()), tempfile::tempdir().unwrap());
    let first = over_http(&mock, folder.path(), "policy: agent");
    let reply = save(&first, &body(&long()), &[KEY]);
    assert_eq!(reply.header("x-plimsoll-actions"), "cap_tool_output=1");
    let saved = reply.ok();
    assert_eq!(
        (&saved["object"], &saved["messages"], &saved["model"]),
        (&json!("context.checkpoint"), &json!(3), &json!("gpt-4o"))
    );
    assert_eq!(saved["tokens"].to_string(), reply.header("x-plimsoll-tokens-after"));
    assert_eq!(saved["kv"], json!({"saved": false, "reason": "the upstream keeps its own"}));
    // Saving asks no upstream.
    assert_eq!(mock.seen().len(), 0);
    chat(&first, &body(&long()), &[KEY]);
    drop(first);
    let second = over_http(&mock, folder.path(), "policy: agent");
    let resumed = chat(&second, &more(), &[KEY, ("x-plimsoll-resume", &id(&saved))]);
    // What an HTTP upstream does with its keys and values is not known.
    assert_eq!((resumed.status, resumed.header("x-plimsoll-resumed")), (200, String::new()));
    let sent: Vec<Value> =
        mock.seen().iter().map(|seen| serde_json::from_slice(&seen.body).unwrap()).collect();
    let (governed, resumed) =
        (sent[0]["messages"].as_array().unwrap(), sent[1]["messages"].as_array().unwrap());
    assert_eq!(governed[..], resumed[..3]);
    assert_eq!((resumed.len(), &resumed[3]), (4, &more()["messages"][0]));
    assert_eq!(sent[0]["tools"], sent[1]["tools"]);
    assert!(mock.seen()[1].headers.get("x-plimsoll-resume").is_none());
}

#[test]
fn a_route_without_policy_resumes_too() {
    let (mock, folder) = (Mock::start(Vec::new()), tempfile::tempdir().unwrap());
    let sidecar = over_http(&mock, folder.path(), "policy: agent, mode: 'off'");
    let saved = save(&sidecar, &body("short"), &[]).ok();
    chat(&sidecar, &more(), &[("x-plimsoll-resume", &id(&saved))]);
    let sent: Value = serde_json::from_slice(&mock.only().body).unwrap();
    assert_eq!(sent["messages"].as_array().unwrap().len(), 4);
}

#[test]
fn a_system_message_is_sent_once() {
    let (mock, folder) = (Mock::start(Vec::new()), tempfile::tempdir().unwrap());
    let sidecar = over_http(&mock, folder.path(), "policy: agent");
    let system = json!({"role": "system", "content": "Be brief."});
    let mut first = body("short");
    first["messages"].as_array_mut().unwrap().insert(0, system.clone());
    let saved = save(&sidecar, &first, &[]).ok();
    let mut second = more();
    second["messages"].as_array_mut().unwrap().insert(0, system);
    chat(&sidecar, &second, &[("x-plimsoll-resume", &id(&saved))]).ok();
    let sent: Value = serde_json::from_slice(&mock.only().body).unwrap();
    first["messages"].as_array_mut().unwrap().push(more()["messages"][0].clone());
    assert_eq!(sent["messages"], first["messages"]);
}

#[test]
fn its_paths_are_never_the_upstreams() {
    let (mock, folder) = (Mock::start(Vec::new()), tempfile::tempdir().unwrap());
    let sidecar = over_http(&mock, folder.path(), "policy: agent, on_unparsable: pass");
    let checkpoints = "/v1/context/checkpoints";
    for text in ["{}", "[]", "", "{\"model\":\"m\"}"] {
        let reply = request("POST", &format!("{}{checkpoints}", sidecar.data_url), text.into(), &[KEY]);
        assert_eq!(reply.status, 400, "{text}: {}", reply.text());
    }
    let cases = [
        ("PUT", checkpoints, "GET, POST"),
        ("DELETE", "/v1/context/checkpoints/", "GET, POST"),
        ("POST", "/v1//context/checkpoints/x", "GET, DELETE"),
        ("DELETE", "/v1/context/artifacts/ctx_0000000000000000", "GET"),
        ("POST", "/v1/context/artifacts/ctx_0000000000000000", "GET"),
    ];
    for (method, path, allow) in cases {
        let reply = request(method, &format!("{}{path}", sidecar.data_url), b"{}".into(), &[KEY]);
        assert_eq!((reply.status, &*reply.header("allow")), (405, allow), "{method} {path}");
        assert_eq!(reply.json()["error"]["code"], "method_not_allowed");
    }
    for path in ["//v1/context/checkpoints", "/v1/context/checkpoints/"] {
        assert_eq!(
            request("GET", &format!("{}{path}", sidecar.data_url), Vec::new(), &[]).ok()["data"],
            json!([])
        );
    }
    assert_eq!(mock.seen().len(), 0);
    // A path that begins with the same letters is not one of them.
    request("PUT", &format!("{}{checkpoints}-else", sidecar.data_url), Vec::new(), &[]).ok();
    assert_eq!(mock.seen().len(), 1);
}

#[test]
fn what_is_no_conversation_resumes_nothing() {
    let (mock, folder) = (Mock::start(Vec::new()), tempfile::tempdir().unwrap());
    for route in ["policy: agent, on_unparsable: pass", "policy: agent, mode: 'off'"] {
        let sidecar = over_http(&mock, folder.path(), route);
        let id = id(&save(&sidecar, &body("short"), &[KEY]).ok());
        let headers = [KEY, ("x-plimsoll-resume", &*id)];
        for (path, text) in [
            ("completions", r#"{"model":"m","prompt":"p"}"#),
            ("embeddings", r#"{"model":"m","input":"i"}"#),
            ("chat/completions", "{}"),
            ("chat/completions", "no json"),
        ] {
            let reply = request("POST", &format!("{}/v1/{path}", sidecar.data_url), text.into(), &headers);
            assert_eq!(
                (reply.status, &reply.json()["error"]["param"]),
                (400, &json!("x-plimsoll-resume")),
                "{path} {text}"
            );
            assert!(
                reply.text().contains("`x-plimsoll-resume` puts a saved conversation"),
                "{}",
                reply.text()
            );
        }
    }
    assert_eq!(mock.seen().len(), 0);
}

#[test]
fn only_its_caller_sees_lists_and_deletes_it() {
    let (mock, folder) = (Mock::start(Vec::new()), tempfile::tempdir().unwrap());
    let sidecar = over_http(&mock, folder.path(), "policy: agent");
    let saved = save(&sidecar, &body("short"), &[KEY]).ok();
    let id = id(&saved);
    for (headers, count) in [(&[KEY][..], 1), (&[OTHER], 0), (&[], 0)] {
        assert_eq!(fetch(&sidecar, "", headers).ok()["data"].as_array().unwrap().len(), count);
    }
    let one = fetch(&sidecar, &format!("/{id}"), &[KEY]).ok();
    assert_eq!(one["conversation"]["messages"], body("short")["messages"]);
    assert_eq!(fetch(&sidecar, &format!("/{id}"), &[OTHER]).json()["error"]["code"], "checkpoint_not_found");
    assert_eq!(chat(&sidecar, &more(), &[OTHER, ("x-plimsoll-resume", &id)]).status, 404);
    assert_eq!(delete(&sidecar, &id, &[OTHER]).status, 404);
    assert_eq!(delete(&sidecar, &id, &[KEY]).ok()["deleted"], true);
    assert_eq!(delete(&sidecar, &id, &[KEY]).status, 404);
    assert_eq!(chat(&sidecar, &more(), &[KEY, ("x-plimsoll-resume", "../../x")]).status, 404);
    assert_eq!(mock.seen().len(), 0);
}

#[test]
fn a_caller_has_so_many() {
    let (mock, folder) = (Mock::start(Vec::new()), tempfile::tempdir().unwrap());
    let sidecar = over_http(&mock, folder.path(), "policy: agent");
    for _ in 0..3 {
        assert_eq!(save(&sidecar, &body("short"), &[KEY]).status, 200);
    }
    let full = save(&sidecar, &body("short"), &[KEY]);
    assert_eq!((full.status, &full.json()["error"]["code"]), (409, &json!("too_many_checkpoints")));
    assert_eq!(save(&sidecar, &body("short"), &[OTHER]).status, 200);
}

/// The files of a folder of checkpoints that end so.
fn files(folder: &Path, end: &str) -> Vec<PathBuf> {
    let callers = std::fs::read_dir(folder).unwrap().map(|caller| caller.unwrap().path());
    let files =
        callers.flat_map(|caller| std::fs::read_dir(caller).unwrap().map(|file| file.unwrap().path()));
    files.filter(|file| file.to_string_lossy().ends_with(end)).collect()
}

#[test]
fn torn_foreign_and_old_files_are_refused_by_name() {
    let (mock, folder) = (Mock::start(Vec::new()), tempfile::tempdir().unwrap());
    let sidecar = over_http(&mock, folder.path(), "policy: agent");
    let id = id(&save(&sidecar, &body("short"), &[KEY]).ok());
    let file = files(folder.path(), ".json").pop().unwrap();
    let whole = std::fs::read(&file).unwrap();
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let text = String::from_utf8(whole.clone()).unwrap();
    let cases: [(Vec<u8>, &str); 5] = [
        (whole[..whole.len() - 3].to_vec(), "its length is another"),
        (flipped, "its checksum is another"),
        (whole[..20].to_vec(), "is not a checkpoint"),
        (b"{\"messages\":[]}\n".to_vec(), "is not a checkpoint"),
        (text.replacen("plimsoll-checkpoint 1", "plimsoll-checkpoint 7", 1).into_bytes(), "has version 7"),
    ];
    for (bytes, why) in cases {
        std::fs::write(&file, bytes).unwrap();
        let reply = chat(&sidecar, &more(), &[KEY, ("x-plimsoll-resume", &id)]);
        assert_eq!(
            (reply.status, &reply.json()["error"]["code"]),
            (409, &json!("checkpoint_unusable")),
            "{why}"
        );
        assert!(reply.text().contains(why) && reply.text().contains(&id), "{}", reply.text());
    }
    assert_eq!(mock.seen().len(), 0);
    std::fs::write(&file, whole).unwrap();
    assert_eq!(chat(&sidecar, &more(), &[KEY, ("x-plimsoll-resume", &id)]).status, 200);
    // Nothing is left beside what was saved.
    assert_eq!(files(folder.path(), "").len(), 1);
}

#[test]
fn without_a_folder_there_are_none() {
    let mock = Mock::start(Vec::new());
    let sidecar = Sidecar::start(&config(&mock, "policy: agent", ""));
    assert_eq!(save(&sidecar, &body("short"), &[]).text(), "{}");
    let reply = chat(&sidecar, &more(), &[("x-plimsoll-resume", "ckpt_0")]);
    assert_eq!((reply.status, &reply.json()["error"]["code"]), (400, &json!("checkpoints_off")));
}

fn engine(folder: &Path) -> Sidecar {
    let engine = "model: engine/demo/model, name: demo, slots: 4, context: 1024";
    let dir = format!("checkpoints: {{ dir: {} }}\n", folder.display());
    Sidecar::start(&(one_engine(engine, "policy: chat, any_model: true") + &dir))
}

#[test]
fn the_engine_goes_on_from_saved_keys_and_values() {
    let folder = tempfile::tempdir().unwrap();
    let told = [
        json!({"role": "user", "content": "My name is Mara and the gate code is 4711. Please note it."}),
        json!({"role": "assistant", "content": "Thanks, I have noted that."}),
    ];
    let question = json!({"role": "user", "content": "What is the gate code?"});
    let request = |messages: &[Value]| json!({"model": "demo", "messages": messages, "max_tokens": 30, "temperature": 0});
    let first = engine(folder.path());
    let saved = save(&first, &request(&told), &[KEY]).ok();
    assert_eq!(saved["kv"]["saved"], true, "{saved}");
    assert_eq!(files(folder.path(), ".kv").len(), 1);
    let whole = chat(&first, &request(&[told[0].clone(), told[1].clone(), question.clone()]), &[KEY]).ok();
    first.drain();
    // A fresh process has nothing in its slots but what the file brings.
    let second = engine(folder.path());
    let resume = ("x-plimsoll-resume", &*id(&saved));
    let reply = chat(&second, &request(std::slice::from_ref(&question)), &[KEY, resume]);
    assert_eq!(reply.header("x-plimsoll-resumed"), "restored");
    let resumed = reply.ok();
    assert_eq!(resumed["choices"][0]["message"], whole["choices"][0]["message"]);
    assert_eq!(resumed["usage"]["prompt_tokens"], whole["usage"]["prompt_tokens"]);
    let cached = resumed["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap();
    assert!(cached > 20, "{resumed}");
    // Damaged keys and values cost computing them, nothing else.
    let file = files(folder.path(), ".kv").pop().unwrap();
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    let third = engine(folder.path());
    let reply = chat(&third, &request(&[question]), &[KEY, resume]);
    assert_eq!(reply.header("x-plimsoll-resumed"), "computed");
    assert_eq!(reply.ok()["choices"][0]["message"], whole["choices"][0]["message"]);
}
