//! What moving conversations takes, as measured, against computing them.

use std::time::Duration;

/// Measurements that are remembered: the middle one is believed, so that a process that was held up once is no matter.
const KEPT: usize = 5;
/// What is left of a belief that has kept something from being tried: one bad measurement is not for ever.
const FADES: f64 = 0.9;

/// Seconds a byte; nothing before the first measurement.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Rate {
    last: [f64; KEPT],
    count: usize,
    trust: f64,
}

impl Rate {
    pub(super) fn measured(&mut self, bytes: u64, took: Duration) {
        if bytes > 0 {
            self.last[self.count % KEPT] = took.as_secs_f64() / bytes as f64;
            self.count += 1;
            self.trust = 1.0;
        }
    }

    pub(super) fn read(self) -> Option<f64> {
        let mut known = self.last;
        let known = &mut known[..self.count.min(KEPT)];
        known.sort_unstable_by(f64::total_cmp);
        Some(known[known.len().checked_sub(1)? / 2] * self.trust)
    }

    /// Seconds for so many bytes; what was never measured takes none.
    fn seconds(self, bytes: u64) -> f64 {
        self.read().unwrap_or(0.0) * bytes as f64
    }

    fn fade(&mut self) {
        self.trust *= FADES;
    }
}

/// Rates of the ways out of a slot and back.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Costs {
    /// Copying out of a row.
    pub(super) out: Rate,
    /// Bringing back into a row.
    pub(super) back: Rate,
    /// Reading a file and verifying it.
    pub(super) read: Rate,
    /// Whatever is measured, everything is worth its while, or nothing.
    #[cfg(test)]
    pub(super) fixed: Option<bool>,
}

impl Costs {
    /// Whether taking so many bytes out and back is cheaper than computing so many tokens, each of which takes
    /// `per_token` seconds. What was never measured is tried: that measures it.
    pub(super) fn out_is_worth(&self, tokens: usize, bytes: u64, per_token: Option<f64>) -> bool {
        self.less(self.out.seconds(bytes) + self.back.seconds(bytes), tokens, per_token)
    }

    /// Whether bringing so many bytes back from main memory, or from a file first, is cheaper than computing so many
    /// tokens.
    pub(super) fn back_is_worth(
        &self,
        tokens: usize,
        bytes: u64,
        filed: bool,
        per_token: Option<f64>,
    ) -> bool {
        let read = if filed { self.read.seconds(bytes) } else { 0.0 };
        self.less(self.back.seconds(bytes) + read, tokens, per_token)
    }

    fn less(&self, seconds: f64, tokens: usize, per_token: Option<f64>) -> bool {
        #[cfg(test)]
        if let Some(fixed) = self.fixed {
            return fixed;
        }
        per_token.is_none_or(|per_token| seconds < per_token * tokens as f64)
    }

    /// Something was not done for its cost.
    pub(super) fn fade(&mut self) {
        [&mut self.out, &mut self.back, &mut self.read].into_iter().for_each(Rate::fade);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEGABYTE: u64 = 1_000_000;

    fn costs(out: u64, back: u64, read: u64) -> Costs {
        let mut costs = Costs::default();
        let rates = [(&mut costs.out, out), (&mut costs.back, back), (&mut costs.read, read)];
        for (rate, millis) in rates {
            rate.measured(MEGABYTE, Duration::from_millis(millis));
        }
        costs
    }

    #[test]
    fn what_is_cheaper_than_computing_is_done() {
        // A token takes a millisecond, a megabyte two of them from memory and ten from a file.
        let costs = costs(3, 2, 8);
        let back = |tokens, filed| costs.back_is_worth(tokens, MEGABYTE, filed, Some(1e-3));
        assert_eq!(
            [back(1, false), back(3, false), back(9, true), back(11, true)],
            [false, true, false, true]
        );
        let out = |tokens| costs.out_is_worth(tokens, MEGABYTE, Some(1e-3));
        assert_eq!([out(4), out(6)], [false, true]);
    }

    #[test]
    fn what_was_never_measured_is_tried() {
        let known = costs(3, 2, 8);
        assert!(known.back_is_worth(1, MEGABYTE, true, None));
        let mut costs = Costs::default();
        assert!(costs.out_is_worth(1, MEGABYTE, Some(1e-9)));
        costs.back.measured(MEGABYTE, Duration::from_secs(1));
        assert!(!costs.back_is_worth(1, MEGABYTE, false, Some(1e-3)));
    }

    #[test]
    fn a_bad_measurement_is_tried_again_in_time_and_forgotten() {
        let mut costs = costs(0, 1000, 0);
        let worth = |costs: &Costs| costs.back_is_worth(100, MEGABYTE, false, Some(1e-3));
        let mut refused = 0;
        while !worth(&costs) {
            costs.fade();
            refused += 1;
        }
        assert!((10..40).contains(&refused), "{refused}");
        // The next one is believed, and a single one beside others never is.
        costs.back.measured(MEGABYTE, Duration::from_millis(1));
        assert!(costs.back_is_worth(2, MEGABYTE, false, Some(1e-3)));
        (0..3).for_each(|_| costs.back.measured(MEGABYTE, Duration::from_millis(1)));
        costs.back.measured(MEGABYTE, Duration::from_secs(9));
        assert!(costs.back_is_worth(2, MEGABYTE, false, Some(1e-3)));
    }
}
