//! Greedy answers through the HTTP API equal transformers' own, token for token, alone and in company.

use std::path::Path;

use plimsoll_tests::shared::{json, one_engine, root, shared};
use plimsoll_tests::{Sidecar, post};
use serde_json::{Value, json};

#[test]
fn qwen2_genai() {
    equals_truth("qwen2/genai", "qwen2");
}

#[test]
fn qwen2_community() {
    equals_truth("qwen2/community-gqa", "qwen2");
}

#[test]
fn llama_genai() {
    equals_truth("llama/genai", "llama");
}

#[test]
fn qwen2_fp16() {
    equals_truth("qwen2/genai-fp16-cuda", "qwen2");
}

#[test]
fn qwen2_optimum() {
    equals_truth("qwen2/optimum", "qwen2");
}

#[test]
fn llama_optimum() {
    equals_truth("llama/optimum", "llama");
}

#[test]
fn lfm2_genai() {
    equals_truth("lfm2/genai", "lfm2");
}

#[test]
fn kinds_of_our_own() {
    for name in [
        "qwen2-window",
        "qwen3.5",
        "phi3-longrope",
        "lfm2-plain",
        "llama-merged",
        "llama-int8-kv",
        "llama-q4",
    ] {
        let source = root().join("engine/tests/models").join(name);
        let folder = tempfile::tempdir().unwrap();
        copy(&source, folder.path());
        for file in ["tokenizer.json", "tokenizer_config.json"] {
            std::fs::copy(root().join("engine/demo/model").join(file), folder.path().join(file)).unwrap();
        }
        answers(folder.path(), &source.join("truth.json"), "auto");
    }
}

/// Copies a folder with what is in it.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn equals_truth(folder: &str, truth: &str) {
    let (Some(model), Some(truth)) =
        (shared(&format!("models/{folder}")), shared(&format!("models/truth/{truth}.json")))
    else {
        return;
    };
    answers(&model, &truth, "2048");
}

fn answers(model: &Path, truth: &Path, context: &str) {
    let engine = format!("model: {}, name: m, slots: 4, context: {context}", model.display());
    let sidecar = Sidecar::start(&one_engine(&engine, "policy: 'off', mode: 'off'"));
    let truth = json(truth);
    let cases = truth["cases"].as_array().expect("the truth has cases");
    let half = model.ends_with("genai-fp16-cuda");
    for case in cases {
        check(&sidecar, case, half);
    }
    // A second turn after the answer, and a prompt whose middle is gone: each goes on from what is held, or does not.
    let extra = truth["extra"].as_array().expect("the truth has more cases");
    for case in extra {
        let base = cases.iter().find(|base| base["id"] == case["base"]).expect("it names another case");
        check(&sidecar, base, half);
        check(&sidecar, case, half);
    }
    // The same again, four conversations at a time, each under other neighbours than before.
    for shift in 0..cases.len() {
        std::thread::scope(|scope| {
            for case in cases.iter().cycle().skip(shift).take(4) {
                scope.spawn(|| check(&sidecar, case, half));
            }
        });
    }
}

fn check(sidecar: &Sidecar, case: &Value, half: bool) {
    let greedy = &case["greedy"];
    let answer = post(
        &format!("{}/v1/completions", sidecar.data_url),
        &json!({
            "model": "m",
            "prompt": case["ids"],
            "max_tokens": greedy.as_array().expect("tokens").len(),
            "temperature": 0,
            "ignore_eos": true,
            "return_token_ids": true,
        }),
    )
    .ok();
    let tokens = &answer["choices"][0]["token_ids"];
    let wrong = (0..).zip(tokens.as_array().expect("ids")).find(|(step, token)| **token != greedy[*step]);
    // In half precision a choice between near equals may fall the other way; what follows is another text.
    let excused = wrong.is_none_or(|(step, _)| half && case["margins"][step].as_f64() < Some(0.1));
    assert!(excused, "case {} differs from step {wrong:?} on", case["id"]);
    assert_eq!(tokens.as_array().map(Vec::len), greedy.as_array().map(Vec::len));
    assert_eq!(answer["usage"]["prompt_tokens"], case["n_prompt"]);
}
