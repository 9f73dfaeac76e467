//! Messages that came before, read and weighed once.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use plimsoll_engine::text::TemplateMessage;
use plimsoll_policies::{Message, Tokens};
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};

/// Bytes of messages kept, and about twice as many of what they are read as.
const CAPACITY: u64 = 32 << 20;
/// A guess of a message's length, for the memo's first allocation.
const TYPICAL: u64 = 1024;

/// What is known of one text.
pub(super) struct Known {
    /// No other text ever has it, so that lists of texts are compared by their ids.
    pub(super) id: u64,
    /// As a template takes it without tools, and with them.
    pub(super) read: [OnceLock<TemplateMessage>; 2],
    /// Tokens that it adds to a prompt by itself.
    pub(super) weight: OnceLock<Tokens>,
}

/// The texts of conversations: each brings all but its last ones again.
pub(super) struct Texts {
    known: Cache<String, Arc<Known>, ByLength>,
    next: AtomicU64,
}

#[derive(Clone)]
struct ByLength;

impl Weighter<String, Arc<Known>> for ByLength {
    fn weight(&self, text: &String, _: &Arc<Known>) -> u64 {
        text.len().max(1) as u64
    }
}

impl Texts {
    pub(super) fn new() -> Self {
        let options = OptionsBuilder::new()
            .estimated_items_capacity(usize::try_from(CAPACITY / TYPICAL).unwrap_or(usize::MAX))
            .weight_capacity(CAPACITY)
            // What just came is asked for again in the same request: it has half of the room, also where all is full.
            .hot_allocation(0.5)
            .build();
        let options = options.expect("both capacities are given. This is a bug.");
        let known = Cache::with_options(
            options,
            ByLength,
            DefaultHashBuilder::default(),
            DefaultLifecycle::default(),
        );
        // 0 stands for no text.
        Self { known, next: AtomicU64::new(1) }
    }

    /// What is known of a text, or what will be. One that was forgotten in between has another id.
    pub(super) fn get(&self, text: &str) -> Arc<Known> {
        let met = || {
            let id = self.next.fetch_add(1, Ordering::Relaxed);
            Ok::<_, Infallible>(Arc::new(Known { id, read: Default::default(), weight: OnceLock::new() }))
        };
        let Ok(known) = self.known.get_or_insert_with(text, met);
        known
    }

    /// What is known of each message.
    pub(super) fn all(&self, messages: &[Message]) -> Vec<Arc<Known>> {
        messages.iter().map(|message| self.get(message.json())).collect()
    }
}
