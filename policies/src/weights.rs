//! What runs of messages weigh, asked once.

use std::cell::RefCell;
use std::collections::HashMap;

use crate::conversation::{Conversation, Message, Role};
use crate::groups::Group;
use crate::replay::Shrink;
use crate::tokens::{CountError, CountTokens, Tokens};

/// Counts of one pass through a chain. A run is known by the messages it is made of, which the memo keeps alive.
pub(crate) struct Weights<'a> {
    counter: &'a dyn CountTokens,
    known: RefCell<HashMap<Box<[usize]>, Known>>,
}

/// A count, and the messages it holds for: while they live no other has their addresses.
struct Known {
    weight: Tokens,
    _run: Vec<Message>,
}

impl<'a> Weights<'a> {
    pub(crate) fn new(counter: &'a dyn CountTokens) -> Self {
        Self { counter, known: RefCell::default() }
    }

    /// What a run of messages adds to a prompt.
    pub(crate) fn of(&self, run: &[Message]) -> Tokens {
        let key: Box<[usize]> = run.iter().map(Message::address).collect();
        if let Some(known) = self.known.borrow().get(&key) {
            return known.weight;
        }
        let weight = self.counter.messages(run);
        self.known.borrow_mut().insert(key, Known { weight, _run: run.to_vec() });
        weight
    }

    /// What a run of messages added to a prompt when it first went out.
    pub(crate) fn first_sent(&self, conversation: &Conversation, run: &[Message]) -> Tokens {
        if run.iter().all(|message| conversation.replaced(message).is_empty()) {
            return self.of(run);
        }
        // A note that stands for what is not counted weighs from the start, so that a second pass finds no more.
        let one = |message: &Message| self.of(std::slice::from_ref(message));
        let grown = run.iter().flat_map(|message| conversation.replaced(message));
        let grown: Tokens = grown.map(|edit| one(&edit.after).saturating_sub(one(&edit.before))).sum();
        let run: Vec<Message> = run.iter().map(|message| conversation.first_sent(message).clone()).collect();
        self.of(&run) + grown
    }

    /// What edits took off the groups of these messages after they had gone out, in the order of the groups on
    /// whose arrival they happened.
    pub(crate) fn shrinks(
        &self,
        conversation: &Conversation,
        messages: &[Message],
        groups: &[Group],
    ) -> Vec<Shrink> {
        if !conversation.has_replaced() {
            return Vec::new();
        }
        let arrivals: Vec<(usize, usize)> = groups
            .iter()
            .enumerate()
            .flat_map(|(group, run)| run.range.clone().map(move |index| (index, group)))
            .filter_map(|(index, group)| Some((messages[index].slot()?, group)))
            .collect();
        let arrival = |slot: usize| {
            let index = arrivals.partition_point(|(other, _)| *other < slot).min(arrivals.len() - 1);
            arrivals[index].1
        };
        let mut shrinks = Vec::new();
        for (item, group) in groups.iter().enumerate() {
            for edit in
                messages[group.range.clone()].iter().flat_map(|message| conversation.replaced(message))
            {
                let one = |message: &Message| self.of(std::slice::from_ref(message));
                let by = one(&edit.before).saturating_sub(one(&edit.after));
                shrinks.push(Shrink { at: arrival(edit.at).max(item), item, by });
            }
        }
        shrinks.sort_by_key(|shrink| shrink.at);
        shrinks
    }

    /// What a prompt has besides its messages: tools, special tokens, the generation prompt. Taken from the start
    /// of the conversation alone, so that it is the same at every turn.
    pub(crate) fn overhead(&self, conversation: &Conversation) -> Result<Tokens, CountError> {
        let messages = conversation.messages();
        let first_user = messages.iter().position(|message| message.role() == Role::User);
        let head = conversation.head(first_user.map_or(messages.len(), |index| index + 1));
        match self.counter.prompt(&head) {
            Ok(tokens) => Ok(tokens.saturating_sub(self.counter.messages(head.messages()))),
            // Some templates want more than a start.
            Err(_) => Ok(self.counter.prompt(conversation)?.saturating_sub(self.counter.messages(messages))),
        }
    }
}
