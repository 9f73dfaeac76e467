//! Marks in an answer that is not held to its grammar yet.

use std::sync::Arc;

use llguidance::toktrie::TokTrie;

/// Marks to look for.
#[derive(Debug)]
pub(super) struct Marks {
    marks: Vec<Mark>,
    /// Tokens that may end a mark and go on behind it.
    across: Vec<u32>,
    longest: usize,
}

/// One mark.
#[derive(Debug, Clone)]
pub(super) struct Mark {
    pub(super) bytes: Vec<u8>,
    /// It counts only as the first of the text.
    pub(super) at_start: bool,
}

impl Marks {
    /// Looks through the vocabulary once.
    pub(super) fn new(marks: Vec<Mark>, trie: &TokTrie) -> Self {
        let vocab = u32::try_from(trie.vocab_size()).unwrap_or(u32::MAX);
        let across = |token: &u32| {
            let bytes = text_of(trie, *token);
            !trie.is_special_token(*token) && marks.iter().any(|mark| goes_across(&mark.bytes, bytes))
        };
        let across = (0..vocab).filter(across).collect();
        let longest = marks.iter().map(|mark| mark.bytes.len()).max().unwrap_or(0);
        Self { marks, across, longest }
    }
}

/// Whether a token can end the mark, or hold it, and go on.
fn goes_across(mark: &[u8], token: &[u8]) -> bool {
    let ends = (1..mark.len()).any(|cut| {
        let rest = &mark[cut..];
        token.len() > rest.len() && token.starts_with(rest)
    });
    let holds = || token.windows(mark.len()).position(|part| part == mark);
    ends || holds().is_some_and(|at| at + mark.len() < token.len())
}

/// The bytes of a token as they stand in a text, of special ones too.
pub(super) fn text_of(trie: &TokTrie, token: u32) -> &[u8] {
    let bytes = if (token as usize) < trie.vocab_size() { trie.token(token) } else { &[] };
    match bytes.split_first() {
        Some((&TokTrie::SPECIAL_TOKEN_MARKER, text)) => text,
        _ => bytes,
    }
}

/// Looks for marks in a text that comes token by token.
#[derive(Debug, Clone)]
pub(super) struct Watch {
    marks: Arc<Marks>,
    /// The end of the text, as long as a mark may need.
    tail: Vec<u8>,
    blank: bool,
}

/// A mark that is complete.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The mark and what stands behind it.
    pub(super) from_mark: Vec<u8>,
    /// What stands behind it.
    pub(super) behind: Vec<u8>,
}

impl Watch {
    pub(super) fn new(marks: Arc<Marks>) -> Self {
        Self { marks, tail: Vec::new(), blank: true }
    }

    /// What the text would hold with more bytes.
    fn find(&self, bytes: &[u8]) -> Option<Found> {
        let text = [&self.tail, bytes].concat();
        let places = self.marks.marks.iter().filter_map(|mark| {
            let at = if mark.at_start {
                let first = text.iter().position(|byte| !byte.is_ascii_whitespace())?;
                (self.blank && text[first..].starts_with(&mark.bytes)).then_some(first)
            } else {
                text.windows(mark.bytes.len()).position(|part| part == mark.bytes)
            };
            Some((at?, mark.bytes.len()))
        });
        let (at, length) = places.min()?;
        Some(Found { from_mark: text[at..].to_vec(), behind: text[at + length..].to_vec() })
    }

    /// Adds bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Option<Found> {
        let found = self.find(bytes);
        self.blank &= bytes.iter().all(u8::is_ascii_whitespace);
        self.tail.extend_from_slice(bytes);
        let beyond = self.tail.len().saturating_sub(self.marks.longest.saturating_sub(1));
        self.tail.drain(..beyond);
        found
    }

    /// Nothing but white space so far.
    pub(super) fn blank(&self) -> bool {
        self.blank
    }

    /// Tokens that would end a mark and go on in a way that `fits` does not take.
    pub(super) fn unfit(&self, trie: &TokTrie, mut fits: impl FnMut(&Found) -> bool) -> Vec<u32> {
        let only_at_start = self.marks.marks.iter().all(|mark| mark.at_start);
        if only_at_start && !self.blank {
            return Vec::new();
        }
        let unfit = |token: &u32| self.find(text_of(trie, *token)).is_some_and(|found| !fits(&found));
        self.marks.across.iter().copied().filter(unfit).collect()
    }
}
