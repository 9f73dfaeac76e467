//! Encoding for tokenizers whose splitting pattern is none of the well-known ones.
//!
//! The `tokenizers` reader (1.0.0-rc.3) leaves such a pattern uncompiled and then refuses every text, although the
//! pattern engine is there. Here the pattern is compiled, and the reader's own parts are run in their own order with
//! the mended splitter.

use std::sync::{Mutex, PoisonError};

use tokenizers::pipeline::{
    Model, PipelineModel, PipelinePreTokenizer, PipelineToken, PipelineTokenizer, PreTokenizer,
    PreTokenizerScratch, Segment, Span, SpecialSegmentIterator, normalize_all,
};
use tokenizers::pre_tokenizers::sequence::PipelineSequence;
use tokenizers::pre_tokenizers::split::{Search, Split};
use tokenizers::tokenizer::SplitDelimiterBehavior;

type Fault = Box<dyn std::error::Error + Send + Sync>;

/// Splits text by patterns that were compiled here, and encodes it with the other parts of a tokenizer.
pub(super) struct CompiledPatterns {
    splitter: PipelinePreTokenizer,
    scratches: Mutex<Vec<Scratch>>,
}

/// Buffers of one encoding; the model's part holds a cache of words that is worth keeping.
struct Scratch {
    model: <PipelineModel as Model>::Scratch,
    splitter: PreTokenizerScratch,
    words: Vec<Span>,
}

impl CompiledPatterns {
    /// Compiles what the reader left out; `None` where it left nothing out.
    pub(super) fn for_tokenizer(pipeline: &PipelineTokenizer) -> Result<Option<Self>, Fault> {
        let splitter = compiled(pipeline.get_pre_tokenizer())?;
        Ok(splitter.map(|splitter| Self { splitter, scratches: Mutex::default() }))
    }

    /// Appends the ids of `text` to `tokens`; special tokens are recognised, none is added.
    pub(super) fn encode(
        &self,
        pipeline: &PipelineTokenizer,
        text: &str,
        tokens: &mut Vec<PipelineToken>,
    ) -> Result<(), Fault> {
        let taken = self.scratches.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut scratch = taken.unwrap_or_else(|| Scratch {
            model: pipeline.get_model().init_scratch(),
            splitter: PreTokenizerScratch::default(),
            words: Vec::new(),
        });
        let result = self.encode_with(pipeline, text, &mut scratch, tokens);
        self.scratches.lock().unwrap_or_else(PoisonError::into_inner).push(scratch);
        result
    }

    fn encode_with(
        &self,
        pipeline: &PipelineTokenizer,
        text: &str,
        scratch: &mut Scratch,
        tokens: &mut Vec<PipelineToken>,
    ) -> Result<(), Fault> {
        let added = pipeline.get_added_vocabulary();
        for segment in SpecialSegmentIterator::new(text, added, false, false) {
            let (part, offset) = match segment {
                Segment::SpecialToken(id) => {
                    tokens.push(id.into());
                    continue;
                }
                Segment::Text { text, input_offset } => (text, input_offset),
            };
            let normal = normalize_all(pipeline.get_normalizers(), part, offset)?;
            for segment in SpecialSegmentIterator::new(&normal, added, true, false) {
                match segment {
                    Segment::SpecialToken(id) => tokens.push(id.into()),
                    Segment::Text { text, .. } => self.words(pipeline, text, scratch, tokens)?,
                }
            }
        }
        Ok(())
    }

    /// Text between added tokens, normalised.
    fn words(
        &self,
        pipeline: &PipelineTokenizer,
        text: &str,
        scratch: &mut Scratch,
        tokens: &mut Vec<PipelineToken>,
    ) -> Result<(), Fault> {
        if u32::try_from(text.len()).is_err() {
            return Err("the text is longer than 4 GiB".into());
        }
        scratch.words.clear();
        self.splitter.pre_tokenize(text, &mut scratch.splitter, &mut scratch.words)?;
        pipeline.get_model().tokenize_spans(text, &scratch.words, &mut scratch.model, tokens)
    }
}

/// `splitter` with its patterns compiled; `None` where it runs as it is.
fn compiled(splitter: &PipelinePreTokenizer) -> Result<Option<PipelinePreTokenizer>, Fault> {
    match splitter {
        PipelinePreTokenizer::Split(split) if needs_engine(split) => {
            let compiled = Split::new(split.pattern.clone(), split.behavior, split.invert)?;
            Ok(Some(PipelinePreTokenizer::Split(compiled)))
        }
        PipelinePreTokenizer::Sequence(sequence) if !sequence.is_deepseek() => {
            let members = sequence.pre_tokenizers();
            let mended: Vec<_> = members.iter().map(compiled).collect::<Result<_, _>>()?;
            if mended.iter().all(Option::is_none) {
                return Ok(None);
            }
            let members =
                mended.into_iter().zip(members).map(|(mended, old)| mended.unwrap_or_else(|| old.clone()));
            Ok(Some(PipelinePreTokenizer::Sequence(PipelineSequence::new(members.collect()))))
        }
        _ => Ok(None),
    }
}

/// Whether the split runs on a pattern engine that the reader did not set up.
fn needs_engine(split: &Split) -> bool {
    let native =
        split.grammar().is_some() && !split.invert && split.behavior == SplitDelimiterBehavior::Isolated;
    matches!(split.search, Search::Unavailable) && !native
}
