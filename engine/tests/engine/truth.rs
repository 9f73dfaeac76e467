//! Greedy tokens equal those of transformers, alone and beside other conversations.

use std::time::Duration;

use plimsoll_engine::{CheckpointError, Engine, EngineConfig, KeepAlive};

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
    for (folder, truth) in [("qwen2/optimum", "qwen2"), ("lfm2/genai", "lfm2")] {
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

/// States hold for all tokens of a conversation: it goes on, and is computed anew where it does not.
mod lfm2 {
    use super::*;

    #[test]
    fn alone() {
        super::alone("lfm2/genai", "lfm2", false);
    }

    #[test]
    fn together() {
        super::together("lfm2/genai", "lfm2", false);
    }

    #[test]
    fn reuse() {
        let (Some(engine), Some(cases), Some(extra)) =
            (load("lfm2/genai"), cases("lfm2", "cases"), cases("lfm2", "extra"))
        else {
            return;
        };
        block_on(async {
            for case in &extra {
                let base = cases.iter().find(|base| base.id == case.json["base"].as_str().unwrap()).unwrap();
                one(&engine, base, false).await;
                let held = base.prompt.len() + base.greedy.len() - 1;
                let goes_on = case.json["drop"].is_null();
                let expected = if goes_on { held } else { 0 };
                assert_eq!(engine.resident_prefix(&case.prompt) as usize, expected);
                assert_eq!(one(&engine, case, false).await.cached as usize, expected);
                // Once more: the slot holds more than the prompt now, of which nothing can be taken back.
                assert_eq!(one(&engine, case, false).await.cached, 0);
            }
        });
    }

    #[test]
    fn branches_are_whole_and_checkpoints_refused() {
        let (Some(engine), Some(cases), Some(extra)) =
            (load("lfm2/genai"), cases("lfm2", "cases"), cases("lfm2", "extra"))
        else {
            return;
        };
        let goes_on = extra.iter().find(|case| case.json["drop"].is_null()).unwrap();
        let base = cases.iter().find(|base| base.id == goes_on.json["base"].as_str().unwrap()).unwrap();
        block_on(one(&engine, base, false));
        let slot = engine.slots().iter().find(|slot| slot.tokens > 0).unwrap().id;
        let held = engine.slot_tokens(slot).unwrap();
        let count = u32::try_from(held.len()).unwrap();
        let short = CheckpointError::Whole { slot, asked: count - 1, held: count };
        assert_eq!(engine.branch(slot, Some(count - 1)), Err(short));
        // Both go on from the whole: the branch where the first is busy or has gone on.
        assert_eq!(engine.branch(slot, None).unwrap().tokens, count);
        for _ in 0..2 {
            assert_eq!(block_on(one(&engine, goes_on, false)).cached, count);
        }
        let path = tempfile::tempdir().unwrap();
        let path = path.path().join("conversation");
        assert_eq!(engine.save(&held, &path), Err(CheckpointError::States));
        assert!(!path.exists());
        assert_eq!(engine.restore(&path), Err(CheckpointError::States));
    }
}
truth!(qwen2_fp16, "qwen2/genai-fp16-cuda", "qwen2", true);
