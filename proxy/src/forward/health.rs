//! Whether a replica is asked: pure, by failures in a row and the time.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::Ejection;

/// What is known of a replica's health.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Failures since the last answer.
    failures: u32,
    /// Times that it was put out since the last answer.
    ejections: u32,
    out: Option<Out>,
}

/// A replica is left out.
#[derive(Debug)]
struct Out {
    until: Instant,
    /// Whether a request is under way that tries it.
    probing: bool,
}

/// Leave to send a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// As any other.
    Usual,
    /// As the one that finds out whether a replica that was out is well again.
    Probe,
}

impl Health {
    /// Whether a request may be sent now; a probe begins by it.
    pub(super) fn admit(&mut self, now: Instant) -> Option<Pass> {
        match &mut self.out {
            None => Some(Pass::Usual),
            Some(out) if !out.probing && now >= out.until => {
                out.probing = true;
                Some(Pass::Probe)
            }
            Some(_) => None,
        }
    }

    /// It answered. Tells whether it had failed before.
    pub(super) fn answered(&mut self) -> bool {
        let failed = self.failures > 0 || self.out.is_some();
        *self = Self::default();
        failed
    }

    /// It did not answer. Tells whether it is put out by that.
    pub(super) fn failed(&mut self, now: Instant, settings: &Ejection) -> bool {
        self.failures = self.failures.saturating_add(1);
        let due = match &self.out {
            None => self.failures >= settings.failures,
            // Requests that were sent before it was put out fail later: they say nothing new.
            Some(out) => out.probing || now >= out.until,
        };
        if due {
            let longer = 1_u32.checked_shl(self.ejections).unwrap_or(u32::MAX);
            let time = settings.time.saturating_mul(longer).min(settings.longest_time);
            self.ejections = self.ejections.saturating_add(1);
            self.out = Some(Out { until: now + time, probing: false });
        }
        due
    }

    /// The probe ended without a result: its client left.
    pub(super) fn abandoned(&mut self) {
        if let Some(out) = &mut self.out {
            out.probing = false;
        }
    }

    /// `in`, `out`, or `probing`: the next request, or one under way, finds out.
    pub(super) fn word(&self, now: Instant) -> &'static str {
        match &self.out {
            None => "in",
            Some(out) if out.probing || now >= out.until => "probing",
            Some(_) => "out",
        }
    }

    /// Failures since the last answer.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// For how long it is still left out.
    pub(super) fn out_for(&self, now: Instant) -> Option<Duration> {
        self.out.as_ref().map(|out| out.until.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const SETTINGS: Ejection =
        Ejection { failures: 3, time: Duration::from_secs(10), longest_time: Duration::from_secs(35) };

    #[test]
    fn failures_in_a_row_put_it_out_and_one_probe_lets_it_in() {
        let (mut health, now) = (Health::default(), Instant::now());
        assert!(!health.failed(now, &SETTINGS) && !health.failed(now, &SETTINGS));
        assert!(health.answered(), "it had failed");
        assert!(!health.answered());
        assert!(!health.failed(now, &SETTINGS) && !health.failed(now, &SETTINGS));
        assert_eq!((health.admit(now), health.word(now)), (Some(Pass::Usual), "in"));
        assert!(health.failed(now, &SETTINGS));
        assert_eq!((health.admit(now + 9 * SECOND), health.word(now)), (None, "out"));
        assert_eq!(health.out_for(now), Some(10 * SECOND));
        let later = now + 10 * SECOND;
        assert_eq!(health.admit(later), Some(Pass::Probe));
        assert_eq!((health.admit(later), health.word(later)), (None, "probing"), "one probe at a time");
        assert!(health.answered());
        assert_eq!((health.admit(later), health.failures()), (Some(Pass::Usual), 0));
    }

    #[test]
    fn each_probe_that_fails_doubles_the_time_up_to_the_longest() {
        let (mut health, mut now) = (Health::default(), Instant::now());
        for _ in 0..3 {
            health.failed(now, &SETTINGS);
        }
        for time in [10, 20, 35, 35] {
            assert_eq!(health.out_for(now), Some(time * SECOND));
            // What was under way fails, too, and changes nothing.
            assert!(!health.failed(now + SECOND, &SETTINGS));
            assert_eq!(health.out_for(now), Some(time * SECOND));
            now += time * SECOND;
            assert_eq!(health.admit(now), Some(Pass::Probe));
            assert!(health.failed(now, &SETTINGS));
        }
    }

    #[test]
    fn a_probe_whose_client_left_leaves_the_place_to_another() {
        let (mut health, now) = (Health::default(), Instant::now());
        for _ in 0..3 {
            health.failed(now, &SETTINGS);
        }
        let later = now + 10 * SECOND;
        assert_eq!(health.admit(later), Some(Pass::Probe));
        health.abandoned();
        assert_eq!(health.admit(later), Some(Pass::Probe));
    }
}
