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
use crate::conversation::{Message, Replaced, Role};
use crate::fit_context::share;
use crate::tokens::{Tokens, grouped};

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
    let budget = share(snapshot.marks.budget, params.max_fraction);
    let mut shelf = Shelf {
        budget,
        fixed: 0,
        asked: None,
        held: VecDeque::new(),
        total: 0,
        arrived: vec![],
        later: vec![],
        gone: (0, 0),
    };
    let mut found = 0;
    for (live, message) in history(snapshot) {
        let documents = documents(message, &params.markers, snapshot.counter);
        found += documents.len();
        shelf.arrive(live, message, documents);
    }
    let (count, tokens) = shelf.gone;
    if count == 0 {
        return Effect::Unchanged(format!("{found} documents within {} tokens", grouped(budget)));
    }
    let conversation = snapshot.conversation.with_messages(shelf.arrived).with_replaced(shelf.later);
    let (tokens, budget) = (grouped(tokens), grouped(budget));
    Effect::Changed(Change {
        touched: touched(snapshot.conversation.messages(), conversation.messages()),
        conversation,
        reason: format!("{count} of {found} documents left out, {tokens} tokens: all may have {budget}"),
        tokens: None,
        may_grow: false,
        tool: None,
    })
}

/// The messages in the order of the client's history, with those that earlier steps dropped; each with its index where
/// it is still there.
fn history<'a>(snapshot: &Snapshot<'a>) -> Vec<(Option<usize>, &'a Message)> {
    let conversation = snapshot.conversation;
    let live = conversation.messages().iter().enumerate().map(|(index, message)| (Some(index), message));
    let gone = conversation.dropped().iter().map(|gone| (None, &gone.message));
    let mut all: Vec<_> = live.chain(gone).filter(|(_, message)| message.slot().is_some()).collect();
    all.sort_by_key(|(_, message)| message.slot());
    all
}

fn touched(before: &[Message], after: &[Message]) -> usize {
    before.iter().zip(after).filter(|(before, after)| !before.is(after)).count()
}

/// The documents of one message that are still there.
struct Held {
    live: Option<usize>,
    message: Message,
    documents: Vec<Document>,
    tokens: Tokens,
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
    arrived: Vec<(usize, Message)>,
    later: Vec<(usize, Replaced)>,
    /// Documents that went, and their tokens.
    gone: (usize, Tokens),
}

impl Shelf {
    fn arrive(&mut self, live: Option<usize>, message: &Message, mut documents: Vec<Document>) {
        let slot = message.slot().unwrap_or(usize::MAX);
        if message.role() == Role::User {
            self.asked = Some(slot);
        }
        let taken = self.fixed
            + self.held.iter().filter(|held| self.asks(held)).map(|held| held.tokens).sum::<Tokens>();
        let dropped = over(&documents, self.budget.saturating_sub(taken));
        let mut message = message.clone();
        if !dropped.is_empty() {
            message = without(&message, &documents, &dropped);
            self.lose(live, dropped.iter().map(|index| documents[*index].tokens));
            self.arrived.extend(live.map(|index| (index, message.clone())));
            documents = documents::kept(documents, &dropped);
        }
        let tokens: Tokens = documents.iter().map(|document| document.tokens).sum();
        if documents.is_empty() {
            return;
        }
        if message.role().is_system() {
            self.fixed += tokens;
            return;
        }
        self.total += tokens;
        self.held.push_back(Held { live, message, documents, tokens });
        if self.fixed + self.total > self.budget {
            self.make_room(slot);
        }
    }

    fn asks(&self, held: &Held) -> bool {
        self.asked == held.message.slot()
    }

    /// Drops the documents of the oldest messages, never those of the newest or of the question.
    fn make_room(&mut self, slot: usize) {
        while self.fixed + self.total > self.budget / 2 {
            let older = self.held.iter().take(self.held.len() - 1).position(|held| !self.asks(held));
            let Some(oldest) = older.and_then(|place| self.held.remove(place)) else { return };
            self.total -= oldest.tokens;
            self.lose(oldest.live, oldest.documents.iter().map(|document| document.tokens));
            let all: Vec<usize> = (0..oldest.documents.len()).collect();
            let after = without(&oldest.message, &oldest.documents, &all);
            let edit = Replaced { before: oldest.message, after, at: slot };
            self.later.extend(oldest.live.map(|index| (index, edit)));
        }
    }

    fn lose(&mut self, live: Option<usize>, tokens: impl Iterator<Item = Tokens>) {
        if live.is_some() {
            tokens.for_each(|tokens| self.gone = (self.gone.0 + 1, self.gone.1 + tokens));
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
