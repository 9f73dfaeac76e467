//! Names that no line of a summary quotes, packed into one line: an identifier once lost cannot be guessed.

use std::collections::HashMap;

use super::cues::tells_apart;
use super::identifiers::identifiers;
use crate::Tokens;

/// How the line begins.
const START: &str = "- also named:";

/// Names chosen for the line.
#[derive(Default)]
pub(super) struct Ledger<'a> {
    /// (place, name) in the order of choice.
    names: Vec<(usize, &'a str)>,
    /// Those still in the line, with the tokens each takes.
    cost: HashMap<&'a str, Tokens>,
}

impl<'a> Ledger<'a> {
    /// As many of these names, given oldest first, as `room` holds. Telling ones come before bare numbers, new ones
    /// before old ones.
    pub(super) fn new(names: &[&'a str], room: Tokens, count: &dyn Fn(&str) -> Tokens) -> Self {
        let mut order: Vec<usize> = (0..names.len()).rev().collect();
        order.sort_by_key(|&at| !tells_apart(names[at]));
        let mut ledger = Self::default();
        let mut left = room.saturating_sub(count(START) + 1);
        for at in order {
            let cost = count(&format!(" {}", names[at]));
            let Some(rest) = left.checked_sub(cost) else { break };
            if ledger.cost.insert(names[at], cost).is_none() {
                ledger.names.push((at, names[at]));
                left = rest;
            }
        }
        ledger
    }

    pub(super) fn tokens(&self) -> Tokens {
        self.cost.values().sum()
    }

    /// What the names that a text holds take of the line.
    pub(super) fn cost_of(&self, text: &str) -> Tokens {
        if self.cost.is_empty() {
            return 0;
        }
        let mut found: Vec<&str> = identifiers(text);
        found.sort_unstable();
        found.dedup();
        found.iter().filter_map(|name| self.cost.get(name)).sum()
    }

    /// Takes out the names that a text holds.
    pub(super) fn remove(&mut self, text: &str) {
        if !self.cost.is_empty() {
            let names = identifiers(text);
            self.cost.retain(|name, _| !names.contains(name));
        }
    }

    /// Gives up the least valuable name and says what it cost.
    pub(super) fn pop(&mut self) -> Option<Tokens> {
        while let Some((_, name)) = self.names.pop() {
            if let Some(cost) = self.cost.remove(name) {
                return Some(cost);
            }
        }
        None
    }

    /// The line, names in their order in the conversation; none where there are no names.
    pub(super) fn line(&self) -> Option<String> {
        let mut names: Vec<_> = self.names.iter().filter(|(_, name)| self.cost.contains_key(name)).collect();
        names.sort_unstable_by_key(|(at, _)| *at);
        let names = names.iter().map(|(_, name)| *name);
        (!self.cost.is_empty()).then(|| std::iter::once(START).chain(names).collect::<Vec<_>>().join(" "))
    }
}

/// The names of a line that [`Ledger::line`] made.
pub(super) fn names_of(line: &str) -> Option<Vec<&str>> {
    line.trim().strip_prefix(START).map(identifiers)
}
