//! Counts a conversation's tokens: exactly by the model's own template and tokenizer, or by tiktoken, marked as an estimate.

mod estimate;
mod exact;
mod known;
mod lossy;

use std::sync::Arc;

use plimsoll_policies::CountTokens;

use crate::parse::Call;

pub use estimate::Estimate;
pub use exact::Exact;

/// A call with the counter that its upstream is counted by.
pub struct Counted {
    /// The call.
    pub call: Call,
    /// How it is counted; `None` where there is no conversation.
    pub counter: Option<Counter>,
}

/// Chooses the counter of a call. The chain does the counting itself, before and after, through the counter's memo.
pub fn count(call: Call) -> Counted {
    let upstream = &call.envelope.route.upstream;
    let counter = call.work.chat().map(|chat| upstream.counter(chat.model.as_deref()));
    Counted { call, counter }
}

/// How one upstream's tokens are counted.
#[derive(Clone)]
pub enum Counter {
    /// By the model folder.
    Exact(Arc<Exact>),
    /// By the nearest public encoding.
    Estimate(Arc<Estimate>),
}

impl Counter {
    /// The counter as policies see it.
    pub fn as_dyn(&self) -> &dyn CountTokens {
        match self {
            Self::Exact(exact) => exact.as_ref(),
            Self::Estimate(estimate) => estimate.as_ref(),
        }
    }
}
