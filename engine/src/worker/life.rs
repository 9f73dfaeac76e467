//! How long an idle model stays loaded, and how it comes back.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::Receiver;

use super::{Command, Worker};
use crate::config::KeepAlive;
use crate::error::LoadError;
use crate::memory::{self, Holdings};
use crate::session::{Absent, Session};

/// Loads the model anew.
type Load = Box<dyn FnMut() -> Result<(Box<dyn Session>, Holdings), LoadError> + Send>;

/// A model's coming and going.
pub(crate) struct Life {
    /// Where a request does not say.
    default: KeepAlive,
    /// What the last request said.
    keep: KeepAlive,
    idle_since: Instant,
    unloaded: bool,
    /// Somebody has asked for it to go; what runs still ends.
    leaving: bool,
    load: Load,
}

impl fmt::Debug for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Life")
            .field("keep", &self.keep)
            .field("unloaded", &self.unloaded)
            .finish_non_exhaustive()
    }
}

impl Life {
    /// A model that is loaded now.
    pub(crate) fn new(default: KeepAlive, load: Load) -> Self {
        Self { default, keep: default, idle_since: Instant::now(), unloaded: false, leaving: false, load }
    }

    /// A request has ended that wants the model kept for so long.
    pub(super) fn used(&mut self, keep: Option<KeepAlive>) {
        let now = KeepAlive::For(Duration::ZERO);
        self.keep = if self.leaving { now } else { keep.unwrap_or(self.default) };
        self.idle_since = Instant::now();
    }

    /// When the model goes, should nothing happen before.
    pub(super) fn ends(&self) -> Option<Instant> {
        match self.keep {
            KeepAlive::For(time) if !self.unloaded => self.idle_since.checked_add(time),
            _ => None,
        }
    }

    pub(super) fn unloaded(&self) -> bool {
        self.unloaded
    }
}

impl Worker {
    /// Gives up session, weights and KV memory.
    pub(super) fn unload(&mut self) {
        self.put_all_by();
        for slot in 0..self.jobs.len() {
            self.slots.rest_on(slot, None);
            self.slots.clear(slot);
        }
        self.budget.clear_segments();
        if let Some(store) = &self.offload {
            store.leave();
        }
        self.current.replace(Arc::new(Absent));
        self.session = Box::new(Absent);
        memory::trim();
        // Who sees it unloaded sees nothing held.
        self.publish();
        self.life.unloaded = true;
        if let Some(meter) = &self.meter {
            meter.unload();
        }
        tracing::info!(target: "plimsoll", idle = ?self.life.idle_since.elapsed(), "model unloaded");
    }

    /// Loads the model, and keeps it as a request would have it that ends now; for no time at all, unloads it as soon as
    /// nothing runs.
    pub(crate) fn stay(&mut self, keep: Option<KeepAlive>) -> Result<(), String> {
        self.life.leaving = keep == Some(KeepAlive::For(Duration::ZERO));
        if !self.life.leaving {
            self.wake()?;
        }
        self.life.used(keep);
        if self.life.leaving && !self.life.unloaded() && self.jobs.iter().all(Option::is_none) {
            self.unload();
        }
        Ok(())
    }

    /// When the model goes, should nothing happen before; `None`: it stays, or is not there.
    pub(crate) fn ends(&self) -> Option<Instant> {
        self.life.ends()
    }

    /// Loads the model where it is unloaded. All who ask meanwhile find it loaded: they wait in the channel.
    pub(super) fn wake(&mut self) -> Result<(), String> {
        self.life.leaving = false;
        if !self.life.unloaded() {
            return Ok(());
        }
        let started = Instant::now();
        let (session, holdings) = (self.life.load)().map_err(|error| {
            memory::trim();
            tracing::error!(target: "plimsoll", %error, "the model cannot be loaded again");
            error.to_string()
        })?;
        self.current.replace(session.interrupt());
        self.session = session;
        self.segments.share_by(self.session.sharing().map_or(0, |sharing| sharing.step()));
        self.life.idle_since = Instant::now();
        self.life.unloaded = false;
        if let Some(meter) = &self.meter {
            meter.reload(holdings);
        }
        tracing::info!(target: "plimsoll", took = ?started.elapsed(), "model loaded again");
        Ok(())
    }
}

/// The time has come before a command.
#[derive(Debug)]
pub(super) struct Due;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a command on this thread, until a time or for ever. `None`: there will be none any more.
pub(super) fn receive(
    commands: &mut Receiver<Command>,
    until: Option<Instant>,
) -> Result<Option<Command>, Due> {
    let Some(until) = until else { return Ok(commands.blocking_recv()) };
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(command) = commands.poll_recv(&mut context) {
            return Ok(command);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Due);
        }
        std::thread::park_timeout(left);
    }
}
