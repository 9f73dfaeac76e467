//! A KV cache of 16 bits under a model of 32: half the memory, and the same tokens wherever the choice is clear.

use plimsoll_engine::{CheckpointError, Engine, EngineConfig, KvDtype};

use crate::support::{Case, block_on, cases, cases_of, check, config, greedy, own, own_with, run, shared};

/// Answers as the truth has them, alone and side by side, but for choices between near equals.
fn answers(engine: &Engine, cases: &[Case]) {
    let one = async |case: &Case| {
        let answer =
            run(engine, greedy(&case.prompt, u32::try_from(case.greedy.len()).unwrap())).await.unwrap();
        check(case, &answer.tokens, true);
        let tokens = (case.prompt.len() + case.greedy.len() - 1) as u64;
        assert_eq!(answer.usage.kv_bytes, tokens * engine.model().kv_bytes_per_token);
        answer.tokens
    };
    block_on(async {
        let mut alone = Vec::new();
        for case in cases {
            alone.push(one(case).await);
        }
        let (first, second, third) = tokio::join!(one(&cases[0]), one(&cases[1]), one(&cases[2]));
        assert_eq!([first, second, third], alone[..3]);
    });
    assert_eq!(engine.shifts(), Ok(()));
}

fn halves(half: &Engine, whole: &Engine, cases: &[Case]) {
    assert_eq!(half.model().kv_type.to_string(), "fp16");
    assert_eq!(2 * half.model().kv_bytes_per_token, whole.model().kv_bytes_per_token);
    answers(half, cases);
    // Conversations of one are nothing to the other.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("conversation");
    let slot = half.slots().iter().find(|slot| slot.tokens > 0).unwrap().id;
    half.save(&half.slot_tokens(slot).unwrap(), &path).unwrap();
    assert!(matches!(whole.restore(&path), Err(CheckpointError::Foreign { .. })));
    half.restore(&path).unwrap();
}

#[test]
fn a_graph_of_32_bits_keeps_16() {
    let (half, whole) = (own_with("llama-q4", KvDtype::F16).unwrap(), own("llama-q4"));
    halves(&half.engine, &whole.engine, &cases_of(&half.truth, "cases"));
}

/// Weights beside the graph and in it, rotary scaling, a vocabulary of its own.
#[test]
fn so_do_those_of_others() {
    for (folder, truth) in
        [("qwen2/genai", "qwen2"), ("qwen2/community-gqa", "qwen2"), ("llama/genai", "llama")]
    {
        let Some(path) = shared("models").map(|models| models.join(folder)) else { return };
        let load = |kv_dtype| Engine::load(EngineConfig { kv_dtype, ..config(path.clone()) }).unwrap();
        halves(&load(KvDtype::F16), &load(KvDtype::F32), &cases(truth, "cases").unwrap());
    }
}

/// Unloaded and loaded again it is what it was.
#[test]
fn it_is_changed_anew_at_each_load() {
    let own = own_with("llama-q4", KvDtype::F16).unwrap();
    let prompt: Vec<u32> = (20..60).collect();
    let ask = || block_on(run(&own.engine, greedy(&prompt, 20))).unwrap().tokens;
    let before = ask();
    own.engine.keep_loaded(Some(plimsoll_engine::KeepAlive::For(std::time::Duration::ZERO))).unwrap();
    assert_eq!(ask(), before);
}

#[test]
fn what_cannot_be_changed_is_refused_with_the_reason() {
    let refused = |name: &str, dtype| own_with(name, dtype).unwrap_err().to_string();
    for (told, expected) in [
        (refused("llama-merged", KvDtype::F16), "grows by concatenation"),
        (refused("qwen2-window", KvDtype::F16), "states and windows keep their type"),
        (refused("llama-int8-kv", KvDtype::F16), "its KV cache is int8, and `kv_dtype` asks for fp16"),
        (refused("llama-int8-kv", KvDtype::F32), "its KV cache is int8, and `kv_dtype` asks for fp32"),
    ] {
        assert!(told.contains(expected) && told.contains("set `kv_dtype` to `auto`"), "{told}");
    }
}
