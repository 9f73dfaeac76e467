//! Replayed hysteresis: where a history was cut, worked out from the history alone.
//!
//! A walk from the first group adds weights; whenever the running total crosses the high mark, the oldest
//! removable groups go until the low mark is reached, and the walk goes on. What a walk does up to a group depends
//! on nothing after it, so every replica finds the same cuts and a longer history starts with the shorter one's
//! result until the mark is crossed again.
//!
//! A walk may plan: half way between the marks it settles what the next cut will drop, as if the mark were crossed
//! then. What is dropped is so known before it is needed, by everyone alike, and its summary can be written, and the
//! prompt behind it computed, before anybody waits for them.

use std::collections::VecDeque;

use crate::groups::Kind;
use crate::tokens::Tokens;

/// Water marks, in tokens of the whole prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marks {
    /// What the prompt may have.
    pub(crate) budget: Tokens,
    /// A cut happens above this.
    pub(crate) high: Tokens,
    /// A cut goes down to this.
    pub(crate) low: Tokens,
    /// A cut that frees less waits, while the budget still holds.
    pub(crate) min_progress: Tokens,
    /// Groups at the end that are never dropped.
    pub(crate) keep_last: usize,
}

/// One group of the history.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Item {
    /// On arrival.
    pub(crate) weight: Tokens,
    pub(crate) kind: Kind,
    /// Never dropped: instructions, the pinned user message, a summary.
    pub(crate) fixed: bool,
    /// The item on whose arrival an earlier step of the chain dropped this one.
    pub(crate) gone_at: Option<usize>,
    /// On its arrival a cut waits until the budget is reached.
    pub(crate) waits: bool,
}

/// What an item lost by an edit after it had gone out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shrink {
    /// The item on whose arrival it was edited.
    pub(crate) at: usize,
    pub(crate) item: usize,
    pub(crate) by: Tokens,
}

/// A history to walk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Past<'a> {
    /// What a prompt has besides its messages.
    pub(crate) overhead: Tokens,
    /// Oldest first, each with its weight on arrival.
    pub(crate) items: &'a [Item],
    /// In the order of the items on whose arrival they happened.
    pub(crate) shrinks: &'a [Shrink],
}

/// How cuts are made.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Manner {
    /// The most tokens of the summary that each cut leaves; none where nothing is summarised.
    pub(crate) summary: Option<Tokens>,
    /// Whether what is left must not begin with a user message, for templates that demand alternating roles.
    pub(crate) alternate: bool,
    /// Whether the next cut is planned.
    pub(crate) plan: bool,
}

/// Items that went together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cut {
    /// The item on whose arrival they went.
    pub(crate) at: usize,
    /// The items, oldest first.
    pub(crate) span: Vec<usize>,
    /// What they weighed then.
    pub(crate) tokens: Tokens,
    /// The most tokens the summary may have after this cut.
    pub(crate) summary: Tokens,
}

/// The cuts of a history, oldest first.
pub(crate) fn replay(past: Past, marks: Marks, manner: Manner) -> Vec<Cut> {
    walk(past, marks, manner).0
}

/// The cuts of a history as if the next one came now; none where it is not planned yet.
pub(crate) fn replay_ahead(past: Past, marks: Marks, manner: Manner) -> Option<Vec<Cut>> {
    let (mut cuts, mut walk) = walk(past, marks, manner);
    let at = past.items.len().checked_sub(1)?;
    let mut span = walk.planned.take()?;
    span.sort_unstable();
    walk.settle_summary(&span);
    cuts.push(Cut { at, tokens: walk.weight(&span), span, summary: walk.summary });
    Some(cuts)
}

fn walk(past: Past<'_>, marks: Marks, manner: Manner) -> (Vec<Cut>, Walk<'_>) {
    let items = past.items;
    let mut walk = Walk {
        items,
        weights: items.iter().map(|item| item.weight).collect(),
        marks,
        manner,
        total: past.overhead,
        summary: 0,
        live: VecDeque::new(),
        tail: VecDeque::new(),
        last_user: None,
        gone: vec![false; items.len()],
        planned: None,
    };
    let mut earlier: Vec<(usize, usize)> =
        items.iter().enumerate().filter_map(|(index, item)| Some((item.gone_at?, index))).collect();
    earlier.sort_unstable();
    let mut earlier = earlier.into_iter().peekable();
    let mut shrinks = past.shrinks.iter().peekable();
    let mut cuts = Vec::new();
    for (index, item) in items.iter().enumerate() {
        walk.arrive(index);
        while let Some(shrink) = shrinks.next_if(|shrink| shrink.at <= index) {
            walk.shrink(*shrink);
        }
        let mut span = Vec::new();
        while let Some((_, gone)) = earlier.next_if(|(at, _)| *at <= index) {
            walk.lose(gone, &mut span);
        }
        walk.settle_summary(&span);
        let high = if item.waits { marks.high.max(marks.budget) } else { marks.high };
        if walk.total > high && !walk.cut_as_planned(&mut span) {
            walk.cut(&mut span);
        }
        if !span.is_empty() {
            walk.planned = None;
            span.sort_unstable();
            cuts.push(Cut { at: index, tokens: walk.weight(&span), span, summary: walk.summary });
        }
        walk.plan();
    }
    (cuts, walk)
}

struct Walk<'a> {
    items: &'a [Item],
    /// What each weighs by now.
    weights: Vec<Tokens>,
    marks: Marks,
    manner: Manner,
    total: Tokens,
    /// What the summary takes of the total.
    summary: Tokens,
    /// Items that may go one day, oldest first.
    live: VecDeque<usize>,
    /// The last groups, which stay.
    tail: VecDeque<usize>,
    last_user: Option<usize>,
    gone: Vec<bool>,
    /// What the next cut will drop.
    planned: Option<Vec<usize>>,
}

impl Walk<'_> {
    fn arrive(&mut self, index: usize) {
        let item = self.items[index];
        self.total += item.weight;
        match item.kind {
            Kind::User => self.last_user = Some(index),
            Kind::Summary => self.summary += item.weight,
            _ => {}
        }
        if item.fixed {
            return;
        }
        self.live.push_back(index);
        self.tail.push_back(index);
        if self.tail.len() > self.marks.keep_last {
            self.tail.pop_front();
        }
    }

    fn shrink(&mut self, shrink: Shrink) {
        let by = shrink.by.min(self.weights[shrink.item]);
        self.weights[shrink.item] -= by;
        if !self.gone[shrink.item] {
            self.total = self.total.saturating_sub(by);
        }
    }

    fn lose(&mut self, index: usize, span: &mut Vec<usize>) {
        if !self.gone[index] {
            self.gone[index] = true;
            self.total = self.total.saturating_sub(self.weights[index]);
            span.push(index);
        }
    }

    fn weight(&self, span: &[usize]) -> Tokens {
        span.iter().map(|index| self.weights[*index]).sum()
    }

    /// What the summary takes once it tells of `dropped` more tokens: never more than what it replaces.
    fn next_summary(&self, dropped: Tokens) -> Tokens {
        self.manner.summary.map_or(self.summary, |limit| limit.max(self.summary).min(self.summary + dropped))
    }

    fn settle_summary(&mut self, span: &[usize]) {
        if !span.is_empty() {
            let next = self.next_summary(self.weight(span));
            self.total = self.total.saturating_sub(self.summary) + next;
            self.summary = next;
        }
    }

    /// What the total would be without items that weigh so much, and with a summary of them.
    fn after(&self, total: Tokens, freed: Tokens) -> Tokens {
        total.saturating_sub(freed) + self.next_summary(freed) - self.summary
    }

    /// Settles, once the total is half way to the high mark, what would go if it were crossed by an eighth of the way.
    fn plan(&mut self) {
        let way = self.marks.high.saturating_sub(self.marks.low);
        let near = self.total > self.half_way() && self.total <= self.marks.high;
        if !self.manner.plan || !near || self.planned.is_some() {
            return;
        }
        let crossed = self.marks.high + way / 8;
        let end = self.tail.front().copied().unwrap_or(self.items.len());
        let free = |index: &usize| !self.gone[*index] && *index < end && Some(*index) != self.last_user;
        let (mut span, mut freed) = (Vec::new(), 0);
        for index in self.live.iter().copied().filter(free) {
            if self.after(crossed, freed) <= self.marks.low && !self.must_go_on(index) {
                break;
            }
            freed += self.weights[index];
            span.push(index);
        }
        if self.after(self.marks.high, freed) <= self.half_way() {
            self.planned = Some(span);
        }
    }

    fn half_way(&self) -> Tokens {
        self.marks.low + self.marks.high.saturating_sub(self.marks.low) / 2
    }

    /// Drops what was planned. False where nothing was, or where that would not lead half way down: the next cut came
    /// too soon.
    fn cut_as_planned(&mut self, span: &mut Vec<usize>) -> bool {
        let Some(planned) = self.planned.take() else { return false };
        let there = span.is_empty() && planned.iter().all(|index| !self.gone[*index]);
        if !there || self.after(self.total, self.weight(&planned)) > self.half_way() {
            return false;
        }
        planned.iter().for_each(|index| self.lose(*index, span));
        self.settle_summary(&planned);
        true
    }

    /// Drops the oldest removable items down to the low mark, or leaves all as it is where that frees too little.
    fn cut(&mut self, span: &mut Vec<usize>) {
        let mut taken = Vec::new();
        let mut held = Vec::new();
        let mut freed = 0;
        let after = |walk: &Self, freed| walk.after(walk.total, freed);
        while let Some(index) = self.next_removable(&mut held) {
            if after(self, freed) <= self.marks.low && !self.must_go_on(index) {
                self.live.push_front(index);
                break;
            }
            freed += self.weights[index];
            taken.push(index);
        }
        let reached = after(self, freed) <= self.marks.low;
        let gained = self.total.saturating_sub(after(self, freed));
        let worth = reached || self.total > self.marks.budget || gained >= self.marks.min_progress;
        if !worth {
            held.append(&mut taken);
            held.sort_unstable();
        }
        held.into_iter().rev().for_each(|index| self.live.push_front(index));
        taken.iter().for_each(|index| self.lose(*index, span));
        if !taken.is_empty() {
            self.settle_summary(&taken);
        }
    }

    /// The oldest item that may go now; the last user message is set aside.
    fn next_removable(&mut self, held: &mut Vec<usize>) -> Option<usize> {
        let end = self.tail.front().copied().unwrap_or(self.items.len());
        while let Some(index) = self.live.pop_front() {
            if self.gone[index] {
                continue;
            }
            if index >= end {
                self.live.push_front(index);
                return None;
            }
            if Some(index) != self.last_user {
                return Some(index);
            }
            held.push(index);
        }
        None
    }

    fn must_go_on(&self, next: usize) -> bool {
        self.manner.alternate && self.items[next].kind == Kind::User
    }
}

#[cfg(test)]
#[path = "replay_tests.rs"]
mod tests;
