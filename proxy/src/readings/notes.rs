//! Whose conversation is in which slot: the engine knows tokens, not requests.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// What is known of a slot's last request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotNote {
    /// The id of the request that began the conversation.
    pub conversation: String,
    /// The id of the last request.
    pub request: String,
    /// Requests of the conversation that ran in this slot.
    pub turns: u64,
    /// Tokens of the last prompt whose keys and values were there.
    pub reused: u64,
    /// Tokens of the last prompt.
    pub prompt: u64,
}

/// A note for each slot of an engine.
#[derive(Debug, Default)]
pub struct SlotNotes(Mutex<BTreeMap<u32, SlotNote>>);

impl SlotNotes {
    /// A request has begun in `slot`, with `reused` tokens of its `prompt` there already.
    pub fn started(&self, slot: u32, request: &str, reused: u64, prompt: u64) {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A turn that goes on begins with the turn before it; one that a policy has cut shares less. What shares but a
        // system prompt is another conversation.
        let former = notes.get(&slot).filter(|note| 2 * reused >= note.prompt && reused > 0);
        let (conversation, turns) = match former {
            Some(note) => (note.conversation.clone(), note.turns + 1),
            None => (request.to_owned(), 1),
        };
        notes.insert(slot, SlotNote { conversation, request: request.to_owned(), turns, reused, prompt });
    }

    /// What is known of a slot.
    pub fn of(&self, slot: u32) -> Option<SlotNote> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&slot).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_that_go_on_belong_to_the_request_that_began() {
        let notes = SlotNotes::default();
        notes.started(0, "a", 0, 100);
        notes.started(0, "b", 95, 150);
        let note = notes.of(0).unwrap();
        assert_eq!((note.conversation.as_str(), note.request.as_str(), note.turns), ("a", "b", 2));
        // Only the system prompt is shared.
        notes.started(0, "c", 20, 150);
        assert_eq!(notes.of(0).map(|note| (note.conversation, note.turns)), Some(("c".to_owned(), 1)));
        notes.started(0, "d", 0, 1);
        assert_eq!(notes.of(0).map(|note| note.conversation), Some("d".to_owned()));
        assert_eq!(notes.of(1), None);
    }
}
