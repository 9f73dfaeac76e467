//! Many sessions over one system prompt, as the system counts their memory. A binary of its own, so that nothing else
//! takes memory.

#[cfg(test)]
#[path = "engine/support.rs"]
#[expect(dead_code, reason = "shared with the other tests, which use the rest")]
mod support;

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use plimsoll_engine::{ContextLimit, Engine, EngineConfig, MemoryLimit};

    use crate::support::{Answer, block_on, config, demo, greedy, run};

    const SESSIONS: u32 = 50;
    const PREFIX: u32 = 800;
    const ANSWER: u32 = 30;
    /// Bytes of a token.
    const TOKEN: u64 = 4096;

    /// Bytes of this process in memory: pages that are mapped several times are divided between their maps.
    fn pages() -> u64 {
        let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
        let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
    }

    /// As [`pages`], without what runs take and leave to the runtime's allocator.
    fn besides_runs(engine: &Engine) -> u64 {
        let memory = engine.memory();
        pages() - memory.workspace - memory.slack
    }

    /// A system prompt, and a conversation of 310 to 359 tokens.
    fn prompt(system: u32, session: u32) -> Arc<[u32]> {
        let prefix = (0..PREFIX).map(|i| 100 + (i * 7 + system * 131 + i * i % 13) % 1500);
        let own = (0..310 + session).map(|i| 100 + (i * 11 + session * 37 + 5) % 1500);
        prefix.chain(own).collect()
    }

    fn load(slots: u32, tokens: u64) -> Engine {
        let memory = MemoryLimit::Bytes(tokens * TOKEN);
        let context = ContextLimit::Tokens(2048);
        Engine::load(EngineConfig { slots, memory, context, queue: 64, ..config(demo("model")) }).unwrap()
    }

    /// All at once, each with an answer of so many tokens.
    async fn sessions(engine: &Engine, system: u32, tokens: u32) -> Vec<Answer> {
        let mut all = tokio::task::JoinSet::new();
        for session in 0..SESSIONS {
            let engine = engine.clone();
            all.spawn(async move {
                (session, run(&engine, greedy(&prompt(system, session), tokens)).await.unwrap())
            });
        }
        let mut answers = all.join_all().await;
        answers.sort_by_key(|(session, _)| *session);
        answers.into_iter().map(|(_, answer)| answer).collect()
    }

    #[test]
    fn fifty_sessions_hold_their_prefix_once() {
        let own: u64 = (0..SESSIONS).map(|session| u64::from(310 + session + ANSWER - 1)).sum();
        // Room for one prefix and what each session has of its own, and not for two.
        let engine = load(SESSIONS, u64::from(PREFIX) + own + 200);
        let answers = block_on(sessions(&engine, 2, ANSWER));
        let (held, used) = (besides_runs(&engine), engine.memory().kv_used);
        let expected = (u64::from(PREFIX) + own) * TOKEN;
        let reading = engine.sharing();
        assert_eq!((used, reading.bytes), (expected, u64::from(PREFIX) * TOKEN));
        assert_eq!((reading.mode, reading.copied), ("shared", 0));
        for slot in 0..SESSIONS {
            engine.erase(slot).unwrap();
        }
        assert_eq!(engine.memory().kv_used, u64::from(PREFIX) * TOKEN, "the prefix alone is kept");
        // It is mapped by nobody now, so that this is all that the conversations held.
        let given_back = held - besides_runs(&engine);
        println!("{given_back} bytes were in memory, {expected} by their tokens");
        assert!(given_back as f64 <= 1.05 * expected as f64, "{given_back} bytes, {expected} are expected");
        assert!(given_back as f64 >= 0.95 * expected as f64, "{given_back} bytes, {expected} are expected");
        // One has computed the prefix for all.
        let cached = answers.iter().filter(|answer| answer.cached == PREFIX).count();
        assert_eq!(cached, SESSIONS as usize - 1);
        let alone = load(1, 2048);
        for (session, answer) in (0..).zip(&answers).step_by(7) {
            let expected = block_on(run(&alone, greedy(&prompt(2, session), ANSWER))).unwrap();
            assert_eq!(answer.tokens, expected.tokens, "session {session}");
            alone.erase(0).unwrap();
        }
    }
}
