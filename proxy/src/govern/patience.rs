//! How long a request waits for summaries.

use std::time::{Duration, Instant};

/// More than the cuts that a conversation makes from one request to the next; a process that has just started may meet
/// one with hundreds behind it.
const MOST: u32 = 64;

/// What is left of a request's patience.
#[derive(Default)]
pub(super) struct Patience {
    until: Option<Instant>,
    asked: u32,
    spent: bool,
}

impl Patience {
    /// The time for the next summary, where each may take `timeout` and all of them together no more. `None`: no time
    /// is left.
    pub(super) fn left(&mut self, timeout: Duration) -> Option<Duration> {
        let now = Instant::now();
        let left = self.until.get_or_insert_with(|| now + timeout).saturating_duration_since(now);
        self.asked += 1;
        self.spent |= left.is_zero() || self.asked > MOST;
        (!self.spent).then(|| left.min(timeout))
    }

    /// The request waits for no more of them.
    pub(super) fn end(&mut self) {
        self.spent = true;
    }

    pub(super) fn is_spent(&self) -> bool {
        self.spent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_with_time_with_number_and_with_a_failure() {
        let minute = Duration::from_secs(60);
        assert_eq!(Patience::default().left(Duration::ZERO), None);
        let mut patience = Patience::default();
        let times = (0..100).take_while(|_| patience.left(minute).is_some_and(|left| left <= minute)).count();
        assert_eq!((times, patience.is_spent()), (MOST as usize, true));
        let mut patience = Patience::default();
        patience.end();
        assert_eq!(patience.left(minute), None);
    }
}
