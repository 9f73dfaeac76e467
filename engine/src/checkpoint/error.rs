//! Why a conversation cannot be saved, restored, branched or erased.

use std::path::{Path, PathBuf};

use thiserror::Error;

/// A conversation could not be saved, restored, branched or erased.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CheckpointError {
    /// No slot has this number.
    #[error("slot {slot} does not exist: slots are numbered 0 to {last}")]
    NoSlot {
        /// The number.
        slot: u32,
        /// The highest number.
        last: u32,
    },
    /// A request runs in it.
    #[error("slot {slot} runs a request: wait for its end")]
    Busy {
        /// The slot.
        slot: u32,
    },
    /// All slots run requests.
    #[error("all {slots} slots run requests: try again")]
    AllBusy {
        /// All slots there are.
        slots: u32,
    },
    /// No slot holds these tokens.
    #[error("the conversation of {tokens} tokens is not held by any slot: run it first")]
    NotResident {
        /// Tokens of the conversation.
        tokens: usize,
    },
    /// The slot holds fewer tokens, or none are asked for.
    #[error("{asked} tokens are asked for, slot {slot} holds {held}: ask for 1 to {held}")]
    Short {
        /// The slot.
        slot: u32,
        /// Tokens asked for.
        asked: u32,
        /// Tokens held.
        held: u32,
    },
    /// The model's states hold for all tokens of the slot, not for fewer.
    #[error(
        "{asked} tokens are asked for, slot {slot} holds {held}, and this model's states cannot be taken back to fewer: \
         ask for all {held}, or send the shorter prompt to have it computed"
    )]
    Whole {
        /// The slot.
        slot: u32,
        /// Tokens asked for.
        asked: u32,
        /// Tokens held.
        held: u32,
    },
    /// No conversation of this name is put by.
    #[error("no idle conversation `{name}` is put by")]
    NotOffloaded {
        /// The name.
        name: String,
    },
    /// The model keeps more than keys and values.
    #[error(
        "checkpoints hold keys and values, and some layers of this model keep a state instead: send the conversation \
         again to have it computed"
    )]
    States,
    /// It does not fit beside what runs.
    #[error(
        "{tokens} tokens need {needed} bytes of KV cache, {reserved} of {limit} are reserved and a conversation has at \
         most {context} tokens: wait for what runs, or raise `memory` or `context`"
    )]
    NoRoom {
        /// Tokens of the conversation.
        tokens: usize,
        /// Bytes they need.
        needed: u64,
        /// Bytes reserved by requests that run.
        reserved: u64,
        /// All bytes there are.
        limit: u64,
        /// Tokens of a conversation at most.
        context: u32,
    },
    /// The operating system refused.
    #[error("cannot {what} `{}`: {reason}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the operating system said.
        reason: String,
    },
    /// It does not begin as a checkpoint does.
    #[error("`{}` is not a checkpoint of Plimsoll", path.display())]
    NotACheckpoint {
        /// The file.
        path: PathBuf,
    },
    /// It is of another version of the format.
    #[error("`{}` has version {found} of the checkpoint format, this build reads version {read}: save it again", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The version that is read.
        read: u32,
    },
    /// It is cut short or altered.
    #[error("`{}` is damaged: {reason}; delete it and save it again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Another model made it.
    #[error("`{}` was saved by another model: {reason}; restore it with the model that saved it", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What differs.
        reason: String,
    },
    /// The model's files are not those that were loaded.
    #[error("`{}` has changed since the model was loaded: restart Plimsoll", path.display())]
    ModelChanged {
        /// The file.
        path: PathBuf,
    },
    /// A copy within the KV memory failed.
    #[error("the KV memory failed: {0}")]
    Memory(String),
    /// The model cannot be loaded again.
    #[error("the model cannot be loaded: {0}")]
    Load(String),
    /// The engine is shut down.
    #[error("the model is unloaded")]
    Gone,
}

impl CheckpointError {
    pub(crate) fn file(what: &'static str, path: &Path, error: &std::io::Error) -> Self {
        Self::File { what, path: path.to_owned(), reason: error.to_string() }
    }
}
