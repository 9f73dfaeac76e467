//! Conversations in files: what is restored goes on as if it had never left.

use std::path::Path;

use plimsoll_engine::{CheckpointError, CheckpointInfo, Engine, EngineConfig, Restored};

use crate::support::{Case, block_on, cases, check, config, demo, greedy, run, shared};

/// Graphs that keep their KV cache in place or let it grow, and their truth.
const MODELS: [(&str, &str, bool); 6] = [
    ("qwen2/genai", "qwen2", false),
    ("qwen2/community-gqa", "qwen2", false),
    ("qwen2/genai-fp16-cuda", "qwen2", true),
    ("llama/genai", "llama", false),
    ("qwen2/optimum", "qwen2", false),
    ("llama/optimum", "llama", false),
];

/// Runs a prompt so that it is held, without an answer.
async fn hold(engine: &Engine, prompt: &[u32]) {
    run(engine, greedy(prompt, 1)).await.unwrap();
}

#[test]
fn a_restored_conversation_goes_on_as_in_the_truth() {
    for (folder, truth, fp16) in MODELS {
        let Some(models) = shared("models") else { return };
        let path = tempfile::tempdir().unwrap();
        let path = path.path().join("conversation");
        let start = || Engine::load(config(models.join(folder))).unwrap();
        let longest = |cases: Vec<Case>| cases.into_iter().max_by_key(|case| case.prompt.len()).unwrap();
        let case = longest(cases(truth, "cases").unwrap());
        let engine = start();
        block_on(hold(&engine, &case.prompt));
        let saved = engine.save(&case.prompt, &path).unwrap();
        drop(engine);
        let engine = start();
        assert_eq!(engine.resident_prefix(&case.prompt), 0);
        let tokens = u32::try_from(case.prompt.len()).unwrap();
        assert_eq!(engine.restore(&path).unwrap().tokens, tokens);
        assert_eq!(saved, CheckpointInfo::read(&path).unwrap());
        // Beside others, which begin with other tokens.
        block_on(async {
            let (answer, _) =
                tokio::join!(run(&engine, greedy(&case.prompt, 64)), run(&engine, greedy(&[5, 6, 7], 90)));
            let answer = answer.unwrap();
            assert_eq!(answer.cached, tokens - 1, "{folder}");
            check(&case, &answer.tokens, fp16);
        });
    }
}

fn prompt(seed: u32, length: u32) -> Vec<u32> {
    (0..length).map(|i| 100 + (i * 7 + seed * 131 + i * i % 13) % 1500).collect()
}

fn load() -> Engine {
    Engine::load(config(demo("model"))).unwrap()
}

#[test]
fn a_part_of_a_running_conversation_can_be_saved() {
    let (engine, folder) = (load(), tempfile::tempdir().unwrap());
    let path = folder.path().join("part");
    block_on(async {
        let tokens = prompt(1, 200);
        let permit = engine.reserve(900).await.unwrap();
        let mut running = engine.generate(greedy(&tokens, 700), permit);
        while !matches!(running.next().await.unwrap().unwrap(), plimsoll_engine::Event::Token(_)) {}
        let saved = engine.save(&tokens[..150], &path).unwrap();
        assert_eq!(
            (saved.tokens, saved.bytes),
            (tokens[..150].to_vec(), std::fs::metadata(&path).unwrap().len())
        );
        drop(running);
        let expected = run(&engine, greedy(&tokens, 20)).await.unwrap().tokens;
        let other = load();
        other.restore(&path).unwrap();
        let answer = run(&other, greedy(&tokens, 20)).await.unwrap();
        assert_eq!((answer.cached, answer.tokens), (150, expected));
    });
    let missing = engine.save(&[9, 9, 9], &path).unwrap_err();
    assert_eq!(missing, CheckpointError::NotResident { tokens: 3 });
    assert_eq!(CheckpointInfo::read(&path).unwrap().tokens.len(), 150);
}

#[test]
fn branches_and_erased_slots() {
    let engine = load();
    let tokens = prompt(2, 120);
    block_on(async {
        hold(&engine, &tokens).await;
        let source = engine.slots().iter().find(|slot| slot.tokens == 120).unwrap().id;
        assert_eq!(engine.slot_tokens(source).unwrap(), tokens);
        let Restored { slot, tokens: count } = engine.branch(source, Some(90)).unwrap();
        assert_eq!((count, engine.slot_tokens(slot).unwrap()), (90, tokens[..90].to_vec()));
        engine.erase(source).unwrap();
        assert_eq!(engine.resident_prefix(&tokens), 90);
        let answer = run(&engine, greedy(&tokens, 20)).await.unwrap();
        assert_eq!(answer.cached, 90);
        let alone = run(&load(), greedy(&tokens, 20)).await.unwrap();
        assert_eq!(answer.tokens, alone.tokens);
    });
    assert_eq!(engine.erase(99), Err(CheckpointError::NoSlot { slot: 99, last: 3 }));
    assert_eq!(engine.slot_tokens(99), None);
}

/// Its pages are mapped: a second conversation over the same file takes no memory for them.
#[test]
fn a_restored_conversation_is_shared() {
    let (engine, folder) = (load(), tempfile::tempdir().unwrap());
    let (path, tokens) = (folder.path().join("shared"), prompt(7, 250));
    block_on(hold(&engine, &tokens));
    engine.save(&tokens, &path).unwrap();
    let other = load();
    other.restore(&path).unwrap();
    let token = other.model().kv_bytes_per_token;
    // Whole pages of 16 tokens are mapped; the rest is copied from the segment.
    assert_eq!((other.sharing().bytes, other.memory().kv_used), (250 * token, 260 * token));
    let one = other.slots().iter().find(|slot| slot.tokens == 250).unwrap().id;
    let two = other.branch(one, None).unwrap().slot;
    assert_eq!(other.memory().kv_used, 270 * token);
    assert!(other.slots().iter().filter(|slot| slot.shared == 240).count() == 2);
    // What comes after it differs, and neither conversation sees the other's.
    block_on(async {
        let prompts = [[&tokens[..], &[500, 501]].concat(), [&tokens[..], &[700; 30]].concat()];
        let (a, b) = tokio::join!(run(&other, greedy(&prompts[0], 20)), run(&other, greedy(&prompts[1], 20)));
        let (a, b) = (a.unwrap(), b.unwrap());
        assert_eq!((a.cached, b.cached), (250, 250));
        for (prompt, made) in prompts.iter().zip([a.tokens, b.tokens]) {
            assert_eq!(run(&load(), greedy(prompt, 20)).await.unwrap().tokens, made);
        }
    });
    // It outlives its conversations, and what is restored again is what is there.
    other.erase(one).unwrap();
    other.erase(two).unwrap();
    assert_eq!((other.resident_prefix(&tokens), other.sharing().segments), (249, 1));
    other.restore(&path).unwrap();
    assert_eq!(other.sharing().segments, 1);
}

/// A checkpoint of the demo model.
fn saved(folder: &Path) -> std::path::PathBuf {
    let (engine, path, tokens) = (load(), folder.join("saved"), prompt(3, 50));
    block_on(hold(&engine, &tokens));
    engine.save(&tokens, &path).unwrap();
    path
}

#[test]
fn torn_foreign_and_old_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = saved(folder.path());
    let whole = std::fs::read(&path).unwrap();
    let engine = load();
    let refused = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        engine.restore(&path).unwrap_err()
    };
    for length in [whole.len() - 1, whole.len() / 2, 4096, 200, 20] {
        let error = refused(&whole[..length]);
        assert!(matches!(error, CheckpointError::Damaged { .. }), "{length}: {error}");
    }
    for at in [30, 100, 4096, whole.len() / 2, whole.len() - 1] {
        let mut altered = whole.clone();
        altered[at] ^= 1;
        let error = refused(&altered);
        assert!(matches!(error, CheckpointError::Damaged { .. }), "{at}: {error}");
    }
    let mut old = whole.clone();
    old[8] = 0;
    assert!(matches!(refused(&old), CheckpointError::Version { found: 0, .. }));
    for foreign in [&b"PLIMKV"[..], b"", b"{\"not\": \"a checkpoint\", \"at\": \"all\"}"] {
        assert!(matches!(refused(foreign), CheckpointError::NotACheckpoint { .. }));
    }
    assert!(matches!(engine.restore(folder.path()), Err(CheckpointError::NotACheckpoint { .. })));
    let gone = engine.restore(&folder.path().join("gone")).unwrap_err();
    assert!(matches!(gone, CheckpointError::File { what: "read", .. }), "{gone}");
    assert_eq!(engine.slots().iter().map(|slot| slot.tokens).sum::<u32>(), 0);
    // The very same bytes are taken.
    std::fs::write(&path, &whole).unwrap();
    assert_eq!(engine.restore(&path).unwrap().tokens, 50);
}

#[test]
fn another_model_refuses_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = saved(folder.path());
    // The same graph with one other weight, and a model of another shape.
    let twin = folder.path().join("twin");
    std::fs::create_dir(&twin).unwrap();
    for file in std::fs::read_dir(demo("model")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), twin.join(file.file_name())).unwrap();
    }
    let largest = std::fs::read_dir(&twin).unwrap().map(|file| file.unwrap().path());
    let weights = largest.max_by_key(|file| std::fs::metadata(file).unwrap().len()).unwrap();
    let mut bytes = std::fs::read(&weights).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    let twin = Engine::load(config(twin)).unwrap();
    let error = twin.restore(&path).unwrap_err();
    assert!(
        matches!(&error, CheckpointError::Foreign { reason, .. } if reason.contains("weights")),
        "{error}"
    );
    if let Some(models) = shared("models") {
        let other = Engine::load(config(models.join("llama/genai"))).unwrap();
        let error = other.restore(&path).unwrap_err();
        assert!(
            matches!(&error, CheckpointError::Foreign { reason, .. } if reason.contains("shape")),
            "{error}"
        );
    }
}

#[test]
fn a_model_that_changed_on_disk_neither_saves_nor_restores() {
    let folder = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(demo("model")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
    }
    let engine = Engine::load(config(folder.path().to_owned())).unwrap();
    let tokens = prompt(4, 20);
    block_on(hold(&engine, &tokens));
    let graph = engine.model().file.clone();
    let bytes = std::fs::read(&graph).unwrap();
    std::fs::write(&graph, [&bytes[..], b" "].concat()).unwrap();
    let error = engine.save(&tokens, &folder.path().join("x")).unwrap_err();
    assert_eq!(error, CheckpointError::ModelChanged { path: graph });
}

#[test]
fn what_does_not_fit_beside_what_runs_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = saved(folder.path());
    let tight = EngineConfig {
        context: plimsoll_engine::ContextLimit::Tokens(100),
        memory: plimsoll_engine::MemoryLimit::Bytes(100 * 4096),
        ..config(demo("model"))
    };
    let engine = Engine::load(tight).unwrap();
    let permit = block_on(engine.reserve(60)).unwrap();
    let error = engine.restore(&path).unwrap_err();
    let numbers = CheckpointError::NoRoom {
        tokens: 50,
        needed: 50 * 4096,
        reserved: 60 * 4096,
        limit: 100 * 4096,
        context: 100,
    };
    assert_eq!(error, numbers);
    drop(permit);
    engine.restore(&path).unwrap();
    engine.shutdown();
    assert_eq!(engine.restore(&path), Err(CheckpointError::Gone));
}

#[test]
fn a_failed_save_leaves_the_old_file_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = saved(folder.path());
    let before = std::fs::read(&path).unwrap();
    let engine = load();
    let tokens = prompt(5, 40);
    block_on(hold(&engine, &tokens));
    // A folder stands where the file should go.
    let taken = folder.path().join("taken");
    std::fs::create_dir(&taken).unwrap();
    let error = engine.save(&tokens, &taken).unwrap_err();
    assert!(matches!(error, CheckpointError::File { what: "write", .. }), "{error}");
    let names = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!((names, std::fs::read(&path).unwrap()), (2, before));
}
