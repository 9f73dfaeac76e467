//! Which segments there are, and what each holds: beginnings of prompts, each a branch of another or of nothing. Pure:
//! it says which one a prompt begins with and which one goes first; the session's memory holds the pages.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A segment's number, never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SegmentId(pub(crate) u64);

/// Shares of fewer tokens are not worth their pieces of memory.
pub(crate) const LEAST: usize = 64;
/// Segments on a path, at most: each costs every row that shares it a piece of memory for each head.
const DEEPEST: usize = 4;

/// What something begins with: the first `tokens` of what lies on the path to `segment`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Base {
    pub(crate) segment: SegmentId,
    pub(crate) tokens: usize,
}

/// A segment's part of a path: tokens `from..to` of the prompt, of which `first` is the segment's own first one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) segment: SegmentId,
    pub(crate) first: usize,
    pub(crate) from: usize,
    pub(crate) to: usize,
}

/// One segment.
#[derive(Debug)]
struct Kept {
    id: SegmentId,
    /// All tokens from the first one of the prompt on.
    chain: Arc<[u32]>,
    /// The base that it goes on from; it holds what follows.
    base: Option<Base>,
    /// Rows that share it, or a part of it.
    rows: usize,
    /// Permits that count on it.
    pins: usize,
    /// When it was last used, in starts.
    used: u64,
}

impl Kept {
    fn first(&self) -> usize {
        self.base.map_or(0, |base| base.tokens)
    }

    /// Tokens that it holds itself.
    fn own(&self) -> usize {
        self.chain.len() - self.first()
    }
}

/// All segments of an engine. Clones share them: the worker makes and drops them, whoever asks for memory counts on
/// them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Segments(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    kept: Vec<Kept>,
    next: u64,
    /// Tokens of a step; 0: nothing is shared.
    step: usize,
}

impl Segments {
    /// Rows share whole steps of so many tokens from now on.
    pub(crate) fn share_by(&self, step: usize) {
        self.inner().step = step;
    }

    /// Whether rows share anything.
    pub(crate) fn shares(&self) -> bool {
        self.inner().step > 0
    }

    /// Tokens that some segment begins with as `tokens` do, and the segment.
    pub(crate) fn common(&self, tokens: &[u32]) -> Option<(SegmentId, usize)> {
        self.inner().common(tokens)
    }

    /// The longest base of a prompt: what can be shared of `tokens`.
    pub(crate) fn base(&self, tokens: &[u32]) -> Option<Base> {
        self.inner().base(tokens)
    }

    /// As [`base`](Self::base), counted on by a permit from now on; and what [`pin`](Self::pin) returns.
    pub(crate) fn pin_base(&self, tokens: &[u32]) -> Option<(Base, usize)> {
        let mut inner = self.inner();
        let base = inner.base(tokens)?;
        Some((base, inner.pin(Some(base))))
    }

    /// A base that ends where another one does, or sooner.
    pub(crate) fn cut(&self, base: Base, tokens: usize) -> Option<Base> {
        let inner = self.inner();
        inner.based(base.segment, inner.whole(tokens.min(base.tokens)))
    }

    /// The whole steps in so many tokens.
    pub(crate) fn whole(&self, tokens: usize) -> usize {
        self.inner().whole(tokens)
    }

    /// Adds a segment for what `chain` holds behind `base`. `None`: that is too little, or the path too long.
    pub(crate) fn add(&self, chain: &[u32], base: Option<Base>, now: u64) -> Option<SegmentId> {
        let mut inner = self.inner();
        let depth = base.map_or(0, |base| inner.path(base).len());
        let own = chain.len() - base.map_or(0, |base| base.tokens);
        if own < LEAST.max(inner.step) || inner.step == 0 || depth == DEEPEST {
            return None;
        }
        inner.next += 1;
        let id = SegmentId(inner.next);
        inner.kept.push(Kept { id, chain: chain.into(), base, rows: 0, pins: 0, used: now });
        Some(id)
    }

    /// The parts that make up a base, from the first token on.
    pub(crate) fn path(&self, base: Base) -> Vec<Extent> {
        self.inner().path(base)
    }

    /// A row that shared `before` shares `after` from now on.
    pub(crate) fn rebase(&self, before: Option<Base>, after: Option<Base>, now: u64) {
        let mut inner = self.inner();
        inner.each(after, |kept| {
            kept.rows += 1;
            kept.used = now;
        });
        inner.each(before, |kept| kept.rows -= 1);
    }

    /// A permit counts on a base. Returns the tokens of segments that none counted on before.
    pub(crate) fn pin(&self, base: Option<Base>) -> usize {
        self.inner().pin(base)
    }

    /// A permit counts on a base no more. Returns the tokens of segments that none counts on now.
    pub(crate) fn unpin(&self, base: Option<Base>) -> usize {
        let mut left = 0;
        self.inner().each(base, |kept| {
            kept.pins -= 1;
            left += if kept.pins == 0 { kept.own() } else { 0 };
        });
        left
    }

    /// Takes out the segment that was used longest ago, of those that nothing stands on. Tells the tokens that it holds,
    /// where they are the whole of a beginning.
    pub(crate) fn evict(&self) -> Option<(SegmentId, Option<Arc<[u32]>>)> {
        let mut inner = self.inner();
        let oldest = inner.oldest()?;
        let place = inner.kept.iter().position(|kept| kept.id == oldest)?;
        let Kept { id, chain, base, .. } = inner.kept.remove(place);
        Some((id, base.is_none().then_some(chain)))
    }

    /// When the segment that [`evict`](Self::evict) takes out was last used.
    pub(crate) fn oldest_use(&self) -> Option<u64> {
        let inner = self.inner();
        let oldest = inner.oldest()?;
        inner.kept.iter().find(|kept| kept.id == oldest).map(|kept| kept.used)
    }

    /// Takes out a segment that nothing stands on.
    pub(crate) fn remove(&self, id: SegmentId) {
        self.inner().kept.retain(|kept| kept.id != id || kept.rows + kept.pins > 0);
    }

    /// Takes all out. Returns the tokens of those that permits counted on.
    pub(crate) fn clear(&self) -> usize {
        let kept = std::mem::take(&mut self.inner().kept);
        kept.iter().filter(|kept| kept.pins > 0).map(Kept::own).sum()
    }

    /// Tokens of all segments.
    pub(crate) fn tokens(&self) -> usize {
        self.inner().kept.iter().map(Kept::own).sum()
    }

    /// Tokens of segments that no permit counts on.
    pub(crate) fn unpinned(&self) -> usize {
        self.inner().kept.iter().filter(|kept| kept.pins == 0).map(Kept::own).sum()
    }

    /// Tokens of segments that no row shares.
    pub(crate) fn alone(&self) -> usize {
        self.inner().kept.iter().filter(|kept| kept.rows == 0).map(Kept::own).sum()
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.inner().kept.len()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn get(&self, id: SegmentId) -> Option<&Kept> {
        self.kept.iter().find(|kept| kept.id == id)
    }

    fn common(&self, tokens: &[u32]) -> Option<(SegmentId, usize)> {
        let common = |kept: &Kept| kept.chain.iter().zip(tokens).take_while(|(a, b)| a == b).count();
        // Of several, the eldest: its path is the shortest.
        let all = self.kept.iter().rev().map(|kept| (kept.id, common(kept)));
        all.max_by_key(|(_, count)| *count).filter(|(_, count)| *count > 0)
    }

    fn base(&self, tokens: &[u32]) -> Option<Base> {
        let (segment, common) = self.common(tokens)?;
        self.based(segment, self.whole(common)).filter(|base| base.tokens >= LEAST)
    }

    fn pin(&mut self, base: Option<Base>) -> usize {
        let mut fresh = 0;
        self.each(base, |kept| {
            kept.pins += 1;
            fresh += if kept.pins == 1 { kept.own() } else { 0 };
        });
        fresh
    }

    fn whole(&self, tokens: usize) -> usize {
        tokens.checked_div(self.step).map_or(0, |steps| steps * self.step)
    }

    /// The first `tokens` on the path to a segment, by the first segment that reaches so far.
    fn based(&self, segment: SegmentId, tokens: usize) -> Option<Base> {
        let kept = self.get(segment)?;
        match kept.base {
            Some(base) if base.tokens >= tokens => self.based(base.segment, tokens),
            _ => (tokens > 0).then_some(Base { segment, tokens }),
        }
    }

    fn path(&self, base: Base) -> Vec<Extent> {
        let Some(kept) = self.get(base.segment) else { return Vec::new() };
        let first = kept.first();
        let mut path = kept.base.map_or_else(Vec::new, |below| self.path(below));
        path.push(Extent { segment: base.segment, first, from: first, to: base.tokens });
        path
    }

    /// Visits the segments on the path to a base.
    fn each(&mut self, base: Option<Base>, mut visit: impl FnMut(&mut Kept)) {
        let mut next = base;
        while let Some(base) = next {
            let Some(kept) = self.kept.iter_mut().find(|kept| kept.id == base.segment) else { return };
            visit(kept);
            next = kept.base;
        }
    }

    /// The segment that was used longest ago, of those that nothing stands on.
    fn oldest(&self) -> Option<SegmentId> {
        let stands = |id| self.kept.iter().any(|other| other.base.is_some_and(|base| base.segment == id));
        let free = |kept: &&Kept| kept.rows == 0 && kept.pins == 0 && !stands(kept.id);
        self.kept.iter().filter(free).min_by_key(|kept| kept.used).map(|kept| kept.id)
    }
}

#[cfg(test)]
#[path = "segments_tests.rs"]
mod tests;
