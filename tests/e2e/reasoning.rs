//! Thoughts apart from the answer, where the model's template knows them.

use plimsoll_tests::shared::one_engine;
use plimsoll_tests::{Sidecar, post};
use serde_json::{Value, json};

use crate::tooling::root;

/// The demo model with a template that opens thoughts before each answer, unless they are switched off.
fn thinking_sidecar() -> (tempfile::TempDir, Sidecar) {
    let folder = tempfile::tempdir().unwrap();
    let demo = root().join("engine/demo/model");
    for file in std::fs::read_dir(&demo).unwrap() {
        let file = file.unwrap();
        if file.file_name() != "chat_template.jinja" {
            std::os::unix::fs::symlink(file.path(), folder.path().join(file.file_name())).unwrap();
        }
    }
    let template = std::fs::read_to_string(demo.join("chat_template.jinja")).unwrap();
    let opening =
        "{%- if add_generation_prompt and enable_thinking is not false -%}{{- '<think>\\n' -}}{%- endif -%}";
    std::fs::write(folder.path().join("chat_template.jinja"), template + opening).unwrap();
    let engine =
        format!("model: {}, name: demo, slots: 4, threads: 1, context: 1024", folder.path().display());
    let sidecar = Sidecar::start(&one_engine(&engine, "policy: 'off', mode: 'off'"));
    (folder, sidecar)
}

fn body(more: &Value) -> Value {
    let mut body = json!({
        "model": "demo", "temperature": 0, "max_tokens": 40,
        "messages": [{"role": "user", "content": "What is the KV cache?"}],
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[test]
fn thoughts_are_told_apart_whole_and_streamed() {
    let (_folder, sidecar) = thinking_sidecar();
    let url = format!("{}/v1/chat/completions", sidecar.data_url);
    let answer = post(&url, &body(&json!({"logprobs": true}))).ok();
    let (choice, usage) = (&answer["choices"][0], &answer["usage"]);
    let thoughts = choice["message"]["reasoning_content"].as_str().unwrap();
    // The demo model was never taught to end its thoughts.
    assert!(!thoughts.is_empty() && choice["message"]["content"] == "", "{answer}");
    assert_eq!(usage["completion_tokens_details"]["reasoning_tokens"], usage["completion_tokens"]);
    let tokens = choice["logprobs"]["content"].as_array().unwrap();
    assert_eq!(usage["completion_tokens"], tokens.len());

    let more = json!({"stream": true, "stream_options": {"include_usage": true}});
    let events = post(&url, &body(&more)).events();
    let deltas = events.iter().map(|event| &event["choices"][0]["delta"]);
    let streamed: String = deltas.clone().filter_map(|delta| delta["reasoning_content"].as_str()).collect();
    let said: String = deltas.filter_map(|delta| delta["content"].as_str()).collect();
    assert_eq!((streamed.as_str(), said.as_str()), (thoughts, ""));
    assert_eq!(
        events.last().unwrap()["usage"]["completion_tokens_details"],
        usage["completion_tokens_details"]
    );
}

#[test]
fn a_stop_string_ends_thoughts_too() {
    let (_folder, sidecar) = thinking_sidecar();
    let url = format!("{}/v1/chat/completions", sidecar.data_url);
    let whole = post(&url, &body(&json!({}))).ok();
    let thoughts = whole["choices"][0]["message"]["reasoning_content"].as_str().unwrap();
    let (before, _) = thoughts.split_once(' ').unwrap();
    let stopped = post(&url, &body(&json!({"stop": " "}))).ok()["choices"][0].clone();
    assert_eq!(
        (&stopped["message"]["reasoning_content"], &stopped["finish_reason"]),
        (&json!(before), &json!("stop"))
    );
}

#[test]
fn an_answer_without_thoughts_is_as_ever() {
    let (_folder, sidecar) = thinking_sidecar();
    let url = format!("{}/v1/chat/completions", sidecar.data_url);
    let answer = post(&url, &body(&json!({"chat_template_kwargs": {"enable_thinking": false}}))).ok();
    let message = &answer["choices"][0]["message"];
    assert!(message["content"].as_str().unwrap().contains("KV cache"), "{answer}");
    assert_eq!(message.get("reasoning_content"), None);
    assert_eq!(answer["usage"]["completion_tokens_details"]["reasoning_tokens"], 0);
    let body = json!({"model": "demo", "prompt": "<think>\n", "max_tokens": 5});
    let text = post(&format!("{}/v1/completions", sidecar.data_url), &body).ok();
    assert!(
        text["choices"][0]["text"].is_string() && text["usage"].get("completion_tokens_details").is_none()
    );
}
