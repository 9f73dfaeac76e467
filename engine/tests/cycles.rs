//! Memory that comes back: an idle model is unloaded to the baseline and loaded again on demand. A binary of its own,
//! so that nothing else takes memory.

#[cfg(test)]
#[path = "engine/support.rs"]
#[expect(dead_code, reason = "shared with the other tests, which use the rest")]
mod support;

#[cfg(test)]
mod tests {
    use plimsoll_engine::{Engine, EngineConfig, KeepAlive};

    use crate::support::{block_on, config, demo, greedy, run};

    /// Loads, answers and unloads so often; gives the memory of the process after each unloading.
    fn cycles(count: usize) -> Vec<u64> {
        let config =
            EngineConfig { keep_alive: KeepAlive::For(std::time::Duration::ZERO), ..config(demo("model")) };
        let engine = Engine::load(config).unwrap();
        let prompt: Vec<u32> = (0..600).map(|i| 300 + i * 7 % 1500).collect();
        let mut answers = Vec::new();
        let cycle = |_| {
            answers.push(block_on(run(&engine, greedy(&prompt, 20))).unwrap().tokens);
            // Nextest ends a wait that never does.
            while engine.loaded() {
                std::thread::yield_now();
            }
            let memory = engine.memory();
            assert_eq!((memory.weights, memory.workspace, memory.kv_used, memory.kv_reserved), (0, 0, 0, 0));
            memory.process_rss
        };
        let after = (0..count).map(cycle).collect();
        assert!(answers.iter().all(|answer| *answer == answers[0]));
        after
    }

    /// The last cycles end within 5 % of where the first one did. The lowest of three is taken: a page that some
    /// thread of the test's own has just freed is no leak.
    fn steady(after: &[u64]) {
        let last = after[after.len() - 3..].iter().min().unwrap();
        assert!(*last as f64 <= after[0] as f64 * 1.05, "{after:?}");
    }

    #[test]
    fn memory_is_back_after_every_cycle() {
        steady(&cycles(5));
    }

    #[test]
    #[ignore = "takes long: `make test-long`"]
    fn memory_is_back_after_fifty_cycles() {
        let after = cycles(50);
        println!("bytes of the process after each unloading: {after:?}");
        steady(&after);
    }
}
