//! What is put by, in memory and on disk: asked for by whoever has a prompt, filled by the worker.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::costs::Costs;
use super::files::Folder;
use super::threads::Disk;
use super::tier::Tier;
use super::{OffloadCounts, OffloadMove, OffloadReading, OffloadStep};
use crate::cache::{self, Segment, Strip};

/// Told of each step.
type Sink = Box<dyn Fn(OffloadMove) + Send + Sync>;

/// Pages of a conversation that is put by: counted as such for as long as they are here.
#[derive(Debug)]
pub(super) struct Pages(Arc<Segment>);

impl Pages {
    pub(super) fn new(pages: Arc<Segment>) -> Self {
        cache::note_put_by(0, pages.bytes());
        Self(pages)
    }

    /// Nobody writes them to a file just now.
    fn alone(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    pub(super) fn share(&self) -> Arc<Segment> {
        self.0.clone()
    }
}

impl Deref for Pages {
    type Target = Segment;

    fn deref(&self) -> &Segment {
        &self.0
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        cache::note_put_by(self.0.bytes(), 0);
    }
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) host: Tier<Pages>,
    /// Files; their names follow from their tokens.
    pub(super) disk: Tier<()>,
    pub(super) costs: Costs,
    pub(super) counts: OffloadCounts,
    /// What is being written to a file.
    pub(super) writing: Option<Arc<[u32]>>,
}

/// All that is put by of one engine's conversations.
pub(crate) struct Store {
    pub(super) strips: Vec<Strip>,
    state: Mutex<State>,
    pub(super) disk: Option<Disk>,
    sink: OnceLock<Sink>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("state", &self.state).finish_non_exhaustive()
    }
}

/// Where a conversation is, in bytes, and since when nobody has asked for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Listed {
    pub(super) host: Option<u64>,
    pub(super) disk: Option<u64>,
    pub(super) since: Instant,
}

/// A conversation that is put by and holds the beginning of a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hit {
    /// The conversation.
    pub(crate) tokens: Arc<[u32]>,
    /// Tokens that the prompt begins with alike.
    pub(crate) common: usize,
    /// It is in a file only.
    pub(crate) filed: bool,
}

impl Store {
    /// An empty store for conversations of these strips.
    pub(super) fn new(strips: Vec<Strip>, host: u64, disk: Option<(Disk, u64)>) -> Self {
        let limit = disk.as_ref().map_or(0, |(_, limit)| *limit);
        let state = State {
            host: Tier::new(host),
            disk: Tier::new(limit),
            costs: Costs::default(),
            counts: OffloadCounts::default(),
            writing: None,
        };
        let disk = disk.map(|(disk, _)| disk);
        Self { strips, state: Mutex::new(state), disk, sink: OnceLock::new() }
    }

    /// Has each step told from now on; only the first sink counts.
    pub(crate) fn watch(&self, sink: Sink) {
        drop(self.sink.set(sink));
    }

    /// What holds most of a prompt, where that is more than the `resident` tokens that are in a slot and bringing it back
    /// is cheaper than computing it.
    pub(crate) fn hit(&self, usable: &[u32], resident: usize, per_token: Option<f64>) -> Option<Hit> {
        let state = self.state();
        let worth = |hit: &Hit| {
            let bytes = self.bytes(hit.tokens.len());
            let gain = hit.common.saturating_sub(resident);
            gain > 0 && state.costs.back_is_worth(gain, bytes, hit.filed, per_token)
        };
        let hit = |filed| move |(tokens, common)| Hit { tokens, common, filed };
        let host = state.host.find(usable).map(hit(false)).filter(worth);
        let disk = state.disk.find(usable).map(hit(true)).filter(worth);
        // Of equals the one in memory.
        disk.into_iter().chain(host).max_by_key(|hit| hit.common)
    }

    /// As [`hit`](Self::hit), in memory alone; notes where it is left for its cost.
    pub(crate) fn recall(&self, usable: &[u32], resident: usize, per_token: Option<f64>) -> Option<Hit> {
        let mut state = self.state();
        let (tokens, common) = state.host.find(usable)?;
        let gain = common.saturating_sub(resident);
        if gain == 0 {
            return None;
        }
        if !state.costs.back_is_worth(gain, self.bytes(tokens.len()), false, per_token) {
            state.decline();
            return None;
        }
        state.host.touch(&tokens);
        state.disk.touch(&tokens);
        Some(Hit { tokens, common, filed: false })
    }

    /// Hands a conversation's pages over: they are here no more, but for its file.
    pub(crate) fn take(&self, tokens: &[u32]) -> Option<Arc<Segment>> {
        let kept = self.state().host.remove(tokens)?;
        Some(kept.what.share())
    }

    /// A conversation's pages, to copy from.
    pub(crate) fn lend(&self, tokens: &[u32]) -> Option<Arc<Segment>> {
        self.state().host.get(tokens).map(|kept| kept.what.share())
    }

    /// Makes room for a conversation that is to be put by; the bytes are promised from then on. `None`: it is there
    /// already, too large, or not worth its while.
    pub(crate) fn room(&self, tokens: &[u32], per_token: Option<f64>) -> Option<u64> {
        let bytes = self.bytes(tokens.len());
        let mut state = self.state();
        if let Some(held) = state.host.covering(tokens) {
            state.host.touch(&held);
            return None;
        }
        if bytes > state.host.limit() {
            return None;
        }
        if !state.costs.out_is_worth(tokens.len(), bytes, per_token) {
            state.decline();
            return None;
        }
        // What it goes on from is in it.
        for shorter in state.host.beginnings(tokens) {
            state.host.remove(&shorter);
        }
        self.promise(&mut state, bytes)
    }

    pub(super) fn promise(&self, state: &mut State, bytes: u64) -> Option<u64> {
        let gone = state.host.promise(bytes, Pages::alone)?;
        state.counts.evicted += gone.len() as u64;
        Some(bytes)
    }

    /// Takes in what was promised; it was copied out of its row, or taken as it is where nothing was `taken`.
    pub(crate) fn put(&self, tokens: &[u32], bytes: u64, pages: Arc<Segment>, took: Option<Duration>) {
        let tokens: Arc<[u32]> = tokens.into();
        let mut state = self.state();
        state.host.insert(tokens.clone(), bytes, Pages::new(pages));
        state.counts.put_by += 1;
        if let Some(took) = took {
            state.costs.out.measured(bytes, took);
        }
        drop(state);
        self.tell(OffloadStep::PutBy, tokens.len(), bytes, took.unwrap_or_default());
        if let Some(disk) = &self.disk {
            disk.write(tokens);
        }
    }

    /// What was promised does not come.
    pub(crate) fn give_up(&self, bytes: u64) {
        let mut state = self.state();
        state.host.unpromise(bytes);
        state.counts.failed += 1;
    }

    /// A conversation of so many bytes is back in a slot, which saved computing `tokens`.
    pub(crate) fn restored(&self, tokens: usize, bytes: u64, took: Duration) {
        let mut state = self.state();
        state.costs.back.measured(bytes, took);
        state.counts.restored += 1;
        state.counts.restored_tokens += tokens as u64;
        drop(state);
        self.tell(OffloadStep::Restored, tokens, bytes, took);
    }

    /// The model is unloaded: its conversations leave main memory, once they are in files where there are any.
    pub(crate) fn leave(&self) {
        let uses = self.state().host.uses();
        match &self.disk {
            Some(disk) => disk.leave(uses),
            None => self.state().host.clear(uses),
        }
    }

    /// Forgets all in main memory.
    pub(crate) fn clear(&self) {
        let mut state = self.state();
        let uses = state.host.uses();
        state.host.clear(uses);
    }

    /// Whether conversations are kept in files too.
    pub(crate) fn files(&self) -> bool {
        self.disk.is_some()
    }

    pub(super) fn folder(&self) -> Option<&Folder> {
        self.disk.as_ref().map(Disk::folder)
    }

    pub(super) fn tell(&self, step: OffloadStep, tokens: usize, bytes: u64, took: Duration) {
        tracing::debug!(target: "plimsoll", ?step, tokens, bytes, ?took, "a conversation is moved");
        if let Some(sink) = self.sink.get() {
            let tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
            let now = SystemTime::now();
            sink(OffloadMove { step, tokens, bytes, started: now.checked_sub(took).unwrap_or(now), took });
        }
    }

    /// Strips of the model.
    pub(crate) fn strips(&self) -> &[Strip] {
        &self.strips
    }

    /// Bytes of so many tokens in main memory.
    pub(crate) fn bytes(&self, tokens: usize) -> u64 {
        cache::segment_bytes(&self.strips, tokens)
    }

    pub(crate) fn reading(&self) -> OffloadReading {
        let state = self.state();
        OffloadReading {
            off: None,
            host_bytes: state.host.bytes(),
            host_limit: state.host.limit(),
            host_conversations: state.host.len() as u64,
            disk_bytes: self.disk.as_ref().map(|_| state.disk.bytes()),
            disk_limit: state.disk.limit(),
            disk_conversations: state.disk.len() as u64,
            counts: state.counts,
            seconds_per_byte_out: state.costs.out.read(),
            seconds_per_byte_back: state.costs.back.read(),
            seconds_per_byte_read: state.costs.read.read(),
        }
    }

    /// All conversations, wherever they are.
    pub(super) fn list(&self) -> BTreeMap<Arc<[u32]>, Listed> {
        let state = self.state();
        let mut all: BTreeMap<Arc<[u32]>, Listed> = BTreeMap::new();
        for (tokens, kept) in state.host.iter() {
            all.insert(tokens.clone(), Listed { host: Some(kept.bytes), disk: None, since: kept.since });
        }
        for (tokens, kept) in state.disk.iter() {
            let new = Listed { host: None, disk: None, since: kept.since };
            let listed = all.entry(tokens.clone()).or_insert(new);
            (listed.disk, listed.since) = (Some(kept.bytes), listed.since.max(kept.since));
        }
        all
    }

    /// Forgets a conversation wherever it is. False: it is nowhere.
    pub(crate) fn erase(&self, tokens: &[u32]) -> bool {
        let mut state = self.state();
        let held = state.host.remove(tokens).is_some();
        let filed = state.disk.remove(tokens).is_some();
        let writing = state.writing.take_if(|writing| **writing == *tokens).is_some();
        drop(state);
        if let Some(folder) = self.folder().filter(|_| filed) {
            folder.delete(tokens);
        }
        held || filed || writing
    }

    /// Forgets whatever is put by of a conversation: what it goes on from, and what goes on from it.
    pub(crate) fn erase_all_of(&self, tokens: &[u32]) {
        let state = self.state();
        let of_host = (state.host.beginnings(tokens), state.host.covering(tokens));
        let of_disk = (state.disk.beginnings(tokens), state.disk.covering(tokens));
        drop(state);
        for (shorter, longer) in [of_host, of_disk] {
            for tokens in shorter.iter().chain(&longer) {
                self.erase(tokens);
            }
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn decline(&mut self) {
        self.counts.declined += 1;
        self.costs.fade();
    }
}

#[cfg(test)]
impl Store {
    /// In main memory alone, whatever it costs.
    pub(crate) fn in_memory(strips: &[Strip], host: u64) -> Arc<Self> {
        let store = Self::new(strips.to_vec(), host, None);
        store.state().costs.fixed = Some(true);
        Arc::new(store)
    }

    /// Everything is worth its while from now on, or nothing; `None`: what is measured counts.
    pub(crate) fn fix(&self, worth: Option<bool>) {
        self.state().costs.fixed = worth;
    }
}
