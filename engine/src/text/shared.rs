//! Test data outside the repository: models with ground truth.

use std::path::PathBuf;

/// A path in the folder of shared test data; `None`, with a note, where that folder is missing.
pub(super) fn shared(path: &str) -> Option<PathBuf> {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared"));
    if root.is_dir() {
        return Some(root.join(path));
    }
    #[expect(clippy::disallowed_methods, reason = "tells a test run that nothing may be skipped")]
    let required = std::env::var("PLIMSOLL_REQUIRE_SHARED").is_ok_and(|value| value == "1");
    assert!(!required, "{} is missing", root.display());
    println!("skipped: {} is missing", root.display());
    None
}

/// A JSON file of the shared test data.
pub(super) fn shared_json(path: &str) -> Option<serde_json::Value> {
    let text = std::fs::read_to_string(shared(path)?).unwrap();
    Some(serde_json::from_str(&text).unwrap())
}

/// A JSON array of token ids.
pub(super) fn ids(value: &serde_json::Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| u32::try_from(id.as_u64().unwrap()).unwrap()).collect()
}
