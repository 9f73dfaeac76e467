//! `rag_budget`: retrieved documents share a part of the budget.
//!
//! What is left out of a message is chosen when it arrives, from what came before it, and never again; its best document
//! stays, however long. Documents of earlier messages are replayed from the first: whenever all together are over the
//! budget, those of the oldest messages go until half of it is taken, so that the prefix changes once per half budget
//! of new documents. Those of the last user message stay until the next: it asks about them.

mod documents;

use std::collections::VecDeque;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::chain::{Change, Effect, Snapshot};
use crate::conversation::{Edit, Message, Role};
use crate::fit_context::share;
use crate::tokens::{CountTokens, Tokens, grouped};

use documents::{Document, documents, without};

/// Holds documents to a share of the budget. Documents of older messages go before those of the newest. Of those that
/// arrive in one message the lowest ranked go first: by their `score` or `rank` where each has one, else the last. The
/// highest ranked stays, even where it alone is over the share: a question about one long document keeps it. The order
/// of what stays is kept, and each that goes leaves a line. Everything else a message says stays.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RagBudget {
    /// Share of the budget that documents may take together. One that is longer stays alone. Default: 0.4.
    pub max_fraction: f64,
    /// How documents begin. One like `<document` is an element of that name, at the start of a line, up to its end tag;
    /// any other marks a whole message or content part that begins with it. Default: `<document`, `<doc`, `<source`,
    /// `<passage`, `[Document`.
    pub markers: Vec<String>,
}

impl Default for RagBudget {
    fn default() -> Self {
        let markers = ["<document", "<doc", "<source", "<passage", "[Document"];
        Self { max_fraction: 0.4, markers: markers.map(str::to_owned).to_vec() }
    }
}

impl RagBudget {
    /// What is wrong with the parameters, if anything.
    pub(crate) fn fault(&self) -> Option<String> {
        let fraction = self.max_fraction;
        if !(fraction > 0.0 && fraction <= 1.0) {
            return Some(format!("`max_fraction: {fraction}` must be over 0 and at most 1"));
        }
        let empty =
            self.markers.is_empty() || self.markers.iter().any(|marker| marker.trim_matches('<').is_empty());
        empty.then(|| "`markers` must say how documents begin, such as `<document`".to_owned())
    }
}

/// Applies the policy.
pub(crate) fn apply(params: &RagBudget, snapshot: &Snapshot) -> Effect {
    let Snapshot { conversation, counter, .. } = snapshot;
    let budget = share(snapshot.marks.budget, params.max_fraction);
    let mut shelf = Shelf::new(budget);
    let mut found = 0;
    for (slot, message) in conversation.history() {
        // What an earlier step took out after it had gone out had its place on the shelf.
        let documents = documents(conversation.first_sent(message), &params.markers, *counter);
        found += documents.len();
        shelf.arrive(slot, message.role(), &documents);
    }
    if shelf.going.is_empty() {
        return Effect::Unchanged(format!("{found} documents within {} tokens", grouped(budget)));
    }
    let edits: Vec<Edit> = shelf.going.iter().map(|going| going.edit(params, *counter)).collect();
    let edited = conversation.with_edits(&edits);
    let touched = edited.touched_since(conversation);
    let gone = shelf.going.iter().filter(|going| touched.contains(&going.slot));
    let gone: Vec<Tokens> =
        gone.flat_map(|going| going.documents.iter().map(|(_, tokens)| *tokens)).collect();
    let (count, tokens, budget) = (gone.len(), grouped(gone.iter().sum()), grouped(budget));
    Effect::Changed(Change {
        touched: touched.len(),
        conversation: edited,
        reason: format!("{count} of {found} documents left out, {tokens} tokens: all may have {budget}"),
        tokens: None,
        may_grow: false,
        tool: None,
    })
}

/// Documents of one message that go together.
struct Going {
    slot: usize,
    /// Place of the message on whose arrival they go.
    at: usize,
    /// Their numbers among those that are still there, and their tokens.
    documents: Vec<(usize, Tokens)>,
    /// How many are still there.
    of: usize,
}

impl Going {
    fn edit<'e>(&'e self, params: &'e RagBudget, counter: &'e dyn CountTokens) -> Edit<'e> {
        let numbers: Vec<usize> = self.documents.iter().map(|(number, _)| *number).collect();
        let make = move |state: &Message| {
            let documents = documents(state, &params.markers, counter);
            (documents.len() == self.of).then(|| without(state, &documents, &numbers))
        };
        Edit { slot: self.slot, at: self.at, make: Box::new(make) }
    }
}

/// The documents of one message that are still there.
struct Held {
    slot: usize,
    /// Of each.
    tokens: Vec<Tokens>,
}

impl Held {
    fn total(&self) -> Tokens {
        self.tokens.iter().sum()
    }
}

struct Shelf {
    budget: Tokens,
    /// Tokens of documents in instructions, which change only when they arrive.
    fixed: Tokens,
    /// The last user message so far: what is asked, and about which documents.
    asked: Option<usize>,
    /// Oldest first.
    held: VecDeque<Held>,
    /// Tokens of all that is held.
    total: Tokens,
    /// What went, in that order.
    going: Vec<Going>,
}

impl Shelf {
    fn new(budget: Tokens) -> Self {
        Self { budget, fixed: 0, asked: None, held: VecDeque::new(), total: 0, going: Vec::new() }
    }

    fn arrive(&mut self, slot: usize, role: Role, documents: &[Document]) {
        if role == Role::User {
            self.asked = Some(slot);
        }
        let asked: Tokens = self.held.iter().filter(|held| self.asks(held)).map(Held::total).sum();
        let dropped = over(documents, self.budget.saturating_sub(self.fixed + asked));
        let numbered = documents.iter().map(|document| document.tokens).enumerate();
        let (going, kept): (Vec<_>, Vec<_>) = numbered.partition(|(number, _)| dropped.contains(number));
        if !going.is_empty() {
            self.going.push(Going { slot, at: slot, documents: going, of: documents.len() });
        }
        if kept.is_empty() {
            return;
        }
        let held = Held { slot, tokens: kept.into_iter().map(|(_, tokens)| tokens).collect() };
        if role.is_system() {
            self.fixed += held.total();
            return;
        }
        self.total += held.total();
        self.held.push_back(held);
        if self.fixed + self.total > self.budget {
            self.make_room(slot);
        }
    }

    fn asks(&self, held: &Held) -> bool {
        self.asked == Some(held.slot)
    }

    /// Drops the documents of the oldest messages, never those of the newest or of the question.
    fn make_room(&mut self, at: usize) {
        while self.fixed + self.total > self.budget / 2 {
            let older = self.held.iter().take(self.held.len() - 1).position(|held| !self.asks(held));
            let Some(oldest) = older.and_then(|place| self.held.remove(place)) else { return };
            self.total -= oldest.total();
            let Held { slot, tokens } = oldest;
            let of = tokens.len();
            self.going.push(Going { slot, at, documents: tokens.into_iter().enumerate().collect(), of });
        }
    }
}

/// Documents of one message that must go so that the others are within the budget, in their order. The best never
/// does: what was asked about it could not be answered.
fn over(documents: &[Document], budget: Tokens) -> Vec<usize> {
    let mut total: Tokens = documents.iter().map(|document| document.tokens).sum();
    let mut order = documents::lowest_first(documents);
    order.pop();
    let mut going = Vec::new();
    for index in order {
        if total <= budget {
            break;
        }
        total -= documents[index].tokens;
        going.push(index);
    }
    going.sort_unstable();
    going
}

/// Whose text may hold documents: not what the model said.
fn may_hold(role: Role) -> bool {
    matches!(role, Role::System | Role::Developer | Role::User | Role::Tool)
}

#[cfg(test)]
#[path = "rag_budget_tests.rs"]
mod tests;
