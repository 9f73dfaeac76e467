//! Finds how much of a result fits its cap: the whole is counted once, drafts of the cap's size a few times.

use super::Cap;
use crate::tokens::{CountTokens, Tokens};

/// Pieces do not count exactly like the whole: a few tries bring it under the cap.
pub(super) const TRIES: usize = 6;

/// A text that is over its cap.
#[derive(Clone, Copy)]
pub(super) struct Goal<'a> {
    pub(super) text: &'a str,
    /// Its tokens.
    pub(super) total: Tokens,
    pub(super) cap: Cap<'a>,
    pub(super) counter: &'a dyn CountTokens,
}

/// A content type that can be shortened.
pub(super) trait Shrink {
    /// Bytes of all of it.
    fn len(&self) -> usize;

    /// About this many bytes of what says most, with the marker where it belongs.
    fn draft(&self, bytes: usize, marker: &str) -> String;
}

impl Goal<'_> {
    /// The longest draft found that is within the cap, and its tokens; none where there is none.
    pub(super) fn fit(&self, shape: &impl Shrink) -> Option<(String, Tokens)> {
        let Self { total, cap, counter, .. } = *self;
        let placeholder = cap.marker(total, total);
        let marker_tokens = counter.text(&placeholder);
        let mut bytes = scaled(shape.len(), cap.tokens.saturating_sub(marker_tokens), total);
        let mut best: Option<(String, Tokens)> = None;
        for attempt in 0..TRIES {
            let draft = shape.draft(bytes, &placeholder);
            let kept = counter.text(&draft).saturating_sub(marker_tokens);
            let short = draft.replacen(&placeholder, &cap.marker(total.saturating_sub(kept), total), 1);
            let tokens = counter.text(&short);
            let next = scaled(bytes, cap.tokens, tokens);
            if tokens <= cap.tokens {
                let better = best.as_ref().is_none_or(|(_, former)| tokens > *former);
                if !better {
                    break;
                }
                best = Some((short, tokens));
                if tokens * 8 >= cap.tokens * 7 {
                    break;
                }
                bytes = next;
            } else if best.is_some() {
                break;
            } else {
                // Less than in proportion: what is fixed, such as keys, does not shrink along.
                bytes = if attempt < 2 { next * 7 / 8 } else { next / 2 };
            }
        }
        best
    }
}

/// `bytes * room / tokens`.
pub(super) fn scaled(bytes: usize, room: Tokens, tokens: Tokens) -> usize {
    let scaled = bytes as u128 * u128::from(room) / u128::from(tokens.max(1));
    usize::try_from(scaled).unwrap_or(bytes)
}
