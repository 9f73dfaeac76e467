//! Hot reload: a changed file, included ones among them, is loaded and checked; a bad one leaves the last good one in
//! force.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

use super::documents::Inputs;
use super::faults::Fault;
use super::{Config, Faults, Loaded, Sources, bounds, path, unreadable};

/// How often the file is read without having been told to: network file systems send no events.
const POLL: Duration = Duration::from_secs(60);

/// What is told while there is no file.
const GONE: &str = "config file is gone; the last configuration stays in force";

/// Watches a configuration until it is dropped.
#[derive(Debug)]
pub struct Watch {
    reloads: Arc<Mutex<Reloads>>,
    file: String,
    // Dropping it ends the thread that loads.
    _watcher: Arc<Mutex<RecommendedWatcher>>,
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
    /// Why the file as it now stands is refused, or that it is gone; `None`: it is in force.
    pub last_error: Option<Faults>,
}

impl Watch {
    /// Watches the folder of `sources.file`, and those that it includes files from: a Kubernetes ConfigMap is swapped by a link beside the file, and
    /// editors rename; a watch on the file itself would end with the first change. Each change of the files'
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
        let file = sources.file.display().to_string();
        let watcher = Arc::new(Mutex::new(watcher));
        let loader = Loader {
            gone: None,
            seen: None,
            sources,
            reloads: Arc::clone(&reloads),
            send,
            watcher: Arc::downgrade(&watcher),
            watched: BTreeSet::new(),
        };
        std::thread::Builder::new().name("config-watch".to_owned()).spawn(move || loader.run(&woken))?;
        Ok((Self { reloads, file, _watcher: watcher }, receive))
    }

    /// Notes that a valid configuration could not be put in force.
    pub fn refuser(&self) -> impl Fn(&str) + Send + Sync + use<> {
        let (reloads, file) = (Arc::clone(&self.reloads), self.file.clone());
        move |why| {
            let faults = vec![Fault::new(path::Path::default(), why)];
            let mut reloads = reloads.lock().unwrap_or_else(PoisonError::into_inner);
            reloads.refused += 1;
            reloads.last_error = Some(Faults { file: file.clone(), faults });
        }
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

/// What was told of the file before it went.
struct Gone {
    last_error: Option<Faults>,
}

struct Loader {
    /// Set while the file is not there.
    gone: Option<Gone>,
    /// Hash of the last content that was looked at; `None` before the first.
    seen: Option<blake3::Hash>,
    sources: Sources,
    reloads: Arc<Mutex<Reloads>>,
    send: mpsc::Sender<Change>,
    /// Gone when nobody wants to hear any more.
    watcher: Weak<Mutex<RecommendedWatcher>>,
    /// Folders watched for included files.
    watched: BTreeSet<PathBuf>,
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

    /// Loads the files where their content is another than at the last look.
    fn look(&mut self) -> Option<Change> {
        loop {
            let mut inputs = Inputs::default();
            let loaded = match bounds::read(&self.sources.file) {
                // What was hashed is what is parsed: the files may be others by now.
                Ok(text) => Config::read(&text, &self.sources, &mut inputs),
                // It may be back in a moment, between two renames: no change yet.
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                    self.note_gone();
                    return None;
                }
                Err(error) => {
                    inputs.note("", &error.to_string());
                    Err(unreadable(&self.sources, &error))
                }
            };
            // What came before its folder was watched has sent no event.
            if self.watch(&inputs) {
                continue;
            }
            let hash = inputs.hash();
            let before = self.gone.take();
            if self.seen.replace(hash) == Some(hash) {
                if let Some(Gone { last_error }) = before {
                    self.reloads.lock().unwrap_or_else(PoisonError::into_inner).last_error = last_error;
                }
                return None;
            }
            return self
                .reloads
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .note(&loaded)
                .then_some(loaded);
        }
    }

    /// Tells, once, that the file is gone.
    fn note_gone(&mut self) {
        if self.gone.is_some() {
            return;
        }
        tracing::warn!(target: "plimsoll", file = %self.sources.file.display(), "{GONE}");
        let file = self.sources.file.display().to_string();
        let fault = Fault::new(path::Path::default(), GONE).in_file(&file);
        let told = Faults { file, faults: vec![fault] };
        let mut reloads = self.reloads.lock().unwrap_or_else(PoisonError::into_inner);
        self.gone = Some(Gone { last_error: reloads.last_error.replace(told) });
    }

    /// Watches the folders of included files, or what is above one that is not there yet. Whether there is a new one.
    fn watch(&mut self, inputs: &Inputs) -> bool {
        let Some(watcher) = self.watcher.upgrade() else { return false };
        let mut watcher = watcher.lock().unwrap_or_else(PoisonError::into_inner);
        let there = |folder: &PathBuf| {
            let mut up = folder.ancestors();
            up.find(|folder| folder.is_dir()).map(Path::to_owned)
        };
        let own = self.sources.directory.join(folder(&self.sources.file));
        let wanted: BTreeSet<_> =
            inputs.folders.iter().filter_map(there).filter(|folder| *folder != own).collect();
        let is_new = !wanted.is_subset(&self.watched);
        for gone in self.watched.difference(&wanted) {
            // One that is not there any more is not watched any more.
            let _ = watcher.unwatch(gone);
        }
        for folder in wanted.difference(&self.watched) {
            if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
                tracing::warn!(target: "plimsoll", folder = %folder.display(), %error,
                    "an included folder cannot be watched: its changes are seen once a minute");
            }
        }
        self.watched = wanted;
        is_new
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
