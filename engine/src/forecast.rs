//! What fits into how much memory, before a model is loaded: by the rules that decide when it is.

use crate::cache::{PAGE, Shape};
use crate::config::{ContextLimit, MemoryLimit};
use crate::error::LoadError;
use crate::memory::{self, Limits, Wish};
use crate::model::{Layout, Model};
use crate::session::buffer_bytes;

/// Runs over a cache that grows hold it up to three times more: as past and as present, each with padding.
const COPIES: u64 = 3;
/// Conversations that are looked for, at most.
const MOST: u32 = 1 << 20;

/// What is asked for, as in a configuration.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) memory: MemoryLimit,
    pub(crate) context: ContextLimit,
    pub(crate) slots: u32,
    /// All slots' memory is taken in advance, or must fit whatever the slots hold.
    pub(crate) upfront: bool,
}

/// What a model gets of the memory that is free once its weights are loaded.
pub(crate) fn limits(model: &Model, asked: &Asked, free: Option<u64>) -> Result<Limits, LoadError> {
    let growing = model.layout == Layout::Concatenated;
    Limits::decide(&Wish {
        memory: asked.memory,
        context: asked.context,
        slots: asked.slots,
        per_token: model.kv_bytes_per_token,
        per_slot: model.bytes_per_conversation,
        model_context: model.context_length,
        free: if growing { free.map(|free| free / (1 + COPIES)) } else { free },
        upfront: asked.upfront,
    })
}

/// What a model needs, and what fits into a memory that holds nothing else.
#[derive(Debug, Clone)]
pub struct Forecast {
    model: Model,
    memory: u64,
    cuda: bool,
}

/// What so many conversations of so many tokens need, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// Keys and values of all tokens.
    pub kv: u64,
    /// States and windows of constant size, of all conversations.
    pub constant: u64,
    /// Buffers of a run: token ids, masks, logits. The runtime's own workspace comes on top.
    pub buffers: u64,
    /// Whether all conversations fit side by side, each with all its tokens.
    pub fits: bool,
}

/// What sessions need that begin with the same tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharedPrefix {
    /// Bytes of KV cache where each session holds the whole of its tokens.
    pub copied: u64,
    /// Bytes where the prefix's full pages are held once; `None` where this model's cache has no part that can be.
    pub shared: Option<u64>,
}

impl Forecast {
    /// `memory` bytes are for weights, KV cache and workspace together; `None`: what is free in main memory now.
    /// With `cuda` the caches of all slots are taken in advance.
    pub fn new(model: Model, memory: Option<u64>, cuda: bool) -> Self {
        let memory = memory.or_else(memory::available).unwrap_or(u64::MAX);
        Self { model, memory, cuda }
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Bytes there are.
    pub fn memory(&self) -> u64 {
        self.memory
    }

    /// Bytes of KV cache that `memory: auto` gives at most, states and windows included.
    pub fn kv_limit(&self) -> u64 {
        let rest = self.memory.saturating_sub(self.model.weights_bytes);
        limits(&self.model, &self.asked(1, 1), Some(rest)).map_or(0, |limits| limits.room)
    }

    /// What so many conversations of so many tokens need, and whether they fit.
    pub fn at(&self, conversations: u32, context: u32) -> Demand {
        let model = &self.model;
        let kv = u64::from(conversations) * u64::from(context) * model.kv_bytes_per_token;
        let constant = u64::from(conversations) * model.bytes_per_conversation;
        let buffers = buffer_bytes(model, conversations as usize, context as usize);
        let rest = self.memory.saturating_sub(model.weights_bytes);
        let admitted = limits(model, &self.asked(conversations, context), Some(rest)).is_ok();
        // Buffers of a run lie in main memory.
        let beside = if self.cuda { 0 } else { buffers };
        Demand { kv, constant, buffers, fits: admitted && kv + constant + beside <= rest }
    }

    /// Conversations of so many tokens that fit side by side.
    pub fn most(&self, context: u32) -> u32 {
        let fits = |count: &u32| self.at(*count, context).fits;
        let mut above = 1;
        while above < MOST && fits(&above) {
            above *= 2;
        }
        let mut below = above / 2;
        while above - below > 1 {
            let middle = below + (above - below) / 2;
            if fits(&middle) { below = middle } else { above = middle }
        }
        below
    }

    /// KV cache of sessions of `context` tokens each, of which the first `prefix` are the same.
    pub fn shared_prefix(&self, prefix: u32, sessions: u32, context: u32) -> SharedPrefix {
        let copied = self.at(sessions, context).kv;
        let again = u64::from(sessions.saturating_sub(1));
        let shared = self.shares().then(|| copied - again * self.whole_pages(prefix.min(context)));
        SharedPrefix { copied, shared }
    }

    /// Why a prefix cannot be held once, where it cannot.
    pub fn no_sharing(&self) -> Option<&'static str> {
        let states = self.model.bytes_per_conversation > 0;
        match self.model.layout {
            _ if self.cuda => Some("on CUDA each slot has memory of its own"),
            _ if states => Some("states and windows hold for a whole conversation"),
            Layout::Concatenated | Layout::SharedBuffer | Layout::Hybrid => None,
        }
    }

    fn shares(&self) -> bool {
        self.no_sharing().is_none()
    }

    /// Bytes of the pages that the first tokens of a conversation fill.
    fn whole_pages(&self, tokens: u32) -> u64 {
        let strips = Shape::strips(&self.model);
        let bytes = |token: usize| tokens as usize * token / PAGE * PAGE;
        strips.iter().map(|strip| (strip.heads * bytes(strip.token)) as u64).sum()
    }

    fn asked(&self, conversations: u32, context: u32) -> Asked {
        Asked {
            memory: MemoryLimit::Auto,
            context: ContextLimit::Tokens(context),
            slots: conversations,
            upfront: true,
        }
    }
}
