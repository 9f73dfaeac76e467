//! Which lines go into the summary when not all of them fit.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use super::cues::{Kind, Speaker};
use super::identifiers::identifiers;
use super::lines::Line;
use crate::Tokens;

/// Requests, and as many other remarks, that a summary holds at most: the newest. Older ones are answered.
const MOST_OF_A_KIND: usize = 6;

/// Takes out the lines that a later correction about the same subject replaces.
pub(super) fn without_superseded(lines: Vec<Line>) -> Vec<Line> {
    let mut told: HashMap<&str, Vec<usize>> = HashMap::new();
    let mut superseded = HashSet::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(subject) = line.subject.as_deref() else { continue };
        let earlier = told.entry(subject).or_default();
        if line.correction {
            superseded.extend(earlier.drain(..));
        }
        if !tells_more(&line.text) {
            earlier.push(at);
        }
    }
    let keep: Vec<bool> = (0..lines.len()).map(|at| !superseded.contains(&at)).collect();
    lines.into_iter().zip(keep).filter_map(|(line, keep)| keep.then_some(line)).collect()
}

/// "My order is ORD-1 and my name is Ana": the name must not go with the order.
fn tells_more(text: &str) -> bool {
    let text = text.to_lowercase();
    [" and my ", " and our ", " and the ", " and i ", " and we "].iter().any(|joint| text.contains(joint))
}

/// The best lines that fit `max_tokens`, in their order in the conversation, joined by line ends.
pub(super) fn fitting(lines: &[Line], max_tokens: Tokens, count: &dyn Fn(&str) -> Tokens) -> String {
    let mut chosen = Chosen::default();
    for at in ranked(lines) {
        if chosen.wants(&lines[at]) {
            let rendered = lines[at].render();
            let tokens = count(&format!("{rendered}\n"));
            if chosen.tokens + tokens <= max_tokens {
                chosen.add(at, &lines[at], rendered, tokens);
            }
        }
    }
    loop {
        let text = chosen.text();
        let over = count(&text).saturating_sub(max_tokens);
        if over == 0 {
            return text;
        }
        chosen.shorten(over);
    }
}

/// Indices of the lines, the most valuable first. Facts keep their order, so that summing up in steps keeps the old
/// ones; of everything else the newest comes first, and each message gives its first lines before any gives more.
fn ranked(lines: &[Line]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..lines.len()).collect();
    order.sort_by_key(|&at| match lines[at].kind {
        Kind::Fact => (Kind::Fact, at, Reverse(0)),
        kind => (kind, lines[at].depth, Reverse(at)),
    });
    order
}

/// The lines chosen so far.
#[derive(Default)]
struct Chosen {
    /// (place, text, tokens) in the order of choice.
    lines: Vec<(usize, String, Tokens)>,
    tokens: Tokens,
    texts: HashSet<String>,
    identifiers: HashSet<String>,
    of_a_kind: HashMap<Kind, usize>,
}

impl Chosen {
    fn wants(&self, line: &Line) -> bool {
        let limited = matches!(line.kind, Kind::Request | Kind::Remark);
        let full = limited && self.of_a_kind.get(&line.kind).is_some_and(|count| *count >= MOST_OF_A_KIND);
        !full && !self.texts.contains(&line.text.to_lowercase()) && (line.carried || self.is_news(line))
    }

    /// A detail from a tool or the assistant must name something that no chosen line names.
    fn is_news(&self, line: &Line) -> bool {
        let echo = line.kind == Kind::Detail && line.speaker != Speaker::User;
        !echo || identifiers(&line.text).iter().any(|name| !self.identifiers.contains(*name))
    }

    fn add(&mut self, at: usize, line: &Line, rendered: String, tokens: Tokens) {
        self.identifiers.extend(identifiers(&line.text).into_iter().map(str::to_owned));
        self.texts.insert(line.text.to_lowercase());
        *self.of_a_kind.entry(line.kind).or_default() += 1;
        self.tokens += tokens;
        self.lines.push((at, rendered, tokens));
    }

    /// Gives up the least valuable lines until about `tokens` are saved.
    fn shorten(&mut self, tokens: Tokens) {
        let mut saved = 0;
        while saved < tokens {
            let Some((_, _, cost)) = self.lines.pop() else { return };
            saved += cost;
        }
    }

    fn text(&self) -> String {
        let mut lines: Vec<(usize, &str)> =
            self.lines.iter().map(|(at, text, _)| (*at, text.as_str())).collect();
        lines.sort_unstable_by_key(|(at, _)| *at);
        lines.iter().map(|(_, text)| *text).collect::<Vec<_>>().join("\n")
    }
}
