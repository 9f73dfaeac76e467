//! The token chains of all slots: written by the worker, read by whoever wants to know what is held.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::SlotId;

/// The tokens of each slot. Each has a lock of its own, held for one comparison at most. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Chains(Arc<[Mutex<Vec<u32>>]>);

impl Chains {
    /// Empty chains for `count` slots.
    pub(super) fn new(count: usize) -> Self {
        Self((0..count).map(|_| Mutex::default()).collect())
    }

    /// A slot's chain.
    pub(super) fn get(&self, slot: SlotId) -> MutexGuard<'_, Vec<u32>> {
        self.0[slot].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tokens that a slot's chain and `tokens` begin with alike.
    pub(super) fn common(&self, slot: SlotId, tokens: &[u32]) -> usize {
        self.get(slot).iter().zip(tokens).take_while(|(held, token)| held == token).count()
    }

    /// What a slot holds; `None` where there is no such slot.
    pub(crate) fn copy(&self, slot: SlotId) -> Option<Vec<u32>> {
        (slot < self.0.len()).then(|| self.get(slot).clone())
    }

    /// A slot whose conversation begins with `tokens`.
    pub(crate) fn holder(&self, tokens: &[u32]) -> Option<SlotId> {
        (0..self.0.len()).find(|&slot| self.get(slot).starts_with(tokens))
    }

    /// Tokens of a prompt that some slot holds, its last token excepted: that one is always computed.
    pub(crate) fn prefix(&self, prompt: &[u32]) -> usize {
        let usable = &prompt[..prompt.len().saturating_sub(1)];
        (0..self.0.len()).map(|slot| self.common(slot, usable)).max().unwrap_or(0)
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
}
