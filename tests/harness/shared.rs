//! Files that tests read: the repository, and the ground truth beside it.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde_json::Value;

/// The repository's root.
///
/// # Panics
/// The repository is gone.
pub fn root() -> &'static Path {
    static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
        let root =
            Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate stands in the repository");
        root.canonicalize().expect("the repository is there")
    });
    &ROOT
}

/// A path below `../shared`; `None`, with a note, where that is absent and nobody insists on it.
///
/// # Panics
/// It is absent and `PLIMSOLL_REQUIRE_SHARED` is set.
pub fn shared(path: &str) -> Option<PathBuf> {
    let found = root().join("../shared").join(path);
    if found.exists() {
        return Some(found);
    }
    let required = std::env::var_os("PLIMSOLL_REQUIRE_SHARED").is_some();
    assert!(!required, "`../shared/{path}` is missing and PLIMSOLL_REQUIRE_SHARED is set");
    eprintln!("skipped: `../shared/{path}` is not beside this checkout");
    None
}

/// A file's JSON.
///
/// # Panics
/// The file is missing or no JSON.
pub fn json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The conversations of `../shared/transcripts`, as chat requests.
pub fn transcripts() -> Vec<Value> {
    let Some(file) = shared("transcripts/tau_airline_40.jsonl") else { return Vec::new() };
    let text = std::fs::read_to_string(file).expect("the transcripts can be read");
    text.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
}

/// A configuration with one engine and one route; `engine` is what stands in its braces.
pub fn one_engine(engine: &str, route: &str) -> String {
    format!(
        "
listen: {{ data: 127.0.0.1:0, admin: 127.0.0.1:0 }}
runtime: {{ onnxruntime: .runtime/libonnxruntime.so }}
log: {{ level: error }}
upstreams:
  local:
    engine: {{ device: cpu, {engine} }}
routes:
  - {{ name: default, upstream: local, {route} }}
"
    )
}

/// The demo model in a window, governed by a policy.
pub fn demo(context: u32, policy: &str) -> String {
    let engine = format!("model: engine/demo/model, name: demo, slots: 4, context: {context}");
    one_engine(&engine, &format!("policy: {policy}, any_model: true"))
}
