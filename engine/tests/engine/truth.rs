//! Greedy tokens equal those of transformers, alone and beside other conversations.

use std::time::Duration;

use plimsoll_engine::{Engine, EngineConfig, KeepAlive};

use crate::support::{Answer, Case, block_on, cases, check, config, greedy, load, run, shared};

fn length(case: &Case) -> u32 {
    u32::try_from(case.greedy.len()).unwrap()
}

async fn one(engine: &Engine, case: &Case, fp16: bool) -> Answer {
    let answer = run(engine, greedy(&case.prompt, length(case))).await.unwrap();
    check(case, &answer.tokens, fp16);
    answer
}

fn alone(folder: &str, model: &str, fp16: bool) {
    let (Some(engine), Some(cases)) = (load(folder), cases(model, "cases")) else { return };
    block_on(async {
        for case in &cases {
            let answer = one(&engine, case, fp16).await;
            assert_eq!(answer.usage.prompt as usize, case.prompt.len());
        }
    });
}

/// All cases, each while three others run.
fn together(folder: &str, model: &str, fp16: bool) {
    let (Some(engine), Some(cases)) = (load(folder), cases(model, "cases")) else { return };
    block_on(async {
        for turn in 0..cases.len() {
            let case = |i: usize| &cases[(turn + i) % cases.len()];
            tokio::join!(
                one(&engine, case(0), fp16),
                one(&engine, case(1), fp16),
                one(&engine, case(2), fp16),
                one(&engine, case(3), fp16),
            );
        }
    });
}

/// A second turn after the generated text reuses it, and a prompt whose middle is cut out reuses what stands before.
fn reuse(folder: &str, model: &str, fp16: bool) {
    let (Some(engine), Some(cases), Some(extra)) =
        (load(folder), cases(model, "cases"), cases(model, "extra"))
    else {
        return;
    };
    block_on(async {
        for case in &extra {
            let base = cases.iter().find(|base| base.id == case.json["base"].as_str().unwrap()).unwrap();
            one(&engine, base, fp16).await;
            let answer = one(&engine, case, fp16).await;
            match case.json["drop"].as_array() {
                // Prompt and answer, but for the last token, which was never put into the cache.
                None if !fp16 => {
                    assert_eq!(answer.cached as usize, base.prompt.len() + base.greedy.len() - 1);
                }
                None => assert!(answer.cached as usize >= base.prompt.len()),
                Some(drop) => assert!(u64::from(answer.cached) >= drop[0].as_u64().unwrap()),
            }
            // Once more: all but the last token of the prompt is there.
            let again = one(&engine, case, fp16).await;
            assert_eq!(again.cached as usize, case.prompt.len() - 1);
        }
    });
}

/// The model goes after each answer, and comes back for the next.
#[test]
fn unloaded_in_between() {
    let Some(models) = shared("models") else { return };
    for (folder, truth) in [("qwen2/optimum", "qwen2"), ("llama/genai", "llama")] {
        let keep_alive = KeepAlive::For(Duration::ZERO);
        let engine = Engine::load(EngineConfig { keep_alive, ..config(models.join(folder)) }).unwrap();
        for case in &cases(truth, "cases").unwrap()[..3] {
            while engine.loaded() {
                std::thread::yield_now();
            }
            assert_eq!((engine.memory().total(), engine.resident_prefix(&case.prompt)), (0, 0));
            assert_eq!(block_on(one(&engine, case, false)).cached, 0);
        }
    }
}

macro_rules! truth {
    ($name:ident, $folder:literal, $model:literal, $fp16:literal) => {
        mod $name {
            #[test]
            fn alone() {
                super::alone($folder, $model, $fp16);
            }

            #[test]
            fn together() {
                super::together($folder, $model, $fp16);
            }

            #[test]
            fn reuse() {
                super::reuse($folder, $model, $fp16);
            }
        }
    };
}

truth!(qwen2_genai, "qwen2/genai", "qwen2", false);
truth!(qwen2_community, "qwen2/community-gqa", "qwen2", false);
truth!(llama_genai, "llama/genai", "llama", false);
truth!(qwen2_optimum, "qwen2/optimum", "qwen2", false);
truth!(llama_optimum, "llama/optimum", "llama", false);
truth!(qwen2_fp16, "qwen2/genai-fp16-cuda", "qwen2", true);
