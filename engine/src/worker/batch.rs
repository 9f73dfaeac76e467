//! What shared decoding steps: told when the set of rows changes, so that a step itself costs nothing.

use std::any::Any;
use std::sync::Arc;
use std::time::SystemTime;

use super::{Board, Worker};

/// Something of the caller's that names a request in a [`Batch`].
pub type Tag = Arc<dyn Any + Send + Sync>;

/// Decoding steps in a row with the same requests in them, at least two.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Names of the requests that have one.
    pub tags: Vec<Tag>,
    /// Requests in each step.
    pub rows: u32,
    /// Steps.
    pub steps: u64,
    /// When the first step began.
    pub started: SystemTime,
    /// When the last step had ended.
    pub ended: SystemTime,
}

/// Who is told of batches.
pub(crate) type Sink = Box<dyn Fn(Batch) + Send + Sync>;

/// The batch in progress; nothing where nobody would hear of it.
#[derive(Default)]
pub(super) struct Batches(Option<Batch>);

impl Batches {
    /// A step was run.
    pub(super) fn step(&mut self) {
        if let Some(batch) = &mut self.0 {
            batch.steps += 1;
        }
    }

    /// The rows have changed, to these.
    fn regroup(&mut self, tags: Vec<Tag>, rows: usize, board: &Board) {
        if let Some(batch) = self.0.take().filter(|batch| batch.steps > 0) {
            board.tell(Batch { ended: SystemTime::now(), ..batch });
        }
        if rows > 1 && !tags.is_empty() {
            let (rows, now) = (u32::try_from(rows).unwrap_or(u32::MAX), SystemTime::now());
            self.0 = Some(Batch { tags, rows, steps: 0, started: now, ended: now });
        }
    }
}

impl Worker {
    /// Called where a request starts or ends decoding.
    pub(super) fn regroup(&mut self) {
        if !self.board.has_sink() {
            return;
        }
        let rows = self.slots.decoding();
        let jobs = (0..rows).filter_map(|row| self.jobs[self.slots.slot(row)].as_ref());
        let tags = jobs.filter_map(|job| job.tag.clone()).collect();
        self.batches.regroup(tags, rows, &self.board);
    }
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
