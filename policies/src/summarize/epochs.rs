//! Which messages each summary is made of.

use crate::chain::Snapshot;
use crate::conversation::{Conversation, Message};
use crate::groups::{Group, Kind, groups};
use crate::replay::{Cut, Item, Manner, Past, Shrink, replay, replay_ahead};
use crate::summaries::{body_of, is_summary, last_user, pinned_user};
use crate::tokens::{CountError, Tokens};

use super::text::merged;

/// What one cut dropped.
pub(super) struct Epoch {
    /// The messages, oldest first.
    pub(super) span: Vec<Message>,
    /// What they weigh.
    pub(super) tokens: Tokens,
    /// The most tokens the summary message may have from here on.
    pub(super) limit: Tokens,
}

/// A history with what earlier steps dropped put back in its place, cut into epochs.
pub(super) struct History {
    /// What came in as the summary of everything before.
    pub(super) previous: Option<String>,
    /// Oldest first.
    pub(super) epochs: Vec<Epoch>,
    /// Slot of the message that a new summary follows; none where it comes before all but the instructions.
    pub(super) anchor: Option<usize>,
    /// Slot of the first message that is no instruction.
    pub(super) start: usize,
    /// For each message of the conversation, the place of the one on whose arrival it goes.
    removed: Vec<Option<usize>>,
}

impl History {
    /// Replays the history with the guard's marks and room for a summary. Where the chain looks ahead: as if the next
    /// cut came now, without any cut where none is planned.
    pub(super) fn replay(snapshot: &Snapshot, manner: Manner) -> Result<Self, CountError> {
        let timeline = Timeline::new(snapshot);
        let items = timeline.items(snapshot);
        let overhead = snapshot.weights.overhead(snapshot.conversation)?;
        let shrinks = timeline.shrinks(snapshot);
        let past = Past { overhead, items: &items, shrinks: &shrinks };
        let cuts = match snapshot.ahead {
            false => replay(past, snapshot.marks, manner),
            true => replay_ahead(past, snapshot.marks, manner).unwrap_or_default(),
        };
        let epochs = cuts.iter().map(|cut| timeline.epoch(cut)).collect();
        let removed = timeline.removed(&cuts, snapshot.conversation.messages().len());
        // What arrives after the first cut does not move the summary.
        let first = cuts.first().map(|cut| timeline.arrival(cut));
        let anchor = timeline.pinned.filter(|pinned| first.is_none_or(|first| *pinned <= first));
        Ok(Self {
            previous: previous(snapshot.conversation),
            epochs,
            anchor,
            start: timeline.start(),
            removed,
        })
    }

    /// The conversation without what the cuts dropped.
    pub(super) fn without_spans(&self, conversation: &Conversation, by: &'static str) -> Conversation {
        conversation.without(by, |index| self.removed[index])
    }

    /// Messages that summaries stand for.
    pub(super) fn dropped(&self) -> usize {
        self.epochs.iter().map(|epoch| epoch.span.len()).sum()
    }

    /// Their tokens.
    pub(super) fn dropped_tokens(&self) -> Tokens {
        self.epochs.iter().map(|epoch| epoch.tokens).sum()
    }
}

/// What stands in the history as the summary of everything before it.
fn previous(conversation: &Conversation) -> Option<String> {
    let messages = conversation.messages();
    let end = last_user(messages).unwrap_or(messages.len());
    let own = messages[..end].iter().rfind(|message| is_summary(message)).and_then(|m| body_of(m.text()));
    let pinned = || merged(messages[pinned_user(conversation)?].text()).map(|(_, body)| body);
    own.or_else(pinned).map(str::to_owned)
}

/// A message of the client's history, dropped by an earlier step or not.
#[derive(Clone, Copy)]
struct Place {
    slot: usize,
    /// Index in the conversation as it is now.
    live: Option<usize>,
    /// Slot of the message on whose arrival an earlier step dropped it.
    gone_at: Option<usize>,
}

struct Timeline {
    /// As they first went out: a summary tells of what a result said, not that it was cleared.
    messages: Vec<Message>,
    places: Vec<Place>,
    groups: Vec<Group>,
    /// Slot of the user message that stays.
    pinned: Option<usize>,
}

impl Timeline {
    fn new(snapshot: &Snapshot) -> Self {
        let conversation = snapshot.conversation;
        let live = conversation.messages().iter().enumerate().map(|(index, message)| {
            let slot = message.slot().unwrap_or(usize::MAX);
            let first_sent = conversation.first_sent(message).clone();
            (first_sent, Place { slot, live: Some(index), gone_at: None })
        });
        let gone = conversation.dropped().iter().map(|gone| {
            let slot = gone.message.slot().unwrap_or(usize::MAX);
            let first_sent = conversation.first_sent(&gone.message).clone();
            (first_sent, Place { slot, live: None, gone_at: Some(gone.at) })
        });
        let mut all: Vec<(Message, Place)> = live.chain(gone).collect();
        all.sort_by_key(|(_, place)| place.slot);
        let (messages, places): (Vec<Message>, Vec<Place>) = all.into_iter().unzip();
        let groups = groups(&messages);
        let pinned = pinned_user(conversation).and_then(|index| conversation.messages()[index].slot());
        Self { messages, places, groups, pinned }
    }

    fn items(&self, snapshot: &Snapshot) -> Vec<Item> {
        let item = |group: &Group| {
            let run = &self.messages[group.range.clone()];
            let weight = snapshot.weights.first_sent(snapshot.conversation, run);
            let gone_at = self.places[group.range.clone()].iter().find_map(|place| place.gone_at);
            let fixed = matches!(group.kind, Kind::System | Kind::Summary) || self.holds_pinned(group);
            let gone_at = gone_at.map(|slot| self.group_at(slot));
            let waits = snapshot.waits.cover(self.places[group.range.start].slot);
            Item { weight, kind: group.kind, fixed, gone_at, waits }
        };
        self.groups.iter().map(item).collect()
    }

    fn shrinks(&self, snapshot: &Snapshot) -> Vec<Shrink> {
        snapshot.weights.shrinks(snapshot.conversation, &self.messages, &self.groups)
    }

    fn holds_pinned(&self, group: &Group) -> bool {
        self.pinned
            .is_some_and(|slot| self.places[group.range.clone()].iter().any(|place| place.slot == slot))
    }

    /// The group that holds the message of this slot.
    fn group_at(&self, slot: usize) -> usize {
        let index = self.places.partition_point(|place| place.slot < slot);
        self.groups.partition_point(|group| group.range.end <= index).min(self.groups.len() - 1)
    }

    /// Messages of these groups that go: instructions inside a group stay.
    fn going(&self, span: &[usize]) -> impl Iterator<Item = usize> {
        let messages = span.iter().flat_map(|index| self.groups[*index].range.clone());
        messages.filter(|index| !self.messages[*index].role().is_system())
    }

    fn epoch(&self, cut: &Cut) -> Epoch {
        Epoch {
            span: self.going(&cut.span).map(|index| self.messages[index].clone()).collect(),
            tokens: cut.tokens,
            limit: cut.summary,
        }
    }

    /// Slot of the message on whose arrival a cut was made.
    fn arrival(&self, cut: &Cut) -> usize {
        self.places[self.groups[cut.at].range.start].slot
    }

    /// Slot of the first message that is no instruction.
    fn start(&self) -> usize {
        let first = self.messages.iter().position(|message| !message.role().is_system());
        first.map_or(usize::MAX, |index| self.places[index].slot)
    }

    fn removed(&self, cuts: &[Cut], messages: usize) -> Vec<Option<usize>> {
        let mut removed = vec![None; messages];
        for cut in cuts {
            let at = self.arrival(cut);
            for live in self.going(&cut.span).filter_map(|index| self.places[index].live) {
                removed[live] = Some(at);
            }
        }
        removed
    }
}
