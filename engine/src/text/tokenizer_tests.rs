use std::path::Path;
use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::Tokenizer;
use crate::text::error::TextError;
use crate::text::shared::shared;

fn load(folder: &Path, text: &str) -> Result<Tokenizer, TextError> {
    let path = folder.join("tokenizer.json");
    std::fs::write(&path, text).unwrap();
    Tokenizer::load(&path)
}

/// A model that only knows single bytes, split by `pattern`.
fn bytes_split_by(pattern: &str) -> Value {
    let mut vocab = serde_json::Map::new();
    for (id, byte) in (0..=255_u8).enumerate() {
        let written = tokenizers::utils::byte_level::BYTES_CHAR_LOOKUP[usize::from(byte)];
        vocab.insert(written.to_string(), json!(id));
    }
    vocab.insert("ab".to_owned(), json!(256));
    json!({
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}
        ]},
        "model": {"type": "BPE", "vocab": vocab, "merges": [["a", "b"]]}
    })
}

#[test]
fn faults_name_the_file_and_the_cause() {
    let folder = tempfile::tempdir().unwrap();
    let missing = Tokenizer::load(&folder.path().join("tokenizer.json")).err().unwrap();
    assert!(matches!(missing, TextError::MissingTokenizer { .. }));
    for (text, cause) in [
        ("", "not JSON"),
        ("{\"model\": ", "not JSON"),
        ("[]", "JSON object"),
        ("{}", "no `model`"),
        (r#"{"model": {"type": "Riddle"}}"#, "cannot read the"),
        (r#"{"model": {"type": "BPE", "vocab": {}, "merges": ["a"]}}"#, "merge"),
    ] {
        let fault = load(folder.path(), text).err().unwrap().to_string();
        assert!(fault.contains("tokenizer.json") || fault.contains(cause), "{text}: {fault}");
        assert!(fault.contains(cause) && fault.contains("export it again"), "{text}: {fault}");
    }
}

#[test]
fn unusual_split_patterns_are_compiled() {
    let folder = tempfile::tempdir().unwrap();
    let whole = load(folder.path(), &bytes_split_by("(?s).+").to_string()).unwrap();
    assert_eq!(whole.encode("cab").unwrap(), [99, 256]);
    // With a look-ahead that parts `a` from `b`.
    let parted = load(folder.path(), &bytes_split_by("a(?=b)|[^a]").to_string()).unwrap();
    assert_eq!(parted.encode("cab").unwrap(), [99, 97, 98]);
    assert_eq!(parted.encode_with_frame("cab").unwrap(), [99, 97, 98]);
    let broken = load(folder.path(), &bytes_split_by("(").to_string());
    assert!(matches!(broken, Err(TextError::Tokenizer { .. })));
}

#[test]
fn pieces_start_with_their_special_token() {
    let Some(tokenizer) = demo() else { return };
    let cut = |text: &'static str| tokenizer.pieces(text).unwrap();
    assert_eq!(cut("a<|im_start|>b<|im_end|>\n"), ["a", "<|im_start|>b", "<|im_end|>\n"]);
    assert_eq!(cut("<|im_end|><|im_end|>"), ["<|im_end|>", "<|im_end|>"]);
    assert_eq!(cut("<|im_en|>"), ["<|im_en|>"]);
    assert_eq!(cut(""), [""; 0]);
}

/// The demo model's tokenizer, loaded once.
pub(in crate::text) fn demo() -> Option<&'static Tokenizer> {
    static DEMO: LazyLock<Option<Tokenizer>> = LazyLock::new(|| {
        let path = shared("demo-model/model")?.join("tokenizer.json");
        Some(Tokenizer::load(&path).unwrap())
    });
    DEMO.as_ref()
}

proptest! {
    #[test]
    fn byte_level_text_survives(text in ".{0,40}") {
        let Some(tokenizer) = demo() else { return Ok(()) };
        let ids = tokenizer.encode(&text).unwrap();
        prop_assert_eq!(tokenizer.decode(&ids, false), text);
    }
}
