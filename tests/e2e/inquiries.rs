//! What clients ask of an embedded engine besides answers: models in Ollama's form, tokens in llama.cpp's and vLLM's.

use plimsoll_tests::http::request;
use plimsoll_tests::mock::{Answer, Mock};
use plimsoll_tests::shared::one_engine;
use plimsoll_tests::{Sidecar, get, post};
use serde_json::{Value, json};

fn sidecar() -> Sidecar {
    Sidecar::start(&one_engine(
        "model: engine/demo/model, name: demo, slots: 2, threads: 1, context: 1024",
        "policy: 'off', mode: 'off'",
    ))
}

/// Token ids of a text, by another path of ours that is tested against ground truth.
fn ids(sidecar: &Sidecar, text: &str) -> Value {
    let body = json!({"model": "demo", "prompt": text, "max_tokens": 1, "return_token_ids": true});
    post(&format!("{}/v1/completions", sidecar.data_url), &body).ok()["choices"][0]["prompt_token_ids"]
        .clone()
}

#[test]
fn llama_cpp_and_vllm_tokenize_alike() {
    let sidecar = sidecar();
    let ask = |path: &str, body: Value| post(&format!("{}{path}", sidecar.data_url), &body).ok();
    let text = "The KV cache keeps 12 keys.<|im_end|>\n\u{e9}";
    let expected = ids(&sidecar, text);
    let tokens = ask("/tokenize", json!({"content": text, "add_special": true}));
    assert_eq!(tokens, json!({"tokens": expected}));
    let counted = ask("/tokenize", json!({"model": "demo", "prompt": text, "return_token_strs": true}));
    assert_eq!((&counted["tokens"], &counted["max_model_len"]), (&expected, &json!(1024)));
    assert_eq!(counted["count"], json!(expected.as_array().unwrap().len()));
    let strings: Vec<&str> =
        counted["token_strs"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
    assert!(strings.contains(&"<|im_end|>"), "{strings:?}");
    let pieces = ask("/tokenize", json!({"content": text, "with_pieces": true}));
    let bytes: Vec<u8> = pieces["tokens"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|token| match &token["piece"] {
            Value::String(piece) => piece.as_bytes().to_vec(),
            bytes => serde_json::from_value(bytes.clone()).unwrap(),
        })
        .collect();
    assert_eq!(String::from_utf8(bytes).unwrap(), text);
    let back = ask(
        "/detokenize",
        json!({"tokens": pieces["tokens"].as_array().unwrap().iter().map(|t| t["id"].clone()).collect::<Vec<_>>()}),
    );
    assert_eq!((&back["content"], &back["prompt"]), (&json!(text), &json!(text)));
    let mixed = ask("/tokenize", json!({"content": ["The", 5, " cache"]}));
    assert_eq!(mixed["tokens"].as_array().unwrap().iter().filter(|token| **token == json!(5)).count(), 1);
}

#[test]
fn a_template_is_applied_as_a_chat_runs_it() {
    let sidecar = sidecar();
    let messages = json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]);
    let prompt = post(&format!("{}/apply-template", sidecar.data_url), &json!({"messages": messages})).ok();
    let chat = json!({"model": "demo", "messages": messages, "max_tokens": 1, "return_token_ids": true});
    let ran = post(&format!("{}/v1/chat/completions", sidecar.data_url), &chat).ok();
    let tokens = post(&format!("{}/tokenize", sidecar.data_url), &json!({"content": prompt["prompt"]})).ok();
    assert_eq!(tokens["tokens"], ran["prompt_token_ids"]);
}

#[test]
fn an_engine_tells_its_settings_and_its_slots() {
    let sidecar = sidecar();
    let props = get(&format!("{}/props", sidecar.data_url)).ok();
    assert_eq!(
        (&props["total_slots"], &props["default_generation_settings"]["n_ctx"]),
        (&json!(2), &json!(1024))
    );
    assert!(props["chat_template"].as_str().is_some_and(|template| template.contains("messages")), "{props}");
    assert_eq!(props["eos_token"], "<|im_end|>");
    let count = ids(&sidecar, "The KV cache").as_array().unwrap().len();
    let slots = get(&format!("{}/slots", sidecar.data_url)).ok();
    let slots = slots.as_array().unwrap();
    assert_eq!((slots.len(), &slots[0]["n_ctx"]), (2, &json!(1024)));
    assert!(slots.iter().any(|slot| slot["n_past"].as_u64().unwrap() >= count as u64), "{slots:?}");
}

#[test]
fn ollama_lists_and_shows_the_model() {
    let sidecar = sidecar();
    let at = |path: &str| format!("{}{path}", sidecar.data_url);
    let alive = get(&at("/"));
    assert_eq!((alive.status, alive.text().as_str()), (200, "Ollama is running"));
    for path in ["/", "/api/version", "/api/tags"] {
        let head = request("HEAD", &at(path), Vec::new(), &[]);
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
    }
    assert!(get(&at("/api/version")).ok()["version"].is_string());
    let tags = get(&at("/api/tags")).ok();
    assert_eq!(tags["models"][0]["name"], "demo:latest");
    let shown = post(&at("/api/show"), &json!({"model": "demo:latest"})).ok();
    assert_eq!(shown["model_info"]["llama.context_length"], 1024);
    assert_eq!(shown["capabilities"], json!(["completion", "tools"]));
    assert_eq!(post(&at("/api/show"), &json!({"name": "other"})).status, 404);
    let loaded = get(&at("/api/ps")).ok();
    assert_eq!(
        (&loaded["models"][0]["context_length"], &loaded["models"][0]["size_vram"]),
        (&json!(1024), &json!(0))
    );
    assert_eq!(loaded["models"][0]["digest"], tags["models"][0]["digest"]);
}

#[test]
fn what_cannot_be_told_is_refused_by_name() {
    let sidecar = sidecar();
    for (path, body, status, said) in [
        ("/v1/embeddings", json!({"model": "demo", "input": "a"}), 501, "embeddings"),
        ("/tokenize", json!({}), 400, "content"),
        ("/tokenize", json!({"content": "a", "parse_special": false}), 400, "parse_special"),
        ("/tokenize", json!({"content": "a", "model": "other"}), 404, "other"),
        ("/detokenize", json!({"tokens": [1, 99_999_999]}), 400, "tokens[1]"),
        ("/detokenize", json!({"tokens": "a"}), 400, "tokens"),
        ("/apply-template", json!({"messages": "a"}), 400, "messages"),
    ] {
        let reply = post(&format!("{}{path}", sidecar.data_url), &body);
        assert_eq!(reply.status, status, "{path} {body}");
        let error = &reply.json()["error"];
        assert!(error["message"].as_str().unwrap().contains(said), "{error}");
    }
}

/// Before a server all of it is the server's to answer, byte for byte.
#[test]
fn a_server_is_asked_itself() {
    let mock = Mock::start((0..4).map(|_| Answer::json(r#"{"its": "own" }"#)).collect());
    let sidecar = Sidecar::start(&format!(
        "
listen: {{ data: 127.0.0.1:0, admin: 127.0.0.1:0 }}
log: {{ level: error }}
upstreams: {{ other: {{ url: '{}', context: 8000 }} }}
routes: [ {{ name: default, upstream: other, policy: agent }} ]
",
        mock.url
    ));
    let at = |path: &str| format!("{}{path}", sidecar.data_url);
    let odd = r#"{ "content":"\u0061" , "model" : "x"}"#;
    assert_eq!(request("POST", &at("/tokenize"), odd.into(), &[]).text(), r#"{"its": "own" }"#);
    for path in ["/", "/slots", "/api/ps"] {
        assert_eq!(get(&at(path)).text(), r#"{"its": "own" }"#, "{path}");
    }
    let seen: Vec<_> = mock.seen().into_iter().map(|seen| (seen.line, seen.body)).collect();
    let lines: Vec<&str> = seen.iter().map(|(line, _)| line.as_str()).collect();
    assert_eq!(lines, ["POST /tokenize", "GET /", "GET /slots", "GET /api/ps"]);
    assert_eq!(seen[0].1, odd.as_bytes());
}
