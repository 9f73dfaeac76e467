//! Every kind of graph through the engine: alone, beside others, going on, after a cut. The models are tiny, and real
//! exports; `models/README.md` says of what.

use plimsoll_engine::{CheckpointError, Engine};

use crate::support::{Answer, Case, Own, block_on, cases_of, check, greedy, own, run};

fn length(case: &Case) -> u32 {
    u32::try_from(case.greedy.len()).unwrap()
}

async fn one(engine: &Engine, case: &Case) -> Answer {
    let answer = run(engine, greedy(&case.prompt, length(case))).await.unwrap();
    check(case, &answer.tokens, false);
    answer
}

/// `rewinds`: what is held can be taken back in part.
fn kind(name: &str, rewinds: bool) {
    let Own { engine, truth, .. } = &own(name);
    let (cases, extra) = (cases_of(truth, "cases"), cases_of(truth, "extra"));
    block_on(async {
        for case in &cases {
            one(engine, case).await;
        }
        // Each beside the others, then in slots that have held others.
        for turn in 0..cases.len() {
            let case = |i: usize| &cases[(turn + i) % cases.len()];
            tokio::join!(
                one(engine, case(0)),
                one(engine, case(1)),
                one(engine, case(2)),
                one(engine, case(3))
            );
        }
        for case in &extra {
            let base = cases.iter().find(|base| base.id == case.json["base"].as_str().unwrap()).unwrap();
            one(engine, base).await;
            let held = base.prompt.len() + base.greedy.len() - 1;
            let cached = one(engine, case).await.cached as usize;
            match case.json["drop"][0].as_u64() {
                None => assert_eq!(cached, held, "{name}"),
                Some(drop) if rewinds => assert!(cached as u64 >= drop, "{name}: {cached} of {drop}"),
                Some(_) => assert_eq!(cached, 0, "{name}"),
            }
        }
    });
    let slot = engine.slots().iter().find(|slot| slot.tokens > 0).unwrap().id;
    let tokens = engine.slot_tokens(slot).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("conversation");
    match engine.save(&tokens, &path) {
        Ok(_) => assert!(rewinds, "{name}"),
        Err(error) => assert_eq!((error, rewinds), (CheckpointError::States, false), "{name}"),
    }
    assert_eq!(engine.memory().kv_reserved, 0);
}

macro_rules! kinds {
    ($($test:ident: $name:literal, $rewinds:literal;)*) => {
        $(#[test]
        fn $test() {
            kind($name, $rewinds);
        })*
    };
}

kinds! {
    windows_in_all_layers: "mistral-window", false;
    windows_in_some_layers: "qwen2-window", false;
    recurrent_states_and_planes_of_positions: "qwen3.5", false;
    longrope_below_its_switch: "phi3-longrope", true;
    states_of_plain_operations: "lfm2-plain", false;
    a_branch_for_the_first_run: "llama-merged", true;
    a_cache_of_bytes: "llama-int8-kv", true;
    weights_of_four_bits: "llama-q4", true;
}

/// A client that leaves while a prompt is computed: what a window has lost of it is not taken for held.
#[test]
fn a_window_that_was_left_is_not_gone_on_from() {
    for name in ["mistral-window", "qwen3.5", "lfm2-plain"] {
        let Own { engine, truth, .. } = &own(name);
        let case = cases_of(truth, "cases").pop().unwrap();
        block_on(async {
            for _ in 0..20 {
                let permit = engine.reserve(1000).await.unwrap();
                let mut leaves = engine.generate(greedy(&case.prompt, 600), permit);
                drop(leaves.next().await);
                drop(leaves);
                one(engine, &case).await;
            }
        });
    }
}
