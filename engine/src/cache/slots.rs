//! Slots and their conversations. Pure: it says what to copy, swap and free; the session's memory does it.
//!
//! A slot is a conversation's place; a row is a place in the buffers. Decoding slots lie in the first rows, so that
//! one run over them carries no dead row: a slot that starts or ends decoding swaps rows with another one.

use std::time::Instant;

use super::{Base, Chains, SegmentId, Segments};

/// A slot's number, the same for as long as the engine lives.
pub(crate) type SlotId = usize;

/// One conversation's place.
#[derive(Debug, Clone)]
struct Slot {
    /// Tokens whose keys and values are held; the chain has them in order, up to a shift.
    tokens: usize,
    /// Tokens were dropped from the middle. The chain ends there: what is held behind was computed with them in view, and
    /// is not what another prompt with the same tokens would have.
    shifted: bool,
    /// Its first ones, which it shares with others.
    base: Option<Base>,
    row: usize,
    busy: bool,
    /// When it was last used, in starts.
    used: u64,
    idle_since: Instant,
    /// The slot whose conversation goes on here one day.
    replaces: Option<SlotId>,
    /// Whether its conversation went on elsewhere, or ended.
    replaced: bool,
}

/// All slots.
#[derive(Debug)]
pub(crate) struct Slots {
    slots: Vec<Slot>,
    chains: Chains,
    /// The slot in each row.
    rows: Vec<SlotId>,
    /// Rows that decode: the first ones.
    decoding: usize,
    starts: u64,
}

/// Where a prompt runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Picked {
    /// The slot.
    pub(crate) slot: SlotId,
    /// Tokens of the prompt that the slot holds already.
    pub(crate) held: usize,
    /// Who holds more of the prompt, and how much.
    pub(crate) donor: Option<(Donor, usize)>,
}

/// Who holds the beginning of a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Donor {
    Slot(SlotId),
    Segment(SegmentId),
}

impl Picked {
    /// Tokens of the prompt that need not be computed.
    pub(crate) fn cached(&self) -> usize {
        self.donor.map_or(self.held, |(_, tokens)| tokens)
    }
}

impl Slots {
    pub(crate) fn new(count: usize, now: Instant) -> Self {
        let slot = |row| Slot {
            tokens: 0,
            shifted: false,
            base: None,
            row,
            busy: false,
            used: 0,
            idle_since: now,
            replaces: None,
            replaced: false,
        };
        Self {
            slots: (0..count).map(slot).collect(),
            chains: Chains::new(count),
            rows: (0..count).collect(),
            decoding: 0,
            starts: 0,
        }
    }

    /// Slots whose conversations are of use as a whole or not at all.
    pub(crate) fn whole(self) -> Self {
        Self { chains: self.chains.whole(), ..self }
    }

    /// Slots that share what these segments hold.
    pub(crate) fn beside(self, segments: Segments) -> Self {
        Self { chains: self.chains.beside(segments), ..self }
    }

    /// What the slots hold, for others to read.
    pub(crate) fn chains(&self) -> Chains {
        self.chains.clone()
    }

    /// The idle slot for a prompt; `None` where all are busy. The slot whose conversation goes on wins; else an empty
    /// or the longest unused one. What it lacks and another slot or a segment holds comes from there. At least the last
    /// token of a prompt is left to compute, since its logits are needed.
    pub(crate) fn pick(&self, prompt: &[u32]) -> Option<Picked> {
        let usable = &prompt[..prompt.len().saturating_sub(1)];
        let shared = |id: SlotId| self.chains.usable(id, usable);
        let idle = || (0..self.slots.len()).filter(|&id| !self.slots[id].busy);
        let goes_on = |&id: &SlotId| self.goes_on(id, shared(id));
        let going = idle().filter(goes_on).max_by_key(|&id| shared(id));
        let slot = going.or_else(|| self.unused(&[]))?;
        Some(self.picked(slot, usable))
    }

    /// Whether a slot's conversation goes on in a prompt that begins with `shared` of its tokens. Where a beginning can
    /// be shared, nothing is cut back that differs from there on while a slot is empty, nor what has no more in common
    /// than many have.
    fn goes_on(&self, id: SlotId, shared: usize) -> bool {
        let Slot { tokens, base, .. } = &self.slots[id];
        let empty = || self.slots.iter().any(|slot| slot.tokens == 0 && !slot.busy);
        let cut = shared < *tokens && self.chains.shares();
        let besides = shared > base.map_or(0, |base| base.tokens) && !empty();
        2 * shared >= *tokens && shared > 0 && (!cut || besides)
    }

    /// A slot for `tokens`, and who holds more of them than it does.
    pub(crate) fn picked(&self, slot: SlotId, tokens: &[u32]) -> Picked {
        let held = self.chains.usable(slot, tokens);
        let slots = (0..self.slots.len()).map(|id| (Donor::Slot(id), self.chains.usable(id, tokens)));
        let segment = self.chains.segment(tokens).map(|(id, common)| (Donor::Segment(id), common));
        // Of equals a segment, which is shared as it is.
        let donor = slots.chain(segment).max_by_key(|&(_, count)| count);
        Picked { slot, held, donor: donor.filter(|&(_, count)| count > held) }
    }

    /// How dear an idle slot's conversation is: nothing, one that went on elsewhere, the longest unused.
    fn worth(&self, id: SlotId) -> (bool, bool, u64) {
        let slot = &self.slots[id];
        (slot.tokens > 0, !slot.replaced, slot.used)
    }

    /// As [`pick`](Self::pick), for a prompt that nobody waits for: no conversation is pushed out for it.
    pub(crate) fn pick_spare(&self, prompt: &[u32]) -> Option<Picked> {
        let usable = &prompt[..prompt.len().saturating_sub(1)];
        let shared = |id: SlotId| self.chains.usable(id, usable);
        let idle = || (0..self.slots.len()).filter(|&id| !self.slots[id].busy);
        let whole = |&id: &SlotId| self.slots[id].tokens > 0 && shared(id) == self.slots[id].tokens;
        let free = |&id: &SlotId| self.slots[id].tokens == 0 || self.slots[id].replaced;
        let going = idle().filter(whole).max_by_key(|&id| shared(id));
        let slot = going.or_else(|| idle().filter(free).min_by_key(|&id| self.worth(id)))?;
        Some(self.picked(slot, usable))
    }

    /// What a slot shares with others.
    pub(crate) fn base(&self, slot: SlotId) -> Option<Base> {
        self.slots[slot].base
    }

    /// A slot shares this with others from now on. Returns what it shared before.
    pub(crate) fn rest_on(&mut self, slot: SlotId, base: Option<Base>) -> Option<Base> {
        std::mem::replace(&mut self.slots[slot].base, base)
    }

    /// Starts so far: the time by which slots and segments are old.
    pub(crate) fn now(&self) -> u64 {
        self.starts
    }

    /// When a slot was last used, and whether what it holds is still somebody's.
    pub(crate) fn used(&self, slot: SlotId) -> (bool, u64) {
        (!self.slots[slot].replaced, self.slots[slot].used)
    }

    /// Tokens that a slot holds for itself.
    pub(crate) fn own(&self, slot: SlotId) -> usize {
        let Slot { tokens, base, .. } = &self.slots[slot];
        tokens.saturating_sub(base.map_or(0, |base| base.tokens))
    }

    /// A slot whose conversation went on elsewhere, other than `keep`.
    pub(crate) fn replaced(&self, keep: SlotId) -> Option<SlotId> {
        let free = |&id: &SlotId| id != keep && !self.slots[id].busy;
        (0..self.slots.len()).filter(free).find(|&id| self.slots[id].replaced && self.slots[id].tokens > 0)
    }

    /// What a slot holds is not needed again.
    pub(crate) fn leave_behind(&mut self, slot: SlotId) {
        self.slots[slot].replaced = true;
    }

    /// What is computed into a slot stands in for the conversation that holds most of `prompt` now.
    pub(crate) fn stands_in(&mut self, slot: SlotId, prompt: &[u32]) {
        let others = (0..self.slots.len()).filter(|&id| id != slot);
        let present = others.map(|id| (self.chains.common(id, prompt), id)).max_by_key(|(common, _)| *common);
        let present = present.filter(|(common, id)| *common > 0 && 2 * common >= self.slots[*id].tokens);
        self.slots[slot].replaces = present.map(|(_, id)| id);
    }

    /// Gives a slot to a request; it holds the first `tokens` of `prompt` from now on.
    pub(crate) fn start(&mut self, slot: SlotId, prompt: &[u32], tokens: usize, limit: usize) {
        self.starts += 1;
        let mut chain = self.chains.get(slot);
        chain.clear();
        // No growth while it decodes.
        chain.reserve(limit);
        chain.extend_from_slice(&prompt[..tokens]);
        drop(chain);
        if 2 * tokens < self.slots[slot].tokens {
            // Another conversation: nobody stands in for it.
            self.slots
                .iter_mut()
                .filter(|other| other.replaces == Some(slot))
                .for_each(|other| other.replaces = None);
        }
        let slot = &mut self.slots[slot];
        slot.tokens = tokens;
        slot.shifted = false;
        slot.busy = true;
        slot.used = self.starts;
        slot.replaced = false;
        // The conversation goes on here: what it leaves behind is nobody's any more.
        if let Some(former) = slot.replaces.take() {
            self.slots[former].replaced = !self.slots[former].busy;
        }
    }

    /// Tokens have been computed into a slot.
    pub(crate) fn extend(&mut self, slot: SlotId, tokens: &[u32]) {
        if !self.slots[slot].shifted {
            self.chains.get(slot).extend_from_slice(tokens);
        }
        self.slots[slot].tokens += tokens.len();
    }

    /// A slot has lost so many tokens behind its first `keep`.
    pub(crate) fn shift(&mut self, slot: SlotId, keep: usize, drop: usize) {
        self.chains.get(slot).truncate(keep);
        self.slots[slot].tokens -= drop;
        self.slots[slot].shifted = true;
    }

    /// A slot that was shifted holds its first tokens alone. Returns which ones are gone.
    pub(crate) fn forget_shifted(&mut self, slot: SlotId) -> Option<(usize, usize)> {
        let (faithful, held) = (self.chains.get(slot).len(), self.slots[slot].tokens);
        if !std::mem::take(&mut self.slots[slot].shifted) {
            return None;
        }
        self.slots[slot].tokens = faithful;
        Some((faithful, held))
    }

    /// A slot holds the first `tokens` alone.
    pub(crate) fn cut(&mut self, slot: SlotId, tokens: usize) {
        let mut chain = self.chains.get(slot);
        chain.truncate(tokens);
        self.slots[slot].shifted &= chain.len() < tokens;
        drop(chain);
        self.slots[slot].tokens = tokens;
    }

    /// A slot begins to decode. Returns the rows to swap.
    pub(crate) fn promote(&mut self, slot: SlotId) -> Option<(usize, usize)> {
        let swap = self.swap(self.slots[slot].row, self.decoding);
        self.decoding += 1;
        swap
    }

    /// A request ends; its conversation stays. Returns the rows to swap.
    pub(crate) fn finish(&mut self, slot: SlotId, now: Instant) -> Option<(usize, usize)> {
        self.slots[slot].busy = false;
        self.slots[slot].idle_since = now;
        let row = self.slots[slot].row;
        if row >= self.decoding {
            return None;
        }
        self.decoding -= 1;
        self.swap(row, self.decoding)
    }

    /// Forgets what a slot holds.
    pub(crate) fn clear(&mut self, slot: SlotId) {
        // A conversation that is forgotten gives its list of tokens back too.
        *self.chains.get(slot) = Vec::new();
        let slot = &mut self.slots[slot];
        (slot.tokens, slot.shifted) = (0, false);
        (slot.replaces, slot.replaced) = (None, false);
    }

    /// The idle conversation that was used longest ago, other than those in `keep`.
    pub(crate) fn oldest(&self, keep: &[SlotId]) -> Option<SlotId> {
        let idle = |&id: &SlotId| !keep.contains(&id) && !self.slots[id].busy && self.slots[id].tokens > 0;
        (0..self.slots.len()).filter(idle).min_by_key(|&id| self.worth(id))
    }

    /// An idle slot other than those in `keep`: an empty one, else the one whose conversation is the longest unused.
    pub(crate) fn unused(&self, keep: &[SlotId]) -> Option<SlotId> {
        let idle = |&id: &SlotId| !keep.contains(&id) && !self.slots[id].busy;
        (0..self.slots.len()).filter(idle).min_by_key(|&id| self.worth(id))
    }

    /// A slot whose conversation begins with `tokens`, an idle one first.
    pub(crate) fn holder(&self, tokens: &[u32]) -> Option<SlotId> {
        let holds = |&id: &SlotId| self.chains.common(id, tokens) == tokens.len();
        (0..self.slots.len()).filter(holds).min_by_key(|&id| self.slots[id].busy)
    }

    /// Whether another slot holds all of a slot's conversation too.
    pub(crate) fn elsewhere(&self, slot: SlotId) -> bool {
        let tokens = self.chains.copy(slot).unwrap_or_default();
        let holds = |id: SlotId| id != slot && self.chains.common(id, &tokens) == tokens.len();
        (0..self.slots.len()).any(holds)
    }

    /// Whether a request runs in a slot.
    pub(crate) fn busy(&self, slot: SlotId) -> bool {
        self.slots[slot].busy
    }

    /// Tokens that idle slots other than `slot` hold for themselves.
    pub(crate) fn idle_tokens(&self, slot: SlotId) -> usize {
        let idle = |&id: &SlotId| id != slot && !self.slots[id].busy;
        (0..self.slots.len()).filter(idle).map(|id| self.own(id)).sum()
    }

    /// Tokens that all slots hold for themselves.
    pub(crate) fn tokens(&self) -> usize {
        (0..self.slots.len()).map(|id| self.own(id)).sum()
    }

    pub(crate) fn row(&self, slot: SlotId) -> usize {
        self.slots[slot].row
    }

    pub(crate) fn slot(&self, row: usize) -> SlotId {
        self.rows[row]
    }

    /// Tokens that a slot holds.
    pub(crate) fn len(&self, slot: SlotId) -> usize {
        self.slots[slot].tokens
    }

    /// Rows that decode.
    pub(crate) fn decoding(&self) -> usize {
        self.decoding
    }

    /// For each slot: tokens held, those of them that it shares, whether it is busy, since when it is idle.
    pub(crate) fn readings(&self) -> impl Iterator<Item = (usize, usize, bool, Instant)> {
        let shared = |slot: &Slot| slot.base.map_or(0, |base| base.tokens);
        self.slots.iter().map(move |slot| (slot.tokens, shared(slot), slot.busy, slot.idle_since))
    }

    fn swap(&mut self, a: usize, b: usize) -> Option<(usize, usize)> {
        if a == b {
            return None;
        }
        self.rows.swap(a, b);
        self.slots[self.rows[a]].row = a;
        self.slots[self.rows[b]].row = b;
        Some((a, b))
    }
}

#[cfg(test)]
#[path = "slots_tests.rs"]
mod tests;
