//! What conversations begin with alike is held once: the beginning of a prompt is brought into its slot by sharing the
//! whole pages of it and copying the rest.

use super::Worker;
use crate::cache::{Base, Donor, LEAST, Picked, SlotId, StoreError};
use crate::memory::Permit;
use crate::session::RunError;

/// Segments that no conversation shares any more may take this part of the KV memory.
const KEPT: u64 = 4;

impl Worker {
    /// Brings into a slot what is held of `tokens`, as it was picked. Returns how many tokens the slot holds then: fewer
    /// than were to be had only where memory fails.
    pub(super) fn bring(&mut self, picked: &Picked, tokens: &[u32], permit: Option<&mut Permit>) -> usize {
        let wanted = &tokens[..picked.cached()];
        if let Some((Donor::Slot(donor), _)) = picked.donor {
            self.lend(donor, wanted);
        }
        let (base, permit) = self.base(picked, wanted, permit);
        let mut from = base.map_or(0, |base| base.tokens).max(picked.held);
        if self.rest_on(picked.slot, base, picked.held).is_err() {
            // Nothing of what the slot held can be trusted.
            if let Some(permit) = permit {
                permit.rest_on(None, true);
            }
            self.empty(picked.slot);
            from = 0;
        }
        if self.segments.whole(wanted.len()) >= from + LEAST && !self.affords(2, 1) {
            self.copied += 1;
        }
        match self.copy(picked, from) {
            Ok(()) => wanted.len(),
            // What cannot be copied is computed.
            Err(_) => from,
        }
    }

    /// Most of an idle conversation goes on in another slot, beyond what many have in common: what it was is a former
    /// version, and the first to go.
    pub(super) fn leave_version(&mut self, picked: &Picked) {
        let Some((Donor::Slot(donor), tokens)) = picked.donor else { return };
        let common = self.slots.base(donor).map_or(0, |base| base.tokens);
        let most = 2 * tokens >= self.slots.len(donor) && tokens >= common + LEAST;
        if most && !self.slots.busy(donor) && self.segments.shares() {
            self.slots.leave_behind(donor);
        }
    }

    /// What a slot shares of `wanted`, as its permit allows.
    fn base<'p>(
        &mut self,
        picked: &Picked,
        wanted: &[u32],
        permit: Option<&'p mut Permit>,
    ) -> (Option<Base>, Option<&'p mut Permit>) {
        let own = self.slots.base(picked.slot).filter(|base| base.tokens <= picked.held);
        let longest = self.segments.base(wanted);
        // Of equals, what is mapped already.
        let best = longest.filter(|base| own.is_none_or(|own| own.tokens < base.tokens)).or(own);
        let extents = best.map_or(0, |base| self.segments.path(base).len());
        let affords = best == own || self.affords(1, extents);
        let best = if affords { best } else { own };
        let Some(permit) = permit else { return (best, None) };
        let base = if permit.rest_on(best, false) { best } else { permit.base() };
        (base, Some(permit))
    }

    /// Has a slot that holds `tokens` share as many of them as can be: with the segments there are, and with a new one
    /// for the rest.
    fn lend(&mut self, donor: SlotId, tokens: &[u32]) {
        let held = self.slots.len(donor);
        let mut base = self.slots.base(donor);
        let longest = self.segments.base(tokens);
        if longest.is_some_and(|longest| base.is_none_or(|base| base.tokens < longest.tokens)) {
            base = longest;
        }
        let end = self.segments.whole(tokens.len());
        let below = base.and_then(|base| self.segments.cut(base, end));
        if below.is_none_or(|below| below.tokens < end) {
            base = self.branch_off(donor, &tokens[..end], below).or(base);
        }
        // Where that fails it holds what it held, in pieces of its own.
        let shared = self.rest_on(donor, base, held).is_ok();
        if let Some(job) = self.jobs[donor].as_mut().filter(|_| shared) {
            job.permit.rest_on(base, true);
        }
    }

    /// A new segment for what a slot holds of `chain` behind `below`.
    fn branch_off(&mut self, slot: SlotId, chain: &[u32], below: Option<Base>) -> Option<Base> {
        let (row, now) = (self.slots.row(slot), self.slots.now());
        let extents = 1 + below.map_or(0, |below| self.segments.path(below).len());
        if !self.affords(2, extents) {
            return None;
        }
        let segment = self.segments.add(chain, below, now)?;
        let from = below.map_or(0, |below| below.tokens);
        let sharing = self.session.sharing().ok()?;
        if let Err(error) = sharing.keep(segment, row, from, chain.len()) {
            tracing::warn!(target: "plimsoll", %error, "a prefix is copied");
            self.segments.remove(segment);
            return None;
        }
        Some(Base { segment, tokens: chain.len() })
    }

    /// Whether pieces of memory are left for so many rows over so many segments.
    fn affords(&mut self, rows: usize, extents: usize) -> bool {
        self.session.sharing().is_ok_and(|sharing| sharing.affords(rows, extents))
    }

    /// Has a slot share this and hold `held` tokens in all; the others are gone.
    pub(super) fn rest_on(
        &mut self,
        slot: SlotId,
        base: Option<Base>,
        held: usize,
    ) -> Result<(), StoreError> {
        if self.slots.base(slot) == base {
            return Ok(());
        }
        let path = base.map_or_else(Vec::new, |base| self.segments.path(base));
        let row = self.slots.row(slot);
        if let Ok(sharing) = self.session.sharing() {
            sharing.share(row, &path, held).inspect_err(|error| {
                tracing::error!(target: "plimsoll", %error, "kv memory cannot be shared");
            })?;
        }
        let before = self.slots.rest_on(slot, base);
        self.segments.rebase(before, base, self.slots.now());
        Ok(())
    }

    /// Copies what a slot lacks from whoever was picked.
    fn copy(&mut self, picked: &Picked, from: usize) -> Result<(), RunError> {
        let (Some((donor, to)), target) = (picked.donor, self.slots.row(picked.slot)) else { return Ok(()) };
        if from >= to {
            return Ok(());
        }
        match donor {
            Donor::Slot(donor) => self.session.copy(self.slots.row(donor), target, from, to),
            Donor::Segment(segment) => {
                let path = self.segments.path(Base { segment, tokens: to });
                let sharing = self.session.sharing().map_err(|reason| RunError(reason.to_owned()))?;
                for mut extent in path.into_iter().filter(|extent| extent.to > from) {
                    extent.from = extent.from.max(from);
                    sharing.fill(target, extent).map_err(|error| RunError(error.to_string()))?;
                }
                Ok(())
            }
        }
    }

    /// Gives back all that a slot's row holds.
    pub(super) fn empty(&mut self, slot: SlotId) {
        let row = self.slots.row(slot);
        let before = self.slots.rest_on(slot, None);
        match self.session.sharing() {
            Ok(sharing) => {
                if let Err(error) = sharing.share(row, &[], 0) {
                    tracing::error!(target: "plimsoll", %error, "kv memory is not given back");
                }
            }
            Err(_) => self.session.release(row, 0, self.slots.len(slot)),
        }
        self.segments.rebase(before, None, self.slots.now());
    }

    /// Bytes that are reserved, and those of what is kept beside: conversations in idle slots other than `keep`, and
    /// segments that no request counts on.
    pub(super) fn filled(&self, keep: SlotId) -> u64 {
        let kept = self.slots.idle_tokens(keep) + self.segments.unpinned();
        self.budget.reserved() + kept as u64 * self.facts.kv_bytes_per_token
    }

    /// Forgets what was used longest ago: an idle conversation in none of the slots `keep`, or a segment that no
    /// conversation shares. False where there is nothing.
    pub(super) fn forget_oldest(&mut self, keep: &[SlotId]) -> bool {
        let slot = self.slots.oldest(keep);
        let elder = |used: u64| slot.is_none_or(|slot| (true, used) < self.slots.used(slot));
        if self.segments.oldest_use().is_some_and(elder) {
            return self.evict();
        }
        let Some(slot) = slot else { return false };
        self.put_by(slot);
        self.forget(slot);
        true
    }

    /// Drops the segment that was used longest ago. False where all are in use.
    fn evict(&mut self) -> bool {
        let Some((segment, chain)) = self.segments.evict() else { return false };
        self.put_by_segment(chain, segment);
        true
    }

    /// Keeps the segments that no conversation shares within their part of the memory.
    pub(super) fn trim_segments(&mut self) {
        let most = self.budget.limit() / KEPT;
        while self.segments.alone() as u64 * self.facts.kv_bytes_per_token > most && self.evict() {}
    }
}

#[cfg(test)]
#[path = "share_tests.rs"]
mod tests;
