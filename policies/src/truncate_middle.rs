//! What `fit_context: {on_overflow: truncate_middle}` does when nothing more can be dropped: the longest message loses
//! its middle.

use crate::conversation::{Conversation, Message, Span};
use crate::tokens::{CountError, CountTokens, Tokens, grouped};

/// Tokens of a text that stay at least: its beginning and its end must still say what it is.
const LEAST: Tokens = 64;
/// Pieces do not count exactly like the whole: a few tries bring it under the budget.
const TRIES: usize = 8;

/// A conversation that lost the middle of its longest messages.
pub(crate) struct Truncated {
    pub(crate) conversation: Conversation,
    /// Exact tokens.
    pub(crate) tokens: Tokens,
    /// Messages that were cut.
    pub(crate) touched: usize,
}

/// Cuts the longest message, and the next where that is not enough, until the prompt fits its budget; instructions
/// only when nothing else is left. None where even that is too much.
///
/// # Errors
/// The result cannot be counted.
pub(crate) fn truncate(
    conversation: &Conversation,
    tokens: Tokens,
    budget: Tokens,
    counter: &dyn CountTokens,
) -> Result<Option<Truncated>, CountError> {
    let mut done = Truncated { conversation: conversation.clone(), tokens, touched: 0 };
    for text in Text::longest_first(conversation, counter) {
        let (conversation, tokens) = text.cut(&done, budget, counter)?;
        done = Truncated { conversation, tokens, touched: done.touched + 1 };
        if done.tokens <= budget {
            return Ok(Some(done));
        }
    }
    Ok(None)
}

/// The longest text of a message.
struct Text {
    index: usize,
    span: Span,
    text: String,
    tokens: Tokens,
    instructs: bool,
}

impl Text {
    /// Those that are worth cutting.
    fn longest_first(conversation: &Conversation, counter: &dyn CountTokens) -> Vec<Self> {
        let messages = conversation.messages().iter().enumerate();
        let mut texts: Vec<Self> =
            messages.filter_map(|(index, message)| Self::of(index, message, counter)).collect();
        texts.retain(|text| text.tokens > 2 * LEAST);
        texts.sort_by_key(|text| (text.instructs, std::cmp::Reverse(text.tokens)));
        texts
    }

    fn of(index: usize, message: &Message, counter: &dyn CountTokens) -> Option<Self> {
        let span = message.slots().into_iter().max_by_key(ExactSizeIterator::len)?;
        // Text that cannot be written back unchanged is nobody's.
        let text = message.decode(&span).filter(|decoded| decoded.exact)?.text;
        let tokens = counter.text(&text);
        Some(Self { index, span, text, tokens, instructs: message.role().is_system() })
    }

    /// The conversation with this text cut: just below the budget where that can be, else as short as it may get.
    fn cut(
        &self,
        before: &Truncated,
        budget: Tokens,
        counter: &dyn CountTokens,
    ) -> Result<(Conversation, Tokens), CountError> {
        let (message, excess) = (&before.conversation.messages()[self.index], before.tokens - budget);
        let mut best: Option<(Conversation, Tokens)> = None;
        let mut less = excess;
        for _ in 0..TRIES {
            let keep = self.tokens.saturating_sub(less).max(LEAST);
            let shorter = self.shortened(message, keep, counter);
            let conversation = before.conversation.with_messages(vec![(self.index, shorter)]);
            let tokens = counter.prompt(&conversation)?;
            let better = |(_, known): &(Conversation, Tokens)| match (tokens <= budget, *known <= budget) {
                (true, true) => tokens > *known,
                (fits, _) => fits || tokens < *known,
            };
            if best.as_ref().is_none_or(better) {
                best = Some((conversation, tokens));
            }
            let near = tokens <= budget && budget - tokens <= budget / 16;
            if near || (keep == LEAST && tokens > budget) {
                break;
            }
            // A token of the text is worth this many of the prompt: the next try goes by it.
            let gained = before.tokens.saturating_sub(tokens).max(1);
            less = excess * (self.tokens - keep).max(1) / gained + 1;
        }
        Ok(best.unwrap_or_else(|| (before.conversation.clone(), before.tokens)))
    }

    /// The message with about `keep` tokens of the text, half of them from either end, and a marker between.
    fn shortened(&self, message: &Message, keep: Tokens, counter: &dyn CountTokens) -> Message {
        let half = self.scaled(keep.saturating_sub(counter.text(&marker(self.tokens))) / 2);
        let head = self.head(half);
        let tail = self.tail(half.min(self.text.len() - head.len()));
        let left = counter.text(head) + counter.text(tail);
        let marker = marker(self.tokens.saturating_sub(left));
        let lines = [head.trim_end_matches('\n'), &marker, tail.trim_start_matches('\n')];
        let short = lines.into_iter().filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n");
        message.with_text(&self.span, &short)
    }

    /// About the bytes of so many tokens.
    fn scaled(&self, tokens: Tokens) -> usize {
        let bytes = self.text.len() as u128 * u128::from(tokens) / u128::from(self.tokens.max(1));
        usize::try_from(bytes).unwrap_or(usize::MAX).min(self.text.len())
    }

    /// A start of at most so many bytes, ended at a line where one ends in its second half.
    fn head(&self, bytes: usize) -> &str {
        let end = self.text.floor_char_boundary(bytes);
        let line = self.text[..end].rfind('\n').map(|at| at + 1).filter(|at| *at >= end / 2);
        &self.text[..line.unwrap_or(end)]
    }

    /// An end of at most so many bytes, begun at a line where one begins in its first half.
    fn tail(&self, bytes: usize) -> &str {
        let start = self.text.ceil_char_boundary(self.text.len() - bytes);
        let length = self.text.len() - start;
        let line = self.text[start..].find('\n').map(|at| at + 1).filter(|at| *at <= length / 2);
        &self.text[start + line.unwrap_or(0)..]
    }
}

/// What stands for the middle of a message.
fn marker(tokens: Tokens) -> String {
    format!("[plimsoll: {} tokens cut from the middle of this message]", grouped(tokens))
}

#[cfg(test)]
#[path = "truncate_middle_tests.rs"]
mod tests;
