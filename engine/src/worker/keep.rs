//! What is done to conversations between turns: read out, put back, branched, forgotten.

use std::sync::Arc;
use std::time::Instant;

use super::Worker;
use crate::cache::{Donor, Picked, Place, Segment, SlotId};
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

    /// Puts a conversation into an idle slot, unless one holds it already: by sharing the pages of `segment`, which holds
    /// it too, where rows share pages.
    pub(crate) fn restore(
        &mut self,
        checkpoint: &Opened,
        segment: Option<Segment>,
    ) -> Result<u32, CheckpointError> {
        self.wake().map_err(CheckpointError::Load)?;
        let tokens = checkpoint.tokens();
        if let Some(slot) = self.slots.holder(tokens).filter(|&slot| !self.slots.busy(slot)) {
            return Ok(number(slot));
        }
        let slot = self.free_slot((tokens.len(), tokens.len()), None)?;
        if let Some(segment) = segment {
            self.adopt(segment, tokens);
        }
        let picked = self.slots.picked(slot, tokens);
        if self.bring(&picked, tokens, None) < tokens.len() {
            let row = self.slots.row(slot);
            self.rest_on(slot, None, 0).map_err(|error| CheckpointError::Memory(error.to_string()))?;
            for (place, bytes) in checkpoint.heads(row) {
                self.session.write(place, bytes).map_err(failed)?;
            }
        }
        self.hold(slot, tokens);
        // A conversation that is brought back is meant to be used.
        self.life.used(None);
        Ok(number(slot))
    }

    /// Takes in a segment that holds these tokens, unless somebody holds them already.
    fn adopt(&mut self, segment: Segment, tokens: &[u32]) {
        let resident = self.slots.holder(tokens).is_some()
            || self.segments.common(tokens).is_some_and(|(_, common)| common == tokens.len());
        let Ok(sharing) = self.session.sharing() else { return };
        let added = if resident { None } else { self.segments.add(tokens, None, self.slots.now()) };
        if let Some(id) = added {
            sharing.adopt(id, Arc::new(segment));
        }
    }

    /// Gives an idle slot the first `count` tokens of a slot's conversation, or all: what can be shared is not copied.
    pub(crate) fn branch(&mut self, source: u32, count: Option<u32>) -> Result<(u32, u32), CheckpointError> {
        let from = self.known(source)?;
        // Of a conversation that was shifted, its beginning.
        let chain = self.slots.chains().copy(from).unwrap_or_default();
        let held = number(chain.len());
        let asked = count.unwrap_or(held);
        if asked == 0 || asked > held {
            return Err(CheckpointError::Short { slot: source, asked, held });
        }
        if asked < held && !self.session.rewinds() {
            return Err(CheckpointError::Whole { slot: source, asked, held });
        }
        let tokens = asked as usize;
        let chain = &chain[..tokens];
        let slot = self.free_slot((tokens, tokens - self.segments.whole(tokens)), Some(from))?;
        let picked = Picked { slot, held: 0, donor: Some((Donor::Slot(from), tokens)) };
        if self.bring(&picked, chain, None) < tokens {
            self.forget(slot);
            return Err(CheckpointError::Memory("the conversation could not be copied".to_owned()));
        }
        self.hold(slot, chain);
        Ok((number(slot), asked))
    }

    /// Forgets an idle slot's conversation; gives the tokens it held.
    pub(crate) fn erase(&mut self, slot: u32) -> Result<u32, CheckpointError> {
        let id = self.known(slot)?;
        if self.slots.busy(id) {
            return Err(CheckpointError::Busy { slot });
        }
        let held = self.slots.len(id);
        if let Some(store) = &self.offload {
            // Whoever has it forgotten wants it nowhere.
            store.erase_all_of(&self.slots.chains().copy(id).unwrap_or_default());
        }
        self.forget(id);
        Ok(number(held))
    }

    fn known(&self, slot: u32) -> Result<SlotId, CheckpointError> {
        let last = number(self.jobs.len()).saturating_sub(1);
        if slot <= last { Ok(slot as usize) } else { Err(CheckpointError::NoSlot { slot, last }) }
    }

    /// An emptied idle slot with room for `own` of so many tokens beside what runs. Other idle conversations and
    /// segments make room, the longest unused first; `keep` stays.
    fn free_slot(
        &mut self,
        (tokens, own): (usize, usize),
        keep: Option<SlotId>,
    ) -> Result<SlotId, CheckpointError> {
        let (limit, reserved) = (self.budget.limit(), self.budget.reserved());
        let per_token = self.facts.kv_bytes_per_token;
        let needed = own as u64 * per_token;
        let context = self.budget.context();
        let kept = keep.filter(|&slot| !self.slots.busy(slot)).map_or(0, |slot| self.slots.len(slot));
        let no_room = CheckpointError::NoRoom { tokens, needed, reserved, limit, context };
        if reserved + needed + kept as u64 * per_token > limit || tokens > context as usize {
            return Err(no_room);
        }
        let all_busy = CheckpointError::AllBusy { slots: number(self.jobs.len()) };
        let slot = self.slots.unused(keep.as_slice()).ok_or(all_busy)?;
        self.put_by(slot);
        self.forget(slot);
        while self.filled(slot) + needed > limit {
            if !self.forget_oldest(&[slot, keep.unwrap_or(slot)]) {
                return Err(no_room);
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
