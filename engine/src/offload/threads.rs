//! All that touches a disk: one thread writes what is put by, one reads what is asked for. The worker waits for neither.

use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::OffloadStep;
use super::files::Folder;
use super::store::{Pages, Store};
use crate::checkpoint::CheckpointError;

/// At the end of the process, writing ends after this long: what is not in a file by then is computed again.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the writing thread is told.
enum Order {
    /// A conversation has come into main memory.
    Write(Arc<[u32]>),
    /// Whatever was not used after so many uses leaves main memory.
    Leave(u64),
    /// Somebody waits for all before it.
    Settle(SyncSender<()>),
    End,
}

/// What the reading thread is told.
enum Fetch {
    /// A conversation is wanted in main memory.
    Read(Arc<[u32]>, oneshot::Sender<()>),
    End,
}

/// The way to the threads.
pub(super) struct Disk {
    folder: Folder,
    orders: Sender<Order>,
    fetches: Sender<Fetch>,
    /// When writing ends, once it is to end.
    deadline: OnceLock<Instant>,
}

impl Disk {
    pub(super) fn folder(&self) -> &Folder {
        &self.folder
    }

    pub(super) fn write(&self, tokens: Arc<[u32]>) {
        // A thread that is gone writes nothing more: the conversation stays in memory.
        drop(self.orders.send(Order::Write(tokens)));
    }

    pub(super) fn leave(&self, uses: u64) {
        drop(self.orders.send(Order::Leave(uses)));
    }

    /// Waits until all that was put by before is in a file or refused.
    pub(super) fn settle(&self) {
        let (done, settled) = sync_channel(1);
        if self.orders.send(Order::Settle(done)).is_ok() {
            // Gone with the thread, where that ends first.
            let _ended = settled.recv();
        }
    }

    /// Has a conversation read into main memory, and waits for it.
    pub(super) async fn fetch(&self, tokens: Arc<[u32]>) {
        let (done, read) = oneshot::channel();
        if self.fetches.send(Fetch::Read(tokens, done)).is_ok() {
            drop(read.await);
        }
    }
}

/// The threads of a store; ended by [`close`](Self::close).
#[derive(Default)]
pub(crate) struct Threads(Mutex<Vec<JoinHandle<()>>>);

impl Threads {
    /// A store for which threads run where it has a folder.
    pub(super) fn start(
        strips: Vec<crate::cache::Strip>,
        host: u64,
        disk: Option<(Folder, u64)>,
    ) -> std::io::Result<(Arc<Store>, Self)> {
        let Some((folder, limit)) = disk else {
            return Ok((Arc::new(Store::new(strips, host, None)), Self::default()));
        };
        let (orders, told) = channel();
        let (fetches, asked) = channel();
        let disk = Disk { folder, orders, fetches, deadline: OnceLock::new() };
        let store = Arc::new(Store::new(strips, host, Some((disk, limit))));
        let (writes, reads) = (store.clone(), store.clone());
        let named = |name: &str| std::thread::Builder::new().name(name.to_owned());
        let writer = named("plimsoll-put-by").spawn(move || writes.write_all(&told))?;
        let reader = named("plimsoll-recall").spawn(move || reads.read_all(&asked))?;
        Ok((store, Self(Mutex::new(vec![writer, reader]))))
    }

    /// Writes what is still to be written, within its time, and ends.
    pub(crate) fn close(&self, store: &Store) {
        if let Some(disk) = &store.disk {
            let _first = disk.deadline.set(Instant::now() + PATIENCE);
            drop(disk.orders.send(Order::End));
            drop(disk.fetches.send(Fetch::End));
        }
        let threads = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!(target: "plimsoll", "a thread that keeps conversations has panicked");
            }
        }
        store.clear();
    }
}

impl Store {
    fn write_all(&self, orders: &Receiver<Order>) {
        let Some(disk) = &self.disk else { return };
        self.find_all(&disk.folder);
        while let Ok(order) = orders.recv() {
            match order {
                Order::Write(tokens) => {
                    let late = disk.deadline.get().is_some_and(|end| *end < Instant::now());
                    if !late {
                        self.file(&disk.folder, &tokens);
                    }
                }
                Order::Leave(uses) => self.state().host.clear(uses),
                Order::Settle(done) => drop(done.send(())),
                Order::End => return,
            }
        }
    }

    /// Takes in what former processes left.
    fn find_all(&self, folder: &Folder) {
        let found = match folder.open() {
            Ok(found) => found,
            Err(error) => {
                self.state().counts.failed += 1;
                tracing::error!(target: "plimsoll", %error, "conversations on disk cannot be used");
                return;
            }
        };
        let count = found.len();
        for one in found {
            match self.room_on_disk(folder, one.bytes) {
                true => drop(self.state().disk.insert(one.tokens, one.bytes, ())),
                false => folder.delete(&one.tokens),
            }
        }
        let dir = folder.dir().display();
        tracing::info!(target: "plimsoll", found = count, %dir, "conversations on disk");
    }

    /// Promises bytes on disk; the longest unused files go for them.
    fn room_on_disk(&self, folder: &Folder, bytes: u64) -> bool {
        let mut state = self.state();
        let Some(gone) = state.disk.promise(bytes, |()| true) else { return false };
        state.counts.deleted += gone.len() as u64;
        drop(state);
        gone.iter().for_each(|(tokens, _)| folder.delete(tokens));
        true
    }

    /// Writes a conversation to its file, unless one holds it already.
    fn file(&self, folder: &Folder, tokens: &Arc<[u32]>) {
        let mut state = self.state();
        let Some(pages) = state.host.get(tokens).map(|kept| kept.what.share()) else { return };
        if let Some(held) = state.disk.covering(tokens) {
            state.disk.touch(&held);
            return;
        }
        state.writing = Some(tokens.clone());
        drop(state);
        let started = Instant::now();
        let written = folder.bytes(tokens).and_then(|bytes| {
            if !self.room_on_disk(folder, bytes) {
                return Ok(None);
            }
            let written = folder.write(tokens, &pages);
            written.map(|()| Some(bytes)).inspect_err(|_| self.state().disk.unpromise(bytes))
        });
        drop(pages);
        self.filed(folder, tokens, written, started.elapsed());
    }

    /// Notes what became of a file.
    fn filed(
        &self,
        folder: &Folder,
        tokens: &Arc<[u32]>,
        written: Result<Option<u64>, CheckpointError>,
        took: Duration,
    ) {
        let mut state = self.state();
        let erased = state.writing.take().is_none();
        match written {
            Ok(Some(bytes)) if erased => {
                state.disk.unpromise(bytes);
                drop(state);
                folder.delete(tokens);
            }
            Ok(Some(bytes)) => {
                // What it goes on from is in it.
                let shorter = state.disk.beginnings(tokens);
                for shorter in &shorter {
                    state.disk.remove(shorter);
                }
                state.disk.insert(tokens.clone(), bytes, ());
                state.counts.written += 1;
                drop(state);
                shorter
                    .iter()
                    .filter(|shorter| *shorter != tokens)
                    .for_each(|shorter| folder.delete(shorter));
                self.tell(OffloadStep::Written, tokens.len(), bytes, took);
            }
            // Larger than all that may be taken.
            Ok(None) => {}
            Err(error) => {
                state.counts.failed += 1;
                tracing::error!(target: "plimsoll", %error, "a conversation is not written to disk");
            }
        }
    }

    fn read_all(&self, fetches: &Receiver<Fetch>) {
        let Some(disk) = &self.disk else { return };
        while let Ok(Fetch::Read(tokens, done)) = fetches.recv() {
            self.fetch(&disk.folder, &tokens);
            // Who asked may have left.
            let _heard = done.send(());
        }
    }

    /// Reads a conversation into main memory, unless it is there.
    fn fetch(&self, folder: &Folder, tokens: &Arc<[u32]>) {
        let mut state = self.state();
        if state.host.covering(tokens).is_some() || state.disk.get(tokens).is_none() {
            return;
        }
        state.disk.touch(tokens);
        let Some(bytes) = self.promise(&mut state, self.bytes(tokens.len())) else { return };
        drop(state);
        let started = Instant::now();
        let read = folder.read(tokens);
        let took = started.elapsed();
        let mut state = self.state();
        match read {
            Ok(pages) => {
                state.host.insert(tokens.clone(), bytes, Pages::new(Arc::new(pages)));
                state.costs.read.measured(bytes, took);
                state.counts.read += 1;
                drop(state);
                self.tell(OffloadStep::Read, tokens.len(), bytes, took);
            }
            Err(error) => {
                state.host.unpromise(bytes);
                state.disk.remove(tokens);
                state.counts.failed += 1;
                drop(state);
                tracing::warn!(target: "plimsoll", %error, "a conversation on disk is refused");
                // Nobody can use it any more.
                if matches!(error, CheckpointError::Damaged { .. }) {
                    folder.delete(tokens);
                }
            }
        }
    }
}
