//! Who runs next. Pure: the worker says who waits and how long the last runs took.
//!
//! Decoding comes first, since people read along. Prefill is guaranteed a share: after each decoding step one chunk of
//! a prompt runs, as large as fits into the time by which a reader may be kept waiting. That is measured in decoding
//! steps, so that readers notice a prompt alike on a fast model and on a slow one.

use std::time::Duration;

/// How long one chunk of a prompt may hold up others, at most.
const STALL: Duration = Duration::from_millis(100);
/// The same beside decoding, in decoding steps: a reader's token then comes within three.
const STALL_STEPS: f64 = 1.6;
/// Tokens of a chunk at least, beside other prompts: smaller ones waste more than they save.
const SMALLEST: usize = 32;
/// The same beside decoding, where they also save readers a wait.
const SMALLEST_BESIDE: usize = 8;
/// Share of the latest measurement in the speed that is believed.
const FRESH: f64 = 0.3;

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// One token for each decoding row.
    Decode,
    /// So many tokens of the prompt at this place in the queue.
    Prefill {
        /// The place.
        place: usize,
        /// Tokens.
        tokens: usize,
    },
    /// Nothing to do.
    Wait,
}

/// Remembers whose turn it was.
#[derive(Debug)]
pub(crate) struct Scheduler {
    /// Tokens of a chunk at most.
    chunk: usize,
    /// Only the first chunk of a prompt is computed at once: it is as large as can be.
    whole: bool,
    decoded: bool,
    /// The request whose prompt ran last.
    last: u64,
    /// Tokens of prompts a second.
    speed: Option<f64>,
    /// Seconds of a decoding step.
    step: Option<f64>,
    /// Seconds of a prompt's token in chunks beside decoding, which are small.
    token: Option<f64>,
    /// Whether somebody decodes.
    beside: bool,
}

/// A prompt that is not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pending {
    /// The request; later ones have higher numbers.
    pub(crate) request: u64,
    /// Tokens left to compute.
    pub(crate) tokens: usize,
    /// Whether some are computed.
    pub(crate) begun: bool,
}

impl Scheduler {
    pub(crate) fn new(chunk: usize) -> Self {
        let (speed, step, token) = (None, None, None);
        Self { chunk, whole: false, decoded: false, last: 0, speed, step, token, beside: false }
    }

    /// For a model that computes only the first chunk of a prompt at once.
    pub(crate) fn whole(self, whole: bool) -> Self {
        Self { whole, ..self }
    }

    /// Decides. `pending` is in the order of arrival.
    pub(crate) fn next(&mut self, decoding: usize, pending: &[Pending]) -> Turn {
        if decoding == 0 && pending.is_empty() {
            return Turn::Wait;
        }
        if decoding > 0 && (pending.is_empty() || !self.decoded) {
            self.decoded = true;
            return Turn::Decode;
        }
        self.decoded = false;
        self.beside = decoding > 0;
        // Prompts take turns, so that a short one does not wait for the whole of a long one.
        let place = pending.iter().position(|one| one.request > self.last).unwrap_or(0);
        self.last = pending[place].request;
        let alone = decoding == 0 && pending.len() == 1;
        let largest = if self.whole { !pending[place].begun } else { alone };
        let limit = match largest {
            true => self.chunk,
            false if self.beside => self.chunk_beside(decoding, pending.len()),
            false => self.shared_chunk(),
        };
        Turn::Prefill { place, tokens: pending[place].tokens.min(limit) }
    }

    /// Tokens of prompts a second, as lately measured.
    pub(crate) fn speed(&self) -> Option<f64> {
        self.speed
    }

    /// Learns how fast prompts are computed.
    pub(crate) fn prefilled(&mut self, tokens: usize, took: Duration) {
        let seconds = took.as_secs_f64();
        if seconds > 0.0 {
            let now = tokens as f64 / seconds;
            learn(&mut self.speed, now);
            if self.beside {
                learn(&mut self.token, seconds / tokens as f64);
            }
        }
    }

    /// Learns how long a decoding step takes.
    pub(crate) fn stepped(&mut self, took: Duration) {
        if !took.is_zero() {
            learn(&mut self.step, took.as_secs_f64());
        }
    }

    /// Tokens of a chunk beside so many who decode, where so many wait: as many as fit into a few decoding steps. Where
    /// more wait than decode they weigh more.
    fn chunk_beside(&self, decoding: usize, waiting: usize) -> usize {
        let (Some(step), Some(token)) = (self.step, self.token) else { return SMALLEST.min(self.chunk) };
        let weight = (waiting as f64 / decoding as f64).max(1.0);
        let time = (STALL_STEPS * step * weight).min(STALL.as_secs_f64());
        let fitting = (time / token) as usize;
        (fitting / SMALLEST_BESIDE * SMALLEST_BESIDE).max(SMALLEST_BESIDE).min(self.chunk)
    }

    /// Tokens of a chunk beside other prompts: what the speed allows, in whole steps of the smallest chunk so that the same
    /// shapes come back.
    pub(crate) fn shared_chunk(&self) -> usize {
        let fitting = self.speed.map_or(0.0, |speed| speed * STALL.as_secs_f64()) as usize;
        (fitting / SMALLEST * SMALLEST).max(SMALLEST).min(self.chunk)
    }
}

/// Moves what was believed towards what was measured.
fn learn(believed: &mut Option<f64>, now: f64) {
    *believed = Some(believed.map_or(now, |believed| believed + FRESH * (now - believed)));
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: usize = 512;

    fn pending(tokens: &[usize]) -> Vec<Pending> {
        (1..).zip(tokens).map(|(request, &tokens)| Pending { request, tokens, begun: false }).collect()
    }

    #[test]
    fn nothing_to_do() {
        assert_eq!(Scheduler::new(CHUNK).next(0, &[]), Turn::Wait);
    }

    #[test]
    fn alone_a_prompt_takes_the_largest_chunk() {
        let mut scheduler = Scheduler::new(CHUNK);
        assert_eq!(scheduler.next(0, &pending(&[2000])), Turn::Prefill { place: 0, tokens: 512 });
        assert_eq!(scheduler.next(0, &pending(&[30])), Turn::Prefill { place: 0, tokens: 30 });
    }

    #[test]
    fn decode_first_then_prefill_has_its_share() {
        let mut scheduler = Scheduler::new(CHUNK);
        let turns: Vec<_> = (0..6).map(|_| scheduler.next(3, &pending(&[10_000]))).collect();
        let prefill = Turn::Prefill { place: 0, tokens: SMALLEST };
        assert_eq!(turns, [Turn::Decode, prefill, Turn::Decode, prefill, Turn::Decode, prefill]);
    }

    #[test]
    fn where_only_the_first_chunk_runs_at_once_it_is_the_largest() {
        let mut scheduler = Scheduler::new(CHUNK).whole(true);
        let waiting = |begun| [Pending { request: 1, tokens: 10_000, begun }];
        assert_eq!(scheduler.next(3, &waiting(false)), Turn::Decode);
        assert_eq!(scheduler.next(3, &waiting(false)), Turn::Prefill { place: 0, tokens: CHUNK });
        // What follows goes token by token: small chunks, so that others are heard.
        assert_eq!(scheduler.next(0, &waiting(true)), Turn::Prefill { place: 0, tokens: SMALLEST });
    }

    #[test]
    fn without_prompts_every_turn_decodes() {
        let mut scheduler = Scheduler::new(CHUNK);
        assert!((0..5).all(|_| scheduler.next(1, &[]) == Turn::Decode));
        assert_eq!(scheduler.next(1, &pending(&[9])), Turn::Prefill { place: 0, tokens: 9 });
    }

    #[test]
    fn prompts_take_turns() {
        let mut scheduler = Scheduler::new(CHUNK);
        let places: Vec<_> = (0..5)
            .map(|_| match scheduler.next(0, &pending(&[900, 900, 900])) {
                Turn::Prefill { place, .. } => place,
                turn => panic!("{turn:?}"),
            })
            .collect();
        assert_eq!(places, [0, 1, 2, 0, 1]);
    }

    #[test]
    fn chunks_follow_the_measured_speed() {
        let mut scheduler = Scheduler::new(CHUNK);
        scheduler.prefilled(1000, Duration::from_secs(1));
        assert_eq!(scheduler.shared_chunk(), 96);
        for _ in 0..50 {
            scheduler.prefilled(100_000, Duration::from_secs(1));
        }
        assert_eq!(scheduler.shared_chunk(), CHUNK);
        for _ in 0..50 {
            scheduler.prefilled(10, Duration::from_secs(1));
        }
        assert_eq!(scheduler.shared_chunk(), SMALLEST);
    }

    /// Takes turns until what it has learnt of a machine is settled; the last chunk beside `decoding` rows.
    fn settled(step: Duration, token: Duration, (decoding, waiting): (usize, usize)) -> usize {
        let mut scheduler = Scheduler::new(CHUNK);
        let pending = pending(&vec![10_000; waiting]);
        let mut last = 0;
        for _ in 0..200 {
            match scheduler.next(decoding, &pending) {
                Turn::Decode => scheduler.stepped(step),
                Turn::Prefill { tokens, .. } => {
                    last = tokens;
                    scheduler.prefilled(tokens, token * u32::try_from(tokens).unwrap());
                }
                Turn::Wait => panic!("somebody waits"),
            }
        }
        last
    }

    #[test]
    fn who_reads_along_waits_less_than_two_more_steps() {
        let micros = Duration::from_micros;
        assert_eq!(settled(micros(1_000), micros(20), (4, 1)), 80);
        assert_eq!(settled(micros(30_000), micros(1_000), (4, 1)), 48);
        // However slow they are, chunks are no smaller; however fast, no larger than any.
        assert_eq!(settled(micros(300), micros(200), (4, 1)), SMALLEST_BESIDE);
        assert_eq!(settled(micros(50_000), micros(20), (4, 1)), CHUNK);
        // Nor does anybody wait for long where steps are long.
        assert_eq!(settled(micros(500_000), micros(1_000), (4, 1)), 96);
    }

    #[test]
    fn where_more_wait_than_read_they_weigh_more() {
        let micros = Duration::from_micros;
        assert_eq!(settled(micros(1_000), micros(20), (1, 4)), 320);
        assert_eq!(settled(micros(1_000), micros(20), (4, 3)), 80);
    }
}
