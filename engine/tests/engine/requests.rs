//! Requests beside each other: admission, cancelling, ends and errors.

use std::time::Duration;

use plimsoll_engine::{
    AdmitError, ContextLimit, Engine, EngineConfig, Event, Finish, Generate, GenerateError, MemoryLimit,
};

use crate::support::{block_on, config, demo, greedy, run};

/// Bytes of KV cache for a token of the demo model.
const TOKEN: u64 = 4096;

/// The demo model with a window of 500 tokens, memory for 1,000, two slots and room for one to wait.
fn tight() -> Engine {
    let config = EngineConfig {
        context: ContextLimit::Tokens(500),
        memory: MemoryLimit::Bytes(1000 * TOKEN),
        slots: 2,
        queue: 1,
        ..config(demo("model"))
    };
    Engine::load(config).unwrap()
}

#[test]
fn admission_has_exact_numbers() {
    let engine = tight();
    block_on(async {
        let limit = 1000 * TOKEN;
        let large = AdmitError::TooLarge { tokens: 501, needed: 501 * TOKEN, limit_tokens: 500, limit };
        assert_eq!(engine.reserve(501).await.unwrap_err(), large);
        let (one, other) = (engine.reserve(500).await.unwrap(), engine.reserve(400).await.unwrap());
        assert_eq!((one.bytes(), engine.memory().kv_reserved), (500 * TOKEN, 900 * TOKEN));
        let waits = tokio::time::timeout(Duration::ZERO, engine.reserve(100)).await;
        assert!(waits.is_err() && engine.queue_depth() == 0);
        let (granted, refused) = tokio::join!(engine.reserve(100), async {
            assert_eq!(engine.queue_depth(), 1);
            let refused = engine.reserve(7).await.unwrap_err();
            drop(other);
            refused
        });
        let full = AdmitError::QueueFull {
            needed: 7 * TOKEN,
            free: 100 * TOKEN,
            limit,
            slots_free: 0,
            slots: 2,
            waiting: 1,
        };
        assert_eq!((granted.unwrap().tokens(), refused), (100, full));
    });
}

#[test]
fn the_end_comes_when_the_memory_is_free() {
    let config = EngineConfig { slots: 1, queue: 0, ..config(demo("model")) };
    let engine = Engine::load(config).unwrap();
    block_on(async {
        for _ in 0..20 {
            run(&engine, greedy(&[5, 6, 7], 3)).await.unwrap();
        }
    });
}

#[test]
fn bad_requests_are_refused_and_give_their_permit_back() {
    let engine = tight();
    block_on(async {
        let refused = async |request: Generate, tokens: u32| {
            let permit = engine.reserve(tokens).await.unwrap();
            let mut generation = engine.generate(request, permit);
            let error = generation.next().await.unwrap().unwrap_err();
            assert!(generation.next().await.is_none());
            error
        };
        assert_eq!(refused(greedy(&[], 5), 5).await, GenerateError::EmptyPrompt);
        let unknown = GenerateError::UnknownToken { token: 2048, vocab: 2048 };
        assert_eq!(refused(greedy(&[1, 2048], 5), 7).await, unknown);
        let small = GenerateError::PermitTooSmall { prompt: 3, reserved: 2 };
        assert_eq!(refused(greedy(&[1, 2, 3], 5), 2).await, small);
        assert_eq!(engine.memory().kv_reserved, 0);
    });
}

#[test]
fn a_whole_window_is_used_to_its_last_token() {
    let engine = tight();
    let prompt: Vec<u32> = (0..400).map(|i| 100 + i % 300).collect();
    let answer = block_on(run(&engine, greedy(&prompt, 100))).unwrap();
    assert_eq!((answer.tokens.len(), answer.reason), (100, Finish::Length));
    assert_eq!(answer.usage.kv_bytes, 499 * TOKEN);
    assert_eq!(engine.memory().kv_used, 499 * TOKEN);
    let slots = engine.slots();
    let slot = slots.iter().find(|slot| slot.tokens > 0).unwrap();
    assert_eq!((slot.tokens, slot.limit, slot.busy), (499, 500, false));
    assert!(slot.idle_since.is_some());
}

/// Dropping a generation frees its memory, at any time.
#[test]
fn who_leaves_frees_memory() {
    let engine = tight();
    block_on(async {
        let prompt: Vec<u32> = (0..450).map(|i| 100 + i % 300).collect();
        for heard in 0..6 {
            let permit = engine.reserve(500).await.unwrap();
            let mut generation = engine.generate(greedy(&prompt, 50), permit);
            for _ in 0..heard {
                generation.next().await.unwrap().unwrap();
            }
            drop(generation);
        }
        // Both slots and all bytes come free again.
        let both = (engine.reserve(500).await.unwrap(), engine.reserve(500).await.unwrap());
        assert_eq!(engine.memory().kv_reserved, 1000 * TOKEN);
        drop(both);
        run(&engine, greedy(&prompt, 5)).await.unwrap();
    });
}

/// A reader who does not read holds up nobody.
#[test]
fn a_slow_reader_holds_up_nobody() {
    let engine = tight();
    block_on(async {
        let permit = engine.reserve(300).await.unwrap();
        let mut slow = engine.generate(greedy(&[7, 8, 9], 200), permit);
        assert!(matches!(slow.next().await, Some(Ok(Event::Started { .. }))));
        run(&engine, greedy(&[10, 11, 12], 250)).await.unwrap();
        let mut tokens = 0;
        while let Some(event) = slow.next().await {
            tokens += usize::from(matches!(event.unwrap(), Event::Token(_)));
        }
        assert_eq!(tokens, 200);
    });
}

#[test]
fn shutdown_ends_what_runs_and_what_waits() {
    let engine = tight();
    block_on(async {
        let permit = engine.reserve(500).await.unwrap();
        let mut generation = engine.generate(greedy(&[7, 8, 9], 497), permit);
        assert!(matches!(generation.next().await, Some(Ok(Event::Started { .. }))));
        let unused = engine.reserve(500).await.unwrap();
        let (waited, ()) = tokio::join!(engine.reserve(1), async { engine.shutdown() });
        assert_eq!(waited.unwrap_err(), AdmitError::Unloaded);
        let mut last = None;
        while let Some(event) = generation.next().await {
            last = Some(event);
        }
        assert!(matches!(last, Some(Ok(Event::Done { reason: Finish::Cancelled, .. }))), "{last:?}");
        let mut late = engine.generate(greedy(&[1], 5), unused);
        assert_eq!(late.next().await, Some(Err(GenerateError::Gone)));
        assert_eq!(engine.reserve(1).await.unwrap_err(), AdmitError::Unloaded);
        // A second time changes nothing.
        engine.shutdown();
    });
}

#[test]
fn reuse_is_known_before_admission() {
    let engine = tight();
    let first: Vec<u32> = (0..60).map(|i| 300 + i * 3 % 100).collect();
    assert_eq!(engine.resident_prefix(&first), 0);
    block_on(async {
        let answer = run(&engine, greedy(&first, 10)).await.unwrap();
        // The last token of an answer is told, not computed.
        let second = [&first[..], &answer.tokens, &[7, 8, 9]].concat();
        for (prompt, held) in [(&second[..], 69), (&first[..], 59), (&first[..20], 19), (&[1, 2, 3], 0)] {
            assert_eq!(engine.resident_prefix(prompt), held);
            assert_eq!(run(&engine, greedy(prompt, 1)).await.unwrap().cached, held);
        }
    });
}
