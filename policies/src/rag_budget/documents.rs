//! Finding documents in a message, and taking them out.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use crate::conversation::{Message, Span, encode};
use crate::tokens::{CountTokens, Tokens, grouped};

/// A document of fewer tokens is left alone: the line that would stand for it is hardly shorter.
const LEAST: Tokens = 24;

/// What an opening tag or first line says of a document's worth.
static WORTH: LazyLock<Regex> = LazyLock::new(|| {
    let pattern = r#"(?i)\b(score|relevance|similarity|rank)["']?\s*[=:]?\s*["']?([0-9]+(?:\.[0-9]+)?)"#;
    Regex::new(pattern).expect("the pattern is a constant. This is a bug.")
});

/// A document of a message.
pub(super) struct Document {
    /// Which of the message's texts it stands in.
    slot: usize,
    /// Where in that text, decoded.
    range: Range<usize>,
    pub(super) tokens: Tokens,
    /// The more, the better; none where the document does not say.
    worth: Option<f64>,
}

/// The documents of a message, in their order.
pub(super) fn documents(message: &Message, markers: &[String], counter: &dyn CountTokens) -> Vec<Document> {
    // Most messages have none: they are not decoded.
    let may = |marker: &String| message.raw_content().contains(marker.trim_start_matches('<'));
    if !super::may_hold(message.role()) || !markers.iter().any(may) {
        return Vec::new();
    }
    let mut all = Vec::new();
    for (slot, text) in texts(message) {
        for range in ranges(&text, markers) {
            let tokens = counter.text(&text[range.clone()]);
            let worth = worth(&text[range.clone()]);
            all.push(Document { slot, range, tokens, worth });
        }
    }
    all.retain(|document| document.tokens > LEAST);
    all
}

/// Texts that can be written back unchanged, by their number.
fn texts(message: &Message) -> impl Iterator<Item = (usize, String)> {
    let slots = message.slots().into_iter().enumerate();
    slots.filter_map(|(slot, span)| Some((slot, message.decode(&span).filter(|text| text.exact)?.text)))
}

fn ranges(text: &str, markers: &[String]) -> Vec<Range<usize>> {
    let (tags, others): (Vec<&String>, Vec<&String>) =
        markers.iter().partition(|marker| marker.starts_with('<'));
    if others.iter().any(|marker| text.trim_start().starts_with(marker.as_str())) {
        return std::iter::once(0..text.len()).collect();
    }
    let mut ranges = Vec::new();
    let mut done = 0;
    while let Some(found) =
        tags.iter().filter_map(|tag| element(text, done, tag)).min_by_key(|range| range.start)
    {
        done = found.end;
        ranges.push(found);
    }
    ranges
}

/// The first element of this tag from `start` on that begins a line.
fn element(text: &str, start: usize, tag: &str) -> Option<Range<usize>> {
    let opens = text[start..].match_indices(tag).map(|(at, _)| start + at);
    let begins_line = |at: &usize| text[..*at].rsplit('\n').next().is_none_or(|line| line.trim().is_empty());
    // `<doc` is not the start of `<documents>`.
    let whole = |at: &usize| {
        text[at + tag.len()..].starts_with(|after: char| after.is_whitespace() || ">/".contains(after))
    };
    let open = opens.filter(begins_line).find(whole)?;
    let close = format!("</{}>", &tag[1..]);
    let end = text[open..].find(&close)?;
    Some(open..open + end + close.len())
}

fn worth(document: &str) -> Option<f64> {
    let head = document.split(['>', '\n']).next()?;
    let found = WORTH.captures(head)?;
    let number: f64 = found[2].parse().ok()?;
    Some(if found[1].eq_ignore_ascii_case("rank") { -number } else { number })
}

/// The documents from the least to the most worth. Where not each says its worth, the last is the least.
pub(super) fn lowest_first(documents: &[Document]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..documents.len()).rev().collect();
    if documents.iter().all(|document| document.worth.is_some()) {
        // Of equals the last goes first: the sort is stable.
        let compare = |a: &usize, b: &usize| documents[*a].worth.partial_cmp(&documents[*b].worth);
        order.sort_by(|a, b| compare(a, b).unwrap_or(Ordering::Equal));
    }
    order
}

/// A message with some of its documents, in their order, left out.
pub(super) fn without(message: &Message, documents: &[Document], gone: &[usize]) -> Message {
    let spans = message.slots();
    let mut edits: Vec<(Span, String)> = Vec::new();
    for (slot, text) in texts(message) {
        let here = gone.iter().map(|index| &documents[*index]).filter(|document| document.slot == slot);
        let mut left = String::with_capacity(text.len());
        let mut done = 0;
        for Document { range, tokens, .. } in here {
            left.push_str(&text[done..range.start]);
            left.push_str(&note(*tokens));
            done = range.end;
        }
        if done > 0 {
            left.push_str(&text[done..]);
            edits.push((spans[slot].clone(), encode(&left)));
        }
    }
    message.with_parts(&edits)
}

/// What stands for a document.
fn note(tokens: Tokens) -> String {
    format!("[plimsoll: document left out, {} tokens]", grouped(tokens))
}
