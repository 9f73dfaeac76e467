//! Text keeps its head and its tail.

use super::fit::{Goal, TRIES, scaled};
use crate::fit_context::share;
use crate::tokens::{CountTokens, Tokens};

/// Head, marker and tail of a text, and what they count together: at most the cap.
pub(super) fn shorten(goal: &Goal) -> Option<(String, Tokens)> {
    let Goal { text, total, cap, counter } = *goal;
    let mut room = cap.tokens.saturating_sub(counter.text(&cap.marker(total, total)));
    for _ in 0..TRIES {
        let head = head(text, total, share(room, cap.head), counter);
        let rest = &text[head.len()..];
        let tail = tail(rest, total, room - share(room, cap.head), counter);
        let omitted = total.saturating_sub(counter.text(head)).saturating_sub(counter.text(tail));
        let marker = cap.marker(omitted, total);
        let lines = [head.trim_end_matches('\n'), &marker, tail.trim_start_matches('\n')];
        let short = lines.into_iter().filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n");
        let tokens = counter.text(&short);
        if tokens <= cap.tokens {
            return Some((short, tokens));
        }
        room = room.saturating_sub(tokens - cap.tokens);
    }
    None
}

/// The longest start of at most `room` tokens, ended at a line where one ends in its second half.
fn head<'t>(text: &'t str, total: Tokens, room: Tokens, counter: &dyn CountTokens) -> &'t str {
    let fits = |bytes: usize| counter.text(&text[..text.floor_char_boundary(bytes)]);
    let end = text.floor_char_boundary(longest(text.len(), total, room, fits));
    let line = text[..end].rfind('\n').map(|at| at + 1).filter(|at| *at >= end / 2);
    &text[..line.unwrap_or(end)]
}

/// The longest end of at most `room` tokens, begun at a line where one begins in its first half.
fn tail<'t>(text: &'t str, total: Tokens, room: Tokens, counter: &dyn CountTokens) -> &'t str {
    let from = |bytes: usize| text.ceil_char_boundary(text.len() - bytes);
    let fits = |bytes: usize| counter.text(&text[from(bytes)..]);
    let start = from(longest(text.len(), total, room, fits));
    let length = text.len() - start;
    let line = text[start..].find('\n').map(|at| at + 1).filter(|at| *at <= length / 2);
    &text[start + line.unwrap_or(0)..]
}

/// About the largest number of bytes whose tokens are at most `room`: interpolates, then halves.
fn longest(bytes: usize, total: Tokens, room: Tokens, tokens: impl Fn(usize) -> Tokens) -> usize {
    let (mut fits, mut over) = (0_usize, bytes + 1);
    let mut guess = scaled(bytes, room, total);
    for attempt in 0..12 {
        guess = guess.clamp(fits + 1, over - 1);
        let count = tokens(guess);
        if count <= room {
            fits = guess;
        } else {
            over = guess;
        }
        let near = count <= room && (room - count) * 32 <= room;
        if near || over - fits <= 1 {
            break;
        }
        guess = if attempt < 4 { scaled(guess, room, count) } else { fits.midpoint(over) };
    }
    fits
}
