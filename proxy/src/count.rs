//! Counts a conversation's tokens: exactly by the model's own template and tokenizer, by the server that will run it, or
//! by tiktoken, marked as an estimate.

mod asked;
mod estimate;
mod exact;
mod known;
mod lossy;

use std::sync::Arc;

use plimsoll_policies::CountTokens;

use crate::forward::headers::for_own_questions;
use crate::forward::tokens::Asker;
use crate::live::Counting;
use crate::parse::Call;

pub use asked::{Asked, Server};
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
/// Where a server is asked, it is asked for the prompt as it came here already, without holding up a thread.
pub async fn count(call: Call) -> Counted {
    let counter = match call.work.chat() {
        Some(chat) => match &call.envelope.route.upstream.counting {
            Counting::Asked(server) => {
                let credentials = for_own_questions(&call.envelope.head.headers);
                let asker = Asker { model: chat.model.clone(), credentials };
                let asked = Asked::new(server.clone(), asker, chat.conversation.messages().to_vec());
                Some(Counter::Asked(Arc::new(asked.begin(&chat.conversation).await)))
            }
            counting => Some(counting.counter(chat.model.as_deref())),
        },
        None => None,
    };
    Counted { call, counter }
}

/// How one upstream's tokens are counted.
#[derive(Clone)]
pub enum Counter {
    /// By the model folder.
    Exact(Arc<Exact>),
    /// By the nearest public encoding.
    Estimate(Arc<Estimate>),
    /// By the server that will run the prompt.
    Asked(Arc<Asked>),
}

impl Counter {
    /// The counter as policies see it.
    pub fn as_dyn(&self) -> &dyn CountTokens {
        match self {
            Self::Exact(exact) => exact.as_ref(),
            Self::Estimate(estimate) => estimate.as_ref(),
            Self::Asked(asked) => asked.as_ref(),
        }
    }

    /// Whether it waits for somebody else, which threads that serve requests must not do.
    pub(crate) fn waits(&self) -> bool {
        matches!(self, Self::Asked(_))
    }

    /// Whether counts are estimates, from the beginning or by now.
    pub(crate) fn estimates(&self) -> bool {
        self.as_dyn().estimated()
    }
}
