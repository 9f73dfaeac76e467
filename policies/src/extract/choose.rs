//! Which lines go into the summary when not all of them fit.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use super::cues::{Kind, Speaker};
use super::identifiers::identifiers;
use super::ledger::Ledger;
use super::lines::Line;
use crate::Tokens;

/// Requests, and as many other remarks, that a summary holds at most: the newest. Older ones are answered.
const MOST_OF_A_KIND: usize = 6;

/// The lines without those that a later correction about the same subject replaces, which come second.
pub(super) fn superseded(lines: Vec<Line>) -> (Vec<Line>, Vec<Line>) {
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
    let (hold, gone): (Vec<_>, Vec<_>) =
        lines.into_iter().enumerate().partition(|(at, _)| !superseded.contains(at));
    let lines = |part: Vec<(usize, Line)>| part.into_iter().map(|(_, line)| line).collect();
    (lines(hold), lines(gone))
}

/// "My order is ORD-1 and my name is Ana": the name must not go with the order.
fn tells_more(text: &str) -> bool {
    let text = text.to_lowercase();
    [" and my ", " and our ", " and the ", " and i ", " and we "].iter().any(|joint| text.contains(joint))
}

/// The best lines and names that fit `max_tokens`: lines in their order in the conversation, then a line with the names
/// that no line holds.
///
/// Facts come first. Decisions and requests leave half of the room to the names; what then is left goes to whatever
/// line is worth it: a name that a line quotes needs no second place.
pub(super) fn fitting(
    lines: &[Line],
    names: &[&str],
    max_tokens: Tokens,
    count: &dyn Fn(&str) -> Tokens,
) -> String {
    let mut chosen = Chosen { count, lines: Vec::new(), ledger: Ledger::default(), seen: Seen::default() };
    let order = ranked(lines);
    let most = |line: &Line| match line.kind {
        Kind::Fact => Some(max_tokens),
        Kind::Decision | Kind::Request => Some(max_tokens / 4),
        Kind::Detail | Kind::Remark => None,
    };
    chosen.take(lines, &order, most);
    let missing: Vec<&str> =
        names.iter().copied().filter(|name| !chosen.seen.names.contains(*name)).collect();
    chosen.ledger = Ledger::new(&missing, max_tokens.saturating_sub(chosen.tokens()), count);
    chosen.take(lines, &order, |_| Some(max_tokens));
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

/// What is chosen so far.
struct Chosen<'a> {
    count: &'a dyn Fn(&str) -> Tokens,
    /// (place, text, tokens) in the order of choice.
    lines: Vec<(usize, String, Tokens)>,
    ledger: Ledger<'a>,
    seen: Seen,
}

/// What the chosen lines hold.
#[derive(Default)]
struct Seen {
    texts: HashSet<String>,
    names: HashSet<String>,
    of_a_kind: HashMap<Kind, usize>,
}

impl Chosen<'_> {
    /// Adds lines in this order, each up to the total that it may reach; none where it is not to be taken yet.
    fn take(&mut self, lines: &[Line], order: &[usize], most: impl Fn(&Line) -> Option<Tokens>) {
        let mut tokens = self.tokens();
        for &at in order {
            let line = &lines[at];
            let Some(most) = most(line).filter(|_| self.seen.wants(line)) else { continue };
            let rendered = line.render();
            let cost = (self.count)(&format!("{rendered}\n"));
            let spared = self.ledger.cost_of(&line.text);
            if (tokens + cost).saturating_sub(spared) <= most {
                self.ledger.remove(&line.text);
                self.seen.add(line);
                self.lines.push((at, rendered, cost));
                tokens = (tokens + cost).saturating_sub(spared);
            }
        }
    }

    fn tokens(&self) -> Tokens {
        self.lines.iter().map(|(_, _, tokens)| tokens).sum::<Tokens>() + self.ledger.tokens()
    }

    /// Gives up the least valuable names, then lines, until about `tokens` are saved.
    fn shorten(&mut self, tokens: Tokens) {
        let mut saved = 0;
        while saved < tokens {
            let cost = self.ledger.pop().or_else(|| self.lines.pop().map(|(_, _, cost)| cost));
            let Some(cost) = cost else { return };
            saved += cost.max(1);
        }
    }

    fn text(&self) -> String {
        let mut lines: Vec<(usize, &str)> =
            self.lines.iter().map(|(at, text, _)| (*at, text.as_str())).collect();
        lines.sort_unstable_by_key(|(at, _)| *at);
        let ledger = self.ledger.line();
        lines.iter().map(|(_, text)| *text).chain(ledger.as_deref()).collect::<Vec<_>>().join("\n")
    }
}

impl Seen {
    fn wants(&self, line: &Line) -> bool {
        let limited = matches!(line.kind, Kind::Request | Kind::Remark);
        let full = limited && self.of_a_kind.get(&line.kind).is_some_and(|count| *count >= MOST_OF_A_KIND);
        !full && !self.texts.contains(&line.text.to_lowercase()) && (line.carried || self.is_news(line))
    }

    /// A detail from a tool or the assistant must name something that no chosen line names.
    fn is_news(&self, line: &Line) -> bool {
        let echo = line.kind == Kind::Detail && line.speaker != Speaker::User;
        !echo || identifiers(&line.text).iter().any(|name| !self.names.contains(*name))
    }

    fn add(&mut self, line: &Line) {
        self.names.extend(identifiers(&line.text).into_iter().map(str::to_owned));
        self.texts.insert(line.text.to_lowercase());
        *self.of_a_kind.entry(line.kind).or_default() += 1;
    }
}
