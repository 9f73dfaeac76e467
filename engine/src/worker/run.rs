//! The turns: start, prefill, decode, end.

use std::time::Instant;

use super::job::{Job, Told};
use super::{Order, Worker};
use crate::cache::SlotId;
use crate::error::GenerateError;
use crate::request::{Event, Finish};
use crate::sample::Choice;
use crate::session::{RunError, Step};

impl Worker {
    /// Whoever hears of it finds the memory free.
    fn refuse(order: Order, error: GenerateError) {
        let Order { permit, events, .. } = order;
        drop(permit);
        drop(events.send(Err(error)));
    }

    /// Gives a request its slot, with whatever of its prompt is held anywhere.
    pub(super) fn start(&mut self, mut order: Order) {
        if order.events.is_closed() {
            // Nobody waits for it, so it takes nothing from whoever comes next.
            return;
        }
        if order.ahead.is_some() && self.life.unloaded() {
            return Self::refuse_ahead(order);
        }
        if let Err(error) = self.wake() {
            return Self::refuse(order, GenerateError::Load(error));
        }
        let prompt = order.request.prompt.clone();
        let (recalled, picked) = match order.ahead {
            None => (self.recall(&prompt), self.slots.pick(&prompt)),
            Some(_) => (None, self.spare(&prompt)),
        };
        let Some(picked) = picked else {
            if order.ahead.is_some() {
                return Self::refuse_ahead(order);
            }
            return Self::refuse(order, GenerateError::Session("no slot is idle".to_owned()));
        };
        let had = self.slots.len(picked.slot);
        if order.ahead.is_none() {
            self.leave_version(&picked);
            self.make_way(&picked);
        }
        let bringing = Instant::now();
        let cached = self.bring(&picked, &prompt, Some(&mut order.permit));
        let (cached, restored) = self.come_back(recalled, picked.slot, (cached, bringing.elapsed()));
        let limit = order.permit.tokens() as usize;
        self.slots.start(picked.slot, &prompt, cached, limit);
        if let Some(present) = order.ahead.as_ref().and_then(|ahead| ahead.replaces.as_ref()) {
            self.slots.stands_in(picked.slot, present);
        }
        if had > limit {
            self.session.release(self.slots.row(picked.slot), limit, had);
        }
        self.make_room(picked.slot);
        let mut job = Job::new(order, (picked.slot, cached), &self.facts, (self.seeds)());
        job.restored = restored;
        job.follows = self.leader(&job, cached);
        if job.follows.is_none() {
            job.started(cached);
        }
        self.jobs[picked.slot] = Some(job);
    }

    /// Forgets idle conversations and segments, the longest unused first, until what is reserved and what is kept fit
    /// together.
    fn make_room(&mut self, keep: SlotId) {
        while self.filled(keep) > self.budget.limit() && self.forget_oldest(&[keep]) {}
        self.trim_segments();
    }

    pub(super) fn forget(&mut self, slot: SlotId) {
        self.empty(slot);
        self.slots.clear(slot);
        self.trim_segments();
    }

    /// Computes a part of a prompt; after the last part, chooses the first token.
    pub(super) fn prefill(&mut self, request: u64, tokens: usize) {
        let Some(job) = self.jobs.iter().flatten().find(|job| job.id == request) else { return };
        let (slot, past) = (job.slot, self.slots.len(job.slot));
        let prompt = job.request.prompt.clone();
        let part = &prompt[past..past + tokens];
        let started = (self.clock)();
        self.current.begin(request);
        // Whoever leaves from here on ends the run itself.
        let ran = match job.left() {
            true => Ok(false),
            false => self.session.prefill(self.slots.row(slot), past, part).map(|()| true),
        };
        self.current.end();
        match ran {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => return self.fail(slot, error),
        }
        self.scheduler.prefilled(tokens, (self.clock)().duration_since(started));
        self.board.speed(self.scheduler.speed());
        self.slots.extend(slot, part);
        if past + tokens == prompt.len() {
            self.prefilled(slot);
        }
    }

    fn prefilled(&mut self, slot: SlotId) {
        let Some(job) = self.jobs[slot].as_mut() else { return };
        job.tell(Event::Prefilled);
        if job.limit == 0 {
            return self.finish(slot, Finish::Length);
        }
        let choice = job.sampler.choose(self.session.logits(0), &mut self.scratch);
        let swap = self.slots.promote(slot);
        self.regroup();
        if self.swap(swap) {
            self.deliver(slot, choice);
        }
    }

    /// One token for each row that decodes.
    pub(super) fn decode(&mut self) {
        self.shift_full();
        self.steps.clear();
        for row in 0..self.slots.decoding() {
            let slot = self.slots.slot(row);
            let token = self.jobs[slot].as_ref().and_then(|job| job.next).unwrap_or(0);
            self.steps.push(Step { token, past: self.slots.len(slot) });
        }
        // Rows that could not be shifted have ended.
        if self.steps.is_empty() {
            return;
        }
        if let Err(error) = self.session.decode(&self.steps) {
            return if self.session.survives() { self.decode_singly() } else { self.fail_all(&error) };
        }
        self.batches.step();
        let mut chosen = std::mem::take(&mut self.chosen);
        for row in 0..self.steps.len() {
            let slot = self.slots.slot(row);
            if let Some(choice) = self.choose(slot, row) {
                chosen.push((slot, choice));
            }
        }
        for (slot, choice) in chosen.drain(..) {
            self.deliver(slot, choice);
        }
        self.chosen = chosen;
    }

    /// A run over all rows failed: each is run by itself, so that only those fail that cannot run.
    fn decode_singly(&mut self) {
        let slots: Vec<_> = (0..self.steps.len()).map(|row| self.slots.slot(row)).collect();
        for (slot, step) in slots.into_iter().zip(self.steps.clone()) {
            match self.session.prefill(self.slots.row(slot), step.past, &[step.token]) {
                Ok(()) => {
                    if let Some(choice) = self.choose(slot, 0) {
                        self.deliver(slot, choice);
                    }
                }
                Err(error) => self.fail(slot, error),
            }
        }
    }

    /// Notes that a row's token is computed, and chooses the next.
    fn choose(&mut self, slot: SlotId, row: usize) -> Option<Result<Choice, GenerateError>> {
        let job = self.jobs[slot].as_mut()?;
        self.slots.extend(slot, job.next.as_slice());
        Some(job.sampler.choose(self.session.logits(row), &mut self.scratch))
    }

    fn deliver(&mut self, slot: SlotId, choice: Result<Choice, GenerateError>) {
        let Some(job) = self.jobs[slot].as_mut() else { return };
        match choice.map(|choice| job.take(choice)) {
            Ok(Told::More) => {}
            Ok(Told::Stop) => self.finish(slot, Finish::Stop),
            Ok(Told::Full) => self.finish(slot, Finish::Length),
            Ok(Told::Left) => drop(self.leave(slot)),
            Err(error) => {
                if let Some(job) = self.leave(slot) {
                    job.fail(error);
                }
            }
        }
    }

    pub(super) fn finish(&mut self, slot: SlotId, reason: Finish) {
        let kv_bytes = self.slots.len(slot) as u64 * self.facts.kv_bytes_per_token;
        if let Some(job) = self.leave(slot) {
            let usage = job.usage(kv_bytes);
            job.done(Event::Done { reason, usage });
        }
    }

    /// A run over all rows failed that has left none of them as it was.
    fn fail_all(&mut self, error: &RunError) {
        let slots: Vec<_> = (0..self.steps.len()).map(|row| self.slots.slot(row)).collect();
        for slot in slots {
            self.fail(slot, error.clone());
        }
    }

    pub(super) fn fail(&mut self, slot: SlotId, error: RunError) {
        if let Some(job) = self.leave(slot) {
            if !self.session.survives() {
                self.forget(slot);
            }
            // A run that its own client ended is no failure.
            if !job.left() {
                tracing::error!(slot, request = job.id, error = error.0, "run failed");
                job.fail(GenerateError::Session(error.0));
            }
        }
    }

    /// Takes a request out of its slot. What the slot holds stays, for the conversation's next turn.
    fn leave(&mut self, slot: SlotId) -> Option<Job> {
        let job = self.jobs[slot].take()?;
        if job.once {
            self.slots.leave_behind(slot);
        }
        if !job.ahead {
            self.life.used(job.request.keep_alive);
        }
        // What saw tokens that are gone is of use to nobody else.
        if let Some((from, to)) = self.slots.forget_shifted(slot) {
            self.session.release(self.slots.row(slot), from, to);
        }
        let swap = self.slots.finish(slot, Instant::now());
        self.regroup();
        self.swap(swap);
        self.publish();
        Some(job)
    }

    /// Takes out the requests that nobody waits for.
    pub(super) fn leave_cancelled(&mut self) {
        for slot in 0..self.jobs.len() {
            if self.jobs[slot].as_ref().is_some_and(Job::left) {
                self.leave(slot);
            }
        }
    }

    /// Exchanges rows. False where the memory failed: neither row can be trusted then.
    fn swap(&mut self, rows: Option<(usize, usize)>) -> bool {
        let Some((a, b)) = rows else { return true };
        let slots = [self.slots.slot(a), self.slots.slot(b)];
        let tokens = slots.iter().map(|&slot| self.slots.len(slot)).max().unwrap_or(0);
        let Err(error) = self.session.swap(a, b, tokens) else { return true };
        tracing::error!(error = error.0, "kv memory failed");
        for slot in slots {
            self.forget(slot);
            if let Some(job) = self.leave(slot) {
                job.fail(GenerateError::Session(error.0.clone()));
            }
        }
        false
    }

    /// Ends what runs. The session goes with the worker.
    pub(super) fn end(mut self) {
        self.commands.close();
        for slot in 0..self.jobs.len() {
            self.finish(slot, Finish::Cancelled);
        }
        self.put_all_by();
    }
}
