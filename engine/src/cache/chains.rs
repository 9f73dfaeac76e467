//! The token chains of all slots: written by the worker, read by whoever wants to know what is held.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{SegmentId, Segments, SlotId};

/// The tokens of each slot. Each has a lock of its own, held for one comparison at most. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Chains {
    slots: Arc<[Mutex<Vec<u32>>]>,
    segments: Segments,
    /// A chain is of use as a whole or not at all.
    whole: bool,
}

impl Chains {
    /// Empty chains for `count` slots.
    pub(super) fn new(count: usize) -> Self {
        let slots = (0..count).map(|_| Mutex::default()).collect();
        Self { slots, segments: Segments::default(), whole: false }
    }

    /// Beside segments, which prompts may begin with too.
    pub(super) fn beside(self, segments: Segments) -> Self {
        Self { segments, ..self }
    }

    /// For memory that cannot be taken back to fewer tokens.
    pub(super) fn whole(self) -> Self {
        Self { whole: true, ..self }
    }

    /// A slot's chain.
    pub(super) fn get(&self, slot: SlotId) -> MutexGuard<'_, Vec<u32>> {
        self.slots[slot].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tokens that a slot's chain and `tokens` begin with alike.
    pub(super) fn common(&self, slot: SlotId, tokens: &[u32]) -> usize {
        self.get(slot).iter().zip(tokens).take_while(|(held, token)| held == token).count()
    }

    /// Tokens that a prompt which begins with `tokens` can take from a slot.
    pub(super) fn usable(&self, slot: SlotId, tokens: &[u32]) -> usize {
        if self.whole {
            let chain = self.get(slot);
            return if tokens.starts_with(&chain) { chain.len() } else { 0 };
        }
        self.common(slot, tokens)
    }

    /// Whether a beginning is held once for all who share it.
    pub(super) fn shares(&self) -> bool {
        self.segments.shares()
    }

    /// The segment that holds most of `tokens`, and how many.
    pub(super) fn segment(&self, tokens: &[u32]) -> Option<(SegmentId, usize)> {
        self.segments.common(tokens)
    }

    /// What a slot holds; `None` where there is no such slot.
    pub(crate) fn copy(&self, slot: SlotId) -> Option<Vec<u32>> {
        (slot < self.slots.len()).then(|| self.get(slot).clone())
    }

    /// A slot whose conversation begins with `tokens`.
    pub(crate) fn holder(&self, tokens: &[u32]) -> Option<SlotId> {
        (0..self.slots.len()).find(|&slot| self.get(slot).starts_with(tokens))
    }

    /// Tokens of a prompt that some slot or segment holds, its last token excepted: that one is always computed.
    pub(crate) fn prefix(&self, prompt: &[u32]) -> usize {
        let usable = &prompt[..prompt.len().saturating_sub(1)];
        let slots = (0..self.slots.len()).map(|slot| self.usable(slot, usable));
        slots.chain(self.segment(usable).map(|(_, common)| common)).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_of_all_slots_counts() {
        let chains = Chains::new(3);
        chains.get(0).extend([1, 2]);
        chains.get(2).extend([1, 2, 3, 4]);
        for (prompt, held) in
            [(&[1, 2, 3, 9][..], 3), (&[1, 2, 3, 4, 5], 4), (&[1, 2, 3, 4], 3), (&[9, 2], 0), (&[], 0)]
        {
            assert_eq!(chains.prefix(prompt), held, "{prompt:?}");
        }
    }

    #[test]
    fn where_nothing_is_taken_back_whole_chains_count() {
        let chains = Chains::new(3).whole();
        chains.get(0).extend([1, 2]);
        chains.get(2).extend([1, 2, 3, 4]);
        for (prompt, held) in
            [(&[1, 2, 3, 9][..], 2), (&[1, 2, 3, 4, 5], 4), (&[1, 2, 3, 4], 2), (&[1, 2], 0), (&[], 0)]
        {
            assert_eq!(chains.prefix(prompt), held, "{prompt:?}");
        }
    }
}
