//! Nothing runs: what was only held for runs is given back, and memory is looked at.

use super::Worker;
use crate::memory::Meter;

impl Worker {
    /// Before the wait for something to do.
    pub(super) fn rest(&mut self) {
        if self.meter.as_ref().is_some_and(Meter::rests) {
            self.give_back();
            if let Some(meter) = &self.meter {
                meter.sample();
            }
        }
    }

    /// A request begins.
    pub(super) fn work(&self) {
        if let Some(meter) = &self.meter {
            meter.works();
        }
    }

    /// Conversations stay for their next turn; what was written behind their ends does not.
    fn give_back(&mut self) {
        let limit = self.board.limit();
        let mut room = None;
        for slot in 0..self.jobs.len() {
            let (row, held) = (self.slots.row(slot), self.slots.len(slot));
            self.session.release(row, held, limit);
            if held < limit {
                room = room.or(Some((row, held)));
            }
        }
        if let Some((row, held)) = room {
            if let Err(error) = self.session.settle(row, held) {
                tracing::warn!(error = error.0, "the runtime keeps memory that nothing uses");
            }
            self.session.release(row, held, limit);
        }
    }
}
