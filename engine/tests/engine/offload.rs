//! Conversations that leave their slots: what comes back goes on as if it had never left.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use plimsoll_engine::{
    CheckpointError, Engine, EngineConfig, LoadError, MemoryLimit, Offload, OffloadDisk, OffloadStep,
};

use crate::support::{Case, block_on, cases, check, config, demo, greedy, run, shared};

const GIB: u64 = 1 << 30;

/// Graphs that keep their KV cache in place or let it grow, and their truth.
const MODELS: [(&str, &str, bool); 5] = [
    ("qwen2/genai", "qwen2", false),
    ("qwen2/genai-fp16-cuda", "qwen2", true),
    ("llama/genai", "llama", false),
    ("qwen2/optimum", "qwen2", false),
    ("llama/optimum", "llama", false),
];

fn prompt(seed: u32, length: u32) -> Vec<u32> {
    (0..length).map(|i| 100 + (i * 7 + seed * 131 + i * i % 13) % 1500).collect()
}

fn disk(dir: &Path, limit: u64) -> Offload {
    Offload { host: GIB, disk: Some(OffloadDisk { dir: dir.to_owned(), limit }) }
}

/// The demo model with so many slots.
fn load(slots: u32, offload: Offload) -> Engine {
    Engine::load(EngineConfig { slots, offload, ..config(demo("model")) }).unwrap()
}

fn in_memory(slots: u32) -> Engine {
    load(slots, Offload { host: GIB, disk: None })
}

/// Runs a prompt; what it came to, and how many tokens were cached.
fn ask(engine: &Engine, prompt: &[u32], tokens: u32) -> (Vec<u32>, u32) {
    let whole = u32::try_from(prompt.len()).unwrap() + tokens;
    block_on(async {
        let permit = engine.reserve_for(&prompt.into(), whole).await.unwrap();
        let mut generation = engine.generate(greedy(prompt, tokens), permit);
        let (mut made, mut held) = (Vec::new(), 0);
        while let Some(event) = generation.next().await {
            match event.unwrap() {
                plimsoll_engine::Event::Started { cached, .. } => held = cached,
                plimsoll_engine::Event::Token(token) => made.push(token),
                _ => {}
            }
        }
        (made, held)
    })
}

/// The files of a folder, by name.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn a_conversation_that_was_put_by_goes_on_as_in_the_truth() {
    for (folder, truth, fp16) in MODELS {
        let Some(models) = shared("models") else { return };
        let dir = tempfile::tempdir().unwrap();
        let start = |offload| {
            Engine::load(EngineConfig { slots: 1, offload, ..config(models.join(folder)) }).unwrap()
        };
        let longest = |cases: Vec<Case>| cases.into_iter().max_by_key(|case| case.prompt.len()).unwrap();
        let case = longest(cases(truth, "cases").unwrap());
        let held = u32::try_from(case.prompt.len()).unwrap() - 1;
        // Out of its only slot, in memory.
        let engine = start(disk(dir.path(), GIB));
        ask(&engine, &case.prompt, 1);
        ask(&engine, &[5; 90], 1);
        assert_eq!(engine.resident_prefix(&case.prompt), held, "{folder}");
        let (made, cached) = ask(&engine, &case.prompt, 64);
        assert_eq!((cached, engine.offload().counts.restored), (held, 1), "{folder}");
        check(&case, &made, fp16);
        // In another process, from its file.
        engine.shutdown();
        drop(engine);
        let engine = start(disk(dir.path(), GIB));
        engine.settle_offload();
        assert_eq!(engine.resident_prefix(&case.prompt), held, "{folder}");
        let (made, cached) = ask(&engine, &case.prompt, 64);
        assert_eq!((cached, engine.offload().counts.read), (held, 1), "{folder}");
        check(&case, &made, fp16);
    }
}

#[test]
fn many_conversations_in_few_slots_are_each_as_if_alone() {
    let (engine, alone) = (in_memory(2), Engine::load(config(demo("model"))).unwrap());
    let mut texts: Vec<Vec<u32>> = (0..6).map(|seed| prompt(seed, 100 + seed * 17)).collect();
    for turn in 0..3 {
        for (number, text) in texts.iter_mut().enumerate() {
            let (made, cached) = ask(&engine, text, 12);
            let expected = block_on(run(&alone, greedy(text, 12))).unwrap().tokens;
            assert_eq!(made, expected, "turn {turn} of {number}");
            assert!(turn == 0 || cached as usize >= text.len() - 22, "turn {turn} of {number}: {cached}");
            text.extend(made);
            text.extend(prompt(50 + turn, 10));
        }
    }
    let reading = engine.offload();
    assert_eq!((reading.counts.restored, reading.counts.failed), (12, 0), "{reading:?}");
    assert!(reading.host_bytes > 0 && reading.host_bytes <= reading.host_limit);
    assert_eq!(reading.host_conversations as usize, engine.offloaded().len());
    // What is put by is the process's, and no component of the model's.
    let memory = engine.memory();
    assert!(memory.process_rss >= reading.host_bytes && memory.kv_used <= memory.kv_limit);
    assert_eq!((memory.kv_reserved, memory.leak.state.as_str()), (0, "ok"));
}

#[test]
fn another_process_finds_what_was_in_slots_and_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("made/when/missing");
    let engine = load(2, disk(&dir, GIB));
    let texts: Vec<_> = (1..5).map(|seed| prompt(seed, 150)).collect();
    let answers: Vec<_> = texts.iter().map(|text| ask(&engine, text, 9).0).collect();
    drop(engine);
    assert_eq!(files(&dir).len(), 4);
    for file in files(&dir) {
        assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert_eq!(std::fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    let engine = load(2, disk(&dir, GIB));
    engine.settle_offload();
    assert_eq!((engine.offload().disk_conversations, engine.offload().host_bytes), (4, 0));
    for (text, answer) in texts.iter().zip(&answers) {
        assert_eq!(ask(&engine, text, 9), (answer.clone(), 149));
    }
    assert_eq!(engine.offload().counts.read, 4);
    // A conversation that went on has one file, and one that is erased has none.
    let longer = [&texts[0][..], &answers[0], &[7, 8, 9]].concat();
    ask(&engine, &longer, 2);
    drop(engine);
    assert_eq!(files(&dir).len(), 4);
    let engine = load(2, disk(&dir, GIB));
    engine.settle_offload();
    let names: Vec<_> = engine.offloaded().into_iter().map(|one| one.name).collect();
    for name in &names {
        assert!(engine.erase_offloaded(name).unwrap() >= 150);
    }
    let missing = engine.erase_offloaded(&names[0]).unwrap_err();
    assert!(matches!(missing, CheckpointError::NotOffloaded { .. }), "{missing}");
    assert_eq!((files(&dir).len(), engine.resident_prefix(&texts[1])), (0, 0));
}

#[test]
fn files_keep_to_their_limit() {
    let dir = tempfile::tempdir().unwrap();
    // Room for four conversations of 150 tokens at 4 KiB each.
    let limit = 3_000_000;
    let engine = load(1, disk(dir.path(), limit));
    let size = || files(dir.path()).iter().map(|file| std::fs::metadata(file).unwrap().len()).sum::<u64>();
    for seed in 1..8 {
        ask(&engine, &prompt(seed, 150), 2);
        engine.settle_offload();
        let reading = engine.offload();
        assert_eq!(reading.disk_bytes, Some(size()));
        assert!(size() <= limit, "{} bytes", size());
    }
    let kept = engine.offload();
    assert!(kept.counts.deleted > 0 && kept.disk_conversations > 0, "{kept:?}");
    drop(engine);
    // With a lower limit the eldest go at the start.
    let engine = load(1, disk(dir.path(), limit / 2));
    engine.settle_offload();
    assert!(size() <= limit / 2 && engine.offload().disk_conversations > 0);
    assert_eq!(engine.resident_prefix(&prompt(7, 150)), 149);
}

#[test]
fn torn_foreign_and_old_files_are_ignored() {
    let dir = tempfile::tempdir().unwrap();
    let (texts, engine) = ([prompt(1, 100), prompt(2, 120)], load(1, disk(dir.path(), GIB)));
    let answers = texts.each_ref().map(|text| ask(&engine, text, 9).0);
    drop(engine);
    let whole: Vec<_> = files(dir.path()).iter().map(|file| std::fs::read(file).unwrap()).collect();
    let spoil = |change: &dyn Fn(&[u8]) -> Vec<u8>| {
        for (file, bytes) in files(dir.path()).iter().zip(&whole) {
            std::fs::write(file, change(bytes)).unwrap();
        }
    };
    let old = |bytes: &[u8]| [&bytes[..8], &[0], &bytes[9..]].concat();
    let torn = |bytes: &[u8]| bytes[..bytes.len() - 1].to_vec();
    let other = |bytes: &[u8]| bytes.iter().map(|byte| byte ^ 1).collect();
    let header = |bytes: &[u8]| [&bytes[..40], &[bytes[40] ^ 1], &bytes[41..]].concat();
    for change in [&old as &dyn Fn(&[u8]) -> Vec<u8>, &torn, &other, &header, &|_: &[u8]| Vec::new()] {
        spoil(change);
        let engine = load(1, disk(dir.path(), GIB));
        engine.settle_offload();
        assert_eq!((engine.offload().disk_conversations, engine.offload().disk_bytes), (0, Some(0)));
        assert_eq!(engine.resident_prefix(&texts[0]), 0);
        assert_eq!(files(dir.path()).len(), 2);
    }
    // A file in another's place, and one that nobody made.
    spoil(&|bytes| bytes.to_vec());
    let names = files(dir.path());
    std::fs::write(&names[0], &whole[1]).unwrap();
    std::fs::write(dir.path().join("notes.offload"), "no checkpoint").unwrap();
    let engine = load(1, disk(dir.path(), GIB));
    engine.settle_offload();
    assert_eq!(engine.offload().disk_conversations, 1);
    drop(engine);
    // Whole by its header, altered behind it: found, refused when it is read, computed and deleted.
    spoil(&|bytes| [&bytes[..bytes.len() - 1], &[bytes[bytes.len() - 1] ^ 1]].concat());
    let engine = load(1, disk(dir.path(), GIB));
    engine.settle_offload();
    assert_eq!(engine.offload().disk_conversations, 2);
    for (text, answer) in texts.iter().zip(&answers) {
        assert_eq!(ask(&engine, text, 9), (answer.clone(), 0));
    }
    let reading = engine.offload();
    assert_eq!((reading.counts.failed, reading.counts.read), (2, 0));
}

#[test]
fn another_model_finds_none_of_it() {
    let Some(models) = shared("models") else { return };
    let dir = tempfile::tempdir().unwrap();
    let tokens: Vec<u32> = (10..110).collect();
    ask(&load(1, disk(dir.path(), GIB)), &tokens, 1);
    assert_eq!(files(dir.path()).len(), 1);
    let offload = disk(dir.path(), GIB);
    let other = Engine::load(EngineConfig { offload, ..config(models.join("llama/genai")) }).unwrap();
    other.settle_offload();
    assert_eq!((other.offload().disk_conversations, files(dir.path()).len()), (0, 1));
}

#[test]
fn an_unloaded_model_leaves_its_conversations_on_disk_alone() {
    let dir = tempfile::tempdir().unwrap();
    let engine = load(2, disk(dir.path(), GIB));
    let tokens = prompt(3, 130);
    let (answer, _) = ask(&engine, &tokens, 9);
    let now = plimsoll_engine::KeepAlive::For(std::time::Duration::ZERO);
    engine.keep_loaded(Some(now)).unwrap();
    engine.settle_offload();
    assert!(!engine.loaded());
    let reading = engine.offload();
    assert_eq!((reading.host_bytes, reading.disk_conversations), (0, 1));
    assert_eq!(ask(&engine, &tokens, 9), (answer, 129));
}

#[test]
fn the_steps_of_a_conversation_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let engine = load(1, disk(dir.path(), GIB));
    let (told, heard) = std::sync::mpsc::channel();
    engine.watch_offloads(move |step| told.send((step.step, step.tokens)).unwrap());
    let tokens = prompt(4, 100);
    ask(&engine, &tokens, 1);
    ask(&engine, &[9; 70], 1);
    engine.settle_offload();
    ask(&engine, &tokens, 1);
    let steps: Vec<_> = heard.try_iter().filter(|(_, tokens)| *tokens > 90).collect();
    use OffloadStep::{PutBy, Restored, Written};
    assert_eq!(steps, [(PutBy, 100), (Written, 100), (Restored, 99)]);
}

#[test]
fn what_cannot_be_kept_is_said() {
    assert_eq!(load(1, Offload::default()).offload().off, Some("`offload.host` is 0"));
    let offload = Offload { host: 0, ..disk(Path::new("unused"), GIB) };
    let refused = Engine::load(EngineConfig { offload, ..config(demo("model")) }).unwrap_err();
    assert!(matches!(refused, LoadError::Setting { name: "offload.host", .. }), "{refused}");
    // No more than is left beside the KV cache, as far as that can be known.
    let engine = load(1, Offload { host: u64::MAX, disk: None });
    assert!(engine.offload().host_limit < u64::MAX);
    let Some(models) = shared("models") else { return };
    let hybrid = EngineConfig {
        offload: Offload { host: GIB, disk: None },
        memory: MemoryLimit::Auto,
        ..config(models.join("lfm2/genai"))
    };
    let engine = Engine::load(hybrid).unwrap();
    assert!(engine.offload().off.unwrap().contains("state"), "{:?}", engine.offload());
}
