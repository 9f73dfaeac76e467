//! Hot reload: a changed file is loaded and checked; a bad one leaves the last good one in force.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

use super::{Config, Faults, Loaded, Sources};

/// How often the file is read without having been told to: network file systems send no events.
const POLL: Duration = Duration::from_secs(60);

/// Watches a configuration until it is dropped.
#[derive(Debug)]
pub struct Watch {
    reloads: Arc<Mutex<Reloads>>,
    // Dropping it ends the thread that loads.
    _watcher: RecommendedWatcher,
}

/// What became of the file's changes.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Reloads {
    /// Configurations found valid since the start, the first included.
    pub generation: u64,
    /// Hash of the last valid one.
    pub hash: String,
    /// Changes that were refused.
    pub refused: u64,
    /// Why the file as it now stands is refused; `None`: it is in force.
    pub last_error: Option<Faults>,
}

impl Watch {
    /// Watches the folder of `sources.file`: a Kubernetes ConfigMap is swapped by a link beside the file, and
    /// editors rename; a watch on the file itself would end with the first change. Each change of the file's
    /// content gives one message, valid or not; a change back to what is in force clears the error and gives none.
    ///
    /// `first` is the configuration in force.
    ///
    /// # Errors
    /// The folder cannot be watched.
    pub fn start(sources: Sources, first: &Loaded) -> notify::Result<(Self, mpsc::Receiver<Change>)> {
        let (wake, woken) = std::sync::mpsc::channel();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if event.is_ok_and(|event| may_change(&event)) {
                // The loader is gone where nobody receives any more.
                let _ = wake.send(());
            }
        })?;
        watcher.watch(&folder(&sources.file), RecursiveMode::NonRecursive)?;
        let reloads = Arc::new(Mutex::new(Reloads {
            generation: 1,
            hash: first.hash.clone(),
            refused: 0,
            last_error: None,
        }));
        let (send, receive) = mpsc::channel(1);
        let loader = Loader { seen: None, sources, reloads: Arc::clone(&reloads), send };
        std::thread::Builder::new().name("config-watch".to_owned()).spawn(move || loader.run(&woken))?;
        Ok((Self { reloads, _watcher: watcher }, receive))
    }

    /// What became of the changes so far.
    pub fn reloads(&self) -> Reloads {
        self.reader()()
    }

    /// Tells what became of the changes, for as long as anybody asks.
    pub fn reader(&self) -> impl Fn() -> Reloads + Send + Sync + use<> {
        let reloads = Arc::clone(&self.reloads);
        move || reloads.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A configuration to be put in force, or what is wrong with the file as it now stands.
pub type Change = Result<Loaded, Faults>;

/// The folder that a file stands in.
fn folder(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if folder.as_os_str() != OsStr::new("") => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Whether the event may have changed the file. Reading it is an event too, and a file that is being written is
/// read when it is closed, where the system tells.
fn may_change(event: &Event) -> bool {
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        EventKind::Modify(ModifyKind::Data(_)) => !cfg!(target_os = "linux"),
        _ => true,
    }
}

struct Loader {
    /// Hash of the last content that was looked at; `None` before the first.
    seen: Option<blake3::Hash>,
    sources: Sources,
    reloads: Arc<Mutex<Reloads>>,
    send: mpsc::Sender<Change>,
}

impl Loader {
    fn run(mut self, woken: &std::sync::mpsc::Receiver<()>) {
        use std::sync::mpsc::RecvTimeoutError::Disconnected;
        // At once: the file may have changed between the first load and the watch.
        loop {
            if let Some(change) = self.look()
                && self.send.blocking_send(change).is_err()
            {
                return;
            }
            if woken.recv_timeout(POLL) == Err(Disconnected) {
                return;
            }
            // One look serves all events that came meanwhile.
            while woken.try_recv().is_ok() {}
        }
    }

    /// Loads the file where its content is another than at the last look.
    fn look(&mut self) -> Option<Change> {
        // A file that is not there for a moment, between two renames, is no change yet.
        let content = std::fs::read(&self.sources.file).ok()?;
        let hash = blake3::hash(&content);
        if self.seen.replace(hash) == Some(hash) {
            return None;
        }
        // What was hashed is what is parsed: the file may be another by now.
        let loaded = Config::parse(&String::from_utf8_lossy(&content), &self.sources);
        self.reloads.lock().unwrap_or_else(PoisonError::into_inner).note(&loaded).then_some(loaded)
    }
}

impl Reloads {
    /// Whether there is something to tell.
    fn note(&mut self, loaded: &Change) -> bool {
        match loaded {
            Ok(loaded) if loaded.hash == self.hash => {
                self.last_error = None;
                false
            }
            Ok(loaded) => {
                self.generation += 1;
                self.hash.clone_from(&loaded.hash);
                self.last_error = None;
                true
            }
            Err(faults) => {
                self.refused += 1;
                self.last_error = Some(faults.clone());
                true
            }
        }
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
