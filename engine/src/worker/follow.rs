//! Prompts that begin alike and arrive together: one computes what they have in common, and the others wait for it
//! rather than compute it too.

use super::Worker;
use super::job::Job;
use crate::cache::{LEAST, SlotId};

/// Another request's prompt, of which one's own begins with the same tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Follow {
    /// The other request.
    leader: u64,
    slot: SlotId,
    /// Tokens in common.
    tokens: usize,
}

impl Worker {
    /// The request whose prompt computes most of what `job` lacks; none where little would be saved. It came before, so
    /// that none waits for itself.
    pub(super) fn leader(&self, job: &Job, cached: usize) -> Option<Follow> {
        if job.ahead || !self.segments.shares() {
            return None;
        }
        let usable = usable(&job.request.prompt);
        let computing = self.jobs.iter().flatten().filter(|other| other.next.is_none() && !other.ahead);
        let follow = |other: &Job| {
            let alike = other.request.prompt.iter().zip(usable).take_while(|(a, b)| a == b);
            Follow { leader: other.id, slot: other.slot, tokens: alike.count() }
        };
        let longest = computing.map(follow).max_by_key(|follow| follow.tokens)?;
        (longest.tokens >= cached + LEAST).then_some(longest)
    }

    /// Whoever waited for a prompt goes on once that has come far enough, or has ended.
    pub(super) fn catch_up(&mut self) {
        for slot in 0..self.jobs.len() {
            let follows = self.jobs[slot].as_ref().and_then(|job| job.follows);
            if follows.is_none_or(|follow| self.computes(follow)) {
                continue;
            }
            let Some(mut job) = self.jobs[slot].take() else { continue };
            job.follows = None;
            let (prompt, held) = (job.request.prompt.clone(), self.slots.len(slot));
            let picked = self.slots.picked(slot, usable(&prompt));
            let cached = self.bring(&picked, &prompt, Some(&mut job.permit));
            self.slots.cut(slot, cached.min(held));
            self.slots.extend(slot, &prompt[cached.min(held)..cached]);
            job.started(cached);
            self.jobs[slot] = Some(job);
        }
    }

    /// Whether a leader is still to compute what it is waited for.
    fn computes(&self, follow: Follow) -> bool {
        let leader = self.jobs[follow.slot].as_ref().filter(|job| job.id == follow.leader);
        leader.is_some_and(|job| job.next.is_none() && self.slots.len(follow.slot) < follow.tokens)
    }
}

/// What may be there already: the last token is always computed.
fn usable(prompt: &[u32]) -> &[u32] {
    &prompt[..prompt.len().saturating_sub(1)]
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Bench, Events, PER_TOKEN, hear, prompt};
    use crate::session::mock::{Run, answer};

    fn shared(seed: u32) -> Vec<u32> {
        [prompt(1, 640), prompt(seed, 30)].concat()
    }

    fn computed(bench: &Bench) -> usize {
        let prefill = |run: Run| if let Run::Prefill { tokens } = run { tokens } else { 0 };
        bench.runs().into_iter().map(prefill).sum()
    }

    #[test]
    fn what_prompts_have_in_common_is_computed_once() {
        let mut bench = Bench::sharing(6, usize::MAX, 6000 * PER_TOKEN);
        let mut all: Vec<(Events, Vec<u32>)> =
            (2..8).map(|seed| (bench.ask(&shared(seed), 9), shared(seed))).collect();
        bench.work();
        for (place, (events, prompt)) in all.iter_mut().enumerate() {
            let heard = hear(events);
            let cached = if place == 0 { 0 } else { 640 };
            assert_eq!((heard.tokens, heard.cached), (answer(prompt, 9), cached));
            assert_eq!(heard.done.unwrap().1.cached, cached);
        }
        assert_eq!(computed(&bench), 640 + 6 * 30);
        assert_eq!((bench.bytes(), bench.reserved()), ((640 + 6 * 38) * PER_TOKEN, 0));
    }

    #[test]
    fn who_waited_for_somebody_that_left_goes_on_from_there() {
        let mut bench = Bench::sharing(3, usize::MAX, 3000 * PER_TOKEN);
        let leader = bench.ask(&shared(2), 5);
        let mut follower = bench.ask(&shared(3), 5);
        bench.turns(5);
        assert_eq!(bench.worker.slots.tokens(), 192);
        drop(leader);
        bench.work();
        let heard = hear(&mut follower);
        assert_eq!((heard.tokens, heard.cached), (answer(&shared(3), 5), 192));
        assert_eq!(computed(&bench), 670);
    }

    #[test]
    fn little_in_common_is_computed_twice() {
        let mut bench = Bench::sharing(3, usize::MAX, 3000 * PER_TOKEN);
        let short = |seed| [prompt(1, 60), prompt(seed, 30)].concat();
        let mut all = [(bench.ask(&short(2), 5), short(2)), (bench.ask(&short(3), 5), short(3))];
        bench.work();
        for (events, prompt) in &mut all {
            assert_eq!(hear(events).tokens, answer(prompt, 5));
        }
        assert_eq!(computed(&bench), 180);
    }
}
