//! What the repository shows its users is valid: `config.yaml`, its comments, the README.

use std::fs;

use super::tests::{directory, sources};
use super::*;

fn repository() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

#[test]
fn the_shipped_configuration_is_valid() {
    let sources = Sources { file: repository().join("config.yaml"), ..sources(&repository()) };
    let loaded = Config::load(&sources).expect("valid");
    assert_eq!(loaded.warnings, []);
    let Some(Upstream::Engine(engine)) = loaded.config.upstreams.get("local") else { panic!("no engine") };
    assert_eq!((engine.name.as_str(), engine.context), ("demo", EngineContext::Tokens(1024)));
    assert!(loaded.config.routes[0].any_model);
    assert_eq!(loaded.config.routes[0].mode, Mode::Enforce);
    assert!(!loaded.config.policies["chat"].is_empty());
}

/// What stands in comments is shown to users too.
#[test]
fn the_shipped_comments_are_valid() {
    let text = fs::read_to_string(repository().join("config.yaml")).expect("readable");
    let lines = text.lines().map(|line| match line.strip_prefix('#') {
        Some(option) if option.starts_with("  ") => option,
        _ => line,
    });
    let text = lines.collect::<Vec<_>>().join("\n").replace("policies: {} ", "policies: ");
    let text = text
        .replace("keys: {} ", "keys: ")
        .replace("cors: null ", "cors: ")
        .replace("disk: null               # files", "disk: # files")
        .replace("keys: [] ", "keys: [ci] #");
    let directory = directory();
    for folder in ["engine/demo/model", "engine/demo/cuda-fp16", "models/qwen3"] {
        fs::create_dir_all(directory.path().join(folder)).expect("a folder");
    }
    let mut sources = sources(directory.path());
    sources.environment.insert("VLLM_API_KEY".to_owned(), "k".to_owned());
    sources.environment.insert("CI_KEY_HASH".to_owned(), format!("sha256:{}", "0".repeat(64)));
    let text = text.replace("/etc/ssl/ca.pem", "ca.pem");
    let loaded = Config::parse(&text, &sources).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.config.routes.len(), 2);
}

/// Parts of configurations, each as a user would paste it beside an upstream and a route.
#[test]
fn the_blocks_of_the_readme_are_valid() {
    let text = fs::read_to_string(repository().join("README.md")).expect("readable");
    let blocks: Vec<&str> =
        text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        let has = |key: &str| block.lines().any(|line| line.starts_with(key));
        let mut whole = block.to_owned();
        if !has("upstreams:") {
            whole += "\nupstreams: { local: { engine: { model: model } } }\n";
        }
        if !has("routes:") {
            whole += "\nroutes: [ { name: default, upstream: local } ]\n";
        }
        let directory = directory();
        fs::create_dir(directory.path().join("policies.d")).expect("a folder");
        let loaded = Config::parse(&whole, &sources(directory.path()));
        assert!(loaded.is_ok(), "{}\n{whole}", loaded.expect_err("faults"));
    }
}

/// Every option of the schema is shown in the shipped file, each with the schema's default.
#[test]
fn the_shipped_configuration_shows_every_option() {
    let text = fs::read_to_string(repository().join("config.yaml")).expect("readable");
    let schema = schema();
    let definitions = schema["$defs"].as_object().expect("definitions").iter();
    let ours = [
        "Cors",
        "Ejection",
        "Engine",
        "Explain",
        "HealthCheck",
        "Limits",
        "Listen",
        "Log",
        "Offload",
        "OffloadDisk",
        "Otlp",
        "Retries",
        "Route",
        "Runtime",
        "Telemetry",
        "Timeouts",
        "Upstream",
    ];
    let shown = |key: &str| {
        text.lines().any(|line| line.trim_start_matches(['#', ' ', '-']).starts_with(&format!("{key}:")))
    };
    for (name, definition) in definitions.filter(|(name, _)| ours.contains(&name.as_str())) {
        for key in definition["properties"].as_object().expect("properties").keys() {
            assert!(shown(key), "`{key}` of {name} is not shown");
        }
    }
}
