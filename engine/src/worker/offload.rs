//! Conversations that must leave their slots are put by, and come back when a prompt goes on from one of them.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Worker;
use crate::cache::{LEAST, Picked, Place, Segment, SegmentId, SlotId};
use crate::offload::Store;
use crate::session::RunError;

/// A conversation on its way back.
#[derive(Debug)]
pub(super) struct Recalled {
    store: Arc<Store>,
    /// Tokens that the prompt begins with alike, and those of them that were in a slot anyhow.
    common: usize,
    resident: usize,
    /// Bytes of the whole conversation.
    bytes: u64,
    /// What is to be copied into the row; none where the row shares it.
    pages: Option<Arc<Segment>>,
    took: Duration,
}

impl Worker {
    /// With conversations that are put by here.
    pub(crate) fn keeping(self, store: &Arc<Store>) -> Self {
        Self { offload: Some(store.clone()), ..self }
    }

    /// Seconds that a token of a prompt takes.
    fn per_token(&self) -> Option<f64> {
        self.scheduler.speed().filter(|speed| *speed > 0.0).map(f64::recip)
    }

    /// A slot's conversation is about to go: copies it out of its row, where that is worth its while. One that went on
    /// elsewhere, or that another slot holds too, is not missed.
    pub(super) fn put_by(&mut self, slot: SlotId) {
        let Some(store) = self.offload.clone() else { return };
        let (needed, _) = self.slots.used(slot);
        if self.life.unloaded() || !needed || self.slots.len(slot) < LEAST || self.slots.elsewhere(slot) {
            return;
        }
        let tokens = self.slots.chains().copy(slot).unwrap_or_default();
        let Some(bytes) = store.room(&tokens, self.per_token()) else { return };
        let (row, session, started) = (self.slots.row(slot), &self.session, Instant::now());
        let pages = Segment::collect(store.strips(), tokens.len(), |strip, head, bytes| {
            session.read(Place { strip, row, head }, bytes).map_err(|error| io::Error::other(error.0))
        });
        match pages {
            Ok(pages) => store.put(&tokens, bytes, Arc::new(pages), Some(started.elapsed())),
            Err(error) => {
                tracing::warn!(target: "plimsoll", %error, "an idle conversation is not put by");
                store.give_up(bytes);
            }
        }
    }

    /// As [`put_by`](Self::put_by), for a segment that no row shares any more: its pages go as they are.
    pub(super) fn put_by_segment(&mut self, chain: Option<Arc<[u32]>>, segment: SegmentId) {
        let pages = self.session.sharing().ok().and_then(|sharing| sharing.discard(segment));
        let (Some(store), Some(tokens), Some(pages)) = (&self.offload, chain, pages) else { return };
        if let Some(bytes) = store.room(&tokens, self.per_token()) {
            store.put(&tokens, bytes, pages, None);
        }
    }

    /// Puts all by that is in slots and segments, the longest unused first, where it is kept beyond this session.
    pub(super) fn put_all_by(&mut self) {
        if self.offload.as_ref().is_some_and(|store| store.files()) {
            while self.forget_oldest(&[]) {}
        }
    }

    /// A slot was picked for another conversation than its own.
    pub(super) fn make_way(&mut self, picked: &Picked) {
        if 2 * picked.held < self.slots.len(picked.slot) {
            self.put_by(picked.slot);
        }
    }

    /// Brings back what is put by of a prompt, where that is more than slots and segments hold and worth its while: as a
    /// segment, where rows share pages.
    pub(super) fn recall(&mut self, prompt: &[u32]) -> Option<Recalled> {
        let store = self.offload.clone()?;
        let started = Instant::now();
        let resident = self.slots.chains().prefix(prompt);
        let hit = store.recall(&prompt[..prompt.len().saturating_sub(1)], resident, self.per_token())?;
        let bytes = store.bytes(hit.tokens.len());
        let pages = match self.session.sharing() {
            Err(_) => Some(store.lend(&hit.tokens)?),
            Ok(sharing) => {
                let id = self.segments.add(&hit.tokens, None, self.slots.now())?;
                let Some(pages) = store.take(&hit.tokens) else {
                    self.segments.remove(id);
                    return None;
                };
                sharing.adopt(id, pages);
                None
            }
        };
        Some(Recalled { store, common: hit.common, resident, bytes, pages, took: started.elapsed() })
    }

    /// The slot that was picked holds `cached` tokens of the prompt, which took so long; copies the rest of what was
    /// recalled. Returns what it holds then, and how much of it is back.
    pub(super) fn come_back(
        &mut self,
        recalled: Option<Recalled>,
        slot: SlotId,
        (cached, took): (usize, Duration),
    ) -> (usize, usize) {
        let Some(recalled) = recalled else { return (cached, 0) };
        let started = Instant::now();
        let cached = match self.fill(&recalled, slot, cached) {
            Ok(cached) => cached,
            Err(error) => {
                // What was written is what was there: the same tokens' keys and values.
                tracing::warn!(target: "plimsoll", error = error.0, "a conversation is computed, not brought back");
                cached
            }
        };
        let back = cached.saturating_sub(recalled.resident);
        if back > 0 {
            recalled.store.restored(back, recalled.bytes, recalled.took + took + started.elapsed());
        }
        (cached, back)
    }

    /// Copies a conversation's beginning into a row that shares nothing.
    fn fill(&mut self, recalled: &Recalled, slot: SlotId, cached: usize) -> Result<usize, RunError> {
        let Some(pages) = recalled.pages.as_ref().filter(|_| recalled.common > cached) else {
            return Ok(cached);
        };
        let row = self.slots.row(slot);
        for (strip, about) in recalled.store.strips().iter().enumerate() {
            let mut bytes = vec![0; recalled.common * about.token];
            for head in 0..about.heads {
                pages.read(strip, head, 0, &mut bytes).map_err(|error| RunError(error.to_string()))?;
                self.session.write(Place { strip, row, head }, &bytes)?;
            }
        }
        Ok(recalled.common)
    }
}

#[cfg(test)]
#[path = "offload_tests.rs"]
mod tests;
