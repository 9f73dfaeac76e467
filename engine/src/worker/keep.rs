//! What is done to conversations between turns: read out, put back, branched, forgotten.

use std::time::Instant;

use super::Worker;
use crate::cache::{Place, SlotId};
use crate::checkpoint::{CheckpointError, Opened};
use crate::session::RunError;

/// A strip of a conversation, as a file holds it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    pub(crate) strip: usize,
    pub(crate) heads: usize,
    /// Bytes of a head's tokens.
    pub(crate) filled: usize,
    /// Bytes of a head's place in the file, at least as many.
    pub(crate) region: usize,
}

impl Worker {
    /// One strip of a conversation that some slot holds, busy or not: what is held is never rewritten in place.
    pub(crate) fn read(&mut self, tokens: &[u32], part: Part) -> Result<Vec<u8>, CheckpointError> {
        let missing = CheckpointError::NotResident { tokens: tokens.len() };
        let row = self.slots.row(self.slots.holder(tokens).ok_or(missing)?);
        let mut bytes = vec![0; part.heads * part.region];
        for (head, region) in bytes.chunks_mut(part.region).enumerate() {
            let place = Place { strip: part.strip, row, head };
            self.session.read(place, &mut region[..part.filled]).map_err(failed)?;
        }
        Ok(bytes)
    }

    /// Puts a conversation into an idle slot, unless one holds it already.
    pub(crate) fn restore(&mut self, checkpoint: &Opened) -> Result<u32, CheckpointError> {
        self.wake().map_err(CheckpointError::Load)?;
        let tokens = checkpoint.tokens();
        if let Some(slot) = self.slots.holder(tokens).filter(|&slot| !self.slots.busy(slot)) {
            return Ok(number(slot));
        }
        let slot = self.free_slot(tokens.len(), None)?;
        let row = self.slots.row(slot);
        for (strip, head, bytes) in checkpoint.heads() {
            self.session.write(Place { strip, row, head }, bytes).map_err(failed)?;
        }
        self.hold(slot, tokens);
        // A conversation that is brought back is meant to be used.
        self.life.used(None);
        Ok(number(slot))
    }

    /// Copies the first `count` tokens of a slot's conversation, or all, into an idle slot.
    pub(crate) fn branch(&mut self, source: u32, count: Option<u32>) -> Result<(u32, u32), CheckpointError> {
        let from = self.known(source)?;
        let held = number(self.slots.len(from));
        let asked = count.unwrap_or(held);
        if asked == 0 || asked > held {
            return Err(CheckpointError::Short { slot: source, asked, held });
        }
        if asked < held && !self.session.rewinds() {
            return Err(CheckpointError::Whole { slot: source, asked, held });
        }
        let tokens = asked as usize;
        let slot = self.free_slot(tokens, Some(from))?;
        let (source, target) = (self.slots.row(from), self.slots.row(slot));
        self.session.copy(source, target, 0, tokens).map_err(failed)?;
        let chain = self.slots.chains().copy(from).map(|chain| chain[..tokens].to_vec());
        self.hold(slot, &chain.unwrap_or_default());
        Ok((number(slot), asked))
    }

    /// Forgets an idle slot's conversation; gives the tokens it held.
    pub(crate) fn erase(&mut self, slot: u32) -> Result<u32, CheckpointError> {
        let id = self.known(slot)?;
        if self.slots.busy(id) {
            return Err(CheckpointError::Busy { slot });
        }
        let held = self.slots.len(id);
        self.forget(id);
        Ok(number(held))
    }

    fn known(&self, slot: u32) -> Result<SlotId, CheckpointError> {
        let last = number(self.jobs.len()).saturating_sub(1);
        if slot <= last { Ok(slot as usize) } else { Err(CheckpointError::NoSlot { slot, last }) }
    }

    /// An emptied idle slot with room for so many tokens beside what runs. Other idle conversations make room, the
    /// longest unused first; `keep` stays.
    fn free_slot(&mut self, tokens: usize, keep: Option<SlotId>) -> Result<SlotId, CheckpointError> {
        let (limit, reserved) = (self.budget.limit(), self.budget.reserved());
        let per_token = self.facts.kv_bytes_per_token;
        let needed = tokens as u64 * per_token;
        let context = self.budget.context();
        let kept = keep.filter(|&slot| !self.slots.busy(slot)).map_or(0, |slot| self.slots.len(slot));
        if reserved + needed + kept as u64 * per_token > limit || tokens > context as usize {
            return Err(CheckpointError::NoRoom { tokens, needed, reserved, limit, context });
        }
        let all_busy = CheckpointError::AllBusy { slots: number(self.jobs.len()) };
        let slot = self.slots.unused(keep.as_slice()).ok_or(all_busy)?;
        self.forget(slot);
        while reserved + needed + self.slots.idle_tokens(slot) as u64 * per_token > limit {
            match self.slots.oldest(&[slot, keep.unwrap_or(slot)]) {
                Some(oldest) => self.forget(oldest),
                None => return Err(CheckpointError::NoRoom { tokens, needed, reserved, limit, context }),
            }
        }
        Ok(slot)
    }

    /// Notes what a slot holds now.
    fn hold(&mut self, slot: SlotId, tokens: &[u32]) {
        self.slots.start(slot, tokens, tokens.len(), tokens.len());
        self.slots.finish(slot, Instant::now());
    }
}

fn failed(error: RunError) -> CheckpointError {
    CheckpointError::Memory(error.0)
}

/// Slots and tokens are counted in 32 bits everywhere.
fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[path = "keep_tests.rs"]
mod tests;
