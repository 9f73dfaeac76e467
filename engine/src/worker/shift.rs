//! Answers that go on past the window: when it is full, the older part of what is held goes, and the rest moves up.

use super::Worker;
use crate::cache::SlotId;
use crate::request::{Event, Finish, Shift};
use crate::session::{Cut, RunError};

/// A part of a window that is never kept, and tokens of it at least: what a shift drops must be worth the shift.
const FREE: usize = 16;
const LEAST_FREE: usize = 8;

impl Shift {
    /// What a full row loses so that it goes on in a window of so many tokens; `None` where that is too small.
    ///
    /// As llama.cpp does: half of what is behind the tokens that stay.
    pub(super) fn cut(self, held: usize, window: usize) -> Option<Cut> {
        let most = window.checked_sub(LEAST_FREE.max(window / FREE))?;
        let keep = (self.keep as usize).min(most);
        let stays = keep + (window - keep).div_ceil(2);
        let drop = held.checked_sub(stays).filter(|drop| *drop > 0)?;
        Some(Cut { keep, drop, held })
    }
}

impl Worker {
    /// Makes room in the rows whose windows are full, before they decode.
    pub(super) fn shift_full(&mut self) {
        for slot in 0..self.jobs.len() {
            let Some(job) = self.jobs[slot].as_ref().filter(|job| job.next.is_some()) else { continue };
            let (Some(shift), window) = (job.shift, job.permit.tokens() as usize) else { continue };
            if self.slots.len(slot) < window {
                continue;
            }
            match self.shift(slot, shift) {
                Ok(true) => {}
                // There is no memory for what it shared: the answer ends here, as it would without a shift.
                Ok(false) => self.finish(slot, Finish::Length),
                Err(error) => {
                    self.fail(slot, error);
                    // Some of it has moved and some has not.
                    self.forget(slot);
                }
            }
        }
    }

    /// Drops a part of what a slot holds. False: it cannot go on.
    fn shift(&mut self, slot: SlotId, shift: Shift) -> Result<bool, RunError> {
        let held = self.slots.len(slot);
        self.part(slot, shift.keep as usize)?;
        let Some(job) = self.jobs[slot].as_mut() else { return Ok(false) };
        let Some(cut) = shift.cut(held, job.permit.tokens() as usize) else { return Ok(false) };
        // A window that became smaller keeps less.
        self.part(slot, cut.keep)?;
        self.session.shift(self.slots.row(slot), cut)?;
        self.slots.shift(slot, cut.keep, cut.drop);
        let dropped = u32::try_from(cut.drop).unwrap_or(u32::MAX);
        if let Some(job) = &mut self.jobs[slot] {
            job.tell(Event::Shifted { dropped });
        }
        Ok(true)
    }

    /// A slot shares no more than the tokens that stay where they are: the others become its own before they change.
    fn part(&mut self, slot: SlotId, keep: usize) -> Result<(), RunError> {
        let Some(base) = self.slots.base(slot).filter(|base| base.tokens > keep) else { return Ok(()) };
        let (stays, held) = (self.segments.cut(base, keep), self.slots.len(slot));
        self.rest_on(slot, stays, held).map_err(|error| RunError(error.to_string()))?;
        if let Some(job) = self.jobs[slot].as_mut() {
            job.permit.part(stays);
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "shift_tests.rs"]
mod tests;
