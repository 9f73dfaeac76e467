//! Text out of tokens as they come, never half a character.

use crate::text::tokenizer::Tokenizer;

const REPLACEMENT: char = char::REPLACEMENT_CHARACTER;

/// Turns token ids into text one by one.
///
/// What [`push`](Self::push) and [`finish`](Self::finish) return, joined, is what decoding all ids at once gives;
/// only a vocabulary with byte tokens (`<0xE2>`) differs, in how many U+FFFD stand for bytes that are no UTF-8.
pub struct TextStream {
    tokenizer: Tokenizer,
    skip_special: bool,
    /// Tokens that are shown although they are special: they mark tool calls.
    shown: Vec<u32>,
    state: State,
}

enum State {
    /// Byte-level vocabulary: bytes that do not make a character yet, at most three.
    Bytes(Vec<u8>),
    /// Any other: `ids[..context]` have been returned and stay as context for what follows.
    Window { ids: Vec<u32>, context: usize },
}

impl TextStream {
    pub(super) fn new(tokenizer: Tokenizer, skip_special: bool, shown: Vec<u32>) -> Self {
        let state = if tokenizer.is_byte_level() {
            State::Bytes(Vec::new())
        } else {
            State::Window { ids: Vec::new(), context: 0 }
        };
        Self { tokenizer, skip_special, shown, state }
    }

    /// Adds a token; returns the text that it completes, if any.
    pub fn push(&mut self, id: u32) -> Option<String> {
        if self.skip_special && self.tokenizer.is_special(id) && !self.shown.contains(&id) {
            return None;
        }
        let text = match &mut self.state {
            State::Bytes(pending) => {
                pending.extend(self.tokenizer.bytes(id));
                take_characters(pending)
            }
            State::Window { ids, context } => {
                ids.push(id);
                let text = beyond_context(&self.tokenizer, ids, *context);
                if text.is_empty() || text.ends_with(REPLACEMENT) {
                    return None;
                }
                ids.drain(..*context);
                *context = ids.len();
                text
            }
        };
        (!text.is_empty()).then_some(text)
    }

    /// Ends the stream; returns what was held back, with U+FFFD for bytes that never became a character.
    pub fn finish(&mut self) -> Option<String> {
        let text = match &mut self.state {
            State::Bytes(pending) => String::from_utf8_lossy(&std::mem::take(pending)).into_owned(),
            State::Window { ids, context } => {
                let text = beyond_context(&self.tokenizer, ids, *context);
                ids.clear();
                *context = 0;
                text
            }
        };
        (!text.is_empty()).then_some(text)
    }
}

/// Removes the whole characters from the front of `pending`, U+FFFD for each broken one, and leaves the beginning of
/// a character that may still be completed.
fn take_characters(pending: &mut Vec<u8>) -> String {
    let mut text = String::new();
    let mut kept = 0;
    for chunk in pending.utf8_chunks() {
        text.push_str(chunk.valid());
        let broken = chunk.invalid();
        // Bytes at the very end that could begin a character are no fault yet.
        let at_end = pending.as_ptr_range().end == broken.as_ptr_range().end;
        if !broken.is_empty() && at_end && std::str::from_utf8(broken).is_err_and(|e| e.error_len().is_none())
        {
            kept = broken.len();
        } else if !broken.is_empty() {
            text.push(REPLACEMENT);
        }
    }
    pending.drain(..pending.len() - kept);
    text
}

/// Text of `ids[context..]`, decoded behind `ids[..context]`: what a token reads as depends on what stands before it
/// (a leading space is dropped at the start of a text, bytes join).
fn beyond_context(tokenizer: &Tokenizer, ids: &[u32], context: usize) -> String {
    let before = tokenizer.decode(&ids[..context], false);
    let whole = tokenizer.decode(ids, false);
    match whole.strip_prefix(&before) {
        Some(text) => text.to_owned(),
        // The new bytes made the bytes before them invalid as well, and those have been returned.
        None => tokenizer.decode(&ids[context..], false),
    }
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
