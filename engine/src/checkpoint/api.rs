//! What can be done to conversations from outside. Each call blocks until the worker's turn is over: not for tasks of
//! an async runtime.

use std::path::Path;
use std::sync::{Arc, OnceLock, mpsc};

use super::CheckpointError;
use super::file::{self, Opened};
use super::header::Header;
use crate::Engine;
use crate::cache::Shape;
use crate::load::CPU;
use crate::model::{self, Layout, Stamp};
use crate::worker::{Command, Part, Worker};

/// What a checkpoint says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointInfo {
    /// Token ids of the conversation.
    pub tokens: Vec<u32>,
    /// Bytes of the file.
    pub bytes: u64,
    /// BLAKE3 of the files of the model that it belongs to.
    pub model: [u8; 32],
}

impl CheckpointInfo {
    /// Reads a file's header and verifies its checksum; keys and values are not read.
    pub fn read(path: &Path) -> Result<Self, CheckpointError> {
        let header = file::header(path)?;
        Ok(Self { bytes: header.file_bytes() as u64, model: header.model, tokens: header.tokens })
    }
}

/// A conversation that is in a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    /// The slot.
    pub slot: u32,
    /// Tokens that it holds.
    pub tokens: u32,
}

/// The digest of a model's files, computed once into `known`.
pub(crate) fn identity(files: &[Stamp], known: &OnceLock<[u8; 32]>) -> Result<[u8; 32], CheckpointError> {
    if let Some(path) = model::changed(files) {
        return Err(CheckpointError::ModelChanged { path });
    }
    if let Some(known) = known.get() {
        return Ok(*known);
    }
    let digest =
        model::digest(files).map_err(|(path, error)| CheckpointError::file("read", &path, &error))?;
    Ok(*known.get_or_init(|| digest))
}

impl Engine {
    /// The tokens that a slot holds; `None` where there is no such slot.
    pub fn slot_tokens(&self, slot: u32) -> Option<Vec<u32>> {
        self.0.chains.copy(slot as usize)
    }

    /// Saves the keys and values of a conversation that some slot holds, wholly or as its beginning. The file is
    /// replaced as a whole or not at all. Requests run on meanwhile.
    pub fn save(&self, tokens: &[u32], path: &Path) -> Result<CheckpointInfo, CheckpointError> {
        self.keys_and_values_alone()?;
        let strips = Shape::strips(self.model());
        if tokens.is_empty() || self.0.chains.holder(tokens).is_none() {
            return Err(CheckpointError::NotResident { tokens: tokens.len() });
        }
        let model = self.identity()?;
        let header = Header { model, data: [0; 32], strips: strips.clone(), tokens: tokens.to_vec() };
        let shared: Arc<[u32]> = tokens.into();
        let bytes = file::write(path, header, |strip, region| {
            let filled = shared.len() * strips[strip].token;
            let part = Part { strip, heads: strips[strip].heads, filled, region };
            let tokens = shared.clone();
            self.ask(move |worker| worker.read(&tokens, part))?
        })?;
        Ok(CheckpointInfo { tokens: tokens.to_vec(), bytes, model })
    }

    /// Puts a saved conversation into an idle slot, the longest unused one where none is empty: a prompt that begins
    /// with it is then computed from its end on. A file that is damaged, or that another model made, is refused, and so
    /// is every file where layers keep states.
    pub fn restore(&self, path: &Path) -> Result<Restored, CheckpointError> {
        self.keys_and_values_alone()?;
        let checkpoint = Opened::open(path, &self.identity()?, &Shape::strips(self.model()))?;
        let tokens = u32::try_from(checkpoint.tokens().len()).unwrap_or(u32::MAX);
        // Off the worker's thread, which then maps pages only.
        let segment = self.model().layout == Layout::SharedBuffer && self.device().provider == CPU;
        let segment = if segment { checkpoint.segment().ok() } else { None };
        let slot = self.ask(move |worker| worker.restore(&checkpoint, segment))??;
        Ok(Restored { slot, tokens })
    }

    /// Copies the first `tokens` of a slot's conversation, or all of it, into an idle slot, so that it can go on in
    /// two ways.
    pub fn branch(&self, slot: u32, tokens: Option<u32>) -> Result<Restored, CheckpointError> {
        let (slot, tokens) = self.ask(move |worker| worker.branch(slot, tokens))??;
        Ok(Restored { slot, tokens })
    }

    /// Forgets what an idle slot holds. Returns how many tokens that were.
    pub fn erase(&self, slot: u32) -> Result<u32, CheckpointError> {
        self.ask(move |worker| worker.erase(slot))?
    }

    /// Refuses models of which a checkpoint would hold only a part.
    fn keys_and_values_alone(&self) -> Result<(), CheckpointError> {
        if self.model().wiring.states.is_empty() { Ok(()) } else { Err(CheckpointError::States) }
    }

    /// The digest of the model's files, computed once.
    fn identity(&self) -> Result<[u8; 32], CheckpointError> {
        identity(&self.model().files, &self.0.identity)
    }

    /// Has the worker do something between two turns.
    pub(crate) fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Worker) -> T + Send + 'static,
    ) -> Result<T, CheckpointError> {
        let (answer, answered) = mpsc::sync_channel(1);
        // One at a time: the channel keeps one place for all of them.
        let turn = self.0.asking.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let order = Command::Ask(Box::new(move |worker| {
            let done = work(worker);
            // Who has the answer finds it in the readings too.
            worker.publish();
            drop(answer.send(done));
        }));
        self.0.commands.try_send(order).map_err(|_| CheckpointError::Gone)?;
        let done = answered.recv().map_err(|_| CheckpointError::Gone);
        drop(turn);
        done
    }
}
