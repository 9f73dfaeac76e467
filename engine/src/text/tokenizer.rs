//! `tokenizer.json`: text to token ids and back.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use tokenizers::pipeline::{
    EncodeOptions, Override, PipelineModel, PipelinePatternMatcher, PipelineToken, PipelineTokenizer,
};
use tokenizers::utils::byte_level::char_to_byte;

use crate::text::error::{EncodeError, TextError};
use crate::text::patterns::CompiledPatterns;

/// One model's tokenizer. Cheap to clone.
#[derive(Clone)]
pub(super) struct Tokenizer {
    inner: Arc<Inner>,
}

struct Inner {
    pipeline: PipelineTokenizer,
    /// Runs in place of the pipeline's own splitting, where that does not work.
    patterns: Option<CompiledPatterns>,
    /// Added tokens that are marked special: skipped when decoding for people, borders of segments when encoding.
    special: HashSet<u32>,
    /// Each token stands for bytes of its own (GPT-2's alphabet), whatever its neighbours are.
    byte_level: bool,
    /// Every text between two special tokens is encoded alike wherever it stands.
    separable: bool,
}

impl Tokenizer {
    /// Reads `tokenizer.json`, of any version, from `path`.
    pub(super) fn load(path: &Path) -> Result<Self, TextError> {
        let fault = |reason: String| TextError::Tokenizer { path: path.to_owned(), reason };
        let canonical = read_canonical(path)?;
        let pipeline = tokenizers::from_json(&canonical).map_err(|e| fault(e.to_string()))?;
        let patterns = CompiledPatterns::for_tokenizer(&pipeline).map_err(|e| fault(e.to_string()))?;
        let added = pipeline.get_added_vocabulary().get_added_tokens_decoder();
        let special = added.iter().filter(|(_, token)| token.special).map(|(&id, _)| id).collect();
        // A token that only matches as a whole word looks at the text around it, also across a border.
        let separable = !added.values().any(|token| token.single_word);
        let byte_level = match pipeline.get_model() {
            PipelineModel::BPE(bpe) => bpe.is_byte_level(),
            _ => false,
        };
        Ok(Self { inner: Arc::new(Inner { pipeline, patterns, special, byte_level, separable }) })
    }

    /// Ids of `text` itself: special tokens in it are recognised, none is added.
    pub(super) fn encode(&self, text: &str) -> Result<Vec<u32>, EncodeError> {
        self.run(text, false)
    }

    /// Ids of `text` with what the post-processor puts around it (a beginning-of-text token, say).
    pub(super) fn encode_with_frame(&self, text: &str) -> Result<Vec<u32>, EncodeError> {
        self.run(text, true)
    }

    fn run(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, EncodeError> {
        // Truncation and padding stored in the file are leftovers of training: `transformers` ignores them too.
        let options = EncodeOptions {
            add_special_tokens,
            encode_special_tokens: false,
            padding: Override::Off,
            truncation: Override::Off,
        };
        let pipeline = &self.inner.pipeline;
        let mut tokens: Vec<PipelineToken> = Vec::with_capacity(text.len() / 3 + 2);
        let encoded = match &self.inner.patterns {
            None => pipeline.encode_into(text, &options, &mut tokens),
            Some(patterns) => patterns.encode(pipeline, text, &mut tokens),
        };
        encoded.map_err(|e| EncodeError(e.to_string()))?;
        if self.inner.patterns.is_some() && add_special_tokens {
            let frame = &pipeline.get_post_processor().single;
            tokens = frame.post_process::<true>(tokens, None).ids().to_vec();
        }
        Ok(tokens.into_iter().map(PipelineToken::id).collect())
    }

    /// Text of `ids`; broken UTF-8 becomes U+FFFD. Ids outside the vocabulary have no text.
    pub(super) fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        let pipeline = &self.inner.pipeline;
        let decoded = pipeline.decode(ids, skip_special);
        decoded.unwrap_or_else(|_| pipeline.decode_tokens(ids, skip_special).concat())
    }

    /// Whether `id` is a token that decoding for people leaves out.
    pub(super) fn is_special(&self, id: u32) -> bool {
        self.inner.special.contains(&id)
    }

    /// Whether [`Self::bytes`] gives the text of a token.
    pub(super) fn is_byte_level(&self) -> bool {
        self.inner.byte_level
    }

    /// Bytes that token `id` of a byte-level vocabulary stands for; they need not be whole characters.
    pub(super) fn bytes(&self, id: u32) -> Vec<u8> {
        let pipeline = &self.inner.pipeline;
        if let Some(added) = pipeline.get_added_vocabulary().simple_id_to_token(id) {
            return added.into_bytes();
        }
        let written = pipeline.get_model().id_to_token(id).unwrap_or_default();
        written.chars().filter_map(char_to_byte).collect()
    }

    /// Bytes that token `id` stands for, whatever stands beside it; `None` where the vocabulary does not tell. Ids
    /// outside it stand for nothing.
    pub(super) fn word(&self, id: u32) -> Option<Vec<u8>> {
        let model = self.inner.pipeline.get_model();
        if self.inner.byte_level
            || self.inner.pipeline.get_added_vocabulary().simple_id_to_token(id).is_some()
        {
            return Some(self.bytes(id));
        }
        if !matches!(model, PipelineModel::BPE(_) | PipelineModel::Unigram(_)) {
            return None;
        }
        let written = model.id_to_token(id).unwrap_or_default();
        let byte = written.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
        match byte.filter(|hex| hex.len() == 2).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => Some(vec![byte]),
            // How sentencepiece writes a space.
            None => Some(written.replace('\u{2581}', " ").into_bytes()),
        }
    }

    /// Id of the added token that is written `content`.
    pub(super) fn added_token(&self, content: &str) -> Option<u32> {
        self.inner.pipeline.get_added_vocabulary().token_to_id(content)
    }

    /// The special tokens as they are written in a text.
    pub(super) fn special_texts(&self) -> Vec<String> {
        let vocabulary = self.inner.pipeline.get_added_vocabulary();
        let mut texts: Vec<_> =
            self.inner.special.iter().filter_map(|&id| vocabulary.simple_id_to_token(id)).collect();
        texts.sort_unstable();
        texts
    }

    /// `text` cut before each of its special tokens; `None` where cutting could change the ids.
    ///
    /// A piece starts with its special token, so that a tokenizer which treats the start of a text in its own way
    /// (`Metaspace` with `prepend_scheme: first`) still sees that the piece is not the start.
    pub(super) fn pieces<'t>(&self, text: &'t str) -> Option<Vec<&'t str>> {
        if !self.inner.separable {
            return None;
        }
        let vocabulary = self.inner.pipeline.get_added_vocabulary();
        let (mut pieces, mut from, mut searched) = (Vec::new(), 0, 0);
        while let Some(((start, end), id)) = vocabulary.extract_next(text.as_bytes(), searched, false, false)
        {
            if start > from && self.is_special(id) {
                pieces.push(&text[from..start]);
                from = start;
            }
            searched = end.max(searched + 1);
        }
        if from < text.len() {
            pieces.push(&text[from..]);
        }
        Some(pieces)
    }
}

/// The file's text in the form that the reader takes (files written by older versions are upgraded).
fn read_canonical(path: &Path) -> Result<String, TextError> {
    let text = std::fs::read_to_string(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => TextError::MissingTokenizer { path: path.to_owned() },
        _ => TextError::Read { path: path.to_owned(), reason: e.to_string() },
    })?;
    tokenizers::canonicalize_str(&text)
        .map_err(|e| TextError::Tokenizer { path: path.to_owned(), reason: e.to_string() })
}

#[cfg(test)]
#[path = "tokenizer_tests.rs"]
pub(super) mod tests;
