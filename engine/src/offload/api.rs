//! What is put by, for those outside.

use std::sync::{Arc, OnceLock};

use super::files::{self, Folder};
use super::store::Listed;
use super::{Offload, OffloadMove, OffloadReading, OffloadedReading, Store, Threads};
use crate::Engine;
use crate::cache::Shape;
use crate::checkpoint::CheckpointError;
use crate::error::LoadError;
use crate::model::Model;

/// Why a model's conversations are not put by.
const STATES: &str =
    "some layers of this model keep a state or a window, which holds for a whole conversation";
const UNWANTED: &str = "`offload.host` is 0";
const NO_ROOM: &str = "no main memory is left beside the KV cache";

/// What an engine has of it.
pub(crate) struct Kept {
    /// The store, or why there is none.
    pub(crate) store: Result<Arc<Store>, &'static str>,
    pub(crate) threads: Threads,
}

impl Kept {
    /// Begins to keep a model's conversations, in no more than half of the `free` bytes of main memory: runs and requests
    /// need some too.
    pub(crate) fn start(
        wanted: &Offload,
        model: &Model,
        free: Option<u64>,
        identity: Arc<OnceLock<[u8; 32]>>,
    ) -> Result<Self, LoadError> {
        if wanted.host == 0 && wanted.disk.is_some() {
            let range = "above 0 where `offload.disk` is set";
            return Err(LoadError::Setting { name: "offload.host", value: 0, range });
        }
        let host = free.map_or(wanted.host, |free| (free / 2).min(wanted.host));
        let off = match () {
            () if wanted.host == 0 => Some(UNWANTED),
            () if !model.wiring.states.is_empty() => Some(STATES),
            () if host == 0 => Some(NO_ROOM),
            () => None,
        };
        if let Some(off) = off {
            tracing::info!(target: "plimsoll", reason = off, "idle conversations are forgotten when their room is needed");
            return Ok(Self { store: Err(off), threads: Threads::default() });
        }
        if host < wanted.host {
            tracing::info!(target: "plimsoll", bytes = host, wanted = wanted.host, "less main memory is free for idle conversations");
        }
        let strips = Shape::strips(model);
        let folder =
            |dir: std::path::PathBuf| Folder::new(dir, model.files.clone(), strips.clone(), identity);
        let disk = wanted.disk.clone().map(|disk| (folder(disk.dir), disk.limit));
        let failed = |error: std::io::Error| LoadError::Session {
            path: model.file.clone(),
            reason: format!("no thread could be started ({error})"),
        };
        let (store, threads) = Threads::start(strips.clone(), host, disk).map_err(failed)?;
        Ok(Self { store: Ok(store), threads })
    }

    /// Ends it: what is to be in files is.
    pub(crate) fn close(&self) {
        if let Ok(store) = &self.store {
            self.threads.close(store);
        }
    }
}

impl Engine {
    /// What is put by of idle conversations, and what that has come to.
    pub fn offload(&self) -> OffloadReading {
        match &self.0.offload.store {
            Ok(store) => store.reading(),
            Err(off) => OffloadReading { off: Some(off), ..OffloadReading::default() },
        }
    }

    /// The conversations that are put by.
    pub fn offloaded(&self) -> Vec<OffloadedReading> {
        let Ok(store) = &self.0.offload.store else { return Vec::new() };
        let reading = |(tokens, listed): (Arc<[u32]>, Listed)| OffloadedReading {
            name: files::name(&tokens),
            tokens: u32::try_from(tokens.len()).unwrap_or(u32::MAX),
            host_bytes: listed.host,
            disk_bytes: listed.disk,
            idle_since: listed.since,
        };
        store.list().into_iter().map(reading).collect()
    }

    /// Forgets a conversation that is put by, its file too. Returns how many tokens it held.
    ///
    /// # Errors
    /// None has this name.
    pub fn erase_offloaded(&self, name: &str) -> Result<u32, CheckpointError> {
        let missing = || CheckpointError::NotOffloaded { name: name.chars().take(80).collect() };
        let store = self.0.offload.store.as_ref().map_err(|_| missing())?;
        let tokens = store.list().into_keys().find(|tokens| files::name(tokens) == name);
        let tokens = tokens.ok_or_else(missing)?;
        store.erase(&tokens);
        Ok(u32::try_from(tokens.len()).unwrap_or(u32::MAX))
    }

    /// Tells `sink` of each step of conversations out of their slots and back. It is called on the engine's threads and
    /// must be quick. Only the first sink counts.
    pub fn watch_offloads(&self, sink: impl Fn(OffloadMove) + Send + Sync + 'static) {
        if let Ok(store) = &self.0.offload.store {
            store.watch(Box::new(sink));
        }
    }

    /// Waits until the folder's conversations are known and all that was put by so far is in it. Blocks: not for tasks
    /// of an async runtime.
    pub fn settle_offload(&self) {
        if let Ok(Some(disk)) = self.0.offload.store.as_ref().map(|store| store.disk.as_ref()) {
            disk.settle();
        }
    }

    /// Has what is on disk of a prompt read into main memory, where that is cheaper than computing it.
    pub(crate) async fn fetch(&self, prompt: &[u32]) {
        let Ok(store) = &self.0.offload.store else { return };
        let Some(disk) = &store.disk else { return };
        let usable = &prompt[..prompt.len().saturating_sub(1)];
        let resident = self.0.chains.prefix(prompt);
        if let Some(hit) =
            store.hit(usable, resident, self.prefill_seconds_per_token()).filter(|hit| hit.filed)
        {
            disk.fetch(hit.tokens).await;
        }
    }

    /// Tokens of a prompt that would come from what is put by, beyond the `resident` ones.
    pub(crate) fn put_by_prefix(&self, prompt: &[u32], resident: usize) -> usize {
        let Ok(store) = &self.0.offload.store else { return 0 };
        let usable = &prompt[..prompt.len().saturating_sub(1)];
        store.hit(usable, resident, self.prefill_seconds_per_token()).map_or(0, |hit| hit.common)
    }
}
