//! The one thread that owns the session: it waits in `select`, and changes things in `apply`.

mod ahead;
mod cancel;
mod board;
mod batch;
mod job;
mod rest;
mod run;
mod share;
mod shift;
mod follow;
mod keep;
mod life;
mod offload;

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc::{Receiver, UnboundedSender};

pub(crate) use ahead::Ahead;
pub use batch::{Batch, Tag};
pub(crate) use board::Board;
pub use board::{SharingReading, SlotReading};
pub(crate) use cancel::{Cancel, Current};
pub(crate) use keep::Part;
pub(crate) use life::Life;

use crate::cache::{Chains, Segments, SlotId, Slots};
use crate::error::GenerateError;
use crate::memory::{Budget, Meter, Permit};
use crate::offload::Store;
use crate::request::{Event, Generate};
use crate::sample::{Choice, Scratch};
use crate::schedule::{Pending, Scheduler, Turn};
use crate::session::{Session, Step};
use batch::Batches;
use job::Job;
use life::Due;

/// What the worker is told.
pub(crate) enum Command {
    /// A request.
    Generate(Box<Order>),
    /// Something to do between two turns.
    Ask(Box<dyn FnOnce(&mut Worker) + Send>),
    /// End now; what runs is cancelled.
    Shutdown,
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Generate(_) => "Generate",
            Self::Ask(_) => "Ask",
            Self::Shutdown => "Shutdown",
        })
    }
}

/// A request on its way to the worker.
#[derive(Debug)]
pub(crate) struct Order {
    /// Its number, higher than those before.
    pub(crate) id: u64,
    pub(crate) request: Generate,
    pub(crate) permit: Permit,
    pub(crate) events: UnboundedSender<Result<Event, GenerateError>>,
    /// When it was asked for.
    pub(crate) asked: Instant,
    /// Its name in batches.
    pub(crate) tag: Option<Tag>,
    /// Nobody waits for it.
    pub(crate) ahead: Option<Ahead>,
}

/// What the worker needs to know of the model.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) eos: Vec<u32>,
    pub(crate) kv_bytes_per_token: u64,
}

/// The session's owner.
pub(crate) struct Worker {
    session: Box<dyn Session>,
    slots: Slots,
    segments: Segments,
    /// Prefixes that were copied, since no more pieces of memory may be mapped.
    copied: u64,
    /// The request in each slot.
    jobs: Vec<Option<Job>>,
    commands: Receiver<Command>,
    scheduler: Scheduler,
    current: Arc<Current>,
    board: Arc<Board>,
    budget: Budget,
    /// Told when nothing runs.
    meter: Option<Meter>,
    facts: Facts,
    life: Life,
    /// Where conversations go that leave their slots.
    offload: Option<Arc<Store>>,
    /// Seeds of requests that bring none.
    seeds: fn() -> u64,
    /// By which runs are timed.
    clock: fn() -> Instant,
    // Used again for each turn, so that decoding allocates nothing.
    steps: Vec<Step>,
    pending: Vec<Pending>,
    chosen: Vec<(SlotId, Result<Choice, GenerateError>)>,
    scratch: Scratch,
    batches: Batches,
}

/// What happens next.
enum Happening {
    Told(Command),
    Turn(Turn),
    /// Nobody has needed the model for long enough.
    Idle,
}

impl Worker {
    pub(crate) fn new(
        mut session: Box<dyn Session>,
        commands: Receiver<Command>,
        board: Arc<Board>,
        budget: Budget,
        (facts, life): (Facts, Life),
    ) -> Self {
        let slots = board.slots();
        let segments = budget.segments();
        segments.share_by(session.sharing().map_or(0, |sharing| sharing.step()));
        let kept = Slots::new(slots, Instant::now()).beside(segments.clone());
        let mut worker = Self {
            current: Arc::new(Current::new(session.interrupt())),
            scheduler: Scheduler::new(session.chunk()).whole(session.whole()),
            slots: if session.rewinds() { kept } else { kept.whole() },
            segments,
            copied: 0,
            session,
            jobs: (0..slots).map(|_| None).collect(),
            commands,
            board,
            budget,
            meter: None,
            facts,
            life,
            offload: None,
            seeds: rand::random,
            clock: Instant::now,
            steps: Vec::with_capacity(slots),
            pending: Vec::with_capacity(slots),
            chosen: Vec::with_capacity(slots),
            scratch: Scratch::default(),
            batches: Batches::default(),
        };
        worker.publish();
        worker
    }

    /// With memory that is read whenever nothing runs.
    pub(crate) fn metered(self, meter: &Meter) -> Self {
        Self { meter: Some(meter.clone()), ..self }
    }

    /// What runs now, for those who cancel.
    pub(crate) fn current(&self) -> Arc<Current> {
        self.current.clone()
    }

    /// The conversations held, for those who ask before they are admitted.
    pub(crate) fn chains(&self) -> Chains {
        self.slots.chains()
    }

    /// Works until it is told to end, or until nobody can tell it anything any more.
    pub(crate) fn run(mut self) {
        while let Some(happening) = self.select() {
            if !self.apply(happening) {
                break;
            }
        }
        self.end();
    }

    /// Waits for something to do. Commands come first: they are quick, and may let more rows share a run.
    fn select(&mut self) -> Option<Happening> {
        if let Ok(command) = self.commands.try_recv() {
            return Some(Happening::Told(command));
        }
        self.leave_cancelled();
        self.give_way();
        self.catch_up();
        self.queue();
        match self.scheduler.next(self.slots.decoding(), &self.pending) {
            Turn::Wait => {
                if !self.life.unloaded() {
                    self.rest();
                }
                match life::receive(&mut self.commands, self.life.ends()) {
                    Ok(command) => command.map(Happening::Told),
                    Err(Due) => Some(Happening::Idle),
                }
            }
            turn => Some(Happening::Turn(turn)),
        }
    }

    /// Does it. False: the end.
    fn apply(&mut self, happening: Happening) -> bool {
        if !matches!(happening, Happening::Turn(Turn::Decode)) {
            // The next token may be long in coming.
            for job in self.jobs.iter_mut().flatten() {
                job.flush();
            }
        }
        match happening {
            Happening::Told(Command::Shutdown) => return false,
            Happening::Told(Command::Generate(order)) => {
                self.work();
                self.start(*order);
            }
            Happening::Told(Command::Ask(work)) => work(self),
            Happening::Turn(Turn::Decode) => {
                let started = (self.clock)();
                self.decode();
                self.scheduler.stepped((self.clock)().duration_since(started));
            }
            Happening::Turn(Turn::Prefill { place, tokens }) => {
                self.prefill(self.pending[place].request, tokens);
            }
            Happening::Turn(Turn::Wait) => {}
            Happening::Idle => self.unload(),
        }
        self.publish();
        true
    }

    /// Shows what is held now.
    pub(crate) fn publish(&mut self) {
        let held = self.slots.tokens() + self.segments.tokens();
        self.board.publish(&self.slots, held as u64 * self.facts.kv_bytes_per_token);
        let (segments, tokens) = (self.segments.count(), self.segments.tokens() as u64);
        let maps = self.session.sharing().map(|sharing| sharing.maps());
        let sharing = SharingReading {
            mode: if maps.is_ok() { "shared" } else { "copied" },
            reason: maps.err(),
            segments: u32::try_from(segments).unwrap_or(u32::MAX),
            bytes: tokens * self.facts.kv_bytes_per_token,
            maps: maps.map_or(0, |(used, _)| used as u64),
            maps_limit: maps.map_or(0, |(_, limit)| limit as u64),
            copied: self.copied,
        };
        self.board.publish_sharing(sharing);
    }

    /// Lists the prompts that are not done, in the order of arrival.
    fn queue(&mut self) {
        let ready = |job: &&Job| job.next.is_none() && !job.ahead && job.follows.is_none();
        let prefilling = self.jobs.iter().flatten().filter(ready);
        self.pending.clear();
        self.pending.extend(prefilling.map(|job| Pending {
            request: job.id,
            tokens: job.request.prompt.len() - self.slots.len(job.slot),
            begun: self.slots.len(job.slot) > 0,
        }));
        self.pending.sort_unstable_by_key(|pending| pending.request);
        self.queue_ahead();
    }
}

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;
