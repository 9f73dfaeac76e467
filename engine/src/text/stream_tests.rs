use std::path::Path;
use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::json;

use super::TextStream;
use crate::text::tokenizer::Tokenizer;
use crate::text::tokenizer::tests::demo;

fn streamed(tokenizer: &Tokenizer, ids: &[u32], skip_special: bool) -> Vec<String> {
    let mut stream = TextStream::new(tokenizer.clone(), skip_special, Vec::new());
    let mut texts: Vec<String> = ids.iter().filter_map(|id| stream.push(*id)).collect();
    texts.extend(stream.finish());
    texts
}

/// A small SentencePiece-like vocabulary: words behind `▁`, and single bytes.
fn sentencepiece(folder: &Path) -> Tokenizer {
    let mut vocab = serde_json::Map::new();
    for (id, token) in ["<unk>", "</s>", "▁", "▁Hi", "a", "b", "▁a"].iter().enumerate() {
        vocab.insert((*token).to_owned(), json!(id));
    }
    for byte in 0..256 {
        vocab.insert(format!("<0x{byte:02X}>"), json!(7 + byte));
    }
    let special = |id: u32, content: &str| {
        json!({"id": id, "content": content, "special": true, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false})
    };
    let file = json!({
        "version": "1.0",
        "added_tokens": [special(0, "<unk>"), special(1, "</s>")],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
        ]},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}
        ]},
        "model": {"type": "BPE", "unk_token": "<unk>", "byte_fallback": true, "fuse_unk": true,
            "vocab": vocab, "merges": [["▁", "a"]]}
    });
    let path = folder.join("tokenizer.json");
    std::fs::write(&path, file.to_string()).unwrap();
    Tokenizer::load(&path).unwrap()
}

static SENTENCEPIECE: LazyLock<Tokenizer> =
    LazyLock::new(|| sentencepiece(tempfile::tempdir().unwrap().path()));

#[test]
fn bytes_become_text_when_their_character_is_whole() {
    let tokenizer = &*SENTENCEPIECE;
    let ids = tokenizer.encode("a 😀b a").unwrap();
    assert_eq!(streamed(tokenizer, &ids, true), ["a", " ", "😀", "b", " a"]);
    let byte = |byte: u32| 7 + byte;
    assert_eq!(streamed(tokenizer, &[3, 1, 3], true), ["Hi", " Hi"]);
    assert_eq!(streamed(tokenizer, &[4, byte(0xE2), byte(0x82), 5], true), ["a", "\u{fffd}\u{fffd}b"]);
    assert_eq!(streamed(tokenizer, &[4, byte(0xE2), byte(0x82)], true), ["a", "\u{fffd}\u{fffd}"]);
}

#[test]
fn special_tokens_are_left_out_save_the_ones_to_show() {
    let Some(tokenizer) = demo() else { return };
    let ids = tokenizer.encode("a<|im_end|>b<|im_start|>").unwrap();
    assert_eq!(streamed(tokenizer, &ids, true).concat(), "ab");
    assert_eq!(streamed(tokenizer, &ids, false).concat(), "a<|im_end|>b<|im_start|>");
    let shown = vec![tokenizer.added_token("<|im_end|>").unwrap()];
    let mut stream = TextStream::new(tokenizer.clone(), true, shown);
    let text: String = ids.iter().filter_map(|id| stream.push(*id)).collect();
    assert_eq!(text, "a<|im_end|>b");
}

proptest! {
    #[test]
    fn a_byte_level_stream_is_the_decoded_whole(
        ids in prop::collection::vec(0_u32..2100, 0..40),
        skip_special in any::<bool>(),
    ) {
        let Some(tokenizer) = demo() else { return Ok(()) };
        prop_assert_eq!(streamed(tokenizer, &ids, skip_special).concat(), tokenizer.decode(&ids, skip_special));
    }

    #[test]
    fn text_that_was_encoded_streams_back(text in "[a-z ▁\\n\u{e9}😀今]{0,20}") {
        let tokenizer = &*SENTENCEPIECE;
        let ids = tokenizer.encode(&text).unwrap();
        prop_assert_eq!(streamed(tokenizer, &ids, false).concat(), tokenizer.decode(&ids, false));
    }

    #[test]
    fn any_ids_of_a_byte_fallback_vocabulary_stream(ids in prop::collection::vec(0_u32..270, 0..30)) {
        let tokenizer = &*SENTENCEPIECE;
        // What differs from the whole is only how many replacement characters broken bytes become.
        let _ = streamed(tokenizer, &ids, true);
    }
}
