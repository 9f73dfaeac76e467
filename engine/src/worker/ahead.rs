//! Prompts that are computed before anybody asks for them, in a spare slot, while nothing else is to do.

use std::sync::Arc;

use super::{Job, Order, Worker};
use crate::cache::Picked;
use crate::request::{Event, Finish, Usage};
use crate::schedule::Pending;

impl Worker {
    /// A slot for a prompt that nobody waits for; none where that would push a conversation out.
    pub(super) fn spare(&mut self, prompt: &[u32]) -> Option<Picked> {
        let picked = self.slots.pick_spare(prompt)?;
        while self.filled(picked.slot) > self.budget.limit() {
            let replaced = self.slots.replaced(picked.slot)?;
            self.forget(replaced);
        }
        // What was forgotten may have been the one to copy from.
        self.slots.pick_spare(prompt)
    }

    /// Refuses a prompt that nobody waits for: there is no room to spare.
    pub(super) fn refuse_ahead(order: Order) {
        let usage = Usage {
            prompt: u32::try_from(order.request.prompt.len()).unwrap_or(u32::MAX),
            ..Usage::default()
        };
        let Order { events, permit, .. } = order;
        drop(permit);
        drop(events.send(Ok(Event::Done { reason: Finish::Cancelled, usage })));
    }

    /// Whoever waits for memory or a slot comes first. What was computed stays for as long as nobody needs the room.
    pub(super) fn give_way(&mut self) {
        if self.budget.waiting() > 0 {
            for slot in 0..self.jobs.len() {
                if self.jobs[slot].as_ref().is_some_and(|job| job.ahead) {
                    self.finish(slot, Finish::Cancelled);
                }
            }
        }
    }

    /// With nothing else to do, the next part of a prompt that nobody waits for: small enough that a request that
    /// comes meanwhile hardly notices.
    pub(super) fn queue_ahead(&mut self) {
        if self.slots.decoding() > 0 || !self.pending.is_empty() {
            return;
        }
        let waits = |job: &&Job| job.ahead && job.next.is_none();
        let ahead = self.jobs.iter().flatten().filter(waits).min_by_key(|job| job.id);
        self.pending.extend(ahead.map(|job| {
            let held = self.slots.len(job.slot);
            let left = job.request.prompt.len() - held;
            // What is computed at once cannot be cut.
            let at_once = self.session.whole() && held == 0;
            let tokens = if at_once { left } else { left.min(self.scheduler.shared_chunk()) };
            Pending { request: job.id, tokens, begun: held > 0 }
        }));
    }
}

/// Work that nobody waits for.
#[derive(Debug, Clone)]
pub(crate) struct Ahead {
    /// The prompt of the conversation as it is now, which goes on here one day; none where what is computed is not
    /// needed again.
    pub(crate) replaces: Option<Arc<[u32]>>,
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Bench, Events, PER_TOKEN, hear, prompt, request};
    use super::Ahead;
    use crate::request::Finish;
    use crate::session::mock::{Run, answer};

    fn ahead(bench: &mut Bench, prompt: &[u32], replaces: &[u32]) -> Events {
        let tokens = u32::try_from(prompt.len()).unwrap();
        bench.order_ahead(request(prompt, 0), tokens, Some(Ahead { replaces: Some(replaces.into()) }))
    }

    #[test]
    fn the_conversation_goes_on_where_it_was_prepared() {
        let mut bench = Bench::new(2);
        let (now, next) = (prompt(1, 60), prompt(2, 50));
        let mut events = bench.ask(&now, 4);
        bench.work();
        assert_eq!(hear(&mut events).tokens, answer(&now, 4));
        let mut events = ahead(&mut bench, &next, &now);
        bench.work();
        let heard = hear(&mut events);
        assert_eq!((heard.tokens.len(), heard.done.unwrap().0), (0, Finish::Length));
        // The present conversation is still there, and so is the prepared one.
        let mut events = bench.ask(&now, 1);
        bench.work();
        assert_eq!(hear(&mut events).cached, 59);
        let longer = [next.clone(), prompt(3, 5)].concat();
        let mut events = bench.ask(&longer, 6);
        bench.work();
        let heard = hear(&mut events);
        assert_eq!((heard.cached, heard.tokens), (50, answer(&longer, 6)));
        // Once it has gone on there, its former place is to spare.
        let mut events = ahead(&mut bench, &prompt(4, 40), &longer);
        bench.work();
        assert_eq!(hear(&mut events).done.unwrap().0, Finish::Length);
        let mut events = bench.ask(&longer, 1);
        bench.work();
        assert_eq!(hear(&mut events).cached, 54);
    }

    #[test]
    fn it_pushes_no_conversation_out() {
        let mut bench = Bench::new(2);
        for seed in [1, 2] {
            let _events = bench.ask(&prompt(seed, 30), 2);
            bench.work();
        }
        let mut events = ahead(&mut bench, &prompt(3, 30), &prompt(1, 30));
        bench.work();
        assert_eq!(hear(&mut events).done.unwrap().0, Finish::Cancelled);
        assert_eq!((bench.held(), bench.reserved()), (2 * 31, 0));
        // Nor for want of memory.
        let mut bench = Bench::with_budget(3, 100 * PER_TOKEN);
        let _events = bench.ask(&prompt(1, 60), 2);
        bench.work();
        let mut events = ahead(&mut bench, &prompt(3, 50), &prompt(1, 60));
        bench.work();
        assert_eq!((hear(&mut events).done.unwrap().0, bench.held()), (Finish::Cancelled, 61));
    }

    #[test]
    fn an_answer_that_is_not_needed_again_leaves_its_place() {
        let mut bench = Bench::new(2);
        let now = prompt(1, 60);
        let _events = bench.ask(&now, 4);
        bench.work();
        for seed in [2, 3] {
            let side = [now[..40].to_vec(), prompt(seed, 5)].concat();
            let mut events = bench.order_ahead(request(&side, 6), 51, Some(Ahead { replaces: None }));
            bench.work();
            let heard = hear(&mut events);
            assert_eq!((heard.cached, heard.tokens), (40, answer(&side, 6)));
        }
        let mut events = bench.ask(&now, 1);
        bench.work();
        assert_eq!(hear(&mut events).cached, 59);
    }

    #[test]
    fn it_runs_when_nothing_else_does_and_gives_way() {
        let mut bench = Bench::with_budget(3, 200 * PER_TOKEN);
        let mut first = bench.ask(&prompt(1, 30), 20);
        bench.turns(3);
        let mut prepared = ahead(&mut bench, &prompt(2, 64), &prompt(1, 30));
        bench.turns(5);
        assert!(!hear(&mut prepared).prefilled && hear(&mut first).prefilled);
        let decoded = |bench: &Bench| {
            let runs = bench.runs();
            runs.iter().rev().take_while(|run| matches!(run, Run::Decode { .. })).count()
        };
        assert!(decoded(&bench) >= 4, "{:?}", bench.runs());
        // Who waits for memory gets it.
        let waiting = bench.wait_for(100);
        bench.work();
        drop(waiting);
        assert_eq!(hear(&mut prepared).done.unwrap().0, Finish::Cancelled);
        assert_eq!(hear(&mut first).done.unwrap().0, Finish::Length);
    }
}
