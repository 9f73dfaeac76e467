use proptest::prelude::*;

use super::SegmentMemo;
use crate::text::shared::shared;
use crate::text::tokenizer::Tokenizer;

fn memo(folder: &str) -> Option<(Tokenizer, SegmentMemo)> {
    let tokenizer = Tokenizer::load(&shared(folder)?.join("tokenizer.json")).unwrap();
    let memo = SegmentMemo::new(tokenizer.clone(), &[]).unwrap();
    Some((tokenizer, memo))
}

#[test]
fn a_growing_prompt_is_encoded_where_it_grew() {
    let Some((tokenizer, memo)) = memo("models/tokenizers/chatml") else { return };
    let mut prompt = String::new();
    for turn in 0..20 {
        let known = memo.ids.len();
        prompt.push_str(&format!("<|im_start|>user\nmessage number {turn}<|im_end|>\n"));
        assert_eq!(*memo.encode(&prompt).unwrap().ids(), *tokenizer.encode(&prompt).unwrap());
        assert_eq!(memo.encode(&prompt).unwrap().tokens(), memo.encode(&prompt).unwrap().ids().len());
        // One message, and in the first turn the `<|im_end|>` that all turns share.
        assert_eq!(memo.ids.len() - known, if turn == 0 { 2 } else { 1 });
    }
}

#[test]
fn a_full_memo_holds_what_just_came() {
    let Some((_, mut memo)) = memo("demo-model/model") else { return };
    memo.ids = super::memo(4 << 20);
    let prompt = |salt: usize, turns: usize| -> String {
        let text =
            |turn: usize| format!("<|im_start|>user\n{salt}.{turn}{}<|im_end|>\n", " word".repeat(200));
        (0..turns).map(text).collect()
    };
    // What came twice is dearer than what comes for the first time.
    for salt in (0..12).flat_map(|salt| [salt, salt]) {
        memo.encode(&prompt(salt, 400)).unwrap();
    }
    let last = prompt(12, 400);
    memo.encode(&last).unwrap();
    let pieces = memo.tokenizer.pieces(&last).unwrap();
    assert!(pieces.into_iter().all(|piece| memo.ids.get(piece).is_some()));
}

#[test]
fn a_tokenizer_that_looks_across_borders_is_encoded_whole() {
    let Some(folder) = shared("demo-model/model") else { return };
    let text = std::fs::read_to_string(folder.join("tokenizer.json")).unwrap();
    let word = text.replacen("\"single_word\": false", "\"single_word\": true", 1);
    assert_ne!(word, text);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    std::fs::write(&path, word).unwrap();
    let memo = SegmentMemo::new(Tokenizer::load(&path).unwrap(), &[]).unwrap();
    assert!(!memo.segmented());
    let prompt = "<|im_start|>user\nhi<|im_end|>\n";
    assert_eq!(*memo.encode(prompt).unwrap().ids(), *memo.tokenizer.encode(prompt).unwrap());
}

proptest! {
    #[test]
    fn pieces_have_the_ids_of_the_whole(
        parts in prop::collection::vec(
            prop_oneof![
                Just("<|im_start|>".to_owned()), Just("<|im_end|>".to_owned()), Just("<tool_call>".to_owned()),
                Just("<|eot_id|>".to_owned()), Just("<|start_header_id|>".to_owned()), Just("<|im_".to_owned()),
                ".{0,12}", "[ \\n\\t\\u{301}a1']{0,6}",
            ],
            0..12,
        ),
    ) {
        let prompt = parts.concat();
        for folder in ["models/tokenizers/chatml", "models/tokenizers/llama3", "demo-model/model"] {
            let Some((tokenizer, memo)) = memo_once(folder) else { return Ok(()) };
            prop_assert!(memo.segmented());
            let prompt_ids = tokenizer.encode(&prompt).unwrap();
            let encoded = memo.encode(&prompt).unwrap();
            prop_assert_eq!((&*encoded.ids(), encoded.tokens()), (&*prompt_ids, prompt_ids.len()));
        }
    }
}

/// Memos that are loaded once for all cases.
fn memo_once(folder: &str) -> Option<&'static (Tokenizer, SegmentMemo)> {
    use std::collections::BTreeMap;
    use std::sync::LazyLock;
    static LOADED: LazyLock<BTreeMap<&str, (Tokenizer, SegmentMemo)>> = LazyLock::new(|| {
        ["models/tokenizers/chatml", "models/tokenizers/llama3", "demo-model/model"]
            .into_iter()
            .filter_map(|folder| Some((folder, memo(folder)?)))
            .collect()
    });
    LOADED.get(folder)
}
