//! What is forecast is what a loaded engine admits and holds.

use std::path::PathBuf;

use plimsoll_engine::{AdmitError, ContextLimit, Engine, EngineConfig, Forecast, MemoryLimit, Model, Permit};

use super::support::{block_on, config, demo, greedy, run, shared};

const CONVERSATIONS: u32 = 4;
const CONTEXT: u32 = 1000;

fn models() -> Vec<PathBuf> {
    let mut folders = vec![demo("model"), demo("cuda-fp16")];
    if let Some(models) = shared("models") {
        folders.extend(["qwen2/optimum", "lfm2/genai"].map(|name| models.join(name)));
    }
    folders
}

/// Fills an engine that was given as much memory as was forecast.
#[test]
fn an_engine_holds_what_was_forecast() {
    for folder in models() {
        let forecast = Forecast::new(Model::read(&folder).unwrap(), Some(1 << 30), false);
        let demand = forecast.at(CONVERSATIONS, CONTEXT);
        assert!(demand.fits);
        let engine = Engine::load(EngineConfig {
            memory: MemoryLimit::Bytes(demand.kv + demand.constant),
            context: ContextLimit::Tokens(CONTEXT),
            slots: CONVERSATIONS,
            ..config(folder.clone())
        })
        .unwrap();
        let before = engine.memory();
        assert_eq!(before.kv_limit, demand.kv, "{}", folder.display());
        // The runtime packs weights anew for its kernels.
        let weights = forecast.model().weights_bytes;
        assert!((weights..2 * weights).contains(&before.weights), "{before:?} {weights}");
        assert!(before.workspace >= demand.buffers + demand.constant, "{before:?} {demand:?}");
        block_on(fill(&engine));
        let held = engine.memory();
        // The last token of an answer is never put into the cache.
        let per_token = forecast.model().kv_bytes_per_token;
        assert_eq!(held.kv_used, demand.kv - u64::from(CONVERSATIONS) * per_token);
        assert!(held.kv_cache <= demand.kv);
    }
}

/// All conversations at once, each with all its tokens; one more must wait.
async fn fill(engine: &Engine) {
    let mut permits: Vec<Permit> = Vec::new();
    for _ in 0..CONVERSATIONS {
        permits.push(engine.reserve(CONTEXT).await.unwrap());
    }
    let (free, limit) = engine.kv_room();
    assert_eq!((free, limit), (0, permits.iter().map(Permit::bytes).sum()));
    drop(permits);
    let conversation = |seed: u32| {
        let prompt: Vec<u32> = (0..CONTEXT - 10).map(|i| 100 + (i * 7 + seed * 131) % 1500).collect();
        async move { run(engine, greedy(&prompt, 10)).await.unwrap() }
    };
    tokio::join!(conversation(1), conversation(2), conversation(3), conversation(4));
}

/// What does not fit by the forecast is refused by a load with that memory, and the other way round.
#[test]
fn the_most_that_fits_is_the_most_that_is_admitted() {
    let model = Model::read(&demo("model")).unwrap();
    let (weights, per_token) = (model.weights_bytes, model.kv_bytes_per_token);
    let forecast = Forecast::new(model, Some(weights + 100_000_000), false);
    assert_eq!(forecast.kv_limit(), 80_000_000);
    let most = forecast.most(CONTEXT);
    assert_eq!(u64::from(most), 80_000_000 / (u64::from(CONTEXT) * per_token));
    assert!(forecast.at(most, CONTEXT).fits && !forecast.at(most + 1, CONTEXT).fits);
    let engine = Engine::load(EngineConfig {
        memory: MemoryLimit::Bytes(forecast.kv_limit()),
        context: ContextLimit::Tokens(CONTEXT),
        slots: most + 1,
        queue: 0,
        ..config(demo("model"))
    })
    .unwrap();
    block_on(async {
        let mut permits = Vec::new();
        for _ in 0..most {
            permits.push(engine.reserve(CONTEXT).await.unwrap());
        }
        let refused = engine.reserve(CONTEXT).await.unwrap_err();
        assert!(matches!(refused, AdmitError::QueueFull { slots_free: 1, .. }), "{refused}");
    });
}

#[test]
fn a_shared_prefix_counts_its_full_pages_once() {
    let forecast = |folder: PathBuf| Forecast::new(Model::read(&folder).unwrap(), Some(1 << 33), false);
    let demo_model = forecast(demo("model"));
    // Heads of 64 numbers in fp32: 16 tokens a page of 4 KiB; 800 tokens are 50 pages.
    let bytes = demo_model.shared_prefix(800, 50, 1000);
    assert_eq!((bytes.copied, bytes.shared), (50 * 1000 * 4096, Some((800 + 50 * 200) * 4096)));
    let bytes = demo_model.shared_prefix(815, 2, 1000);
    assert_eq!(bytes.shared, Some((800 + 2 * 200) * 4096));
    let Some(models) = shared("models") else { return };
    let hybrid = forecast(models.join("lfm2/genai"));
    assert_eq!(hybrid.shared_prefix(800, 50, 1000).shared, None);
    assert!(hybrid.no_sharing().is_some_and(|reason| reason.contains("states")));
}
