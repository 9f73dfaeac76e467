//! Models that are unloaded while nobody needs them.

use std::time::Duration;

use plimsoll_engine::{CheckpointError, Engine, EngineConfig, Generate, GenerateError, KeepAlive};

use crate::support::{block_on, config, demo, greedy, run};

const NOT_AT_ALL: KeepAlive = KeepAlive::For(Duration::ZERO);

fn load(keep_alive: KeepAlive) -> Engine {
    Engine::load(EngineConfig { keep_alive, ..config(demo("model")) }).unwrap()
}

/// Nextest ends a wait that never does.
fn wait_until_unloaded(engine: &Engine) {
    while engine.loaded() {
        std::thread::yield_now();
    }
}

#[test]
fn what_waits_for_one_load_is_answered_as_ever() {
    let engine = load(NOT_AT_ALL);
    wait_until_unloaded(&engine);
    let prompts: Vec<Vec<u32>> = (0..4).map(|seed| (0..40).map(|i| 300 + seed * 50 + i).collect()).collect();
    let expected = load(KeepAlive::Always);
    block_on(async {
        let together = tokio::join!(
            run(&engine, greedy(&prompts[0], 30)),
            run(&engine, greedy(&prompts[1], 30)),
            run(&engine, greedy(&prompts[2], 30)),
            run(&engine, greedy(&prompts[3], 30)),
        );
        for (answer, prompt) in [together.0, together.1, together.2, together.3].into_iter().zip(&prompts) {
            assert_eq!(answer.unwrap().tokens, run(&expected, greedy(prompt, 30)).await.unwrap().tokens);
        }
    });
    wait_until_unloaded(&engine);
    assert_eq!(engine.resident_prefix(&prompts[0]), 0);
    assert!(engine.slots().iter().all(|slot| slot.tokens == 0 && !slot.busy));
    assert!(expected.loaded() && expected.resident_prefix(&prompts[0]) > 0);
}

#[test]
fn a_request_says_how_long_the_model_stays() {
    let engine = load(KeepAlive::Always);
    let request = |keep_alive| Generate { keep_alive, ..greedy(&[300, 301, 302], 3) };
    block_on(run(&engine, request(Some(KeepAlive::For(Duration::from_secs(3600)))))).unwrap();
    assert!(engine.loaded());
    block_on(run(&engine, request(Some(NOT_AT_ALL)))).unwrap();
    wait_until_unloaded(&engine);
    // The next one, which says nothing, is kept as configured.
    block_on(run(&engine, request(None))).unwrap();
    assert_eq!(engine.resident_prefix(&[300, 301, 302, 303]), 3);
    assert!(engine.loaded());
}

#[test]
fn a_model_that_changed_on_disk_is_not_loaded_again() {
    let folder = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(demo("model")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
    }
    let config = EngineConfig { keep_alive: NOT_AT_ALL, ..config(folder.path().to_owned()) };
    let engine = Engine::load(config).unwrap();
    wait_until_unloaded(&engine);
    let graph = engine.model().file.clone();
    let whole = std::fs::read(&graph).unwrap();
    let modified = std::fs::metadata(&graph).unwrap().modified().unwrap();
    std::fs::write(&graph, &whole[..100]).unwrap();
    for _ in 0..2 {
        let error = block_on(run(&engine, greedy(&[300, 301], 3))).unwrap_err();
        assert!(matches!(&error, GenerateError::Load(why) if why.contains("has changed")), "{error}");
    }
    assert_eq!((engine.loaded(), engine.memory().kv_reserved), (false, 0));
    // Put back as it was, it is the same model.
    std::fs::write(&graph, whole).unwrap();
    std::fs::File::options().write(true).open(&graph).unwrap().set_modified(modified).unwrap();
    block_on(run(&engine, greedy(&[300, 301], 3))).unwrap();
}

#[test]
fn a_restore_loads_the_model_and_an_unloaded_one_has_nothing_to_save() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    let tokens: Vec<u32> = (0..50).map(|i| 300 + i).collect();
    let engine = load(KeepAlive::Always);
    block_on(run(&engine, greedy(&tokens, 1))).unwrap();
    engine.save(&tokens, &path).unwrap();
    block_on(run(&engine, Generate { keep_alive: Some(NOT_AT_ALL), ..greedy(&[5, 6], 1) })).unwrap();
    wait_until_unloaded(&engine);
    assert_eq!(engine.save(&tokens, &path), Err(CheckpointError::NotResident { tokens: 50 }));
    assert_eq!(engine.erase(0), Ok(0));
    let restored = engine.restore(&path).unwrap();
    assert_eq!((restored.tokens, engine.loaded(), engine.resident_prefix(&tokens)), (50, true, 49));
}

#[test]
fn a_model_comes_and_goes_without_a_request() {
    let engine = load(KeepAlive::Always);
    assert_eq!(engine.unloads_at(), None);
    engine.keep_loaded(Some(NOT_AT_ALL)).unwrap();
    // No wait: who asked for it finds it gone.
    assert!(!engine.loaded());
    engine.keep_loaded(Some(NOT_AT_ALL)).unwrap();
    assert!(!engine.loaded());
    let before = std::time::Instant::now();
    engine.keep_loaded(Some(KeepAlive::For(Duration::from_secs(3600)))).unwrap();
    assert!(engine.loaded());
    assert!(engine.unloads_at().is_some_and(|at| at >= before + Duration::from_secs(3600)));
    engine.keep_loaded(None).unwrap();
    assert_eq!(engine.unloads_at(), None);
}

/// What runs ends whole; then the model goes, whatever the request had said.
#[test]
fn a_model_that_is_to_go_waits_for_what_runs() {
    let engine = load(KeepAlive::Always);
    block_on(async {
        let permit = engine.reserve(400).await.unwrap();
        let mut answer = engine.generate(greedy(&[300, 301, 302], 300), permit);
        answer.next().await.unwrap().unwrap();
        engine.keep_loaded(Some(NOT_AT_ALL)).unwrap();
        while let Some(event) = answer.next().await {
            event.unwrap();
        }
    });
    wait_until_unloaded(&engine);
    block_on(run(&engine, greedy(&[300, 301, 302], 3))).unwrap();
    assert!(engine.loaded());
}

#[test]
fn an_unloaded_engine_shuts_down() {
    let engine = load(NOT_AT_ALL);
    wait_until_unloaded(&engine);
    engine.shutdown();
    assert!(!engine.loaded());
}
