//! What the engine says of its memory, beside what the system says.

use plimsoll_engine::{COMPONENTS, Engine, EngineConfig, LeakState};

use super::support::{block_on, config, demo, greedy, run};

fn load() -> Engine {
    Engine::load(EngineConfig { slots: 8, ..config(demo("model")) }).unwrap()
}

/// Prompts of many lengths, so that the allocator takes and frees blocks of many sizes.
fn serve(engine: &Engine, seed: u32) {
    for length in [1, 40, 300, 1100] {
        let prompt: Vec<u32> = (0..length).map(|i| 100 + (i * 7 + seed * 131) % 1500).collect();
        block_on(run(engine, greedy(&prompt, 8))).unwrap();
    }
}

#[test]
fn components_add_up_to_the_process() {
    let engine = load();
    serve(&engine, 1);
    let reading = engine.memory();
    let names: Vec<_> = reading.components().map(|(name, _)| name).collect();
    assert_eq!(names, COMPONENTS);
    assert_eq!((reading.source, reading.kv_cache), ("engine+rss", reading.kv_used));
    assert!(reading.weights >= engine.model().weights_bytes, "{reading:?}");
    assert!(reading.slack > 0, "the runtime's allocator keeps what it has freed: {reading:?}");
    // Two readings of the process, one after the other.
    assert!(reading.total().abs_diff(reading.process_rss) < 8 << 20, "{reading:?}");
    // Nothing of any size is unknown after some work: it is in one of the accounts.
    assert!(reading.unattributed < 64 << 20, "{reading:?}");
    engine.shutdown();
    assert_eq!(engine.memory().total(), 0);
}

/// The worker has taken its reading when it has begun to wait, which may be after the answer arrived.
fn sampled(engine: &Engine) {
    while engine.memory().leak.samples == 0 {
        std::thread::yield_now();
    }
}

fn cycles(count: u32) {
    for cycle in 0..count {
        let engine = load();
        serve(&engine, cycle);
        sampled(&engine);
        engine.shutdown();
        let leak = engine.memory().leak;
        assert_eq!((leak.state, leak.component), (LeakState::Ok, None), "cycle {cycle}: {leak:?}");
        println!("cycle {cycle}: {} bytes in the process", engine.memory().process_rss);
    }
}

#[test]
fn loading_serving_and_unloading_leaks_nothing() {
    cycles(3);
}

#[test]
#[ignore = "long: 30 cycles"]
fn thirty_cycles_leak_nothing() {
    cycles(30);
}
