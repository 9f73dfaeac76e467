//! Folders, devices and libraries that do not load say why, and what to do.

use plimsoll_engine::{ContextLimit, Device, Engine, EngineConfig, LoadError, MemoryLimit, ModelPaths};

use crate::support::{block_on, config, demo, greedy, run, shared};

fn refused(config: EngineConfig) -> LoadError {
    match Engine::load(config) {
        Ok(engine) => panic!("{engine:?}"),
        Err(error) => error,
    }
}

#[test]
fn a_missing_tokenizer_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["model.onnx", "model.onnx.data", "genai_config.json"] {
        std::fs::copy(demo("model").join(name), folder.path().join(name)).unwrap();
    }
    let message = refused(config(folder.path().to_owned())).to_string();
    assert!(message.contains("tokenizer.json") && message.contains("is missing"), "{message}");
}

#[test]
fn weights_that_do_not_fit_the_graph_are_told() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["model.onnx", "model.onnx.data", "genai_config.json", "tokenizer.json"] {
        std::fs::copy(demo("model").join(name), folder.path().join(name)).unwrap();
    }
    // A graph that reads as one, of which ONNX Runtime thinks otherwise: an operator that does not exist.
    let path = folder.path().join("model.onnx");
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(7).position(|window| window == b"Sigmoid").unwrap();
    bytes[at..at + 7].copy_from_slice(b"SigmoiX");
    std::fs::write(&path, bytes).unwrap();
    let error = refused(config(folder.path().to_owned()));
    assert!(matches!(error, LoadError::Session { .. }), "{error}");
    assert!(error.to_string().contains("Sigmoid"), "{error}");
}

#[test]
fn a_wrong_library_is_told() {
    let missing = EngineConfig { onnxruntime: "/no/such/library.so".into(), ..config(demo("model")) };
    let message = refused(missing).to_string();
    assert!(message.starts_with("cannot load ONNX Runtime from `/no/such/library.so`: "), "{message}");
    let text = EngineConfig { onnxruntime: demo("model").join("config.json"), ..config(demo("model")) };
    assert!(matches!(refused(text), LoadError::Runtime { .. }));
}

#[test]
fn limits_are_checked_against_model_and_memory() {
    let with = |context, memory| EngineConfig { context, memory, ..config(demo("model")) };
    let error = refused(with(ContextLimit::Tokens(5000), MemoryLimit::Auto));
    assert!(matches!(error, LoadError::Context { asked: 5000, limit: 4096 }), "{error}");
    let error = refused(with(ContextLimit::Tokens(1000), MemoryLimit::Bytes(999 * 4096)));
    let LoadError::Memory { needed, available, per_token, .. } = error else { panic!("{error}") };
    assert_eq!((needed, available, per_token), (1000 * 4096, 999 * 4096, 4096));
    let error = refused(EngineConfig { slots: 0, ..config(demo("model")) });
    assert_eq!(error.to_string(), "`slots` is 0, must be at least 1");
}

#[test]
fn auto_context_is_what_memory_allows() {
    let small = EngineConfig { memory: MemoryLimit::Bytes(100 * 4096), ..config(demo("model")) };
    let engine = Engine::load(small).unwrap();
    assert_eq!((engine.context(), engine.memory().kv_limit), (100, 100 * 4096));
}

#[test]
fn fp32_on_cuda_is_refused() {
    let cuda = EngineConfig {
        model: ModelPaths::one(&demo("model")),
        device: Device::Cuda(0),
        ..config(demo("model"))
    };
    let message = refused(cuda).to_string();
    assert!(message.contains("its KV cache is fp32") && message.contains("`-p fp16 -e cuda`"), "{message}");
}

#[test]
fn other_layouts_on_cuda_are_refused() {
    let Some(models) = shared("models") else { return };
    for folder in ["qwen2/optimum", "lfm2/genai"] {
        let model = ModelPaths { cpu: None, cuda: Some(models.join(folder)) };
        let cuda = EngineConfig { model, device: Device::Cuda(0), ..config(demo("model")) };
        let message = refused(cuda).to_string();
        assert!(
            message.contains("run on the CPU only") && message.contains("use `device: cpu`"),
            "{message}"
        );
    }
}

#[test]
fn no_folder_for_the_device_is_told() {
    let cuda = EngineConfig { device: Device::Cuda(0), ..config(demo("model")) };
    assert_eq!(refused(cuda).to_string(), "no model folder is given for cuda: add `cuda` to `model`");
}

/// Where no CUDA loads, the reason is told, and `auto` goes on with the CPU.
#[test]
fn auto_falls_back_to_the_cpu() {
    let model = ModelPaths { cpu: Some(demo("model")), cuda: Some(demo("cuda-fp16")) };
    let auto = EngineConfig { model: model.clone(), device: Device::Auto, ..config(demo("model")) };
    let engine = Engine::load(auto).unwrap();
    if engine.device().provider == "CUDAExecutionProvider" {
        println!("skipped: CUDA loads here");
        return;
    }
    let device = engine.device();
    assert_eq!((device.name.as_str(), device.provider), ("cpu", "CPUExecutionProvider"));
    assert!(device.reason.starts_with("cannot use cuda:0: "), "{}", device.reason);
    assert_eq!(engine.model().folder, demo("model"));
    let cuda = EngineConfig { model, device: Device::Cuda(0), ..config(demo("model")) };
    assert!(matches!(refused(cuda), LoadError::Device { .. }));
}

#[test]
fn engines_come_and_go_in_one_process() {
    let load = |folder: &str| Engine::load(config(demo(folder))).unwrap();
    let (one, other) = (load("model"), load("cuda-fp16"));
    for engine in [&one, &other, &one] {
        block_on(run(engine, greedy(&[5, 6, 7], 4))).unwrap();
    }
    drop(one);
    let again = load("model");
    block_on(run(&again, greedy(&[5, 6, 7], 4))).unwrap();
    block_on(run(&other, greedy(&[5, 6, 7], 4))).unwrap();
}

/// The kernel reserves what nobody writes to for nothing, and what was written comes back after the end.
#[test]
fn memory_returns_after_the_end() {
    let resident = |engine: &Engine| engine.memory().process_rss;
    let engine = Engine::load(EngineConfig { slots: 64, ..config(demo("model")) }).unwrap();
    // 64 slots of 4,096 tokens are 1 GiB.
    assert_eq!(engine.memory().kv_limit, 1 << 30);
    assert!(resident(&engine) < 400 << 20, "{}", resident(&engine));
    block_on(run(&engine, greedy(&vec![9; 4000], 2))).unwrap();
    let full = resident(&engine);
    assert_eq!(engine.memory().kv_used, 4001 * 4096);
    engine.shutdown();
    let reading = engine.memory();
    assert_eq!((reading.total(), reading.kv_reserved), (0, 0));
    assert!(reading.process_rss + (14 << 20) < full, "{} of {full} remain", reading.process_rss);
}
