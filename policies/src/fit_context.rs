//! `fit_context`: the guard at the end of every chain. Nothing over the budget leaves it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::chain::{Change, Effect, Rejection, Snapshot};
use crate::conversation::Conversation;
use crate::groups::{Group, Kind, groups};
use crate::replay::{Cut, Item, Manner, Marks, Past, Shrink, replay};
use crate::summaries::{last_user, pinned_user};
use crate::tokens::{CountError, Tokens};
use crate::truncate_middle::{Truncated, truncate};

const NAME: &str = "fit_context";

/// Makes the prompt fit its budget: above `high` the oldest groups go until `low` is reached; instructions, the
/// first and the last user message and the last groups stay. What cannot fit is refused with exact numbers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FitContext {
    /// A cut happens above this share of the budget. Default: 0.85.
    pub high: f64,
    /// A cut goes down to this share of the budget. The distance to `high` sets how seldom the prefix changes.
    /// Default: 0.60.
    pub low: f64,
    /// Groups at the end that are never dropped; an exchange with all its results is one. Default: 2.
    pub keep_last: usize,
    /// A cut that would end above `low` and free less than this share of the budget waits until the budget itself is
    /// reached: where much cannot go, a cut at every turn would move the prefix for little. Default: 0.25, at most the
    /// distance of the marks.
    pub min_progress: f64,
    /// What happens to a prompt that cannot fit. Default: reject.
    pub on_overflow: OnOverflow,
    /// How a cut at the high mark is decided, while the budget still holds. Default: tokens.
    pub cuts: Cuts,
    /// Whether anything may be dropped. With `false` a prompt over its budget is refused as it is. Default: true.
    pub cut: bool,
}

/// How a cut at the high mark is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cuts {
    /// By tokens alone: every replica finds the same cuts.
    #[default]
    Tokens,
    /// By what is to be computed before the first token of the answer: as long as the embedded engine holds so much of
    /// the prompt that going on computes less than the cut prompt would, the cut waits, at most until the budget is
    /// reached. Where nothing is held it comes at the mark, and so it does on upstreams over HTTP.
    Costed,
}

/// What happens to a prompt that cannot fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnOverflow {
    /// It is refused with `context_length_exceeded` and exact numbers.
    #[default]
    Reject,
    /// Its longest message loses its middle, and says so; the next longest too, where that is not enough.
    TruncateMiddle,
}

impl Default for FitContext {
    fn default() -> Self {
        Self {
            high: 0.85,
            low: 0.60,
            keep_last: 2,
            min_progress: 0.25,
            on_overflow: OnOverflow::Reject,
            cuts: Cuts::Tokens,
            cut: true,
        }
    }
}

impl FitContext {
    /// What is wrong with the parameters, if anything.
    pub(crate) fn fault(self) -> Option<String> {
        let Self { high, low, min_progress, .. } = self;
        if !(high > 0.0 && high <= 1.0) {
            return Some(format!("`high: {high}` must be over 0 and at most 1"));
        }
        if !(low >= 0.0 && low < high) {
            return Some(format!("`low: {low}` must be at least 0 and under `high: {high}`"));
        }
        if !self.cut && self.on_overflow == OnOverflow::TruncateMiddle {
            return Some(
                "`cut: false` and `on_overflow: truncate_middle` cannot both be: keep one".to_owned(),
            );
        }
        if !self.cut && self.cuts == Cuts::Costed {
            return Some("`cut: false` and `cuts: costed` cannot both be: nothing is cut".to_owned());
        }
        (!(0.0..=1.0).contains(&min_progress))
            .then(|| format!("`min_progress: {min_progress}` must be from 0 to 1"))
    }

    /// The marks for a budget. Where nothing may be cut the high mark is never reached.
    pub(crate) fn marks(self, budget: Tokens) -> Marks {
        if !self.cut {
            return Marks {
                budget,
                high: Tokens::MAX,
                low: budget,
                min_progress: 0,
                keep_last: self.keep_last,
            };
        }
        let (high, low) = (share(budget, self.high), share(budget, self.low));
        let min_progress = share(budget, self.min_progress).min(high.saturating_sub(low));
        Marks { budget, high, low, min_progress, keep_last: self.keep_last }
    }
}

/// A share of a number of tokens, rounded down.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "windows are far below 2^52 and shares are from 0 to 1"
)]
pub(crate) fn share(tokens: Tokens, share: f64) -> Tokens {
    (tokens as f64 * share) as Tokens
}

/// The groups of a conversation as the replay sees them.
fn items(conversation: &Conversation, groups: &[Group], snapshot: &Snapshot) -> Vec<Item> {
    let pinned = pinned_user(conversation);
    let messages = conversation.messages();
    let fixed = |group: &Group| {
        matches!(group.kind, Kind::System | Kind::Summary)
            || pinned.is_some_and(|at| group.range.contains(&at))
    };
    let item = |group: &Group| Item {
        weight: snapshot.weights.of(&messages[group.range.clone()]),
        kind: group.kind,
        fixed: fixed(group),
        gone_at: None,
        waits: messages[group.range.start].slot().is_some_and(|slot| snapshot.waits.cover(slot)),
    };
    groups.iter().map(item).collect()
}

/// What is never dropped, in tokens, to decide by.
pub(crate) fn unremovable(snapshot: &Snapshot) -> Result<Tokens, CountError> {
    let groups = groups(snapshot.conversation.messages());
    let items = items(snapshot.conversation, &groups, snapshot);
    let removable = removable(snapshot.conversation, &groups, &items, snapshot.marks.keep_last);
    // A summary goes when all else fails.
    let kept = items.iter().filter(|item| item.kind != Kind::Summary).map(|item| item.weight).sum::<Tokens>();
    let gone = removable.iter().map(|index| items[*index].weight).sum::<Tokens>();
    Ok(kept.saturating_sub(gone) + snapshot.weights.overhead(snapshot.conversation)?)
}

/// Groups that may go, oldest first.
fn removable(conversation: &Conversation, groups: &[Group], items: &[Item], keep_last: usize) -> Vec<usize> {
    let last_user = last_user(conversation.messages());
    let mut free: Vec<usize> = (0..groups.len()).filter(|index| !items[*index].fixed).collect();
    free.truncate(free.len().saturating_sub(keep_last));
    free.retain(|index| !last_user.is_some_and(|at| groups[*index].range.contains(&at)));
    free
}

/// Applies the guard.
pub(crate) fn apply(params: FitContext, snapshot: &Snapshot) -> Effect {
    let Marks { budget, high, .. } = snapshot.marks;
    let tokens = snapshot.tokens;
    // What went before an edit made room stays away: it would move the prefix once more.
    if !params.cut || (tokens <= high && !snapshot.conversation.has_replaced()) {
        return match tokens <= budget {
            true => Effect::Unchanged(format!("{tokens} of {budget} tokens")),
            false => reject(tokens),
        };
    }
    match Guard::new(params, snapshot).and_then(|guard| guard.fit()) {
        Ok(effect) => effect,
        Err(_) if tokens <= budget => Effect::Failed("what is left cannot be counted".to_owned()),
        Err(_) => reject(tokens),
    }
}

fn reject(unremovable: Tokens) -> Effect {
    let reason = format!("{unremovable} tokens cannot be dropped");
    Effect::Reject(Rejection { unremovable, ceiling: None, reason })
}

struct Guard<'a> {
    on_overflow: OnOverflow,
    snapshot: &'a Snapshot<'a>,
    groups: Vec<Group>,
    /// With their weights as they are now.
    items: Vec<Item>,
    /// With their weights on arrival.
    arrived: Vec<Item>,
    shrinks: Vec<Shrink>,
    overhead: Tokens,
}

/// A conversation with less in it.
struct Fitted {
    conversation: Conversation,
    tokens: Tokens,
}

impl<'a> Guard<'a> {
    fn new(params: FitContext, snapshot: &'a Snapshot<'a>) -> Result<Self, CountError> {
        let groups = groups(snapshot.conversation.messages());
        let items = items(snapshot.conversation, &groups, snapshot);
        let Snapshot { conversation, weights, .. } = snapshot;
        let messages = conversation.messages();
        let arrive = |(item, group): (&Item, &Group)| {
            let weight = weights.first_sent(conversation, &messages[group.range.clone()]);
            Item { weight, ..*item }
        };
        let arrived = items.iter().zip(&groups).map(arrive).collect();
        let shrinks = weights.shrinks(conversation, messages, &groups);
        let overhead = weights.overhead(conversation)?;
        Ok(Self { on_overflow: params.on_overflow, snapshot, groups, items, arrived, shrinks, overhead })
    }

    fn fit(&self) -> Result<Effect, CountError> {
        match self.replayed() {
            Ok(replayed) if replayed.tokens <= self.snapshot.marks.budget => Ok(self.effect(replayed, false)),
            _ => self.fit_by_force(),
        }
    }

    /// The cuts of the replay, counted; with alternating roles where the template refuses it otherwise.
    fn replayed(&self) -> Result<Fitted, CountError> {
        let attempt = |alternate| {
            // As `summarize` cut: it would be lost without a word what only the guard finds worth dropping.
            let manner = Manner { summary: self.snapshot.summary, alternate, plan: false };
            let past = Past { overhead: self.overhead, items: &self.arrived, shrinks: &self.shrinks };
            self.counted(&gone_at(&replay(past, self.snapshot.marks, manner), &self.items))
        };
        attempt(false).or_else(|_| attempt(true))
    }

    /// Weights only decide; where the exact count disagrees, more goes: oldest first, summaries last.
    fn fit_by_force(&self) -> Result<Effect, CountError> {
        let Marks { budget, low, keep_last, .. } = self.snapshot.marks;
        let mut order = removable(self.snapshot.conversation, &self.groups, &self.items, keep_last);
        order.extend((0..self.groups.len()).filter(|index| self.groups[*index].kind == Kind::Summary));
        let mut gone = vec![None; self.items.len()];
        let mut fitted =
            Fitted { conversation: self.snapshot.conversation.clone(), tokens: self.snapshot.tokens };
        let mut order = order.into_iter().peekable();
        while fitted.tokens > budget && order.peek().is_some() {
            let mut excess = fitted.tokens - low;
            while let Some(index) = order.next_if(|_| excess > 0) {
                excess = excess.saturating_sub(self.items[index].weight);
                gone[index] = Some(self.items.len() - 1);
            }
            match self.counted(&gone) {
                Ok(counted) => fitted = counted,
                Err(error) if order.peek().is_none() => return Err(error),
                Err(_) => {}
            }
        }
        if fitted.tokens > budget { self.overflow(&fitted) } else { Ok(self.effect(fitted, true)) }
    }

    /// What happens where nothing more can be dropped.
    fn overflow(&self, fitted: &Fitted) -> Result<Effect, CountError> {
        let (budget, counter) = (self.snapshot.marks.budget, self.snapshot.counter);
        let cut = match self.on_overflow {
            OnOverflow::Reject => None,
            OnOverflow::TruncateMiddle => truncate(&fitted.conversation, fitted.tokens, budget, counter)?,
        };
        let Some(Truncated { conversation, tokens, touched }) = cut else { return Ok(reject(fitted.tokens)) };
        let dropped = self.snapshot.conversation.messages().len() - conversation.messages().len();
        Ok(Effect::Changed(Change {
            conversation,
            touched: dropped + touched,
            reason: format!(
                "{} tokens cannot be dropped: cut out the middle of the {touched} longest, marked there",
                fitted.tokens
            ),
            tokens: Some(tokens),
            may_grow: false,
            tool: None,
        }))
    }

    /// The conversation without these groups; `gone` gives each the item on whose arrival it goes.
    fn counted(&self, gone: &[Option<usize>]) -> Result<Fitted, CountError> {
        let conversation = without(self.snapshot.conversation, &self.groups, gone, NAME);
        let unchanged = conversation.messages().len() == self.snapshot.conversation.messages().len();
        let tokens =
            if unchanged { self.snapshot.tokens } else { self.snapshot.counter.prompt(&conversation)? };
        Ok(Fitted { conversation, tokens })
    }

    fn effect(&self, fitted: Fitted, forced: bool) -> Effect {
        let Marks { budget, high, low, .. } = self.snapshot.marks;
        let before = self.snapshot.tokens;
        let touched = self.snapshot.conversation.messages().len() - fitted.conversation.messages().len();
        if touched == 0 {
            return Effect::Unchanged(format!("{before} of {budget} tokens; nothing old enough to drop"));
        }
        let reason = match forced {
            false => format!("over {high} of {budget} tokens: the oldest went, down to {low}"),
            true => format!("over {budget} tokens after all: the oldest went until it fit"),
        };
        let (conversation, tokens) = (fitted.conversation, Some(fitted.tokens));
        Effect::Changed(Change { conversation, touched, reason, tokens, may_grow: false, tool: None })
    }
}

/// For each item the item on whose arrival a cut dropped it.
fn gone_at(cuts: &[Cut], items: &[Item]) -> Vec<Option<usize>> {
    let mut gone = vec![None; items.len()];
    for cut in cuts {
        cut.span.iter().for_each(|index| gone[*index] = Some(cut.at));
    }
    gone
}

/// The conversation without the groups that are gone. Instructions inside a group stay.
fn without(
    conversation: &Conversation,
    groups: &[Group],
    gone: &[Option<usize>],
    by: &'static str,
) -> Conversation {
    let messages = conversation.messages();
    let mut removed = vec![None; messages.len()];
    for (group, at) in groups.iter().zip(gone) {
        let Some(at) = at else { continue };
        let slot = messages[groups[*at].range.start].slot().unwrap_or(usize::MAX);
        let going = group.range.clone().filter(|index| !messages[*index].role().is_system());
        going.for_each(|index| removed[index] = Some(slot));
    }
    conversation.without(by, |index| removed[index])
}

#[cfg(test)]
#[path = "fit_context_tests.rs"]
mod tests;
