//! Encoding by segments, so that a growing conversation costs only what is new in it.
//!
//! A rendered prompt is cut before each special token; the ids of every piece are kept under its text.
//! That the pieces give exactly the ids of the whole is tested on awkward strings when a model is loaded; where it
//! does not hold, prompts are encoded whole and kept whole.

use std::sync::{Arc, OnceLock};

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};

use crate::text::error::EncodeError;
use crate::text::tokenizer::Tokenizer;

/// What the memo may hold, in bytes of texts and ids: about eight million tokens.
const CAPACITY: u64 = 64 << 20;
/// Bytes of bookkeeping for an entry.
const ENTRY: u64 = 96;
/// A guess of a piece's size in tokens, for the memo's first allocation.
const TYPICAL_TOKENS: u64 = 256;

type Ids = Arc<[u32]>;

/// A prompt's ids, in pieces that it shares with other prompts.
#[derive(Debug)]
pub struct Encoded {
    pieces: Vec<Ids>,
    whole: OnceLock<Ids>,
}

impl Encoded {
    /// Number of tokens.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.pieces.iter().map(|piece| piece.len()).sum()
    }

    /// The ids in one piece, which is made when it is first asked for.
    #[must_use]
    pub fn ids(&self) -> Arc<[u32]> {
        let whole = self.whole.get_or_init(|| match self.pieces.as_slice() {
            [whole] => Arc::clone(whole),
            pieces => pieces.concat().into(),
        });
        Arc::clone(whole)
    }
}

fn memo(capacity: u64) -> Cache<Box<str>, Ids, ByLength> {
    let options = OptionsBuilder::new()
        .estimated_items_capacity((capacity / (ENTRY + 8 * TYPICAL_TOKENS)) as usize)
        .weight_capacity(capacity)
        // What just came is asked for again in the same request: it has half of the room, also where all is full.
        .hot_allocation(0.5)
        .build();
    let options = options.expect("both capacities are given. This is a bug.");
    Cache::with_options(options, ByLength, DefaultHashBuilder::default(), DefaultLifecycle::default())
}

/// Encodes rendered prompts and remembers their pieces.
pub(super) struct SegmentMemo {
    tokenizer: Tokenizer,
    ids: Cache<Box<str>, Ids, ByLength>,
    segmented: bool,
}

#[derive(Clone)]
struct ByLength;

impl Weighter<Box<str>, Ids> for ByLength {
    fn weight(&self, text: &Box<str>, ids: &Ids) -> u64 {
        ENTRY + text.len() as u64 + size_of_val::<[u32]>(ids) as u64
    }
}

impl SegmentMemo {
    /// A memo for `tokenizer`, after testing on `samples` (rendered prompts) and on awkward strings whether
    /// segments can be trusted. Fails where the tokenizer does not encode them at all.
    pub(super) fn new(tokenizer: Tokenizer, samples: &[String]) -> Result<Self, EncodeError> {
        let segmented = pieces_equal_whole(&tokenizer, samples)?;
        Ok(Self { tokenizer, ids: memo(CAPACITY), segmented })
    }

    /// Whether prompts are encoded piece by piece.
    pub(super) fn segmented(&self) -> bool {
        self.segmented
    }

    /// Ids of a rendered prompt.
    pub(super) fn encode(&self, text: &str) -> Result<Encoded, EncodeError> {
        let pieces = if self.segmented { self.tokenizer.pieces(text) } else { None };
        let pieces = pieces.unwrap_or_else(|| vec![text]);
        let pieces: Result<Vec<Ids>, _> = pieces.into_iter().map(|piece| self.piece(piece)).collect();
        Ok(Encoded { pieces: pieces?, whole: OnceLock::new() })
    }

    fn piece(&self, text: &str) -> Result<Ids, EncodeError> {
        if let Some(ids) = self.ids.get(text) {
            return Ok(ids);
        }
        let ids: Ids = self.tokenizer.encode(text)?.into();
        self.ids.insert(text.into(), Arc::clone(&ids));
        Ok(ids)
    }
}

/// Strings at whose borders tokenizers behave oddly.
const AWKWARD: [&str; 26] = [
    "",
    " ",
    "  two  spaces  ",
    "\n",
    "\n\n\n",
    "\r\n\t",
    "user\nHello, world!",
    "\n\nassistant",
    "I'll don't 'S we've",
    "12345678901234567890 1,234.5",
    "▁meta ▁▁ space ▁",
    "e\u{301}e A\u{30a}",
    "\u{301}starts with a mark",
    "\u{200d}joiner\u{200d}",
    "👩\u{200d}💻👍🏽🇪🇺",
    "今天天气很好。東京は",
    "한국어 문장",
    "مرحبا بالعالم ١٢٣",
    "नमस्ते ไทย",
    "ﬁ ｆｕｌｌ\u{3000}ｗｉｄｔｈ",
    "\u{a0}nbsp\u{feff}bom\u{200b}",
    "\0nul\u{7f}",
    "{\"name\": \"f\", \"arguments\": {\"a\": [1, 2.50, null]}}",
    "    indented:\n\treturn x  # y",
    "<0x41> <unk> </s> <|",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
];

/// Whether the pieces of every test text have the ids of the whole.
fn pieces_equal_whole(tokenizer: &Tokenizer, samples: &[String]) -> Result<bool, EncodeError> {
    let specials = tokenizer.special_texts();
    let mut awkward = Vec::new();
    let mut all = String::new();
    for (i, before) in AWKWARD.iter().enumerate() {
        for (j, after) in AWKWARD.iter().enumerate() {
            let special = specials.get((i * AWKWARD.len() + j) % specials.len().max(1));
            let special = special.map_or("", String::as_str);
            awkward.push(format!("{before}{special}{after}"));
        }
        all.push_str(awkward.last().map_or("", String::as_str));
    }
    awkward.push(all);
    let mut equal = !specials.is_empty();
    for text in samples.iter().chain(&awkward) {
        let whole = tokenizer.encode(text)?;
        equal = equal && encode_pieces(tokenizer, text)? == Some(whole);
    }
    Ok(equal)
}

fn encode_pieces(tokenizer: &Tokenizer, text: &str) -> Result<Option<Vec<u32>>, EncodeError> {
    let Some(pieces) = tokenizer.pieces(text) else { return Ok(None) };
    let ids: Result<Vec<_>, _> = pieces.into_iter().map(|piece| tokenizer.encode(piece)).collect();
    Ok(Some(ids?.concat()))
}

#[cfg(test)]
#[path = "segments_tests.rs"]
mod tests;
