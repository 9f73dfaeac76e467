//! Edits of messages, each from the arrival of a message on.
//!
//! A message has a state on its own arrival, and another after each edit that came later. A step that follows edits every
//! state from its own moment on: what went out before a later edit is so the same, whether that edit has come or not.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::{Conversation, Dropped, Message};

/// An edit of a message that went out as it was before, until another arrived.
#[derive(Debug, Clone)]
pub(crate) struct Replaced {
    pub(crate) before: Message,
    pub(crate) after: Message,
    /// Place in the client's history of the message on whose arrival it was edited.
    pub(crate) at: usize,
}

/// What a state becomes; none where it stays, having lost what is edited.
type Make<'e> = Box<dyn Fn(&Message) -> Option<Message> + 'e>;

/// An edit of a message, in each of its states from a moment on.
pub(crate) struct Edit<'e> {
    /// Place of the message in the client's history.
    pub(crate) slot: usize,
    /// Place of the message on whose arrival it is edited: its own where it never went out as it was.
    pub(crate) at: usize,
    pub(crate) make: Make<'e>,
}

impl Conversation {
    /// With messages edited in each of their states from a moment on, those that were removed after it included.
    pub(crate) fn with_edits(&self, edits: &[Edit]) -> Self {
        let (mut messages, mut dropped) = ((*self.messages).clone(), (*self.dropped).clone());
        let mut replaced = (*self.replaced).clone();
        let live = messages.iter_mut().map(|message| (message, usize::MAX));
        let gone = dropped.iter_mut().map(|Dropped { message, at, .. }| (message, *at));
        let places = live.chain(gone).filter_map(|(message, gone)| Some((message.slot()?, (message, gone))));
        let mut places: HashMap<usize, (&mut Message, usize)> = places.collect();
        for edit in edits {
            let Some((message, _)) = places.get_mut(&edit.slot).filter(|(_, gone)| edit.at <= *gone) else {
                continue;
            };
            edit.apply(message, &mut replaced);
        }
        let (messages, dropped) = (Arc::new(messages), Arc::new(dropped));
        Self { messages, dropped, replaced: Arc::new(replaced), edited: true, ..self.clone() }
    }

    /// With messages replaced from another's arrival on. Each edit is of the message as it is now, or as the edit
    /// before it left it.
    pub(crate) fn with_replaced(&self, edits: Vec<(usize, Replaced)>) -> Self {
        let mut messages = (*self.messages).clone();
        let mut replaced = (*self.replaced).clone();
        for (index, edit) in edits {
            messages[index] = edit.after.clone();
            replaced.entry(edit.before.slot().unwrap_or(usize::MAX)).or_default().push(edit);
        }
        Self { messages: Arc::new(messages), replaced: Arc::new(replaced), edited: true, ..self.clone() }
    }

    /// The messages in the order of the client's history with their places there, those that were removed included.
    pub(crate) fn history(&self) -> Vec<(usize, &Message)> {
        let all = self.messages.iter().chain(self.dropped.iter().map(|gone| &gone.message));
        let mut all: Vec<_> = all.filter_map(|message| Some((message.slot()?, message))).collect();
        all.sort_by_key(|(slot, _)| *slot);
        all
    }

    /// Places of the messages that are not as they were before edits.
    pub(crate) fn touched_since(&self, before: &Self) -> Vec<usize> {
        let pairs = before.messages.iter().zip(self.messages.iter());
        pairs.filter(|(before, after)| !before.is(after)).filter_map(|(_, after)| after.slot()).collect()
    }

    /// The edits of a message that had gone out before, oldest first.
    pub(crate) fn replaced(&self, message: &Message) -> &[Replaced] {
        let slot = message.slot().filter(|_| !self.replaced.is_empty());
        slot.and_then(|slot| self.replaced.get(&slot)).map_or(&[], Vec::as_slice)
    }

    /// A message as it first went out.
    pub(crate) fn first_sent<'m>(&'m self, message: &'m Message) -> &'m Message {
        self.replaced(message).first().map_or(message, |edit| &edit.before)
    }

    /// Whether a message was edited after it had gone out.
    pub(crate) fn has_replaced(&self) -> bool {
        !self.replaced.is_empty()
    }
}

impl Edit<'_> {
    /// Edits a message and its states in between.
    fn apply(&self, message: &mut Message, replaced: &mut BTreeMap<usize, Vec<Replaced>>) {
        let mut states = replaced.remove(&self.slot).unwrap_or_default();
        let on_arrival = self.at <= self.slot;
        let later = states.iter().position(|other| on_arrival || other.at > self.at).unwrap_or(states.len());
        let before = match later.checked_sub(1) {
            Some(last) => states[last].after.clone(),
            None => states.first().map_or(&*message, |first| &first.before).clone(),
        };
        let mut state = self.made(&before);
        let edited = Replaced { before, after: state.clone(), at: self.at };
        for other in &mut states[later..] {
            let after = self.made(&other.after);
            other.before = std::mem::replace(&mut state, after.clone());
            other.after = after;
        }
        *message = state;
        if !on_arrival && !edited.before.is(&edited.after) {
            states.insert(later, edited);
        }
        if !states.is_empty() {
            replaced.insert(self.slot, states);
        }
    }

    fn made(&self, state: &Message) -> Message {
        (self.make)(state).unwrap_or_else(|| state.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::parse;

    const BODY: &str = r#"{"messages":[{"role":"user","content":"a b"},{"role":"user","content":"c"},
        {"role":"user","content":"d"},{"role":"user","content":"e"}]}"#;

    /// Another word in the place of one, from a message's arrival on.
    fn word(slot: usize, at: usize, from: &'static str, to: &'static str) -> Edit<'static> {
        let make = move |state: &Message| {
            state.text().contains(from).then(|| state.with_content(&state.text().replace(from, to)).unwrap())
        };
        Edit { slot, at, make: Box::new(make) }
    }

    fn states(conversation: &Conversation, message: &Message) -> Vec<(usize, String)> {
        let first = conversation.first_sent(message).text().to_owned();
        let edits = conversation.replaced(message).iter();
        std::iter::once((0, first)).chain(edits.map(|edit| (edit.at, edit.after.text().to_owned()))).collect()
    }

    fn told(states: &[(usize, &str)]) -> Vec<(usize, String)> {
        states.iter().map(|(at, text)| (*at, (*text).to_owned())).collect()
    }

    #[test]
    fn each_state_from_a_moment_on() {
        let cleared = parse(BODY).with_edits(&[word(0, 2, "a b", "gone b")]);
        let edited = cleared.with_edits(&[word(0, 0, "b", "B"), word(0, 1, "a", "A"), word(0, 3, "B", "!")]);
        let message = &edited.messages()[0];
        assert_eq!(states(&edited, message), told(&[(0, "a B"), (1, "A B"), (2, "gone B"), (3, "gone !")]));
        assert_eq!(message.text(), "gone !");
    }

    #[test]
    fn what_a_state_has_lost_is_not_edited() {
        let cleared = parse(BODY).with_edits(&[word(0, 2, "a b", "gone")]);
        let edited = cleared.with_edits(&[word(0, 0, "b", "B"), word(0, 3, "B", "!")]);
        let message = &edited.messages()[0];
        assert_eq!(states(&edited, message), told(&[(0, "a B"), (2, "gone")]));
        assert!(message.is(&cleared.messages()[0]));
    }

    #[test]
    fn what_was_removed_is_edited_up_to_then() {
        let without = parse(BODY).without("test", |index| (index == 0).then_some(2));
        let edited = without.with_edits(&[word(0, 0, "a", "A"), word(0, 3, "b", "B")]);
        assert_eq!(edited.dropped()[0].message.text(), "A b");
    }
}
