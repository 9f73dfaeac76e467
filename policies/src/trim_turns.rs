//! `trim_turns`: the last turns stay, older ones go in batches.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::chain::{Change, Effect, Snapshot};
use crate::conversation::Conversation;
use crate::groups::{Group, Kind, groups};
use crate::summaries::{is_summary, pinned_user};

const NAME: &str = "trim_turns";

/// Keeps the last turns; a turn is a user message and all that follows up to the next one. Turns go in batches of
/// `slack`, so that the prefix changes once per batch and not at every turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrimTurns {
    /// Turns that stay when turns go. Default: 20.
    pub keep: usize,
    /// Turns that may gather on top before any go. Default: 5.
    pub slack: usize,
    /// Keep the first user message, which often states the task. It is not counted as a turn. Default: true.
    pub pin_first_user: bool,
}

impl Default for TrimTurns {
    fn default() -> Self {
        Self { keep: 20, slack: 5, pin_first_user: true }
    }
}

impl TrimTurns {
    /// What is wrong with the parameters, if anything.
    pub(crate) fn fault(self) -> Option<String> {
        (self.keep == 0).then(|| "`keep: 0` would drop the question itself; use 1 or more".to_owned())
    }
}

/// Applies the policy.
pub(crate) fn apply(params: TrimTurns, snapshot: &Snapshot) -> Effect {
    let before = snapshot.conversation;
    let most = params.keep.saturating_add(params.slack);
    let history = History::new(params, before);
    let plain = history.trimmed(before, false);
    if plain.messages().len() == before.messages().len() {
        return Effect::Unchanged(format!("{} turns of at most {most}", history.turns.len()));
    }
    let counted = |conversation: Conversation| {
        snapshot.counter.prompt(&conversation).map(|tokens| (conversation, tokens))
    };
    // A template that demands alternating roles wants an answer between the first question and the kept ones.
    let counted =
        counted(plain).or_else(|refused| counted(history.trimmed(before, true)).map_err(|_| refused));
    match counted {
        Ok((conversation, tokens)) => Effect::Changed(Change {
            touched: before.messages().len() - conversation.messages().len(),
            conversation,
            reason: format!("over {most} turns: the oldest went, down to {}", params.keep),
            tokens: Some(tokens),
            may_grow: false,
            tool: None,
        }),
        Err(refused) => Effect::Failed(refused.to_string()),
    }
}

struct History {
    groups: Vec<Group>,
    /// The first user message, where it stays.
    pinned: Option<usize>,
    /// Groups that begin the turns that count, oldest first.
    turns: Vec<usize>,
    cuts: Vec<Cut>,
}

/// Every group before one went when another arrived.
struct Cut {
    at: usize,
    before: usize,
}

impl History {
    fn new(params: TrimTurns, conversation: &Conversation) -> Self {
        let groups = groups(conversation.messages());
        let pinned = pinned_user(conversation).filter(|_| params.pin_first_user);
        let counts = |group: &Group| group.kind == Kind::User && Some(group.range.start) != pinned;
        let turns: Vec<usize> = (0..groups.len()).filter(|index| counts(&groups[*index])).collect();
        let cuts = cuts(params, &turns);
        Self { groups, pinned, turns, cuts }
    }

    /// The conversation after the cuts; with `answered` the last answer before the kept turns stays too.
    fn trimmed(&self, conversation: &Conversation, answered: bool) -> Conversation {
        let messages = conversation.messages();
        let mut removed = vec![None; messages.len()];
        for cut in self.cuts.iter().rev() {
            let slot = messages[self.groups[cut.at].range.start].slot().unwrap_or(usize::MAX);
            let answer = self.groups[..cut.before].iter().rposition(|group| group.kind == Kind::Other);
            let before = answer.filter(|_| answered).unwrap_or(cut.before);
            let going = self.groups[..before].iter().flat_map(|group| group.range.clone());
            going.for_each(|index| removed[index] = Some(slot));
        }
        let stays = |index: usize| {
            let message = &messages[index];
            message.role().is_system() || self.pinned == Some(index) || is_summary(message)
        };
        conversation.without(NAME, |index| removed[index].filter(|_| !stays(index)))
    }
}

/// Replays the turns: one more than may gather, and the oldest go until `keep` are left.
fn cuts(params: TrimTurns, turns: &[usize]) -> Vec<Cut> {
    let mut first = 0;
    let mut cuts = Vec::new();
    for (turn, at) in turns.iter().enumerate() {
        if turn + 1 - first > params.keep.saturating_add(params.slack) {
            first = turn + 1 - params.keep.min(turn + 1);
            cuts.push(Cut { at: *at, before: turns[first] });
        }
    }
    cuts
}

#[cfg(test)]
#[path = "trim_turns_tests.rs"]
mod tests;
