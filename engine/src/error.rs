//! What can go wrong, and how to set it right.

use std::path::PathBuf;

use thiserror::Error;

use crate::model::Element;
use crate::text::TextError;

/// A model could not be loaded.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The configuration names no folder for the device.
    #[error("no model folder is given for {device}: add `{device}` to `model`")]
    NoFolder {
        /// `cpu` or `cuda`.
        device: &'static str,
    },
    /// A file of the model is missing.
    #[error("`{}` is missing: {hint}", path.display())]
    Missing {
        /// The file or folder that was looked for.
        path: PathBuf,
        /// How to get it.
        hint: String,
    },
    /// A file cannot be read.
    #[error("cannot read `{}`: {reason}; check the permissions of the model folder", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        reason: String,
    },
    /// A file is cut short or is not what its name says.
    #[error("`{}` is damaged: {reason}; copy or export it again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The graph is of a kind that this engine does not run.
    #[error("`{}` cannot run here: {reason}; {instead}", path.display())]
    Unsupported {
        /// The graph's file.
        path: PathBuf,
        /// Which part of the graph is in the way.
        reason: String,
        /// The nearest thing that works.
        instead: &'static str,
    },
    /// The folder does not say something that is needed.
    #[error("`{}` does not say {what}: add {add}", folder.display())]
    Unsaid {
        /// The model's folder.
        folder: PathBuf,
        /// What is not known.
        what: &'static str,
        /// Where to say it.
        add: &'static str,
    },
    /// The window asked for is beyond the model.
    #[error(
        "a context of {asked} tokens is beyond this model's limit of {limit}: set `context` to `auto` or at most {limit}"
    )]
    Context {
        /// Tokens asked for.
        asked: u32,
        /// Tokens that the model was made for.
        limit: u32,
    },
    /// The KV cache does not fit.
    #[error(
        "a context of {tokens} tokens needs {needed} bytes of KV cache ({per_token} a token), {available} may be used: \
         lower `context`{slots}, or raise `memory`", slots = if *.slots > 1 { " or `slots`" } else { "" }
    )]
    Memory {
        /// Tokens of the window.
        tokens: u32,
        /// Slots that must hold that many tokens at once; more than 1 only where memory is taken in advance.
        slots: u32,
        /// Bytes of KV cache for one token.
        per_token: u64,
        /// Bytes needed.
        needed: u64,
        /// Bytes that may be used.
        available: u64,
    },
    /// A setting that cannot be.
    #[error("`{name}` is {value}, must be {range}")]
    Setting {
        /// Its name in the configuration.
        name: &'static str,
        /// What it is.
        value: u64,
        /// What it may be.
        range: &'static str,
    },
    /// A file of the model is not what it was at the first load.
    #[error("`{}` has changed since the model was first loaded: restart Plimsoll", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// ONNX Runtime's shared library does not load.
    #[error("cannot load ONNX Runtime from `{}`: {reason}; `make` fetches a library that fits", path.display())]
    Runtime {
        /// The shared library.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The device cannot be used.
    #[error("cannot use {device}: {reason}")]
    Device {
        /// Its name.
        device: String,
        /// Why, and what to do.
        reason: String,
    },
    /// ONNX Runtime refused the model.
    #[error("ONNX Runtime cannot run `{}`: {reason}", path.display())]
    Session {
        /// The graph's file.
        path: PathBuf,
        /// What it said.
        reason: String,
    },
    /// The tokenizer or the chat template cannot be used.
    #[error(transparent)]
    Text(#[from] TextError),
}

/// No memory is given to a request.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AdmitError {
    /// It can never fit.
    #[error(
        "{tokens} tokens need {needed} bytes of KV cache, the limit is {limit_tokens} tokens and {limit} bytes: \
         shorten the prompt or the answer"
    )]
    TooLarge {
        /// Tokens asked for.
        tokens: u32,
        /// Bytes they need.
        needed: u64,
        /// The window, in tokens.
        limit_tokens: u32,
        /// All bytes there are.
        limit: u64,
    },
    /// More is asked for at once than can ever run at once.
    #[error("{count} answers at once need as many slots, this engine has {slots}: ask for at most {slots}")]
    TooMany {
        /// Slots asked for.
        count: u32,
        /// All slots there are.
        slots: u32,
    },
    /// Too many wait already.
    #[error(
        "{needed} bytes of KV cache are needed, {free} of {limit} and {slots_free} of {slots} slots are free, and \
         {waiting} requests wait already: try again"
    )]
    QueueFull {
        /// Bytes needed.
        needed: u64,
        /// Bytes that are free.
        free: u64,
        /// All bytes there are.
        limit: u64,
        /// Slots that are free.
        slots_free: u32,
        /// All slots there are.
        slots: u32,
        /// Requests in the queue, as many as it takes.
        waiting: usize,
    },
    /// The engine is shut down.
    #[error("the model is unloaded")]
    Unloaded,
}

/// Why a model's context cannot be shifted: its answers end where the window is full.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NoShift {
    /// Not all that it holds are keys and values of single tokens.
    #[error("some layers keep a state or a window, which holds for all tokens so far")]
    States,
    /// Keys are integers or 8-bit numbers.
    #[error("its keys are quantised ({kv_type}): turning them would round them once more")]
    Quantised {
        /// Their type.
        kv_type: Element,
    },
    /// Two sets of rotary frequencies, by the length of the context.
    #[error("its rotary tables change with the length of the context (longrope)")]
    LongRope,
    /// Rotary frequencies that follow the length of the context.
    #[error("its rotary frequencies change with the length of the context (dynamic NTK)")]
    Dynamic,
    /// Positions may be learned, or shown in a way that is not known.
    #[error("it is not known how its keys hold their positions: {what}")]
    Unknown {
        /// What is not known.
        what: String,
    },
    /// Keys that were turned back were not those of the earlier position, when it was tried.
    #[error("its keys hold their positions in another way than it says: `{cache}` was tried")]
    Unproven {
        /// The cache, by the graph's name for it.
        cache: String,
    },
    /// There is no room to try it in, nor to shift.
    #[error("a window of {context} tokens is too small")]
    Small {
        /// Tokens of the window.
        context: u32,
    },
}

/// A generation ended without an answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GenerateError {
    /// Nothing to continue.
    #[error("the prompt is empty: it needs at least one token")]
    EmptyPrompt,
    /// A token id that the model does not have.
    #[error("token {token} is not in the vocabulary of {vocab} tokens")]
    UnknownToken {
        /// The id.
        token: u32,
        /// How many ids there are.
        vocab: u32,
    },
    /// The permit is for less.
    #[error("the prompt has {prompt} tokens, and memory was reserved for {reserved}, the answer included")]
    PermitTooSmall {
        /// Tokens of the prompt.
        prompt: u32,
        /// Tokens reserved.
        reserved: u32,
    },
    /// It was to go on past the window.
    #[error("the context of this model cannot be shifted: {0}")]
    NoShift(#[from] NoShift),
    /// The model was unloaded while nobody needed it, and cannot be loaded again.
    #[error("the model cannot be loaded again: {0}")]
    Load(String),
    /// ONNX Runtime failed; the conversation's cache is thrown away.
    #[error("the model failed: {0}")]
    Session(String),
    /// The answer's format has become too complicated to follow.
    #[error("the answer cannot be kept in its format: {0}")]
    Grammar(String),
    /// The logits are not numbers.
    #[error("the model gave no usable logits: its weights or inputs are broken")]
    NoLogits,
    /// The engine was shut down meanwhile.
    #[error("the model was unloaded")]
    Gone,
}
