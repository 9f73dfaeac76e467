//! Answers that go on past their window, on real models.

use plimsoll_engine::{
    ContextLimit, Engine, EngineConfig, Finish, Generate, GenerateError, MemoryLimit, NoShift, Shift,
};

use crate::support::{Answer, block_on, config, demo, greedy, load, own, run, run_within, shared};

fn shifting(prompt: &[u32], max_tokens: u32, keep: u32) -> Generate {
    Generate { shift: Some(Shift { keep }), ..greedy(prompt, max_tokens) }
}

fn prompt(seed: u32, length: u32) -> Vec<u32> {
    (0..length).map(|i| 100 + (i * 7 + seed * 131 + i * i % 13) % 400).collect()
}

async fn past(engine: &Engine, prompt: &[u32], window: u32) -> Answer {
    let answer = run_within(engine, shifting(prompt, 300, 16), window).await.unwrap();
    assert_eq!((answer.tokens.len(), answer.reason), (300, Finish::Length));
    answer
}

/// The first half of it is what the model says without a shift; the rest is the same each time, alone and beside
/// others, and what was held afterwards is a true prefix.
fn goes_on(engine: &Engine) {
    let (first, second) = (prompt(1, 90), prompt(2, 110));
    block_on(async {
        let alone = past(engine, &first, 160).await;
        // 72 tokens each: at 160, then whenever the window is full again.
        assert_eq!((alone.dropped, engine.slots().iter().map(|slot| slot.tokens).max()), (4 * 72, Some(16)));
        let within = run(engine, greedy(&first, 71)).await.unwrap();
        assert_eq!((&within.tokens[..], within.cached), (&alone.tokens[..71], 16));
        let (again, beside, short) = tokio::join!(
            past(engine, &first, 160),
            past(engine, &second, 150),
            run(engine, greedy(&second, 30)),
        );
        assert_eq!(again.tokens, alone.tokens);
        assert_eq!(past(engine, &second, 150).await.tokens, beside.tokens);
        assert_eq!(short.unwrap().tokens, beside.tokens[..30]);
    });
    assert_eq!(engine.memory().kv_reserved, 0);
}

#[test]
fn answers_go_on_past_their_window() {
    let small = EngineConfig { context: ContextLimit::Tokens(512), ..config(demo("model")) };
    goes_on(&Engine::load(small).unwrap());
    goes_on(&own("llama-q4").engine);
}

#[test]
fn other_layouts_go_on_too() {
    for folder in ["llama/genai", "llama/optimum", "qwen2/genai-fp16-cuda", "qwen2/community-gqa"] {
        let Some(engine) = load(folder) else { return };
        goes_on(&engine);
    }
    goes_on(&own("llama-merged").engine);
}

/// One of two that begin alike goes on past its window: the other's keys and values stay what they are, and so does what
/// both began with.
#[test]
fn who_shares_a_beginning_is_not_touched() {
    let engine = Engine::load(config(demo("model"))).unwrap();
    let alone = Engine::load(EngineConfig { slots: 1, ..config(demo("model")) }).unwrap();
    let with = |seed, length| [prompt(1, 320), prompt(seed, length)].concat();
    block_on(async {
        let other = run(&engine, greedy(&with(2, 30), 20)).await.unwrap();
        let shifted = past(&engine, &with(3, 25), 400).await;
        assert_eq!((shifted.cached, shifted.dropped), (320, 192 + 192));
        let lonely = past(&alone, &with(3, 25), 400).await;
        assert_eq!((lonely.tokens, lonely.cached), (shifted.tokens, 0));
        let longer = [with(2, 30), other.tokens].concat();
        let held = run(&engine, greedy(&longer, 40)).await.unwrap();
        assert_eq!(held.cached as usize, longer.len() - 1);
        assert_eq!(held.tokens, run(&alone, greedy(&longer, 40)).await.unwrap().tokens);
        let third = run(&engine, greedy(&with(4, 25), 30)).await.unwrap();
        assert_eq!(third.cached, 320);
        assert_eq!(third.tokens, run(&alone, greedy(&with(4, 25), 30)).await.unwrap().tokens);
    });
}

/// Without room for a copy of what is shared an answer goes on in a smaller window, and nobody's memory is taken.
#[test]
fn memory_stays_within_its_limit() {
    let bytes_per_token = Engine::load(config(demo("model"))).unwrap().model().kv_bytes_per_token;
    let tight = MemoryLimit::Bytes(bytes_per_token * (320 + 2 * 100));
    let engine = Engine::load(EngineConfig {
        memory: tight,
        context: ContextLimit::Tokens(420),
        slots: 2,
        ..config(demo("model"))
    });
    let engine = engine.unwrap();
    let with = |seed| [prompt(1, 320), prompt(seed, 20)].concat();
    block_on(async {
        let other = run(&engine, greedy(&with(2), 2)).await.unwrap();
        let (shifted, beside) = tokio::join!(
            run_within(&engine, shifting(&with(3), 200, 16), 420),
            run_within(&engine, greedy(&with(2), 80), 420),
        );
        assert_eq!(shifted.unwrap().tokens.len(), 200);
        assert_eq!(beside.unwrap().tokens[..2], other.tokens);
        let reading = engine.memory();
        assert!(reading.kv_used <= reading.kv_limit && reading.kv_reserved == 0, "{reading:?}");
    });
}

#[test]
fn models_that_cannot_shift_say_why() {
    let refused = |engine: &Engine| {
        let reason = engine.shifts().unwrap_err();
        let asked = block_on(run_within(engine, shifting(&[5, 6, 7], 40, 0), 20));
        assert_eq!(asked.unwrap_err(), GenerateError::NoShift(reason.clone()));
        reason
    };
    for name in ["mistral-window", "qwen3.5", "lfm2-plain"] {
        assert_eq!(refused(&own(name).engine), NoShift::States, "{name}");
    }
    assert_eq!(refused(&own("phi3-longrope").engine), NoShift::LongRope);
    let quantised = refused(&own("llama-int8-kv").engine).to_string();
    assert_eq!(quantised, "its keys are quantised (int8): turning them would round them once more");
    if shared("models").is_some() {
        assert_eq!(refused(&load("lfm2/genai").unwrap()), NoShift::States);
    }
}
